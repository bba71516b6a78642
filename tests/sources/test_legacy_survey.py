import io
import signal
import subprocess
import sys
import threading

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable

from loopback import tree
from zoobot_3d import cli
from zoobot_3d.catalog.pixel_scales import gz_pixscale
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError, FetchError
from zoobot_3d.io import read_cutout, read_picture, write_cutout
from zoobot_3d.schema import EMPTY
from zoobot_3d.simulate.archive import Archive
from zoobot_3d.simulate.faulty_server import Faults, LoopbackServer, Response
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz
from zoobot_3d.sources import legacy_survey
from zoobot_3d.sources.cutout_requests import RequestOptions, read_requests
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.legacy_survey import CutoutOptions, cutout, cutout_url, fetch_cutouts

N = 6
SIZE = 96  # px: the whole field in fewer pixels
OPTIONS = FetchOptions(rate=0, first_wait=0.001)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    root = tmp_path_factory.mktemp("survey")
    simulate_survey(root, N, seed=11, workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def galaxies(survey):
    return read_catalog(survey / "data" / "gz3d_and_desi_master_catalog.parquet")


@pytest.fixture(scope="module")
def archive(survey):
    with Archive(survey) as archive:
        yield archive


def fetch(galaxies, root, archive, **keywords):
    """Fetch with the tests' options; each keyword goes to the options that know it."""
    keywords = {"size": SIZE, "options": OPTIONS, "progress": False, "url": archive.cutout_url, **keywords}
    asked, kept = (
        {name: keywords.pop(name) for name in list(keywords) if name in kind.__dataclass_fields__}
        for kind in (RequestOptions, CutoutOptions)
    )
    return fetch_cutouts(galaxies, root, requests=RequestOptions(**asked), cutouts=CutoutOptions(**kept), **keywords)


def ledger(root):
    return pd.read_parquet(root / "images" / "fetched.parquet").set_index("id")


# A service that sends what a test wants


def image(ra=150.0, dec=2.0, pixscale=0.2, size=8, value=1.0, **cards):
    """Bytes of a cutout: bands of 1, 2, 3, and one bright pixel in the north-east corner."""
    buffer = io.BytesIO()
    cube = np.ones((3, size, size), np.float32) * np.float32([1, 2, 3])[:, None, None] * np.float32(value)
    cube[:, -1, 0] *= 5  # row 0 is south in a file
    hdu = fits.PrimaryHDU(cube)
    hdu.header.update({"BANDS": "grz", **PixelGrid((size, size), pixscale, ra, dec).to_header(), **cards})
    hdu.writeto(buffer)
    return buffer.getvalue()


def asked_image(request, **keywords):
    """The image that a request asks for."""
    query = request.query
    numbers = {name: float(query[name]) for name in ("ra", "dec", "pixscale")}
    return Response(image(**numbers, size=int(query["size"]), **keywords), "image/fits")


class Service:
    """Answers with `asked_image`, or with what `answers` has for a right ascension; knows what it was asked for."""

    def __init__(self, answers=None):
        self.answers = answers or {}
        self.asked = []
        self.server = LoopbackServer({"/viewer/fits-cutout": self.answer})

    def answer(self, request):
        ra = float(request.query["ra"])
        if request.query["size"] == "8" and ra == 180:
            return asked_image(request)  # the first question: are you there?
        self.asked.append(ra)
        answer = self.answers.get(ra, asked_image)
        return answer(request) if callable(answer) else answer

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *error):
        self.server.__exit__(*error)

    @property
    def cutout_url(self):
        return self.server.url + "/viewer"


def table(*names, ra=150.0, **columns):
    """A catalogue; right ascensions 150, 151, ..."""
    n = len(names)
    return pd.DataFrame(
        {"dr8_id": list(names), "ra": ra + np.arange(n), "dec": 2.0, "est_dr5_pixscale": 0.2, "note": "mine", **columns}
    )


# One cutout


