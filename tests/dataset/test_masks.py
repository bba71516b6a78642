"""Masks as pictures: a training set whose masks cannot be fractions of volunteers is refused before the training."""

import numpy as np
import pandas as pd
import pytest

from zoobot_3d.config.schema import DataConfig
from zoobot_3d.dataset.data import MaskDataModule
from zoobot_3d.errors import CatalogError
from zoobot_3d.io import write_jpeg, write_png
from zoobot_3d.prepare.check import check_catalog

N = 8


@pytest.fixture
def training(tmp_path):
    """Make a catalogue of pictures and masks of given levels; return its path."""

    def make(*levels):
        rng = np.random.default_rng(0)
        rows = []
        for index in range(N):
            write_jpeg(tmp_path / f"jpg/{index}.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
            mask = np.zeros((64, 64), np.uint8)
            for number, level in enumerate(levels):
                mask[20 + 8 * number : 28 + 8 * number, 20:40] = level
            write_png(tmp_path / f"masks/{index}.png", mask)
            rows.append((f"g{index}", f"jpg/{index}.jpg", f"masks/{index}.png", 0.3, "val" if index < 2 else "train"))
        names = ["dr8_id", "relative_desi_jpg_loc", "relative_spiral_mask_loc", "est_dr5_pixscale", "split"]
        frame = pd.DataFrame(rows, columns=names).assign(ra=10.0, dec=5.0)
        frame.to_csv(tmp_path / "catalog.csv", index=False)
        return tmp_path / "catalog.csv"

    return make


def set_up(path, **options):
    MaskDataModule(DataConfig(str(path), input_size=32, field_fraction=0.75, **options), 0, progress=False).setup()


def test_fractions_are_fine(training):
    path = training(85, 170, 255)
    set_up(path)
    assert "masks" not in set(check_catalog(path, size=64, progress=False).problems["kind"])


def test_empty_masks_stop_a_training(training):
    path = training()
    with pytest.raises(CatalogError, match=r"catalog\.csv: all of 6 masks looked at are empty"):
        set_up(path)
    problems = check_catalog(path, size=64, progress=False).problems
    (fault,) = problems[problems["kind"] == "masks"].itertuples()
    assert fault.detail == "8 masks, all are of one value"


@pytest.mark.parametrize("yes", [1, 255])
def test_masks_of_yes_and_no_stop_a_training_unless_they_are_meant(training, yes):
    path = training(yes)
    with pytest.raises(CatalogError, match=r"none of 6 masks looked at has more than two values.*data\.binary_masks"):
        set_up(path)
    set_up(path, binary_masks=True)
    problems = check_catalog(path, size=64, progress=False).problems
    assert problems["detail"][problems["kind"] == "masks"].tolist() == [
        "8 masks, none has more than two values: fractions are expected"
    ]


def test_counts_of_volunteers_are_named(training):
    problems = check_catalog(training(5, 15), size=64, progress=False).problems
    assert (problems["kind"] == "unreadable").sum() == N
    assert problems["detail"].str.contains("values up to 15, which look like counts of volunteers").sum() == N
