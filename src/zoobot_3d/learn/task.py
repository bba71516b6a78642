"""Learning to segment, and to answer questions: what one step of training or scoring does. The only LightningModule.

Knows networks, losses, metrics and augmentation; must not know files, catalogues or bundles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from zoobot_3d.config.schema import TrainConfig
from zoobot_3d.learn.finetune import encoder_is_frozen, freeze_encoder, parameter_groups
from zoobot_3d.networks import SegmentationModel
from zoobot_3d.networks.augment import Augment, Geometry
from zoobot_3d.networks.losses import DirichletMultinomialLoss, Loss
from zoobot_3d.networks.metrics import MeanLoss, SegmentationMetrics

__all__ = ["SegmentTask", "learning_rate_factor"]


@dataclass
class _Outcome:
    """What a batch costs, by kind of label; of masks, only for the pictures that have some.

    ``raw`` is the network's raw output for these pictures, ``votes`` and ``n_asked`` are their labels, ``marked`` is
    their number, and ``answers`` how many answers were given about all pictures.
    """

    mask_loss: Tensor
    raw: Tensor
    votes: Tensor
    n_asked: Tensor
    marked: int
    vote_loss: Tensor | None = None
    answers: Tensor | float = 0.0


class _Scores(torch.nn.Module):
    """What is summed up over one pass through validation or test galaxies."""

    def __init__(self) -> None:
        super().__init__()
        self.masks, self.mask_loss, self.vote_loss = SegmentationMetrics(), MeanLoss(), MeanLoss()

    def reset(self) -> None:
        """Start anew."""
        for metric in (self.masks, self.mask_loss, self.vote_loss):
            metric.reset()


class SegmentTask(LightningModule):
    """Fit a network's masks to volunteers' votes, and if asked its answers to their answers about whole galaxies.

    Batches are those of `zoobot_3d.dataset.data`: uint8 ``image`` (B, 3, S, S), ``votes`` and ``n_asked`` (B, 2, S, S).
    When training they may be larger than the network's input: augmented on the device, they come out at ``input_size``.
    With a vote loss they also have ``vote_counts`` (B, answers). A galaxy may then have masks, answers or both, and
    takes part in the losses that it has labels for; the decoder runs on no others, and not at all without any.

    The loss of a step is that of masks plus ``config.vote_weight`` times that of votes. ``val_loss``, which decides
    which weights are kept, is that of masks alone, so that runs with and without votes compare; only where no
    validation galaxy has masks is it that of votes.

    Parameters
    ----------
    model : SegmentationModel
        Made for ``loss.out_channels``.
    loss : Loss
        Also says what the raw output means.
    config : TrainConfig
        Learning rate, its course, weight decay, seed.
    input_size : int
        Side in pixels of what the network sees.
    augment : bool
        Augment training batches.
    vote_loss : DirichletMultinomialLoss, optional
        Of the answers; the model must have a vote head for them.
    """

    def __init__(
        self,
        model: SegmentationModel,
        loss: Loss,
        config: TrainConfig,
        *,
        input_size: int,
        augment: bool = True,
        vote_loss: DirichletMultinomialLoss | None = None,
    ) -> None:
        super().__init__()
        self.model = model.channels_last()
        # Known before several processes agree on which gradients they share.
        freeze_encoder(self.model, config.freeze_encoder == "all", config.frozen_levels)
        self.loss, self.vote_loss = loss, vote_loss
        self.config = config
        self.input_size = input_size
        self.augment: Augment | None = self._new_augment() if augment else None
        self.val_scores, self.test_scores = _Scores(), _Scores()

    def forward(self, image: Tensor) -> Tensor:
        """Predict fractions (B, 2, S, S) in 0-1 from pictures (B, 3, S, S), float in 0-1."""
        return self.loss.fraction(self.model(image))

    def on_train_epoch_start(self) -> None:
        """Seed the epoch's draws by its number, and freeze by it, so that a resumed run does the same."""
        torch.manual_seed(1_000_003 * self.config.seed + 1_009 * self.current_epoch + self.global_rank)
        if self.augment is not None:
            self.augment = self._new_augment()
        frozen = encoder_is_frozen(self.config.freeze_encoder, self.current_epoch)
        freeze_encoder(self.model, frozen, self.config.frozen_levels)

    def _new_augment(self) -> Augment:
        config = self.config
        return Augment(
            self.input_size,
            geometry=Geometry(scale=config.zoom, bend=config.bend, squash=config.squash),
            photometric=config.photometric,
            grey=config.grey,
        )

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Augment training batches on the device; only turn the picture to float 0-1 for any other."""
        if self.augment is not None and self.trainer.training:
            image, votes, n_asked = self.augment(batch["image"], batch["votes"], batch["n_asked"])
            batch = batch | {"votes": votes, "n_asked": n_asked}
        else:
            image = batch["image"].float() / 255
        return batch | {"image": image.contiguous(memory_format=torch.channels_last)}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        outcome = self._outcome(batch)
        loss, size = outcome.mask_loss, len(batch["image"])
        if outcome.vote_loss is not None:
            self.log("train_mask_loss", loss, on_step=False, on_epoch=True, batch_size=max(outcome.marked, 1))
            self.log("train_vote_loss", outcome.vote_loss, on_step=False, on_epoch=True, batch_size=size)
            loss = loss + self.config.vote_weight * outcome.vote_loss
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=size)
        self.log("lr", self.optimizers().param_groups[0]["lr"], on_step=True, on_epoch=False)  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add a batch to the validation loss and scores."""
        self._evaluate(batch, self.val_scores)

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores, ``val_spiral_iou_0.2`` and so on."""
        self._log_scores("val", self.val_scores)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add a batch to the test loss and scores."""
        self._evaluate(batch, self.test_scores)

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._log_scores("test", self.test_scores)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; linear warm-up, then half a cosine to 0. Biases and normalization are not decayed."""
        config = self.config
        optimizer = torch.optim.AdamW(parameter_groups(self.model, config.lr, config.weight_decay, config.layer_decay))
        steps = self.total_steps()

        def factor(step: int) -> float:
            return learning_rate_factor(step / steps, self.config.warmup)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def total_steps(self) -> int:
        """Return how many steps training takes if nothing stops it early."""
        steps = int(self.trainer.estimated_stepping_batches)
        return min(steps, self.config.max_steps) if self.config.max_steps > 0 else steps

    def _outcome(self, batch: dict[str, Any]) -> _Outcome:
        """Run as much of the network as the batch has labels for."""
        image, votes, n_asked = batch["image"], batch["votes"], batch["n_asked"]
        if self.vote_loss is None:
            raw = self.model(image)
            return _Outcome(self.loss(raw, votes, n_asked), raw, votes, n_asked, len(image))
        self.model.check_size(image)
        features = self.model.encoder(image)
        assert self.model.vote_head is not None
        vote_loss = self.vote_loss(self.model.vote_head(features), batch["vote_counts"])
        rows = (n_asked > 0).flatten(1).any(dim=1)
        marked = int(rows.sum())
        if marked < len(image):
            features, votes, n_asked = [feature[rows] for feature in features], votes[rows], n_asked[rows]
        if marked:
            raw = self.model.masks(features)
            mask_loss = self.loss(raw, votes, n_asked)
        else:
            raw, mask_loss = image.new_empty((0, self.loss.out_channels, *image.shape[-2:])), image.new_zeros(())
        return _Outcome(mask_loss, raw, votes, n_asked, marked, vote_loss, batch["vote_counts"].sum())

    def _evaluate(self, batch: dict[str, Any], scores: _Scores) -> None:
        outcome = self._outcome(batch)
        scores.mask_loss.update(outcome.mask_loss, outcome.marked)
        if outcome.vote_loss is not None:
            scores.vote_loss.update(outcome.vote_loss, outcome.answers)
        scores.masks.update(self.loss.fraction(outcome.raw), outcome.votes, outcome.n_asked)

    def _log_scores(self, name: str, scores: _Scores) -> None:
        loss, marked = scores.mask_loss.compute()
        if self.vote_loss is not None:
            vote_loss, _ = scores.vote_loss.compute()
            self.log(f"{name}_vote_loss", vote_loss)
            loss = loss if marked > 0 else vote_loss
        self.log(f"{name}_loss", loss, prog_bar=True)
        self.log_dict({f"{name}_{key}": value for key, value in scores.masks.compute().items()})
        scores.reset()


def learning_rate_factor(progress: float, warmup: float) -> float:
    """Tell which part of the peak learning rate to use.

    Parameters
    ----------
    progress : float
        Part of all training that is done, 0-1.
    warmup : float
        Part in which the rate rises linearly; then it falls as half a cosine.

    Returns
    -------
    float
        0-1. Never exactly 0 at the start, so that no step is lost.
    """
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min((progress - warmup) / (1 - warmup), 1.0)))