def test_address_is_the_services():
    address = cutout_url(164.1, -12.5, 0.262, size=424, layer="ls-dr9")
    assert address == (
        "https://www.legacysurvey.org/viewer/fits-cutout?"
        "ra=164.1000000&dec=-12.5000000&pixscale=0.2620000&size=424&layer=ls-dr9&bands=grz"
    )


def test_cutout_in_memory_has_north_up():
    with Service() as service, OPTIONS.client() as client:
        cube, grid = cutout(150.0, 2.0, 0.2, size=8, client=client, url=service.cutout_url)
    assert cube.shape == (3, 8, 8)
    assert cube[:, 0, 0].tolist() == [5, 10, 15]  # the bright pixel, in the north-east
    assert cube[:, 7, 7].tolist() == [1, 2, 3]
    assert (grid.ra, grid.dec, grid.pixscale) == pytest.approx((150, 2, 0.2))
    assert grid.reference_pixel == (3.5, 3.5)


WRONG = {
    "truncated FITS": lambda request: image()[:3000],
    "truncated FITS image": lambda request: image(size=96)[: 4 * 2880],
    "an image of": lambda request: image(size=9),
    "bands rgz": lambda request: image(BANDS="rgz"),
    "arcsec per pixel": lambda request: image(pixscale=0.262),
    "centred on": lambda request: image(ra=150.0 + 0.2 / 3600),
    "no celestial axes": lambda request: image(CTYPE1="", CTYPE2=""),
}


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_answer_is_asked_for_again_and_then_named(reason):
    with Service({150.0: lambda request: Response(WRONG[reason](request), "image/fits")}) as service:
        with OPTIONS.client() as client, pytest.raises(FetchError, match=reason):
            cutout(150.0, 2.0, 0.2, size=8, client=client, url=service.cutout_url)
        assert len(service.asked) == OPTIONS.attempts


def test_example_truncated_file_is_refused(examples):
    content = (examples / "desi_fits" / "83e22c_example_incomplete.fits").read_bytes()
    with (
        Service({18.0662623: Response(content, "image/fits")}) as service,
        OPTIONS.client() as client,
        pytest.raises(FetchError, match="truncated"),
    ):
        cutout(18.066262308, -6.05180745469, 0.23594, client=client, url=service.cutout_url)


# Many: what is written


def test_every_galaxy_comes_through_faults_to_the_byte(tmp_path, survey, galaxies, archive):
    fetch(galaxies, tmp_path / "calm", archive)
    with Archive(survey, faults=Faults(share=0.3, seed=12, slow_seconds=0.01)) as faulty:
        summary = fetch(galaxies, tmp_path / "faulty", faulty)
        met = {request.fault for request in faulty.requests} - {None, "slow"}
    assert len(met) >= 3, met  # which of them depends on the requests, and so on the simulated sky
    assert (summary.done, summary.skipped, summary.failed, summary.failed_csv) == (N, 0, 0, None)
    found = tree(tmp_path / "faulty")
    assert found == tree(tmp_path / "calm")
    names = list(galaxies["dr8_id"])
    assert set(found) == {f"images/{kind}/{name}.{kind}" for name in names for kind in ("fits", "jpg")} | {
        "images/fetched.parquet"
    }


def test_files_are_those_of_the_survey(tmp_path, survey, galaxies, archive):
    fetch(galaxies.iloc[:1], tmp_path, archive, size=424)
    (row,) = galaxies.iloc[:1].itertuples()
    found, grid = read_cutout(tmp_path / row.relative_desi_fits_loc)
    made, made_grid = read_cutout(survey / row.relative_desi_fits_loc)
    np.testing.assert_allclose(found, made, atol=1e-6)
    assert grid.affine_to(made_grid) == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=1e-2)
    assert (tmp_path / row.relative_desi_jpg_loc).read_bytes() == (survey / row.relative_desi_jpg_loc).read_bytes()
    entry = ledger(tmp_path).loc[row.dr8_id]
    assert (entry["status"], entry["warning"], entry["layer"], entry["size"]) == ("good", "", "ls-dr8", 424)
    assert entry["fits_bytes"] == (tmp_path / entry["relative_desi_fits_loc"]).stat().st_size
    assert entry["jpg_bytes"] == (tmp_path / entry["relative_desi_jpg_loc"]).stat().st_size
    assert entry["pixscale"] == pytest.approx(row.est_dr5_pixscale, abs=1e-7)


