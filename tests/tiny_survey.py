"""A handful of galaxies with marks, written in a second: what the tests of data, task and train learn from.

Each galaxy is a bright bar on noise, drawn by 15 volunteers as bar, and by `n` of them as a spiral arm to its west.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from zoobot_3d.io import write_jpeg, write_parquet
from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.schema import CAMPAIGNS, vote_columns
from zoobot_3d.sky.grid import PixelGrid

PIXSCALE = 0.11  # arcsec / px of the 424 px picture: 46.6 arcsec, inside the 52 arcsec that volunteers saw
FRAME = (525, 525)


def mark_frame(ra: float, dec: float) -> PixelGrid:
    return PixelGrid(FRAME, 0.099, ra, dec, (261.5, 261.5))


def rectangle(grid: PixelGrid, east: float, north: float, width: float, height: float) -> np.ndarray:
    """Corners of a rectangle, centre and sides in arcsec, as (4, 2) pixels of `grid`."""
    xi = east + np.array([-1, 1, 1, -1]) * width / 2
    eta = north + np.array([-1, -1, 1, 1]) * height / 2
    return np.column_stack(grid.offset_to_pixel(xi, eta))


def marks(frame: PixelGrid, spiral: list, bar: list) -> VolunteerMarks:
    """Marks from volunteers -> paths; no points."""
    points = PointTask.from_nested([[]] * len(spiral), [[]] * len(spiral))
    return VolunteerMarks(frame, PathTask.from_nested(spiral), PathTask.from_nested(bar), points, {})


def make_survey(root: Path, n: int = 16, size: int = 64, pixscale: float = PIXSCALE) -> Path:
    """Write `n` galaxies with pictures of `size` px and return the path of their catalogue."""
    rng = np.random.default_rng(1)
    rows = []
    for index in range(n):
        ra, dec = 150.0 + 0.1 * index, 2.0
        field = PixelGrid((size, size), pixscale * 424 / size, ra, dec)
        frame = mark_frame(ra, dec)
        half = rng.uniform(4, 7)  # arcsec
        picture = rng.integers(0, 40, (size, size, 3), dtype=np.uint8)
        for east, north, width, height in ((0, 0, 2 * half, 4), (-10, 0, 4, 2 * half)):
            corners = rectangle(field, east, north, width, height).round().astype(int)
            (left, top), (right, bottom) = corners.min(0), corners.max(0)
            picture[top : bottom + 1, left : right + 1] += 160
        name = f"g{index:02d}"
        write_jpeg(root / "jpg" / f"{name}.jpg", picture, quality=95)
        spiral = [[rectangle(frame, -10, 0, 4, 2 * half)] if v < 10 else [] for v in range(15)]
        bar = [[rectangle(frame, 0, 0, 2 * half, 4)] for _ in range(15)]
        (root / "marks").mkdir(parents=True, exist_ok=True)
        marks(frame, spiral, bar).to_json(root / "marks" / f"{name}.json")
        rows.append(
            {
                "dr8_id": name,
                "ra": ra,
                "dec": dec,
                "ra_manga": ra,
                "dec_manga": dec,
                "est_dr5_pixscale": pixscale,
                "relative_desi_jpg_loc": f"jpg/{name}.jpg",
                "relative_segmap_json_loc": f"marks/{name}.json",
                "redshift": 0.01 * index,
                "split": "train" if index % 4 < 2 else ("val", "test")[index % 2],
            }
        )
    catalog = root / "data" / "catalog.parquet"
    write_parquet(catalog, pd.DataFrame(rows))
    return catalog


def make_mixed_survey(root: Path, n: int = 24, campaign: str = "gz2") -> Path:
    """Write a survey where every third galaxy has marks alone, the next votes alone, the next both.

    Of those asked, 30 answered each question; all gave its first answer about a galaxy of even number, and its last
    one about any other.
    """
    catalog = make_survey(root, n)
    frame = pd.read_parquet(catalog)
    for question in CAMPAIGNS[campaign]:
        for column in question.vote_columns(campaign):
            frame[column] = 0
        first, *_, last = question.vote_columns(campaign)
        frame.loc[frame.index % 2 == 0, first] = 30
        frame.loc[frame.index % 2 == 1, last] = 30
    columns = vote_columns([campaign])
    frame[columns] = frame[columns].astype("Int64")
    frame.loc[frame.index % 3 == 0, columns] = pd.NA
    frame.loc[frame.index % 3 == 1, "relative_segmap_json_loc"] = None
    write_parquet(catalog, frame)
    return catalog
