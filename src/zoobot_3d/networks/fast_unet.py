"""Our U-Net for ordinary computers: tens of times the pictures a second of the published one on a CPU.

Pure torch. What makes it fast: nothing runs at the resolution of the picture but a rearrangement of pixels into
channels (4 x 4 px become 48 channels) and the last bilinear doubling; few, wide 3x3 convolutions, which is what CPU
libraries do best; skips are added rather than concatenated; ReLU; batch norms fold into the convolutions
(`FoldingModel.fuse`). What keeps it good: residual levels down to 1/32, where 3x3 convolutions see the whole galaxy, a
global context vector, the finest skip in use, and two channels of local contrast, in which faint arms stand out of the
disk as much as bright ones do.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.blocks import PICTURE_CHANNELS, SegmentationModel, set_last_bias

FAST_WIDTHS = (48, 80, 160, 256)
FAST_DEPTHS = (0, 1, 1, 1)
STEM_STRIDE = 4
CONTRAST_WINDOWS = (1 / 12, 1 / 4)
"""Sides of the windows of the local mean over the side of the picture: about the width of an arm, and of a disk."""
CONTRAST_FLOOR = 0.03
"""Added to the local mean, in units of a 0-1 picture: about the sky's brightness, so that noise is not contrast."""


class ConvNorm(nn.Sequential):
    """A convolution without bias and batch norm, which `FoldingModel.fuse` folds into one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        padding: int | None = None,
        groups: int = 1,
        eps: float = 1e-5,
    ) -> None:
        padding = kernel // 2 if padding is None else padding
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels, eps),
        )

    def fuse(self) -> nn.Module:
        """Return what does the same in eval mode with one convolution."""
        convolution, norm = self
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return fuse_conv_bn_eval(convolution, norm)


class FoldingModel(SegmentationModel):
    """A network whose `ConvNorm` layers fold for inference."""

    def fuse(self) -> Self:
        """Return a copy for inference: batch norms folded into the convolutions, channels last.

        Returns
        -------
        FoldingModel
            In eval mode; its parameters have other names, so save the original.
        """
        fused = copy.deepcopy(self).eval()
        for module in fused.modules():
            for name, child in module.named_children():
                if isinstance(child, ConvNorm):
                    setattr(module, name, child.fuse())
        return fused.channels_last()


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions of one width, plus the input, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]  # starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        inner = functional.relu(self.first(x), inplace=True)
        return functional.relu(self.second(inner).add_(x), inplace=True)


class LocalContrast(nn.Module):
    """Brightness minus and over its local mean, for each window, at half the resolution.

    No parameters. The local mean is a box mean applied twice, on a grid of a quarter of the resolution.

    Parameters
    ----------
    windows : sequence of float
        Sides of the windows as fractions of the side of the picture.
    """

    def __init__(self, windows: Sequence[float] = CONTRAST_WINDOWS) -> None:
        super().__init__()
        self.windows = tuple(windows)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return (B, windows, H/2, W/2) for pictures (B, 3, H, W), within about -1 to 3."""
        grey = functional.avg_pool2d(pictures.mean(dim=1, keepdim=True), 2)
        coarse = functional.avg_pool2d(grey, 2)
        contrasts = []
        for window in self.windows:
            radius = max(1, round(window * int(coarse.shape[-1]) / 2))
            mean = coarse
            for along_rows, along_columns in ((radius, 0), (0, radius)) * 2:
                kernel = (2 * along_rows + 1, 2 * along_columns + 1)
                mean = functional.avg_pool2d(mean, kernel, 1, (along_rows, along_columns), count_include_pad=False)
            mean = functional.interpolate(mean, scale_factor=2.0, mode="bilinear", align_corners=False)
            contrasts.append((grey - mean) / (mean + CONTRAST_FLOOR))
        return torch.cat(contrasts, dim=1).clamp(-2.0, 4.0)


class FastEncoder(nn.Module):
    """Pixels and contrast folded into channels at 1/4, then residual levels at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.contrast = LocalContrast()
        stem_channels = PICTURE_CHANNELS * STEM_STRIDE**2 + len(CONTRAST_WINDOWS) * (STEM_STRIDE // 2) ** 2
        self.stem = ConvNorm(stem_channels, widths[0])
        self.downs = nn.ModuleList(
            nn.Identity() if level == 0 else ConvNorm(widths[level - 1], width, stride=2)
            for level, width in enumerate(widths)
        )
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        self.context = nn.Linear(widths[-1], widths[-1])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return one map for each level, finest (1/4) first."""
        pixels = functional.pixel_unshuffle(pictures, STEM_STRIDE)
        contrast = functional.pixel_unshuffle(self.contrast(pictures), STEM_STRIDE // 2)
        x = torch.cat([pixels, contrast], dim=1).contiguous(memory_format=torch.channels_last)
        x = functional.relu(self.stem(x), inplace=True)
        features = []
        for number, (down, level) in enumerate(zip(self.downs, self.levels, strict=True)):
            if number:
                x = functional.relu(down(x), inplace=True)
            x = level(x)
            features.append(x)
        features[-1] = x + self.context(x.mean(dim=(2, 3)))[:, :, None, None]
        return features


class FastDecoder(nn.Module):
    """From the deepest level up: narrow with a 1x1, double, add the skip, one residual block."""

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


class FastHead(nn.Module):
    """A 3x3 convolution to 2x2 px for each cell, then, bilinear, to the resolution of the picture."""

    def __init__(
        self, in_channels: int, out_channels: int, initial_raw: Sequence[float] | None, *, stride: int = STEM_STRIDE
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels * 4, 3, padding=1)
        self.scale = stride / 2
        if initial_raw is not None:
            set_last_bias(self.conv, initial_raw, gain=0.1)

    def forward(self, decoded: Tensor) -> Tensor:
        """Return (B, out_channels, stride * h, stride * w) for a map (B, in_channels, h, w)."""
        finer = functional.pixel_shuffle(self.conv(decoded), 2)
        if self.scale == 1:
            return finer
        return functional.interpolate(finer, scale_factor=self.scale, mode="bilinear", align_corners=False)


class FastUNet(FoldingModel):
    """The fast network.

    Parameters
    ----------
    out_channels : int
        Channels of the raw output: 2, or 4 for the beta-binomial loss.
    initial_raw : sequence of float, optional
        Start values of the output channels; by default torch's own.
    widths : sequence of int
        Channels at 1/4, 1/8, 1/16, ... of the resolution. Multiples of 16 are fastest.
    depths : sequence of int
        Residual blocks of each level.

    Raises
    ------
    ConfigError
        If ``widths`` and ``depths`` differ in length or are empty.
    """

    def __init__(
        self,
        out_channels: int = 2,
        initial_raw: Sequence[float] | None = None,
        *,
        widths: Sequence[int] = FAST_WIDTHS,
        depths: Sequence[int] = FAST_DEPTHS,
    ) -> None:
        if len(widths) != len(depths) or not widths:
            raise ConfigError(
                f"fast_unet: {len(widths)} widths and {len(depths)} depths; give one of each for every resolution"
            )
        super().__init__(
            FastEncoder(widths, depths),
            FastDecoder(widths),
            FastHead(widths[0], out_channels, initial_raw),
            out_channels=out_channels,
            bottom_channels=widths[-1],
            size_multiple=STEM_STRIDE * 2 ** (len(widths) - 1),
            options={"widths": list(widths), "depths": list(depths)},
        )
