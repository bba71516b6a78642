"""The stages of the demonstration: simulate, predict with the package's model, fine-tune it, report."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from zoobot_3d import io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.demo.page import PACKAGE, TUNED, Findings, write_page
from zoobot_3d.demo.record import REPORT, Record, remove
from zoobot_3d.errors import BadFileError
from zoobot_3d.infer.description import bundle_facts
from zoobot_3d.infer.predict import predict
from zoobot_3d.report import gallery
from zoobot_3d.schema import CLASSES, DEFAULT_MASTER

if TYPE_CHECKING:
    from zoobot_3d.config.schema import Config
    from zoobot_3d.dataset.data import MaskDataset
    from zoobot_3d.infer.segmenter import Segmenter
    from zoobot_3d.report.evaluation import Evaluation

__all__ = ["DemoConfig", "demo", "find_real_pictures"]

_SHOWN = 8


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the demonstration; by default it takes at most 6 minutes on 2 cores.

    Attributes
    ----------
    galaxies : int
        Number of galaxies in the simulated survey.
    steps : int
        Steps of the fine-tuning, of 32 galaxies each.
    bundle : str
        Model to begin with; by default the package's own.
    show : int
        Number of real pictures shown in the report.
    seed : int
        Seed of the survey, of the training, and of the split of the volunteers into halves.
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
    program: str = "zoobot3d",
) -> dict[str, float]:
    """Run the demonstration.

    It simulates a survey, predicts the held-out galaxies with the package's model and writes a first report. Then it
    fine-tunes that model on the other galaxies for a fixed number of steps and completes the report. The numbers are
    the same on any machine, up to rounding. A demonstration that was stopped goes on, and one that is finished is not
    done again.

    Parameters
    ----------
    out : path
        Folder for ``survey/``, ``train/``, ``predictions/``, ``figures/``, ``report.html`` and ``metrics.json``.
    images : path, optional
        Folder of real 424 px Galaxy Zoo pictures to predict; by default none are.
    config : DemoConfig, optional
        Sizes.
    through_archive : bool
        Serve the simulated sky over HTTP on this machine, as the real archives do, and collect the training set from
        there: fetch, extract, cross-match, cutouts, master catalogue.
    restart : bool
        Remove what an earlier demonstration left in ``out``, and begin anew.
    progress : bool
        Show progress bars.
    program : str
        How the command line is called, for the commands at the end of the report.

    Returns
    -------
    dict
        ``iou_spiral`` and ``iou_bar`` of the package's model, ``tuned_iou_spiral`` and ``tuned_iou_bar`` of the
        fine-tuned one, ``ceiling_spiral`` and ``ceiling_bar`` of one half of the volunteers against the other (at
        fractions above 0.2, pooled over the held-out galaxies); ``<stage>_s``, the seconds of each stage, and
        ``wall_s``, their sum; ``peak_rss_mb``, the peak memory.

    Raises
    ------
    BadFileError
        ``images`` is not a folder of pictures, ``out`` holds a demonstration with other settings, or another one is
        running there.
    BundleError
        The bundle cannot be used.
    """
    config, out = config or DemoConfig(), Path(out)
    galaxies = None if images is None else list_galaxies(images)  # a wrong folder should not cost minutes
    settings = dataclasses.asdict(config) | {
        "weights": bundle_facts(config.bundle)["weights_sha256"],
        "pictures": 0 if galaxies is None else len(galaxies),
        "through_archive": through_archive,
    }
    with folder_lock(out, "a demonstration"):
        if restart:
            remove(out)
        record = Record(out, settings)
        done = record.finished()
        return _run(record, galaxies, config, through_archive, progress, program) if done is None else done


def _run(
    record: Record,
    galaxies: pd.DataFrame | None,
    config: DemoConfig,
    through_archive: bool,
    progress: bool,
    program: str,
) -> dict[str, float]:
    from zoobot_3d.dataset.data import MaskDataset
    from zoobot_3d.infer.segmenter import load_segmenter
    from zoobot_3d.learn.train import train

    out, survey = record.folder, record.folder / "survey"
    _make_survey(out, survey, config, through_archive, record, progress)
    models = {PACKAGE: load_segmenter(config.bundle)}
    info = models[PACKAGE].bundle.info
    catalog = read_catalog(survey / DEFAULT_MASTER)
    held_out = catalog[catalog["split"] == "test"].reset_index(drop=True)
    test = MaskDataset(held_out, survey, info.input_size, info.field_fraction, on_error="skip", cache="ram")
    results = {PACKAGE: _evaluated(models[PACKAGE], test, config, progress)}
    real = "" if galaxies is None else _real(galaxies, models[PACKAGE], out, config, progress)
    _report(out, models, results, test, Findings(results, real, config.galaxies, config.steps), config, program)
    record.end_stage("package_model")
    if progress:
        print(f"masks of the package's model: {out / REPORT} (the fine-tuning follows)", file=sys.stderr)

    models[TUNED] = load_segmenter(train(_training(config, survey, progress), out / "train"))
    record.end_stage("fine_tune")
    results[TUNED] = _evaluated(models[TUNED], test, config, progress)
    io.write_atomic(
        out / "evaluation.json", json.dumps({name: result.to_dict() for name, result in results.items()}, indent=1)
    )
    gallery.training(out / "train", out / "figures" / "training.png")
    record.end_stage("evaluate")
    found = Findings(results, real, config.galaxies, config.steps, record.stages)
    _report(out, models, results, test, found, config, program)
    return record.finish(_scores(results))


def _report(
    out: Path,
    models: Mapping[str, Segmenter],
    results: Mapping[str, Evaluation],
    test: MaskDataset,
    findings: Findings,
    config: DemoConfig,
    program: str,
) -> None:
    scores = {name: result.galaxies for name, result in results.items()}
    picture = out / "figures" / "held_out.png"
    gallery.held_out(test, models, picture, count=_SHOWN, seed=config.seed, scores=scores)
    write_page(out, findings, program=program)


def _make_survey(
    out: Path, survey: Path, config: DemoConfig, through_archive: bool, record: Record, progress: bool
) -> None:
    from zoobot_3d.simulate.survey import simulate_survey

    if not through_archive:
        simulate_survey(survey, config.galaxies, seed=config.seed, files="pictures", progress=progress)
        record.end_stage("simulate")
        return
    from zoobot_3d.prepare.collect import Services, collect
    from zoobot_3d.simulate.archive import Archive
    from zoobot_3d.sources.fetch import FetchOptions

    sky = out / "sky"
    simulate_survey(sky, config.galaxies, seed=config.seed, files="no-cutouts", progress=progress)
    record.end_stage("simulate")
    with Archive(sky) as archive:
        options = FetchOptions(rate=0)  # nobody else is waiting
        services = Services(archive.gz3d_url, archive.cutout_url, archive.zenodo_url, archive.gz2_url)
        collect(survey, services=services, keep_fits=False, options=options, progress=progress)
    record.end_stage("collect")


def _training(config: DemoConfig, survey: Path, progress: bool) -> Config:
    """Make the settings of the fine-tuning. The encoder stays as it is, which is safer with few galaxies."""
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


def _real(galaxies: pd.DataFrame, segmenter: Segmenter, out: Path, config: DemoConfig, progress: bool) -> str:
    """Predict real pictures, draw some, and say how many."""
    folder = out / "predictions"
    with progress_bar("predicting", len(galaxies), show=progress) as advance:
        summary = predict(galaxies, segmenter, folder, progress=advance)
    gallery.predictions(folder, out / "figures" / "real.png", count=config.show, seed=config.seed)
    reasons = "; ".join(f"{count} x {html.escape(reason)}" for reason, count in summary.reasons.items())
    failed = f" {summary.failed} could not be used: {reasons}." if summary.failed else ""
    n_good = len(galaxies) - summary.failed
    return (
        f"The package's model was run on {n_good} real pictures; {min(config.show, n_good)} of them are shown.{failed}"
    )


def _scores(results: Mapping[str, Evaluation]) -> dict[str, float]:
    out: dict[str, float] = {}
    for prefix, result in zip(("", "tuned_"), results.values(), strict=True):
        out |= {f"{prefix}iou_{name}": round(result.model[f"{name}_iou_0.2"], 4) for name in CLASSES}
    return out | {f"ceiling_{name}": round(results[PACKAGE].ceiling[f"{name}_iou_0.2"], 4) for name in CLASSES}


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
