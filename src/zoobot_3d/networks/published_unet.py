"""The U-Net of the 2023 paper (NeurIPS ML4PS): 3,340,209 parameters, 28.3 GFLOP a picture at 224 px.

Pure torch. Kept to compare with and to hold the published weights, so its parameters carry the names of the published
Lightning checkpoints; only the output layers, there ``decoder.final_conv``, are a head of their own here (``head``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.blocks import PICTURE_CHANNELS, SegmentationModel, set_last_bias

PUBLISHED_WIDTH = 32
PUBLISHED_MULTIPLIERS = (1, 4, 2, 4)
PUBLISHED_DROPOUTS = (0.0, 0.1, 0.25, 0.13)


class ConvNorm(nn.Module):
    """A 3x3 convolution and batch norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.batchnorm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of ``out_channels`` and the same size."""
        return self.batchnorm(self.conv(x))


class ConvNormMish(ConvNorm):
    """A 3x3 convolution, batch norm and Mish."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of ``out_channels`` and the same size."""
        return nn.functional.mish(super().forward(x))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, plus the input, then Mish."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block1 = ConvNormMish(in_channels, out_channels)
        self.block2 = ConvNorm(out_channels, out_channels)
        same = in_channels == out_channels
        self.res_conv = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of ``out_channels`` and the same size."""
        return nn.functional.mish(self.block2(self.block1(x)) + self.res_conv(x))


class Downsample(nn.Module):
    """Halve the resolution with a strided 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of half the size."""
        return self.conv(x)


class Upsample(nn.Module):
    """Double the resolution with a transposed 4x4 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of twice the size."""
        return self.conv(x)


class PublishedEncoder(nn.Module):
    """Residual levels, each but the last followed by a halving, and two residual blocks at the bottom."""

    def __init__(self, widths: Sequence[int], dropouts: Sequence[float]) -> None:
        super().__init__()
        self.downs = nn.ModuleList()
        for level, (width, dropout) in enumerate(zip(widths, dropouts, strict=True)):
            below = widths[level - 1] if level else PICTURE_CHANNELS
            last = level == len(widths) - 1
            self.downs.append(
                nn.ModuleList(
                    [
                        ResidualBlock(below, width),
                        ResidualBlock(width, width),
                        nn.Dropout(dropout),
                        nn.Identity() if last else Downsample(width),
                    ]
                )
            )
        self.mid_block1 = ResidualBlock(widths[-1], widths[-1])
        self.mid_block2 = ResidualBlock(widths[-1], widths[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the skips, finest first, and last the bottom."""
        skips = []
        for level in self.downs:
            assert isinstance(level, nn.ModuleList)
            first, second, dropout, down = level
            x = dropout(second(first(x)))
            skips.append(x)
            x = down(x)
        return [*skips, self.mid_block2(self.mid_block1(x))]


class PublishedDecoder(nn.Module):
    """From the deepest level to the second: concatenate the skip, two residual blocks, double the resolution.

    The finest skip is not used.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.ups = nn.ModuleList()
        for level in range(len(widths) - 1, 0, -1):
            width, above = widths[level], widths[level - 1]
            self.ups.append(
                nn.ModuleList([ResidualBlock(2 * width, above), ResidualBlock(above, above), Upsample(above)])
            )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the map of the first width at the resolution of the picture."""
        *skips, x = features
        for stage, skip in zip(self.ups, reversed(skips[1:]), strict=True):
            assert isinstance(stage, nn.ModuleList)
            first, second, up = stage
            x = up(second(first(torch.cat([x, skip], dim=1))))
        return x


class PublishedUNet(SegmentationModel):
    """The published network.

    Parameters
    ----------
    out_channels : int
        Channels of the raw output: 2 as published.
    initial_raw : sequence of float, optional
        Start values of the output channels; by default torch's own, as published. A positive one keeps the ReLU from
        starting dead.
    width : int
        Width of the first level at multiplier 1.
    multipliers : sequence of int
        Width of each level over ``width``; their number is the number of resolutions.
    dropouts : sequence of float
        Dropout of each level.
    relu_output : bool
        End with a ReLU, as published, which suits l1 and mse. The likelihood losses need it off.

    Raises
    ------
    ConfigError
        If ``multipliers`` and ``dropouts`` differ in length or there are fewer than two levels.
    """

    def __init__(
        self,
        out_channels: int = 2,
        initial_raw: Sequence[float] | None = None,
        *,
        width: int = PUBLISHED_WIDTH,
        multipliers: Sequence[int] = PUBLISHED_MULTIPLIERS,
        dropouts: Sequence[float] = PUBLISHED_DROPOUTS,
        relu_output: bool = True,
    ) -> None:
        if len(multipliers) != len(dropouts) or len(multipliers) < 2:
            raise ConfigError(
                f"published_unet: {len(multipliers)} multipliers and {len(dropouts)} dropouts; "
                "give one of each for every resolution, two resolutions or more"
            )
        widths = [width * multiplier for multiplier in multipliers]
        last = nn.Conv2d(PICTURE_CHANNELS, out_channels, 1)
        if initial_raw is not None:
            set_last_bias(last, initial_raw, gain=0.1)
        super().__init__(
            PublishedEncoder(widths, dropouts),
            PublishedDecoder(widths),
            nn.Sequential(
                ConvNormMish(widths[0], PICTURE_CHANNELS),
                nn.Identity(),  # keeps the published index of the last convolution
                last,
                nn.ReLU() if relu_output else nn.Identity(),
            ),
            out_channels=out_channels,
            bottom_channels=widths[-1],
            size_multiple=2 ** (len(widths) - 1),
            options={
                "width": width,
                "multipliers": list(multipliers),
                "dropouts": list(dropouts),
                "relu_output": relu_output,
            },
        )
