"""The Dask executor on real clusters, of threads and of processes: the same bytes as the serial loop, whatever dies."""

from __future__ import annotations

import os
import signal
import time
import warnings
from dataclasses import replace
from pathlib import Path

import dask
import dask.array
import distributed
import numpy as np
import pytest

import distnnd
from distnnd.runtime.cluster import DaskExecutor, _temporary, executor_for
from distnnd.runtime.events import TaskEnd, silent
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage.points import write_points
from distnnd.values.plan import Job, Layout, Report, Stage, Task
from distnnd.values.spec import BuildSpec
from tests.conftest import PROFILED, clustered, graph_bytes


@pytest.fixture
def stored(tmp_path, points) -> Path:
    """The points in a Zarr array."""
    write_points(tmp_path / "points.zarr", [points], n=len(points), d=points.shape[1], dtype="float32", chunk_rows=512)
    return tmp_path / "points.zarr"


@pytest.mark.parametrize("partitions", [1, 4])
def test_serial_threads_and_processes_give_the_same_bytes(tmp_path, stored, processes, cut, partitions):
    cut(partitions, 1024)
    serial = distnnd.build(stored, tmp_path / "serial", client=SerialExecutor())
    threads = distnnd.build(stored, tmp_path / "threads")
    workers = distnnd.build(stored, tmp_path / "processes", client=processes)
    assert graph_bytes(serial) == graph_bytes(threads) == graph_bytes(workers)


@pytest.mark.parametrize("n_workers", [None, 1])
def test_workers_of_our_own_are_not_profiled(n_workers):
    """Before 3.11.9 Python can lock up for good where threads are looked at while garbage is collected."""
    with dask.config.set({PROFILED: True}), _temporary(n_workers, None) as executor:
        (watched,) = executor.client.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks).values()
    assert not watched


def test_a_worker_that_dies_changes_nothing(tmp_path, stored, cut):
    cut(6, 512)
    wanted = distnnd.build(stored, tmp_path / "serial", client=SerialExecutor())
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        pids = list(client.run(os.getpid).values())
        killed: list[int] = []

        def kill_in_the_middle(event: object) -> None:
            if isinstance(event, TaskEnd) and event.stage == "local" and not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        graph = distnnd.build(stored, tmp_path / "killed", client=client, progress=kill_in_the_middle)
    assert killed
    assert graph_bytes(graph) == graph_bytes(wanted)


def test_arrays_of_this_process_reach_other_processes(tmp_path, points, processes):
    wanted = distnnd.build(points, client=SerialExecutor())
    lazy = dask.array.from_array(points, chunks=(1000, 7))
    for name, source in (("numpy", points), ("dask", lazy)):
        graph = distnnd.build(source, tmp_path / name, client=processes)
        assert graph_bytes(graph) == graph_bytes(wanted)
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(name)) == [name]


def test_a_dask_array_in_this_process(tmp_path, points):
    lazy = dask.array.from_array(points.astype(np.float64), chunks=(1700, -1))
    graph = distnnd.build(lazy, tmp_path / "g")
    assert graph_bytes(graph) == graph_bytes(distnnd.build(points, client=SerialExecutor()))


