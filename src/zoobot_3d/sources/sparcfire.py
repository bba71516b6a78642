"""Results of SpArcFiRe (Davis & Hayes 2014, ApJ 790, 87): its arms as masks and curves on the pixels of a picture.

SpArcFiRe turns, stretches and crops a picture until the disk is round, works on 256 x 256 pixels of that *standardised
picture*, and writes a label map of arms (``-H_clusMask-merged.png``), logarithmic spirals (``_arcs.csv``) and the
numbers that the standardised picture was made with (``NAME.csv``). Here both are brought back to the picture.

Its own map on the picture's pixels (``-K_clusMask-reprojected.png``) is 1 to 2 pixels too far right and down, and a
little too small: it takes ``diskMajAxsLen`` where ``2 * cropRad + 1`` pixels were cropped. It is only read where there
is no label map, and put right. Must not know how results are asked for: see `zoobot_3d.sources.sparcfire_service`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.compute.batch import reason_for
from zoobot_3d.errors import BadFileError
from zoobot_3d.io import read_picture
from zoobot_3d.io.pictures import most_pixels
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["SparcfireArc", "SparcfireResult", "read_sparcfire", "read_sparcfire_folder", "sparcfire_table"]

Floats = NDArray[np.float64]

LABELS, REPROJECTED, ARCS = "-H_clusMask-merged.png", "-K_clusMask-reprojected.png", "_arcs.csv"
"""Ends of file names: the label map, SpArcFiRe's own map on the picture's pixels, the table of arcs."""

_MOST_BYTES = 20_000_000  # of a table
_SIDE = 256  # px of the standardised picture, where there is no label map to tell
_FINEST = 4  # samples along a pixel of the picture


@dataclass(frozen=True)
class SparcfireArc:
    """One arc.

    Attributes
    ----------
    pitch : float
        Pitch angle in the plane of the disk, deg: 0 is a circle, 90 a radius.
    hand : {"S", "Z"}
        As in `zoobot_3d.measure.arms.Arm`: an S turns clockwise outward, north up and east to the left.
    length : float
        In the plane of the disk, pixels of the picture.
    x, y : numpy.ndarray
        0-based positions along the arc on the picture, from its inner end outward, row 0 north.
    """

    pitch: float
    hand: Literal["S", "Z"]
    length: float
    x: Floats
    y: Floats


@dataclass(frozen=True)
class SparcfireResult:
    """What SpArcFiRe found on one picture.

    Attributes
    ----------
    name : str
        Galaxy: the name of the folder.
    mask : numpy.ndarray
        (H, W) float32, the part of each pixel that belongs to arms, row 0 north.
    arcs : tuple of SparcfireArc
        Longest first.
    pitch, pitch_err : float
        Mean pitch angle of the arcs of the dominant hand, weighted by length, and their scatter, deg; NaN if none.
    hand : {"S", "Z", ""}
        That of the longer arcs together; empty if there is none.
    warnings : str
        SpArcFiRe's own.
    """

    name: str
    mask: NDArray[np.float32]
    arcs: tuple[SparcfireArc, ...]
    pitch: float
    pitch_err: float
    hand: Literal["S", "Z", ""]
    warnings: str = ""

    @property
    def grid(self) -> PixelGrid:
        """Grid of the picture, without scale and position, which SpArcFiRe does not know."""
        height, width = self.mask.shape
        return PixelGrid((height, width), np.nan)


@dataclass(frozen=True)
class _Frame:
    """How the standardised picture lies on the input.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the input.
    to_standard : numpy.ndarray
        (2, 3) affine from (x, y) of the input, row 0 as SpArcFiRe saw it, to the standardised picture; 0-based.
    pole : numpy.ndarray
        (x, y) of the galaxy's centre on the standardised picture, the pole of the spirals.
    scale : float
        Standardised pixels per pixel of the input, along the disk's major axis.
    """

    shape: tuple[int, int]
    to_standard: Floats
    pole: Floats
    scale: float

    @classmethod
    def of(cls, row: _Row, size: tuple[int, int]) -> _Frame:
        """Compute it: the centre to the centre, turned until the major axis is upright, stretched across it.

        SpArcFiRe counts pixels from 1, angles anticlockwise from x, and y upwards. Without useImageStandardization it
        fits no ellipse and works on the input as it is, about the middle.
        """
        if not row.get("diskAxisRatio") and size == row.shape():
            middle = (np.array(size[::-1]) - 1) / 2
            return cls(size, np.eye(2, 3), middle, 1.0)
        side = size[0]
        if size[0] != size[1]:
            raise BadFileError(row.path, f"the label map has {size[1]} x {size[0]} px; it should be square")
        centre = np.array([row.number("inputCenterC"), row.number("inputCenterR")]) - 1
        pole = np.array([row.number("standardizedCenterC"), row.number("standardizedCenterR")]) - 1
        ratio, scale = row.number("diskAxisRatio"), side / (2 * row.number("cropRad") + 1)
        if not (0 < ratio <= 1 and 0 < scale < np.inf):
            raise BadFileError(row.path, f"diskAxisRatio {ratio:g}, cropRad {row['cropRad']}: no such ellipse")
        linear = scale * np.diag([1 / ratio, 1]) @ _turn(np.pi / 2 - row.number("diskMajAxsAngleRadians"))
        return cls(row.shape(), np.column_stack([linear, pole - linear @ centre]), pole, scale)


class _Row(dict[str, str]):
    """The one row of ``NAME.csv``, by column; knows its file for messages."""

    path: Path

    @classmethod
    def read(cls, path: Path) -> _Row:
        lines = _lines(path)
        if len(lines) < 2:
            raise BadFileError(path, "no row of results", "run SpArcFiRe again on this galaxy")
        row = cls((name.strip(), value.strip()) for name, value in zip(lines[0], lines[1], strict=False))
        row.path = path
        if (state := row.get("fit_state", "missing")) != "OK":
            raise BadFileError(path, f"SpArcFiRe found no fit: {state}")
        return row

    def number(self, name: str) -> float:
        """Return a number that must be there."""
        value = _float(self.get(name, ""))
        if not np.isfinite(value):
            fix = "run SpArcFiRe again with useImageStandardization and useDeProjectStretch on"
            raise BadFileError(self.path, f"no number in column {name} ({self.get(name, 'missing')!r})", fix)
        return value

    def shape(self) -> tuple[int, int]:
        """Return rows and columns of the input."""
        sides = [int(side) for side in re.findall(r"\d+", self.get("iptSz", ""))]
        if len(sides) != 2 or not 0 < sides[0] * sides[1] <= most_pixels():
            raise BadFileError(self.path, f"iptSz {self.get('iptSz', 'missing')!r} is no size of a picture")
        return sides[0], sides[1]


def read_sparcfire(
    folder: str | os.PathLike[str], *, first_row: Literal["north", "south"] = "north"
) -> SparcfireResult:
    """Read the results of one galaxy.

    Parameters
    ----------
    folder : path
        With ``NAME.csv``, ``NAME_arcs.csv`` and ``NAME-H_clusMask-merged.png``; its own name is NAME.
    first_row : {"north", "south"}
        Where the input's first row lies. SpArcFiRe takes rows as they are in the file: pictures start in the north,
        FITS images mostly in the south. Hands and positions are turned round for ``"south"``.

    Raises
    ------
    BadFileError
        If a file is missing or broken, or SpArcFiRe found no fit.
    """
    folder = Path(folder)
    name = folder.name
    row = _Row.read(folder / f"{name}.csv")
    _check_settings(folder / f"{name}-S_settings.txt")
    south = first_row == "south"
    mask, frame = _mask(folder, name, row)
    arcs = _arcs(folder / f"{name}{ARCS}", frame, south)
    mean = _float(row.get("pa_alenWtd_avg_domChiralityOnly", "")) if arcs else np.nan
    warnings = row.get("warnings", "").strip("| ")
    return SparcfireResult(
        name,
        mask[::-1].copy() if south else mask,
        arcs,
        abs(mean),
        _float(row.get("paErr_alenWtd_stdev_domChiralityOnly", "")) if arcs else np.nan,
        _hand(mean, south) if np.isfinite(mean) else "",
        "" if warnings in ("none", "(no warnings)") else warnings,
    )


def read_sparcfire_folder(
    folder: str | os.PathLike[str], *, first_row: Literal["north", "south"] = "north"
) -> tuple[dict[str, SparcfireResult], dict[str, str]]:
    """Read the results of many galaxies; one that is broken does not stop the others.

    Parameters
    ----------
    folder : path
        With a folder for each galaxy, as SpArcFiRe and ``zoobot3d fetch sparcfire`` write.
    first_row : {"north", "south"}
        As in `read_sparcfire`.

    Returns
    -------
    results, reasons : dict
        By name of the galaxy; of those that cannot be used the reason, one line.

    Raises
    ------
    BadFileError
        If there is no folder of a galaxy.
    """
    root = Path(folder)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".") if root.is_dir() else []
    if not folders:
        raise BadFileError(root, "no results of SpArcFiRe", "give the folder that has a folder for each galaxy")
    results: dict[str, SparcfireResult] = {}
    reasons: dict[str, str] = {}
    for path in folders:
        try:
            results[path.name] = read_sparcfire(path, first_row=first_row)
        except Exception as error:  # one galaxy must not stop the others
            reasons[path.name] = reason_for(error, str(path), path.name)
    return results, reasons


def sparcfire_table(results: Mapping[str, SparcfireResult], reasons: Mapping[str, str]) -> pd.DataFrame:
    """Lay out numbers of `read_sparcfire_folder` as a table: a row a galaxy, sorted by name.

    Returns
    -------
    pandas.DataFrame
        ``id``; ``pitch``, ``pitch_err`` (deg); ``hand``; ``n_arcs``; ``arc_length``, the sum of the lengths (pixels of
        the picture); ``warning``; ``error``, why there is nothing, else empty.
    """
    rows: list[dict[str, object]] = [
        {
            "id": name,
            "pitch": result.pitch,
            "pitch_err": result.pitch_err,
            "hand": result.hand,
            "n_arcs": len(result.arcs),
            "arc_length": sum(arc.length for arc in result.arcs),
            "warning": result.warnings,
            "error": "",
        }
        for name, result in results.items()
    ]
    columns = ["id", "pitch", "pitch_err", "hand", "n_arcs", "arc_length", "warning", "error"]
    broken: list[dict[str, object]] = [
        {"id": name, "n_arcs": 0, "hand": "", "warning": "", "error": why} for name, why in reasons.items()
    ]
    return pd.DataFrame(rows + broken, columns=columns).sort_values("id", ignore_index=True)


# Arms as a mask


def _mask(folder: Path, name: str, row: _Row) -> tuple[NDArray[np.float32], _Frame]:
    """Read where arms are, (H, W) in the input's row order; and the frame, whose size the label map tells."""
    labels = folder / f"{name}{LABELS}"
    if labels.exists():
        lit = _lit(labels)
        frame = _Frame.of(row, (lit.shape[0], lit.shape[1]))
        return _sampled(lit, frame.to_standard, frame), frame
    path = folder / f"{name}{REPROJECTED}"
    if not path.exists():
        raise BadFileError(labels, "no label map of arms", "unpack all that SpArcFiRe wrote")
    lit, frame = _lit(path), _Frame.of(row, (_SIDE, _SIDE))
    if lit.shape != frame.shape:
        raise BadFileError(path, f"{lit.shape} px, but {row.path.name} says {frame.shape}", "unpack one run only")
    return _sampled(lit, _joined(_reprojection(row), frame.to_standard), frame), frame


