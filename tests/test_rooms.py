"""The order of the package's rooms: a room imports only from rooms above it. CONTRIBUTING.md points here."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import zoobot_3d

ROOMS = (
    "errors",  # exceptions
    "schema",  # names: columns, classes, Galaxy Zoo's questions
    "quiet",  # silence for libraries, in threads too
    "sky",  # where an array lies on the sky; nanomaggies to picture
    "io",  # files; the only place that flips
    "config",  # typed settings
    "compute",  # shards, clusters, progress
    "networks",  # networks, losses, metrics, augmentation
    "catalog",  # tables of galaxies
    "marks",  # what volunteers drew
    "sources",  # archives and the client
    "simulate",  # a simulated survey; imported by demo and cli alone
    "prepare",  # the road to a training set
    "dataset",  # galaxies as batches
    "engines",  # picture batch to fractions
    "infer",  # bundles and predictions
    "measure",  # numbers from masks
    "report",  # evaluation and figures
    "learn",  # training
    "sweep",  # hyper-parameter search
    "web",  # local pages (to come)
    "demo",  # the whole road on simulated galaxies
    "cli",  # commands
)
"""From the ground up."""

PACKAGE = Path(zoobot_3d.__file__).parent


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield path, parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path) -> set[tuple[str, ...]]:
    """Modules of the package that a file names in import statements, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "zoobot_3d"}
    return found


def arrows() -> dict[tuple[str, str], list[str]]:
    """(from room, to room) -> files; the package's own `__version__` is no room."""
    graph: dict[tuple[str, str], list[str]] = {}
    for path, parts in modules():
        if parts:
            for target in imports(path):
                if target[0] != parts[0] and target[0] != "__version__" and target[0] not in zoobot_3d.__all__:
                    graph.setdefault((parts[0], target[0]), []).append(str(path.relative_to(PACKAGE)))
    return graph


def test_every_room_has_its_place_in_the_order():
    assert {parts[0] for _, parts in modules() if parts} <= set(ROOMS)


def test_no_room_imports_from_one_below_it():
    upward = {pair: files for pair, files in arrows().items() if ROOMS.index(pair[0]) < ROOMS.index(pair[1])}
    assert not upward, f"upward arrows: {upward}"


def test_only_demo_and_command_line_know_the_simulator():
    assert {room for room, target in arrows() if target == "simulate"} <= {"demo", "cli"}


@pytest.mark.parametrize("room", [room for room in ROOMS if (PACKAGE / room).is_dir()])
def test_a_room_names_what_it_is_for_and_its_public_things(room):
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
    assert text is not None and len(text.splitlines()) <= 10
    names = re.findall(r"`([\w.]+)`", text.partition("Public:")[2])
    assert names, "no public names"
    for name in names:
        module, _, last = f"zoobot_3d.{room}.{name}".rpartition(".")
        if not hasattr(importlib.import_module(module), last):
            importlib.import_module(f"{module}.{last}")


def test_the_package_offers_its_public_names():
    assert set(zoobot_3d.__all__) <= set(dir(zoobot_3d))
    for name in zoobot_3d.__all__:
        assert getattr(zoobot_3d, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zoobot_3d.nothing  # noqa: B018


def test_importing_the_package_or_its_commands_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, zoobot_3d, zoobot_3d.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
