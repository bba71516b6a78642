"""The registry of quality flags: what each bit of a ``flags`` column means. Feeds the documentation and the decoder.

A measurement that cannot be made is NaN, and a flag says why. A flag beside a number says what to be careful about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from zoobot_3d.errors import ConfigError

__all__ = ["FLAGS", "Flag", "bits", "decode_flags", "flags_table"]


@dataclass(frozen=True)
class Flag:
    """One quality flag.

    Attributes
    ----------
    bit : int
        Its place: the flag adds ``2 ** bit`` to the column ``flags``.
    name : str
        Short name.
    about : {"galaxy", "bar", "arms", "light"}
        Which measurements it concerns.
    meaning : str
        What was found, and what it means for the numbers.
    no_answer : bool
        Whether the measurements that it concerns are NaN.
    """

    bit: int
    name: str
    about: str
    meaning: str
    no_answer: bool = False

    @property
    def value(self) -> int:
        """What the flag adds to the column."""
        return 1 << self.bit


FLAGS: tuple[Flag, ...] = (
    Flag(0, "no_masks", "galaxy", "There are no masks of this galaxy; the column error says why.", True),
    Flag(1, "no_scale", "galaxy", "The pixel scale is not known, so that lengths in arcsec and kpc are missing."),
    Flag(2, "no_redshift", "galaxy", "There is no redshift above 0, so that lengths in kpc are missing."),
    Flag(3, "no_disk", "galaxy", "Neither given nor measured inclination: the disk is taken to be face-on."),
    Flag(4, "disk_unsure", "galaxy", "The outer isophotes disagree on the inclination by more than 10 degrees."),
    Flag(5, "inclined", "galaxy", "The disk is inclined by more than 70 degrees: deprojected numbers are unreliable."),
    Flag(6, "no_bar", "bar", "Fewer than a third of the volunteers would enclose any one pixel in a bar.", True),
    Flag(7, "bar_faint", "bar", "Fewer than half of the volunteers would do so: there may be no bar."),
    Flag(8, "bar_several", "bar", "The bar mask has other regions than that through the centre; they are left out."),
    Flag(
        9, "bar_off_centre", "bar", "The centre of the bar is off that of the galaxy by over a quarter of its length."
    ),
    Flag(10, "bar_elsewhere", "bar", "All of the bar mask lies away from the centre of the galaxy.", True),
    Flag(11, "bar_cut", "bar", "The bar reaches the edge of the field: it may be longer."),
    Flag(12, "bar_beyond_disk", "bar", "The bar is longer than the disk, as the outer isophotes show it."),
    Flag(13, "bar_round", "bar", "The bar is rounder than 0.8: its position angle means little."),
    Flag(14, "bar_small", "bar", "The bar is shorter than 6 pixels: it is not resolved.", True),
    Flag(15, "no_arms", "arms", "Fewer than a fifth of the volunteers would enclose any one pixel in an arm.", True),
    Flag(16, "arms_faint", "arms", "Fewer than 45% of the volunteers would do so: there may be no arms."),
    Flag(
        17,
        "arms_untraced",
        "arms",
        "No ridge of the arm mask is long enough to fit a spiral to, or ridges wind against the mask as a whole; "
        "there may be a hand.",
        True,
    ),
    Flag(18, "arms_cut", "arms", "Arms reach the edge of the field: they may go on."),
    Flag(19, "arms_both_hands", "arms", "Some arms wind the other way than most; the mean is over the majority alone."),
    Flag(20, "ring", "arms", "The arm mask closes about the centre with a pitch angle near zero: a ring."),
    Flag(
        21, "light_no_image", "light", "No image in FITS, or none that fits the masks; the column error says why.", True
    ),
    Flag(22, "light_no_data", "light", "The band has no data on over a fifth of the arms and what lies between.", True),
    Flag(23, "light_no_arms", "light", "The arms are worth fewer than 20 pixels.", True),
    Flag(24, "light_no_interarm", "light", "What lies between the arms is worth fewer than 20 pixels.", True),
    Flag(25, "light_no_bar", "light", "The bar is worth fewer than 20 pixels.", True),
    Flag(
        26, "light_negative", "light", "A part is not brighter than the sky: its contrast or colour is missing.", True
    ),
    Flag(27, "light_no_sky", "light", "Fewer than 500 pixels of sky: its level is taken as 0, and has no error."),
    Flag(28, "light_left_out", "light", "Over a fifth of the arms or the bar is left out: neighbours, stars, no data."),
    Flag(29, "light_unmatched", "light", "Over a fifth of the arms is at radii that the arms fill: no contrast there."),
    Flag(30, "light_uncalibrated", "light", "Unit and zero point are not known: only contrasts can be trusted."),
)
"""All quality flags, by bit."""

_BY_NAME = {flag.name: flag for flag in FLAGS}


def bits(*names: str) -> int:
    """Return the value of the column ``flags`` for some names.

    Raises
    ------
    ConfigError
        If there is no such flag.
    """
    unknown = [name for name in names if name not in _BY_NAME]
    if unknown:
        raise ConfigError(f"no flag {unknown[0]!r}; the flags are {', '.join(_BY_NAME)}")
    return sum({_BY_NAME[name].value for name in names})


def decode_flags(values: ArrayLike) -> Any:
    """Tell in words what a column of flags says.

    Parameters
    ----------
    values : int or array_like of int
        From the column ``flags``.

    Returns
    -------
    tuple of str or list of tuple of str
        Names of the flags that are set, in order of their bits; for an array, one tuple for each value.

    Raises
    ------
    ConfigError
        If a value is negative, no integer, or has a bit that means nothing.

    Examples
    --------
    >>> decode_flags(2048 + 2)
    ('no_scale', 'bar_cut')
    """
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"flags are integers, not {array.dtype}; give the column flags as it was read")
    known = sum(flag.value for flag in FLAGS)
    if ((array < 0) | (array & ~known)).any():
        raise ConfigError("a value has bits that no flag has; is the table from a later version?")
    told = [tuple(flag.name for flag in FLAGS if value & flag.value) for value in array.reshape(-1).tolist()]
    return told[0] if array.ndim == 0 else told


def flags_table() -> str:
    """Return the registry as a Markdown table, for the documentation."""
    lines = ["| value | name | about | meaning | numbers are missing |", "|---|---|---|---|---|"]
    for flag in FLAGS:
        missing = "yes" if flag.no_answer else ""
        lines.append(f"| {flag.value} | `{flag.name}` | {flag.about} | {flag.meaning} | {missing} |")
    return "\n".join(lines)
