import datetime
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

from evil_pickle import Evil
from tiny_survey import make_mixed_survey, make_survey
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.catalog.splits import split_of
from zoobot_3d.config.reading import config_to_yaml
from zoobot_3d.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.infer.bundle import load_bundle
from zoobot_3d.io import write_parquet
from zoobot_3d.learn.callbacks import AtomicCheckpoints
from zoobot_3d.learn.settings import load_config
from zoobot_3d.learn.task import SegmentTask
from zoobot_3d.learn.train import TIMES, train
from zoobot_3d.schema import vote_columns

TINY = ModelConfig(options={"widths": [8, 8, 8, 8], "depths": [1, 1, 1, 1]})


def config(catalog, data=None, **settings):
    defaults = {"epochs": 2, "progress": False, "lr": 0.01, "class_weights": (1.0, 1.0), "accelerator": "cpu"}
    return Config(
        model=TINY,
        data=DataConfig(
            str(catalog), **({"input_size": 32, "field_fraction": 0.75, "batch_size": 4, "cache": "ram"} | (data or {}))
        ),
        train=TrainConfig(**(defaults | settings)),
    )


def weights(bundle):
    return torch.cat([value.float().flatten() for value in load_bundle(bundle).model.state_dict().values()])


def history(out):
    """Validation loss by epoch, over all the times the run was started."""
    frames = [pd.read_csv(file) for file in sorted((out / "logs" / "csv").rglob("metrics.csv"))]
    return pd.concat(frames).dropna(subset="val_loss").set_index("epoch")["val_loss"].to_dict()


