"""Damaged and hostile files: whatever is in them, a reader returns, or raises one line of the package's own.

Small right files of each format are cut, flipped, spliced and given other numbers in their headers, with seeds that
stay. ``ZOOBOT3D_FUZZ=20`` makes twenty times as many; a failure names the seed, and the file lies in the test's folder.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zoobot_3d
from tiny_survey import make_survey, mark_frame, marks, rectangle
from zoobot_3d import io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.catalog.splits import split_of
from zoobot_3d.compute.shards import sharded
from zoobot_3d.errors import Zoobot3DError
from zoobot_3d.infer.bundle import load_bundle
from zoobot_3d.infer.description import describe
from zoobot_3d.infer.import_checkpoint import import_checkpoint
from zoobot_3d.infer.predict import predict
from zoobot_3d.infer.predictions import read_masks, read_rows, read_run
from zoobot_3d.learn.settings import load_config
from zoobot_3d.marks.gz3d import read_gz3d
from zoobot_3d.marks.gz3d_summary import read_gz3d_summary
from zoobot_3d.marks.gz3d_writer import gz3d_grid, write_gz3d
from zoobot_3d.marks.table import marks_row, read_marks_table, write_marks_table
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.sky.grid import PixelGrid

TIMES = float(os.environ.get("ZOOBOT3D_FUZZ", "1"))
LONGEST = 2000  # letters of a message

_NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"8",
    b"3",
    b"99999999",
    b"-2147483649",
    b"1e308",
    b"1e999",
    b"NaN",
    b"inf",
    b"null",
    b"''",
)
_WORDS = (b"", b"\0", b"\n", b'"', b"'", b"[", b"{", b"}", b",", b"\xff", b"\xed\xa0\x80", b"\x1b[2J", b"../" * 9)


# The damage


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut, flip, splice or renumber a file, once or a few times."""
    for _ in range(rng.integers(1, 4)):
        content = _DAMAGES[rng.integers(len(_DAMAGES))](content, rng)
    return content


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content) + 1)]


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    # Often in the head, which says how to read the rest.
    reach = len(changed) if rng.random() < 0.5 else min(len(changed), 400)
    for place in rng.integers(max(reach, 1), size=rng.integers(1, 9)):
        if place < len(changed):
            changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def _splice(content: bytes, rng: np.random.Generator) -> bytes:
    first, second = sorted(rng.integers(len(content) + 1, size=2))
    length = min(second - first, int(rng.integers(1, 200)))
    piece = content[first : first + length]
    choice = rng.integers(4)
    if choice == 0:  # gone
        return content[:first] + content[first + length :]
    if choice == 1:  # twice
        return content[: first + length] + piece + content[first + length :]
    if choice == 2:  # noise
        return content[:first] + rng.bytes(length) + content[first + length :]
    word = _WORDS[rng.integers(len(_WORDS))]
    return content[:first] + word + content[first:]


def _renumber(content: bytes, rng: np.random.Generator) -> bytes:
    """Put another number in the place of one that is written in digits, often in the first few thousand bytes."""
    reach = len(content) if rng.random() < 0.3 else 6000
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:reach]))
    if not found:
        return content
    match = found[rng.integers(len(found))]
    number = _NUMBERS[rng.integers(len(_NUMBERS))]
    if rng.random() < 0.5:  # of the same length, as in the cards of a FITS header
        number = number[: len(match[0])].rjust(len(match[0]))
    return content[: match.start()] + number + content[match.end() :]


_DAMAGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (_cut, _flip, _splice, _renumber)


def survives(read: Callable[[Path], Any], file: Path, content: bytes, count: int) -> None:
    """Damage a file in many ways, and read each."""
    for seed in range(max(1, round(count * TIMES))):
        file.write_bytes(damaged(content, np.random.default_rng((seed, len(content) % 7))))
        refused_or_read(read, file, f"seed {seed}, {file}")


