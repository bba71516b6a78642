import io
import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import httpx
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zoobot_3d import schema
from zoobot_3d.errors import BadFileError, GridError
from zoobot_3d.io import read_cutout, read_table
from zoobot_3d.marks.gz3d import read_gz3d
from zoobot_3d.simulate.archive import Archive, _size
from zoobot_3d.simulate.catalogs import sky_positions
from zoobot_3d.simulate.faulty_server import Faults
from zoobot_3d.simulate.galaxies import draw_galaxy, render
from zoobot_3d.simulate.scene import scenery
from zoobot_3d.simulate.sky_service import SkyService, in_footprint
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sky.grid import PixelGrid

get = partial(httpx.get, verify=False, timeout=60)  # the certificates of the machine take longer to load than answers
N, SEED = 3, 8  # three bright spirals that are not lopsided
PLANE = (266.4, 0.0)  # ra, dec in the Milky Way: dec alone would be inside
BLANK = (180.0, 30.0)  # inside the footprint, no galaxy near


@pytest.fixture(scope="session")
def small_survey(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("survey")
    simulate_survey(root, N, seed=SEED, workers=1, progress=False)
    return root


@pytest.fixture(scope="session")
def master(small_survey) -> pd.DataFrame:
    return read_table(small_survey / schema.DEFAULT_MASTER)


@pytest.fixture(scope="session")
def archive(small_survey):
    with Archive(small_survey) as running:
        yield running


def cutout(archive: Archive, kind: str = "fits", **query) -> httpx.Response:
    return get(f"{archive.cutout_url}/{kind}-cutout", params={"layer": "ls-dr9", **query})


def opened(response: httpx.Response) -> fits.PrimaryHDU:
    assert (response.status_code, response.headers["content-type"]) == (200, "image/fits")
    with fits.open(io.BytesIO(response.content)) as hdus:
        return hdus[0].copy()


def own_grid(row: pd.Series) -> dict[str, float]:
    return {"ra": row[schema.COL_RA], "dec": row[schema.COL_DEC], "pixscale": row[schema.COL_PIXSCALE], "size": 424}


# Cutouts


def test_the_surveys_own_grid_gives_its_own_pixels(archive, small_survey, master):
    for _, row in master.iterrows():
        served = opened(cutout(archive, **own_grid(row), bands="grz"))
        stored = fits.getdata(small_survey / row[schema.COL_FITS])
        np.testing.assert_array_equal(served.data, stored)
        picture = cutout(archive, "jpeg", **own_grid(row))
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.content == (small_survey / row[schema.COL_JPG]).read_bytes()


def test_own_grid_survives_rounding_in_the_url(archive, small_survey, master):
    row = master.iloc[0]
    query = own_grid(row) | {name: f"{row[name]:.6f}" for name in (schema.COL_RA, schema.COL_DEC)}
    served = opened(cutout(archive, **query, bands="grz"))
    np.testing.assert_array_equal(served.data, fits.getdata(small_survey / row[schema.COL_FITS]))


CARDS = (
    "SIMPLE BITPIX NAXIS NAXIS1 NAXIS2 NAXIS3 EXTEND COMMENT COMMENT SURVEY VERSION IMAGETYP BANDS BAND0 BAND1 BAND2 "
)
CARDS += "CTYPE1 CTYPE2 CRVAL1 CRVAL2 CRPIX1 CRPIX2 CD1_1 CD1_2 CD2_1 CD2_2 IMAGEW IMAGEH"


def test_file_is_like_the_real_ones(archive, master):
    served = fits.Header.fromstring(cutout(archive, **own_grid(master.iloc[0])).content[:2880])
    assert list(served) == CARDS.split()
    same = {"BITPIX": -32, "NAXIS1": 424, "NAXIS3": 3, "SURVEY": "DECaLS", "IMAGETYP": "image", "BANDS": "grz"}
    same |= {"BAND0": "g", "BAND2": "z", "CTYPE1": "RA---TAN", "CRPIX1": 212.5, "CRPIX2": 212.5}
    assert {name: served[name] for name in same} == same
    assert served["VERSION"] == "DR9" and served["CD1_1"] == pytest.approx(-served["CD2_2"])
    assert str(served["COMMENT"]).endswith("and Astrophysics', volume 376, page 359; bibcode: 2001A&A...376..359H")


def test_file_reads_as_a_cutout_on_the_grid_asked_for(archive, tmp_path):
    path = tmp_path / "cutout.fits"
    path.write_bytes(cutout(archive, ra=BLANK[0], dec=BLANK[1], pixscale=0.4, size=51).content)
    cube, grid = read_cutout(path)
    assert (cube.shape, grid.shape, grid.center) == ((3, 51, 51), (51, 51), (25.0, 25.0))
    assert (grid.ra, grid.dec, grid.pixscale) == pytest.approx((*BLANK, 0.4), rel=1e-12)


@pytest.mark.parametrize("bands", ["z", "zg", "rzg"])
def test_bands_come_in_the_order_asked_for(archive, master, bands):
    query = own_grid(master.iloc[1])
    all_three = opened(cutout(archive, **query)).data
    some = opened(cutout(archive, **query, bands=bands))
    assert some.header["BANDS"] == bands and some.header["BAND0"] == bands[0]
    wanted = all_three[["grz".index(band) for band in bands]]
    np.testing.assert_array_equal(some.data, wanted[0] if len(bands) == 1 else wanted)


def offset(hdu: fits.PrimaryHDU, ra: float, dec: float) -> tuple[float, float]:
    """Pixels from where the WCS puts the galaxy to its centroid, in a Gaussian window (2 arcsec) that follows it."""
    x0, y0 = (float(v) for v in WCS(hdu.header, naxis=2).wcs_world2pix(ra, dec, 0))
    rows, columns = np.indices(hdu.data.shape[1:])
    sigma = 2.0 / (3600 * hdu.header["CD2_2"])
    x, y = x0, y0
    for _ in range(10):
        weight = hdu.data[1] * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
        # A window draws a centroid half way back to its own middle: twice the step (Bertin, XWIN_IMAGE).
        x += 2 * ((weight * columns).sum() / weight.sum() - x)
        y += 2 * ((weight * rows).sum() / weight.sum() - y)
    return x - x0, y - y0


@pytest.mark.parametrize("east, north", [(0.0, 0.12), (7.0, -5.0), (-13.3, 11.1)])
@pytest.mark.parametrize("pixscale", [0.262, 0.131, 0.5])
def test_galaxy_is_where_it_is_whatever_the_centre(archive, master, east, north, pixscale):
    for _, row in master.iterrows():
        ra, dec = row[schema.COL_RA], row[schema.COL_DEC]
        centre = {"ra": ra + east / 3600 / np.cos(np.radians(dec)), "dec": dec + north / 3600}
        # An asymmetric galaxy is off its own centre, by as much in every cutout.
        own = opened(cutout(archive, ra=ra, dec=dec, pixscale=pixscale, size=301))
        moved = opened(cutout(archive, **centre, pixscale=pixscale, size=280))
        there, here = offset(moved, ra, dec), offset(own, ra, dec)
        assert np.hypot(there[0] - here[0], there[1] - here[1]) < 0.2
        assert np.hypot(*here) * pixscale < 0.4


def test_same_question_same_bytes_also_from_many_threads_and_another_server(archive, small_survey, master):
    row = master.iloc[2]
    queries = [
        {"ra": row[schema.COL_RA] + step / 36000, "dec": row[schema.COL_DEC], "pixscale": 0.3, "size": 120}
        for step in range(4)
    ]
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda query: cutout(archive, **query).content, queries * 4))
    with Archive(small_survey) as another:
        once = [cutout(another, **query).content for query in queries]
    assert many == once * 4
    assert len(set(once)) == len(once)


