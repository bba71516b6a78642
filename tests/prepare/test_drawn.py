import json

import numpy as np
import pandas as pd
import pytest

from zoobot_3d import cli
from zoobot_3d.dataset.data import MaskDataset
from zoobot_3d.errors import BadFileError
from zoobot_3d.io import read_picture
from zoobot_3d.marks.galaxy_builder import SDSS_PIXSCALE
from zoobot_3d.prepare.drawn import DRAWN_MASTER, grey_picture, import_galaxy_builder

SIZE = 160  # px: 4 Petrosian radii of 40 px


@pytest.fixture
def folder(tmp_path):
    """Two galaxies, one of them without its picture: a bright bar along x + y, with its marks."""
    source = tmp_path / "drawn"
    source.mkdir()
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    along, across = (x + y) / np.sqrt(2), (y - x) / np.sqrt(2)
    image = 0.01 + 1.0 * ((np.abs(along) < 24) & (np.abs(across) < 6))
    mask = np.zeros((SIZE, SIZE), bool)
    np.savez(source / "587000000000000001.npz", image=image, mask=mask)
    middle = (SIZE - 1) / 2
    bar = {"mux": middle, "muy": middle, "Re": 12.0, "q": 0.25, "roll": np.pi / 4}
    line = [[middle + 40, middle + dy] for dy in range(-10, 11)]
    rows = [{"classification_id": i, "bar": bar, "arms": [{"points": line}] if i < 5 else []} for i in range(10)]
    for name in ("587000000000000001", "587000000000000002"):
        content = {"volunteers": rows, "consensus": {"disk": None}, "fitted_arms": []}
        (source / f"{name}.json").write_text(json.dumps(content))
    names = ["587000000000000001", "587000000000000002"]
    petro = 40 * SDSS_PIXSCALE
    pd.DataFrame({"dr7objid": names, "petro_theta_arcsec": petro}).to_csv(source / "catalog.csv", index=False)
    return source


def test_pictures_and_marks_lie_on_each_other(folder, tmp_path):
    summary = import_galaxy_builder(folder, tmp_path / "data")
    assert summary.galaxies == 1 and list(summary.failed) == ["587000000000000002"]
    catalog = pd.read_parquet(tmp_path / "data" / DRAWN_MASTER)
    assert catalog["dr8_id"].tolist() == ["gb_587000000000000001"]
    assert catalog[["n_asked_spiral", "n_marked_spiral", "n_asked_bar", "n_marked_bar"]].to_numpy().tolist() == [
        [10, 5, 10, 10]
    ]
    item = MaskDataset(catalog, tmp_path / "data", 106, 1.0)[0]
    bright, voted = item["image"][0].numpy() > 128, item["bar_mask"].numpy() > 0.5
    assert (bright & voted).sum() > 0.85 * (bright | voted).sum()
    assert item["spiral_mask"].max() == pytest.approx(0.5)
    picture = read_picture(tmp_path / "data" / catalog["relative_desi_jpg_loc"][0])
    assert picture.shape == (424, 424, 3) and np.ptp(picture.astype(int), axis=2).max() == 0


def test_grey_pictures_are_black_at_the_sky_and_white_at_the_top():
    grey = grey_picture(np.array([[0.0, -1.0], [1.0, 100.0]]))
    assert grey[0, 0, 0] == grey[0, 1, 0] == 0 and grey[1, 1, 0] == 255 and 0 < grey[1, 0, 0] < 255


def test_from_the_command_line(folder, tmp_path, capsys):
    assert cli.main(["import-galaxy-builder", str(folder), "--root", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert "1 galaxies: " in out and "failed: 587000000000000002.npz: no such file" in out
    assert cli.main(["import-galaxy-builder", str(tmp_path), "--root", str(tmp_path / "data")]) == 2


def test_nothing_to_read(folder, tmp_path):
    (folder / "587000000000000001.npz").unlink()
    with pytest.raises(BadFileError, match="no galaxy can be read"):
        import_galaxy_builder(folder, tmp_path / "data")
