import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from zoobot_3d.errors import ConfigError
from zoobot_3d.simulate.faulty_server import ALL_KINDS, Faults, LoopbackServer, Request, Response

BODY = bytes(range(256)) * 40


def serve_body(request: Request) -> Response:
    return Response(BODY, "application/fits", zeros=bytes(len(BODY)))


@pytest.fixture
def server():
    with LoopbackServer({"/": serve_body}) as server:
        yield server


def test_longest_prefix_answers_and_others_are_not_found():
    routes = {"/a/": lambda r: Response(b"short"), "/a/b/": lambda r: Response(b"long")}
    with LoopbackServer(routes) as server:
        assert httpx.get(f"{server.url}/a/b/c").content == b"long"
        assert httpx.get(f"{server.url}/a/c").content == b"short"
        assert httpx.get(f"{server.url}/c").status_code == 404
        assert server.count("/a/") == 2
        assert [(served.url, served.status, served.fault) for served in server.requests][2] == ("/c", 404, None)


def test_handler_sees_path_query_form_and_own_address():
    seen = []

    def remember(request: Request) -> Response:
        seen.append(request)
        return Response(b"")

    with LoopbackServer({"/": remember}) as server:
        httpx.get(f"{server.url}/a%2Bb?ra=1.5&ra=2&empty=", headers={"X-Name": "value"})
        httpx.post(f"{server.url}/tap/sync", data={"QUERY": "SELECT 1", "LANG": "ADQL"})
        assert seen[0].base_url == server.url
    assert (seen[0].method, seen[0].path, seen[0].query) == ("GET", "/a+b", {"ra": "2", "empty": ""})
    assert seen[0].headers["x-name"] == "value"
    assert (seen[1].method, seen[1].form) == ("POST", {"QUERY": "SELECT 1", "LANG": "ADQL"})


