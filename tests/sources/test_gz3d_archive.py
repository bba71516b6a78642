import gzip
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pandas as pd
import pytest
from astropy.io import fits

from loopback import tree
from zoobot_3d.errors import BadFileError, CatalogError, FetchError
from zoobot_3d.simulate.archive import Archive
from zoobot_3d.simulate.faulty_server import Faults, LoopbackServer, Response
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sources.fetch import FetchOptions, write_ledger
from zoobot_3d.sources.gz3d_archive import COLUMNS, fetch_gz3d, list_gz3d, verify_gz3d

N = 6
OPTIONS = FetchOptions(rate=0, first_wait=0.001)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    root = tmp_path_factory.mktemp("survey")
    simulate_survey(root, N, seed=11, workers=1, progress=False)
    return root


@pytest.fixture
def archive(survey):
    with Archive(survey) as archive:
        yield archive


def fetch(root, archive, **keywords):
    return fetch_gz3d(root, url=archive.gz3d_url, options=OPTIONS, progress=False, **keywords)


def files(survey):
    return {path.name: path.read_bytes() for path in (survey / "gz3d").iterdir()}


def n_downloads(archive):
    return sum(request.url.endswith(".gz") for request in archive.requests)


# The listing


LISTING = b"""<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html><body><h1>Index of /sas</h1><pre><a href="?C=N;O=D">Name</a> <a href="/sas/dr17/">Parent Directory</a>
<a href="gz3d_1-9_127_3.fits.gz">gz3d_1-9_127_3..&gt;</a> 2021-11-30 18:20 1.2M
<a href='./gz3d_12-84617_19_14728482.fits.gz'>gz3d_12-84617_19..&gt;</a> <a href="gz3d_notes.txt">notes</a>
<a href="gz3d_1-9_127_3.fits.gz">again</a></pre></body></html>"""


def test_listing_gives_names_and_what_they_say():
    with LoopbackServer({"/v4": lambda request: Response(LISTING, "text/html")}) as server, OPTIONS.client() as client:
        found = list_gz3d(server.url + "/v4", client)
    assert found.to_dict("list") == {
        "file_name": ["gz3d_1-9_127_3.fits.gz", "gz3d_12-84617_19_14728482.fits.gz"],
        "mangaid": ["1-9", "12-84617"],
        "ifu": [127, 19],
        "subject": [3, 14728482],
    }
    assert server.requests[0].url == "/v4/"  # a directory has its slash


@pytest.mark.parametrize(
    ("page", "reason"),
    [(LISTING[:400], "truncated"), (b"<html><body>Please try again later</body></html>", "no link to a gz3d")],
)
def test_broken_listing_is_asked_for_again_and_then_named(page, reason):
    with LoopbackServer({"/": lambda request: Response(page, "text/html")}) as server:
        with OPTIONS.client() as client, pytest.raises(FetchError, match=reason):
            list_gz3d(server.url, client)
        assert server.count() == OPTIONS.attempts


# What is fetched


def test_every_file_comes_through_faults_and_the_second_time_nothing_is_asked_for(tmp_path, survey):
    with Archive(survey) as calm:
        fetch(tmp_path / "calm", calm)
    with Archive(survey, faults=Faults(share=0.3, seed=5, slow_seconds=0.01)) as archive:
        summary = fetch(tmp_path / "faulty", archive)
        assert len({request.fault for request in archive.requests} - {None}) >= 3
        assert (summary.done, summary.skipped, summary.failed, summary.failed_csv) == (N, 0, 0, None)
        before = n_downloads(archive)
        again = fetch(tmp_path / "faulty", archive)
        assert (again.done, again.skipped, again.failed) == (0, N, 0)
        assert n_downloads(archive) == before
    found = tree(tmp_path / "faulty" / "gz3d")
    assert found == tree(tmp_path / "calm" / "gz3d")
    assert found.pop("fetched.parquet")
    assert found == files(survey)


def test_ledger_says_what_is_there(tmp_path, survey, archive):
    summary = fetch(tmp_path, archive, limit=2)
    ledger = pd.read_parquet(summary.ledger)
    names = sorted(files(survey))[:2]
    assert list(ledger["id"]) == [name.removesuffix(".fits.gz") for name in names]
    assert list(ledger["bytes"]) == [len(files(survey)[name]) for name in names]
    for row in ledger.itertuples():
        assert row.relative_gz3d_fits_loc == f"gz3d/gz3d_{row.mangaid}_{row.ifu}_{row.subject}.fits.gz"
        assert (tmp_path / row.relative_gz3d_fits_loc).exists()


