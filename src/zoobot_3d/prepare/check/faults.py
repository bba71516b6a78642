"""What is wrong with a catalogue and its files: what rows say against what files say. Tables in, a table out.

Reads no file: `zoobot_3d.prepare.check.file_facts` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from zoobot_3d import schema
from zoobot_3d.catalog.splits import SPLIT_WORDS, SPLITS
from zoobot_3d.prepare.check.file_facts import THUMB_SHAPE
from zoobot_3d.schema import (
    COL_DEC,
    COL_DEC_MANGA,
    COL_ID,
    COL_MANGAID,
    COL_PIXSCALE,
    COL_RA,
    COL_RA_MANGA,
    GZ_FIELD_PX,
)

__all__ = ["FILES", "KINDS", "find_faults", "named_files"]

KINDS = {
    "missing": "a column, a picture or a file is not there",
    "unreadable": "truncated, corrupt, or another kind of file",
    "blank": "all of it, or whole rows or columns, of one value",
    "dead band": "more than half of a band's pixels are without data",
    "converted": "a cutout whose bands, units or place on the sky are converted or not known",
    "size": "not the expected number of pixels",
    "off-centre": "shows another place than the row says",
    "pixscale": "shows another field than the row says, or the row says none",
    "votes": "other volunteers asked than the row says",
    "no votes": "no volunteer was asked",
    "other galaxy": "another mangaid than the row's, or picture and cutout do not show the same",
    "position": "no usable ra and dec",
    "path": "absolute, or outside the data root",
    "duplicate": "a row that is there twice",
    "split": "one galaxy or file in two splits",
    "masks": "every mask is empty, or none has more than two values",
}
"""What can be wrong."""

FILES = {
    schema.COL_GZ3D: "gz3d",
    schema.COL_FITS: "cutout",
    schema.COL_JPG: "picture",
    schema.COL_MARKS: "marks",
    schema.COL_SPIRAL_MASK: "mask",
    schema.COL_BAR_MASK: "mask",
}
"""Which columns name files, and what these are, in the words of `zoobot_3d.prepare.check.file_facts`."""

_PIXSCALE_TOLERANCE = 0.01
_DIFFERENT, _CORRELATED = 2.0, 0.98
"""Mean difference (of 255) above, and correlation below which two thumbnails are of different things.

