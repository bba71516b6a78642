import numpy as np
import pandas as pd
import pytest

from zoobot_3d.catalog.galaxy_files import galaxy_files
from zoobot_3d.dataset.sample import read_sample
from zoobot_3d.errors import BadFileError, BadPictureError, CatalogError, ConfigError
from zoobot_3d.io import read_picture, write_jpeg
from zoobot_3d.simulate.hosts import Host, dress, read_hosts, simulate_in_hosts
from zoobot_3d.simulate.light import disk_ratio
from zoobot_3d.simulate.population import draw_disk


@pytest.fixture(scope="module")
def host(examples):
    """A round, smooth galaxy without arms or bar."""
    return Host(read_picture(examples / "gz_decals_jpg" / "jpg" / f"{NAME}.jpg"), 181.0, 20.0, barred=False)


NAME = "J090251.45+014052.0"


def test_a_bare_disk_has_the_ratio_one_and_arms_add_light():
    galaxy = draw_disk(np.random.default_rng(1), disk_scale=5.0, axis_ratio=0.8, pa=30.0)
    xi, eta = np.meshgrid(np.linspace(-15, 15, 61), np.linspace(-15, 15, 61))
    ratio = disk_ratio(galaxy, xi, eta)
    assert ratio.shape == (3, 61, 61) and np.isfinite(ratio).all()
    assert ratio[0].max() > 1.3
    assert ratio[0].max() > ratio[2].max()  # arms are blue
    arm = galaxy.arms[0]
    radius = np.full((1, 1), np.sqrt(arm.r_start * arm.r_end))
    ridge = arm.ridge_angle(radius)
    on = disk_ratio(galaxy, *galaxy.to_sky(radius * np.cos(ridge), radius * np.sin(ridge)))
    assert on[1] > 1.1


def test_a_disk_that_is_there_keeps_its_shape_and_its_bar():
    galaxy = draw_disk(np.random.default_rng(2), disk_scale=4.0, axis_ratio=0.5, pa=120.0, bar=(3.0, 20.0))
    assert galaxy.axis_ratio == pytest.approx(0.5, abs=1e-6)
    bar = galaxy.bar
    assert bar.strength == 0
    # Projected back, the bar of the plane is that of the sky.
    turn = np.radians(bar.angle)
    xi, eta = galaxy.to_sky(bar.intrinsic_length * np.cos(turn), bar.intrinsic_length * np.sin(turn))
    assert np.hypot(xi, eta) == pytest.approx(3.0, rel=1e-6)
    assert np.degrees(np.arctan2(xi, eta)) % 180 == pytest.approx(20.0, abs=1e-4)


def test_arms_go_into_the_picture_and_into_the_marks(host):
    drawn = [dress(host, np.random.default_rng(seed)) for seed in range(6)]
    changed = [np.abs(galaxy.picture.astype(int) - host.picture).max(-1) > 4 for galaxy in drawn]
    assert all(0.001 < change.mean() < 0.4 for change in changed)
    assert all(not change[:40].any() for change in changed)  # the sky above is as it was
    assert sum(galaxy.marks.spiral.n_marked for galaxy in drawn) > 20
    again = dress(host, np.random.default_rng(0))
    assert (again.picture == drawn[0].picture).all() and again.marks.spiral == drawn[0].marks.spiral


def test_a_plain_host_stays_as_it_is_and_is_called_smooth(host):
    plain = [dress(host, np.random.default_rng(seed), plain=True) for seed in range(4)]
    assert all((galaxy.picture == host.picture).all() for galaxy in plain)
    assert sum(galaxy.marks.spiral.n_marked for galaxy in plain) <= 6
    assert all(galaxy.marks.bar.n_asked >= 14 for galaxy in plain)


def test_where_nobody_can_tell_nobody_is_asked_about_bars(host):
    unsure = Host(host.picture, host.ra, host.dec)
    assert dress(unsure, np.random.default_rng(0)).marks.bar.n_asked == 0


