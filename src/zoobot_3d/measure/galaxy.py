"""All measurements of one galaxy: its disk, bar and arms, as a row of a table and rows of its arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import astropy.cosmology
import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import ConfigError, GridError
from zoobot_3d.measure.arms import Arms, measure_arms
from zoobot_3d.measure.bars import Bar, measure_bar
from zoobot_3d.measure.disk import STEEPEST, Disk, Isophotes, disk_of_light
from zoobot_3d.measure.flags import bits
from zoobot_3d.measure.maps import planes_of_fractions, planes_on
from zoobot_3d.sky.grid import PixelGrid

__all__ = [
    "COSMOLOGIES",
    "HIGHEST_REDSHIFT",
    "Given",
    "Measurement",
    "is_position_angle",
    "kpc_per_arcsec",
    "measure_masks",
]

COSMOLOGIES: tuple[str, ...] = tuple(astropy.cosmology.realizations.available)
"""Cosmologies by name, as `astropy.cosmology` has them."""

HIGHEST_REDSHIFT = 10.0
"""No galaxy whose arms are seen is beyond; numbers above are velocities or marks of missing ones."""

_INCLINED, _UNSURE = 70.0, 10.0  # deg
_NO_ANGLE = -99.0


@dataclass(frozen=True)
class Given:
    """What is known of a galaxy beside its masks; NaN where it is not.

    Attributes
    ----------
    redshift : float
        For lengths in kpc; a number that is none, 0 or less or above `HIGHEST_REDSHIFT`, counts as not known.
    inclination, pa : float
        Of the disk, deg; position angle of the major axis north through east. Numbers beyond 0-90 and -360 to 360 count
        as not known, and so does -99, which stands for a missing number in catalogues.

    Raises
    ------
    ConfigError
        If one is no number. Those of `astropy.units` are converted, if they are of the right kind.
    """

    redshift: float = np.nan
    inclination: float = np.nan
    pa: float = np.nan

    def __post_init__(self) -> None:
        """Make every field a plain number of its unit."""
        for name, unit in (("redshift", ""), ("inclination", "deg"), ("pa", "deg")):
            object.__setattr__(self, name, _number(name, getattr(self, name), unit))

    @property
    def disk(self) -> Disk | None:
        """The disk, its inclination at most `STEEPEST`; None if one of its numbers is missing or impossible."""
        if not (is_position_angle(self.pa) and 0 <= self.inclination <= 90):
            return None
        return Disk(min(self.inclination, STEEPEST), self.pa % 180)


def _number(name: str, value: Any, unit: str) -> float:
    """Return a number in a unit, of a number or of a quantity of Astropy."""
    needed = f"a number{f' in {unit}' if unit else ''}, or NaN where it is not known"
    if value is None or isinstance(value, (str, bytes, bool)):
        raise ConfigError(f"{name} is {value!r}; give {needed}")
    try:
        return float(u.Quantity(value, u.Unit(unit) if not hasattr(value, "unit") else None).to_value(unit))
    except (TypeError, ValueError, u.UnitsError):
        raise ConfigError(f"{name} is {value!r}; give {needed}") from None


def is_position_angle(pa: float) -> bool:
    """Tell whether a number of degrees is a position angle, and no mark of a missing one such as -99 or -999."""
    return bool(-360 <= pa <= 360) and pa != _NO_ANGLE


@dataclass(frozen=True)
class Measurement:
    """What was measured of a galaxy.

    Attributes
    ----------
    bar : Bar
    arms : Arms
    disk : Disk or None
        What numbers were deprojected with; None is face-on.
    disk_source : {"given", "isophotes", "none"}
    isophotes : Isophotes or None
        Measured on the picture, also where another disk was given.
    given : Given
    grid : PixelGrid
    kpc_per_arcsec : float
        NaN without a redshift.
    flags : int
        See `zoobot_3d.measure.flags`.
    """

    bar: Bar
    arms: Arms
    disk: Disk | None
    disk_source: str
    isophotes: Isophotes | None
    given: Given
    grid: PixelGrid
    kpc_per_arcsec: float
    flags: int

    def row(self) -> dict[str, Any]:
        """Return the row of the galaxy, see `zoobot_3d.measure.columns.GALAXY_COLUMNS`."""
        row: dict[str, Any] = {"flags": self.flags, "pixscale": self.grid.pixscale, "redshift": self.given.redshift}
        row |= {"kpc_per_arcsec": self.kpc_per_arcsec, "disk_source": self.disk_source}
        row |= {"given_inclination": self.given.inclination, "given_pa": self.given.pa}
        if self.disk is not None:
            row |= {f"disk_{name}": value for name, value in vars(self.disk).items()}
        if (found := self.isophotes) is not None:
            names = ("axis_ratio", "axis_ratio_err", "pa", "pa_err", "inclination", "inclination_err")
            row |= {f"isophote_{name}": getattr(found, name) for name in names}
            row["isophote_semi_major"] = found.semi_major * self.grid.pixscale
        row |= self.bar.row() | self.arms.row()
        for name in ("length", "semi_major", "length_deprojected"):
            row[f"bar_{name}_kpc"] = row[f"bar_{name}"] * self.kpc_per_arcsec
            row[f"bar_{name}_kpc_err"] = row[f"bar_{name}_err"] * self.kpc_per_arcsec
        return row

    def arm_rows(self) -> list[dict[str, Any]]:
        """Return the rows of its arms, see `zoobot_3d.measure.columns.ARM_COLUMNS`."""
        return [
            {"arm": number, **arm.row(), "length_kpc": arm.length * self.kpc_per_arcsec}
            for number, arm in enumerate(self.arms.arms, 1)
        ]


def kpc_per_arcsec(redshift: float, cosmology: str = "Planck18") -> float:
    """Return the proper length of an arcsec, kpc; NaN unless the redshift is above 0 and up to `HIGHEST_REDSHIFT`.

    Raises
    ------
    ConfigError
        If there is no such cosmology.
    """
    if cosmology not in COSMOLOGIES:
        raise ConfigError(f"no cosmology {cosmology!r}; choose from {', '.join(COSMOLOGIES)}")
    if not 0 < redshift <= HIGHEST_REDSHIFT:
        return np.nan
    model = getattr(astropy.cosmology, cosmology)
    return float(model.kpc_proper_per_arcmin(redshift).value) / 60


def measure_masks(
    masks: NDArray[np.floating],
    grid: PixelGrid,
    *,
    image: NDArray[np.generic] | None = None,
    given: Given | None = None,
    sigma: NDArray[np.floating] | None = None,
    members: Sequence[NDArray[np.floating]] = (),
    cosmology: str = "Planck18",
    centre: tuple[float, float] | None = None,
) -> Measurement:
    """Measure the bar and the arms of one galaxy.

    Parameters
    ----------
    masks : numpy.ndarray
        (2, H, W) fractions of volunteers in 0-1, spiral then bar, row 0 north; NaN, or masked, outside the field.
    grid : PixelGrid
        Their pixels.
    image : numpy.ndarray, optional
        (H, W) light or (H, W, 3) picture on the same pixels, to measure the outer isophotes on.
    given : Given, optional
        Redshift, inclination and position angle, where they are known. A disk that is given comes before that of
        the isophotes.
    sigma : numpy.ndarray, optional
        (2, H, W) standard deviations of the masks' pixels.
    members : sequence of numpy.ndarray
        Masks of the members of an ensemble, each (2, H, W).
    cosmology : str
        One of `COSMOLOGIES`.
    centre : tuple of float, optional
        (x, y) of the galaxy's centre, px; the grid's reference pixel by default.

    Returns
    -------
    Measurement

    Raises
    ------
    GridError
        If masks, image, standard deviations or members do not have the shape of the grid, masks are no fractions, or
        the centre is no position.
    ConfigError
        If there is no such cosmology.
    """
    masks = planes_of_fractions(masks, grid)
    members = [planes_of_fractions(member, grid, "members") for member in members]
    if sigma is not None:
        sigma = planes_on(sigma, grid, "sigma")
    if image is not None and np.shape(image)[:2] != grid.shape:
        raise GridError(f"an image of shape {np.shape(image)} does not lie on a grid of {grid.shape}")
    if centre is not None and not (np.shape(centre) == (2,) and np.isfinite(np.asarray(centre, float)).all()):
        raise GridError(f"centre is {centre!r}; give (x, y) in pixels")
    known = given or Given()
    scale = kpc_per_arcsec(known.redshift, cosmology)
    isophotes = None if image is None else disk_of_light(image, centre or grid.reference_pixel)
    disk, source = known.disk, "given"
    if disk is None:
        disk, source = (None, "none") if isophotes is None else (isophotes.disk, "isophotes")
    size = np.nan if isophotes is None else isophotes.semi_major
    bar = measure_bar(
        masks[1],
        grid,
        disk=disk,
        disk_semi_major=size,
        sigma=None if sigma is None else sigma[1],
        members=[member[1] for member in members],
        centre=centre,
    )
    stretch = 1.0 if disk is None or np.isnan(bar.pa) else disk.deproject_line(bar.pa)[1]
    # A bar that few volunteers would draw does not cut arms off.
    reach = 0.0 if bar.flags & bits("bar_faint") else float(np.nan_to_num(bar.length_px / 2 * stretch))
    arms = measure_arms(
        masks[0],
        grid,
        disk=disk,
        bar_semi_major=reach,
        sigma=None if sigma is None else sigma[0],
        centre=centre,
    )
    flagged = {
        "no_scale": not grid.scaled,
        "no_redshift": np.isnan(scale),
        "no_disk": disk is None,
        "disk_unsure": source == "isophotes" and isophotes is not None and isophotes.inclination_err > _UNSURE,
        "inclined": disk is not None and disk.inclination > _INCLINED,
    }
    own = bits(*(name for name, holds in flagged.items() if holds))
    return Measurement(bar, arms, disk, source, isophotes, known, grid, scale, own | bar.flags | arms.flags)
