"""What does a model see in real galaxies that have no arms, with and without bars? Pictures it has not learned from.

    python benchmarks/real_pictures.py --pictures ../shared/realdata/gz_decals_jpg/jpg [--bundle default BUNDLE ...]

``tools/hosts.csv`` lists regular galaxies of Galaxy Zoo DECaLS, and says, by eye, which have a bar; every second one
was host to simulated arms when the package's model was made, the others are asked about here. None has clear arms, so
that arms found are false, but for rings that volunteers too would mark. Prints, for each bundle, the part of galaxies
with a pixel above 0.2 and 0.5: arms in all, bars in those with and without one. Writes ``real_pictures.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from zoobot_3d import __version__, load_segmenter
from zoobot_3d.io import read_picture, write_atomic

HOSTS = Path(__file__).parents[1] / "tools" / "hosts.csv"
LEVELS = (0.2, 0.5)


def main() -> None:
    """Predict, count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of the JPEG files")
    parser.add_argument("--bundle", nargs="+", default=["default"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/real_pictures.json"))
    args = parser.parse_args()
    galaxies = pd.read_csv(HOSTS, keep_default_na=False).query("split == 'test'")
    pictures = [read_picture(args.pictures / f"{name}.jpg") for name in galaxies["id"]]
    groups = {
        "arms, no galaxy has clear ones": (0, np.ones(len(galaxies), bool)),
        "bars, galaxies with one": (1, (galaxies["barred"] == "yes").to_numpy()),
        "bars, galaxies without": (1, (galaxies["barred"] == "no").to_numpy()),
    }
    rows = []
    for bundle in args.bundle:
        segmenter = load_segmenter(*([] if bundle == "default" else [bundle]))
        masks = np.stack([segmenter.segment(picture) for picture in pictures])
        for group, (index, members) in groups.items():
            chosen = masks[members, index]
            row = {"bundle": bundle, "group": group, "galaxies": int(members.sum())}
            row |= {f"any_above_{level}": round(float((chosen.max((1, 2)) > level).mean()), 3) for level in LEVELS}
            row["mean_area_above_0.2"] = round(float((chosen > LEVELS[0]).mean()), 5)  # of the picture
            rows.append(row | {"date": time.strftime("%Y-%m-%d"), "zoobot_3d": __version__})
            found = "  ".join(f"> {level}: {row[f'any_above_{level}']:4.0%}" for level in LEVELS)
            print(f"{bundle}: {group} ({row['galaxies']}): {found}  area > 0.2: {row['mean_area_above_0.2']:.2%}")
    write_atomic(args.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
