"""Curves: calibration of a model, progress of a training, importance of the settings of a sweep.

Numbers in, matplotlib figures out; knows no networks and no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from zoobot_3d.report.agreement import Agreement, agreement
from zoobot_3d.report.experts import QUALITIES, SOURCES, TIE
from zoobot_3d.report.style import CLASS_LABELS, COLOURS, PAGE, PUBLISHED, QUALITY_MAP, SOURCE_COLOURS, STYLE
from zoobot_3d.schema import CLASSES

__all__ = ["FEWEST_GALAXIES", "experts", "importance", "one_to_one", "reliability", "training"]

FEWEST_GALAXIES = 3
"""Bins of the reliability curve with pixels of fewer galaxies are not drawn: their error is unknown."""
_MARKERS = dict(zip(CLASSES, "os", strict=True))


def reliability(curves: Mapping[str, Mapping[str, Sequence[float]]], errors: Mapping[str, float]) -> Figure:
    """Plot the fraction of volunteers against the predicted fraction, with the number of pixels below.

    Error bars are standard errors from the scatter among galaxies. Bins with pixels of fewer than `FEWEST_GALAXIES`
    galaxies are left out, unless there are no others.

    Parameters
    ----------
    curves, errors : mapping
        ``reliability`` and ``calibration_error`` of `zoobot_3d.report.evaluate.Evaluation`.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 5.8))
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
        top.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls="--", label="perfect calibration")
        drawn = False
        for name, curve in curves.items():
            x, y, error, pixels = _points(curve)
            told = f"calibration error {errors[name]:.3f}" if len(x) else "nothing predicted"
            label = f"{CLASS_LABELS[name]} ({told})"
            line = {"fmt": f"{_MARKERS[name]}-", "ms": 4, "lw": 1.2, "color": COLOURS[name]}
            top.errorbar(x, y, yerr=error, capsize=2, elinewidth=1.2, label=label, **line)
            bottom.plot(x, pixels, f"{_MARKERS[name]}-", ms=3, lw=1, color=COLOURS[name])
            drawn |= len(x) > 0
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction of volunteers", aspect="equal")
        top.legend(frameon=False, loc="upper left", fontsize=8)
        if drawn:  # without a point there is nothing to scale
            bottom.set_yscale("log")
        bottom.set(xlabel="predicted fraction of volunteers", ylabel="pixels")
    return figure


def _points(curve: Mapping[str, Sequence[float]]) -> tuple[NDArray[np.float64], ...]:
    """Predicted and observed fraction, its error, and number of pixels, in the bins that are drawn."""
    x, y, pixels = (np.asarray(curve[key], float) for key in ("predicted", "observed", "pixels"))
    error = np.array([np.nan if value is None else value for value in curve.get("error", [])] or [np.nan] * len(x))
    kept = np.asarray(curve.get("galaxies", pixels)) >= FEWEST_GALAXIES
    if not kept.any():
        kept = pixels > 0
    return x[kept], y[kept], error[kept], pixels[kept]


