"""Images of any world coordinates, against Astropy: sources drawn at known places by the header must come out there."""

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from zoobot_3d.errors import GridError
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.header import read_wcs
from zoobot_3d.sky.placement import north_up, place

pytestmark = pytest.mark.filterwarnings("ignore:RADECSYS")  # the name of RADESYS in old headers

N = 96
STEP = 0.4 / 3600
BASE = {
    "NAXIS": 2, "NAXIS1": N, "NAXIS2": N, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 40.0,
    "CRPIX1": N / 2 + 0.5, "CRPIX2": N / 2 + 0.5, "CDELT1": -STEP, "CDELT2": STEP,
}  # fmt: skip


def header(**cards):
    """BASE with other cards; None takes one out."""
    return fits.Header({key: value for key, value in (BASE | cards).items() if value is not None})


def rotation(angle, mirrored=1):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    cd = STEP * np.array([[-c * mirrored, s], [s * mirrored, c]])
    return {"CDELT1": None, "CDELT2": None} | {f"CD{i + 1}_{j + 1}": float(cd[i, j]) for i in (0, 1) for j in (0, 1)}


def projected(code, **cards):
    return {"CTYPE1": f"RA---{code}", "CTYPE2": f"DEC--{code}"} | cards


SIP = projected("TAN-SIP", A_ORDER=2, A_2_0=1e-3, B_ORDER=2, B_0_2=1e-3)
PV = {"PV1_0": 1e-4, "PV1_1": 1.0, "PV1_5": 6.0, "PV2_1": 1.0, "PV2_6": -4.0}
"""Polynomials of SCAMP on degrees; the corners are 0.0075 deg from the middle, so these terms are a pixel there."""

EXACT = {
    "TAN": {},
    "SIN": projected("SIN"),
    "ARC": projected("ARC"),
    "ZEA": projected("ZEA"),
    "FK5 J2000": {"RADESYS": "FK5", "EQUINOX": 2000.0},
    "row 0 north": {"CDELT2": -STEP},
    "arcsec": {"CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 150 * 3600.0, "CRVAL2": 40 * 3600.0,
               "CDELT1": -0.4, "CDELT2": 0.4},
    "PC and CDELT": {"PC1_1": 1.0, "PC1_2": 0.0, "PC2_1": 0.0, "PC2_2": 1.0},
    "CRPIX not in the middle": {"CRPIX1": 3.0, "CRPIX2": 90.0},
    "arcmin": {"CUNIT1": "arcmin", "CUNIT2": "arcmin", "CRVAL1": 9000.0, "CRVAL2": 2400.0,
               "CDELT1": -0.4 / 60, "CDELT2": 0.4 / 60},
    "RA below 0": {"CRVAL1": -20.0},
    "across RA 0": {"CRVAL1": 0.0},
    "SIP of zero": projected("TAN-SIP", A_ORDER=2, A_2_0=0.0, B_ORDER=2, B_0_2=0.0),
    "RA and Dec in swapped axes, turned back": {
        "CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 40.0, "CRVAL2": 150.0,
        "CDELT1": None, "CDELT2": None, "CD1_1": 0.0, "CD1_2": STEP, "CD2_1": -STEP, "CD2_2": 0.0},
}  # fmt: skip
"""North up within 0.05 px: taken as they are."""

