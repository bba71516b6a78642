import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from loopback import BODY, fail_first, names, serve
from zoobot_3d.errors import BadFileError, FetchError
from zoobot_3d.simulate.faulty_server import ALL_KINDS, Faults, LoopbackServer, Request, Response
from zoobot_3d.sources.http import Client, Patience

HASH = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'


@pytest.fixture
def client():
    with Client(rate=0, seed=1, sleep=lambda seconds: None) as client:
        yield client


@pytest.mark.parametrize("kind", ["reset", "truncated"])
def test_broken_download_goes_on_where_it_stopped(client, tmp_path, kind):
    gained = []
    with serve(faults=fail_first(kind, 2, seed=2)) as server:
        done = client.download(f"{server.url}/x", tmp_path / "deep" / "x.fits", progress=gained.append)
    assert done.path.read_bytes() == BODY
    assert (done.size, done.attempts, done.resumed) == (len(BODY), 3, True)
    assert f"sha256:{done.sha256}" == HASH
    assert [served.status for served in server.requests] == [200, 206, 206]
    offsets = [int(served.request.headers["range"][6:-1]) for served in server.requests[1:]]
    assert 0 < offsets[0] < offsets[1] < len(BODY)
    assert server.requests[1].request.headers["if-range"] == ETAG
    assert sum(gained) == len(BODY)
    assert min(gained) > 0
    assert names(tmp_path / "deep") == ["x.fits"]


def break_download(server: LoopbackServer, path: Path) -> int:
    """Leave a partial file as a process does that has given up; return its size."""
    server.faults = fail_first("truncated", seed=2)
    with Client(patience=Patience(attempts=1)) as client, pytest.raises(FetchError, match="peer closed connection"):
        client.download(f"{server.url}/{path.name}", path)
    server.faults = Faults()
    server.requests.clear()
    assert names(path.parent) == [f".{path.name}.part", f".{path.name}.part.json"]
    return (path.parent / f".{path.name}.part").stat().st_size


def test_later_call_goes_on_with_the_partial_file(client, tmp_path):
    gained = []
    with serve() as server:
        size = break_download(server, tmp_path / "x")
        done = client.download(f"{server.url}/x", tmp_path / "x", progress=gained.append)
        assert [served.request.headers["range"] for served in server.requests] == [f"bytes={size}-"]
    assert (done.path.read_bytes(), done.resumed, done.attempts) == (BODY, True, 1)
    assert (gained[0], sum(gained)) == (size, len(BODY))
    assert names(tmp_path) == ["x"]


def test_partial_file_of_a_killed_process_is_resumed(client, tmp_path):
    script = "import sys; from zoobot_3d.sources.http import Client; Client().download(sys.argv[1], sys.argv[2])"
    part = tmp_path / ".x.part"
    with serve(faults=fail_first("slow", slow_seconds=1.6)) as server:
        process = subprocess.Popen([sys.executable, "-c", script, f"{server.url}/x", str(tmp_path / "x")])
        limit = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size) and time.monotonic() < limit:
            threading.Event().wait(0.005)
        process.kill()
        process.wait()
        size = part.stat().st_size
        assert 0 < size < len(BODY)
        assert not (tmp_path / "x").exists()
        done = client.download(f"{server.url}/x", tmp_path / "x", checksum=HASH)
        assert server.requests[-1].request.headers["range"] == f"bytes={size}-"
    assert (done.path.read_bytes(), done.resumed) == (BODY, True)
    assert names(tmp_path) == ["x"]


def test_file_that_changed_on_the_server_is_started_anew(client, tmp_path):
    content, gained = [BODY], []
    with LoopbackServer({"/": lambda r: Response(content[0])}) as server:
        size = break_download(server, tmp_path / "x")
        content[0] = BODY[::-1]
        done = client.download(f"{server.url}/x", tmp_path / "x", progress=gained.append)
        assert [(s.status, s.request.headers["range"]) for s in server.requests] == [(200, f"bytes={size}-")]
    assert (done.path.read_bytes(), done.resumed, done.attempts) == (BODY[::-1], False, 1)
    assert gained[:2] == [size, -size]
    assert sum(gained) == len(BODY)


def test_date_names_the_version_where_the_etag_is_weak(client, tmp_path):
    with serve(headers={"ETag": 'W/"1"'}) as server:
        break_download(server, tmp_path / "x")
        assert client.download(f"{server.url}/x", tmp_path / "x").resumed
        assert server.requests[0].request.headers["if-range"] == "Tue, 02 Jan 2024 03:04:05 GMT"
    assert (tmp_path / "x").read_bytes() == BODY


def test_nothing_is_kept_of_a_file_whose_version_has_no_name(client, tmp_path):
    with serve(headers={"ETag": 'W/"1"', "Last-Modified": ""}, faults=fail_first("truncated", 9)) as server:
        with pytest.raises(FetchError, match="peer closed"):
            client.download(f"{server.url}/x", tmp_path / "x")
        assert all("range" not in served.request.headers for served in server.requests)
    assert names(tmp_path) == []


