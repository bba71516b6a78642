"""A demonstration on simulated galaxies: masks of the package's model, then of a model fine-tuned on the spot."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from zoobot_3d import __version__, io
from zoobot_3d.catalog.reading import list_galaxies, read_catalog
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.errors import BadFileError
from zoobot_3d.infer.predict import predict
from zoobot_3d.report import figures, gallery
from zoobot_3d.report.html import Section, write_report
from zoobot_3d.schema import CLASSES, DEFAULT_MASTER

if TYPE_CHECKING:
    from zoobot_3d.config.schema import Config
    from zoobot_3d.dataset.data import MaskDataset
    from zoobot_3d.infer.segmenter import Segmenter
    from zoobot_3d.report.evaluate import Evaluation

__all__ = ["DemoConfig", "demo"]

_PACKAGE, _TUNED = "package's model", "fine-tuned"


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the demonstration; by default it takes at most 6 minutes on 2 cores.

    Attributes
    ----------
    galaxies : int
        Size of the simulated survey.
    steps : int
        Steps of the fine-tuning, of 32 galaxies each.
    bundle : str
        Model to begin with.
    show : int
        Real pictures shown in the report.
    seed : int
        Of survey, training and volunteers' halves.
    """

    galaxies: int = 800
    steps: int = 120
    bundle: str = "default"
    show: int = 16
    seed: int = 0


def demo(
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    config: DemoConfig | None = None,
    through_archive: bool = False,
    restart: bool = False,
    progress: bool = True,
) -> dict[str, float]:
    """Run the demonstration.

    Simulates a survey, predicts its held-out galaxies with the package's model, fine-tunes that model on the others
    for a fixed number of steps, and writes a report. The numbers are the same on any machine, up to rounding. A run
    that was stopped goes on; one that is finished is not done again.

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
    restart : bool
        Remove what an earlier run left in ``out``, and begin anew.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        ``iou_spiral`` and ``iou_bar`` of the package's model, ``tuned_iou_spiral`` and ``tuned_iou_bar`` after
        fine-tuning, ``ceiling_spiral`` and ``ceiling_bar`` of one half of the volunteers against the other (at > 0.2,
        pooled over the held-out galaxies), ``wall_s``, ``peak_rss_mb``, and seconds of each stage.

    Raises
    ------
    BadFileError
        If ``images`` is not a folder of pictures, or another demonstration is running in ``out``.
    """
    config, out = config or DemoConfig(), Path(out)
    galaxies = None if images is None else list_galaxies(images)  # a wrong folder should not cost six minutes
    with folder_lock(out, "a demonstration"):
        if restart:
            _remove(out)
        if (done := _finished(out, config)) is not None:
            return done
        return _run(out, galaxies, config, through_archive, progress)


def _run(
    out: Path, galaxies: pd.DataFrame | None, config: DemoConfig, through_archive: bool, progress: bool
) -> dict[str, float]:
    from zoobot_3d.dataset.data import MaskDataset
    from zoobot_3d.infer.segmenter import load_segmenter
    from zoobot_3d.learn.train import train

    clock, survey, pictures = _Clock(), out / "survey", out / "figures"
    _make_survey(out, survey, config, through_archive, clock, progress)
    models = {_PACKAGE: load_segmenter(config.bundle)}
    info = models[_PACKAGE].bundle.info
    catalog = read_catalog(survey / DEFAULT_MASTER)
    held_out = catalog[catalog["split"] == "test"].reset_index(drop=True)
    test = MaskDataset(held_out, survey, info.input_size, info.field_fraction, on_error="skip", cache="ram")
    results = {_PACKAGE: _evaluated(models[_PACKAGE], test, config, progress)}
    real = None if galaxies is None else _real_section(galaxies, models[_PACKAGE], out, config, progress)
    clock.lap("predict")

    models[_TUNED] = load_segmenter(train(_training(config, survey, progress), out / "train"))
    clock.lap("fine_tune")
    results[_TUNED] = _evaluated(models[_TUNED], test, config, progress)
    evaluations = {name: result.to_dict() for name, result in results.items()}
    io.write_atomic(out / "evaluation.json", json.dumps(evaluations, indent=1))
    gallery.held_out(test, models, pictures / "held_out.png", count=8, seed=config.seed)
    clock.lap("evaluate")

    metrics = _metrics(results, clock)
    sections = [
        _held_out_section(results, pictures),
        *([real] if real else []),
        _training_section(out, config, metrics),
    ]
    write_report(out / "report.html", "Spiral arms and bars", _lead(), [*sections, _next_section(survey)])
    metrics |= {"wall_s": round(clock.total(), 1), "peak_rss_mb": round(_peak_rss_mb())}
    io.write_atomic(out / "metrics.json", json.dumps({"config": dataclasses.asdict(config)} | metrics, indent=1))
    return metrics


def _finished(out: Path, config: DemoConfig) -> dict[str, float] | None:
    """Return the measurements of a run that is finished; None if there is none.

    Raises
    ------
    BadFileError
        If the run had other sizes.
    """
    try:
        before = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        sizes = before.pop("config")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    if sizes != dataclasses.asdict(config):
        raise BadFileError(out, "holds a demonstration of other sizes", "add --restart to begin anew, or choose --out")
    return {str(name): float(value) for name, value in before.items()} if (out / "report.html").exists() else None


