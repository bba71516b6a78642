import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS

import zoobot_3d
from zoobot_3d import cli, io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError, Zoobot3DError
from zoobot_3d.infer.bundle import load_bundle, save_bundle
from zoobot_3d.infer.predict import predict, read_masks, read_masks_and_sigma, run_root
from zoobot_3d.schema import vote_columns
from zoobot_3d.sky.grid import PixelGrid


@pytest.fixture
def pictures(tmp_path):
    """Three good pictures, a blank, a truncated, an empty and an oblong one."""
    folder = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        io.write_jpeg(folder / f"{name}.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    io.write_png(folder / "blank.png", np.zeros((64, 64, 3), np.uint8))
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:800])
    (folder / "empty.jpg").touch()
    io.write_png(folder / "oblong.png", rng.integers(0, 255, (40, 64, 3), dtype=np.uint8))
    return folder


def shards(folder):
    return pd.concat([pd.read_parquet(path) for path in sorted((folder / "shards").glob("shard-*.parquet"))]).set_index(
        "id"
    )


def test_a_bad_picture_is_a_row_with_its_reason(pictures, segmenter, tmp_path):
    summary = predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    assert (summary.predicted, summary.failed, summary.shards) == (3, 4, 1)
    frame = shards(tmp_path / "out")
    assert list(frame.index) == ["a", "b", "blank", "c", "cut", "empty", "oblong"]
    assert (
        frame.loc["cut", "error"]
        == "cut.jpg: truncated or damaged picture (Premature end of JPEG file); download it again"
    )
    assert "blank, every pixel is 0" in frame.loc["blank", "error"]
    assert "empty file" in frame.loc["empty", "error"]
    assert "expected a square" in frame.loc["oblong", "error"]
    assert frame.loc[["cut", "blank"], "spiral_mask_png"].isna().all()
    assert frame.loc[["a", "b", "c"], "error"].isna().all()


@pytest.fixture
def voters(tiny_bundle, tmp_path) -> list:
    """Two bundles with vote heads, which share one question."""
    bundles = []
    for seed, campaigns in enumerate((["dr5"], ["dr5", "gz2"])):
        torch.manual_seed(seed)
        bundle = load_bundle(tiny_bundle)
        columns = tuple(c for c in vote_columns(campaigns) if c.startswith(("bar-", "has-spiral-arms-")))
        bundle.model.add_vote_head(len(columns))
        bundles.append(save_bundle(tmp_path / f"voter{seed}", bundle.model, replace(bundle.info, votes=columns)))
    return bundles


def test_vote_heads_answer_beside_the_masks(pictures, voters, tmp_path):
    one, two = (zoobot_3d.load_segmenter(bundle, device="cpu", batch_size=2) for bundle in voters)
    both = zoobot_3d.load_segmenter(voters, device="cpu", batch_size=2)
    predict(list_galaxies(pictures), both, tmp_path / "out")
    frame = shards(tmp_path / "out")
    answers = [name for name in frame if name.endswith("_fraction")]
    assert answers == both.vote_names and len(answers) == 5 + 4
    good = frame["error"].isna()
    assert frame.loc[~good, answers].isna().all(axis=None)
    for question in ("bar-dr5", "has-spiral-arms-dr5", "bar-gz2", "has-spiral-arms-gz2"):
        columns = [name for name in answers if name.startswith(f"{question}_")]
        assert frame.loc[good, columns].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)
    seen = [io.read_picture(pictures / f"{name}.jpg") for name in "abc"]
    alone = [segmenter.vote_fractions(seen) for segmenter in (one, two)]
    shared, only_two = "bar-dr5_weak_fraction", "bar-gz2_yes_fraction"
    assert frame.loc[good, shared].to_numpy() == pytest.approx((alone[0][shared] + alone[1][shared]) / 2, abs=1e-6)
    assert frame.loc[good, only_two].to_numpy() == pytest.approx(alone[1][only_two], abs=1e-6)
    assert not np.allclose(alone[0][shared], alone[1][shared], atol=1e-4)
    assert {name: len(column) for name, column in both.vote_fractions([]).items()} == dict.fromkeys(answers, 0)


