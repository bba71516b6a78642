"""Commands without their start: a server that has imported everything once and forks for each command.

The blocks of the documentation call ``zoobot3d`` some sixty times, and loading torch takes longer than most of them.
Run as a script, this file is the server; `install` writes the programs that ask it. Each command has a process of its
own with the caller's folder, environment, input and output.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import socket
import socketserver
import sys
import traceback
from pathlib import Path

LOADED = (
    "astropy.coordinates",
    "astropy.table",
    "cv2",
    "distributed",
    "drizzle.resample",
    "httpx",
    "matplotlib.pyplot",
    "numba",
    "optuna",
    "pyarrow.dataset",
    "pytorch_lightning",
    "pyvo",
    "rich.progress",
    "scipy.ndimage",
    "tensorboard",
    "torchmetrics",
    "zoobot_3d.infer.segmenter",
    "zoobot_3d.learn.train",
)

CLIENT = """#!{python} -IS
import json, os, socket, sys
name, extra = os.path.basename(sys.argv[0]), {extra!r}
words = sys.argv[1:]
for length in (2, 1):
    if " ".join(words[:length]) in extra:
        words += extra[" ".join(words[:length])]
        break
asked = json.dumps([name, words, os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"%12d" % len(asked)], [0, 1, 2])
    server.sendall(asked)
    sys.exit(int(server.recv(8) or b"1"))
"""


def install(folder: Path, address: Path, extra: dict[str, list[str]]) -> None:
    """Write ``zoobot3d`` and ``run-python`` into a folder for PATH.

    Parameters
    ----------
    folder : pathlib.Path
        Where to.
    address : pathlib.Path
        Socket of the server.
    extra : dict of str to list of str
        Options that are added after all others, by command, e.g. ``{"fetch cutouts": ["--rate", "0"]}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("zoobot3d", "run-python"):
        path = folder / name
        path.write_text(CLIENT.format(python=sys.executable, address=str(address), extra=extra))
        path.chmod(0o755)


def _run_file(path: str) -> int:
    """Run a Python file as a script."""
    code = compile(Path(path).read_text(encoding="utf-8"), path, "exec")
    exec(code, {"__name__": "__main__"})
    return 0


class _Handler(socketserver.BaseRequestHandler):
    """In a process of its own: become the command that was asked for."""

    def handle(self) -> None:
        size, descriptors, _, _ = socket.recv_fds(self.request, 12, 3)
        asked = b""
        while len(asked) < int(size):
            asked += self.request.recv(1 << 20)
        name, words, folder, environment = json.loads(asked)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [name, *words]
        status = self._status(name, words)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        self.request.sendall(b"%d" % status)

    @staticmethod
    def _status(name: str, words: list[str]) -> int:
        from zoobot_3d.cli import main

        try:
            return main(words) if name == "zoobot3d" else _run_file(words[0])
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            return 1


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 1000


def main() -> None:
    # What commands import, so that their processes find it there. None of it starts a thread. `zoobot_3d.sources` is
    # not among it, as it reads the environment.
    for name in LOADED:
        importlib.import_module(name)
    assert "zoobot_3d.sources" not in sys.modules
    with _Server(sys.argv[1], _Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
