"""Names that files and tables share: classes, columns and units, Galaxy Zoo questions and answers. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

CLASSES = ("spiral", "bar")
"""Order of the first axis of every (class, H, W) map."""

GZ_FIELD_PX = 424
"""Side in pixels of a Galaxy Zoo picture; times ``est_dr5_pixscale`` it is the field of view in arcsec."""

PIXSCALES = (0.001, 100.0)
"""Smallest and largest arcsec per pixel that an image of a galaxy can have; a number beyond has another unit."""

DEFAULT_LAYER = "ls-dr8"
"""Release of the Legacy Surveys in which GZ DESI's galaxies were found (``dr8_id``) and most of them shown."""

# Columns of the master catalogue, as in files made by the earlier code.
COL_ID = "dr8_id"
COL_RA, COL_DEC = "ra", "dec"  # deg, of the cutout's centre
COL_RA_MANGA, COL_DEC_MANGA = "ra_manga", "dec_manga"  # deg, of the MaNGA target
COL_MANGAID = "mangaid"
COL_PIXSCALE = "est_dr5_pixscale"  # arcsec / px of the 424 px picture
COL_GZ3D = "relative_gz3d_fits_loc"
COL_FITS = "relative_desi_fits_loc"
COL_JPG = "relative_desi_jpg_loc"
COL_MARKS = "relative_segmap_json_loc"
COL_SPIRAL_MASK = "relative_spiral_mask_loc"
COL_BAR_MASK = "relative_bar_mask_loc"

ID_NAMES = (
    "id",
    COL_ID,
    "name",
    "id_str",
    "galaxy",
    "galaxy_id",
    "galaxyid",
    "object_id",
    "objectid",
    "objname",
    "object",
    "iauname",
    "mangaid",
    "manga_id",
    "plateifu",
    "dr7objid",
    "dr8objid",
    "objid",
    "sdss_id",
    "specobjid",
    "nsa_id",
    "nsaid",
    "catid",
    "cataid",
    "source_id",
    "targetid",
    "survey_id",
    "file_name",
    "filename",
    "brickid",
)
"""Columns that name galaxies, in small letters, those that are preferred first."""

INPUT_PX = (8, 2048)
"""Smallest and largest side in pixels of the pictures that a network may see."""

SMALLEST_FIELD = 0.05
"""Smallest central part of a Galaxy Zoo picture's side that a network may see: 21 of its 424 px."""

EMPTY = "all-zero image: outside the footprint of this layer"
"""Why a galaxy has no cutout that the service answered with zeros."""

DEFAULT_MASTER = "data/gz3d_and_desi_master_catalog.parquet"


def is_identifier(column: object) -> bool:
    """Tell whether a column holds names or identifiers, which stay text as written, by its own name."""
    name = str(column).strip().lower()
    return name in ID_NAMES or name.endswith(("_id", "_name", "objid", "_loc"))


def id_column(columns: Sequence[object]) -> str | None:
    """Find the column that names galaxies, whatever the case of its letters; None if there is none."""
    by_lower: dict[str, str] = {}
    for column in columns:
        by_lower.setdefault(str(column).strip().lower(), str(column))
    return next((by_lower[name] for name in ID_NAMES if name in by_lower and name != "brickid"), None)


@dataclass(frozen=True)
class Question:
    """One Galaxy Zoo question.

    Attributes
    ----------
    name : str
        As in column names, e.g. ``"disk-edge-on"``.
    answers : tuple of str
        As in column names, e.g. ``("yes", "no")``.
    asked_after : str or None
        ``"<question>_<answer>"`` that leads here; None for the first question.
    """

    name: str
    answers: tuple[str, ...]
    asked_after: str | None = None

    def fraction_columns(self) -> list[str]:
        """Column names of the predicted fractions in GZ DESI."""
        return [f"{self.name}_{answer}_fraction" for answer in self.answers]

    def vote_columns(self, campaign: str) -> list[str]:
        """Column names of the volunteers' vote counts in one campaign (``dr12``, ``dr5``, ``dr8``, ``gz2``)."""
        return [f"{self.name}-{campaign}_{answer}" for answer in self.answers]


_FEATURED, _FACE_ON = "smooth-or-featured_featured-or-disk", "disk-edge-on_no"

