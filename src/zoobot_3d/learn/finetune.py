"""Starting from a trained bundle instead of from nothing: its weights, a frozen encoder, slower rates for early layers.

Pure functions on networks and bundles, which `zoobot_3d.learn.task` and `zoobot_3d.learn.train` call; knows nothing of
Lightning, data or configuration files. Early layers hold what all pictures share, and the last ones what a survey's
look and a task ask for, so with few galaxies the early ones should move little or not at all (Howard & Ruder 2018,
arXiv:1801.06146, section 3.2; Clark et al. 2020, arXiv:2003.10555, appendix A).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from zoobot_3d.errors import BundleError, ConfigError
from zoobot_3d.networks import SegmentationModel
from zoobot_3d.networks.fast_parts import ResidualBlock
from zoobot_3d.networks.losses import BCELoss, BetaBinomialLoss, Loss

if TYPE_CHECKING:
    from zoobot_3d.infer.bundle import Bundle

__all__ = ["encoder_is_frozen", "freeze_encoder", "parameter_groups", "parameter_levels", "start_from"]

_LOGITS = (BCELoss, BetaBinomialLoss)  # whose first channel of a class is the logit of the fraction
_STAGE = re.compile(r"(encoder|decoder)\.(?:downs|levels|ups|narrow|blocks)\.(\d+)\.")
_PARTS = ("encoder.", "decoder.", "head.")


def start_from(model: SegmentationModel, loss: Loss, bundle: Bundle, *, votes: Sequence[str] = ()) -> str:
    """Put a bundle's weights into a network, in place.

    Encoder, decoder and head must be of the same shape, but for more residual blocks at the ends of levels of a
    fast_unet: these start as the identity, so that the deeper network gives what the bundle's gives until it has
    learned (Chen et al. 2016, arXiv:1511.05641). The last convolution follows the losses: where raw outputs mean
    the same (both l1 or mse, both logits) it is taken over, a beta-binomial network's means from a bce one's channels
    and the other way round, its concentrations staying fresh; between fractions and logits all of it stays fresh. A
    vote head is taken over where the bundle's answers the same questions.

    Parameters
    ----------
    model : SegmentationModel
        With fresh weights, made for `loss`.
    loss : Loss
        What it is going to be trained with.
    bundle : Bundle
        Where to start.
    votes : sequence of str
        Columns of the network's vote head, if it has one.

    Returns
    -------
    str
        What was taken over, for people.

    Raises
    ------
    BundleError
        The bundle's network does not fit.
    """
    wanted, given = model.state_dict(), bundle.model.state_dict()
    last = _last_layer(model)
    kept = {name: value for name, value in given.items() if name in wanted and value.shape == wanted[name].shape}
    added = _added_blocks(model, set(given))
    if tuple(votes) != bundle.info.votes:
        kept = {name: value for name, value in kept.items() if name.startswith(_PARTS)}
    misfits = [
        name
        for name in dict.fromkeys((*wanted, *given))
        if name.startswith(_PARTS) and name not in last and name not in kept and not name.startswith(added)
    ]
    if misfits or not all(name in given for name in last):
        raise BundleError(
            f"{bundle.path}: its network, {bundle.info.model_name}, is not the one asked for: {len(misfits)} tensors "
            f"differ, the first {(misfits or list(last))[0]}; leave out model.* to take the bundle's"
        )
    told = f"started from {bundle.path}: "
    if isinstance(loss, _LOGITS) != isinstance(bundle.loss, _LOGITS):
        kept = {name: value for name, value in kept.items() if name not in last}
        told += "all but the last layer, whose output means something else"
    elif loss.channels != bundle.loss.channels:
        kept |= {name: _map_channels(wanted[name], given[name], loss, bundle.loss) for name in last}
        told += "all but the concentrations" if loss.channels > bundle.loss.channels else "all of it but concentrations"
    else:
        told += "all of it"
    if added:
        told += f"; {len(added)} more residual blocks start as the identity"
    if tuple(votes) != bundle.info.votes:
        told += "; the vote head starts anew" if votes else "; its vote head is left out"
    model.load_state_dict(wanted | kept)
    return told


def freeze_encoder(model: SegmentationModel, frozen: bool, levels: int = 0) -> None:
    """Let the encoder be, or let it learn, but for its first levels.

    What is frozen gets no gradient, and its batch norms and dropouts work as when predicting, so that running
    statistics stay as well.

    Parameters
    ----------
    model : SegmentationModel
        Changed in place.
    frozen : bool
        All of the encoder, or none but the first `levels`.
    levels : int
        How many, from the picture; the stem goes with the first.

    Raises
    ------
    ConfigError
        The encoder has no more levels than that, or none.
    """
    model.encoder.requires_grad_(not frozen)
    model.encoder.train(not frozen)
    if not levels:
        return
    stages = {name: int(found[2]) for name, _ in model.named_modules() if (found := _STAGE.match(f"{name}."))}
    encoder = {name: number for name, number in stages.items() if name.startswith("encoder.")}
    if not encoder:
        raise ConfigError("train.frozen_levels: this encoder has no levels of its own; use train.freeze_encoder")
    n_levels = 1 + max(encoder.values())
    if levels >= n_levels:
        raise ConfigError(f"train.frozen_levels: {levels} is too many of {n_levels} levels; use train.freeze_encoder")
    for name, module in model.named_modules():
        if f"{name}.".startswith("encoder.stem.") or encoder.get(name, levels) < levels:
            module.requires_grad_(False)
            module.eval()


def encoder_is_frozen(epochs: int | Literal["all"], epoch: int) -> bool:
    """Tell whether the encoder is frozen in an epoch (from 0), as ``train.freeze_encoder`` asks."""
    return epochs == "all" or epoch < epochs


def parameter_levels(model: SegmentationModel) -> dict[str, int]:
    """Tell how far from the output each parameter is, in levels of the network.

    Parameters
    ----------
    model : SegmentationModel
        Any of `zoobot_3d.networks.MODEL_NAMES`.

    Returns
    -------
    dict
        Name -> level: 0 for the head, or heads; 1 for the decoder's last stage, the next numbers for those before it;
        then the encoder from its deepest level, with all that is at the bottom, to its first, with the stem. The
        encoder of a timm_unet is one level.
    """
    names = [name for name, _ in model.named_parameters()]
    stages = {name: (found[1], int(found[2])) for name in names if (found := _STAGE.match(name))}
    count = {
        part: 1 + max((n for kind, n in stages.values() if kind == part), default=-1) for part in ("encoder", "decoder")
    }
    levels = {}
    for name in names:
        part, _, rest = name.partition(".")
        if part not in count:
            levels[name] = 0
            continue
        # Layers without a number are the stem, or at the bottom.
        number = stages[name][1] if name in stages else 0 if rest.startswith("stem.") else count[part] - 1
        levels[name] = count[part] - number + (count["decoder"] if part == "encoder" else 0)
    return levels


def parameter_groups(
    model: SegmentationModel, lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Sort a network's parameters into groups for an optimizer.

    Parameters
    ----------
    model : SegmentationModel
        Whose parameters.
    lr : float
        Learning rate of the head.
    weight_decay : float
        Of weights; biases and normalization are not decayed.
    layer_decay : float
        Factor on the learning rate for each of `parameter_levels`, in (0, 1].

    Returns
    -------
    list of dict
        ``params``, ``lr`` and ``weight_decay``; the head's group is the first. Two groups if ``layer_decay`` is 1, else
        two for each level.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    levels = parameter_levels(model) if layer_decay != 1 else {}
    for name, parameter in model.named_parameters():
        groups.setdefault((levels.get(name, 0), parameter.ndim <= 1), []).append(parameter)
    return [
        {"params": params, "lr": lr * layer_decay**level, "weight_decay": 0.0 if is_vector else weight_decay}
        for (level, is_vector), params in sorted(groups.items(), key=lambda item: item[0])
    ]


def _last_layer(model: SegmentationModel) -> list[str]:
    """Names of the weight and bias of the convolution that makes the raw output."""
    *_, last = (name for name, module in model.head.named_modules() if isinstance(module, nn.Conv2d))
    return [f"head.{last}.{name}" for name, _ in model.head.get_submodule(last).named_parameters()]


def _added_blocks(model: SegmentationModel, given: set[str]) -> tuple[str, ...]:
    """Prefixes of the residual blocks of which a bundle's network has no tensor at all."""
    blocks = (f"{name}." for name, module in model.named_modules() if isinstance(module, ResidualBlock))
    return tuple(block for block in blocks if not any(name.startswith(block) for name in given))


def _map_channels(fresh: Tensor, given: Tensor, loss: Loss, old: Loss) -> Tensor:
    """Take over the first channel of each class, the mean; each channel may have several outputs (``PixelShuffle``)."""
    result = fresh.clone().reshape(loss.out_channels, -1, *fresh.shape[1:])
    with torch.no_grad():
        result[:: loss.channels] = given.reshape(old.out_channels, -1, *given.shape[1:])[:: old.channels]
    return result.reshape(fresh.shape)