def test_fits_is_kept_as_sent_and_the_picture_is_made_here(tmp_path):
    with Service() as service:
        fetch(table("1_2"), tmp_path, service)
    content = image(pixscale=round(0.2 * 424 / SIZE, 7), size=SIZE)
    assert (tmp_path / "images" / "fits" / "1_2.fits").read_bytes() == content
    with fits.open(io.BytesIO(content)) as hdus:
        expected = rgb_from_grz(hdus[0].data)
    picture = read_picture(tmp_path / "images" / "jpg" / "1_2.jpg")
    assert np.abs(picture.astype(int) - expected)[8:].max() <= 3  # JPEG, away from the one bright pixel
    assert all(urls.endswith("bands=grz") for urls in (request.url for request in service.server.requests))
    assert service.server.count("/viewer/jpeg-cutout") == 0


def test_pictures_alone(tmp_path):
    with Service() as service:
        fetch(table("1_2"), tmp_path, service, keep_fits=False)
        assert set(tree(tmp_path)) == {"images/jpg/1_2.jpg", "images/fetched.parquet"}
        assert ledger(tmp_path).loc["1_2", ["fits_bytes", "relative_desi_fits_loc"]].tolist() == [0, ""]
        assert fetch(table("1_2"), tmp_path, service, keep_fits=False).skipped == 1
        assert len(service.asked) == 1
        fetch(table("1_2"), tmp_path, service)  # now the FITS is wanted
        assert len(service.asked) == 2
        assert ledger(tmp_path).loc["1_2", "fits_bytes"] > 0
        assert fetch(table("1_2"), tmp_path, service, keep_fits=False).skipped == 1


# Many: what costs nothing


def test_second_run_asks_for_nothing(tmp_path):
    with Service() as service:
        fetch(table("a", "b"), tmp_path, service)
        before = tree(tmp_path), len(service.server.requests)
        summary = fetch(table("a", "b"), tmp_path, service)
        assert (summary.done, summary.skipped, summary.failed) == (0, 2, 0)
        assert (tree(tmp_path), len(service.server.requests)) == before
        assert fetch(table("c", "b", ra=149.0).iloc[:1], tmp_path, service).done == 1
        assert list(ledger(tmp_path).index) == ["a", "b", "c"]  # what is not asked for now stays on record


def test_lost_picture_is_made_again_without_the_service(tmp_path):
    with Service() as service:
        fetch(table("a", "b"), tmp_path, service)
        before = tree(tmp_path)
        (tmp_path / "images" / "jpg" / "a.jpg").unlink()
        (tmp_path / "images" / "jpg" / "b.jpg").write_bytes(b"cut")
        asked = len(service.server.requests)
        assert fetch(table("a", "b"), tmp_path, service).done == 2
        assert tree(tmp_path) == before
        assert len(service.server.requests) == asked


