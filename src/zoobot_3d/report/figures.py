"""Every figure of the package. Arrays and tables in, matplotlib figures out; knows no networks and no file formats.

`comparison` and `contact_sheet` show many galaxies, `chart` one; `reliability`, `training` and `importance` are curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from zoobot_3d.report.curves import experts, importance, one_to_one, reliability, training
from zoobot_3d.report.style import CLASS_LABELS, COLOURS, LEVELS, PAGE, PUBLISHED, SIGMA_LEAST, SIGMA_MAP, STYLE, TIGHT
from zoobot_3d.schema import CLASSES

__all__ = [
    "CLASS_LABELS",
    "COLOURS",
    "SIGMA_LEAST",
    "SIGMA_MAP",
    "chart",
    "comparison",
    "contact_sheet",
    "experts",
    "importance",
    "one_to_one",
    "overlay",
    "reliability",
    "training",
]


_RIM = [withStroke(linewidth=1.6, foreground="#202020")]


def overlay(
    picture: NDArray[np.uint8], masks: NDArray[np.floating[Any]], *, strength: float = 0.85
) -> NDArray[np.uint8]:
    """Tint a picture with its masks: blue for arms, orange for bars, the denser the more volunteers.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, 3) uint8, row 0 north.
    masks : numpy.ndarray
        (2, H, W) fractions in 0-1; NaN, outside the field that the network saw, is not tinted.
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
        alpha = strength * np.nan_to_num(np.clip(mask, 0, 1))[..., None]
        out = out * (1 - alpha) + colour * alpha
    return np.clip(out, 0, 255).astype(np.uint8)


def outlines(axes: Axes, masks: NDArray[np.floating[Any]], extent: Any = None, line: float = 1.2) -> None:
    """Draw where each mask crosses 0.2 (dashed) and 0.5 (solid), over a dark edge that shows on a white core too."""
    place: Any = {} if extent is None else {"extent": extent, "origin": "upper"}
    for name, mask in zip(CLASSES, masks, strict=True):
        for level, style in LEVELS.items():
            if np.nanmax(mask) > level > np.nanmin(mask):
                axes.contour(mask, levels=[level], colors="k", linewidths=2 * line, alpha=0.6, **place)
                axes.contour(mask, levels=[level], colors=COLOURS[name], linewidths=line, linestyles=style, **place)


def legend(figure: Figure, title: str = "fraction of volunteers", columns: int = 4) -> None:
    """Say below a figure what the colours and lines of `outlines` mean."""
    handles = [Line2D([], [], color=COLOURS[name], lw=2.5, label=CLASS_LABELS[name]) for name in CLASSES]
    handles += [Line2D([], [], color="0.3", lw=1.2, ls=style, label=f"{level:g}") for level, style in LEVELS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, title=title)


def scale_bar(axes: Axes, pixscale: float) -> None:
    """Draw a bar of a round length at the upper right of a picture: arcsec, or pixels where ``pixscale`` is NaN."""
    width = abs(axes.get_xlim()[1] - axes.get_xlim()[0])
    unit, label = (pixscale, "″") if np.isfinite(pixscale) else (1.0, " px")
    length = max(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if step <= max(1, 0.3 * width * unit))
    end, y = 0.95 * width, 0.07 * width  # the name is in the other corner
    line: Any = {"color": "w", "lw": 1.6, "solid_capstyle": "butt", "path_effects": _RIM}
    axes.plot([end - length / unit, end], [y, y], scalex=False, scaley=False, **line)
    text: Any = {"color": "w", "fontsize": 6, "ha": "center", "va": "top", "path_effects": _RIM}
    axes.text(end - length / unit / 2, y + 0.02 * width, f"{length:g}{label}", **text)


def corner(axes: Axes, text: str, size: float = 6.0) -> None:
    """Write in the lower left corner of a picture, with a dark rim."""
    axes.text(0.03, 0.03, text, color="w", fontsize=size, transform=axes.transAxes, path_effects=_RIM)