def _reprojection(row: _Row) -> Floats:
    """Affine from the standardised picture to SpArcFiRe's own reprojected map, as its `reProject.m` draws it."""
    scale, ratio = row.number("diskMajAxsLen") / _SIDE, row.number("diskAxisRatio")
    angle = np.pi / 2 - row.number("diskMajAxsAngleRadians")
    linear = scale * _turn(angle).T @ np.diag([ratio, 1])
    corner = np.round(512 - np.array([row.number("inputCenterC"), row.number("inputCenterR")]))
    return np.column_stack([linear, 512.5 - corner - linear @ np.full(2, (_SIDE - 1) / 2)])


def _sampled(lit: NDArray[np.bool_], to_map: Floats, frame: _Frame) -> NDArray[np.float32]:
    """Part of each pixel of the input that is lit on a map, for an affine from the input to the map."""
    height, width = frame.shape
    n = int(np.clip(np.ceil(np.abs(np.linalg.det(to_map[:, :2])) ** 0.5), 1, _FINEST))
    fine = np.array([[1 / n, 0, (1 - n) / (2 * n)], [0, 1 / n, (1 - n) / (2 * n)]])  # samples to pixels
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    samples = cv2.warpAffine(lit.astype(np.uint8), _joined(to_map, fine), (n * width, n * height), flags=flags)
    return samples.reshape(height, n, width, n).mean((1, 3), dtype=np.float32)