def refused_or_read(read: Callable[[Any], Any], what: Any, told: str) -> None:
    """Read; the package's own errors are right, if they are one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(what)
    except Zoobot3DError as error:
        assert "\n" not in str(error) and len(str(error)) < LONGEST, f"{told}: {error!r}"
    except Exception as error:
        raise AssertionError(f"{told}: {type(error).__name__}: {error}") from error


# Right files


def _table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dr8_id": ["1000_1", "007", "NA", "1234567890123456789"],
            "ra": [150.1, 0.0, 359.99, 12.5],
            "dec": [2.0, -90.0, 89.5, 0.25],
            "relative_desi_jpg_loc": ["a.jpg", "b/c.jpg", "", "d.jpg"],
            "est_dr5_pixscale": [0.1, 0.2, np.nan, 0.3],
            "split": ["train", "val", "test", "train"],
        }
    )


def _write_table(file: Path) -> None:
    frame = _table()
    if file.suffix == ".parquet":
        io.write_parquet(file, frame)
    elif file.suffix in (".csv", ".gz"):
        frame.to_csv(file, index=False)
    else:
        kind = {".ecsv": "ascii.ecsv", ".vot": "votable", ".fits": "fits"}[file.suffix]
        Table.from_pandas(frame).write(file, format=kind)


def _splits(file: Path) -> None:
    split_of(read_catalog(file, required=["dr8_id"]))


TABLE_READERS: tuple[Callable[[Path], Any], ...] = (io.table_columns, io.read_table, _splits, list_galaxies)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.ecsv", "t.vot", "t.fits", "t.parquet"])
def test_tables(tmp_path, name):
    _write_table(tmp_path / name)
    assert len(list_galaxies(tmp_path / name)) == 4
    for read in TABLE_READERS:
        survives(read, tmp_path / f"x{name}", (tmp_path / name).read_bytes(), 40)


def _marks() -> VolunteerMarks:
    frame = mark_frame(150.0, 2.0)
    paths = [[rectangle(frame, -5, 0, 4, 8)], [], [rectangle(frame, -5, 1, 4, 8)]]
    return marks(frame, paths, paths)


def _read_marks(source: Any) -> None:
    VolunteerMarks.from_json(source).votes(PixelGrid((32, 32), 1.0, 150.0, 2.0))


def test_marks(tmp_path):
    _marks().to_json(tmp_path / "m.json")
    survives(_read_marks, tmp_path / "x.json", (tmp_path / "m.json").read_bytes(), 150)


@pytest.mark.parametrize("text", ['{"grid":' + "[" * 100_000, '{"format": 1, "kind": "zoobot-3d marks"}', "{}", "{"])
def test_marks_of_odd_json(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    for source in (tmp_path / "m.json", text):
        with pytest.raises(Zoobot3DError):
            VolunteerMarks.from_json(source)


def test_tables_of_marks(tmp_path):
    rows = [marks_row("gz3d_1-1_19_1.fits.gz", _marks()), marks_row("gz3d_1-2_19_2.fits.gz", _marks())]
    write_marks_table(tmp_path / "m.parquet", pd.DataFrame(rows))
    survives(
        lambda file: list(read_marks_table(file)), tmp_path / "x.parquet", (tmp_path / "m.parquet").read_bytes(), 80
    )


def _picture(rng: np.random.Generator, side: int = 48) -> np.ndarray:
    return rng.integers(0, 255, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_pictures(tmp_path, ending):
    {"jpg": io.write_jpeg, "png": io.write_png}[ending](tmp_path / f"p.{ending}", _picture(np.random.default_rng(0)))
    content = (tmp_path / f"p.{ending}").read_bytes()
    survives(io.read_picture, tmp_path / f"x.{ending}", content, 150)
    survives(lambda file: io.decode_mask_png(file.read_bytes()), tmp_path / "x", content, 50)


def test_cutouts(tmp_path):
    cube = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    io.write_cutout(tmp_path / "c.fits", cube, PixelGrid((32, 32), 0.262, 150.0, 2.0))
    survives(io.read_cutout, tmp_path / "x.fits", (tmp_path / "c.fits").read_bytes(), 150)


@pytest.mark.parametrize("read", [read_gz3d, read_gz3d_summary])
@pytest.mark.parametrize("packed", [True, False])
def test_gz3d(tmp_path, read, packed):
    grid = gz3d_grid(150.0, 2.0)
    paths = [[rectangle(grid, -5, 0, 4, 8)], [], [rectangle(grid, -5, 1, 4, 8)]]
    write_gz3d(tmp_path / "g.fits.gz", marks(grid, paths, paths), _picture(np.random.default_rng(0), 525))
    content = (tmp_path / "g.fits.gz").read_bytes()
    if not packed:
        import gzip

        content = gzip.decompress(content)
    survives(read, tmp_path / "x.fits.gz", content, 12)


# Bundles, checkpoints, settings


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors"])
def test_bundles(bundle, name):
    def read(_: Path) -> None:
        describe(bundle)  # says what it can of a bundle whose weights are damaged
        load_bundle(bundle)

    survives(read, bundle / name, (bundle / name).read_bytes(), 80)


def test_checkpoints(tmp_path):
    from zoobot_3d.networks import build_model

    model = build_model("published_unet", 2, width=4, multipliers=[1, 1], dropouts=[0.0, 0.0])
    state = {re.sub(r"^head\.", "decoder.final_conv.", name): value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {"input_size": 64}}, tmp_path / "c.ckpt")
    import_checkpoint(tmp_path / "c.ckpt", tmp_path / "right")
    content = (tmp_path / "c.ckpt").read_bytes()
    survives(lambda file: import_checkpoint(file, tmp_path / "made"), tmp_path / "x.ckpt", content, 60)


def test_settings(tmp_path):
    content = b"data: {batch_size: 32, votes: [dr5], group_shares: {real: 0.25}}\ntrain: {lr: 0.01, epochs: 3}\n"
    survives(load_config, tmp_path / "c.yaml", content, 150)


# Predictions


@pytest.fixture
def predicted(tiny_bundle, tmp_path):
    """A folder of predictions, and what goes on with it."""
    segmenter = zoobot_3d.load_segmenter(tiny_bundle, device="cpu", batch_size=4)
    for number in range(4):
        io.write_jpeg(tmp_path / "pictures" / f"{number}.jpg", _picture(np.random.default_rng(number)))

    def go_on(out: Path) -> None:
        predict(list_galaxies(tmp_path / "pictures"), segmenter, out, shard_size=2)

    go_on(tmp_path / "whole")
    return tmp_path / "whole", go_on


@pytest.mark.parametrize(
    "name", ["shards/shard-00001.parquet", "run.json", "log/shards.jsonl", "log/start.json"], ids=lambda name: name[:8]
)
def test_predictions_are_read_or_refused_and_healed_by_going_on(predicted, tmp_path, name):
    whole, go_on = predicted
    expected = pd.read_parquet(whole / "shards")

    def read(file: Path) -> None:
        out = file.parents[name.count("/")]
        for look in (lambda: read_run(out), lambda: list(read_masks(out)), lambda: read_rows(out)):
            refused_or_read(lambda _, look=look: look(), out, str(file))
        go_on(out)
        pd.testing.assert_frame_equal(pd.read_parquet(out / "shards"), expected)

    for seed in range(max(1, round(12 * TIMES))):
        out = Path(shutil.copytree(whole, tmp_path / f"cut-{seed}"))
        (out / name).write_bytes(damaged((whole / name).read_bytes(), np.random.default_rng(seed)))
        refused_or_read(read, out / name, f"seed {seed}, {out / name}")
        shutil.rmtree(out)


def _work(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"id": rows["id"], "error": None, "value": 1.5})


def test_parts_of_a_killed_run(tmp_path):
    """Files of results in a working folder are damaged: refused and removed, so that the next run makes them anew."""
    table = pd.DataFrame({"id": ["a", "b"]})
    batch = None

    def run(_: Any) -> None:
        with sharded(_work, table, tmp_path / "work", batch=batch) as frame:
            assert frame["id"].tolist() == ["a", "b"]

    with pytest.raises(KeyError), sharded(_work, table, tmp_path / "work", batch=batch):
        raise KeyError  # leaves the parts
    (part,) = (tmp_path / "work").glob("part-*")
    content = part.read_bytes()
    for seed in range(max(1, round(40 * TIMES))):
        (tmp_path / "work").mkdir(exist_ok=True)
        part.write_bytes(damaged(content, np.random.default_rng(seed)))
        refused_or_read(run, None, f"seed {seed}")
        run(None)


# Rows of catalogues

_TEXT = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "NA",
        "None",
        "nan",
        "007",
        "1e5",
        "12:30:00",
        "+10d30m",
        "10,5",
        "\u2212 5",
        "180\u00b0",
        "../x",
        "/etc/passwd",
        "a\0b",
    ]
)
_NUMBER = st.floats() | st.integers() | st.sampled_from([361.0, -181.0, 1e300, 10**30])
_CELL = st.one_of(_TEXT, _NUMBER, st.none(), st.booleans(), st.binary(max_size=4), st.datetimes())
_NAMES = st.sampled_from(
    [
        *("id", "dr8_id", "ra", "dec", "RA", "DEC", "RAJ2000", "DEJ2000", "ra_deg", "ra_hours", "path", "file"),
        *("pixscale", "split", "group", "redshift", "x", "relative_desi_jpg_loc", "est_dr5_pixscale"),
    ]
)


@settings(max_examples=round(120 * TIMES), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.dictionaries(_NAMES, st.lists(_TEXT, min_size=3, max_size=3), max_size=7), st.sampled_from(",;\t|"))
def test_rows_of_text(tmp_path_factory, columns, separator):
    file = tmp_path_factory.mktemp("rows") / "t.csv"
    pd.DataFrame(columns).to_csv(file, index=False, sep=separator, errors="backslashreplace")
    for read in TABLE_READERS:
        refused_or_read(read, file, str(columns))


@settings(max_examples=round(120 * TIMES), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.dictionaries(_NAMES, st.sampled_from([_TEXT, _NUMBER, st.floats()]).flatmap(
    lambda cells: st.lists(cells | st.none(), min_size=3, max_size=3)), max_size=7))  # fmt: skip
def test_rows_of_typed_tables(tmp_path_factory, columns):
    file = tmp_path_factory.mktemp("rows") / "t.parquet"
    try:
        pd.DataFrame(columns).to_parquet(file)
    except Exception:
        return  # not what Parquet holds
    for read in TABLE_READERS:
        refused_or_read(read, file, str(columns))


@settings(max_examples=round(60 * TIMES), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.lists(_CELL, min_size=1, max_size=4), st.sampled_from(["ra", "dec", "relative_desi_jpg_loc", "split", "dr8_id"])
)
def test_a_training_catalogue_with_odd_cells(survey, cells, column):
    from zoobot_3d.config.schema import DataConfig
    from zoobot_3d.dataset.data import MaskDataModule

    def read(_: Any) -> None:
        frame = pd.read_parquet(survey).astype({column: object})
        for row, cell in enumerate(cells):
            frame.loc[row, column] = str(cell) if column in ("dr8_id", "split") or isinstance(cell, bytes) else cell
        file = survey.with_name("odd.csv")
        frame.to_csv(file, index=False, errors="backslashreplace")
        data = MaskDataModule(DataConfig(str(file), root=str(survey.parents[1]), input_size=16, batch_size=2))
        data.setup()
        for dataset in data.datasets.values():
            for index in range(len(dataset)):
                dataset[index]

    refused_or_read(read, None, f"{column}: {cells}")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return make_survey(tmp_path_factory.mktemp("survey"), n=8, size=32)