GZ_DESI_QUESTIONS = (
    Question("smooth-or-featured", ("smooth", "featured-or-disk", "artifact")),
    Question("disk-edge-on", ("yes", "no"), _FEATURED),
    Question("has-spiral-arms", ("yes", "no"), _FACE_ON),
    Question("bar", ("strong", "weak", "no"), _FACE_ON),
    Question("bulge-size", ("dominant", "large", "moderate", "small", "none"), _FACE_ON),
    Question("how-rounded", ("round", "in-between", "cigar-shaped"), "smooth-or-featured_smooth"),
    Question("edge-on-bulge", ("boxy", "none", "rounded"), "disk-edge-on_yes"),
    Question("spiral-winding", ("tight", "medium", "loose"), "has-spiral-arms_yes"),
    Question("spiral-arm-count", ("1", "2", "3", "4", "more-than-4", "cant-tell"), "has-spiral-arms_yes"),
    Question("merging", ("none", "minor-disturbance", "major-disturbance", "merger")),
)
"""Galaxy Zoo DESI (Walmsley et al. 2023, Zenodo 8360385), as asked in DECaLS DR5 and DR8."""

GZ_DR12_QUESTIONS = (
    Question("smooth-or-featured", ("smooth", "featured-or-disk", "artifact")),
    Question("disk-edge-on", ("yes", "no"), _FEATURED),
    Question("has-spiral-arms", ("yes", "no"), _FACE_ON),
    Question("bar", ("yes", "no"), _FACE_ON),
    Question("bulge-size", ("dominant", "obvious", "none"), _FACE_ON),
    Question("how-rounded", ("completely", "in-between", "cigar-shaped"), "smooth-or-featured_smooth"),
    Question("edge-on-bulge", ("boxy", "none", "rounded"), "disk-edge-on_yes"),
    Question("spiral-winding", ("tight", "medium", "loose"), "has-spiral-arms_yes"),
    Question("spiral-arm-count", ("1", "2", "3", "4", "more-than-4"), "has-spiral-arms_yes"),
    Question("merging", ("neither", "tidal-debris", "both", "merger")),
)
"""The first two campaigns of Galaxy Zoo DECaLS, on DR1 and DR2 (Walmsley et al. 2022, MNRAS 509, 3966; Zenodo 4573248):
other answers on bar, bulge, roundness and merging, and no "can't tell" for arms."""

GZ2_QUESTIONS = (
    Question("smooth-or-featured", ("smooth", "featured-or-disk", "artifact")),
    Question("disk-edge-on", ("yes", "no"), _FEATURED),
    Question("bar", ("yes", "no"), _FACE_ON),
    Question("has-spiral-arms", ("yes", "no"), _FACE_ON),
    Question("bulge-size", ("no", "just-noticeable", "obvious", "dominant"), _FACE_ON),
    Question("how-rounded", ("round", "in-between", "cigar"), "smooth-or-featured_smooth"),
    Question("bulge-shape", ("round", "boxy", "no-bulge"), "disk-edge-on_yes"),
    Question("spiral-winding", ("tight", "medium", "loose"), "has-spiral-arms_yes"),
    Question("spiral-arm-count", ("1", "2", "3", "4", "more-than-4", "cant-tell"), "has-spiral-arms_yes"),
)
"""Galaxy Zoo 2 (Willett et al. 2013)."""

CAMPAIGNS: Mapping[str, tuple[Question, ...]] = {
    "dr12": GZ_DR12_QUESTIONS,
    "dr5": GZ_DESI_QUESTIONS,
    "dr8": GZ_DESI_QUESTIONS,
    "gz2": GZ2_QUESTIONS,
}
"""What each campaign asked, by the name that its columns of votes carry."""


def vote_columns(campaigns: Sequence[str]) -> list[str]:
    """Columns of all vote counts of some campaigns, question by question, in their order.

    Parameters
    ----------
    campaigns : sequence of str
        Keys of `CAMPAIGNS`.

    Returns
    -------
    list of str
        E.g. ``"smooth-or-featured-dr5_smooth"``.
    """
    return [column for name in campaigns for question in CAMPAIGNS[name] for column in question.vote_columns(name)]


def answers_per_question(columns: Sequence[str]) -> list[int]:
    """Count the answers of each question in a list of vote columns.

    Parameters
    ----------
    columns : sequence of str
        ``<question>-<campaign>_<answer>``, the answers of a question side by side, as `vote_columns` lists them.

    Returns
    -------
    list of int
        One number for each question; they add up to the number of columns.
    """
    return [len(list(group)) for _, group in groupby(columns, key=lambda column: column.partition("_")[0])]
