"""The mask files of one galaxy, FITS, PNG or NPZ, and the record of a folder of them. Must not know networks."""

from __future__ import annotations

import errno
import io as streams
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.compute.batch import reason_for
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.picture import outside_field_of
from zoobot_3d.infer.rows import SIGMA_FULL
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["FileRecord", "Files", "MaskFiles", "MaskFormat", "mask_names", "quantized", "save_masks"]

MaskFormat = Literal["none", "png", "fits"]

_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
"""Errors that concern one file's name; all others are of the disk."""


def mask_names(stem: str, kind: str, sigma: bool) -> list[str]:
    """Names of the files of one galaxy."""
    if kind == "fits":
        return [f"{stem}_masks.fits"]
    if kind == "npz":
        return [f"{stem}_masks.npz"]
    ends = [*CLASSES, *(f"{name}_sigma" for name in CLASSES if sigma)]
    return [f"{stem}_{end}.png" for end in ends]


class Files(Protocol):
    """Files of one kind, some for each galaxy of a prediction.

    Attributes
    ----------
    kind : str
        Their format; a folder may hold several.
    sigma : bool
        Whether they need standard deviations.
    made : mapping
        How they are made: those of one folder and kind are all made in the same way.
    stamp : str
        Of what they are made from beside the prediction; if it changes, they are written again.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def sigma(self) -> bool: ...  # noqa: D102
    @property
    def made(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def stamp(self) -> str: ...  # noqa: D102

    def names(self, stem: str) -> list[str]:
        """Names of the files of a galaxy."""

    def save(
        self, folder: Path, row: Mapping[str, Any], masks: NDArray[np.float32], sigma: NDArray[np.float32] | None
    ) -> str:
        """Write the files of a galaxy; return why they could not be written, or nothing."""


@dataclass(frozen=True)
class MaskFiles:
    """Masks as `Files`; see `save_masks`.

    Attributes
    ----------
    kind : {"fits", "png", "npz"}
    threshold : float or None
    sigma : bool
    run : mapping
        What is written into headers.
    """

    kind: str
    threshold: float | None
    sigma: bool
    run: Mapping[str, Any]
    stamp: str = ""

    @property
    def made(self) -> dict[str, Any]:
        """How they are made."""
        return {"threshold": self.threshold, "sigma": self.sigma}

    def names(self, stem: str) -> list[str]:
        """Names of the files of a galaxy."""
        return mask_names(stem, self.kind, self.sigma)

    def save(
        self, folder: Path, row: Mapping[str, Any], masks: NDArray[np.float32], sigma: NDArray[np.float32] | None
    ) -> str:
        """Write the files of a galaxy."""
        return save_masks(folder, row, (masks, sigma), self.run, self.kind, self.threshold)


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
        Masks (2, H, W) in 0-1, and their standard deviations or None; row 0 north, NaN outside the field.
    run : mapping
        Model, bundle, version and date, for the header.
    kind : {"fits", "png", "npz"}
        FITS has an HDU a class, with a WCS where the position is known, and NaN outside the field that the network saw;
        PNG is 8-bit grey, 255 is a fraction of 1 (of `SIGMA_FULL` for deviations), and 0 outside the field. NPZ holds
        float32 arrays named after the classes, NaN outside the field, and ``id``, ``ra``, ``dec``, ``pixscale``.
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
        outside = outside_field_of(row, masks.shape[1:])
        masks, sigma = np.where(outside, np.float32(np.nan), (masks >= threshold).astype(np.float32)), None
    try:
        if kind == "fits":
            _save_fits(folder, row, masks, sigma, run, threshold)
        elif kind == "npz":
            _save_npz(folder, row, masks, sigma)
        else:
            arrays = [*masks, *(() if sigma is None else sigma / SIGMA_FULL)]
            for name, plane in zip(mask_names(row["file_stem"], kind, sigma is not None), arrays, strict=True):
                io.write_mask_png(folder / name, plane)
    except OSError as error:
        if error.errno not in _OF_THE_NAME:
            raise BadFileError(folder, error.strerror or str(error), "make space; the same command goes on") from None
        return f"mask file not written: {error.strerror or error}"
    except Exception as error:  # one galaxy must not stop the others
        return f"mask file not written: {reason_for(error, '', '')}"
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
        "OBJECT": (str(row["id"]), "galaxy"),
        "MODEL": (str(run.get("model", "")), "network"),
        "BUNDLE": (str(run.get("bundle", ""))[:16], "start of the bundle's hash in run.json"),
        "CREATOR": (f"{io.MASK_CREATOR} {run.get('zoobot_3d', '')}".strip(), "software"),
        "DATE": (str(run.get("date", "")), "start of the prediction, UTC"),
        "FIELD": (float(row["field"]), "side of the field seen / side of the picture"),
    }
    meaning = "fraction of volunteers who would enclose the pixel"
    if threshold is not None:
        meaning = "1 where the fraction is at least THRESHLD, else 0"
        cards["THRESHLD"] = (threshold, "fraction of volunteers")
    shape, scale = (int(row["height"]), int(row["width"])), row["pixscale"]
    on_sky = np.isfinite(scale) and np.isfinite(row["ra"]) and np.isfinite(row["dec"])
    grid = PixelGrid(shape, float(scale), *((row["ra"], row["dec"]) if on_sky else ()))
    path = folder / mask_names(row["file_stem"], "fits", False)[0]
    io.write_mask_fits(path, masks, grid, sigma=sigma, meaning=meaning, cards=cards)


def _save_npz(
    folder: Path, row: Mapping[str, Any], masks: NDArray[np.float32], sigma: NDArray[np.float32] | None
) -> None:
    arrays: dict[str, Any] = dict(zip(CLASSES, masks, strict=True))
    if sigma is not None:
        arrays |= {f"{name}_sigma": plane for name, plane in zip(CLASSES, sigma, strict=True)}
    name = row["id"]
    arrays["id"] = name if isinstance(name, int | np.integer) else str(name)
    arrays |= {key: float(row[key]) for key in ("ra", "dec", "pixscale")}
    content = streams.BytesIO()
    np.savez_compressed(content, **arrays)
    io.write_atomic(folder / mask_names(row["file_stem"], "npz", False)[0], content.getvalue())


def quantized(masks: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Round fractions to the steps of 1/255 that shards keep, so that files of a run and of an export agree."""
    steps: NDArray[np.float32] = np.round(np.clip(masks, 0, 1) * 255).astype(np.float32)
    return steps / np.float32(255)


