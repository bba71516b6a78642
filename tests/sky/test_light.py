"""Bands and units, against numbers worked out by hand: 1 nanomaggy is 3.631e-6 Jy and AB magnitude 22.5."""

import re

import numpy as np
import pytest
from astropy.io import fits

from zoobot_3d.errors import BadPictureError
from zoobot_3d.sky.light import bands_of, nanomaggies_per_unit
from zoobot_3d.sky.rgb import rgb_from_grz

GRZ = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("bands", "chosen"),
    [
        ("grz", "grz"),
        ("zrg", "grz"),
        ("rgz", "grz"),
        ("griz", "grz"),
        ("ugrizy", "grz"),
        ("g,r,z", "grz"),
        ("Z R G", "grz"),
        ("riz", "riz"),
        ("gri", "gri"),
        ("irg", "gri"),
        ("ugri", "gri"),
        ("izY", "izy"),
        ("giz", "giz"),
    ],
)
def test_bands_go_to_their_places_whatever_their_order(bands, chosen):
    names = [name for name in bands.lower() if name.isalpha()]
    weights, notes = bands_of(fits.Header({"BANDS": bands}), len(names))
    np.testing.assert_array_equal(weights, [[float(name == band) for name in names] for band in chosen])
    assert notes == ([] if chosen == "grz" else [f"bands {', '.join(chosen)} stand in for g, r, z: "
                                                 "colours are not those of Galaxy Zoo"])  # fmt: skip


def test_bands_by_their_own_cards():
    weights, notes = bands_of(fits.Header({"BAND0": "z", "BAND1": "r", "BAND2": "g"}), 3)
    np.testing.assert_array_equal(weights, GRZ[::-1])
    assert not notes


def test_without_a_card_planes_are_taken_as_grz_with_a_note():
    weights, notes = bands_of(fits.Header(), 3)
    np.testing.assert_array_equal(weights, GRZ)
    assert notes == ["no BANDS card: planes taken as g, r, z"]


def test_one_band_becomes_a_grey_picture():
    weights, notes = bands_of(fits.Header({"FILTER": "r DECam"}), 1)
    assert notes == ["one band (r DECam): shown in grey"]
    plane = np.linspace(0, 3, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    picture = rgb_from_grz(np.tensordot(weights, plane, 1)).astype(int)
    assert np.ptp(picture, axis=-1).max() <= 1 and picture.max() > 150
    # Red, green and blue are as r is in green.
    assert np.abs(picture[..., 1] - rgb_from_grz(np.repeat(plane, 3, 0))[..., 1]).max() < 25


def test_two_bands_and_their_mean():
    weights, notes = bands_of(fits.Header({"BANDS": "zg"}), 2)
    np.testing.assert_array_equal(weights, [[0, 1], [0.5, 0.5], [1, 0]])
    assert "g, their mean and z stand in for g, r, z" in notes[0]


@pytest.mark.parametrize(
    ("cards", "n", "message"),
    [
        ({"BANDS": "grz"}, 4, "BANDS 'grz' for 4 planes"),
        ({"BANDS": "gr"}, 3, "BANDS 'gr' for 3 planes"),
        ({"BANDS": "grx"}, 3, "'x' is no known band"),
        ({"BANDS": "grg"}, 3, "there twice"),
        ({"BANDS": "grz", "BAND0": "z", "BAND1": "r", "BAND2": "g"}, 3, "BAND0 and so on are z, r, g"),
        ({}, 5, "5 planes and no BANDS card"),
        ({"BANDS": 3}, 3, "for 3 planes"),
    ],
)
def test_bands_that_cannot_be_understood(cards, n, message):
    with pytest.raises(BadPictureError, match=message):
        bands_of(fits.Header(cards), n)


PIXEL = (0.5 / 3600 * np.pi / 180) ** 2  # sr


@pytest.mark.parametrize(
    ("cards", "factor", "note"),
    [
        ({"BANDS": "grz"}, 1, None),
        ({}, 1, "no BUNIT and no zero point: taken as nanomaggies"),
        ({"BUNIT": "nanomaggy"}, 1, None),
        ({"BUNIT": "nanomaggies"}, 1, None),
        ({"BUNIT": "nmgy/pixel"}, 1, None),
        ({"BUNIT": "nMgy"}, 1, None),
        ({"BUNIT": "maggies"}, 1e9, "maggies converted"),
        ({"BUNIT": "Jy"}, 1 / 3.631e-6, "Jy converted"),
        ({"BUNIT": "mJy"}, 1 / 3.631e-3, "mJy converted"),
        ({"BUNIT": "uJy"}, 1 / 3.631, "uJy converted"),
        ({"BUNIT": "microJy"}, 1 / 3.631, "converted"),
        ({"BUNIT": "nJy"}, 1 / 3631, "nJy converted"),
        ({"BUNIT": "Jy/pixel"}, 1 / 3.631e-6, "converted"),
        ({"BUNIT": "10**-29 erg / (s cm2 Hz)"}, 1 / 3.631, "converted"),
        ({"BUNIT": "MJy/sr"}, 1e6 * PIXEL / 3.631e-6, "MJy/sr converted"),
        ({"BUNIT": "nanomaggy/arcsec2"}, 0.25, "converted"),
        ({"BUNIT": "ADU", "MAGZERO": 27.0}, 10 ** (-0.4 * 4.5), r"ADU with zero point 27 mag \(MAGZERO\)"),
        ({"BUNIT": "counts", "PHOTZP": 30.0}, 1e-3, "PHOTZP"),
        ({"BUNIT": "DN", "FLUXMAG0": 63095734448.0194}, 10 ** (-0.4 * 4.5), "FLUXMAG0"),
        ({"BUNIT": "electrons/s", "ZP": "25.0"}, 0.1, "zero point 25"),
        ({"MAGZPT": 22.5}, 1, None),
        ({"MAGZPT": 25.0}, 0.1, "values with zero point 25"),
        ({"BUNIT": "ADU"}, 1, "BUNIT 'ADU' and no zero point: taken as nanomaggies"),
        ({"BUNIT": "nanomaggy", "MAGZERO": 22.5}, 1, None),
        ({"BUNIT": "uJy", "MAGZERO": 23.9}, 1 / 3.631, "uJy converted to nanomaggies$"),
        ({"BUNIT": "nanomaggy", "MAGZERO": 27.0}, 1, "is not that of nanomaggy: BUNIT is believed"),
    ],
)
def test_units_and_zero_points(cards, factor, note):
    got, notes = nanomaggies_per_unit(fits.Header(cards), 0.5)
    assert got == pytest.approx(factor, rel=1e-3)
    if note is None:
        assert notes == []
    else:
        (said,) = notes
        assert re.search(note, said), said


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"BUNIT": "erg/s/cm2/Angstrom"}, "'erg/s/cm2/Angstrom' cannot be made nanomaggies"),
        ({"BUNIT": "mag"}, "'mag' cannot"),
        ({"BUNIT": "Jy/beam"}, "'Jy/beam' cannot"),
        ({"BUNIT": "K"}, "'K' cannot"),
        ({"BUNIT": "furlong per fortnight"}, "cannot be made nanomaggies"),
        ({"BUNIT": "ADU", "MAGZERO": -99.0}, "zero point MAGZERO is -99"),
        ({"BUNIT": "ADU", "MAGZERO": "unknown"}, "zero point MAGZERO is 'unknown'"),
        ({"MAGZERO": 25.0, "PHOTZP": 30.0}, "MAGZERO 25, PHOTZP 30 differ"),
        ({"BUNIT": "ADU", "ZP": 25.0, "MAGSYS": "Vega"}, "Vega"),
        ({"BITPIX": 8}, "8-bit values and no BUNIT"),
    ],
)
def test_units_that_cannot_be_understood(cards, message):
    with pytest.raises(BadPictureError, match=message):
        nanomaggies_per_unit(fits.Header(cards), 0.5)


