"""Pictures of any usual kind, and masks as 8-bit PNG. Pictures start in the north, as arrays in memory do."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from zoobot_3d.errors import BadFileError, ConfigError, Zoobot3DError
from zoobot_3d.io.files import check_regular, write_atomic
from zoobot_3d.quiet import quiet_libraries

__all__ = [
    "FORMATS",
    "JPEG_QUALITY",
    "MAX_PIXELS",
    "decode_mask_png",
    "encode_mask_png",
    "most_pixels",
    "open_picture",
    "read_mask",
    "read_picture",
    "write_jpeg",
    "write_png",
]

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "JPEG2000")
"""Kinds of pictures that are read."""

MAX_PIXELS, MAX_PIXELS_VARIABLE = 40_000_000, "ZOOBOT3D_MAX_PIXELS"

JPEG_QUALITY = 90
"""Written pictures: at 90 and no chroma subsampling a 424 px picture is as large as the Galaxy Zoo ones."""


_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "I", "I;16", "I;16B", "I;16L")
_NAMES = {"CMYK": "CMYK (printing ink)", "F": "floating-point", "YCbCr": "YCbCr", "LAB": "CIELAB", "HSV": "HSV"}
_BY_OTHERS = ("JPEG", "MPO")  # not decoded by Pillow, which fills what is missing from a JPEG
_MOST_VOLUNTEERS, _FEWEST_OF_FULL = 40, 0.25  # a lower value, and none above this part of all: no fraction
_USUAL_VOLUNTEERS = 16
_OURS, _START = b"tEXtSoftware\0zoobot-3d", 200  # what `zoobot_3d.io.write_mask_png` notes in a mask
_HOLE = 64  # bytes
# One filter for all rows, and runs alone: see `benchmarks/mask_png.py`. The level resets the strategy, so it is first.
_MASK_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
_MASK_PNG += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
_DEPTHS = (8, 10, 12, 14, 16)
_ORIENTATION, _TIFF_BITS = 274, 258  # tags of EXIF and TIFF
_PNG_BITS = 24  # byte of the bit depth in the header
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: np.swapaxes(p, 0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.swapaxes(p[::-1, ::-1], 0, 1),
    8: lambda p: np.rot90(p, 1),
}
"""By EXIF orientation, what makes a picture upright (Exif 2.32, tag 0x0112)."""


def open_picture(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a picture as people see it, and say what was changed.

    JPEG, PNG, TIFF, WebP, BMP and JPEG 2000 of one or three bands are read. More than 8 bits are scaled to 8,
    transparent parts are shown on black, and pictures are turned as their EXIF orientation says.

    Parameters
    ----------
    path : path
        The file. What kind it is shows in its first bytes; its name does not matter.

    Returns
    -------
    picture : numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north.
    notes : list of str
        What was done to the picture that its owner may not expect.

    Raises
    ------
    BadFileError
        If the file is missing, is no plain file, is empty, truncated or damaged, is no picture of these kinds, or has
        more pixels than `most_pixels` allows (which its header tells before anything is decoded).
    """
    check_regular(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "check the path") from None
    if not content:
        raise BadFileError(path, "empty file", "download it again")
    try:
        # Pillow warns of odd metadata, and of sizes that are judged here.
        with quiet_libraries(), Image.open(BytesIO(content), formats=FORMATS) as image:
            return _decoded(path, image, content)
    except Image.DecompressionBombError:
        raise _too_large(path, "as its header says") from None
    except UnidentifiedImageError:
        found = "a page or a text" if content[:1] in b"<{" else "of another kind, or damaged"
        raise BadFileError(path, f"not a readable picture ({found})", f"give {', '.join(FORMATS)}") from None
    except Zoobot3DError:
        raise
    except Exception as error:  # decoders raise almost any class on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadFileError(path, f"truncated or damaged picture ({reason})", "download it again") from None


