"""Galaxy Builder's galaxies as a training set: grey pictures, marks, and a catalogue of both.

The pictures are made from one band through an arcsinh stretch. Their north is not up, and their catalogue has no
positions: pictures and marks share the middle of the image. Knows marks, grids and catalogues; no networks.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.catalog.splits import assign_split
from zoobot_3d.compute.batch import reason_for
from zoobot_3d.errors import BadFileError
from zoobot_3d.marks.galaxy_builder import SDSS_PIXSCALE, Rules, read_galaxy_builder
from zoobot_3d.schema import COL_ID, COL_JPG, COL_MARKS, COL_PIXSCALE, GZ_FIELD_PX
from zoobot_3d.sky.grid import PixelGrid, resample

__all__ = ["DRAWN_MASTER", "FIELD_RADII", "DrawnSummary", "grey_picture", "import_galaxy_builder"]

DRAWN_MASTER = "data/galaxy_builder.parquet"

FIELD_RADII = 4.0
"""Side of a picture in Petrosian radii: as much as Galaxy Zoo's pictures show of a galaxy, and as the images hold."""

_PERCENTILE, _SOFTENING = 99.5, 10.0


@dataclass(frozen=True)
class DrawnSummary:
    """What an import wrote; as text, a few lines to read."""

    catalog: Path
    galaxies: int
    failed: dict[str, str]
    dropped: dict[str, int]

    def __str__(self) -> str:
        """Say how many, what was dropped, and why galaxies failed."""
        lines = [f"{self.galaxies} galaxies: {self.catalog}"]
        lines += [f"  dropped {count} x {reason}" for reason, count in sorted(self.dropped.items())]
        lines += [f"  failed: {reason}" for reason in self.failed.values()]
        return "\n".join(lines)


def grey_picture(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Turn one band of sky-subtracted light into a grey picture.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W) light above the sky, in any unit.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8: arcsinh of the light over its 99.5th percentile, black at the sky.
    """
    top = max(float(np.percentile(image, _PERCENTILE)), 1e-9)
    grey = np.arcsinh(np.clip(image / top, 0, None) * _SOFTENING) / np.arcsinh(_SOFTENING)
    return np.repeat((np.clip(grey, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def import_galaxy_builder(
    folder: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    rules: Rules | None = None,
) -> DrawnSummary:
    """Write pictures, marks and a catalogue of galaxies that volunteers of Galaxy Builder drew on.

    Parameters
    ----------
    folder : path
        ``catalog.csv`` with ``dr7objid`` and ``petro_theta_arcsec``, and for each galaxy ``ID.json``
        (`zoobot_3d.marks.galaxy_builder.read_galaxy_builder`) and ``ID.npz`` with ``image`` and ``mask`` (True is bad).
    root : path
        Data root: pictures go to ``images/drawn``, marks to ``marks/drawn``, the catalogue to `DRAWN_MASTER`.
    rules : Rules, optional
        How lines become areas.

    Returns
    -------
    DrawnSummary
        Galaxies that cannot be read are left out and named.

    Raises
    ------
    BadFileError
        If there is no catalogue, or no galaxy can be read.
    """
    folder, root = Path(folder), Path(root)
    table = read_catalog(folder / "catalog.csv", required=["dr7objid", "petro_theta_arcsec"])
    rows, failed, dropped = [], {}, Counter[str]()
    for name, petro in table[["dr7objid", "petro_theta_arcsec"]].itertuples(index=False):
        try:
            rows.append(_write_galaxy(folder, root, str(name), float(petro), rules, dropped))
        except Exception as error:  # one galaxy must not stop the others
            failed[str(name)] = reason_for(error, str(folder / f"{name}"), str(name))
    if not rows:
        raise BadFileError(folder, f"no galaxy can be read ({next(iter(failed.values()), 'the catalogue is empty')})")
    frame = pd.DataFrame(rows)
    frame["split"] = assign_split(frame[COL_ID])
    io.write_parquet(root / DRAWN_MASTER, frame)
    return DrawnSummary(root / DRAWN_MASTER, len(rows), failed, dict(dropped))


def _write_galaxy(
    folder: Path, root: Path, name: str, petro: float, rules: Rules | None, dropped: Counter[str]
) -> dict[str, object]:
    io.check_regular(folder / f"{name}.npz")
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        image = np.where(arrays["mask"], 0, arrays["image"]).astype(np.float32)
    galaxy = read_galaxy_builder(folder / f"{name}.json", (image.shape[0], image.shape[1]), petro, rules)
    pixscale = FIELD_RADII * petro / GZ_FIELD_PX
    field = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), pixscale)
    shown = resample(image, PixelGrid((image.shape[0], image.shape[1]), SDSS_PIXSCALE), field)
    stem = io.file_stem(name)
    places = {COL_JPG: f"images/drawn/{stem}.jpg", COL_MARKS: f"marks/drawn/{stem}.json"}
    io.write_jpeg(root / places[COL_JPG], grey_picture(shown), quality=95)
    galaxy.marks.to_json(root / places[COL_MARKS])
    dropped.update(galaxy.dropped)
    asked, marked = galaxy.marks.n_asked, galaxy.marks.n_marked
    counts = {f"n_{what}_{task}": n for what, of in (("asked", asked), ("marked", marked)) for task, n in of.items()}
    return {COL_ID: f"gb_{name}", COL_PIXSCALE: pixscale, **places, **counts}
