import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from loopback import BODY, fail_first, names, serve
from zoobot_3d import __version__
from zoobot_3d.errors import BadFileError, ConfigError, FetchError
from zoobot_3d.simulate.faulty_server import LoopbackServer, Request, Response
from zoobot_3d.sources.host import Host
from zoobot_3d.sources.http import DEFAULT_USER_AGENT, LONGEST_PAUSE, Client, Patience
from zoobot_3d.sources.patience import Words


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []
        self._lock = threading.Lock()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds


@pytest.fixture
def fake() -> FakeTime:
    return FakeTime()


@pytest.fixture
def client(fake):
    with Client(rate=0, seed=1, clock=fake.clock, sleep=fake.sleep) as client:
        yield client


# Answers into memory


def test_get_names_the_project_and_sends_the_query(client):
    with serve() as server:
        assert client.get(f"{server.url}/viewer?layer=a", params={"ra": 1.5, "layer": "ls-dr9"}) == BODY
    request = server.requests[0].request
    assert request.query == {"layer": "ls-dr9", "ra": "1.5"}
    assert request.headers["user-agent"] == DEFAULT_USER_AGENT
    assert DEFAULT_USER_AGENT.startswith(f"zoobot-3d/{__version__} ")
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("kind", ["429", "500", "503", "reset", "truncated", "slow"])
def test_get_outlasts_what_http_can_see(client, kind):
    with serve(faults=fail_first(kind, 2, slow_seconds=0.02)) as server:
        assert client.get(f"{server.url}/x") == BODY
        assert server.count() == (1 if kind == "slow" else 3)


def test_page_with_status_200_is_asked_for_again(client):
    with serve(faults=fail_first("empty", 2)) as server:
        assert client.get(f"{server.url}/x", content_type=("image/fits", "application/fits")) == BODY
        assert server.count() == 3
        with pytest.raises(FetchError, match=r"/x: sent application/fits instead of image/jpeg or image/png \(6 att"):
            client.get(f"{server.url}/x", content_type=("image/jpeg", "image/png"))


def test_get_check_that_fails_twice_and_then_passes(client):
    seen = []

    def check(body: bytes) -> None:
        seen.append(body)
        if len(seen) < 3:
            raise BadFileError("cutout", "all pixels are zero")

    with serve() as server:
        assert client.get(f"{server.url}/x", check=check) == BODY
        assert (seen, server.count()) == ([BODY] * 3, 3)


def test_check_that_never_passes_gives_its_reason(client):
    def check(body: bytes) -> None:
        raise BadFileError("cutout", "all pixels are zero", "never mind")

    with serve() as server, pytest.raises(FetchError, match=r"/x: all pixels are zero \(6 attempts\); try again later"):
        client.get(f"{server.url}/x", check=check)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 204])
def test_refusal_is_not_repeated(client, fake, tmp_path, status):
    with serve(b"", status=status) as server:
        with pytest.raises(FetchError, match=rf"^{server.url}/x: answered {status} .*; check the address"):
            client.get(f"{server.url}/x")
        with pytest.raises(FetchError, match=f"answered {status} "):
            client.download(f"{server.url}/x", tmp_path / "x")
        assert server.count() == 2
    assert (fake.slept, names(tmp_path)) == ([], [])


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "no scheme", "http://[::bad/x"])
def test_address_that_is_none(client, fake, url):
    with pytest.raises(FetchError, match="check"):
        client.get(url)
    assert fake.slept == []


def test_nobody_there(client):
    with serve() as server:
        pass
    with pytest.raises(FetchError, match=r"refused \(6 attempts\); try again later: the same command goes on"):
        client.get(f"{server.url}/x")


def test_silence_is_a_timeout(fake):
    with (
        serve(faults=fail_first("slow", 9, slow_seconds=60)) as server,
        Client(rate=0, patience=Patience(timeout=0.03, attempts=2), sleep=fake.sleep, clock=fake.clock) as client,
        pytest.raises(FetchError, match=r"no answer within 0.03 s \(2 attempts\)"),
    ):
        client.get(f"{server.url}/x")


