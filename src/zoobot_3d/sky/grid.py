"""Where an array lies on the sky: PixelGrid, and the one way to move an array from one grid to another.

Arrays are row 0 north, column 0 east, so on every grid x grows to the west and y to the south. Knows nothing of files:
turning a FITS array that starts in the south is the business of `zoobot_3d.io`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from zoobot_3d.errors import GridError
from zoobot_3d.sky.header import SkyImage, axes_at, read_wcs

__all__ = ["TOLERANCE", "PixelGrid", "departure", "resample", "starts_south"]

TOLERANCE = 0.05
"""Pixels; a place that is wrong by less is right."""


@dataclass(frozen=True)
class PixelGrid:
    """A north-up grid of square pixels on the sky, in the gnomonic (TAN) projection.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, ``(H, W)``.
    pixscale : float
        Side of a pixel in arcsec; NaN if it is unknown, which it can only be without a position.
    ra, dec : float, optional
        Position in degrees (ICRS) of the reference pixel. Without them the grid floats: two floating grids, or a
        floating and a fixed one, are taken to be concentric.
    center : tuple of float, optional
        The reference pixel as 0-based (x, y); the middle of the array, ``((W - 1) / 2, (H - 1) / 2)``, by default.

    Raises
    ------
    GridError
        If the shape, scale or position is impossible.
    """

    shape: tuple[int, int]
    pixscale: float
    ra: float | None = None
    dec: float | None = None
    center: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Validate, and make every field a plain Python number so that grids compare and serialise."""
        try:
            height, width = (int(n) for n in self.shape)
        except (TypeError, ValueError):
            raise GridError(f"shape must be (rows, columns), got {self.shape!r}") from None
        if height < 1 or width < 1:
            raise GridError(f"shape must be positive, got {self.shape}")
        if not ((np.isfinite(self.pixscale) and self.pixscale > 0) or (np.isnan(self.pixscale) and self.ra is None)):
            raise GridError(f"pixscale must be positive arcsec per pixel, got {self.pixscale}")
        if (self.ra is None) != (self.dec is None):
            raise GridError("give both ra and dec, or neither")
        if self.ra is not None and self.dec is not None and not (np.isfinite(self.ra) and abs(self.dec) <= 90):
            raise GridError(f"no such position: ra={self.ra}, dec={self.dec} (degrees)")
        middle = ((width - 1) / 2, (height - 1) / 2)
        center = middle if self.center is None else (float(self.center[0]), float(self.center[1]))
        for name, value in (
            ("shape", (height, width)),
            ("pixscale", float(self.pixscale)),
            ("ra", None if self.ra is None else float(self.ra) % 360),
            ("dec", None if self.dec is None else float(self.dec)),
            ("center", center),
        ):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Say shape, scale and position in one line."""
        height, width = self.shape
        scale = f"{self.pixscale:.4g} arcsec/px" if self.scaled else "no pixel scale"
        told = f"{height} x {width} px, {scale}, "
        if self.ra is None:
            return f"PixelGrid({told}no position)"
        told += f"RA {self.ra:.5f} deg, Dec {self.dec:+.5f} deg"
        if self.reference_pixel != self.middle:
            told += " at x {:.2f}, y {:.2f}".format(*self.reference_pixel)
        return f"PixelGrid({told})"

    @property
    def scaled(self) -> bool:
        """Whether the pixel scale is known."""
        return bool(np.isfinite(self.pixscale))

    # The position in the array

    @property
    def reference_pixel(self) -> tuple[float, float]:
        """0-based (x, y) of the pixel at ``ra, dec``."""
        assert self.center is not None  # __post_init__ fills it
        return self.center

    @property
    def middle(self) -> tuple[float, float]:
        """0-based (x, y) of the middle of the array."""
        return (self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2

    @property
    def field_of_view(self) -> tuple[float, float]:
        """Height and width in arcsec."""
        return self.shape[0] * self.pixscale, self.shape[1] * self.pixscale

    # To and from FITS

    @cached_property
    def wcs(self) -> WCS:
        """Celestial WCS of the array as held here (row 0 north). Floating grids have none.

        Raises
        ------
        GridError
            If the grid has no ra and dec.
        """
        if self.ra is None or self.dec is None:
            raise GridError("this grid has no position: give ra and dec to get a WCS")
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [self.reference_pixel[0] + 1, self.reference_pixel[1] + 1]
        wcs.wcs.cdelt = [-self.pixscale / 3600, -self.pixscale / 3600]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.lonpole = 180.0  # the default but at the north pole itself
        wcs.wcs.set()
        wcs.array_shape = self.shape
        return wcs

    def to_header(self) -> Header:
        """FITS header of the array as it is stored in a file: row 0 south, as viewers expect.

        Returns
        -------
        astropy.io.fits.Header
            With CRPIX for the array after ``np.flipud``, as `zoobot_3d.io` writes it; a CD matrix, as the Legacy
            Surveys service gives.

        Raises
        ------
        GridError
            If the grid has no ra and dec.
        """
        if self.ra is None or self.dec is None:
            raise GridError("this grid has no position: give ra and dec to get a header")
        step = self.pixscale / 3600
        header = Header(
            [
                ("CTYPE1", "RA---TAN", "TANgent plane"),
                ("CTYPE2", "DEC--TAN", "TANgent plane"),
                ("CRVAL1", self.ra, "[deg] Reference RA"),
                ("CRVAL2", self.dec, "[deg] Reference Dec"),
                ("CRPIX1", self.reference_pixel[0] + 1, "Reference x"),
                ("CRPIX2", self.shape[0] - self.reference_pixel[1], "Reference y"),
                ("CD1_1", -step, "[deg] CD matrix"),
                ("CD1_2", 0.0, "[deg] CD matrix"),
                ("CD2_1", 0.0, "[deg] CD matrix"),
                ("CD2_2", step, "[deg] CD matrix"),
                ("RADESYS", "ICRS", "Celestial frame"),
            ]
        )
        if self.dec == 90:  # the default would turn the image there
            header["LONPOLE"] = (180.0, "[deg] Native longitude of the pole")
        return header

    @classmethod
    def from_wcs(cls, wcs: WCS, shape: tuple[int, int]) -> PixelGrid:
        """Build the grid of an array from its WCS, as it lies once row 0 is turned north.

        Parameters
        ----------
        wcs : astropy.wcs.WCS
            Celestial, or with a celestial part. Rows may run north or south (see `starts_south`).
        shape : tuple of int
            Rows and columns of the array.

        Raises
        ------
        GridError
            If no such grid is within 0.05 pixels of the WCS on 5 x 5 pixels from edge to edge: the image is rotated,
            its pixels are not square, and so on. `zoobot_3d.sky.placement` reprojects such images.
        """
        image = SkyImage(wcs, shape)
        middle = cls(image.shape, image.lie.pixscale, image.lie.ra, image.lie.dec)
        for grid in (_as_written(image), middle):
            if grid is not None and departure(grid, image) < TOLERANCE:
                return grid
        words = [*image.coordinates(), *image.projection(), *image.lie.words()] or [
            "distorted, or far from its tangent point"
        ]
        raise GridError(f"not north up, east left: {', '.join(words)}; reproject the image first")

    @classmethod
    def from_header(cls, header: Header) -> PixelGrid:
        """Build the grid of the image a FITS header describes, as it lies once row 0 is turned north.

        Raises
        ------
        GridError
            If the header holds no image, or its WCS does not fit (see `from_wcs`).
        """
        try:
            shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
        except Exception:  # Astropy raises its own errors for cards that are no FITS
            raise GridError("header has no NAXIS1 and NAXIS2: it describes no image") from None
        if (wcs := read_wcs(header)) is None:
            raise GridError("no celestial axes: give a header with CTYPE RA---TAN and DEC--TAN")
        return cls.from_wcs(wcs, shape)

    # Sky and pixels

    def sky_to_pixel(self, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Convert positions in degrees to 0-based pixel coordinates (x, y)."""
        x, y = self.wcs.all_world2pix(np.asarray(ra, float), np.asarray(dec, float), 0)
        return np.asarray(x), np.asarray(y)

    def pixel_to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Convert 0-based pixel coordinates (x, y) to positions (ra, dec) in degrees."""
        ra, dec = self.wcs.all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
        return np.asarray(ra), np.asarray(dec)

    def offset_to_pixel(self, xi: ArrayLike, eta: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Convert offsets from the reference position, arcsec to the east and north, to pixel coordinates (x, y)."""
        x0, y0 = self.reference_pixel
        return x0 - np.asarray(xi, float) / self.pixscale, y0 - np.asarray(eta, float) / self.pixscale

    # Other grids of the same sky

    def crop(self, size: int | tuple[int, int]) -> PixelGrid:
        """Take the central part, as many whole pixels as asked.

        Parameters
        ----------
        size : int or tuple of int
            Side, or rows and columns. Must fit in the grid and leave equal margins to within one pixel.

        Returns
        -------
        PixelGrid
            The same pixels' positions: ``array[top:top + h, left:left + w]`` with ``top = (H - h) // 2``.
        """
        rows, columns = (size, size) if isinstance(size, int) else size
        if rows > self.shape[0] or columns > self.shape[1]:
            raise GridError(f"cannot crop {rows} x {columns} pixels out of {self.shape[0]} x {self.shape[1]}")
        top, left = (self.shape[0] - rows) // 2, (self.shape[1] - columns) // 2
        x, y = self.reference_pixel
        return replace(self, shape=(rows, columns), center=(x - left, y - top))

    def resize(self, shape: int | tuple[int, int], *, field_fraction: float = 1.0) -> PixelGrid:
        """Lay another number of pixels over the same field, or over its central part.

        Parameters
        ----------
        shape : int or tuple of int
            Side, or rows and columns, of the new grid; pixels must stay square.
        field_fraction : float
            Linear fraction of this grid's field that the new one covers, about the middle of the array.

        Raises
        ------
        GridError
            If the new pixels would not be square, or the fraction is not positive.
        """
        rows, columns = (shape, shape) if isinstance(shape, int) else shape
        scale = self.shape[0] * field_fraction / rows
        if not np.isfinite(field_fraction) or field_fraction <= 0:
            raise GridError(f"field_fraction must be positive, got {field_fraction}")
        if abs(self.shape[1] * field_fraction / columns / scale - 1) > 1e-3:
            raise GridError(f"{self.shape} pixels cannot become {(rows, columns)} square pixels")
        x, y = self.reference_pixel
        mx, my = self.middle
        center = ((columns - 1) / 2 + (x - mx) / scale, (rows - 1) / 2 + (y - my) / scale)
        return replace(self, shape=(rows, columns), pixscale=self.pixscale * scale, center=center)

    def affine_to(self, other: PixelGrid) -> NDArray[np.float64]:
        """Affine that takes this grid's pixel coordinates (x, y) to the other's.

        Between two tangent planes, pixels go over by a projective map. Between fields of arcminutes it departs from an
        affine by less than a thousandth of a pixel.

        Parameters
        ----------
        other : PixelGrid
            Where to. If either grid floats, the middles of the two arrays are taken to coincide.

        Returns
        -------
        numpy.ndarray
            (2, 3) float64: ``[x', y'] = A[:, :2] @ [x, y] + A[:, 2]``.

        Raises
        ------
        GridError
            If an affine is wrong by more than 0.05 pixels of the other grid anywhere on this one, or if a pixel
            scale is unknown.
        """
        floating = self.ra is None or other.ra is None
        if floating or (self.ra, self.dec) == (other.ra, other.dec):
            scale = self.pixscale / other.pixscale
            if not np.isfinite(scale):
                raise GridError("a pixel scale is unknown: give the arcsec per pixel of both grids")
            (x, y), (x_other, y_other) = self.reference_pixel, other.reference_pixel
            if floating:
                (x, y), (x_other, y_other) = self.middle, other.middle
            return np.array([[scale, 0, x_other - scale * x], [0, scale, y_other - scale * y]])
        exact = other._from_plane() @ self._to_plane()
        columns, rows = (np.linspace(-0.5, n - 0.5, 5) for n in self.shape[::-1])
        here = np.stack(np.meshgrid(columns, rows)).reshape(2, -1)
        there = exact @ np.vstack([here, np.ones(here.shape[1])])
        if (there[2] <= 0).any():
            raise GridError(f"{self} and {other} are on opposite sides of the sky")
        a, b, c = (float(value) for value in exact @ [*self.middle, 1.0])
        linear = (exact[:2, :2] - np.outer([a / c, b / c], exact[2, :2])) / c  # of the projective map, at the middle
        shift = np.array([a / c, b / c]) - linear @ self.middle
        off = np.hypot(*(linear @ here + shift[:, None] - there[:2] / there[2])).max()
        if not off < TOLERANCE:
            raise GridError(f"{self} and {other} are too far apart for an affine: it is wrong by {off:.2g} pixels")
        return np.column_stack([linear, shift])

    def _to_plane(self) -> NDArray[np.float64]:
        """Matrix that takes (x, y, 1) to a vector towards the sky; not of length 1."""
        assert self.ra is not None and self.dec is not None  # only grids with a position are asked
        (x, y), step = self.reference_pixel, np.radians(self.pixscale / 3600)
        return axes_at(self.ra, self.dec) @ np.array([[-step, 0, step * x], [0, -step, step * y], [0, 0, 1]])

    def _from_plane(self) -> NDArray[np.float64]:
        """Inverse of `_to_plane`, up to a positive factor."""
        assert self.ra is not None and self.dec is not None
        (x, y), step = self.reference_pixel, np.radians(self.pixscale / 3600)
        return np.array([[-1 / step, 0, x], [0, -1 / step, y], [0, 0, 1]]) @ axes_at(self.ra, self.dec).T

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "shape": list(self.shape),
            "pixscale": self.pixscale if self.scaled else None,
            "ra": self.ra,
            "dec": self.dec,
            "center": list(self.reference_pixel),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PixelGrid:
        """Build from what `to_dict` gave."""
        scale = np.nan if values["pixscale"] is None else values["pixscale"]
        return cls(tuple(values["shape"]), scale, values["ra"], values["dec"], tuple(values["center"]))


