import os
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

import zoobot_3d
from zoobot_3d import cli, io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.bundle import load_bundle, save_bundle
from zoobot_3d.infer.export import export_masks
from zoobot_3d.infer.predict import predict, read_masks


@pytest.fixture(scope="module")
def segmenter(tiny_bundle, tmp_path_factory):
    """The tiny network with larger weights, so that it tells pictures apart."""
    bundle = load_bundle(tiny_bundle)
    for parameter in bundle.model.parameters():
        parameter.mul_(3 if parameter.ndim > 1 else 1)
    path = save_bundle(tmp_path_factory.mktemp("bundle") / "bundle", bundle.model, bundle.info)
    return zoobot_3d.load_segmenter(path, device="cpu", batch_size=2)


def draw(path, seed):
    """A disk whose place and brightness depend on the seed, so that an untrained network tells them apart."""
    rng = np.random.default_rng(seed)
    (x, y), (yy, xx) = rng.integers(20, 44, 2), np.indices((64, 64))
    disk = np.hypot(yy - y, xx - x) < 14
    io.write_jpeg(path, (disk[..., None] * rng.integers(120, 255, 3)).astype(np.uint8))


@pytest.fixture
def pictures(tmp_path):
    """Three good pictures and a truncated one."""
    folder = tmp_path / "pictures"
    for seed, name in enumerate("abc"):
        draw(folder / f"{name}.jpg", seed)
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:800])
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


@pytest.mark.parametrize("kind", ["fits", "png"])
def test_files_of_a_run_and_of_an_export_are_the_same(pictures, segmenter, out, tmp_path, kind):
    predict(list_galaxies(pictures), segmenter, tmp_path / "other", shard_size=2, masks=kind)
    summary = export_masks(out, kind)
    assert (summary.written, summary.skipped, summary.without) == (3, 0, 1)
    assert content(out / "masks") == content(tmp_path / "other" / "masks")
    assert len(content(out / "masks")) == (3 if kind == "fits" else 6)


def test_npz_files_hold_the_masks(out, capsys):
    assert cli.main(["export", str(out), "--format", "npz"]) == 0
    assert sorted(content(out / "masks")) == ["a_masks.npz", "b_masks.npz", "c_masks.npz"]
    first = content(out / "masks")
    for row, masks in read_masks(out, outside=np.nan):
        if masks is not None:
            with np.load(out / "masks" / f"{row['file_stem']}_masks.npz") as told:
                assert str(told["id"]) == row["id"]
                np.testing.assert_array_equal(np.stack([told["spiral"], told["bar"]]), masks)
    (out / "masks" / "a_masks.npz").unlink()
    assert export_masks(out, "npz").written == 1
    assert content(out / "masks") == first


def test_an_export_goes_on_where_it_was_killed(out):
    export_masks(out, "png")
    whole = content(out / "masks")
    (out / "masks" / "a_bar.png").unlink()
    (out / "masks" / ".a_bar.png.xyz.part").write_bytes(b"half")
    kept = (out / "masks" / "b_bar.png").stat().st_mtime_ns
    summary = export_masks(out, "png")
    assert (summary.written, summary.skipped, summary.without) == (1, 2, 1)
    assert content(out / "masks") == whole
    assert not list((out / "masks").glob("*.part"))
    assert (out / "masks" / "b_bar.png").stat().st_mtime_ns == kept


@pytest.mark.parametrize("harm", ["files", "folder"])
def test_a_deleted_folder_of_masks_is_made_again(pictures, segmenter, tmp_path, harm):
    galaxies, out = list_galaxies(pictures), tmp_path / "out"
    predict(galaxies, segmenter, out, masks="fits")
    whole = content(out / "masks")
    for path in (out / "masks").iterdir() if harm == "folder" else (out / "masks").glob("[!.]*"):
        path.unlink()
    if harm == "folder":
        (out / "masks").rmdir()
    summary = predict(galaxies, segmenter, out, masks="fits")
    assert (summary.predicted, summary.skipped) == (0, 3)
    assert content(out / "masks") == whole


