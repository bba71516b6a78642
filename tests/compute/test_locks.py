"""One folder, one command."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from zoobot_3d.compute import locks
from zoobot_3d.compute.locks import STALE_SECONDS, folder_lock
from zoobot_3d.errors import BadFileError

HOLD = """
import os, sys, time
from zoobot_3d.compute.locks import folder_lock
with folder_lock(sys.argv[1], "a test"):
    {inside}
    print("held", globals().get("child", ""), sep="\\n", flush=True)
    time.sleep(60)
"""
FORK = """ready, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(say, b"1")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)  # the child has begun, and has let go of the lock"""


def hold(folder, inside="pass"):
    """Start a process that holds the lock, and return it when it does."""
    command = [sys.executable, "-c", HOLD.format(inside=inside), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def lock_of_another_host(folder, age=0.0):
    folder.mkdir(exist_ok=True)
    path = folder / ".lock"
    path.write_text(json.dumps({"host": "node17", "pid": 4711, "what": "a test"}))
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    return path


def test_the_folder_is_made_and_the_lock_removed(tmp_path):
    with folder_lock(tmp_path / "new", "a test"):
        assert (tmp_path / "new" / ".lock").is_file()
        (tmp_path / "new" / "result").touch()
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["result"]


def test_a_command_that_wrote_nothing_leaves_no_folder(tmp_path):
    with folder_lock(tmp_path / "new", "a test"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_command_is_refused_and_told_who_holds_the_folder(tmp_path):
    process = hold(tmp_path)
    try:
        match = rf"a test is running in this folder \(process {process.pid} on .*\); wait until it ends$"
        with pytest.raises(BadFileError, match=match), folder_lock(tmp_path, "a test"):
            pass
    finally:
        end(process)


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    process = hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    end(process)
    assert (tmp_path / ".lock").is_file()
    with folder_lock(tmp_path, "a test"):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_children_of_a_killed_process_do_not_hold_its_lock(tmp_path):
    process = hold(tmp_path, FORK)
    child = int(process.stdout.readline())
    end(process)
    try:
        with folder_lock(tmp_path, "a test"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}", '{"host": 1}', "[" * 10_000])
def test_a_lock_that_names_nobody_is_taken_over(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    with folder_lock(tmp_path, "a test"):
        pass


def test_the_lock_of_another_host_is_named_with_how_to_remove_it(tmp_path):
    path = lock_of_another_host(tmp_path)
    match = rf"\(process 4711 on node17\); wait until it ends, or remove {path} if that process is gone"
    with pytest.raises(BadFileError, match=match), folder_lock(tmp_path, "a test"):
        pass
    assert path.is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


def test_the_lock_of_another_host_that_was_not_touched_for_long_is_taken_over(tmp_path):
    lock_of_another_host(tmp_path, age=STALE_SECONDS + 10)
    with folder_lock(tmp_path, "a test"):
        pass


def test_the_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.001)
    touched = locks.threading.Event()
    original = os.utime

    def utime(*args, **options):
        original(*args, **options)
        touched.set()

    monkeypatch.setattr(locks.os, "utime", utime)
    with folder_lock(tmp_path, "a test"):
        assert touched.wait(30)


@pytest.mark.parametrize("alive", [True, False])
def test_without_locks_of_the_file_system_the_process_decides(tmp_path, monkeypatch, alive):
    def no_locks(*args):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    pid = os.getppid() if alive else gone.pid
    (tmp_path / ".lock").write_text(json.dumps({"host": socket.gethostname(), "pid": pid, "what": "a test"}))
    if alive:
        with pytest.raises(BadFileError, match=f"process {pid}"), folder_lock(tmp_path, "a test"):
            pass
    else:
        with folder_lock(tmp_path, "a test"):
            pass


def test_a_lock_removed_while_it_was_waited_for_is_not_held(tmp_path, monkeypatch):
    """The file that was opened is no longer the one in the folder: a third command could lock that one too."""
    original, tries = locks._flock, []

    def flock(file):
        if not tries:
            (tmp_path / ".lock").unlink()
        tries.append(file)
        return original(file)

    monkeypatch.setattr(locks, "_flock", flock)
    with folder_lock(tmp_path, "a test"):
        assert (tmp_path / ".lock").is_file()
    assert len(tries) == 2


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("")
    for folder in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(BadFileError, match="must be a folder"), folder_lock(folder, "a test"):
            pass


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks.json, "dumps", full)
    with (
        pytest.raises(BadFileError, match="No space left on device; check the disk's space"),
        folder_lock(tmp_path, "t"),
    ):
        pass
