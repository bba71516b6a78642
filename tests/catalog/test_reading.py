import numpy as np
import pandas as pd
import pytest

from zoobot_3d.catalog.reading import assign_split, catalog_root, read_catalog, split_of
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


def test_missing_columns_are_named(tmp_path):
    pd.DataFrame({"RA": [1.0]}).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(CatalogError, match=r"c\.csv: no column ra, dec \(it has RA\)"):
        read_catalog(tmp_path / "c.csv", ["ra", "dec"])
    pd.DataFrame({"ra": []}).to_csv(tmp_path / "e.csv", index=False)
    with pytest.raises(CatalogError, match="no rows"):
        read_catalog(tmp_path / "e.csv", ["ra"])


def test_root_of_a_survey(tmp_path):
    assert catalog_root(tmp_path / "data" / "master.parquet") == tmp_path
    assert catalog_root(tmp_path / "mine.csv") == tmp_path
