"""Galaxy Zoo: 3D files: real ones read right, written ones are like real ones, broken ones are told apart."""

import gzip
import io
import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zoobot_3d.errors import BadFileError, BadMarksError
from zoobot_3d.marks.gz3d import gz3d_file_name, gz3d_grid, read_gz3d, write_gz3d
from zoobot_3d.marks.gz3d_summary import read_gz3d_summary
from zoobot_3d.marks.gz3d_writer import _dbscan
from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.sky.grid import PixelGrid

SMALL = PixelGrid((40, 40), 0.099, 359.9999, -30.0, center=(19.0, 19.0))
BOX = [[9.5, 9.5], [20.5, 9.5], [20.5, 15.1], [9.5, 15.1]]
BOW_TIE = [[5, 5], [25, 25], [25, 5], [5, 25]]


@pytest.fixture(scope="module")
def marks():
    points = [[(20, 20.5)], [(21, 20)], [(22.5, 21)], [(20.5, 23)], [(35, 35)], []]
    stars = [[(5, 5)], [(6, 5), (30, 10)], [(5, 7)], [], [], [(6, 6)]]
    return VolunteerMarks(
        SMALL,
        spiral=PathTask.from_nested([[], [BOX, BOX], [BOW_TIE], [BOX], [[[3, 3]]]], range(1000, 1005), ["x" * 23] * 5),
        bar=PathTask.from_nested([[]] * 3),
        points=PointTask.from_nested(points, stars),
        metadata={"MANGAID": "1-23", "IAUNAME": "J000000.00-300000.0", "nsa_id": 12, "ra": 359.9999, "dec": -30.0},
    )


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)


@pytest.fixture
def file(tmp_path, marks, picture):
    path = tmp_path / gz3d_file_name("1-23", 127, 456)
    write_gz3d(path, marks, picture)
    return path


@pytest.fixture
def real(examples):
    name = "1-379196_127_14728482"
    return examples / "gz3d_marks" / name / f"gz3d_{name}.reconstructed.fits.gz"


def changed(path, change):
    """Rewrite a file after `change` has had its way with the list of HDUs."""
    with fits.open(io.BytesIO(gzip.decompress(path.read_bytes()))) as hdus:
        hdus = fits.HDUList([hdu.copy() for hdu in hdus])
    hdus = change(hdus) or hdus
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    path.write_bytes(gzip.compress(buffer.getvalue(), 1))


# Real files


def test_an_example_file(real):
    file = read_gz3d(real)
    tables = json.loads((real.parent / "hdu5-10_tables.json").read_text())
    assert file.metadata == pytest.approx(tables["5"][0])
    for table, clusters in (("6", file.center_clusters), ("7", file.star_clusters)):
        assert clusters.to_dict("records") == [pytest.approx(row) for row in tables[table]]
    for table, task, column in (("9", file.marks.spiral, "spiral_paths"), ("10", file.marks.bar, "bar_paths")):
        assert list(task.classification_id) == [row["classification_id"] for row in tables[table]]
        assert list(task.time_stamp) == [row["time_stamp"] for row in tables[table]]
        paths = [[path.tolist() for path in row] for row in task.nested()]
        assert paths == [json.loads(row[column]) for row in tables[table]]
    assert file.marks.n_asked == {"spiral": 15, "bar": 15}
    assert [len(row) for row in file.marks.points.star] == [len(json.loads(r["star_points"])) for r in tables["8"]]
    assert file.picture.shape == (525, 525, 3) and file.picture.dtype == np.uint8
    assert VolunteerMarks.from_json(file.marks.to_json()) == file.marks


def test_grid_of_an_example_file(real):
    grid = read_gz3d(real).grid
    assert (grid.shape, grid.center) == ((525, 525), (261.5, 261.5))
    assert grid.pixscale == pytest.approx(0.099, rel=1e-9)
    assert grid == gz3d_grid(grid.ra, grid.dec)
    # Row 0 is north and column 0 east of the position, which lies at 0-based 261.5.
    header = fits.getheader(real, 1)
    for x, y in ((0, 0), (524, 0), (100, 400)):
        np.testing.assert_allclose(grid.pixel_to_sky(x, y), WCS(header).wcs_pix2world(x, y, 0), atol=1e-9)
    assert grid.pixel_to_sky(261.5, 0)[1] > grid.dec and grid.pixel_to_sky(0, 261.5)[0] > grid.ra


