"""Real galaxies that the package's model learns from: with volunteers' drawings, or with what people said of them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.io import read_picture, write_mask_png
from zoobot_3d.prepare.drawn import import_galaxy_builder
from zoobot_3d.schema import CLASSES, COL_BAR_MASK, COL_ID, COL_JPG, COL_PIXSCALE, COL_SPIRAL_MASK

HOSTS = Path(__file__).with_name("hosts.csv")
"""Pictures without clear arms, by whether we see a bar in them."""
FOLDS = 5
PIXSCALE = 0.2  # arcsec; any will do, as pictures and marks share their field and have no position
FAINTEST, SEEN = 0.1, 0.6
"""Where people saw a class and the teacher sees the first fraction of it or more, its mask is raised to the second."""

Answers = dict[str, bool]
"""For each of `CLASSES` that people were asked for, whether it is there."""

_FEATURELESS = re.compile(r"-> Smooth|\bSmooth\b|Round_Smooth|Cigar|Completely round|-> In between")
_NO_ARMS = re.compile(r"No spiral|Edge[-_ ]on (no )?[Bb]ulge|Edge_on_with")
_ARMS = re.compile(r"arms are there|How tightly wound|-> Spiral|(Tight|Loose|Barred)[ _]Spiral")
_NO_BAR = re.compile(r"-> No bar|Unbarred")
_BAR = re.compile(r"-> Bar( \||$)|(^|\| )Barred")


def fold(name: str) -> int:
    """Return the fold, 0 to 4, of a galaxy; it depends on its identifier alone."""
    return zlib.crc32(name.encode()) % FOLDS


def drawn_galaxies(root: Path, folder: Path) -> pd.DataFrame | None:
    """Add galaxies that volunteers drew on to a data root; None if the folder is not there."""
    if not folder.is_dir():
        print(f"{folder}: no marks of Galaxy Builder here; the model learns from no real mark")
        return None
    print(summary := import_galaxy_builder(folder, root))
    return read_catalog(summary.catalog).assign(group="drawn", split="train")


def answers_of(label: str) -> Answers:
    """Read what a label of Galaxy Zoo's examples, such as ``Is there a bar? -> No bar``, says about arms and bars."""
    found: Answers = {}
    if _FEATURELESS.search(label):
        found = dict.fromkeys(CLASSES, False)
    if _NO_ARMS.search(label):
        found["spiral"] = False
    elif _ARMS.search(label):
        found["spiral"] = True
    if _NO_BAR.search(label):
        found["bar"] = False
    elif _BAR.search(label):
        found["bar"] = True
    return found


@dataclass
class Unmarked:
    """Real pictures without marks.

    Attributes
    ----------
    files : dict
        Names and files.
    answers : dict
        Names, and what people said of them.
    hosts : set of str
        Those of the survey that the model is for.
    """

    files: dict[str, Path] = field(default_factory=dict)
    answers: dict[str, Answers] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)

    def add_folder(self, folder: Path, answers: Answers) -> None:
        """Add all pictures of a folder, of which people said the same."""
        for path in sorted(folder.glob("*.jpg")):
            self.files[name := f"{folder.name}_{path.stem}"] = path
            self.answers[name] = answers

    def add_hosts(self, folder: Path, *, answers: bool) -> None:
        """Add pictures of the survey that the model is for, but those that are kept for judging."""
        known = pd.read_csv(HOSTS, dtype=str).set_index("id")
        for path in sorted(folder.glob("*.jpg")):
            split, barred = known.loc[path.stem, ["split", "barred"]] if path.stem in known.index else ("train", "")
            if split != "test":
                self.files[name := f"{folder.name}_{path.stem}"] = path
                self.answers[name] = {"bar": barred == "yes"} if answers and barred in ("yes", "no") else {}
                self.hosts.add(name)

    def add_examples(self, labels: Path) -> None:
        """Add the examples of Galaxy Zoo's answers that a table lists."""
        if not labels.is_file():
            print(f"{labels}: no examples of Galaxy Zoo here; the model learns from none")
            return
        for row in pd.read_csv(labels).itertuples():
            self.files[name := f"example_{Path(row.file).stem}"] = labels.parent / row.file
            self.answers[name] = answers_of(row.label)
            if row.survey.startswith("DECaLS"):
                self.hosts.add(name)

    def without_folds(self, held: Collection[int]) -> Unmarked:
        """Leave out examples of some folds."""
        left = {name for name in self.files if not name.startswith("example_") or fold(name) not in set(held)}
        return Unmarked({name: path for name, path in self.files.items() if name in left}, self.answers, self.hosts)


def told(mask: NDArray[np.uint8], there: bool | None) -> NDArray[np.uint8]:
    """Correct a teacher's mask, 0-255, by what people said: whether there is anything, or None where nobody was asked.

    Returns
    -------
    array
        Blank if people saw nothing. If they did and the teacher sees it faintly, raised to a peak of `SEEN`.
    """
    peak = int(mask.max()) / 255
    if there is None or (there and not FAINTEST <= peak < SEEN):
        return mask
    return np.rint(mask * (SEEN / peak)).astype(np.uint8) if there else np.zeros_like(mask)


def taught_galaxies(
    root: Path,
    folder: str,
    pictures: Unmarked,
    teacher: Segmenter,
    sure: tuple[float, float],
    groups: Mapping[str, float],
) -> pd.DataFrame:
    """Make rows of real pictures whose masks a teacher predicts, where it is sure of a class or people told.

    Parameters
    ----------
    root : pathlib.Path
        Data root that masks are written to, under ``masks`` and ``folder``.
    folder : str
        Name of the stage that they are for.
    pictures : Unmarked
        The pictures.
    teacher : Segmenter
        It predicts the masks.
    sure : tuple of float
        Highest fractions of a class up to which the teacher saw nothing, and from which it saw it clearly; between them
        the class is unknown.
    groups : mapping
        Its keys say whether hosts are a group of their own, ``taught_hosts``.
    """
    out = root / "masks" / folder
    out.mkdir(parents=True, exist_ok=True)
    rows, names = [], sorted(pictures.files)
    for start in range(0, len(names), 64):
        some = names[start : start + 64]
        shown = [read_picture(pictures.files[name]) for name in some]
        for name, masks in zip(some, teacher.segment_batch(shown), strict=True):
            row: dict[str, object] = {COL_ID: f"taught_{name}", COL_JPG: str(pictures.files[name].resolve())}
            row["group"] = "taught_hosts" if name in pictures.hosts and "taught_hosts" in groups else "taught"
            for column, kind, mask in zip((COL_SPIRAL_MASK, COL_BAR_MASK), CLASSES, masks, strict=True):
                there = pictures.answers.get(name, {}).get(kind)
                known = told(np.rint(255 * mask).astype(np.uint8), there)
                peak = float(known.max()) / 255
                if not sure[0] < peak < sure[1] and not (there and peak < SEEN):
                    write_mask_png(out / f"{name}_{kind}.png", known / np.float32(255))
                    row[column] = f"masks/{folder}/{name}_{kind}.png"
            rows.append(row)
    frame = pd.DataFrame(rows, columns=[COL_ID, COL_JPG, COL_SPIRAL_MASK, COL_BAR_MASK, "group"])
    frame = frame[frame[COL_SPIRAL_MASK].notna() | frame[COL_BAR_MASK].notna()].reset_index(drop=True)
    return frame.assign(**{COL_PIXSCALE: PIXSCALE}, split="train")
