"""GZ3D files to marks, tables and masks: what is in them, what a broken file does, and equal bytes whatever happens."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from tiny_survey import make_survey
from zoobot_3d.compute.batch import summarize
from zoobot_3d.dataset.data import MaskDataset
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.io import read_picture, write_parquet
from zoobot_3d.marks import gz3d_summary
from zoobot_3d.marks.gz3d import read_gz3d, write_gz3d
from zoobot_3d.marks.gz3d_summary import read_gz3d_summary
from zoobot_3d.marks.table import marks_from_table, read_marks_table
from zoobot_3d.marks.volunteer_marks import PathTask, VolunteerMarks
from zoobot_3d.prepare import mask_files as masks_module
from zoobot_3d.prepare.extract import catalog, extract_marks
from zoobot_3d.prepare.mask_files import MaskOptions, make_masks
from zoobot_3d.schema import DEFAULT_MASTER
from zoobot_3d.simulate.catalogs import GZ3D_COLUMNS
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sky.grid import PixelGrid

N = 4
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return simulate_survey(tmp_path_factory.mktemp("survey"), N, workers=1, progress=False).root


@pytest.fixture
def gz3d(survey, tmp_path) -> Path:
    """The survey's GZ3D files, with one cut short among them."""
    folder = shutil.copytree(survey / "gz3d", tmp_path / "gz3d")
    (folder / "gz3d_1-9_127_1.fits.gz").write_bytes(sorted(folder.iterdir())[0].read_bytes()[:9000])
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Marks as JSON


def test_marks_are_those_of_the_file(survey, tmp_path):
    summary = extract_marks(survey / "gz3d", tmp_path / "marks", **QUIET)
    assert (summary.done, summary.skipped, summary.failed, summary.failed_csv) == (N, 0, 0, None)
    files = sorted((survey / "gz3d").iterdir())
    assert sorted(p.name for p in (tmp_path / "marks").iterdir()) == [
        f.name.replace(".fits.gz", ".json") for f in files
    ]
    for file in files:
        made = VolunteerMarks.from_json(tmp_path / "marks" / file.name.replace(".fits.gz", ".json"))
        assert made == read_gz3d(file).marks


def test_a_broken_file_is_listed_and_the_others_go_on(gz3d, tmp_path):
    out = tmp_path / "marks"
    summary = extract_marks(gz3d, out, **QUIET)
    assert (summary.done, summary.failed) == (N, 1)
    assert summary.reasons == {"truncated or corrupt gzip": 1}
    failed = pd.read_csv(out / "failed.csv")
    assert list(failed["file"]) == ["gz3d_1-9_127_1.fits.gz"]
    assert failed["reason"][0].startswith("gz3d_1-9_127_1.fits.gz: truncated or corrupt gzip")  # no folder's name
    assert "1 failed" in str(summary) and "1 x truncated" in str(summary)


def test_what_is_there_is_left_alone_and_a_mended_file_taken(gz3d, survey, tmp_path):
    out = tmp_path / "marks"
    extract_marks(gz3d, out, **QUIET)
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.json")}
    shutil.copy(sorted((survey / "gz3d").iterdir())[0], gz3d / "gz3d_1-9_127_1.fits.gz")
    summary = extract_marks(gz3d, out, **QUIET)
    assert (summary.done, summary.skipped, summary.failed) == (1, N, 0)
    assert not (out / "failed.csv").exists()
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before


def test_leftovers_of_a_killed_run_are_removed(survey, tmp_path):
    out = tmp_path / "marks"
    out.mkdir()
    (out / ".gz3d_1.json.abc.part").write_text("{")
    extract_marks(survey / "gz3d", out, **QUIET)
    assert all(not name.startswith(".") for name in content(out))


def test_a_half_written_list_of_failures_is_removed(tmp_path):
    leftover = tmp_path / ".g_failed.csv.abc.part"
    leftover.touch()
    summary = summarize(tmp_path / "g.csv", pd.DataFrame({"id": ["a"], "error": [None]}), 0, tmp_path / "g_failed.csv")
    assert summary.done == 1 and not list(tmp_path.iterdir())


