"""Masks for positions on the sky, with nothing on disk: fetch the cutouts, predict, save.

One position, a list of them, and a table of galaxies take the same way: rows of a table are asked for from the cutout
service, and what came is predicted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.catalog.naming import integer_ids, position_names
from zoobot_3d.errors import FetchError
from zoobot_3d.infer.mask_files import MaskFormat
from zoobot_3d.infer.predict import PredictSummary, predict
from zoobot_3d.infer.predictions import has_sigma, read_masks, read_masks_and_sigma
from zoobot_3d.schema import CLASSES, COL_DEC, COL_FITS, COL_JPG, COL_RA, EMPTY, id_column
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz
from zoobot_3d.sources.cutout_requests import RequestOptions, read_requests
from zoobot_3d.sources.fetch import FAILED, LEDGER, FetchOptions, read_ledger
from zoobot_3d.sources.legacy_survey import COLUMNS, IMAGES, CutoutOptions, fetch_cutouts

if TYPE_CHECKING:
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = [
    "DEFAULT_PIXSCALE",
    "FetchSettings",
    "SkyMasks",
    "fetch_galaxies",
    "position_name",
    "position_table",
    "predict_radec",
]

DEFAULT_PIXSCALE = 0.262
"""Arcsec per pixel of the 424 px cutout of a galaxy whose size is not known: the Legacy Surveys' own pixels."""


@dataclass(frozen=True)
class FetchSettings:
    """How cutouts are asked for.

    Attributes
    ----------
    requests : RequestOptions
        Which columns hold positions, names and sizes.
    cutouts : CutoutOptions
        Layer, size and service.
    network : FetchOptions
        Connections, rate and tries.
    """

    requests: RequestOptions = field(default_factory=lambda: RequestOptions(default_pixscale=DEFAULT_PIXSCALE))
    cutouts: CutoutOptions = field(default_factory=lambda: CutoutOptions(retry_empty=True))
    network: FetchOptions = field(default_factory=FetchOptions)


@dataclass(frozen=True)
class SkyMasks:
    """What was found at one position.

    Attributes
    ----------
    name : str
        After the position, as ``J105624.00+123000.0``, or as it was given.
    folder : pathlib.Path
        Of the prediction; holds ``images/`` (cutouts and pictures), ``masks/`` (FITS with WCS) and ``shards/``.
    picture : numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north.
    masks : numpy.ndarray
        (2, H, W) float32 fractions of volunteers, row 0 north.
    sigma : numpy.ndarray or None
        (2, H, W) float32 standard deviations of the masks, where they were asked for.
    grid : PixelGrid
        Where they are on the sky.
    warning : str
        What may be wrong with them; empty if nothing is known to be.
    """

    name: str
    folder: Path
    picture: NDArray[np.uint8] = field(repr=False)
    masks: NDArray[np.float32] = field(repr=False)
    sigma: NDArray[np.float32] | None = field(repr=False)
    grid: PixelGrid
    warning: str = ""

    def areas(self, level: float = 0.2) -> dict[str, float]:
        """Area of each class above a fraction of volunteers, arcsec^2."""
        pixel = self.grid.pixscale**2
        return {name: float((mask > level).sum() * pixel) for name, mask in zip(CLASSES, self.masks, strict=True)}


def fetch_galaxies(
    table: pd.DataFrame,
    out: str | os.PathLike[str],
    *,
    name: str = "table",
    settings: FetchSettings | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, list[str]]:
    """Fetch the cutouts of a table of galaxies, and list them for `zoobot_3d.predict`.

    Parameters
    ----------
    table : pandas.DataFrame
        A row a galaxy, with names, positions and, where known, sizes; see
        `zoobot_3d.sources.cutout_requests.RequestOptions`.
    out : path
        Cutouts go to ``images/`` in it. What is there already is not fetched again.
    name : str
        What to call the table in messages: its file.
    settings : FetchSettings, optional
        Columns, service, network.
    progress : bool
        Show a bar.

    Returns
    -------
    galaxies : pandas.DataFrame
        As from `zoobot_3d.catalog.listing.list_galaxies`, with the columns ``problem`` (why there is no cutout) and
        ``warning``, and ``field``: ``"auto"`` where the size is not known. A row for every row of the table that has a
        name.
    notes : list of str
        Lines on what is wrong with the table.

    Raises
    ------
    CatalogError
        If the table has no names or positions.
    FetchError
        If the service does not answer.
    """
    settings = settings or FetchSettings()
    requests, notes = read_requests(table, name, settings.cutouts.size, settings.requests)
    root = Path(out)
    fetch_cutouts(
        table,
        root,
        name=name,
        requests=settings.requests,
        cutouts=settings.cutouts,
        options=settings.network,
        progress=progress,
    )
    ledger = read_ledger(root / IMAGES / LEDGER, COLUMNS).set_index("id")
    failed = _failures(root / IMAGES / FAILED, table)
    requests = requests[requests["id"].ne("")]
    rows = []
    for request in requests.to_dict("records"):
        row = {name: request[name] for name in ("id", "ra", "dec", "pixscale", "warning")}
        row |= {
            "field": "picture" if request["sized"] else "auto",
            "path": "",
            "file": "",
            "problem": request["reason"] if isinstance(request["reason"], str) else "",
        }
        if not row["problem"] and request["id"] in ledger.index:
            entry = ledger.loc[request["id"]]
            # The FITS knows its own position, but the picture is what every other command shows.
            path = entry[COL_FITS] or entry[COL_JPG]
            row |= {"path": path, "file": str(root / path)} if path else {"problem": EMPTY}
        elif not row["problem"]:
            row["problem"] = failed.get(request["row"], "the cutout could not be fetched")
        rows.append(row)
    galaxies = pd.DataFrame(rows)
    named = settings.requests.id_column or id_column(list(table.columns))
    if named is not None and len(galaxies):
        galaxies["id"] = integer_ids(galaxies["id"], table, named)
    galaxies.attrs["root"] = str(root)
    return galaxies, notes