def test_files_of_galaxies_predicted_anew_are_written_anew(pictures, segmenter, out, tmp_path):
    export_masks(out, "fits")
    level = float(np.nanmedian(next(masks for row, masks in read_masks(out, outside=np.nan) if row["id"] == "b")[1]))
    binary = tmp_path / "binary"
    export_masks(out, "png", threshold=level, out=binary)
    before = content(out / "masks"), content(binary)
    draw(pictures / "b.jpg", 9)
    (pictures / "c.jpg").write_bytes(b"no picture")
    predict(list_galaxies(pictures), segmenter, out, shard_size=2)
    export_masks(out, "fits")
    export_masks(out, "png", threshold=level, out=binary)
    after = content(out / "masks"), content(binary)
    assert after[0]["a_masks.fits"] == before[0]["a_masks.fits"]
    assert after[0]["b_masks.fits"] != before[0]["b_masks.fits"]
    assert "c_masks.fits" not in after[0] and "c_bar.png" not in after[1]
    assert after[1]["b_bar.png"] != before[1]["b_bar.png"]


def test_masks_of_a_run_follow_its_rows(pictures, segmenter, tmp_path):
    predict(list_galaxies(pictures), segmenter, tmp_path / "out", shard_size=2, masks="fits")
    draw(pictures / "b.jpg", 9)
    (pictures / "c.jpg").write_bytes(b"no picture")
    predict(list_galaxies(pictures), segmenter, tmp_path / "out", shard_size=2, masks="fits")
    export_masks(tmp_path / "out", "fits", out=tmp_path / "exported")
    assert content(tmp_path / "out" / "masks") == content(tmp_path / "exported")
    assert set(content(tmp_path / "exported")) == {"a_masks.fits", "b_masks.fits"}


def test_one_folder_holds_one_kind_of_masks(out, pictures, segmenter, tmp_path):
    export_masks(out, "fits", out=tmp_path / "files")
    with pytest.raises(ConfigError, match="holds fits files of another threshold; choose another --out"):
        export_masks(out, "fits", out=tmp_path / "files", threshold=0.2)
    predict(list_galaxies(pictures), segmenter, tmp_path / "second")
    with pytest.raises(ConfigError, match="another prediction"):
        export_masks(tmp_path / "second", "fits", out=tmp_path / "files")
    assert export_masks(out, "png", out=tmp_path / "files", threshold=0.2).written == 3
    assert export_masks(out, "fits", out=tmp_path / "files").skipped == 3


def test_a_broken_record_of_the_files_means_all_are_written_again(out):
    export_masks(out, "fits")
    whole = content(out / "masks")
    for broken in ("{", "[]", '{"fits": 3}', '{"fits": {"shards": []}}'):
        (out / "masks" / ".masks.json").write_text(broken)
        assert export_masks(out, "fits").written == 3
    assert content(out / "masks") == whole


def test_binary_masks(out, capsys):
    masks = next(masks for row, masks in read_masks(out, outside=np.nan) if row["id"] == "a")
    level = float(np.nanmedian(masks[1]))
    assert cli.main(["export", str(out), "--format", "fits", "--threshold", repr(level)]) == 0
    assert "files of 3 galaxies written, 0 were there, 1 galaxies have no masks" in capsys.readouterr().out
    with fits.open(out / f"masks_{level:g}" / "a_masks.fits") as hdus:
        found = hdus["BAR"].data[::-1]
        assert hdus["BAR"].header["THRESHLD"] == level
        assert hdus["BAR"].header.comments["BUNIT"] == "1 where the fraction is at least THRESHLD, else 0"
    inside = np.isfinite(found)
    np.testing.assert_array_equal(inside, np.isfinite(masks[1]))
    np.testing.assert_array_equal(found[inside], (masks[1] >= level)[inside])
    assert 0 < found[inside].mean() < 1
    assert cli.main(["export", str(out), "--format", "png", "--threshold", repr(level)]) == 0
    drawn = io.decode_mask_png((out / f"masks_{level:g}" / "a_bar.png").read_bytes())
    np.testing.assert_array_equal(drawn, np.nan_to_num(found))


@pytest.mark.parametrize("threshold", ["0", "-0.2", "1.5", "nan", "inf"])
def test_a_threshold_that_is_no_fraction(out, capsys, threshold):
    assert cli.main(["export", str(out), "--format", "png", "--threshold", threshold]) == 2
    error = capsys.readouterr().err
    assert "give a fraction of volunteers above 0 and up to 1" in error and error.count("\n") == 1


