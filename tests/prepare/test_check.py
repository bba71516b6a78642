"""Each kind of fault is planted in a sound survey and found, and nothing else is."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from tiny_survey import make_survey
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import read_picture, write_jpeg, write_parquet
from zoobot_3d.prepare.check import KINDS, Tolerances, check_catalog, file_facts
from zoobot_3d.prepare.mask_files import make_masks
from zoobot_3d.schema import DEFAULT_MASTER
from zoobot_3d.simulate.survey import simulate_survey

JPG, CUTOUT, MARKS, GZ3D = (f"relative_{name}_loc" for name in ("desi_jpg", "desi_fits", "segmap_json", "gz3d_fits"))
SPIRAL = "relative_spiral_mask_loc"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return simulate_survey(tmp_path_factory.mktemp("survey"), 4, workers=1, progress=False).root


@pytest.fixture
def root(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "root")


def check(root: Path, **options):
    return check_catalog(root / DEFAULT_MASTER, progress=False, **options)


def found(root: Path, **options) -> list[tuple[str, str, str]]:
    """Problems as (number of the galaxy, column, kind)."""
    names = list(pd.read_parquet(root / DEFAULT_MASTER).get("dr8_id", []))
    rows = check(root, **options).problems
    number = {"": "catalogue"} | {str(name): str(index) for index, name in reversed([*enumerate(names)])}
    return [(number.get(p.id, p.id), p.column, p.kind) for p in rows.itertuples()]


def change(root: Path, row: int | None = None, **values) -> pd.DataFrame:
    """Change a row of the catalogue, or whole columns."""
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    for column, value in values.items():
        if row is None:
            frame[column] = value
        else:
            frame[column] = [value if index == row else old for index, old in enumerate(frame[column])]
    write_parquet(root / DEFAULT_MASTER, frame)
    return frame


def file_of(root: Path, column: str, row: int = 1) -> Path:
    return root / pd.read_parquet(root / DEFAULT_MASTER)[column][row]


# Nothing wrong


def test_a_sound_survey(root, tmp_path):
    make_masks(root / DEFAULT_MASTER, root / "masks", progress=False)
    masks = pd.read_parquet(root / "masks" / "masks.parquet").set_index(MARKS)
    master = pd.read_parquet(root / DEFAULT_MASTER)
    for column in (SPIRAL, "relative_bar_mask_loc"):
        change(root, **{column: masks[column].loc[master[MARKS]].to_numpy()})
    report = check(root, report=tmp_path / "report.csv")
    assert report.problems.empty
    assert (report.n_galaxies, report.n_files) == (4, 4 * 6)
    assert report.table()[1:] == [["none", "", "0", "", ""]]
    assert list(pd.read_csv(tmp_path / "report.csv").columns) == ["id", "column", "file", "kind", "detail"]


def test_a_sound_small_survey(tmp_path):
    report = check_catalog(make_survey(tmp_path, 5), size=64, progress=False)
    assert report.problems.empty and report.n_files == 10


# Files


@pytest.mark.parametrize("column", [JPG, CUTOUT, MARKS, GZ3D])
@pytest.mark.parametrize(
    ("fault", "kind"), [("gone", "missing"), ("empty", "unreadable"), ("half", "unreadable"), ("text", "unreadable")]
)
def test_a_file_that_cannot_be_read(root, column, fault, kind):
    path = file_of(root, column)
    content = path.read_bytes()
    path.unlink()
    if fault != "gone":
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "text": b"<html>503</html>" * 99}[fault])
    assert found(root) == [("1", column, kind)]


def test_a_picture_that_is_partly_there(root):
    path = file_of(root, JPG)
    content = path.read_bytes()
    hole = bytearray(content)
    hole[len(content) // 3 : -100] = bytes(len(content) - 100 - len(content) // 3)  # as a sparse download leaves it
    path.write_bytes(hole)
    assert found(root) == [("1", JPG, "unreadable")]


def test_a_blank_picture(root):
    write_jpeg(file_of(root, JPG), np.zeros((424, 424, 3), np.uint8))
    report = check(root)
    assert list(report.problems["kind"]) == ["blank"]
    assert report.problems["detail"][0] == "every pixel is (0, 0, 0)"


@pytest.mark.parametrize(("bands", "kind"), [((0, 1, 2), "blank"), ((1,), "dead band")])
def test_a_cutout_without_data(root, bands, kind):
    with fits.open(file_of(root, CUTOUT), mode="update") as hdus:
        for band in bands:
            hdus[0].data[band, :300] = 0
        if len(bands) == 3:
            hdus[0].data[:] = 0
    assert found(root) == [("1", CUTOUT, kind)]


def test_a_cutout_that_is_converted_is_told(root):
    with fits.open(file_of(root, CUTOUT), mode="update") as hdus:
        hdus[0].header["BUNIT"] = "ADU"
    assert found(root) == [("1", CUTOUT, "converted")]
    assert "no zero point" in check(root).problems["detail"][0]


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_example_cutouts(examples, tmp_path):
    names = ["83e22c_example_incomplete", "09782d_example_bad_pix", "a11c60_example_e", "d33102_temp_small"]
    frame = pd.DataFrame({"dr8_id": ["cut", "dead", "good", "small"], "est_dr5_pixscale": 0.14141076087999996})
    frame[CUTOUT] = [f"desi_fits/{name}.fits" for name in names]
    frame[JPG] = [None, None, "desi_fits/18abcc_example_e.jpeg", None]
    headers = [fits.getheader(examples / path) for path in frame[CUTOUT]]
    frame["ra"], frame["dec"] = ([header[key] for header in headers] for key in ("CRVAL1", "CRVAL2"))
    frame.loc[1, "est_dr5_pixscale"] = headers[1]["CD2_2"] * 3600
    write_parquet(tmp_path / "c.parquet", frame)
    problems = check_catalog(tmp_path / "c.parquet", root=examples, progress=False).problems
    seen = [(p.id, p.kind) for p in problems.itertuples()]
    assert seen == [("cut", "unreadable"), ("dead", "dead band"), ("small", "size"), ("small", "pixscale")]
    assert "truncated" in problems["detail"][0] and "g 76%, r 73%" in problems["detail"][1]
    assert str(examples) not in " ".join(problems["detail"])


def test_example_pictures_and_marks(examples, tmp_path):
    pictures = sorted(p.relative_to(examples) for p in (examples / "gz_decals_jpg").rglob("*.jpg"))[:60]
    frame = pd.DataFrame({"dr8_id": [p.stem for p in pictures], "est_dr5_pixscale": 0.2, "ra": 10.0, "dec": 5.0})
    frame[JPG] = [str(p) for p in pictures]
    write_parquet(tmp_path / "c.parquet", frame)
    assert check_catalog(tmp_path / "c.parquet", root=examples, progress=False).problems.empty


def test_size(root):
    path = file_of(root, JPG)
    write_jpeg(path, cv2.resize(read_picture(path), (400, 400), interpolation=cv2.INTER_AREA))
    report = check(root)
    assert found(root) == [("1", JPG, "size")]
    assert report.problems["detail"][0] == "400 x 400 px, not 424 x 424"


def test_a_mask_of_the_frame_is_none_of_the_picture(root):
    make_masks(root / "marks", root / "masks", progress=False)
    masks = pd.read_parquet(root / "masks" / "masks_frame.parquet")
    change(root, **{SPIRAL: [masks[SPIRAL][0], None, None, None]})
    assert found(root) == [("0", SPIRAL, "size")]


# Places


def test_off_centre_and_pixscale(root):
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    with fits.open(file_of(root, CUTOUT, 0), mode="update") as hdus:
        hdus[0].header["CRPIX1"] += 3.0
    with fits.open(file_of(root, CUTOUT, 1), mode="update") as hdus:
        hdus[0].header["CRPIX2"] -= 1.0  # within tolerance
    change(root, 2, est_dr5_pixscale=frame["est_dr5_pixscale"][2] * 1.02)
    assert found(root) == [("0", CUTOUT, "off-centre"), ("2", CUTOUT, "pixscale")]
    assert found(root, tolerances=Tolerances(px=4.0)) == [("2", CUTOUT, "pixscale")]
    detail = check(root).problems["detail"]
    assert detail[0] == f"middle is {3 * frame['est_dr5_pixscale'][0]:.2f} arcsec from the position of row"
    assert "0.980 times" in detail[1]


def test_marks_of_another_place(root):
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    change(root, 1, dec_manga=frame["dec_manga"][1] + 0.5 / 3600)
    assert found(root) == [("1", GZ3D, "off-centre"), ("1", MARKS, "off-centre")]
    shutil.copy(root / frame[MARKS][2], root / frame[MARKS][1])
    problems = check(root).problems
    marks = problems[problems["column"] == MARKS]
    assert set(marks["kind"]) >= {"off-centre", "other galaxy"}
    assert marks["detail"].str.contains("arcsec from the picture's middle").any()


def test_picture_of_another_galaxy(root):
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    shutil.copy(root / frame[JPG][3], root / frame[JPG][1])
    assert found(root) == [("1", JPG, "other galaxy")]


def test_picture_in_another_style_is_the_same_galaxy(root):
    path = file_of(root, JPG)
    brighter = 255 * (read_picture(path) / 255) ** 0.8
    write_jpeg(path, brighter.astype(np.uint8))
    assert found(root) == []


# Volunteers


def test_votes(root):
    frame = change(root, 1, n_asked_bar=14)
    assert found(root) == [("1", GZ3D, "votes"), ("1", MARKS, "votes")]
    change(root, 1, n_asked_bar=15)
    path = root / frame[MARKS][2]
    marks = json.loads(path.read_text())
    for name in ("spiral", "bar"):
        marks[name] = {"classification_id": [], "time_stamp": [], "paths": []}
    path.write_text(json.dumps(marks))
    assert found(root) == [("2", MARKS, "votes"), ("2", MARKS, "votes"), ("2", MARKS, "no votes")]


# Rows


def test_rows_without_position_scale_or_picture(root):
    change(root, 0, ra=np.nan)
    change(root, 1, ra=361.0)
    change(root, 2, est_dr5_pixscale=0.0)
    change(root, 3, **{JPG: None, CUTOUT: ""})
    # Without a position of its own a picture is taken to be at MaNGA's, and this one is not.
    assert [fault for fault in found(root) if fault != ("0", CUTOUT, "off-centre")] == [
        ("0", "ra", "position"),
        ("1", "ra", "position"),
        ("2", "est_dr5_pixscale", "pixscale"),
        ("3", JPG, "missing"),
    ]


def test_columns_that_are_not_there(root):
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    left = frame.drop(columns=["dr8_id", "est_dr5_pixscale", "ra", "ra_manga"])
    write_parquet(root / DEFAULT_MASTER, left)
    assert {(id_, column) for id_, column, kind in found(root) if kind == "missing"} == {
        ("catalogue", "dr8_id"),
        ("catalogue", "est_dr5_pixscale"),
        ("catalogue", "ra"),
    }
    write_parquet(root / DEFAULT_MASTER, frame[["dr8_id", "ra", "dec"]])
    with pytest.raises(CatalogError, match="nothing to check"):
        check(root)


def test_paths_that_leave_the_root(root, tmp_path):
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    shutil.move(root / frame[MARKS][1], tmp_path / "m.json")
    change(root, 0, **{JPG: str(root / frame[JPG][0])})
    change(root, 1, **{MARKS: "../m.json"})
    assert found(root) == [("0", JPG, "path"), ("1", MARKS, "path")]


def test_duplicates_and_splits(root):
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    observed_twice = frame.iloc[[1]].assign(**{MARKS: frame[MARKS][2], GZ3D: None, "mangaid": None, "ra_manga": np.nan})
    same = frame.iloc[[0]]
    frame = pd.concat([frame, same, observed_twice], ignore_index=True)
    frame["split"] = ["train", "train", "train", "val", "train", "test"]
    write_parquet(root / DEFAULT_MASTER, frame)
    kinds = {(id_, column, kind) for id_, column, kind in found(root) if kind in ("duplicate", "split")}
    assert kinds == {
        ("0", "dr8_id", "duplicate"),
        ("1", "dr8_id", "split"),
        ("1", JPG, "split"),
        ("1", CUTOUT, "split"),
        ("1", MARKS, "split"),
        ("2", MARKS, "split"),
    }


def test_repeated_observations_in_one_split_are_no_fault(root):
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    frame.loc[1, ["dr8_id", JPG, CUTOUT, "ra", "dec", "est_dr5_pixscale", "split"]] = frame.loc[
        0, ["dr8_id", JPG, CUTOUT, "ra", "dec", "est_dr5_pixscale", "split"]
    ]
    write_parquet(root / DEFAULT_MASTER, frame)
    assert [kind for _, _, kind in found(root, tolerances=Tolerances(arcsec=1e9))] == []


# The whole


def test_a_file_of_many_rows_is_read_once(root, monkeypatch):
    read = []
    reader = file_facts._READERS["picture"]
    monkeypatch.setitem(file_facts._READERS, "picture", lambda path: (read.append(path), reader(path))[1])
    frame = pd.read_parquet(root / DEFAULT_MASTER)
    change(root, **{JPG: frame[JPG][0], CUTOUT: None})
    report = check(root)
    assert read == [root / frame[JPG][0]]
    assert report.n_files == 9


def test_what_a_library_makes_of_broken_bytes_stops_nothing(root, monkeypatch):
    monkeypatch.setitem(file_facts._READERS, "marks", lambda path: 1 / 0)
    report = check(root)
    assert set(report.problems["kind"]) == {"unreadable"} and len(report.problems) == 4
    assert report.problems["detail"][0] == "ZeroDivisionError: division by zero"


def test_the_report_is_the_same_however_work_is_cut_and_wherever_the_data_lie(root, tmp_path):
    from distributed import LocalCluster

    file_of(root, JPG, 0).unlink()
    file_of(root, MARKS, 3).write_text("{")
    change(root, 2, n_asked_bar=3)
    other = shutil.copytree(root, tmp_path / "elsewhere")
    check(root, report=tmp_path / "a.csv")
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as dask:
        report = check(other, report=tmp_path / "b.csv", shard_size=3, cluster=dask.scheduler_address)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(pd.read_csv(tmp_path / "a.csv")) == 4 == len(report.problems)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    table = report.table()
    assert table[0][:3] == ["problem", "column", "count"] and all(line[0] in KINDS for line in table[1:])


def test_what_a_killed_check_left_of_its_report_is_removed(root, tmp_path):
    leftover = tmp_path / ".report.csv.abc.part"
    leftover.touch()
    check_catalog(root / DEFAULT_MASTER, report=tmp_path / "report.csv", progress=False)
    assert not leftover.exists()


def test_the_report_as_parquet_and_of_an_unknown_kind(root, tmp_path):
    file_of(root, JPG).unlink()
    report = check(root, report=tmp_path / "r.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "r.parquet"), report.problems)
    assert report.counts[("missing", JPG)] == 1
    with pytest.raises(BadFileError, match="unknown kind of table"):
        check(root, report=tmp_path / "r.txt")
