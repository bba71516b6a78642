"""What rows hold, in which order, and that every reader of Parquet finds the same."""

import json

import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest

import zoobot_3d
from zoobot_3d import io
from zoobot_3d.catalog.reading import list_galaxies
from zoobot_3d.errors import ConfigError
from zoobot_3d.infer.predict import predict, read_masks

LONG = 4899912345678901234  # a float has 16 of its 19 digits
RA = [10.0, 200.0, 10.01, 200.01, np.nan]


@pytest.fixture(scope="module")
def segmenter(tiny_bundle):
    return zoobot_3d.load_segmenter(tiny_bundle, device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory):
    """Five galaxies in a catalogue, by turns on two sides of the sky; the third has no picture, the last no place."""
    folder = tmp_path_factory.mktemp("galaxies")
    rng = np.random.default_rng(0)
    names = [f"{n}.png" for n in range(5)]
    for name in names:
        io.write_png(folder / name, rng.integers(1, 255, (64, 64, 3), dtype=np.uint8))
    (folder / "2.png").write_bytes(b"no picture")
    table = pd.DataFrame({"id": [LONG + n for n in range(5)], "file_loc": names, "ra": RA, "dec": [5.0] * 4 + [np.nan]})
    table.to_csv(folder / "galaxies.csv", index=False)
    return list_galaxies(folder / "galaxies.csv")


@pytest.fixture(scope="module")
def out(galaxies, segmenter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    predict(galaxies, segmenter, folder, shard_size=2)
    return folder


def test_shards_follow_the_sky(out):
    shards = [list(pd.read_parquet(path)["ra"]) for path in sorted((out / "shards").glob("*.parquet"))]
    assert sorted(map(sorted, shards[:2])) == [[10.0, 10.01], [200.0, 200.01]]
    assert np.isnan(shards[2]).all()


def test_numbers_are_those_of_the_masks(out):
    good = 0
    for row, masks in read_masks(out, outside=np.nan):
        for index, name in enumerate(("spiral", "bar")):
            if masks is None:
                assert np.isnan([row[f"{name}_{what}"] for what in ("mean", "area_px", "area_half_px", "max")]).all()
                continue
            good += 1
            assert row[f"{name}_mean"] == pytest.approx(np.nanmean(masks[index]), abs=1 / 255)
            assert row[f"{name}_max"] == pytest.approx(np.nanmax(masks[index]), abs=1 / 255)
            for what, level in (("area_px", 0.2), ("area_half_px", 0.5)):
                sure = (masks[index] > level + 1 / 255).sum()
                assert sure <= row[f"{name}_{what}"] <= (masks[index] > level - 1 / 255).sum()
    assert good == 8


def test_rows_say_what_made_them(out):
    rows, run = pd.read_parquet(out / "shards"), json.loads((out / "run.json").read_text())
    assert set(rows["bundle"]) == {run["bundle"]} and set(rows["zoobot_3d"]) == {zoobot_3d.__version__}
    assert run["schema"] == 1


def test_another_version_of_the_columns_is_refused(galaxies, segmenter, tmp_path):
    predict(galaxies, segmenter, tmp_path, shard_size=2)
    run = json.loads((tmp_path / "run.json").read_text())
    run.pop("schema")
    (tmp_path / "run.json").write_text(json.dumps(run))
    for path in (tmp_path / "shards").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="made with other schema"):
        predict(galaxies, segmenter, tmp_path, shard_size=2)


def with_pyarrow(folder):
    return pyarrow.dataset.dataset(folder / "shards").to_table().to_pylist()


def with_duckdb(folder):
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    found = duckdb.sql(f"SELECT * FROM read_parquet('{folder / 'shards'}/*.parquet')")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def with_datasets(folder):
    datasets = pytest.importorskip("datasets", reason="datasets of Hugging Face is not installed")
    files = [str(path) for path in sorted((folder / "shards").glob("*.parquet"))]
    return list(datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder / "cache")))


@pytest.mark.parametrize("read", [with_pyarrow, with_duckdb, with_datasets])
def test_every_reader_finds_the_same(out, read):
    expected = pd.read_parquet(out / "shards").set_index("id")
    rows = {row["id"]: row for row in read(out)}
    assert set(rows) == set(expected.index) == {str(LONG + n) for n in range(5)}
    for name, row in rows.items():
        assert list(row) == ["id", *expected.columns]
        for column, value in expected.loc[name].items():
            same = row[column] == value or (pd.isna(row[column]) and pd.isna(value))
            assert same, (name, column, row[column], value)
