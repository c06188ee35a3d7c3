"""How many threads are taken, by whom they are limited, and that no more tasks run side by side than a plan allows."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
from dask.system import CPU_COUNT

import distnnd
from distnnd.runtime import threads as threads_module
from distnnd.runtime.cluster import DaskExecutor, _temporary, executor_for, local_machine, machine_memory, memory_of
from distnnd.runtime.events import silent
from distnnd.runtime.serial import SerialExecutor
from distnnd.runtime.threads import VARIABLES, in_turn, threads_available
from distnnd.values.budget import USABLE
from distnnd.values.plan import Job, Layout, Report, Stage, Task
from distnnd.values.spec import BuildSpec
from tests.conftest import clustered, graph_bytes
from tests.faces.command_line import run
from tests.test_floors import ROOT

MIB = 2**20


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight, and an environment that says nothing."""
    monkeypatch.setattr(threads_module, "CPU_COUNT", 8)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


# --- how many there are -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "named", "threads"),
    [
        ({}, None, 8),
        ({}, 3, 3),
        ({}, 100, 8),
        ({"OMP_NUM_THREADS": "1"}, None, 1),
        ({"NUMBA_NUM_THREADS": "2"}, None, 2),
        ({"OMP_NUM_THREADS": "4", "NUMBA_NUM_THREADS": "2"}, 3, 2),
        ({"OMP_NUM_THREADS": "4,2,1"}, None, 4),
        ({"OMP_NUM_THREADS": "64"}, None, 8),
        # What says no number says nothing.
        ({"OMP_NUM_THREADS": "", "NUMBA_NUM_THREADS": "many"}, None, 8),
        ({"OMP_NUM_THREADS": "0"}, None, 8),
    ],
)
def test_the_least_of_all_limits_holds(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: int | None, threads: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert threads_available(named) == threads
    assert distnnd.plan(np.zeros((30_000, 8), np.float32), threads_per_worker=named).threads == threads


@pytest.mark.parametrize("named", [0, -1, 1.5, "two", True])
def test_a_number_of_threads_that_cannot_be_meant_is_refused(named: Any) -> None:
    with pytest.raises(distnnd.SpecError, match="threads_per_worker"):
        distnnd.plan(np.zeros((100, 2), np.float32), threads_per_worker=named)
    with pytest.raises(distnnd.SpecError, match="threads_per_worker"):
        distnnd.build(np.zeros((100, 2), np.float32), threads_per_worker=named)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system ties no process to processors")
def test_a_process_that_is_tied_to_a_processor_has_one_thread() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import numpy, distnnd; print(distnnd.plan(numpy.zeros((30_000, 48), 'f4'), 10).threads)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == "1", done.stderr


def test_workers_of_our_own_have_a_thread_each_and_a_lone_task_those_of_all() -> None:
    assert (local_machine(None, 1).threads, local_machine(None, 1).alone) == (1, 1)
    assert (local_machine(None, 3).threads, local_machine(None, 3).alone) == (1, 3)
    assert (local_machine(None, 3, 2).threads, local_machine(None, 3, 2).alone) == (2, 6)
    assert local_machine(None, 9).alone == 8
    rows = np.zeros((30_000, 8), np.float32)
    assert distnnd.plan(rows, n_workers=3).threads == 3
    assert distnnd.plan(rows, n_workers=3, partitions=3).threads == 1
    assert distnnd.plan(rows, n_workers=3, partitions=3, threads_per_worker=2).threads == 2


# --- threads that are named, in both faces ----------------------------------------------------------------


def test_threads_that_do_not_fit_are_refused_only_where_they_were_named(tmp_path: Path) -> None:
    rows, limit = np.zeros((200_000, 64), np.float32), "300MiB"
    fitting = distnnd.plan(rows, memory_limit=limit).threads
    assert 1 <= fitting < 8
    for attempt in (distnnd.plan, distnnd.build):
        with pytest.raises(distnnd.BudgetError, match=f"on 8 threads. Set threads_per_worker={fitting}, or"):
            attempt(rows, memory_limit=limit, threads_per_worker=8)
    assert distnnd.plan(rows, memory_limit=limit, threads_per_worker=fitting).threads == fitting
    np.save(tmp_path / "x.npy", rows)
    asked = ("plan", tmp_path / "x.npy", "--memory-limit", limit, "--threads-per-worker")
    assert run(*asked, 8).code == 4
    assert f"threads_per_worker={fitting}" in run(*asked, 8).err
    assert run(*asked, fitting, "--json").json["threads"] == fitting
    assert run(*asked, 0).code == 2


def test_named_threads_build_the_same_graph(tmp_path: Path) -> None:
    rows = clustered(5000)
    one, two = (distnnd.build(rows, threads_per_worker=threads) for threads in (1, 2))
    assert graph_bytes(one) == graph_bytes(two)
    np.save(tmp_path / "x.npy", rows)
    done = run("build", tmp_path / "x.npy", tmp_path / "g", "--threads-per-worker", 2, "--quiet")
    assert done.code == 0, done.err
    assert graph_bytes(distnnd.open_graph(tmp_path / "g")) == graph_bytes(one)
    done = run("index", tmp_path / "g", tmp_path / "made", "--threads-per-worker", 1, "--quiet")
    assert done.code == 0, done.err
    assert run("resume", tmp_path / "g", "--threads-per-worker", 1).code == 0
    index = distnnd.build_index(one, tmp_path / "i", rows, threads_per_worker=1)
    assert (index.query(rows[:5], 1)[0][:, 0] == np.arange(5)).all()


# --- no more tasks at a time than were planned ------------------------------------------------------------


class Busy:
    """How many tasks are at work in this process, and were at most."""

    lock, now, most = threading.Lock(), 0, 0


def work(job: Job, task: Task) -> Report:
    """A stage that notes how many of its tasks run side by side."""
    with Busy.lock:
        Busy.now += 1
        Busy.most = max(Busy.most, Busy.now)
    time.sleep(0.1)
    with Busy.lock:
        Busy.now -= 1
    return Report({"most": Busy.most})


def a_job(**more: int) -> Job:
    return replace(Job("gate", BuildSpec(), Layout(10, 2, "float32", 10), {}, "", ""), **more)


def test_tasks_of_one_build_wait_for_each_other_and_not_for_those_of_another() -> None:
    Busy.most = 0
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda index: in_turn(work, 2, a_job(), Task("gate", 0, index)), range(12)))
    assert Busy.most == 2
    Busy.most = 0
    with ThreadPoolExecutor(6) as pool:
        jobs = [replace(a_job(), uuid=str(index % 3)) for index in range(12)]
        list(pool.map(lambda job: in_turn(work, 1, job, Task("gate", 0, 0)), jobs))
    assert 1 < Busy.most <= 3