def comparison(
    pictures: Sequence[NDArray[np.uint8]],
    masks: Mapping[str, Sequence[NDArray[np.floating[Any]]]],
    names: Sequence[str] = (),
    columns: int = 2,
    pixscales: Sequence[float] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
    width: float | None = None,
) -> Figure:
    """Lay out the picture of each galaxy beside the same picture with outlines by volunteers and by models.

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
        Arcsec per pixel of each picture, NaN where unknown, for scale bars.
    notes : mapping of str to sequences of str
        Written in the corner of a panel, for each galaxy, by the title of the panel.
    width : float, optional
        Inches, of the figure, for a publication; by default 1.75 for each panel.
    """
    rows, panels = -(-len(pictures) // columns), 1 + len(masks)
    side = 1.75 if width is None else width / (columns * panels)
    with mpl.rc_context(STYLE if width is None else STYLE | PUBLISHED | TIGHT):
        figure = Figure(figsize=(columns * panels * side, rows * side + (0.7 if width is None else 0.6)))
        grid = figure.subplots(rows, columns * panels, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for index, picture in enumerate(pictures):
            row, column = divmod(index, columns)
            strip = grid[row, panels * column : panels * (column + 1)]
            for axes, title in zip(strip, ("picture", *masks), strict=True):
                axes.imshow(picture, interpolation="bilinear")
                if title in masks:
                    outlines(axes, masks[title][index], line=1.2 * min(1, side / 1.75))
                if notes and title in notes:
                    corner(axes, notes[title][index])
                if row == 0:
                    axes.set_title(title)
            if pixscales:
                scale_bar(strip[0], pixscales[index])
            if names:
                corner(strip[0], names[index])
        legend(figure, columns=2 if width is not None and width < PAGE else 4)
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
    scale = Normalize(0, max([SIGMA_LEAST, *(float(np.nanmax(sigma)) for sigma in sigmas)]))
    with mpl.rc_context(STYLE):
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
            if np.nanmax(mask, initial=0) <= min(LEVELS):
                corner(strip[1], f"nothing above {min(LEVELS):g}")
            if row == 0:
                for axes, title in zip(strip, ("picture", "prediction", "uncertainty"), strict=False):
                    axes.set_title(title)
            if sigmas:
                strip[2].imshow((255 * SIGMA_MAP(scale(sigmas[index].max(0)))[..., :3]).astype(np.uint8))
            if pixscales:
                scale_bar(strip[0], pixscales[index])
            if names:
                corner(strip[0], names[index])
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
    with mpl.rc_context(STYLE | {"axes.spines.top": True, "axes.spines.right": True}):
        n_panels = 2 if sigma is None else 3
        figure = Figure(figsize=(4.6 * n_panels, 4.9))
        left, right, *others = figure.subplots(1, n_panels, sharex=True, sharey=True)
        left.imshow(picture, extent=extent, interpolation="bilinear")
        right.imshow(overlay(picture, masks), extent=extent, interpolation="bilinear")
        for label, mask in zip(CLASSES, masks, strict=True):
            right.plot([], [], "s", color=COLOURS[label], label=f"{label} (highest {np.nanmax(mask):.2f})")
        outlines(left, masks, extent)
        left.set(xlabel="offset to the east (arcsec)", ylabel="offset to the north (arcsec)", title=name)
        right.set(xlabel="offset to the east (arcsec)", title="fraction of volunteers")
        left.text(0.03, 0.03, "lines: 0.2 (dashed), 0.5", color="w", transform=left.transAxes)
        right.legend(loc="lower left", labelcolor="w", facecolor="0.15", framealpha=0.6, edgecolor="none")
        if sigma is not None:
            (third,) = others
            highest = max(SIGMA_LEAST, float(np.nanmax(sigma)))
            shown = third.imshow(sigma.max(0), extent=extent, cmap=SIGMA_MAP, vmin=0, vmax=highest)
            third.set(xlabel="offset to the east (arcsec)", title="standard deviation, the larger of both")
            figure.colorbar(shown, ax=third, fraction=0.046, pad=0.03)
    return figure