def test_one_partition_needs_no_cluster_and_several_get_one(tmp_path, points, cut, monkeypatch):
    made: list[distributed.LocalCluster] = []
    ordinary = distributed.LocalCluster

    def noted(*arguments, **settings):
        made.append(ordinary(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(distributed, "LocalCluster", noted)
    distnnd.build(points, tmp_path / "whole")
    assert not made
    cut(3, 2048)
    graph = distnnd.build(points, tmp_path / "cut")
    assert [cluster.status.name for cluster in made] == ["closed"]
    assert graph_bytes(graph) == graph_bytes(distnnd.build(points, client=SerialExecutor()))


def test_what_is_passed_in_stays_open_and_nothing_global_is_set(stored, processes):
    distnnd.build(stored, client=processes)
    assert processes.status == "running"
    distnnd.build(stored, client=processes.scheduler.address)
    assert processes.submit(lambda: 1).result() == 1
    with pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()


def test_the_current_client_is_used(stored, processes):
    with processes.as_current(), executor_for() as executor:
        assert executor.client is processes


def test_what_is_no_client_is_refused():
    with pytest.raises(distnnd.SpecError, match="client must be"), executor_for(42):
        pass


def a_job() -> Job:
    """A job for stages that do not look at it."""
    return Job("test", BuildSpec(), Layout(10, 2, "float32", 10), {}, "", "")


def add_one(job: Job, task: Task) -> Report:
    """A stage that counts."""
    return Report({"sum": task.index + 1})


def fail_at_three(job: Job, task: Task) -> Report:
    """A stage that fails in its fourth task."""
    if task.index == 3:
        raise RuntimeError("the disk is on fire")
    time.sleep(0.01)
    return Report()


def fail_first_and_write_late(job: Job, task: Task) -> Report:
    """A stage whose first task fails while the second is at work."""
    if task.index == 0:
        raise RuntimeError("the disk is on fire")
    time.sleep(0.7)
    Path(job.scratch).touch()
    return Report()


def stopped_in_a_kernel(job: Job, task: Task) -> Report:
    """A stage whose task meets a signal as it calls compiled code, which says so once or, mostly, twice."""
    said = SystemError("CPUDispatcher returned a result with an exception set")
    said.__cause__ = KeyboardInterrupt()
    if task.arguments["twice"]:
        raise SystemError("CPUDispatcher returned a result with an exception set") from said
    raise said


def die(job: Job, task: Task) -> Report:
    """A stage that takes its worker with it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Report()


@pytest.mark.parametrize("tasks", [0, 1, 50])
def test_reports_come_in_the_order_of_the_tasks(processes, tasks):
    stage = Stage("add", add_one, [Task("add", 0, index) for index in range(tasks)], 0)
    reports = DaskExecutor(processes).run(stage, a_job(), silent)
    assert [report.counters["sum"] for report in reports] == list(range(1, tasks + 1))


def test_the_window_bounds_what_is_in_flight(processes):
    flying: list[int] = []
    executor = DaskExecutor(processes)

    def listen(event: object) -> None:
        if isinstance(event, TaskEnd):
            flying.append(len(processes.futures))

    stage = Stage("window", add_one, [Task("window", 0, index) for index in range(40)], 0)
    executor.run(stage, a_job(), listen)
    assert max(flying) <= 4 + 1
    assert not processes.futures


def test_a_failing_task_says_which(processes):
    stage = Stage("burn", fail_at_three, [Task("burn", 0, index) for index in range(8)], 0)
    with pytest.raises(distnnd.StageError, match=r"task 3 of stage burn failed: RuntimeError\('the disk is on fire'\)"):
        DaskExecutor(processes).run(stage, a_job(), silent)


@pytest.mark.parametrize("twice", [False, True])
def test_a_signal_that_meets_a_kernel_is_no_failure(serial, twice):
    with pytest.raises(KeyboardInterrupt):
        serial.run(Stage("stopped", stopped_in_a_kernel, [Task("stopped", 0, 0, {"twice": twice})], 0), a_job(), silent)


def test_nobody_is_at_work_any_more_after_a_failure(tmp_path, processes):
    stage = Stage("late", fail_first_and_write_late, [Task("late", 0, index) for index in range(2)], 0)
    job = replace(a_job(), scratch=str(tmp_path / "late"))
    with pytest.raises(distnnd.StageError, match="task 0 of stage late"):
        DaskExecutor(processes).run(stage, job, silent)
    assert (tmp_path / "late").exists()


@pytest.mark.long
def test_a_task_that_kills_every_worker_is_explained():
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        stage = Stage("die", die, [Task("die", 0, 0)], 10 * 2**20)
        with pytest.raises(distnnd.StageError, match=r"lost its worker several times; it was .* take 10\.0 MiB"):
            DaskExecutor(client).run(stage, a_job(), silent)


def test_two_worker_processes_of_our_own(stored):
    graph = distnnd.build(stored, n_workers=2)
    assert graph_bytes(graph) == graph_bytes(distnnd.build(clustered(6000), client=SerialExecutor()))