def test_what_is_around_a_galaxy_is_seen_without_it(archive, master, small_survey):
    sky = SkyService(small_survey)
    galaxy, _ = sky._galaxy(2)
    around = scenery(galaxy)
    far = np.flatnonzero((np.hypot(around.xi, around.eta) > 50) & (around.size == 0))
    star = far[np.argmax(around.flux[far, 1])]
    centre = PixelGrid((1, 1), 1.0, galaxy.ra, galaxy.dec).wcs.wcs_pix2world(-around.xi[star], -around.eta[star], 0)
    ra, dec = (float(v) for v in centre)
    data = opened(cutout(archive, ra=ra, dec=dec, pixscale=0.262, size=21)).data[1]
    assert np.unravel_index(data.argmax(), data.shape) == (10, 10)
    assert data[10, 10] > 20 * 0.0046


def test_blank_sky_holds_noise_only(archive):
    data = opened(cutout(archive, ra=BLANK[0], dec=BLANK[1], pixscale=0.262, size=200)).data
    # Of the sky of real cutouts: 0.0027, 0.0046, 0.0112 nanomaggies.
    assert np.std(data, axis=(1, 2)) == pytest.approx([0.0027, 0.0046, 0.0112], rel=0.1)
    assert np.abs(data / np.std(data, axis=(1, 2), keepdims=True)).max() < 6


