import numpy as np
import pandas as pd
import pytest

from zoobot_3d.catalog.splits import assign_split, split_of
from zoobot_3d.errors import CatalogError


def test_split_has_the_fractions_and_does_not_depend_on_the_others():
    names = [f"1-{n}" for n in range(20_000)]
    split = assign_split(names)
    for name, fraction in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert np.mean(split == name) == pytest.approx(fraction, abs=0.01)
    assert (assign_split(names[::-7]) == split[::-7]).all()


def test_split_is_for_ever():
    assert list(assign_split(["1-304336", "1-379196", 7])) == list(assign_split(["1-304336", "1-379196", "7"]))
    frozen = "train train train train train train train train test test train train test train train train"
    assert " ".join(assign_split([f"{n}_1" for n in range(16)])) == frozen


def test_rows_that_name_no_split_are_in_the_one_of_their_name():
    names = [f"{n}_1" for n in range(16)]
    frame = pd.DataFrame({"dr8_id": names})
    assert (split_of(frame) == assign_split(names)).all()
    said = frame.assign(split=["val", None, "", np.nan] * 4)
    expected = assign_split(names)
    expected[::4] = "val"
    assert split_of(said).tolist() == expected.tolist()
    assert split_of(said.astype({"split": "string"})).tolist() == expected.tolist()


def test_words_for_splits(tmp_path):
    frame = pd.DataFrame({"dr8_id": list("abcd"), "split": ["Train", "validation", " test ", "val"]})
    with pytest.warns(UserWarning, match="split: 1 x 'Train', 1 x 'validation' taken for train, val"):
        assert split_of(frame).tolist() == ["train", "val", "test", "val"]
    with pytest.raises(CatalogError, match="split: unknown words, 2 x 'holdout', 1 x 'dev'; use train, val, test"):
        split_of(pd.DataFrame({"dr8_id": list("abcd"), "split": ["holdout", "dev", "train", "holdout"]}))


def test_a_galaxy_in_two_splits():
    frame = pd.DataFrame({"dr8_id": ["007", "7", "007", "8"], "split": ["train", "val", "test", "train"]})
    with pytest.raises(CatalogError, match="1 galaxies are in two splits, the first is 007"):
        split_of(frame)
    frame["dr8_id"] = ["007", "7", "07", "8"]
    assert split_of(frame).tolist() == ["train", "val", "test", "train"]