def test_head_has_the_length_and_no_body(server):
    answer = httpx.head(f"{server.url}/x")
    assert answer.headers["Content-Length"] == str(len(BODY))
    assert answer.headers["ETag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    assert answer.content == b""


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, len(BODY)),
        ("bytes=-10", len(BODY) - 10, len(BODY)),
        ("bytes=10230-99999", 10230, len(BODY)),
    ],
)
def test_range(server, asked, first, stop):
    answer = httpx.get(f"{server.url}/x", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{stop - 1}/{len(BODY)}"
    assert answer.content == BODY[first:stop]


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=0-5", "bytes=x-", "bytes=-", "nonsense"])
def test_unusable_range_gives_the_whole_file(server, asked):
    answer = httpx.get(f"{server.url}/x", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, BODY)


def test_range_beyond_the_end(server):
    answer = httpx.get(f"{server.url}/x", headers={"Range": f"bytes={len(BODY)}-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(BODY)}"


def test_if_range_of_another_version_gives_the_whole_file(server):
    first = httpx.get(f"{server.url}/x")
    for version, status in [(first.headers["ETag"], 206), (first.headers["Last-Modified"], 206), ('"other"', 200)]:
        answer = httpx.get(f"{server.url}/x", headers={"Range": "bytes=5-", "If-Range": version})
        assert answer.status_code == status


def test_no_range_where_the_handler_has_none():
    with LoopbackServer({"/": lambda r: Response(BODY, ranges=False)}) as server:
        answer = httpx.get(f"{server.url}/x", headers={"Range": "bytes=5-"})
    assert (answer.status_code, answer.content) == (200, BODY)
    assert "Accept-Ranges" not in answer.headers


def test_body_is_not_made_when_a_fault_replaces_it():
    def body() -> bytes:
        raise AssertionError("rendered for nothing")

    with LoopbackServer({"/": lambda r: Response(body)}, Faults(1.0, ("500", "empty"))) as server:
        for _ in range(3):
            httpx.get(f"{server.url}/x")
        assert {served.fault for served in server.requests} <= {"500", "empty"}


def test_handler_that_raises_is_a_500():
    with LoopbackServer({"/": lambda r: Response(str(1 / 0).encode())}) as server:
        assert httpx.get(f"{server.url}/x").status_code == 500
        assert server.requests[0].fault == "ZeroDivisionError in the handler"


# One kind of fault at a time


def fetch_with(kind: str, **options) -> httpx.Response:
    with LoopbackServer({"/": serve_body}, Faults(1.0, (kind,), **options)) as server:
        try:
            return httpx.get(f"{server.url}/x")
        finally:
            assert server.requests[0].fault == kind


@pytest.mark.parametrize("status", [429, 500, 503])
def test_status(status):
    answer = fetch_with(str(status), retry_after=7)
    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == (None if status == 500 else "7")


def test_reset():
    with pytest.raises(httpx.ReadError, match="reset by peer"):
        fetch_with("reset")


def test_truncated():
    with pytest.raises(httpx.RemoteProtocolError, match=f"expected {len(BODY)}"):
        fetch_with("truncated")


def test_wrong_length_is_valid_http_in_both_ways():
    answers = [fetch_with("wrong_length", seed=seed) for seed in range(8)]
    assert all(BODY.startswith(answer.content) and len(answer.content) < len(BODY) for answer in answers)
    assert {"Content-Length" in answer.headers for answer in answers} == {True, False}


def test_slow_is_whole_and_in_pieces():
    with (
        LoopbackServer({"/": serve_body}, Faults(1.0, ("slow",), slow_seconds=0.04)) as server,
        httpx.stream("GET", f"{server.url}/x") as answer,
    ):
        pieces = list(answer.iter_raw())
    assert b"".join(pieces) == BODY
    assert len(pieces) > 1


def test_empty_is_a_page_with_status_200():
    answer = fetch_with("empty")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    assert answer.content.startswith(b"<!DOCTYPE html>")


def test_zeros_only_where_the_handler_has_them():
    assert fetch_with("zeros").content == bytes(len(BODY))
    with LoopbackServer({"/": lambda r: Response(BODY)}, Faults(1.0, ("zeros",))) as server:
        assert httpx.get(f"{server.url}/x").content == BODY
        assert server.requests[0].fault is None


def test_body_faults_leave_other_statuses_alone():
    with LoopbackServer({}, Faults(1.0, ("truncated", "empty", "reset"))) as server:
        assert httpx.get(f"{server.url}/x").status_code == 404


# Which requests fail


def faults_of(order: list[int], threads: int) -> dict[str, list[str | None]]:
    kinds = ("429", "500", "503", "empty")
    with (
        LoopbackServer({"/": serve_body}, Faults(0.5, kinds, seed=3)) as server,
        httpx.Client() as client,
        ThreadPoolExecutor(threads) as pool,
    ):
        list(pool.map(lambda index: [client.get(f"{server.url}/{index}") for _ in range(4)], order))
        by_url: dict[str, list[str | None]] = {}
        for served in server.requests:
            by_url.setdefault(served.url, []).append(served.fault)
        return by_url


def test_faults_do_not_depend_on_order_or_threads():
    alone, together = faults_of(list(range(20)), 1), faults_of(list(reversed(range(20))), 4)
    assert alone == together
    assert len({fault for faults in alone.values() for fault in faults}) == 5


def test_share_of_faults_and_most_in_a_row():
    def draw(index: int) -> str | None:
        return server.draw_fault(Request("GET", f"/{index}"), Response(BODY, zeros=BODY))[0]

    with LoopbackServer({}, Faults(0.3)) as server:
        drawn = [draw(index) for index in range(3000)]
        server.faults = Faults(1.0, most_in_a_row=2)
        fails = [draw(-1) is not None for _ in range(6)]
    assert sum(fault is not None for fault in drawn) / 3000 == pytest.approx(0.3, abs=0.03)
    assert set(drawn) == {None, *ALL_KINDS}
    assert fails == [True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kinds": ("429", "404")}, r"unknown kinds of fault \['404'\]"), ({"share": 30}, "30 is not a fraction")],
)
def test_impossible_faults_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Faults(**options)


def test_threads_end_with_the_context():
    before = threading.active_count()
    with LoopbackServer({"/": serve_body}, Faults(1.0, ("slow",), slow_seconds=60)) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{server.url}/x", timeout=0.02)
        assert server.count() == 1
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(2)
    assert threading.active_count() == before
