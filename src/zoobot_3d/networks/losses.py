"""Losses of network outputs against volunteers' votes, and what fraction a raw output stands for.

Torch only: knows nothing of networks, data or Lightning. A pixel's label is (votes, n_asked). Where n_asked is 0
nobody was asked, so there is no loss and no gradient; 0 votes of 15 is a real negative. Votes may be fractional, as
augmented or read-from-image masks are.

Every loss is a mean over the known pixels of a class and, by ``class_weights``, over the classes that have any, so its
size depends neither on how many pixels are known nor on how many volunteers looked. `DirichletMultinomialLoss` is of
another kind: of the answers to Galaxy Zoo's questions about a whole galaxy.

The default is ``bce``. Arms and bars cover a few percent of a picture, so the median of the target is 0 nearly
everywhere: plain L1, whose best constant answer is that median, collapses from scratch to an empty mask and stays there
for many steps. The likelihood of the votes is least at their mean instead, and on a logit its gradient does not vanish.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.labels import broadcast_asked
from zoobot_3d.schema import CLASSES

INITIAL_FRACTION = 0.04
"""Fraction that a fresh network should answer: about what the votes of arms and bars average to."""
INITIAL_CONCENTRATION = 10.0
"""Concentration (alpha + beta) that a fresh beta-binomial network should answer: volunteers agree moderately."""
MAX_CONCENTRATION = 1000.0
"""Upper limit of the concentration: beyond it a beta-binomial of tens of volunteers is a binomial to 2%."""
OVERLAP_LEVEL = 0.2
"""Fraction of volunteers above which a pixel counts as part of an arm or a bar where overlaps are measured."""
OVERLAP_STEEPNESS = 2.0
"""How fast a pixel passes from outside to inside at `OVERLAP_LEVEL`, relative to its logit."""
OVERLAP_PIXELS = 10.0
"""Added to intersection and union, so that a bar of few pixels is no matter of all or nothing."""
MIN_CONCENTRATION = 0.1
"""Lower limit of the concentration, which keeps ``lgamma`` and its gradient finite."""


class Loss(nn.Module, ABC):
    """Base of the losses: checks shapes, masks by ``n_asked`` and averages; subclasses say what a pixel costs.

    Parameters
    ----------
    class_weights : sequence of float
        Weight of each class (spiral, bar) in the mean. Bars are small, so they may deserve more.
    overlap : float
        Weight of `missed_overlap`, which is added. It makes every picture count alike, however small its bar.
    overlap_absent : float
        Weight in it of a picture without the class, relative to one that has it.

    Attributes
    ----------
    channels : int
        Raw output channels for each class.
    out_channels : int
        Raw output channels in all.
    initial_raw : tuple of float
        Raw outputs a fresh network should start at, for `zoobot_3d.networks.build_model`.

    Raises
    ------
    ConfigError
        If there is not one finite non-negative weight for each class, or all are 0; or if another weight is negative.
    """

    channels = 1
    class_weights: Tensor

    def __init__(
        self,
        class_weights: Sequence[float] = (1.0,) * len(CLASSES),
        overlap: float = 0.0,
        overlap_absent: float = 0.0,
    ) -> None:
        super().__init__()
        usable = all(math.isfinite(weight) and weight >= 0 for weight in class_weights) and sum(class_weights) > 0
        if len(class_weights) != len(CLASSES) or not usable:
            raise ConfigError(f"class_weights are {tuple(class_weights)}; give one weight >= 0 for each of {CLASSES}")
        for name, weight in (("overlap", overlap), ("overlap_absent", overlap_absent)):
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"{name} is {weight}; give a weight >= 0")
        self.overlap, self.overlap_absent = overlap, overlap_absent
        self.register_buffer("class_weights", torch.tensor(class_weights, dtype=torch.float32), persistent=False)

    @property
    def out_channels(self) -> int:
        """Raw output channels in all."""
        return self.channels * len(CLASSES)

    @property
    def initial_raw(self) -> tuple[float, ...]:
        """Raw outputs of which the fraction is `INITIAL_FRACTION`, one for each output channel."""
        return (INITIAL_FRACTION,) * len(CLASSES)

    @abstractmethod
    def fraction(self, raw: Tensor) -> Tensor:
        """Return the expected fraction of volunteers, (B, classes, H, W) in 0-1, for a raw output."""

    @abstractmethod
    def per_pixel(self, raw: Tensor, votes: Tensor, n_asked: Tensor) -> Tensor:
        """Return the cost of each pixel, (B, classes, H, W); ``n_asked`` is at least 1 here."""

    def forward(self, raw: Tensor, votes: Tensor, n_asked: Tensor) -> Tensor:
        """Return the weighted mean cost of the known pixels.

        Parameters
        ----------
        raw : Tensor
            Network output, (B, classes * channels, H, W).
        votes : Tensor
            Volunteers who enclosed each pixel, (B, classes, H, W), of any real type.
        n_asked : Tensor
            Volunteers asked, (B, classes) or (B, classes, H, W). 0: unknown.

        Returns
        -------
        Tensor
            Scalar, float32. 0 with a gradient of 0 when nothing is known.

        Raises
        ------
        ConfigError
            If the shapes do not go together.
        """
        asked, raw = broadcast_asked(n_asked, votes), raw.float()
        batch, _, height, width = votes.shape
        if raw.shape != (batch, self.out_channels, height, width):
            raise ConfigError(
                f"raw output {tuple(raw.shape)} and votes {tuple(votes.shape)} do not go together; "
                f"give a raw output {(batch, self.out_channels, height, width)}, as loss.out_channels asks"
            )
        known = (asked > 0).expand_as(votes)
        safe_asked = asked.clamp_min(1.0)  # no division by 0 even in pixels masked below: 0 * NaN is NaN in a gradient
        safe_votes = torch.where(known, votes.float(), torch.zeros((), device=votes.device))
        cost = self.per_pixel(raw, torch.minimum(safe_votes, safe_asked.expand_as(votes)), safe_asked)
        known_pixels = known.sum(dim=(0, 2, 3))
        means = torch.where(known, cost, torch.zeros((), device=cost.device)).sum(
            dim=(0, 2, 3)
        ) / known_pixels.clamp_min(1)
        weights = self.class_weights * (known_pixels > 0)
        if self.overlap:
            missed = missed_overlap(self.fraction(raw), safe_votes / safe_asked, known, self.overlap_absent)
            means = means + self.overlap * missed
        return (means * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)


def missed_overlap(fraction: Tensor, target: Tensor, known: Tensor, absent: float = 0.0) -> Tensor:
    """Return 1 minus the intersection over union of what exceeds `OVERLAP_LEVEL`, the mean over pictures.

    Predicted pixels pass smoothly from outside to inside, so that there is a gradient (Rahman & Wang 2016,
    doi:10.1007/978-3-319-50835-1_22).

    Parameters
    ----------
    fraction, target : Tensor
        Predicted fractions and those of the volunteers, (B, classes, H, W) in 0-1.
    known : Tensor
        Whether volunteers were asked, of the same shape.
    absent : float
        Weight of a picture without the class, relative to one that has it. There a few false pixels cost nearly as much
        as a missed bar: with 1 a network finds fewer bars, with 0 it finds some where there are none.

    Returns
    -------
    Tensor
        (classes,), 0 where no picture counts.
    """
    level = math.log(OVERLAP_LEVEL / (1 - OVERLAP_LEVEL))
    inside = (OVERLAP_STEEPNESS * (torch.logit(fraction, eps=1e-4) - level)).sigmoid() * known
    there = ((target > OVERLAP_LEVEL) & known).float()
    both = (inside * there).sum(dim=(2, 3))
    either = inside.sum(dim=(2, 3)) + there.sum(dim=(2, 3)) - both
    missed = 1 - (both + OVERLAP_PIXELS) / (either + OVERLAP_PIXELS)
    has, asked = there.flatten(2).any(dim=2), known.flatten(2).any(dim=2)
    weights = has + absent * (asked & ~has)
    return (missed * weights).sum(dim=0) / weights.sum(dim=0).clamp_min(torch.finfo(torch.float32).tiny)


class L1Loss(Loss):
    """Absolute difference of the raw output and votes / n_asked, as published."""

    def fraction(self, raw: Tensor) -> Tensor:
        """Return the raw output, clipped to 0-1."""
        return raw.float().clamp(0.0, 1.0)

    def per_pixel(self, raw: Tensor, votes: Tensor, n_asked: Tensor) -> Tensor:
        """Return the absolute value of raw - votes / n_asked."""
        return (raw - votes / n_asked).abs()


class MSELoss(L1Loss):
    """Squared difference of the raw output and votes / n_asked."""

    def per_pixel(self, raw: Tensor, votes: Tensor, n_asked: Tensor) -> Tensor:
        """Return the square of raw - votes / n_asked."""
        return (raw - votes / n_asked) ** 2


class BCELoss(Loss):
    """Binomial negative log likelihood of the votes given sigmoid(raw), for each volunteer asked.

    The log likelihood is divided by n_asked, and the binomial coefficient, which no parameter changes, is left out: for
    integer votes k of n, ``cost = -(scipy.stats.binom.logpmf(k, n, p) - log C(n, k)) / n``. This is the binary cross
    entropy with votes / n_asked as its soft target.
    """

    @property
    def initial_raw(self) -> tuple[float, ...]:
        """Logit of `INITIAL_FRACTION`, for each class."""
        return (math.log(INITIAL_FRACTION / (1 - INITIAL_FRACTION)),) * len(CLASSES)

    def fraction(self, raw: Tensor) -> Tensor:
        """Return sigmoid(raw)."""
        return raw.float().sigmoid()

    def per_pixel(self, raw: Tensor, votes: Tensor, n_asked: Tensor) -> Tensor:
        """Return the cross entropy of the soft target votes / n_asked."""
        return functional.binary_cross_entropy_with_logits(raw, votes / n_asked, reduction="none")


class BetaBinomialLoss(Loss):
    """Beta-binomial negative log likelihood of the votes, for each volunteer asked.

    Four raw channels, in order ``[spiral_a, spiral_b, bar_a, bar_b]``. For numbers that stay finite, a and b are not
    the Beta's own parameters: sigmoid(a) is its mean, and its concentration (alpha + beta) rises with b, as softplus,
    between `MIN_CONCENTRATION` and `MAX_CONCENTRATION`. The log likelihood is divided by n_asked and leaves out the
    binomial coefficient, as `BCELoss` does: ``cost = -(scipy.stats.betabinom.logpmf(k, n, alpha, beta) - log C(n, k))
    / n``.
    """

    channels = 2

    @property
    def initial_raw(self) -> tuple[float, ...]:
        """Raw values of `INITIAL_FRACTION` and `INITIAL_CONCENTRATION`, for each class."""
        logit = math.log(INITIAL_FRACTION / (1 - INITIAL_FRACTION))
        return (logit, math.log(math.expm1(INITIAL_CONCENTRATION - MIN_CONCENTRATION))) * len(CLASSES)

    @staticmethod
    def concentration(raw: Tensor) -> Tensor:
        """Return alpha + beta, (B, classes, H, W): small where volunteers disagree."""
        return (functional.softplus(raw[:, 1::2].float()) + MIN_CONCENTRATION).clamp_max(MAX_CONCENTRATION)

    def fraction(self, raw: Tensor) -> Tensor:
        """Return the mean of the Beta distribution, sigmoid(a)."""
        return raw[:, 0::2].float().sigmoid()

    def variance(self, raw: Tensor) -> Tensor:
        """Return the variance of the Beta distribution of the fraction, (B, classes, H, W)."""
        mean = self.fraction(raw)
        return mean * (1.0 - mean) / (1.0 + self.concentration(raw))

    def per_pixel(self, raw: Tensor, votes: Tensor, n_asked: Tensor) -> Tensor:
        """Return -(log B(k + alpha, n - k + beta) - log B(alpha, beta)) / n."""
        total = self.concentration(raw)
        # A mean that rounds to 0 or 1 would make alpha or beta 0 and lgamma infinite.
        alpha = total * self.fraction(raw).clamp_min(_TINY_MEAN)
        beta = total * (-raw[:, 0::2].float()).sigmoid().clamp_min(_TINY_MEAN)
        log_likelihood = (
            torch.lgamma(votes + alpha)
            + torch.lgamma(n_asked - votes + beta)
            - torch.lgamma(n_asked + total)
            - torch.lgamma(alpha)
            - torch.lgamma(beta)
            + torch.lgamma(total)
        )
        return -log_likelihood / n_asked


_TINY_MEAN = 1e-6

_LOSSES: dict[str, type[Loss]] = {"bce": BCELoss, "beta_binomial": BetaBinomialLoss, "l1": L1Loss, "mse": MSELoss}

LOSS_NAMES = tuple(_LOSSES)
"""What `build_loss` can build."""

DEFAULT_LOSS = "bce"
"""See the top of this module for why."""


def build_loss(
    name: str = DEFAULT_LOSS,
    class_weights: Sequence[float] = (1.0,) * len(CLASSES),
    overlap: float = 0.0,
    overlap_absent: float = 0.0,
) -> Loss:
    """Build a loss by name.

    Parameters
    ----------
    name : str
        One of `LOSS_NAMES`.
    class_weights : sequence of float
        Weight of each class (spiral, bar).
    overlap : float
        Weight of `missed_overlap` beside it.
    overlap_absent : float
        Weight in it of a picture without the class, relative to one that has it.

    Raises
    ------
    ConfigError
        If there is no such loss or the weights do not fit.
    """
    if name not in _LOSSES:
        raise ConfigError(f"no loss is called {name!r}; choose one of {', '.join(LOSS_NAMES)}")
    return _LOSSES[name](class_weights, overlap, overlap_absent)


class DirichletMultinomialLoss(nn.Module):
    """Dirichlet-multinomial negative log likelihood of the answers to several questions about whole galaxies.

    Of a question to which N volunteers gave the counts k, and a network the concentrations c, with n their sum, and
    with G the gamma function::

        cost = -(log N! + log G(n) - log G(N + n) + sum_i [log G(k_i + c_i) - log G(c_i) - log k_i!])

    This is ``-scipy.stats.dirichlet_multinomial.logpmf(k, c, N)``. The costs of a galaxy's questions add up (Walmsley
    et al. 2022, MNRAS 509, 3966, section 4.1). A question that nobody was asked costs exactly 0 and has no gradient.
    The loss is the sum over all galaxies and questions, divided by the number of votes: the cost of a vote, so that it
    is of the size of the losses of pixels, and galaxies weigh as much as is known of them.

    Parameters
    ----------
    answers : sequence of int
        How many answers each question has, in the order of the columns; see
        `zoobot_3d.schema.answers_per_question`.

    Raises
    ------
    ConfigError
        If there is no question, or one with fewer than two answers.
    """

    def __init__(self, answers: Sequence[int]) -> None:
        super().__init__()
        if not answers or min(answers) < 2:
            raise ConfigError(f"questions with {list(answers)} answers; give one question or more of two answers each")
        self.answers = tuple(answers)

    def per_question(self, concentrations: Tensor, counts: Tensor) -> Tensor:
        """Return the cost of each question about each galaxy, (B, questions); parameters as in `forward`."""
        expected = (len(concentrations), sum(self.answers))
        if concentrations.shape != expected or counts.shape != expected:
            raise ConfigError(
                f"concentrations {tuple(concentrations.shape)} and vote counts {tuple(counts.shape)} do not go "
                f"together; give both as (B, {expected[1]}), a column for each answer"
            )
        alphas = concentrations.float().split(self.answers, dim=1)
        votes = counts.float().split(self.answers, dim=1)
        return torch.stack([_dirichlet_multinomial(*pair) for pair in zip(alphas, votes, strict=True)], dim=1)

    def forward(self, concentrations: Tensor, counts: Tensor) -> Tensor:
        """Return the mean cost of a vote.

        Parameters
        ----------
        concentrations : Tensor
            Of the Dirichlet distribution of each answer's fraction, positive, (B, answers of all questions).
        counts : Tensor
            Volunteers who gave each answer, of the same shape and any real type.

        Returns
        -------
        Tensor
            Scalar, float32. 0 with a gradient of 0 when there is no vote.

        Raises
        ------
        ConfigError
            If the shapes do not go together.
        """
        return self.per_question(concentrations, counts).sum() / counts.float().sum().clamp_min(1.0)


def _dirichlet_multinomial(concentrations: Tensor, counts: Tensor) -> Tensor:
    """Cost (B,) of one question. Each bracket is exactly 0 where counts are."""
    spread, votes = concentrations.sum(dim=1), counts.sum(dim=1)
    ours = (torch.lgamma(counts + concentrations) - torch.lgamma(concentrations)).sum(dim=1)
    orders = torch.lgamma(votes + 1) - torch.lgamma(counts + 1).sum(dim=1)  # no parameter changes it
    return torch.lgamma(votes + spread) - torch.lgamma(spread) - ours - orders
