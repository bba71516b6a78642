"""The simulated sky as a cutout service sees it: any position, scale and size, as arrays, FITS or JPEG bytes.

Galaxies are drawn again from the survey's seed and shown on the grid asked for, so the same galaxy comes back whatever
the centre. The same question always has the same answer, to the byte. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zoobot_3d import schema
from zoobot_3d.errors import BadFileError
from zoobot_3d.io import JPEG_QUALITY, read_table
from zoobot_3d.simulate.catalogs import CATALOGUES, galactic_latitude
from zoobot_3d.simulate.galaxies import DECALS, Galaxy, draw_galaxy, render
from zoobot_3d.simulate.light import extent
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz

__all__ = ["SkyService", "fits_bytes", "in_footprint", "jpeg_bytes"]

Floats = NDArray[np.float32]

_FARTHEST = 600.0  # arcsec from a galaxy to the last thing that belongs to its scene, at the very most
_SAME_PLACE = 0.003  # arcsec: a position that was printed with six decimals is still the survey's own
_SAME_SCALE = 1e-5
_COMMENTS = (
    "  FITS (Flexible Image Transport System) format is defined in 'Astronomy",
    "  and Astrophysics', volume 376, page 359; bibcode: 2001A&A...376..359H",
)


class SkyService:
    """The sky of one simulated survey.

    Parameters
    ----------
    survey : str or os.PathLike
        Folder that `zoobot_3d.simulate.survey.simulate_survey` wrote; its seed and its table of truths are read.

    Raises
    ------
    BadFileError
        If either is missing or unreadable.
    """

    def __init__(self, survey: str | os.PathLike[str]) -> None:
        root = Path(survey)
        try:
            self._seed = int(json.loads((root / "survey.json").read_text())["seed"])
        except (OSError, ValueError, KeyError, TypeError):
            fix = "give the folder of a simulated survey (zoobot3d simulate)"
            raise BadFileError(root / "survey.json", "missing, or not a survey's description", fix) from None
        truth = read_table(root / CATALOGUES["truth"], [schema.COL_ID, "ra", "dec"])
        # A galaxy's number in the survey, which seeds it, ends its name.
        self._numbers = truth[schema.COL_ID].str.rpartition("_")[2].to_numpy(np.int64)
        self._positions = truth[["ra", "dec"]].to_numpy(np.float64)
        self._tree = cKDTree(_unit_vectors(*self._positions.T))
        self._draw = lru_cache(maxsize=1024)(self._draw_again)

    def cutout(self, ra: float, dec: float, pixscale: float, size: int) -> Floats:
        """Show a square of the sky.

        The grid of a galaxy's own picture gives the pixels that the survey holds; elsewhere sky noise follows from
        the grid. Neighbours in the survey appear too, except on such an own grid: the survey's files do not have them.

        Parameters
        ----------
        ra, dec : float
            Centre, deg.
        pixscale : float
            Arcsec per pixel.
        size : int
            Pixels along a side.

        Returns
        -------
        numpy.ndarray
            (3, size, size) nanomaggies, bands g, r, z, row 0 north; zero where the survey never looked.

        Raises
        ------
        GridError
            If there is no such grid.
        """
        grid = PixelGrid((size, size), pixscale, ra, dec)
        if not in_footprint(ra, dec):
            return np.zeros((3, size, size), np.float32)
        members = self._in_field(grid)
        if members and size == schema.GZ_FIELD_PX:
            row, separation = members[0]
            own, rng = self._galaxy(row)
            if separation < _SAME_PLACE and abs(pixscale / own.pixscale - 1) < _SAME_SCALE:
                own_grid = PixelGrid(grid.shape, own.pixscale, own.ra, own.dec)
                return render(own, own_grid, rng, instrument=DECALS)
        rng = _generator(f"{self._seed} {ra % 360:.7f} {dec:.7f} {pixscale:.7f} {size}")
        galaxies = [self._draw(row)[0] for row, _ in members]
        first = galaxies[0] if galaxies else _out_of_field(grid)
        cube = render(first, grid, rng, instrument=DECALS)
        for galaxy in galaxies[1:]:  # light adds up; the noise is there already
            cube += render(galaxy, grid, None, instrument=DECALS)
        return cube

    def _in_field(self, grid: PixelGrid) -> list[tuple[int, float]]:
        """Rows of the galaxies whose scenes reach into a grid, and their distances to its centre, nearest first."""
        assert grid.ra is not None and grid.dec is not None
        centre = _unit_vectors(np.array([grid.ra]), np.array([grid.dec]))[0]
        corner = np.hypot(*grid.field_of_view) / 2
        rows = self._tree.query_ball_point(centre, _chord(corner + _FARTHEST))
        chords = np.linalg.norm(self._tree.data[rows] - centre, axis=1)
        found = [(int(row), _arcsec(chord)) for row, chord in zip(rows, chords, strict=True)]
        return sorted(
            ((row, away) for row, away in found if away < corner + self._draw(row)[1]), key=lambda member: member[1]
        )

    def _draw_again(self, row: int) -> tuple[Galaxy, float]:
        """Make a galaxy's recipe, and how far its scene reaches, arcsec."""
        galaxy, _ = self._galaxy(row)
        # Scenery ends 0.75 of a Galaxy Zoo field away, companions 8 radii; what stands there has a size of its own.
        reach = max(extent(galaxy), 0.75 * schema.GZ_FIELD_PX * galaxy.pixscale, 11 * galaxy.petro_th50) + 30
        return galaxy, min(reach, _FARTHEST)

    def _galaxy(self, row: int) -> tuple[Galaxy, np.random.Generator]:
        """Draw a galaxy as `simulate_survey` did, with the generator as it was left."""
        rng = np.random.default_rng(np.random.SeedSequence((self._seed, int(self._numbers[row]))))
        ra, dec = self._positions[row]
        return draw_galaxy(rng, ra=float(ra), dec=float(dec)), rng


