"""The report of a demonstration: what is shown, in which words, and how to go on. Draws figures and writes HTML."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoobot_3d import __version__, io
from zoobot_3d.report import figures
from zoobot_3d.report.evaluation import Evaluation, with_error
from zoobot_3d.report.galaxy_scores import difference_error
from zoobot_3d.report.html import Card, Picture, Section, write_report
from zoobot_3d.schema import CLASSES, DEFAULT_MASTER

__all__ = ["PACKAGE", "TUNED", "Findings", "write_page"]

PACKAGE, TUNED = "package's model", "fine-tuned"
"""Names of the two models in tables and figures."""

_LABELS = {"spiral": "spiral arms", "bar": "bars"}
_EXAMPLES = (
    "name,ra,dec,radius\n"
    "NGC 3351,10:43:57.7,+11:42:14,80\n"
    "NGC 1300,03:19:41.1,-19:24:41,85\n"
    "NGC 4303,12:21:54.9,+04:28:25,75\n"
)
"""Three nearby barred spirals; the radius is roughly that of half of the light, in arcsec."""


@dataclass(frozen=True)
class Findings:
    """What a demonstration has found so far.

    Attributes
    ----------
    results : mapping of str to Evaluation
        By the name of the model, of the same held-out galaxies; `PACKAGE` alone before the fine-tuning has ended.
    real : str
        What to say of the real pictures, HTML; empty if there are none.
    galaxies, steps : int
        Size of the simulated survey, and steps of the fine-tuning.
    stages : mapping of str to float
        Seconds of each stage so far.
    """

    results: Mapping[str, Evaluation]
    real: str
    galaxies: int
    steps: int
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the fine-tuned model has been evaluated."""
        return TUNED in self.results


def write_page(folder: Path, findings: Findings, *, program: str = "zoobot3d") -> None:
    """Write ``report.html`` of what was found, with the figures that lie in ``figures/``.

    Parameters
    ----------
    folder : path
        Of the demonstration.
    findings : Findings
        What was found.
    program : str
        How the command line of this package is called, in the commands at the end.
    """
    pictures = folder / "figures"
    for name, result in findings.results.items():
        curve = figures.reliability(result.reliability, result.calibration_error)
        io.write_figure(curve, pictures / _curve_file(name))
    sections = [_scores(findings), _held_out(findings, pictures), _calibration(findings, pictures)]
    if findings.real:
        sections.append(_real(findings, pictures))
    if findings.complete:
        sections.append(_tuning(findings, pictures))
    io.write_atomic(folder / "example_galaxies.csv", _EXAMPLES)
    sections.append(_next(folder, findings, program))
    notice = (
        ""
        if findings.complete
        else ("The fine-tuning is still running. This page is written anew at its end, with both models side by side.")
    )
    lead = (
        f"zoobot-3d {__version__} predicts, for each pixel of a galaxy image, the fraction of volunteers who would "
        'enclose it in a <b class="spiral">spiral arm</b> or in a <b class="bar">bar</b>. This page was made on this '
        "machine from simulated galaxies, with simulated volunteers."
    )
    write_report(
        folder / "report.html",
        "Spiral arms and bars in galaxy images",
        lead,
        sections,
        cards=_cards(findings),
        notice=notice,
    )


def _curve_file(name: str) -> str:
    return f"reliability_{'package' if name == PACKAGE else 'tuned'}.png"


def _cards(findings: Findings) -> list[Card]:
    """Overlap of each class, and the number of galaxies."""
    name = TUNED if findings.complete else PACKAGE
    best = findings.results[PACKAGE]
    cards = [
        Card(
            f"Overlap with volunteers, {_LABELS[each]}",
            with_error(best.model[f"{each}_iou_0.2"], best.model_error.get(f"{each}_iou_0.2"), 2),
            f"IoU of the package's model; two halves of the volunteers reach {best.ceiling[f'{each}_iou_0.2']:.2f}",
            each,
        )
        for each in CLASSES
    ]
    detail = f"of {findings.galaxies} simulated; neither model was trained on them"
    return [*cards, Card("Held-out galaxies", f"{findings.results[name].n_galaxies}", detail)]


def _scores(findings: Findings) -> Section:
    """Make the table of overlaps, and say what fine-tuning changed."""
    package = findings.results[PACKAGE]
    rows = [["IoU at fractions above 0.2", *findings.results, "half of the volunteers against the other half"]]
    for each in CLASSES:
        key = f"{each}_iou_0.2"
        told = [with_error(result.model[key], result.model_error.get(key), 3) for result in findings.results.values()]
        rows.append([_LABELS[each], *told, with_error(package.ceiling[key], package.ceiling_error.get(key), 3)])
    text = (
        "The intersection over union (IoU) compares the pixels where a model predicts a fraction above 0.2 with those "
        "that more than 0.2 of the volunteers enclosed, over the pixels of all held-out galaxies. The last column "
        "shows how well one random half of the volunteers predicts the other half. Halves are noisier than all "
        "volunteers together, so it is a guide and not a strict upper limit. Errors are standard errors from the "
        "scatter among galaxies."
    )
    if findings.complete:
        text += f" {_change(package, findings.results[TUNED])}"
    return Section("How good are the masks?", text, rows)


