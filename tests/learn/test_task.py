import math
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from zoobot_3d.config.schema import TrainConfig
from zoobot_3d.learn.task import SegmentTask, learning_rate_factor
from zoobot_3d.networks import build_model
from zoobot_3d.networks.losses import DirichletMultinomialLoss, build_loss


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
    monkeypatch.setattr("zoobot_3d.learn.task.Augment", lambda size, **options: spy)
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


def test_forward_gives_fractions():
    fractions = make_task("beta_binomial")(torch.rand(2, 3, 32, 32))
    assert fractions.shape == (2, 2, 32, 32)
    assert (fractions.min() >= 0, fractions.max() <= 1) == (True, True)


# Masks and votes together

ANSWERS = (2, 3)


def make_joint(**settings):
    torch.manual_seed(0)
    objective = build_loss("bce")
    model = build_model(
        "fast_unet",
        initial_raw=objective.initial_raw,
        vote_answers=sum(ANSWERS),
        vote_dropout=0.0,
        widths=[8, 8, 8],
        depths=[1, 1, 1],
    )
    votes = DirichletMultinomialLoss(ANSWERS)
    return SegmentTask(model, objective, TrainConfig(**settings), input_size=32, augment=False, vote_loss=votes)


def make_mixed(marked, voted, n=4):
    """A batch where the pictures of some numbers have masks, and of some votes."""
    batch = make_batch(n=n)
    for row in range(n):
        if row not in marked:
            batch["n_asked"][row] = 0
            batch["votes"][row] = 9  # must not matter
    counts = torch.zeros(n, sum(ANSWERS))
    counts[list(voted)] = torch.tensor([30.0, 10, 5, 0, 35])
    return batch | {"vote_counts": counts}


def count_pictures(task):
    """Pictures that each part of the network is given, as it is called."""
    seen = {"encoder": [], "decoder": [], "vote_head": []}
    for name, calls in seen.items():

        def note(_, inputs, calls=calls):
            calls.append(len(inputs[0] if torch.is_tensor(inputs[0]) else inputs[0][0]))  # pictures, or feature maps

        task.model.get_submodule(name).register_forward_pre_hook(note)
    return seen


@pytest.mark.parametrize(("marked", "decoded"), [((), []), ((1, 3), [2]), (range(4), [4])])
def test_the_decoder_runs_only_on_pictures_with_masks(marked, decoded):
    task = make_joint()
    seen = count_pictures(task)
    quiet_trainer(max_epochs=1).fit(task, train_dataloaders=loader(make_mixed(marked, voted=range(4))))
    assert seen == {"encoder": [4], "decoder": decoded, "vote_head": [4]}


def test_each_picture_counts_in_the_losses_that_it_has_labels_for():
    task = make_joint(vote_weight=0.25).eval()
    batch = make_mixed(marked=(0, 2), voted=(2, 3))
    batch["image"] = batch["image"].float() / 255
    features = task.model.encoder(batch["image"])
    raw = task.model.masks(features)[[0, 2]]
    mask_loss = task.loss(raw, batch["votes"][[0, 2]], batch["n_asked"][[0, 2]])
    vote_loss = task.vote_loss(task.model.vote_head(features)[[2, 3]], batch["vote_counts"][[2, 3]])
    logged = {}
    task.log = lambda name, value, **_: logged.update({name: value})
    task.optimizers = lambda: SimpleNamespace(param_groups=[{"lr": 0.0}])
    total = task.training_step(batch, 0)
    torch.testing.assert_close(total, mask_loss + 0.25 * vote_loss)
    torch.testing.assert_close(logged["train_mask_loss"], mask_loss)
    torch.testing.assert_close(logged["train_vote_loss"], vote_loss)


def test_votes_alone_teach_the_encoder_and_leave_the_decoder():
    task = make_joint(lr=0.01, weight_decay=0.0)
    before = {name: value.clone() for name, value in task.model.named_parameters()}
    batch = make_mixed(marked=(), voted=range(4))
    quiet_trainer(max_epochs=1).fit(task, train_dataloaders=loader(*[batch] * 2))
    moved = [name for name, value in task.model.named_parameters() if not torch.equal(value, before[name])]
    assert {name.split(".")[0] for name in moved} == {"encoder", "vote_head"}


def test_a_batch_without_any_label_teaches_nothing():
    task = make_joint(lr=0.01, weight_decay=0.0)
    before = torch.cat([value.detach().flatten() for value in task.model.parameters()])
    quiet_trainer(max_epochs=1).fit(task, train_dataloaders=loader(make_mixed((), ())))
    assert torch.equal(torch.cat([value.detach().flatten() for value in task.model.parameters()]), before)


def validate(task, *batches):
    return quiet_trainer().validate(task, dataloaders=loader(*batches), verbose=False)[0]


def test_validation_loss_is_that_of_masks_wherever_there_are_any():
    """Batches without masks, or without votes, do not dilute the means."""
    task = make_joint()
    masks, votes = make_mixed(range(4), ()), make_mixed((), range(4))
    alone, both = validate(task, masks), validate(task, votes, masks, votes, make_mixed((), (0,)))
    assert both["val_loss"] == alone["val_loss"] > 0
    assert both["val_spiral_mae"] == alone["val_spiral_mae"]
    all_four, first = (validate(task, make_mixed((), voted))["val_vote_loss"] for voted in (range(4), (0,)))
    assert both["val_vote_loss"] == pytest.approx((8 * all_four + first) / 9, rel=1e-5)  # mean over votes


def test_validation_loss_is_that_of_votes_where_there_are_no_masks():
    scores = validate(make_joint(), make_mixed((), range(4)))
    assert scores["val_loss"] == scores["val_vote_loss"] > 0
    assert math.isnan(scores["val_spiral_iou_0.2"])


def test_learns_masks_and_votes_from_different_pictures():
    task = make_joint(lr=0.02, weight_decay=0.0, vote_weight=0.3)
    batch = make_mixed(marked=(0, 1), voted=(2, 3))
    quiet_trainer(max_epochs=1).fit(task, train_dataloaders=loader(*[batch] * 60))
    scores = validate(task, batch)
    assert scores["val_spiral_iou_0.2"] > 0.5
    with torch.no_grad():
        concentrations = task.model.vote_head(task.model.encoder(batch["image"][2:].float() / 255))
    first = concentrations[:, :2] / concentrations[:, :2].sum(dim=1, keepdim=True)
    assert first[:, 0].mean().item() == pytest.approx(0.75, abs=0.1)  # 30 of 40
