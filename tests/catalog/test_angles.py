import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from zoobot_3d.catalog.angles import parse_position, parse_positions
from zoobot_3d.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    [
        "164.1 12.5",
        "164.1, 12.5",
        "164.1,12.5",
        "164.1; 12.5",
        "164.1d 12.5d",
        "164.1 deg 12.5 deg",
        "164.1° +12.5°",
        "10.94h 12.5d",
        "10:56:24 +12:30:00",
        "10:56:24, 12:30",
        "10 56 24 +12 30 00",
        "10 56 24 12 30 00",
        "10h56m24s +12d30m00s",
        "10h 56m 24s 12d 30m",
        "164°06′00″ 12°30′00″",
        "164d06m 12d30m",
        "\u00a0164.1\u00a0 12.5 ",
    ],
)
def test_every_notation_of_one_position(text):
    place = parse_position(text)
    assert (place.ra, place.dec) == pytest.approx((164.1, 12.5))
    assert place.note == ""


@pytest.mark.parametrize("minus", ["-", "\u2212", "\u2013"])
def test_every_kind_of_minus(minus):
    assert parse_position(f"164.1 {minus}12.5").dec == -12.5
    assert parse_position(f"10:56:24 {minus}00:30:00").dec == -0.5


def test_negative_right_ascension_is_wrapped_and_said():
    place = parse_position("-10.5 5")
    assert place.ra == 349.5 and "taken as 349.5" in place.note


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("164,1 12,5", "decimal commas; write points"),
        ("164,1", "decimal commas"),
        ("10:56:24,5 +12:30:00", "decimal commas"),
        ("164.1 +12:30:00", "mixed"),
        ("10:56:24 12.5", "mixed"),
        ("10 56 24 12 30", "two ways"),
        ("164.1", "needs a right ascension and a declination"),
        ("164.1 95", "outside -90 to 90"),
        ("400 3", "outside 0 to 360"),
        ("-190 3", "outside 0 to 360"),
        ("10:66:24 12:00:00", "60 or more"),
        ("10.5:30 12:00", "fraction before its last field"),
        ("10h 12h", "hours in a declination"),
        ("here there", "is no angle"),
        ("nan 3", "is no angle"),
        ("inf 3", "is no angle"),
        ("", "needs a right ascension"),
    ],
)
def test_what_has_no_meaning_or_two_is_refused_by_name(text, reason):
    with pytest.raises(ConfigError, match=r"not a position") as error:
        parse_position(text)
    assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [["164.1", "12.5", "180", "-1"], ["164.1 12.5", "180 -1"], ["10:56:24", "+12:30:00", "12:00:00", "-01:00:00"]],
)
def test_several_positions_quoted_or_not(words):
    found = parse_positions(words)
    assert [(p.ra, p.dec) for p in found] == [pytest.approx((164.1, 12.5)), pytest.approx((180, -1))]


def test_words_with_two_meanings_ask_for_quotes():
    with pytest.raises(ConfigError, match="quote each position"):
        parse_positions(["10", "56", "12", "30"])


@given(st.floats(0, 359.999), st.floats(-90, 90), st.sampled_from(["decimal", "hmsdms", "dms"]))
@settings(max_examples=200, deadline=None)
def test_what_astropy_writes_is_read_back(ra, dec, style):
    place = SkyCoord(ra, dec, unit="deg")
    again = parse_position(place.to_string(style, precision=9))
    apart = SkyCoord(again.ra, again.dec, unit="deg").separation(place).arcsec
    assert apart < 1e-4 or np.isclose(abs(dec), 90)


@given(st.text(max_size=40) | st.text("0123456789 .,:;+-hdms°'\"e\u2212", max_size=30))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_position_or_refused(text):
    try:
        place = parse_position(text)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert 0 <= place.ra < 360 and -90 <= place.dec <= 90