def test_more_files_are_added_to_those_there(tmp_path, archive):
    fetch(tmp_path, archive, limit=2)
    summary = fetch(tmp_path, archive, limit=4)
    assert (summary.done, summary.skipped) == (2, 2)
    fetch(tmp_path, archive, limit=1)
    assert len(pd.read_parquet(summary.ledger)) == 4  # what is not asked for now stays on record


def test_files_unknown_to_the_ledger_are_read_and_fetched_if_bad(tmp_path, survey, archive):
    _, short, changed, *_ = names = sorted(files(survey))
    fetch(tmp_path, archive)
    summary = fetch(tmp_path, archive)
    summary.ledger.unlink()
    content = files(survey)
    (tmp_path / "gz3d" / short).write_bytes(content[short][:-100])
    body = bytearray(content[changed])
    body[len(body) // 2] ^= 0xFF  # same size, another content
    (tmp_path / "gz3d" / changed).write_bytes(body)
    before = n_downloads(archive)
    fetch(tmp_path, archive)
    asked = {request.url.rpartition("/")[2] for request in archive.requests if request.url.endswith(".gz")}
    assert n_downloads(archive) - before == 2
    assert set(names) == asked
    assert {path.name: path.read_bytes() for path in (tmp_path / "gz3d").glob("*.gz")} == content


def test_file_whose_size_is_not_the_ledgers_is_fetched(tmp_path, survey, archive):
    fetch(tmp_path, archive)
    first = min(files(survey))
    (tmp_path / "gz3d" / first).write_bytes(b"")
    assert fetch(tmp_path, archive).done == 1
    assert (tmp_path / "gz3d" / first).read_bytes() == files(survey)[first]


@pytest.mark.slow  # writes as many files as the archive has
def test_whole_archive_that_is_there_costs_one_request(tmp_path):
    names = [f"gz3d_1-{100_000 + i}_127_{14_700_000 + i}.fits.gz" for i in range(29_800)]
    (tmp_path / "gz3d").mkdir()
    for name in names:
        (tmp_path / "gz3d" / name).write_bytes(b"1234")
    frame = pd.DataFrame({"id": [name.removesuffix(".fits.gz") for name in names], "bytes": 4, "ifu": 127})
    frame["mangaid"] = frame["relative_gz3d_fits_loc"] = "unread"
    write_ledger(tmp_path / "gz3d" / "fetched.parquet", frame.assign(subject=range(29_800)), COLUMNS)
    (tmp_path / "gz3d" / names[7]).unlink()
    page = "".join(f'<a href="{name}">{name}</a> 2021-11-30 18:20 1.2M\n' for name in names).encode()
    with LoopbackServer({"/v4/": lambda request: Response(page * request.url.endswith("/"), "text/html")}) as server:
        summary = fetch_gz3d(
            tmp_path, url=server.url + "/v4", options=FetchOptions(rate=0, attempts=1, first_wait=0), progress=False
        )
        assert (summary.skipped, summary.failed) == (29_799, 1)
        assert [request.url.rpartition("/")[2] for request in server.requests] == ["", names[7]]


# What cannot be fetched


def test_file_that_stays_bad_is_removed_reported_and_had_when_the_archive_is_mended(tmp_path, survey, archive):
    bad = sorted(files(survey))[1]
    (serve,) = [handler for prefix, handler in archive.server.routes.items() if prefix.startswith("/sas")]

    def broken(request):
        response = serve(request)
        return replace(response, body=files(survey)[bad][:-50]) if request.path.endswith(bad) else response

    (tmp_path / "gz3d").mkdir()
    (tmp_path / "gz3d" / bad).write_bytes(b"left here by somebody")
    archive.server.routes = {"/sas": broken}
    summary = fetch(tmp_path, archive)
    assert (summary.done, summary.failed) == (N - 1, 1)
    assert "truncated or corrupt gzip" in next(iter(summary.reasons))
    assert set(tree(tmp_path / "gz3d")) == {*files(survey), "fetched.parquet", "failed.csv"} - {bad}
    failed = pd.read_csv(summary.failed_csv)
    assert list(failed["file_name"]) == [bad]
    assert failed["url"][0] == archive.gz3d_url + bad
    archive.server.routes = {"/sas": serve}
    summary = fetch(tmp_path, archive, retry=summary.failed_csv)
    assert (summary.done, summary.skipped, summary.failed, summary.failed_csv) == (1, 0, 0, None)
    assert set(tree(tmp_path / "gz3d")) == {*files(survey), "fetched.parquet"}


def test_galaxies_by_name_and_those_not_listed(tmp_path, survey, archive):
    summary = fetch(tmp_path, archive, mangaids=["1-100003", "1-9", "1-100003"])
    assert (summary.done, summary.failed) == (1, 1)
    assert summary.reasons == {"not in the archive's listing": 1}
    assert pd.read_csv(summary.failed_csv)["mangaid"].tolist() == ["1-9"]
    again = fetch(tmp_path, archive, retry=summary.failed_csv)
    assert (again.done, again.skipped, again.failed) == (0, 0, 1)
    assert again.reasons == summary.reasons


def test_any_other_table_is_no_list_of_failures(tmp_path, archive):
    (tmp_path / "table.csv").write_text("id,ra\n1,2\n")
    with pytest.raises(CatalogError, match=r"table\.csv: no column file_name; give the failed\.csv"):
        fetch(tmp_path, archive, retry=tmp_path / "table.csv")


# Verification


def rewritten(path, change):
    """A copy of a file, beside it, with changed HDUs."""
    with fits.open(path) as hdus:
        hdus = fits.HDUList([hdu.copy() for hdu in hdus])
        change(hdus)
        out = path.with_name("changed.fits.gz")
        hdus.writeto(out, overwrite=True)
    return out


def test_files_that_are_not_whole_are_told_apart(tmp_path, survey):
    path = tmp_path / "whole.fits.gz"
    path.write_bytes(next(iter(files(survey).values())))
    verify_gz3d(path)
    with pytest.raises(BadFileError, match="10 HDUs of 11"):
        verify_gz3d(rewritten(path, lambda hdus: hdus.pop()))
    with pytest.raises(BadFileError, match="not a picture, 4 masks"):
        verify_gz3d(rewritten(path, lambda hdus: hdus.insert(3, hdus.pop(7))))
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-2880], 1))
    with pytest.raises(BadFileError, match=r"truncated|HDUs of"):
        verify_gz3d(path)
    path.write_bytes(content)
    with pytest.raises(BadFileError, match="corrupt gzip"):
        verify_gz3d(path)
    with pytest.raises(BadFileError, match="no such file"):
        verify_gz3d(tmp_path / "absent")


