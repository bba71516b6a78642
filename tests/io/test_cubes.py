"""FITS images of galaxies in every form: the same light at the same place, or one line that says why not."""

import gzip
import os

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoobot_3d import io
from zoobot_3d.errors import BadFileError, ConfigError, Zoobot3DError
from zoobot_3d.io.cubes import open_cutout

N = 48
STEP = 0.4 / 3600
PLACE = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 40.0, "CRPIX1": N / 2 + 0.5,
    "CRPIX2": N / 2 + 0.5, "CDELT1": -STEP, "CDELT2": STEP,
}  # fmt: skip


def galaxy():
    """(3, N, N) g, r, z as stored; brighter in the south-east, so that no flip goes unseen."""
    yy, xx = np.mgrid[:N, :N]
    shape = np.exp(-np.hypot(xx - N / 2, (yy - N / 2) * 1.4) / 9) * (1.5 - xx / N * 0.5 - yy / N * 0.5)
    return (np.array([0.06, 0.12, 0.2])[:, None, None] * shape).astype(np.float32)


CUBE = galaxy()


def write(path, data=CUBE, **cards):
    hdu = fits.PrimaryHDU(data)
    hdu.header.update({"BANDS": "grz"} | PLACE | cards)
    hdu.writeto(path)
    return path


def assert_same(cutout, rtol=1e-5):
    np.testing.assert_allclose(cutout.cube, CUBE[:, ::-1], rtol=rtol, atol=1e-7)
    assert (cutout.grid.ra, cutout.grid.dec) == pytest.approx((150, 40), abs=1e-9)
    assert cutout.grid.pixscale == pytest.approx(0.4)


def test_a_plain_cutout_has_no_notes(tmp_path):
    cutout = open_cutout(write(tmp_path / "a.fits"))
    assert_same(cutout)
    assert cutout.notes == ()
    cube, grid = io.read_cutout(tmp_path / "a.fits")
    np.testing.assert_array_equal(cube, cutout.cube)
    assert grid == cutout.grid


@pytest.mark.parametrize(
    "kind", ["gzip", "HDU 1", "fpack", "float64", "scaled integers", "extra axis", "trailing bytes"]
)
def test_one_image_in_many_packings(tmp_path, kind):
    path = tmp_path / "a.fits"
    header = fits.Header({"BANDS": "grz"} | PLACE)
    match kind:
        case "gzip":
            write(tmp_path / "plain.fits")
            path = tmp_path / "a.fits.gz"
            path.write_bytes(gzip.compress((tmp_path / "plain.fits").read_bytes()))
        case "HDU 1":
            fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(CUBE, header)]).writeto(path)
        case "fpack":
            path = tmp_path / "a.fits.fz"
            hdu = fits.CompImageHDU(CUBE, header, compression_type="GZIP_2", quantize_level=0)
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
        case "float64":
            fits.PrimaryHDU(CUBE.astype(np.float64), header).writeto(path)
        case "scaled integers":
            hdu = fits.PrimaryHDU(CUBE.astype(np.float64), header)
            hdu.scale("int32", bscale=1e-9, bzero=0.1)
            hdu.writeto(path)
        case "extra axis":
            fits.PrimaryHDU(CUBE[None], header).writeto(path)
        case "trailing bytes":
            write(path)
            path.write_bytes(path.read_bytes() + b"\0" * 100)
    cutout = open_cutout(path)
    assert_same(cutout, rtol=1e-4)
    assert cutout.notes == ()


def test_what_the_first_header_says_of_light_holds_for_the_image_but_not_its_place(tmp_path):
    first = fits.PrimaryHDU()
    first.header.update({"BANDS": "zrg", "BUNIT": "Jy", "CRVAL1": 5.0, "CD1_2": 7.0})
    image = fits.ImageHDU(CUBE[::-1] * np.float32(3.631e-6))
    image.header.update(PLACE)
    fits.HDUList([first, image]).writeto(tmp_path / "a.fits")
    cutout = open_cutout(tmp_path / "a.fits")
    assert_same(cutout)
    assert cutout.notes == ("Jy converted to nanomaggies",)


