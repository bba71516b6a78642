"""Tables of a simulated survey, with the column names of the real ones; one dict per galaxy, then whole files.

Knows where galaxies are and what is measured of them; nothing of pixels, nor of what people answer (see `answers`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.cosmology import Planck18
from astropy.table import Table
from numpy.typing import NDArray

from zoobot_3d import schema
from zoobot_3d.catalog.splits import assign_split
from zoobot_3d.io import atomic_path, write_parquet
from zoobot_3d.simulate.answers import (
    Fractions,
    campaign_fractions,
    draw_votes,
    fractions_from_truth,
    predicted_fractions,
)
from zoobot_3d.simulate.galaxies import Galaxy

__all__ = ["CATALOGUES", "GZ3D_COLUMNS", "brick_id", "catalog_rows", "iau_name", "sky_positions", "write_catalogs"]

Row = dict[str, Any]

CATALOGUES = {
    "gz3d": "catalogues/gz3d_metadata.parquet",
    "gz_desi": "catalogues/gz_desi_fractions.parquet",
    "gz_desi_votes": "catalogues/gz_desi_volunteer_votes.parquet",
    "gz2_votes": "catalogues/gz2_volunteer_votes.parquet",
    "sami": "catalogues/sami_targets.parquet",
    "bar_lengths": "catalogues/hoyle_bar_lengths.csv",
    "truth": "truth.parquet",
    "master": schema.DEFAULT_MASTER,
}
"""Each table and its file, relative to the survey's folder; SAMI targets are also written as FITS."""

CAMPAIGNS = ("dr12", "dr5", "dr8")
_CAMPAIGN_SHARES = (0.2, 0.35, 0.45)
_IN_GZ2, _IN_SAMI, _MEASURED = 0.4, 0.25, 0.7  # shares of galaxies in GZ2, in SAMI, and of visible bars with a length
_HUBBLE = float(Planck18.h)
_MIN_SEPARATION = 10.0  # arcsec, well above the 3 arcsec of cross-matches


# Where things are


def sky_positions(n: int, seed: int) -> NDArray[np.float64]:
    """Place galaxies on the DESI-like sky, more than 10 arcsec apart.

    Uniform over -18 < dec < 60 deg, more than 20 deg from the Galactic plane. The first ``n`` of a longer list are the
    list of ``n``.

    Parameters
    ----------
    n : int
        Galaxies.
    seed : int
        Of the survey.

    Returns
    -------
    numpy.ndarray
        (n, 2) ra, dec in degrees.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, 0, 1)))
    low, high = np.sin(np.radians([-18.0, 60.0]))
    kept = np.empty((0, 2))
    while len(kept) < n:  # batches of one size: what was drawn before does not depend on n
        uniform = rng.random((4096, 2))
        ra, dec = 360 * uniform[:, 0], np.degrees(np.arcsin(low + (high - low) * uniform[:, 1]))
        batch = np.column_stack([ra, dec])[np.abs(galactic_latitude(ra, dec)) > 20]
        kept = _drop_near_earlier(np.concatenate([kept, batch]))
    return kept[:n]


def galactic_latitude(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees from the Galactic plane; pole at 192.8595, +27.1283 (J2000)."""
    r, d, d0 = np.radians(ra - 192.8595), np.radians(dec), np.radians(27.1283)
    return np.degrees(np.arcsin(np.sin(d) * np.sin(d0) + np.cos(d) * np.cos(d0) * np.cos(r)))


