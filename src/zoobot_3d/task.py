"""Learning to segment: what one step of training, validation or testing does. The only LightningModule.

Knows networks, losses, metrics and augmentation; must not know files, catalogues or bundles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from zoobot_3d.augment import Augment
from zoobot_3d.config import TrainConfig
from zoobot_3d.losses import Loss
from zoobot_3d.metrics import SegmentationMetrics
from zoobot_3d.models import SegmentationModel

__all__ = ["SegmentTask", "learning_rate_factor"]


class SegmentTask(LightningModule):
    """Fit a network's masks to volunteers' votes.

    Batches are those of `zoobot_3d.data`: uint8 ``image`` (B, 3, S, S), ``votes`` and ``n_asked`` (B, 2, S, S). When
    training they may be larger than the network's input: augmented on the device, they come out at ``input_size``.

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

    Attributes
    ----------
    time_fraction : callable
        Part of the allowed time that has passed, 0-1; the learning rate is at its end when this is 1.
    """

    def __init__(
        self, model: SegmentationModel, loss: Loss, config: TrainConfig, *, input_size: int, augment: bool = True
    ) -> None:
        super().__init__()
        self.model = model.channels_last()
        self.loss = loss
        self.config = config
        self.input_size = input_size
        self.augment: Augment | None = Augment(input_size) if augment else None
        self.val_metrics = SegmentationMetrics()
        self.test_metrics = SegmentationMetrics()
        self.time_fraction: Callable[[], float] = lambda: 0.0

    def forward(self, image: Tensor) -> Tensor:
        """Predict fractions (B, 2, S, S) in 0-1 from pictures (B, 3, S, S), float in 0-1."""
        return self.loss.fraction(self.model(image))

    def on_train_epoch_start(self) -> None:
        """Seed the epoch's draws by its number, so that a resumed run makes the same ones."""
        torch.manual_seed(1_000_003 * self.config.seed + 1_009 * self.current_epoch + self.global_rank)
        if self.augment is not None:
            self.augment = Augment(self.input_size)

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
        loss: Tensor = self.loss(self.model(batch["image"]), batch["votes"], batch["n_asked"])
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(batch["image"]))
        self.log("lr", self.optimizers().param_groups[0]["lr"], on_step=True, on_epoch=False)  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add a batch to the validation loss and scores."""
        self._evaluate(batch, "val", self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores, ``val_spiral_iou_0.2`` and so on."""
        self._log_scores("val", self.val_metrics)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add a batch to the test loss and scores."""
        self._evaluate(batch, "test", self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._log_scores("test", self.test_metrics)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; linear warm-up, then half a cosine to 0. Biases and normalization are not decayed."""
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=self.config.lr,
        )
        steps = self.total_steps()

        def factor(step: int) -> float:
            return learning_rate_factor(max(step / steps, self.time_fraction()), self.config.warmup)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def total_steps(self) -> int:
        """Return how many steps training takes if nothing stops it early."""
        steps = int(self.trainer.estimated_stepping_batches)
        return min(steps, self.config.max_steps) if self.config.max_steps > 0 else steps

    def _evaluate(self, batch: dict[str, Any], name: str, metrics: SegmentationMetrics) -> None:
        raw, votes, n_asked = self.model(batch["image"]), batch["votes"], batch["n_asked"]
        size = len(batch["image"])
        self.log(f"{name}_loss", self.loss(raw, votes, n_asked), prog_bar=True, batch_size=size, sync_dist=True)
        metrics.update(self.loss.fraction(raw), votes, n_asked)

    def _log_scores(self, name: str, metrics: SegmentationMetrics) -> None:
        self.log_dict({f"{name}_{key}": value for key, value in metrics.compute().items()})
        metrics.reset()


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