def test_bands_units_and_place_are_converted_together(tmp_path):
    turned = np.rot90(CUBE, 1, (1, 2))  # as stored: x' = y, y' = N - 1 - x
    cd = {"CD1_1": 0.0, "CD1_2": STEP, "CD2_1": STEP, "CD2_2": 0.0}
    place = {key: value for key, value in PLACE.items() if not key.startswith("CDELT")}
    hdu = fits.PrimaryHDU((turned[[2, 0, 1]] * 10 ** (0.4 * 4.5)).astype(np.float32))
    hdu.header.update(place | cd | {"BANDS": "zgr", "BUNIT": "ADU", "MAGZERO": 27.0})
    hdu.writeto(tmp_path / "a.fits")
    cutout = open_cutout(tmp_path / "a.fits")
    assert_same(cutout, rtol=1e-3)
    assert cutout.notes == (
        "ADU with zero point 27 mag (MAGZERO): converted to nanomaggies",
        "rotated by 90 deg: resampled to north up",
    )


def test_a_turned_image_says_how_much_of_the_picture_is_empty(tmp_path):
    cutout = open_cutout(write(tmp_path / "a.fits", CROTA2=45.0))
    assert cutout.notes == ("rotated by 45 deg: resampled to north up, 18% of it is empty",)
    assert np.mean(cutout.cube[0] == 0) == pytest.approx(1 - 0.828, abs=0.015)  # a square and a turned one share 82.8%


def test_missing_pixels_are_zero_also_in_a_turned_image(tmp_path):
    holes = CUBE.copy()
    holes[1, 20, 20], holes[2, 3, 3], holes[0, 5, 5] = np.nan, np.inf, -np.inf
    for index, cards in enumerate(({}, {"CROTA2": 10.0}, {"BANDS": "zrg"})):
        assert np.isfinite(open_cutout(write(tmp_path / f"{index}.fits", holes, **cards)).cube).all()


def test_one_band_in_two_axes_is_grey(tmp_path):
    cutout = open_cutout(write(tmp_path / "a.fits", CUBE[1], BANDS="r", BUNIT="nanomaggy"))
    np.testing.assert_allclose(cutout.cube[1], CUBE[1, ::-1])
    assert cutout.notes == ("one band (r): shown in grey",)
    assert cutout.cube.shape == (3, N, N) and cutout.grid.pixscale == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("cards", "scale", "note"),
    [
        ({}, np.nan, None),
        ({"PIXSCALE": 0.5}, 0.5, None),
        ({"PIXSCALE": -1.0}, np.nan, "PIXSCALE -1.0 is no scale"),
        ({"PIXSCALE": "fine"}, np.nan, "PIXSCALE 'fine' is no scale"),
    ],
)
def test_without_world_coordinates_the_scale_is_that_of_the_card_or_unknown(tmp_path, cards, scale, note):
    hdu = fits.PrimaryHDU(CUBE)
    hdu.header.update({"BANDS": "grz"} | cards)
    hdu.writeto(tmp_path / "a.fits")
    cutout = open_cutout(tmp_path / "a.fits")
    assert cutout.grid.ra is None and cutout.grid.pixscale == pytest.approx(scale, nan_ok=True)
    assert len(cutout.notes) == (note is not None) and (note is None or note in cutout.notes[0])
    np.testing.assert_array_equal(cutout.cube, CUBE[:, ::-1])


def test_a_scale_that_is_told_in_two_ways(tmp_path):
    cutout = open_cutout(write(tmp_path / "a.fits", PIXSCALE=0.5))
    assert cutout.grid.pixscale == pytest.approx(0.4)
    assert cutout.notes == ("PIXSCALE 0.5 is not that of the WCS, 0.4: the WCS is taken",)
    assert open_cutout(write(tmp_path / "b.fits", PIXSCALE=0.4)).notes == ()


def test_the_row_of_a_far_reference_pixel_is_the_middle(tmp_path):
    cutout = open_cutout(write(tmp_path / "a.fits", CRPIX1=3.0))
    assert cutout.grid.reference_pixel == cutout.grid.middle
    east = (N / 2 + 0.5 - 3) * STEP / np.cos(np.radians(40))
    assert cutout.grid.ra == pytest.approx(150 - east, abs=1e-6)
    io.write_cutout(tmp_path / "b.fits", cutout.cube, cutout.grid)
    again = open_cutout(tmp_path / "b.fits")
    assert (again.grid.ra, again.grid.dec) == pytest.approx((cutout.grid.ra, cutout.grid.dec), abs=1e-9)


def test_a_file_of_several_images_says_which_is_taken(tmp_path):
    images = [fits.ImageHDU(CUBE, fits.Header({"BANDS": "grz"} | PLACE)), fits.ImageHDU(CUBE * 0, name="INVVAR")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "a.fits")
    cutout = open_cutout(tmp_path / "a.fits")
    assert_same(cutout)
    assert cutout.notes == ("2 images in the file: that of HDU 1 is taken",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file; download it again"),
        (b"hello", "truncated or not a FITS file"),
        (b"\x1f\x8b" + b"hello" * 9, "broken gzip file"),
        (b"BZh91AY&SY", "packed with bzip2; unpack it"),
        (b"PK\x03\x04....", "packed with zip"),
    ],
)
def test_files_that_are_no_fits(tmp_path, content, message):
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(BadFileError, match=rf"a\.fits: .*{message}"):
        open_cutout(tmp_path / "a.fits")