def _lit(path: Path) -> NDArray[np.bool_]:
    """(H, W), where a picture is not black: colours name clusters, and are mixed with black at edges."""
    return np.asarray(read_picture(path).any(-1))


# Arms as curves


def _arcs(path: Path, frame: _Frame, south: bool) -> tuple[SparcfireArc, ...]:
    """Read the spirals, r = r0 exp(-tan(pitch) (theta - theta0)): an S has a positive pitch angle."""
    lines = _lines(path)
    names = [name.strip() for name in lines[0]] if lines else []
    keys = ("math_initial_theta", "pitch_angle", "math_initial_radius", "relative_theta_start", "relative_theta_end")
    if missing := [key for key in (*keys, "arc_length") if key not in names]:
        raise BadFileError(path, f"no column {', '.join(missing)}", "unpack all that SpArcFiRe wrote")
    arcs = []
    y: NDArray[Any]
    for number, line in enumerate(lines[1:], 1):
        values = dict(zip(names, map(_float, line), strict=False))
        start, pitch, radius, first, last = (values.get(key, np.nan) for key in keys)
        length = values.get("arc_length", np.nan)
        if not (np.isfinite([start, pitch, radius, first, last, length]).all() and radius > 0 and abs(pitch) < 90):
            raise BadFileError(path, f"arc {number} is not a spiral", "unpack it again, or run SpArcFiRe again")
        turned = np.linspace(first, last, int(np.clip(length / frame.scale, 16, 400)))
        r, angle = radius * np.exp(-np.tan(np.radians(pitch)) * turned), start + turned
        x, y = _on_input(frame, r * np.cos(angle), -r * np.sin(angle))
        outward = slice(None) if r[0] <= r[-1] else slice(None, None, -1)
        y = frame.shape[0] - 1 - y if south else y
        arcs.append(SparcfireArc(abs(pitch), _hand(pitch, south), length / frame.scale, x[outward], y[outward]))
    return tuple(sorted(arcs, key=lambda arc: -arc.length))