@pytest.fixture(scope="module")
def trained(catalog, tmp_path_factory):
    """A run of 4 epochs, never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    settings = config(catalog, epochs=4)
    assert train(settings, out) == out / "bundle"
    return settings, out


def test_a_run_leaves_all_that_is_promised(trained):
    settings, out = trained
    assert load_config(out / "config.yaml") == settings
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["rows"] == {"train": 8, "val": 4, "test": 4}
    assert (metrics["epochs"], metrics["steps"], metrics["left_out"]) == (4, 8, 0)
    for split in ("val", "test"):
        assert 0 <= metrics[split]["spiral_mae"] <= 1
        assert set(metrics[split]) == {"loss"} | {
            f"{c}_{m}" for c in ("spiral", "bar") for m in ("mae", "iou_0", "iou_0.2", "soft_iou")
        }
    assert list((out / "logs" / "tensorboard").glob("events.*"))
    info = load_bundle(out / "bundle").info
    assert (info.input_size, info.field_fraction, info.n_asked, info.loss) == (32, 0.75, 15, "bce")
    assert info.training["metrics"]["test"] == metrics["test"]
    assert info.training["catalogue"] == "catalog.parquet"
    assert not list(out.rglob(".*"))  # nothing temporary is left


def test_the_bundle_is_the_best_epoch_not_the_last(catalog, tmp_path, monkeypatch):
    # From the middle on the network climbs the loss instead of going down.
    monkeypatch.setattr(
        "zoobot_3d.learn.task.learning_rate_factor", lambda progress, warmup: 1.0 if progress < 0.5 else -3.0
    )
    bundle = train(config(catalog, epochs=5, ema=0.0), tmp_path)
    losses = history(tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    best = min(losses, key=losses.__getitem__)
    assert best < 4, "this run should get worse at the end"
    assert metrics["best_epoch"] == best
    assert metrics["val"]["loss"] == pytest.approx(losses[best], rel=1e-5)
    kept = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, value in load_bundle(bundle).model.state_dict().items():
        assert torch.equal(value, kept[f"model.{name}"]), name


def test_a_finished_run_is_not_trained_again(trained, capsys):
    settings, out = trained
    before = (out / "bundle" / "weights.safetensors").stat().st_mtime_ns
    assert train(settings, out) == out / "bundle"
    assert "trained before" in capsys.readouterr().err
    assert (out / "bundle" / "weights.safetensors").stat().st_mtime_ns == before


def test_another_configuration_needs_another_folder(trained):
    settings, out = trained
    with pytest.raises(ConfigError, match=r"holds a run with another train\.lr; use another folder"):
        train(replace(settings, train=replace(settings.train, lr=0.02)), out)


def test_where_it_runs_may_change(trained):
    settings, out = trained
    train(
        replace(settings, train=replace(settings.train, logger="tensorboard", progress=not settings.train.progress)),
        out,
    )


def test_anew(catalog, tmp_path):
    train(config(catalog, epochs=1), tmp_path)
    train(config(catalog, epochs=1, seed=1), tmp_path, resume=False)
    assert load_config(tmp_path / "config.yaml").train.seed == 1
    assert len(history(tmp_path)) == 1


def stop_in_epoch(epoch, monkeypatch, settings, out):
    """Train until an epoch begins."""

    def stop(task):
        if task.current_epoch == epoch:
            raise KeyboardInterrupt  # Lightning ends the process with it
        return original(task)

    original = SegmentTask.on_train_epoch_start
    with monkeypatch.context() as patch:
        patch.setattr(SegmentTask, "on_train_epoch_start", stop)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(settings, out)


def without_logs(out):
    """Files of a run and what is in them: bytes, but of checkpoints values, which can be pickled in several ways."""
    names = {str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {
        name: repr(values(torch.load(file, weights_only=True))) if file.suffix == ".ckpt" else file.read_bytes()
        for name, file in names.items()
        if not name.startswith("logs/")
    }


def values(content):
    """Lists in the place of tensors, so that they compare."""
    if isinstance(content, torch.Tensor):
        return content.tolist()
    if isinstance(content, dict):
        return {key: values(value) for key, value in content.items()}
    return [values(value) for value in content] if isinstance(content, list | tuple) else content


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("data", [{}, {"cache": "none", "workers": 2}], ids=["alone", "workers"])
def test_interrupted_and_resumed_is_as_never_interrupted(trained, tmp_path, monkeypatch, data, epoch):
    """Every file but logs has the same content; the resumed folder was moved in between."""
    settings, whole = trained
    settings = replace(settings, data=replace(settings.data, **data))
    stop_in_epoch(epoch, monkeypatch, settings, tmp_path / "before")
    assert not (tmp_path / "before" / "bundle").exists()
    (tmp_path / "before").rename(tmp_path / "after")
    train(settings, tmp_path / "after")
    assert history(tmp_path / "after") == history(whole)
    found, expected = without_logs(tmp_path / "after"), without_logs(whole)
    assert set(found) == {
        *(
            "bundle/bundle.json",
            "bundle/weights.safetensors",
            "bundle/network.onnx",
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
        ),
        *("config.yaml", "metrics.json"),
    }
    differ = {name for name in expected if found[name] != expected[name]}
    assert differ <= ({"config.yaml"} if data else set())  # which says how many workers there are


def test_times_are_in_the_logs_alone(trained, tmp_path, monkeypatch):
    settings, whole = trained
    times = json.loads((whole / TIMES).read_text())
    assert datetime.datetime.fromisoformat(times["began"]).utcoffset() == datetime.timedelta(0)
    assert 0 < times["minutes"] < 10
    told = (whole / "bundle" / "bundle.json").read_text() + (whole / "metrics.json").read_text()
    assert times["began"][:10] not in told and "minutes" not in told
    stop_in_epoch(3, monkeypatch, settings, tmp_path)
    (tmp_path / TIMES).write_text('{"began": "2020-01-01T00:00:00+00:00", "minutes": 1000}')
    train(settings, tmp_path)
    again = json.loads((tmp_path / TIMES).read_text())
    assert again["began"] == "2020-01-01T00:00:00+00:00" and 1000 < again["minutes"] < 1010


def test_galaxies_left_out_before_an_interruption_are_listed(tmp_path, monkeypatch):
    """Killed while it is scored, after its last epoch: no training galaxy is read again."""
    catalog = make_survey(tmp_path / "survey", n=16, size=64)
    (tmp_path / "survey" / "jpg" / "g00.jpg").write_bytes(b"no picture")
    settings = config(catalog)
    train(settings, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in (
        "bundle/bundle.json",
        "bundle/weights.safetensors",
        "bundle/network.onnx",
        "metrics.json",
        "failed.csv",
    ):
        (tmp_path / "cut" / name).unlink()
    train(settings, tmp_path / "cut")
    assert without_logs(tmp_path / "cut") == without_logs(tmp_path / "whole")
    assert len(pd.read_csv(tmp_path / "cut" / "failed.csv")) == 1


def test_kill_9_and_the_same_command(catalog, tmp_path):
    """A real process, killed as soon as it has checkpoints, is resumed and finishes with all its epochs."""
    settings = config(catalog, epochs=15, patience=0)
    (tmp_path / "c.yaml").write_text(config_to_yaml(settings))
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from zoobot_3d.learn.settings import load_config\nfrom zoobot_3d.learn.train import train\n"
        "train(load_config(sys.argv[1]), sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "c.yaml"), str(tmp_path / "out")]
    last = tmp_path / "out" / "checkpoints" / "last.ckpt"
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)  # waits for the file, not for the clock
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = torch.load(last, weights_only=True)["epoch"] + 1
    assert done < 15
    bundle = train(settings, tmp_path / "out")
    assert load_bundle(bundle).info.training["epochs"] == 15
    assert load_bundle(bundle).info.training["steps"] == 30
    csv = sorted((tmp_path / "out" / "logs" / "csv").rglob("metrics.csv"))[-1]
    assert pd.read_csv(csv)["epoch"].min() == done


def test_killed_while_writing_a_checkpoint_leaves_the_old_one(catalog, tmp_path, monkeypatch):
    settings = config(catalog)
    written = []

    def save(checkpoint, file):
        if len(written) == 3:
            file.write(b"half a check")
            raise KeyboardInterrupt
        written.append(file)
        original(checkpoint, file)

    original = torch.save
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(settings, tmp_path)
    monkeypatch.undo()
    for name in ("last", "best"):
        torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
    train(settings, tmp_path)


def test_a_broken_checkpoint_is_named(catalog, tmp_path):
    settings = config(catalog)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(BadFileError, match=r"last\.ckpt: is not a PyTorch checkpoint .*; --restart trains anew"):
        train(settings, tmp_path)


@pytest.fixture(scope="module")
def cut(catalog, tmp_path_factory):
    """A run of 2 epochs that ended while it was scored: it has checkpoints, and no bundle yet."""
    out = tmp_path_factory.mktemp("runs") / "cut"
    settings = config(catalog)
    train(settings, out)
    shutil.rmtree(out / "bundle")
    (out / "metrics.json").unlink()
    return settings, out


def resume_with(cut, out, name, change):
    """Put what `change` makes of a checkpoint in its place, and go on."""
    settings, whole = cut
    shutil.copytree(whole, out)
    file = out / "checkpoints" / f"{name}.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    torch.save(change(checkpoint) or checkpoint, file)
    return train(settings, out)


@pytest.mark.parametrize("name", ["best", "last"])
def test_no_pickle_runs_on_resume(cut, tmp_path, name):
    marker = tmp_path / "ran"

    def change(checkpoint):
        checkpoint["callbacks"]["evil"] = Evil(str(marker))

    with pytest.raises(BadFileError, match=rf"{name}\.ckpt: holds an object of \w+\.mkdir, which may run code"):
        resume_with(cut, tmp_path / "out", name, change)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["best", "last"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"state_dict": c["state_dict"]}, "is no checkpoint of a training: it has no epoch"),
        (lambda c: c | {"epoch": -1}, "is no checkpoint of a training: it has no epoch"),
        (lambda c: c | {"state_dict": None}, "its state_dict is missing or holds other things"),
        (lambda c: c | {"state_dict": {"a": torch.zeros(1)}}, "holds another network: .* tensors differ"),
        (
            lambda c: c | {"state_dict": {name: value[None] for name, value in c["state_dict"].items()}},
            r"holds another network: \S+ is \(1, .* instead of",
        ),
        (
            lambda c: c | {"state_dict": {name: value.to(torch.int8) for name, value in c["state_dict"].items()}},
            r"holds another network: \S+ is .*int8 instead of",
        ),
        (
            lambda c: c | {"state_dict": {name: value * math.nan for name, value in c["state_dict"].items()}},
            r"holds NaN or infinite numbers; lower train\.lr; --restart trains anew",
        ),
    ],
)
def test_a_checkpoint_of_something_else(cut, tmp_path, name, change, message):
    if name == "last" and "NaN" in message:
        message = "holds another network|NaN or infinite"
    with pytest.raises(BadFileError, match=rf"{name}\.ckpt: .*({message})") as caught:
        resume_with(cut, tmp_path / "out", name, change)
    assert "\n" not in str(caught.value) and not (tmp_path / "out" / "bundle").exists()


def test_a_checkpoint_that_names_other_files_removes_none(catalog, tmp_path, monkeypatch):
    """Lightning removes the file of the best checkpoint when a better one follows, of whatever name."""
    removed = []
    monkeypatch.setattr(AtomicCheckpoints, "remove_checkpoint", lambda self, path: removed.append(str(path)))
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("x")

    def change(checkpoint):
        state = next(state for state in checkpoint["callbacks"].values() if "best_k_models" in state)
        path = f"{state['dirpath']}/../../thesis.txt"
        state |= {"best_k_models": {path: torch.tensor(9.0)}, "kth_best_model_path": path, "best_model_path": path}
        state |= {"kth_value": torch.tensor(9.0), "best_model_score": torch.tensor(9.0)}

    settings = config(catalog, epochs=3)
    stop_in_epoch(2, monkeypatch, settings, tmp_path / "cut")
    resume_with((settings, tmp_path / "cut"), tmp_path / "out", "last", change)
    assert removed == [str(tmp_path / "out" / "checkpoints" / "thesis.txt")]  # which is not there
    assert thesis.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {key: value for key, value in c.items() if key != "optimizer_states"},
        lambda c: c | {"optimizer_states": [{"state": {}, "param_groups": []}]},
        lambda c: c | {"optimizer_states": [1]},
        lambda c: c | {"loops": {"fit_loop": 3}},
        lambda c: c | {"loops": 3},
        lambda c: c | {"lr_schedulers": [None]},
        lambda c: c | {"callbacks": [1]},
        lambda c: c | {"callbacks": {name: {} for name in c["callbacks"]}},
        lambda c: c | {"pytorch-lightning_version": "x"},
    ],
)
def test_a_checkpoint_with_other_things_in_it(cut, tmp_path, change):
    with pytest.raises(BadFileError, match=r"last\.ckpt: .*; --restart trains anew") as caught:
        resume_with(cut, tmp_path / "out", "last", change)
    assert "\n" not in str(caught.value)


def test_max_steps_ends_within_an_epoch_with_a_bundle(catalog, tmp_path, capsys):
    bundle = train(config(catalog, epochs=10, max_steps=3, progress=True), tmp_path)
    assert f"{tmp_path}: ended after 3 steps (train.max_steps); the bundle has" in capsys.readouterr().err
    assert load_bundle(bundle).info.training["steps"] == 3


def test_patience(catalog, tmp_path, capsys):
    settings = config(catalog, epochs=50, lr=1e-30, ema=0.0, patience=2, warmup=0.0, progress=True)
    bundle = train(settings, tmp_path)
    assert "epochs, as val_loss had not fallen for 2 (train.patience)" in capsys.readouterr().err
    # Weights stay, but batch statistics drift, so the loss may get better for a while; never for 50 epochs.
    assert load_bundle(bundle).info.training["epochs"] < 50


def test_running_mean_of_weights_is_what_is_kept(catalog, tmp_path):
    raw, mean = (train(config(catalog, epochs=1, ema=ema), tmp_path / str(ema)) for ema in (0.0, 0.9))
    assert not torch.equal(weights(raw), weights(mean))


def test_beta_binomial(catalog, tmp_path):
    bundle = load_bundle(train(config(catalog, epochs=1, loss="beta_binomial"), tmp_path))
    assert bundle.info.out_channels == 4


def test_learns(catalog, tmp_path):
    """A bright bar and arm on noise are found after a few seconds of training."""
    bundle = train(config(catalog, epochs=30, lr=0.02, patience=0, ema=0.9), tmp_path)
    scores = load_bundle(bundle).info.training["metrics"]["test"]
    assert scores["spiral_iou_0.2"] > 0.4
    assert scores["bar_iou_0.2"] > 0.4


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A third of the galaxies have marks alone, a third votes alone, a third both."""
    return make_mixed_survey(tmp_path_factory.mktemp("mixed"), n=48)


