import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zoobot_3d import io
from zoobot_3d.errors import BadFileError
from zoobot_3d.sky.grid import PixelGrid

GRID = PixelGrid((4, 6), 0.262, ra=30.0, dec=40.0)
CUBE = np.arange(72, dtype=np.float32).reshape(3, 4, 6)


def test_cutouts_are_stored_from_the_south_and_read_from_the_north(tmp_path):
    io.write_cutout(tmp_path / "a.fits", CUBE, GRID, VERSION="DR9")
    stored = fits.open(tmp_path / "a.fits")[0]
    np.testing.assert_array_equal(stored.data[:, 0], CUBE[:, -1])
    assert stored.header["VERSION"] == "DR9" and stored.header["BANDS"] == "grz"
    cube, grid = io.read_cutout(tmp_path / "a.fits")
    np.testing.assert_array_equal(cube, CUBE)
    assert grid.shape == GRID.shape and grid.reference_pixel == pytest.approx(GRID.reference_pixel)
    assert grid.ra == pytest.approx(30.0) and grid.dec == pytest.approx(40.0)


def test_a_file_that_starts_in_the_north_is_not_flipped(tmp_path):
    fits.PrimaryHDU(CUBE, GRID.wcs.to_header()).writeto(tmp_path / "north.fits")
    np.testing.assert_array_equal(io.read_cutout(tmp_path / "north.fits")[0], CUBE)


def test_example_cutouts(examples):
    cube, grid = io.read_cutout(examples / "desi_fits" / "d33102_temp_small.fits")
    assert cube.shape == (3, 225, 225)
    assert grid.pixscale == pytest.approx(0.262) and grid.reference_pixel == pytest.approx(grid.middle)
    with pytest.raises(BadFileError, match=r"incomplete\.fits: truncated.*download it again"):
        io.read_cutout(examples / "desi_fits" / "83e22c_example_incomplete.fits")


def test_masks_land_on_the_sky_where_they_were(tmp_path):
    masks = np.zeros((2, 4, 6), np.float32)
    masks[0, 0, 1] = 0.5  # second column from the east in the northernmost row
    io.write_mask_fits(tmp_path / "m.fits", masks, GRID)
    with fits.open(tmp_path / "m.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SPIRAL", "BAR"] and hdus[0].data is None
        row, column = np.argwhere(hdus["SPIRAL"].data == 0.5)[0]
        ra, dec = WCS(hdus["SPIRAL"].header).all_pix2world(column, row, 0)
        assert WCS(hdus["BAR"].header).wcs.compare(WCS(hdus["SPIRAL"].header).wcs)
    expected = GRID.pixel_to_sky(1, 0)
    assert (ra, dec) == pytest.approx((float(expected[0]), float(expected[1])), abs=1e-8)


def test_masks_without_a_position_keep_their_scale(tmp_path):
    io.write_mask_fits(tmp_path / "m.fits", np.zeros((2, 4, 6)), PixelGrid((4, 6), 0.5))
    header = fits.getheader(tmp_path / "m.fits", "BAR")
    assert header["PIXSCALE"] == 0.5 and "CRVAL1" not in header
    io.write_mask_fits(tmp_path / "m.fits", np.zeros((2, 4, 6)), PixelGrid((4, 6), np.nan))
    assert "PIXSCALE" not in fits.getheader(tmp_path / "m.fits", "BAR")


def test_pictures_round_trip(tmp_path):
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:8, :, 0] = 200  # red in the north
    io.write_png(tmp_path / "p.png", picture)
    np.testing.assert_array_equal(io.read_picture(tmp_path / "p.png"), picture)
    io.write_jpeg(tmp_path / "p.jpg", picture)
    assert np.abs(io.read_picture(tmp_path / "p.jpg").astype(int) - picture).mean() < 5


def test_mask_png_keeps_fractions_to_half_a_level():
    mask = np.array([[0.0, 0.2, 1.0], [0.5, -1.0, np.nan]], np.float32)
    back = io.decode_mask_png(io.encode_mask_png(mask))
    np.testing.assert_allclose(back, [[0, 0.2, 1], [0.5, 0, 0]], atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty file"), (b"hello", "not a readable"), (b"\xff\xd8\xff\xe0abc", "truncated or damaged picture")],
)
def test_bad_pictures_say_what_is_wrong(tmp_path, content, message):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(BadFileError, match=rf"x\.jpg: {message}"):
        io.read_picture(tmp_path / "x.jpg")


def test_missing_picture(tmp_path):
    with pytest.raises(BadFileError, match="check the path"):
        io.read_picture(tmp_path / "none.jpg")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    io.write_atomic(tmp_path / "f.txt", "old")
    with pytest.raises(RuntimeError), io.atomic_path(tmp_path / "f.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "f.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.fits"])
def test_tables_by_extension(tmp_path, name):
    import pandas as pd
    from astropy.table import Table

    frame = pd.DataFrame({"id": ["a", "b"], "ra": [1.0, 2.0]})
    {
        "csv": lambda: frame.to_csv(tmp_path / name, index=False),
        "parquet": lambda: io.write_parquet(tmp_path / name, frame),
        "fits": lambda: Table.from_pandas(frame).write(tmp_path / name),
    }[name.split(".")[-1]]()
    back = io.read_table(tmp_path / name)
    assert list(back["id"]) == ["a", "b"] and list(back["ra"]) == [1.0, 2.0]
    assert list(io.read_table(tmp_path / name, columns=["ra"]).columns) == ["ra"]


def test_tables_that_cannot_be_read(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"junk")
    with pytest.raises(BadFileError, match="text, not the kind of table that its name says"):
        io.read_table(tmp_path / "t.parquet")
    with pytest.raises(BadFileError, match="no such file"):
        io.read_table(tmp_path / "t.xls")


def test_categories_are_plain_columns(tmp_path):
    frame = pd.DataFrame(
        {
            "text": pd.Categorical(["a", None, "b"]),
            "number": pd.Categorical([2**60 + 1, 2**60 + 3, None]),
            "plain": [1.0, 2.0, 3.0],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    found = io.read_table(tmp_path / "t.parquet")
    assert not any(isinstance(kind, pd.CategoricalDtype) for kind in found.dtypes)
    assert found["text"].fillna("").tolist() == ["a", "", "b"]
    assert [int(value) for value in found["number"].dropna()] == [2**60 + 1, 2**60 + 3]


def test_a_figure_of_an_unknown_format_is_refused_in_one_line(tmp_path):
    from matplotlib.figure import Figure

    with pytest.raises(BadFileError, match=r"a\.xyz: figures are not written as \.xyz; give a name that ends in \.png"):
        io.write_figure(Figure(), tmp_path / "a.xyz")
    io.write_figure(Figure(), tmp_path / "a.PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["a.PNG"]
