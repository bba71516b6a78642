"""Simulated galaxies for the rest of the package: draw a recipe, render it on a grid, ask where its parts are.

The one door to `recipe` (what a galaxy is), `outlines` (where its parts are), `population` (how common each kind is),
`light` (surface brightness) and `sky` (neighbours, seeing, noise). Knows nothing of volunteers or files.
"""

from __future__ import annotations

from zoobot_3d.simulate.outlines import Ridge, arm_ridges, bar_outline
from zoobot_3d.simulate.population import draw_galaxy
from zoobot_3d.simulate.recipe import KINDS, Arm, Bar, Dust, Galaxy, Kind, Ring
from zoobot_3d.simulate.sky import DECALS, SDSS, Instrument, render

__all__ = [
    "DECALS",
    "KINDS",
    "SDSS",
    "Arm",
    "Bar",
    "Dust",
    "Galaxy",
    "Instrument",
    "Kind",
    "Ridge",
    "Ring",
    "arm_ridges",
    "bar_outline",
    "draw_galaxy",
    "render",
]