def _change(package: Evaluation, tuned: Evaluation) -> str:
    """Say in words what fine-tuning changed, and whether that is more than chance."""
    told, clear = [], []
    for each in CLASSES:
        change = tuned.model[f"{each}_iou_0.2"] - package.model[f"{each}_iou_0.2"]
        error = difference_error(package.galaxies, tuned.galaxies, each)
        told.append(f"of {_LABELS[each]} by {change:+.3f}" + ("" if math.isnan(error) else f" ± {error:.3f}"))
        clear.append(abs(change) > 2 * error)
    meaning = (
        "Both changes are larger than twice their errors."
        if all(clear)
        else f"Only the change of {_LABELS[CLASSES[clear.index(True)]]} is larger than twice its error."
        if any(clear)
        else "Neither change is larger than twice its error: the package's model already knows galaxies like these. "
        "Fine-tuning pays where your galaxies look different."
    )
    return (
        f"Fine-tuning changed the IoU {' and '.join(told)}; these errors take into account that both models saw the "
        f"same galaxies. {meaning}"
    )


def _held_out(findings: Findings, pictures: Path) -> Section:
    models = "the package's model and the fine-tuned model" if findings.complete else "the package's model"
    caption = (
        f"Eight held-out galaxies, drawn at random from those that volunteers marked. From left to right: picture, "
        f"volunteers, {models}. Outlines enclose fractions above 0.2 (dashed) and above 0.5 (solid) of the volunteers. "
        "The notes give the IoU above 0.2 of each galaxy's arms and bar (- where there is nothing to compare), and of "
        "one half of the volunteers against the other. North is up, east is left."
    )
    return Section("Held-out galaxies", "", (), (Picture(pictures / "held_out.png", caption),))


def _calibration(findings: Findings, pictures: Path) -> Section:
    text = (
        "A prediction of 0.3 should mean that 0.3 of the volunteers enclose the pixel. The calibration error is the "
        "mean distance from that, over pixels with a prediction above 0.025."
    )
    shown = [
        Picture(
            pictures / _curve_file(name),
            f"{name[:1].upper()}{name[1:]}. Top: fraction of volunteers against predicted fraction, in bins of 0.05. "
            "Error bars are standard errors from the scatter among galaxies; bins with fewer than three galaxies are "
            "left out. Bottom: pixels in each bin.",
        )
        for name in findings.results
    ]
    return Section("Do the fractions mean what they say?", text, side_by_side=shown)


def _real(findings: Findings, pictures: Path) -> Section:
    caption = (
        "Real pictures, drawn at random, with the outlines of the package's model. Volunteers did not mark these "
        "galaxies, so they show what the model finds and not how good it is. Scale bars are in arcsec where the pixel "
        "scale is known, else in pixels."
    )
    return Section("Real galaxies", findings.real, (), (Picture(pictures / "real.png", caption),))


def _tuning(findings: Findings, pictures: Path) -> Section:
    rows = [["stage", "seconds"]]
    rows += [[name.replace("_", "-"), f"{seconds:.0f}"] for name, seconds in findings.stages.items()]
    rows.append(["all", f"{sum(findings.stages.values()):.0f}"])
    text = (
        f"The package's model was trained for {findings.steps} more steps on the training galaxies of this survey. Its "
        "encoder, which finds edges and textures, stayed as it was; the decoder, which draws the masks, learned. The "
        "number of steps is fixed, so the numbers on this page are the same on any machine, up to rounding."
    )
    caption = (
        "Left: loss per pixel (binomial likelihood of the votes, lower is better) against passes over the training "
        "galaxies. Right: IoU at fractions above 0.2 on the validation galaxies, which decide when training was best."
    )
    title = f"The fine-tuning, and times on this machine ({os.cpu_count()} cores)"
    return Section(title, text, rows, (Picture(pictures / "training.png", caption),))


def _next(folder: Path, findings: Findings, program: str) -> Section:
    """Commands that work as they are printed, from the folder that the demonstration was started in."""
    where, catalogue = folder.as_posix(), (folder / "survey" / DEFAULT_MASTER).as_posix()
    lines: Sequence[tuple[str, Sequence[str]]] = (
        (
            "<b>A table of your galaxies.</b> It needs a name, <code>ra</code> and <code>dec</code>, and a radius in "
            f"arcsec if you know it; <code>{html.escape(where)}/example_galaxies.csv</code> is an example. The command "
            "downloads a cutout of each galaxy from the DESI Legacy Surveys and writes FITS masks with a WCS.",
            ["predict", f"{where}/example_galaxies.csv", "--fetch", "--out", "masks"],
        ),
        ("<b>One galaxy by its name.</b>", ["predict", "--name", "NGC 3351", "--pixscale", "3.2", "--out", "ngc3351"]),
        (
            "<b>A folder of pictures.</b> Here, those of the simulated survey.",
            ["predict", f"{where}/survey/images/jpg", "--out", "mymasks", "--masks", "fits"],
        ),
        ("<b>Look at the masks.</b>", ["figures", "predictions", "mymasks", "--out", "mymasks.png"]),
        (
            "<b>Measure a model on galaxies with marks</b>, and list them with the worst first.",
            ["evaluate", catalogue, "--per-galaxy", "--out", "evaluation"],
        ),
        (
            "<b>Fine-tune on marks of your own.</b> Here, on those of the simulated survey; its catalogue shows the "
            "columns that training needs.",
            ["train", "mymodel", "--init", "default", "--train.freeze_encoder", "all", "--data.catalog", catalogue],
        ),
        ("<b>What a model is, and how good.</b>", ["describe", "default"]),
    )
    commands = [(what, " ".join([program, *map(_quoted, words)])) for what, words in lines]
    text = (
        "Run these commands in the folder where you started the demonstration. Each explains itself with "
        "<code>--help</code>; you can stop any of them and run it again. The first two need the internet."
    )
    return Section("Your own galaxies next", text, commands=commands)


def _quoted(word: str) -> str:
    import shlex

    return f'"{word}"' if " " in word and '"' not in word else shlex.quote(word)
