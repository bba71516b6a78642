"""The functions that workers run stand at the top: worker processes import this module."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dask_workers import PATIENCE, scheduler_with_two_workers
from zoobot_3d.compute import shards as parallel
from zoobot_3d.compute.progress import row_done, somebody_watches
from zoobot_3d.compute.shards import Batch, check_cluster
from zoobot_3d.config.recipes import CLUSTER, recipe_file
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.io import write_parquet

EXAMPLE = recipe_file("slurm", CLUSTER)
HERE = Path(__file__).parent
IMPORTABLE = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])  # this file, by workers


def sharded(function, table, work, *, key="", options=None, id_column="id", **batch):
    """As the real one, with the parts of `Batch` by their names."""
    return parallel.sharded(function, table, work, key=key, options=options, batch=Batch(**batch), id_column=id_column)


def square(rows: pd.DataFrame, folder: str = "", slots: int = 1) -> pd.DataFrame:
    """The squares; notes in `folder` every time that it runs on a row."""
    for name in rows["id"]:
        if folder:
            (Path(folder) / f"{name}.{uuid.uuid4().hex}").touch()
    return pd.DataFrame({"id": rows["id"], "square": rows["id"] ** 2, "slots": slots, "error": [None] * len(rows)})


def square_and_hang(rows: pd.DataFrame, folder: str, fifo: str, hang_at: int) -> pd.DataFrame:
    """As `square`, but the first time at row `hang_at` it tells its process id to the fifo and never comes back."""
    first = Path(fifo).with_suffix(".met")
    if hang_at in set(rows["id"]) and not first.exists():
        first.touch()
        Path(fifo).write_text(str(os.getpid()))  # waits for the reader
        threading.Event().wait()
    return square(rows, folder)


def square_or_die(rows: pd.DataFrame, folder: str = "", slots: int = 1) -> pd.DataFrame:
    if 5 in set(rows["id"]):
        os._exit(1)
    return square(rows, folder, slots)


def square_or_raise(rows: pd.DataFrame, folder: str, bad: int) -> pd.DataFrame:
    if bad in set(rows["id"]):
        raise BadFileError("galaxy.fits", "truncated", "download it again")
    return square(rows, folder)


def disown(rows: pd.DataFrame, work: str) -> pd.DataFrame:
    """Make the working folder look like another one that has the same path."""
    (Path(work) / "owner").write_text("somebody else")
    return square(rows)


def square_and_tell(rows: pd.DataFrame) -> pd.DataFrame:
    """As `square`, with whether Dask's profiler looks at this process."""
    from distributed import get_worker

    return square(rows).assign(watched="profile" in get_worker().periodic_callbacks)


def ids(n: int) -> pd.DataFrame:
    return pd.DataFrame({"id": range(n)})


def runs(folder: Path) -> dict[int, int]:
    """How many times each row ran."""
    return pd.Series([int(path.name.split(".")[0]) for path in folder.iterdir()], dtype=int).value_counts().to_dict()


def wait_gone(pid_fd: int) -> bool:
    try:
        return bool(select.select([pid_fd], [], [], PATIENCE)[0])
    finally:
        os.close(pid_fd)


def wait_until_none_is_left(session: int) -> None:
    """Wait for the processes of a session that are about to end; those that do not are a failure."""
    for process in children(session):
        with contextlib.suppress(ProcessLookupError):
            assert wait_gone(os.pidfd_open(process))
    assert not children(session)


def hear(fifo: Path) -> int:
    """What `square_and_hang` says."""
    end = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert select.select([end], [], [], PATIENCE)[0], "no worker came to the row"
        return int(os.read(end, 100))
    finally:
        os.close(end)