JOINT = {"votes": ("gz2",), "marked_share": 0.5}
SMALL_MODELS = {
    "fast_unet": {"widths": [8, 8, 8], "depths": [1, 1, 1]},
    "mobile_unet": {"widths": [8, 8, 8, 8]},
    "published_unet": {"width": 4, "multipliers": [1, 1, 2], "dropouts": [0.0, 0.0, 0.1], "relu_output": False},
}


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_masks_and_votes_together(mixed, tmp_path, name):
    settings = replace(config(mixed, data=JOINT, epochs=2), model=ModelConfig(name, SMALL_MODELS[name]))
    bundle = load_bundle(train(settings, tmp_path))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"] == {"train": 24, "val": 12, "test": 12}
    assert metrics["marked"] == {"train": 16, "val": 8, "test": 8}
    for split in ("val", "test"):
        assert metrics[split]["vote_loss"] > 0 and 0 <= metrics[split]["spiral_mae"] <= 1
    assert list(bundle.info.votes) == vote_columns(["gz2"])
    assert bundle.info.n_asked == 15
    pictures = torch.rand(2, 3, 32, 32)
    assert bundle.model.vote_head(bundle.model.encoder(pictures)).shape == (2, 28)
    logged = pd.read_csv(next((tmp_path / "logs" / "csv").rglob("metrics.csv")))
    assert {"train_mask_loss", "train_vote_loss", "val_vote_loss", "val_loss"} <= set(logged)


