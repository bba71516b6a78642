import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zoobot_3d import cli, io
from zoobot_3d.errors import ConfigError
from zoobot_3d.infer.radec import parse_radec
from zoobot_3d.simulate.archive import Archive
from zoobot_3d.simulate.survey import simulate_survey


@pytest.mark.parametrize("text", ["164.1 12.5", "164.1, 12.5", "10:56:24 +12:30:00", "10h56m24s +12d30m00s"])
def test_positions_are_read(text):
    place = parse_radec(text)
    assert (place.ra.deg, place.dec.deg) == pytest.approx((164.1, 12.5))


@pytest.mark.parametrize("text", ["164.1", "164.1 95", "400 3", "here there", "nan 3"])
def test_what_is_no_position_is_said(text):
    with pytest.raises(ConfigError, match=r"--radec '.*': not a position"):
        parse_radec(text)


@pytest.mark.parametrize("scale", ["-1", "0", "nan"])
def test_a_scale_that_is_none_is_said(tmp_path, tiny_bundle, capsys, scale):
    command = ["predict", "--radec", "164.1 12.5", "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out")]
    assert cli.main([*command, f"--pixscale={scale}"]) == 2
    assert capsys.readouterr().err.startswith(f"zoobot3d: --pixscale {scale}: give a positive number")
    assert not (tmp_path / "out").exists()


def test_from_a_position_to_masks_with_nothing_on_disk(tmp_path, tiny_bundle, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    simulate_survey(tmp_path / "sky", 1, seed=4, images_only=True, workers=1, progress=False)
    catalog = io.read_table(tmp_path / "sky" / "truth.parquet")
    ra, dec = catalog["ra"][0], catalog["dec"][0]
    command = ["predict", "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out"), "--rate", "0"]
    with Archive(tmp_path / "sky") as archive:
        command += ["--url", archive.cutout_url, "--radec"]
        assert cli.main([*command, f"{ra:.6f} {dec:.6f}", "--pixscale", "0.2"]) == 0
        asked = len(archive.requests)
        assert not shown
        assert cli.main([*command, f"{ra:.6f} {dec:.6f}", "--pixscale", "0.2", "--show"]) == 0
        assert len(archive.requests) == asked  # the second time it is on disk
        # In the plane of the Milky Way there is no Legacy Surveys image.
        assert cli.main([*command, "266.4 -29.0", "--first-wait", "0"]) == 2
        asked = len(archive.requests)
        assert cli.main([*command, "266.4 -29.0", "--first-wait", "0"]) == 2
        assert len(archive.requests) > asked  # but zeros may have been a bad day
    out = capsys.readouterr()
    assert "all-zero image" in out.err and out.err.splitlines()[-1].startswith("zoobot3d: 266.40000 -29.00000: ")
    (folder,) = (
        path for path in (tmp_path / "out").iterdir() if path.name.endswith("_0.2_ls-dr8") and "-29" not in path.name
    )
    with fits.open(next((folder / "masks").glob("*.fits"))) as hdus:
        assert hdus[0].data.shape == (2, 424, 424)
        x, y = WCS(hdus[0].header).celestial.world_to_pixel_values(ra, dec)
    assert (x, y) == pytest.approx((211.5, 211.5), abs=0.1)
    assert shown == [(folder / "figure.png").resolve().as_uri()]
    figure = io.read_picture(folder / "figure.png")
    assert figure.shape[1] > 1000 and np.ptp(figure) == 255


def test_uncertainty_at_a_position(tmp_path, tiny_bundle, capsys):
    simulate_survey(tmp_path / "sky", 1, seed=4, images_only=True, workers=1, progress=False)
    catalog = io.read_table(tmp_path / "sky" / "truth.parquet")
    command = ["predict", "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out"), "--rate", "0", "--tta"]
    with Archive(tmp_path / "sky") as archive:
        command += ["--uncertainty", "--url", archive.cutout_url, "--pixscale", "0.2"]
        assert cli.main([*command, "--radec", f"{catalog['ra'][0]:.6f} {catalog['dec'][0]:.6f}"]) == 0
    (masks,) = (tmp_path / "out").glob("*/masks/*.fits")
    planes = fits.getdata(masks)
    assert planes.shape == (4, 424, 424) and planes[2:].max() > 0
    figure = io.read_picture(next((tmp_path / "out").glob("*/figure.png")))
    assert figure.shape[1] > 2.5 * figure.shape[0]  # a third panel shows the standard deviation


def test_pictures_or_a_position_but_not_both(tiny_bundle, tmp_path, capsys):
    assert cli.main(["predict", "--bundle", str(tiny_bundle), "--out", str(tmp_path)]) == 2
    assert cli.main(["predict", ".", "--radec", "1 2", "--bundle", str(tiny_bundle), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("give pictures or a catalogue, or --radec") == 2