def read_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) uint8 RGB, row 0 north; see `open_picture`, which also says what was changed.

    Raises
    ------
    BadFileError
        As in `open_picture`.
    """
    return open_picture(path)[0]


def most_pixels(default: int = MAX_PIXELS) -> int:
    """Pixels that a picture may have: what ``ZOOBOT3D_MAX_PIXELS`` in the environment says, or 40 million."""
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    try:
        limit = int(float(text)) if text else default
    except (ValueError, OverflowError):
        limit = 0
    if limit < 1:
        raise ConfigError(f"{MAX_PIXELS_VARIABLE}={text}: not a number of pixels; give one such as {default}")
    return limit


def _too_large(path: str | os.PathLike[str], how: str) -> BadFileError:
    what = f"too large, {how}: more than {most_pixels():,} pixels"
    return BadFileError(path, what, f"give a cutout, or set {MAX_PIXELS_VARIABLE}")


def _decoded(path: str | os.PathLike[str], image: Image.Image, content: bytes) -> tuple[NDArray[np.uint8], list[str]]:
    """Decode a picture whose header has been read."""
    width, height = image.size
    if width * height > most_pixels():
        raise _too_large(path, f"with {width} x {height} pixels")
    mode = image.mode
    if mode not in _MODES:
        raise BadFileError(path, f"a picture of {_NAMES.get(mode, mode)} values", "save it as RGB or grey")
    notes = []
    turn = _orientation(image)
    pages = getattr(image, "n_frames", 1)
    bits = _bits(image, content)
    if bits > 8:
        picture, told = _deep(path, content)
        notes.append(told)
    elif image.format in _BY_OTHERS:
        # Pillow and OpenCV fill what is missing from a JPEG with grey, and say nothing.
        picture = simplejpeg.decode_jpeg(content, "RGB", fastdct=False, fastupsample=False, strict=True)
        if _has_hole(content):
            notes.append("zeros within the JPEG: part of it may be missing, as after a broken download")
        pages = 1  # of a camera's file with a preview
    else:
        picture, told = _on_black(ImageOps.exif_transpose(image))
        notes += [told] if told else []
    if turn != 1:
        if bits > 8 or image.format in _BY_OTHERS:
            picture = np.ascontiguousarray(_TURNS[turn](picture))
        notes.append(f"turned upright, as its EXIF orientation {turn} says")
    if pages > 1:
        notes.append(f"the first of {pages} pages")
    return np.asarray(picture, np.uint8), notes


def _has_hole(content: bytes) -> bool:
    """Tell a run of zeros within the data of a JPEG, which decodes without complaint and shows a wrong stripe."""
    at = 2
    while content[at : at + 1] == b"\xff" and content[at + 1 : at + 2] != b"\xda":  # metadata may have such runs
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content.find(bytes(_HOLE), at, content.rfind(b"\xff\xd9")) >= 0


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 is upright, and what is told where the metadata cannot be read."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata of a good picture
        return 1
    return turn if turn in _TURNS else 1


def _bits(image: Image.Image, content: bytes) -> int:
    """Bits of a value; Pillow itself reduces some pictures to 8 without a word."""
    if image.format == "PNG":
        return content[_PNG_BITS]
    if image.mode in ("I", "I;16", "I;16B", "I;16L"):
        return 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS, 8)  # type: ignore[attr-defined]
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    if image.format == "JPEG2000":
        depth = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        return 16 if depth is not None and depth.dtype == np.uint16 else 8
    return 8


def _deep(path: str | os.PathLike[str], content: bytes) -> tuple[NDArray[np.uint8], str]:
    """Scale more than 8 bits to 8. Cameras put 10, 12 or 14 bits into 16: what the highest value needs is all."""
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        image.load()  # raises where the file is cut; OpenCV would not
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        kind = "unreadable" if values is None else str(values.dtype)
        raise BadFileError(path, f"a picture of {kind} values", "save it with 8 or 16 bits, or as FITS")
    highest = int(values.max())
    bits = next(bits for bits in _DEPTHS if highest < 1 << bits)
    picture = np.round(values * (255 / ((1 << bits) - 1))).astype(np.uint8)
    note = f"16-bit values up to {highest}, taken for {bits} bits"
    if picture.ndim == 2:
        return np.repeat(picture[..., None], 3, axis=2), note
    colour = np.ascontiguousarray(picture[..., 2::-1])
    if picture.shape[2] == 4:
        alpha = picture[..., 3:].astype(np.float32) / 255
        colour, note = np.round(colour * alpha).astype(np.uint8), f"{note}; transparent parts shown on black"
    return colour, note


def _on_black(image: Image.Image) -> tuple[NDArray[np.uint8], str]:
    """Convert to RGB, transparent parts on black; say so if there are any."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        seen = np.asarray(image.convert("RGBA"))
        alpha = seen[..., 3:].astype(np.float32) / 255
        colour = np.round(seen[..., :3] * alpha).astype(np.uint8)
        return colour, "transparent parts shown on black" if alpha.min() < 1 else ""
    return np.array(image.convert("RGB")), ""


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read a mask picture as fractions.

    Of 8 bits 255 stands for all volunteers, of 16 bits 65535. A mask of the values 0 and 1 says no and yes. Where the
    colours are all the same and only the transparency differs, that is the mask.

    Parameters
    ----------
    path : path
        A picture, as for `open_picture`.

    Returns
    -------
    numpy.ndarray
        (H, W) float32 in 0-1, row 0 north.

    Raises
    ------
    BadFileError
        As in `open_picture`; or if the picture has colours, or values that look like counts of volunteers.
    """
    picture, notes = open_picture(path)
    content = Path(path).read_bytes()
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or any("turned" in note for note in notes) or values.dtype not in (np.uint8, np.uint16):
        values = picture
    full = 65535 if values.dtype == np.uint16 else 255
    if values.ndim == 3 and values.shape[2] in (2, 4):
        colour, alpha = values[..., :-1], values[..., -1]
        values = alpha[..., None] if np.ptp(colour) == 0 and np.ptp(alpha) else colour
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise BadFileError(path, "has colours, so it is no mask", "give a grey picture in which white is all")
        values = values[..., 0]
    highest = int(values.max())
    if highest == 1:
        full = 1
    elif 1 < highest < _FEWEST_OF_FULL * full and _OURS not in content[:_START]:
        lowest = values[values > 0].min()
        alone = lowest == highest <= full / _USUAL_VOLUNTEERS  # one volunteer, or all, or yes?
        if alone or lowest < full / _MOST_VOLUNTEERS:
            what = f"holds values up to {highest}, which look like counts of volunteers"
            raise BadFileError(path, what, f"give fractions, {full} for all volunteers")
    return values.astype(np.float32) / np.float32(full)


def write_jpeg(path: str | os.PathLike[str], picture: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> None:
    """Write a (H, W, 3) uint8 RGB picture, row 0 north, as JPEG."""
    write_atomic(path, _encode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]))


def write_png(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Write a (H, W, 3) RGB or (H, W) grey uint8 picture, row 0 north, as PNG."""
    write_atomic(path, _encode(".png", picture[..., ::-1] if picture.ndim == 3 else picture, []))


def encode_mask_png(mask: NDArray[np.floating[Any]]) -> bytes:
    """Encode fractions (H, W) in 0-1 as an 8-bit grey PNG; 255 is 1, rounded, clipped."""
    values = np.array(mask, np.float32)
    cv2.patchNaNs(values)
    np.maximum(values, 0, out=values)
    return _encode(".png", np.asarray(cv2.convertScaleAbs(values, alpha=255), np.uint8), _MASK_PNG)


def decode_mask_png(content: bytes, name: str = "mask") -> NDArray[np.float32]:
    """Decode what `encode_mask_png` made to float32 (H, W) fractions.

    Raises
    ------
    BadFileError
        If the bytes are no picture; ``name`` says which.
    """
    grey = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    if grey is None:
        raise BadFileError(name, "not a readable mask picture", "make it again")
    return np.asarray(grey, np.float32) / np.float32(255)


def _encode(kind: str, picture: NDArray[np.uint8], options: list[int]) -> bytes:
    done, content = cv2.imencode(kind, np.ascontiguousarray(picture), options)
    if not done:
        raise ValueError(f"cannot encode an array of {picture.dtype} {picture.shape} as {kind}")
    return content.tobytes()
