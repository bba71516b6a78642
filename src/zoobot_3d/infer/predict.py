"""A bundle and a list of galaxies to shards of masks: resumable, and no galaxy stops the others.

Reads pictures, writes Parquet. The network's part is `zoobot_3d.infer.segmenter`; measuring the masks comes later.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zoobot_3d import __version__, io
from zoobot_3d.catalog.reading import CUBES
from zoobot_3d.errors import BadFileError, ConfigError, Zoobot3DError
from zoobot_3d.schema import CLASSES, GZ_FIELD_PX
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz

if TYPE_CHECKING:
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = ["SIGMA_FULL", "PredictSummary", "has_sigma", "predict", "read_masks", "read_masks_and_sigma", "run_root"]

SIGMA_FULL = 0.5
"""Standard deviation that 255 stands for in ``<class>_sigma_png``: nothing in 0-1 scatters more."""

_ON = 0.2  # a pixel counts towards a class's area above this fraction of volunteers

SHARDS = "shards"
"""Subfolder with nothing but the shards, so that Parquet readers take it as one table."""

MaskFormat = Literal["none", "png", "fits"]


@dataclass(frozen=True)
class PredictSummary:
    """What a run did: galaxies predicted, failed (with reasons in the shards), and found done from before."""

    predicted: int
    failed: int
    skipped: int
    shards: int
    reasons: dict[str, int]


# One galaxy


@dataclass(frozen=True)
class _Galaxy:
    picture: NDArray[np.uint8]
    grid: PixelGrid
    scaled: bool  # whether the grid's pixscale is known, or a placeholder
    warning: str


def _read(row: Any) -> _Galaxy | str:
    """Read one galaxy's picture, or say in a line why not."""
    from zoobot_3d.infer.segmenter import check_picture

    warning, scaled = "", True
    try:
        if not row.file:
            return "the catalogue names no picture for this row"
        if row.file.lower().endswith(CUBES):
            cube, grid = io.read_cutout(row.file)
            dead = [band for band, plane in zip("grz", cube, strict=True) if np.mean(plane == 0) > 0.5]
            if len(dead) == 3:
                return f"{row.path}: all-zero image; is it outside the survey's footprint?"
            if dead:
                warning = f"band {', '.join(dead)} is mostly empty: colours are wrong, masks may be too"
            picture = rgb_from_grz(cube[:, ::-1])
        else:
            picture = io.read_picture(row.file)
            grid, scaled = _grid_of(picture, row), bool(np.isfinite(row.pixscale))
        check_picture(picture, row.path)
    except Zoobot3DError as error:
        return str(error).replace(row.file, row.path)
    return _Galaxy(picture, grid, scaled, warning)


def _grid_of(picture: NDArray[np.uint8], row: Any) -> PixelGrid:
    """Place a picture on the sky; a scale in the catalogue is for 424 px, whatever the size of the file."""
    shape = picture.shape[:2]
    if not np.isfinite(row.pixscale):
        return PixelGrid(shape, 1.0)
    pixscale = row.pixscale * GZ_FIELD_PX / shape[0]
    if np.isfinite(row.ra) and np.isfinite(row.dec):
        return PixelGrid(shape, pixscale, ra=row.ra, dec=row.dec)
    return PixelGrid(shape, pixscale)


def _success(
    row: Any,
    galaxy: _Galaxy,
    masks: NDArray[np.float32],
    sigma: NDArray[np.float32] | None,
    votes: Mapping[str, float],
) -> dict[str, Any]:
    grid = galaxy.grid
    out: dict[str, Any] = {"id": row.id, "path": row.path, "error": None, "warning": galaxy.warning or None}
    out |= {"ra": row.ra, "dec": row.dec} if grid.ra is None else {"ra": grid.ra, "dec": grid.dec}
    out |= {"height": masks.shape[1], "width": masks.shape[2], "pixscale": grid.pixscale if galaxy.scaled else np.nan}
    for name, mask in zip(CLASSES, masks, strict=True):
        out[f"{name}_mask_png"] = io.encode_mask_png(mask)
        out[f"{name}_max"] = float(mask.max())
        out[f"{name}_area_px"] = float((mask > _ON).sum())
    if sigma is not None:
        out |= {f"{name}_sigma_png": _sigma_png(plane) for name, plane in zip(CLASSES, sigma, strict=True)}
    return out | dict(votes)


