"""The documentation word for word: every block of a page runs, in order, in an empty folder, on a loopback archive."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import warm_commands
from doc_pages import PAGES, Block, blocks, prose
from zoobot_3d.simulate.archive import Archive
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sources.addresses import ARCHIVE_VARIABLE

GALAXIES = 20  # of the archive's sky, and of each survey that a page simulates
SECONDS = 400  # for a page on a busy machine; it needs about twenty

HURRY = ["--rate", "0", "--first-wait", "0.05"]
SMALL = ["--train.max_steps", "2", "--data.input_size", "32", "--data.workers", "0", "--train.progress", "false"]
SMALL += ["--train.accelerator", "cpu"]
EXTRA = {
    "simulate": ["--galaxies", str(GALAXIES), "--workers", "1"],
    "train": [*SMALL, "--data.batch_size", "4"],
    "sweep": [*SMALL, "--trials", "2"],
    "predict": ["--device", "cpu", *HURRY],
    **{f"fetch {kind}": HURRY for kind in ("gz3d", "gz-desi", "gz2", "sami", "hoyle", "cutouts")},
    **{name: ["--cluster", "local:1"] for name in ("extract-marks", "catalog", "make-masks", "check")},
}
"""Options that are added to every such command on a page: the same commands on fewer galaxies and steps."""

REASONS = {
    "installs software": 3,
    "needs SLURM": 3,
    "needs GPUs": 3,
    "needs LSDB": 1,
    "needs several machines": 1,
    "needs cubes": 2,
    "needs a checkpoint of the published network": 1,
    "needs DS9": 1,
}
"""Blocks that are not run, by reason; see `doc_pages.NOT_RUN`."""

EXECUTED = ("bash", "python")
SHOWN = ("text", "yaml")  # output and files, to read


@pytest.fixture(scope="module")
def sky(tmp_path_factory) -> Path:
    """A survey for the archive to serve."""
    return simulate_survey(tmp_path_factory.mktemp("sky"), GALAXIES, seed=3, workers=1, progress=False).root


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of the server behind the program ``zoobot3d``, which answers at once."""
    address = tmp_path_factory.mktemp("programs") / "socket"
    command = [sys.executable, warm_commands.__file__, str(address)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield address
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def programs(server, tmp_path):
    """Folder with the program, and a port of the page's own: the archive of an earlier page may still listen."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    warm_commands.install(tmp_path / "bin", server, EXTRA | {"archive": ["--port", str(port)]})
    return tmp_path / "bin", port


def script(found: list[Block], work: Path, port: int) -> str:
    """Write the files of the blocks, and return a Bash script that runs one after another, as a user would.

    All Bash blocks share one shell, and so the current folder, variables and jobs; a Python block is run together with
    those before it on the page.
    """
    lines = ["set -eE -o pipefail", f"trap 'echo \"$BLOCK $LINENO\" > {work}/failed' ERR"]
    code: list[str] = []
    for number, block in enumerate(found):
        path = work / f"{number}-{block.page.stem}-line-{block.line}.{'py' if block.language == 'python' else 'sh'}"
        if block.language == "python":
            code += [""] * (block.line - 1 - len(code)) + list(block.lines)
            path.write_text("\n".join(code) + "\n", encoding="utf-8")
            call = f"run-python {path}"
        else:
            # Another program may listen on the port that the page names.
            path.write_text(block.padded().replace("8765", str(port)), encoding="utf-8")
            call = f"source {path}"
        lines.append(f"BLOCK={block.place} ; {call} > {work / str(number)}.log 2>&1")
    return "\n".join([*lines, "BLOCK="]) + "\n"


def run(found: list[Block], tmp_path: Path, port: int = 0, **environment: str) -> str:
    """Run blocks in an empty folder; return page, line and output of the one that fails, or nothing."""
    folder, work = tmp_path / "empty", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    (work / "run.sh").write_text(script(found, work, port), encoding="utf-8")
    command = ["bash", "--norc", str(work / "run.sh")]
    with subprocess.Popen(command, cwd=folder, env=os.environ | environment, start_new_session=True) as shell:
        try:
            return "" if shell.wait(SECONDS) == 0 else _failure(work, found)
        finally:
            with contextlib.suppress(ProcessLookupError):  # what a page left running in the background
                os.killpg(shell.pid, signal.SIGKILL)


def _failure(work: Path, found: list[Block]) -> str:
    """Page, line and output of the block that failed."""
    if not (work / "failed").exists():
        return "a block did not end"
    place, line = (work / "failed").read_text().split()
    (block,) = [block for block in found if block.place == place]
    output = (work / f"{found.index(block)}.log").read_text(errors="replace")[-4000:]
    # Python says its line itself.
    return f"{block.page}:{line if block.language == 'bash' else block.line}\n{output}"


@pytest.mark.slow  # some sixty commands, each with a process of its own
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_block_runs(page, sky, programs, tmp_path):
    found = [block for block in blocks(page) if block.language in EXECUTED and not block.reason]
    folder, port = programs
    with Archive(sky) as archive:
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", ARCHIVE_VARIABLE: archive.url, "COLUMNS": "160"}
        failure = run(found, tmp_path, port, **environment)
    assert not failure, failure


def test_a_block_that_fails_is_named_with_its_output(tmp_path):
    page = Path("page.md")
    found = [
        Block(page, 3, "bash", ("mkdir here", "cd here", "export WORD=told")),
        Block(page, 9, "bash", ("basename $PWD", "echo $WORD | cat", "false | true", "echo never")),
        Block(page, 20, "bash", ("echo never",)),
    ]
    assert run(found, tmp_path) == "page.md:11\nhere\ntold\n"


def test_every_block_says_what_it_is():
    for page in PAGES:
        for block in blocks(page):
            directive = block.language.startswith("{")
            assert directive or block.language in (*EXECUTED, *SHOWN), f"{block.place}: language {block.language!r}"
            assert not block.reason or block.language == "bash", f"{block.place}: only commands may stay unrun"
        indented = re.search(r"\n\n {4}(?![ \d*-])\S", prose(page))
        assert not indented, f"{page}: an indented block, line {prose(page)[: indented.start()].count(chr(10)) + 3}"


def test_blocks_that_are_not_run_are_known():
    assert Counter(block.reason for page in PAGES for block in blocks(page) if block.reason) == REASONS


def test_blocks_that_are_not_run_are_correct_bash():
    for page in PAGES:
        for block in blocks(page):
            if block.reason:
                checked = subprocess.run(["bash", "-n"], input="\n".join(block.lines), text=True, capture_output=True)
                assert checked.returncode == 0, f"{block.place}: {checked.stderr}"