class FileRecord:
    """Which shards a folder's files are of, so that files of rows predicted anew are written anew.

    Parameters
    ----------
    folder : pathlib.Path
        Of the files.
    predictions : path
        Folder of the prediction.
    files : Files
        What is written.

    Raises
    ------
    ConfigError
        If the folder holds files of this kind that were made otherwise.
    """

    NAME = ".masks.json"

    def __init__(self, folder: Path, predictions: str | os.PathLike[str], files: Files) -> None:
        self.folder, self.files = folder, files
        of = os.path.relpath(os.path.realpath(predictions), os.path.realpath(folder))
        self._made = {"of": of, **files.made}
        self._told = _read_json(folder / self.NAME)
        before = self._told.get(files.kind)
        self._shards: dict[str, str] = {}
        if isinstance(before, dict) and isinstance(before.get("shards"), dict):
            self._shards = before["shards"]
            told = before["made"] if isinstance(before.get("made"), dict) else {}
            if differs := [name for name, value in self._made.items() if name not in told or told[name] != value]:
                words = ", ".join("prediction" if name == "of" else name for name in differs)
                raise ConfigError(f"{folder}: holds {files.kind} files of another {words}; choose another --out")

    def is_current(self, shard: str, checksum: str) -> bool:
        """Tell whether the files of a shard were written from its present content."""
        return self._shards.get(shard) == checksum + self.files.stamp

    def note(self, shard: str, checksum: str) -> None:
        """Write down that all files of a shard are written."""
        self._shards[shard] = checksum + self.files.stamp
        self._told[self.files.kind] = {"made": self._made, "shards": dict(sorted(self._shards.items()))}
        io.write_atomic(self.folder / self.NAME, json.dumps(self._told, sort_keys=True, indent=1))

    def remove(self, stems: Iterable[str]) -> None:
        """Remove the files of galaxies that have no masks any more."""
        for stem in stems:
            for name in self.files.names(stem):
                (self.folder / name).unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