def test_a_truncated_file_is_refused(tmp_path):
    content = write(tmp_path / "a.fits").read_bytes()
    for length in (2880 * 3 + 1, len(content) - 2880, 5000):
        (tmp_path / "b.fits").write_bytes(content[:length])
        with pytest.raises(BadFileError, match="truncated"):
            open_cutout(tmp_path / "b.fits")
        (tmp_path / "b.fits.gz").write_bytes(gzip.compress(content)[: length // 4])
        with pytest.raises(BadFileError, match="truncated"):
            open_cutout(tmp_path / "b.fits.gz")
    bare = content[: 2880 + CUBE.nbytes]  # without the padding at the end, all of the image is there
    (tmp_path / "c.fits").write_bytes(bare)
    assert_same(open_cutout(tmp_path / "c.fits"))


def test_what_is_no_file_or_no_image(tmp_path):
    with pytest.raises(BadFileError, match="a folder"):
        open_cutout(tmp_path)
    with pytest.raises(BadFileError, match="no such file"):
        open_cutout(tmp_path / "none.fits")
    os.mkfifo(tmp_path / "pipe.fits")
    with pytest.raises(BadFileError, match="a pipe"):
        open_cutout(tmp_path / "pipe.fits")
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    fits.PrimaryHDU(np.zeros(9)).writeto(tmp_path / "line.fits")
    for name in ("empty.fits", "line.fits"):
        with pytest.raises(BadFileError, match="no image"):
            open_cutout(tmp_path / name)
    fits.PrimaryHDU(np.zeros((2, 3, 4, 5))).writeto(tmp_path / "four.fits")
    with pytest.raises(BadFileError, match=r"shape \(2, 3, 4, 5\)"):
        open_cutout(tmp_path / "four.fits")


def test_a_size_beyond_the_limit_is_refused_before_the_data_are_read(tmp_path, monkeypatch):
    write(tmp_path / "a.fits")
    with pytest.raises(BadFileError, match=r"6,912 values, more than 6,000"):
        open_cutout(tmp_path / "a.fits", max_pixels=2000)
    monkeypatch.setenv("ZOOBOT3D_MAX_PIXELS", "2303")
    with pytest.raises(BadFileError, match=r"more than 6,909; cut the galaxy out first, or set ZOOBOT3D_MAX_PIXELS"):
        open_cutout(tmp_path / "a.fits")
    monkeypatch.setenv("ZOOBOT3D_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="ZOOBOT3D_MAX_PIXELS=many: not a number of pixels"):
        open_cutout(tmp_path / "a.fits")
    monkeypatch.delenv("ZOOBOT3D_MAX_PIXELS")
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 3, "NAXIS1": 10**6, "NAXIS2": 10**6, "NAXIS3": 3})
    (tmp_path / "claims.fits").write_bytes(header.tostring().encode() + b"\0" * 2880)
    with pytest.raises(BadFileError, match="3,000,000,000,000 values"):
        open_cutout(tmp_path / "claims.fits")
    (tmp_path / "bomb.fits.gz").write_bytes(gzip.compress(header.tostring().encode() + b"\0" * 60_000_000))
    with pytest.raises(BadFileError, match="larger than 17 MB"):
        open_cutout(tmp_path / "bomb.fits.gz", max_pixels=2000)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"BANDS": "abc"}, "'a' is no known band"),
        ({"BUNIT": "erg/s/cm2/Angstrom"}, "cannot be made nanomaggies"),
        ({"CTYPE1": "RA----TAN"}, "world coordinates cannot be understood"),
        ({"CDELT1": 0.0}, "world coordinates cannot be understood"),
        ({"RADESYS": "FK9"}, "FK9"),
    ],
)
def test_headers_that_cannot_be_understood_name_the_file(tmp_path, cards, message):
    with pytest.raises(BadFileError, match=rf"a\.fits: .*{message}") as caught:
        open_cutout(write(tmp_path / "a.fits", **cards))
    assert "\n" not in str(caught.value)