def test_headers_say_what_the_masks_are(out):
    export_masks(out, "fits")
    with fits.open(out / "masks" / "a_masks.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SPIRAL", "BAR"]
        for hdu in hdus:
            header = hdu.header
            assert header["OBJECT"] == "a" and header["MODEL"] == "published_unet" and len(header["BUNDLE"]) == 16
            assert header["CREATOR"] == f"zoobot-3d {zoobot_3d.__version__}"
            assert pd.Timestamp(header["DATE"]) > pd.Timestamp("2020-01-01")
            assert header["FIELD"] == 0.75
        assert hdus["SPIRAL"].header.comments["BUNIT"] == "fraction of volunteers who would enclose the pixel"


def test_outside_the_field_masks_are_nan(out):
    export_masks(out, "fits")
    data = fits.getdata(out / "masks" / "a_masks.fits", "SPIRAL")
    inside = np.isfinite(data)
    assert inside.any(axis=1).sum() == 48 and inside.any(axis=0).sum() == 48  # 0.75 of 64 pixels
    assert not inside[:8].any() and inside[8:56, 8:56].all()


@pytest.mark.parametrize("name", ["Méchain 7", "it's 'quoted'", "x" * 260, "'" * 90, "tab\tand\nline", "\U0001f30c"])
def test_names_that_a_header_cannot_hold(segmenter, tmp_path, name):
    draw(tmp_path / "a.jpg", 0)
    galaxies = list_galaxies(tmp_path / "a.jpg").assign(id=name)
    warnings.simplefilter("error")
    summary = predict(galaxies, segmenter, tmp_path / "out", masks="fits")
    assert (summary.predicted, summary.unwritten) == (1, 0)
    (path,) = (tmp_path / "out" / "masks").glob("*.fits")
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus["BAR"].header["OBJECT"] and hdus["BAR"].header["CREATOR"].startswith("zoobot-3d")
    row = pd.read_parquet(tmp_path / "out" / "shards").iloc[0]
    assert row["id"] == name and f"{row['file_stem']}_masks.fits" == path.name


def test_whatever_one_mask_file_raises_is_in_its_row(pictures, segmenter, out, tmp_path, monkeypatch):
    real = io.write_mask_fits

    def write(path, *arguments, **options):
        if path.name == "b_masks.fits":
            raise KeyError("a bug\nof two lines")
        real(path, *arguments, **options)

    monkeypatch.setattr("zoobot_3d.io.write_mask_fits", write)
    summary = predict(list_galaxies(pictures), segmenter, tmp_path / "new", masks="fits")
    assert (summary.predicted, summary.unwritten) == (3, 1)
    rows = pd.read_parquet(tmp_path / "new" / "shards").set_index("id")
    assert "mask file not written: KeyError: " in rows.loc["b", "warning"]
    assert "mask file" not in str(rows.loc["a", "warning"])
    summary = export_masks(out, "fits")
    assert (summary.written, list(summary.failed)) == (2, ["b"]) and "b: mask file not written" in str(summary)


def test_an_export_has_its_folder_to_itself(out):
    from zoobot_3d.compute.locks import folder_lock

    with folder_lock(out / "masks", "an export of masks"), pytest.raises(BadFileError, match="is running"):
        export_masks(out, "png")


@pytest.mark.parametrize("command", ["export", "predict"])
def test_an_output_that_is_a_file(out, pictures, tiny_bundle, tmp_path, capsys, command):
    (tmp_path / "file").write_text("mine")
    first = [str(out), "--format", "png"] if command == "export" else [str(pictures), "--bundle", str(tiny_bundle)]
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert cli.main([command, *first, "--out", str(place)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "file" in error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("number", [28, 30, 122, 5, 27], ids=os.strerror)
def test_a_disk_that_takes_no_more_is_one_line_and_the_run_goes_on_later(
    pictures, segmenter, tmp_path, monkeypatch, number
):
    galaxies = list_galaxies(pictures)
    predict(galaxies, segmenter, tmp_path / "whole", shard_size=2, masks="fits")
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 4:
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadFileError, match=f"{os.strerror(number)}; make space"):
        predict(galaxies, segmenter, tmp_path / "out", shard_size=2, masks="fits")
    with pytest.raises(BadFileError, match=f"{os.strerror(number)}; make space"):
        export_masks(tmp_path / "whole", "png", out=tmp_path / "files")
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.setattr(os, "fsync", real)
    predict(galaxies, segmenter, tmp_path / "out", shard_size=2, masks="fits")
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file() and "log" not in path.parts:
            assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes()
