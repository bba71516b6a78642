"""Judge models by arms and bars that volunteers drew on real spirals, beside how well the volunteers agree.

    python benchmarks/drawn.py --folder ../shared/realdata/galaxy_builder/drawn [--bundle default BUNDLE ...]
    python benchmarks/drawn.py --folder ... --folds 0 1                          # those that `make weights` holds out
    python benchmarks/drawn.py --folder ... --bundle FOLD0 FOLD1 ... --by-fold   # each on the galaxies of its own fold

The volunteers are those of Galaxy Builder (Lingard et al. 2020, MNRAS 493, 2160); `zoobot_3d.marks.galaxy_builder` says
how their lines become areas. A bundle that has learned from a galaxy must not be judged by it: ``--by-fold`` takes as
many bundles as there are folds, and asks bundle k about fold k alone (`fold`). For arms and for bars it prints

- the IoU of the mask and the volunteers, both above a fraction of 0.2, with its standard error over galaxies, and the
  same for one half of the volunteers against the other half;
- ``line``: the part of the fitted arms' centre lines that the mask above 0.2 covers, to 2 pixels of the image;
- ``within``: the part of the mask above 0.2 that lies where any volunteer drew an arm.

Appends rows to ``drawn.jsonl``, and draws 24 galaxies, volunteers beside model, into ``drawn.png`` if asked to
(``--sheet``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from rows import append_row, print_row, provenance
from zoobot_3d import load_segmenter
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.io import read_picture, write_parquet
from zoobot_3d.marks.galaxy_builder import SDSS_PIXSCALE
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.prepare.drawn import import_galaxy_builder
from zoobot_3d.report import gallery
from zoobot_3d.report.evaluate import evaluate, open_dataset
from zoobot_3d.report.galaxy_scores import standard_error
from zoobot_3d.schema import CLASSES, COL_ID, COL_JPG, COL_MARKS, COL_PIXSCALE, GZ_FIELD_PX
from zoobot_3d.sky.grid import PixelGrid

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from real_galaxies import FOLDS, fold

LEVEL = 0.2
NEAR_PX = 2.0  # of the SDSS image, 0.8 arcsec
SHEET = 24


def arm_lines(path: Path, shape: tuple[int, int], pixscale: float) -> NDArray[np.bool_]:
    """Draw the centre lines of the arms fitted to a galaxy's lines on its picture, (GZ_FIELD_PX, GZ_FIELD_PX)."""
    drawn = np.zeros((GZ_FIELD_PX, GZ_FIELD_PX), bool)
    middle = (np.array(shape)[::-1] - 1) / 2
    for arm in json.loads(path.read_text())["fitted_arms"]:
        points = (np.array(arm["points"]) - middle) * SDSS_PIXSCALE / pixscale + (GZ_FIELD_PX - 1) / 2
        for start, end in pairwise(points):
            steps = np.linspace(start, end, 2 + int(np.abs(end - start).max()))
            x, y = np.round(steps).astype(int).T
            inside = (x >= 0) & (y >= 0) & (x < GZ_FIELD_PX) & (y < GZ_FIELD_PX)
            drawn[y[inside], x[inside]] = True
    return drawn


def line_counts(segmenter: Segmenter, frame: pd.DataFrame, root: Path, folder: Path) -> NDArray[np.float64]:
    """Count, for each galaxy, pixels of fitted lines that are covered, of lines, of the mask in an arm, of the mask."""
    counts = []
    for row in frame.itertuples():
        name = getattr(row, COL_ID).removeprefix("gb_")
        pixscale = float(getattr(row, COL_PIXSCALE))
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            height, width = arrays["image"].shape
        line = arm_lines(folder / f"{name}.json", (height, width), pixscale)
        mask = segmenter.segment(read_picture(root / getattr(row, COL_JPG)))[0]
        line &= np.isfinite(mask)  # the network sees the middle of the picture
        lit = np.nan_to_num(mask) > LEVEL
        marks = VolunteerMarks.from_json(root / getattr(row, COL_MARKS))
        field = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), pixscale)
        anyone = marks.votes(field)[0] > 0
        near = distance_transform_edt(~lit) <= NEAR_PX * SDSS_PIXSCALE / pixscale if lit.any() else lit
        counts.append([(line & near).sum(), line.sum(), (lit & anyone).sum(), lit.sum()])
    return np.array(counts, float)


