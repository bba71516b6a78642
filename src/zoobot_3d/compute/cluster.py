"""Where work is done: what ``--cluster`` means, and a Dask client for it.

Processes on this machine, a Dask scheduler that runs already, or jobs of SLURM. Knows nothing of the work; importing
this module imports no Dask.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoobot_3d.config.recipes import CLUSTER, recipe_file
from zoobot_3d.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client, Scheduler

__all__ = ["Place", "Workers", "active_cluster", "check_cluster", "open_cluster", "parse_cluster"]

ALLOWED_FAILURES = 0
"""Deaths of its worker that a task survives before `distributed` gives it up, on this machine.

On a cluster its default of 3 stays: machines go away there for reasons that are not the task's.
"""

CONNECT_TIMEOUT = 15.0
"""Seconds to wait for the answer of a scheduler that should be running already."""

_LONG = 60.0  # seconds after which a user wants to know that no job has started

_DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
"""Run by local workers: Ctrl-C reaches them too, and each would print its own traceback before it is stopped."""


@dataclass(frozen=True)
class Place:
    """Where to work.

    Attributes
    ----------
    kind : str
        local, address or slurm.
    processes : int
        How many on this machine; 0 is one a core.
    target : str
        Address of the scheduler, or YAML file for SLURM.
    """

    kind: Literal["local", "address", "slurm"]
    processes: int = 0
    target: str = ""


@dataclass(frozen=True)
class Workers:
    """Workers that can be sent tasks.

    Attributes
    ----------
    client : distributed.Client
        The way to them.
    slots : int
        Tasks that may run at a time, all told: where jobs still wait in a queue, as if they ran.
    tend : callable
        Keeps them going, and returns how many tasks can run at a time just now; to be called now and then.
    """

    client: Client
    slots: int
    tend: Callable[[], int]


def check_cluster(text: str) -> None:
    """Refuse a ``--cluster`` that cannot be used, before any work is done.

    Parameters
    ----------
    text : str
        ``local`` (one process a core), ``local:N``, ``tcp://host:port`` (a Dask scheduler that runs already) or
        ``slurm:FILE.yaml`` (jobs that are submitted as the file says).

    Raises
    ------
    ConfigError
        If it is none of these, or the file of a ``slurm:`` cannot be used.
    """
    place = parse_cluster(text)
    if place.kind == "slurm":
        _slurm_options(place.target)


def parse_cluster(text: str) -> Place:
    """Read a ``--cluster``; see `check_cluster` for what it may be.

    Raises
    ------
    ConfigError
        If it is nothing known.
    """
    if match := re.fullmatch(r"local(?::(\d+))?", text):
        if match[1] is None or int(match[1]) > 0:
            return Place("local", processes=int(match[1] or 0))
    elif re.fullmatch(r"tcp://[^\s/]+:\d{1,5}", text):
        return Place("address", target=text)
    elif text.startswith("slurm:") and len(text) > len("slurm:"):
        return Place("slurm", target=text.removeprefix("slurm:"))
    raise ConfigError(
        f"cluster {text!r} is not understood; use local, local:N (N processes), tcp://HOST:PORT or slurm:FILE.yaml"
    )


@contextlib.contextmanager
def open_cluster(place: Place, n_tasks: int) -> Iterator[Workers]:
    """Start or find workers; those started here are gone when the with-block ends.

    Parameters
    ----------
    place : Place
        Where.
    n_tasks : int
        How much there is to do: no more workers are started.

    Raises
    ------
    ConfigError
        If no scheduler answers, or SLURM or its options are not as they should be.
    """
    from distributed import Client

    with contextlib.ExitStack() as stack:
        # A scheduler that goes away is told by whoever waits for it, in one line.
        logger = logging.getLogger("distributed.client")
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        if place.kind == "address":
            try:
                client = stack.enter_context(Client(place.target, timeout=CONNECT_TIMEOUT, set_as_default=False))
            except OSError:
                raise ConfigError(
                    f"no Dask scheduler answers at {place.target}; start one with: dask scheduler --port PORT"
                ) from None
            slots, keep = 0, _nothing
        else:
            cluster, slots, keep = (_local if place.kind == "local" else _slurm)(place, n_tasks, stack)
            client = stack.enter_context(Client(cluster, set_as_default=False))

        def tend() -> int:
            keep()
            found = sum(client.nthreads().values())
            if not found and place.kind == "address":
                fix = f"start some with: dask worker {place.target} --nthreads 1"
                warnings.warn(f"no worker is at {place.target}; {fix}", stacklevel=2)
            return found

        yield Workers(client, slots or max(tend(), 1), tend)


@contextlib.contextmanager
def active_cluster(text: str) -> Iterator[None]:
    """Let whatever is computed with Dask in the with-block be computed there: for libraries that make their own tasks.

    Parameters
    ----------
    text : str
        See `check_cluster`.

    Raises
    ------
    ConfigError
        As `check_cluster` and `open_cluster`.
    """
    with open_cluster(parse_cluster(text), sys.maxsize) as workers, workers.client.as_current():
        yield


def _nothing() -> None:
    pass


_NO_PROFILE = "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False"
"""Dask looks at the frames of all threads 100 times a second, and up to Python 3.11.8 that can lock a process of some
threads for ever (github.com/python/cpython/issues/106883): it did, while fetching cutouts."""


def _local(place: Place, n_tasks: int, stack: contextlib.ExitStack) -> tuple[Any, int, Callable[[], None]]:
    import dask
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
        # Results go to files: a worker holds nothing that it could spill, so it would pause for ever.
        **{f"distributed.worker.memory.{key}": False for key in ("target", "spill", "pause")},
        "distributed.worker.profile.enabled": False,  # why: _NO_PROFILE
    }
    stack.enter_context(dask.config.set(settings))
    count = min(place.processes or CPU_COUNT, n_tasks)
    cluster = LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",  # None would mean port 8787, and a warning where that is taken
        scheduler_kwargs={"dashboard": False},
        preload=_DEAF,
        silence_logs=logging.CRITICAL,
    )
    # Dask replaces a process that died by itself.
    return stack.enter_context(cluster), count, _nothing


def _slurm(place: Place, n_tasks: int, stack: contextlib.ExitStack) -> tuple[Any, int, Callable[[], None]]:
    options = _slurm_options(place.target)
    from dask_jobqueue import SLURMCluster
    from distributed import SchedulerPlugin, Status

    jobs = min(options.pop("jobs"), math.ceil(n_tasks / options["cores"]))
    try:
        cluster = stack.enter_context(SLURMCluster(**options))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place.target}: {' '.join(str(error).split())}") from None

    arrived: set[str] = set()  # names of all workers that ever came, even for a moment

    class Arrivals(SchedulerPlugin):
        def add_worker(self, scheduler: Scheduler, worker: str) -> None:
            arrived.add(str(scheduler.workers[worker].name))

    async def watch() -> None:
        cluster.scheduler.add_plugin(Arrivals())

    def names_of(job: str) -> set[str]:
        return {f"{job}{suffix}" for suffix in cluster.worker_spec[job].get("group", [""])}

    async def submit() -> None:
        while len(cluster.worker_spec) < jobs:
            cluster.worker_spec.update(cluster.new_worker_spec())
        try:
            await cluster
        except RuntimeError:
            for job in cluster._created:  # closing the cluster would trip over a job that never was
                if job.status == Status.created:
                    job.status = Status.failed
            raise

    def keep() -> None:
        # Dask would never miss a job of several processes that its time limit, or somebody, has ended.
        names = {str(worker.name) for worker in list(cluster.scheduler.workers.values())}
        gone = [job for job in cluster.worker_spec if names_of(job) & arrived and not names_of(job) & names]
        if gone:
            arrived.difference_update(*map(names_of, gone))  # the next job may be called the same
            cluster.sync(cluster.scale_down, gone)
        try:
            cluster.sync(submit)
        except RuntimeError as error:
            warnings.warn(f"a job could not be submitted: {' '.join(str(error).split())}", stacklevel=2)
        if not names and time.monotonic() - started > _LONG:
            warnings.warn(
                f"no job of {place.target} has workers yet; look at squeue --me, and at what ended ones say in "
                f"{options.get('log_directory') or 'their output'}",
                stacklevel=2,
            )

    started = time.monotonic()
    cluster.sync(watch)
    try:
        cluster.sync(submit)
    except RuntimeError as error:
        raise ConfigError(f"{place.target}: no job could be submitted ({' '.join(str(error).split())})") from None
    return cluster, jobs * options["cores"], keep


def _slurm_options(path: str) -> dict[str, Any]:
    """Read the keywords of ``dask_jobqueue.SLURMCluster``, and ``jobs``, from YAML; check what can be checked here."""
    import yaml

    path = str(recipe_file(path, CLUSTER))
    if importlib.util.find_spec("dask_jobqueue") is None:
        raise ConfigError("slurm: needs dask-jobqueue; install it with: pip install 'zoobot-3d[slurm]'")
    if shutil.which("sbatch") is None:
        raise ConfigError(f"slurm:{path}: no command sbatch here; run this where jobs are submitted, or use local")
    try:
        options = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; write it with zoobot3d recipes slurm > {path} and fill in your queue"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(options, dict):
        raise ConfigError(f"{path}: holds no KEY: VALUE lines; zoobot3d recipes slurm shows what is needed")
    for key in ("jobs", "cores", "memory"):
        if key not in options:
            raise ConfigError(f"{path}: no key {key}; zoobot3d recipes slurm shows what is needed")
    for key in ("jobs", "cores"):
        if not isinstance(options[key], int) or options[key] < 1:
            raise ConfigError(f"{path}: {key} must be a whole number, 1 or more, not {options[key]!r}")
    # One process a core: a crash takes one shard with it, and no function has to be safe for threads.
    options.setdefault("processes", options["cores"])
    options["job_script_prologue"] = [_NO_PROFILE, *(options.get("job_script_prologue") or [])]
    # Any free port: two people on one login node would else be warned of each other's dashboard.
    options["scheduler_options"] = {"dashboard_address": ":0", **(options.get("scheduler_options") or {})}
    return options
