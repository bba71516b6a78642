import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zoobot_3d import cli, io
from zoobot_3d.simulate.archive import Archive
from zoobot_3d.simulate.survey import simulate_survey


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Two galaxies behind a cutout service."""
    root = tmp_path_factory.mktemp("sky")
    simulate_survey(root, 2, seed=4, files="pictures", workers=1, progress=False)
    with Archive(root) as archive:
        yield archive, io.read_table(root / "truth.parquet")[["ra", "dec"]].to_numpy(float)


def run(tiny_bundle, out, sky, *words):
    network = ["--rate", "0", "--first-wait", "0", "--url", sky[0].cutout_url]
    return cli.main(["predict", *words, "--bundle", str(tiny_bundle), "--out", str(out), *network])


@pytest.mark.parametrize("scale", ["-1", "0", "nan"])
def test_a_scale_that_is_none_is_said(tmp_path, tiny_bundle, capsys, scale):
    command = ["predict", "--radec", "164.1 12.5", "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out")]
    assert cli.main([*command, f"--pixscale={scale}"]) == 2
    assert capsys.readouterr().err.startswith(f"zoobot3d: --pixscale {scale}: give a positive number")
    assert not (tmp_path / "out").exists()


def test_from_positions_to_masks_with_nothing_on_disk(tmp_path, tiny_bundle, sky, capsys, monkeypatch):
    shown, out = [], tmp_path / "out"
    monkeypatch.setattr("webbrowser.open", shown.append)
    archive, ((ra, dec), other) = sky
    words = ["--radec", f"{ra:.6f}", f"{dec:.6f}", "--pixscale", "0.2"]
    assert run(tiny_bundle, out, sky, *words) == 0
    asked = len(archive.requests)
    assert f"position: RA {ra:.6f}, Dec {dec:+.6f} deg" in capsys.readouterr().out
    assert run(tiny_bundle, out, sky, *words, "--show") == 0
    assert len(archive.requests) == asked  # the second time it is on disk
    assert run(tiny_bundle, out, sky, "--radec", f"{other[0]:.6f} {other[1]:.6f}", "--pixscale", "0.2") == 0
    assert "1 galaxies of an earlier run" in capsys.readouterr().out
    (figure,) = shown
    picture = io.read_picture(figure.removeprefix("file://"))
    assert picture.shape[1] > 1000 and np.ptp(picture) == 255
    files = sorted((out / "masks").glob("*.fits"))
    assert len(files) == 2
    found = []
    for file in files:
        with fits.open(file) as hdus:
            assert hdus["SPIRAL"].data.shape == (424, 424)
            found.append(WCS(hdus["BAR"].header).pixel_to_world_values(211.5, 211.5))
    assert np.hypot(*(np.sort(np.array(found)[:, 0]) - np.sort([ra, other[0]]))) < 1e-5


def test_outside_the_footprint_is_one_line_and_is_asked_again(tmp_path, tiny_bundle, sky, capsys):
    # In the plane of the Milky Way there is no Legacy Surveys image.
    for _ in range(2):
        asked = len(sky[0].requests)
        assert run(tiny_bundle, tmp_path / "out", sky, "--radec", "266.4", "-29.0") == 2
        assert len(sky[0].requests) > asked  # zeros may have been a bad day
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("zoobot3d: 266.40000 -29.00000: all-zero image")
        assert "fits-cutout?ra=266.4" in error


def test_without_a_network_one_line_names_the_address(tmp_path, tiny_bundle, capsys):
    command = ["predict", "--radec", "164.1", "12.5", "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--url", "http://127.0.0.1:9", "--first-wait", "0"]) == 2
    out = capsys.readouterr()
    assert "fetching 1 of 1 cutouts, 2 MB, from http://127.0.0.1:9" in out.err
    (line,) = [line for line in out.err.splitlines() if line.startswith("zoobot3d: ")]
    assert "http://127.0.0.1:9/fits-cutout?ra=164.1" in line


def test_uncertainty_at_a_position(tmp_path, tiny_bundle, sky):
    ra, dec = sky[1][0]
    words = ["--uncertainty", "--tta", "--pixscale", "0.2", "--radec", f"{ra:.6f} {dec:.6f}"]
    assert run(tiny_bundle, tmp_path / "out", sky, *words) == 0
    (masks,) = (tmp_path / "out" / "masks").glob("*.fits")
    with fits.open(masks) as hdus:
        assert np.nanmax(hdus["BAR_SIGMA"].data) > 0
    (figure,) = (tmp_path / "out" / "figures").glob("*.png")
    picture = io.read_picture(figure)
    assert picture.shape[1] > 2.5 * picture.shape[0]  # a third panel shows the standard deviation


@pytest.mark.parametrize(
    "columns",
    [
        {"Name": ["one", "two"], "RAJ2000": "ra", "DEJ2000": "dec", "Radius": [5.0, 6.0]},
        {"OBJID": [587722981742084144, 587722981742084145], "ra": "ra", "DEC": "dec", "petro_th50": [5.0, 6.0]},
        {"id": ["007", "NA"], "ra": "ra", "dec": "dec", "est_dr5_pixscale": [0.2, 0.24]},
    ],
)
def test_a_table_of_galaxies_to_masks_in_one_command(tmp_path, tiny_bundle, sky, columns, capsys):
    archive, positions = sky
    places = {"ra": positions[:, 0], "dec": positions[:, 1]}
    table = pd.DataFrame({k: places[v] if isinstance(v, str) else v for k, v in columns.items()})
    table.loc[2] = [type(table.iloc[0, 0])(9), 266.4, -29.0, 5.0]
    table.to_csv(tmp_path / "galaxies.csv", index=False)
    assert run(tiny_bundle, tmp_path / "out", sky, str(tmp_path / "galaxies.csv"), "--fetch") == 0
    rows = pd.read_parquet(tmp_path / "out" / "shards").set_index("id")
    names = list(table.iloc[:, 0])  # integers stay integers
    assert list(rows.index) == names
    assert rows["error"].isna().tolist() == [True, True, False]
    assert rows["error"].iloc[2].startswith("all-zero image: outside the footprint")
    np.testing.assert_allclose(rows["ra"].iloc[:2], positions[:, 0], atol=1e-6)
    np.testing.assert_allclose(rows["pixscale"].iloc[:2], [0.2, 0.24], rtol=1e-5)
    assert len(list((tmp_path / "out" / "masks").glob("*.fits"))) == 2
    asked = len(archive.requests)
    assert run(tiny_bundle, tmp_path / "out", sky, str(tmp_path / "galaxies.csv"), "--fetch") == 0
    assert len(archive.requests) == asked
    assert "0 predicted, 2 done before, 1 failed" in capsys.readouterr().out


def test_a_table_without_sizes_says_so_in_the_warning(tmp_path, tiny_bundle, sky):
    table = pd.DataFrame({"name": ["a", "b"], "ra": [sky[1][0][0], 999.0], "dec": sky[1][:, 1]})
    table.to_csv(tmp_path / "t.csv", index=False)
    assert run(tiny_bundle, tmp_path / "out", sky, str(tmp_path / "t.csv"), "--fetch") == 0
    rows = pd.read_parquet(tmp_path / "out" / "shards").set_index("id")
    assert rows.loc["a", "warning"].startswith("size unknown: it was measured in a picture of 111 arcsec")
    assert rows.loc["b", "error"] == "no usable position in ra, dec"


def test_the_record_of_a_fetch_is_an_input_too(tmp_path, tiny_bundle, sky):
    ra, dec = sky[1][0]
    pd.DataFrame({"name": ["a"], "ra": [ra], "dec": [dec], "pixscale": [0.2]}).to_csv(tmp_path / "t.csv", index=False)
    root = tmp_path / "data"
    assert cli.main(["fetch", "cutouts", str(tmp_path / "t.csv"), "--root", str(root), "--url", sky[0].cutout_url]) == 0
    command = ["predict", str(root / "images" / "fetched.parquet"), "--bundle", str(tiny_bundle)]
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == 0
    moved = (root / "images" / "fetched.parquet").rename(tmp_path / "fetched.parquet")
    command[1] = str(moved)
    assert cli.main([*command, "--out", str(tmp_path / "two")]) == 2
    assert cli.main([*command, "--out", str(tmp_path / "three"), "--root", str(root)]) == 0


def test_names_are_looked_up_or_the_trouble_is_said(tmp_path, tiny_bundle, sky, capsys, monkeypatch):
    from astropy.coordinates import SkyCoord

    places = {"NGC 1": SkyCoord(*sky[1][0], unit="deg")}
    monkeypatch.setattr("zoobot_3d.sources.sesame.SkyCoord.from_name", lambda name, cache: places[name])
    assert run(tiny_bundle, tmp_path / "out", sky, "--name", "NGC 1") == 0
    assert list(pd.read_parquet(tmp_path / "out" / "shards")["id"]) == ["NGC 1"]
    assert run(tiny_bundle, tmp_path / "out", sky, "--name", "nothing") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "to resolve 'nothing'" in error and error.endswith("give the position with --radec instead")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "give pictures or a table, or --radec"),
        ([".", "--radec", "1 2"], "give pictures or a table, or --radec"),
        ([".", "--layer", "ls-dr9"], "--layer does nothing here; it belongs to --fetch"),
        ([".", "--ra-column", "x"], "--ra-column does nothing here"),
        ([".", "--show"], "--show does nothing here; it belongs to --radec"),
        (["--radec", "1 2", "--root", "."], "--root does nothing here"),
        (["--radec", "1,5 2,5"], "decimal commas"),
        (["--fetch"], "give pictures or a table"),
    ],
)
def test_options_that_do_not_go_together(tiny_bundle, tmp_path, capsys, words, reason):
    assert cli.main(["predict", *words, "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
