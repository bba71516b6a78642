"""Every picture. Arrays and tables in, matplotlib figures out; knows nothing of networks or file formats.

Spiral arms are always blue, bars always orange (Wong 2011, Nature Methods 8, 441: told apart by the colour-blind).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from zoobot_3d.schema import CLASSES

__all__ = [
    "COLOURS",
    "chart",
    "comparison",
    "contact_sheet",
    "importance",
    "overlay",
    "reliability",
    "training",
]

COLOURS = {"spiral": "#56B4E9", "bar": "#E69F00"}
CLASS_LABELS = {"spiral": "spiral arms", "bar": "bar"}
LEVELS = {0.2: "--", 0.5: "-"}
"""Fractions of volunteers at which outlines are drawn, and their line styles."""
SIGMA_MAP = mpl.colormaps["cividis"]
"""Of uncertainty: even in brightness, and the same to the colour-blind."""
SIGMA_LEAST = 0.05
"""Upper end of the scale of uncertainty, at least: below it would show how shards round."""
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


def overlay(
    picture: NDArray[np.uint8], masks: NDArray[np.floating[Any]], *, strength: float = 0.85
) -> NDArray[np.uint8]:
    """Tint a picture with its masks: blue for arms, orange for bars, the denser the more volunteers.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, 3) uint8, row 0 north.
    masks : numpy.ndarray
        (2, H, W) fractions in 0-1.
    strength : float
        Opacity of the tint where the fraction is 1.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8: the picture in grey under the tints.
    """
    grey = picture.astype(np.float32).mean(-1, keepdims=True)
    out = np.repeat(grey, 3, -1)
    for name, mask in zip(CLASSES, masks, strict=True):
        colour = 255 * np.array(mpl.colors.to_rgb(COLOURS[name]), np.float32)
        alpha = strength * np.clip(mask, 0, 1)[..., None]
        out = out * (1 - alpha) + colour * alpha
    return np.clip(out, 0, 255).astype(np.uint8)


def outlines(axes: Axes, masks: NDArray[np.floating[Any]], extent: Any = None) -> None:
    """Draw where each mask crosses 0.2 (dashed) and 0.5 (solid), over a dark edge that shows on a white core too."""
    place: Any = {} if extent is None else {"extent": extent, "origin": "upper"}
    for name, mask in zip(CLASSES, masks, strict=True):
        for level, style in LEVELS.items():
            if np.nanmax(mask) > level > np.nanmin(mask):
                axes.contour(mask, levels=[level], colors="k", linewidths=2.4, alpha=0.6, **place)
                axes.contour(mask, levels=[level], colors=COLOURS[name], linewidths=1.2, linestyles=style, **place)


def legend(figure: Figure, title: str = "fraction of volunteers") -> None:
    """Say below a figure what the colours and lines of `outlines` mean."""
    handles = [Line2D([], [], color=COLOURS[name], lw=2.5, label=CLASS_LABELS[name]) for name in CLASSES]
    handles += [Line2D([], [], color="0.3", lw=1.2, ls=style, label=f"{level:g}") for level, style in LEVELS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, title=title)


def scale_bar(axes: Axes, pixscale: float) -> None:
    """Draw a bar of a round length at the lower right of a picture: arcsec, or pixels where ``pixscale`` is NaN."""
    width = abs(axes.get_xlim()[1] - axes.get_xlim()[0])
    unit, label = (pixscale, '"') if np.isfinite(pixscale) else (1.0, " px")
    length = max(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if step <= max(1, 0.3 * width * unit))
    end = 0.95 * width
    axes.plot([end - length / unit, end], [0.93 * width] * 2, color="w", lw=1.6, solid_capstyle="butt")
    middle = end - length / unit / 2
    axes.text(middle, 0.91 * width, f"{length:g}{label}", color="w", fontsize=6, ha="center", va="bottom")


def comparison(
    pictures: Sequence[NDArray[np.uint8]],
    masks: Mapping[str, Sequence[NDArray[np.floating[Any]]]],
    names: Sequence[str] = (),
    columns: int = 2,
    pixscales: Sequence[float] = (),
) -> Figure:
    """Lay out each galaxy's picture beside the masks of volunteers and models, a galaxy a row.

    Parameters
    ----------
    pictures : sequence of (H, W, 3) uint8
        Row 0 north.
    masks : mapping of str to sequences of (2, H, W)
        Fractions in 0-1 on the pictures' pixels, by the title of their panel.
    names : sequence of str
        Written in the pictures' corners.
    columns : int
        Galaxies beside one another.
    pixscales : sequence of float
        Arcsec per pixel of each picture, for scale bars.
    """
    rows, panels = -(-len(pictures) // columns), 1 + len(masks)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(columns * panels * 1.75, rows * 1.75 + 0.7))
        grid = figure.subplots(rows, columns * panels, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for index, picture in enumerate(pictures):
            row, column = divmod(index, columns)
            strip = grid[row, panels * column : panels * (column + 1)]
            for axes, title in zip(strip, ("picture", *masks), strict=True):
                axes.imshow(picture, interpolation="bilinear")
                if title in masks:
                    outlines(axes, masks[title][index])
                if row == 0:
                    axes.set_title(title)
            if pixscales:
                scale_bar(strip[0], pixscales[index])
            if names:
                strip[0].text(0.03, 0.04, names[index], color="w", fontsize=6, transform=strip[0].transAxes)
        legend(figure)
    return figure


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.floating[Any]]],
    names: Sequence[str] = (),
    columns: int = 5,
    sigmas: Sequence[NDArray[np.floating[Any]]] = (),
    pixscales: Sequence[float] = (),
) -> Figure:
    """Lay out pictures beside their predicted masks, and beside how uncertain these are, if that is known.

    Parameters
    ----------
    pictures : sequence of (H, W, 3) uint8
        Row 0 north; any sizes.
    masks : sequence of (2, H, W)
        Fractions in 0-1.
    names : sequence of str
        Written in the corners.
    columns : int
        Galaxies a row, at most.
    sigmas : sequence of (2, H, W)
        Standard deviation of the masks, one for each; a third panel shows the larger of the classes', all galaxies on
        one scale.
    pixscales : sequence of float
        Arcsec per pixel of each picture, NaN where unknown, for scale bars.
    """
    panels = 3 if sigmas else 2
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    scale = Normalize(0, max([SIGMA_LEAST, *(float(sigma.max()) for sigma in sigmas)]))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(columns * 1.7 * panels, rows * 1.7 + (1.4 if sigmas else 0.7)))
        grid = figure.subplots(rows, columns * panels, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for index, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            row, column = divmod(index, columns)
            strip = grid[row, panels * column : panels * (column + 1)]
            for axes in strip[:2]:
                axes.imshow(picture, interpolation="bilinear")
            outlines(strip[1], mask)
            if sigmas:
                strip[2].imshow((255 * SIGMA_MAP(scale(sigmas[index].max(0)))[..., :3]).astype(np.uint8))
            if pixscales:
                scale_bar(strip[0], pixscales[index])
            if names:
                strip[0].text(0.02, 0.03, names[index], color="w", fontsize=5, transform=strip[0].transAxes)
        legend(figure)
        if sigmas:
            label = "standard deviation of the fraction of volunteers (arms or bar, the larger)"
            mapped = ScalarMappable(scale, SIGMA_MAP)
            figure.colorbar(mapped, ax=grid, location="bottom", label=label, fraction=0.05, aspect=50, shrink=0.8)
    return figure


def chart(
    picture: NDArray[np.uint8],
    masks: NDArray[np.floating[Any]],
    pixscale: float,
    name: str = "",
    sigma: NDArray[np.floating[Any]] | None = None,
) -> Figure:
    """Draw one galaxy as on the sky: the picture with outlines beside the tinted masks, axes in arcsec.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, 3) uint8, row 0 north.
    masks : numpy.ndarray
        (2, H, W) fractions in 0-1.
    pixscale : float
        Arcsec per pixel.
    name : str
        Title.
    sigma : numpy.ndarray, optional
        (2, H, W) standard deviation of each pixel of the masks, for a third panel.
    """
    height, width = picture.shape[:2]
    extent = pixscale * np.array([width / 2, -width / 2, -height / 2, height / 2])  # offsets grow to the east
    with mpl.rc_context(_STYLE | {"axes.spines.top": True, "axes.spines.right": True}):
        n_panels = 2 if sigma is None else 3
        figure = Figure(figsize=(4.6 * n_panels, 4.9))
        left, right, *others = figure.subplots(1, n_panels, sharex=True, sharey=True)
        left.imshow(picture, extent=extent, interpolation="bilinear")
        right.imshow(overlay(picture, masks), extent=extent, interpolation="bilinear")
        for label, mask in zip(CLASSES, masks, strict=True):
            right.plot([], [], "s", color=COLOURS[label], label=f"{label} (highest {mask.max():.2f})")
        outlines(left, masks, extent)
        left.set(xlabel="offset to the east (arcsec)", ylabel="offset to the north (arcsec)", title=name)
        right.set(xlabel="offset to the east (arcsec)", title="fraction of volunteers")
        left.text(0.03, 0.03, "lines: 0.2 (dashed), 0.5", color="w", transform=left.transAxes)
        right.legend(loc="lower left", labelcolor="w", facecolor="0.15", framealpha=0.6, edgecolor="none")
        if sigma is not None:
            (third,) = others
            highest = max(SIGMA_LEAST, float(sigma.max()))
            shown = third.imshow(sigma.max(0), extent=extent, cmap=SIGMA_MAP, vmin=0, vmax=highest)
            third.set(xlabel="offset to the east (arcsec)", title="standard deviation, the larger of both")
            figure.colorbar(shown, ax=third, fraction=0.046, pad=0.03)
    return figure


def reliability(curves: dict[str, dict[str, list[float]]], errors: dict[str, float]) -> Figure:
    """Plot the volunteers' fraction against the predicted one, with the number of pixels below.

    Parameters
    ----------
    curves, errors : dict
        ``reliability`` and ``calibration_error`` of `zoobot_3d.report.evaluate.Evaluation`.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 5.4))
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
        top.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls="--")
        for name, curve in curves.items():
            told = f"calibration error {errors[name]:.3f}" if curve["pixels"] else "nothing predicted"
            label = f"{name} ({told})"
            errors_of = curve.get("error") or [math.nan] * len(curve["pixels"])
            top.errorbar(
                curve["predicted"],
                curve["observed"],
                errors_of,
                fmt="o-",
                ms=3,
                capsize=2,
                color=COLOURS[name],
                label=label,
            )
            bottom.plot(curve["predicted"], curve["pixels"], "o-", ms=3, color=COLOURS[name])
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction of volunteers", aspect="equal")
        top.legend(frameon=False, loc="upper left")
        if any(curve["pixels"] for curve in curves.values()):  # where nothing is predicted, there is nothing to scale
            bottom.set_yscale("log")
        bottom.set(xlabel="predicted fraction", ylabel="pixels")
    return figure


