"""Augmentation for training: one random affine and bend for picture and masks, photometric jitter of the picture alone.

Torch only; runs on whole batches, on whatever device they are on. Never called in validation, test or prediction,
which use `center_crop`. A galaxy has no upright orientation, so any rotation and a mirror are fair; scale and shift
are mild, because the field of view is tied to the galaxy's size and centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.labels import broadcast_asked

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
_EDGE_TOLERANCE = 1e-4  # of half a side: float32 rounding of the sampling grid
_BEND_KNOTS = 6  # a side: a bend is smooth over a fifth of the picture
_SHADE_KNOTS = 5
_ONE_BAND = 0.7  # of the pictures without colour show one channel alone


def center_crop(array: Tensor, out_size: int) -> Tensor:
    """Return the central ``out_size`` x ``out_size`` px of (..., S, S): what validation and prediction see.

    Parameters
    ----------
    array : Tensor
        (..., S, S).
    out_size : int
        Side in pixels.

    Raises
    ------
    ConfigError
        If the crop is larger than the array.
    """
    height, width = array.shape[-2:]
    if not 0 < out_size <= min(height, width):
        raise ConfigError(f"cannot crop {out_size} px from {height} x {width} px; give a crop that fits")
    top, left = (height - out_size) // 2, (width - out_size) // 2
    return array[..., top : top + out_size, left : left + out_size]


@dataclass
class Affine:
    """What happens to each sample of a batch, as seen on the picture; each field is a (B,) float tensor.

    Attributes
    ----------
    angle : Tensor
        Rotation in deg, counterclockwise, after the mirror.
    scale : Tensor
        Above 1 the galaxy gets larger.
    shift_x, shift_y : Tensor
        To the right and down, as a fraction of the output's side.
    mirror : Tensor
        1 to swap left and right first, else 0.
    squash : Tensor, optional
        Factor of at most 1 on the galaxy's extent along one direction, last: as if the disk were more inclined.
    squash_angle : Tensor, optional
        That direction, deg counterclockwise from the right.
    """

    angle: Tensor
    scale: Tensor
    shift_x: Tensor
    shift_y: Tensor
    mirror: Tensor
    squash: Tensor | None = None
    squash_angle: Tensor | None = None

    def sampling_matrices(self) -> Tensor:
        """Return (B, 2, 3): from output to input coordinates, both from -1 to 1 over the output's side."""
        theta = torch.deg2rad(self.angle)
        cosine, sine = torch.cos(theta) / self.scale, torch.sin(theta) / self.scale
        sign = 1.0 - 2.0 * self.mirror
        # y points down, so this is the inverse of a counterclockwise rotation.
        rows = torch.stack(
            [torch.stack([cosine, -sine], dim=1) * sign[:, None], torch.stack([sine, cosine], dim=1)], dim=1
        )
        if self.squash is not None and self.squash_angle is not None:
            phi = torch.deg2rad(self.squash_angle)
            along = torch.stack([torch.cos(phi), -torch.sin(phi)], dim=1)  # y points down
            stretch = (1.0 / self.squash - 1.0)[:, None, None] * along[:, :, None] * along[:, None, :]
            rows = rows @ (torch.eye(2, device=rows.device) + stretch)
        shift = 2.0 * torch.stack([self.shift_x, self.shift_y], dim=1)
        return torch.cat([rows, -(rows @ shift[:, :, None])], dim=2)


