"""Figures of what lies on disk: reads catalogues, bundles and predictions; `zoobot_3d.report.figures` draws."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.catalog.listing import CUBES
from zoobot_3d.compute.batch import reason_for
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.report import figures
from zoobot_3d.report.agreement import Agreement, agreement, read_pairs
from zoobot_3d.report.style import COLOURS
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid, resample
from zoobot_3d.sky.rgb import rgb_from_grz
from zoobot_3d.sources.sparcfire import read_sparcfire_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoobot_3d.dataset.data import MaskDataset
    from zoobot_3d.infer.radec import SkyMasks
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = ["calibration", "comparison", "held_out", "measured", "position", "predictions", "training", "worst"]

PRINT = 300
"""Dots per inch of figures for a publication."""

_SEEN, _SEEN_AREA = 0.4, 0.002
"""A galaxy is an example if at least this fraction of the volunteers enclosed this part of the picture in one class."""


def comparison(
    catalog: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    count: int = 24,
    split: str = "test",
    seed: int = 0,
    sparcfire: str | os.PathLike[str] | None = None,
    width: float | None = None,
) -> None:
    """Draw picture, volunteers and model for galaxies of a master catalogue, and what SpArcFiRe found on them.

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
    sparcfire : path, optional
        Folder of results for the same pictures, e.g. of ``zoobot3d fetch sparcfire``; only galaxies with a result are
        drawn.
    width : float, optional
        Inches, of a figure for a publication, with one row a galaxy.
    """
    from zoobot_3d.infer.segmenter import load_segmenter
    from zoobot_3d.report.evaluate import open_dataset

    segmenter = load_segmenter(bundle)
    dataset = open_dataset(catalog, segmenter, split=split)
    arms = None
    if sparcfire is not None:
        results, reasons = read_sparcfire_folder(sparcfire)
        arms = {name: result.mask for name, result in results.items()}
        if not any(io.file_stem(name) in arms for name in dataset.names()):
            why = f" ({next(iter(reasons.values()))})" if reasons else ""
            raise BadFileError(sparcfire, f"no result for a galaxy of this catalogue{why}", "give the results of it")
    held_out(dataset, {"this model": segmenter}, out, count=count, seed=seed, sparcfire=arms, width=width)


def held_out(
    dataset: MaskDataset,
    segmenters: Segmenter | Mapping[str, Segmenter],
    out: str | os.PathLike[str],
    *,
    count: int = 24,
    seed: int = 0,
    scores: Mapping[str, pd.DataFrame] | None = None,
    sparcfire: Mapping[str, NDArray[np.float32]] | None = None,
    width: float | None = None,
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
        Number of galaxies, drawn at random among those on which volunteers agree that there is something; if there are
        fewer, fewer are shown. Where there are none, others are.
    seed : int
        Seed of the draw.
    scores : mapping of str to pandas.DataFrame, optional
        ``galaxies`` of the `zoobot_3d.report.evaluate.Evaluation` of each model on this dataset, by its title; the
        overlap of each galaxy is then written into the panels.
    sparcfire : mapping of str to numpy.ndarray, optional
        (H, W) arms that SpArcFiRe found on the pictures, by `zoobot_3d.io.file_stem` of the galaxy's name; others are
        not drawn.
    width : float, optional
        Inches, see `comparison`.
    """
    models = segmenters if isinstance(segmenters, Mapping) else {"model": segmenters}
    marked: list[int] = []
    others: list[int] = []
    names = [io.file_stem(name) for name in dataset.names()]
    for index in np.random.default_rng(seed).permutation(len(dataset)):
        if sparcfire is not None and names[index] not in sparcfire:
            continue
        item = dataset[int(index)]
        if not item["error"]:
            seen = max(float((item[f"{name}_mask"] > _SEEN).float().mean()) for name in CLASSES)
            (marked if seen > _SEEN_AREA else others).append(int(index))
        if len(marked) >= count:
            break
    if not (chosen := marked or others[:count]):
        raise CatalogError("no galaxy could be read; there is nothing to draw")
    views = np.stack([dataset[index]["image"].numpy() for index in chosen]) / np.float32(255)
    notes: dict[str, list[str]] = {}
    for name, table in (scores or {}).items():
        rows = table.reindex(chosen)
        notes |= {"volunteers": _overlaps(rows, "halves_", "halves: "), name: _overlaps(rows, "", "IoU: ")}
    fractions: dict[str, Any] = {}
    if sparcfire is not None:
        found = [sparcfire[names[index]] for index in chosen]
        fractions["SpArcFiRe"] = [_arms_on(mask, dataset) for mask in found]
    fractions |= {name: list(model.fractions(views)) for name, model in models.items()}
    _draw(dataset, chosen, fractions, out, notes, width)


def _arms_on(mask: NDArray[np.float32], dataset: MaskDataset) -> NDArray[np.float32]:
    """Bring arms on the pixels of a picture to those of a dataset, as a picture is; SpArcFiRe has no bars."""
    grid = PixelGrid((mask.shape[0], mask.shape[1]), 1.0)  # any scale: both lie on the same picture
    view = grid.resize(dataset.input_size, field_fraction=dataset.field_fraction)
    arms = resample(mask, grid, view)
    return np.stack([arms, np.zeros_like(arms)])


