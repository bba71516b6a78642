"""Pictures of every usual kind are read as people see them, or refused by name."""

import os
import socket
import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from zoobot_3d.errors import BadFileError, ConfigError, Zoobot3DError
from zoobot_3d.io import open_picture, read_mask, read_picture, write_mask_png

RNG = np.random.default_rng(5)
SMOOTH = cv2.resize(RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8), (80, 60), interpolation=cv2.INTER_CUBIC)
GREY = SMOOTH[..., 1]


def written(image, kind, **options):
    stream = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def opened(tmp_path, content, name="galaxy.jpg"):
    (tmp_path / name).write_bytes(content)
    return open_picture(tmp_path / name)


# What is read as it is


@pytest.mark.parametrize(
    ("kind", "options", "worst"),
    [
        ("JPEG", {"quality": 97, "subsampling": 0}, 6),
        ("JPEG", {"quality": 97, "subsampling": 0, "progressive": True}, 6),
        ("PNG", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("BMP", {}, 0),
        ("JPEG2000", {}, 0),
    ],
)
@pytest.mark.parametrize("array", [SMOOTH, GREY], ids=["colour", "grey"])
def test_kinds(tmp_path, kind, options, worst, array):
    picture, notes = opened(tmp_path, written(array, kind, **options), "a.any")
    expected = array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
    assert picture.shape == (60, 80, 3) and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - expected).max() <= worst
    assert notes == []


def test_palettes_and_one_bit(tmp_path):
    palette = Image.fromarray(SMOOTH).quantize(64)
    picture, notes = opened(tmp_path, written(palette, "PNG"))
    np.testing.assert_array_equal(picture, np.asarray(palette.convert("RGB")))
    assert notes == []
    bits = Image.fromarray(GREY > 100)
    picture, _ = opened(tmp_path, written(bits, "PNG"))
    np.testing.assert_array_equal(picture[..., 0], 255 * (GREY > 100))


def test_jpeg_pixels_are_those_of_opencv(tmp_path):
    content = written(SMOOTH, "JPEG", quality=85)
    theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(opened(tmp_path, content)[0].astype(int) - theirs).max() <= 3


def test_bytes_after_the_end_are_fine(tmp_path):
    content = written(SMOOTH, "JPEG", quality=95)
    expected = opened(tmp_path, content)[0]
    for tail in (b"\n", b"\0" * 1000, b"appended by a camera " * 50):
        picture, notes = opened(tmp_path, content + tail)
        np.testing.assert_array_equal(picture, expected)
        assert notes == []


# What is changed, with a word