CARDS = (
    "CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CDELT1", "CDELT2", "CD1_1", "CD1_2", "CD2_1", "CD2_2",
    "PC1_1", "PC1_2", "CROTA2", "CUNIT1", "LONPOLE", "LATPOLE", "RADESYS", "EQUINOX", "EPOCH", "PV1_1", "PV2_1",
    "PV2_3", "A_ORDER", "B_ORDER", "A_2_0", "B_0_2", "AP_ORDER", "WCSAXES", "CTYPE3", "CRPIX999", "CD3_1", "CPDIS1",
    "D2IMDIS1", "PS1_0", "BANDS", "BAND0", "BUNIT", "MAGZERO", "PHOTZP", "FLUXMAG0", "MAGSYS", "PIXSCALE", "FILTER",
)  # fmt: skip
WORDS = (
    "RA---TAN", "DEC--TAN", "RA---SIN", "DEC--CAR", "GLON-TAN", "GLAT-TAN", "ELON-ARC", "RA---TAN-SIP", "RA---TPV",
    "RA---TAB", "DEC--ZPN", "HPX", "LINEAR", "", "deg", "arcsec", "m", "FK4", "FK5", "ICRS", "NaN", "grz", "zzz", "riz",
    "Jy", "ADU", "nmgy", "erg/s/cm2/AA", "1e400", "/", "((", "Lookup",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(WORDS),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-400, 400),
    st.integers(-3, 40),
    st.integers(-(10**12), 10**12),
    st.booleans(),
    st.text("ABCRDE-12 /'", max_size=12),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(CARDS), VALUES, max_size=6))
def test_any_header_is_read_or_refused_in_the_packages_own_words(tmp_path, cards):
    hdu = fits.PrimaryHDU(CUBE)
    hdu.header.update({"BANDS": "grz"} | PLACE | cards)
    hdu.writeto(tmp_path / "a.fits", overwrite=True, output_verify="silentfix+ignore")
    try:
        cutout = open_cutout(tmp_path / "a.fits")
    except Zoobot3DError as error:
        assert "a.fits" in str(error) and "\n" not in str(error)
    else:
        assert cutout.cube.shape == CUBE.shape and np.isfinite(cutout.cube).all()
        assert cutout.grid.ra is None or np.isfinite([cutout.grid.ra, cutout.grid.dec, cutout.grid.pixscale]).all()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 12), st.lists(st.tuples(st.integers(0, 2879), st.integers(0, 255)), max_size=8), st.booleans())
def test_any_damage_is_read_or_refused_in_the_packages_own_words(tmp_path, blocks, flips, packed):
    content = bytearray(write(tmp_path / "plain.fits").read_bytes())
    (tmp_path / "plain.fits").unlink()
    for at, byte in flips:
        content[at] = byte
    damaged = bytes(content) if blocks == 12 else bytes(content[: 2880 * blocks + 7])
    (tmp_path / "a.fits").write_bytes(gzip.compress(damaged) if packed else damaged)
    try:
        cutout = open_cutout(tmp_path / "a.fits")
    except Zoobot3DError as error:
        assert "a.fits" in str(error) and "\n" not in str(error)
    else:
        assert np.isfinite(cutout.cube).all()


@pytest.mark.parametrize("mark", [-99.0, -999.0, -9999.0, -32768.0, -1e30, 1e30, 3.4e38])
def test_numbers_that_stand_for_missing_values_are_no_light(tmp_path, mark):
    data = CUBE.copy()
    data[:, 3:5, 7] = mark
    cutout = open_cutout(write(tmp_path / "a.fits", data))
    expected = CUBE.copy()
    expected[:, 3:5, 7] = 0
    np.testing.assert_array_equal(cutout.cube, expected[:, ::-1])
    how = "beyond 1e+20" if abs(mark) > 1e20 else f"of {mark:g}"
    assert cutout.notes == (f"6 values {how} taken as missing",)


def test_a_negative_value_among_others_is_light(tmp_path):
    data = CUBE.copy()
    data[0, 3, 7], data[0, 4, 7] = -99, -70
    cutout = open_cutout(write(tmp_path / "a.fits", data))
    assert cutout.cube.min() == -99
    assert cutout.notes == ()


