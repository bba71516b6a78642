"""Masks on the spaxels of integral-field cubes, and maps of such cubes split into arms, inter-arm and bar.

Works on arrays and world coordinates. Arrays on spaxels keep the order of the cube's file, as `astropy.io.fits` gives
it; masks have row 0 north. Must not know files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.nddata import CCDData
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel, proj_plane_pixel_scales
from drizzle.resample import Drizzle
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from zoobot_3d.errors import ConfigError, GridError
from zoobot_3d.measure.disk import Disk
from zoobot_3d.measure.radii import radius_matched
from zoobot_3d.quiet import quiet_libraries
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.header import SkyImage, tangent_offsets

__all__ = ["LEAST_FRACTION", "Part", "SpaxelMasks", "Split", "masks_on_spaxels", "spaxel_radius", "split"]

LEAST_FRACTION = 0.1
"""Fractions of volunteers below this have no weight: over a whole field, the faint tails of a mask would add up."""

_SLIVER = 1e-3  # of a spaxel: what is rounding rather than an overlap


@dataclass(frozen=True, eq=False)
class SpaxelMasks:
    """Masks on a spaxel grid.

    Attributes
    ----------
    masks : numpy.ndarray
        (2, H, W) float32, spiral then bar: mean fraction of volunteers over the part of each spaxel that lies in the
        field of the masks; NaN where none does. In the order of the cube's file.
    footprint : numpy.ndarray
        (H, W) float32 in 0-1: how much of each spaxel lies in the field of the masks.
    wcs : astropy.wcs.WCS
        Of the spaxels.
    fwhm : float
        Of the Gaussian that the masks were convolved with, arcsec; 0 if they were not.
    """

    masks: NDArray[np.float32]
    footprint: NDArray[np.float32]
    wcs: WCS
    fwhm: float = 0.0

    def ccddata(self, name: str) -> CCDData:
        """Return the mask of one class, ``spiral`` or ``bar``, with its WCS; spaxels outside the field are masked.

        Raises
        ------
        ConfigError
            If there is no such class.
        """
        if name not in CLASSES:
            raise ConfigError(f"no masks of {name!r}; the classes are {', '.join(CLASSES)}")
        plane = self.masks[CLASSES.index(name)]
        return CCDData(plane, unit="", wcs=self.wcs, mask=self.footprint == 0)


@dataclass(frozen=True)
class Part:
    """The weighted mean of a map over one part of a galaxy.

    Attributes
    ----------
    mean : float
        NaN if no spaxel has a weight.
    error : float
        Standard error of the mean; NaN if it is not known.
    weight : float
        Sum of the weights: how many whole spaxels the part is worth.
    n : int
        Spaxels whose weight is not 0.
    """

    mean: float
    error: float
    weight: float
    n: int


@dataclass(frozen=True)
class Split:
    """A map of a cube, split.

    Attributes
    ----------
    arm, interarm, bar : Part
    weights : numpy.ndarray
        (3, H, W) weights of the spaxels, of arm, inter-arm and bar, e.g. for medians or to stack spectra.
    """

    arm: Part
    interarm: Part
    bar: Part
    weights: NDArray[np.float64]


def masks_on_spaxels(
    masks: NDArray[np.floating], grid: PixelGrid, wcs: WCS, shape: tuple[int, int], *, fwhm: float = 0.0
) -> SpaxelMasks:
    """Bring masks onto spaxels: the mean over each spaxel's area on the sky (`drizzle.resample.Drizzle`).

    Parameters
    ----------
    masks : numpy.ndarray
        (2, H, W) fractions of volunteers, spiral then bar, row 0 north; NaN where nothing is known.
    grid : PixelGrid
        Their pixels, with a position.
    wcs : astropy.wcs.WCS
        Celestial WCS of the spaxels, for arrays in the order of the cube's file; it may be rotated or mirrored.
    shape : tuple of int
        Rows and columns of spaxels.
    fwhm : float
        Convolve the masks with a Gaussian of this FWHM first, arcsec: that of the cube's point spread function, so that
        a spaxel counts as arm as much as its light is from there. 0 does not.

    Returns
    -------
    SpaxelMasks

    Raises
    ------
    GridError
        If the masks have no position, do not fit their grid, or no spaxel lies in their field.
    ConfigError
        If the FWHM is negative or not finite.
    """
    masks = np.asarray(masks, np.float64)
    if masks.shape != (len(CLASSES), *grid.shape):
        raise GridError(f"masks of shape {masks.shape} do not lie on a grid of {grid.shape}")
    if grid.ra is None:
        raise GridError("the masks have no position on the sky; predict with positions (columns ra and dec)")
    if not (np.isfinite(fwhm) and fwhm >= 0):
        raise ConfigError(f"a FWHM of {fwhm} arcsec is not possible; give 0 or more")
    known = np.isfinite(masks).all(axis=0).astype(np.float64)
    masks = np.where(known > 0, np.nan_to_num(masks), 0.0)
    if fwhm:
        sigma = fwhm * gaussian_fwhm_to_sigma / grid.pixscale
        spread = np.stack([gaussian_filter(plane, sigma, mode="constant") for plane in (*masks, known)])
        masks = known * spread[:2] / np.maximum(spread[2], 1e-12)
    means, footprint = _drizzled(masks, known, grid, wcs, shape)
    footprint[footprint < _SLIVER] = 0
    if not footprint.any():
        raise GridError("no spaxel lies in the field of the masks; is it the cube of another galaxy?")
    return SpaxelMasks(np.where(footprint > 0, means.clip(0, 1), np.float32(np.nan)), footprint, wcs, fwhm)


def _drizzled(
    masks: NDArray[np.floating], known: NDArray[np.floating], grid: PixelGrid, wcs: WCS, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the means of masks over the known part of each spaxel, and how large that part is.

    Drizzling (Fruchter & Hook 2002, PASP 114, 144) whole pixels weights each with its overlap with the spaxel.
    """
    rows, columns = np.indices(grid.shape)
    with quiet_libraries(), np.errstate(all="ignore"):
        x, y = pixel_to_pixel(grid.wcs, wcs, columns, rows)
    sides = grid.pixscale / 3600 / proj_plane_pixel_scales(wcs)  # of a pixel of the masks, in spaxels
    margin = int(np.ceil(2 * sides.max())) + 2  # pixels that lie across the border are not drizzled exactly
    inner = (slice(margin, -margin),) * 2
    onto = np.stack([x + margin, y + margin], axis=-1)
    means = []
    for mask in masks:
        spaxels = Drizzle(out_shape=(shape[0] + 2 * margin, shape[1] + 2 * margin), fillval="0", disable_ctx=True)
        spaxels.add_image(mask.astype(np.float32), 1.0, onto, weight_map=known.astype(np.float32))
        means.append(spaxels.out_img[inner])
    return np.stack(means), spaxels.out_wht[inner] * np.float32(sides.prod())


