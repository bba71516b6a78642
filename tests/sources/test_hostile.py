"""Servers that mean harm, or are broken in ways that look like it: a line, and nothing outside the folder."""

import gzip
import time

import pytest

from zoobot_3d.errors import BadFileError, FetchError
from zoobot_3d.io import gunzip, inside
from zoobot_3d.marks.gz3d import read_gz3d
from zoobot_3d.simulate.faulty_server import LoopbackServer, Response
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.gz3d_archive import fetch_gz3d, list_gz3d
from zoobot_3d.sources.http import Client, Patience
from zoobot_3d.sources.mirrors import check_redirect

QUICK = FetchOptions(rate=0, first_wait=0.001, attempts=2)


def client(**patience):
    return Client(rate=0, patience=Patience(attempts=2, first_wait=0.001, **patience))


def listing(*names):
    links = "".join(f'<a href="{name}">x</a>' for name in names)
    return f"<html><body>{links}</body></html>".encode()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../a",
        "/etc/passwd",
        "a\\b",
        "C:a",
        "a\0b",
        "a\nb",
        "a\x1b[2Jb",
        "x" * 300,
        "\u00e9" * 125,
    ],
)
def test_names_that_are_no_plain_file_names(tmp_path, name):
    with pytest.raises(BadFileError, match="is no plain file name"):
        inside(tmp_path, name)


def test_links_that_lead_out_of_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out.fits").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "here.fits").symlink_to(tmp_path / "in" / "other")
    with pytest.raises(BadFileError, match="is a link that leads out of the folder"):
        inside(tmp_path / "in", "out.fits")
    assert inside(tmp_path / "in", "here.fits") == tmp_path / "in" / "here.fits"
    assert inside(tmp_path, "gz3d_1-9_127_3.fits.gz") == tmp_path / "gz3d_1-9_127_3.fits.gz"


@pytest.mark.parametrize(
    "link",
    [
        "gz3d_x%2f..%2f..%2f..%2fESCAPED_19_7.fits.gz",
        "gz3d_x%2F..%2FESCAPED_19_7.fits.gz",
        "gz3d_%2e%2e%5cESCAPED_19_7.fits.gz",
        "gz3d_a&#47;..&#47;ESCAPED_19_7.fits.gz",
        "gz3d_a%00b_19_7.fits.gz",
        f"gz3d_{'x' * 300}_19_7.fits.gz",
        "gz3d_1-9_19_99999999999999999999999.fits.gz",
        "gz3d_1-9_99999999999999999999999_7.fits.gz",
    ],
)
def test_a_listing_cannot_leave_the_folder(tmp_path, link):
    root = tmp_path / "a" / "b" / "root"
    page = Response(listing(link, "gz3d_1-9_19_7.fits.gz"), "text/html")
    with LoopbackServer({"/": lambda request: page if request.url.endswith("/") else Response(b"evil")}) as server:
        with client() as asked, pytest.warns(UserWarning) if "_19_7" in link else _nothing():
            assert list_gz3d(server.url, asked)["file_name"].tolist() == ["gz3d_1-9_19_7.fits.gz"]
        with pytest.warns(UserWarning) if "_19_7" in link else _nothing():
            summary = fetch_gz3d(root, url=server.url, options=QUICK, progress=False)
    assert summary.failed == 1
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(root / "gz3d")]
    assert outside == []


def _nothing():
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize(
    "target",
    [
        "http://example.com/x",
        "https://example.com/x",
        "data:text/plain,evil",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
    ],
)
def test_redirects_to_other_places_are_refused(target):
    def answer(request):
        return Response(b"", status=302, headers={"Location": target})

    with LoopbackServer({"/": answer}) as server, client() as asked, pytest.raises(FetchError) as caught:
        asked.get(f"{server.url}/x")
    assert "\n" not in str(caught.value)


def test_redirects_within_a_host_and_to_mirrors():
    import httpx

    def asked(first, here):
        check_redirect(httpx.Request("GET", here, extensions={"zoobot_3d_first": httpx.URL(first)}))

    asked("http://data.sdss.org/a", "https://dr17.sdss.org/a")
    asked("https://www.legacysurvey.org/a", "https://portal.nersc.gov/a")
    asked("http://127.0.0.1:80/a", "http://127.0.0.1:80/b")
    for first, here in (
        ("https://zenodo.org/a", "http://zenodo.org/a"),  # no longer encrypted
        ("https://zenodo.org/a", "https://evilzenodo.org/a"),
        ("https://zenodo.org/a", "https://zenodo.org.evil.com/a"),
        ("https://data.sdss.org/a", "http://dr17.sdss.org/a"),
    ):
        with pytest.raises(FetchError, match="leads to another place"):
            asked(first, here)


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "1e3", "\u00b2", "9" * 400, "Fri, 31 Dec 99999 23:59:59 GMT", "Wed, 21 Oct 2015 07:28:00"],
)
def test_any_text_may_ask_to_wait(value):
    count = []

    def answer(request):
        count.append(1)
        headers = {"Retry-After": value.encode("latin-1", "replace").decode("latin-1")}
        return Response(b"good") if len(count) > 1 else Response(b"", status=503, headers=headers)

    slept = []
    patience = Patience(first_wait=0.001)
    with (
        LoopbackServer({"/": answer}) as server,
        Client(rate=0, patience=patience, sleep=slept.append, clock=_Clock(slept)) as asked,
    ):
        assert asked.get(f"{server.url}/x") == b"good"
    assert sum(slept) < 2 * 3600 + 1


class _Clock:
    """Time that passes by sleeping alone."""

    def __init__(self, slept):
        self.slept = slept

    def __call__(self):
        return float(sum(self.slept))


def test_bodies_without_end(tmp_path):
    big = Response(b"\0" * 3_000_000)
    with LoopbackServer({"/": lambda request: big}) as server, client(most_bytes=1e6) as asked:
        with pytest.raises(FetchError, match="sends more than the 1,000,000 bytes that it should"):
            asked.get(f"{server.url}/x")
        with pytest.raises(FetchError, match="sends more than the 1,000 bytes that it should"):
            asked.download(f"{server.url}/x", tmp_path / "x", size=1000)
    assert not (tmp_path / "x").exists()


def test_bodies_that_come_too_slowly():
    passed = iter(range(0, 10_000, 20))
    body = Response(b"\0" * 500_000)
    with (
        LoopbackServer({"/": lambda request: body}) as server,
        Client(rate=0, patience=Patience(slowest=1e6), clock=lambda: float(next(passed)), sleep=time.sleep) as asked,
        pytest.raises(FetchError, match=r"too slow: [\d,]+ bytes in \d+ s"),
    ):
        asked.get(f"{server.url}/x")


def test_gzip_bombs(tmp_path):
    bomb = gzip.compress(bytes(50_000_000), 9)
    assert len(gunzip(bomb)) == 50_000_000
    with pytest.raises(OSError, match="unpacks to more than 10 MB"):
        gunzip(bomb, 10_000_000)
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(10_000_000)
    content = b"".join(packer.compress(zeros) for _ in range(25)) + packer.flush()
    (tmp_path / "b.fits.gz").write_bytes(content)
    with pytest.raises(BadFileError, match="unpacks to more than 200 MB"):
        read_gz3d(tmp_path / "b.fits.gz")