Picture and cutout of one galaxy of 203 (200 simulated, 3 real): at most 0.65 and at least 0.9987; of two galaxies: at
least 3.0 and at most 0.958. Both must fail, so that pictures in another colour style pass.
"""


def find_faults(
    frame: pd.DataFrame,
    uses: pd.DataFrame,
    facts: pd.DataFrame,
    size: int,
    tolerance_px: float,
    tolerance_arcsec: float,
) -> pd.DataFrame:
    """Compare.

    Parameters
    ----------
    frame : pandas.DataFrame
        The catalogue, rows counted from 0.
    uses : pandas.DataFrame
        From `named_files`.
    facts : pandas.DataFrame
        From `zoobot_3d.prepare.check.file_facts.read_facts`, with the ``key`` of `uses` as ``id``; a file without a row
        is missing.
    size, tolerance_px, tolerance_arcsec
        See `zoobot_3d.prepare.check.check_catalog`.

    Returns
    -------
    pandas.DataFrame
        A row a fault: ``row`` (-1: the catalogue), ``column``, ``file``, ``kind``, ``detail``; in order of rows,
        columns and `KINDS`.
    """
    found = uses.merge(facts.rename(columns={"id": "key"}), on="key", how="left", indicator="read")
    for column in ("height", "width", "ra", "dec", "pixscale", *(f"n_asked_{name}" for name in schema.CLASSES)):
        found[column] = pd.to_numeric(found[column]).astype(float)
    found = found.merge(_expected(frame), left_on="row", right_index=True).reset_index(drop=True)
    parts = [
        *_of_columns(frame),
        *_of_rows(frame, uses),
        *_of_paths(found),
        *_of_files(found),
        *_of_pixels(found, size),
        *_of_places(found, tolerance_px, tolerance_arcsec),
        *_of_volunteers(found),
        *_of_looks(found),
        *_of_splits(frame, uses),
        *_of_masks(found),
    ]
    every = pd.concat([part for part in parts if len(part)] or [_row_faults([], "", "", "")], ignore_index=True)
    kinds = list(KINDS)
    every["order"] = [kinds.index(kind) for kind in every["kind"]]
    every = every.sort_values(["row", "column", "order", "detail"], kind="stable", ignore_index=True)
    return every.drop(columns="order")


# What rows say


def _names(frame: pd.DataFrame, column: str) -> list[str]:
    """Columns of the catalogue that hold a kind of path, the one that counts first (see `zoobot_3d.dataset.sample`)."""
    return [name for name in (column, column.removeprefix("relative_")) if name in frame]


def named_files(frame: pd.DataFrame) -> pd.DataFrame | None:
    """List which row names which file in which column.

    Parameters
    ----------
    frame : pandas.DataFrame
        The catalogue, rows counted from 0.

    Returns
    -------
    pandas.DataFrame or None
        ``row``, ``column``, ``what`` (see `FILES`), ``file`` (as named), ``path`` (normal form) and ``key``, the
        same for all uses of one file; None if the catalogue has no column of files.
    """
    if not any(_names(frame, column) for column in FILES):
        return None
    parts = []
    for column, what in FILES.items():
        taken = np.zeros(len(frame), bool)
        for name in _names(frame, column):
            text = [value if isinstance(value, str) else "" for value in frame[name]]
            is_here = np.array([bool(value) for value in text]) & ~taken
            rows = np.flatnonzero(is_here)
            parts.append(pd.DataFrame({"row": rows, "column": name, "what": what, "file": [text[i] for i in rows]}))
            taken |= is_here
    uses = pd.concat(parts, ignore_index=True)
    uses["path"] = [os.path.normpath(file) for file in uses["file"]]
    return uses.assign(key=uses["what"] + ":" + uses["path"])


def _number(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    if column not in frame:
        return np.full(len(frame), np.nan)
    return pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _position(frame: pd.DataFrame, ra: str, dec: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions in deg, NaN where they cannot be."""
    x, y = _number(frame, ra), _number(frame, dec)
    good = (x >= 0) & (x <= 360) & (np.abs(y) <= 90)
    return np.where(good, x, np.nan), np.where(good, y, np.nan)


