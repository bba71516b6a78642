"""Published tables of votes become whole numbers under this package's names, and nothing is guessed."""

import pandas as pd
import pytest
from astropy.table import Table

from zoobot_3d import schema
from zoobot_3d.errors import CatalogError
from zoobot_3d.io import write_parquet
from zoobot_3d.sources.votes import combine_desi_votes, hart_columns, read_desi_votes, read_gz2_votes

IDS = (587722980000000123, 587722980000000457)  # 18 digits: more than a float holds


def hart_table() -> pd.DataFrame:
    """Two galaxies in the columns of Hart et al. 2016: the n-th answer has n votes, then 100 + n."""
    frame = pd.DataFrame({"dr7objid": IDS, "ra": [160.5, 192.25], "dec": [11.5, 15.25], "gz2_class": ["SBb?t", "Ser"]})
    for n, name in enumerate(hart_columns()):
        frame[f"{name}_count"] = [n, 100 + n]
        frame[f"{name}_weight"] = [n - 0.5, 99.5 + n]
        frame[f"{name}_fraction"] = 0.5
    return frame


def test_columns_of_hart_et_al():
    names = hart_columns()
    assert len(names) == len(set(names.values())) == 28
    assert names["t01_smooth_or_features_a03_star_or_artifact"] == "smooth-or-featured-gz2_artifact"
    assert names["t03_bar_a06_bar"] == "bar-gz2_yes"
    assert names["t04_spiral_a09_no_spiral"] == "has-spiral-arms-gz2_no"
    assert names["t05_bulge_prominence_a11_just_noticeable"] == "bulge-size-gz2_just-noticeable"
    assert names["t09_bulge_shape_a25_rounded"] == "bulge-shape-gz2_round"
    assert names["t11_arms_number_a36_more_than_4"] == "spiral-arm-count-gz2_more-than-4"


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "fits"])
def test_gz2_in_the_published_columns(tmp_path, kind):
    path, frame = tmp_path / f"gz2_hart16.{kind}", hart_table()
    if kind == "fits":
        Table.from_pandas(frame).write(path)
    elif kind == "parquet":
        write_parquet(path, frame)
    else:
        frame.to_csv(path, index=False)
    votes = read_gz2_votes(path)
    assert tuple(votes["dr7objid"]) == IDS and votes["dr7objid"].dtype == "int64"
    assert list(votes.columns[:3]) == ["dr7objid", "ra", "dec"] and votes["dec"].tolist() == [11.5, 15.25]
    expected = [column for question in schema.GZ2_QUESTIONS for column in question.vote_columns("gz2")]
    assert list(votes.columns[3:]) == expected
    assert votes.iloc[0, 3:].tolist() == list(range(28)) and votes.iloc[1, 3:].tolist() == list(range(100, 128))
    assert votes.dtypes.iloc[3:].eq("int32").all()


def test_gz2_in_our_columns_is_read_too(tmp_path):
    frame = hart_table().rename(columns={f"{theirs}_count": ours for theirs, ours in hart_columns().items()})
    frame.to_csv(tmp_path / "own.csv", index=False)
    votes = read_gz2_votes(tmp_path / "own.csv")
    assert votes.shape == (2, 31) and votes["bar-gz2_yes"].tolist() == [5, 105]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("t02_edgeon_a04_yes_count", 2.5, "1 of 2 rows .* votes in t02_edgeon_a04_yes_count .*row 1"),
        ("t02_edgeon_a04_yes_count", -1, "no whole number of votes"),
        ("t02_edgeon_a04_yes_count", None, "no whole number of votes"),
        ("t02_edgeon_a04_yes_count", "many", "no whole number of votes"),
        ("dr7objid", 5.9e17, r"1 of 2 rows have no whole dr7objid \(first: row 1\); read identifiers as integers"),
    ],
)
def test_gz2_values_that_cannot_be(tmp_path, column, value, message):
    frame = hart_table().astype({column: object})
    frame.loc[1, column] = value
    frame.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(CatalogError, match=f"bad.csv: .*{message}"):
        read_gz2_votes(tmp_path / "bad.csv")


def test_gz2_with_a_column_missing(tmp_path):
    hart_table().drop(columns="t03_bar_a06_bar_count").to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(CatalogError, match=r"bad\.csv: no column t03_bar_a06_bar_count"):
        read_gz2_votes(tmp_path / "bad.csv")


def desi_table(**changes) -> pd.DataFrame:
    """One galaxy in columns as on Zenodo: votes, totals, fractions, and a question that is not of the tree."""
    frame = {"dr8_id": ["7_1"], "iauname": ["J1"], "ra": [10.0], "dec": [20.0]}
    frame |= {"smooth-or-featured_smooth": [3.0], "smooth-or-featured_featured-or-disk": [9.0]}
    frame |= {"smooth-or-featured_artifact": [0.0], "smooth-or-featured_total-votes": [12]}
    frame |= {"smooth-or-featured_smooth_fraction": [0.25], "bulge-size_obvious": [4], "anything-odd_yes": [1]}
    return pd.DataFrame({**frame, **changes})


def test_desi_votes_get_their_campaign(tmp_path):
    write_parquet(tmp_path / "votes.parquet", desi_table())
    votes = read_desi_votes(tmp_path / "votes.parquet", "dr12")
    assert votes.to_dict("list") == {
        "dr8_id": ["7_1"],
        "ra": [10.0],
        "dec": [20.0],
        "smooth-or-featured-dr12_smooth": [3],
        "smooth-or-featured-dr12_featured-or-disk": [9],
        "smooth-or-featured-dr12_artifact": [0],
        "bulge-size-dr12_obvious": [4],
    }


def test_combined_votes_are_a_row_for_each_galaxy(tmp_path):
    named = desi_table(dr8_id=["8_8"])
    unnamed = pd.concat(
        [desi_table(), desi_table(ra=[50.0]), desi_table(dec=[20.0 + 3.5 / 3600])], ignore_index=True
    ).drop(columns="dr8_id")
    for name, frame in (("dr8", named), ("dr5", unnamed), ("dr12", unnamed.iloc[2:])):
        write_parquet(tmp_path / f"{name}.parquet", frame)
    sky = pd.DataFrame({"dr8_id": ["9_9", "8_8"], "ra": [10.0, 10.0], "dec": [20.0 + 2.0 / 3600, 20.0 - 1.0 / 3600]})
    write_parquet(tmp_path / "friendly.parquet", sky)
    tables = [read_desi_votes(tmp_path / f"{name}.parquet", name) for name in ("dr8", "dr5", "dr12")]
    votes = combine_desi_votes(tables, tmp_path / "friendly.parquet")
    # 1" is nearer than 2"; the one 3.5" north is 1.5" from 9_9; nothing is near ra 50.
    assert votes["dr8_id"].fillna("").tolist() == ["8_8", "", "9_9"]
    assert votes["ra"].tolist() == [10.0, 50.0, 10.0]
    smooth = [f"smooth-or-featured-{campaign}_smooth" for campaign in ("dr8", "dr5", "dr12")]
    assert votes[smooth].to_numpy().tolist() == [[3, 3, 0], [0, 3, 0], [0, 3, 3]]
    assert votes["bulge-size-dr5_large"].tolist() == [0, 0, 0]  # an answer that nobody could give
    assert votes["bulge-size-dr12_obvious"].tolist() == [0, 0, 4]  # one of that campaign alone
    assert len(combine_desi_votes(tables)) == 5