def test_example_clusters_and_masks_are_reproduced(real, tmp_path):
    file = read_gz3d(real)
    copy = tmp_path / "copy.fits.gz"
    write_gz3d(copy, file.marks, file.picture)
    again = read_gz3d(copy)
    assert again.marks == file.marks and again.grid == file.grid
    for name in ("picture", "center_mask", "star_mask", "spiral_mask", "bar_mask"):
        np.testing.assert_array_equal(getattr(again, name), getattr(file, name), err_msg=name)
    for name in ("center_clusters", "star_clusters"):
        theirs, ours = getattr(file, name), getattr(again, name)
        assert list(ours.columns) == list(theirs.columns)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-14, err_msg=name)
    theirs, ours = fits.getheader(real, 1), fits.getheader(copy, 1)
    assert list(ours) == list(theirs)
    assert list(ours.values()) == [pytest.approx(v) if isinstance(v, float) else v for v in theirs.values()]
    with fits.open(copy) as ours, fits.open(real) as theirs:
        for number in (5, 6, 7, 8, 9, 10):
            assert ours[number].columns.names == theirs[number].columns.names
            kinds = [[form[-1] for form in hdus[number].columns.formats] for hdus in (ours, theirs)]
            assert kinds[0] == kinds[1]
        assert ours[5].columns.formats == theirs[5].columns.formats


# Written files


def test_a_written_file_has_the_layout_of_a_real_one(file, marks):
    with fits.open(file) as hdus:
        hdus.verify("exception")
        assert len(hdus) == 11 and all(hdu.name in ("", "PRIMARY") for hdu in hdus)
        assert hdus[0].data.shape == (40, 40, 3) and hdus[0].data.dtype == np.uint8
        assert all(hdus[k].data.dtype == np.dtype(">f8") and hdus[k].data.shape == (40, 40) for k in (1, 2, 3, 4))
        assert hdus[5].columns.formats == ["E", "E", "11A", "19A", "D", "D", "K", "90A", "I", "I", "I", "70A"]
        assert hdus[9].columns.names == ["classification_id", "time_stamp", "spiral_paths"]
        assert hdus[10].columns.formats == ["K", "1A", "2A"]  # all blank: two characters suffice
        assert [str(text) for text in hdus[10].data["bar_paths"]] == ["[]"] * 3
        wcs = WCS(hdus[1].header)
        np.testing.assert_allclose(wcs.wcs_pix2world(19, 19, 0), (SMALL.ra, SMALL.dec))
        assert hdus[1].header["CRPIX1"] == 20


def test_round_trip(file, marks, picture):
    again = read_gz3d(file)
    assert again.marks.spiral == marks.spiral
    assert again.marks.bar == marks.bar
    assert again.marks.points == marks.points
    assert again.metadata["MANGAID"] == "1-23" and again.metadata["nsa_id"] == 12
    assert again.metadata["IFUDESIGNSIZE"] is None and again.metadata["sample"] == ""
    np.testing.assert_array_equal(again.picture, picture)
    assert VolunteerMarks.from_json(again.marks.to_json()) == again.marks


def test_official_path_masks(file):
    """They count paths, and leave the bow tie out; votes count people, and keep it."""
    again = read_gz3d(file)
    assert again.spiral_mask.max() == 3 and again.spiral_mask[24, 24] == 0
    assert again.spiral_mask.sum() == 3 * 11 * 6
    assert not again.bar_mask.any()
    votes = again.marks.votes()[0]
    assert votes.max() == 3 and votes[10, 12] == 2 and votes[20, 24] == 1


def test_official_clusters(file):
    again = read_gz3d(file)
    centers, stars = again.center_clusters, again.star_clusters
    assert (len(centers), len(stars)) == (1, 1)
    row = centers.iloc[0]
    points = np.array([(20, 20.5), (21, 20), (22.5, 21), (20.5, 23)])
    assert row["count"] == 4 and stars["count"][0] == 4
    assert (row.x, row.y) == pytest.approx(tuple(points.mean(axis=0)))
    assert (row.var_x, row.var_x_y) == pytest.approx((np.cov(points.T)[0, 0], np.cov(points.T)[0, 1]))
    step = 0.099 / 3600
    # Beyond 360 deg, as the reference is: a mean over the seam would be near 180. Counted from 1, as the real ones.
    assert row.ra == pytest.approx(SMALL.ra - (row.x - 20) * step / np.cos(np.radians(30)), abs=1e-8)
    assert row.dec == pytest.approx(-30 - (row.y - 20) * step, abs=1e-8)
    assert row.var_dec == pytest.approx(row.var_y * step**2, rel=1e-4)
    assert set(np.unique(again.center_mask)) == {0, 4}
    area = np.pi * 4 * np.sqrt(np.linalg.det(np.cov(points.T)))
    assert (again.center_mask > 0).sum() == pytest.approx(area, rel=0.2)
    assert again.center_mask[round(row.y), round(row.x)] == 4


