"""A U-Net whose encoder is any convolutional network of the library timm, Zoobot's published encoders among them.

Torch, and timm (Wightman 2019, doi:10.5281/zenodo.4414861) where such a network is built. Weights are fetched only
where ``pretrained`` asks for them. The built network's ``options`` name its architecture and no weights, so that a
bundle that was trained with it is loaded without the internet; `check_stored_options` refuses anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.blocks import PICTURE_CHANNELS
from zoobot_3d.networks.fast_parts import FastDecoder, FastHead, FoldingModel, GlobalContext, Lateral

TIMM_STRIDES = (4, 8, 16, 32)
TIMM_WIDTHS = (64, 80, 112, 160)
HUB = ("hf_hub:", "hf-hub:")
"""How a name begins that stands for a repository of the Hugging Face hub."""

_ZOOBOT = "mwalmsley/zoobot-encoder-"
_UNCHANGED = ((0.0,) * PICTURE_CHANNELS, (1.0,) * PICTURE_CHANNELS)
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_]{1,100}")
_INSTALL = "pip install 'zoobot-3d[timm]'"


class TimmEncoder(nn.Module):
    """The encoder, which gets pictures as it was trained with: minus a mean, over a standard deviation.

    Both are buffers, so that a bundle keeps them with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.tensor(tuple(mean))[:, None, None])
        self.register_buffer("std", torch.tensor(tuple(std))[:, None, None])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return one map for each stride, finest first."""
        return list(self.features((pictures - self.mean) / self.std))


class TimmDecoder(FastDecoder):
    """As `FastDecoder`, on maps of any numbers of channels; a 1x1 convolution takes each to its width.

    These convolutions, and the global context, are the decoder's: an encoder that is frozen has nothing untrained.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__(widths)
        self.lateral = Lateral(channels, widths)
        self.context = GlobalContext(widths[-1])

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the map of the finest stride."""
        maps = [functional.relu(found, inplace=True) for found in self.lateral(features)]
        maps[-1] = self.context(maps[-1])
        return super().forward(maps)


class TimmUNet(FoldingModel):
    """The network.

    Parameters
    ----------
    out_channels, initial_raw
        As of `zoobot_3d.networks.FastUNet`.
    encoder : str
        Name of a network in timm, such as ``convnext_nano`` or ``resnet18.a1_in1k``, or ``hf_hub:OWNER/NAME`` for one
        in a repository of the Hugging Face hub, such as ``hf_hub:mwalmsley/zoobot-encoder-convnext_nano``.
    pretrained : bool
        Fetch the encoder's weights, once; the hub's library keeps them. Otherwise they are fresh.
    strides : sequence of int
        Which maps of the encoder the decoder gets: pixels of the picture to one of theirs, each twice the one before.
    widths : sequence of int
        Channels of the decoder at each of the strides.

    Raises
    ------
    ConfigError
        If timm is not installed, there is no such encoder, its weights cannot be fetched, it has not the strides or
        does not take pictures of any size, or ``strides`` and ``widths`` do not go together.
    """

    def __init__(
        self,
        out_channels: int = 2,
        initial_raw: Sequence[float] | None = None,
        *,
        encoder: str = "convnext_nano",
        pretrained: bool = True,
        strides: Sequence[int] = TIMM_STRIDES,
        widths: Sequence[int] = TIMM_WIDTHS,
    ) -> None:
        if len(widths) != len(strides):
            raise ConfigError(f"timm_unet: {len(widths)} widths and {len(strides)} strides; give one of each")
        if strides[0] < 2 or any(below != 2 * above for above, below in pairwise(strides)):
            raise ConfigError(f"timm_unet: strides {list(strides)} do not double from 2 or more, as 4, 8, 16, 32 do")
        architecture, features = _features(encoder, pretrained, strides)
        _check_maps(architecture, features, strides)
        channels = features.feature_info.channels()
        mean, std = _normalisation(encoder, features.pretrained_cfg)
        super().__init__(
            TimmEncoder(features, mean, std),
            TimmDecoder(channels, widths),
            FastHead(widths[0], out_channels, initial_raw, stride=strides[0]),
            out_channels=out_channels,
            bottom_channels=channels[-1],
            size_multiple=strides[-1],
            options={
                "encoder": architecture,
                "pretrained": False,
                "strides": list(strides),
                "widths": list(widths),
            },
        )


def check_stored_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a bundle that would have weights fetched: those of `TimmUNet` never would.

    Raises
    ------
    ConfigError
        If they do not name an architecture alone.
    """
    name = options.get("encoder")
    if not isinstance(name, str) or not _ARCHITECTURE.fullmatch(name) or options.get("pretrained") is not False:
        raise ConfigError("timm_unet: a bundle's encoder is the name of an architecture, with pretrained false")


