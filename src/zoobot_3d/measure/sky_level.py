"""What of an image is sky, and what is another source than the galaxy: level and noise of the sky, and neighbours.

Works on arrays, row 0 north, NaN where there are no data. Must not know masks of arms or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.stats import mad_std, sigma_clipped_stats
from numpy.typing import NDArray
from photutils.segmentation import SegmentationImage, detect_sources
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter, median, median_filter

from zoobot_3d.quiet import quiet_libraries

__all__ = ["LEAST_SKY", "Sky", "Sources", "find_sources", "measure_sky"]

LEAST_SKY = 500
"""Pixels of sky that a level is measured on."""

_SMOOTH_PX = 1.5
_DETECTION = 3.0  # standard deviations of the smooth image, of the galaxy and its neighbours
_ON_GALAXY = 5.0  # likewise, of a source that lies on the galaxy
_STANDS_OUT = 4.0  # brightness of such a source, over the median of the galaxy at its radius
_AROUND = 2.0  # likewise, over the median around it
_WINDOWS = 9  # blocks to a side of what is around a source
_LEAST_PX = 10
_REACH = 1.2
_MARGIN_PX = 5  # about sources, that is no sky
_RING_PX = 2.0
_CORE_PX = 4.0  # about the centre, where a median over a ring is no measure
_BLOCK = 8
_LEAST_BLOCKS = 16


@dataclass(frozen=True)
class Sky:
    """The sky of one band, in the unit of the image.

    Attributes
    ----------
    level, level_err : float
        Median, clipped, and its error, which takes the correlation of the noise into account; 0 and NaN where there
        is too little sky.
    noise : float
        Standard deviation of single pixels; NaN likewise.
    correlation : float
        Variance of sums over blocks of 8 x 8 pixels, over that of as many independent pixels; at least 1.
    """

    level: float
    level_err: float
    noise: float
    correlation: float


@dataclass(frozen=True, eq=False)
class Sources:
    """What lies where in an image.

    Attributes
    ----------
    others : numpy.ndarray of bool
        (H, W) other sources than the galaxy: neighbours, and compact ones on it.
    sky : numpy.ndarray of bool
        (H, W) pixels of sky.
    """

    others: NDArray[np.bool_]
    sky: NDArray[np.bool_]


def find_sources(
    planes: NDArray[np.floating], radius: NDArray[np.floating], marked: NDArray[np.bool_], *, grow: float = 4.0
) -> Sources:
    """Find the galaxy, other sources and the sky (`photutils.segmentation`).

    The sky is further from the centre than 1.2 times what is marked. The mean of the bands, each in units of its
    noise, is smoothed; what stands out from the sky by 3 standard deviations is a source. The galaxy is that at the
    centre, and those that are mostly marked, such as arms that no disk connects; the others are neighbours. On the
    galaxy, a region is one if it is by 5 standard deviations brighter than 4 times the median of the galaxy at its
    radius (or further in, if that is less) and than twice the median of the square about it, and is not at the centre:
    arms and most star-forming regions are fainter.

    Parameters
    ----------
    planes : numpy.ndarray
        (bands, H, W) image, NaN where there are no data.
    radius : numpy.ndarray
        (H, W) radius of each pixel about the galaxy's centre, in the plane of its disk, px.
    marked : numpy.ndarray of bool
        (H, W) what is surely the galaxy: its arms and its bar.
    grow : float
        Pixels by which other sources are grown; the square about a pixel is 7 times as wide.

    Returns
    -------
    Sources
        Without sky, no neighbours either.
    """
    known = np.isfinite(planes).any(axis=0)
    outside = radius > _REACH * np.percentile(radius[marked], 99) if marked.any() else np.ones(known.shape, bool)
    nothing = Sources(np.zeros(known.shape, bool), np.zeros(known.shape, bool))
    scaled: list[NDArray[Any]] = []
    for plane in planes:
        if (sky := outside & np.isfinite(plane)).sum() >= LEAST_SKY:
            _, level, noise = sigma_clipped_stats(plane[sky], sigma=2.5)
            scaled.append(np.nan_to_num((plane - level) / (noise or 1.0)))
    if not scaled:
        return nothing
    smooth = gaussian_filter(np.mean(scaled, axis=0), _SMOOTH_PX)
    _, level, noise = sigma_clipped_stats(smooth[known & outside], sigma=2.5)
    smooth = np.where(known, smooth - level, 0)
    noise = float(noise) or 1e-6 * float(smooth.max() or 1)
    with quiet_libraries():
        segments = detect_sources(smooth, _DETECTION * noise, n_pixels=_LEAST_PX)
        if segments is None:
            return Sources(nothing.others, known & outside)
        galaxy = _at_centre(segments, radius) | _mostly(segments, marked)
        others = (segments.data > 0) & ~galaxy | _on_galaxy(smooth, noise, radius, galaxy, grow)
    if others.any():
        others = np.asarray(distance_transform_edt(~others)) <= grow
    source = binary_dilation(segments.data > 0, iterations=_MARGIN_PX)
    return Sources(others, known & outside & ~source)


def _mostly(segments: SegmentationImage, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the segments of which more than half is marked."""
    labels = segments.data.ravel()
    size, inside = np.bincount(labels), np.bincount(labels, marked.ravel())
    chosen = inside > size / 2
    chosen[0] = False
    return np.asarray(chosen[segments.data])