def test_server_without_range(client, tmp_path):
    with serve(faults=fail_first("truncated", 2, seed=2), ranges=False) as server:
        done = client.download(f"{server.url}/x", tmp_path / "x")
        assert [served.status for served in server.requests] == [200, 200, 200]
    assert (done.path.read_bytes(), done.resumed) == (BODY, False)


def leave_part(path: Path, url: str, content: bytes, version: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.with_name(f"{part.name}.json").write_text(json.dumps({"url": url, "version": version}))


def test_part_longer_than_the_file_is_thrown_away(client, tmp_path):
    with serve() as server:
        leave_part(tmp_path / "x", f"{server.url}/x", BODY + b"!", ETAG)
        done = client.download(f"{server.url}/x", tmp_path / "x")
        assert [served.status for served in server.requests] == [416, 200]
    assert (done.path.read_bytes(), done.resumed, done.attempts) == (BODY, False, 2)


def test_complete_part_needs_its_name_only(client, tmp_path):
    with serve() as server:
        leave_part(tmp_path / "x", f"{server.url}/x", BODY, ETAG)
        done = client.download(f"{server.url}/x", tmp_path / "x", checksum=HASH)
        assert [served.status for served in server.requests] == [416]
    assert (done.path.read_bytes(), names(tmp_path)) == (BODY, ["x"])


@pytest.mark.parametrize("note", ['{"url": "elsewhere", "version": "1"}', "[1]", "{", ""])
def test_part_of_something_else_is_thrown_away(client, tmp_path, note):
    with serve() as server:
        (tmp_path / ".x.part").write_bytes(BODY[::-1][:500])
        (tmp_path / ".x.part.json").write_text(note)
        client.download(f"{server.url}/x", tmp_path / "x")
        assert "range" not in server.requests[0].request.headers
    assert ((tmp_path / "x").read_bytes(), names(tmp_path)) == (BODY, ["x"])


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-99999/100000", "ETag": '"1"'},
        {"Content-Range": "bytes 500-99999/100000", "ETag": '"2"'},
        {"Content-Range": "bytes 500-599/600", "ETag": '"1"'},
        {"ETag": '"1"'},
    ],
    ids=["other offset", "other version", "too long", "no Content-Range"],
)
def test_answer_with_another_part_is_not_appended(client, tmp_path, headers):
    def handler(request: Request) -> Response:
        wrong = "range" in request.headers
        return Response(BODY[500:], status=206, headers=headers) if wrong else Response(BODY)

    with LoopbackServer({"/": handler}) as server:
        leave_part(tmp_path / "x", f"{server.url}/x", BODY[:500], '"1"')
        done = client.download(f"{server.url}/x", tmp_path / "x")
    assert (done.path.read_bytes(), done.attempts, done.resumed) == (BODY, 2, False)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("known", [{"size": len(BODY)}, {"checksum": HASH}])
def test_short_body_with_a_clean_end_is_found_by_size_or_checksum(client, tmp_path, seed, known):
    with serve(faults=fail_first("wrong_length", 2, seed=seed)) as server:
        done = client.download(f"{server.url}/x", tmp_path / "x", **known)
        assert server.count() == 3
    assert done.path.read_bytes() == BODY


def test_short_rest_with_a_clean_end_is_found_by_its_range(client, tmp_path):
    with serve() as server:
        break_download(server, tmp_path / "x")
        server.faults = fail_first("wrong_length", 3)
        done = client.download(f"{server.url}/x", tmp_path / "x")
        assert [served.status for served in server.requests] == [206] * 4
    assert (done.path.read_bytes(), done.resumed) == (BODY, True)


def test_wrong_checksum_leaves_nothing(client, tmp_path):
    right = hashlib.md5(BODY).hexdigest()
    with serve() as server:
        with pytest.raises(FetchError, match=rf"/x: md5 is {right} instead of 0123 \(6 attempts\)"):
            client.download(f"{server.url}/x", tmp_path / "x", checksum="md5:0123")
        assert names(tmp_path) == []
        client.download(f"{server.url}/x", tmp_path / "x", checksum=f"md5:{right.upper()}")
    assert names(tmp_path) == ["x"]


def test_download_check_sees_the_whole_file_and_may_ask_for_another(client, tmp_path):
    seen = []

    def check(path: Path) -> None:
        seen.append(path.read_bytes())
        assert not (tmp_path / "x").exists()
        if len(seen) < 3:
            raise BadFileError(path, "all pixels are zero")

    with serve(faults=fail_first("zeros", 2), zeros=bytes(len(BODY))) as server:
        done = client.download(f"{server.url}/x", tmp_path / "x", check=check)
    assert seen == [bytes(len(BODY)), bytes(len(BODY)), BODY]
    assert (done.attempts, done.path.read_bytes()) == (3, BODY)