def starts_south(wcs: WCS, shape: tuple[int, int]) -> bool:
    """Tell whether row 0 of an array with this WCS is its southern edge."""
    return SkyImage(wcs, shape).lie.starts_south


def departure(grid: PixelGrid, image: SkyImage) -> float:
    """Tell how many pixels an image of a grid's shape is off the grid, at most, once its row 0 is north."""
    (x, y), sky = image.sample
    if image.lie.starts_south:
        y = image.shape[0] - 1 - y
    off = float(np.hypot(*(np.stack(grid.sky_to_pixel(*sky)) - [x, y])).max())
    return off if np.isfinite(off) else np.inf


def _as_written(image: SkyImage) -> PixelGrid | None:
    """Grid with the reference pixel of the header; None if that is no position of a grid."""
    x, y = image.wcs.wcs.crpix - 1
    ra, dec = image.to_sky(x, y)
    if image.lie.starts_south:
        y = image.shape[0] - 1 - y
    scale = image.written_scale
    if not (np.isfinite([x, y, ra, dec, scale]).all() and scale > 0):
        return None
    return PixelGrid(image.shape, scale, float(ra), float(dec), (float(x), float(y)))


def resample(
    array: NDArray[Any], from_grid: PixelGrid, to_grid: PixelGrid, *, fill: float = 0.0
) -> NDArray[np.float32]:
    """Move an array from one grid to another in one interpolation.

    Linear when pixels shrink, and a triangle as wide as the new pixels when they grow, so that nothing aliases and
    surface brightness is kept. Rows and columns are treated apart, as both grids have north up. The turn of north
    between two tangent points is left out where it is below 0.05 px (0.01 px over a 424 px field for points 10 arcsec
    apart at dec 60).

    Parameters
    ----------
    array : numpy.ndarray
        (H, W), a picture (H, W, C), or maps (C, H, W); told apart by where ``from_grid.shape`` fits.
    from_grid, to_grid : PixelGrid
        Where the array is, and where it should be.
    fill : float
        Value of new pixels whose centre is outside the old grid.

    Returns
    -------
    numpy.ndarray
        float32, with the axes of the input.

    Raises
    ------
    GridError
        If the array does not have the shape of its grid, or the tangent points are so far apart that pixels would be
        misplaced by more than 0.05 px.
    """
    array = np.asarray(array)
    rows_first = array.shape[:2] == from_grid.shape and (
        array.ndim == 2 or array.shape[-2:] != from_grid.shape or array.shape[-1] <= 4
    )
    if array.ndim not in (2, 3) or not (rows_first or array.shape[-2:] == from_grid.shape):
        raise GridError(f"array of shape {array.shape} does not lie on a grid of {from_grid.shape}")
    affine = to_grid.affine_to(from_grid)
    turned = max(abs(affine[1, 0]) * to_grid.middle[0], abs(affine[0, 1]) * to_grid.middle[1])
    if turned > TOLERANCE:
        raise GridError(
            f"north turns between {to_grid} and {from_grid}, by {turned:.2g} pixels at the edge; take one tangent point"
        )
    row_shift = affine[1, 2] + affine[1, 0] * to_grid.middle[0]
    column_shift = affine[0, 2] + affine[0, 1] * to_grid.middle[1]
    rows, inside_rows, seen_rows = _interpolation(affine[1, 1], row_shift, to_grid.shape[0], from_grid.shape[0])
    columns, inside_columns, seen_columns = _interpolation(
        affine[0, 0], column_shift, to_grid.shape[1], from_grid.shape[1]
    )
    half: Any
    if array.ndim == 3 and rows_first:
        seen = array[seen_rows, seen_columns].astype(np.float32)
        height, width, channels = seen.shape
        half = rows @ seen.reshape(height, -1)
        half = half.reshape(-1, width, channels).swapaxes(0, 1).reshape(width, -1)
        out = np.full((*to_grid.shape, channels), fill, np.float32)
        out[inside_rows, inside_columns] = (columns @ half).reshape(columns.shape[0], -1, channels).swapaxes(0, 1)
        return out
    planes = array.reshape(-1, *from_grid.shape)[:, seen_rows, seen_columns].astype(np.float32, copy=False)
    out = np.full((len(planes), *to_grid.shape), fill, np.float32)
    for plane, target in zip(planes, out, strict=True):
        half = rows @ plane
        target[inside_rows, inside_columns] = (columns @ half.T).T
    return out[0] if array.ndim == 2 else out