def test_error_stays_one_line_and_survives_a_worker_process(client):
    with serve(status=500) as server, pytest.raises(FetchError) as caught:
        client.get(f"{server.url}/x")
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"connections": 0}, "connections=0"),
        ({"patience": Patience(attempts=0)}, "attempts=0"),
        ({"patience": Patience(timeout=0)}, "timeout=0"),
        ({"rate": -1}, "rate=-1"),
    ],
)
def test_impossible_options(options, named):
    with pytest.raises(ConfigError, match=named):
        Client(**options)


# What a person who waits is told


def test_a_refusal_is_told_at_once_with_the_time_that_is_left_and_not_for_each_attempt(fake):
    told = []
    client = Client(rate=0, seed=1, clock=fake.clock, sleep=fake.sleep, tell=told.append)
    with serve(status=500) as server, client, pytest.raises(FetchError):
        client.get(f"{server.url}/x")
    # Waits of at most 1, 2, 4, 8 and 16 s; a line every ten seconds at most.
    first = "127.0.0.1: answered 500 Internal Server Error; trying up to 5 times more, for 31 s at most (Ctrl-C stops)"
    assert told[0] == first
    assert told[-1].endswith("trying once more, for 16 s at most (Ctrl-C stops)")
    assert len(told) < 5


def test_silence_is_told_before_the_timeout():
    heard = threading.Event()
    words = Words(lambda line: heard.set(), first=0.01)
    with words.waiting("example.org"):
        assert heard.wait(10)


def test_answers_that_come_say_nothing(fake):
    told = []
    with serve() as server, Client(rate=0, clock=fake.clock, sleep=fake.sleep, tell=told.append) as client:
        client.get(f"{server.url}/x")
    assert told == []


def test_an_empty_image_that_is_asked_for_again_is_no_news(fake):
    told, seen = [], []

    def check(body: bytes) -> None:
        seen.append(body)
        if len(seen) < 4:
            raise BadFileError("cutout", "all pixels are zero")

    with serve() as server, Client(rate=0, clock=fake.clock, sleep=fake.sleep, tell=told.append) as client:
        client.get(f"{server.url}/x", check=check)
    assert (told, len(seen)) == ([], 4)


def test_an_answer_that_never_fits_is_told(fake):
    def check(body: bytes) -> None:
        raise BadFileError("cutout", "not FITS")

    told = []
    client = Client(rate=0, clock=fake.clock, sleep=fake.sleep, tell=told.append)
    with serve() as server, client, pytest.raises(FetchError):
        client.get(f"{server.url}/x", check=check)
    assert told[0] == "127.0.0.1: not FITS; trying up to 2 times more, for 24 s at most (Ctrl-C stops)"


# Politeness


def test_waits_double_up_to_the_longest_with_seeded_jitter(fake):
    def waits(seed: int) -> list[float]:
        time = FakeTime()
        options = {"attempts": 5, "first_wait": 1.0, "longest_wait": 3.0}
        with Client(rate=0, seed=seed, clock=time.clock, sleep=time.sleep, patience=Patience(**options)) as client:
            with pytest.raises(FetchError, match="answered 500 Internal Server Error"):
                client.get(f"{server.url}/x")
            return time.slept

    with serve(status=500) as server:
        first = waits(1)
        assert server.count() == 5
        assert waits(1) == first != waits(2)
    assert len(first) == 4
    assert all(most / 2 <= wait <= most for wait, most in zip(first, [1, 2, 3, 3], strict=True))


