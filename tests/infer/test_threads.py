"""Threads of the engines: the cores that a process may use, not those of the machine."""

import os

import pytest

from zoobot_3d.engines.threads import usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("9000000 100000", 8), ("", 8), ("1 0", 8)],
)
def test_the_quota_of_a_container_counts(quota, cores, tmp_path):
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == cores


@pytest.mark.parametrize(
    ("wished", "cores"), [("2", 2), ("2,1", 2), ("64", 8), ("0", 1), ("", 8), ("many", 8), ("-3", 8)]
)
def test_omp_num_threads_lowers_it(wished, cores, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", wished)
    assert usable_cores(tmp_path / "no such file") == cores