@pytest.mark.parametrize("ra, dec", [PLANE, (180.0, -18.1), (180.0, 60.1), (10.0, -89.0)])
def test_outside_the_footprint_the_image_is_zero(archive, ra, dec):
    assert not in_footprint(ra, dec)
    assert not opened(cutout(archive, ra=ra, dec=dec, pixscale=0.262, size=30)).data.any()
    picture = cv2.imdecode(np.frombuffer(cutout(archive, "jpeg", ra=ra, dec=dec, size=30).content, np.uint8), 1)
    assert picture.shape == (30, 30, 3) and np.ptp(picture) == 0


def test_footprint_is_where_galaxies_are():
    assert all(in_footprint(ra, dec) for ra, dec in sky_positions(500, 0))


def test_two_galaxies_in_one_field_add_up(small_survey, master, tmp_path):
    """A third galaxy moved to 40 arcsec from the first is seen next to it."""
    for name in ("survey.json", "truth.parquet"):
        shutil.copy(small_survey / name, tmp_path / name)
    truth = pd.read_parquet(tmp_path / "truth.parquet")
    truth.loc[2, ["ra", "dec"]] = truth.loc[0, "ra"], truth.loc[0, "dec"] + 40 / 3600
    truth.iloc[::-1].to_parquet(tmp_path / "truth.parquet")  # a galaxy's number is in its name, not its row
    ra, dec = truth.loc[0, "ra"], truth.loc[0, "dec"] + 20 / 3600
    alone, together = (SkyService(root).cutout(ra, dec, 0.5, 200) for root in (small_survey, tmp_path))
    number = int(truth.loc[2, "dr8_id"].rpartition("_")[2])
    rng = np.random.default_rng(np.random.SeedSequence((SEED, number)))
    second = draw_galaxy(rng, ra=ra, dec=dec + 20 / 3600)
    difference = together - alone - render(second, PixelGrid((200, 200), 0.5, ra, dec), None)
    # But for the noise of more photons, the sum of the two.
    assert np.abs(difference[1]).max() < 0.05 * together[1].max()
    assert together[1, 58:63, 98:103].max() > 20 * np.std(difference[1])  # 40 px north of the middle


@pytest.mark.parametrize(
    "query, what",
    [
        ({"layer": "ls-dr7"}, "no layer"),
        ({"bands": "gri"}, "no bands"),
        ({"bands": "gg"}, "no bands"),
        ({"bands": ""}, "no bands"),
        ({"size": 3001}, "size is 3001"),
        ({"size": 0}, "size is 0"),
        ({"size": 10.5}, "size is 10.5"),
        ({"pixscale": 0}, "pixscale is 0"),
        ({"pixscale": -1}, "pixscale is -1"),
        ({"pixscale": 400}, "10 deg"),
        ({"ra": "12h"}, "ra is"),
        ({"ra": ""}, "ra is"),
        ({"dec": "nan"}, "dec is"),
        ({"dec": 90.5}, "no such position"),
        ({"ra": None}, "no ra"),
    ],
)
@pytest.mark.parametrize("kind", ["fits", "jpeg"])
def test_bad_question_is_an_error_page(archive, kind, query, what):
    good = {"ra": 180.0, "dec": 30.0, "pixscale": 0.262, "size": 100, "layer": "ls-dr9", "bands": "grz"}
    asked = {name: value for name, value in (good | query).items() if value is not None}
    response = get(f"{archive.cutout_url}/{kind}-cutout", params=asked)
    assert response.status_code == 400 and response.headers["content-type"].startswith("text/html")
    assert what in response.text


