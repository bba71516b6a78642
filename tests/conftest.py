"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of small real files; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "realdata"
    folder = Path(os.environ.get("ZOOBOT3D_REALDATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set ZOOBOT3D_REALDATA")
    return folder
