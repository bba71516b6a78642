import json
from pathlib import Path

import astropy.units as u
import cv2
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits

from zoobot_3d import schema
from zoobot_3d.catalog.splits import assign_split
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.io import read_cutout, read_picture, read_table
from zoobot_3d.marks.gz3d import read_gz3d
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.simulate import survey as survey_module
from zoobot_3d.simulate.answers import campaign_fractions, draw_votes, fractions_from_truth
from zoobot_3d.simulate.catalogs import CATALOGUES, _drop_near_earlier, brick_id, iau_name, sky_positions
from zoobot_3d.simulate.galaxies import draw_galaxy
from zoobot_3d.simulate.survey import sdss_picture, simulate_survey
from zoobot_3d.sky.rgb import rgb_from_grz

N = 4


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a survey, hidden ones too."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("survey")
    summary = simulate_survey(root, N, workers=1, progress=False)
    assert (summary.n_galaxies, summary.n_made) == (N, N)
    assert summary.master == root / schema.DEFAULT_MASTER
    return root


@pytest.fixture(scope="module")
def master(survey) -> pd.DataFrame:
    return read_table(survey / schema.DEFAULT_MASTER)


# Where galaxies are


def test_positions_are_apart_and_do_not_depend_on_how_many():
    positions = sky_positions(20000, seed=1)
    assert np.array_equal(positions[:3000], sky_positions(3000, seed=1))
    sky = SkyCoord(positions * u.deg)
    assert sky.match_to_catalog_sky(sky, nthneighbor=2)[1].arcsec.min() > 10
    assert np.abs(sky.galactic.b.deg).min() > 19.99
    assert positions[:, 1].min() >= -18 and positions[:, 1].max() <= 60


def test_near_positions_lose_the_later_one():
    positions = np.array([[10.0, 0.0], [20.0, 0.0], [10.0, 9 / 3600], [10.0, 20 / 3600]])
    assert _drop_near_earlier(positions).tolist() == positions[[0, 1, 3]].tolist()


def test_names_come_from_positions():
    assert iau_name(119.6338119506836, 52.597965240478516) == "J075832.11+523552.6"
    assert iau_name(0.0, -0.5) == "J000000.00-003000.0"


def test_bricks_are_quarter_degrees():
    assert brick_id(100.01, 10.01) == brick_id(100.05, 10.05)
    assert brick_id(100.01, 10.01) != brick_id(100.01, 10.26)
    assert brick_id(100.01, 10.01) + 1 == brick_id(100.27, 10.01)
    assert 1 <= brick_id(0, -18) < brick_id(359.9, 60) < 663_000


# Files


def test_master_names_files_that_are_there_by_relative_paths(survey, master):
    for column in (schema.COL_GZ3D, schema.COL_FITS, schema.COL_JPG, schema.COL_MARKS):
        for location in master[column]:
            assert not Path(location).is_absolute()
            assert (survey / location).is_file()
    assert master[schema.COL_ID].is_unique
    assert (master["split"] == assign_split(master[schema.COL_ID])).all()


def test_cutout_and_picture_are_one_image(survey, master):
    row = master.iloc[0]
    cube, grid = read_cutout(survey / row[schema.COL_FITS])
    assert cube.shape == (3, 424, 424)
    assert cube.dtype == np.float32
    assert (grid.ra, grid.dec) == pytest.approx((row["ra"], row["dec"]))
    assert grid.pixscale == pytest.approx(row[schema.COL_PIXSCALE])
    # JPEG spoils the noise, not what is smooth.
    picture, made = (
        cv2.GaussianBlur(image, (0, 0), 4).astype(float)
        for image in (read_picture(survey / row[schema.COL_JPG]), rgb_from_grz(cube[:, ::-1]))
    )
    assert np.abs(picture - made).mean() < 0.8
    assert np.abs(picture - made[::-1]).mean() > 2
    with fits.open(survey / row[schema.COL_FITS]) as hdus:  # stored with row 0 in the south
        assert np.array_equal(hdus[0].data[:, ::-1], cube)
        assert hdus[0].header["BANDS"] == "grz"