def test_no_clusters_is_an_empty_table_of_floats(tmp_path, picture):
    marks = VolunteerMarks(SMALL, PathTask.from_nested([]), PathTask.from_nested([[]]))
    path = tmp_path / "blank.fits.gz"
    write_gz3d(path, marks, picture)
    with fits.open(path) as hdus:
        assert hdus[6].columns.formats == ["D"] * 11
    again = read_gz3d(path)
    assert again.center_clusters.empty and list(again.star_clusters.columns)[-1] == "count"
    assert again.marks.n_asked == {"spiral": 0, "bar": 1}
    assert not again.center_mask.any()


def test_equal_marks_are_equal_files(file, tmp_path, marks, picture):
    other = tmp_path / "other.fits.gz"
    write_gz3d(other, marks, picture)
    assert other.read_bytes() == file.read_bytes()
    assert other.read_bytes()[4:8] == b"\0\0\0\0"  # gzip's time stamp
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([file.name, other.name])


def test_what_cannot_be_written(tmp_path, marks, picture):
    with pytest.raises(BadMarksError, match=r"picture is uint8 \(39, 40, 3\)"):
        write_gz3d(tmp_path / "x.fits.gz", marks, picture[1:])
    floating = VolunteerMarks(PixelGrid((40, 40), 0.099), marks.spiral, marks.bar)
    with pytest.raises(BadMarksError, match="no position"):
        write_gz3d(tmp_path / "x.fits.gz", floating, picture)
    assert not list(tmp_path.iterdir())


def test_unzipped_files_are_read_too(file, tmp_path, marks):
    plain = tmp_path / "plain.fits"
    plain.write_bytes(gzip.decompress(file.read_bytes()))
    assert read_gz3d(plain).marks.spiral == marks.spiral


def test_dbscan():
    row = np.array([[0.0, 0], [5, 0], [10, 0], [40, 0], [45, 0], [22, 0], [23, 0], [24, 0], [50.1, 0]])
    # 0-5-10 hangs together through 5 alone, which has three within 5 px; 40-45-50.1 does not, by 0.1 px.
    assert _dbscan(row).tolist() == [0, 0, 0, -1, -1, 1, 1, 1, -1]
    assert _dbscan(np.empty((0, 2))).tolist() == []
    # A border point between two clusters goes to the first.
    shared = np.array([[10.0, 0], [0, 0], [1, 0], [5.5, 0], [11, 0], [9.9, 0], [0.9, 0]])
    assert _dbscan(shared).tolist()[3] == _dbscan(shared).tolist()[0] == 0


# Broken files


def broken(path, message):
    with pytest.raises(BadFileError, match=message) as error:
        read_gz3d(path)
    text = str(error.value)
    assert str(path) in text and "\n" not in text
    return text