def _sigma_png(sigma: NDArray[np.float32]) -> bytes:
    return io.encode_mask_png(sigma / SIGMA_FULL)


def _failure(row: Any, reason: str, uncertainty: bool, votes: Sequence[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"id": row.id, "path": row.path, "error": reason, "warning": None}
    out |= {"ra": row.ra, "dec": row.dec, "height": 0, "width": 0, "pixscale": np.nan}
    for name in CLASSES:
        out |= {f"{name}_mask_png": None, f"{name}_max": np.nan, f"{name}_area_px": np.nan}
        if uncertainty:
            out[f"{name}_sigma_png"] = None
    return out | dict.fromkeys(votes, np.nan)


def _save_masks(
    folder: Path,
    row: Any,
    galaxy: _Galaxy,
    masks: NDArray[np.float32],
    sigma: NDArray[np.float32] | None,
    kind: MaskFormat,
) -> None:
    name = io.file_stem(row.id)
    if kind == "fits":
        io.write_mask_fits(folder / f"{name}_masks.fits", masks, galaxy.grid, sigma=sigma, OBJECT=row.id[:60])
    else:
        for label, mask in zip(CLASSES, masks, strict=True):
            io.write_atomic(folder / f"{name}_{label}.png", io.encode_mask_png(mask))
        for label, plane in zip(CLASSES, () if sigma is None else sigma, strict=sigma is not None):
            io.write_atomic(folder / f"{name}_{label}_sigma.png", _sigma_png(plane))


# The run


def predict(
    galaxies: pd.DataFrame,
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    *,
    masks: MaskFormat = "none",
    shard_size: int = 512,
    threads: int = 2,
    uncertainty: bool = False,
    progress: Callable[[int], None] | None = None,
) -> PredictSummary:
    """Predict masks for a list of galaxies into a folder of shards.

    A shard holds ``shard_size`` galaxies and appears whole or not at all; the same call again makes only the missing
    ones. A galaxy whose picture cannot be used has a row with the reason in ``error`` and no masks.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        From `list_galaxies`.
    segmenter : Segmenter
        From `zoobot_3d.load_segmenter`.
    out : path
        Folder for ``shards/shard-00000.parquet`` and on (``pandas.read_parquet(out / "shards")`` reads all), and
        ``masks/`` if asked for.
    masks : {"none", "png", "fits"}
        Write masks as files too: 8-bit PNG, a file a class, or float32 FITS with WCS, both classes in a file.
    shard_size : int
        Galaxies a shard.
    threads : int
        Threads that read and write pictures beside the network.
    uncertainty : bool
        Write the standard deviation of each mask's pixels too: ``spiral_sigma_png`` and ``bar_sigma_png``, 8-bit PNG
        in which 255 is `SIGMA_FULL` (also in the shards' metadata, as ``sigma_full``), and beside the files of
        ``masks``. Outside the field the network sees it is 0, as the masks are.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    PredictSummary

    Raises
    ------
    ConfigError
        If ``out`` holds predictions of other galaxies, of other bundles or with other options; or if there is nothing
        to tell the uncertainty from, see `zoobot_3d.infer.segmenter.Segmenter.check_uncertainty`.
    Zoobot3DError
        If not one galaxy could be predicted.
    """
    if uncertainty:
        segmenter.check_uncertainty()
    folder = Path(out)
    _claim(folder, galaxies, segmenter, masks, shard_size, uncertainty)
    notes = {"zoobot_3d": __version__, "classes": ",".join(CLASSES)}
    notes |= {"sigma_full": str(SIGMA_FULL)} if uncertainty else {}
    counts = {"predicted": 0, "failed": 0, "skipped": 0}
    reasons: dict[str, int] = {}
    starts = range(0, len(galaxies), shard_size)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for index, start in enumerate(starts):
            rows = list(galaxies.iloc[start : start + shard_size].itertuples(index=False))
            shard = folder / SHARDS / f"shard-{index:05d}.parquet"
            if shard.exists():
                errors = pd.read_parquet(shard, columns=["error"])["error"].dropna()
                counts["skipped"] += len(rows) - len(errors)
                if progress is not None:
                    progress(len(rows))
            else:
                frame = _typed(_run_shard(rows, segmenter, pool, folder / "masks", masks, uncertainty, progress))
                io.write_parquet(shard, frame, notes)
                errors = frame["error"].dropna()
                counts["predicted"] += len(rows) - len(errors)
            counts["failed"] += len(errors)
            for reason in errors.map(_kind):
                reasons[reason] = reasons.get(reason, 0) + 1
    if counts["predicted"] + counts["skipped"] == 0:
        reason = max(reasons, key=lambda name: reasons[name], default="no galaxies")
        raise Zoobot3DError(f"none of {len(galaxies)} galaxies could be predicted; most often: {reason}; see {folder}")
    return PredictSummary(**counts, shards=len(starts), reasons=reasons)


def _run_shard(
    rows: list[Any],
    segmenter: Segmenter,
    pool: ThreadPoolExecutor,
    mask_folder: Path,
    masks: MaskFormat,
    uncertainty: bool,
    progress: Callable[[int], None] | None,
) -> pd.DataFrame:
    """Predict one shard: the pool reads the next batch while the network works on this one."""
    batches = [rows[i : i + segmenter.batch_size] for i in range(0, len(rows), segmenter.batch_size)]
    reading = [pool.submit(_read, row) for row in batches[0]]
    records: list[dict[str, Any]] = []
    writing: list[Any] = []
    for number, batch in enumerate(batches):
        galaxies = [future.result() for future in reading]
        if number + 1 < len(batches):
            reading = [pool.submit(_read, row) for row in batches[number + 1]]
        good = [galaxy for galaxy in galaxies if not isinstance(galaxy, str)]
        pictures = [galaxy.picture for galaxy in good]
        predicted: Iterator[tuple[NDArray[np.float32], NDArray[np.float32] | None]] = (
            iter(segmenter.segment_checked_with_uncertainty(pictures))
            if uncertainty
            else ((mask, None) for mask in segmenter.segment_checked(pictures))
        )
        answers = segmenter.vote_fractions(pictures)
        votes = ({name: float(column[i]) for name, column in answers.items()} for i in range(len(pictures)))
        for row, galaxy in zip(batch, galaxies, strict=True):
            if isinstance(galaxy, str):
                records.append(_failure(row, galaxy, uncertainty, segmenter.vote_names))
                continue
            mask, sigma = next(predicted)
            records.append(_success(row, galaxy, mask, sigma, next(votes)))
            if masks != "none":
                writing.append(pool.submit(_save_masks, mask_folder, row, galaxy, mask, sigma, masks))
        if progress is not None:
            progress(len(batch))
    for future in writing:
        future.result()
    return pd.DataFrame(records)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give every shard the same column types, also where a column is all missing."""
    types = dict.fromkeys(("id", "path", "error", "warning"), "string") | dict.fromkeys(("height", "width"), "int32")
    binary = pd.ArrowDtype(pa.binary())
    return frame.astype(types | {name: binary for name in frame if str(name).endswith("_png")})


def _kind(error: str) -> str:
    """Leave the file and the advice out of a reason, so that equal reasons count together."""
    return error.split(": ", 1)[-1].split(";")[0]


def _claim(
    folder: Path,
    galaxies: pd.DataFrame,
    segmenter: Segmenter,
    masks: MaskFormat,
    shard_size: int,
    uncertainty: bool,
) -> None:
    """Write down what this folder's shards are of, or check that an earlier run meant the same."""
    key = hashlib.blake2b("\n".join(galaxies["id"] + "\t" + galaxies["path"]).encode(), digest_size=16).hexdigest()
    pictures = os.path.relpath(galaxies.attrs.get("root", "."), folder)  # not absolute: the two may move together
    infos = b"".join((bundle.path / "bundle.json").read_bytes() for bundle in segmenter.bundles)
    run = {
        "galaxies": key,
        "n_galaxies": len(galaxies),
        "bundle": hashlib.sha256(infos).hexdigest(),  # they name the weights and the calibration
        "masks": masks,
        "shard_size": shard_size,
        "tta": segmenter.tta,
        "uncertainty": uncertainty,
    }
    manifest = folder / "run.json"
    if manifest.exists():
        before = {"tta": False, "uncertainty": False} | json.loads(manifest.read_text())  # as runs were before these
        differs = [name for name, value in run.items() if before.get(name) != value]
        if differs:
            raise ConfigError(
                f"{folder}: holds predictions made with other {', '.join(differs)}; give another --out or remove it"
            )
    else:
        io.write_atomic(manifest, json.dumps(run | {"pictures": pictures}, indent=1))


def run_root(folder: str | os.PathLike[str]) -> Path:
    """Find the folder that the ``path`` column of predictions starts from.

    Raises
    ------
    BadFileError
        If the folder holds no predictions.
    """
    try:
        return Path(folder) / json.loads((Path(folder) / "run.json").read_text())["pictures"]
    except (OSError, KeyError, ValueError):
        raise BadFileError(folder, "no predictions here (no run.json)", "run zoobot3d predict first") from None


def has_sigma(folder: str | os.PathLike[str]) -> bool:
    """Tell whether predictions hold uncertainty; of a folder that holds none at all, False."""
    shard = next((Path(folder) / SHARDS).glob("shard-*.parquet"), None)
    return shard is not None and f"{CLASSES[0]}_sigma_png" in pq.read_schema(shard).names


def read_rows(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read every column of the predictions but the masks' bytes, all galaxies at once.

    Raises
    ------
    BadFileError
        If the folder holds no shards.
    """
    return pd.concat(
        [
            pd.read_parquet(shard, columns=[name for name in io.table_columns(shard) if not name.endswith("_png")])
            for shard in _shards(folder)
        ],
        ignore_index=True,
    )


def read_masks(
    folder: str | os.PathLike[str], ids: Collection[object] | None = None
) -> Iterator[tuple[pd.Series, NDArray[np.float32] | None]]:
    """Read predictions back, a galaxy at a time.

    Parameters
    ----------
    folder : path
        What `predict` wrote.
    ids : collection, optional
        Galaxies wanted; all by default.

    Yields
    ------
    row : pandas.Series
        All columns but the masks' bytes.
    masks : numpy.ndarray or None
        (2, H, W) float32 in 0-1, to 1/255, row 0 north; None where ``row.error`` says why.

    Raises
    ------
    BadFileError
        If the folder holds no shards.
    """
    yield from _decoded(folder, ids, "mask")


def read_masks_and_sigma(
    folder: str | os.PathLike[str], ids: Collection[object] | None = None
) -> Iterator[tuple[pd.Series, NDArray[np.float32] | None, NDArray[np.float32] | None]]:
    """Read predictions with their uncertainty back, a galaxy at a time.

    Parameters
    ----------
    folder : path
        What `predict` wrote with ``uncertainty=True``.
    ids : collection, optional
        Galaxies wanted; all by default.

    Yields
    ------
    row, masks
        As from `read_masks`.
    sigma : numpy.ndarray or None
        (2, H, W) float32 in 0-0.5, to `SIGMA_FULL` / 255: standard deviation of each pixel of the masks.

    Raises
    ------
    BadFileError
        If the folder holds no shards, or shards without uncertainty.
    """
    for row, masks, sigma in _decoded(folder, ids, "mask", "sigma"):
        yield row, masks, None if sigma is None else sigma * np.float32(SIGMA_FULL)


def _shards(folder: str | os.PathLike[str]) -> list[Path]:
    shards = sorted((Path(folder) / SHARDS).glob("shard-*.parquet"))
    if not shards:
        raise BadFileError(folder, "no shards of predictions here", "run zoobot3d predict first")
    return shards


def _decoded(folder: str | os.PathLike[str], ids: Collection[object] | None, *kinds: str) -> Iterator[Any]:
    """Yield each galaxy's row without its pictures, and its planes of each kind, (2, H, W) in 0-1, or None."""
    for shard in _shards(folder):
        frame = pd.read_parquet(shard)
        if absent := [kind for kind in kinds if f"{CLASSES[0]}_{kind}_png" not in frame]:
            raise BadFileError(
                shard, f"holds no {absent[0]} pictures", "predict into another folder, with --uncertainty"
            )
        if ids is not None:
            frame = frame[frame["id"].isin(ids)]
        values = frame.drop(columns=[name for name in frame if str(name).endswith("_png")])
        for index, row in values.iterrows():
            failed = not pd.isna(row["error"])
            planes: list[Any] = [None if failed else [frame.at[index, f"{c}_{k}_png"] for c in CLASSES] for k in kinds]
            name = f"{shard.name}: {row['id']}"
            yield row, *(pair and np.stack([io.decode_mask_png(plane, name) for plane in pair]) for pair in planes)
