"""Judges models where galaxies are larger, or more inclined, than those that they are used to.

    python benchmarks/views.py --catalog weights/recipes/survey/data/judge.parquet
                               --painted weights/recipes/painted/painted.parquet [--bundle default A B+C ...]

Both catalogues are those of `benchmarks/recipes.py`: spirals that volunteers drew on and that were held out, and
simulated arms and bars in real pictures, of which the first 150 count. Pictures and votes are shown as they are,
enlarged, squeezed along a random direction, and both. ``B+C`` is the mean of the fractions of two bundles. Prints the
IoU above 0.2, the mean over galaxies that have the class, for each view and over all; appends it to ``views.jsonl``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rows import append_row, print_row, provenance
from zoobot_3d import load_segmenter
from zoobot_3d.catalog.galaxy_files import galaxy_files
from zoobot_3d.catalog.reading import catalog_root, read_catalog
from zoobot_3d.dataset.sample import read_sample
from zoobot_3d.schema import GZ_FIELD_PX

VIEWS = ((1.0, 1.0), (1.6, 1.0), (1.0, 0.55), (1.6, 0.55))
"""Enlarged by, squeezed to."""
LEVEL, MOST, BATCH = 0.2, 150, 32
SEEN = slice(43, 381)  # px of 424: what networks see

Item = tuple[NDArray[np.uint8], NDArray[np.float32]]


def read(catalog: Path) -> list[Item]:
    """Read pictures, and the fraction of volunteers in each of their pixels."""
    items = []
    for galaxy in galaxy_files(read_catalog(catalog), catalog_root(catalog))[:MOST]:
        sample = read_sample(galaxy, GZ_FIELD_PX, 1.0)
        picture = np.ascontiguousarray(sample.image.transpose(1, 2, 0))
        items.append((picture, (sample.votes / np.maximum(sample.n_asked, 1)).astype(np.float32)))
    return items


def turned(item: Item, zoom: float, squash: float, angle: float) -> Item:
    """Enlarge a galaxy about the middle, and squeeze it along a direction (deg)."""
    side = len(item[0])
    middle, a = np.full(2, (side - 1) / 2), np.radians(angle)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    matrix = zoom * turn @ np.diag([squash, 1.0]) @ turn.T
    affine = np.hstack([matrix, (middle - matrix @ middle)[:, None]])

    def warp(array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.asarray(cv2.warpAffine(array, affine, (side, side), borderMode=cv2.BORDER_REFLECT))

    return warp(item[0]), np.stack([warp(plane) for plane in item[1]])


def iou(items: list[Item], bundles: list[str]) -> list[float]:
    """IoU of arms and of bars, the mean over galaxies that have them."""
    segmenters, scores = [load_segmenter(bundle) for bundle in bundles], ([], [])
    for start in range(0, len(items), BATCH):
        some = items[start : start + BATCH]
        answers = [segmenter.segment_batch([picture for picture, _ in some]) for segmenter in segmenters]
        for (_, votes), *masks in zip(some, *answers, strict=True):
            for score, vote, mask in zip(scores, votes, np.mean(masks, axis=0), strict=True):
                theirs, ours = vote[SEEN, SEEN] > LEVEL, mask[SEEN, SEEN] > LEVEL
                if theirs.any():
                    score.append((theirs & ours).sum() / (theirs | ours).sum())
    return [float(np.mean(score)) for score in scores]


def main() -> None:
    """Read, turn, ask, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--painted", type=Path, required=True)
    parser.add_argument("--bundle", nargs="+", default=["default"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/views.jsonl"))
    args = parser.parse_args()
    sets = {"drawn": read(args.catalog), "painted": read(args.painted)}
    for name in args.bundle:
        row: dict[str, object] = {"bundle": name}
        rng = np.random.default_rng(1)
        for kind, items in sets.items():
            found = [iou([turned(i, *view, rng.uniform(0, 180)) for i in items], name.split("+")) for view in VIEWS]
            for view, pair in zip(VIEWS, found, strict=True):
                row["{} x{:g} to {:g}".format(kind, *view)] = [round(value, 3) for value in pair]
            row[kind] = [round(float(value), 3) for value in np.mean(found, axis=0)]
        row |= provenance()
        print_row(row)
        append_row(args.out, row)


if __name__ == "__main__":
    main()
