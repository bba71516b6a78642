import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from tiny_survey import PIXSCALE, make_mixed_survey, make_survey, mark_frame, marks, rectangle
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.config.schema import DataConfig
from zoobot_3d.dataset.data import ItemParts, MaskDataModule, MaskDataset
from zoobot_3d.errors import CatalogError
from zoobot_3d.io import read_picture, write_cutout, write_jpeg, write_parquet, write_png
from zoobot_3d.schema import vote_columns
from zoobot_3d.sky.grid import PixelGrid

SIZE, FRACTION = 32, 0.75


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    root = tmp_path_factory.mktemp("survey")
    return root, read_catalog(make_survey(root, n=8))


@pytest.fixture
def own_survey(tmp_path):
    """A survey that a test may break."""
    return tmp_path, read_catalog(make_survey(tmp_path, n=8))


def one_galaxy(root, pixscale=PIXSCALE, offset=(0.0, 0.0), spiral=(), bar=(), **columns):
    """A catalogue of one blank galaxy of 424 px, with marks in a frame `offset` arcsec (east, north) of the picture."""
    ra, dec = 150.0, 0.0
    frame = mark_frame(ra + offset[0] / 3600, dec + offset[1] / 3600)
    write_jpeg(root / "g.jpg", np.zeros((424, 424, 3), np.uint8))
    if spiral or bar:
        draw = [[[rectangle(frame, *box)] for box in boxes] for boxes in (spiral, bar)]
        marks(frame, *draw).to_json(root / "g.json")
        columns["relative_segmap_json_loc"] = "g.json"
    row = {"dr8_id": "g", "ra": ra, "dec": dec, "ra_manga": frame.ra, "dec_manga": frame.dec}
    return pd.DataFrame([row | {"est_dr5_pixscale": pixscale, "relative_desi_jpg_loc": "g.jpg"} | columns])


def test_item(survey):
    root, catalog = survey
    item = MaskDataset(catalog, root, SIZE, FRACTION, parts=ItemParts(label_cols=["redshift"]))[3]
    assert (item["image"].dtype, item["image"].shape) == (torch.uint8, (3, SIZE, SIZE))
    assert (item["votes"].dtype, item["votes"].shape) == (torch.uint8, (2, SIZE, SIZE))
    assert (item["n_asked"].dtype, item["n_asked"].shape) == (torch.uint8, (2, SIZE, SIZE))
    assert (item["id"], item["error"]) == ("g03", "")
    assert item["label_cols"].tolist() == pytest.approx([0.03])
    # tiny_survey: 10 of 15 drew the arm, 15 of 15 the bar
    assert item["votes"][0].unique().tolist() == [0, 10]
    assert item["votes"][1].unique().tolist() == [0, 15]
    assert item["spiral_mask"].max() == pytest.approx(10 / 15)
    assert item["bar_mask"].max() == 1
    assert (item["n_asked"] == 15).all()


def test_marks_lie_on_what_the_picture_shows(survey):
    root, catalog = survey
    item = MaskDataset(catalog, root, SIZE, FRACTION)[0]
    marked = (item["votes"] > 0).any(0)
    bright = item["image"].float().mean(0) > 110
    assert (marked & bright).sum() / (marked | bright).sum() > 0.85


def test_votes_land_on_the_right_pixels(tmp_path):
    # Field 0.75 * 424 * 0.11 = 34.98 arcsec in 32 px: 1.093 arcsec a pixel, the galaxy between pixels 15 and 16.
    # A box 8.745 arcsec (8 px) wide and 4.3725 (4 px) high, its centre 6 px west (to the right) and 4 px north (up).
    px = 0.75 * 424 * PIXSCALE / SIZE
    box = (-6 * px, 4 * px, 8 * px, 4 * px)
    catalog = one_galaxy(tmp_path, spiral=[box] * 3, bar=[box] * 2)
    votes = MaskDataset(catalog, tmp_path, SIZE, FRACTION)[0]["votes"]
    expected = torch.zeros((2, SIZE, SIZE), dtype=torch.uint8)
    expected[0, 10:14, 18:26] = 3
    expected[1, 10:14, 18:26] = 2
    assert torch.equal(votes, expected)


