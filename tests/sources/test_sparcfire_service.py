import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fake_sparcfire import Service, results, zipped
from zoobot_3d import cli
from zoobot_3d.errors import BadFileError
from zoobot_3d.io import write_jpeg
from zoobot_3d.simulate.faulty_server import Faults, LoopbackServer
from zoobot_3d.sources import sparcfire_service
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.sparcfire import read_sparcfire
from zoobot_3d.sources.sparcfire_service import fetch_sparcfire

OPTIONS = FetchOptions(connections=64, rate=0, first_wait=0.001, timeout=20)  # fewer than cores start processes


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def server(service):
    with LoopbackServer(service.routes()) as server:
        yield server


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate(("a", "b", "c")):
        write_jpeg(folder / f"{name}.jpg", np.full((200, 240, 3), 40 * number, np.uint8))
    (folder / "notes.txt").write_text("no picture")
    return folder


def fetch(pictures, out, server, **keywords):
    return fetch_sparcfire([pictures], out, url=f"{server.url}/process", options=OPTIONS, progress=False, **keywords)


def reasons(out):
    return pd.read_csv(out / "failed.csv").set_index("id")["reason"]


def test_pictures_become_folders_of_results(pictures, tmp_path, server, service):
    out = tmp_path / "out"
    summary = fetch(pictures, out, server)
    assert (summary.done, summary.skipped, summary.failed) == (3, 0, 0)
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["a", "b", "c"]
    assert read_sparcfire(out / "b").arcs[0].hand == "S"
    assert pd.read_csv(out / "sparcfire.csv")["pitch"].tolist() == [20, 20, 20]
    assert "arcs in 3 of 3 galaxies" in str(summary)
    sent = {form["image-selection-input"] for form in service.forms}
    assert sent == {path.read_bytes() for path in pictures.glob("*.jpg")}
    assert all(form["main_options[useDeProjectStretch]"] == b"1" for form in service.forms)


def test_what_is_there_is_not_sent_again(pictures, tmp_path, server):
    out = tmp_path / "out"
    fetch(pictures, out, server)
    asked = len(server.requests)
    again = fetch(pictures, out, server)
    assert (again.done, again.skipped, len(server.requests)) == (0, 3, asked)
    write_jpeg(pictures / "b.jpg", np.full((200, 240, 3), 200, np.uint8))  # another picture of the same name
    shutil.rmtree(out / "c")
    once_more = fetch(pictures, out, server)
    assert (once_more.done, once_more.skipped) == (2, 1)


def test_a_killed_run_goes_on_from_its_folders(pictures, tmp_path, server):
    """What was there when the process died counts, also before its shard was written; half a folder does not."""
    out = tmp_path / "out"
    fetch(pictures, out, server)
    (out / "fetched.parquet").unlink()
    (out / "b" / "input.json").unlink()
    (out / ".a.new").mkdir()
    (out / ".c.zip").write_bytes(b"half")
    before = len(server.requests)
    summary = fetch(pictures, out, server)
    assert (summary.done, summary.skipped) == (1, 2)
    assert {served.url.rpartition("/")[2] for served in server.requests[before:]} == {
        "preprocess.php",
        "process.php",
        "galaxy_b_data.zip",
    }
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) in ([], [".fetch.lock"])


@pytest.mark.parametrize("kind", ["500", "503", "reset", "slow", "truncated", "wrong_length", "empty"])
def test_faults_of_the_way_pass(pictures, tmp_path, server, kind):
    server.faults = Faults(1.0, (kind,), most_in_a_row=2, slow_seconds=0.05)
    out = tmp_path / "out"
    assert fetch(pictures, out, server).failed == 0
    assert read_sparcfire(out / "c").mask.any()


def test_a_picture_that_is_refused_does_not_stop_the_others(pictures, tmp_path, server, service):
    service.refused = {"b"}
    out = tmp_path / "out"
    summary = fetch(pictures, out, server)
    assert (summary.done, summary.failed) == (2, 1)
    assert reasons(out)["b"] == "SpArcFiRe did not take the picture: cannot read the image"
    assert server.count("/process/preprocess.php") == 3  # asked once: another try would not help


