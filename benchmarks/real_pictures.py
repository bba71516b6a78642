"""What does a model see in real galaxies that have no arms, with and without bars? Pictures it has not learned from.

    python benchmarks/real_pictures.py --folder ../shared/realdata/gz_decals_jpg [--bundle default BUNDLE ...]

``tools/hosts.csv`` lists regular galaxies of Galaxy Zoo DECaLS, and says, by eye, which have a bar; every second one
was host to simulated arms when the package's model was made, the others are asked about here. None has clear arms, so
that arms found are false, but for rings that volunteers too would mark. Prints, for each bundle, the part of galaxies
with a pixel above 0.2 and 0.5: arms in all, bars in those with and without one.

Into the same galaxies simulated arms and bars are painted, as for training into the other hosts, 400 times, and marked
by simulated volunteers: the IoU of what is there, in real light and among real neighbours.

The folder's ``catalog.csv`` has all galaxies of its ``jpg``. Of those that were no hosts, and were seen by others, are
compared

- width over length of the bar, where above 0.2, with that which the volunteers of Hoyle et al. 2011 (MNRAS 415, 3627)
  measured: of the rectangle with the same second moments;
- the mean of the arms with the fraction of votes for arms that is predicted by Zoobot (Walmsley et al. 2022, MNRAS 509,
  3966): Spearman's rank correlation, of those without a ring. That fraction is at most 0.5 here.

Writes ``real_pictures.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from rows import print_row, provenance
from zoobot_3d import load_segmenter
from zoobot_3d.io import read_picture, write_atomic, write_parquet
from zoobot_3d.report.evaluate import evaluate_catalog
from zoobot_3d.schema import CLASSES
from zoobot_3d.simulate.hosts import read_hosts, simulate_in_hosts
from zoobot_3d.simulate.visibility import mask_ellipse

HOSTS = Path(__file__).parents[1] / "tools" / "hosts.csv"
LEVELS = (0.2, 0.5)
N_PAINTED, PAINTED_SEED = 400, 77


def width_over_length(lit: NDArray[np.bool_]) -> float:
    """Of the ellipse, or rectangle, with a region's second moments; nan where there is none."""
    if not lit.any():
        return float("nan")
    _, _, semi_major, semi_minor, _ = mask_ellipse(lit.astype(np.uint8))
    return semi_minor / semi_major


def false_alarms(galaxies: pd.DataFrame, masks: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Rows of the regular galaxies held out, by what they are said to have."""
    groups = {
        "arms, no galaxy has clear ones": (0, np.ones(len(galaxies), bool)),
        "bars, galaxies with one": (1, (galaxies["barred"] == "yes").to_numpy()),
        "bars, galaxies without": (1, (galaxies["barred"] == "no").to_numpy()),
    }
    rows = []
    for group, (index, members) in groups.items():
        chosen = masks[members, index]
        row: dict[str, Any] = {"group": group, "galaxies": int(members.sum())}
        row |= {f"any_above_{level}": round(float((chosen.max((1, 2)) > level).mean()), 3) for level in LEVELS}
        row["mean_area_above_0.2"] = round(float((chosen > LEVELS[0]).mean()), 5)  # of the picture
        rows.append(row)
    return rows


def compare(galaxies: pd.DataFrame, masks: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Rows of what others measured."""
    measured = (galaxies["hoyle_length_avg"] > 0).to_numpy()
    theirs = (galaxies["hoyle_width_avg"] / galaxies["hoyle_length_avg"])[measured]
    ours = [width_over_length(mask > LEVELS[0]) for mask in masks[measured, 1]]
    plain = (galaxies["ring"] == 0).to_numpy()
    arms = masks[plain, 0].mean((1, 2))
    rank = spearmanr(arms, 1 - galaxies["has-spiral-arms_no_fraction"][plain]).statistic
    return [
        {
            "group": "bars of Hoyle et al. 2011",
            "galaxies": int(measured.sum()),
            "found": round(float(np.isfinite(ours).mean()), 3),
            "width_over_length": round(float(np.nanmedian(ours)), 3),
            "width_over_length_hoyle": round(float(theirs.median()), 3),
        },
        {
            "group": "arms against Zoobot's fraction, no rings",
            "galaxies": int(plain.sum()),
            "rank_correlation": round(float(rank), 3),
        },
    ]


def make_painted(pictures: Path, work: Path, number: int = N_PAINTED) -> Path:
    """Write a catalogue of pictures of the held-out hosts with simulated arms and bars in them."""
    frame = simulate_in_hosts(work, read_hosts(HOSTS, pictures, "test"), number, seed=PAINTED_SEED)
    write_parquet(work / "painted.parquet", frame.assign(split="test"))
    return work / "painted.parquet"


def painted_row(bundle: str, catalog: Path) -> dict[str, Any]:
    """Row of what was painted: IoU above 0.2, that of two halves of the volunteers, and the calibration error."""
    measured = evaluate_catalog(catalog, bundle, progress=False)
    row: dict[str, Any] = {"group": "simulated arms and bars in them", "galaxies": measured.n_galaxies}
    for name in CLASSES:
        row[f"{name}_iou"] = round(measured.model[f"{name}_iou_{LEVELS[0]}"], 3)
        row[f"{name}_calibration_error"] = round(measured.calibration_error[name], 3)
        row[f"{name}_iou_halves"] = round(measured.ceiling[f"{name}_iou_{LEVELS[0]}"], 3)
    return row


def main() -> None:
    """Predict, count, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="with catalog.csv and the pictures in jpg")
    parser.add_argument("--bundle", nargs="+", default=["default"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/real_pictures.json"))
    args = parser.parse_args()
    hosts = pd.read_csv(HOSTS, keep_default_na=False)
    galaxies = pd.read_csv(args.folder / "catalog.csv").rename(columns={"id_str": "id"})
    galaxies = galaxies[~galaxies["id"].isin(hosts["id"][hosts["split"] == "train"])]
    galaxies = galaxies.merge(hosts[["id", "split", "barred"]], on="id", how="left")
    pictures = [read_picture(args.folder / "jpg" / f"{name}.jpg") for name in galaxies["id"]]
    regular = (galaxies["split"] == "test").to_numpy()
    rows = []
    with TemporaryDirectory() as work:
        painted = make_painted(args.folder / "jpg", Path(work))
        for bundle in args.bundle:
            segmenter = load_segmenter(bundle)
            masks = np.stack([np.nan_to_num(segmenter.segment(picture)) for picture in pictures])
            found = [*false_alarms(galaxies[regular], masks[regular]), *compare(galaxies, masks)]
            for row in [*found, painted_row(bundle, painted)]:
                rows.append({"bundle": bundle} | row | provenance())
                print_row(rows[-1])
    write_atomic(args.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