def _drop_near_earlier(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Remove positions that lie too near one earlier in the list."""
    from scipy.spatial import cKDTree

    ra, dec = np.radians(positions).T
    points = np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    pairs = cKDTree(points).query_pairs(np.radians(_MIN_SEPARATION / 3600), output_type="ndarray")
    return np.delete(positions, pairs.max(1), axis=0) if len(pairs) else positions


def brick_id(ra: float, dec: float) -> int:
    """Find the number of the quarter-degree brick, as the Legacy Surveys count: from the south, then by ra."""
    rows = np.arange(721) * 0.25 - 90.125
    columns = np.maximum(
        1, 2 * np.ceil(720 * np.cos(np.radians(np.minimum(np.abs(rows), np.abs(rows + 0.25)))))
    ).astype(int)
    row = int((dec + 90.125) / 0.25)
    return int(columns[:row].sum() + int(ra / 360 * columns[row]) + 1)


def iau_name(ra: float, dec: float) -> str:
    """Name after the position, cut not rounded, as ``J075832.13+523552.8``."""
    centiseconds, tenths = int(ra / 15 * 360000 + 1e-6), int(abs(dec) * 36000 + 1e-6)
    hours, minutes = f"{centiseconds // 360000:02d}{centiseconds // 6000 % 60:02d}", centiseconds % 6000
    degrees, seconds = f"{tenths // 36000:02d}{tenths // 600 % 60:02d}", tenths % 600
    sign = "-" if dec < 0 else "+"
    return f"J{hours}{minutes // 100:02d}.{minutes % 100:02d}{sign}{degrees}{seconds // 10:02d}.{seconds % 10}"


# Rows of one galaxy


def catalog_rows(
    galaxy: Galaxy,
    identity: Mapping[str, Any],
    paths: Mapping[str, str],
    n_asked: Mapping[str, int],
    n_marked: Mapping[str, int],
    rng: np.random.Generator,
) -> dict[str, Row]:
    """Make the rows of one galaxy in all tables.

    Parameters
    ----------
    galaxy : Galaxy
        The truth.
    identity : mapping
        ``dr8_id``, ``brickid``, ``objid`` and the columns of GZ3D's HDU 5.
    paths : mapping
        Master columns of file locations, relative to the survey's folder.
    n_asked, n_marked : mapping
        Per class, volunteers asked, and those who marked something.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    dict
        Table name (of `CATALOGUES`) to row; tables without this galaxy are absent.
    """
    seen = {name: (n_marked[name] + 0.3) / (n_asked[name] + 1) for name in schema.CLASSES}
    expected = fractions_from_truth(galaxy, seen["spiral"], seen["bar"])
    position = {"ra": galaxy.ra, "dec": galaxy.dec}
    key = {"dr8_id": identity["dr8_id"]}
    predicted = _columns(schema.GZ_DESI_QUESTIONS, predicted_fractions(expected, rng), "{question}_{answer}_fraction")
    magnitudes = {f"mag_{band}_desi": float(getattr(galaxy, f"mag_{band}") + rng.normal(0, 0.02)) for band in "grz"}
    rows: dict[str, Row] = {
        "gz3d": {name: identity.get(name, 0) for name in GZ3D_COLUMNS}
        | {"file_name": Path(paths[schema.COL_GZ3D]).name},
        "gz_desi": key
        | position
        | {"brickid": identity["brickid"], "objid": identity["objid"], "est_petro_th50": galaxy.petro_th50}
        | magnitudes
        | predicted,
        "truth": key | {"mangaid": identity["MANGAID"]} | galaxy.to_dict(),
    }
    rows["gz_desi_votes"] = key | position | _campaign_votes(expected, rng)
    in_gz2, in_sami, measured = rng.random(3) < (_IN_GZ2, _IN_SAMI, _MEASURED)
    sdss_id = 587_722_981_000_000_000 + int(identity["objid"]) * 1000 + int(rng.integers(1000))
    if in_gz2:
        totals, votes = _gz2_votes(expected, rng)
        rows["gz3d"] |= totals
        rows["gz2_votes"] = {"dr7objid": sdss_id} | position | votes
    sami, bar = _sami_row(galaxy, identity, rng), _bar_length_row(galaxy, sdss_id, rng)
    if in_sami:
        rows["sami"] = sami
    if bar is not None and measured and seen["bar"] > 0.3:
        rows["bar_lengths"] = bar
    asked = {f"n_asked_{name}": n_asked[name] for name in schema.CLASSES}
    rows["master"] = _master_row(galaxy, identity) | asked | dict(paths) | magnitudes | predicted
    return rows


GZ3D_COLUMNS = (
    "ra", "dec", "MANGAID", "IAUNAME", "IFUDESIGNSIZE", "MANGA_TILEID", "nsa_id", "explorer_link",
    "GZ_total_classifications", "GZ_bar_votes", "GZ_spiral_votes", "sample",
)  # fmt: skip


def _campaign_votes(expected: Fractions, rng: np.random.Generator) -> Row:
    """Votes in the one campaign that showed a galaxy; 0 in the others."""
    campaign = str(rng.choice(CAMPAIGNS, p=_CAMPAIGN_SHARES))
    people = int(rng.integers(5, 9) if campaign == "dr8" else rng.integers(36, 45))
    counts = draw_votes(schema.CAMPAIGNS[campaign], campaign_fractions(expected, campaign), people, rng)
    row: Row = {}
    for name in CAMPAIGNS:
        given = counts if name == campaign else {}
        row |= {
            column: given.get(f"{question.name}_{answer}", 0)
            for question in schema.CAMPAIGNS[name]
            for column, answer in zip(question.vote_columns(name), question.answers, strict=True)
        }
    return row


def _gz2_votes(expected: Fractions, rng: np.random.Generator) -> tuple[Row, Row]:
    """Columns of GZ3D's metadata on Galaxy Zoo 2, and all votes of Galaxy Zoo 2."""
    people = int(rng.integers(38, 52))
    counts = draw_votes(schema.GZ2_QUESTIONS, campaign_fractions(expected, "gz2"), people, rng)
    yes = counts["bar_yes"], counts["has-spiral-arms_yes"]
    names = "GZ_total_classifications", "GZ_bar_votes", "GZ_spiral_votes"
    votes = {
        column: counts[f"{question.name}_{answer}"]
        for question in schema.GZ2_QUESTIONS
        for column, answer in zip(question.vote_columns("gz2"), question.answers, strict=True)
    }
    return dict(zip(names, (people, *yes), strict=True)), votes


def _master_row(galaxy: Galaxy, identity: Mapping[str, Any]) -> Row:
    """Names, positions and sizes of the master catalogue."""
    return {
        "dr8_id": identity["dr8_id"],
        "ra": galaxy.ra,
        "dec": galaxy.dec,
        schema.COL_RA_MANGA: identity["ra"],
        schema.COL_DEC_MANGA: identity["dec"],
        schema.COL_MANGAID: identity["MANGAID"],
        "iauname": identity["IAUNAME"],
        "brickid": identity["brickid"],
        "objid": identity["objid"],
        schema.COL_PIXSCALE: galaxy.pixscale,
        "petro_th50": galaxy.petro_th50,
        "petro_th90": galaxy.petro_th90,
        "est_petro_th50": galaxy.petro_th50,
        "redshift": galaxy.redshift,
    }


def _columns(
    questions: Sequence[schema.Question], fractions: Mapping[str, Mapping[str, float]], pattern: str
) -> dict[str, float]:
    return {pattern.format(question=q.name, answer=a): fractions[q.name][a] for q in questions for a in q.answers}


def _sami_row(galaxy: Galaxy, identity: Mapping[str, Any], rng: np.random.Generator) -> Row:
    """One row of the 21 columns of SAMI DR3's input catalogues."""
    g_i = galaxy.mag_g - galaxy.mag_z + 0.15  # i lies between r and z
    modulus = float(Planck18.distmod(galaxy.redshift).value)
    magnitude = galaxy.mag_r - modulus
    # Taylor et al. 2011, MNRAS 418, 1587, equation 8, with the i band about 0.2 mag brighter than r.
    log_mass = 1.15 + 0.70 * g_i - 0.4 * (magnitude - 0.2)
    ellipticity = 1 - galaxy.axis_ratio
    semi_major = galaxy.petro_th50 / np.sqrt(1 - 0.8 * ellipticity)
    surface = galaxy.mag_r + 2.5 * np.log10(2 * np.pi * galaxy.petro_th50**2)
    dither = rng.normal(0, 0.2 / 3600, 2)
    return {
        "CATID": 200_000 + int(identity["objid"]),
        "RA_OBJ": galaxy.ra,
        "DEC_OBJ": galaxy.dec,
        "RA_IFU": float((galaxy.ra + dither[0] / np.cos(np.radians(galaxy.dec))) % 360),
        "DEC_IFU": float(galaxy.dec + dither[1]),
        "r_petro": galaxy.mag_r,
        "r_auto": float(galaxy.mag_r - 0.03 + rng.normal(0, 0.03)),
        "z_tonry": float(galaxy.redshift + rng.normal(0, 1e-4)),
        "z_spec": galaxy.redshift,
        "M_r": magnitude,
        "r_e": float(semi_major),
        "mu_within_1re": float(surface),
        "mu_1re": float(surface + 0.7),
        "mu_2re": float(surface + 2.5),
        "ellip": ellipticity,
        "PA": galaxy.pa,
        "Mstar": float(log_mass),
        "g_i": float(g_i),
        "A_g": float(np.clip(rng.normal(0.12, 0.05), 0.02, 0.5)),
        "SURV_SAMI": int(rng.choice((4, 8), p=(0.3, 0.7))),
        "BAD_CLASS": int(rng.choice((0, 8), p=(0.97, 0.03))),
    }


def _bar_length_row(galaxy: Galaxy, sdss_id: int, rng: np.random.Generator) -> Row | None:
    """One row like Hoyle et al. 2011: full length and width as seen, kpc/h, from a few measurements each; or None."""
    if galaxy.bar is None:
        return None
    kpc_per_arcsec = float(Planck18.kpc_proper_per_arcmin(galaxy.redshift).to_value(u.kpc / u.arcsec)) * _HUBBLE
    times = int(rng.integers(3, 8))
    lengths = 2 * galaxy.bar.length * kpc_per_arcsec * rng.lognormal(0, 0.1, times)
    widths = 2 * galaxy.bar.length * galaxy.bar.axis_ratio * kpc_per_arcsec * rng.lognormal(0.1, 0.25, times)
    return {
        "objid": sdss_id,
        "ra": galaxy.ra,
        "dec": galaxy.dec,
        "length_avg": float(lengths.mean()),
        "length_stdev": float(lengths.std(ddof=1)),
        "width_avg": float(widths.mean()),
        "width_stdev": float(widths.std(ddof=1)),
        "length_scaled": float(lengths.mean() / (2 * galaxy.petro_th90 * kpc_per_arcsec)),
        "bar_meas": times,
    }


# Whole tables


def write_catalogs(out: str | os.PathLike[str], records: Iterable[Mapping[str, Row]]) -> None:
    """Write every table of a survey from its galaxies' rows, in their order.

    Parameters
    ----------
    out : str or os.PathLike
        The survey's folder.
    records : iterable of mapping
        What `catalog_rows` gave for each galaxy; read once, and not kept.
    """
    root = Path(out)
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in CATALOGUES}
    remaining = iter(records)
    while batch := list(islice(remaining, 1000)):  # dicts take ten times the memory of columns
        for name, frames in parts.items():
            if rows := [record[name] for record in batch if name in record]:
                frames.append(pd.DataFrame(rows))
    for name, location in CATALOGUES.items():
        frames = parts[name] or [pd.DataFrame(columns=_OPTIONAL[name])]
        frame = pd.concat(frames, ignore_index=True)
        if name == "master":
            frame["split"] = assign_split(frame[schema.COL_ID])
        if location.endswith(".csv"):
            with atomic_path(root / location) as temporary:
                frame.to_csv(temporary, index=False)
        else:
            write_parquet(root / location, frame)
        if name == "sami":
            _write_sami_fits(root / "catalogues/sami_targets.fits", frame)