def _timm() -> Any:
    """Import timm.

    Raises
    ------
    ConfigError
        It is not installed, or does not work.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise ConfigError(f"timm_unet: timm lacks the package {error.name}; {_INSTALL}") from None
        raise ConfigError(f"timm_unet needs the package timm; {_INSTALL}") from None
    except (ImportError, RuntimeError, OSError) as error:  # of torchvision, if it was built for another torch
        told = " ".join(str(error).split())[:150]
        raise ConfigError(
            f"timm_unet: timm cannot be imported ({told}); pip install -U timm torch torchvision"
        ) from None
    return timm


def _features(name: str, pretrained: bool, strides: Sequence[int]) -> tuple[str, Any]:
    """Build an encoder that returns its maps at some strides; return its architecture's name as well.

    Raises
    ------
    ConfigError
        There is no such encoder or stride, or it cannot be fetched.
    """
    timm = _timm()
    architecture = _architecture(timm, name)
    try:
        with torch.device("meta"):
            plain = timm.create_model(architecture, pretrained=False, features_only=True)
        reductions = plain.feature_info.reduction()
    except (RuntimeError, AttributeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        told = " ".join(str(error).split())[:150]
        raise ConfigError(f"timm_unet: {architecture} gives no maps at several strides ({told}); {_SUGGEST}") from None
    if {name for name, _ in plain.named_buffers()} - plain.state_dict().keys():  # tables of positions
        raise ConfigError(f"timm_unet: {architecture} takes pictures of one size alone; {_SUGGEST}")
    if missing := [stride for stride in strides if stride not in reductions]:
        raise ConfigError(
            f"timm_unet: {architecture} has no map at stride {', '.join(map(str, missing))}, but at "
            f"{', '.join(map(str, dict.fromkeys(reductions)))}; choose model.options.strides among these, or {_SUGGEST}"
        )
    deepest = {reduction: index for index, reduction in enumerate(reductions)}  # the last of each
    build = {"features_only": True, "out_indices": [deepest[stride] for stride in strides]}
    if pretrained or name.startswith(HUB):
        return architecture, _fetched(lambda: timm.create_model(name, pretrained=pretrained, **build), name)
    return architecture, timm.create_model(architecture, pretrained=False, **build)


_SUGGEST = "choose a convolutional encoder such as convnext_nano"


def _architecture(timm: Any, name: str) -> str:
    """Find the name of an encoder's architecture; for one of the hub, ask it.

    Raises
    ------
    ConfigError
        timm has no such architecture, or the hub's differs from it.
    """
    if name.startswith(HUB):
        from timm.models import load_model_config_from_hf

        _, architecture, changes = _fetched(lambda: load_model_config_from_hf(name.partition(":")[2]), name)
        if changes:  # a bundle keeps the architecture's name alone
            raise ConfigError(
                f"timm_unet: {name} is not timm's {architecture} as it is, but one with other arguments "
                f"({', '.join(map(str, changes))}); choose another encoder"
            )
    else:
        architecture = name.partition(".")[0]
    if not _ARCHITECTURE.fullmatch(architecture) or not timm.is_model(architecture):
        raise ConfigError(
            f"timm_unet: timm {timm.__version__} has no encoder {name[:100]!r}; timm.list_models() names those it has"
        )
    return architecture


def _fetched(fetch: Any, name: str) -> Any:
    """Call what may use the network.

    Raises
    ------
    ConfigError
        It failed.
    """
    try:
        return fetch()
    except Exception as error:  # whatever clients of the hub raise
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise ConfigError(
            f"timm_unet: {name[:100]} cannot be fetched ({told}); look at the name and the connection, or give "
            "model.options.pretrained false for an architecture of timm with fresh weights"
        ) from None


def _check_maps(name: str, features: nn.Module, strides: Sequence[int]) -> None:
    """Raise `ConfigError` if an encoder does not give maps of the strides for pictures of any size."""
    training = features.training
    for side in (2 * strides[-1], 3 * strides[-1]):
        expected = [(side // stride, side // stride) for stride in strides]
        try:
            with torch.no_grad():
                found = [
                    tuple(made.shape[2:]) for made in features.eval()(torch.zeros(1, PICTURE_CHANNELS, side, side))
                ]
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            told = " ".join(str(error).split())[:150]
            raise ConfigError(f"timm_unet: {name} does not take {side} px ({told}); {_SUGGEST}") from None
        if found != expected:
            raise ConfigError(f"timm_unet: {name} gives maps of {found} px for {side} px, not {expected}; {_SUGGEST}")
    features.train(training)


def _normalisation(name: str, pretrained_cfg: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation that an encoder expects its pictures (0-1) to be normalized with.

    Zoobot's were trained on pictures in 0-1 as they are (`galaxy_datasets.transforms`); the numbers in their
    configuration are those of ImageNet, which timm writes there by default.
    """
    if name.startswith(HUB) and name.partition(":")[2].startswith(_ZOOBOT):
        return _UNCHANGED
    return pretrained_cfg.get("mean") or _UNCHANGED[0], pretrained_cfg.get("std") or _UNCHANGED[1]
