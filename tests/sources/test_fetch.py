import json

import pandas as pd
import pytest

from zoobot_3d.compute.shards import Batch
from zoobot_3d.errors import BadFileError, ConfigError, FetchError
from zoobot_3d.sources.fetch import (
    FetchOptions,
    FetchSummary,
    count_reasons,
    fetch_each,
    fetch_shards,
    file_sizes,
    filling,
    read_ledger,
    remove_leftovers,
    write_failed,
    write_ledger,
)

COLUMNS = {"id": "str", "bytes": "int64"}
OPTIONS = FetchOptions(connections=2, rate=0)


# Options and summary


def test_workers_share_the_limits():
    options = FetchOptions(connections=8, rate=6.0, attempts=3)
    assert options.share(2) == FetchOptions(connections=4, rate=3.0, attempts=3)
    assert options.share(16).connections == 1  # a worker without one could do nothing
    assert FetchOptions(rate=0).share(4).rate == 0  # no limit stays none


@pytest.mark.parametrize("bad", [{"connections": 0}, {"attempts": 0}, {"rate": -1}, {"timeout": float("nan")}])
def test_impossible_options_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        FetchOptions(**bad)


def test_summary_names_counts_reasons_and_what_to_do(tmp_path):
    reasons = count_reasons(["b", "a", "b", *"cdefghij"])
    summary = FetchSummary(5, 7, 11, reasons, tmp_path / "failed.csv", tmp_path / "fetched.parquet", ("mind this",))
    lines = str(summary).splitlines()
    assert lines[0] == "mind this"
    assert lines[1] == "files: 5 fetched, 7 were there, 11 failed"
    assert lines[2:4] == ["  2 x b", "  1 x a"]
    assert "and 2 other reasons" in str(summary)
    assert "failed.csv; the same command takes it" in str(summary)
    assert "failed.csv" not in str(FetchSummary(1, 0, 0, {}, None, tmp_path / "fetched.parquet"))


# Ledger and failures


def test_ledger_does_not_depend_on_the_order_of_arrival(tmp_path):
    frame = pd.DataFrame({"id": ["b", "a", "c"], "bytes": [2, 1, 3], "other": [0, 0, 0]})
    write_ledger(tmp_path / "one.parquet", frame, COLUMNS)
    write_ledger(tmp_path / "two.parquet", frame.iloc[[2, 0, 1]].astype({"bytes": float}), COLUMNS)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    found = read_ledger(tmp_path / "one.parquet", COLUMNS)
    assert found.to_dict("list") == {"id": ["a", "b", "c"], "bytes": [1, 2, 3]}


def test_absent_ledger_is_empty_and_a_broken_one_is_named(tmp_path):
    empty = read_ledger(tmp_path / "fetched.parquet", COLUMNS)
    assert list(empty.columns) == ["id", "bytes"]
    assert len(empty) == 0
    (tmp_path / "fetched.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(BadFileError, match=r"fetched\.parquet: cannot be read.*delete it"):
        read_ledger(tmp_path / "fetched.parquet", COLUMNS)
    pd.DataFrame({"id": ["a"]}).to_parquet(tmp_path / "fetched.parquet")
    with pytest.raises(BadFileError, match=r"not a ledger of this version.*delete it"):
        read_ledger(tmp_path / "fetched.parquet", COLUMNS)


def test_failures_keep_the_rows_own_columns_and_vanish_with_the_last(tmp_path):
    path = tmp_path / "failed.csv"
    rows = pd.DataFrame({"dr8_id": ["1_2"], "ra": [0.1], "reason": ["of an earlier run"], "url": ["old"]})
    assert write_failed(path, rows, ["http://new"], ["404"]) == path
    assert path.read_text() == "dr8_id,ra,url,reason\n1_2,0.1,http://new,404\n"
    assert write_failed(path, rows.iloc[:0], [], []) is None
    assert not path.exists()


# The folder


def test_leftovers_go_but_what_can_be_resumed_stays(tmp_path):
    names = [".a.fits.gz.part", ".a.fits.gz.part.json", ".b.fits.gz.part", ".fetched.parquet.x7.part", "c.part", ".d"]
    for name in names:
        (tmp_path / name).write_bytes(b"12")
    assert file_sizes(tmp_path) == dict.fromkeys(names, 2)
    remove_leftovers(tmp_path, names, keep={"a.fits.gz"})
    assert set(file_sizes(tmp_path)) == {".a.fits.gz.part", ".a.fits.gz.part.json", "c.part", ".d"}
    assert file_sizes(tmp_path / "absent") == {}


def test_two_fetches_cannot_fill_one_folder(tmp_path):
    with (
        filling(tmp_path / "images"),
        pytest.raises(BadFileError, match="a fetch is running"),
        filling(tmp_path / "images"),
    ):
        pass
    assert not (tmp_path / "images").exists()  # nothing came into it
    with filling(tmp_path / "images"):
        pass
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadFileError, match="is a file, or lies in one"), filling(tmp_path / "file"):
        pass


# The work


def double(rows, *, options, calls, bad):
    """What `fetch_shards` runs: writes down that it was called."""
    with open(calls, "a") as file:  # noqa: PTH123
        file.write(json.dumps(list(rows["id"])) + "\n")

    def fetch(row, client):
        if row["id"] == bad:
            raise FetchError(row["url"], "answered 404")
        return {"twice": 2 * row["n"]}

    return fetch_each(rows, fetch, options)


def table(*ids):
    return pd.DataFrame({"id": list(ids), "url": [f"http://{one}" for one in ids], "n": range(len(ids))})


def shards(rows, folder, arguments):
    return fetch_shards(
        double,
        rows,
        folder,
        arguments,
        options=OPTIONS,
        batch=Batch("", "", shard_size=8, progress=False),
    )


def test_failure_of_a_row_is_recorded_and_the_others_go_on(tmp_path):
    with shards(table("a", "b", "c"), tmp_path, {"calls": str(tmp_path / "calls"), "bad": "b"}) as results:
        assert list(results["id"]) == ["a", "b", "c"]
        assert list(results["error"]) == [None, "answered 404", None]
        assert results["twice"][[0, 2]].tolist() == [0, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["calls"]


def test_shards_of_a_killed_run_count_for_the_same_request_only(tmp_path):
    arguments = {"calls": str(tmp_path / "calls"), "bad": ""}

    def die(arguments):
        with pytest.raises(KeyboardInterrupt), shards(table("a", "b"), tmp_path, arguments):
            raise KeyboardInterrupt

    def n_calls():
        return len((tmp_path / "calls").read_text().splitlines())

    die(arguments)
    die(arguments)
    assert n_calls() == 1  # the second found the first one's shard
    die({**arguments, "bad": "b"})
    assert n_calls() == 2
    die(arguments)
    assert n_calls() == 3  # the run between may have replaced the files that the first shard spoke of
    with shards(table(), tmp_path, arguments) as results:
        assert list(results.columns) == ["id", "error", "url"]
    assert [path.name for path in tmp_path.iterdir()] == ["calls"]


def test_error_that_is_not_of_a_row_ends_the_shard():
    def fetch(row, client):
        raise MemoryError

    with pytest.raises(MemoryError):
        fetch_each(table("a", "b"), fetch, OPTIONS)
