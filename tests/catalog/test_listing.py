"""What `list_galaxies` takes for pictures, and how it names them."""

import os
import shutil
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from zoobot_3d import io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.errors import CatalogError
from zoobot_3d.infer.export import export_masks
from zoobot_3d.infer.predict import predict
from zoobot_3d.sky.grid import PixelGrid


def draw(path, seed=0):
    io.write_png(path, np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8))


@pytest.fixture
def pictures(tmp_path):
    for seed, name in enumerate("ab"):
        draw(tmp_path / "pictures" / f"{name}.png", seed)
    return tmp_path / "pictures"


@pytest.mark.parametrize("place", [".", "out", "deep/er/out", "link"])
@pytest.mark.parametrize("kind", ["png", "fits"])
def test_outputs_beside_pictures_never_become_inputs(pictures, segmenter, place, kind):
    if place == "link":
        (pictures / "real").mkdir()
        (pictures / "link").symlink_to(pictures / "real")
    out = pictures / place
    for _ in range(2):
        galaxies = list_galaxies(pictures, leave_out=out)
        assert list(galaxies["id"]) == ["a", "b"]
        predict(galaxies, segmenter, out, masks=kind)
    assert list(list_galaxies(pictures)["id"]) == ["a", "b"]


def test_masks_are_known_wherever_they_lie(pictures, segmenter, tmp_path):
    predict(list_galaxies(pictures), segmenter, tmp_path / "out", uncertainty=False)
    export_masks(tmp_path / "out", "png", out=pictures)
    export_masks(tmp_path / "out", "fits", out=pictures / "more")
    export_masks(tmp_path / "out", "fits", out=pictures / "binary", threshold=0.2)
    shutil.copy(pictures / "a_bar.png", pictures / "copy_of_a_bar.png")
    assert list(list_galaxies(pictures)["id"]) == ["a", "b"]


def test_a_galaxy_may_be_called_as_a_mask(tmp_path):
    draw(tmp_path / "ngc_bar.png")
    io.write_cutout(tmp_path / "my_masks.fits", np.zeros((3, 8, 8)), PixelGrid((8, 8), 1.0))
    os.mkfifo(tmp_path / "pipe_bar.png")  # is not opened
    assert list(list_galaxies(tmp_path)["id"]) == ["my_masks", "ngc_bar", "pipe_bar"]


def test_a_shells_list_may_hold_outputs(pictures, segmenter):
    predict(list_galaxies(pictures), segmenter, pictures / "old")
    predict(list_galaxies(pictures), segmenter, pictures)
    everything = sorted(map(str, pictures.glob("*")))
    assert list(list_galaxies(everything, leave_out=pictures)["id"]) == ["a", "b"]


def test_pictures_with_one_name_are_named_after_their_folders(pictures):
    draw(pictures / "sub" / "a.png")
    draw(pictures / "b.fits.png")
    assert list(list_galaxies(pictures)["id"]) == ["a", "b", "b-2", "sub_a"]


def test_one_picture_more_does_not_rename_the_others(pictures, segmenter, tmp_path):
    draw(pictures / "x" / "c.png")
    predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    draw(pictures / "x" / "a.png", 7)
    draw(pictures / "0" / "c.png", 8)
    summary = predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    assert (summary.predicted, summary.skipped, summary.left) == (2, 3, 0)
    rows = pd.read_parquet(tmp_path / "out" / "shards").set_index("path")["id"].to_dict()
    assert rows == {"a.png": "a", "b.png": "b", "x/c.png": "c", "x/a.png": "x_a", "0/c.png": "0_c"}
    (pictures / "0" / "c.png").unlink()
    summary = predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    assert (summary.predicted, summary.skipped, summary.left) == (0, 4, 1)


