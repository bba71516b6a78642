"""A prediction as a HATS catalogue: LSDB opens it, and finds the galaxies by position."""

import numpy as np
import pandas as pd
import pytest

from zoobot_3d import cli
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.infer.hats import export_hats
from zoobot_3d.infer.predictions import read_rows
from zoobot_3d.infer.shards import ShardLog, write_shard
from zoobot_3d.io import encode_mask_png

LONG = 4899912345678901234
RA = [10.0, 44.9995, 45.0005, 200.0, np.nan]  # HEALPix pixels of order 0 meet at 45 deg; the last has no place
DEC = [5.0, 0.01, 0.01, -40.0, np.nan]


def prediction(folder, ra=RA):
    rows = pd.DataFrame({"id": [LONG + n for n in range(5)], "path": "a.jpg", "ra": ra, "dec": DEC})
    rows["error"] = pd.Series(["truncated", None, None, None, None], dtype="string")
    rows = rows.assign(spiral_mean=np.linspace(0.1, 0.5, 5), height=np.int32(64), stamp="")
    rows["spiral_mask_png"] = [encode_mask_png(np.zeros((4, 4), np.float32))] * 5
    write_shard(ShardLog(folder), 0, rows[:3], {})
    write_shard(ShardLog(folder), 1, rows[3:], {})
    return folder


def test_lsdb_opens_it_and_finds_all_galaxies_across_the_edges_of_pixels(tmp_path, capsys):
    lsdb = pytest.importorskip("lsdb", reason="LSDB is not installed")
    folder = prediction(tmp_path / "masks")
    assert cli.main(["export", str(folder), "--format", "hats", "--margin", "20"]) == 0
    assert "HATS catalogue of 4 galaxies; 1 galaxies without a position are left out" in capsys.readouterr().out
    catalogue = lsdb.open_catalog(folder / "hats")
    found = catalogue.compute().sort_values("id")
    expected = read_rows(folder)[:4]
    assert found["id"].tolist() == expected["id"].tolist() == [LONG + n for n in range(4)]
    assert list(found.columns) == list(expected.columns) and "spiral_mask_png" not in found
    assert found["spiral_mean"].tolist() == expected["spiral_mean"].tolist()
    assert found["error"].fillna("").tolist() == ["truncated", "", "", ""]
    assert len(catalogue.get_healpix_pixels()) > 2
    assert set(catalogue.margin.compute()["id"]) == {LONG + 1, LONG + 2}  # 1.8 arcsec from the other's pixel
    mine = pd.DataFrame({"name": ["x", "y", "z"], "ra": [10.0, 45.0002, 300.0], "dec": [5.0005, 0.01, 0.0]})
    other = lsdb.from_dataframe(mine, ra_column="ra", dec_column="dec", margin_threshold=20.0)
    pairs = other.crossmatch(catalogue, radius_arcsec=15, n_neighbors=2, suffixes=("", "_masks")).compute()
    # 1.8 arcsec to the north of x; y lies 2.5 and 1.1 arcsec from two galaxies on both sides of an edge.
    assert sorted(zip(pairs["name"], pairs["id_masks"] if "id_masks" in pairs else pairs["id"], strict=True)) == [
        ("x", LONG),
        ("y", LONG + 1),
        ("y", LONG + 2),
    ]


def test_it_is_replaced_as_a_whole_and_nothing_else_is(tmp_path):
    lsdb = pytest.importorskip("lsdb", reason="LSDB is not installed")
    export_hats(prediction(tmp_path / "masks"), out=tmp_path / "c")
    (tmp_path / ".c.new").mkdir()  # of a run that was killed
    (tmp_path / ".c.new" / "half").touch()
    prediction(tmp_path / "masks", ra=[11.0, *RA[1:]])
    export_hats(tmp_path / "masks", out=tmp_path / "c")
    assert min(lsdb.open_catalog(tmp_path / "c").compute()["ra"]) == 11.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "masks"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(BadFileError, match="holds something that is no HATS catalogue; choose another --out"):
        export_hats(tmp_path / "masks", out=tmp_path / "mine")


def test_what_cannot_be_exported_is_refused(tmp_path, monkeypatch, capsys):
    pytest.importorskip("lsdb", reason="LSDB is not installed")
    folder = prediction(tmp_path / "masks", ra=[np.nan] * 5)
    with pytest.raises(CatalogError, match="no galaxy has a position"):
        export_hats(folder)
    with pytest.raises(ConfigError, match="--margin 0: give a positive number of arcsec"):
        export_hats(folder, margin=0)
    with pytest.raises(BadFileError, match="no shards of predictions here"):
        export_hats(tmp_path / "none")
    assert cli.main(["export", str(folder), "--format", "hats", "--threshold", "0.2"]) == 2
    assert "--threshold does not go with --format hats; leave it out" in capsys.readouterr().err
    assert cli.main(["export", str(folder), "--format", "fits", "--margin", "2"]) == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'zoobot-3d\[lsdb\]'"):
        export_hats(folder)
