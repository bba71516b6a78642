"""What one file of a catalogue says of itself: size, place, volunteers, what it looks like, or why it cannot be used.

Reads a file once and never raises. Must not know what the catalogue expects: `zoobot_3d.prepare.check` compares.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d import io, schema
from zoobot_3d.compute.batch import reason_for
from zoobot_3d.errors import BadFileError, Zoobot3DError
from zoobot_3d.marks.gz3d_summary import read_gz3d_summary
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz

__all__ = ["FACTS", "THUMB_SHAPE", "read_facts"]

FACTS = (
    "id", "error", "kind", "detail", "height", "width", "ra", "dec", "pixscale", "mangaid",
    *(f"n_asked_{name}" for name in schema.CLASSES), "thumb", "levels",
)  # fmt: skip
"""Columns: ``kind`` and ``detail`` of what is wrong, or None; pixels; centre in deg and arcsec / px; and so on."""

THUMB_SHAPE = (10, 10, 3)
"""Of a picture in a few numbers, to compare two files of one galaxy."""

_SAMPLES = 80  # rows and columns of a picture that its thumbnail is the mean of
_DEAD = 0.5  # share of exact zeros above which a band is dead, as where cutouts are fetched and predicted on
_FLAT = 8  # rows of one colour: what a decoder fills in for a missing row of JPEG blocks


def read_facts(rows: pd.DataFrame, root: str) -> pd.DataFrame:
    """Read some files.

    Parameters
    ----------
    rows : pandas.DataFrame
        ``id``, ``what`` (a key of the readers below: ``picture``, ``cutout``, ``marks``, ``gz3d``, ``mask``) and
        ``file``, relative to `root`.
    root : str
        Folder.

    Returns
    -------
    pandas.DataFrame
        A row a file, with the columns `FACTS`; None where a file does not say.
    """
    results = []
    for row in rows.to_dict("records"):
        path = Path(root) / row["file"]
        facts: dict[str, Any] = {}
        try:
            facts = _READERS[row["what"]](path)
        except BadFileError as error:
            facts = {"kind": "unreadable", "detail": error.what}
        except Zoobot3DError as error:
            facts = {"kind": "unreadable", "detail": str(error).replace(f"{path}: ", "")}
        except Exception as error:  # whatever a library makes of broken bytes, the other files are still to be read
            facts = {"kind": "unreadable", "detail": reason_for(error, "", "")}
        results.append({"id": row["id"], "error": None, **facts})
    return pd.DataFrame(results).reindex(columns=list(FACTS))


def _picture(path: Path) -> dict[str, Any]:
    picture = io.read_picture(path)
    facts = {"height": picture.shape[0], "width": picture.shape[1], "thumb": _thumb(picture[_samples(picture.shape)])}
    flat_rows, flat_columns = _flat_rows(picture), _flat_rows(picture.swapaxes(0, 1))
    if flat_rows == len(picture) and flat_columns == picture.shape[1]:
        return facts | {"kind": "blank", "detail": f"every pixel is {tuple(picture[0, 0].tolist())}"}
    if max(flat_rows, flat_columns) >= _FLAT:
        return facts | {"kind": "blank", "detail": f"{flat_rows} rows and {flat_columns} columns are of one colour"}
    return facts


def _flat_rows(picture: NDArray[np.uint8]) -> int:
    """Count the rows of one colour."""
    first = picture[:, :1]
    maybe = np.flatnonzero((picture[:, ::32] == first).all((1, 2)))  # nearly every row ends here
    return int((picture[maybe] == first[maybe]).all((1, 2)).sum())


def _mask(path: Path) -> dict[str, Any]:
    mask = io.read_mask(path)  # all zero is a good mask: nobody marked anything
    return {"height": mask.shape[0], "width": mask.shape[1], "levels": len(np.unique(mask))}


def _cutout(path: Path) -> dict[str, Any]:
    cutout = io.open_cutout(path)
    cube, grid = cutout.cube, cutout.grid
    rows, columns = _samples(cube.shape[1:])
    facts = {"height": cube.shape[1], "width": cube.shape[2], "pixscale": grid.pixscale, "ra": grid.ra, "dec": grid.dec}
    facts["thumb"] = _thumb(rgb_from_grz(cube[:, rows, columns][:, ::-1]))  # it takes FITS row order
    zeros = [float(np.mean(plane == 0)) for plane in cube]
    if min(zeros) == 1:
        return facts | {"kind": "blank", "detail": "every pixel is 0: outside the survey's footprint?"}
    if max(zeros) > _DEAD:
        dead = ", ".join(f"{band} {share:.0%}" for band, share in zip("grz", zeros, strict=True) if share > _DEAD)
        return facts | {"kind": "dead band", "detail": f"pixels without data: {dead}"}
    return facts | ({"kind": "converted", "detail": "; ".join(cutout.notes)} if cutout.notes else {})


def _marks(path: Path) -> dict[str, Any]:
    marks = VolunteerMarks.from_json(path)
    return _asked(marks.n_asked, marks.metadata, marks.grid)


def _gz3d(path: Path) -> dict[str, Any]:
    galaxy = read_gz3d_summary(path)
    return _asked(galaxy.n_asked, galaxy.metadata, galaxy.grid)


def _asked(n_asked: dict[str, int], metadata: dict[str, Any], frame: PixelGrid) -> dict[str, Any]:
    """Return what marks and GZ3D files say alike; the place is the one the frame was made for, not its middle."""
    facts: dict[str, Any] = {"height": frame.shape[0], "width": frame.shape[1], "pixscale": frame.pixscale}
    facts |= {"ra": frame.ra, "dec": frame.dec, "mangaid": metadata.get("MANGAID")}
    facts |= {f"n_asked_{name}": n for name, n in n_asked.items()}
    return facts if any(n_asked.values()) else facts | {"kind": "no votes", "detail": "no volunteer was asked"}


def _samples(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices of evenly spaced rows and columns, whatever their number."""
    rows, columns = (((np.arange(_SAMPLES) + 0.5) * n / _SAMPLES).astype(np.intp) for n in shape[:2])
    return np.ix_(rows, columns)  # type: ignore[return-value]


def _thumb(sampled: NDArray[np.uint8]) -> bytes:
    """Return the means over blocks of a sampled (80, 80, 3) picture as float16."""
    rows, columns, _ = THUMB_SHAPE
    blocks = sampled.reshape(rows, _SAMPLES // rows, columns, _SAMPLES // columns, 3)
    return blocks.mean((1, 3), dtype=np.float32).astype("<f2").tobytes()


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "picture": _picture,
    "cutout": _cutout,
    "marks": _marks,
    "gz3d": _gz3d,
    "mask": _mask,
}