def _at_centre(segments: SegmentationImage, radius: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the segment that is nearest to the centre, if it is near; else nothing."""
    labels = segments.data
    near = np.where((labels > 0) & (radius <= 2 * _CORE_PX), radius, np.inf)
    label = labels.flat[int(near.argmin())] if np.isfinite(near).any() else 0
    return (labels == label) & (label > 0)


def _on_galaxy(
    smooth: NDArray[Any], noise: float, radius: NDArray[Any], galaxy: NDArray[np.bool_], grow: float
) -> NDArray[np.bool_]:
    """Find what lies on the galaxy and is much brighter than it is at this radius, and than what is around it."""
    if not galaxy.any():
        return galaxy
    ring = np.where(np.isfinite(radius), radius / _RING_PX, 0).astype(int)
    n_rings = int(ring.max()) + 1
    there = np.bincount(ring[galaxy], minlength=n_rings) > 0
    levels = np.full(n_rings, np.inf)
    levels[there] = median(smooth, np.where(galaxy, ring, -1), np.flatnonzero(there))
    levels = np.minimum.accumulate(levels)  # a source outside of the disk is the whole of its ring
    level = np.maximum(_STANDS_OUT * levels[ring], _AROUND * _around(smooth, 7 * grow))
    threshold = np.maximum(level, 0) + _ON_GALAXY * noise
    found = detect_sources(smooth, threshold, n_pixels=_LEAST_PX, mask=~galaxy)
    if found is None:
        return np.zeros(galaxy.shape, bool)
    core = np.unique(found.data[radius <= _CORE_PX])
    return (found.data > 0) & ~np.isin(found.data, core)


def _around(image: NDArray[Any], side: float) -> NDArray[Any]:
    """Return the median in a square about each pixel, ``side`` px wide, to the blocks of a ninth of it."""
    block = max(1, round(side / _WINDOWS))
    padded = np.pad(image, [(0, -n % block) for n in image.shape], mode="edge")
    rows, columns = (n // block for n in padded.shape)
    small = median_filter(padded.reshape(rows, block, columns, block).mean(axis=(1, 3)), _WINDOWS, mode="nearest")
    return np.asarray(small.repeat(block, 0).repeat(block, 1)[: image.shape[0], : image.shape[1]])


def measure_sky(plane: NDArray[np.floating], sky: NDArray[np.bool_]) -> Sky:
    """Measure level and noise of one band's sky.

    Parameters
    ----------
    plane : numpy.ndarray
        (H, W) image, NaN where there are no data.
    sky : numpy.ndarray of bool
        (H, W) its pixels of sky.

    Returns
    -------
    Sky
        The correlation is from blocks, as noise in empty apertures (Labbe et al. 2003, AJ 125, 1107).
    """
    used = sky & np.isfinite(plane)
    if used.sum() < LEAST_SKY:
        return Sky(0.0, np.nan, np.nan, 1.0)
    _, level, noise = sigma_clipped_stats(plane[used], sigma=3.0)
    height, width = (n // _BLOCK * _BLOCK for n in plane.shape)
    cut = (height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    whole = used[:height, :width].reshape(cut).all(axis=(1, 3))
    correlation = 1.0
    if whole.sum() >= _LEAST_BLOCKS and noise > 0:
        means = plane[:height, :width].reshape(cut).mean(axis=(1, 3))[whole]
        correlation = max(1.0, float(_BLOCK**2 * (mad_std(means) / noise) ** 2))
    return Sky(float(level), float(noise * np.sqrt(correlation / used.sum())), float(noise), correlation)
