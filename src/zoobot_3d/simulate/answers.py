"""What people, and models trained on them, answer to Galaxy Zoo's questions about a simulated galaxy.

Answers follow the truth as far as it could be seen in the picture, with scatter. Knows nothing of pixels or tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoobot_3d import schema
from zoobot_3d.simulate.galaxies import Galaxy

__all__ = ["Fractions", "campaign_fractions", "draw_votes", "fractions_from_truth", "predicted_fractions"]

Fractions = dict[str, dict[str, float]]
"""Question to answer to fraction; the answers of a question add up to 1."""


def fractions_from_truth(galaxy: Galaxy, arms_seen: float, bar_seen: float) -> Fractions:
    """Tell the expected answers to the Galaxy Zoo DESI questions.

    Parameters
    ----------
    galaxy : Galaxy
        The truth.
    arms_seen, bar_seen : float
        Fractions of people who see arms and a bar.

    Returns
    -------
    dict
        Question to answer to fraction; the answers of a question add up to 1.
    """
    disk = galaxy.kind != "elliptical"
    edge_on = _logistic((galaxy.inclination - 77) / 2.5) if disk else 0.02
    patchy = 0.75 * min(1.0, galaxy.flocculence / 0.5) if disk else 0.0
    rings = 0.55 if galaxy.rings else 0.0
    featured = 0.05 + 0.88 * max(arms_seen, 0.8 * bar_seen, 0.9 * edge_on, patchy, rings)
    strong = 0.0
    if galaxy.bar is not None:
        strong = bar_seen * _logistic((galaxy.bar.length / max(galaxy.petro_th50, 0.1) - 0.7) / 0.2)
    bulge = galaxy.bulge_fraction
    pitch = float(np.mean([arm.pitch for arm in galaxy.arms])) if galaxy.arms else 12.0
    unclear = 0.15 + 0.6 * (1 - arms_seen)
    arm_counts = _near(min(len(galaxy.arms) or 2, 5), (1, 2, 3, 4, 5), 0.6) * (1 - unclear)
    shapes = _near(galaxy.axis_ratio, (0.9, 0.6, 0.25), 0.15)
    tables: dict[str, Sequence[float] | NDArray[np.float64]] = {
        "smooth-or-featured": (0.97 - featured, featured, 0.03),
        "disk-edge-on": (edge_on, 1 - edge_on),
        "has-spiral-arms": (0.04 + 0.93 * arms_seen, 0.96 - 0.93 * arms_seen),
        "bar": (strong, bar_seen - strong, 1 - bar_seen),
        "bulge-size": _near(bulge, (0.85, 0.55, 0.28, 0.1, 0.0), 0.12),
        "how-rounded": shapes,
        "edge-on-bulge": (0.12, 0.75 * _logistic((0.1 - bulge) / 0.04), 0.13 + 0.75 * _logistic((bulge - 0.1) / 0.04)),
        "spiral-winding": _near(pitch, (10, 20, 33), 5),
        "spiral-arm-count": (*arm_counts, unclear),
        "merging": (0.88, 0.07, 0.02, 0.03),
    }
    expected: Fractions = {}
    for question in schema.GZ_DESI_QUESTIONS:
        values = np.clip(tables[question.name], 0.005, None)
        expected[question.name] = dict(zip(question.answers, (values / values.sum()).tolist(), strict=True))
    return expected


def campaign_fractions(desi: Fractions, campaign: str) -> Fractions:
    """Rewrite the same expectations with the questions of another campaign, a key of `zoobot_3d.schema.CAMPAIGNS`."""
    return {"dr12": _dr12_fractions, "gz2": _gz2_fractions}.get(campaign, dict)(desi)


def _dr12_fractions(desi: Fractions) -> Fractions:
    bulge, bar, rounded, merging = desi["bulge-size"], desi["bar"], desi["how-rounded"], desi["merging"]
    counts = desi["spiral-arm-count"]
    told = 1 - counts["cant-tell"]
    return desi | {
        "bar": {"yes": bar["strong"] + bar["weak"], "no": bar["no"]},
        "bulge-size": {
            "dominant": bulge["dominant"] + 0.5 * bulge["large"],
            "obvious": 0.5 * bulge["large"] + bulge["moderate"] + 0.5 * bulge["small"],
            "none": 0.5 * bulge["small"] + bulge["none"],
        },
        "how-rounded": {
            "completely": rounded["round"],
            "in-between": rounded["in-between"],
            "cigar-shaped": rounded["cigar-shaped"],
        },
        "spiral-arm-count": {answer: value / told for answer, value in counts.items() if answer != "cant-tell"},
        "merging": {
            "neither": merging["none"],
            "tidal-debris": merging["minor-disturbance"],
            "both": merging["major-disturbance"],
            "merger": merging["merger"],
        },
    }


def _gz2_fractions(desi: Fractions) -> Fractions:
    bulge, bar = desi["bulge-size"], desi["bar"]
    edge, rounded = desi["edge-on-bulge"], desi["how-rounded"]
    return {
        "smooth-or-featured": desi["smooth-or-featured"],
        "disk-edge-on": desi["disk-edge-on"],
        "bar": {"yes": bar["strong"] + bar["weak"], "no": bar["no"]},
        "has-spiral-arms": desi["has-spiral-arms"],
        "bulge-size": {
            "no": bulge["none"],
            "just-noticeable": bulge["small"] + 0.5 * bulge["moderate"],
            "obvious": 0.5 * bulge["moderate"] + bulge["large"],
            "dominant": bulge["dominant"],
        },
        "how-rounded": {
            "round": rounded["round"],
            "in-between": rounded["in-between"],
            "cigar": rounded["cigar-shaped"],
        },
        "bulge-shape": {"round": edge["rounded"], "boxy": edge["boxy"], "no-bulge": edge["none"]},
        "spiral-winding": desi["spiral-winding"],
        "spiral-arm-count": desi["spiral-arm-count"],
    }


def predicted_fractions(expected: Fractions, rng: np.random.Generator, precision: float = 60.0) -> Fractions:
    """Draw what a model would predict: Dirichlet about the expectation."""
    return {
        question: dict(zip(answers, rng.dirichlet(precision * np.array(list(answers.values()))).tolist(), strict=True))
        for question, answers in expected.items()
    }


def draw_votes(
    questions: Sequence[schema.Question], expected: Fractions, people: int, rng: np.random.Generator
) -> dict[str, int]:
    """Draw counts by ``<question>_<answer>``: each question goes to those whose answer leads to it."""
    counts: dict[str, int] = {}
    for question in questions:
        asked = people if question.asked_after is None else counts[question.asked_after]
        shares = np.array([expected[question.name][answer] for answer in question.answers])
        given = rng.multinomial(asked, shares / shares.sum())
        counts |= {f"{question.name}_{answer}": int(n) for answer, n in zip(question.answers, given, strict=True)}
    return counts


def _near(value: float, centres: Sequence[float], width: float) -> NDArray[np.float64]:
    """Shares of neighbouring answers to a question of degree, one per centre."""
    logits = -((value - np.asarray(centres, float)) ** 2) / (2 * width**2)
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def _logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