def _expected(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each row says of its files; the picture is at MaNGA's position where it has none of its own."""
    ra, dec = _position(frame, COL_RA, COL_DEC)
    ra_manga, dec_manga = _position(frame, COL_RA_MANGA, COL_DEC_MANGA)
    own = np.isfinite(ra)
    expected = {"at_ra": np.where(own, ra, ra_manga), "at_dec": np.where(own, dec, dec_manga)}
    expected |= {"marked_ra": ra_manga, "marked_dec": dec_manga, "scale": _number(frame, COL_PIXSCALE)}
    expected |= {f"expected_{name}": _number(frame, f"n_asked_{name}") for name in schema.CLASSES}
    target = frame[COL_MANGAID] if COL_MANGAID in frame else pd.Series(None, frame.index, dtype=object)
    return pd.DataFrame(expected, index=frame.index).assign(target=target.astype(object))


# What is wrong: frames of row, column, file, kind, detail


def _faults(uses: pd.DataFrame, kind: str, details: Sequence[str] | str) -> pd.DataFrame:
    return uses[["row", "column", "file"]].assign(kind=kind, detail=details)


def _row_faults(rows: ArrayLike, column: str, kind: str, detail: str) -> pd.DataFrame:
    rows = np.asarray(rows, np.int64)
    return pd.DataFrame({"row": rows, "column": column, "file": "", "kind": kind, "detail": detail})


def _of_columns(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Columns that training cannot do without."""
    for column, why in ((COL_ID, "galaxies have no names"), (COL_PIXSCALE, "the field of pictures is not known")):
        if column not in frame:
            yield _row_faults([-1], column, "missing", f"no such column: {why}")
    if not ({COL_RA, COL_DEC} <= {*frame} or {COL_RA_MANGA, COL_DEC_MANGA} <= {*frame}):
        yield _row_faults([-1], COL_RA, "missing", f"neither {COL_RA}, {COL_DEC} nor {COL_RA_MANGA}, {COL_DEC_MANGA}")


def _of_rows(frame: pd.DataFrame, uses: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Names, positions, scales and pictures that a row lacks; rows that are there twice."""
    if COL_ID in frame:
        yield _row_faults(np.flatnonzero(frame[COL_ID].isna()), COL_ID, "missing", "no name")
        key = frame[[COL_ID, *(name for column in FILES for name in _names(frame, column))]]
        twice = key.duplicated().to_numpy() & frame[COL_ID].notna().to_numpy()
        yield _row_faults(np.flatnonzero(twice), COL_ID, "duplicate", "name and files of an earlier row")
    marked = np.isin(np.arange(len(frame)), uses["row"][uses["what"].isin(("gz3d", "marks", "mask"))])
    for ra, dec, needed in ((COL_RA, COL_DEC, None), (COL_RA_MANGA, COL_DEC_MANGA, marked)):
        if {ra, dec} <= {*frame}:
            bad = np.isnan(_position(frame, ra, dec)[0]) & (True if needed is None else needed)
            yield _row_faults(np.flatnonzero(bad), ra, "position", f"{ra}, {dec} are no place on the sky, in degrees")
    if COL_PIXSCALE in frame:
        scale = _number(frame, COL_PIXSCALE)
        bad = ~(np.isfinite(scale) & (scale > 0))
        yield _row_faults(np.flatnonzero(bad), COL_PIXSCALE, "pixscale", "not a positive number of arcsec / px")
    shown = uses["row"][uses["what"].isin(("picture", "cutout"))]
    unseen = np.setdiff1d(np.arange(len(frame)), shown)
    yield _row_faults(unseen, schema.COL_JPG, "missing", f"neither {schema.COL_JPG} nor {schema.COL_FITS} is filled")


def _of_paths(found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    absolute = found["file"].map(lambda file: PurePosixPath(file).is_absolute()).to_numpy(bool)
    yield _faults(found[absolute], "path", "absolute: it will not be found elsewhere")
    leaves = found["path"].str.startswith("..").to_numpy(bool)
    yield _faults(found[leaves], "path", "outside the data root")


def _of_files(found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Files that are not there, and what their reader found."""
    yield _faults(found[found["read"] == "left_only"], "missing", "no such file")
    died = found[found["error"].notna()]
    yield _faults(died, "unreadable", died["error"].tolist())
    bad = found[found["kind"].notna()]
    yield bad[["row", "column", "file", "kind", "detail"]]


def _of_pixels(found: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Another number of pixels, or another field."""
    shown = found[found["what"].isin(("picture", "cutout", "mask")) & found["height"].notna()]
    bad = shown[(shown["height"] != size) | (shown["width"] != size)]
    details = [f"{h:.0f} x {w:.0f} px, not {size} x {size}" for h, w in zip(bad["height"], bad["width"], strict=True)]
    yield _faults(bad, "size", details)
    cutouts = found[(found["what"] == "cutout") & found["pixscale"].notna() & (found["scale"] > 0)]
    ratio = cutouts["pixscale"] * cutouts["height"] / (cutouts["scale"] * GZ_FIELD_PX)
    bad = cutouts[np.abs(ratio - 1) > _PIXSCALE_TOLERANCE]
    details = [f"field {r:.3f} times that of {COL_PIXSCALE}" for r in ratio[bad.index]]
    yield _faults(bad, "pixscale", details)


def _of_places(found: pd.DataFrame, tolerance_px: float, tolerance_arcsec: float) -> Iterator[pd.DataFrame]:
    """Cutouts and frames that are elsewhere."""
    cutouts, frames = found[found["what"] == "cutout"], found[found["what"].isin(("gz3d", "marks"))]
    for some, ra, dec, of in ((cutouts, "at_ra", "at_dec", "row"), (frames, "marked_ra", "marked_dec", COL_RA_MANGA)):
        off = _separation(some["ra"], some["dec"], some[ra], some[dec])
        bad = off > tolerance_px * some["pixscale"]
        details = [f"middle is {a:.2f} arcsec from the position of {of}" for a in off[bad]]
        yield _faults(some[bad], "off-centre", details)
    off = _separation(frames["ra"], frames["dec"], frames["at_ra"], frames["at_dec"])
    bad = off > tolerance_arcsec
    yield _faults(frames[bad], "off-centre", [f"marks are {a:.1f} arcsec from the picture's middle" for a in off[bad]])


def _separation(ra: pd.Series, dec: pd.Series, ra0: pd.Series, dec0: pd.Series) -> pd.Series:
    """Angle between positions in deg, in arcsec (haversine: exact for small angles); NaN where one is not known."""
    a, d, a0, d0 = (np.radians(values) for values in (ra, dec, ra0, dec0))
    half = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))) * 3600


def _of_volunteers(found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Other numbers of volunteers, or another galaxy."""
    some = found[found["what"].isin(("gz3d", "marks"))]
    for name in schema.CLASSES:
        asked, expected = some[f"n_asked_{name}"], some[f"expected_{name}"]
        bad = asked.notna() & expected.notna() & (asked != expected)
        pairs = zip(asked[bad], expected[bad], strict=True)
        yield _faults(some[bad], "votes", [f"{a:.0f} asked about {name}, the row says {e:.0f}" for a, e in pairs])
    bad = some["mangaid"].notna() & some["target"].notna() & (some["mangaid"] != some["target"])
    names = zip(some["mangaid"][bad], some["target"][bad], strict=True)
    yield _faults(some[bad], "other galaxy", [f"{COL_MANGAID} {a}, the row says {e}" for a, e in names])


def _of_looks(found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Picture and cutout of a row that do not show the same."""
    seen = found[found["thumb"].notna() & found["kind"].isna()]
    both = seen[seen["what"] == "picture"].merge(seen[seen["what"] == "cutout"], on="row", suffixes=("", "_fits"))
    if both.empty:
        return
    a, b = (_unpack(both[column]) for column in ("thumb", "thumb_fits"))
    different = np.abs(a - b).mean((1, 2, 3))
    grey_a, grey_b = (x.mean(-1).reshape(len(x), -1) for x in (a, b))
    grey_a, grey_b = grey_a - grey_a.mean(1, keepdims=True), grey_b - grey_b.mean(1, keepdims=True)
    scale = np.sqrt((grey_a**2).sum(1) * (grey_b**2).sum(1))
    correlated = (grey_a * grey_b).sum(1) / np.maximum(scale, 1e-9)
    bad = (different > _DIFFERENT) & (correlated < _CORRELATED)
    numbers = zip(different[bad], correlated[bad], strict=True)
    details = [f"not like the cutout: {d:.0f} of 255 apart, correlation {c:.2f}" for d, c in numbers]
    yield _faults(both[bad], "other galaxy", details)


def _unpack(thumbs: pd.Series) -> NDArray[np.float32]:
    return np.frombuffer(b"".join(thumbs), "<f2").reshape(-1, *THUMB_SHAPE).astype(np.float32)


def _of_splits(frame: pd.DataFrame, uses: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Find galaxies, by name, MaNGA target or file, that are both learned from and tested on."""
    if "split" not in frame:
        return
    split = frame["split"].astype(object)
    words = split.fillna("").astype(str).str.strip().str.lower().replace(SPLIT_WORDS)
    for row in np.flatnonzero(~words.isin(["", *SPLITS])):
        yield _row_faults([row], "split", "split", f"{split.iloc[row]!r} is none of {', '.join(SPLITS)}")
    for column in (COL_ID, COL_MANGAID):
        if column in frame:
            known = frame[column].notna() & (frame[column].astype(str) != "")
            bad = _mixed(frame[column][known], split[known])
            for row in bad:
                yield _row_faults(
                    [row], column, "split", f"{frame[column][row]} is in other splits than {split[row]} too"
                )
    named = uses.assign(split=uses["row"].map(split))
    bad_uses = named.loc[_mixed(named["key"], named["split"])]
    yield _faults(bad_uses, "split", "a file of rows in several splits")


def _of_masks(found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """See whether all masks together can be what they should: fractions of volunteers."""
    levels = pd.to_numeric(found["levels"]).dropna()
    if len(levels) and levels.max() <= 2:
        what = "all are of one value" if levels.max() < 2 else "none has more than two values: fractions are expected"
        yield _row_faults([-1], schema.COL_SPIRAL_MASK, "masks", f"{len(levels):,} masks, {what}")


def _mixed(names: pd.Series, split: pd.Series) -> pd.Index:
    """Index of the rows whose name has several splits."""
    return names.index[split.groupby(names).transform("nunique") > 1]