def spaxel_radius(
    wcs: WCS, shape: tuple[int, int], ra: float, dec: float, disk: Disk | None = None
) -> NDArray[np.float64]:
    """Return the radius of each spaxel about a galaxy's centre, in the plane of its disk.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Of the spaxels.
    shape : tuple of int
        Rows and columns of spaxels.
    ra, dec : float
        Of the centre, deg (ICRS).
    disk : Disk, optional
        Face-on by default.

    Returns
    -------
    numpy.ndarray
        (H, W) arcsec, in the order of the cube's file.
    """
    y, x = np.indices(shape)
    sky = SkyImage(wcs, shape).to_sky(x, y)
    east, north = tangent_offsets(sky[0], sky[1], ra, dec)
    return np.hypot(*(disk or Disk(0.0, 0.0)).to_plane(-east, -north))


def split(
    values: ArrayLike,
    masks: SpaxelMasks,
    *,
    error: ArrayLike | None = None,
    radius: NDArray[np.floating] | None = None,
    ring: float = 1.0,
) -> Split:
    """Split a map of a cube into arms, inter-arm and bar.

    A spaxel's weight in arms and bar is the fraction of volunteers in the masks, where that is at least
    `LEAST_FRACTION`, times its footprint. In the inter-arm it is (1 - spiral) (1 - bar), times the footprint.

    Parameters
    ----------
    values : array_like
        (H, W) map in the order of the cube's file. Spaxels that are NaN, or masked in a masked array, are left out.
    masks : SpaxelMasks
        On the same spaxels.
    error : array_like, optional
        (H, W) standard errors of the map. Without them, the error of a mean is from the scatter of the spaxels, as that
        of a ratio of sums (Cochran 1977, Sampling Techniques, chapter 6). Neither knows that neighbouring spaxels are
        correlated.
    radius : numpy.ndarray, optional
        (H, W) radius of each spaxel, e.g. from `spaxel_radius` or the maps of a survey. The weights of the inter-arm
        then have the same distribution over radius as those of the arms (`zoobot_3d.measure.radii.radius_matched`).
        Without it, all spaxels of the footprint count, the nucleus among them.
    ring : float
        Width of the rings in which radii are matched, of the unit of ``radius``.

    Returns
    -------
    Split

    Raises
    ------
    GridError
        If shapes differ.
    """
    data = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    sigma = None if error is None else np.ma.filled(np.ma.asarray(error).astype(np.float64), np.nan)
    for name, array in (("map", data), ("error", sigma), ("radius", radius)):
        if array is not None and array.shape != masks.footprint.shape:
            raise GridError(f"the {name} has {array.shape} spaxels, the masks {masks.footprint.shape}")
    good = np.isfinite(data) & (masks.footprint > 0) & (True if sigma is None else np.isfinite(sigma) & (sigma > 0))
    spiral, bar = np.nan_to_num(masks.masks.astype(np.float64))
    area = np.where(good, masks.footprint, 0).astype(np.float64)
    arm = area * np.where(spiral >= LEAST_FRACTION, spiral, 0)
    between = area * (1 - spiral) * (1 - bar)
    if radius is not None:
        between, _ = radius_matched(arm, between, radius, ring)
    weights = np.stack([arm, between, area * np.where(bar >= LEAST_FRACTION, bar, 0)])
    arms, others, bars = (_part(data, weight, sigma) for weight in weights)
    return Split(arms, others, bars, weights)


def _part(data: NDArray[Any], weight: NDArray[Any], sigma: NDArray[Any] | None) -> Part:
    used = weight > 0
    n, w = int(used.sum()), weight[used]
    if not n:
        return Part(np.nan, np.nan, 0.0, 0)
    mean = float(np.average(data[used], weights=w))
    if sigma is not None:
        error = float(np.sqrt((w**2 * sigma[used] ** 2).sum()) / w.sum())
    else:
        spread = (w**2 * (data[used] - mean) ** 2).sum() * n / (n - 1) if n > 1 else np.nan
        error = float(np.sqrt(spread) / w.sum())
    return Part(mean, error, float(w.sum()), n)
