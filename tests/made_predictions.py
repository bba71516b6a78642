"""Folders of predictions whose masks can be worked out by hand."""

import json

import numpy as np
import pandas as pd

from shapes import rectangle, spiral
from zoobot_3d.infer.shards import ShardLog, write_shard
from zoobot_3d.io import encode_mask_png, write_jpeg

SIZE, SCALE = 200, 0.3


def masks_of(pa: float) -> np.ndarray:
    """Two arms of 20 deg, and a bar of 60 px at a position angle."""
    return np.stack([spiral(SIZE, 20, radii=(32, 85), starts=(pa, pa + 180)), rectangle(SIZE, 60, 14, pa)])


def write_prediction(folder, angles: dict[str, float], *, failed: tuple[str, ...] = (), ratio: float = 1.0):
    """A folder as `predict` writes it, of two galaxies a shard."""
    log = ShardLog(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"bundle": "made", "pictures": "."}))
    rows = []
    for name, pa in angles.items():
        masks = masks_of(pa)
        y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
        disk = 200 * np.exp(-np.hypot(x, y / ratio) / 25)  # the major axis points west: 90 deg
        write_jpeg(folder / "images" / f"{name}.jpg", np.repeat(disk.astype(np.uint8)[..., None], 3, axis=2))
        bad = name in failed
        row = {"id": name, "path": f"images/{name}.jpg", "error": "the picture is cut" if bad else None}
        row |= {
            "warning": None,
            "ra": 150.0,
            "dec": 2.0,
            "height": SIZE,
            "width": SIZE,
            "pixscale": SCALE,
            "field": 1.0,
        }
        row |= {"field_top": 0, "field_left": 0, "field_height": SIZE, "field_width": SIZE, "file_stem": name}
        row |= {
            f"{c}_mask_png": None if bad else encode_mask_png(m) for c, m in zip(("spiral", "bar"), masks, strict=True)
        }
        rows.append(row)
    for number in range(0, len(rows), 2):
        write_shard(log, number // 2, pd.DataFrame(rows[number : number + 2]).assign(stamp=str(number)), {})
    return folder