def children(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "ran"
    path.mkdir()
    return path


# In this process


def test_results_come_in_order_and_the_working_folder_goes(tmp_path):
    table = pd.DataFrame({"id": [3, 1, 2]}, index=[7, 7, 9])
    options = lambda slots: {"slots": slots}  # noqa: E731
    with sharded(square, table, tmp_path / "deep/work", options=options, progress=False) as frame:
        assert list((tmp_path / "deep/work").glob("part-*.parquet"))
        assert frame["id"].tolist() == [3, 1, 2]
        assert frame["square"].tolist() == [9, 1, 4]
        assert frame["slots"].tolist() == [1, 1, 1]
        assert frame["error"].tolist() == [None, None, None]
    assert not (tmp_path / "deep/work").exists()


def test_no_dask_is_imported_for_little_work(tmp_path):
    code = """
import sys, pandas as pd
from zoobot_3d.compute.shards import Batch, check_cluster, sharded
def same(rows): return rows.assign(error=None)
with sharded(same, pd.DataFrame({"id": [1]}), sys.argv[1], batch=Batch(progress=False)) as frame: assert len(frame) == 1
assert not {"dask", "distributed", "dask_jobqueue"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "work")], check=True, timeout=PATIENCE)


def square_one_by_one(rows: pd.DataFrame) -> pd.DataFrame:
    for number in range(len(rows)):
        row_done()
        print("watched" if somebody_watches() else "not watched", number)
    return rows.assign(error=None)


def test_rows_of_a_single_shard_are_counted_as_they_are_done(tmp_path, monkeypatch, capsys):
    counts = []

    @contextlib.contextmanager
    def bar(*args, **options):
        yield counts.append

    monkeypatch.setattr("zoobot_3d.compute.shards.progress_bar", bar)
    with sharded(square_one_by_one, ids(3), tmp_path, progress=True):
        pass
    assert counts == [0, 1, 1, 1, 0]  # there before; each row; what is left of the shard
    counts.clear()
    with sharded(square_one_by_one, ids(3), tmp_path, progress=False):
        pass
    assert counts == [0, 3]
    assert capsys.readouterr().out.split("\n")[::3] == ["watched 0", "not watched 0", ""]


def test_a_part_that_is_there_is_not_made_again(tmp_path, folder):
    three = ids(3)

    def call(table=three, key="", function=square):
        with (
            pytest.raises(KeyError, match="later"),
            sharded(function, table, tmp_path / "work", key=key, options={"folder": str(folder)}, progress=False),
        ):
            raise KeyError("later")

    call()
    call()
    assert runs(folder) == {0: 1, 1: 1, 2: 1}
    call(key="another key")
    assert runs(folder) == {0: 2, 1: 2, 2: 2}
    call(table=ids(3).astype(float))
    call(table=ids(3).assign(more=["a", "b", "c"]))
    call(table=ids(3).assign(more=["a", "b", "d"]))
    call(function=square_or_die)
    assert len(list((tmp_path / "work").glob("part-*"))) == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([np.arange(5000.0)], [np.where(np.arange(5000) == 2500, -1.0, np.arange(5000.0))]),
        ([1], ["1"]),
        ([None], ["None"]),
        ([{"a": 1}], [{"a": 2}]),
    ],
)
def test_parts_know_cells_that_are_objects(one, other):
    def name(cells):
        return parallel._Names("f", pd.DataFrame({"x": pd.Series(cells, dtype=object)}))[0, 1]

    assert name(one) == name(list(one))
    assert name(one) != name(other)


def test_leftovers_are_removed_and_the_files_of_others_stay(tmp_path):
    (tmp_path / ".part-0.parquet.x1.part").touch()
    (tmp_path / "part-0.parquet").touch()  # of another key
    (tmp_path / "notes.txt").touch()
    with sharded(square, ids(2), tmp_path, progress=False):
        assert not (tmp_path / ".part-0.parquet.x1.part").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with (
        sharded(square, ids(2), tmp_path, progress=False),
        pytest.raises(BadFileError, match=r"another command is running in this folder.*; wait until it ends"),
        sharded(square, ids(2), tmp_path, progress=False),
    ):
        pass


def test_a_damaged_part_is_removed_and_named(tmp_path):
    with contextlib.suppress(KeyError), sharded(square, ids(2), tmp_path, progress=False):
        raise KeyError
    (part,) = tmp_path.glob("part-*")
    part.write_bytes(part.read_bytes()[:100])
    again = sharded(square, ids(2), tmp_path, progress=False)
    with pytest.raises(BadFileError, match=f"{part.name}.*run the same command again"), again:
        pass
    with sharded(square, ids(2), tmp_path, progress=False) as frame:
        assert len(frame) == 2


def test_an_exception_comes_out_as_it_is_with_a_note_on_the_rows(tmp_path, folder):
    call = sharded(square_or_raise, ids(5), tmp_path, options={"folder": str(folder), "bad": 2}, progress=False)
    with pytest.raises(BadFileError, match="truncated; download it again") as caught, call:
        pass
    assert caught.value.__notes__ == ["in square_or_raise for 0, 1, 2, ..."]


@pytest.mark.parametrize(
    ("result", "kind", "message"),
    [
        ({"id": [0, 1]}, TypeError, "returned no column error"),
        ({"name": [0, 1], "error": None}, TypeError, "returned no column id"),
        ({"id": [0, 0], "error": None}, ValueError, "returned no row for 1"),
    ],
)
def test_a_function_that_keeps_no_promise_is_named(tmp_path, result, kind, message):
    with pytest.raises(kind, match=message), sharded(lambda rows: pd.DataFrame(result), ids(2), tmp_path):
        pass


def test_an_empty_table_gives_an_empty_frame(tmp_path):
    with sharded(square, ids(0), tmp_path / "work", cluster="local:2", progress=False) as frame:
        assert frame.empty
        assert list(frame) == ["id", "error"]


def test_a_table_without_the_column_is_refused(tmp_path):
    with (
        pytest.raises(CatalogError, match="no column dr8_id; it has id"),
        sharded(square, ids(2), tmp_path, id_column="dr8_id"),
    ):
        pass


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.filterwarnings("error")
def test_types_do_not_depend_on_how_shards_are_cut(tmp_path, size):
    whole = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d", "e", "f", "g", "h"],
            "number": pd.Series([None, None, 2, 3, None, None, 4, 5], dtype=object),
            "fraction": [np.nan, np.nan, 0.5, 1.0, np.nan, np.nan, np.nan, 2.0],
            "text": [None, None, "x", None, None, None, None, "y"],
            "flag": [None, None, True, False, None, None, None, None],
            "list": [None, None, None, None, None, [1, 2], [3], []],
            "never": [None] * 8,
            "error": [None, None, None, None, "no such file", None, None, None],
        }
    )
    parts = []
    for start in range(0, 8, size):
        rows = whole.iloc[start : start + size]
        parts.append(tmp_path / f"{start}.parquet")
        # As a function that knows only its rows would make it: types are inferred anew.
        write_parquet(parts[-1], pd.DataFrame(rows.to_dict(orient="list")))
    frame = parallel._together(parts, "id")
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert kinds["number"] == kinds["fraction"] == "float64"
    assert kinds["id"] == kinds["text"] == str(pd.Series(["x"]).dtype)
    assert kinds["flag"] == kinds["never"] == kinds["error"] == "object"
    assert frame["number"].tolist()[2:4] == [2, 3]
    assert frame["error"].tolist() == [*[None] * 4, "no such file", *[None] * 3]
    assert frame["flag"].tolist() == whole["flag"].tolist()
    assert frame["list"].tolist()[5].tolist() == [1, 2]
    assert list(frame) == list(whole)


@pytest.mark.parametrize("where", ["here", "before"])
def test_groups_are_shards_and_each_is_told_when_it_is_there(tmp_path, where):
    table = pd.DataFrame({"id": [1, 2, 3, 4, 5], "sky": [7, 7, 9, 9, 7]})
    told = []

    def finished(rows, results):
        assert list(results["square"]) == [name**2 for name in rows["id"]]
        told.append(list(rows["id"]))

    def call(finished):
        batch = Batch(groups="sky", progress=False, cluster="local:1")
        return parallel.sharded(square, table, tmp_path / "work", batch=batch, finished=finished)

    if where == "before":
        with contextlib.suppress(KeyError), call(None):
            raise KeyError
    with call(finished) as frame:
        assert frame["id"].tolist() == [1, 2, 3, 4, 5]
    assert sorted(told) == [[1, 2], [3, 4], [5]]


# On processes of this machine


@pytest.mark.slow  # worker processes are replaced three times, and the work waits for them
def test_a_row_that_kills_its_worker_costs_only_itself(tmp_path, folder):
    table = pd.concat([ids(10), ids(4)])  # rows 0-3 are there twice, as one shard
    options = lambda slots: {"folder": str(folder), "slots": slots}  # noqa: E731
    with sharded(
        square_or_die, table, tmp_path / "work", options=options, cluster="local:2", shard_size=4, progress=False
    ) as frame:
        assert frame["id"].tolist() == [*range(10), *range(4)]
        assert frame["error"].map(str).tolist() == [
            "the worker process died on it" if row == 5 else "None" for row in [*range(10), *range(4)]
        ]
        good = frame[frame["id"] != 5]
        assert (good["square"] == good["id"] ** 2).all()
        assert (good["slots"] == 2).all()
    assert set(runs(folder)) == set(range(10)) - {5}
    assert not (tmp_path / "work").exists()


def test_an_exception_waits_for_the_other_shards(tmp_path, folder):
    def call(bad):
        options = {"folder": str(folder), "bad": bad}
        return sharded(square_or_raise, ids(8), tmp_path / "work", options=options, cluster="local:1", shard_size=2)

    with pytest.raises(BadFileError, match=r"galaxy\.fits: truncated") as caught, call(3):
        pass
    assert caught.value.__notes__ == ["in square_or_raise for 2, 3"]
    assert runs(folder) == dict.fromkeys([0, 1, 4, 5, 6, 7], 1)
    with call(None) as frame:
        assert frame["square"].tolist() == [row**2 for row in range(8)]
    assert runs(folder) == dict.fromkeys(range(8), 1)


@contextlib.contextmanager
def drive(tmp_path: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that works on 40 rows and hangs at row 21."""
    code = """
import json, signal, sys
from test_shards import ids, sharded, square_and_hang
def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests started in the background may ignore it
    work, out, options = sys.argv[1:]
    with sharded(square_and_hang, ids(40), work, options=json.loads(options), cluster="local:2", shard_size=4,
                 progress=False) as frame:
        frame.to_csv(out, index=False)
if __name__ == "__main__":
    main()
"""
    script = tmp_path / "drive.py"
    script.write_text(code)
    options = json.dumps({"folder": str(folder), "fifo": str(tmp_path / "fifo"), "hang_at": 21})
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "work", tmp_path / "out.csv", options],
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": IMPORTABLE},
        stderr=subprocess.PIPE,
    ) as run:
        try:
            yield run
        finally:
            run.kill()  # where the test failed; it has ended otherwise