_OPTIONAL = {  # tables that may have no rows, and their columns
    "gz2_votes": ["dr7objid", "ra", "dec", *(c for q in schema.GZ2_QUESTIONS for c in q.vote_columns("gz2"))],
    "sami": [
        "CATID", "RA_OBJ", "DEC_OBJ", "RA_IFU", "DEC_IFU", "r_petro", "r_auto", "z_tonry", "z_spec", "M_r", "r_e",
        "mu_within_1re", "mu_1re", "mu_2re", "ellip", "PA", "Mstar", "g_i", "A_g", "SURV_SAMI", "BAD_CLASS",
    ],
    "bar_lengths": [
        "objid", "ra", "dec", "length_avg", "length_stdev", "width_avg", "width_stdev", "length_scaled", "bar_meas",
    ],
}  # fmt: skip


def _write_sami_fits(path: Path, frame: pd.DataFrame) -> None:
    """Write the targets as Data Central's FITS download does: CATID and the coordinates are byte strings."""
    table = Table.from_pandas(frame)
    for name in ("CATID", "RA_OBJ", "DEC_OBJ", "RA_IFU", "DEC_IFU"):
        if name in table.colnames:
            table[name] = np.array([repr(value) for value in frame[name].tolist()], "S")
    with atomic_path(path) as temporary:
        table.write(temporary, format="fits", overwrite=True)
