"""All measurements of one galaxy: its disk, bar and arms, as a row of a table and rows of its arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import astropy.cosmology
import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import ConfigError
from zoobot_3d.measure.arms import Arms, measure_arms
from zoobot_3d.measure.bars import Bar, measure_bar
from zoobot_3d.measure.disk import STEEPEST, Disk, Isophotes, disk_of_light
from zoobot_3d.measure.flags import bits
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["COSMOLOGIES", "Given", "Measurement", "kpc_per_arcsec", "measure_masks"]

COSMOLOGIES: tuple[str, ...] = tuple(astropy.cosmology.realizations.available)
"""Cosmologies by name, as `astropy.cosmology` has them."""

_INCLINED, _UNSURE = 70.0, 10.0  # deg


@dataclass(frozen=True)
class Given:
    """What is known of a galaxy beside its masks; NaN where it is not.

    Attributes
    ----------
    redshift : float
        For lengths in kpc.
    inclination, pa : float
        Of the disk, deg; position angle of the major axis north through east.
    """

    redshift: float = np.nan
    inclination: float = np.nan
    pa: float = np.nan

    @property
    def disk(self) -> Disk | None:
        """The disk, its inclination at most `STEEPEST`; None if one of its numbers is missing or impossible."""
        if not (np.isfinite(self.pa) and 0 <= self.inclination <= 90):
            return None
        return Disk(min(self.inclination, STEEPEST), self.pa % 180)


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
    """Return the proper length of an arcsec, kpc; NaN unless the redshift is above 0.

    Raises
    ------
    ConfigError
        If there is no such cosmology.
    """
    if cosmology not in COSMOLOGIES:
        raise ConfigError(f"no cosmology {cosmology!r}; choose from {', '.join(COSMOLOGIES)}")
    if not (np.isfinite(redshift) and redshift > 0):
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
        (2, H, W) fractions of volunteers, spiral then bar, row 0 north; NaN outside the field.
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
        If the masks do not have the shape of the grid.
    ConfigError
        If there is no such cosmology.
    """
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
    reach = float(np.nan_to_num(bar.length_px / 2 * stretch))
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
