"""The light of arms, of what lies between them, and of the bar: fluxes, surface brightnesses, contrasts and colours.

Works on arrays of nanomaggies per pixel with masks on the same pixels, row 0 north. Must not know files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import GridError
from zoobot_3d.measure.disk import FACE_ON, Disk
from zoobot_3d.measure.flags import bits
from zoobot_3d.measure.radii import radius_matched
from zoobot_3d.measure.sky_level import Sky, Sources, find_sources, measure_sky
from zoobot_3d.measure.spaxels import LEAST_FRACTION
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.light import WAVELENGTHS

__all__ = ["LEAST_PX", "BandLight", "Light", "measure_light"]

LEAST_PX = 20.0
"""Sum of weights below which a part has no answer."""

_PARTS = ("arm", "interarm", "bar")
_THRESHOLDS = (None, 0.2, 0.5)  # fractions as weights, and binary masks that tell what the weights matter
_LEAST_KNOWN = 0.8  # of arms and what lies between, that a band must have data on
_MOST_MISSING = 0.2
_GROW_ARCSEC, _GROW_PX = 1.0, 4.0
_MAG = 2.5 / np.log(10)


@dataclass(frozen=True)
class BandLight:
    """The light in one band; names and units of its row are those of `zoobot_3d.measure.columns.LIGHT_COLUMNS`.

    Attributes
    ----------
    band : str
    flags : int
        See `zoobot_3d.measure.flags`.
    sky : Sky
        Per pixel.
    values : dict
        Numbers of the row, with their errors; what is not there is NaN.
    errors_from : {"invvar", "sky", "none"}
    redder : str
        The band of the colours; empty for the reddest.
    """

    band: str
    flags: int
    sky: Sky
    values: dict[str, float]
    errors_from: str
    redder: str = ""

    def row(self) -> dict[str, Any]:
        """Return the row of the table."""
        told = {"band": self.band, "flags": self.flags, "errors_from": self.errors_from, "redder": self.redder}
        return told | self.values | {"noise_correlation": self.sky.correlation}


@dataclass(frozen=True, eq=False)
class Light:
    """The light of a galaxy.

    Attributes
    ----------
    bands : tuple of BandLight
        In the order of the image.
    left_out : numpy.ndarray of bool
        (H, W) neighbours, stars, and pixels without masks.
    weights : numpy.ndarray
        (3, H, W) weights of arm, inter-arm and bar, e.g. to draw them.
    """

    bands: tuple[BandLight, ...]
    left_out: NDArray[np.bool_]
    weights: NDArray[np.float64]

    def __getitem__(self, band: str) -> BandLight:
        """Return the light in a band."""
        return next(light for light in self.bands if light.band == band)


@dataclass(frozen=True, eq=False)
class _Weights:
    """Weights of pixels by one definition of arm and bar, (H, W) each."""

    arm: NDArray[np.float64]
    interarm: NDArray[np.float64]
    bar: NDArray[np.float64]
    matched_arm: NDArray[np.float64]


def measure_light(
    image: NDArray[np.floating],
    bands: Sequence[str],
    masks: NDArray[np.floating],
    grid: PixelGrid,
    *,
    invvar: NDArray[np.floating] | None = None,
    disk: Disk | None = None,
    left_out: NDArray[np.bool_] | None = None,
    centre: tuple[float, float] | None = None,
) -> Light:
    """Measure the light of a galaxy's arms, of what lies between them at the same radii, and of its bar.

    Parameters
    ----------
    image : numpy.ndarray
        (bands, H, W) nanomaggies per pixel, row 0 north; NaN where there are no data.
    bands : sequence of str
        Their names; colours are of bands that are known (`zoobot_3d.sky.light.WAVELENGTHS`), each with the next redder.
    masks : numpy.ndarray
        (2, H, W) fractions of volunteers, spiral then bar; NaN where nothing is known.
    grid : PixelGrid
        Pixels of image and masks. Without a scale there are no surface brightnesses.
    invvar : numpy.ndarray, optional
        (bands, H, W) inverse variances of the image; by default the noise is that of the sky, everywhere.
    disk : Disk, optional
        That radii are deprojected with; face-on by default.
    left_out : numpy.ndarray of bool, optional
        (H, W) pixels to leave out, such as stars that volunteers marked, beside the neighbours that are found.
    centre : tuple of float, optional
        (x, y) of the galaxy's centre, px; the grid's reference pixel by default.

    Returns
    -------
    Light

    Raises
    ------
    GridError
        If shapes differ.
    """
    values: NDArray[np.float64] = np.asarray(image, np.float64)
    fractions: NDArray[np.float64] = np.asarray(masks, np.float64)
    shapes = {
        "image": values.shape == (len(bands), *grid.shape),
        "masks": fractions.shape == (len(CLASSES), *grid.shape),
    }
    shapes |= {"invvar": invvar is None or invvar.shape == values.shape}
    shapes |= {"left_out": left_out is None or left_out.shape == grid.shape}
    if wrong := [name for name, fits in shapes.items() if not fits]:
        raise GridError(f"{wrong[0]} does not lie on the grid of {grid.shape} with {len(bands)} bands")
    x, y = centre or grid.reference_pixel
    rows, columns = np.indices(grid.shape)
    radius = np.hypot(*(disk or FACE_ON).to_plane(columns - x, rows - y))
    grow = _GROW_ARCSEC / grid.pixscale if grid.scaled else _GROW_PX
    marked = np.asarray((np.nan_to_num(fractions) >= LEAST_FRACTION).any(axis=0))
    sources = find_sources(values, radius, marked, grow=max(grow, 2.0))
    out = sources.others | ~np.isfinite(fractions).all(axis=0) | (False if left_out is None else left_out)
    fractions = np.nan_to_num(fractions)
    return _Galaxy(values, tuple(bands), fractions, grid, invvar, radius, sources, out, disk is None).light()


@dataclass(frozen=True, eq=False)
class _Galaxy:
    """All that is known of a galaxy; checked."""

    image: NDArray[np.float64]
    bands: tuple[str, ...]
    masks: NDArray[np.float64]
    grid: PixelGrid
    invvar: NDArray[np.floating] | None
    radius: NDArray[np.float64]
    sources: Sources
    out: NDArray[np.bool_]
    no_disk: bool

    def light(self) -> Light:
        """Measure every band on the pixels that all usable bands have, and then colours."""
        whole = self._weights(None, np.ones(self.grid.shape, bool))
        first = self._weights(None, ~self.out)
        need = ~self.out & ((first.arm > 0) | (first.interarm > 0) | (first.bar > 0))
        known = np.isfinite(self.image)
        need = need if need.any() else ~self.out
        usable = [bool(need.any()) and plane[need].mean() >= _LEAST_KNOWN for plane in known]
        good = ~self.out & (known[usable].all(axis=0) if any(usable) else True)
        definitions = [self._weights(threshold, good) for threshold in _THRESHOLDS]
        shared = self._shared(whole, definitions[0])
        found = [
            self._band(index, definitions, shared) if fine else self._nothing(index)
            for index, fine in enumerate(usable)
        ]
        lights = tuple(self._with_colours(index, found, usable) for index in range(len(found)))
        soft = definitions[0]
        return Light(lights, self.out, np.stack([soft.arm, soft.interarm, soft.bar]))

    def _weights(self, threshold: float | None, good: NDArray[np.bool_]) -> _Weights:
        spiral, bar = self.masks if threshold is None else (self.masks >= threshold).astype(float)
        area = good.astype(np.float64)
        arm: NDArray[np.float64] = area * np.where(spiral >= LEAST_FRACTION, spiral, 0)
        between, matched = radius_matched(arm, area * (1 - spiral) * (1 - bar), self.radius, 1.0)
        return _Weights(arm, between, area * np.where(bar >= LEAST_FRACTION, bar, 0), arm * matched)

    def _shared(self, whole: _Weights, soft: _Weights) -> tuple[int, dict[str, float]]:
        """Return flags and numbers that are the same in all bands."""
        sums = {name: float(getattr(soft, name).sum()) for name in (*_PARTS, "matched_arm")}
        parts = [(whole.arm.sum(), sums["arm"]), (whole.bar.sum(), sums["bar"])]
        missing = [float(1 - kept / total) if total else 0.0 for total, kept in parts]
        matched = sums["matched_arm"] / sums["arm"] if sums["arm"] else np.nan
        flagged = {
            "no_scale": not self.grid.scaled,
            "no_disk": self.no_disk,
            "light_no_arms": sums["arm"] < LEAST_PX,
            "light_no_interarm": sums["interarm"] < LEAST_PX,
            "light_no_bar": sums["bar"] < LEAST_PX,
            "light_left_out": max(missing) > _MOST_MISSING,
            "light_unmatched": matched < 1 - _MOST_MISSING,
        }
        pixel = self.grid.pixscale**2
        areas = {"arm_area": sums["arm"] * pixel, "bar_area": sums["bar"] * pixel}
        told = {"arm_left_out": missing[0], "arm_matched": float(matched)}
        return bits(*(name for name, holds in flagged.items() if holds)), areas | told

    def _nothing(self, index: int) -> tuple[BandLight, list[dict[str, float]], dict[str, float]]:
        flags = bits("light_no_data", *(["no_scale"] if not self.grid.scaled else []))
        return BandLight(self.bands[index], flags, Sky(0.0, np.nan, np.nan, 1.0), {}, "none"), [], {}

    def _band(
        self, index: int, definitions: list[_Weights], shared: tuple[int, dict[str, float]]
    ) -> tuple[BandLight, list[dict[str, float]], dict[str, float]]:
        """Measure one band; return also its means by each definition, and their relative errors."""
        sky = measure_sky(self.image[index], self.sources.sky)
        flux = np.nan_to_num(self.image[index] - sky.level)
        if self.invvar is not None:
            weight = np.asarray(self.invvar[index], np.float64)
            variance = np.divide(1, weight, out=np.zeros_like(weight), where=weight > 0)
        else:
            variance = np.full(flux.shape, sky.noise**2)
        variance = variance * sky.correlation
        level_err = 0.0 if np.isnan(sky.level_err) else sky.level_err
        means = [_means(flux, weights, number > 0) for number, weights in enumerate(definitions)]
        noise = _noise(flux, variance, level_err, definitions[0], means[0])
        err = {name: float(np.hypot(value, _half_range(means, name))) for name, value in noise.items()}
        pixel = self.grid.pixscale**2
        values = dict(shared[1])
        for name in _PARTS:
            values |= {f"{name}_brightness": means[0][name] / pixel, f"{name}_brightness_err": err[name] / pixel}
        for name in ("arm", "bar"):
            weight_sum = float(getattr(definitions[0], name).sum()) if np.isfinite(means[0][name]) else np.nan
            values |= {f"{name}_flux": means[0][name] * weight_sum, f"{name}_flux_err": err[name] * weight_sum}
        values |= {"contrast": means[0]["contrast"], "contrast_err": err["contrast"]}
        values |= {"sky": sky.level / pixel, "sky_err": sky.level_err / pixel, "noise": sky.noise / pixel}
        negative = any(np.isfinite(means[0][name]) and means[0][name] <= 0 for name in _PARTS)
        flags = shared[0] | bits(
            *[n for n, h in (("light_negative", negative), ("light_no_sky", np.isnan(sky.noise))) if h]
        )
        source = "invvar" if self.invvar is not None else "none" if np.isnan(sky.noise) else "sky"
        relative = {name: noise[name] / means[0][name] if means[0][name] > 0 else np.nan for name in _PARTS}
        return BandLight(self.bands[index], flags, sky, values, source), means, relative

    def _with_colours(
        self,
        index: int,
        found: list[tuple[BandLight, list[dict[str, float]], dict[str, float]]],
        usable: list[bool],
    ) -> BandLight:
        """Add the colours of a band with the next redder one that is usable."""
        light, means, relative = found[index]
        here = WAVELENGTHS.get(light.band, np.inf)
        longer = [
            (WAVELENGTHS[band], other)
            for other, band in enumerate(self.bands)
            if usable[other] and WAVELENGTHS.get(band, 0) > here
        ]
        if not usable[index] or not longer:
            return light
        redder, others, of_redder = found[min(longer)[1]]
        values = dict(light.values)
        for part in _PARTS:
            colours = [{"colour": _colour(a[part], b[part])} for a, b in zip(means, others, strict=True)]
            noise = _MAG * np.hypot(relative[part], of_redder[part])
            values[f"{part}_colour"] = colours[0]["colour"]
            values[f"{part}_colour_err"] = float(np.hypot(noise, _half_range(colours, "colour")))
        return BandLight(light.band, light.flags, light.sky, values, light.errors_from, redder.band)


def _mean(flux: NDArray[Any], weight: NDArray[Any]) -> float:
    total = float(weight.sum())
    return float((weight * flux).sum()) / total if total >= LEAST_PX else np.nan


def _means(flux: NDArray[Any], weights: _Weights, binary: bool) -> dict[str, float]:
    """Mean flux per pixel of each part, and the contrast at the radii where there are both; NaN without an answer.

    Binary masks of which a fifth has no match are of other radii, and no measure of the error.
    """
    means = {name: _mean(flux, getattr(weights, name)) for name in _PARTS}
    if binary and weights.matched_arm.sum() < (1 - _MOST_MISSING) * weights.arm.sum():
        means["interarm"] = np.nan
    arm = _mean(flux, weights.matched_arm)
    means["contrast"] = arm / means["interarm"] if arm > 0 and means["interarm"] > 0 else np.nan
    return means


def _noise(
    flux: NDArray[Any], variance: NDArray[Any], level_err: float, weights: _Weights, means: dict[str, float]
) -> dict[str, float]:
    """Errors of the means by the noise of pixels and the error of the sky, which all parts of a band share."""

    def of(weight: NDArray[Any]) -> float:
        return float(np.sqrt((weight**2 * variance).sum()))

    out = {}
    for name in _PARTS:
        weight = getattr(weights, name)
        has_answer = np.isfinite(means[name])
        out[name] = float(np.hypot(of(weight) / weight.sum(), level_err)) if has_answer else np.nan
    out["contrast"] = np.nan
    if np.isfinite(means["contrast"]):
        arm, between = _mean(flux, weights.matched_arm), means["interarm"]
        per_pixel = weights.matched_arm / weights.matched_arm.sum() / arm
        per_pixel = per_pixel - weights.interarm / weights.interarm.sum() / between
        out["contrast"] = means["contrast"] * float(np.hypot(of(per_pixel), level_err * (1 / arm - 1 / between)))
    return out


def _half_range(variants: list[dict[str, float]], name: str) -> float:
    """Half of what a number differs by between definitions of the masks."""
    known = [variant[name] for variant in variants if np.isfinite(variant[name])]
    return (max(known) - min(known)) / 2 if known else 0.0


def _colour(first: float, second: float) -> float:
    return float(-2.5 * np.log10(first / second)) if first > 0 and second > 0 else np.nan
