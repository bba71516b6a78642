"""What rows hold, in which order, and that every reader of Parquet finds the same."""

import json

import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

import zoobot_3d
from zoobot_3d import io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.errors import ConfigError
from zoobot_3d.infer.export import export_masks
from zoobot_3d.infer.predict import predict, read_masks
from zoobot_3d.infer.predictions import read_rows
from zoobot_3d.infer.rows import id_type
from zoobot_3d.infer.verify import verify
from zoobot_3d.measure.table import measure_table
from zoobot_3d.report import gallery

LONG = 4899912345678901234  # a float has 16 of its 19 digits
RA = [10.0, 200.0, 10.01, 200.01, np.nan]


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
    assert run["schema"] == 2 and run["ids"] == "int64"


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
    assert expected.index.dtype == "int64"
    rows = {row["id"]: row for row in read(out)}
    assert set(rows) == set(expected.index) == {LONG + n for n in range(5)}
    assert {type(name) for name in rows} == {int}
    for name, row in rows.items():
        assert list(row) == ["id", *expected.columns]
        for column, value in expected.loc[name].items():
            same = row[column] == value or (pd.isna(row[column]) and pd.isna(value))
            assert same, (name, column, row[column], value)


# Ids: integers as integers, text as text


def catalogue(folder, ids, kind="csv", *, pictures=True):
    """A table of galaxies of these ids."""
    rng = np.random.default_rng(1)
    for n in range(len(ids) if pictures else 0):
        io.write_png(folder / f"{n}.png", rng.integers(1, 255, (64, 64, 3), dtype=np.uint8))
    table = pd.DataFrame({"objid": ids, "file_loc": [f"{n}.png" for n in range(len(ids))]})
    if kind == "fits":
        Table.from_pandas(table).write(folder / "c.fits", overwrite=True)
    elif kind == "parquet":
        table.to_parquet(folder / "c.parquet")
    else:
        table.to_csv(folder / "c.csv", index=False)
    return folder / f"c.{kind}"


def ids_of(folder):
    """The column in the shards, as Arrow has it."""
    return pyarrow.dataset.dataset(folder / "shards").to_table(columns=["id"]).column("id")


TEXT = pyarrow.large_string()  # as pandas writes it
BIG = 2**63 + 2**60 + 1  # 19 digits, too many for a signed integer


@pytest.mark.parametrize(
    ("ids", "file", "kind", "expected"),
    [
        ([LONG, 3], "csv", "int64", [LONG, 3]),
        ([-(2**63), 0], "csv", "int64", [-(2**63), 0]),
        ([LONG, BIG], "csv", "uint64", [LONG, BIG]),
        ([-1, BIG], "csv", "string", ["-1", str(BIG)]),  # no type of integers holds both
        ([LONG, 2**64], "csv", "string", [str(LONG), str(2**64)]),
        (["017", "18"], "csv", "string", ["017", "18"]),
        (["+17", "18"], "csv", "string", ["+17", "18"]),
        ([str(LONG), ""], "csv", "string", [str(LONG), "row1"]),
        ([LONG, LONG], "csv", "string", [str(LONG), f"{LONG}-2"]),
        (np.array([LONG, 3]), "fits", "int64", [LONG, 3]),
        (np.array([7, 3], np.int16), "fits", "int64", [7, 3]),
        (np.array([LONG, 3], np.uint64), "fits", "uint64", [LONG, 3]),
        (["17", "18"], "fits", "string", ["17", "18"]),  # text that its author made text
        (np.array([LONG, BIG], np.uint64), "parquet", "uint64", [LONG, BIG]),
        (["17", "18"], "parquet", "string", ["17", "18"]),
        (pd.array([LONG, None], dtype="Int64"), "parquet", "string", [str(LONG), "row1"]),
    ],
)
def test_ids_of_a_table_keep_their_type_and_every_digit(tmp_path, ids, file, kind, expected):
    found = list_galaxies(catalogue(tmp_path, ids, file, pictures=False))["id"]
    assert id_type(found) == kind and found.tolist() == expected