def training(log: pd.DataFrame) -> Figure:
    """Plot losses and overlap against epochs.

    Parameters
    ----------
    log : pandas.DataFrame
        Of the CSV logger: ``epoch``, ``train_loss_epoch``, ``val_loss``, ``val_<class>_iou_0.2``.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.0))
        left, right = figure.subplots(1, 2)
        for name, label, colour in (("train_loss_epoch", "training", "0.5"), ("val_loss", "validation", "k")):
            if name in log:
                rows = log.dropna(subset=[name]).groupby("epoch")[name].mean()
                left.plot(rows.index, rows, color=colour, label=label)
        for name in CLASSES:
            column = f"val_{name}_iou_0.2"
            if column in log:
                rows = log.dropna(subset=[column]).groupby("epoch")[column].mean()
                right.plot(rows.index, rows, color=COLOURS[name], label=name)
        left.set(xlabel="epoch", ylabel="loss")
        right.set(xlabel="epoch", ylabel="IoU at > 0.2, validation", ylim=(0, None))
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(frameon=False)
    return figure


def importance(shares: Mapping[str, float], n_trials: int) -> Figure:
    """Plot how much each setting of a sweep matters, the most important one on top.

    Parameters
    ----------
    shares : mapping
        Dotted key to share of the importance; they add up to 1.
    n_trials : int
        Finished trials they were worked out from.
    """
    names = sorted(shares, key=shares.__getitem__)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 0.9 + 0.28 * len(names)))
        axes = figure.subplots()
        bars = axes.barh(names, [shares[name] for name in names], color="0.45", height=0.7)
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set(xlabel="share of the importance (PED-ANOVA: what sets the best tenth apart)", xlim=(0, None))
        axes.set_title(f"{n_trials} finished trials", loc="left")
    return figure
