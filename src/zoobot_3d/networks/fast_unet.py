"""Our U-Net for ordinary computers: tens of times the pictures a second of the published one on a CPU.

Pure torch. What makes it fast: nothing runs at the resolution of the picture but a rearrangement of pixels into
channels (4 x 4 px become 48 channels) and the last bilinear doubling; few, wide 3x3 convolutions, which is what CPU
libraries do best; skips are added rather than concatenated; ReLU; batch norms fold into the convolutions
(`FoldingModel.fuse`). What keeps it good: residual levels down to 1/32, where 3x3 convolutions see the whole galaxy, a
global context vector, the finest skip in use, and two channels of local contrast, in which faint arms stand out of the
disk as much as bright ones do.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.fast_parts import (
    FOLDED_CHANNELS,
    STEM_STRIDE,
    ConvNorm,
    FastDecoder,
    FastHead,
    FoldedPicture,
    FoldingModel,
    GlobalContext,
    ResidualBlock,
)

FAST_WIDTHS = (48, 80, 160, 256)
FAST_DEPTHS = (0, 1, 1, 1)


class FastEncoder(nn.Module):
    """Pixels and contrast folded into channels at 1/4, then residual levels at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.folded = FoldedPicture()
        self.stem = ConvNorm(FOLDED_CHANNELS, widths[0])
        self.downs = nn.ModuleList(
            nn.Identity() if level == 0 else ConvNorm(widths[level - 1], width, stride=2)
            for level, width in enumerate(widths)
        )
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        self.context = GlobalContext(widths[-1])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return one map for each level, finest (1/4) first."""
        x = functional.relu(self.stem(self.folded(pictures)), inplace=True)
        features = []
        for number, (down, level) in enumerate(zip(self.downs, self.levels, strict=True)):
            if number:
                x = functional.relu(down(x), inplace=True)
            x = level(x)
            features.append(x)
        features[-1] = self.context(x)
        return features


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
