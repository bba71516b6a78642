import pandas as pd
import pytest

from zoobot_3d.catalog.reading import catalog_root, read_catalog
from zoobot_3d.errors import CatalogError


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