def test_largest_size_is_served(archive):
    response = cutout(archive, ra=PLANE[0], dec=PLANE[1], size=3000, bands="g")
    assert opened(response).data.shape == (3000, 3000)


def test_defaults_are_the_real_services(archive):
    header = opened(get(f"{archive.cutout_url}/fits-cutout?ra=180&dec=30")).header
    assert (header["NAXIS1"], header["BANDS"], header["VERSION"]) == (256, "grz", "DR8")
    assert header["CD2_2"] * 3600 == pytest.approx(0.262)


# The directory of GZ3D files


def test_listing_looks_like_apache_and_links_every_file(archive, small_survey):
    page = get(archive.gz3d_url)
    assert page.headers["content-type"] == "text/html;charset=UTF-8"
    assert "<title>Index of /sas/dr17/env/MANGA_MORPHOLOGY/galaxyzoo3d/v4_0_0</title>" in page.text
    links = re.findall(r'<a href="([^"]*)">', page.text)
    assert links[:2] == ["?C=N;O=D", "?C=M;O=A"]
    assert links[4] == "/sas/dr17/env/MANGA_MORPHOLOGY/galaxyzoo3d/"
    assert links[5:] == sorted(path.name for path in (small_survey / "gz3d").iterdir())
    assert len(re.findall(r"2021-11-30 18:20  </td><td align=\"right\">( \d\d|\d\d\d|\d\.\d)[KM]<", page.text)) == N
    assert get(archive.gz3d_url, params="C=S;O=D").text == page.text


def test_without_its_last_slash_the_directory_redirects(archive):
    response = get(archive.gz3d_url.rstrip("/"))
    assert (response.status_code, response.headers["location"]) == (301, httpx.URL(archive.gz3d_url).path)


def test_files_come_whole_and_in_part(archive, small_survey, tmp_path):
    path = min((small_survey / "gz3d").iterdir())
    whole = get(archive.gz3d_url + path.name)
    assert whole.content == path.read_bytes()
    # A client that decoded the transfer would have no gzip file left.
    assert whole.headers["content-type"] == "application/x-gzip" and "content-encoding" not in whole.headers
    rest = get(archive.gz3d_url + path.name, headers={"Range": "bytes=1000-"})
    assert (rest.status_code, rest.content) == (206, whole.content[1000:])
    (tmp_path / path.name).write_bytes(whole.content)
    assert read_gz3d(tmp_path / path.name).marks.n_asked["spiral"] >= 1


@pytest.mark.parametrize("name", ["gz3d_nothing.fits.gz", "../survey.json", "%2e%2e/survey.json", ".hidden", "sub/x"])
def test_nothing_else_is_served(archive, name):
    url = httpx.URL(archive.gz3d_url.replace("/v4_0_0/", "/v4_0_0/" + name))
    assert get(url).status_code == 404


def test_an_absolute_path_is_no_way_out(archive, small_survey):
    assert get(archive.gz3d_url + str(small_survey / "survey.json")).status_code == 404


def test_listing_of_the_whole_archive(small_survey):
    names = [f"gz3d_1-{number}_127_{14_000_000 + number}.fits.gz" for number in range(29_800)]
    with Archive(small_survey, listing_extra=names) as big:
        page = get(big.gz3d_url).text
        assert get(big.gz3d_url + names[0]).status_code == 404
    links = re.findall(r'<a href="(gz3d_[^"]*)">', page)
    assert len(links) == 29_800 + N and links == sorted(links) and set(names) < set(links)