def _with_orientation(image, turn):
    copy = image.copy()
    copy.getexif()[274] = turn
    return copy


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns_are_undone(tmp_path, turn, kind):
    image = Image.fromarray(SMOOTH)
    exif = image.getexif()
    exif[274] = turn
    options = {"quality": 97, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    content = written(image, kind, exif=exif, **options)
    picture, notes = opened(tmp_path, content)
    upright = np.asarray(ImageOps.exif_transpose(_with_orientation(image, turn)))
    assert picture.shape == upright.shape
    assert np.abs(picture.astype(int) - upright).max() <= 8
    assert notes == ([] if turn == 1 else [f"turned upright, as its EXIF orientation {turn} says"])


@pytest.mark.parametrize(("bits", "highest"), [(10, 1000), (12, 4095), (14, 9000), (16, 65535)])
@pytest.mark.parametrize("kind", [".png", ".tif"])
def test_many_bits_in_sixteen(tmp_path, kind, bits, highest):
    values = np.round(SMOOTH / 255.0 * highest).astype(np.uint16)
    values[0, 0] = highest
    for array in (values, values[..., 0]):
        content = cv2.imencode(kind, array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()
        picture, notes = opened(tmp_path, content)
        full = (1 << bits) - 1
        expected = np.round(array * 255.0 / full)
        np.testing.assert_allclose(picture, expected if array.ndim == 3 else expected[..., None].repeat(3, 2), atol=1)
        assert notes == [f"16-bit values up to {highest}, taken for {bits} bits"]


def test_transparent_parts_are_black(tmp_path):
    alpha = np.full((60, 80), 255, np.uint8)
    alpha[:20], alpha[20:40] = 0, 128
    picture, notes = opened(tmp_path, written(np.dstack([SMOOTH, alpha]), "PNG"))
    assert (picture[:20] == 0).all()
    np.testing.assert_allclose(picture[20:40], SMOOTH[20:40] * (128 / 255), atol=1)
    np.testing.assert_array_equal(picture[40:], SMOOTH[40:])
    assert notes == ["transparent parts shown on black"]
    alpha[:] = 255
    assert opened(tmp_path, written(np.dstack([SMOOTH, alpha]), "PNG"))[1] == []
    deep = np.dstack([SMOOTH[..., ::-1].astype(np.uint16) * 257, np.zeros((60, 80), np.uint16)])
    picture, notes = opened(tmp_path, cv2.imencode(".png", deep)[1].tobytes())
    assert (picture == 0).all() and notes[0].endswith("transparent parts shown on black")


def test_the_first_of_several_pages(tmp_path):
    pages = [Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::-1])]
    picture, notes = opened(tmp_path, written(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    np.testing.assert_array_equal(picture, SMOOTH)
    assert notes == ["the first of 2 pages"]


# What is refused


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("end", ["cut", "end marker", "zeros", "zeros and end marker"])
def test_jpegs_without_all_of_their_bytes(tmp_path, part, end, progressive):
    content = written(SMOOTH, "JPEG", quality=95, progressive=progressive)
    kept = content[: int(part * len(content))]
    tail = {
        "cut": b"",
        "end marker": b"\xff\xd9",
        "zeros": b"\0" * (len(content) - len(kept)),
        "zeros and end marker": b"\0" * (len(content) - len(kept) - 2) + b"\xff\xd9",
    }[end]
    if kept + tail == content:
        return
    with pytest.raises(BadFileError, match=r"galaxy\.jpg: (truncated or damaged|not a readable) picture"):
        opened(tmp_path, kept + tail)


def test_a_hole_in_a_jpeg_has_a_word(tmp_path):
    noisy = RNG.integers(0, 255, (200, 200, 3), dtype=np.uint8)
    content = bytearray(written(noisy, "JPEG", quality=90))
    assert opened(tmp_path, bytes(content))[1] == []
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(500)
    try:
        _, notes = opened(tmp_path, bytes(content))
    except BadFileError as error:
        assert "truncated or damaged" in str(error)
    else:
        assert notes == ["zeros within the JPEG: part of it may be missing, as after a broken download"]
    black = written(np.zeros((424, 424, 3), np.uint8), "JPEG", quality=90, optimize=True)
    picture, _ = opened(tmp_path, black)
    assert (picture == 0).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "JPEG2000"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_other_kinds_cut_short(tmp_path, kind, part):
    content = written(SMOOTH, kind)
    with pytest.raises(BadFileError, match=r"(truncated or damaged|not a readable) picture"):
        opened(tmp_path, content[: int(part * len(content))])


def test_what_is_no_picture(tmp_path):
    for content, message in (
        (b"", "empty file"),
        (b"<html>404</html>", "a page or a text"),
        (b"not a picture", "of another kind, or damaged"),
        (written(SMOOTH, "GIF"), "of another kind, or damaged"),
        (written(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"), r"CMYK \(printing ink\)"),
        (written(np.float32(GREY), "TIFF"), "floating-point values"),
    ):
        with pytest.raises(BadFileError, match=message):
            opened(tmp_path, content)


def test_what_is_no_plain_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)  # names of sockets are short
        server.bind("socket.jpg")
    for name, message in (
        ("pipe.jpg", "is a pipe, not a file"),
        ("folder.jpg", "is a folder, not a file"),
        ("endless.jpg", "is a device, not a file"),
        ("socket.jpg", "is a socket, not a file"),
        ("lost.jpg", "no such file"),
    ):
        with pytest.raises(BadFileError, match=message):
            read_picture(tmp_path / name)


def png_of(width, height):
    """A PNG of zeros that is far smaller than what it unpacks to."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_bombs_are_known_by_their_header(tmp_path, monkeypatch):
    for size in ((20_000, 3_000), (20_000, 20_000)):
        with pytest.raises(BadFileError, match=r"too large, .*: more than 40,000,000 pixels; .*ZOOBOT3D_MAX_PIXELS"):
            opened(tmp_path, png_of(*size))
    monkeypatch.setenv("ZOOBOT3D_MAX_PIXELS", "4000")
    with pytest.raises(BadFileError, match="too large, with 80 x 60 pixels: more than 4,000"):
        opened(tmp_path, written(SMOOTH, "JPEG"))
    monkeypatch.setenv("ZOOBOT3D_MAX_PIXELS", "5e3")
    assert opened(tmp_path, written(SMOOTH, "JPEG"))[0].shape == (60, 80, 3)
    monkeypatch.setenv("ZOOBOT3D_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="ZOOBOT3D_MAX_PIXELS=many: not a number"):
        opened(tmp_path, written(SMOOTH, "JPEG"))


# Whatever the bytes are

KINDS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "JPEG2000")
WHOLE = {kind: written(SMOOTH[:24, :32], kind) for kind in KINDS}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    cut=st.none() | st.integers(0, 4000),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6),
)
def test_damaged_bytes_give_a_picture_or_one_line(tmp_path, kind, cut, changes):
    content = bytearray(WHOLE[kind][:cut])
    for place, value in changes:
        if content:
            content[place % len(content)] = value
    try:
        picture, notes = opened(tmp_path, bytes(content))
    except Zoobot3DError as error:
        assert "\n" not in str(error)
    else:
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert all(isinstance(note, str) for note in notes)


# Masks


def test_masks_are_fractions(tmp_path):
    fractions = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
    for name, content, expected in (
        ("grey", written(fractions, "PNG"), fractions / 255),
        ("three equal", written(np.repeat(fractions[..., None], 3, 2), "PNG"), fractions / 255),
        ("jpeg", written(np.kron(fractions, np.ones((16, 16), np.uint8)), "JPEG", quality=99), None),
        ("0 and 1", written(np.eye(4, dtype=np.uint8), "PNG"), np.eye(4)),
        ("0 and 255", written(np.eye(4, dtype=np.uint8) * 255, "PNG"), np.eye(4)),
        ("one bit", written(Image.fromarray(np.eye(4) > 0), "PNG"), np.eye(4)),
        ("16 bits", cv2.imencode(".png", fractions.astype(np.uint16) * 257)[1].tobytes(), fractions / 255),
        ("alpha", written(np.dstack([np.full((4, 4, 3), 255, np.uint8), fractions]), "PNG"), fractions / 255),
        ("empty", written(np.zeros((4, 4), np.uint8), "PNG"), np.zeros((4, 4))),
    ):
        (tmp_path / name).write_bytes(content)
        mask = read_mask(tmp_path / name)
        assert mask.dtype == np.float32
        if expected is None:
            np.testing.assert_allclose(mask, np.kron(fractions, np.ones((16, 16))) / 255, atol=0.03)
        else:
            np.testing.assert_allclose(mask, expected, atol=1e-3, err_msg=name)


def test_what_this_package_wrote_is_known(tmp_path):
    mask = np.eye(4) / 17  # one volunteer of 17
    write_mask_png(tmp_path / "m.png", mask)
    np.testing.assert_allclose(read_mask(tmp_path / "m.png"), mask, atol=0.002)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(16, dtype=np.uint8).reshape(4, 4), "holds values up to 15, which look like counts of volunteers"),
        (np.arange(16, dtype=np.uint16).reshape(4, 4), "holds values up to 15, which look like counts"),
        (15 * np.eye(4, dtype=np.uint8), "holds values up to 15, which look like counts"),
        (SMOOTH, "has colours, so it is no mask"),
    ],
)
def test_what_cannot_be_a_mask(tmp_path, array, message):
    (tmp_path / "m.png").write_bytes(cv2.imencode(".png", array)[1].tobytes())
    with pytest.raises(BadFileError, match=message):
        read_mask(tmp_path / "m.png")