CONVERTED = {
    "galactic": ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "galactic coordinates"),
    "FK4": ({"RADESYS": "FK4", "EQUINOX": 1950.0}, r"FK4 coordinates \(B1950\)"),
    "FK4 by EQUINOX alone": ({"EQUINOX": 1950.0}, r"FK4 coordinates \(B1950\)"),
    "FK5 J1975": ({"RADESYS": "FK5", "EQUINOX": 1975.0}, r"FK5 coordinates \(J1975\)"),
    "LONPOLE 0": ({"LONPOLE": 0.0}, "rotated by 180 deg"),
    "CD rotated": (rotation(37), "^rotated by 37 deg: resampled to north up"),
    "rotated a little": (rotation(0.2), "rotated by 0.2 deg"),
    "PC rotated": ({"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8}, "rotated by 36.9 deg"),
    "CROTA2": ({"CROTA2": 20.0}, "rotated by 20 deg"),
    "mirrored": ({"CDELT1": STEP}, "^mirrored: "),
    "mirrored and rotated": (rotation(30, mirrored=-1), "mirrored, rotated by 30 deg"),
    "upside down": ({"CDELT1": STEP, "CDELT2": -STEP}, "rotated by 180 deg"),
    "SIP": (SIP, "SIP distortion"),
    "TPV": (projected("TPV", **PV), "distorted"),
    "TAN with PV, as SCAMP wrote": (PV, "distorted"),
    "TPV with CD": (projected("TPV", **PV) | rotation(0), "distorted"),
    "TPV without linear terms": (
        projected("TPV", **{key: value for key, value in PV.items() if not key.endswith("_1")}) | rotation(5),
        "rotated by 5 deg",
    ),
    "CAR": (projected("CAR", CRVAL2=0.0, CRPIX2=N / 2 + 0.5 - 40 / STEP), "CAR projection, pixels not square"),
    "not square": ({"CDELT2": 1.5 * STEP}, r"pixels not square, 0\.6 by 0\.4 arcsec"),
    "brick": ({"CRPIX1": 1500.0, "CRPIX2": -800.0}, r"rotated by 0\.1"),
    "far CRPIX": ({"CRPIX1": 9000.0, "CRPIX2": 9000.0}, r"rotated by"),
    "swapped axes": (
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 40.0, "CRVAL2": 150.0},
        "rotated by 90 deg|mirrored",
    ),
    "FK4 by EPOCH": ({"EPOCH": 1950.0}, r"FK4 coordinates \(B1950\)"),
    "FK4 by RADECSYS": ({"RADECSYS": "FK4"}, r"FK4 coordinates \(B1950\)"),
    "STG far away": (projected("STG", CRPIX1=4000.0), "STG projection, rotated by 0.368"),
    "HPX": (projected("HPX"), "HPX projection, pixels not square"),
    "MOL": (projected("MOL", CRVAL1=0.0, CRVAL2=0.0, CRPIX1=-3e5), "MOL projection, pixels not square"),
    "at the pole": (rotation(20) | {"CRVAL2": 90.0}, "rotated by"),
    "at the south pole": (rotation(20) | {"CRVAL2": -90.0}, "rotated by 20 deg"),
    "near the pole": (rotation(10) | {"CRVAL2": 89.99}, "rotated by 10 deg"),
}


def astropy_sky(cards, x, y):
    """Positions by Astropy alone."""
    cards = fits.Header(cards)
    if "PV2_6" in cards:  # by the definition of TPV: the polynomial, then TAN
        return tpv_sky(cards, x, y)
    return WCS(cards).pixel_to_world(x, y).icrs  # `pixel_to_skycoord` swaps x and y where Dec comes first


def tpv_sky(cards, x, y):
    """Positions by the definition of TPV: a polynomial on degrees in the tangent plane, then TAN."""
    linear = {key: value for key, value in cards.items() if not key.startswith("PV")}
    matrix = WCS(fits.Header(linear | projected("TAN"))).pixel_scale_matrix
    a, b = matrix @ [np.atleast_1d(x) - cards["CRPIX1"] + 1, np.atleast_1d(y) - cards["CRPIX2"] + 1]
    xi, eta = PV["PV1_0"] + a + PV["PV1_5"] * a * b, b + PV["PV2_6"] * a**2
    plane = WCS(
        fits.Header(projected("TAN", CRVAL1=150.0, CRVAL2=40.0, CRPIX1=1.0, CRPIX2=1.0, CDELT1=1.0, CDELT2=1.0))
    )
    sky = plane.pixel_to_world(xi, eta).icrs
    return sky if np.ndim(x) else sky[0]


def spots(cards):
    """Draw an image as stored, with three blobs about pixels of it, and tell where they are on the sky."""
    x, y = np.array([30.0, 61.0, 40.0]), np.array([38.0, 50.0, 64.0])
    yy, xx = np.mgrid[:N, :N]
    peaks = [3.0, 2.0, 1.0]
    image = sum(p * np.exp(-((xx - a) ** 2 + (yy - b) ** 2) / 8) for p, a, b in zip(peaks, x, y, strict=True))
    return image[None].astype(np.float32), astropy_sky(cards, x, y)


