"""What every network here shares: encoder, decoder and heads as parts, and the check of a picture's size.

Pure torch. Knows nothing of galaxies, losses, files or configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.heads import VOTE_DROPOUT, VoteHead

PICTURE_CHANNELS = 3


def nearest_size(size: int, multiple: int) -> int:
    """Return the side nearest to ``size`` that a network with this ``multiple`` takes.

    Parameters
    ----------
    size : int
        Height or width in pixels.
    multiple : int
        What the side must be divisible by.

    Returns
    -------
    int
        In pixels, at least ``multiple``; of two equally near sides, the larger.
    """
    return max(multiple, (size + multiple // 2) // multiple * multiple)


class SegmentationModel(nn.Module):
    """A network in parts that can be called one by one: encoder, decoder, head and, if added, a vote head.

    Pictures are float (B, 3, H, W) in 0-1; the raw output is (B, out_channels, H, W), which a loss turns into
    fractions. The vote head reads the encoder's features too; calling the network leaves it out, so masks cost the
    same with and without one::

        features = model.encoder(pictures)
        raw = model.masks(features)                  # decoder and head, as model(pictures)
        concentrations = model.vote_head(features)   # encoder alone

    Parameters
    ----------
    encoder : nn.Module
        (B, 3, H, W) to a list of feature maps, finest first.
    decoder : nn.Module
        That list to one feature map.
    head : nn.Module
        That feature map to the raw output, at the resolution of the picture.
    out_channels : int
        Channels of the raw output.
    bottom_channels : int
        Channels of the encoder's last, coarsest feature map.
    size_multiple : int
        What height and width must be divisible by.
    options : dict
        JSON-able options that rebuild this network with `zoobot_3d.networks.build_model`.

    Attributes
    ----------
    vote_head : VoteHead or None
        The encoder's feature maps to concentrations (B, answers); see `add_vote_head`.
    """

    vote_head: VoteHead | None

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        head: nn.Module,
        *,
        out_channels: int,
        bottom_channels: int,
        size_multiple: int,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head
        self.register_module("vote_head", None)
        self.out_channels, self.bottom_channels = out_channels, bottom_channels
        self.size_multiple, self.options = size_multiple, options

    def add_vote_head(self, answers: int, dropout: float = VOTE_DROPOUT) -> None:
        """Give the network a fresh vote head; the names of its other weights stay.

        Parameters
        ----------
        answers : int
            Of all questions together.
        dropout : float
            Part of the pooled channels that training leaves out at a time.

        Raises
        ------
        ConfigError
            If either is out of range.
        """
        self.vote_head = VoteHead(self.bottom_channels, answers, dropout)

    def check_size(self, pictures: Tensor) -> None:
        """Refuse pictures this network cannot halve often enough.

        Parameters
        ----------
        pictures : Tensor
            To be float, (B, 3, H, W).

        Raises
        ------
        ConfigError
            If the shape does not fit; the message says which nearest shape would.
        """
        if pictures.ndim != 4 or pictures.shape[1] != PICTURE_CHANNELS:
            raise ConfigError(
                f"pictures have shape {tuple(pictures.shape)}; give (B, {PICTURE_CHANNELS}, H, W), "
                "adding a first axis to a single picture"
            )
        if not pictures.is_floating_point():
            raise ConfigError(f"pictures are {pictures.dtype}; give floats in 0-1, uint8 divided by 255")
        height, width = pictures.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            fit = (nearest_size(height, self.size_multiple), nearest_size(width, self.size_multiple))
            raise ConfigError(
                f"pictures are {height} x {width} px, but both sides must be multiples of {self.size_multiple}; "
                f"the nearest size that works is {fit[0]} x {fit[1]}"
            )

    def channels_last(self) -> Self:
        """Lay the convolutions' weights out channels last, in place: much faster on a CPU and in half precision.

        Returns
        -------
        SegmentationModel
            Itself.
        """
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures, float (B, 3, H, W) in 0-1, into raw outputs (B, out_channels, H, W)."""
        self.check_size(pictures)
        return self.masks(self.encoder(pictures))

    def masks(self, features: list[Tensor]) -> Tensor:
        """Turn the encoder's feature maps into raw outputs (B, out_channels, H, W)."""
        return self.head(self.decoder(features))


def set_last_bias(convolution: nn.Conv2d, initial_raw: Sequence[float], *, gain: float) -> None:
    """Make the last convolution start near a constant answer.

    Almost all of a picture is neither arm nor bar. A last layer that starts at the mean answer spares the first
    hundreds of steps, which would otherwise only push the bias down (the initialisation of Lin et al. 2017,
    arXiv:1708.02002, section 4.1).

    Parameters
    ----------
    convolution : nn.Conv2d
        The last layer, of len(initial_raw) outputs or of a multiple of it (``PixelShuffle`` follows).
    initial_raw : sequence of float
        One start value for each output channel.
    gain : float
        Its weights are multiplied by this.
    """
    assert convolution.bias is not None
    repeat = convolution.out_channels // len(initial_raw)
    with torch.no_grad():
        convolution.weight.mul_(gain)
        convolution.bias.copy_(torch.as_tensor(initial_raw, dtype=torch.float32).repeat_interleave(repeat))