def test_page_in_place_of_a_rest_does_not_cost_the_part(client, tmp_path):
    with serve() as server:
        size = break_download(server, tmp_path / "x")
        server.faults = fail_first("empty")
        done = client.download(f"{server.url}/x", tmp_path / "x", content_type=("application/fits",))
        assert [s.request.headers["range"] for s in server.requests] == [f"bytes={size}-"] * 2
    assert (done.path.read_bytes(), done.resumed) == (BODY, True)


def test_old_file_stands_until_the_new_one_is_whole(client, tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    seen = []
    with serve(faults=fail_first("truncated", 2, seed=2)) as server:
        client.download(
            f"{server.url}/x", tmp_path / "x", progress=lambda count: seen.append((tmp_path / "x").read_bytes())
        )
    assert len(seen) > 2
    assert set(seen) == {b"old"}
    assert (tmp_path / "x").read_bytes() == BODY


def test_file_is_on_disk_before_it_has_its_name(client, tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def fsync_and_look(number: int) -> None:
        fsync(number)
        synced.append((os.fstat(number).st_size, (tmp_path / "x").exists()))

    monkeypatch.setattr(os, "fsync", fsync_and_look)
    with serve() as server:
        client.download(f"{server.url}/x", tmp_path / "x")
    assert synced == [(len(BODY), False)]


def test_transfer_packed_against_our_wish_is_unpacked_and_a_gz_stays_one(client, tmp_path):
    packed = gzip.compress(BODY, mtime=0)
    with serve(packed, headers={"Content-Encoding": "gzip"}) as server:
        assert client.get(f"{server.url}/x.csv") == BODY
        assert client.get(f"{server.url}/x.fits.gz") == packed
        server.faults = fail_first("truncated", 2, seed=2)
        assert client.download(f"{server.url}/x.csv", tmp_path / "x.csv").path.read_bytes() == BODY
        assert all("range" not in served.request.headers for served in server.requests)
        assert client.download(f"{server.url}/x.fits.gz", tmp_path / "x.fits.gz").resumed
        assert (tmp_path / "x.fits.gz").read_bytes() == packed


def test_empty_file_is_a_file(client, tmp_path):
    with serve(b"") as server:
        assert client.download(f"{server.url}/x", tmp_path / "x").size == 0
    assert names(tmp_path) == ["x"]


def test_disk_that_cannot_be_written_is_no_fault_of_the_server(client, tmp_path):
    (tmp_path / "file").touch()
    with (
        serve() as server,
        pytest.raises(BadFileError, match=rf"{re.escape(str(tmp_path))}/file/x: .*; check the disk"),
    ):
        client.download(f"{server.url}/x", tmp_path / "file" / "x")


def test_threads_that_want_one_path_take_turns(client, tmp_path):
    steps = []
    with (
        serve(faults=Faults(1.0, ("slow",), slow_seconds=0.04, most_in_a_row=99)) as server,
        ThreadPoolExecutor(3) as pool,
    ):

        def fetch(index: int) -> bytes:
            done = client.download(f"{server.url}/x", tmp_path / "x", progress=lambda count: steps.append(index))
            return done.path.read_bytes()

        assert list(pool.map(fetch, range(3))) == [BODY] * 3
    changes = sum(before != after for before, after in pairwise(steps))
    assert (changes, len(steps) > 6) == (2, True)
    assert names(tmp_path) == ["x"]


def test_large_file_is_not_held_in_memory(client, tmp_path):
    body = bytes(32_000_000)
    with serve(body) as server:
        tracemalloc.start()
        client.download(f"{server.url}/x", tmp_path / "x", size=len(body))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8_000_000


def test_hundred_files_through_mixed_faults_are_byte_identical(tmp_path):
    bodies = {f"/{index}": np.random.default_rng(index).bytes(20_000) for index in range(100)}

    def handler(request: Request) -> Response:
        body = bodies[request.path]
        return Response(body, "application/fits", zeros=bytes(len(body)))

    faults = Faults(0.3, seed=5, slow_seconds=0.02)
    with (
        LoopbackServer({"/": handler}, faults) as server,
        Client(rate=0, patience=Patience(first_wait=0.001), seed=0) as client,
        ThreadPoolExecutor(8) as pool,
    ):

        def fetch(name: str) -> int:
            checksum = f"sha256:{hashlib.sha256(bodies[name]).hexdigest()}"
            return client.download(f"{server.url}{name}", tmp_path / name[1:], checksum=checksum).attempts

        attempts = list(pool.map(fetch, bodies))
        assert {served.fault for served in server.requests} == {None, *ALL_KINDS}
    assert {name: (tmp_path / name[1:]).read_bytes() for name in bodies} == bodies
    assert len(names(tmp_path)) == 100
    assert sum(attempts) == server.count() > 120
