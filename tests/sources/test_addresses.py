"""One variable sends every download to another server: the loopback archive has every service under its real path."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from zoobot_3d.cli import main
from zoobot_3d.errors import FetchError
from zoobot_3d.simulate.archive import Archive
from zoobot_3d.simulate.catalogs import CATALOGUES
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sources import galaxy_zoo, gz3d_archive, hoyle, legacy_survey, sami, zenodo
from zoobot_3d.sources.addresses import ARCHIVE_VARIABLE, service_url
from zoobot_3d.sources.sesame import resolve_name


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return simulate_survey(tmp_path_factory.mktemp("sky"), 2, seed=8, workers=1, progress=False, files="pictures").root


@pytest.fixture
def archive(survey, monkeypatch):
    with Archive(survey) as running:
        monkeypatch.setenv(ARCHIVE_VARIABLE, running.url)
        yield running


@pytest.mark.parametrize("value", ["http://127.0.0.1:8765", "http://127.0.0.1:8765/", " 127.0.0.1:8765 "])
def test_the_server_changes_and_the_path_stays(monkeypatch, value):
    monkeypatch.setenv(ARCHIVE_VARIABLE, value)
    assert service_url("https://zenodo.org/api/records") == "http://127.0.0.1:8765/api/records"


@pytest.mark.parametrize("value", [None, "", " "])
def test_without_the_variable_it_is_the_real_archive(monkeypatch, value):
    monkeypatch.delenv(ARCHIVE_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(ARCHIVE_VARIABLE, value)
    assert service_url("https://zenodo.org/api/records") == "https://zenodo.org/api/records"


def test_the_loopback_archive_has_every_service_under_its_real_path(archive):
    real = {
        "gz3d": gz3d_archive.GZ3D_URL,
        "cutouts": legacy_survey.CUTOUT_URL,
        "gz-desi": zenodo.ZENODO_URL,
        "gz2": galaxy_zoo.GZ2_URL,
        "sami": sami.SAMI_TAP_URL,
        "hoyle": hoyle.HOYLE_URL,
    }
    assert {kind: service_url(url) for kind, url in real.items()} == archive.urls()


def test_names_are_resolved_by_the_archive(archive, survey):
    truth = pd.read_parquet(survey / CATALOGUES["truth"])
    found = resolve_name("NGC 3351")  # an odd number, and there are two galaxies
    assert (found.ra.deg, found.dec.deg) == pytest.approx((truth["ra"][1], truth["dec"][1]), abs=1e-6)
    own = resolve_name(truth["dr8_id"][0])
    assert own.ra.deg == pytest.approx(truth["ra"][0], abs=1e-6)
    with pytest.raises(FetchError, match="no object is called 'nothing'"):
        resolve_name("nothing")


def test_another_sky_at_the_same_port_gives_its_own_answers(survey, tmp_path, monkeypatch):
    other = simulate_survey(tmp_path, 1, seed=9, workers=1, progress=False, files="pictures").root
    found, port = [], 0
    for sky in (survey, other):
        with Archive(sky, port=port) as running:
            port = int(running.url.rpartition(":")[2])
            monkeypatch.setenv(ARCHIVE_VARIABLE, running.url)
            found.append(resolve_name("NGC 3351").ra.deg)
    assert found == pytest.approx(
        [pd.read_parquet(survey / CATALOGUES["truth"])["ra"][1], pd.read_parquet(other / CATALOGUES["truth"])["ra"][0]]
    )


def test_commands_in_new_processes_ask_the_archive(archive, tmp_path):
    command = [sys.executable, "-m", "zoobot_3d.cli", "fetch", "hoyle", "--root", str(tmp_path)]
    subprocess.run(command, env=os.environ, check=True, capture_output=True)
    assert (tmp_path / "catalogues" / hoyle.HOYLE_FILE).exists()


def test_a_port_that_is_taken_is_named(archive, survey, capsys):
    port = archive.url.rpartition(":")[2]
    for asked in (port, "99999"):
        assert main(["archive", str(survey), "--port", asked]) == 2
        assert f"port {asked}: " in capsys.readouterr().err