def _failures(path: Path, table: pd.DataFrame) -> dict[int, str]:
    """Reasons by row of the table, as the fetch has just recorded them."""
    if not path.exists():
        return {}
    failed = io.read_table(path)
    shared = [column for column in table.columns if column in failed.columns]
    reasons = {tuple(map(str, row)): reason for *row, reason in failed[[*shared, "reason"]].itertuples(index=False)}
    keys = [tuple(map(str, row)) for row in table[shared].itertuples(index=False)]
    return {index: reasons[key] for index, key in enumerate(keys) if key in reasons}


def predict_radec(
    positions: Sequence[SkyCoord],
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    settings: FetchSettings | None = None,
    masks: MaskFormat = "fits",
    uncertainty: bool = False,
    progress: bool = True,
) -> tuple[list[SkyMasks], PredictSummary]:
    """Find arms and bars at positions on the sky.

    Parameters
    ----------
    positions : sequence of SkyCoord
        Where.
    segmenter : Segmenter
        From `zoobot_3d.load_segmenter`.
    out : path
        Folder of the prediction. What is there already is not fetched again.
    names : sequence of str, optional
        One for each position; by default after the position.
    settings : FetchSettings, optional
        Service and network; ``settings.requests.pixscale`` is arcsec per pixel of the 424 px cutout. The network was
        trained on galaxies that fill the picture as Galaxy Zoo's do: ``max(min(0.04 * petro_th50, 0.02 * petro_th90),
        0.1)`` (see `zoobot_3d.catalog.pixel_scales.gz_pixscale`).
    masks : {"fits", "png", "none"}
        Files of the masks.
    uncertainty : bool
        Write the masks' standard deviations too, see `zoobot_3d.infer.predict.predict`.
    progress : bool
        Show a bar.

    Returns
    -------
    found : list of SkyMasks
        Of the positions with masks.
    summary : PredictSummary
        How many have none, and why.

    Raises
    ------
    FetchError
        If no cutout could be had, or all lie outside the footprint of the survey.
    """
    folder = Path(out)
    table = position_table(positions, names)
    galaxies, _ = fetch_galaxies(table, folder, name="--radec", settings=settings, progress=progress)
    if galaxies["problem"].ne("").all():
        place, problem = positions[0], galaxies["problem"].iloc[0]
        raise FetchError(
            f"{place.icrs.ra.deg:.5f} {place.icrs.dec.deg:+.5f}", problem, "check position, layer and connection"
        )
    summary = predict(galaxies, segmenter, folder, masks=masks, uncertainty=uncertainty)
    return list(read_sky(folder, galaxies)), summary


def read_sky(folder: Path, galaxies: pd.DataFrame) -> list[SkyMasks]:
    """Read the masks of fetched galaxies back, each with its picture and grid; those without masks are left out."""
    with_sigma = has_sigma(folder)
    reader = read_masks_and_sigma if with_sigma else read_masks
    files = dict(zip(galaxies["id"], galaxies["file"], strict=True))
    found = {}
    for row, masks, *sigma in reader(folder, set(files)):
        if masks is None:
            continue
        cube, grid = io.read_cutout(files[row["id"]])
        picture = rgb_from_grz(cube[:, ::-1])
        warning = "" if pd.isna(row["warning"]) else str(row["warning"])
        found[row["id"]] = SkyMasks(str(row["id"]), folder, picture, masks, sigma[0] if sigma else None, grid, warning)
    return [found[name] for name in files if name in found]


def position_table(positions: Sequence[SkyCoord], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Make a table of positions: ``id``, ``ra``, ``dec`` (deg)."""
    given = [position_name(place) for place in positions] if names is None else list(names)
    return pd.DataFrame(
        {
            "id": given,
            COL_RA: [float(place.icrs.ra.deg) for place in positions],
            COL_DEC: [float(place.icrs.dec.deg) for place in positions],
        }
    )


def position_name(place: SkyCoord) -> str:
    """Name after the position, as the IAU recommends: cut, not rounded."""
    return position_names(np.array([place.icrs.ra.deg]), np.array([place.icrs.dec.deg]))[0]