def off_by(image, grid, sky):
    """Pixels between the blobs' centroids and where the grid has their positions."""
    x, y = np.array(grid.wcs.all_world2pix(sky.ra.deg, sky.dec.deg, 0))
    yy, xx = np.indices(image.shape)
    found = []
    for a, b in zip(x, y, strict=True):
        near = image * (np.hypot(xx - a, yy - b) < 6)
        found.append(np.hypot((near * xx).sum() / near.sum() - a, (near * yy).sum() / near.sum() - b))
    return max(found)


def place_header(cards):
    return place(read_wcs(cards), (N, N))


@pytest.mark.parametrize("name", EXACT)
def test_what_is_north_up_is_taken_as_it_is(name):
    cards = header(**EXACT[name])
    placement = place_header(cards)
    assert placement.exact and placement.note == ""
    grid = placement.grid
    assert grid.reference_pixel == grid.middle and grid.pixscale == pytest.approx(0.4, rel=1e-4)
    x, y = (values.ravel() for values in np.meshgrid(np.linspace(0, N - 1, 7), np.linspace(0, N - 1, 7)))
    sky = astropy_sky(cards, x, y)
    if placement.starts_south:
        y = N - 1 - y
    assert np.hypot(*(np.array(grid.sky_to_pixel(sky.ra.deg, sky.dec.deg)) - [x, y])).max() < 0.05


@pytest.mark.parametrize("name", CONVERTED)
def test_what_is_not_north_up_is_resampled_to_it(name):
    changes, note = CONVERTED[name]
    cards = header(**changes)
    placement = place_header(cards)
    assert not placement.exact
    assert re.search(note, placement.note), placement.note
    middle = astropy_sky(cards, (N - 1) / 2, (N - 1) / 2)
    got = SkyCoord(placement.grid.ra * u.deg, placement.grid.dec * u.deg)
    assert got.separation(middle).arcsec < 1e-3
    image, sky = spots(cards)
    out, covered = north_up(image, placement)
    assert 0.5 < covered <= 1
    assert off_by(out[0], placement.grid, sky) < 0.06