def test_without_a_vote_head_there_are_no_such_columns(pictures, segmenter, tmp_path):
    predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    assert not [name for name in shards(tmp_path / "out") if name.endswith("_fraction")]
    assert segmenter.vote_fractions([]) == {}


def test_masks_are_those_of_the_segmenter(pictures, segmenter, tmp_path):
    predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    for row, masks in read_masks(tmp_path / "out"):
        if masks is None:
            assert row["error"]
            continue
        expected = segmenter.segment(io.read_picture(run_root(tmp_path / "out") / row["path"]))
        np.testing.assert_allclose(masks, expected, atol=0.5 / 255 + 1e-6)
        assert row["spiral_max"] == pytest.approx(np.nanmax(expected[0]))
        assert row["bar_area_px"] == (expected[1] > 0.2).sum()


def test_a_killed_run_makes_only_what_is_missing(pictures, segmenter, tmp_path):
    galaxies = list_galaxies(pictures)
    predict(galaxies, segmenter, tmp_path / "whole", shard_size=2)
    predict(galaxies, segmenter, tmp_path / "out", shard_size=2)
    (tmp_path / "out" / "shards" / "shard-00001.parquet").unlink()
    kept = (tmp_path / "out" / "shards" / "shard-00000.parquet").stat().st_mtime_ns
    summary = predict(galaxies, segmenter, tmp_path / "out", shard_size=2)
    assert (summary.predicted, summary.skipped, summary.failed, summary.shards) == (1, 2, 4, 4)
    assert (tmp_path / "out" / "shards" / "shard-00000.parquet").stat().st_mtime_ns == kept
    for path in (tmp_path / "whole" / "shards").glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "out" / "shards" / path.name).read_bytes()


def test_one_picture_more_adds_a_row(pictures, segmenter, tmp_path):
    added = (pictures / "b.jpg").rename(tmp_path / "b.jpg")
    predict(list_galaxies(pictures), segmenter, tmp_path / "out", masks="png")
    added.rename(pictures / "b.jpg")
    summary = predict(list_galaxies(pictures), segmenter, tmp_path / "out", masks="png")
    assert (summary.predicted, summary.skipped, summary.failed, summary.shards) == (1, 2, 4, 2)
    assert sorted(shards(tmp_path / "out").index) == ["a", "b", "blank", "c", "cut", "empty", "oblong"]
    (pictures / "a.jpg").unlink()
    summary = predict(list_galaxies(pictures), segmenter, tmp_path / "out", masks="png")
    assert (summary.predicted, summary.skipped, summary.left) == (0, 2, 1)
    assert "1 galaxies of an earlier run are no longer in the input" in str(summary)


def test_a_changed_picture_is_predicted_again_in_its_place(pictures, segmenter, tmp_path):
    galaxies = list_galaxies(pictures)
    predict(galaxies, segmenter, tmp_path / "out", shard_size=2, masks="fits")
    before = shards(tmp_path / "out")
    rng = np.random.default_rng(7)
    io.write_jpeg(pictures / "b.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    io.write_jpeg(pictures / "cut.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))  # repaired
    summary = predict(galaxies, segmenter, tmp_path / "out", shard_size=2, masks="fits")
    assert (summary.predicted, summary.changed, summary.repaired, summary.skipped, summary.failed) == (2, 1, 1, 2, 3)
    after = shards(tmp_path / "out")
    assert list(after.index) == list(before.index)
    assert after.loc["b", "spiral_mask_png"] != before.loc["b", "spiral_mask_png"]
    assert after.loc["a", "spiral_mask_png"] == before.loc["a", "spiral_mask_png"]
    assert pd.isna(after.loc["cut", "error"])


