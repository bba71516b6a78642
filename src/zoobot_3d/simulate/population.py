"""How common each kind of galaxy is, and how its numbers scatter: the random draw of a recipe.

The mix is that of Galaxy Zoo's face-on disks with arms and bars added, so that a network sees enough of both; about a
quarter have neither. Sizes and surface brightnesses are tuned so that pictures have the light statistics of real ones
(see the project's method page). Knows nothing of pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from zoobot_3d.errors import ConfigError
from zoobot_3d.simulate.light import photometry
from zoobot_3d.simulate.recipe import KINDS, Arm, Bar, BarProfile, Dust, Galaxy, Kind, Ring, project_angle

_MIX: dict[Kind, float] = {
    "spiral": 0.66,
    "ringed": 0.12,
    "lenticular": 0.12,
    "flocculent": 0.02,
    "elliptical": 0.04,
    "edge-on": 0.04,
    "ellicular": 0.0,  # a disk deep within a spheroid (Graham 2019, PASA 36, e035): rare, made when asked for
}
_BARRED: dict[Kind, float] = {"spiral": 0.5, "ringed": 0.65, "lenticular": 0.5, "flocculent": 0.35}
_ARM_COUNT = {1: 0.03, 2: 0.59, 3: 0.17, 4: 0.14, 5: 0.07}

_SPEED_OF_LIGHT, _HUBBLE = 299792.458, 70.0  # km/s, km/s/Mpc


def draw_galaxy(rng: np.random.Generator, *, ra: float, dec: float, kind: Kind | None = None) -> Galaxy:
    """Draw the recipe of a galaxy.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from.
    ra, dec : float
        Position of its centre, deg.
    kind : str, optional
        One of `KINDS`; drawn with the natural frequencies by default.

    Raises
    ------
    ConfigError
        If there is no such kind.
    """
    if kind is None:
        kind = KINDS[rng.choice(len(KINDS), p=[_MIX[k] for k in KINDS])]
    elif kind not in KINDS:
        raise ConfigError(f"no galaxies of kind {kind!r}: choose from {', '.join(KINDS)}")
    # Lateness runs from 0 (Sa: red, large bulge) to 1 (Sd: blue, patchy, hardly a bulge).
    late = {
        "spiral": rng.beta(1.2, 1.8),
        "ringed": rng.beta(1.2, 2.5),
        "flocculent": rng.uniform(0.6, 1.0),
        "edge-on": rng.random(),
    }.get(kind, 0.0)
    size = 5.7 * np.exp(0.38 * rng.standard_normal())  # half-light radius aimed at, arcsec
    brightness = 20.45 + 1.5 * late**1.5 + 0.62 * rng.standard_normal()  # mean within it, r mag per square arcsec
    galaxy = _body(rng, kind, late, size, ra, dec)
    redshift = _redshift(rng, brightness, size, late)
    galaxy = replace(galaxy, redshift=redshift, **_colours(rng, galaxy.kind, late, redshift))
    within_spheroid = kind == "lenticular" and galaxy.bulge_radius > 0.85 * galaxy.disk_scale
    if kind in _BARRED and rng.random() < _BARRED[kind] and not within_spheroid:
        bar = _bar(rng, galaxy, late)
        # A bar lives in a disk that is flat inside: the core follows its length.
        galaxy = replace(galaxy, bar=bar, core=max(galaxy.core, bar.intrinsic_length * rng.uniform(0.3, 0.8)))
    if kind == "spiral":
        galaxy = replace(galaxy, arms=_arms(rng, galaxy, late))
    galaxy = replace(galaxy, rings=_rings(rng, galaxy, late))
    if kind not in ("elliptical", "edge-on"):
        galaxy = replace(galaxy, **_texture(rng, galaxy, late))
    # Only now is the light complete enough to be measured.
    seen = photometry(galaxy)
    mag_r = brightness - 2.5 * np.log10(2 * np.pi * seen.petro_th50**2)
    g_r, r_z = (-2.5 * np.log10(seen.flux[i] / seen.flux[i + 1]) for i in (0, 1))
    # The catalogue's radii, which set the picture's scale, are estimates.
    estimate = float(np.exp(0.13 * rng.standard_normal() + 0.01))
    return replace(
        galaxy,
        mag_r=float(mag_r),
        mag_g=float(mag_r + g_r),
        mag_z=float(mag_r - r_z),
        petro_th50=seen.petro_th50 * estimate,
        petro_th90=seen.petro_th90 * estimate,
    )


def draw_disk(
    rng: np.random.Generator,
    *,
    disk_scale: float,
    axis_ratio: float,
    pa: float,
    bar: tuple[float, float] | None = None,
    barred: bool = False,
) -> Galaxy:
    """Draw arms, and perhaps a bar, for a disk that is there already.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from.
    disk_scale : float
        Exponential scale length of the disk, arcsec.
    axis_ratio, pa : float
        Of the disk on the sky; deg north through east.
    bar : tuple of float, optional
        Semi-length on the sky (arcsec) and position angle (deg) of a bar that is there: the arms begin at its ends.
    barred : bool
        Draw a bar as well.

    Returns
    -------
    Galaxy
        A recipe without rings, at the origin of the sky; its brightness and bulge are to be ignored. The bar that is
        there has no light.
    """
    late = float(rng.beta(1.2, 1.8))
    galaxy = _body(rng, "spiral", late, 1.0, 0.0, 0.0)
    thickness = min(galaxy.thickness, 0.9 * axis_ratio)
    cosine = np.sqrt((axis_ratio**2 - thickness**2) / (1 - thickness**2))
    galaxy = replace(
        galaxy,
        inclination=float(np.degrees(np.arccos(np.clip(cosine, 0, 1)))),
        pa=pa,
        thickness=thickness,
        disk_scale=disk_scale,
        disk_break=disk_scale * galaxy.disk_break / galaxy.disk_scale,
        core=0.0,
        bulge_radius=0.2 * disk_scale,
    )
    if bar is not None:
        angle, stretch = project_angle(bar[1] - pa, 0.0, 1 / galaxy.axis_ratio)  # back to the plane of the disk
        galaxy = replace(galaxy, bar=Bar(bar[0], bar[0] * stretch, bar[1], angle, 0.25, 0.0, "flat", 2.0, 0.0))
    elif barred:
        galaxy = replace(galaxy, bar=_bar(rng, galaxy, late))
    galaxy = replace(galaxy, arms=_arms(rng, galaxy, late))
    return replace(galaxy, **_texture(rng, galaxy, late))


def _body(rng: np.random.Generator, kind: Kind, late: float, size: float, ra: float, dec: float) -> Galaxy:
    """Bulge and smooth disk."""
    shape = _body_shape(rng, kind, late, size)
    truncated = rng.random() < 0.6
    return Galaxy(
        kind=kind,
        seed=int(rng.integers(2**31)),
        ra=ra,
        dec=dec,
        redshift=0.0,
        inclination=shape.inclination,
        pa=shape.pa,
        mag_g=15.0,
        mag_r=15.0,
        mag_z=15.0,
        bulge_fraction=shape.bulge,
        bulge_radius=shape.bulge_radius,
        bulge_index=shape.sersic_index,
        bulge_axis_ratio=shape.axis_ratio,
        bulge_pa=float((shape.pa + rng.normal(0, 8 if shape.roundness > 0.8 else 40)) % 180),
        disk_scale=shape.disk_scale,
        disk_break=shape.disk_scale * float(rng.uniform(1.6, 3.4)),
        break_factor=float(rng.uniform(2.0, 4.5)) if truncated else 1.0,
        core=shape.disk_scale * float(rng.choice([0.05, 0.3, 0.8], p=[0.5, 0.35, 0.15])),
        colour_old=(0.8, 0.65),
        colour_disk=(0.6, 0.5),
        lopsidedness=(float(np.abs(rng.normal(0, 0.03 + 0.12 * late))), float(rng.uniform(0, 360))),
        flocculence=0.0,
        flocculence_pitch=20.0,
        knots=(0, 0.0),
        thickness=shape.thickness,
        dust=Dust(layer=float(rng.uniform(0.2, 2.0)) if kind == "edge-on" and rng.random() < 0.7 else 0.0),
    )


class _BodyShape(NamedTuple):
    """Shape of bulge and disk: deg and arcsec."""

    inclination: float
    pa: float
    thickness: float
    bulge: float
    """Fraction of the light."""
    sersic_index: float
    axis_ratio: float
    bulge_radius: float
    disk_scale: float
    roundness: float
    """Axis ratio of the bulge seen from its pole."""


def _body_shape(rng: np.random.Generator, kind: Kind, late: float, size: float) -> _BodyShape:
    """Draw the shape of bulge and disk."""
    inclination = float(np.degrees(np.arccos(rng.uniform(0.2, 1.0))))
    embedded = kind == "lenticular" and rng.random() < 0.5
    if embedded:
        inclination = float(np.degrees(np.arccos(rng.uniform(0.1, 0.8))))
    if kind == "edge-on":
        inclination = float(rng.uniform(82, 90))
    pa = float(rng.uniform(0, 180))
    thickness = float(rng.uniform(0.07, 0.14) if kind == "edge-on" else rng.uniform(0.12, 0.22))
    if kind == "elliptical":
        bulge, index = 1.0, float(rng.uniform(2.5, 5.5))
    elif kind == "lenticular":
        bulge, index = float(rng.uniform(0.15, 0.6)), float(rng.uniform(1.5, 4.0))
    else:
        bulge = float(np.clip(0.37 * (1 - late) ** 1.3 * np.exp(0.45 * rng.standard_normal()), 0.01, 0.55))
        index = float(np.clip(3.0 - 2.0 * late + 0.6 * rng.standard_normal(), 0.7, 4.5))
    flatten = float(np.hypot(np.cos(np.radians(inclination)), thickness))
    disk_scale = float(size / (1.68 - 0.75 * bulge) / max(flatten, 0.35) ** 0.4)
    # Some bulges are long: without a bar they must not be called one.
    roundness = rng.uniform(0.55, 0.8) if rng.random() < 0.15 else rng.uniform(0.85, 1.0)
    if kind == "elliptical":
        axis_ratio, bulge_radius = float(rng.uniform(0.5, 1.0)), size
    else:
        axis_ratio = float(roundness * (1 - 0.55 * (1 - flatten)))
        bulge_radius = disk_scale * float(np.clip(0.17 * np.sqrt(bulge / 0.25), 0.07, 0.5) * rng.uniform(0.55, 1.15))
    if embedded:
        # A small disk in a large spheroid: long in the middle, round outside, and no bar for all that.
        bulge, axis_ratio = float(rng.uniform(0.45, 0.75)), float(rng.uniform(0.6, 0.95))
        bulge_radius = disk_scale * float(rng.uniform(0.9, 1.8))
    if kind == "ellicular":
        inclination = float(np.degrees(np.arccos(rng.uniform(0.05, 0.7))))
        bulge, index = float(rng.uniform(0.5, 0.9)), float(rng.uniform(2.0, 5.0))
        axis_ratio, bulge_radius = float(rng.uniform(0.6, 0.97)), size
        disk_scale = size * float(np.exp(rng.uniform(np.log(0.12), np.log(0.6))))
    return _BodyShape(inclination, pa, thickness, bulge, index, axis_ratio, bulge_radius, disk_scale, float(roundness))


def _redshift(rng: np.random.Generator, brightness: float, size: float, late: float) -> float:
    """Redshift that makes the apparent light that of a galaxy of M_r about -21 (Hubble's law is enough here)."""
    mag = brightness - 2.5 * np.log10(2 * np.pi * size**2)
    modulus = mag + 21.3 - 1.0 * late + 0.6 * rng.standard_normal()
    return float(np.clip(10 ** (modulus / 5 - 5) * _HUBBLE / _SPEED_OF_LIGHT, 0.006, 0.15))


def _colours(rng: np.random.Generator, kind: Kind, late: float, redshift: float) -> dict[str, Any]:
    """(g-r, r-z) of the old and the disk population, reddened by redshift."""
    red = np.array([0.80, 0.67]) + np.array([1.5, 0.6]) * redshift
    old = red - np.array([0.12, 0.10]) * late + 0.05 * rng.standard_normal(2)
    spread = {"elliptical": 0.0, "ellicular": 0.03, "lenticular": 0.03}.get(kind, 0.02 + 0.34 * late)
    disk = old - spread * np.array([1.0, 0.75]) + 0.045 * rng.standard_normal(2)
    return {"colour_old": (float(old[0]), float(old[1])), "colour_disk": (float(disk[0]), float(disk[1]))}


def _bar(rng: np.random.Generator, galaxy: Galaxy, late: float) -> Bar:
    """Draw a bar: longer and stronger in early types (Erwin 2005, MNRAS 364, 283)."""
    h = galaxy.disk_scale
    # Of Hoyle et al. 2011 (3,150 bars; 10, 50, 90%): length over twice r90 0.30, 0.45, 0.66; width over length 0.17,
    # 0.24, 0.34. Their volunteers drew about a tenth too wide.
    length = h * float(np.clip((1.25 - 0.4 * late) * np.exp(0.18 * rng.standard_normal()), 0.4, 1.9))
    axis_ratio = float(np.clip(rng.normal(0.22, 0.055), 0.12, 0.42))
    profile: BarProfile = ("ferrers", "flat", "exponential")[rng.choice(3, p=[0.4, 0.4, 0.2])]
    # Contrast: the bar's mean surface brightness over the disk's central one; a part are hardly there.
    contrast = float(np.clip(0.8 * np.exp(0.5 * rng.standard_normal()), 0.2, 2.5))
    share = contrast * axis_ratio * length**2 / (2 * h**2) * (1 - galaxy.bulge_fraction)
    angle = float(rng.uniform(0, 180))
    pa, shrink = project_angle(angle, galaxy.pa, galaxy.axis_ratio)
    return Bar(
        length=length * shrink,
        intrinsic_length=length,
        pa=pa,
        angle=angle,
        axis_ratio=axis_ratio,
        strength=float(np.clip(share, 0.01, 0.45 * (1 - galaxy.bulge_fraction))),
        profile=profile,
        boxiness=float(rng.uniform(2.0, 4.0)),
        ansae=float(rng.uniform(0.1, 0.4)) if rng.random() < 0.2 * (1 - late) + 0.05 else 0.0,
        # Bars of late types form stars, and hardly differ from their disks in colour.
        youth=float(np.clip(1.6 * late - 0.4 + 0.25 * rng.standard_normal(), 0.0, 1.0)),
    )


def _arms(rng: np.random.Generator, galaxy: Galaxy, late: float) -> tuple[Arm, ...]:
    """Draw arms that belong together: a common pitch, hand and contrast, with scatter that grows with their number."""
    h, bar = galaxy.disk_scale, galaxy.bar
    n = int(rng.choice(list(_ARM_COUNT), p=list(_ARM_COUNT.values())))
    pitch = float(np.clip(rng.normal(17 + 7 * late, 6.5), 6, 40))
    hand = 1 if rng.random() < 0.5 else -1
    untidy = 0.5 if n <= 2 else 1.0
    strength = float(np.clip(1.25 * np.exp(0.5 * rng.standard_normal()), 0.2, 3.5))
    # Arms run in to the bulge, or to the bar that drives them.
    start = bar.intrinsic_length * rng.uniform(0.8, 1.0) if bar else h * rng.uniform(0.12, 0.5)
    first = bar.angle if bar else rng.uniform(0, 360)
    wide = float(rng.uniform(0.10, 0.25)) * h
    end = h * float(rng.uniform(1.9, 3.8))
    arms = []
    for i in range(n):
        p = float(np.clip(pitch * np.exp(0.12 * untidy * rng.standard_normal()), 5, 40))
        r_start = float(start * np.exp((0.08 if bar else 0.15) * untidy * rng.standard_normal()))
        # At most a turn and a half, at least a quarter.
        turns = np.clip(np.log(end * np.exp(0.15 * rng.standard_normal()) / r_start) / np.tan(np.radians(p)), 1.7, 9.0)
        r_end = float(r_start * np.exp(turns * np.tan(np.radians(p))))
        spacing = 2 * np.pi * np.sin(np.radians(p)) / n  # of neighbouring arms, over the radius
        width = np.sqrt(r_start / h) * min(wide, 0.16 * spacing * h)
        arms.append(
            Arm(
                pitch=p,
                handedness=hand,
                phase=float(first + 360 * i / n + (6 if bar and n == 2 else 12) * untidy * rng.standard_normal()),
                r_start=r_start,
                r_end=r_end,
                strength=strength * float(np.exp(0.35 * untidy * rng.standard_normal())),
                width=float(min(width, 0.3 * spacing * r_start) * np.exp(0.12 * rng.standard_normal())),
                blueness=float(np.clip(0.12 + 0.35 * late + 0.08 * rng.standard_normal(), 0, 0.55)),
                gap=(float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.4, 0.9)) if rng.random() < 0.25 else 0.0),
                spur=(float(rng.uniform(0.2, 0.5)), float(rng.uniform(0.3, 0.8)) if rng.random() < 0.2 else 0.0),
                wobble=(
                    float(np.abs(rng.normal(0, 5))),
                    float(rng.uniform(0.6, 2.0)),
                    float(rng.uniform(0, 2 * np.pi)),
                ),
            )
        )
    return tuple(arms)