def test_damaged_fits_is_fetched_again(tmp_path):
    with Service() as service:
        fetch(table("a", "b"), tmp_path, service)
        before = tree(tmp_path)
        (tmp_path / "images" / "fits" / "b.fits").write_bytes(b"cut")
        fetch(table("a", "b"), tmp_path, service)
        assert service.asked[2:] == [151.0]
        assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [{"layer": "ls-dr9"}, {"size": SIZE // 2}, {"pixscale": 0.21}, {"ra": 150.001}, {"center": "manga"}],
    ids=lambda change: next(iter(change)),
)
def test_another_request_for_the_same_galaxy_is_fetched_anew(tmp_path, change):
    galaxies = table("a", ra_manga=150.0005, dec_manga=2.0)
    with Service() as service:
        fetch(galaxies, tmp_path, service)
        galaxies["est_dr5_pixscale"] = change.pop("pixscale", 0.2)
        galaxies["ra"] = change.pop("ra", 150.0)
        assert fetch(galaxies, tmp_path, service, **change).done == 1
        assert len(service.asked) == 2
        entry = ledger(tmp_path).loc["a"]
        _, grid = read_cutout(tmp_path / "images" / "fits" / "a.fits")
        assert entry["ra"] == service.asked[1] == pytest.approx(grid.ra)
        assert entry["pixscale"] == pytest.approx(grid.pixscale)
        assert entry["size"] == grid.shape[0]
        assert fetch(galaxies, tmp_path, service, **change).skipped == 1


# Many: what to ask for


def asked_scale(tmp_path, galaxies):
    with Service() as service:
        summary = fetch(galaxies, tmp_path, service, size=424)
    return dict(ledger(tmp_path)["pixscale"]), summary


def test_scale_comes_from_the_first_column_that_a_row_has(tmp_path):
    galaxies = table(
        *"abcde",
        est_dr5_pixscale=[0.2, np.nan, np.nan, 0.0, np.nan],
        petro_th50=[9.0, 5.0, np.nan, -1.0, np.nan],
        petro_th90=[9.0, 8.0, 9.0, 9.0, 9.0],
        est_petro_th50=[7.0, 7.0, 6.0, 10.0, np.nan],
    )
    scales, summary = asked_scale(tmp_path, galaxies)
    # 5.0 and 8.0 arcsec: min(0.04 * 5, 0.02 * 8) = 0.16; 6.0 and 10.0 alone: 0.24 and 0.4
    assert scales == pytest.approx({"a": 0.2, "b": 0.16, "c": 0.24, "d": 0.4})
    assert scales["c"] == pytest.approx(float(gz_pixscale(6.0)))
    assert summary.reasons == {"no est_dr5_pixscale, and no Petrosian radius to get it from": 1}


def test_catalogue_without_scales_is_refused(tmp_path, archive):
    with pytest.raises(CatalogError, match=r"gz\.csv: no column est_dr5_pixscale, petro_th50 or est_petro_th50"):
        fetch(table("a").drop(columns="est_dr5_pixscale"), tmp_path, archive, name="gz.csv")
    with pytest.raises(CatalogError, match="RA_OBJ"):
        fetch(table("a"), tmp_path, archive, center="sami")
    with pytest.raises(ConfigError, match="center"):
        fetch(table("a"), tmp_path, archive, center="gama")
    with pytest.raises(ConfigError, match="layer"):
        fetch(table("a"), tmp_path, archive, layer="ls dr9")


def test_galaxies_without_names_are_named_after_their_positions():
    galaxies = pd.DataFrame({"RA": [164.1, np.nan, 164.1], "DEC": [12.5, 1.0, 12.5], "petro_th50": 5.0})
    requests, notes = read_requests(galaxies, "gz.csv", SIZE)
    assert list(requests["id"]) == ["J105624.00+123000.0", "row1"]
    assert list(requests["reason"].fillna("")) == ["", "no usable position in RA, DEC"]
    assert "no column of names: galaxies are named after their positions, such as J105624.00+123000.0" in notes[1]
    assert "1 of 3 rows repeat an earlier position" in notes[2]


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "parquet", "vot"])
def test_the_units_that_a_table_records_are_honoured(tmp_path, suffix):
    named, file = {"name": ["a", "b"]}, tmp_path / f"t.{suffix}"
    table = QTable(
        named
        | {
            "ra": [900.0, 9000] * u.arcmin,
            "mag": [15.0, 16] * u.mag,
            "dec": [30.0, -60] * u.arcmin,
            "r50": [0.1, 0.2] * u.arcmin,
        }
    )
    table.write(file, **({"format": "votable"} if suffix == "vot" else {}))
    requests, _ = read_requests(read_catalog(file), file.name, 424)
    np.testing.assert_allclose(requests[["ra", "dec", "pixscale"]], [[15, 0.5, 0.24], [150, -1, 0.48]])
    table["r50"] = [1.0, 2] * u.kpc
    table.write(file, overwrite=True, **({"format": "votable"} if suffix == "vot" else {}))
    with pytest.raises(CatalogError, match="column r50 has the unit 'kpc', where numbers in arcsec are needed"):
        read_requests(read_catalog(file), file.name, 424)


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "parquet"])
def test_a_sky_coord_of_astropy_is_a_position(tmp_path, suffix):
    place = SkyCoord([10.0, 150] * u.deg, [5.0, -1] * u.deg)
    QTable({"name": ["a", "b"], "coord": place, "r50": [6.0, 12] * u.arcsec}).write(tmp_path / f"t.{suffix}")
    requests, _ = read_requests(read_catalog(tmp_path / f"t.{suffix}"), "t", 424)
    np.testing.assert_allclose(requests[["ra", "dec", "pixscale"]], [[10, 5, 0.24], [150, -1, 0.48]])


