"""VolunteerMarks: who drew what on one galaxy, blanks included; to and from JSON, and to votes on any grid.

Knows tasks, volunteers and the mark grid. Must not know FITS (`zoobot_3d.marks.gz3d` reads and writes that) nor how
polygons become pixels (``rasterize.py``). Marks are moved as vertices, never as pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zoobot_3d.errors import BadFileError, BadMarksError, GridError
from zoobot_3d.io import write_atomic
from zoobot_3d.marks.rasterize import FlatPaths, rasterize_marks
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["PathTask", "PointTask", "VolunteerMarks"]

FORMAT = 1
"""Version of the JSON layout; raise it when an older reader would misread the file."""

Points = tuple[tuple[tuple[float, float], ...], ...]
"""Per volunteer, the (x, y) points placed."""


@dataclass(frozen=True)
class PathTask:
    """One drawing task (spiral arms, or bars): a row for every volunteer asked, with the paths drawn.

    Attributes
    ----------
    classification_id : tuple of int
        One per volunteer asked, whether or not anything was drawn.
    time_stamp : tuple of str
        When, as in the file, e.g. ``"2017-12-09 04:33:26 UTC"``.
    paths : FlatPaths
        Vertices in pixels of the mark grid; ``paths.volunteer`` counts the rows of this task.

    Raises
    ------
    BadMarksError
        If lengths differ, a path belongs to nobody, or a vertex is not finite.
    """

    classification_id: tuple[int, ...]
    time_stamp: tuple[str, ...]
    paths: FlatPaths

    def __post_init__(self) -> None:
        """Make plain tuples and check that they fit each other."""
        _set_rows(self)
        if len(self.paths) and self.paths.volunteer[-1] >= self.n_asked:
            raise BadMarksError(
                f"a path belongs to volunteer {self.paths.volunteer[-1]} but only {self.n_asked} were asked; "
                "give one row per volunteer, blank ones too"
            )
        self.paths.check()

    @classmethod
    def from_nested(
        cls,
        paths_by_volunteer: Iterable[Iterable[npt.ArrayLike]],
        classification_id: Sequence[int] | None = None,
        time_stamp: Sequence[str] | None = None,
    ) -> PathTask:
        """Build from volunteers -> paths -> (N, 2) vertices in pixels; ``[]`` is a volunteer who drew nothing.

        Parameters
        ----------
        paths_by_volunteer : iterable of iterable of (N, 2) array-like
            One entry per volunteer asked.
        classification_id, time_stamp : sequence, optional
            One per volunteer; counted from 0, and empty, by default.
        """
        rows = [list(paths) for paths in paths_by_volunteer]
        ids, stamps = _default_rows(len(rows), classification_id, time_stamp)
        return cls(ids, stamps, FlatPaths.from_nested(rows))

    def __repr__(self) -> str:
        """Count volunteers and paths, in one line."""
        return f"PathTask({self.n_asked} volunteers, {len(self.paths)} paths)"

    @property
    def n_asked(self) -> int:
        """How many volunteers were asked."""
        return len(self.classification_id)

    @property
    def n_marked(self) -> int:
        """How many drew at least one path that can enclose something (three vertices or more)."""
        return len(np.unique(self.paths.volunteer[np.diff(self.paths.path_start) >= 3]))

    def nested(self) -> list[list[npt.NDArray[np.float64]]]:
        """Return volunteers -> paths -> (N, 2) vertices; one entry per volunteer asked, blanks as ``[]``."""
        return self.paths.nested(self.n_asked)

    def take(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> PathTask:
        """Return the same task as done by the volunteers in `rows` alone, in that order."""
        nested = self.nested()
        return PathTask.from_nested(
            [nested[r] for r in rows], [self.classification_id[r] for r in rows], [self.time_stamp[r] for r in rows]
        )


@dataclass(frozen=True)
class PointTask:
    """The pointing task: a row for every volunteer asked for the galaxy's centre and for foreground stars.

    Attributes
    ----------
    classification_id, time_stamp : tuple
        One per volunteer asked.
    center, star : tuple of tuple of (float, float)
        Per volunteer, the (x, y) of every point placed, pixels of the mark grid.
    """

    classification_id: tuple[int, ...]
    time_stamp: tuple[str, ...]
    center: Points
    star: Points

    def __post_init__(self) -> None:
        """Make plain tuples and check that they fit each other."""
        _set_rows(self)
        for name in ("center", "star"):
            try:
                points = tuple(tuple((float(x), float(y)) for x, y in row) for row in getattr(self, name))
            except (TypeError, ValueError):
                raise BadMarksError(f"{name} points must be, per volunteer, a list of (x, y)") from None
            if len(points) != len(self.classification_id):
                raise BadMarksError(f"{len(points)} rows of {name} points for {len(self.classification_id)} volunteers")
            object.__setattr__(self, name, points)

    def __repr__(self) -> str:
        """Count volunteers and points, in one line."""
        centers, stars = (sum(map(len, rows)) for rows in (self.center, self.star))
        return f"PointTask({len(self.classification_id)} volunteers, {centers} centres, {stars} stars)"

    @classmethod
    def from_nested(
        cls,
        center: Sequence[Any],
        star: Sequence[Any],
        classification_id: Sequence[int] | None = None,
        time_stamp: Sequence[str] | None = None,
    ) -> PointTask:
        """Build from volunteers -> points (x, y); ``[]`` is a volunteer who placed none."""
        ids, stamps = _default_rows(len(center), classification_id, time_stamp)
        return cls(ids, stamps, tuple(center), tuple(star))

    @property
    def n_asked(self) -> int:
        """How many volunteers were asked."""
        return len(self.classification_id)

    def take(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> PointTask:
        """Return the same task as done by the volunteers in `rows` alone, in that order."""
        columns = (self.classification_id, self.time_stamp, self.center, self.star)
        return PointTask(*(tuple(column[r] for r in rows) for column in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class VolunteerMarks:
    """Every mark on one galaxy, with everybody who was asked.

    Attributes
    ----------
    grid : PixelGrid
        The picture the volunteers saw; all marks are in its pixels.
    spiral, bar : PathTask
        The two drawing tasks. Different people did them: rows of one say nothing about rows of the other.
    points : PointTask
        Centre and foreground stars.
    metadata : dict
        The galaxy, under the column names of a GZ3D file's HDU 5 (``MANGAID``, ``ra``, ``dec``, ...).

    Examples
    --------
    >>> marks = read_gz3d("gz3d_1-379196_127_14728482.fits.gz").marks  # doctest: +SKIP
    >>> votes = marks.votes(PixelGrid((224, 224), 0.2, ra, dec))  # doctest: +SKIP
    >>> mask = votes / marks.n_asked_array[:, None, None]  # doctest: +SKIP
    """

    grid: PixelGrid
    spiral: PathTask
    bar: PathTask
    points: PointTask = field(default_factory=lambda: PointTask((), (), (), ()))
    metadata: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say in one line whose marks these are and how many volunteers drew."""
        name = str(self.metadata.get("MANGAID") or "").strip()
        arms, bars = (f"{self.n_marked[each]} of {self.n_asked[each]}" for each in CLASSES)
        told = f"arms by {arms} volunteers, bar by {bars}, {self.grid.shape[0]} x {self.grid.shape[1]} px"
        return f"VolunteerMarks({f'{name}: ' if name else ''}{told})"

    @property
    def n_asked(self) -> dict[str, int]:
        """Volunteers asked, per class."""
        return {name: self.task(name).n_asked for name in CLASSES}

    @property
    def n_asked_array(self) -> npt.NDArray[np.int64]:
        """Volunteers asked, (class,), in the order of `zoobot_3d.schema.CLASSES`."""
        return np.array([self.task(name).n_asked for name in CLASSES], np.int64)

    @property
    def n_marked(self) -> dict[str, int]:
        """Volunteers who drew something that encloses pixels, per class."""
        return {name: self.task(name).n_marked for name in CLASSES}

    def task(self, name: str) -> PathTask:
        """Return the drawing task of a class, ``"spiral"`` or ``"bar"``."""
        return {"spiral": self.spiral, "bar": self.bar}[name]

    def votes(
        self,
        grid: PixelGrid | None = None,
        count: Literal["volunteers", "paths"] = "volunteers",
        drop_self_intersecting: bool = False,
    ) -> npt.NDArray[np.uint16]:
        """Count, per class and pixel, the volunteers who enclosed it.

        Parameters
        ----------
        grid : PixelGrid, optional
            Where to count: any cutout of the galaxy. Default: the mark grid.
        count, drop_self_intersecting
            See `zoobot_3d.marks.rasterize.rasterize_marks`; ``"paths"`` and True make the official masks of GZ3D.

        Returns
        -------
        ndarray, (2, H, W) uint16
            Votes, spiral then bar; with ``count="volunteers"`` never above `n_asked`.
        """
        transform = None if grid is None else self.grid.affine_to(grid)
        if transform is not None and not np.isfinite(transform).all():
            raise GridError(f"marks on {self.grid} cannot be moved to {grid}; check their scales")
        shape = (self.grid if grid is None else grid).shape
        return np.stack(
            [
                rasterize_marks(
                    self.task(name).paths,
                    shape,
                    transform=transform,
                    count=count,
                    drop_self_intersecting=drop_self_intersecting,
                )
                for name in CLASSES
            ]
        )

    def split_half(self, rng: int | np.random.Generator) -> tuple[VolunteerMarks, VolunteerMarks]:
        """Split the volunteers of each task at random in two halves; of an odd number the second gets one more.

        How well one half predicts the other is the ceiling for any model.

        Parameters
        ----------
        rng : int or numpy.random.Generator
            A seed, or the generator to draw from.

        Returns
        -------
        (VolunteerMarks, VolunteerMarks)
            Each with its own `n_asked`; the rows keep their order.
        """
        rng = np.random.default_rng(rng)
        halves: list[dict[str, Any]] = [{}, {}]
        for name in (*CLASSES, "points"):
            task: PathTask | PointTask = getattr(self, name)
            shuffled = rng.permutation(task.n_asked)
            middle = task.n_asked // 2
            for half, rows in zip(halves, (shuffled[:middle], shuffled[middle:]), strict=True):
                half[name] = task.take(np.sort(rows))
        first, second = (VolunteerMarks(self.grid, metadata=self.metadata, **half) for half in halves)
        return first, second

    # JSON

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return everything as compact JSON text, and write it to a file if a path is given.

        `from_json` gives back an equal object: floats keep every digit, blank volunteers stay.

        Parameters
        ----------
        path : str or os.PathLike, optional
            File to write, atomically.

        Raises
        ------
        BadMarksError
            If `metadata` holds what JSON has no word for.
        """
        content = {"kind": "zoobot-3d marks", "format": FORMAT, "grid": self.grid.to_dict(), "metadata": self.metadata}
        for name in CLASSES:
            task = self.task(name)
            paths = [[_path_json(path) for path in row] for row in task.nested()]
            content[name] = {**_rows(task), "paths": paths}
        content["points"] = {**_rows(self.points), "center": self.points.center, "star": self.points.star}
        try:
            text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadMarksError(f"metadata cannot be written as JSON ({error}); use text and finite numbers") from None
        if path is not None:
            write_atomic(path, text)
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> VolunteerMarks:
        """Read what `to_json` wrote.

        Parameters
        ----------
        source : str or os.PathLike
            A file; or the text itself, which starts with ``{``.

        Raises
        ------
        BadFileError
            If the file is missing, is not JSON or not of this kind, misses a part, or was written by a newer version.
        """
        name, text = _read_text(source)
        fix = "make it again with extract-marks"
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadFileError(name, f"broken JSON ({error})", fix) from None
        except RecursionError:
            raise BadFileError(name, "broken JSON (lists within lists without end)", fix) from None
        version = content.get("format") if isinstance(content, dict) else None
        if not isinstance(version, int) or content.get("kind") != "zoobot-3d marks":
            raise BadFileError(name, "not volunteers' marks as written by zoobot-3d", fix)
        if version > FORMAT:
            raise BadFileError(name, f"format {version} is newer than {FORMAT}, which this version reads", "update")
        try:
            tasks = {
                part: PathTask(
                    content[part]["classification_id"],
                    content[part]["time_stamp"],
                    _paths_from_json(content[part]["paths"]),
                )
                for part in CLASSES
            }
            values = content["points"]
            points = PointTask(values["classification_id"], values["time_stamp"], values["center"], values["star"])
            return cls(PixelGrid.from_dict(content["grid"]), points=points, metadata=content["metadata"], **tasks)
        except KeyError as error:
            raise BadFileError(name, f"no {error.args[0]!r}", fix) from None
        except (BadMarksError, GridError, TypeError, ValueError, AttributeError) as error:
            raise BadFileError(name, str(error), fix) from None


def _default_rows(
    n: int, classification_id: Sequence[int] | None, time_stamp: Sequence[str] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Fill in ids that count from 0, and empty time stamps."""
    return (
        tuple(range(n)) if classification_id is None else tuple(classification_id),
        ("",) * n if time_stamp is None else tuple(time_stamp),
    )


def _set_rows(task: PathTask | PointTask) -> None:
    """Make the ids and time stamps plain tuples of equal length."""
    object.__setattr__(task, "classification_id", tuple(map(int, task.classification_id)))
    object.__setattr__(task, "time_stamp", tuple(map(str, task.time_stamp)))
    if len(task.classification_id) != len(task.time_stamp):
        raise BadMarksError(f"{len(task.time_stamp)} time stamps for {len(task.classification_id)} volunteers")


def _rows(task: PathTask | PointTask) -> dict[str, list[Any]]:
    """Return the columns that every task's JSON has."""
    return {"classification_id": list(task.classification_id), "time_stamp": list(task.time_stamp)}


def _path_json(path: npt.NDArray[np.float64]) -> str | list[float]:
    """Return a path for JSON: whole tenths of a pixel as text ``"x0 y0 x1 y1 ..."``, finer ones as a list of pixels.

    Freehand paths come in steps of 0.1 px. As text they are read five times as quickly, so that loading marks costs
    less than decoding the picture; k / 10 is the very float that the decimal fraction was read as.
    """
    values = path.ravel()
    tenths = np.round(values * 10)
    if np.array_equal(tenths / 10, values):
        return " ".join(map(str, tenths.astype(np.int64).tolist()))
    return values.tolist()


def _paths_from_json(rows: list[list[str | list[float]]]) -> FlatPaths:
    """Return the paths of all volunteers from the forms of `_path_json`; all text is parsed in one go."""
    paths = [path for row in rows for path in row]
    is_text = np.array([isinstance(path, str) for path in paths], np.bool_)
    # As many numbers as a text has spaces, and one.
    lengths = np.array([path.count(" ") + bool(path) if isinstance(path, str) else len(path) for path in paths], int)
    text = " ".join(path for path in paths if isinstance(path, str) and path)
    numbers = [number for path in paths if not isinstance(path, str) for number in path]
    tenths = np.fromstring(text, np.int64, sep=" ")
    if len(tenths) != lengths[is_text].sum() or (lengths % 2).any():
        raise BadMarksError("a path is not pairs of numbers: whole tenths of a pixel as text with one space between")
    values = np.empty(lengths.sum())
    in_text = np.repeat(is_text, lengths)
    values[in_text], values[~in_text] = tenths / 10, numbers
    path_start = np.concatenate([[0], np.cumsum(lengths // 2)])
    return FlatPaths(values.reshape(-1, 2), path_start, np.repeat(np.arange(len(rows)), [len(row) for row in rows]))


def _read_text(source: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the name for messages, and the text, of a file or of text."""
    if isinstance(source, str) and source.lstrip()[:1] == "{":
        return "marks JSON", source
    try:
        return os.fspath(source), Path(source).read_text("utf-8")
    except FileNotFoundError:
        raise BadFileError(source, "no such file", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(source, f"cannot be read ({error})", "make it again with extract-marks") from None