def test_a_service_that_stays_broken_is_told(pictures, tmp_path, server):
    server.faults = Faults(1.0, ("500",), most_in_a_row=100)
    out = tmp_path / "out"
    summary = fetch(pictures, out, server)
    assert summary.failed == 3 and not list(out.glob("[a-c]"))
    assert "answered 500" in reasons(out)["a"]


HOSTILE = {
    "up": {"../evil.txt": b"x"},
    "up inside": {"a/../../evil.txt": b"x"},
    "absolute": {"/tmp/zoobot3d_evil.txt": b"x"},
    "windows": {"..\\evil.txt": b"x"},
    "drive": {"C:evil.txt": b"x"},
    "hidden": {".bashrc": b"x"},
    "twice": {"one/a.png": b"x", "two/a.png": b"y"},
    "nothing": {"readme.txt": b"x"},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_zip_cannot_leave_its_folder(pictures, tmp_path, server, service, kind):
    service.zips["b"] = zipped({**(results("b") if kind != "nothing" else {}), **HOSTILE[kind]})
    out = tmp_path / "out"
    summary = fetch(pictures, out, server)
    assert (summary.done, summary.failed) == (2, 1)
    assert "b" in reasons(out).index and not (out / "b").exists()
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/zoobot3d_evil.txt").exists()


def test_a_link_in_a_zip_is_refused(pictures, tmp_path, server, service):
    path = tmp_path / "links.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("b.csv")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    service.zips["b"] = path.read_bytes()
    fetch(pictures, tmp_path / "out", server)
    assert "leaves its folder" in reasons(tmp_path / "out")["b"]


def test_a_zip_that_would_fill_the_disk_is_refused(pictures, tmp_path, server, service, monkeypatch):
    monkeypatch.setattr(sparcfire_service, "_MOST_BYTES", 100_000)
    service.zips["b"] = zipped({**results("b"), "b-bomb.png": bytes(200_000)})
    fetch(pictures, tmp_path / "out", server)
    assert "bytes together" in reasons(tmp_path / "out")["b"]


def test_results_in_a_folder_of_the_zip_are_found(pictures, tmp_path, server, service):
    service.zips["a"] = zipped({f"outDir/a/{name}": body for name, body in results("a").items()})
    assert fetch(pictures, tmp_path / "out", server).failed == 0
    assert read_sparcfire(tmp_path / "out" / "a").mask.any()


def test_a_failed_fit_is_kept_with_its_reason(pictures, tmp_path, server, service):
    service.zips["a"] = zipped(results("a", fit_state="no galaxy here"))
    summary = fetch(pictures, tmp_path / "out", server)
    assert summary.failed == 0
    assert "1 x SpArcFiRe found no fit: no galaxy here" in str(summary)
    table = pd.read_csv(tmp_path / "out" / "sparcfire.csv").set_index("id")
    assert "no galaxy here" in table.loc["a", "error"]


def test_files_that_are_no_pictures_are_listed(pictures, tmp_path, server):
    out = tmp_path / "out"
    twin = tmp_path / "a.png"
    twin.write_bytes(b"x")
    files = [pictures / "a.jpg", twin, pictures / "notes.txt", pictures / "missing.jpg"]
    summary = fetch_sparcfire(files, out, url=f"{server.url}/process", options=OPTIONS, progress=False)
    assert (summary.done, summary.failed) == (1, 3)
    told = reasons(out)
    assert told["a"] == "another picture has the same name"
    assert told["notes"] == "not a JPEG or PNG by its name" and told["missing"] == "No such file or directory"


def test_an_empty_folder_is_an_error(tmp_path, server):
    with pytest.raises(BadFileError, match="no pictures"):
        fetch(tmp_path, tmp_path / "out", server)


def test_the_command(pictures, tmp_path, server, capsys):
    out = tmp_path / "out"
    command = ["fetch", "sparcfire", str(pictures), "--out", str(out), "--url", f"{server.url}/process", "--rate", "0"]
    command += ["--connections", "64"]
    assert cli.main(command) == 0
    assert "galaxies: 3 fetched" in capsys.readouterr().out
    assert read_sparcfire(out / "a").name == "a"
