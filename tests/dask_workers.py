"""A Dask scheduler on this machine with two workers, for tests."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 120  # seconds until a test that hangs fails; nothing waits this long when all is well


@contextlib.contextmanager
def scheduler_with_two_workers(folder: Path, python_path: str) -> Iterator[str]:
    """Address of a scheduler with two workers, each a process that nothing starts again."""
    file = folder / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": python_path, "DASK_LOGGING__DISTRIBUTED": "critical"}
    command = [sys.executable, "-m", "dask"]
    place = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            process = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, PATIENCE)
            stack.callback(process.kill)

        start("scheduler", *place, "--port", "0")
        for _ in range(2):
            start("worker", *place, "--nthreads", "1", "--no-nanny", "--local-directory", str(file.parent))
        from distributed import Client

        with Client(scheduler_file=str(file), timeout=PATIENCE, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            address = client.scheduler.address
        yield address