@pytest.mark.parametrize(
    "size, text",
    [(0, "  0 "), (512, "512 "), (1024, "1.0K"), (34_500, " 34K"), (1_258_291, "1.2M"), (972 * 1024, "972K"),
     (1000 * 1024, "1.0M"), (10 * 1024**2 - 1, " 10M")],
)  # fmt: skip
def test_sizes_as_apache_writes_them(size, text):
    assert _size(size) == text


# Faults, and the rest


def test_faulty_zeros_are_a_whole_file_of_nothing(small_survey, master):
    query = own_grid(master.iloc[0])
    with Archive(small_survey, faults=Faults(1.0, ("zeros",), most_in_a_row=1)) as faulty:
        zero, good = (opened(cutout(faulty, **query)) for _ in range(2))
        assert get(faulty.gz3d_url).status_code == 200  # zeros are for images only
        assert [served.fault for served in faulty.requests] == ["zeros", None, None]
    assert not zero.data.any() and good.data.any()
    assert zero.header == good.header


def test_faults_reach_every_service(small_survey, master):
    with Archive(small_survey, faults=Faults(1.0, ("500",), most_in_a_row=1)) as faulty:
        name = Path(master.iloc[0][schema.COL_GZ3D]).name
        for url in (faulty.gz3d_url, faulty.gz3d_url + name, f"{faulty.cutout_url}/fits-cutout?ra=180&dec=30&size=9"):
            assert [get(url).status_code for _ in range(2)] == [500, 200]


def test_catalogues_are_served(archive):
    gz2 = pd.read_csv(io.BytesIO(get(archive.gz2_url).content), compression="gzip")
    assert {"dr7objid", "ra", "dec"} <= set(gz2)
    assert {"objid", "length_avg"} <= set(pd.read_csv(io.StringIO(get(archive.hoyle_url).text)))
    record = get(f"{archive.zenodo_url}/8360385").json()
    assert record["files"][0]["links"]["self"].startswith(archive.url)
    query = {"REQUEST": "doQuery", "LANG": "ADQL", "QUERY": "SELECT * FROM InputCatGAMADR3"}
    assert "VOTABLE" in httpx.post(f"{archive.sami_tap_url}/sync", data=query, timeout=60).text


def test_requests_are_logged(small_survey):
    with Archive(small_survey) as quiet:
        cutout(quiet, ra=180.0, dec=30.0, size=9)
        assert [(served.status, served.url.partition("?")[0]) for served in quiet.requests] == [
            (200, "/viewer/fits-cutout")
        ]


def test_every_service_has_an_address(archive):
    assert list(archive.urls()) == ["gz3d", "cutouts", "gz-desi", "gz2", "sami", "hoyle"]
    assert all(url.startswith(f"{archive.url}/") for url in archive.urls().values())


def test_waiting_ends_with_the_server_or_the_user(small_survey, monkeypatch):
    with Archive(small_survey) as running:
        waiting = threading.Thread(target=running.wait, daemon=True)
        waiting.start()
    waiting.join(10)
    assert not waiting.is_alive()

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running.server.stopping, "wait", interrupted)
    running.wait()


@pytest.mark.parametrize("text", [None, "{", json.dumps({"format": 1}), json.dumps([1])])
def test_a_folder_without_a_survey_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "survey.json").write_text(text)
    with pytest.raises(BadFileError, match=r"survey\.json: missing, or not a survey's description; give the folder"):
        SkyService(tmp_path)


def test_an_impossible_grid_is_refused(small_survey):
    with pytest.raises(GridError, match="pixscale"):
        SkyService(small_survey).cutout(180.0, 30.0, -1.0, 10)


def test_a_survey_without_fits_files_can_still_be_shown(tmp_path):
    simulate_survey(tmp_path, 1, seed=1, workers=1, files="pictures", progress=False)
    row = read_table(tmp_path / schema.DEFAULT_MASTER).iloc[0]
    with Archive(tmp_path) as archive:
        assert cutout(archive, "jpeg", **own_grid(row)).content == (tmp_path / row[schema.COL_JPG]).read_bytes()
        assert "Parent Directory" in get(archive.gz3d_url).text