@pytest.mark.slow  # starts two processes twice, one after another
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_no_process_and_goes_on(tmp_path, folder, how):
    os.mkfifo(tmp_path / "fifo")
    with drive(tmp_path, folder) as run:
        worker = os.pidfd_open(hear(tmp_path / "fifo"))
        # Ctrl-C reaches every process of the terminal, kill -9 the one that it is sent to.
        (os.kill if how == signal.SIGKILL else os.killpg)(run.pid, how)
        assert run.wait(PATIENCE) != 0
        assert run.stderr is not None
        assert wait_gone(worker)
        wait_until_none_is_left(run.pid)
        assert b"Nanny" not in run.stderr.read()  # workers say nothing about being stopped
    done = [row for part in (tmp_path / "work").glob("part-*") for row in pd.read_parquet(part)["id"]]
    with drive(tmp_path, folder) as run:
        assert run.wait(PATIENCE) == 0
    frame = pd.read_csv(tmp_path / "out.csv")
    assert frame["id"].tolist() == list(range(40))
    assert (frame["square"] == frame["id"] ** 2).all()
    assert frame["error"].isna().all()
    assert {row: runs(folder)[row] for row in done} == dict.fromkeys(done, 1)
    assert not (tmp_path / "work").exists()


# On a scheduler that runs already


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Address of a scheduler with two workers."""
    with scheduler_with_two_workers(tmp_path_factory.mktemp("scheduler"), IMPORTABLE) as address:
        yield address


def test_a_folder_that_workers_do_not_see_is_named(tmp_path, scheduler):
    call = sharded(
        disown, ids(40), tmp_path, options={"work": str(tmp_path)}, cluster=scheduler, shard_size=1, progress=False
    )
    with pytest.raises(ConfigError, match=f"^{tmp_path}: the worker on .* does not see this folder.*share"), call:
        pass


def test_a_worker_killed_in_the_middle_loses_nothing(tmp_path, scheduler, folder):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    killed = []

    def kill():
        killed.append(hear(fifo))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    options = {"folder": str(folder), "fifo": str(fifo), "hang_at": 50}
    with sharded(
        square_and_hang, ids(200), tmp_path / "work", options=options, cluster=scheduler, shard_size=4, progress=False
    ) as frame:
        killer.join(PATIENCE)
        assert killed
        assert frame["id"].tolist() == list(range(200))
        assert frame["square"].tolist() == [row**2 for row in range(200)]
        assert frame["error"].isna().all()
    assert set(runs(folder)) == set(range(200))


def test_a_scheduler_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("zoobot_3d.compute.cluster.CONNECT_TIMEOUT", 0.5)
    with (
        pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9; start one with"),
        sharded(square, ids(2), tmp_path, cluster="tcp://127.0.0.1:9", progress=False),
    ):
        pass


# What --cluster may be


@pytest.mark.parametrize("text", ["local", "local:1", "local:64", "tcp://10.0.0.1:8786", "tcp://login.cluster:40001"])
def test_known_clusters_are_accepted(text):
    check_cluster(text)


@pytest.mark.parametrize(
    "text",
    ["", "Local", "local:", "local:0", "local:-1", "local:two", "tcp://host", "http://host:80", "slurm", "slurm:"],
)
def test_unknown_clusters_are_refused_with_what_there_is(text, tmp_path):
    with pytest.raises(ConfigError, match=r"use local, local:N .*, tcp://HOST:PORT or slurm:FILE\.yaml"):
        check_cluster(text)
    with pytest.raises(ConfigError, match="not understood"), sharded(square, ids(2), tmp_path / "work", cluster=text):
        pass
    assert not (tmp_path / "work").exists()


# On SLURM


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Our YAML with what a test needs in it, and an sbatch and scancel that run jobs as processes of this machine."""
    commands = {
        "sbatch": f'cp "$1" {tmp_path}/job-$$.sh; setsid bash {tmp_path}/job-$$.sh > {tmp_path}/job-$$.log 2>&1 &\n'
        f"echo $! >> {tmp_path}/jobs.txt; echo Submitted batch job $!",
        "scancel": 'kill -9 -- "-$1"',
    }
    for name, command in commands.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{command}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", IMPORTABLE)
    options = yaml.safe_load(EXAMPLE.read_text())
    options |= {"jobs": 1, "cores": 2, "memory": "2GiB", "interface": "lo", "log_directory": str(tmp_path / "logs")}
    path = tmp_path / "slurm.yaml"
    path.write_text(yaml.safe_dump(options))
    return path


