"""Masks at a position on the sky, with nothing on disk: fetch the cutout, predict, save."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.catalog.reading import list_galaxies
from zoobot_3d.errors import ConfigError, FetchError
from zoobot_3d.infer.predict import predict, read_masks, read_masks_and_sigma
from zoobot_3d.schema import CLASSES, COL_DEC, COL_PIXSCALE, COL_RA, DEFAULT_LAYER
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.legacy_survey import CUTOUT_URL, fetch_cutouts

if TYPE_CHECKING:
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = ["SkyMasks", "parse_radec", "predict_radec"]


@dataclass(frozen=True)
class SkyMasks:
    """What was found at one position.

    Attributes
    ----------
    name : str
        After the position, as ``J105624.00+123000.0``.
    folder : pathlib.Path
        Holds ``images/`` (the cutout and its picture), ``masks/`` (FITS with WCS) and ``shards/``.
    picture : numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north.
    masks : numpy.ndarray
        (2, H, W) float32 fractions of volunteers, row 0 north.
    sigma : numpy.ndarray or None
        (2, H, W) float32 standard deviations of the masks, where they were asked for.
    grid : PixelGrid
        Where they are on the sky.
    """

    name: str
    folder: Path
    picture: NDArray[np.uint8]
    masks: NDArray[np.float32]
    sigma: NDArray[np.float32] | None
    grid: PixelGrid

    def areas(self, level: float = 0.2) -> dict[str, float]:
        """Area of each class above a fraction of volunteers, arcsec^2."""
        pixel = self.grid.pixscale**2
        return {name: float((mask > level).sum() * pixel) for name, mask in zip(CLASSES, self.masks, strict=True)}


def parse_radec(text: str) -> SkyCoord:
    """Read a position: degrees, as ``"164.1 12.5"``, or ``"10:56:24 +12:30:00"``, hours and degrees.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    words = text.replace(",", " ").split()
    try:
        if len(words) == 2 and all(_is_number(word) for word in words):
            ra, dec = (float(word) for word in words)
            if not 0 <= ra <= 360:
                raise ValueError("ra must be within 0 and 360 degrees")
            return SkyCoord(ra * u.deg, dec * u.deg)
        return SkyCoord(" ".join(words), unit=(u.hourangle, u.deg))
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--radec {text!r}: not a position ({reason}); write 'RA Dec' in degrees, or '10:56:24 +12:30:00'"
        ) from None


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def predict_radec(
    positions: Sequence[SkyCoord],
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    *,
    pixscale: float = 0.262,
    layer: str = DEFAULT_LAYER,
    url: str = CUTOUT_URL,
    options: FetchOptions | None = None,
    uncertainty: bool = False,
    progress: bool = True,
) -> list[SkyMasks]:
    """Find arms and bars at positions on the sky.

    Parameters
    ----------
    positions : sequence of SkyCoord
        Where, e.g. from `parse_radec`.
    segmenter : Segmenter
        From `zoobot_3d.load_segmenter`.
    out : path
        A folder for each position is made in it. What is there already is not fetched again.
    pixscale : float
        Arcsec per pixel of the 424 px cutout. The network was trained on galaxies that fill the picture as Galaxy
        Zoo's do: ``max(min(0.04 * petro_th50, 0.02 * petro_th90), 0.1)`` (see `zoobot_3d.catalog.reading.gz_pixscale`).
    layer, url, options
        Of the cutout service, see `zoobot_3d.sources.legacy_survey.fetch_cutouts`.
    uncertainty : bool
        Write the masks' standard deviations too, see `zoobot_3d.infer.predict.predict`.
    progress : bool
        Show a bar.

    Returns
    -------
    list of SkyMasks

    Raises
    ------
    ConfigError
        If ``pixscale`` is not positive.
    FetchError
        If a cutout cannot be had, or lies outside the footprint of the survey.
    """
    if not (np.isfinite(pixscale) and pixscale > 0):
        raise ConfigError(f"--pixscale {pixscale:g}: give a positive number of arcsec per pixel, such as 0.262")
    return [
        _one(place, segmenter, Path(out), pixscale, layer, url, options, uncertainty, progress) for place in positions
    ]


def _one(
    place: SkyCoord,
    segmenter: Segmenter,
    out: Path,
    pixscale: float,
    layer: str,
    url: str,
    options: FetchOptions | None,
    uncertainty: bool,
    progress: bool,
) -> SkyMasks:
    name = _name(place)
    folder = out / f"{name}_{pixscale:g}_{layer}"  # another scale or layer is another picture
    row = pd.DataFrame({"id": [name], COL_RA: [place.ra.deg], COL_DEC: [place.dec.deg], COL_PIXSCALE: [pixscale]})
    how = {"layer": layer, "url": url, "options": options or FetchOptions(), "progress": progress}
    summary = fetch_cutouts(row, folder, retry_empty=True, **how)  # type: ignore[arg-type]
    cutout = folder / "images" / "fits" / f"{io.file_stem(name)}.fits"
    if not cutout.exists():
        reason = next(iter(summary.reasons), "no cutout")
        raise FetchError(f"{place.ra.deg:.5f} {place.dec.deg:+.5f}", reason, "check position, layer and connection")
    predict(list_galaxies([str(cutout)]), segmenter, folder, masks="fits", uncertainty=uncertainty)
    sigma = None
    if uncertainty:
        _, masks, sigma = next(read_masks_and_sigma(folder))
    else:
        _, masks = next(read_masks(folder))
    assert masks is not None  # predict raises when its only galaxy fails
    cube, grid = io.read_cutout(cutout)
    return SkyMasks(name, folder, rgb_from_grz(cube[:, ::-1]), masks, sigma, grid)


def _name(place: SkyCoord) -> str:
    """Name after the position, as the IAU recommends: cut, not rounded."""
    ra = place.icrs.ra.to_string(u.hour, sep="", precision=3, pad=True)[:-1]
    dec = place.icrs.dec.to_string(u.deg, sep="", precision=2, pad=True, alwayssign=True)[:-1]
    return f"J{ra}{dec}"