def test_example_marks(examples, tmp_path):
    folder = examples / "gz3d_marks" / "1-379196_127_14728482"
    extract_marks(folder, tmp_path / "marks", **QUIET)
    made = VolunteerMarks.from_json(tmp_path / "marks" / "gz3d_1-379196_127_14728482.reconstructed.json")
    assert made.n_asked == {"spiral": 15, "bar": 15}
    assert made == read_gz3d(next(folder.glob("*.fits.gz"))).marks
    catalog(folder, tmp_path / "c.csv", **QUIET)
    row = pd.read_csv(tmp_path / "c.csv").iloc[0]
    assert row["MANGAID"] == "1-379196"
    tables = json.loads((folder / "hdu5-10_tables.json").read_text())
    assert row["ra"] == pytest.approx(made.grid.ra, abs=1e-4) and tables
    assert (row["n_marked_spiral"], row["n_marked_bar"]) == tuple(made.n_marked.values())


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("nothing", "no gz3d_"),
        ("gz3d_none.fits.gz", "no such file"),
        ("nowhere", "nowhere: no such folder; give the folder of GZ3D files"),
        ([], "no gz3d_"),
    ],
)
def test_no_files(tmp_path, source, what):
    (tmp_path / "nothing").mkdir()
    path = source if isinstance(source, list) else tmp_path / source
    if source == "gz3d_none.fits.gz":
        assert what in pd.read_csv(extract_marks(path, tmp_path / "o", **QUIET).failed_csv)["reason"][0]
    else:
        with pytest.raises(BadFileError, match=what):
            extract_marks(path, tmp_path / "o", **QUIET)


def test_two_files_of_one_name(survey, gz3d, tmp_path):
    with pytest.raises(CatalogError, match="two files are named"):
        extract_marks([survey / "gz3d", gz3d], tmp_path / "marks", **QUIET)


# Marks as one table


def test_the_table_holds_the_same_marks(gz3d, tmp_path):
    table = tmp_path / "marks.parquet"
    summary = extract_marks(gz3d, table, **QUIET)
    assert (summary.done, summary.failed) == (N, 1)
    assert list(pd.read_csv(tmp_path / "marks_failed.csv")["file"]) == ["gz3d_1-9_127_1.fits.gz"]
    read = dict(read_marks_table(table))
    good = [f for f in sorted(gz3d.iterdir()) if f.stat().st_size > 9000]
    assert list(read) == [f.name for f in good]
    for file in good:
        marks = read_gz3d(file).marks
        assert read[file.name] == marks
        assert marks_from_table(table, file.name.removesuffix(".fits.gz")) == marks
        assert marks_from_table(table, marks.metadata["MANGAID"]) == marks
        row = pd.read_parquet(table).set_index("file").loc[file.name]
        assert (row["n_asked_bar"], row["n_marked_spiral"]) == (marks.n_asked["bar"], marks.n_marked["spiral"])


def test_one_galaxy_is_found_in_whichever_group(survey, tmp_path, monkeypatch):
    monkeypatch.setattr("zoobot_3d.marks.table._GROUP", 3)
    extract_marks(survey / "gz3d", tmp_path / "m.parquet", **QUIET)
    assert pq.ParquetFile(tmp_path / "m.parquet").num_row_groups == 2
    for file in (survey / "gz3d").iterdir():
        assert marks_from_table(tmp_path / "m.parquet", file.name) == read_gz3d(file).marks


def test_the_table_says_what_is_not_in_it(survey, tmp_path):
    table = tmp_path / "marks.parquet"
    extract_marks(survey / "gz3d", table, **QUIET)
    with pytest.raises(CatalogError, match="1-77 is in 0 rows"):
        marks_from_table(table, "1-77")
    again = pd.read_parquet(table).assign(mangaid="1-5")
    write_parquet(tmp_path / "same.parquet", again)
    with pytest.raises(CatalogError, match=rf"1-5 is in {N} rows \(gz3d_"):
        marks_from_table(tmp_path / "same.parquet", "1-5")
    write_parquet(tmp_path / "other.parquet", pd.DataFrame({"file": ["a"]}))
    with pytest.raises(BadFileError, match="no table of marks"):
        list(read_marks_table(tmp_path / "other.parquet"))
    with pytest.raises(BadFileError, match="no such file"):
        marks_from_table(tmp_path / "none.parquet", "1-5")