def line_scores(counts: NDArray[np.float64]) -> dict[str, float]:
    """Turn the counts of all galaxies into ``line`` and ``within``, with standard errors."""
    covered, lines, within, area = counts.T
    fitted = lines > 0
    return {
        "line": covered[fitted].sum() / lines[fitted].sum(),
        "line_error": standard_error(covered[fitted], lines[fitted]),
        "within": within.sum() / area.sum(),
        "within_error": standard_error(within, area),
    }


def judge(bundles: Sequence[str], catalogs: Sequence[Path], root: Path, folder: Path) -> dict[str, Any]:
    """Measure a bundle on a catalogue, or several on one each, all galaxies together."""
    tables, halves, lines = [], [], []
    for bundle, catalog in zip(bundles, catalogs, strict=True):
        segmenter = load_segmenter(bundle)
        measured = evaluate(segmenter, open_dataset(catalog, segmenter, split="all", root=root))
        tables.append(measured.galaxies)
        halves.append({f"{name}_halves": measured.ceiling[f"{name}_iou_{LEVEL}"] for name in CLASSES})
        lines.append(line_counts(segmenter, read_catalog(catalog), root, folder))
    galaxies = pd.concat(tables)
    row: dict[str, Any] = {"galaxies": len(galaxies)}
    for name in CLASSES:
        both, either = (galaxies[f"{name}_{which}_px"].to_numpy(float) for which in ("both", "either"))
        row |= {f"{name}_iou": both.sum() / either.sum(), f"{name}_iou_error": standard_error(both, either)}
    weights = [len(counts) for counts in lines]  # by fold, the ceiling is the mean of the folds'
    for key in halves[0]:
        row[key] = float(np.average([each[key] for each in halves], weights=weights))
    row |= line_scores(np.concatenate(lines))
    return {key: round(float(value), 3) if isinstance(value, float) else value for key, value in row.items()}


def write_folds(catalog: Path, folds: Iterable[int]) -> list[Path]:
    """Write a catalogue of the galaxies of each fold beside the whole."""
    frame = read_catalog(catalog)
    number = frame[COL_ID].map(fold)
    paths = []
    for k in folds:
        paths.append(catalog.with_name(f"drawn_{k}.parquet"))
        write_parquet(paths[-1], frame[number == k].reset_index(drop=True))
    return paths


def main() -> None:
    """Import, judge, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="Galaxy Builder's galaxies: catalog.csv, JSON, NPZ")
    parser.add_argument("--bundle", nargs="+", default=["default"])
    parser.add_argument(
        "--by-fold", action="store_true", help="bundle k has not learned from fold k: ask it about that"
    )
    parser.add_argument("--folds", type=int, nargs="+", choices=range(FOLDS), help="galaxies of these folds alone")
    parser.add_argument("--note", default="", help="written into the row: why this look")
    parser.add_argument("--sheet", type=Path, help="PNG of 24 galaxies, volunteers beside the first bundle")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/drawn.jsonl"))
    args = parser.parse_args()
    if args.by_fold and len(args.bundle) != FOLDS:
        parser.error(f"--by-fold: give {FOLDS} bundles")
    with TemporaryDirectory() as work:
        root = Path(work)
        catalog = import_galaxy_builder(args.folder, root).catalog
        if args.folds:
            frame = read_catalog(catalog)
            write_parquet(catalog, frame[frame[COL_ID].map(fold).isin(args.folds)].reset_index(drop=True))
        runs = [([bundle], [catalog]) for bundle in args.bundle]
        if args.by_fold:
            runs = [(args.bundle, write_folds(catalog, range(FOLDS)))]
        for bundles, catalogs in runs:
            row = {"bundle": " ".join(bundles), "note": args.note} | judge(bundles, catalogs, root, args.folder)
            row |= provenance()
            print_row(row)
            append_row(args.out, row)
        if args.sheet:
            segmenter = load_segmenter(runs[0][0][0])
            gallery.held_out(
                open_dataset(runs[0][1][0], segmenter, split="all", root=root), segmenter, args.sheet, count=SHEET
            )


if __name__ == "__main__":
    main()
