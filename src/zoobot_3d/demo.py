"""The whole road in minutes: simulate a survey, train the fast network, evaluate, predict real pictures, report."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from zoobot_3d import __version__, io
from zoobot_3d.catalog.reading import list_galaxies, read_catalog
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.config.schema import Config, DataConfig, TrainConfig
from zoobot_3d.errors import BadFileError
from zoobot_3d.infer.predict import predict
from zoobot_3d.report import figures, gallery
from zoobot_3d.report.html import Section, write_report
from zoobot_3d.schema import CLASSES, DEFAULT_MASTER

if TYPE_CHECKING:
    from zoobot_3d.dataset.data import MaskDataset
    from zoobot_3d.infer.segmenter import Segmenter
    from zoobot_3d.report.evaluate import Evaluation

__all__ = ["DemoConfig", "demo"]


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the demonstration, chosen to end within 6 minutes on 2 cores.

    Attributes
    ----------
    galaxies : int
        Size of the simulated survey.
    epochs : int
        Passes over its training galaxies.
    max_minutes : float
        Training stops here on a machine that is too slow for all epochs.
    input_size : int
        Side in pixels of what the network sees.
    show : int
        Real pictures shown in the report.
    seed : int
        Of survey, training and volunteers' halves.
    """

    galaxies: int = 1200
    epochs: int = 92
    max_minutes: float = 4.5
    input_size: int = 96
    show: int = 30
    seed: int = 0


def demo(
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    config: DemoConfig | None = None,
    through_archive: bool = False,
    progress: bool = True,
) -> dict[str, float]:
    """Run the demonstration; a killed run continues where it was.

    Parameters
    ----------
    out : path
        Folder for ``survey/``, ``train/``, ``predictions/``, ``report.html`` and ``metrics.json``.
    images : path, optional
        Folder of real 424 px Galaxy Zoo pictures to predict; skipped without.
    config : DemoConfig, optional
        Sizes.
    through_archive : bool
        Put the simulated sky behind an HTTP server on this machine that answers as the real archives do, and collect
        the training set from it: fetch, extract, cross-match, cutouts, master catalogue.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        ``iou_spiral``, ``iou_bar``, ``ceiling_spiral``, ``ceiling_bar`` (at > 0.2, pooled over the held-out galaxies),
        ``wall_s``, ``peak_rss_mb``, and seconds of each stage.

    Raises
    ------
    BadFileError
        If ``images`` is not a folder of pictures.
    """
    from zoobot_3d.dataset.data import MaskDataset
    from zoobot_3d.infer.segmenter import load_segmenter
    from zoobot_3d.learn.train import train
    from zoobot_3d.report.evaluate import evaluate

    config = config or DemoConfig()
    out = Path(out)
    galaxies = None if images is None else list_galaxies(images)  # a wrong folder should not cost six minutes
    clock = _Clock()
    survey = out / "survey"
    _make_survey(out, survey, config, through_archive, clock, progress)

    bundle = train(_training(config, survey, progress), out / "train")
    clock.lap("train")

    segmenter = load_segmenter(bundle)
    info = segmenter.bundle.info
    catalog = read_catalog(survey / DEFAULT_MASTER)
    held_out = catalog[catalog["split"] == "test"].reset_index(drop=True)
    test = MaskDataset(held_out, survey, info.input_size, info.field_fraction, on_error="skip")
    with progress_bar("evaluating", len(test), show=progress) as advance:
        evaluation = evaluate(segmenter, test, seed=config.seed, progress=advance)
    io.write_atomic(out / "evaluation.json", json.dumps(evaluation.to_dict(), indent=1))
    clock.lap("evaluate")

    pictures = out / "figures"
    sections = [_held_out_section(evaluation, segmenter, test, pictures, config)]
    if galaxies is not None:
        sections.append(_real_section(galaxies, segmenter, out / "predictions", pictures, config, progress))
    clock.lap("predict")

    metrics = _metrics(evaluation, clock)
    sections.append(_run_section(out / "train", pictures, config, metrics))
    lead = (
        f"zoobot-3d {__version__}. A network that has seen nothing but simulated galaxies, trained here just now. "
        '<b class="spiral">Blue</b>: spiral arms. <b class="bar">Orange</b>: bars. '
        "The denser, the more volunteers enclosed the place (or, says the model, would)."
    )
    write_report(out / "report.html", "Spiral arms and bars, from nothing", lead, sections)
    metrics |= {"wall_s": round(clock.total(), 1), "peak_rss_mb": round(_peak_rss_mb())}
    io.write_atomic(out / "metrics.json", json.dumps(metrics, indent=1))
    return metrics


