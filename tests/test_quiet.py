import threading
import warnings

import numpy as np
import pytest

from zoobot_3d import io
from zoobot_3d.quiet import quiet_libraries


def library_warns():
    warnings.warn_explicit("odd metadata", UserWarning, "png.py", 1, module="PIL.PngImagePlugin")


def test_threads_that_overlap_leave_warnings_as_they_were():
    before = list(warnings.filters)
    first, second = threading.Event(), threading.Event()

    def one():
        with quiet_libraries():
            first.set()
            second.wait(10)

    def other():
        first.wait(10)
        with quiet_libraries():
            second.set()
            thread.join(10)  # the first leaves while this one is within

    thread, late = threading.Thread(target=one), threading.Thread(target=other)
    thread.start()
    late.start()
    late.join(20)
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="odd metadata"):
        library_warns()


def test_libraries_are_silent_and_others_are_not():
    with pytest.warns(UserWarning, match="left out") as caught, quiet_libraries():
        library_warns()
        warnings.warn("left out: a galaxy", stacklevel=1)
    assert len(caught) == 1


def test_an_error_restores_warnings():
    before = list(warnings.filters)
    with pytest.raises(KeyError), quiet_libraries():
        raise KeyError
    assert warnings.filters == before


def test_reading_in_threads_leaves_warnings_as_they_were(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    io.write_png(tmp_path / "p.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(io.read_picture, [tmp_path / "p.png"] * 200))
    assert warnings.filters == before