def test_workers_are_not_watched_by_the_profiler_that_locks_python_3_11(tmp_path):
    with sharded(square_and_tell, ids(2), tmp_path / "work", cluster="local:1", shard_size=1, progress=False) as found:
        assert not found["watched"].any()


def test_the_example_is_what_the_job_script_says(slurm):
    from dask_jobqueue import SLURMCluster

    from zoobot_3d.compute.cluster import _slurm_options

    options = _slurm_options(str(EXAMPLE))
    assert options.pop("jobs") == 4
    # Its log directory would be made here.
    with SLURMCluster(**options | {"interface": "lo", "log_directory": None}) as cluster:
        script = cluster.job_script()
    for line in (
        "#SBATCH -p compute",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=16G",
        "#SBATCH -t 02:00:00",
        "#SBATCH --job-name=zoobot3d",
        "export OMP_NUM_THREADS=1",
        "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False",
    ):
        assert line in script.splitlines()
    assert f"{sys.executable} -m distributed.cli.dask_worker tcp://127.0.0.1:" in script
    assert "--nthreads 1 --memory-limit 2.00GiB --nworkers 8 --nanny" in script
    assert "--lifetime=110m" in script


def test_a_job_with_a_gpu_is_one_process(slurm):
    """As docs/cluster.md says."""
    from dask_jobqueue import SLURMCluster

    from zoobot_3d.compute.cluster import _slurm_options

    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    (block,) = (text.partition("```")[0] for text in page.split("```yaml\n")[1:])
    slurm.write_text(yaml.safe_dump(yaml.safe_load(EXAMPLE.read_text()) | yaml.safe_load(block)))
    options = _slurm_options(str(slurm))
    assert options.pop("jobs") == 8
    with SLURMCluster(**options | {"interface": "lo", "log_directory": None}) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -n 1", "#SBATCH --cpus-per-task=8", "#SBATCH --gpus-per-task=1", "#SBATCH -p gpu"):
        assert line in script.splitlines()
    assert " --nthreads 1 --memory-limit 32.00GiB --nanny" in script and "--nworkers" not in script


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jobs": None}, "jobs must be a whole number, 1 or more, not None"),
        ({"cores": "8"}, "cores must be a whole number"),
        ({"partition": "compute"}, "unexpected keyword argument 'partition'"),
    ],
)
def test_a_wrong_key_for_slurm_is_named(tmp_path, slurm, change, message):
    slurm.write_text(yaml.safe_dump(yaml.safe_load(slurm.read_text()) | change))
    with (
        pytest.raises(ConfigError, match=f"^{slurm}: .*{message}"),
        sharded(square, ids(2), tmp_path / "work", cluster=f"slurm:{slurm}", progress=False),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"slurm\.yaml: No such file or directory; write it with zoobot3d recipes slurm > .*slurm\.yaml"),
        ("- jobs", "holds no KEY: VALUE lines"),
        ("jobs: [", "not YAML"),
        ("jobs: 1\ncores: 2", "no key memory; zoobot3d recipes slurm"),
    ],
)
def test_a_file_that_is_no_slurm_yaml_is_refused(slurm, text, message):
    slurm.unlink() if text is None else slurm.write_text(text)
    with pytest.raises(ConfigError, match=message):
        check_cluster(f"slurm:{slurm}")


