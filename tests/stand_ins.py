"""Stand-ins for the small real files that some tests use: simulated ones, with the same names, in the same formats.

They let the same tests run where there are no real files. What cannot be made without repeating the package's own work,
such as the official masks of a real galaxy, is left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from zoobot_3d.io import read_cutout, write_jpeg
from zoobot_3d.marks.galaxy_builder import SDSS_PIXSCALE
from zoobot_3d.simulate.galaxies import DECALS, Galaxy, draw_galaxy, render
from zoobot_3d.simulate.sky_service import fits_bytes
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz

CUTOUTS = {  # centre (deg), arcsec per pixel, pixels: those of the real files
    "737ac3_example_c": (147.176446949, -0.354030416643, 0.1432296, 424),
    "a11c60_example_e": (0.148466888391, -1.76322756483, 0.14141076087999996, 424),
    "09782d_example_bad_pix": (147.456742041, 1.09255093644, 0.130249347687, 424),
    "83e22c_example_incomplete": (18.066262308, -6.05180745469, 0.23593873981, 424),
    "d33102_temp_small": (146.714208787, -1.04128156958, 0.262, 225),
}
HOST = "J090251.45+014052.0"
MARKED = "1-379196_127_14728482"
DRAWN = "587741722819494015"


def write_stand_ins(root: Path) -> None:
    """Write a folder like that of the real files.

    Parameters
    ----------
    root : pathlib.Path
        An empty folder.
    """
    rng = np.random.default_rng(7)
    _write_cutouts(root / "desi_fits", rng)
    _write_pictures(root, rng)
    _write_marks(root / "gz3d_marks" / MARKED)
    _write_bar_lengths(root / "catalogs" / "hoyle2011" / "data_external_hoyle_barlengths.csv", rng)
    _write_drawn(root / "galaxy_builder" / "drawn", rng)


def picture(galaxy: Galaxy, rng: np.random.Generator) -> np.ndarray:
    """A galaxy as Galaxy Zoo shows it: (424, 424, 3), row 0 north."""
    grid = PixelGrid((424, 424), galaxy.pixscale, galaxy.ra, galaxy.dec)
    return rgb_from_grz(render(galaxy, grid, rng, instrument=DECALS)[:, ::-1])


def _write_cutouts(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for name, (ra, dec, pixscale, size) in CUTOUTS.items():
        grid = PixelGrid((size, size), pixscale, ra, dec)
        cube = render(draw_galaxy(rng, ra=ra, dec=dec, kind="spiral"), grid, rng, instrument=DECALS)
        if "bad_pix" in name:  # rows without data
            cube[0, : round(0.76 * size)] = 0
            cube[1, : round(0.73 * size)] = 0
        content = fits_bytes(cube, grid, "grz", "DR9")
        (folder / f"{name}.fits").write_bytes(content[:1_389_044] if "incomplete" in name else content)
    cube, _ = read_cutout(folder / "a11c60_example_e.fits")
    write_jpeg(folder / "18abcc_example_e.jpeg", rgb_from_grz(cube[:, ::-1]))


def _write_pictures(root: Path, rng: np.random.Generator) -> None:
    """Galaxies without arms, among them a round host, and some for the names in the list of hosts."""
    plain = [picture(draw_galaxy(rng, ra=181.0, dec=20.0, kind="lenticular"), rng) for _ in range(3)]
    for number, image in enumerate(plain[1:]):
        write_jpeg(root / "gz2_pictures" / "non_spirals" / f"plain_{number}.jpg", image)
    jpg = root / "gz_decals_jpg" / "jpg"
    for number, image in enumerate(plain):
        write_jpeg(jpg / f"J00000{number}.00+000000.0.jpg", image)
    disk = draw_galaxy(np.random.default_rng(3), ra=181.0, dec=20.0, kind="lenticular")
    write_jpeg(jpg / f"{HOST}.jpg", picture(disk, rng), 95)
    hosts = pd.read_csv(Path(__file__).parents[1] / "tools" / "hosts.csv")["id"]
    for number, name in enumerate(hosts):
        if not (jpg / f"{name}.jpg").exists():
            os.link(jpg / f"J00000{number % 3}.00+000000.0.jpg", jpg / f"{name}.jpg")


def _write_marks(folder: Path) -> None:
    """A GZ3D file, and its tables as astropy reads them."""
    survey = simulate_survey(folder.parent / ".survey", 1, seed=8, workers=1, files="no-cutouts", progress=False)
    folder.mkdir(parents=True)
    (made,) = (survey.root / "gz3d").iterdir()
    file = folder / f"gz3d_{MARKED}.reconstructed.fits.gz"
    with fits.open(made) as hdus:
        hdus[5].data["MANGAID"] = "1-379196"
        hdus.writeto(file)
    with fits.open(file) as hdus:
        tables = {str(number): [_plain(row) for row in hdus[number].data] for number in range(5, 11)}
    (folder / "hdu5-10_tables.json").write_text(json.dumps(tables))


def _plain(row: fits.FITS_record) -> dict[str, object]:
    values = {name: row[name] for name in row.array.names}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


def _write_bar_lengths(path: Path, rng: np.random.Generator) -> None:
    n = 3150
    frame = pd.DataFrame({"objid": 587722981747982465 + np.arange(n) * 1009})
    frame["ra"], frame["dec"] = rng.uniform(0, 360, n), rng.uniform(-10, 60, n)
    frame["length_avg"] = np.r_[5.841887, rng.uniform(1, 20, n - 1)]
    for name in ("length_stdev", "width_avg", "width_stdev", "length_scaled"):
        frame[name] = rng.uniform(0.1, 2, n)
    frame["bar_meas"] = np.r_[3, rng.integers(3, 12, n - 1)]
    path.parent.mkdir(parents=True)
    frame.to_csv(path, index=False, lineterminator="\n")


def _write_drawn(folder: Path, rng: np.random.Generator) -> None:
    """A galaxy of Galaxy Builder: two logarithmic spirals and a bar, drawn by thirty volunteers."""
    size, centre, petro = 134, 67.0, 13.9 / SDSS_PIXSCALE
    y, x = np.mgrid[:size, :size] - centre
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    ridge = np.cos(2 * (angle - np.log(radius + 1) / np.tan(np.radians(20))))
    image = 0.3 * np.exp(-radius / (petro / 3)) * (1 + 0.9 * ridge)
    t = np.linspace(np.log(petro / 4), np.log(petro), 30)
    volunteers = []
    for number in range(30):
        lines = []
        for start in (0.0, np.pi):
            phi = t / np.tan(np.radians(20)) + start + rng.normal(0, 0.05)
            lines.append({"points": (centre + np.exp(t) * np.array([np.cos(phi), np.sin(phi)])).T.tolist()})
        bar = {"mux": centre, "muy": centre, "Re": 6.0, "q": 0.3, "roll": 1.7} if number % 3 == 0 else None
        volunteers.append(
            {"classification_id": 1000 + number, "disk": None, "bulge": None, "bar": bar, "arms": lines[: number % 4]}
        )
    disk = {"mux": centre, "muy": centre, "Re": petro / 2, "q": 1.0, "roll": 0.0, "n": 1.0, "c": 2.0}
    content = {"volunteers": volunteers, "consensus": {"disk": disk, "bulge": None, "bar": None}, "fitted_arms": []}
    folder.mkdir(parents=True)
    (folder / f"{DRAWN}.json").write_text(json.dumps(content))
    arrays = {"image": image.astype(np.float32), "mask": np.zeros(image.shape, bool)}
    np.savez(folder / f"{DRAWN}.npz", **arrays, psf=np.full((11, 11), 1 / 121, np.float32), multiplier=np.array(1.0))
    header = "dr7objid,ra,dec,redshift,petro_theta_arcsec,n_volunteers,n_with_arms,n_bars,n_fitted_arms,size_px"
    (folder / "catalog.csv").write_text(f"{header}\n{DRAWN},118.7,45.8,0.02,13.9,30,22,10,0,{size}\n")


def shared(folder: Path, make: Callable[[Path], None]) -> Path:
    """Let one of several test processes make a folder, and the others wait for it."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder.parent / f"{folder.name}.done").exists():
            folder.mkdir()
            make(folder)
            (folder.parent / f"{folder.name}.done").touch()
    return folder
