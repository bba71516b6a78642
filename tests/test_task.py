import math

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from zoobot_3d.config import TrainConfig
from zoobot_3d.losses import build_loss
from zoobot_3d.models import build_model
from zoobot_3d.task import SegmentTask, learning_rate_factor


def make_task(loss="bce", *, augment=False, size=32, **settings):
    torch.manual_seed(0)
    objective = build_loss(loss)
    model = build_model(
        "fast_unet",
        objective.out_channels,
        initial_raw=objective.initial_raw,
        widths=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
    )
    return SegmentTask(model, objective, TrainConfig(**settings), input_size=size, augment=augment)


def make_batch(size=32, n=4):
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 60, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    votes = torch.zeros((n, 2, size, size), dtype=torch.uint8)
    image[:, :, 8:16, 4:28] += 150  # an arm
    votes[:, 0, 8:16, 4:28] = 12
    image[:, 0, 20:26, 10:20] += 150  # a bar, red only
    votes[:, 1, 20:26, 10:20] = 15
    asked = torch.full_like(votes, 15)
    return {"image": image, "votes": votes, "n_asked": asked, "id": ["g"] * n}


def loader(*batches):
    return DataLoader(batches, batch_size=None)


def quiet_trainer(**options):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


@pytest.mark.parametrize(
    ("progress", "factor"),
    [(0.0, 0.01), (0.05, 0.5), (0.1, 1.0), (0.325, 0.5 + math.sqrt(2) / 4), (0.55, 0.5), (1.0, 0.0), (1.2, 0.0)],
)
def test_learning_rate_warms_up_and_falls_as_a_cosine(progress, factor):
    assert learning_rate_factor(progress, 0.1) == pytest.approx(factor, abs=1e-12)


def test_no_warmup():
    assert learning_rate_factor(0.0, 0.0) == 1.0


def test_only_weights_of_convolutions_decay():
    task = make_task(weight_decay=0.3)
    trainer = quiet_trainer(max_epochs=3)
    trainer.fit(task, train_dataloaders=loader(*[make_batch()] * 5))
    decayed, free = trainer.optimizers[0].param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in free["params"]} == {1}
    assert min(p.ndim for p in decayed["params"]) > 1
    assert len(decayed["params"]) + len(free["params"]) == len(list(task.model.parameters()))


@pytest.mark.parametrize("loss", ["bce", "beta_binomial", "mse"])
def test_learns_an_arm_and_a_bar(loss):
    task = make_task(loss, lr=0.02, weight_decay=0.0, warmup=0.1)
    batch = make_batch()
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(task, train_dataloaders=loader(*[batch] * 60))
    scores = trainer.validate(task, dataloaders=loader(batch), verbose=False)[0]
    assert scores["val_spiral_iou_0.2"] > 0.5
    assert scores["val_bar_iou_0.2"] > 0.5
    assert set(scores) >= {f"val_{c}_{m}" for c in ("spiral", "bar") for m in ("mae", "iou_0", "iou_0.2", "soft_iou")}


def test_unknown_pixels_teach_nothing():
    """Where nobody was asked, votes may be anything."""
    results = []
    for lie in (0, 9):
        task = make_task(lr=0.01)
        batch = make_batch()
        batch["n_asked"][:, :, :, 16:] = 0
        batch["votes"][:, :, :, 16:] = lie
        quiet_trainer(max_epochs=1).fit(task, train_dataloaders=loader(*[batch] * 3))
        results.append(torch.cat([p.detach().flatten() for p in task.model.parameters()]))
    assert torch.equal(*results)


class _Spy(nn.Module):
    """Stands in for augmentation: says that it was called, and crops."""

    def __init__(self, size):
        super().__init__()
        self.size, self.calls = size, 0

    def forward(self, image, votes, n_asked):
        self.calls += 1
        crop = (..., slice(0, self.size), slice(0, self.size))
        return image[crop].float() / 255, votes[crop], n_asked[crop]


def test_only_training_is_augmented(monkeypatch):
    spy = _Spy(32)
    monkeypatch.setattr("zoobot_3d.task.Augment", lambda size: spy)
    task = make_task(augment=True)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(task, train_dataloaders=loader(*[make_batch(40)] * 3), val_dataloaders=loader(*[make_batch()] * 2))
    trainer.test(task, dataloaders=loader(make_batch()), verbose=False)
    assert spy.calls == 3


def test_augmented_training_comes_out_at_the_input_size():
    task = make_task(augment=True)
    trainer = quiet_trainer(max_epochs=1)
    seen = []
    task.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trainer.fit(task, train_dataloaders=loader(make_batch(44)))
    assert seen[0].shape == (4, 3, 32, 32)
    assert (seen[0].min() >= 0, seen[0].max() <= 1) == (True, True)


def test_validation_pictures_are_only_scaled_to_one():
    task = make_task(augment=True)
    batch = make_batch()
    seen = []
    task.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    quiet_trainer().validate(task, dataloaders=loader(batch), verbose=False)
    assert torch.equal(seen[0], batch["image"].float() / 255)


@pytest.mark.parametrize(("fraction", "moves"), [(0.0, True), (1.0, False)])
def test_nothing_is_learned_when_time_is_up(fraction, moves):
    task = make_task(lr=0.1)
    task.time_fraction = lambda: fraction
    before = torch.cat([p.detach().flatten() for p in task.model.parameters()])
    quiet_trainer(max_epochs=1).fit(task, train_dataloaders=loader(*[make_batch()] * 3))
    after = torch.cat([p.detach().flatten() for p in task.model.parameters()])
    assert torch.equal(before, after) is not moves


def test_forward_gives_fractions():
    fractions = make_task("beta_binomial")(torch.rand(2, 3, 32, 32))
    assert fractions.shape == (2, 2, 32, 32)
    assert (fractions.min() >= 0, fractions.max() <= 1) == (True, True)