@pytest.mark.parametrize(
    ("ids", "kind"),
    [([LONG, 3], pyarrow.int64()), ([LONG, BIG], pyarrow.uint64()), (["017", "18"], TEXT)],
    ids=["int64", "uint64", "text"],
)
def test_ids_of_shards_are_those_of_the_table(segmenter, tmp_path, ids, kind):
    galaxies = list_galaxies(catalogue(tmp_path, ids))
    assert predict(galaxies, segmenter, tmp_path / "out", shard_size=1).predicted == 2
    found = pyarrow.dataset.dataset(tmp_path / "out/shards").to_table(columns=["id"]).column("id")
    assert found.type == kind and found.to_pylist() == ids
    assert [row["id"] for row, _ in read_masks(tmp_path / "out")] == ids
    assert read_rows(tmp_path / "out")["id"].tolist() == ids
    for wanted in (ids[1], str(ids[1])):
        assert [row["id"] for row, _ in read_masks(tmp_path / "out", [wanted])] == ids[1:]
    assert not verify(tmp_path / "out").problems
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out/shards").iterdir()}
    (tmp_path / "out/shards/shard-00000.parquet").unlink()
    summary = predict(galaxies, segmenter, tmp_path / "out", shard_size=1)
    assert (summary.predicted, summary.skipped, summary.damaged, summary.lost) == (1, 1, 1, 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/shards").iterdir()} == whole


def test_a_changed_picture_of_an_integer_is_predicted_in_its_place(segmenter, tmp_path):
    table = catalogue(tmp_path, [LONG, 3, BIG])
    predict(list_galaxies(table), segmenter, tmp_path / "out", masks="fits")
    before = pd.read_parquet(tmp_path / "out/shards").set_index("id")["spiral_mask_png"]
    io.write_png(tmp_path / "1.png", np.random.default_rng(5).integers(1, 255, (64, 64, 3), dtype=np.uint8))
    summary = predict(list_galaxies(table), segmenter, tmp_path / "out", masks="fits")
    assert (summary.predicted, summary.changed, summary.skipped) == (1, 1, 2)
    after = pd.read_parquet(tmp_path / "out/shards").set_index("id")["spiral_mask_png"]
    assert list(after.index) == [LONG, 3, BIG] and after.index.dtype == "uint64"
    assert list(after == before) == [True, False, True]


def test_a_folder_holds_ids_of_one_type(segmenter, tmp_path):
    def run(ids, out):
        return predict(list_galaxies(catalogue(tmp_path, ids)), segmenter, tmp_path / out)

    run(["NGC 1", "17"], "text")
    with pytest.raises(ConfigError, match=r"its predictions are text, and those .* are int64 \(such as 17\); give"):
        run([17, 18], "text")
    run([17, 18], "numbers")
    with pytest.raises(ConfigError, match=r"are int64, and those of this input are text \(such as 017\)"):
        run(["17", "017"], "numbers")
    with pytest.raises(ConfigError, match=r"are int64, and those of this input are uint64"):
        run([17, BIG], "numbers")
    assert ids_of(tmp_path / "numbers").to_pylist() == [17, 18]
    run([17, BIG], "large")
    assert run([17, 19], "large").predicted == 2  # 19 fits; 17, whose picture was written once more, in its place
    assert ids_of(tmp_path / "large").type == pyarrow.uint64()
    assert ids_of(tmp_path / "large").to_pylist() == [17, BIG, 19]


def test_integers_go_on_into_files_measurements_and_figures(segmenter, tmp_path):
    ids = [LONG, BIG]
    predict(list_galaxies(catalogue(tmp_path, ids)), segmenter, tmp_path / "out")
    export_masks(tmp_path / "out", "npz")
    found = [np.load(tmp_path / f"out/masks/{name}_masks.npz")["id"] for name in ids]
    assert [int(name) for name in found] == ids and found[1].dtype == np.uint64
    export_masks(tmp_path / "out", "fits")
    names = [fits.getheader(tmp_path / f"out/masks/{name}_masks.fits", 1)["OBJECT"] for name in ids]
    assert names == [str(name) for name in ids]
    for _ in range(2):  # the second reads what the first wrote
        measure_table(tmp_path / "out", tmp_path / "t.parquet", progress=False)
        for path in (tmp_path / "t.parquet", tmp_path / "t_arms.parquet"):
            assert pyarrow.parquet.read_schema(path).field("id").type == pyarrow.uint64()
        assert pd.read_parquet(tmp_path / "t.parquet")["id"].tolist() == ids
    assert QTable.read(tmp_path / "t.parquet")["id"].tolist() == ids
    pd.DataFrame({"objid": ids, "redshift": [0.1, 0.2]}).to_parquet(tmp_path / "g.parquet")
    measure_table(tmp_path / "out", tmp_path / "t.parquet", galaxies=tmp_path / "g.parquet", progress=False)
    assert pd.read_parquet(tmp_path / "t.parquet")["redshift"].tolist() == [0.1, 0.2]
    gallery.predictions(tmp_path / "out", tmp_path / "sheet.png")
    assert io.read_picture(tmp_path / "sheet.png").shape[2] == 3
