"""Predicted masks as files, FITS or PNG: written while a prediction runs, or later from its shards."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.predictions import has_sigma as shards_have_sigma
from zoobot_3d.infer.predictions import read_masks, read_masks_and_sigma, read_rows, read_run
from zoobot_3d.infer.rows import SIGMA_FULL
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["MASKS", "ExportSummary", "MaskFormat", "export_masks", "mask_names", "save_masks"]

MASKS = "masks"
"""Subfolder of a prediction for mask files."""

MaskFormat = Literal["none", "png", "fits"]

_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of the disk, not of one galaxy's name."""


@dataclass(frozen=True)
class ExportSummary:
    """What an export did: galaxies whose files were written, were there, or have no masks."""

    written: int
    skipped: int
    without: int

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.written} galaxies written, {self.skipped} were there, {self.without} have no masks"


def mask_names(stem: str, kind: str, sigma: bool) -> list[str]:
    """Names of the files of one galaxy."""
    if kind == "fits":
        return [f"{stem}_masks.fits"]
    ends = [*CLASSES, *(f"{name}_sigma" for name in CLASSES if sigma)]
    return [f"{stem}_{end}.png" for end in ends]


def save_masks(
    folder: Path,
    row: Mapping[str, Any],
    planes: tuple[NDArray[np.float32], NDArray[np.float32] | None],
    run: Mapping[str, Any],
    kind: str,
    threshold: float | None = None,
) -> str:
    """Write the mask files of one galaxy.

    Parameters
    ----------
    folder : pathlib.Path
        Where to.
    row : mapping
        Its row in the shards.
    planes : tuple of numpy.ndarray
        Masks (2, H, W) in 0-1, and their standard deviations or None; row 0 north.
    run : mapping
        From ``run.json``: bundle, version, date and field for the header.
    kind : {"fits", "png"}
        FITS has an HDU a class, with a WCS where the position is known, and NaN outside the field that the network saw;
        PNG is 8-bit grey, 255 is a fraction of 1 (of `SIGMA_FULL` for deviations).
    threshold : float, optional
        Write binary masks, 1 where the fraction is at least this.

    Returns
    -------
    str
        Empty, or why the files of this galaxy could not be written.

    Raises
    ------
    BadFileError
        If the disk is full or may not be written to.
    """
    masks, sigma = planes
    if threshold is not None:
        masks, sigma = (masks >= threshold).astype(np.float32), None
    try:
        if kind == "fits":
            _save_fits(folder, row, masks, sigma, run, threshold)
        else:
            arrays = [*masks, *(() if sigma is None else sigma / SIGMA_FULL)]
            for name, plane in zip(mask_names(row["file_stem"], kind, sigma is not None), arrays, strict=True):
                io.write_atomic(folder / name, io.encode_mask_png(plane))
    except OSError as error:
        if error.errno in _FATAL:
            raise BadFileError(folder, error.strerror or str(error), "make space; the same command goes on") from None
        return f"mask file not written: {error.strerror or error}"
    return ""


def _save_fits(
    folder: Path,
    row: Mapping[str, Any],
    masks: NDArray[np.float32],
    sigma: NDArray[np.float32] | None,
    run: Mapping[str, Any],
    threshold: float | None,
) -> None:
    cards: dict[str, Any] = {
        "OBJECT": (_ascii(row["id"])[:60], "galaxy"),
        "MODEL": (_ascii(run.get("model", ""))[:60], "network"),
        "BUNDLE": (str(run.get("bundle", ""))[:16], "first digits of the SHA-256 of bundle.json"),
        "CREATOR": (f"zoobot-3d {run.get('zoobot_3d', '')}".strip(), "software"),
        "DATE": (str(run.get("date", "")), "of the prediction"),
    }
    if threshold is not None:
        cards["THRESHLD"] = (threshold, "1 where the fraction is at least this, else 0")
    shape, scale = (int(row["height"]), int(row["width"])), row["pixscale"]
    known = bool(np.isfinite(scale))
    on_sky = known and np.isfinite(row["ra"]) and np.isfinite(row["dec"])
    grid = PixelGrid(shape, float(scale) if known else 1.0, *((row["ra"], row["dec"]) if on_sky else ()))
    outside = _outside_field(shape, float(run.get("field_fraction", 1.0)))
    stack = [masks] if sigma is None else [masks, sigma]
    filled = [np.where(outside, np.float32(np.nan), planes) for planes in stack]
    io.write_mask_fits(
        folder / mask_names(row["file_stem"], "fits", False)[0],
        filled[0],
        grid,
        sigma=filled[1] if sigma is not None else None,
        scaled=known,
        cards=cards,
    )


def _outside_field(shape: tuple[int, int], field_fraction: float) -> NDArray[np.bool_]:
    """(H, W) True where a pixel's centre lies outside the central field that the network saw."""
    away = [np.abs(np.arange(n) - (n - 1) / 2) > field_fraction * n / 2 for n in shape]
    return away[0][:, None] | away[1]


def _ascii(text: object) -> str:
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in str(text))


def export_masks(
    predictions: str | os.PathLike[str],
    kind: str,
    *,
    out: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportSummary:
    """Write mask files from the shards of a prediction; files that are there are left alone.

    Parameters
    ----------
    predictions : path
        Folder that `zoobot_3d.predict` wrote.
    kind : {"fits", "png"}
        See `save_masks`.
    out : path, optional
        Folder for the files; by default ``masks`` in `predictions`, or ``masks_0.2`` for a threshold of 0.2.
    threshold : float, optional
        Write binary masks.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    ExportSummary

    Raises
    ------
    BadFileError
        If there are no shards, one is damaged, or the files cannot be written.
    ConfigError
        If the threshold is not within 0 to 1.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(f"--threshold {threshold:g}: give a fraction of volunteers above 0 and up to 1, such as 0.2")
    default = MASKS if threshold is None else f"{MASKS}_{threshold:g}"
    folder = Path(out) if out is not None else Path(predictions) / default
    sigma = shards_have_sigma(predictions) and threshold is None
    run = read_run(predictions) or {}
    rows = read_rows(predictions)
    there = set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208 - only names are needed
    good = rows[rows["error"].isna()]
    missing = [
        row["id"] for row in good.to_dict("records") if not set(mask_names(row["file_stem"], kind, sigma)) <= there
    ]
    if progress is not None:
        progress(len(rows) - len(missing))
    reader = read_masks_and_sigma if sigma else read_masks
    for row, *planes in reader(predictions, set(missing)) if missing else ():
        both = (planes[0], planes[1] if sigma else None)
        if problem := save_masks(folder, row, both, run, kind, threshold):  # type: ignore[arg-type]
            raise BadFileError(folder, f"{row['id']}: {problem}", "choose another --out")
        if progress is not None:
            progress(1)
    return ExportSummary(len(missing), len(good) - len(missing), len(rows) - len(good))


def quantized(masks: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Round fractions to the steps of 1/255 that shards keep, so that files of a run and of an export agree."""
    steps: NDArray[np.float32] = np.round(np.clip(masks, 0, 1) * 255).astype(np.float32)
    return steps / np.float32(255)
