"""Figures of what lies on disk: reads catalogues, bundles and predictions; `zoobot_3d.report.figures` draws."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.errors import BadFileError, Zoobot3DError
from zoobot_3d.report import figures
from zoobot_3d.sky.rgb import rgb_from_grz

if TYPE_CHECKING:
    from zoobot_3d.dataset.data import MaskDataset
    from zoobot_3d.infer.radec import SkyMasks
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = ["comparison", "held_out", "position", "predictions", "training"]

_SEEN = 0.3  # of the volunteers: a galaxy on which less was marked is no example


def comparison(
    catalog: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    count: int = 24,
    split: str = "test",
    seed: int = 0,
) -> None:
    """Draw picture, volunteers and model for galaxies of a master catalogue.

    Parameters
    ----------
    catalog, bundle : path
        Master catalogue with marks, and folder of the bundle.
    out : path
        File to write.
    count : int
        Galaxies, drawn at random among those that volunteers marked.
    split : str
        ``train``, ``val``, ``test`` or ``all``.
    seed : int
        Of the draw.
    """
    from zoobot_3d.infer.segmenter import load_segmenter
    from zoobot_3d.report.evaluate import open_dataset

    segmenter = load_segmenter(bundle)
    held_out(open_dataset(catalog, segmenter, split=split), segmenter, out, count=count, seed=seed)


def held_out(
    dataset: MaskDataset,
    segmenters: Segmenter | Mapping[str, Segmenter],
    out: str | os.PathLike[str],
    *,
    count: int = 24,
    seed: int = 0,
) -> None:
    """Draw picture, volunteers and one or more models for galaxies of a dataset on which volunteers marked something.

    Parameters
    ----------
    dataset : MaskDataset
        At the models' input size and field.
    segmenters : Segmenter or mapping of str to Segmenter
        Models, by the title of their panels; a single one is called model.
    out : path
        File to write.
    count : int
        Galaxies, drawn at random; galaxies without marks fill up where there are too few with marks.
    seed : int
        Of the draw.
    """
    models = segmenters if isinstance(segmenters, Mapping) else {"model": segmenters}
    marked: list[tuple[int, dict[str, Any]]] = []
    blank: list[tuple[int, dict[str, Any]]] = []
    for index in np.random.default_rng(seed).permutation(len(dataset)):
        item = dataset[int(index)]
        if not item["error"]:
            is_marked = max(item["spiral_mask"].max(), item["bar_mask"].max()) > _SEEN
            (marked if is_marked else blank).append((int(index), item))
        if len(marked) >= count:
            break
    chosen = (marked + blank)[:count]
    items = [item for _, item in chosen]
    views = np.stack([item["image"].numpy() for item in items])
    shown: dict[str, Any] = {"volunteers": [np.stack([item["spiral_mask"], item["bar_mask"]]) for item in items]}
    shown |= {name: list(model.fractions(views / np.float32(255))) for name, model in models.items()}
    figure = figures.comparison(
        [np.moveaxis(view, 0, -1) for view in views],
        shown,
        [item["id"] for item in items],
        columns=2 if len(shown) < 3 else 1,
        pixscales=[dataset.pixscale(index) for index, _ in chosen],
    )
    io.write_figure(figure, out)


def predictions(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    pictures: str | os.PathLike[str] | None = None,
    count: int = 24,
    seed: int = 0,
) -> None:
    """Draw pictures beside their predicted masks, and beside their uncertainty where it was predicted too.

    Parameters
    ----------
    folder : path
        What `zoobot_3d.infer.predict.predict` wrote.
    out : path
        File to write.
    pictures : path, optional
        Folder that the ``path`` column starts from; by default where predict found them.
    count : int
        Galaxies, drawn at random.
    seed : int
        Of the draw.

    Raises
    ------
    BadFileError
        If none of the pictures is there any more.
    """
    from zoobot_3d.infer.predictions import has_sigma, read_masks, read_masks_and_sigma, read_rows, run_root

    root = Path(pictures) if pictures is not None else run_root(folder)
    uncertain = has_sigma(folder)
    rows = read_rows(folder)
    rows = rows[rows["error"].isna()].reset_index(drop=True)
    found, reason = {}, ""
    for index in np.random.default_rng(seed).permutation(len(rows)):
        row = rows.iloc[index]
        try:
            found[row["id"]] = _picture(root / row["path"])
        except Zoobot3DError as error:
            reason = str(error)
        if len(found) == count:
            break
    if not found:
        raise BadFileError(
            folder, f"none of the pictures could be read ({reason})", "say where they are with --pictures"
        )
    maps = {
        row["id"]: planes for row, *planes in (read_masks_and_sigma if uncertain else read_masks)(folder, set(found))
    }
    masks, *sigmas = zip(*(maps[name] for name in found), strict=True)
    scales = rows.drop_duplicates("id").set_index("id")["pixscale"]
    sheet = figures.contact_sheet(
        list(found.values()),
        masks,
        list(found),
        3 if uncertain else 4,
        sigmas=sigmas[0] if sigmas else (),
        pixscales=[float(scales[name]) for name in found],
    )
    io.write_figure(sheet, out)


def position(sky: SkyMasks) -> Path:
    """Draw the picture, masks and uncertainty at one position of the sky, and return the file."""
    file = sky.folder / "figures" / f"{io.file_stem(sky.name)}.png"
    io.write_figure(figures.chart(sky.picture, sky.masks, sky.grid.pixscale, sky.name, sky.sigma), file)
    return file


def training(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Draw losses and overlap of a training run.

    Raises
    ------
    BadFileError
        If the folder has no CSV log.
    """
    logs = sorted(Path(folder).glob("**/metrics.csv"))
    if not logs:
        raise BadFileError(folder, "no metrics.csv here", "give the folder that zoobot3d train wrote")
    io.write_figure(figures.training(pd.concat([pd.read_csv(log) for log in logs])), out)


def _picture(path: Path) -> NDArray[np.uint8]:
    if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
        return io.read_picture(path)
    return rgb_from_grz(io.read_cutout(path)[0][:, ::-1])
