"""The networks of a segmenter at work together: batches, the orientations of a square, and one answer of them all.

Sees pictures as they are, of one field. Knows neither galaxies in wider pictures nor what a user may ask for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import ConfigError
from zoobot_3d.infer.members import Member
from zoobot_3d.infer.picture import beyond_field
from zoobot_3d.infer.uncertainty import N_SYMMETRIES, Answer, Found, combine, mean_disagreement, over_symmetries
from zoobot_3d.sky.grid import PixelGrid, resample

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble:
    """One network, or several whose fraction is the mean of theirs.

    Attributes
    ----------
    members : sequence of Member
        The networks; they may differ in input size and field.
    batch_size : int
        Pictures that go through a network at once; with ``tta``, their orientations count one by one.
    tta : bool
        Show each picture in the eight orientations of a square.
    """

    members: Sequence[Member]
    batch_size: int
    tta: bool

    def answers(
        self, pictures: Sequence[NDArray[np.uint8]], uncertain: bool
    ) -> Iterator[tuple[list[Answer], PixelGrid]]:
        """Yield every network's answer to each picture, on the network's grid, and the picture's grid."""
        for start in range(0, len(pictures), self.batch_size):
            chunk = pictures[start : start + self.batch_size]
            answers = [self._ask(member, member.see(chunk), uncertain) for member in self.members]
            for index, picture in enumerate(chunk):
                yield [answer.map(itemgetter(index)) for answer in answers], PixelGrid(picture.shape[:2], 1.0)

    def found(self, answers: list[Answer], grid: PixelGrid, uncertain: bool) -> Found:
        """Combine the answers of all networks to one picture, on its pixels."""
        apart = mean_disagreement(answer.disagreement for answer in answers)
        if len(answers) == 1 and not uncertain:
            masks = resample(answers[0].mean, self.members[0].grid(grid), grid)
            return Found(self._within_field(masks), None, apart)
        pairs = zip(self.members, answers, strict=True)
        mean, variance = combine(*zip(*[_moved(answer, each.grid(grid), grid) for each, answer in pairs], strict=True))
        sigma = self._within_field(np.sqrt(variance)) if uncertain else None
        return Found(self._within_field(mean), sigma, apart)

    def on_first(
        self, views: NDArray[Any] | Sequence[NDArray[Any]], *, uncertain: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and variance of what the networks say, on the pixels of the first; no variance unless asked."""
        if isinstance(views, np.ndarray):
            if len({member.view for member in self.members}) > 1:
                raise ConfigError("the bundles differ in input size or field; give each its own views")
            views = [views] * len(self.members)
        elif len(views) != len(self.members):
            raise ConfigError(f"{len(views)} arrays of views for {len(self.members)} bundles; give one for each")
        answers = [self._ask(member, array, uncertain) for member, array in zip(self.members, views, strict=True)]
        if len(answers) == 1 and not uncertain:
            return answers[0].mean, np.zeros(0, np.float32)
        target = self.members[0].view
        moved = [_moved(answer, member.view, target) for member, answer in zip(self.members, answers, strict=True)]
        return combine(*zip(*moved, strict=True))

    def vote_fractions(self, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        """Return the mean fraction (B,) for each answer that any network has a vote head for."""
        told: dict[str, list[NDArray[np.float32]]] = {}
        for member in self.members:
            if votes := member.bundle.info.votes:
                fractions = np.concatenate(
                    [np.zeros((0, len(votes)), np.float32), *self._vote_batches(member, pictures)]
                )
                for name, column in zip(votes, fractions.T, strict=True):
                    told.setdefault(name, []).append(column)
        return {name: np.mean(columns, axis=0) for name, columns in told.items()}

    def _vote_batches(self, member: Member, pictures: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Yield the fractions (B, answers) of one network, a batch at a time."""
        for start in range(0, len(pictures), self.batch_size):
            yield member.votes(member.see(pictures[start : start + self.batch_size]))

    def _ask(self, member: Member, views: NDArray[Any], uncertain: bool) -> Answer:
        """Ask one network about views on its grid."""
        batch = views.astype(np.float32, copy=False)
        if not self.tta:
            mean, own = member.predict(batch, uncertain)
            return Answer(mean, own=own)
        step = max(1, self.batch_size // N_SYMMETRIES)
        parts = [
            over_symmetries(lambda turned: member.predict(turned, uncertain), batch[start : start + step])
            for start in range(0, len(batch), step)
        ]
        return Answer.join(parts)

    def _within_field(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put NaN where no network sees; in place, and returned."""
        widest = max(member.bundle.info.field_fraction for member in self.members)
        maps[:, beyond_field(maps.shape[1], widest)] = np.nan
        maps[:, :, beyond_field(maps.shape[2], widest)] = np.nan
        return maps


def _moved(answer: Answer, here: PixelGrid, there: PixelGrid) -> list[NDArray[np.float32] | None]:
    """Move every map (..., S, S) of an answer to another grid; NaN outside."""
    moved: list[NDArray[np.float32] | None] = []
    for maps in (answer.mean, answer.spread, answer.own):
        if maps is None:
            moved.append(None)
        else:
            planes = resample(maps.reshape(-1, *here.shape), here, there, fill=np.nan)
            moved.append(planes.reshape(*maps.shape[:-2], *there.shape))
    return moved