DATE = "Wed, 03 Jan 2024 03:04:05 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "30"}, 30),
        ({"Retry-After": "Wed, 03 Jan 2024 03:04:50 GMT", "Date": DATE}, 45),
        ({"Retry-After": "Wed, 03 Jan 2024 03:00:00 GMT", "Date": DATE}, 0),
        ({"Retry-After": "Wed, 03 Jan 2024 03:04:50 GMT"}, 0),  # no Date: by our own clock long ago
        ({"Retry-After": "99999999"}, LONGEST_PAUSE),
        ({"Retry-After": "soon"}, 1),
        ({}, 1),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_holds_up_every_request_to_that_host(fake, status, headers, seconds):
    routes = {"/busy": lambda r: Response(b"", status=status, headers=headers), "/": lambda r: Response(b"ok")}
    with (
        LoopbackServer(routes) as server,
        LoopbackServer(routes) as other,
        Client(rate=0, patience=Patience(attempts=1), clock=fake.clock, sleep=fake.sleep) as client,
    ):
        with pytest.raises(FetchError, match=f"answered {status}"):
            client.get(f"{server.url}/busy")
        client.get(f"{other.url}/elsewhere")
        assert fake.now == 0
        client.get(f"{server.url}/another")
        assert fake.now == seconds


def test_hold_reaches_requests_that_already_wait(fake):
    host = Host(1, 1.0, fake.clock, fake.sleep)
    with host.turn():
        pass

    def sleep_and_be_told_to_wait_longer(seconds: float) -> None:
        if not fake.slept:
            host.hold(20)
        FakeTime.sleep(fake, seconds)

    host._sleep = sleep_and_be_told_to_wait_longer
    with host.turn():
        assert fake.now == 20


def test_rate_is_kept(fake):
    with serve() as server, Client(rate=5, clock=fake.clock, sleep=fake.sleep) as client:
        starts = []
        for index in range(6):
            client.get(f"{server.url}/{index}")
            starts.append(fake.now)
    assert starts == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_rate_is_kept_by_threads_together_and_retries_count(fake):
    with (
        serve(faults=fail_first("500")) as server,
        Client(rate=5, patience=Patience(first_wait=0), connections=4, clock=fake.clock, sleep=fake.sleep) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda index: client.get(f"{server.url}/{index}"), range(20)))
        assert server.count() == 40
    assert fake.now >= 39 * 0.2 - 1e-9


def test_connections_are_never_more_than_allowed(fake):
    lock, active, peaks = threading.Lock(), [0], []

    def handler(request: Request) -> Response:
        with lock:
            active[0] += 1
            peaks.append(active[0])
        threading.Event().wait(0.005)
        with lock:
            active[0] -= 1
        return Response(b"ok")

    with (
        LoopbackServer({"/": handler}) as server,
        Client(rate=0, connections=3, clock=fake.clock, sleep=fake.sleep) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        list(pool.map(lambda index: client.get(f"{server.url}/{index}"), range(36)))
    assert max(peaks) == 3


# Forms


def test_a_form_is_sent_again_after_a_fault(client):
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(b"taken", "text/plain")

    with LoopbackServer({"/form": answer}, fail_first("500", 2)) as server:
        files = {"image": ("a.png", b"\x89PNG")}
        assert client.post(f"{server.url}/form", data={"id": "7"}, files=files) == b"taken"
        assert [served.status for served in server.requests] == [500, 500, 200]
    assert len({request.body for request in seen}) == 1  # the same bytes each time
    assert b"\x89PNG" in seen[0].body and b'filename="a.png"' in seen[0].body and b'name="id"' in seen[0].body


def test_a_form_without_files_is_url_encoded(client):
    with LoopbackServer({"/form": lambda request: Response(request.form["id"].encode(), "text/plain")}) as server:
        assert client.post(f"{server.url}/form", data={"id": "a b&c"}) == b"a b&c"


def test_an_answer_to_a_form_that_is_not_good_is_asked_for_again(client):
    def check(body: bytes) -> None:
        raise BadFileError("answer", "not JSON")

    with serve() as server, pytest.raises(FetchError, match=r"not JSON \(6 attempts\)"):
        client.post(f"{server.url}/form", data={"id": "7"}, check=check)
    assert [served.request.method for served in server.requests] == ["POST"] * 6
