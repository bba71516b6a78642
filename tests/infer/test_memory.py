"""Memory of a prediction depends on the size of a shard, and not on how many galaxies there are."""

import gc
import tracemalloc

import numpy as np
import pandas as pd
import pytest

import zoobot_3d
from zoobot_3d import io
from zoobot_3d.infer.predict import predict
from zoobot_3d.infer.uncertainty import Found

SHARD = 100


@pytest.fixture
def trace(tiny_bundle, tmp_path, monkeypatch):
    """Predict so many galaxies, with masks of so many random pixels, and tell the memory in use after each shard."""
    segmenter = zoobot_3d.load_segmenter(tiny_bundle, device="cpu")
    rng = np.random.default_rng(0)
    picture = tmp_path / "p.jpg"
    io.write_jpeg(picture, rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))

    def predicted(galaxies, side):
        def masks(pictures, field="picture", uncertain=False):
            return [lambda: Found(rng.random((2, side, side)).astype(np.float32)) for _ in pictures]

        def note(count):
            done.append(done[-1] + count)
            if done[-1] % SHARD == 0:
                gc.collect()
                used.append(tracemalloc.get_traced_memory()[0])

        done, used = [0], []
        monkeypatch.setattr(segmenter, "ask", masks)
        names = [f"galaxy-{number:09d}" for number in range(galaxies)]
        table = pd.DataFrame({"id": names, "path": "p.jpg", "file": str(picture), "ra": 0.0, "dec": 0.0, "pixscale": 1})
        tracemalloc.start()
        try:
            summary = predict(table, segmenter, tmp_path / str(galaxies), shard_size=SHARD, progress=note)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert summary.predicted == galaxies
        return used, peak

    return predicted


def test_nothing_is_kept_of_a_galaxy_that_is_done(trace):
    """Stamps of all galaxies once had 155 bytes each; what is left is 6 kB for each shard."""
    used, _ = trace(10 * SHARD, 32)
    growth = (used[-1] - used[3]) / (7 * SHARD)
    assert growth < 100  # bytes per galaxy


def test_masks_of_one_shard_are_in_memory_at_a_time(trace):
    _, one = trace(SHARD, 100)
    _, three = trace(3 * SHARD, 100)
    assert three < 1.15 * one
