"""Rows of results: when and with what they were measured, printed in a line, and kept as lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoobot_3d import __version__


def provenance() -> dict[str, str]:
    """Tell the day and the version of the package."""
    return {"date": time.strftime("%Y-%m-%d"), "zoobot_3d": __version__}


def print_row(row: Mapping[str, Any]) -> None:
    """Print a row in one line, now."""
    print(*(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file; none where there is no file yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a file."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