def test_a_sky_coord_of_another_frame_is_a_position(tmp_path):
    place = SkyCoord([10.0] * u.deg, [5.0] * u.deg).galactic
    QTable({"name": ["a"], "coord": place, "r50": [6.0]}).write(tmp_path / "t.ecsv")
    requests, _ = read_requests(read_catalog(tmp_path / "t.ecsv"), "t", 424)
    np.testing.assert_allclose(requests[["ra", "dec"]], [[10, 5]])


def test_hours_for_degrees_are_not_asked_for(tmp_path):
    names = [str(number) for number in range(12)]
    hours = table(*names).assign(ra=np.linspace(0.5, 23.5, 12))
    with Service() as service:
        with pytest.raises(CatalogError, match=r"gz\.csv: no ra of 12 rows is beyond 24; say which unit .* --ra-unit"):
            fetch(hours, tmp_path, service, name="gz.csv")
        assert not service.asked
        assert fetch(hours, tmp_path / "deg", service, ra_unit="deg").done == 12
        assert sorted(service.asked) == pytest.approx(hours["ra"].round(7).tolist())
        service.asked.clear()
        assert fetch(hours, tmp_path / "hour", service, ra_unit="hour").done == 12
    assert sorted(service.asked) == pytest.approx((15 * hours["ra"]).round(7).tolist())


