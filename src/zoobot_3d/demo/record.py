"""What the folder of a demonstration says of itself: its settings, the seconds of each stage, its measurements."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoobot_3d.errors import BadFileError
from zoobot_3d.io import write_atomic

__all__ = ["Record", "peak_memory_mb"]

_SETTINGS, _STAGES, _METRICS, REPORT = "demo.json", "stages.json", "metrics.json", "report.html"
_FILES = (_SETTINGS, _STAGES, _METRICS, REPORT, "evaluation.json", "galaxies.csv")
_FOLDERS = ("survey", "sky", "train", "predictions", "figures")


class Record:
    """The record of a demonstration in its folder.

    Parameters
    ----------
    folder : path
        Of the demonstration.
    settings : mapping
        What the numbers depend on; plain values.

    Raises
    ------
    BadFileError
        The folder holds a demonstration with other settings, or one of an older version of the package.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        before = _read(folder / _SETTINGS)
        if before is None and any((folder / name).exists() for name in (*_FILES, "train")):
            raise BadFileError(folder, "holds a demonstration of an older version", _ADVICE)
        if before is not None and before != dict(settings):
            changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
            raise BadFileError(folder, f"holds a demonstration with other settings ({', '.join(changed)})", _ADVICE)
        write_atomic(folder / _SETTINGS, json.dumps(dict(settings), indent=1) + "\n")
        self._stages: dict[str, float] = _read(folder / _STAGES) or {}
        self._started = time.perf_counter()

    def end_stage(self, name: str) -> None:
        """Write down the seconds since the stage before; a stage that was measured before keeps its time."""
        now = time.perf_counter()
        self._stages.setdefault(name, round(now - self._started, 1))
        self._started = now
        write_atomic(self.folder / _STAGES, json.dumps(self._stages, indent=1) + "\n")

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each stage that has ended, in order."""
        return dict(self._stages)

    def finish(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Write the measurements of a finished demonstration, and return them."""
        metrics = {**scores, **{f"{name}_s": seconds for name, seconds in self._stages.items()}}
        metrics |= {"wall_s": round(sum(self._stages.values()), 1), "peak_rss_mb": round(peak_memory_mb())}
        write_atomic(self.folder / _METRICS, json.dumps(metrics, indent=1) + "\n")
        return metrics

    def finished(self) -> dict[str, float] | None:
        """Return the measurements of a demonstration that is finished; None if it is not."""
        metrics = _read(self.folder / _METRICS)
        return metrics if metrics is not None and (self.folder / REPORT).is_file() else None


def remove(folder: Path) -> None:
    """Remove what a demonstration makes in its folder, and nothing else."""
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def peak_memory_mb() -> float:
    """Return the peak memory of this process plus that of its largest worker, in MB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    usage: Sequence[int] = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(who).ru_maxrss for who in usage) / unit


_ADVICE = "add --restart to begin anew, or give another --out"


def _read(path: Path) -> dict[str, Any] | None:
    """Read a JSON file; None if it is absent or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