def training(log: pd.DataFrame) -> Figure:
    """Plot the loss and the overlap with volunteers against the epoch.

    Parameters
    ----------
    log : pandas.DataFrame
        Of the CSV logger: ``epoch``, ``train_loss_epoch``, ``val_loss``, ``val_<class>_iou_0.2``.
    """
    with mpl.rc_context(STYLE):
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
                right.plot(rows.index, rows, color=COLOURS[name], label=CLASS_LABELS[name])
        left.set(xlabel="epoch", ylabel="loss per pixel")
        right.set(xlabel="epoch", ylabel="IoU at > 0.2, validation galaxies", ylim=(0, None))
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
        Number of finished trials that the shares were computed from.
    """
    names = sorted(shares, key=shares.__getitem__)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.9 + 0.28 * len(names)))
        axes = figure.subplots()
        bars = axes.barh(names, [shares[name] for name in names], color="0.45", height=0.7)
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set(xlabel="share of the importance (PED-ANOVA: what sets the best tenth apart)", xlim=(0, None))
        axes.set_title(f"{n_trials} finished trials", loc="left")
    return figure


def one_to_one(
    panels: Sequence[tuple[pd.DataFrame, str]],
    unit: str,
    colour: str,
    *,
    width: float | None = None,
    sure: float = np.inf,
) -> Figure:
    """Plot measured against reference values with their errors, one panel each, on equal axes.

    Nothing is fitted. In the corner stand the number of galaxies, r, bias and scatter, see
    `zoobot_3d.report.agreement.Agreement`. Galaxies of the reference without a measurement are not drawn.

    Parameters
    ----------
    panels : sequence of (pandas.DataFrame, str)
        ``theirs``, ``ours`` and, if there are any, ``theirs_err`` and ``ours_err``; and a title.
    unit : str
        Of both.
    colour : str
        Of the points.
    width : float, optional
        Inches, of the figure; by default 3.4 for each panel.
    sure : float
        Points whose measurement has a larger error are open.
    """
    with mpl.rc_context(STYLE | PUBLISHED):
        width = width or 3.4 * len(panels)
        figure = Figure(figsize=(width, width / len(panels) + 0.3))  # square panels, and their titles
        for axes, (table, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            known = table[table["theirs"].notna() & table["ours"].notna()]
            errors = [known.get(name, pd.Series(np.nan, known.index)) for name in ("ours_err", "theirs_err")]
            axes.errorbar(known["theirs"], known["ours"], *errors, fmt="none", lw=0.5, color=colour, alpha=0.6)
            unsure = errors[0] > sure
            for chosen, face in ((known[~unsure], colour), (known[unsure], "white")):
                axes.plot(chosen["theirs"], chosen["ours"], "o", ms=3.5, mew=0.6, mec=colour, mfc=face)
            top = 1.05 * float(np.nanmax([1e-9, *known["theirs"], *known["ours"]]))
            axes.plot([0, top], [0, top], color="0.3", lw=0.8, ls="--")
            told: Agreement = agreement(table["theirs"], table["ours"])
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
            axes.text(0.04, 0.96, str(told), transform=axes.transAxes, va="top", bbox=box)
            axes.set(xlim=(0, top), ylim=(0, top), title=title, aspect="equal")
            axes.set(xlabel=f"reference ({unit})", ylabel=f"measured ({unit})")
    return figure


def experts(preferences: pd.DataFrame, qualities: pd.DataFrame, width: float = PAGE) -> Figure:
    """Plot who experts prefer, and below how good they find the masks of each; one column a class.

    Parameters
    ----------
    preferences, qualities : pandas.DataFrame
        Of `zoobot_3d.report.experts.Judgements`.
    width : float
        Inches.
    """
    classes = [name for name in CLASSES if preferences["class"].eq(name).any()]
    with mpl.rc_context(STYLE | PUBLISHED):
        figure = Figure(figsize=(width, 3.0 if len(qualities) else 1.6))
        grid = figure.subplots(2 if len(qualities) else 1, len(classes), squeeze=False, sharex=True)
        for column, name in zip(grid.T, classes, strict=True):
            rows = preferences[preferences["class"] == name]
            _preferred(column[0], rows)
            column[0].set_title(f"{CLASS_LABELS[name]}: {rows['of'].max()} judgements")
            if len(qualities):
                _graded(column[1], qualities[qualities["class"] == name])
            column[-1].set(xlabel="share of judgements" if len(column) == 1 else "share", xlim=(0, 1))
        if len(qualities):
            handles, labels = grid[1, 0].get_legend_handles_labels()
            figure.legend(handles[: len(QUALITIES)], labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _preferred(axes: Axes, rows: pd.DataFrame) -> None:
    """Bars of the shares, the first on top, with their intervals."""
    names = [{**SOURCES, TIE: "cannot decide"}[source] for source in rows["source"]]
    error = np.clip([rows["share"] - rows["low"], rows["high"] - rows["share"]], 0, None)
    colours = [SOURCE_COLOURS[source] for source in rows["source"]]
    axes.barh(names, rows["share"], xerr=error, color=colours, height=0.7, error_kw={"lw": 0.8, "capsize": 2})
    for place, (share, high) in enumerate(zip(rows["share"], rows["high"], strict=True)):
        axes.text(min(high + 0.02, 0.86), place, f"{share:.1%}", va="center", fontsize=6.5)
    axes.invert_yaxis()
    axes.set_ylabel("preferred")


def _graded(axes: Axes, rows: pd.DataFrame) -> None:
    """Stacked bars of how many masks are how good."""
    names = [f"{SOURCES[source]} ({of})" for source, of in zip(rows["source"], rows["of"], strict=True)]
    left = np.zeros(len(rows))
    for number, (quality, label) in enumerate(QUALITIES.items()):
        share = rows[quality].to_numpy(float) / rows["of"].to_numpy(float)
        colour = QUALITY_MAP(0.95 - 0.3 * number)
        axes.barh(names, share, left=left, height=0.7, color=colour, label=label)
        left += share
    axes.invert_yaxis()
    axes.set_ylabel("quality (masks)")
