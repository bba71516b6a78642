"""Numbers in the unit that is needed, whatever the table records."""

import numpy as np
import pandas as pd
import pytest

from zoobot_3d.catalog.quantities import quantity
from zoobot_3d.errors import CatalogError


def numbers(values, recorded, unit):
    frame = pd.DataFrame({"x": values})
    frame.attrs["units"] = {"x": recorded} if recorded is not None else {}
    return quantity(frame, "x", unit, "t.vot").tolist()


@pytest.mark.parametrize(
    ("recorded", "unit", "factor"),
    [
        (None, "arcsec", 1),
        ("arcsec", "arcsec", 1),
        ('"', "arcsec", 1),
        ("arcmin", "arcsec", 60),
        ("deg", "arcsec", 3600),
        ("arcsec / pix", "arcsec", 1),
        ('"/pix', "arcsec", 1),
        ("mas", "arcsec", 0.001),
        ("rad", "deg", 180 / np.pi),
        ("", "", 1),
        ("%", "", 0.01),
    ],
)
def test_numbers_are_converted(recorded, unit, factor):
    assert numbers([2.0, -1.0], recorded, unit) == pytest.approx([2 * factor, -factor])


def test_what_is_no_number_is_missing():
    assert np.isnan(numbers(["a", None], "arcmin", "arcsec")).all()


@pytest.mark.parametrize(("recorded", "unit"), [("kpc", "arcsec"), ("mag", "arcsec"), ("km / s", ""), ("spam", "deg")])
def test_a_unit_of_another_kind_is_refused_by_name(recorded, unit):
    with pytest.raises(CatalogError, match=rf"^t\.vot: column x has the unit '{recorded}', where numbers .* needed"):
        numbers([1.0], recorded, unit)


@pytest.mark.parametrize(
    ("column", "value"), [("r (arcmin)", 120.0), ("r [arcsec]", 2.0), ("r (kron)", 2.0), ('r (")', 2.0), ("r", 2.0)]
)
def test_a_unit_in_the_header_holds(column, value):
    assert quantity(pd.DataFrame({column: [2.0]}), column, "arcsec", "t.csv")[0] == pytest.approx(value)


def test_a_unit_in_the_header_of_another_kind_is_refused():
    with pytest.raises(CatalogError, match="has the unit 'kpc', where numbers in arcsec are needed"):
        quantity(pd.DataFrame({"r (kpc)": [2.0]}), "r (kpc)", "arcsec", "t.csv")