def worst(
    galaxies: pd.DataFrame,
    datasets: Sequence[MaskDataset],
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    *,
    count: int = 12,
) -> None:
    """Draw the galaxies on which a model does worst: picture, volunteers and model, with the overlap of each class.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        ``galaxies`` of an `zoobot_3d.report.evaluate.Evaluation`.
    datasets : sequence of MaskDataset
        What was evaluated, one for each bundle, as `zoobot_3d.report.evaluate.open_datasets` gives.
    segmenter : Segmenter
        What was evaluated.
    out : path
        File to write.
    count : int
        Number of galaxies, from the worst on; galaxies without any pixel to compare are never shown.
    """
    from zoobot_3d.report.evaluate import predict_items

    shown = galaxies[galaxies["iou_0.2"].notna()].head(count)
    if shown.empty:
        raise CatalogError("no galaxy has marks or predictions above 0.2; there is nothing to draw")
    indices = [int(row) for row in shown.index]
    items = [datasets[0][index] for index in indices]
    fractions = [predict_items(segmenter, datasets, row, [item])[0] for row, item in zip(indices, items, strict=True)]
    notes = {
        "volunteers": _overlaps(shown, "halves_", "halves: "),
        "model": _overlaps(shown, "", "IoU: "),
    }
    _draw(datasets[0], indices, {"model": fractions}, out, notes)


def _overlaps(scores: pd.DataFrame, prefix: str, what: str) -> list[str]:
    """Write the overlap of arms and bars of each galaxy."""
    columns = [scores[f"{prefix}{name}_iou_0.2"] for name in CLASSES]
    told = ("-" if np.isnan(value) else f"{value:.2f}" for pair in zip(*columns, strict=True) for value in pair)
    return [f"{what}arms {arms}, bar {bar}" for arms, bar in zip(told, told, strict=True)]


def _draw(
    dataset: MaskDataset,
    indices: Sequence[int],
    fractions: Mapping[str, Sequence[NDArray[np.float32]]],
    out: str | os.PathLike[str],
    notes: Mapping[str, Sequence[str]] | None = None,
    width: float | None = None,
) -> None:
    """Draw galaxies of a dataset with outlines by volunteers and by models: fractions on its pixels, by their title."""
    items = [dataset[index] for index in indices]
    shown: dict[str, Any] = {}
    if any(item["n_asked"].any() for item in items):
        shown["volunteers"] = [np.stack([item["spiral_mask"], item["bar_mask"]]) for item in items]
    shown |= fractions
    figure = figures.comparison(
        [np.moveaxis(item["image"].numpy(), 0, -1) for item in items],
        shown,
        [item["id"] for item in items],
        columns=2 if len(shown) < 3 and width is None else 1,
        pixscales=[dataset.pixscale(index) for index in indices],
        notes=notes,
        width=width,
    )
    write(figure, out, 130 if width is None else PRINT)


def write(figure: Figure, out: str | os.PathLike[str], dpi: int) -> None:
    """Write a figure; as PDF and as PNG if the name has no extension."""
    out = Path(out)
    known = out.suffix.lower() in (".png", ".pdf", ".svg")
    for path in [out] if known else [out.with_name(f"{out.name}{ending}") for ending in (".pdf", ".png")]:
        io.write_figure(figure, path, dpi)


def measured(
    kind: str,
    table: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    column: str = "",
    width: float | None = None,
) -> Agreement:
    """Draw measured against reference values, one to one, with errors; and return how well they agree.

    Parameters
    ----------
    kind : str
        ``bars``: full lengths, arcsec. ``pitch``: pitch angles, deg.
    table, reference : path
        What ``zoobot3d measure`` wrote, and a table with the same names; see `zoobot_3d.report.agreement.read_pairs`.
    out : path
        File to write.
    column : str
        Of the reference, by default as in the table: ``bar_length`` or ``pitch``.
    width : float, optional
        Inches.
    """
    ours, unit, name = {"bars": ("bar_length", "arcsec", "bar"), "pitch": ("pitch", "deg", "spiral")}[kind]
    pairs = read_pairs(table, reference, ours, column or ours)
    figure = figures.one_to_one([(pairs, Path(reference).stem)], unit, COLOURS[name], width=width)
    write(figure, out, PRINT)
    return agreement(pairs["theirs"], pairs["ours"])


def calibration(file: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Draw the calibration that ``zoobot3d evaluate`` found.

    Raises
    ------
    BadFileError
        If the file is not an ``evaluation.json``.
    """
    path = Path(file)
    path = path / "evaluation.json" if path.is_dir() else path
    try:
        found = json.loads(path.read_text())
        errors = {name: np.nan if e is None else float(e) for name, e in found["calibration_error"].items()}
        figure = figures.reliability(found["reliability"], errors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        fix = "give the evaluation.json that zoobot3d evaluate --out wrote, or a catalogue"
        raise BadFileError(path, "not an evaluation", fix) from None
    write(figure, out, PRINT)


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
        except Exception as error:  # one picture must not stop the others
            reason = reason_for(error, str(root / row["path"]), row["path"])
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
        [str(name) for name in found],
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
    if str(path).lower().endswith(CUBES):
        return rgb_from_grz(io.read_cutout(path)[0][:, ::-1])
    return io.read_picture(path)