def test_a_catalogues_names_are_its_own(pictures, segmenter, tmp_path):
    table = pd.DataFrame({"id": ["one"], "file_loc": ["pictures/a.png"]})
    for name, predicted in (("one", 1), ("two", 1), ("one", 0)):
        table.assign(id=name).to_csv(tmp_path / "c.csv", index=False)
        assert predict(list_galaxies(tmp_path / "c.csv"), segmenter, tmp_path / "out").predicted == predicted
    assert sorted(pd.read_parquet(tmp_path / "out" / "shards")["id"]) == ["one", "two"]


def test_file_names_that_are_no_text(pictures, segmenter, tmp_path):
    for name in (b"\xff.png", b"\xfe.png"):
        shutil.copy(pictures / "a.png", pictures / os.fsdecode(name))
    (pictures / os.fsdecode(b"\xfd.png")).write_bytes(b"no picture")
    for predicted in (4, 0):
        summary = predict(list_galaxies(pictures), segmenter, tmp_path / "out", masks="fits")
        assert (summary.predicted, summary.failed) == (predicted, 1)
    rows = pd.read_parquet(tmp_path / "out" / "shards")
    assert list(rows["id"]) == ["a", "b", "\\udcfd", "\\udcfe", "\\udcff"]
    assert len(list((tmp_path / "out" / "masks").glob("*.fits"))) == 4