def test_gz3d_file_holds_the_same_marks_as_the_json(survey, master):
    for row in master.itertuples():
        file = read_gz3d(survey / getattr(row, schema.COL_GZ3D))
        marks = VolunteerMarks.from_json(survey / getattr(row, schema.COL_MARKS))
        assert np.array_equal(file.marks.votes(), marks.votes())
        assert marks.n_asked == {"spiral": row.n_asked_spiral, "bar": row.n_asked_bar}
        assert file.metadata["MANGAID"] == row.mangaid
        assert (file.grid.ra, file.grid.dec) == pytest.approx((row.ra_manga, row.dec_manga), abs=1e-5)
        assert f"_{int(file.metadata['IFUDESIGNSIZE'])}_" in getattr(row, schema.COL_GZ3D)
        assert file.picture.shape == (525, 525, 3)


def test_a_magenta_hexagon_is_burnt_in_and_only_there(survey, master):
    picture = read_gz3d(survey / master[schema.COL_GZ3D].iloc[0]).picture.astype(int)
    magenta = (picture[..., 0] > 200) & (picture[..., 2] > 200) & (picture[..., 1] < 60)
    y, x = np.nonzero(magenta)
    assert (x.max() - x.min()) / (y.max() - y.min()) == pytest.approx(2 / np.sqrt(3), abs=0.04)
    assert (x.max() + x.min()) / 2 == pytest.approx(261.5, abs=1.5)
    assert not magenta[240:280, 240:280].any()


def test_tables_have_the_real_columns(survey, master):
    fractions = read_table(survey / CATALOGUES["gz_desi"])
    for question in schema.GZ_DESI_QUESTIONS:
        assert fractions[question.fraction_columns()].sum(axis=1).to_numpy() == pytest.approx(1)
        assert set(question.fraction_columns()) <= set(master.columns)
    assert (fractions["dr8_id"] == fractions["brickid"].astype(str) + "_" + fractions["objid"].astype(str)).all()
    votes = read_table(survey / CATALOGUES["gz_desi_votes"])
    assert all(set(q.vote_columns(c)) <= set(votes) for c in ("dr12", "dr5", "dr8") for q in schema.CAMPAIGNS[c])
    totals = np.array([votes[schema.GZ_DESI_QUESTIONS[0].vote_columns(c)].sum(axis=1) for c in ("dr12", "dr5", "dr8")])
    assert ((totals > 0).sum(axis=0) == 1).all()  # each galaxy in one campaign
    gz2 = read_table(survey / CATALOGUES["gz2_votes"])
    assert all(set(q.vote_columns("gz2")) <= set(gz2) for q in schema.GZ2_QUESTIONS)
    bars = pd.read_csv(survey / CATALOGUES["bar_lengths"])
    assert list(bars)[:5] == ["objid", "ra", "dec", "length_avg", "length_stdev"]
    truth = read_table(survey / CATALOGUES["truth"])
    assert {"bar_length_arcsec", "bar_pa", "pitch_angle", "n_arms", "inclination", "redshift"} <= set(truth)
    assert list(truth["dr8_id"]) == list(master["dr8_id"])


def test_sami_fits_has_byte_strings(tmp_path):
    root = tmp_path
    simulate_survey(root, 24, files="pictures", workers=1, progress=False)
    frame = read_table(root / CATALOGUES["sami"])
    assert frame.shape[1] == 21
    assert len(frame)
    with fits.open(root / "catalogues/sami_targets.fits") as hdus:
        data = hdus[1].data
        assert data.columns.names == list(frame)
        assert all(data.columns[name].format.endswith("A") for name in ("CATID", "RA_OBJ", "DEC_IFU"))
        assert np.array(data["RA_OBJ"].tolist(), float) == pytest.approx(frame["RA_OBJ"].to_numpy(), abs=1e-12)


# Broad