def test_the_table_grows_and_shrinks_with_the_folder_to_the_same_bytes(survey, tmp_path):
    files = sorted((survey / "gz3d").iterdir())
    extract_marks(files, tmp_path / "all.parquet", **QUIET)
    table = tmp_path / "marks.parquet"
    extract_marks(files[1:3], table, **QUIET)
    summary = extract_marks(files, table, **QUIET)
    assert (summary.done, summary.skipped) == (N - 2, 2)
    assert table.read_bytes() == (tmp_path / "all.parquet").read_bytes()
    extract_marks(files[1:3], table, **QUIET)
    assert [name for name, _ in read_marks_table(table)] == [f.name for f in files[1:3]]


# Catalogue


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "fits"])
def test_catalogue_of_each_kind(gz3d, tmp_path, ending):
    out = tmp_path / f"catalogue.{ending}"
    summary = catalog(gz3d, out, **QUIET)
    assert (summary.done, summary.failed) == (N, 1)
    assert list(pd.read_csv(tmp_path / "catalogue_failed.csv")["file"]) == ["gz3d_1-9_127_1.fits.gz"]
    from zoobot_3d.io import read_table

    frame = read_table(out)
    assert list(frame.columns[: len(GZ3D_COLUMNS)]) == list(GZ3D_COLUMNS)
    counts = ["n_asked_spiral", "n_asked_bar", "n_marked_spiral", "n_marked_bar"]
    assert list(frame.columns[len(GZ3D_COLUMNS) :]) == ["file_name", *counts]
    assert list(frame["file_name"]) == sorted(frame["file_name"])
    for _, row in frame.iterrows():
        marks = read_gz3d(gz3d / row["file_name"]).marks
        assert [row[name] for name in counts] == [*marks.n_asked.values(), *marks.n_marked.values()]
        assert row["MANGAID"] == marks.metadata["MANGAID"] and str(row["nsa_id"]) == str(marks.metadata["nsa_id"])
        assert row["ra"] == pytest.approx(marks.metadata["ra"])


def test_catalogue_of_an_unknown_kind(survey, tmp_path):
    with pytest.raises(BadFileError, match="unknown kind of table"):
        catalog(survey / "gz3d", tmp_path / "c.xlsx", **QUIET)


def test_the_quick_reader_reads_what_the_careful_one_does(survey, examples, monkeypatch):
    files = [*(survey / "gz3d").iterdir(), *(examples / "gz3d_marks").glob("*/*.fits.gz")]
    monkeypatch.setattr(gz3d_summary, "read_gz3d", lambda path: pytest.fail(f"{path} taken for unusual"))
    for file in files:
        quick, careful = read_gz3d_summary(file), read_gz3d(file)
        assert quick.metadata == careful.metadata and quick.grid == careful.grid
        assert quick.n_asked == careful.marks.n_asked and quick.n_marked == careful.marks.n_marked


def test_a_path_of_one_vertex_marks_nothing(survey, tmp_path):
    galaxy = read_gz3d(sorted((survey / "gz3d").iterdir())[0])
    paths = [[[[5, 5]]], [[[5, 5], [9, 5]]], [[[5, 5], [9, 5], [9, 9]]], []]
    marks = replace(galaxy.marks, spiral=PathTask.from_nested(paths))
    write_gz3d(tmp_path / "gz3d_a.fits.gz", marks, galaxy.picture)
    made = read_gz3d_summary(tmp_path / "gz3d_a.fits.gz")
    assert (made.n_asked["spiral"], made.n_marked["spiral"]) == (4, 1)


