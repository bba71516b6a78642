"""What the networks of our own share: convolutions that fold with their batch norms, the stem, the decoder, the head.

Pure torch. The names of the attributes are those of the weights in bundles, so they stay.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from zoobot_3d.networks.blocks import PICTURE_CHANNELS, SegmentationModel, set_last_bias

STEM_STRIDE = 4
CONTRAST_WINDOWS = (1 / 12, 1 / 4)
"""Sides of the windows of the local mean over the side of the picture: about the width of an arm, and of a disk."""
CONTRAST_FLOOR = 0.03
"""Added to the local mean, in units of a 0-1 picture: about the sky's brightness, so that noise is not contrast."""
FOLDED_CHANNELS = PICTURE_CHANNELS * STEM_STRIDE**2 + len(CONTRAST_WINDOWS) * (STEM_STRIDE // 2) ** 2
"""Of what `FoldedPicture` returns."""


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


class FoldedPicture(nn.Module):
    """Pixels and local contrast folded into channels at 1/4; no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.contrast = LocalContrast()

    def forward(self, pictures: Tensor) -> Tensor:
        """Return (B, FOLDED_CHANNELS, H/4, W/4) for pictures (B, 3, H, W)."""
        pixels = functional.pixel_unshuffle(pictures, STEM_STRIDE)
        contrast = functional.pixel_unshuffle(self.contrast(pictures), STEM_STRIDE // 2)
        return torch.cat([pixels, contrast], dim=1).contiguous(memory_format=torch.channels_last)


class Lateral(nn.ModuleList):
    """A 1x1 convolution for each map of an encoder, which takes it to its width in the decoder."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__(ConvNorm(found, width, kernel=1) for found, width in zip(channels, widths, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps in their order, before any activation."""
        return [convolution(found) for convolution, found in zip(self, maps, strict=True)]


class GlobalContext(nn.Linear):
    """Adds to every pixel of a map what follows from the mean of the whole map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return x + super().forward(x.mean(dim=(2, 3)))[:, :, None, None]


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