def test_example_file_is_whole(examples):
    name = "1-379196_127_14728482"
    verify_gz3d(examples / "gz3d_marks" / name / f"gz3d_{name}.reconstructed.fits.gz")


# A kill


def test_kill_in_the_middle_and_the_same_call_give_the_same_files(tmp_path, survey):
    with Archive(survey) as archive:
        fetch(tmp_path / "calm", archive)
        (serve,) = [handler for prefix, handler in archive.server.routes.items() if prefix.startswith("/sas")]
        stuck, released = threading.Event(), threading.Event()

        def hold_the_fourth(request):
            if request.path.endswith(".gz") and n_downloads(archive) == N + 3:
                stuck.set()
                released.wait(60)
            return serve(request)

        archive.server.routes = {"/sas": hold_the_fourth}
        code = (
            "import sys; from zoobot_3d.sources.gz3d_archive import *; from zoobot_3d.sources.fetch import *;"
            "fetch_gz3d(sys.argv[1], url=sys.argv[2], options=FetchOptions(connections=1, rate=0), progress=False)"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "killed"), archive.gz3d_url]
        with subprocess.Popen(command) as process:
            assert stuck.wait(60)
            process.send_signal(signal.SIGKILL)
        released.set()
        left = set(tree(tmp_path / "killed" / "gz3d"))
        assert len([name for name in left if name.endswith(".fits.gz")]) == 3
        assert "fetched.parquet" not in left
        asked = []
        archive.server.routes = {"/sas": lambda request: asked.append(request.path) or serve(request)}
        assert fetch(tmp_path / "killed", archive).done == N
        assert (
            len([path for path in asked if path.endswith(".gz")]) == N - 3
        )  # what had arrived was read, not asked for
    assert tree(tmp_path / "killed") == tree(tmp_path / "calm")