def test_a_folder_of_hosts_makes_samples_to_train_on(host, tmp_path):
    write_jpeg(tmp_path / "host.jpg", host.picture, 95)
    table = pd.DataFrame(
        {"picture": [str(tmp_path / "host.jpg")] * 2, "ra": [10.0, 20.0], "dec": [0.0, 5.0], "barred": ["no", "yes"],
         "bar_x": 212.0, "bar_y": 212.0, "bar_semi_length": 30.0, "bar_semi_width": 8.0, "bar_angle": 45.0}
    )  # fmt: skip
    rows = simulate_in_hosts(tmp_path / "out", table, 5, seed=1, progress=False)
    assert len(rows) == 5
    samples = [read_sample(galaxy, 64, 0.8) for galaxy in galaxy_files(rows, tmp_path / "out")]
    assert all(sample.image.max() > 100 for sample in samples)
    assert sum(int(sample.votes.max()) for sample in samples) > 5
    assert simulate_in_hosts(tmp_path / "out", table, 5, seed=1, progress=False).equals(rows)
    with pytest.raises(ConfigError, match=r"hosted\.parquet: made of other hosts, numbers or seed"):
        simulate_in_hosts(tmp_path / "out", table, 5, seed=2, progress=False)
    first = (tmp_path / "out" / rows["relative_desi_jpg_loc"][0]).read_bytes()
    other = simulate_in_hosts(tmp_path / "again", table, 5, seed=1, progress=False)
    assert (tmp_path / "again" / other["relative_desi_jpg_loc"][0]).read_bytes() == first


def test_a_host_that_cannot_be_used_is_named(tmp_path):
    table = pd.DataFrame({"picture": [str(tmp_path / "none.jpg")], "ra": 1.0, "dec": 2.0, "barred": ""})
    with pytest.raises(BadFileError, match=r"none\.jpg: no such file"):
        simulate_in_hosts(tmp_path, table, 2, progress=False)
    write_jpeg(tmp_path / "none.jpg", np.zeros((424, 424, 3), np.uint8), 90)
    with pytest.raises(CatalogError, match=r"none\.jpg: barred, but no numbers for its bar; fill bar_x"):
        simulate_in_hosts(tmp_path, table.assign(barred="yes"), 2, progress=False)
    write_jpeg(tmp_path / "none.jpg", np.zeros((64, 64, 3), np.uint8), 90)
    with pytest.raises(BadPictureError, match=r"none\.jpg: is 64 x 64 pixels; a host has 424 a side"):
        simulate_in_hosts(tmp_path, table, 2, progress=False)


def test_hosts_are_read_from_a_list_named_after_positions(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(
        "id,split,barred,bar_x,bar_y,bar_angle,bar_semi_length,bar_semi_width\n"
        "J001655.18-002739.1,train,no,,,,,\nJ002658.19-014709.9,test,yes,213.1,211.8,11.9,30.7,9.3\n"
    )
    (host,) = read_hosts(table, tmp_path, "test").to_dict("records")
    assert (host["ra"], host["dec"]) == pytest.approx((6.742458, -1.786083), abs=1e-5)
    assert host["picture"] == str(tmp_path / "J002658.19-014709.9.jpg")
    assert (host["barred"], float(host["bar_angle"])) == ("yes", 11.9)
    with pytest.raises(CatalogError, match="none: no such folder; give the one with the hosts' pictures"):
        read_hosts(table, tmp_path / "none", "test")
    table.write_text("id,split,barred\nNGC 1300,test,yes\n")
    with pytest.raises(CatalogError, match=r"list\.csv: NGC 1300 is no position; name hosts such as J001655"):
        read_hosts(table, tmp_path, "test")
    table.write_text("id,split\nJ002658.19-014709.9,test\n")
    with pytest.raises(CatalogError, match="barred"):
        read_hosts(table, tmp_path, "test")