def in_footprint(ra: float, dec: float) -> bool:
    """Tell whether the simulated Legacy Surveys looked there: where `sky_positions` places galaxies.

    Parameters
    ----------
    ra, dec : float
        Position, deg.
    """
    latitude = galactic_latitude(np.array([ra], np.float64), np.array([dec], np.float64))[0]
    return bool(-18 <= dec <= 60 and abs(latitude) > 20)


def fits_bytes(cube: Floats, grid: PixelGrid, bands: str, version: str) -> bytes:
    """Write a cutout as the real service does, card by card as in its files.

    Parameters
    ----------
    cube : numpy.ndarray
        (3, H, W) nanomaggies, bands g, r, z, row 0 north.
    grid : PixelGrid
        Where it is.
    bands : str
        Bands wanted, of ``grz``, in the order wanted; one alone gives an image with two axes.
    version : str
        Data release, e.g. ``DR9``.
    """
    planes = np.stack([cube["grz".index(band), ::-1] for band in bands])
    hdu = fits.PrimaryHDU(np.ascontiguousarray(planes if len(bands) > 1 else planes[0], np.float32))
    position = grid.to_header()
    del position["RADESYS"]  # the real files leave it out
    cards: list[tuple[str, ...] | fits.Card] = [("COMMENT", line) for line in _COMMENTS]
    cards += [("SURVEY", "DECaLS"), ("VERSION", version), ("IMAGETYP", "image"), ("BANDS", bands)]
    cards += [(f"BAND{index}", band) for index, band in enumerate(bands)]
    cards += position.cards
    cards += [("IMAGEW", float(grid.shape[1]), "Image width"), ("IMAGEH", float(grid.shape[0]), "Image height")]
    for card in cards:
        hdu.header.append(card, end=True)
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    return buffer.getvalue()


def jpeg_bytes(cube: Floats) -> bytes:
    """Write a cutout (3, H, W), row 0 north, as the JPEG that Galaxy Zoo would show."""
    picture = rgb_from_grz(cube[:, ::-1])  # it takes FITS row order
    _, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return content.tobytes()


def _generator(question: str) -> np.random.Generator:
    """Source of chance that follows from a text alone, in every process and year."""
    return np.random.default_rng(list(hashlib.sha256(question.encode()).digest()))


@lru_cache(maxsize=1)
def _some_galaxy() -> Galaxy:
    return draw_galaxy(np.random.default_rng(0), ra=0.0, dec=0.0)


def _out_of_field(grid: PixelGrid) -> Galaxy:
    """Give a galaxy so far south of a grid that nothing of it is seen: what is rendered is blank sky."""
    assert grid.ra is not None and grid.dec is not None
    return replace(_some_galaxy(), ra=grid.ra, dec=grid.dec - (2 * _FARTHEST + max(grid.field_of_view)) / 3600)


# Angles on the sky, as chords of the unit sphere


def _unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    a, d = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _chord(arcsec: float) -> float:
    return float(2 * np.sin(np.radians(arcsec / 3600) / 2))


def _arcsec(chord: float) -> float:
    return float(np.degrees(2 * np.arcsin(min(chord / 2, 1.0))) * 3600)