def _remove(out: Path) -> None:
    """Remove what a demonstration makes, and nothing else."""
    for name in ("metrics.json", "evaluation.json", "report.html"):
        (out / name).unlink(missing_ok=True)
    for name in ("train", "predictions", "figures", "survey", "sky"):
        shutil.rmtree(out / name, ignore_errors=True)


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
    """Fine-tune with the encoder as it is: with few galaxies that is better than to let it move."""
    from zoobot_3d.learn.settings import load_config

    settings = {
        "data.catalog": survey / DEFAULT_MASTER,
        "data.cache": "ram",
        "data.batch_size": 32,
        "train.init": config.bundle,
        "train.freeze_encoder": "all",
        "train.max_steps": config.steps,
        "train.epochs": 1000,  # the steps end it
        "train.lr": 1e-3,
        "train.patience": 0,
        "train.seed": config.seed,
        "train.progress": str(progress).lower(),
    }
    return load_config(None, [f"{key}={value}" for key, value in settings.items()])


def _evaluated(segmenter: Segmenter, test: MaskDataset, config: DemoConfig, progress: bool) -> Evaluation:
    from zoobot_3d.report.evaluate import evaluate

    with progress_bar("evaluating", len(test), show=progress) as advance:
        return evaluate(segmenter, test, seed=config.seed, progress=advance)


def _lead() -> str:
    return (
        f"zoobot-3d {__version__} finds spiral arms and bars, pixel by pixel, as the fraction of volunteers who would "
        'enclose each pixel. <b class="spiral">Blue</b>: spiral arms. <b class="bar">Orange</b>: bars. Outlines stand '
        "at fractions of 0.2 (dashed) and 0.5 (solid)."
    )


def _held_out_section(results: Mapping[str, Evaluation], pictures: Path) -> Section:
    tuned = results[_TUNED]
    io.write_figure(figures.reliability(tuned.reliability, tuned.calibration_error), pictures / "reliability.png")
    rows = [["IoU at > 0.2", *results, "one half of the volunteers against the other"]]
    for name in CLASSES:
        key = f"{name}_iou_0.2"
        scores = [f"{result.model[key]:.2f}" for result in results.values()]
        rows.append([figures.CLASS_LABELS[name], *scores, f"{tuned.ceiling[key]:.2f}"])
    text = (
        f"{tuned.n_galaxies} simulated galaxies that no model was trained on. The intersection over union (IoU) "
        "compares a model with all volunteers, over the pixels of all galaxies. The last column shows how well "
        "volunteers agree among themselves. The plot below the pictures compares predicted with observed fractions of "
        "the fine-tuned model; error bars come from the scatter among galaxies."
    )
    return Section("Held-out galaxies", text, rows, (pictures / "held_out.png", pictures / "reliability.png"))


def _real_section(
    galaxies: pd.DataFrame, segmenter: Segmenter, out: Path, config: DemoConfig, progress: bool
) -> Section:
    folder, picture = out / "predictions", out / "figures" / "real.png"
    with progress_bar("predicting", len(galaxies), show=progress) as advance:
        summary = predict(galaxies, segmenter, folder, progress=advance)
    gallery.predictions(folder, picture, count=config.show, seed=config.seed)
    reasons = "; ".join(f"{count} x {html.escape(reason)}" for reason, count in summary.reasons.items())
    failed = f" {summary.failed} could not be used: {reasons}." if summary.failed else ""
    text = (
        f"The package's model on {summary.predicted + summary.skipped} real pictures, of which {config.show} chosen at "
        f"random are shown.{failed}"
    )
    return Section("Real galaxies", text, (), (picture,))


def _training_section(out: Path, config: DemoConfig, metrics: Mapping[str, float]) -> Section:
    picture = out / "figures" / "training.png"
    gallery.training(out / "train", picture)
    stages = {name.removesuffix("_s"): value for name, value in metrics.items() if name.endswith("_s")}
    rows = [["stage", "seconds"], *([name.replace("_", "-"), f"{value:.0f}"] for name, value in stages.items())]
    text = (
        f"The package's model was fine-tuned for {config.steps} steps of 32 galaxies from a survey of "
        f"{config.galaxies}, with its encoder fixed. Times were measured on this machine, with {os.cpu_count()} cores."
    )
    return Section("Fine-tuning", text, rows, (picture,))


def _next_section(survey: Path) -> Section:
    commands = (
        ("Masks for a table of galaxies with ra and dec", "zoobot3d predict galaxies.csv --fetch --out masks"),
        ("Masks for one galaxy", 'zoobot3d predict --name "NGC 3351" --out masks'),
        ("Masks for a folder of pictures", "zoobot3d predict pictures/ --out masks --masks fits"),
        (
            "Fine-tune on marks of your own",
            "zoobot3d train mine --init default --train.freeze_encoder all --data.catalog your_catalogue.parquet",
        ),
    )
    rows = [["what", "command"], *([what, command] for what, command in commands)]
    text = (
        "Each command explains itself with <code>--help</code>. The catalogue of the simulated survey, "
        f"<code>{html.escape(str(survey / DEFAULT_MASTER))}</code>, shows which columns training needs."
    )
    return Section("Your own galaxies next", text, rows)


def _metrics(results: Mapping[str, Evaluation], clock: _Clock) -> dict[str, float]:
    out: dict[str, float] = {}
    for prefix, result in zip(("", "tuned_"), results.values(), strict=True):
        out |= {f"{prefix}iou_{name}": round(result.model[f"{name}_iou_0.2"], 4) for name in CLASSES}
    ceiling = results[_PACKAGE].ceiling
    out |= {f"ceiling_{name}": round(ceiling[f"{name}_iou_0.2"], 4) for name in CLASSES}
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