def test_a_pixel_scale_that_is_no_number_is_unknown_and_said_so(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(
        'id,file_loc,ra,dec,pixscale\na,a.jpg,1,2,0.3\nb,b.jpg,1,2,"0,3"\nc,c.jpg,1,2,\nd,d.jpg,x,2,-1\ne,e.jpg,1,2,inf\n'
    )
    listed = list_galaxies(file).set_index("id")
    np.testing.assert_array_equal(listed["pixscale"], [0.3, np.nan, np.nan, np.nan, np.nan])
    assert listed["warning"].tolist()[:3] == ["", "its pixscale '0,3' is no pixel scale: it is unknown", ""]
    assert "its position in ra, dec cannot be used; its pixscale '-1' is no" in listed.loc["d", "warning"]
    assert "its pixscale 'inf' is no pixel scale" in listed.loc["e", "warning"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_files_in_usual_encodings(tmp_path, encoding):
    for name in ("a.jpg", "ü.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.txt").write_bytes("# two\na.jpg\n\nü.jpg\n".encode(encoding))
    galaxies = list_galaxies(tmp_path / "list.txt")
    assert galaxies["id"].tolist() == ["a", "ü"]
    assert all(Path(file).exists() for file in galaxies["file"])


def test_scales_beyond_all_sense_are_unknown(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "file_loc": ["a.jpg", "b.jpg"], "est_dr5_pixscale": [0.3, 1e9]})
    table.to_csv(tmp_path / "c.csv", index=False)
    galaxies = list_galaxies(tmp_path / "c.csv")
    assert galaxies["pixscale"].iloc[0] == 0.3 and np.isnan(galaxies["pixscale"].iloc[1])
    assert "is no pixel scale: it is unknown" in galaxies["warning"].iloc[1]


def test_columns_in_any_case(tmp_path):
    table = pd.DataFrame({"ID": ["a"], "FILE_LOC": ["a.jpg"], "RA": [10.0], "DEC": [5.0], "EST_DR5_PIXSCALE": [0.3]})
    table.to_csv(tmp_path / "c.csv", index=False)
    (galaxy,) = list_galaxies(tmp_path / "c.csv").itertuples()
    assert (galaxy.id, galaxy.path, galaxy.ra, galaxy.dec, galaxy.pixscale) == ("a", "a.jpg", 10.0, 5.0, 0.3)


@pytest.mark.parametrize("column", ["file", "path", "Filename", "file_name", "filepath", "image", "picture", "jpg"])
def test_pictures_are_found_in_columns_of_natural_names(tmp_path, column):
    pd.DataFrame({"id": ["a"], column: ["p/a.jpg"]}).to_csv(tmp_path / "c.csv", index=False)
    (galaxy,) = list_galaxies(tmp_path / "c.csv").itertuples()
    assert (galaxy.id, galaxy.path, galaxy.file) == ("a", "p/a.jpg", str(tmp_path / "p/a.jpg"))


def test_a_table_of_files_alone_names_galaxies_after_them(tmp_path):
    (tmp_path / "c.csv").write_text("filename\np/NGC1.jpg\np/NGC2.fits.png\n")
    assert list(list_galaxies(tmp_path / "c.csv")["id"]) == ["NGC1", "NGC2.fits"]


def test_home_in_lists_and_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    draw(tmp_path / "home" / "a.png")
    (tmp_path / "c.csv").write_text("file\n~/a.png\n")
    (tmp_path / "l.txt").write_text("~/a.png\n")
    for name in ("c.csv", "l.txt"):
        assert list(list_galaxies(tmp_path / name)["file"]) == [str(tmp_path / "home" / "a.png")]


def test_positions_without_pictures_lead_to_fetch(tmp_path):
    (tmp_path / "c.csv").write_text("name,RA,DEC\na,1,2\n")
    with pytest.raises(CatalogError, match="positions, but no column of pictures; give --fetch"):
        list_galaxies(tmp_path / "c.csv")
    (tmp_path / "c.csv").write_text("name,z\na,1\n")
    with pytest.raises(CatalogError, match=r"no column of pictures; name one of .*, file, path, filename"):
        list_galaxies(tmp_path / "c.csv")


def test_the_record_of_a_fetch_says_why_there_is_no_cutout_and_what_is_wrong_with_one(tmp_path):
    record = {"id": ["a", "b"], "status": ["good", "empty"], "layer": "ls-dr8", "warning": ["band z is empty", ""]}
    record["relative_desi_jpg_loc"] = ["images/jpg/a.jpg", ""]
    (tmp_path / "images").mkdir()
    pd.DataFrame(record).to_parquet(tmp_path / "images" / "fetched.parquet")
    galaxies = list_galaxies(tmp_path / "images" / "fetched.parquet")
    assert list(galaxies["warning"]) == ["band z is empty", ""]
    assert list(galaxies["problem"]) == ["", "all-zero image: outside the footprint of this layer"]
    assert galaxies["file"][0] == str(tmp_path / "images/jpg/a.jpg")


def test_scales_in_the_record_of_a_fetch_are_those_of_its_pictures(tmp_path):
    # 212 px of 0.5 arcsec were taken for 424 px of 0.5.
    draw(tmp_path / "images" / "jpg" / "a.png")
    record = {"id": ["a"], "status": ["good"], "layer": "ls-dr8", "warning": [""], "pixscale": [0.5], "size": [212]}
    record["relative_desi_jpg_loc"] = ["images/jpg/a.png"]
    pd.DataFrame(record).to_parquet(tmp_path / "images" / "fetched.parquet")
    galaxies = list_galaxies(tmp_path / "images" / "fetched.parquet")
    assert galaxies["pixscale"].tolist() == [0.5]
    assert galaxies["own_pixels"].tolist() == [True]


def test_units_of_scales_are_honoured(tmp_path):
    table = Table({"id": ["a"], "file": ["a.jpg"], "pixscale": [0.005] * u.arcmin / u.pix})
    table.write(tmp_path / "c.ecsv")
    assert list_galaxies(tmp_path / "c.ecsv")["pixscale"][0] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("ra", "dec", "values"),
    [
        ("RA (hours)", "Dec (deg)", (10.5, -2.0)),
        ("ra_hours", "dec", (10.5, -2.0)),
        ("RA[h]", "DEC[deg]", (10.5, -2.0)),
        ("ra_rad", "dec_rad", (np.radians(157.5), np.radians(-2.0))),
        ("RA (rad)", "Dec (rad)", (np.radians(157.5), np.radians(-2.0))),
    ],
)
def test_units_in_headers_hold(pictures, ra, dec, values):
    table = pictures / "t.csv"
    pd.DataFrame({"file": ["a.png"], ra: [values[0]], dec: [values[1]]}).to_csv(table, index=False)
    row = list_galaxies(table).iloc[0]
    assert (row.ra, row.dec) == pytest.approx((157.5, -2.0), abs=1e-12)


