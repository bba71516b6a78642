"""Galaxy Builder: galaxies on which volunteers built a model of disk, bulge, bar and arms, as marks.

In Galaxy Builder (Lingard et al. 2020, MNRAS 493, 2160; 2021, MNRAS 504, 3364) about 30 volunteers drew polylines
along the arms of SDSS spirals and fitted a light component as the bar. Here a line becomes the area of an arm, and a
component a bar's rectangle, so that these are marks like those of Galaxy Zoo: 3D. Every volunteer was asked for both:
one without arms, or without a bar, says that there is none. What was drawn by accident is dropped by the rules of
`Rules` and counted. So is the shape of a bar that was left as it first appeared; as its volunteer saw a bar, the shapes
that others drew stand for it in turn. Must not know pictures or catalogues.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import BadFileError
from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["SDSS_PIXSCALE", "DrawnGalaxy", "Rules", "arm_outline", "bar_outline", "read_galaxy_builder"]

SDSS_PIXSCALE = 0.396
"""Arcsec per pixel of the SDSS images that volunteers saw."""

_UNTURNED = "bar: left as it first appeared"
_DISC = 12  # vertices of the disc at a bend of a line


@dataclass(frozen=True)
class Rules:
    """How lines and components become areas, and which of them are dropped. Lengths are in Petrosian radii.

    Attributes
    ----------
    half_width, half_width_per_radius : float
        Half the width of an arm at the centre, and its growth with distance from the centre. Across 225 arms that were
        fitted to the lines of 108 galaxies, the light above the disk has a full width at half maximum of 0.15 at 0.3
        from the centre, 0.17 at 0.5 and 0.21 at 0.7.
    bar_reach : float
        Half the length of a bar, in effective radii of its component. On 13 galaxies that Hoyle et al. 2011 measured,
        half their length is 1.9 times the median effective radius, and along 24 bars the light stands out to 1.9 to 3.
    longest_arm, shortest_arm : float
        Lines outside are a tangle, or a click.
    farthest_arm : float
        Lines of which more than half lie farther from the centre do not belong to the galaxy.
    longest_step : float
        A line of few points with a straight step of this length crosses the picture.
    bar_off_centre, longest_bar : float
        Bars whose centre lies farther from the galaxy's, or whose effective radius is larger, are none.
    """

    half_width: float = 0.065
    half_width_per_radius: float = 0.045
    bar_reach: float = 2.0
    longest_arm: float = 12.0
    shortest_arm: float = 0.15
    farthest_arm: float = 2.0
    longest_step: float = 1.0
    bar_off_centre: float = 0.5
    longest_bar: float = 1.0


@dataclass(frozen=True)
class DrawnGalaxy:
    """One galaxy of Galaxy Builder.

    Attributes
    ----------
    name : str
        SDSS DR7 object ID.
    marks : VolunteerMarks
        Arms and bars as areas, in pixels of the image; the grid floats, as the image's north is not up.
    dropped : dict
        What was dropped, and how many, by reason.
    centre : tuple of float
        (x, y) of the galaxy in the image, px.
    petro : float
        Petrosian radius, px.
    consensus : dict
        Components that volunteers agree on, as the file has them.
    fitted_arms : list of dict
        Logarithmic spirals fitted to clusters of lines: ``points``, ``pitch_deg``, ``pitch_err_deg``, ``chirality``.
    """

    name: str
    marks: VolunteerMarks
    dropped: dict[str, int]
    centre: tuple[float, float]
    petro: float
    consensus: dict[str, Any] = field(repr=False)
    fitted_arms: list[dict[str, Any]] = field(repr=False)


def read_galaxy_builder(
    path: str | os.PathLike[str], shape: tuple[int, int], petro_arcsec: float, rules: Rules | None = None
) -> DrawnGalaxy:
    """Read the marks of one galaxy.

    Parameters
    ----------
    path : path
        JSON with ``volunteers`` (each with ``arms``, a list of ``{"points": [[x, y], ...]}``, and ``bar``, None or an
        ellipse of ``mux``, ``muy``, ``Re`` in px, ``q``, ``roll`` in rad from +x towards +y), ``consensus`` and
        ``fitted_arms``; named after the galaxy.
    shape : tuple of int
        Rows and columns of its image.
    petro_arcsec : float
        Petrosian radius, arcsec.
    rules : Rules, optional
        How lines become areas.

    Returns
    -------
    DrawnGalaxy

    Raises
    ------
    BadFileError
        If the file is missing, is no such JSON, or the radius is not positive.
    """
    rules = rules or Rules()
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        volunteers: Sequence[Mapping[str, Any]] = content["volunteers"]
        consensus, fitted = dict(content["consensus"]), list(content["fitted_arms"])
        disk = consensus.get("disk")
        middle = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
        centre = (float(disk["mux"]), float(disk["muy"])) if disk else middle
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFileError(path, f"no marks of Galaxy Builder ({error!r})", "get the file again") from None
    if not (np.isfinite(petro_arcsec) and petro_arcsec > 0):
        raise BadFileError(path, f"the Petrosian radius is {petro_arcsec}", "correct the catalogue")
    petro = petro_arcsec / SDSS_PIXSCALE
    dropped: Counter[str] = Counter()
    arms, bars, arm_ids, bar_ids, unturned = [], [], [], [], []
    try:
        for number, one in enumerate(volunteers):
            name = int(one.get("classification_id", number))
            lines = [np.asarray(arm["points"], float).reshape(-1, 2) for arm in one["arms"]]
            kept = [line for line in lines if not _stray_arm(line, shape, np.array(centre), petro, rules, dropped)]
            if kept or not lines:  # a volunteer whose lines are all strays has said nothing
                arms.append([path for line in kept for path in arm_outline(line, centre, petro, rules)])
                arm_ids.append(name)
            bar = one["bar"]
            why = "" if bar is None else _stray_bar(bar, np.array(centre), petro, rules)
            if why == _UNTURNED:
                unturned.append(name)
            elif not why:
                bars.append([] if bar is None else [bar_outline(bar, rules)])
                bar_ids.append(name)
            if why:
                dropped[why] += 1
    except (KeyError, TypeError, ValueError) as error:
        raise BadFileError(path, f"a volunteer's marks cannot be read ({error!r})", "get the file again") from None
    turned = [drawn for drawn in bars if drawn]
    if turned:  # those who left theirs as it appeared say too that there is a bar, but not where
        bars += [turned[index % len(turned)] for index in range(len(unturned))]
        bar_ids += unturned
    marks = VolunteerMarks(
        PixelGrid(shape, SDSS_PIXSCALE),
        PathTask.from_nested(arms, arm_ids),
        PathTask.from_nested(bars, bar_ids),
        PointTask.from_nested([], []),
        {"dr7objid": Path(path).stem, "petro_theta": petro_arcsec},
    )
    return DrawnGalaxy(Path(path).stem, marks, dict(dropped), centre, petro, consensus, fitted)


def arm_outline(
    line: NDArray[np.float64], centre: tuple[float, float], petro: float, rules: Rules | None = None
) -> list[NDArray[np.float64]]:
    """Widen a polyline to the area of an arm.

    Parameters
    ----------
    line : numpy.ndarray
        (N, 2) x, y in px.
    centre : tuple of float
        Of the galaxy, px.
    petro : float
        Petrosian radius, px.
    rules : Rules, optional
        Say how wide.

    Returns
    -------
    list of numpy.ndarray
        (M, 2) polygons whose union is the arm: a quadrangle for each step, a disc at each point.
    """
    rules = rules or Rules()
    # Freehand lines have a point for every pixel; a quarter of a pixel is far below the width.
    points = cv2.approxPolyDP(line.astype(np.float32)[:, None], 0.25, False)[:, 0].astype(float)
    away = np.hypot(*(points - np.array(centre)).T)
    half = rules.half_width * petro + rules.half_width_per_radius * away
    angle = np.linspace(0, 2 * np.pi, _DISC, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    shapes = [point + radius * circle for point, radius in zip(points, half, strict=True)]
    for start, end, w0, w1 in zip(points[:-1], points[1:], half[:-1], half[1:], strict=True):
        step = end - start
        length = np.hypot(*step)
        if length > 0:
            across = np.array([-step[1], step[0]]) / length
            shapes.append(np.array([start + w0 * across, end + w1 * across, end - w1 * across, start - w0 * across]))
    return shapes


def bar_outline(bar: Mapping[str, Any], rules: Rules | None = None) -> NDArray[np.float64]:
    """Return the corners (4, 2) of a bar, px: `Rules.bar_reach` effective radii to each side, ``q`` of that across."""
    rules = rules or Rules()
    length = rules.bar_reach * float(bar["Re"])
    along = length * np.array([np.cos(bar["roll"]), np.sin(bar["roll"])])
    across = float(bar["q"]) * length * np.array([-np.sin(bar["roll"]), np.cos(bar["roll"])])
    middle = np.array([bar["mux"], bar["muy"]], float)
    return middle + np.array([along + across, along - across, -along - across, -along + across])


def _stray_arm(
    line: NDArray[np.float64],
    shape: tuple[int, int],
    centre: NDArray[np.float64],
    petro: float,
    rules: Rules,
    dropped: Counter[str],
) -> bool:
    """Tell whether a line is no arm, and count why."""
    steps = np.hypot(*np.diff(line, axis=0).T) if len(line) > 1 else np.zeros(0)
    length, away = steps.sum() / petro, np.hypot(*(line - centre).T) / petro
    outside = not np.isfinite(line).all() or line.min() < -2 or bool((line > np.array(shape)[::-1] + 2).any())
    reasons = (
        ("arm: leaves the picture", outside),
        ("arm: a click", length < rules.shortest_arm),
        ("arm: longer than the galaxy", length > rules.longest_arm),
        ("arm: outside the galaxy", float((away > rules.farthest_arm).mean()) > 0.5),
        ("arm: a straight line", len(line) < 10 and len(steps) > 0 and steps.max() > rules.longest_step * petro),
    )
    why = next((reason for reason, holds in reasons if holds), None)
    if why:
        dropped[why] += 1
    return why is not None


def _stray_bar(bar: Mapping[str, Any], centre: NDArray[np.float64], petro: float, rules: Rules) -> str:
    """Tell why a component does not show where the bar is; empty if it does."""
    middle = np.array([bar["mux"], bar["muy"]], float)
    turn = abs(float(bar["roll"]) / (np.pi / 2)) % 1
    reasons = (
        # It appears along an axis of the image; half of all bars were never turned from there.
        (_UNTURNED, min(turn, 1 - turn) < 1e-3),
        ("bar: off the centre", float(np.hypot(*(middle - centre))) > rules.bar_off_centre * petro),
        ("bar: longer than the galaxy", float(bar["Re"]) > rules.longest_bar * petro),
    )
    return next((reason for reason, holds in reasons if holds), "")
