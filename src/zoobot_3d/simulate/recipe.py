"""What a simulated galaxy is: the numbers that make it, its geometry on the sky, and the truth table's columns.

Must not know of pixels, instruments or how the numbers are drawn. Angles in a disk's own plane are counted from the
line of nodes (the major axis at ``pa``) in the sense of position angles: north through east on the sky.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Kind = Literal["spiral", "ringed", "lenticular", "flocculent", "elliptical", "edge-on", "ellicular"]
KINDS: tuple[Kind, ...] = ("spiral", "ringed", "lenticular", "flocculent", "elliptical", "edge-on", "ellicular")

BarProfile = Literal["ferrers", "flat", "exponential"]
RingKind = Literal["nuclear", "inner", "outer", "lens"]


@dataclass(frozen=True)
class Bar:
    """A bar in the plane of the disk.

    Attributes
    ----------
    length : float
        Semi-length as seen on the sky (projected), arcsec.
    intrinsic_length : float
        Semi-length in the plane of the disk (deprojected), arcsec: beyond it the bar has no light.
    pa : float
        Position angle on the sky, deg north through east, 0-180.
    angle : float
        Angle in the plane of the disk, deg from the line of nodes.
    axis_ratio : float
        Width over length in the plane of the disk.
    strength : float
        Fraction of the galaxy's r-band light.
    profile : str
        Run of the light along the bar.
    boxiness : float
        Exponent of the generalised ellipse of the isophotes (2: ellipse; 4: nearly a box).
    ansae : float
        Brightness of the blobs at both ends, as a fraction of the bar's central surface brightness.
    youth : float
        0: of the bulge's colour; 1: of the disk's.
    """

    length: float
    intrinsic_length: float
    pa: float
    angle: float
    axis_ratio: float
    strength: float
    profile: BarProfile
    boxiness: float
    ansae: float
    youth: float = 0.0


@dataclass(frozen=True)
class Arm:
    """A logarithmic spiral arm in the plane of the disk.

    Attributes
    ----------
    pitch : float
        Pitch angle, deg.
    handedness : int
        +1: the arm winds outward from north through east (anticlockwise on the sky); -1: the mirror image.
    phase : float
        Angle of the ridge at ``r_start``, deg.
    r_start, r_end : float
        Radii between which the arm shines, arcsec.
    strength : float
        Peak r-band surface brightness as a fraction of the disk's at the middle of the arm.
    width : float
        Half-width (Gaussian sigma across the arm) at ``r_start``, arcsec; it grows as the square root of the radius.
    blueness : float
        Magnitudes in g-r by which the arm is bluer than the disk.
    gap : tuple of float
        Place along the arm (0 inner end, 1 outer end) and depth (0-1) of a break.
    spur : tuple of float
        Place along the arm where a branch leaves it outward, and the branch's strength relative to the arm.
    wobble : tuple of float
        Amplitude (deg), cycles from end to end, and phase (rad) of the ridge's departure from a logarithmic spiral.
    """

    pitch: float
    handedness: int
    phase: float
    r_start: float
    r_end: float
    strength: float
    width: float
    blueness: float
    gap: tuple[float, float]
    spur: tuple[float, float]
    wobble: tuple[float, float, float]

    def ridge_angle(self, radius: NDArray[np.floating]) -> NDArray[np.floating]:
        """Angle of the centre-line at radii in arcsec, rad in the plane of the disk."""
        turns = np.log(radius / self.r_start)
        amplitude, cycles, start = self.wobble
        along = turns / np.log(self.r_end / self.r_start)
        wobble = np.radians(amplitude) * np.sin(2 * np.pi * cycles * along + start)
        return np.radians(self.phase) + self.handedness * turns / np.tan(np.radians(self.pitch)) + wobble

    def half_width(self, radius: NDArray[np.floating]) -> NDArray[np.floating]:
        """Gaussian sigma across the arm at radii in arcsec, arcsec in the plane of the disk."""
        return self.width * np.sqrt(radius / self.r_start)


@dataclass(frozen=True)
class Ring:
    """A ring or lens in the plane of the disk.

    Attributes
    ----------
    kind : str
        ``nuclear``, ``inner`` (about the bar), ``outer``, or ``lens`` (a filled plateau with a sharp rim).
    radius : float
        Semi-major axis, arcsec.
    width : float
        Gaussian sigma across, or the softness of a lens's rim, arcsec.
    strength : float
        Peak r-band surface brightness as a fraction of the disk's there; the lens: above the disk inside the rim.
    axis_ratio : float
        Of the ring in the plane of the disk.
    angle : float
        Of its major axis, deg from the line of nodes.
    blueness : float
        Magnitudes in g-r by which it is bluer than the disk.
    gap : float
        Fraction of the disk's light that is missing just inside an outer ring.
    modulation : float
        The ring is brighter by this fraction at the ends of its major axis (negative: of its minor axis), fainter
        between.
    """

    kind: RingKind
    radius: float
    width: float
    strength: float
    axis_ratio: float
    angle: float
    blueness: float
    gap: float
    modulation: float


@dataclass(frozen=True)
class Dust:
    """Dust: optical depths in r.

    Attributes
    ----------
    lanes : float
        Along the inner edge of arms and the leading edges of a bar.
    patches : float
        Scattered over the disk.
    layer : float
        Of the layer in front of the far side of the bulge; in an edge-on disk, of the central lane.
    """

    lanes: float = 0.0
    patches: float = 0.0
    layer: float = 0.0


@dataclass(frozen=True)
class Galaxy:
    """Recipe and truth of one galaxy, its neighbours included (they follow from ``seed``).

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        Of everything in the scene that has no number of its own here: clumps, floccules, neighbours, stars.
    ra, dec : float
        Position of the centre, deg.
    redshift : float
        For distances; colours are reddened accordingly.
    inclination : float
        Deg; 0 is face-on. For an elliptical: of the spheroid that gives its axis ratio.
    pa : float
        Position angle of the major axis, deg north through east, 0-180.
    mag_g, mag_r, mag_z : float
        Total AB magnitudes.
    bulge_fraction : float
        Of the r-band light.
    bulge_radius, bulge_index, bulge_axis_ratio, bulge_pa : float
        Half-light radius (arcsec, major axis), Sersic index, projected axis ratio, position angle (deg).
    disk_scale : float
        Exponential scale length, arcsec.
    disk_break : float
        Radius (arcsec) beyond which the disk falls ``break_factor`` times as steeply.
    break_factor : float
        1 for a pure exponential.
    core : float
        Radius (arcsec) inside which the disk is flat: a disk with a hole behind the bulge when large.
    colour_old, colour_disk : tuple of float
        (g-r, r-z) of bulge and bar, and of the smooth disk.
    lopsidedness : tuple of float
        Fractional shift of the disk's isophotes at two scale lengths, and its direction in the disk (deg).
    flocculence : float
        Scatter (natural logarithm) of the disk's patchiness.
    flocculence_pitch : float
        Pitch of its shear, deg, signed by handedness.
    knots : tuple of int and float
        Number of star-forming knots and their share of the disk's g-band light.
    thickness : float
        Vertical over radial scale of the disk.
    bar, arms, rings, dust
        Components; no bar is None.
    petro_th50, petro_th90 : float
        Radii (arcsec) of circles holding half and 90% of the r-band Petrosian flux, without seeing, as a catalogue
        would estimate them (a drawn galaxy's are off by some 13%). They set ``pixscale``.
    """

    kind: Kind
    seed: int
    ra: float
    dec: float
    redshift: float
    inclination: float
    pa: float
    mag_g: float
    mag_r: float
    mag_z: float
    bulge_fraction: float
    bulge_radius: float
    bulge_index: float
    bulge_axis_ratio: float
    bulge_pa: float
    disk_scale: float
    disk_break: float
    break_factor: float
    core: float
    colour_old: tuple[float, float]
    colour_disk: tuple[float, float]
    lopsidedness: tuple[float, float]
    flocculence: float
    flocculence_pitch: float
    knots: tuple[int, float]
    thickness: float
    bar: Bar | None = None
    arms: tuple[Arm, ...] = ()
    rings: tuple[Ring, ...] = ()
    dust: Dust = field(default_factory=Dust)
    petro_th50: float = float("nan")
    petro_th90: float = float("nan")

    @property
    def pixscale(self) -> float:
        """Arcsec per pixel of the 424 px Galaxy Zoo picture (Walmsley et al. 2022, MNRAS 509, 3966)."""
        return max(min(0.04 * self.petro_th50, 0.02 * self.petro_th90), 0.1)

    @property
    def axis_ratio(self) -> float:
        """Projected minor over major axis of the disk, an oblate spheroid as flat as ``thickness``."""
        i = np.radians(self.inclination)
        return float(np.sqrt(np.cos(i) ** 2 + (self.thickness * np.sin(i)) ** 2))

    @property
    def is_edge_on(self) -> bool:
        """Whether arms and bars are hidden by the inclination."""
        return self.kind == "edge-on"

    def to_plane(self, xi: ArrayLike, eta: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Deproject offsets (arcsec east, north) to the disk's plane: along the line of nodes, and across."""
        s, c = sin_cos(self.pa)
        xi, eta = np.asarray(xi), np.asarray(eta)
        return xi * s + eta * c, (xi * c - eta * s) * np.float32(1 / self.axis_ratio)

    def to_sky(self, u: ArrayLike, v: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Project positions in the disk's plane (arcsec) to offsets on the sky, arcsec east and north."""
        s, c = sin_cos(self.pa)
        u, v = np.asarray(u), np.asarray(v) * self.axis_ratio
        return u * s + v * c, u * c - v * s

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """Flat truth: one row of the truth table.

        Returns
        -------
        dict
            Lengths in arcsec, angles in deg; NaN or 0 where the galaxy has no such part.
        """
        nan = float("nan")
        bar, arms, rings = self.bar, self.arms, self.rings
        return {
            "kind": self.kind,
            "seed": self.seed,
            "ra": self.ra,
            "dec": self.dec,
            "redshift": self.redshift,
            "inclination": self.inclination,
            "pa": self.pa,
            "axis_ratio": self.axis_ratio,
            "mag_g": self.mag_g,
            "mag_r": self.mag_r,
            "mag_z": self.mag_z,
            "petro_th50": self.petro_th50,
            "petro_th90": self.petro_th90,
            "pixscale": self.pixscale,
            "disk_scale": self.disk_scale,
            "bulge_fraction": self.bulge_fraction,
            "bulge_radius": self.bulge_radius,
            "bar_length_arcsec": bar.length if bar else nan,
            "bar_length_intrinsic_arcsec": bar.intrinsic_length if bar else nan,
            "bar_pa": bar.pa if bar else nan,
            "bar_axis_ratio": bar.axis_ratio if bar else nan,
            "bar_strength": bar.strength if bar else 0.0,
            "n_arms": len(arms),
            "pitch_angle": float(np.mean([a.pitch for a in arms])) if arms else nan,
            "handedness": arms[0].handedness if arms else 0,
            "arm_strength": float(np.mean([a.strength for a in arms])) if arms else 0.0,
            "n_rings": len(rings),
            "ring_radius_arcsec": rings[-1].radius if rings else nan,
            "ring_strength": max((r.strength for r in rings), default=0.0),
            "flocculence": self.flocculence,
            "is_edge_on": self.is_edge_on,
        }


def project_angle(angle: float, pa: float, axis_ratio: float) -> tuple[float, float]:
    """Project a direction in the disk's plane.

    Parameters
    ----------
    angle : float
        Deg from the line of nodes.
    pa, axis_ratio : float
        Of the disk on the sky.

    Returns
    -------
    pa : float
        On the sky, deg, 0-180.
    shrink : float
        Projected over intrinsic length.
    """
    s, c = sin_cos(angle)
    return float((pa + np.degrees(np.arctan2(s * axis_ratio, c))) % 180), float(np.hypot(c, s * axis_ratio))


def sin_cos(angle: float) -> tuple[float, float]:
    """Sine and cosine of an angle in degrees."""
    return float(np.sin(np.radians(angle))), float(np.cos(np.radians(angle)))