def test_surface_brightness_and_scale_stay():
    for name, (changes, _) in CONVERTED.items():
        cards = header(**changes)
        placement = place_header(cards)
        corners = astropy_sky(cards, np.array([47, 48, 48, 47.0]), np.array([47, 47, 48, 48.0]))
        a, b, c = (corners[i].separation(corners[j]).arcsec for i, j in ((0, 1), (1, 2), (0, 2)))
        angle = np.arccos((a**2 + b**2 - c**2) / (2 * a * b))
        assert placement.grid.pixscale**2 == pytest.approx(a * b * np.sin(angle), rel=1e-3), name
        image, _ = north_up(np.ones((1, N, N), np.float32), placement)
        assert image[0, N // 2, N // 2] == pytest.approx(1), name


@pytest.mark.parametrize(("equinox", "cards"), [(2000.0, {}), (1950.0, {"RADESYS": "FK5", "EQUINOX": 1950.0})])
def test_ecliptic_coordinates_are_not_taken_for_ra_and_dec(equinox, cards):
    cards = header(CTYPE1="ELON-TAN", CTYPE2="ELAT-TAN", **cards)
    placement = place_header(cards)
    ecliptic = SkyCoord(150 * u.deg, 40 * u.deg, frame="barycentricmeanecliptic", equinox=f"J{equinox:g}")
    got = SkyCoord(placement.grid.ra * u.deg, placement.grid.dec * u.deg)
    assert got.separation(ecliptic.icrs).arcsec < 0.05
    assert "ecliptic coordinates" in placement.note and not placement.exact


def test_supergalactic_coordinates():
    placement = place_header(header(CTYPE1="SLON-TAN", CTYPE2="SLAT-TAN"))
    got = SkyCoord(placement.grid.ra * u.deg, placement.grid.dec * u.deg)
    assert got.separation(SkyCoord(150 * u.deg, 40 * u.deg, frame="supergalactic").icrs).arcsec < 1e-3


def test_coordinates_of_another_frame_that_happen_to_be_north_up_are_told():
    cards = header(RADESYS="FK5", EQUINOX=2000.5)
    placement = place_header(cards)
    assert placement.exact and placement.note == "FK5 coordinates (J2000.5): position converted to ICRS"
    want = astropy_sky(cards, (N - 1) / 2, (N - 1) / 2)
    assert (placement.grid.ra, placement.grid.dec) == pytest.approx((want.ra.deg, want.dec.deg), abs=1e-9)


REFUSED = {
    "misspelt": ({"CTYPE1": "RA----TAN"}, "cannot be understood"),
    "no CTYPE": ({"CTYPE1": None, "CTYPE2": None}, "no celestial axes"),
    "one CTYPE": ({"CTYPE2": None}, "cannot be understood|no celestial"),
    "linear": ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "no celestial axes"),
    "unknown projection": (projected("XYZ"), "cannot be understood"),
    "no projection": ({"CTYPE1": "RA", "CTYPE2": "DEC"}, "'RA' without a projection"),
    "two projections": ({"CTYPE2": "DEC--SIN"}, "cannot be understood"),
    "TNX": (projected("TNX"), "RA---TNX', a distortion"),
    "ZPX": (projected("ZPX"), "RA---ZPX', a distortion"),
    "TAN-TPD": (projected("TAN-TPD"), "TAN-TPD', a distortion"),
    "longitude": ({"CRVAL1": 510.0}, "CRVAL is 510 deg"),
    "text for a number": ({"CRVAL1": "NaN"}, "CRVAL1 is 'NaN', not a number"),
    "CDELT of zero": ({"CDELT1": 0.0}, "cannot be understood"),
    "singular CD": ({"CDELT1": None, "CDELT2": None, "CD1_1": STEP, "CD1_2": STEP, "CD2_1": STEP, "CD2_2": STEP},
                    "no area"),
    "long pixels": ({"CDELT2": 4 * STEP}, "not square"),
    "no scale, so 1 deg": ({"CDELT1": None, "CDELT2": None}, "pixels of 3600 arcsec by the header's CDELT"),
    "half the sky": (projected("ARC", CDELT1=-1.5, CDELT2=1.5, CRVAL2=0.0), "half the sky"),
    "beyond the pole": ({"CRVAL2": 95.0}, "."),
    "off the projection": (projected("SIN", CRPIX1=9e6), "no position"),
    "Earth": ({"CTYPE1": "TLON-TAN", "CTYPE2": "TLAT-TAN"}, "TLON"),
    "helioecliptic": ({"CTYPE1": "HLON-TAN", "CTYPE2": "HLAT-TAN"}, "HLON|cannot be understood"),
    "frame": ({"RADESYS": "GAPPT"}, "GAPPT"),
    "ecliptic FK4": ({"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN", "RADESYS": "FK4"}, "ELON"),
    "equinox": ({"RADESYS": "FK5", "EQUINOX": 5.0}, "EQUINOX is 5"),
    "SIP without a name": ({"A_ORDER": 2, "A_2_0": 1e-3, "B_ORDER": 2, "B_0_2": 1e-3}, "without -SIP"),
    "SIP of one axis": (projected("TAN-SIP", A_ORDER=2, A_2_0=1e-3), "cannot be understood"),
    "SIP of huge order": (projected("TAN-SIP", A_ORDER=30000, B_ORDER=30000), "A_ORDER is 30000"),
    "SIP and PV": (SIP | PV, "SIP and as PV"),
    "SIP that folds": (projected("TAN-SIP", A_ORDER=2, A_2_0=0.05, B_ORDER=2, B_0_2=0.05), "inverted"),
    "lookup table": ({"CPDIS1": "LOOKUP"}, "cannot be understood"),
    "mixed axes": ({"CD1_3": 1e-5, "CD1_1": -STEP, "CD2_2": STEP}, "CD1_3 mixes"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_understood_is_refused_by_name(name):
    changes, message = REFUSED[name]
    with pytest.raises(GridError, match=message) as caught:
        place_header(header(**changes))
    assert "\n" not in str(caught.value) and "ERROR" not in str(caught.value)
    with pytest.raises(GridError):
        PixelGrid.from_header(header(**changes))


def test_pixels_of_a_size_that_no_image_has_are_refused():
    with pytest.raises(GridError, match=r"pixels of 3\.6e-05 arcsec by the header's CDELT, PC or CD cards"):
        place_header(header(CDELT1=-1e-8, CDELT2=1e-8))


def test_a_card_that_is_no_fits_is_refused():
    cards = header()
    image = cards.tostring().replace(f"CRVAL1  = {150.0:>20}", f"CRVAL1  = {'NaN':>20}")
    with pytest.raises(GridError, match="CRVAL1 is 'NaN', not a number"):
        read_wcs(fits.Header.fromstring(image))


def test_a_header_without_world_coordinates_has_none():
    assert read_wcs(fits.Header({"NAXIS": 2, "NAXIS1": 4, "NAXIS2": 4})) is None
    assert read_wcs(fits.Header({"CRPIX1": 1.0, "CDELT1": 1.0, "CRVAL1": 0.0, "CRVAL2": 0.0})) is None


def test_a_third_axis_is_left_out():
    cards = header(NAXIS=3, NAXIS3=3, CTYPE3="WAVE", CRVAL3=5e-7, CDELT3=1e-9, CUNIT3="m", CRPIX3=1.0, **SIP)
    assert place_header(cards).note == place_header(header(**SIP)).note


def test_from_header_keeps_the_reference_pixel_and_refuses_what_must_be_resampled():
    grid = PixelGrid.from_header(header(CRPIX1=3.0, CRPIX2=90.0))
    assert (grid.ra, grid.dec) == (150.0, 40.0) and grid.reference_pixel == (2.0, N - 90)
    for changes, _ in CONVERTED.values():
        if "CRPIX1" not in changes:  # a grid holds a far tangent point as well
            with pytest.raises(GridError, match="north up"):
                PixelGrid.from_header(header(**changes))
    with pytest.raises(GridError, match="no NAXIS1"):
        PixelGrid.from_header(fits.Header(BASE | {"NAXIS1": "x"}))


@settings(max_examples=60, deadline=None)
@given(
    code=st.sampled_from(["TAN", "SIN", "ARC", "ZEA", "STG"]),
    frame=st.sampled_from([("RA--", "DEC-", {}), ("GLON", "GLAT", {}), ("RA--", "DEC-", {"RADESYS": "FK4"})]),
    place_at=st.tuples(st.floats(0, 359.9), st.floats(-89.9, 89.9)),
    crpix=st.tuples(st.floats(-900, 900), st.floats(-900, 900)),
    angle=st.floats(-180, 180),
    mirrored=st.sampled_from([1, -1]),
    scale=st.floats(0.05, 20),
)
def test_wherever_an_image_lies_its_sources_come_out_at_their_places(
    code, frame, place_at, crpix, angle, mirrored, scale
):
    lon, lat, more = frame
    cards = header(
        CTYPE1=f"{lon}-{code}", CTYPE2=f"{lat}-{code}", CRVAL1=place_at[0], CRVAL2=place_at[1], CRPIX1=crpix[0],
        CRPIX2=crpix[1], **more, **{
            key: value and value * scale / 0.4 for key, value in rotation(angle, mirrored).items()
        },
    )  # fmt: skip
    placement = place_header(cards)
    image, sky = spots(cards)
    out = north_up(image, placement)[0]
    x, y = np.array(placement.grid.wcs.all_world2pix(sky.ra.deg, sky.dec.deg, 0))
    inside = (np.hypot(x - (N - 1) / 2, y - (N - 1) / 2) < 40).all()  # no blob is cut
    assert not inside or off_by(out[0], placement.grid, sky) < 0.06
    middle = astropy_sky(cards, (N - 1) / 2, (N - 1) / 2)
    got = SkyCoord(placement.grid.ra * u.deg, placement.grid.dec * u.deg)
    assert got.separation(middle).arcsec < 0.01 * scale