def test_a_table_of_sizes_needs_a_common_name(tmp_path, capsys):
    table("a").drop(columns="dr8_id").to_csv(tmp_path / "gz.csv", index=False)
    pd.DataFrame({"dr8_id": ["a"], "est_petro_th50": [4.0]}).to_csv(tmp_path / "sizes.csv", index=False)
    command = ["fetch", "cutouts", str(tmp_path / "gz.csv"), "--sizes", str(tmp_path / "sizes.csv")]
    assert cli.main([*command, "--root", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zoobot3d: the catalogue has no column dr8_id to find its galaxies in ")


def test_sami_targets_are_named_by_catid(tmp_path):
    targets = pd.DataFrame({"CATID": [9011.0, 9012.0], "RA_OBJ": [150.0, 151.0], "DEC_OBJ": 2.0, "est_petro_th50": 5.0})
    with Service() as service:
        assert fetch(targets, tmp_path, service, center="sami").done == 2
    assert list(ledger(tmp_path).index) == ["9011", "9012"]
    assert (tmp_path / "images" / "fits" / "9011.fits").exists()


def test_names_become_safe_file_names_and_must_stay_different(tmp_path):
    with Service() as service:
        summary = fetch(table("a/b", "a_b", "A_B", "../c"), tmp_path, service)
    assert (summary.done, summary.failed) == (4, 0)
    names = sorted(path.name for path in (tmp_path / "images" / "fits").iterdir())
    assert names == ["A_B-3.fits", "_._c.fits", "a_b-2.fits", "a_b.fits"]


def test_rows_that_cannot_be_asked_for_are_recorded_and_never_sent(tmp_path):
    galaxies = table(*"abcdaf", dec=[2.0, np.nan, 2.0, 95.0, 2.0, 2.0])
    galaxies.loc[2, "est_dr5_pixscale"] = np.nan
    galaxies.loc[5, "dr8_id"] = None
    with Service() as service:
        summary = fetch(galaxies, tmp_path, service, name="gz.csv")
    assert service.asked == [150.0]  # the first "a"
    assert (summary.done, summary.failed) == (1, 4)
    failed = pd.read_csv(summary.failed_csv)
    assert failed["dr8_id"].fillna("").tolist() == ["b", "c", "d", ""]
    assert failed["note"].eq("mine").all()
    reasons = failed["reason"].tolist()
    assert reasons[0] == reasons[2] == "no usable position in ra, dec"
    assert reasons[1].startswith("no est_dr5_pixscale")
    assert reasons[3] == "no name in dr8_id"
    notes = "\n".join(summary.notes)
    assert "gz.csv: 1 of 6 rows repeat an earlier dr8_id (first: row 4, a)" in notes
    assert "gz.csv: 1 of 6 rows has no dec (first: row 1)" in notes


# Many: what goes wrong


def zeros(request):
    return asked_image(request, value=0.0)


def test_all_zero_image_is_not_believed_at_once(tmp_path):
    hiccups = iter([zeros] * 3)
    with Service({150.0: lambda request: next(hiccups, asked_image)(request)}) as service:
        assert fetch(table("a"), tmp_path, service).reasons == {}
        assert len(service.asked) == 4
    assert ledger(tmp_path).loc["a", "status"] == "good"


def test_all_zero_image_is_believed_when_there_are_fewer_attempts(tmp_path):
    with Service({150.0: zeros}) as service:
        options = FetchOptions(rate=0, attempts=2, first_wait=0.001)
        assert fetch(table("a"), tmp_path, service, options=options).reasons == {EMPTY: 1}
        assert len(service.asked) == 2


def test_galaxy_outside_the_footprint_is_recorded_and_not_asked_for_again(tmp_path):
    with Service({151.0: zeros}) as service:
        summary = fetch(table("a", "b"), tmp_path, service)
        assert (summary.done, summary.failed, summary.reasons) == (2, 0, {EMPTY: 1})
        assert service.asked.count(151.0) == legacy_survey.ASK_EMPTY
        assert ledger(tmp_path)["status"].to_dict() == {"a": "good", "b": "empty"}
        assert ledger(tmp_path).loc["b", ["fits_bytes", "relative_desi_jpg_loc"]].tolist() == [0, ""]
        assert set(tree(tmp_path)) == {"images/fits/a.fits", "images/jpg/a.jpg", "images/fetched.parquet"}
        asked = len(service.asked)
        summary = fetch(table("a", "b"), tmp_path, service)
        assert (summary.skipped, summary.reasons, len(service.asked)) == (2, {EMPTY: 1}, asked)
        service.answers.clear()
        assert fetch(table("a", "b"), tmp_path, service, retry_empty=True).done == 1
        assert ledger(tmp_path)["status"].tolist() == ["good", "good"]


def test_dead_bands_are_kept_and_named(tmp_path):
    def dead(request):
        body = bytearray(asked_image(request).body)
        start = len(body) - len(body) % 2880 - (SIZE * SIZE * 12 // 2880 + 1) * 2880
        plane = SIZE * SIZE * 4
        body[start : start + plane * 3 // 4] = bytes(plane * 3 // 4)  # three quarters of g
        body[start + plane : start + plane + plane // 4] = bytes(plane // 4)  # a quarter of r
        body[start + 2 * plane : start + 3 * plane] = bytes(plane)  # all of z
        return Response(bytes(body), "image/fits")

    with Service({150.0: dead}) as service:
        fetch(table("a", "b"), tmp_path, service)
    assert ledger(tmp_path)["warning"].to_dict() == {"a": "dead bands: g, z", "b": ""}
    assert (tmp_path / "images" / "jpg" / "a.jpg").exists()


def test_example_dead_bands(tmp_path, examples):
    content = (examples / "desi_fits" / "09782d_example_bad_pix.fits").read_bytes()
    galaxies = table("a", ra=147.456742041, dec=1.09255093644, est_dr5_pixscale=0.130249347687)
    with Service({round(147.456742041, 7): Response(content, "image/fits")}) as service:
        fetch(galaxies, tmp_path, service, size=424)
    assert ledger(tmp_path).loc["a", "warning"] == "dead bands: g, r"
    assert (tmp_path / "images" / "fits" / "a.fits").read_bytes() == content


def test_failed_galaxy_comes_with_its_list_when_the_service_is_mended(tmp_path):
    with Service() as calm:
        fetch(table("a", "b", "c"), tmp_path / "calm", calm)
    with Service({151.0: Response(b"no", "text/plain", 404)}) as service:
        summary = fetch(table("a", "b", "c"), tmp_path / "root", service)
        assert (summary.done, summary.failed) == (2, 1)
        assert next(iter(summary.reasons)).startswith("answered 404")
        assert summary.failed_csv == tmp_path / "root" / "images" / "failed.csv"
        failed = read_catalog(summary.failed_csv)
        assert list(failed.columns) == [*table("a").columns, "url", "reason"]
        assert failed.loc[0, ["dr8_id", "ra", "note"]].tolist() == ["b", 151.0, "mine"]
        assert f"ra={151:.7f}" in failed["url"][0]
        assert not list((tmp_path / "root").rglob("b.*"))
        again = fetch(failed, tmp_path / "root", service)
        assert (again.failed, read_catalog(again.failed_csv).columns.tolist()) == (1, failed.columns.tolist())
        service.answers.clear()
        summary = fetch(read_catalog(summary.failed_csv), tmp_path / "root", service)
        assert (summary.done, summary.failed, summary.failed_csv) == (1, 0, None)
    assert tree(tmp_path / "root") == tree(tmp_path / "calm")


def test_what_failed_leaves_no_file_of_an_earlier_request(tmp_path):
    with Service() as service:
        fetch(table("a"), tmp_path, service)
        service.answers[150.0] = Response(b"no", "text/plain", 404)
        assert fetch(table("a"), tmp_path, service, layer="ls-dr9").failed == 1
    assert set(tree(tmp_path)) == {"images/fetched.parquet", "images/failed.csv"}
    assert len(ledger(tmp_path)) == 0


def test_service_that_does_not_answer_is_told_before_anything_changes(tmp_path, archive):
    with Service() as service:
        fetch(table("a"), tmp_path, service)
    before = tree(tmp_path)
    options = FetchOptions(rate=0, attempts=2, first_wait=0.001)
    with pytest.raises(FetchError, match="attempts"):
        fetch(table("a", "b"), tmp_path, service, layer="ls-dr9", options=options)  # it has stopped
    with pytest.raises(FetchError, match="answered 400"):
        fetch(table("a", "b"), tmp_path, archive, layer="ls-dr99", options=options)
    assert tree(tmp_path) == before


# Kills


CODE = """
import sys, pandas
from zoobot_3d.sources.legacy_survey import *
from zoobot_3d.sources.fetch import *
if __name__ == "__main__":
    root, url, layer, cluster, table = sys.argv[1:]
    fetch_cutouts(pandas.read_csv(table), root, cluster=cluster,
                  cutouts=CutoutOptions(url=url, layer=layer, size=96, shard_size=2),
                  options=FetchOptions(connections=2, rate=0), progress=False)
"""


def killed_at(nth, service, folder, root, galaxies, *, layer="ls-dr8", cluster="local"):
    """Kill a fetch while it waits for its `nth` answer."""
    stuck, released = threading.Event(), threading.Event()
    answer, count = service.answer, iter(range(1000))

    def hold(request):
        if next(count) == nth:
            stuck.set()
        if stuck.is_set():
            released.wait(60)
        return answer(request)

    galaxies.to_csv(folder / "table.csv", index=False)
    (folder / "fetch.py").write_text(CODE)
    service.server.routes["/viewer/fits-cutout"] = hold
    command = [sys.executable, folder / "fetch.py", root, service.cutout_url, layer, cluster, folder / "table.csv"]
    with subprocess.Popen(command) as process:
        assert stuck.wait(60)
        process.send_signal(signal.SIGKILL)
    released.set()
    service.server.routes["/viewer/fits-cutout"] = answer


def test_kill_in_the_middle_and_the_same_call_give_the_same_files(tmp_path):
    with Service() as service:
        fetch(table("a", "b"), tmp_path / "calm", service, shard_size=2)
        killed_at(2, service, tmp_path, tmp_path / "killed", table("a", "b"))
        left = set(tree(tmp_path / "killed"))
        assert "images/fetched.parquet" not in left
        assert any(name.startswith("images/.fetch-") for name in left)
        fetch(table("a", "b"), tmp_path / "killed", service, shard_size=2)
    assert tree(tmp_path / "killed") == tree(tmp_path / "calm")


def test_kill_in_a_change_of_layer_leaves_nothing_that_passes_for_the_old_one(tmp_path):
    """FITS files of all layers have one size: only what the ledger says can tell them apart."""

    def of_layer(request):
        return asked_image(request, value=1.5 if request.query["layer"] == "ls-dr9" else 1.0)

    with Service({150.0: of_layer, 151.0: of_layer}) as service:
        fetch(table("a", "b"), tmp_path / "calm", service)
        fetch(table("a", "b"), tmp_path / "root", service)
        killed_at(2, service, tmp_path, tmp_path / "root", table("a", "b"), layer="ls-dr9")
        assert len(ledger(tmp_path / "root")) == 0
        fetch(table("a", "b"), tmp_path / "root", service)
    assert tree(tmp_path / "root") == tree(tmp_path / "calm")


@pytest.mark.slow  # starts a Dask cluster twice
def test_kill_on_workers_goes_on_from_the_shards_that_are_done(tmp_path):
    galaxies = table(*"abcdefgh")
    with Service() as service:
        fetch(galaxies, tmp_path / "calm", service)
        killed_at(6, service, tmp_path, tmp_path / "killed", galaxies, cluster="local:2")
        service.asked.clear()
        fetch(galaxies, tmp_path / "killed", service, cluster="local:2", shard_size=2)
        # Each worker held one shard of two at most when it died; what was done by then is not asked for again.
        assert len(set(service.asked)) < len(galaxies)
    assert tree(tmp_path / "killed") == tree(tmp_path / "calm")


# A cutout that was written here reads as one that was fetched


def test_check_accepts_what_the_package_writes(tmp_path):
    grid = PixelGrid((16, 16), 0.3, 10.0, -5.0)
    write_cutout(tmp_path / "a.fits", np.ones((3, 16, 16)), grid)
    answer = legacy_survey._Answer("", 10.0, -5.0, 0.3, 16)
    cube, found = answer.read(tmp_path / "a.fits")
    assert cube.shape == (3, 16, 16)
    assert found.affine_to(grid) == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=1e-6)
    with pytest.raises(BadFileError, match="centred on"):
        legacy_survey._Answer("", 10.0, -5.0 + 0.2 / 3600, 0.3, 16).read(tmp_path / "a.fits")