def test_what_is_unusual_is_left_to_the_careful_reader(survey, tmp_path):
    file = sorted((survey / "gz3d").iterdir())[0]
    with fits.open(file) as hdus:
        hdus.writeto(tmp_path / "gz3d_plain.fits")  # not gzipped
        short = fits.HDUList([hdu.copy() for hdu in hdus[:10]])
        short.writeto(tmp_path / "gz3d_short.fits.gz")
    assert read_gz3d_summary(tmp_path / "gz3d_plain.fits").metadata == read_gz3d(file).metadata
    with pytest.raises(BadFileError, match="HDU 10 is missing"):
        read_gz3d_summary(tmp_path / "gz3d_short.fits.gz")
    flipped = bytearray(file.read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    (tmp_path / "gz3d_flip.fits.gz").write_bytes(flipped)
    with pytest.raises(BadFileError, match="corrupt gzip"):
        read_gz3d_summary(tmp_path / "gz3d_flip.fits.gz")


# Masks


def test_masks_on_the_picture_are_the_votes_the_right_way_up(survey, tmp_path):
    root = shutil.copytree(survey, tmp_path / "root")
    summary = make_masks(root / DEFAULT_MASTER, root / "masks", **QUIET)
    assert (summary.done, summary.failed) == (N, 0)
    master = pd.read_parquet(root / DEFAULT_MASTER)
    made = pd.read_parquet(root / "masks" / "masks.parquet").set_index("relative_segmap_json_loc")
    uneven = 0.0
    for row in master.itertuples():
        marks = VolunteerMarks.from_json(root / row.relative_segmap_json_loc)
        grid = PixelGrid((424, 424), row.est_dr5_pixscale, row.ra, row.dec)
        expected = marks.votes(grid) / marks.n_asked_array[:, None, None]
        entry = made.loc[row.relative_segmap_json_loc]
        assert entry["n_asked_spiral"] == marks.n_asked["spiral"]
        for column, mask in zip(("relative_spiral_mask_loc", "relative_bar_mask_loc"), expected, strict=True):
            png = cv2.imread(str(root / entry[column]), cv2.IMREAD_UNCHANGED)
            assert png.shape == (424, 424) and png.dtype == np.uint8  # grey, not RGB
            np.testing.assert_allclose(png / 255, mask, atol=0.5001 / 255)
            uneven = max(uneven, np.abs(mask - mask[::-1]).max(), np.abs(mask - mask[:, ::-1]).max())
    assert uneven > 0.3  # a mask that was turned round would have been seen


def test_training_reads_the_same_labels_from_masks_as_from_marks(tmp_path):
    catalogue = make_survey(tmp_path, 3)
    make_masks(catalogue, tmp_path / "masks", **QUIET)
    frame = pd.read_parquet(catalogue)
    made = pd.read_parquet(tmp_path / "masks" / "masks.parquet")
    places = ["relative_spiral_mask_loc", "relative_bar_mask_loc"]
    with_masks = frame.merge(made[["relative_segmap_json_loc", *places]]).drop(columns="relative_segmap_json_loc")
    of_marks, of_masks = (MaskDataset(table, tmp_path, 64, 0.75) for table in (frame, with_masks))
    for index in range(3):
        a, b = of_marks[index], of_masks[index]
        np.testing.assert_array_equal(a["n_asked"], b["n_asked"])
        difference = np.abs(a["votes"].numpy().astype(int) - b["votes"].numpy().astype(int))
        assert a["votes"].max() == 15 and difference.mean() < 0.3
        assert (difference > 7).mean() < 0.01  # edges alone


def test_masks_on_the_frame_have_names_that_no_picture_mask_has(survey, tmp_path):
    make_masks(survey / "marks", tmp_path / "masks", **QUIET)
    made = pd.read_parquet(tmp_path / "masks" / "masks_frame.parquet")
    assert len(made) == N and (made["side"] == 525).all()
    marks = VolunteerMarks.from_json(survey / "marks" / f"{made['id'][0]}.json")
    png = read_picture(tmp_path / made["relative_spiral_mask_loc"][0])[..., 0]
    assert made["relative_spiral_mask_loc"][0] == f"masks/{made['id'][0]}_frame_spiral.png"
    np.testing.assert_allclose(png / 255, marks.votes()[0] / marks.n_asked["spiral"], atol=0.5001 / 255)
    assert made["pixscale"][0] == pytest.approx(0.099)


def test_fits_masks_have_a_wcs_and_the_official_rule_is_that_of_the_files(survey, tmp_path):
    extract_marks(survey / "gz3d", tmp_path / "marks", **QUIET)
    make_masks(tmp_path / "marks", tmp_path / "masks", options=MaskOptions(format="fits", rule="official"), **QUIET)
    for file in (survey / "gz3d").iterdir():
        galaxy = read_gz3d(file)
        with fits.open(tmp_path / "masks" / file.name.replace(".fits.gz", "_frame.fits")) as hdus:
            header, data = hdus["SPIRAL"].header, np.stack([hdus["SPIRAL"].data, hdus["BAR"].data])
        asked = [header["NASKED0"], header["NASKED1"]]
        assert asked == list(galaxy.marks.n_asked.values())
        paths = np.stack([galaxy.spiral_mask, galaxy.bar_mask])
        np.testing.assert_allclose(data[:, ::-1], np.minimum(paths / np.array(asked)[:, None, None], 1), rtol=1e-6)
        assert header["CRVAL1"] == pytest.approx(galaxy.grid.ra) and header["CD2_2"] > 0


def test_size_keeps_the_field(survey, tmp_path):
    make_masks(survey / DEFAULT_MASTER, tmp_path / "a", options=MaskOptions(size=106), **QUIET)
    make_masks(survey / DEFAULT_MASTER, tmp_path / "b", **QUIET)
    table = pd.read_parquet(tmp_path / "b" / "masks.parquet")
    for place in table["relative_spiral_mask_loc"]:
        assert "/" not in place  # outside the root: paths start from the folder
        small, large = (read_picture(tmp_path / x / place)[..., 0] for x in "ab")
        assert small.shape == (106, 106)
        assert abs(small.mean() - large.mean()) < 1.5


def test_a_class_nobody_was_asked_about_has_no_mask(tmp_path):
    catalogue = make_survey(tmp_path, 1)
    path = tmp_path / "marks" / "g00.json"
    text = json.loads(path.read_text())
    text["bar"] = {"classification_id": [], "time_stamp": [], "paths": []}
    path.write_text(json.dumps(text))
    make_masks(catalogue, tmp_path / "masks", **QUIET)
    made = pd.read_parquet(tmp_path / "masks" / "masks.parquet")
    assert made["relative_bar_mask_loc"].isna().all() and made["n_asked_bar"][0] == 0
    assert sorted(p.name for p in (tmp_path / "masks").glob("*.png")) == ["g00_spiral.png"]
    assert make_masks(catalogue, tmp_path / "masks", **QUIET).skipped == 1


def test_masks_that_are_there_are_left_alone_and_others_made_again(tmp_path):
    catalogue = make_survey(tmp_path, 3)
    (tmp_path / "marks" / "g02.json").write_text("{")
    summary = make_masks(catalogue, tmp_path / "masks", **QUIET)
    assert (summary.done, summary.failed) == (2, 1)
    assert pd.read_csv(tmp_path / "masks" / "masks_failed.csv")["reason"][0].startswith("marks/g02.json: broken JSON")
    before = content(tmp_path / "masks")
    (tmp_path / "masks" / "g01_bar.png").unlink()
    summary = make_masks(catalogue, tmp_path / "masks", **QUIET)
    assert (summary.done, summary.skipped, summary.failed) == (1, 1, 1)
    assert content(tmp_path / "masks") == before
    with pytest.raises(ConfigError, match="holds masks of size default"):
        make_masks(catalogue, tmp_path / "masks", options=MaskOptions(size=100), **QUIET)


def test_a_list_of_masks_may_become_empty(tmp_path):
    catalogue = make_survey(tmp_path, 1)
    assert make_masks(catalogue, tmp_path / "masks", **QUIET).done == 1
    (tmp_path / "marks" / "g00.json").write_text("{")
    summary = make_masks(catalogue, tmp_path / "masks", **QUIET)
    assert (summary.done, summary.skipped, summary.failed) == (0, 0, 1)
    assert pd.read_parquet(tmp_path / "masks" / "masks.parquet").empty


def test_a_row_without_a_scale_does_not_stop_the_others(tmp_path):
    catalogue = make_survey(tmp_path, 2)
    frame = pd.read_parquet(catalogue)
    frame.loc[0, "est_dr5_pixscale"] = np.nan
    write_parquet(catalogue, frame)
    summary = make_masks(catalogue, tmp_path / "masks", **QUIET)
    assert (summary.done, summary.failed) == (1, 1)
    assert "no positive est_dr5_pixscale" in next(iter(summary.reasons))


def test_one_galaxys_marks_on_two_pictures(tmp_path):
    catalogue = make_survey(tmp_path, 1)
    frame = pd.read_parquet(catalogue)
    twice = pd.concat([frame, frame.assign(est_dr5_pixscale=0.2), frame])
    write_parquet(catalogue, twice)
    assert make_masks(catalogue, tmp_path / "masks", **QUIET).done == 2
    made = pd.read_parquet(tmp_path / "masks" / "masks.parquet")
    assert list(made["id"]) == ["g00", "g00-2"] and list(made["pixscale"]) == [0.11, 0.2]


def test_masks_say_what_they_cannot_do(tmp_path):
    catalogue = make_survey(tmp_path, 1)
    with pytest.raises(ConfigError, match="does not say where pictures are"):
        make_masks(tmp_path / "marks", tmp_path / "m", options=MaskOptions(grid="picture"), **QUIET)
    with pytest.raises(ConfigError, match="format=gif"):
        make_masks(catalogue, tmp_path / "m", options=MaskOptions(format="gif"), **QUIET)
    with pytest.raises(ConfigError, match="0 px"):
        make_masks(catalogue, tmp_path / "m", options=MaskOptions(size=0), **QUIET)
    with pytest.raises(BadFileError, match="no marks"):
        make_masks(tmp_path / "jpg", tmp_path / "m", **QUIET)
    write_parquet(catalogue, pd.read_parquet(catalogue).drop(columns="relative_segmap_json_loc"))
    with pytest.raises(CatalogError, match="no row names marks"):
        make_masks(catalogue, tmp_path / "m", **QUIET)


# All of it


def test_the_same_bytes_in_another_folder_and_cut_otherwise(gz3d, survey, tmp_path):
    from distributed import LocalCluster

    def everything(name: str, **cut) -> dict[str, bytes]:
        root = tmp_path / name
        shutil.copytree(survey, root)
        shutil.rmtree(root / "gz3d")
        shutil.copytree(gz3d, root / "gz3d")
        options = {**cut, **QUIET}
        extract_marks(root / "gz3d", root / "m", **options)
        extract_marks(root / "gz3d", root / "m.parquet", **options)
        for ending in ("csv", "csv.gz", "parquet", "fits"):
            catalog(root / "gz3d", root / f"c.{ending}", **options)
        make_masks(root / DEFAULT_MASTER, root / "masks", **options)
        make_masks(root / "m", root / "masks", options=MaskOptions(format="fits"), **options)
        return content(root)

    a = everything("a")
    # A scheduler over TCP with its worker in this process: real shards, and no process to start.
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as dask:
        b = everything("b", shard_size=2, cluster=dask.scheduler_address)
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []
    assert not [name for name in a if "/." in name or name.startswith(".")]


def test_shards_are_of_top_level_functions():
    import pickle

    from zoobot_3d.prepare import extract

    for function in (extract._write_marks, extract._marks_rows, extract._catalog_rows, masks_module._write_masks):
        assert pickle.loads(pickle.dumps(function)) is function