def test_surface_brightness_needs_a_pixel_scale():
    with pytest.raises(BadPictureError, match="MJy/sr"):
        nanomaggies_per_unit(fits.Header({"BUNIT": "MJy/sr"}), np.nan)


@pytest.mark.parametrize(
    "cards",
    [
        {"FILTER": "z,r,g"},
        {"FILTERS": "zrg"},
        {"BANDS": "sdss_z,sdss_r,sdss_g"},
        {"BANDS": "['z', 'r', 'g']"},
        {"FILTER": "z|r|g"},
        {"BAND1": "z", "BAND2": "r", "BAND3": "g"},
        {"FILTER1": "z DECam SDSS c0004 9260.0 1520.0", "FILTER2": "r.MegaCam", "FILTER3": "HSC-G"},
        {"FILTER0": "z'", "FILTER1": "r'", "FILTER2": "g'"},
        {"BANDS": "zrg", "FILTER": "clear"},
    ],
)
def test_every_card_that_names_bands_is_believed(cards):
    weights, notes = bands_of(fits.Header(cards), 3)
    np.testing.assert_array_equal(weights, GRZ[::-1])
    assert not notes


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"FILTER": "r"}, "FILTER 'r' for 3 planes; add the card BANDS"),
        ({"FILTER1": "F475W", "FILTER2": "F606W", "FILTER3": "F814W"}, "'f475w' is no known band"),
        ({"BANDS": "grz", "BAND1": "z", "BAND2": "r", "BAND3": "g"}, "BANDS is 'grz', but BAND1 and so on are z, r, g"),
        ({"CTYPE3": "WAVE"}, "CTYPE3 is 'WAVE', so planes are no bands"),
        ({"CTYPE3": "STOKES"}, "CTYPE3 is 'STOKES', so planes are no bands"),
    ],
)
def test_planes_that_are_said_to_be_other_than_grz_are_not_taken_for_them(cards, message):
    with pytest.raises(BadPictureError, match=re.escape(message)):
        bands_of(fits.Header(cards), 3)


@pytest.mark.parametrize("card", ["MAGZPG", "ZP_R", "MAGZEROG"])
def test_zero_points_of_single_bands_are_refused(card):
    with pytest.raises(BadPictureError, match=rf"zero points of single bands \({card}\) are not read"):
        nanomaggies_per_unit(fits.Header({card: 25.0, "BANDS": "grz"}), 0.262)