def test_marks_follow_their_own_frame(tmp_path):
    # The same box, but in a frame that lies 2 px west of the picture's centre: everything moves 2 px to the right.
    px = 0.75 * 424 * PIXSCALE / SIZE
    catalog = one_galaxy(tmp_path, offset=(-2 * px, 0.0), spiral=[(0, 0, 8 * px, 4 * px)], bar=[(0, 0, 0, 0)])
    votes = MaskDataset(catalog, tmp_path, SIZE, FRACTION)[0]["votes"][0]
    rows, columns = torch.nonzero(votes, as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (14, 17, 14, 21)


def test_nobody_was_asked_outside_the_frame(tmp_path):
    # 424 px of 0.2 arcsec: 84.8 arcsec in 64 px of 1.325. The frame's 525 * 0.099 = 51.975 arcsec are 39.2 px: of the
    # pixel centres at +-0.5, +-1.5 ... px, those up to 19.5 px (25.8 arcsec) lie inside.
    catalog = one_galaxy(tmp_path, pixscale=0.2, spiral=[(0, 0, 10, 10)], bar=[(0, 0, 0, 0)] * 4)
    item = MaskDataset(catalog, tmp_path, 64, 1.0)[0]
    expected = torch.zeros((2, 64, 64), dtype=torch.uint8)
    expected[0, 12:52, 12:52] = 1
    expected[1, 12:52, 12:52] = 4
    assert torch.equal(item["n_asked"], expected)


def test_without_marks_all_is_unknown(tmp_path):
    item = MaskDataset(one_galaxy(tmp_path), tmp_path, SIZE, FRACTION)[0]
    assert item["n_asked"].sum() == 0
    assert item["votes"].sum() == 0
    assert torch.isfinite(item["spiral_mask"]).all()


@pytest.mark.parametrize("column", ["relative_bar_mask_loc", "bar_mask_loc"])
def test_mask_pictures(tmp_path, column):
    mask = np.zeros((424, 424), np.uint8)
    mask[:212] = 255
    mask[212:] = 85  # a third of 255: 5 of 15
    write_png(tmp_path / "m.png", mask)
    item = MaskDataset(one_galaxy(tmp_path, **{column: "m.png"}), tmp_path, SIZE, FRACTION)[0]
    assert item["n_asked"].amax((1, 2)).tolist() == [0, 15]
    assert item["votes"][1, 0].unique().tolist() == [15]
    assert item["votes"][1, -1].unique().tolist() == [5]


def test_marks_beat_mask_pictures(tmp_path):
    write_png(tmp_path / "m.png", np.full((424, 424), 255, np.uint8))
    box = (0, 0, 5, 5)
    catalog = one_galaxy(tmp_path, spiral=[box], bar=[box], relative_bar_mask_loc="m.png")
    assert MaskDataset(catalog, tmp_path, SIZE, FRACTION)[0]["votes"].max() == 1


def test_cutout_stands_in_for_a_missing_picture(tmp_path):
    cube = np.zeros((3, 424, 424), np.float32)
    cube[:, :212] = 1.0  # the north is bright
    write_cutout(tmp_path / "g.fits", cube, PixelGrid((424, 424), PIXSCALE, 150.0, 0.0))
    catalog = one_galaxy(tmp_path, relative_desi_fits_loc="g.fits").drop(columns="relative_desi_jpg_loc")
    image = MaskDataset(catalog, tmp_path, SIZE, FRACTION)[0]["image"].float()
    assert image[:, :15].min() > image[:, 17:].max()


def test_image_is_resampled_to_the_central_field(tmp_path):
    # White in its central 318 px (0.75 of 424) and black outside: the view is white but for the edge's blur.
    picture = np.zeros((424, 424, 3), np.uint8)
    picture[53:371, 53:371] = 255
    catalog = one_galaxy(tmp_path)
    write_png(tmp_path / "g.jpg", picture)
    image = MaskDataset(catalog, tmp_path, SIZE, FRACTION)[0]["image"]
    assert image[:, 1:-1, 1:-1].min() == 255
    assert MaskDataset(catalog, tmp_path, SIZE, 1.0)[0]["image"][:, :3].max() == 0


def test_transform_has_the_signature_of_albumentations(survey):
    root, catalog = survey

    def mirror(*, image, masks):
        assert image.shape == (SIZE, SIZE, 3)
        return {"image": image[:, ::-1], "masks": [mask[:, ::-1] for mask in masks]}

    plain, mirrored = (MaskDataset(catalog, root, SIZE, FRACTION, transform=t)[0] for t in (None, mirror))
    for key in ("image", "votes", "n_asked", "spiral_mask"):
        assert torch.equal(mirrored[key], plain[key].flip(-1)), key


def test_transform_may_return_a_tensor(survey):
    root, catalog = survey

    def to_tensor(*, image, masks):
        return {"image": torch.from_numpy(image).permute(2, 0, 1).float() / 255, "masks": masks}

    assert MaskDataset(catalog, root, SIZE, FRACTION, transform=to_tensor)[0]["image"].shape == (3, SIZE, SIZE)


def test_transform_leaves_the_cache_alone(survey):
    root, catalog = survey

    def blacken(*, image, masks):
        image[:] = 0
        return {"image": image, "masks": [np.zeros_like(mask) for mask in masks]}

    dataset = MaskDataset(catalog, root, SIZE, FRACTION, transform=blacken, cache="ram")
    dataset[0]
    dataset.transform = None
    assert dataset[0]["image"].max() > 0


def test_cache_gives_the_same_and_reads_once(own_survey):
    root, catalog = own_survey
    plain = MaskDataset(catalog, root, SIZE, FRACTION)
    cached = MaskDataset(catalog, root, SIZE, FRACTION, cache="ram")
    before = [plain[i] for i in range(len(plain))]
    cached.fill_cache(threads=2)
    for file in (root / "jpg").iterdir():
        file.unlink()
    for index, item in enumerate(before):
        for key in ("image", "votes", "n_asked"):
            assert torch.equal(cached[index][key], item[key])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("jpg/g02.jpg", b"\xff\xd8 not much", "not a readable picture"),
        ("jpg/g02.jpg", b"", "empty file"),
        ("marks/g02.json", b"{", "broken JSON"),
    ],
)
def test_a_corrupt_file_is_named_with_its_row(own_survey, file, content, message):
    root, catalog = own_survey
    (root / file).write_bytes(content)
    dataset = MaskDataset(catalog, root, SIZE, FRACTION)
    with pytest.raises(CatalogError, match=rf"^row 2 \(g02\): .*{file}: .*{message}"):
        dataset[2]


