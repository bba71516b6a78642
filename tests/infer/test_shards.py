"""Shards that are damaged, gone, unfinished or not ours; their log; what a resumed prediction makes of them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import zoobot_3d
from zoobot_3d import cli, io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.predict import predict, read_masks
from zoobot_3d.infer.predictions import count_rows, read_rows


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcdef":
        io.write_png(tmp_path / "pictures" / f"{name}.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    return tmp_path / "pictures"


def shard(out, number):
    return out / "shards" / f"shard-{number:05d}.parquet"


def content(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def whole(out):
    return {path: data for path, data in content(out).items() if path.parts[0] != "log"}


def resume(pictures, segmenter, out):
    return predict(list_galaxies(pictures), segmenter, out, shard_size=2)


def test_damage_is_a_word_until_it_is_healed(pictures, segmenter, out, monkeypatch):
    before = whole(out)
    shard(out, 1).write_bytes(b"PAR1 no shard PAR1")
    with monkeypatch.context() as patch:  # killed while it heals
        patch.setattr("zoobot_3d.infer.predict.write_shard", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resume(pictures, segmenter, out)
    with pytest.raises(BadFileError, match=r"1 shards are missing, the first is shard-00001.parquet; run the same"):
        list(read_masks(out))
    summary = resume(pictures, segmenter, out)
    assert (summary.damaged, summary.predicted, summary.lost) == (1, 2, 0)
    assert "1 shards that were damaged, missing or unfinished made again" in str(summary)
    assert whole(out) == before


def test_rows_that_cannot_be_made_again_are_counted(pictures, segmenter, out):
    for name in "cd":
        (pictures / f"{name}.png").unlink()
    shard(out, 1).write_bytes(b"")
    summary = resume(pictures, segmenter, out)
    assert (summary.damaged, summary.lost, summary.left, summary.skipped) == (1, 2, 0, 4)
    assert "2 galaxies of such shards are lost: the input no longer names them" in str(summary)
    assert [row["id"] for row, _ in read_masks(out)] == ["a", "b", "e", "f"]
    assert resume(pictures, segmenter, out).damaged == 0


def test_new_galaxies_leave_the_shards_of_others_alone(pictures, segmenter, out, tmp_path):
    kept = shard(out, 0).read_bytes()
    for name in "ab":
        (pictures / f"{name}.png").rename(tmp_path / f"{name}.png")
    io.write_png(pictures / "g.png", np.random.default_rng(7).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    summary = resume(pictures, segmenter, out)
    assert (summary.predicted, summary.left, summary.shards) == (1, 2, 4)
    assert shard(out, 0).read_bytes() == kept
    assert list(read_rows(out)["id"]) == list("abcdefg")


@pytest.mark.parametrize("log", ["lost", "empty", "junk", "torn"])
def test_without_its_log_a_prediction_is_made_again_and_loses_no_rows(pictures, segmenter, out, log):
    before, path = whole(out), out / "log" / "shards.jsonl"
    (pictures / "f.png").unlink()
    lines = path.read_bytes()
    if log == "lost":
        shutil.rmtree(out / "log")
    else:
        path.write_bytes({"empty": b"", "junk": b"\xff\x00[1]\n3\n{}\n", "torn": lines[:-20]}[log])
    assert len(list(read_masks(out))) == 6
    summary = resume(pictures, segmenter, out)
    assert (summary.changed, summary.damaged, summary.left) == (0, 0, 1)
    assert resume(pictures, segmenter, out).skipped == 5
    assert len(read_rows(out)) == 6
    if log == "torn":
        assert summary.predicted == 1  # e, whose shard has lost its line
        assert len(path.read_bytes().splitlines()) == 5  # three, and of the third its knowing and its making
    if log == "lost":
        assert set(whole(out)) == set(before)


def test_a_gap_in_the_numbers_shows_without_a_log(pictures, segmenter, out):
    shutil.rmtree(out / "log")
    shard(out, 1).unlink()
    with pytest.raises(BadFileError, match="1 shards are missing, the first is shard-00001"):
        list(read_masks(out))
    assert resume(pictures, segmenter, out).predicted == 6
    assert len(list(read_masks(out))) == 6


def test_all_shards_gone(pictures, segmenter, out):
    before = whole(out)
    shutil.rmtree(out / "shards")
    with pytest.raises(BadFileError, match="3 shards are missing"):
        list(read_masks(out))
    assert resume(pictures, segmenter, out).damaged == 3
    assert whole(out) == before


def test_a_killed_run_leaves_no_half_files(pictures, segmenter, out):
    before = whole(out)
    for place in ("shards/.shard-00002.parquet.x1.part", ".run.json.x1.part"):
        (out / place).write_bytes(b"half")
    shard(out, 2).write_bytes(shard(out, 1).read_bytes())  # written, and killed before the line in the log
    assert resume(pictures, segmenter, out).predicted == 2
    assert whole(out) == before


def test_files_that_are_no_shards_are_let_be(pictures, segmenter, out):
    (out / "shards" / "notes.txt").write_text("mine")
    shutil.copy(shard(out, 0), out / "shards" / "shard-00000-copy.parquet")
    shutil.copy(shard(out, 0), out / "shards" / "shard-1e3.parquet")
    assert len(list(read_masks(out))) == 6 and count_rows(out) == 6
    assert resume(pictures, segmenter, out).skipped == 6
    assert (out / "shards" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "null", "{}", '{"bundle": 3}', "[" * 100_000, b"\xff\xfe", "flip"],
    ids=lambda value: str(value)[:12],
)
def test_a_record_of_the_run_that_is_lost_or_broken_is_made_again(pictures, segmenter, tiny_bundle, out, content):
    path = out / "run.json"
    record = path.read_text()
    if content == "flip":
        content = record.replace(json.loads(record)["bundle"][:8], "00000000")
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    turned = zoobot_3d.load_segmenter(tiny_bundle, device="cpu", tta=True)
    with pytest.raises(ConfigError, match=r"made with other tta; give another --out"):
        predict(list_galaxies(pictures), turned, out)
    assert len(list(read_masks(out))) == 6
    assert resume(pictures, segmenter, out).skipped == 6
    assert path.read_text() == record


def test_failures_are_tried_again(pictures, segmenter, out, tmp_path, monkeypatch):
    real = io.open_picture

    def read(path):
        if "c.png" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:  # a reason that lies not in the file
        patch.setattr("zoobot_3d.io.open_picture", read)
        first = predict(list_galaxies(pictures), segmenter, tmp_path / "new", shard_size=2)
        kept = shard(tmp_path / "new", 1).stat().st_mtime_ns
        again = predict(list_galaxies(pictures), segmenter, tmp_path / "new", shard_size=2)
    assert (first.failed, again.failed, again.skipped, again.predicted) == (1, 1, 5, 0)
    assert shard(tmp_path / "new", 1).stat().st_mtime_ns == kept
    summary = predict(list_galaxies(pictures), segmenter, tmp_path / "new", shard_size=2)
    assert (summary.repaired, summary.predicted, summary.failed) == (1, 1, 0)
    assert "1 predicted that had failed before" in str(summary)
    assert whole(tmp_path / "new").keys() == whole(out).keys()


@pytest.mark.parametrize("what", ["position", "scale", "picture", "path"])
def test_what_a_row_was_made_of(pictures, segmenter, tmp_path, what):
    table = pd.DataFrame({"id": ["x", "y"], "file_loc": ["pictures/a.png", "pictures/b.png"]})
    table = table.assign(ra=10.0, dec=5.0, est_dr5_pixscale=0.2)
    table.to_csv(tmp_path / "c.csv", index=False)
    predict(list_galaxies(tmp_path / "c.csv"), segmenter, tmp_path / "new")
    if what == "position":
        table.loc[0, "ra"] = 11.0
    elif what == "scale":
        table.loc[0, "est_dr5_pixscale"] = 0.3
    elif what == "path":
        table.loc[0, "file_loc"] = "pictures/c.png"
    else:
        shutil.copy(pictures / "d.png", pictures / "a.png")
    table.to_csv(tmp_path / "c.csv", index=False)
    summary = predict(list_galaxies(tmp_path / "c.csv"), segmenter, tmp_path / "new")
    assert (summary.changed, summary.skipped) == (1, 1)
    assert "1 done again, as their picture, position or scale has changed" in str(summary)
    row = read_rows(tmp_path / "new").iloc[0]
    assert row["ra"] == table.loc[0, "ra"] and row["path"] == table.loc[0, "file_loc"]


@pytest.mark.parametrize("step", ["ask", "vote_fractions"])
def test_whatever_the_network_raises_of_one_picture_is_its_row(pictures, segmenter, tmp_path, monkeypatch, step):
    bad = io.read_picture(pictures / "d.png")
    real = getattr(segmenter, step)

    def raising(pictures, field, **options):
        if any(np.array_equal(picture, bad) for picture in pictures):
            raise ZeroDivisionError("a bug\nof two lines")
        return real(pictures, field, **options)

    monkeypatch.setattr(segmenter, step, raising)
    summary = predict(list_galaxies(pictures), segmenter, tmp_path / "new")
    assert (summary.predicted, summary.failed) == (5, 1)
    errors = read_rows(tmp_path / "new").set_index("id")["error"].dropna()
    assert errors.to_dict() == {"d": "d.png: ZeroDivisionError: a bug"}


def test_names_that_no_file_can_have(pictures, segmenter, tmp_path):
    galaxies = list_galaxies(pictures)
    galaxies.loc[0, "file"] = "a\0b.png"
    galaxies.loc[1, "file"] = "x" * 5000
    galaxies.loc[2, "file"] = str(pictures)
    summary = predict(galaxies, segmenter, tmp_path / "new")
    assert (summary.predicted, summary.failed) == (3, 3)
    assert read_rows(tmp_path / "new")["error"].str.count("\n").dropna().eq(0).all()


def test_two_galaxies_of_one_name_are_refused(pictures, segmenter, tmp_path):
    from zoobot_3d.errors import CatalogError

    galaxies = list_galaxies(pictures).assign(id="same")
    with pytest.raises(CatalogError, match="'same' is that of two galaxies; give each its own id"):
        predict(galaxies, segmenter, tmp_path / "new")


def test_strict_counts_failed_galaxies(pictures, tiny_bundle, tmp_path, capsys):
    (pictures / "f.png").write_bytes(b"")
    command = ["predict", str(pictures), "--bundle", str(tiny_bundle), "--out", str(tmp_path / "new")]
    assert cli.main(command) == 0
    assert cli.main([*command, "--strict"]) == 1
    io.write_png(pictures / "f.png", np.random.default_rng(9).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert cli.main([*command, "--strict"]) == 0
    assert "1 predicted that had failed before" in capsys.readouterr().out