@pytest.mark.parametrize(
    "said", [{"EXTNAME": "WEIGHT"}, {"EXTNAME": "SCI_INVVAR"}, {"EXTNAME": "DQ"}, {"IMTYPE": "invvar"}]
)
def test_an_image_of_weights_or_errors_is_never_taken_for_the_light(tmp_path, said):
    weights, image = fits.ImageHDU(np.full_like(CUBE, 400), fits.Header(PLACE | said)), fits.ImageHDU(CUBE)
    image.header.update(PLACE | {"BANDS": "grz"})
    fits.HDUList([fits.PrimaryHDU(), weights, image]).writeto(tmp_path / "a.fits")
    cutout = open_cutout(tmp_path / "a.fits")
    assert_same(cutout)
    assert cutout.notes == ("2 images in the file: that of HDU 2 is taken",)
    fits.HDUList([fits.PrimaryHDU(), weights]).writeto(tmp_path / "b.fits")
    with pytest.raises(BadFileError, match=r"HDU 1 is said to be (WEIGHT|INVVAR|DQ), and no image is of light"):
        open_cutout(tmp_path / "b.fits")


@pytest.mark.parametrize("scale", [0.4 / 3600, -1.0, 1e5, "abc"])
def test_a_card_of_a_scale_in_degrees_or_beyond_measure_is_left_out(tmp_path, scale):
    hdu = fits.PrimaryHDU(CUBE)
    hdu.header.update({"BANDS": "grz", "PIXSCALE": scale})
    hdu.writeto(tmp_path / "a.fits")
    cutout = open_cutout(tmp_path / "a.fits")
    assert np.isnan(cutout.grid.pixscale)
    told = fits.getheader(tmp_path / "a.fits")["PIXSCALE"]
    assert cutout.notes == (f"PIXSCALE {told!r} is no scale in arcsec, so it is left out",)


def bands_apart(path, changes, **cards):
    """Write an image for each (band, factor, cards); returns the path."""
    images = [fits.PrimaryHDU()]
    for band, factor, more in changes:
        image = fits.ImageHDU(CUBE["grz".index(band)] * np.float32(factor), name=more.pop("EXTNAME", None))
        image.header.update(PLACE | cards | more)
        images.append(image)
    fits.HDUList(images).writeto(path)
    return path


@pytest.mark.parametrize("said", ["EXTNAME", "FILTER", "BAND"])
@pytest.mark.parametrize("order", ["grz", "zgr"])
def test_bands_in_an_hdu_each_are_the_planes_of_one_image(tmp_path, said, order):
    path = bands_apart(tmp_path / "a.fits", [(band, 1, {said: band}) for band in order], BUNIT="nanomaggy")
    cutout = open_cutout(path)
    assert_same(cutout)
    assert cutout.notes == (f"bands {', '.join(order)} of HDUs 1, 2, 3",)


def test_bands_in_an_hdu_each_have_their_own_zero_point(tmp_path):
    ten = {"MAGZERO": 25.0}  # 10 units are 1 nanomaggy
    path = bands_apart(
        tmp_path / "a.fits",
        [("g", 1, {"FILTER": "g", "MAGZERO": 22.5}), *((band, 10, {"FILTER": band} | ten) for band in "rz")],
    )
    cutout = open_cutout(path)
    assert_same(cutout)
    assert "band r has another unit or zero point: converted" in cutout.notes


@pytest.mark.parametrize(
    ("more", "message"),
    [({"CRPIX1": PLACE["CRPIX1"] + 5}, r"HDU 2 \(band r\) lies up to 5 pixels from the first"), ({}, "48 x 47 pixels")],
)
def test_bands_that_are_not_on_the_same_pixels_are_refused(tmp_path, more, message):
    path = bands_apart(tmp_path / "a.fits", [("g", 1, {"FILTER": "g"}), ("r", 1, {"FILTER": "r"} | more)])
    if not more:
        with fits.open(path, mode="update") as hdus:
            hdus[2].data = hdus[2].data[:, :-1]
    with pytest.raises(BadFileError, match=message):
        open_cutout(path)


def test_a_cube_counts_before_a_preview(tmp_path):
    cube = fits.ImageHDU(CUBE)
    cube.header.update({"BANDS": "grz"} | PLACE)
    fits.HDUList([fits.PrimaryHDU(np.zeros((8, 8), np.float32)), cube]).writeto(tmp_path / "a.fits")
    cutout = open_cutout(tmp_path / "a.fits")
    assert_same(cutout)
    assert cutout.notes == ("2 images in the file: that of HDU 1 is taken",)


def test_an_axis_of_one_is_none_wherever_it_is(tmp_path):
    assert_same(open_cutout(write(tmp_path / "a.fits", CUBE[:, None])))


def test_bands_as_the_last_axis_are_refused_by_name(tmp_path):
    path = write(tmp_path / "a.fits", np.moveaxis(CUBE, 0, -1).copy())
    with pytest.raises(BadFileError, match=r"shape \(48, 48, 3\): its bands are the last axis"):
        open_cutout(path)
