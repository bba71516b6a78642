import json

import numpy as np
import pytest
import torch

from zoobot_3d import cli
from zoobot_3d.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from zoobot_3d.errors import ConfigError
from zoobot_3d.learn.loggers import ExampleImages
from zoobot_3d.learn.train import train
from zoobot_3d.report.figures import overlay

SIDE = 32


def config(catalog, **settings):
    return Config(
        ModelConfig(options={"widths": [8, 8, 8, 8], "depths": [0, 0, 0, 0]}),
        DataConfig(str(catalog), input_size=SIDE, field_fraction=0.75, batch_size=4, cache="ram"),
        TrainConfig(**({"epochs": 3, "accelerator": "cpu", "progress": False} | settings)),
    )


def test_tensorboard_gets_curves_and_pictures(catalog, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = {}

    class Watch(ExampleImages):
        """Keeps what the network answers to the first validation galaxy, at the same moment."""

        def on_validation_epoch_start(self, trainer, pl_module):
            seen["item"] = trainer.datamodule.datasets["val"][0]
            seen["fraction"] = pl_module(seen["item"]["image"][None].float() / 255)[0].numpy()

    train(config(catalog, epochs=2), tmp_path, callbacks=[Watch(None)])
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert "val_loss" in events.Tags()["scalars"]
    tags = events.Tags()["images"]
    assert tags == [f"examples/g{index:02d}" for index in (2, 6, 10, 14)]  # the validation galaxies
    pictures = events.Images(tags[0])
    assert len(pictures) == 2  # after epochs 1 and 2
    assert (pictures[0].width, pictures[0].height) == (3 * SIDE, SIDE)
    import cv2

    strip = cv2.imdecode(np.frombuffer(pictures[1].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    item = seen["item"]
    picture = item["image"].numpy().transpose(1, 2, 0)
    volunteers = (item["votes"] / item["n_asked"].clamp_min(1)).numpy()
    expected = [picture, overlay(picture, volunteers), overlay(picture, seen["fraction"])]
    np.testing.assert_array_equal(strip, np.hstack(expected))


def test_pictures_of_epochs_1_2_4_8_16_32_48(tmp_path):
    class Data:
        def __init__(self):
            item = {"image": torch.zeros(3, 4, 4, dtype=torch.uint8), "error": "", "id": "g"}
            votes = {"votes": torch.zeros(2, 4, 4), "n_asked": torch.ones(2, 4, 4)}
            self.datasets = {"val": [item | votes]}

    class Trainer:
        is_global_zero, loggers = True, ()

    class Network:
        device = "cpu"

        def __call__(self, pictures):
            drawn.append(Trainer.current_epoch + 1)
            return pictures[:, :2]

    drawn = []
    examples = ExampleImages(Data())
    for epoch in range(50):
        Trainer.current_epoch = epoch
        examples.on_validation_epoch_start(Trainer, Network())
    assert drawn == [1, 2, 4, 8, 16, 32, 48]


def test_wandb_offline(catalog, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "run"
    train(config(catalog, epochs=2, logger="wandb"), out)
    runs = list((out / "logs" / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert runs[0].name.endswith((out / "logs" / "wandb.id").read_text())
    pictures = sorted((runs[0] / "files" / "media" / "images").glob("examples_*.png"))
    assert len(pictures) == 8  # of 4 galaxies, after epochs 1 and 2
    assert not (out / "logs" / "tensorboard").exists()
    assert list((out / "logs" / "csv").rglob("metrics.csv"))
    assert json.loads((out / "metrics.json").read_text())["epochs"] == 2
    train(config(catalog, epochs=1, logger="wandb"), tmp_path / "next")
    assert len(list((tmp_path / "next" / "logs" / "wandb").glob("offline-run-*"))) == 1  # a run of its own


def test_without_wandb(catalog, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"train\.logger: wandb is not installed; pip install 'zoobot-3d\[wandb\]'"):
        train(config(catalog, logger="wandb"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_line_chooses(catalog, tmp_path, monkeypatch, capsys):
    chosen = []
    monkeypatch.setattr(
        "zoobot_3d.learn.train.train", lambda config, out, resume: chosen.append(config.train.logger) or out
    )
    settings = [str(tmp_path / "run"), "--data.catalog", str(catalog)]
    assert cli.main(["train", *settings, "--logger", "wandb"]) == 0
    assert cli.main(["train", *settings]) == 0
    assert chosen == ["wandb", "tensorboard"]
    assert cli.main(["train", *settings, "--logger", "pigeon"]) == 2
    assert "train.logger" in capsys.readouterr().err