def test_a_position_that_is_not_found_is_told(pictures):
    pd.DataFrame({"file": ["a.png"], "my_ra": [1.0], "my_dec": [2.0]}).to_csv(pictures / "t.csv", index=False)
    row = list_galaxies(pictures / "t.csv").iloc[0]
    assert np.isnan(row.ra)
    assert row.warning == "no position: is it in the column my_ra? Name its columns ra and dec"


def test_scales_in_degrees_or_beyond_measure_are_unknown_and_units_in_headers_hold(pictures):
    text = "".join(f"a.png,{scale}\n" for scale in ("0.26", "7.3e-5", "0", "-0.3", "1e9", "inf", "True"))
    (pictures / "t.csv").write_text("file,pixscale\n" + text)
    rows = list_galaxies(pictures / "t.csv")
    assert rows["pixscale"].isna().tolist() == [False] + 6 * [True]
    assert all("is no pixel scale: it is unknown" in warning for warning in rows["warning"][1:])
    (pictures / "u.csv").write_text("file,pixscale (arcmin)\na.png,0.01\n")
    assert list_galaxies(pictures / "u.csv")["pixscale"].tolist() == pytest.approx([0.6])


def test_a_table_in_a_text_file_is_no_list_of_files(pictures):
    (pictures / "t.txt").write_text("id file ra dec\nx a.png 1 2\ny b.png 3 4\n")
    rows = list_galaxies(pictures / "t.txt")
    assert rows[["id", "path", "ra"]].to_numpy().tolist() == [["x", "a.png", 1.0], ["y", "b.png", 3.0]]


def test_truth_values_are_no_position(pictures):
    table = Table({"file": ["a.png"], "ra": [True], "dec": [2.0]})
    table.write(pictures / "t.fits")
    row = list_galaxies(pictures / "t.fits").iloc[0]
    assert np.isnan(row.ra) and "cannot be used" in row.warning


@pytest.mark.parametrize(
    ("header", "value"),
    [("pixel_scale", 0.5), ("Pix_Scale", 0.5), ("PIXEL SCALE (arcsec/pix)", 0.5), ("pixscale (mas)", 500)],
)
def test_columns_of_scales_as_people_call_them(pictures, header, value):
    (pictures / "a.csv").write_text(f"file,{header}\na.jpg,{value}\n")
    row = list_galaxies(pictures / "a.csv").iloc[0]
    assert row["pixscale"] == pytest.approx(0.5)
    assert row["own_pixels"]


def test_a_column_without_a_name_is_no_scale(pictures):
    (pictures / "a.csv").write_text("file,\na.jpg,1\n")
    assert not list_galaxies(pictures / "a.csv").iloc[0]["own_pixels"]


def test_rows_with_the_name_of_an_earlier_one_say_so(pictures):
    (pictures / "a.csv").write_text("id,file\n17,a.jpg\n17,a.jpg\n18,a.jpg\n")
    listed = list_galaxies(pictures / "a.csv")
    assert list(listed["id"]) == ["17", "17-2", "18"]
    assert list(listed["warning"]) == ["", "its name repeats that of an earlier row: a number is added", ""]


def test_positions_of_another_equinox_are_not_used(pictures):
    (pictures / "a.csv").write_text("file,ra,dec,equinox\na.jpg,10,20,B1950\n")
    row = list_galaxies(pictures / "a.csv").iloc[0]
    assert np.isnan(row["ra"])
    assert row["warning"].startswith("no position: positions of the equinox B1950")
