"""What tests of clients share: a server of one file, and what lies in a folder afterwards."""

from pathlib import Path

import numpy as np

from zoobot_3d.simulate.faulty_server import Faults, LoopbackServer, Response

BODY = np.random.default_rng(1).bytes(100_000)


def serve(body: bytes = BODY, faults: Faults | None = None, **options) -> LoopbackServer:
    return LoopbackServer({"/": lambda request: Response(body, "application/fits", **options)}, faults)


def fail_first(kind: str, times: int = 1, **options) -> Faults:
    return Faults(1.0, (kind,), most_in_a_row=times, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def catalogue_files(root: Path) -> dict[str, bytes]:
    return tree(root / "catalogues")