@lru_cache(maxsize=64)  # a batch of galaxies moves between the same few pairs of grids
def _interpolation(scale: float, shift: float, n_out: int, n_in: int) -> tuple[csr_array, slice, slice]:
    """Weights of a triangle filter for the outputs that are inside, which these are, and which inputs they see.

    Output i sits at scale * i + shift; the weights are (outputs, inputs seen).
    """
    at = scale * np.arange(n_out) + shift
    radius = max(1.0, scale)
    taps = np.floor(at - radius).astype(int)[:, None] + np.arange(int(np.ceil(2 * radius)) + 2)
    weights = np.clip(1 - np.abs(taps - at[:, None]) / radius, 0, None)
    weights[(taps < 0) | (taps >= n_in)] = 0
    inside = (at >= -0.5) & (at <= n_in - 0.5)
    total = weights.sum(1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    used = weights > 0
    index = np.broadcast_to(np.arange(n_out)[:, None], taps.shape)[used]
    matrix = csr_array((weights[used].astype(np.float32), (index, taps[used])), shape=(n_out, n_in))
    kept = np.flatnonzero(inside)  # one run
    part = slice(int(kept[0]), int(kept[-1]) + 1) if len(kept) else slice(0, 0)
    matrix = matrix[part]
    seen = slice(int(matrix.indices.min()), int(matrix.indices.max()) + 1) if matrix.nnz else slice(0, 0)
    return matrix[:, seen], part, seen
