"""The tables of a simulated survey without its pictures: what the tests of catalogue services and clients share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from zoobot_3d import schema
from zoobot_3d.simulate.catalogs import catalog_rows, iau_name, sky_positions, write_catalogs
from zoobot_3d.simulate.galaxies import draw_galaxy


def make_catalogues(root: Path, n: int = 40) -> Path:
    """Write the catalogues of a survey of `n` barred spirals, alike but for their places, and return its folder."""
    rng = np.random.default_rng(3)
    model = draw_galaxy(rng, ra=0.0, dec=0.0, kind="spiral")
    while model.bar is None:
        model = draw_galaxy(rng, ra=0.0, dec=0.0, kind="spiral")
    records = []
    for index, (ra, dec) in enumerate(sky_positions(n, seed=3)):
        identity = {
            "dr8_id": f"{1000 + index}_{index}",
            "brickid": 1000 + index,
            "objid": index,
            "MANGAID": f"1-{index}",
            "IAUNAME": iau_name(ra, dec),
            "ra": ra,
            "dec": dec,
        }
        galaxy = replace(model, ra=float(ra), dec=float(dec))
        paths = {schema.COL_GZ3D: f"gz3d/gz3d_1-{index}.fits.gz"}
        asked = dict.fromkeys(schema.CLASSES, 15)
        records.append(catalog_rows(galaxy, identity, paths, asked, dict.fromkeys(schema.CLASSES, 12), rng))
    write_catalogs(root, records)
    return root