def test_missing(tmp_path):
    broken(tmp_path / "none.fits.gz", "no such file")


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.999])
def test_truncated_gzip(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    assert "download it again" in broken(file, "truncated or corrupt gzip")


def test_flipped_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    broken(file, "truncated or corrupt gzip")


@pytest.mark.parametrize(("content", "message"), [(b"", "empty file"), (b"<html>404</html>", "not a FITS file")])
def test_not_fits(tmp_path, content, message):
    path = tmp_path / "page.fits.gz"
    path.write_bytes(content)
    broken(path, message)
    path.write_bytes(gzip.compress(content))
    broken(path, message)


def test_truncated_fits(file, tmp_path):
    content = gzip.decompress(file.read_bytes())
    plain = tmp_path / "cut.fits"
    for keep in (len(content) - 2880, len(content) // 2, 30_000, 4000, 100):
        plain.write_bytes(content[:keep])
        broken(plain, "HDU|cannot be read")


def test_fewer_hdus(file):
    changed(file, lambda hdus: hdus[:10])
    broken(file, "HDU 10 is missing: 10 HDUs of 11")


def test_broken_json_in_one_row(file):
    def change(hdus):
        hdus[9].data["spiral_paths"][3] = hdus[9].data["spiral_paths"][3][:-4]

    changed(file, change)
    broken(file, "HDU 9, row 3: spiral_paths is broken JSON")


@pytest.mark.parametrize(
    ("hdu", "column", "text", "message"),
    [
        (9, "spiral_paths", "{}", "HDU 9, row 1: spiral_paths is not a list"),
        (9, "spiral_paths", "[[[1,2],[3]]]", "HDU 9, spiral_paths: row 1, path 0: must be"),
        (9, "spiral_paths", "[[[1,2],[1e999,3]]]", "HDU 9, spiral_paths: row 1, path 0: vertex 1 is"),
        (9, "spiral_paths", "[[1,2],[3,4]]", "HDU 9, spiral_paths: row 1, path 0: must be"),
        (8, "star_points", "[[1]]", "HDU 8, row 1: star_points is not"),
        (8, "center_points", "[1,2", "HDU 8, row 1: center_points is broken JSON"),
    ],
)
def test_marks_that_are_no_marks(file, hdu, column, text, message):
    def change(hdus):
        hdus[hdu].data[column][1] = text

    changed(file, change)
    broken(file, message)


def test_points_without_a_coordinate_are_left_out(file):
    """As by the official clusters; some early classifications hold null."""

    def change(hdus):
        hdus[8].data["center_points"][0] = "[[null,3]]"

    changed(file, change)
    assert read_gz3d(file).marks.points.center[:2] == ((), ((21.0, 20.0),))


def test_missing_column(file):
    def change(hdus):
        hdus[10] = fits.BinTableHDU.from_columns(hdus[10].columns[:2])

    changed(file, change)
    broken(file, "HDU 10 has no column 'bar_paths'")


@pytest.mark.parametrize("hdu", [0, 1, 3])
def test_wrong_shape(file, hdu):
    def change(hdus):
        hdus[hdu].data = hdus[hdu].data[1:]

    changed(file, change)
    broken(file, r"HDU \d has the wrong shape")


def test_no_wcs(file):
    def change(hdus):
        hdus[1] = fits.ImageHDU(hdus[1].data)

    changed(file, change)
    broken(file, "HDU 1: no usable WCS")


def test_upside_down(file):
    def change(hdus):
        hdus[1].header["PC2_2"] *= -1

    changed(file, change)
    broken(file, "HDU 1: the WCS puts row 0 in the south")


def test_no_galaxy(file):
    def change(hdus):
        hdus[5] = fits.BinTableHDU(hdus[5].data[:0])

    changed(file, change)
    broken(file, "HDU 5 has 0 rows, not 1")


def test_rows_of_one_classification_are_one_volunteer(file, marks):
    before = read_gz3d(file).marks
    ids, paths = before.spiral.classification_id, before.spiral.nested()

    def change(hdus):
        for hdu in (8, 9, 10):
            hdus[hdu].data["classification_id"][2] = hdus[hdu].data["classification_id"][0]

    changed(file, change)
    after = read_gz3d(file).marks
    assert after.n_asked == {name: n - 1 for name, n in before.n_asked.items()}
    assert after.spiral.classification_id == tuple(name for row, name in enumerate(ids) if row != 2)
    merged = after.spiral.nested()
    assert [len(each) for each in merged] == [
        len(paths[0]) + len(paths[2]),
        *(len(paths[i]) for i in range(1, len(ids)) if i != 2),
    ]
    votes, once = after.votes()[0], before.votes()[0]
    assert (votes <= once).all() and votes.max() <= len(ids) - 1
    summary = read_gz3d_summary(file)
    assert (summary.n_asked, summary.n_marked) == (after.n_asked, after.n_marked)


@pytest.mark.parametrize("gap", ["null", "NaN"])
def test_vertices_without_a_coordinate_are_dropped_and_counted(file, gap):
    whole = "[[[10,10],[200,10],[200,200],[10,200]]]"
    text = f"[[[10,10],[{gap},50],[200,10],[200,200],[7,{gap}],[10,200]], [[{gap},{gap}]]]"

    def change(content):
        def of(hdus):
            hdus[9].data["spiral_paths"][1] = content

        return of

    changed(file, change(whole))
    expected = read_gz3d(file)
    changed(file, change(text))
    found = read_gz3d(file)
    assert (expected.dropped_vertices, found.dropped_vertices) == (0, 3)
    np.testing.assert_array_equal(found.marks.votes(), expected.marks.votes())
    assert read_gz3d_summary(file).n_marked == found.marks.n_marked == expected.marks.n_marked


def test_a_column_that_begins_like_a_comment(file):
    before = read_gz3d(file).metadata

    def change(hdus):
        hdus[5].columns.change_name("MANGA_TILEID", "#MANGA_TILEID")

    changed(file, change)
    assert read_gz3d(file).metadata == before
    assert read_gz3d_summary(file).metadata == before