def test_a_broad_survey_looks_different_but_is_as_consistent(survey, tmp_path):
    simulate_survey(tmp_path, 8, files="pictures", workers=1, broad=True, progress=False)
    usual, broad = (read_table(root / schema.DEFAULT_MASTER).set_index("dr8_id") for root in (survey, tmp_path))
    broad = broad.loc[usual.index]
    zoom = broad[schema.COL_PIXSCALE] / usual[schema.COL_PIXSCALE]
    assert (zoom != 1).sum() >= 2 and zoom.between(0.55, 1.7).all()  # two are at the least pixel scale there is
    for galaxy, row in broad.iterrows():
        wide, narrow = (read_picture(root / row[schema.COL_JPG]).mean(-1) for root in (tmp_path, survey))
        # What lies at the middle stays there.
        assert np.hypot(*np.subtract(brightest(wide), brightest(narrow))) < 4, galaxy
    quantisation = {(tmp_path / path).read_bytes().split(b"\xff\xdb")[1] for path in broad[schema.COL_JPG]}
    assert len(quantisation) > 1  # a table for each JPEG quality


def test_votes_of_the_first_campaign_have_its_own_answers(survey, tmp_path):
    votes = read_table(survey / CATALOGUES["gz_desi_votes"])
    assert "bar-dr12_strong" not in votes
    galaxy = draw_galaxy(np.random.default_rng(4), ra=150.0, dec=2.0, kind="spiral")
    expected = fractions_from_truth(galaxy, 0.9, 0.6)
    told = campaign_fractions(expected, "dr12")
    for question in schema.CAMPAIGNS["dr12"]:
        assert set(told[question.name]) == set(question.answers)
        assert sum(told[question.name].values()) == pytest.approx(1)
    assert told["bar"]["yes"] == pytest.approx(1 - expected["bar"]["no"])
    assert campaign_fractions(expected, "dr8") == expected


def test_a_broad_survey_is_not_continued_as_a_usual_one(tmp_path):
    simulate_survey(tmp_path, 1, files="pictures", workers=1, broad=True, progress=False)
    with pytest.raises(ConfigError, match="'broad': True"):
        simulate_survey(tmp_path, 2, files="pictures", workers=1, progress=False)


def test_a_survey_of_one_kind_has_no_other_and_is_not_continued_as_a_mixed_one(tmp_path):
    simulate_survey(tmp_path, 3, files="pictures", workers=1, kind="ellicular", progress=False)
    assert set(read_table(tmp_path / "truth.parquet")["kind"]) == {"ellicular"}
    with pytest.raises(ConfigError, match="'kind': 'ellicular'"):
        simulate_survey(tmp_path, 4, files="pictures", workers=1, progress=False)


def brightest(grey):
    """Where the brightest place near the middle is."""
    middle = cv2.GaussianBlur(grey, (0, 0), 3)[182:242, 182:242]
    return np.unravel_index(middle.argmax(), middle.shape)


# Reproducible and resumable


def test_same_bytes_whatever_the_number_of_workers(survey, tmp_path):
    simulate_survey(tmp_path, N, workers=2, progress=False)
    assert contents(tmp_path) == contents(survey)