def test_a_picture_that_is_not_square(own_survey):
    root, catalog = own_survey
    write_jpeg(root / "jpg/g01.jpg", np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(CatalogError, match=r"row 1 \(g01\): .*g01\.jpg: is 40 x 60 pixels, not square"):
        MaskDataset(catalog, root, SIZE, FRACTION)[1]


def test_one_bad_galaxy_never_stops_a_batch(own_survey):
    root, catalog = own_survey
    catalog["split"] = ["train"] * 6 + ["val", "test"]
    write_parquet(root / "data" / "c.parquet", catalog)
    (root / "jpg" / "g02.jpg").unlink()
    data = MaskDataModule(DataConfig(str(root / "data/c.parquet"), input_size=SIZE, batch_size=6, augment=False))
    data.setup()
    with pytest.warns(UserWarning, match=r"left out: row 2 \(g02\): .*g02\.jpg: .*check the path") as record:
        for _ in range(2):
            batch = data.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert len([r for r in record if "left out" in str(r.message)]) == 1
    assert list(data.failures) == ["g02"]
    bad = batch["id"].index("g02")
    assert len(batch["image"]) == 6
    assert batch["n_asked"][bad].sum() == 0
    assert all(batch["n_asked"][i].min() == 15 for i in range(6) if i != bad)


@pytest.mark.parametrize("column", ["dr8_id", "est_dr5_pixscale"])
def test_missing_column(survey, column):
    root, catalog = survey
    with pytest.raises(CatalogError, match=column):
        MaskDataset(catalog.drop(columns=column), root, SIZE, FRACTION)


def test_missing_label_column(survey):
    root, catalog = survey
    with pytest.raises(CatalogError, match="no column mass"):
        MaskDataset(catalog, root, SIZE, FRACTION, parts=ItemParts(label_cols=["mass"]))


def test_pixscale_must_be_positive(survey):
    root, catalog = survey
    catalog = catalog.assign(est_dr5_pixscale=[0.1, np.nan, *[0.1] * 6])
    with pytest.raises(CatalogError, match="1 rows have no positive est_dr5_pixscale, the first is g01"):
        MaskDataset(catalog, root, SIZE, FRACTION)


# The data module


def module(survey, **settings):
    root, _ = survey
    defaults = {"input_size": SIZE, "field_fraction": 0.75, "batch_size": 2}
    data = MaskDataModule(DataConfig(str(root / "data/catalog.parquet"), **(defaults | settings)), seed=5)
    data.setup()
    return data


def ids(loader):
    return [name for batch in loader for name in batch["id"]]


def test_splits_are_those_of_the_catalogue(survey):
    data = module(survey)
    assert {name: dataset.names() for name, dataset in data.datasets.items()} == {
        "train": ["g00", "g01", "g04", "g05"],
        "val": ["g02", "g06"],
        "test": ["g03", "g07"],
    }


def test_only_train_is_shuffled_anew_each_epoch_and_alike_for_a_seed(survey):
    loaders = [module(survey).train_dataloader() for _ in range(2)]
    orders = []
    for epoch in range(6):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        first, second = (ids(loader) for loader in loaders)
        assert first == second
        assert sorted(first) == ["g00", "g01", "g04", "g05"]
        orders.append(tuple(first))
    assert len(set(orders)) > 2
    data = module(survey)
    assert ids(data.val_dataloader()) == ["g02", "g06"]
    assert ids(data.test_dataloader()) == ["g03", "g07"]


def test_training_pictures_have_a_margin_at_the_same_scale(survey):
    # 32 px show 0.75 of the side, so the whole side is 42.67 px: margins of 5 px.
    data = module(survey)
    assert data.train_size == 42
    assert data.datasets["train"].field_fraction == pytest.approx(0.75 * 42 / 32)
    assert (data.datasets["val"].input_size, data.datasets["val"].field_fraction) == (32, 0.75)
    assert module(survey, augment=False).train_size == 32
    assert module(survey, field_fraction=1.0).train_size == 32
    assert module(survey, field_fraction=0.25).train_size == 44  # no more than a turned square needs


def test_workers_give_the_same_batches(survey):
    alone, helped = (next(iter(module(survey, workers=n).val_dataloader())) for n in (0, 1))
    assert torch.equal(alone["image"], helped["image"])
    assert alone["id"] == helped["id"]


def test_rows_without_marks_take_no_part(own_survey):
    root, catalog = own_survey
    catalog.loc[0, "relative_segmap_json_loc"] = None
    write_parquet(root / "data" / "catalog.parquet", catalog)
    assert "g00" not in module(own_survey).datasets["train"].names()


def test_no_galaxies_to_validate_on(own_survey):
    root, catalog = own_survey
    write_parquet(root / "data" / "catalog.parquet", catalog.assign(split="train"))
    with pytest.raises(CatalogError, match="8 rows have marks or masks, none of them in split val"):
        module(own_survey)


def test_split_by_name_where_there_is_no_column(tmp_path):
    make_survey(tmp_path, n=40, size=32)
    catalog = read_catalog(tmp_path / "data/catalog.parquet").drop(columns="split")
    write_parquet(tmp_path / "data/catalog.parquet", catalog)
    data = module((tmp_path, catalog))
    sizes = {name: len(dataset) for name, dataset in data.datasets.items()}
    assert sum(sizes.values()) == 40
    assert sizes["train"] > sizes["test"] > sizes["val"] > 0


def test_reading_does_not_warn(survey):
    root, catalog = survey
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MaskDataset(catalog, root, SIZE, FRACTION)[0]


def test_example_picture(examples):
    """A real Galaxy Zoo picture comes through with its brightness where it was."""
    file = sorted((examples / "gz_decals_jpg" / "jpg").rglob("*.jpg"))[0]
    row = {"dr8_id": "x", "est_dr5_pixscale": 0.2, "relative_desi_jpg_loc": file.name}
    item = MaskDataset(pd.DataFrame([row]), file.parent, 106, 0.5)[0]
    centre = read_picture(file)[106:318, 106:318].reshape(106, 2, 106, 2, 3).mean((1, 3))
    assert np.corrcoef(item["image"].permute(1, 2, 0).numpy().ravel(), centre.ravel())[0, 1] > 0.98


# Votes about whole galaxies


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """24 galaxies: marks alone (0, 3, ...), votes alone (1, 4, ...), both (2, 5, ...)."""
    root = tmp_path_factory.mktemp("mixed")
    return root, read_catalog(make_mixed_survey(root))


def numbers(names, kind=None):
    return [int(name[1:]) for name in names if kind is None or int(name[1:]) % 3 == kind]


def test_items_carry_vote_counts(mixed):
    root, catalog = mixed
    columns = vote_columns(["gz2"])
    dataset = MaskDataset(catalog, root, SIZE, FRACTION, parts=ItemParts(vote_cols=columns))
    marks_alone, votes_alone, both = (dataset[index] for index in (0, 1, 2))
    assert both["vote_counts"].dtype == torch.float32 and both["vote_counts"].shape == (28,)
    assert both["vote_counts"][columns.index("has-spiral-arms-gz2_yes")] == 30  # even: the first answer
    assert votes_alone["vote_counts"][columns.index("has-spiral-arms-gz2_no")] == 30
    assert marks_alone["vote_counts"].sum() == 0
    assert [item["n_asked"].max() for item in (marks_alone, votes_alone, both)] == [15, 0, 15]
    assert dataset.marked.tolist() == [True, False, True] * 8


def test_rows_with_votes_alone_take_part_only_if_asked_for(mixed):
    assert numbers(module(mixed).datasets["train"].names(), kind=1) == []
    data = module(mixed, votes=("gz2",))
    assert numbers(data.datasets["train"].names()) == [n for n in range(24) if n % 4 < 2]
    batch = next(iter(data.val_dataloader()))
    assert batch["vote_counts"].shape == (2, 28)
    assert "vote_counts" not in next(iter(module(mixed).val_dataloader()))


def test_rows_with_neither_marks_nor_votes_take_no_part(tmp_path):
    make_mixed_survey(tmp_path)
    catalog = read_catalog(tmp_path / "data/catalog.parquet")
    catalog.loc[1, vote_columns(["gz2"])] = 0
    write_parquet(tmp_path / "data/catalog.parquet", catalog)
    assert 1 not in numbers(module((tmp_path, catalog), votes=("gz2",)).datasets["train"].names())


def test_votes_of_marked_galaxies_can_be_hidden(mixed):
    dataset = module(mixed, votes=("gz2",), hide_votes_of_marked=True).datasets["train"]
    votes = {n: dataset[i]["vote_counts"].sum() > 0 for i, n in enumerate(numbers(dataset.names()))}
    assert all(has_votes == (n % 3 == 1) for n, has_votes in votes.items())


def test_a_galaxy_that_cannot_be_read_has_no_votes(tmp_path):
    root, catalog = tmp_path, read_catalog(make_mixed_survey(tmp_path))
    (root / "jpg/g01.jpg").write_bytes(b"")
    dataset = MaskDataset(
        catalog, root, SIZE, FRACTION, parts=ItemParts(vote_cols=vote_columns(["gz2"])), on_error="skip"
    )
    assert dataset[1]["vote_counts"].sum() == 0
    assert dataset[4]["vote_counts"].sum() > 0


def test_the_rarer_kind_is_shown_more_often(mixed):
    # Of the 12 training galaxies 4 have no marks.
    data = module(mixed, votes=("gz2",), marked_share=0.25, batch_size=8)
    seen = numbers(ids(data.train_dataloader()))
    assert len(seen) == 32  # 8 marked once, 4 others 6 times
    assert sorted(n for n in seen if n % 3 != 1) == [n for n in range(24) if n % 4 < 2 and n % 3 != 1]
    assert {seen.count(n) for n in seen if n % 3 == 1} == {6}


def test_groups_have_their_share_of_every_epoch(survey):
    root, catalog = survey
    path = root / "data" / "groups.parquet"
    groups = np.where(catalog["dr8_id"].isin(["g00", "g02"]), "real", "simulated")
    write_parquet(path, catalog.assign(group=groups))
    data = MaskDataModule(DataConfig(str(path), input_size=SIZE, batch_size=2, group_shares={"real": 0.5}))
    data.setup()
    seen = ids(data.train_dataloader())
    assert sorted(seen) == ["g00", "g00", "g00", "g01", "g04", "g05"]
    data = MaskDataModule(DataConfig(str(path), input_size=SIZE, group_shares={"drawn": 0.5}))
    with pytest.raises(CatalogError, match="no training galaxies drawn, by the column group"):
        data.setup()


def test_length_of_an_epoch(mixed):
    for size in (6, 30):
        loader = module(mixed, epoch_size=size).train_dataloader()
        assert len(ids(loader)) == size


def test_marked_share_needs_galaxies_of_both_kinds(survey):
    root, catalog = survey
    path = root / "data" / "all_marked.parquet"
    write_parquet(path, catalog.assign(**dict.fromkeys(vote_columns(["dr5"]), 1)))
    data = MaskDataModule(DataConfig(str(path), input_size=SIZE, votes=("dr5",), marked_share=0.5))
    with pytest.raises(CatalogError, match=r"marked_share is 0\.5, but 4 of 4 training galaxies have marks; set"):
        data.setup()


def test_missing_columns_of_votes(survey):
    with pytest.raises(CatalogError, match=r"misses 34 of 34 columns of votes, the first is smooth-or-featured-dr5_s"):
        module(survey, votes=("dr5",))


@pytest.mark.parametrize("value", [-1, "many", np.inf])
def test_votes_that_cannot_be(mixed, value):
    root, catalog = mixed
    catalog = catalog.astype({"bar-gz2_yes": object})
    catalog.loc[5, "bar-gz2_yes"] = value
    with pytest.raises(CatalogError, match=r"1 rows have no number of votes in bar-gz2_yes, the first is g05"):
        MaskDataset(catalog, root, SIZE, FRACTION, parts=ItemParts(vote_cols=["bar-gz2_yes", "bar-gz2_no"]))