def warp(
    pictures: Tensor, votes: Tensor, n_asked: Tensor, affine: Affine, out_size: int, bend: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply one affine, and a bend if given, to pictures and labels with one bilinear interpolation.

    Parameters
    ----------
    pictures : Tensor
        (B, 3, S, S), of any real type.
    votes : Tensor
        (B, classes, S, S).
    n_asked : Tensor
        (B, classes) or (B, classes, S, S).
    affine : Affine
        On the device of the pictures.
    out_size : int
        Side of the output; the affine works about the centre, at the input's pixel scale.
    bend : Tensor, optional
        (B, 2, K, K) shifts of the places looked at, to the right and down, as fractions of the output's side, at knots
        spread evenly over the output; smooth between them.

    Returns
    -------
    pictures : Tensor
        Float32 (B, 3, out_size, out_size) in the units of the input; beyond the input, its reflection.
    votes, n_asked : Tensor
        Float (B, classes, out_size, out_size). Beyond the input, and next to unknown pixels, n_asked is 0.
    """
    side = pictures.shape[-1]
    grid = functional.affine_grid(
        affine.sampling_matrices() * (out_size / side), [len(pictures), 1, out_size, out_size], align_corners=False
    )
    if bend is not None:
        shift = _smooth(bend, out_size).mul_(2.0 * out_size / side)
        grid = grid + shift.permute(0, 2, 3, 1)
    asked = broadcast_asked(n_asked, votes)
    # Bytes are joined before they become floats, which is faster; not every pair of other types can be joined.
    layers = [pictures, votes] if votes.dtype == pictures.dtype else [pictures.float(), votes.float()]
    per_pixel = asked.shape[-1] > 1
    if per_pixel:
        layers += [asked, asked > 0]
    # Labels are unknown outside, so they may be reflected along with the picture: one call for all.
    sampled = functional.grid_sample(
        torch.cat(layers, dim=1).float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    inside = (grid.abs().amax(dim=-1) <= 1.0 - 1.0 / side + _EDGE_TOLERANCE)[:, None]
    classes = votes.shape[1]
    warped, moved_votes = sampled[:, :3], sampled[:, 3 : 3 + classes]
    if per_pixel:
        asked, known = sampled[:, 3 + classes : 3 + 2 * classes], sampled[:, 3 + 2 * classes :]
        inside = inside & (known > 1.0 - _EDGE_TOLERANCE)
    moved_asked = asked * inside
    return warped, moved_votes.mul_(inside), moved_asked


@dataclass(frozen=True)
class Geometry:
    """How far a picture is moved.

    Attributes
    ----------
    rotate : float
        Largest rotation either way, deg.
    scale : float
        Largest magnification and shrinkage, at least 1; drawn log-uniformly.
    shift : float
        Largest shift along each axis, as a fraction of the output's side.
    flip : bool
        Mirror half of the samples.
    bend : float
        Scatter of smooth shifts that differ from place to place, as a fraction of the output's side: arms get the kinks
        and galaxies the lopsidedness that recipes of few numbers do not have. 0 is none.
    squash : float
        Least factor, above 0 and at most 1, by which half of the galaxies are narrowed along a random direction, as if
        their disks were more inclined; drawn log-uniformly. 1 is none.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    rotate: float = 180.0
    scale: float = 1.25
    shift: float = 0.04
    flip: bool = True
    bend: float = 0.0
    squash: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        good = self.rotate >= 0 and self.scale >= 1 and 0 <= self.shift < 0.5
        if not (good and self.bend >= 0 and 0 < self.squash <= 1):
            raise ConfigError(
                f"augment: {self}; give rotate >= 0 deg, scale >= 1, shift in 0-0.5, bend >= 0, squash above 0 and at "
                "most 1"
            )


class Augment(nn.Module):
    """Random affine and photometric jitter of a batch, for training only.

    Parameters
    ----------
    out_size : int, optional
        Side of the output; the input's by default. A larger input gives rotations real pixels in the corners.
    geometry : Geometry, optional
        How far pictures and labels are moved.
    photometric : float
        Strength of the jitter of brightness, gamma, colour, sky level, shading, sharpness and noise; 1 is mild, 0 is
        none.
    grey : float
        Part of the pictures that lose their colour: most show one channel, as a picture of one band does, the others
        the mean.
    seed : int, optional
        Makes the sequence of draws repeatable on one kind of device; by default it follows torch's own seed. Processes
        that train together should each have their own.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    def __init__(
        self,
        out_size: int | None = None,
        *,
        geometry: Geometry | None = None,
        photometric: float = 1.0,
        grey: float = 0.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if photometric < 0 or not 0 <= grey <= 1 or (out_size is not None and out_size < 1):
            raise ConfigError(
                f"augment: photometric {photometric}, grey {grey}, out_size {out_size}; give photometric >= 0, grey in "
                "0-1, out_size >= 1"
            )
        self.out_size, self.photometric, self.grey = out_size, photometric, grey
        self.geometry = geometry or Geometry()
        self.seed = torch.initial_seed() if seed is None else seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self._generators[device]

    def _uniform(self, batch: int, limit: float, device: torch.device, channels: int = 1) -> Tensor:
        """Return (B, channels, 1, 1), uniform within ``limit`` of 0."""
        draws = torch.rand((batch, channels, 1, 1), generator=self._generator(device), device=device)
        return (2.0 * draws - 1.0) * limit

    def draw_affine(self, batch: int, device: torch.device) -> Affine:
        """Draw the geometry of one batch."""
        angle, scale, shift_x, shift_y, mirror = (self._uniform(batch, 1.0, device).flatten() for _ in range(5))
        return Affine(
            angle=angle * self.geometry.rotate,
            scale=torch.exp(scale * math.log(self.geometry.scale)),
            shift_x=shift_x * self.geometry.shift,
            shift_y=shift_y * self.geometry.shift,
            mirror=((mirror > 0) & self.geometry.flip).float(),
            **self._draw_squash(batch, device),
        )

    def _draw_squash(self, batch: int, device: torch.device) -> dict[str, Tensor]:
        """Draw how half of a batch is narrowed; nothing, and no draw, where it never is."""
        if self.geometry.squash == 1:
            return {}
        narrow, amount, angle = (self._uniform(batch, 1.0, device).flatten() for _ in range(3))
        factor = torch.exp(0.5 * (amount + 1) * math.log(self.geometry.squash))
        return {"squash": torch.where(narrow > 0, factor, 1.0), "squash_angle": 90.0 * angle}

    def draw_bend(self, batch: int, device: torch.device) -> Tensor | None:
        """Draw the smooth shifts of one batch, (B, 2, K, K); None without a bend."""
        if not self.geometry.bend:
            return None
        shape = (batch, 2, _BEND_KNOTS, _BEND_KNOTS)
        return self.geometry.bend * torch.randn(shape, generator=self._generator(device), device=device)

    def jitter(self, pictures: Tensor) -> Tensor:
        """Return pictures, float (B, 3, H, W) in 0-1, as another camera, night or screen would show them."""
        batch, device, strength = len(pictures), pictures.device, self.photometric
        generator = self._generator(device)
        colourless = None
        if self.grey:
            drawn = torch.rand((2, batch), generator=generator, device=device)
            colourless = (drawn[0] < self.grey).nonzero().flatten()
            one = pictures[colourless]
            single = (drawn[1, colourless] < _ONE_BAND)[:, None, None]
            pictures[colourless] = torch.where(single, one[:, 1], one.mean(dim=1))[:, None].expand(-1, 3, -1, -1)

        # Gamma before gain, so that a bright bulge still saturates.
        gamma = torch.exp(self._uniform(batch, 0.25 * strength, device))
        gain = torch.exp(self._uniform(batch, 0.2 * strength, device) + self._uniform(batch, 0.1 * strength, device, 3))
        sky = self._uniform(batch, 0.03 * strength, device, 3)
        pictures = pictures.clamp(0.0, 1.0).pow_(gamma).mul_(gain).add_(sky)

        knots = torch.randn((batch, 1, _SHADE_KNOTS, _SHADE_KNOTS), generator=generator, device=device)
        pictures *= _smooth(0.12 * strength * knots, pictures.shape[-1]).exp_()  # disks are not as even as recipes

        pick = torch.rand((4, batch), generator=generator, device=device)
        pale = (pick[0] < min(1.0, 0.15 * strength)).nonzero().flatten()
        if len(pale):
            weights = torch.tensor(_GREY, device=device).view(1, 3, 1, 1)
            keep = self._uniform(len(pale), 0.5, device) + 0.5
            grey = (pictures[pale] * weights).sum(dim=1, keepdim=True)
            pictures[pale] = torch.lerp(grey.expand(-1, 3, -1, -1), pictures[pale], keep)
        soft = (pick[1] < min(1.0, 0.3 * strength)).nonzero().flatten()
        if len(soft):
            amount = self._uniform(len(soft), 0.5, device) + 0.5
            mean = functional.avg_pool2d(pictures[soft], 3, 1, 1, count_include_pad=False)
            pictures[soft] = torch.lerp(pictures[soft], mean, amount)
        if len(coarse := (pick[3] < min(1.0, 0.25 * strength)).nonzero().flatten()):  # enlarged from half the pixels
            amount = self._uniform(len(coarse), 0.35, device) + 0.65
            half = functional.interpolate(pictures[coarse], scale_factor=0.5, mode="area")
            again = functional.interpolate(half, size=pictures.shape[-2:], mode="bilinear", align_corners=False)
            pictures[coarse] = torch.lerp(pictures[coarse], again, amount)

        noisy = (pick[2] < min(1.0, 0.5 * strength)).nonzero().flatten()
        if len(noisy):
            sigma = self._uniform(len(noisy), 0.015 * strength, device) + 0.015 * strength
            noise = torch.randn((len(noisy), *pictures.shape[1:]), generator=generator, device=device)
            pictures[noisy] += noise.mul_(sigma)
        if colourless is not None:  # the jitter has tinted them
            pictures[colourless] = pictures[colourless].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        return pictures.clamp_(0.0, 1.0)

    @torch.no_grad()
    def forward(self, pictures: Tensor, votes: Tensor, n_asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Augment a batch.

        Parameters
        ----------
        pictures : Tensor
            (B, 3, S, S), uint8, or float in 0-1.
        votes : Tensor
            Volunteers who enclosed each pixel, (B, classes, S, S), of any real type.
        n_asked : Tensor
            Volunteers asked, (B, classes) or (B, classes, S, S).

        Returns
        -------
        pictures : Tensor
            Float32 (B, 3, out_size, out_size) in 0-1.
        votes, n_asked : Tensor
            Float32 (B, classes, out_size, out_size). n_asked is 0 where the output shows no known pixel.

        Raises
        ------
        ConfigError
            If pictures are not square or smaller than ``out_size``, or the shapes do not go together.
        """
        height, width = pictures.shape[-2:]
        out_size = self.out_size or height
        if height != width or out_size > height or votes.shape[-2:] != pictures.shape[-2:]:
            raise ConfigError(
                f"augment: pictures {tuple(pictures.shape)} and votes {tuple(votes.shape)} "
                f"for an output of {out_size} px; give squares of one size, at least that large"
            )
        with torch.autocast(pictures.device.type, enabled=False):  # half precision would shift a grid by a pixel
            affine = self.draw_affine(len(pictures), pictures.device)
            bend = self.draw_bend(len(pictures), pictures.device)
            warped, votes, n_asked = warp(pictures, votes, n_asked, affine, out_size, bend)
            if pictures.dtype == torch.uint8:
                warped = warped.mul_(1.0 / 255.0)
            return (self.jitter(warped) if self.photometric or self.grey else warped), votes, n_asked


def _smooth(knots: Tensor, size: int) -> Tensor:
    """Interpolate (B, C, K, K) to (B, C, size, size) by cubics, the outer knots on the outer pixels."""
    return functional.interpolate(knots, size=(size, size), mode="bicubic", align_corners=True)