def test_joint_training_resumes_as_if_never_interrupted(mixed, tmp_path, monkeypatch):
    settings = replace(
        config(mixed, data=JOINT | {"epoch_size": 20}, epochs=4, accumulate=2),
        model=ModelConfig(options=SMALL_MODELS["fast_unet"]),
    )
    train(settings, tmp_path / "whole")
    stop_in_epoch(2, monkeypatch, settings, tmp_path / "cut")
    train(settings, tmp_path / "cut")
    steps = [json.loads((tmp_path / name / "metrics.json").read_text())["steps"] for name in ("whole", "cut")]
    assert steps == [12, 12]  # 5 batches an epoch: 2 + 2 + 1
    assert history(tmp_path / "cut") == pytest.approx(history(tmp_path / "whole"), rel=1e-5)


def test_accumulated_batches_are_one_step(catalog, tmp_path):
    """Gradients of two batches of 4 averaged are those of one of 8, but for batch statistics."""
    bundle = train(config(catalog, epochs=2, accumulate=2), tmp_path)
    assert load_bundle(bundle).info.training["steps"] == 2


def test_votes_without_any_marks(mixed, tmp_path):
    """The loss that decides is then that of votes."""
    frame = pd.read_parquet(mixed)
    path = mixed.parent / "no_marks.parquet"
    write_parquet(path, frame.assign(relative_segmap_json_loc=None))
    settings = config(path, data={"votes": ("gz2",)}, epochs=1)
    train(replace(settings, model=ModelConfig(options=SMALL_MODELS["fast_unet"])), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["val"]["loss"] == metrics["val"]["vote_loss"] > 0
    assert metrics["val"]["spiral_iou_0.2"] is None


def test_a_galaxy_that_cannot_be_read_is_left_out_and_listed(tmp_path):
    catalog = make_survey(tmp_path / "survey", n=16, size=64)
    (tmp_path / "survey" / "jpg" / "g00.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"left out: row 0 \(g00\)"):
        bundle = train(config(catalog), tmp_path / "out")
    failed = pd.read_csv(tmp_path / "out" / "failed.csv")
    assert failed["id"].tolist() == ["g00"]
    assert "empty file" in failed["reason"][0]
    assert load_bundle(bundle).info.training["left_out"] == 1


def test_many_bad_galaxies_are_counted_not_named(tmp_path):
    catalog = make_survey(tmp_path / "survey", n=32, size=64)
    frame = read_catalog(catalog)
    bad = frame.loc[split_of(frame) == "train", "dr8_id"].tolist()[4:]
    for name in bad:
        (tmp_path / "survey" / "jpg" / f"{name}.jpg").unlink()
    with pytest.warns(UserWarning, match="left out") as record:
        train(config(catalog), tmp_path / "out")
    messages = [str(r.message) for r in record if "left out" in str(r.message)]
    assert len(messages) == 11 < len(bad)
    assert messages[-1] == "left out: more galaxies, not named here; training lists all in failed.csv"
    assert sorted(pd.read_csv(tmp_path / "out" / "failed.csv")["id"]) == sorted(bad)


def test_pictures_that_lie_elsewhere(tmp_path):
    catalog = make_survey(tmp_path / "survey", n=16, size=64)
    message = r"none of the first \d+ .* can be read; the first, row \d+ .*; paths .* are relative to data\.root"
    with pytest.warns(UserWarning, match="left out"), pytest.raises(CatalogError, match=message):
        train(config(catalog, data={"root": str(tmp_path)}), tmp_path / "out")


def test_no_training_galaxy_that_can_be_read(tmp_path):
    catalog = make_survey(tmp_path / "survey", n=16, size=64)
    frame = read_catalog(catalog)
    for name in frame.loc[split_of(frame) == "train", "dr8_id"]:
        (tmp_path / "survey" / "jpg" / f"{name}.jpg").unlink()
    message = "none of the training galaxies can be read; the first, g"
    with pytest.warns(UserWarning, match="left out"), pytest.raises(CatalogError, match=message):
        # Five of the eight an epoch, so that validation is read before all have failed.
        train(config(catalog, data={"batch_size": 5}, epochs=8), tmp_path / "out")


def test_a_bad_galaxy_can_end_the_run(tmp_path):
    catalog = make_survey(tmp_path / "survey", n=16, size=64)
    (tmp_path / "survey" / "jpg" / "g00.jpg").write_bytes(b"")
    with pytest.raises(CatalogError, match=r"row 0 \(g00\): .*empty file"):
        train(config(catalog, data={"on_error": "raise"}), tmp_path / "out")


def test_input_size_must_suit_the_network(catalog, tmp_path):
    settings = config(catalog)
    settings = replace(settings, data=replace(settings.data, input_size=40))
    with pytest.raises(ConfigError, match=r"data\.input_size: 40 is not a multiple of 32, .*; use "):
        train(settings, tmp_path)