@pytest.mark.parametrize("harm", ["truncate", "flip", "swap", "remove"])
def test_damaged_shards_are_seen_and_healed(pictures, segmenter, tmp_path, harm):
    galaxies, out = list_galaxies(pictures), tmp_path / "out"
    predict(galaxies, segmenter, out, shard_size=2)
    whole = {path.name: path.read_bytes() for path in (out / "shards").iterdir()}
    first, second = sorted((out / "shards").iterdir())[:2]
    if harm == "truncate":
        first.write_bytes(first.read_bytes()[:-40])
    elif harm == "flip":
        content = bytearray(first.read_bytes())
        content[len(content) // 2] ^= 1
        first.write_bytes(content)
    elif harm == "swap":
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    else:
        first.unlink()
    with pytest.raises(BadFileError, match="run the same zoobot3d predict again"):
        list(read_masks(out))
    summary = predict(galaxies, segmenter, out, shard_size=2)
    assert summary.damaged == (2 if harm == "swap" else 1)
    assert {path.name: path.read_bytes() for path in (out / "shards").iterdir()} == whole


@pytest.mark.parametrize("content", [None, "{", "[]", "junk"])
def test_a_lost_or_broken_record_of_the_run_is_made_again(pictures, segmenter, tiny_bundle, tmp_path, content):
    galaxies, out = list_galaxies(pictures), tmp_path / "out"
    predict(galaxies, segmenter, out)
    record = (out / "run.json").read_text()
    (out / "run.json").unlink()
    if content is not None:
        (out / "run.json").write_text(content)
    turned = zoobot_3d.load_segmenter(tiny_bundle, device="cpu", tta=True)
    with pytest.raises(ConfigError, match="made with other tta"):
        predict(galaxies, turned, out)
    assert predict(galaxies, segmenter, out).skipped == 3
    assert json.loads((out / "run.json").read_text()) == json.loads(record)


def test_names_that_clash_as_files_get_their_own(pictures, segmenter, tmp_path):
    names = ["M 51", "M_51", "m_51", "M/51", "x" * 300, "Méchain", "M 51"]
    frame = pd.DataFrame({"id": names, "file_loc": ["pictures/a.jpg"] * len(names)})
    frame.to_csv(tmp_path / "c.csv", index=False)
    galaxies = list_galaxies(tmp_path / "c.csv")
    assert list(galaxies["id"]) == [*names[:-1], "M 51-2"]
    summary = predict(galaxies, segmenter, tmp_path / "out", masks="fits")
    assert summary.predicted == len(names)
    stems = shards(tmp_path / "out")["file_stem"]
    assert stems.str.casefold().is_unique
    assert {f"{stem}_masks.fits" for stem in stems} == {
        path.name for path in (tmp_path / "out" / "masks").glob("*.fits")
    }
    assert predict(galaxies, segmenter, tmp_path / "out", masks="fits").skipped == len(names)


def test_outputs_never_become_inputs(pictures, segmenter, tmp_path):
    for _ in range(2):
        galaxies = list_galaxies(pictures, leave_out=pictures / "out")
        predict(galaxies, segmenter, pictures / "out", masks="png")
    assert len(galaxies) == 7
    assert len(list_galaxies(pictures)) == 7  # a folder of predictions is known by itself


def test_whatever_one_file_raises_is_its_row(pictures, segmenter, tmp_path, monkeypatch):
    real = io.open_picture

    def read(path):
        if str(path).endswith("b.jpg"):
            raise RuntimeError("a bug\nof two lines")
        return real(path)

    monkeypatch.setattr("zoobot_3d.io.open_picture", read)
    predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    assert shards(tmp_path / "out").loc["b", "error"] == "b.jpg: RuntimeError: a bug"


def test_two_predictions_in_one_folder(pictures, segmenter, tmp_path):
    from zoobot_3d.compute.locks import folder_lock

    with folder_lock(tmp_path / "out", "a prediction"), pytest.raises(BadFileError, match="a prediction is running"):
        predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    assert predict(list_galaxies(pictures), segmenter, tmp_path / "out").predicted == 3


@pytest.fixture
def two_networks(tiny_bundle, tmp_path):
    """An ensemble of the tiny bundle and one whose weights are a fifth larger; twice would make rounding show."""
    bundle = load_bundle(tiny_bundle)
    for parameter in bundle.model.parameters():
        parameter.mul_(1.2)
    save_bundle(tmp_path / "other", bundle.model, bundle.info)
    return zoobot_3d.load_segmenter([tiny_bundle, tmp_path / "other"], device="cpu", batch_size=2)


def test_uncertainty_is_written_beside_the_masks(pictures, two_networks, tmp_path):
    predict(list_galaxies(pictures), two_networks, tmp_path / "out", masks="fits", uncertainty=True)
    found = 0
    for row, masks, sigma in read_masks_and_sigma(tmp_path / "out", outside=np.nan):
        if row["error"] is not None and not pd.isna(row["error"]):
            assert masks is None and sigma is None
            continue
        found += 1
        expected = two_networks.segment_with_uncertainty(io.read_picture(pictures / row["path"]), outside=np.nan)
        assert np.nanmax(expected[1]) > 0.01
        np.testing.assert_allclose(masks, expected[0], atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(sigma, expected[1], atol=0.25 / 255 + 1e-6)
        with fits.open(tmp_path / "out" / "masks" / f"{row['id']}_masks.fits") as hdus:
            assert [hdu.name for hdu in hdus[1:]] == ["SPIRAL", "BAR", "SPIRAL_SIGMA", "BAR_SIGMA"]
            planes = np.stack([hdu.data[::-1] for hdu in hdus[1:]])
        np.testing.assert_allclose(planes, np.concatenate(expected), atol=0.5 / 255 + 1e-6)
    assert found == 3
    shard = next((tmp_path / "out" / "shards").glob("*.parquet"))
    assert pq.read_schema(shard).metadata[b"sigma_full"] == b"0.5"
    assert [masks is None for _, masks in read_masks(tmp_path / "out")].count(False) == 3


def test_sigma_as_png_files(pictures, two_networks, tmp_path):
    predict(list_galaxies(pictures / "a.jpg"), two_networks, tmp_path / "out", masks="png", uncertainty=True)
    names = sorted(path.name for path in (tmp_path / "out" / "masks").glob("[!.]*"))
    assert names == ["a_bar.png", "a_bar_sigma.png", "a_spiral.png", "a_spiral_sigma.png"]
    _, sigma = two_networks.segment_with_uncertainty(io.read_picture(pictures / "a.jpg"))
    content = (tmp_path / "out" / "masks" / "a_bar_sigma.png").read_bytes()
    np.testing.assert_allclose(io.decode_mask_png(content) * 0.5, np.nan_to_num(sigma[1]), atol=0.25 / 255 + 1e-6)


def test_no_uncertainty_of_a_single_answer(pictures, segmenter, tmp_path):
    with pytest.raises(ConfigError, match="has no uncertainty"):
        predict(list_galaxies(pictures), segmenter, tmp_path / "out", uncertainty=True)
    assert not (tmp_path / "out").exists()
    predict(list_galaxies(pictures), segmenter, tmp_path / "out")
    with pytest.raises(BadFileError, match="holds no sigma pictures; predict into another folder"):
        next(read_masks_and_sigma(tmp_path / "out"))


def test_a_resumed_run_must_ask_the_same_way(pictures, tiny_bundle, segmenter, two_networks, tmp_path):
    galaxies = list_galaxies(pictures)
    predict(galaxies, segmenter, tmp_path / "one")
    turned = zoobot_3d.load_segmenter(tiny_bundle, device="cpu", tta=True)
    with pytest.raises(ConfigError, match="made with other tta;"):
        predict(galaxies, turned, tmp_path / "one")
    with pytest.raises(ConfigError, match="made with other bundle;"):
        predict(galaxies, two_networks, tmp_path / "one")
    predict(galaxies, two_networks, tmp_path / "two")
    with pytest.raises(ConfigError, match="made with other uncertainty;"):
        predict(galaxies, two_networks, tmp_path / "two", uncertainty=True)


def test_rows_say_how_far_the_orientations_disagree(pictures, tiny_bundle, two_networks, tmp_path):
    one, other = (zoobot_3d.load_segmenter(bundle.path, device="cpu", tta=True) for bundle in two_networks.bundles)
    both = zoobot_3d.load_segmenter([bundle.path for bundle in two_networks.bundles], device="cpu", tta=True)
    predict(list_galaxies(pictures), both, tmp_path / "out")
    frame, names = shards(tmp_path / "out"), ["spiral_disagreement", "bar_disagreement"]
    good = frame["error"].isna()
    assert frame.loc[~good, names].isna().all(axis=None) and (frame.loc[good, names] > 0.001).all(axis=None)
    picture = io.read_picture(pictures / "b.jpg")
    alone = [segmenter.find([picture])[0].disagreement for segmenter in (one, other)]
    assert frame.loc["b", names].to_numpy(float) == pytest.approx(np.mean(alone, axis=0), rel=1e-4)
    turned = np.ascontiguousarray(np.rot90(picture))  # shows the network the same eight views
    assert one.find([turned])[0].disagreement == pytest.approx(alone[0], rel=1e-3)
    assert not zoobot_3d.load_segmenter(tiny_bundle, device="cpu").find([picture])[0].disagreement
    radius = np.hypot(*(np.indices((128, 128)) - 63.5))
    galaxy = np.repeat((200 * np.exp(-radius / 10)).astype(np.uint8)[..., None], 3, axis=2)
    windows = one.find([galaxy], "auto")[0].disagreement
    assert windows.shape == (2,) and (windows > 0).all()


def test_from_the_command_line(pictures, tiny_bundle, two_networks, tmp_path, capsys):
    other, out = two_networks.bundles[1].path, tmp_path / "out"
    command = ["predict", str(pictures), "--out", str(out), "--device", "cpu", "--uncertainty", "--bundle"]
    assert cli.main([*command, str(tiny_bundle)]) == 2
    assert "has no uncertainty; give several bundles" in capsys.readouterr().err
    assert cli.main([*command, str(tiny_bundle), str(other), "--tta"]) == 0
    run = json.loads((out / "run.json").read_text())
    assert run["tta"] and run["uncertainty"]
    asked = zoobot_3d.load_segmenter([tiny_bundle, other], device="cpu", tta=True)
    expected = asked.segment_with_uncertainty(io.read_picture(pictures / "b.jpg"))
    masks, sigma = next((m, s) for row, m, s in read_masks_and_sigma(out) if row["id"] == "b")
    np.testing.assert_allclose(masks, expected[0], atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(sigma, expected[1], atol=0.25 / 255 + 1e-6)


def test_nothing_to_predict_is_an_error(pictures, segmenter, tmp_path):
    with pytest.raises(Zoobot3DError, match=r"none of 1 galaxies could be predicted; most often: truncated"):
        predict(list_galaxies(pictures / "cut.jpg"), segmenter, tmp_path / "out")


def test_fits_masks_lie_on_the_sky(segmenter, tmp_path):
    grid = PixelGrid((64, 64), 0.5, ra=10.0, dec=-5.0)
    cube = np.random.default_rng(0).normal(0.05, 0.05, (3, 64, 64))
    io.write_cutout(tmp_path / "g.fits", cube, grid)
    dead = cube.copy()
    dead[1] = 0
    io.write_cutout(tmp_path / "dead.fits", dead, grid)
    io.write_cutout(tmp_path / "void.fits", np.zeros_like(cube), grid)
    predict(list_galaxies(tmp_path), segmenter, tmp_path / "out", masks="fits")
    frame = shards(tmp_path / "out")
    assert frame.loc["g", "ra"] == pytest.approx(10) and frame.loc["g", "pixscale"] == pytest.approx(0.5)
    assert frame.loc["dead", "warning"].startswith("band r is mostly empty")
    assert "all-zero image" in frame.loc["void", "error"]
    with fits.open(tmp_path / "out" / "masks" / "g_masks.fits") as hdus:
        header = hdus["SPIRAL"].header
        planes = np.stack([hdus["SPIRAL"].data[::-1], hdus["BAR"].data[::-1]])
    x, y = WCS(header).all_world2pix(10.0, -5.0, 0)
    assert (x, y) == pytest.approx((31.5, 31.5), abs=1e-6)
    assert header["OBJECT"] == "g" and header["MODEL"] == "published_unet" and len(header["BUNDLE"]) == 16
    assert header["CREATOR"].startswith("zoobot-3d ") and len(header["DATE"]) == 10
    masks = segmenter.segment(zoobot_3d.rgb_from_grz(cube[:, ::-1].astype(np.float32)), outside=np.nan)
    np.testing.assert_allclose(planes, masks, atol=0.5 / 255 + 1e-6)


def test_a_catalogue_gives_position_and_scale(pictures, segmenter, tmp_path):
    frame = pd.DataFrame({"dr8_id": ["1_1", "1_2"], "relative_desi_jpg_loc": ["pictures/a.jpg", None]})
    frame["ra"], frame["dec"], frame["est_dr5_pixscale"] = 120.0, 30.0, 0.2
    frame.to_csv(tmp_path / "c.csv", index=False)
    predict(list_galaxies(tmp_path / "c.csv"), segmenter, tmp_path / "out", masks="png")
    rows = shards(tmp_path / "out")
    assert rows.loc["1_1", "pixscale"] == pytest.approx(0.2 * 424 / 64)  # the scale is that of a 424 px picture
    assert rows.loc["1_2", "error"] == "the catalogue names no picture for this row"
    spiral = io.decode_mask_png((tmp_path / "out" / "masks" / "1_1_spiral.png").read_bytes())
    assert spiral.shape == (64, 64)


def test_inputs(pictures, tmp_path):
    assert list(list_galaxies([str(pictures / "a.jpg"), str(pictures / "b.jpg")])["id"]) == ["a", "b"]
    (pictures / "list.txt").write_text("# mine\na.jpg\n\nb.jpg\n")
    assert list(list_galaxies(pictures / "list.txt")["file"]) == [str(pictures / "a.jpg"), str(pictures / "b.jpg")]
    io.write_png(pictures / "sub" / "a.png", np.zeros((4, 4, 3), np.uint8))
    ids = list_galaxies(pictures)["id"]
    assert ids.is_unique and "sub_a" in set(ids)
    with pytest.raises(BadFileError, match="no such file or folder"):
        list_galaxies(tmp_path / "none")
    (tmp_path / "void").mkdir()
    with pytest.raises(BadFileError, match="no pictures"):
        list_galaxies(tmp_path / "void")
    pd.DataFrame({"x": [1]}).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(CatalogError, match="no column of pictures"):
        list_galaxies(tmp_path / "c.csv")


def test_repeated_names_stay_apart(pictures, tmp_path):
    pd.DataFrame({"id": ["x", "x"], "file_loc": ["pictures/a.jpg", "pictures/b.jpg"]}).to_csv(tmp_path / "c.csv")
    assert list(list_galaxies(tmp_path / "c.csv")["id"]) == ["x", "x-2"]


def test_no_predictions_here(tmp_path):
    with pytest.raises(BadFileError, match="no shards"):
        next(read_masks(tmp_path))


# FITS cutouts: places, scales, light

STEP = 0.4 / 3600
PLACE = {
    "BANDS": "grz", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 40.0, "CRPIX1": 32.5,
    "CRPIX2": 32.5, "CDELT1": -STEP, "CDELT2": STEP,
}  # fmt: skip


def cutouts(folder, *, scale=1.0, **kinds):
    """One galaxy of 64 px in files of different headers; None takes a card out."""
    yy, xx = np.mgrid[:64, :64]
    light = np.exp(-np.hypot(xx - 32, (yy - 32) * 1.4) / 12)
    cube = (np.array([0.06, 0.12, 0.2])[:, None, None] * light * scale).astype(np.float32)
    folder.mkdir()
    for name, cards in kinds.items():
        hdu = fits.PrimaryHDU(cube)
        hdu.header.update({key: value for key, value in (PLACE | cards).items() if value is not None})
        hdu.writeto(folder / f"{name}.fits")
    return folder


NOWHERE = {key: None for key in PLACE if key != "BANDS"}


def test_rows_say_where_the_middle_of_a_cutout_is_and_what_was_converted(segmenter, tmp_path):
    kinds = {"good": {}, "turned": {"CROTA2": 30.0}, "far": {"CRPIX1": 500.0}, "gri": {"BANDS": "gri"}}
    kinds |= {"nowhere": NOWHERE, "scaled": NOWHERE | {"PIXSCALE": 0.5}, "bad": {"RADESYS": "FK9"}}
    folder = cutouts(tmp_path / "in", **kinds)
    predict(list_galaxies(folder), segmenter, tmp_path / "out", masks="fits")
    frame = shards(tmp_path / "out")
    assert frame.loc["bad", "error"].startswith("bad.fits: RADESYS 'FK9' is not understood")
    good = frame.drop(index="bad")
    assert good["error"].isna().all()
    for name in ("good", "turned", "gri"):
        assert (frame.loc[name, "ra"], frame.loc[name, "dec"]) == pytest.approx((150, 40), abs=1e-7)
    far = WCS(fits.Header(PLACE | {"CRPIX1": 500.0})).pixel_to_world(31.5, 31.5)
    assert (frame.loc["far", "ra"], frame.loc["far", "dec"]) == pytest.approx((far.ra.deg, far.dec.deg), abs=1e-7)
    assert frame.loc[["good", "turned", "far", "gri"], "pixscale"].to_numpy() == pytest.approx(0.4)
    assert frame.loc[["good", "nowhere", "scaled"], "warning"].isna().all()
    assert frame.loc["turned", "warning"].startswith("rotated by 30 deg: resampled to north up")
    assert frame.loc["gri", "warning"].startswith("bands g, r, i stand in for g, r, z")
    assert np.isnan(frame.loc["nowhere", "pixscale"]) and frame.loc["scaled", "pixscale"] == 0.5
    headers = {name: fits.getheader(tmp_path / "out" / "masks" / f"{name}_masks.fits", 1) for name in good.index}
    assert "PIXSCALE" not in headers["nowhere"] and "CTYPE1" not in headers["nowhere"]
    assert headers["scaled"]["PIXSCALE"] == 0.5 and headers["far"]["CRVAL1"] == pytest.approx(far.ra.deg)


@pytest.mark.parametrize(("column", "expected"), [("pixscale", 0.262), ("est_dr5_pixscale", 0.262 * 424 / 64)])
def test_a_column_pixscale_is_of_the_pictures_own_pixels(pictures, segmenter, tmp_path, column, expected):
    (tmp_path / "c.csv").write_text(f"id,file,{column}\nx,pictures/a.jpg,0.262\n")
    predict(list_galaxies(tmp_path / "c.csv"), segmenter, tmp_path / "out")
    assert shards(tmp_path / "out").loc["x", "pixscale"] == pytest.approx(expected)


def test_a_catalogue_gives_the_scale_that_a_cutout_does_not(segmenter, tmp_path):
    cutouts(tmp_path / "in", nowhere=NOWHERE)
    table = tmp_path / "in" / "table.csv"
    table.write_text("id,file_loc,ra,dec,est_dr5_pixscale\nx,nowhere.fits,10.0,20.0,0.1\n")
    predict(list_galaxies(table), segmenter, tmp_path / "out")
    row = shards(tmp_path / "out").loc["x"]
    assert (row["ra"], row["dec"], row["pixscale"]) == (10.0, 20.0, pytest.approx(0.1 * 424 / 64))


@pytest.mark.parametrize(("scale", "warning"), [(3e-2, "nearly black: 99.9% of the pixels"), (1e3, "saturated: ")])
def test_a_picture_that_is_nearly_black_or_saturated_gets_a_warning(segmenter, tmp_path, scale, warning):
    folder = cutouts(tmp_path / "in", scale=scale, a={})
    predict(list_galaxies(folder), segmenter, tmp_path / "out")
    assert warning in shards(tmp_path / "out").loc["a", "warning"]
    dark = np.zeros((64, 64, 3), np.uint8)
    dark[20:40, 20:40] = 12 if scale < 1 else 255
    io.write_png(tmp_path / "in2" / "b.png", dark)
    predict(list_galaxies(tmp_path / "in2"), segmenter, tmp_path / "out2")
    row = shards(tmp_path / "out2").loc["b"]
    # 400 of 4096 pixels: below the tenth that counts as saturated; but 44 of 64 rows are black.
    assert row["warning"].startswith(warning if scale < 1 else "69% of the rows or columns are of one colour")


def test_the_summary_counts_warnings(pictures, segmenter, tmp_path):
    galaxies = list_galaxies([str(pictures / f"{name}.jpg") for name in "abc"])
    galaxies["warning"] = ["size unknown", "size unknown", ""]
    summary = predict(galaxies, segmenter, tmp_path / "out")
    assert summary.warnings == {"size unknown": 2}
    assert "  2 with a warning: size unknown" in str(summary).splitlines()
