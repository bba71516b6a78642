import errno
import os

import pandas as pd
import pytest

from zoobot_3d.compute.batch import file_stamp, new_and_kept, reason_for, stacked, stamp_of
from zoobot_3d.errors import BadFileError, BadPictureError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BadFileError("/data/a.fits", "truncated", "fetch it"), "a.fits: truncated; fetch it"),
        (BadPictureError("picture 3: blank"), "picture 3: blank"),
        (ValueError("two\nlines"), "a.fits: ValueError: two"),
        (KeyError("x"), "a.fits: KeyError: 'x'"),
        (RuntimeError(), "a.fits: RuntimeError"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/a.fits"), None),
        (UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal"), None),
        (MemoryError(), "a.fits: MemoryError"),
        (RecursionError("too deep"), "a.fits: RecursionError: too deep"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_is_one_line_without_the_folder(error, reason):
    said = reason_for(error, "/data/a.fits", "a.fits")
    assert "\n" not in said and "/data" not in said and said.count("a.fits") <= 1
    assert reason is None or said == reason


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_more_stops_the_batch(number):
    with pytest.raises(BadFileError, match=f"/out/a.json: {os.strerror(number)}; make space"):
        reason_for(OSError(number, os.strerror(number), "/out/a.json"), "/data/a.fits", "a.fits")


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "/nowhere/at/all"])
def test_what_is_no_file_has_no_stamp(name):
    assert file_stamp(name) == ""


def test_what_holds_is_told_by_stamps():
    jobs = pd.DataFrame({"id": ["a", "b", "c"], "stamp": ["1", "2", "3"]})
    there = pd.DataFrame({"id": ["b", "c"], "stamp": ["2", "old"]})
    new, kept = new_and_kept(jobs, there)
    assert (list(new["id"]), list(kept["id"])) == (["a", "c"], ["b"])
    assert len({stamp_of("a", 1), stamp_of("a", 2), stamp_of("a", "1"), stamp_of("a", 1, ""), stamp_of("a1")}) == 5
    assert stamp_of("a", 1) == stamp_of("a", 1)


def test_empty_tables_leave_the_types_of_others_alone():
    numbers, nothing = pd.DataFrame({"n": [1, 2]}), pd.DataFrame({"n": pd.Series(dtype=object)})
    for frame in (stacked(numbers, nothing), stacked(nothing, numbers)):
        assert frame["n"].dtype == "int64" and list(frame["n"]) == [1, 2]
    assert list(stacked(numbers, numbers).index) == [0, 1, 2, 3]
    assert stacked(nothing, nothing).empty
