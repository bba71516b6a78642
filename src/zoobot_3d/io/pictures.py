"""JPEG and PNG pictures, and masks as 8-bit PNG. Pictures start in the north, as arrays in memory do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import BadFileError
from zoobot_3d.io.files import write_atomic

__all__ = ["JPEG_QUALITY", "decode_mask_png", "encode_mask_png", "read_picture", "write_jpeg", "write_png"]

JPEG_QUALITY = 90
"""Written pictures: at 90 and no chroma subsampling a 424 px picture is as large as the Galaxy Zoo ones."""


def read_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a JPEG or PNG as (H, W, 3) uint8 RGB, row 0 north.

    Raises
    ------
    BadFileError
        If the file is missing, empty, truncated or no picture.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "check the path") from None
    if not content:
        raise BadFileError(path, "empty file", "download it again")
    if content[:2] == b"\xff\xd8" and b"\xff\xd9" not in content[-64:]:
        # The decoder would fill the missing part with grey and say nothing.
        raise BadFileError(path, "truncated JPEG (no end marker)", "download it again")
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise BadFileError(path, "not a readable JPEG or PNG", "download it again")
    return np.asarray(picture, np.uint8)


def write_jpeg(path: str | os.PathLike[str], picture: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> None:
    """Write a (H, W, 3) uint8 RGB picture, row 0 north, as JPEG."""
    write_atomic(path, _encode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]))


def write_png(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Write a (H, W, 3) RGB or (H, W) grey uint8 picture, row 0 north, as PNG."""
    write_atomic(path, _encode(".png", picture[..., ::-1] if picture.ndim == 3 else picture, []))


def encode_mask_png(mask: NDArray[np.floating[Any]]) -> bytes:
    """Encode fractions (H, W) in 0-1 as an 8-bit grey PNG; 255 is 1, rounded, clipped."""
    return _encode(
        ".png", np.round(np.clip(np.nan_to_num(mask), 0, 1) * 255).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 3]
    )


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