def _make_survey(
    out: Path, survey: Path, config: DemoConfig, through_archive: bool, clock: _Clock, progress: bool
) -> None:
    from zoobot_3d.simulate.survey import simulate_survey

    if not through_archive:
        simulate_survey(survey, config.galaxies, seed=config.seed, images_only=True, progress=progress)
        clock.lap("simulate")
        return
    from zoobot_3d.prepare.collect import Services, collect
    from zoobot_3d.simulate.archive import Archive
    from zoobot_3d.sources.fetch import FetchOptions

    sky = out / "sky"
    simulate_survey(sky, config.galaxies, seed=config.seed, cutouts=False, progress=progress)
    clock.lap("simulate")
    with Archive(sky) as archive:
        options = FetchOptions(rate=0)  # nobody else is waiting
        services = Services(archive.gz3d_url, archive.cutout_url, archive.zenodo_url, archive.gz2_url)
        collect(survey, services=services, keep_fits=False, options=options, progress=progress)
    clock.lap("collect")


def _training(config: DemoConfig, survey: Path, progress: bool) -> Config:
    return Config(
        data=DataConfig(catalog=str(survey / DEFAULT_MASTER), input_size=config.input_size, cache="ram"),
        train=TrainConfig(
            lr=5e-3,  # a short run can afford large steps
            class_weights=(1.0, 3.0),  # bars are small, and need to be learned quickly
            epochs=config.epochs,
            max_minutes=config.max_minutes,
            patience=0,
            precision=_precision(),
            seed=config.seed,
            progress=progress,
        ),
    )


def _precision() -> Literal["32-true", "bf16-mixed"]:
    """Half precision where the processor multiplies matrices of it; elsewhere it would be slower, not faster."""
    import torch

    if torch.cuda.is_available():
        return "bf16-mixed"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if capabilities.get("amx_bf16") else "32-true"


def _held_out_section(
    evaluation: Evaluation, segmenter: Segmenter, test: MaskDataset, pictures: Path, config: DemoConfig
) -> Section:
    gallery.held_out(test, segmenter, pictures / "held_out.png", count=16, seed=config.seed)
    curve = figures.reliability(evaluation.reliability, evaluation.calibration_error)
    io.write_figure(curve, pictures / "reliability.png")
    text = (
        f"{evaluation.n_galaxies} simulated galaxies the network never saw. The ceiling is how well one random half "
        "of the volunteers predicts the other; all pixels of all galaxies are pooled."
    )
    shown = (pictures / "held_out.png", pictures / "reliability.png")
    return Section("Held-out galaxies", text, evaluation.table(), shown)


def _real_section(
    galaxies: pd.DataFrame, segmenter: Segmenter, folder: Path, pictures: Path, config: DemoConfig, progress: bool
) -> Section:
    with progress_bar("predicting", len(galaxies), show=progress) as advance:
        summary = predict(galaxies, segmenter, folder, progress=advance)
    gallery.predictions(folder, pictures / "real.png", count=config.show, seed=config.seed)
    failed = f" {summary.failed} could not be used: {summary.reasons}." if summary.failed else ""
    text = f"{summary.predicted + summary.skipped} real pictures predicted; {config.show} at random are shown.{failed}"
    return Section("Real galaxies", text, (), (pictures / "real.png",))


def _run_section(folder: Path, pictures: Path, config: DemoConfig, metrics: dict[str, float]) -> Section:
    gallery.training(folder, pictures / "training.png")
    stages = {name.removesuffix("_s"): value for name, value in metrics.items() if name.endswith("_s")}
    rows = [["stage", "seconds"], *([name, f"{seconds:.0f}"] for name, seconds in stages.items())]
    text = f"{config.galaxies} galaxies simulated, {os.cpu_count()} processors."
    return Section("The run", text, rows, (pictures / "training.png",))


def _metrics(evaluation: Evaluation, clock: _Clock) -> dict[str, float]:
    out: dict[str, float] = {}
    for name in CLASSES:
        out[f"iou_{name}"] = round(evaluation.model[f"{name}_iou_0.2"], 4)
    for name in CLASSES:
        out[f"ceiling_{name}"] = round(evaluation.ceiling[f"{name}_iou_0.2"], 4)
    return out | {f"{name}_s": round(seconds, 1) for name, seconds in clock.laps.items()}


class _Clock:
    """Wall-clock seconds of each stage."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self.last
        self.last = now

    def total(self) -> float:
        return time.perf_counter() - self.start


def _peak_rss_mb() -> float:
    """Peak memory of this process plus its largest worker, in MB; Linux counts KiB, macOS bytes."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    usage: Sequence[int] = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(who).ru_maxrss for who in usage) / unit


def find_real_pictures(given: str | None) -> Path | None:
    """Choose the folder of real pictures: the one given, else the ones that lie beside a checkout, else none.

    Raises
    ------
    BadFileError
        If the given folder does not exist.
    """
    if given is not None:
        if not Path(given).exists():
            raise BadFileError(given, "no such folder", "give a folder of .jpg pictures to --images")
        return Path(given)
    beside = Path(os.environ.get("ZOOBOT3D_REALDATA", "../shared/realdata")) / "gz_decals_jpg" / "jpg"
    return beside if beside.is_dir() else None