def _rings(rng: np.random.Generator, galaxy: Galaxy, late: float) -> tuple[Ring, ...]:
    """Draw rings and lenses, inner ones first; every ``ringed`` galaxy has one at least."""
    kind, bar, h = galaxy.kind, galaxy.bar, galaxy.disk_scale
    if kind in ("elliptical", "edge-on", "ellicular", "flocculent"):
        return ()
    often = {"spiral": (0.12, 0.22, 0.12, 0.10), "lenticular": (0.1, 0.0, 0.15, 0.6)}.get(
        kind, (0.15, 0.65, 0.55, 0.35)
    )
    nuclear, inner, outer, lens = rng.random(4) < often
    if kind == "ringed" and not (inner or outer):
        inner = True
    angle = bar.angle if bar else float(rng.uniform(0, 180))
    inner_radius = bar.intrinsic_length * rng.uniform(0.98, 1.15) if bar else h * rng.uniform(0.7, 1.6)
    blueness = float(np.clip(0.05 + 0.3 * late + 0.12 * rng.standard_normal(), 0, 0.55))
    uneven = np.clip(rng.normal(0, 0.35, 2), -0.8, 0.8).tolist()
    rings = []
    if nuclear:
        rings.append(
            Ring("nuclear", h * rng.uniform(0.15, 0.3), 0.07 * h, rng.uniform(0.5, 2.0), 0.95, angle, 0.2, 0.0, 0.0)
        )
    if lens:
        radius = inner_radius * rng.uniform(0.95, 1.1)
        rings.append(
            Ring(
                "lens",
                radius,
                radius * rng.uniform(0.12, 0.3),
                rng.uniform(0.3, 1.5),
                rng.uniform(0.75, 1.0),
                angle,
                0.0,
                0.0,
                0.0,
            )
        )
    faint = 0.6 if kind == "spiral" else 1.0
    if inner:
        strength = faint * float(np.clip(0.7 * np.exp(0.5 * rng.standard_normal()), 0.2, 2.5))
        width = inner_radius * rng.uniform(0.07, 0.16)
        rings.append(
            Ring("inner", inner_radius, width, strength, rng.uniform(0.72, 1.0), angle, blueness, 0.0, uneven[0])
        )
    if outer:
        radius = max(inner_radius * rng.uniform(1.8, 2.4), h * rng.uniform(1.6, 2.6))
        strength = faint * float(np.clip(1.1 * np.exp(0.5 * rng.standard_normal()), 0.3, 4.0))
        gap = float(rng.uniform(0.2, 0.75)) if kind != "spiral" else 0.0
        across = angle + 90 if rng.random() < 0.5 else angle
        width = radius * rng.uniform(0.08, 0.17)
        rings.append(Ring("outer", radius, width, strength, rng.uniform(0.8, 1.0), across, blueness, gap, uneven[1]))
    return tuple(replace(r, radius=float(r.radius), width=float(r.width), strength=float(r.strength)) for r in rings)


def _texture(rng: np.random.Generator, galaxy: Galaxy, late: float) -> dict[str, Any]:
    """Floccules, dust and knots: more in later types."""
    hand = galaxy.arms[0].handedness if galaxy.arms else (1 if rng.random() < 0.5 else -1)
    gas = late if galaxy.kind != "lenticular" else 0.0
    flocculent = galaxy.kind == "flocculent"
    dusty = rng.random() < 0.6
    return {
        # Late spirals are patchy too, or patches alone would tell a disk without arms.
        "flocculence": float(rng.uniform(0.35, 0.75) if flocculent else 0.03 + 0.35 * gas * rng.uniform(0.1, 1.3)),
        "flocculence_pitch": hand * float(rng.uniform(45, 85) if flocculent else rng.uniform(18, 40)),
        "knots": (int(rng.poisson(45 * gas**1.5)), float(rng.uniform(0.02, 0.18) * gas)),
        "dust": Dust(
            lanes=float(rng.uniform(0.1, 0.7)) if dusty and gas > 0.1 else 0.0,
            patches=float(rng.uniform(0.0, 0.35)) * min(1.0, 2 * gas),
            layer=float(rng.uniform(0.0, 0.6)) if dusty and gas > 0 else 0.0,
        ),
    }
