"""Bundles at work on arrays in memory: what a notebook calls. Knows nothing of catalogues or files of pictures.

The networks are asked in `zoobot_3d.infer.ensemble`; galaxies are found in pictures of any field in
`zoobot_3d.infer.windows`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import ConfigError
from zoobot_3d.infer.bundle import DEFAULT, Bundle, StoredBundle, open_bundle
from zoobot_3d.infer.ensemble import Ensemble
from zoobot_3d.infer.field import FIELDS, Field, galaxy_window
from zoobot_3d.infer.members import Member
from zoobot_3d.infer.picture import PictureLike, as_picture, check_picture
from zoobot_3d.infer.uncertainty import Found
from zoobot_3d.infer.windows import over_windows
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["Segmenter", "SegmenterSettings", "load_segmenter"]


@dataclass(frozen=True)
class SegmenterSettings:
    """What another process needs to make a `Segmenter` like one here.

    Attributes
    ----------
    bundles : tuple of str
        Their folders.
    device, batch_size, tta, engine
        As of `load_segmenter`.
    """

    bundles: tuple[str, ...]
    device: str | None
    batch_size: int
    tta: bool
    engine: str

    def load(self) -> Segmenter:
        """Load the bundles; see `load_segmenter`."""
        options: dict[str, Any] = {"device": self.device, "batch_size": self.batch_size, "tta": self.tta}
        return load_segmenter(self.bundles, engine=self.engine, **options)


class Segmenter:
    """Finds spiral arms and bars in pictures.

    Parameters
    ----------
    bundle : Bundle or sequence of Bundle
        A trained network with all that is needed to use it rightly, from `zoobot_3d.infer.bundle.load_bundle`. Several
        make an ensemble, whose fraction is the mean of theirs; they may differ in network, input size and field.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"mps"``; by default the best there is.
    batch_size : int
        Pictures that go through a network at once; with ``tta``, their orientations count one by one.
    tta : bool
        Test-time augmentation: show each picture in the eight orientations of a square, and take the mean. Eight times
        the work.
    engine : {"auto", "onnx", "openvino", "torch"}
        What runs the networks; see `zoobot_3d.engines.choice.choose`. ``"auto"`` runs a `Bundle` that is loaded with
        torch.
    start : bool
        False starts the networks when they are first used: where other processes do the work, this one may lack their
        GPU.

    Attributes
    ----------
    bundles : tuple of Bundle
        All of them.
    bundle : Bundle or StoredBundle
        The first.
    engine, device : str
        What runs the first, and where.

    Raises
    ------
    ConfigError
        If there is no bundle, this machine has no such device, or the batch size is no whole number above 0.

    Examples
    --------
    >>> seg = zoobot_3d.load_segmenter("results/bundle")          # doctest: +SKIP
    >>> spiral, bar = seg.segment(rgb)                            # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: Bundle | StoredBundle | Sequence[Bundle | StoredBundle],
        *,
        device: str | None = None,
        batch_size: int = 32,
        tta: bool = False,
        engine: str = "auto",
        start: bool = True,
    ) -> None:
        self.bundles = (bundle,) if isinstance(bundle, (Bundle, StoredBundle)) else tuple(bundle)
        if not self.bundles:
            raise ConfigError("a segmenter of no bundles cannot find anything; give one or more")
        self.bundle = self.bundles[0]
        if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size!r}; give a whole number of at least 1")
        self.batch_size = int(batch_size)
        self.tta = tta
        self._asked = engine, device
        if start:
            assert self._members

    @functools.cached_property
    def _members(self) -> list[Member]:
        return [Member.of(each, *self._asked) for each in self.bundles]

    @property
    def _ensemble(self) -> Ensemble:
        return Ensemble(self._members, self.batch_size, self.tta)

    @property
    def engine(self) -> str:
        """What runs the first network."""
        return self._members[0].engine.name

    @property
    def device(self) -> Any:
        """Where the first network runs."""
        return self._members[0].engine.device

    @property
    def settings(self) -> SegmenterSettings:
        """What another process needs to make the same.

        Raises
        ------
        ConfigError
            If a bundle is in memory, where its weights may have been changed.
        """
        if any(isinstance(each, Bundle) for each in self.bundles):
            raise ConfigError("workers load bundles from their folders; make the segmenter with load_segmenter(FOLDER)")
        folders = tuple(os.path.realpath(each.path) for each in self.bundles)
        engine, device = self._asked
        return SegmenterSettings(folders, device, self.batch_size, self.tta, engine)

    def __repr__(self) -> str:
        """Say in one line which networks these are and what they see."""
        told = [
            f"{each.info.model_name} from {each.path.name}, {each.info.input_size} px across "
            f"{each.info.field_fraction:g} of the picture's side"
            for each in self.bundles
        ]
        if len(told) > 1:
            told = [f"{len(told)} networks: {', '.join(each.info.model_name for each in self.bundles)}"]
        orientations = ", 8 orientations" if self.tta else ""
        return f"Segmenter({told[0]}{orientations}, on {self.device})"

    def model_grid(self, picture_grid: PixelGrid) -> PixelGrid:
        """Grid the first network sees of a picture: the central field it was trained on, at its input size."""
        return self._members[0].grid(picture_grid)

    def segment(self, picture: PictureLike, *, field: Field = "picture", outside: float = 0.0) -> NDArray[np.float32]:
        """Predict the masks of one picture.

        Parameters
        ----------
        picture : numpy.ndarray, path or PIL.Image.Image
            (H, W, 3) uint8 RGB, row 0 north, square, of any size, showing a whole Galaxy Zoo field (424 px of
            ``est_dr5_pixscale``, or that field in another number of pixels); or the file of such a picture, or of a grz
            cutout in FITS.
        field : {"picture", "auto"}
            ``"auto"`` for a picture of any shape that shows another field: the galaxy nearest its middle is measured,
            and the networks see a window about it (`zoobot_3d.infer.field`). With ``tta`` the mean is also over windows
            of three sizes.
        outside : float
            Value of pixels outside the field that the networks see, the central part of the picture, or of the window,
            that they were trained on. NaN tells them from pixels without arms and bars.

        Returns
        -------
        numpy.ndarray
            (2, H, W) float32 in 0-1 on the picture's own pixels: the fraction of volunteers who would enclose each in a
            spiral arm (plane 0) or bar (plane 1).

        Raises
        ------
        BadPictureError
            If the array is not such a picture, or is blank; or if no galaxy is found in it.
        ConfigError
            If there is no such field.
        """
        return self.segment_batch([picture], field=field, outside=outside)[0]

    def segment_with_uncertainty(
        self, picture: PictureLike, *, field: Field = "picture", outside: float = 0.0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Predict the masks of one picture, and how uncertain each pixel is.

        Parameters
        ----------
        picture, field, outside
            As in `segment`.

        Returns
        -------
        masks : numpy.ndarray
            As from `segment`.
        sigma : numpy.ndarray
            (2, H, W) float32 in 0-0.5 (no quantity in 0-1 scatters more): standard deviation of the fraction. Its
            square is the variance over networks and orientations, plus the mean of what networks trained with
            ``beta_binomial`` predict themselves; see `zoobot_3d.infer.uncertainty`.

        Raises
        ------
        BadPictureError
            As in `segment`.
        ConfigError
            As in `check_uncertainty`.
        """
        array = as_picture(picture)
        check_picture(array, square=_check_field(field) == "picture")
        masks, sigma, _ = self.find([array], field, uncertain=True)[0]
        assert sigma is not None
        return np.nan_to_num(masks, nan=outside), np.nan_to_num(sigma, nan=outside)

    def segment_batch(
        self, pictures: Iterable[PictureLike], *, field: Field = "picture", outside: float = 0.0
    ) -> list[NDArray[np.float32]]:
        """Predict the masks of many pictures, which may differ in size; see `segment`."""
        arrays = [as_picture(picture) for picture in pictures]
        for index, array in enumerate(arrays):
            check_picture(array, f"picture {index}", square=_check_field(field) == "picture")
        return [np.nan_to_num(found.masks, nan=outside) for found in self.find(arrays, field)]

    def find(
        self, pictures: Sequence[NDArray[np.uint8]], field: Field = "picture", *, uncertain: bool = False
    ) -> list[Found]:
        """Find arms and bars in pictures that passed `zoobot_3d.infer.picture.check_picture`, and tell all there is.

        Parameters
        ----------
        pictures, field
            As in `segment_batch`.
        uncertain : bool
            Tell standard deviations too, as `segment_with_uncertainty`.

        Returns
        -------
        list of zoobot_3d.infer.uncertainty.Found
            Masks, NaN outside the field; their standard deviations; and, with ``tta``, how far orientations disagree
            on each class.

        Raises
        ------
        ConfigError
            As in `check_uncertainty`.
        """
        return [place() for place in self.ask(pictures, field, uncertain=uncertain)]

    def ask(
        self, pictures: Sequence[NDArray[np.uint8]], field: Field = "picture", *, uncertain: bool = False
    ) -> list[Callable[[], Found]]:
        """Run the networks as `find` does, and return what lays each answer on its picture's pixels.

        The networks are done when this returns. The rest takes no network, and may be done in another thread.
        """
        if uncertain:
            self.check_uncertainty()
        if field == "auto":
            windowed = over_windows(pictures, partial(self.find, uncertain=uncertain), self.tta)
            return [partial(_same, found) for found in windowed]
        together = self._ensemble
        return [partial(together.found, *answer, uncertain) for answer in together.answers(pictures, uncertain)]

    @property
    def field_fraction(self) -> float:
        """Linear fraction of a picture, about its middle, that the networks see; the largest of several."""
        return max(bundle.info.field_fraction for bundle in self.bundles)

    def check_uncertainty(self) -> None:
        """Refuse to tell the uncertainty of a single answer that says nothing of it.

        Raises
        ------
        ConfigError
            If there is one bundle, no test-time augmentation, and the network does not predict its own variance.
        """
        if len(self.bundles) == 1 and not self.tta and self.bundle.info.loss != "beta_binomial":
            raise ConfigError(
                f"{self.bundle.path}: one answer of a network trained with {self.bundle.info.loss} has no uncertainty; "
                "give several bundles, tta, or a bundle trained with beta_binomial"
            )

    def views(self, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Turn pictures into what each network sees of them, for `fractions`.

        Parameters
        ----------
        pictures : sequence of numpy.ndarray
            One or more as in `segment_batch`, which passed `zoobot_3d.infer.picture.check_picture`.

        Returns
        -------
        list of numpy.ndarray
            For each bundle, (B, 3, S, S) float32 in 0-1 on its own grid; that of the first is `model_grid`.
        """
        return [member.see(pictures) for member in self._members]

    def fractions(self, views: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Run the networks on what they see: pictures already on their own grids.

        Parameters
        ----------
        views : numpy.ndarray or sequence of them
            (B, 3, S, S) in 0-1, on `model_grid`; for bundles that differ in input size or field, one array for each.

        Returns
        -------
        numpy.ndarray
            (B, 2, S, S) float32 in 0-1, on the pixels of the first.

        Raises
        ------
        ConfigError
            If there is one array for networks that see different grids, or not one for each.
        """
        return self._ensemble.on_first(views, uncertain=False)[0]

    def fractions_with_uncertainty(
        self, views: NDArray[Any] | Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the networks on what they see, as `fractions` does, and tell the standard deviations too.

        Returns
        -------
        fractions, sigma : numpy.ndarray
            (B, 2, S, S) float32, on the pixels of the first; see `segment_with_uncertainty`.

        Raises
        ------
        ConfigError
            As in `fractions` and `check_uncertainty`.
        """
        self.check_uncertainty()
        mean, variance = self._ensemble.on_first(views, uncertain=True)
        return mean, np.sqrt(variance)

    @property
    def vote_names(self) -> list[str]:
        """What `vote_fractions` tells: ``<question>-<campaign>_<answer>_fraction``; empty without a vote head."""
        return [f"{name}_fraction" for name in dict.fromkeys(v for each in self.bundles for v in each.info.votes)]

    def vote_fractions(
        self, pictures: Sequence[NDArray[np.uint8]], field: Field = "picture"
    ) -> dict[str, NDArray[np.float32]]:
        """Predict what fraction of volunteers would give each answer about the whole galaxy.

        The mean of the Dirichlet distribution that the vote head predicts for each question, and of all bundles that
        have a head for it; test-time augmentation plays no part.

        Parameters
        ----------
        pictures : sequence of numpy.ndarray
            As in `segment_batch`.
        field : {"picture", "auto"}
            As in `segment`.

        Returns
        -------
        dict
            Name, see `vote_names`, to (B,) float32 in 0-1; the answers of a question add up to 1. A question counts
            as asked: how many arms a galaxy without any has is answered too.
        """
        if not self.vote_names:
            return {}
        for index, picture in enumerate(pictures):
            check_picture(picture, f"picture {index}", square=_check_field(field) == "picture")
        if field == "auto":
            pictures = [galaxy_window(picture).cut(picture) for picture in pictures]
        told = self._ensemble.vote_fractions(pictures)
        return {f"{name}_fraction": fractions for name, fractions in told.items()}


def _same(found: Found) -> Found:
    return found


def _check_field(field: str) -> str:
    """Refuse a field that is none.

    Raises
    ------
    ConfigError
        Naming those that there are.
    """
    if field not in FIELDS:
        raise ConfigError(f"no field {field!r}; use one of {', '.join(FIELDS)}")
    return field


def load_segmenter(
    bundle: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = DEFAULT,
    *,
    device: str | None = None,
    batch_size: int = 32,
    tta: bool = False,
    engine: str = "auto",
    start: bool = True,
) -> Segmenter:
    """Load a bundle, or several as an ensemble, and make it ready to find arms and bars.

    Parameters
    ----------
    bundle : path or sequence of paths
        Folder written by ``zoobot3d train``, or several; ``"default"`` is the bundle that is part of the package.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"mps"``; by default the best there is.
    batch_size : int
        Pictures that go through a network at once.
    tta : bool
        Show each picture in the eight orientations of a square; see `Segmenter`.
    engine : {"auto", "onnx", "openvino", "torch"}
        What runs the networks; see `zoobot_3d.engines.choice.choose`.
    start : bool
        False starts the networks when they are first used; see `Segmenter`.

    Returns
    -------
    Segmenter

    Raises
    ------
    BundleError
        If a folder is not a bundle this version can use.
    ConfigError
        If there is no bundle, or the engine or device cannot be used.
    """
    if not isinstance(bundle, (str, os.PathLike, Sequence)):
        raise ConfigError(f"no bundle {bundle!r}; give a folder, several, or nothing for the one of the package")
    paths = [bundle] if isinstance(bundle, (str, os.PathLike)) else list(bundle)
    bundles = [open_bundle(path) for path in paths]
    return Segmenter(bundles, device=device, batch_size=batch_size, tta=tta, engine=engine, start=start)