def test_a_stopped_survey_goes_on_to_the_same_bytes(survey, tmp_path, monkeypatch):
    write, calls = survey_module.write_cutout, []

    def dies_at_the_third(*args, **cards):
        calls.append(args[0])
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(*args, **cards)

    monkeypatch.setattr(survey_module, "write_cutout", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        simulate_survey(tmp_path, N, workers=1, progress=False)
    (tmp_path / "marks/.half.json.x.part").write_text("left by a kill")
    monkeypatch.undo()
    assert simulate_survey(tmp_path, N, workers=1, progress=False).n_made == N - 2
    assert contents(tmp_path) == contents(survey)


def test_a_lost_file_is_made_again(survey, tmp_path):
    simulate_survey(tmp_path, 2, workers=1, progress=False)
    whole = contents(tmp_path)
    for folder in ("gz3d", "images/jpg"):
        next((tmp_path / folder).iterdir()).unlink()
        assert simulate_survey(tmp_path, 2, workers=1, progress=False).n_made == 1
        assert contents(tmp_path) == whole
    assert simulate_survey(tmp_path, 2, workers=1, progress=False).n_made == 0


def test_enlarging_keeps_what_was_there(survey, tmp_path):
    first = simulate_survey(tmp_path, 2, files="pictures", workers=1, progress=False)
    before = contents(tmp_path)
    kept = {name: content for name, content in before.items() if name.startswith(("images", "marks", "rows"))}
    assert first.n_made == 2
    assert "gz3d" not in {path.name for path in tmp_path.iterdir()}
    assert read_table(first.master)[schema.COL_GZ3D].isna().all()
    assert simulate_survey(tmp_path, N, workers=1, progress=False).n_made == N
    after = contents(tmp_path)
    assert kept.items() <= after.items()
    assert after == contents(survey)


def test_another_seed_does_not_mix_in(survey):
    with pytest.raises(ConfigError, match=r"holds a survey of .*'seed': 0.*another folder or the same seed"):
        simulate_survey(survey, N, seed=1, progress=False)


@pytest.mark.parametrize("wrong", [{"n_galaxies": 0}, {"seed": -1}, {"workers": 0}])
def test_impossible_numbers_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(ConfigError, match="at least 1 galaxy and 1 worker"):
        simulate_survey(tmp_path / "new", **{"n_galaxies": 3, "progress": False, **wrong})
    assert not (tmp_path / "new").exists()


def test_a_broken_row_file_is_named(survey, tmp_path):
    simulate_survey(tmp_path, 1, files="pictures", workers=1, progress=False)
    row = next((tmp_path / "rows").iterdir())
    row.write_text('{"truth"')
    with pytest.raises(BadFileError, match=rf"{row.name}: not a readable table row; delete the file"):
        simulate_survey(tmp_path, 1, files="pictures", workers=1, progress=False)


def test_rows_are_plain_json(survey):
    rows = json.loads(next((survey / "rows").iterdir()).read_text())
    assert {"truth", "master", "gz_desi", "gz3d"} <= set(rows) <= set(CATALOGUES)


# Answers, and the picture


def test_answers_follow_what_can_be_seen():
    rng = np.random.default_rng(0)
    spiral = draw_galaxy(rng, ra=10, dec=0, kind="spiral")
    elliptical = draw_galaxy(rng, ra=10, dec=0, kind="elliptical")
    seen, unseen = fractions_from_truth(spiral, 0.9, 0.0), fractions_from_truth(spiral, 0.05, 0.0)
    assert seen["has-spiral-arms"]["yes"] > 0.8 > 0.2 > unseen["has-spiral-arms"]["yes"]
    smooth = fractions_from_truth(elliptical, 0.02, 0.02)
    assert smooth["smooth-or-featured"]["smooth"] > 0.8 > seen["smooth-or-featured"]["smooth"]
    assert smooth["disk-edge-on"]["no"] > 0.9


def test_questions_go_to_those_whose_answer_leads_there():
    galaxy = draw_galaxy(np.random.default_rng(1), ra=10, dec=0, kind="spiral")
    counts = draw_votes(schema.GZ_DESI_QUESTIONS, fractions_from_truth(galaxy, 0.7, 0.3), 40, np.random.default_rng(0))
    for question in schema.GZ_DESI_QUESTIONS:
        total = sum(counts[f"{question.name}_{answer}"] for answer in question.answers)
        assert total == (40 if question.asked_after is None else counts[question.asked_after])


def test_sdss_picture_has_dark_sky_and_keeps_colour_where_it_saturates():
    cube = np.zeros((3, 4, 4), np.float32)
    assert sdss_picture(cube).max() < 8
    cube[:, 0, 0] = 20, 60, 100
    red, green, blue = sdss_picture(cube)[0, 0].tolist()
    assert red >= 254
    assert red > green > blue > 100
