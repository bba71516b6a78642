"""Losses against scipy, and what masking by n_asked must and must not do."""

import math

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import betabinom, binom, dirichlet_multinomial

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.losses import (
    DEFAULT_LOSS,
    INITIAL_CONCENTRATION,
    INITIAL_FRACTION,
    LOSS_NAMES,
    MAX_CONCENTRATION,
    OVERLAP_PIXELS,
    DirichletMultinomialLoss,
    build_loss,
    missed_overlap,
)

ASKED = 15


@pytest.fixture(params=LOSS_NAMES)
def loss(request):
    return build_loss(request.param)


def type_name(loss):
    """The name that a loss is built by."""
    return next(name for name in LOSS_NAMES if type(build_loss(name)) is type(loss))


def batch(loss, seed=0, size=4):
    """Return raw, votes, n_asked of two samples."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn((2, loss.out_channels, size, size), generator=generator)
    votes = torch.randint(0, ASKED + 1, (2, 2, size, size), generator=generator)
    return raw, votes, torch.full((2, 2), ASKED)


def log_choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def test_l1_and_mse_by_hand():
    raw = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)
    votes, asked = torch.tensor([3, 6]).view(1, 2, 1, 1), torch.tensor([[15, 10]])
    assert build_loss("l1")(raw, votes, asked).item() == pytest.approx((0.3 + 0.6) / 2)
    assert build_loss("mse")(raw, votes, asked).item() == pytest.approx((0.09 + 0.36) / 2)


def test_bce_is_the_binomial_likelihood():
    loss = build_loss("bce")
    raw, votes, asked = batch(loss)
    k, p = votes.numpy(), loss.fraction(raw).double().numpy()
    expected = -(binom.logpmf(k, ASKED, p) - log_choose(ASKED, k)) / ASKED
    assert loss(raw, votes, asked).item() == pytest.approx(expected.mean(), rel=1e-5)


def test_beta_binomial_is_scipys_with_documented_channel_order():
    loss = build_loss("beta_binomial")
    raw, votes, asked = batch(loss)
    raw[:, 1::2] *= 3  # concentrations from 0.1 to 10 or so
    k, values = votes.numpy(), raw.double().numpy()
    mean = 1 / (1 + np.exp(-values[:, [0, 2]]))
    total = np.log1p(np.exp(values[:, [1, 3]])) + 0.1
    expected = -(betabinom.logpmf(k, ASKED, total * mean, total * (1 - mean)) - log_choose(ASKED, k)) / ASKED
    assert loss(raw, votes, asked).item() == pytest.approx(expected.mean(), rel=1e-5)
    np.testing.assert_allclose(loss.fraction(raw), mean, rtol=1e-5)
    np.testing.assert_allclose(loss.variance(raw), mean * (1 - mean) / (1 + total), rtol=1e-5)


@pytest.mark.parametrize("raw_value", [-200.0, -30.0, 30.0, 200.0, 1e4])
def test_likelihoods_stay_finite_at_extreme_outputs(raw_value):
    for name in ("bce", "beta_binomial"):
        loss = build_loss(name)
        raw = torch.full((1, loss.out_channels, 1, 16), raw_value, requires_grad=True)
        value = loss(raw, torch.arange(16).expand(1, 2, 1, 16), torch.tensor([[ASKED, ASKED]]))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(raw.grad).all()


def test_beta_binomial_nears_the_binomial_at_high_concentration():
    raw = torch.tensor([0.3, 2 * MAX_CONCENTRATION, -1.0, 2 * MAX_CONCENTRATION]).view(1, 4, 1, 1)
    votes, asked = torch.tensor([8, 4]).view(1, 2, 1, 1), torch.tensor([[ASKED, ASKED]])
    binomial = build_loss("bce")(raw[:, 0::2], votes, asked).item()
    assert build_loss("beta_binomial")(raw, votes, asked).item() == pytest.approx(binomial, rel=0.01)


def test_fraction_is_within_0_and_1(loss):
    raw, votes, _ = batch(loss)
    fraction = loss.fraction(10 * raw)
    assert fraction.shape == votes.shape
    assert fraction.min() >= 0
    assert fraction.max() <= 1


def test_unknown_class_has_no_loss_and_no_gradient(loss):
    raw, votes, asked = batch(loss)
    asked[0, 1] = 0
    raw.requires_grad_()
    loss(raw, votes, asked).backward()
    bar = slice(loss.channels, 2 * loss.channels)
    assert torch.isfinite(raw.grad).all()
    assert (raw.grad[0, bar] == 0).all()
    assert (raw.grad[0, : loss.channels].abs().sum(dim=0) > 0).any()


def test_unknown_pixels_do_not_matter_whatever_they_hold(loss):
    raw, votes, asked = batch(loss)
    asked = asked[:, :, None, None].repeat(1, 1, 4, 4)
    asked[:, :, 0] = 0
    votes = votes.float()
    value = loss(raw, votes, asked)
    votes[:, :, 0] = torch.nan
    assert loss(raw, votes, asked) == value
    tracked = raw.clone().requires_grad_()
    loss(tracked, votes, asked).backward()
    assert torch.isfinite(tracked.grad).all()
    assert (tracked.grad[:, :, 0] == 0).all()
    torch.testing.assert_close(value, loss(raw[:, :, 1:], votes[:, :, 1:], asked[:, :, 1:]))


def test_nothing_known_is_zero_with_zero_gradient(loss):
    raw, votes, _ = batch(loss)
    raw.requires_grad_()
    value = loss(raw, votes, torch.zeros(2, 2))
    value.backward()
    assert value.item() == 0
    assert (raw.grad == 0).all()


def test_no_votes_of_15_is_a_real_negative(loss):
    raw, votes, asked = batch(loss)
    raw = raw.abs().requires_grad_()
    loss(raw, torch.zeros_like(votes), asked).backward()
    assert (raw.grad[:, 0] > 0).all()


def test_number_of_volunteers_does_not_scale_the_loss():
    for name in ("l1", "mse", "bce"):
        loss = build_loss(name)
        raw, votes, asked = batch(loss)
        torch.testing.assert_close(loss(raw, 2 * votes, 2 * asked), loss(raw, votes, asked))


def test_votes_may_be_fractional_and_of_any_type(loss):
    raw, votes, asked = batch(loss)
    torch.testing.assert_close(loss(raw, votes.to(torch.uint8), asked.int()), loss(raw, votes.double(), asked.half()))
    between = loss(raw, torch.full_like(votes, 3, dtype=torch.float32) + 0.5, asked)
    assert torch.isfinite(between)


def rows(*filled, size=32):
    """Maps (1, classes, size, size): 1 in the given rows of each class, 0 elsewhere."""
    maps = torch.zeros(1, len(filled), size, size)
    for plane, lines in zip(maps[0], filled, strict=True):
        plane[lines] = 1.0
    return maps


def test_missed_overlap_by_hand():
    everywhere = torch.ones(1, 2, 32, 32, dtype=torch.bool)
    # Spiral: rows 0-15 against rows 8-23, 256 pixels of 768 in common. Bar: none there, and none found.
    missed = missed_overlap(rows(slice(0, 16), slice(0, 0)), rows(slice(8, 24), slice(0, 0)), everywhere)
    spiral = 1 - (256 + OVERLAP_PIXELS) / (768 + OVERLAP_PIXELS)
    assert missed.tolist() == pytest.approx([spiral, 0], abs=1e-3)
    # Where nobody was asked nothing is missed, and a picture without a bar has no part in the mean.
    known = everywhere.clone()
    known[0, 0, :8] = known[0, 0, 16:] = False
    missed = missed_overlap(rows(slice(0, 16), slice(0, 32)), rows(slice(8, 24), slice(0, 0)), known)
    assert missed.tolist() == pytest.approx([0, 0], abs=1e-3)


def test_missed_overlap_of_pictures_without_the_class_counts_by_its_weight():
    everywhere = torch.ones(2, 2, 32, 32, dtype=torch.bool)
    # Spiral: all missed in the first picture, 8 rows found in the second where there are none.
    found = torch.cat([rows(slice(0, 0), slice(0, 0)), rows(slice(0, 8), slice(0, 0))])
    target = torch.cat([rows(slice(0, 16), slice(0, 0)), rows(slice(0, 0), slice(0, 0))])
    there, nothing = 1 - OVERLAP_PIXELS / (512 + OVERLAP_PIXELS), 1 - OVERLAP_PIXELS / (256 + OVERLAP_PIXELS)
    for absent in (0, 0.25, 1):
        mean = (there + absent * nothing) / (1 + absent)
        assert missed_overlap(found, target, everywhere, absent)[0].item() == pytest.approx(mean, abs=1e-3)
    everywhere[1] = False  # nobody was asked about the second
    assert missed_overlap(found, target, everywhere, 1.0)[0].item() == pytest.approx(there, abs=1e-3)


def test_missed_overlap_turns_on_a_fifth_of_the_volunteers():
    everywhere = torch.ones(1, 2, 32, 32, dtype=torch.bool)
    target = torch.full((1, 2, 32, 32), 0.25)
    few, many = (missed_overlap(torch.full_like(target, f), target, everywhere) for f in (0.05, 0.6))
    assert (few > 0.9).all()
    assert (many < 0.05).all()


def test_overlap_is_added_with_its_weight(loss):
    raw, votes, asked = batch(loss)
    with_overlap = build_loss(type_name(loss), overlap=0.5)
    missed = missed_overlap(loss.fraction(raw), votes / ASKED, torch.ones(votes.shape, dtype=torch.bool))
    added = with_overlap(raw, votes, asked) - loss(raw, votes, asked)
    assert added.item() == pytest.approx(0.5 * missed.mean().item(), rel=1e-4)


def test_class_weights_move_the_mean_and_renormalise():
    raw = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)
    votes, asked = torch.tensor([3, 6]).view(1, 2, 1, 1), torch.tensor([[15, 10]])
    weighted = build_loss("l1", class_weights=(1.0, 3.0))
    assert weighted(raw, votes, asked).item() == pytest.approx((0.3 + 3 * 0.6) / 4)
    assert weighted(raw, votes, torch.tensor([[15, 0]])).item() == pytest.approx(0.3)


def test_initial_raw_stands_for_the_initial_fraction(loss):
    raw = torch.tensor(loss.initial_raw).view(1, -1, 1, 1)
    assert raw.shape[1] == loss.out_channels
    torch.testing.assert_close(loss.fraction(raw), torch.full((1, 2, 1, 1), INITIAL_FRACTION))


def test_initial_concentration():
    loss = build_loss("beta_binomial")
    raw = torch.tensor(loss.initial_raw).view(1, -1, 1, 1)
    torch.testing.assert_close(loss.concentration(raw), torch.full((1, 2, 1, 1), INITIAL_CONCENTRATION))


def test_default_does_not_collapse_on_a_sparse_target_and_l1_does():
    """The best constant answer to a target that is 0.5 in 4% of pixels: its mean for bce, 0 for L1."""
    votes = torch.zeros(1, 2, 10, 10)
    votes[:, :, 0, :4] = 7.5
    asked = torch.tensor([[15, 15]])
    best = {}
    for name in ("l1", DEFAULT_LOSS):
        loss = build_loss(name)
        level = torch.tensor(loss.initial_raw)[:, None, None].requires_grad_()
        optimizer = torch.optim.Adam([level], lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            loss(level.expand(1, 2, 10, 10), votes, asked).backward()
            optimizer.step()
        best[name] = loss.fraction(level.detach()).mean().item()
    assert best["l1"] < 0.01
    assert best[DEFAULT_LOSS] == pytest.approx(0.02, abs=0.005)


def test_wrong_names_shapes_and_weights_are_refused():
    with pytest.raises(ConfigError, match=r"'dice'; choose one of bce, beta_binomial, l1, mse"):
        build_loss("dice")
    with pytest.raises(ConfigError, match="one weight >= 0 for each"):
        build_loss("bce", class_weights=(1.0, -1.0))
    with pytest.raises(ConfigError, match="one weight >= 0 for each"):
        build_loss("bce", class_weights=(1.0, math.nan))
    with pytest.raises(ConfigError, match="overlap is -1"):
        build_loss("bce", overlap=-1.0)
    with pytest.raises(ConfigError, match="overlap_absent is nan"):
        build_loss("bce", overlap=1.0, overlap_absent=math.nan)
    loss = build_loss("beta_binomial")
    raw, votes, asked = batch(loss)
    with pytest.raises(ConfigError, match=r"give a raw output \(2, 4, 4, 4\)"):
        loss(raw[:, :2], votes, asked)
    with pytest.raises(ConfigError, match=r"n_asked has shape \(2,\)"):
        loss(raw, votes, asked[:, 0])


# Answers about whole galaxies

QUESTIONS = (3, 2, 4)


def answers(seed=0, galaxies=6):
    """Return concentrations and counts of `QUESTIONS`, (B, 9): some questions were asked of nobody."""
    generator = torch.Generator().manual_seed(seed)
    concentrations = 1 + 20 * torch.rand((galaxies, sum(QUESTIONS)), generator=generator)
    counts = torch.randint(0, 30, concentrations.shape, generator=generator)
    counts[1, 3:5] = 0
    counts[4] = 0
    return concentrations, counts


def scipys(concentrations, counts):
    """Cost of each question by scipy."""
    costs = np.zeros((len(counts), len(QUESTIONS)))
    ends = np.cumsum(QUESTIONS)
    for row in range(len(counts)):
        for question, (start, end) in enumerate(zip(ends - QUESTIONS, ends, strict=True)):
            k, alpha = counts[row, start:end].numpy(), concentrations[row, start:end].double().numpy()
            if k.sum():
                costs[row, question] = -dirichlet_multinomial.logpmf(k, alpha, k.sum())
    return costs


def test_dirichlet_multinomial_is_scipys():
    concentrations, counts = answers()
    loss, expected = DirichletMultinomialLoss(QUESTIONS), scipys(concentrations, counts)
    np.testing.assert_allclose(loss.per_question(concentrations, counts), expected, rtol=1e-4, atol=1e-4)
    assert loss(concentrations, counts).item() == pytest.approx(expected.sum() / counts.sum().item(), rel=1e-5)


def test_dirichlet_multinomial_by_hand():
    # Concentrations (1, 1): every split of N votes is as likely, 1 / (N + 1).
    loss = DirichletMultinomialLoss([2])
    assert loss(torch.ones(1, 2), torch.tensor([[2, 1]])).item() == pytest.approx(math.log(4) / 3)


def test_a_question_without_votes_costs_nothing_and_teaches_nothing():
    concentrations, counts = answers()
    concentrations.requires_grad_()
    loss = DirichletMultinomialLoss(QUESTIONS)
    loss(concentrations, counts).backward()
    with torch.no_grad():
        costs = loss.per_question(concentrations, counts)
    assert costs[1, 1] == 0 and (costs[4] == 0).all() and costs[0].min() > 0
    assert (concentrations.grad[1, 3:5] == 0).all() and (concentrations.grad[4] == 0).all()
    assert (concentrations.grad[0] != 0).all()


def test_without_any_vote_there_is_no_loss():
    concentrations = torch.ones(2, 2, requires_grad=True)
    loss = DirichletMultinomialLoss([2])(concentrations, torch.zeros(2, 2))
    loss.backward()
    assert loss.item() == 0 and (concentrations.grad == 0).all()


def test_galaxies_weigh_by_their_votes():
    """Galaxies without votes change nothing, and the loss is that of a vote."""
    concentrations, counts = answers()
    loss = DirichletMultinomialLoss(QUESTIONS)
    known = counts.sum(dim=1) > 0
    torch.testing.assert_close(loss(concentrations, counts), loss(concentrations[known], counts[known]))
    each = torch.stack([loss(concentrations[[row]], counts[[row]]) for row in range(len(counts))])
    weights = counts.sum(dim=1) / counts.sum()
    torch.testing.assert_close(loss(concentrations, counts), (each * weights).sum())


def test_dirichlet_multinomial_likes_the_right_fractions():
    counts = torch.tensor([[30, 10]])
    loss = DirichletMultinomialLoss([2])
    right, wrong = (loss(torch.tensor([values]), counts) for values in ((15.0, 5.0), (5.0, 15.0)))
    assert right < loss(torch.tensor([[1.0, 1.0]]), counts) < wrong


def test_dirichlet_multinomial_refuses_what_does_not_fit():
    concentrations, counts = answers()
    with pytest.raises(ConfigError, match=r"concentrations \(6, 8\) and vote counts \(6, 9\).* give both as \(B, 9\)"):
        DirichletMultinomialLoss(QUESTIONS)(concentrations[:, :8], counts)
    for wrong in ([], [3, 1]):
        with pytest.raises(ConfigError, match="two answers each"):
            DirichletMultinomialLoss(wrong)