def test_slurm_without_its_library_or_its_commands_is_refused(slurm, monkeypatch):
    check_cluster(f"slurm:{slurm}")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(slurm.parent))
        with pytest.raises(ConfigError, match="no command sbatch here; run this where jobs are submitted"):
            check_cluster(f"slurm:{slurm}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'zoobot-3d\[slurm\]'"):
        check_cluster(f"slurm:{slurm}")


def test_a_queue_that_takes_no_job_is_named_by_its_own_words(tmp_path, slurm):
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/bash\necho invalid partition >&2; exit 1\n")
    with (
        pytest.raises(ConfigError, match=f"^{slurm}: no job could be submitted .*invalid partition"),
        sharded(square, ids(2), tmp_path / "work", cluster=f"slurm:{slurm}", progress=False),
    ):
        pass


@pytest.mark.slow  # starts the two processes of a job, and those of the job that replaces it
def test_a_job_that_its_time_limit_ends_is_submitted_again(tmp_path, slurm, folder, monkeypatch):
    import dask

    # The job is gone before anybody has looked at it.
    monkeypatch.setattr(parallel, "_PATIENCE", 15.0)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def end_the_job():
        hear(fifo)
        os.killpg(int((tmp_path / "jobs.txt").read_text()), signal.SIGKILL)
        monkeypatch.setattr(parallel, "_PATIENCE", 1.0)

    killer = threading.Thread(target=end_the_job, daemon=True)
    killer.start()
    options = {"folder": str(folder), "fifo": str(fifo), "hang_at": 21}
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}),
        sharded(
            square_and_hang,
            ids(40),
            tmp_path / "work",
            options=options,
            cluster=f"slurm:{slurm}",
            shard_size=4,
            progress=False,
        ) as frame,
    ):
        killer.join(PATIENCE)
        assert frame["id"].tolist() == list(range(40))
        assert frame["square"].tolist() == [row**2 for row in range(40)]
        assert frame["error"].isna().all()
    jobs = (tmp_path / "jobs.txt").read_text().split()
    assert len(jobs) == 2
    for job in jobs:
        wait_until_none_is_left(int(job))
