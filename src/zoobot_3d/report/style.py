"""Colours, labels and settings that all figures share.

Spiral arms are blue and bars orange everywhere (Wong 2011, Nature Methods 8, 441: people with colour blindness can tell
them apart).
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

COLOURS = {"spiral": "#56B4E9", "bar": "#E69F00"}
CLASS_LABELS = {"spiral": "spiral arms", "bar": "bar"}
SOURCE_COLOURS = {"model": "#0072B2", "volunteers": "#009E73", "sparcfire": "#CC79A7", "tie": "0.6"}
"""Who found the arms and bars: colours of the same palette, which are those of no class."""
QUALITY_MAP = mpl.colormaps["cividis"]
"""From failed (dark) to perfect (light)."""
COLUMN, PAGE = 3.3, 7.0
"""Inches: width of a journal's column and of its page."""
PUBLISHED: Any = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
}
"""On top of `STYLE`, for figures of those widths."""
TIGHT: Any = {f"figure.constrained_layout.{name}": 0.01 for name in ("w_pad", "h_pad", "wspace", "hspace")}
"""For panels that are pictures."""
LEVELS = {0.2: "--", 0.5: "-"}
"""Fractions of volunteers at which outlines are drawn, and their line styles."""
SIGMA_MAP = mpl.colormaps["cividis"]
"""Colour map of standard deviations: even in brightness, and the same with colour blindness."""
SIGMA_LEAST = 0.05
"""The scale of standard deviations reaches at least this far; below it the rounding of stored masks would show."""
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}