def _on_input(frame: _Frame, x: Floats, y: Floats) -> Floats:
    """Bring offsets from the pole, in standardised pixels with y downwards, to the input."""
    linear, shift = frame.to_standard[:, :2], frame.to_standard[:, 2:]
    return np.asarray(np.linalg.solve(linear, frame.pole[:, None] + np.stack([x, y]) - shift), np.float64)


def _hand(pitch: float, south: bool) -> Literal["S", "Z"]:
    """S for a positive pitch angle on a picture as it is; the other way round on one that was upside down."""
    return "S" if (pitch >= 0) != south else "Z"


# Small things


def _turn(angle: float) -> Floats:
    """(2, 2) rotation, anticlockwise as seen, for y downwards."""
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    return np.array([[cosine, sine], [-sine, cosine]])


def _joined(second: Floats, first: Floats) -> Floats:
    """(2, 3) affine: ``first``, then ``second``."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def _check_settings(path: Path) -> None:
    """Refuse runs whose picture was mirrored, or cropped and not stretched; the settings may be missing."""
    if not path.exists():
        return
    settings = dict(re.findall(r"^\s*(\w+):\s*(\S+)", path.read_text(errors="replace")[:_MOST_BYTES], re.MULTILINE))
    for name, needed in (("useDeProjectStretch", "1"), ("mirrorLR", "0")):
        as_it_is = name == "useDeProjectStretch" and settings.get("useImageStandardization") == "0"
        if settings.get(name, needed) != needed and not as_it_is:
            what = f"SpArcFiRe ran with {name} {settings[name]}, whose frame is not known here"
            raise BadFileError(path, what, f"run it with {needed}")


def _lines(path: Path) -> list[list[str]]:
    """Read a small CSV; SpArcFiRe writes a space after each comma, and a comma at the end."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadFileError(path, "too large for a table of SpArcFiRe", "unpack it again")
        text = path.read_text(errors="replace")
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "unpack all that SpArcFiRe wrote") from None
    try:
        return [line for line in csv.reader(text.splitlines(), skipinitialspace=True) if line]
    except csv.Error as error:
        raise BadFileError(path, f"not a CSV ({error})", "unpack it again") from None


def _float(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