def fail(job: Job, task: Task) -> Report:
    """A stage that fails."""
    raise RuntimeError("the disk is on fire")


def test_a_task_that_fails_lets_the_next_one_in() -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError):
            in_turn(fail, 1, a_job(), Task("gate", 0, 0))
    assert in_turn(work, 1, a_job(), Task("gate", 0, 0)).counters


@pytest.mark.parametrize(("slots", "room", "projected", "at_once"), [(4, 0, 10, 4), (4, 25, 10, 2), (4, 5, 10, 1)])
def test_a_worker_of_many_threads_runs_as_many_tasks_as_fit(
    slots: int, room: int, projected: int, at_once: int
) -> None:
    stage = Stage("gate", work, [Task("gate", 0, index) for index in range(12)], projected)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=4, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        reports = DaskExecutor(client).run(stage, a_job(slots=slots, room=room), silent)
    # A busy machine may start them one by one.
    assert min(at_once, 2) <= max(report.counters["most"] for report in reports) <= at_once


# --- whose memory it is -----------------------------------------------------------------------------------


def test_of_a_clients_workers_dask_leaves_a_part_and_the_users_limit_is_used_whole() -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=3, processes=True, memory_limit="2GiB", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        with executor_for(client) as executor:
            assert executor.threads == 3
            assert memory_of(executor, None) == (2048 * MIB, USABLE)
            assert memory_of(executor, 1024 * MIB) == (1024 * MIB, 1.0)
            assert memory_of(executor, 2000 * MIB) == (2048 * MIB, USABLE)
        with executor_for(client, threads=2) as executor:
            assert (executor.threads, executor.named) == (2, True)
        plan = distnnd.plan(np.zeros((100, 2), np.float32), client=client)
    assert "70% of a worker's memory is used, as Dask spills and pauses above that" in str(plan)


def thresholds(dask_worker: Any) -> tuple[Any, ...]:
    """At which shares of its limit a worker writes to disk, pauses, and how large the limit is."""
    manager = dask_worker.memory_manager
    return manager.memory_spill_fraction, manager.memory_pause_fraction, manager.memory_limit


def test_workers_of_our_own_have_the_whole_limit_that_their_plan_counts_on() -> None:
    with _temporary(1, 700 * MIB) as executor:
        assert memory_of(executor, 700 * MIB) == (700 * MIB, 1.0)
        assert list(executor.client.run(thresholds).values()) == [(False, False, 700 * MIB)]


def test_without_any_limit_a_share_of_the_machine_is_taken() -> None:
    assert memory_of(SerialExecutor(), None) == (machine_memory(), 1.0)
    assert local_machine(None, 3).memory == machine_memory() // 3
    assert CPU_COUNT >= 1
