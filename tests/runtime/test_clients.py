"""Clients that cannot be used are refused at once, a scheduler that is gone is named, and no call waits for itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest

import distnnd
from distnnd.runtime import clients
from distnnd.runtime.events import TaskEnd
from tests.conftest import clustered, graph_bytes
from tests.test_floors import ROOT

LOOPBACK = {"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """200 rows of five numbers."""
    return clustered(200, 5)


@pytest.fixture(scope="module")
def wanted(rows: np.ndarray) -> bytes:
    """Their graph."""
    return graph_bytes(distnnd.build(rows, None, 5))


@pytest.fixture
def in_process() -> Iterator[distributed.LocalCluster]:
    """A cluster of one worker with two threads in this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


def every_call(tmp_path: Path, rows: np.ndarray) -> dict[str, Callable[..., Any]]:
    """All that takes a client or starts workers."""
    graph = distnnd.build(rows, tmp_path / "g", 5)
    return {
        "build": lambda **how: distnnd.build(rows, tmp_path / "new", 5, **how),
        "plan": lambda **how: distnnd.plan(rows, 5, **how),
        "build_index": lambda **how: distnnd.build_index(graph, tmp_path / "new", rows, **how),
    }


# --- what cannot be meant --------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["build", "plan", "build_index"])
@pytest.mark.parametrize("count", [0, -1, "2", True, 1.5])
def test_numbers_of_workers_that_are_none(tmp_path: Path, rows: np.ndarray, call: str, count: Any) -> None:
    with pytest.raises(distnnd.SpecError, match="n_workers must be"):
        every_call(tmp_path, rows)[call](n_workers=count)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("call", ["build", "plan", "build_index"])
def test_what_is_no_client_is_refused_first(tmp_path: Path, rows: np.ndarray, call: str) -> None:
    with pytest.raises(distnnd.SpecError, match="client must be a dask Client"):
        every_call(tmp_path, rows)[call](client=5)


def test_numbers_of_numpy_are_numbers(rows: np.ndarray) -> None:
    graph = distnnd.build(
        rows,
        None,
        np.int64(5),
        target_recall=np.float32(0.9),
        max_rounds=np.uint8(3),
        memory_limit=np.float32(2**31),
        random_state=np.int16(1),
    )
    assert isinstance(graph.facts["spec"]["target_recall"], float)
    with pytest.raises(distnnd.SpecError, match="target_recall"):
        distnnd.build(rows, None, 5, target_recall=np.bool_(True))


def test_an_index_takes_numbers_of_numpy_and_an_empty_filter(tmp_path: Path, rows: np.ndarray) -> None:
    index = distnnd.build(rows, None, 5).build_index(
        tmp_path / "i", rows, pruning_degree_multiplier=np.float32(2), diversify_prob=np.float64(1)
    )
    ids, distances = index.query(
        rows, k=np.int64(3), epsilon=np.float32(0.2), radius=np.float32(100), filter=np.array([], float)
    )
    assert (ids == -1).all()
    assert np.isinf(distances).all()
    assert (index.query(rows, k=3, filter=[])[0] == -1).all()
    with pytest.raises(distnnd.SpecError, match="filter is"):
        index.query(rows, k=3, filter=[0.5])


# --- clients that cannot be used -------------------------------------------------------------------------


def outcome(call: Callable[[], Any], seconds: float = 30) -> Any:
    """What a call in a thread of its own came to, or the exception that it raised; fails if it does not end."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        try:
            return future.exception(timeout=seconds) or future.result()
        except concurrent.futures.TimeoutError:
            pytest.fail(f"no answer in {seconds} s")


@pytest.mark.parametrize("how", ["client", "cluster", "current", "address"])
def test_asynchronous_clients_are_refused_and_the_remedy_works(rows: np.ndarray, wanted: bytes, how: str) -> None:
    async def main() -> tuple[Any, Any]:
        async with (
            distributed.LocalCluster(
                n_workers=1, processes=False, asynchronous=True, dashboard_address="127.0.0.1:0"
            ) as cluster,
            distributed.Client(cluster, asynchronous=True, set_as_default=how == "current") as client,
        ):
            passed = {"client": client, "cluster": cluster, "current": None, "address": cluster.scheduler_address}[how]
            start = time.monotonic()
            with pytest.raises(distnnd.SpecError, match="is asynchronous") as caught:
                distnnd.build(rows, None, 5, client=passed)
            assert time.monotonic() - start < 5
            assert "asyncio.to_thread" in str(caught.value)
            return await asyncio.to_thread(distnnd.build, rows, None, 5, client=cluster.scheduler_address)

    graph = outcome(lambda: asyncio.run(main()), 60)
    assert graph_bytes(graph) == wanted


def test_a_closed_client_is_refused(rows: np.ndarray, in_process: distributed.LocalCluster) -> None:
    client = distributed.Client(in_process, set_as_default=False)
    client.close()
    with pytest.raises(distnnd.SpecError, match="is closed"):
        distnnd.build(rows, None, 5, client=client)


def test_an_address_where_nothing_answers(rows: np.ndarray) -> None:
    with (
        dask.config.set({clients.CONNECT: "1s"}),
        pytest.raises(
            distnnd.StageError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1 within 1 s.*dask\.config\.set"
        ),
    ):
        distnnd.build(rows, None, 5, client="tcp://127.0.0.1:1")
    with pytest.raises(distnnd.SpecError, match="cannot be used as the address"):
        distnnd.build(rows, None, 5, client="nothing://here:1")


def test_a_cluster_without_workers_is_told_and_given_up(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "SILENCE", 0.2)
    monkeypatch.setattr(clients, "ARRIVAL", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.warns(UserWarning, match=r"waiting for workers: the cluster at inproc://.* has none yet"),
        pytest.raises(distnnd.StageError, match=r"no worker has joined the cluster at inproc://.*scale"),
    ):
        distnnd.build(rows, None, 5, client=client)


def test_workers_that_come_late_are_waited_for(
    rows: np.ndarray, wanted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SILENCE", 0.2)
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        late = threading.Timer(1, cluster.scale, [1])
        late.start()
        with pytest.warns(UserWarning, match="waiting for workers"):
            graph = distnnd.build(rows, None, 5, client=cluster)
        late.join()
    assert graph_bytes(graph) == wanted


# --- a scheduler that is lost ----------------------------------------------------------------------------


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A scheduler and a worker, each a process of its own."""
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    place = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file"]
    first = subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_scheduler", *options, str(place)], **quiet)
    while not place.exists():
        assert first.poll() is None
        time.sleep(0.05)
    options = ["--scheduler-file", str(place), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    second = subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", *options], **quiet)
    with distributed.Client(scheduler_file=str(place), set_as_default=False) as client:
        client.wait_for_workers(1)
        address = client.scheduler.address
    yield first, address
    for process in (first, second):
        process.kill()
        process.wait()


@pytest.mark.parametrize("passed", ["client", "address"])
def test_a_scheduler_that_is_lost_is_named_and_the_build_goes_on_elsewhere(
    tmp_path: Path, points: np.ndarray, scheduler: Any, cut: Callable[..., None], passed: str
) -> None:
    cut(4, 1024)
    process, address = scheduler
    whole = graph_bytes(distnnd.build(points, None, 8))
    np.save(tmp_path / "points.npy", points)
    source = tmp_path / "points.npy"

    def kill(event: object) -> None:
        if isinstance(event, TaskEnd) and event.stage == "local" and process.poll() is None:
            process.kill()
            process.wait()

    client = distributed.Client(address, set_as_default=False) if passed == "client" else address
    try:
        with pytest.raises(distnnd.StageError) as caught:
            distnnd.build(source, tmp_path / "g", 8, client=client, progress=kill)
        assert f"the Dask scheduler at {address} was lost" in str(caught.value)
        assert f"distnnd resume {tmp_path / 'g'}" in str(caught.value)
        if passed == "client":
            with pytest.raises((distnnd.StageError, distnnd.SpecError), match=r"lost its scheduler|is closed"):
                distnnd.build(source, None, 8, client=client)
    finally:
        if passed == "client":
            client.close(timeout=1)
    assert graph_bytes(distnnd.build(source, tmp_path / "g", 8)) == whole


# --- builds that could wait for themselves ---------------------------------------------------------------


def built_in_a_task(rows: np.ndarray, how: str) -> bytes:
    """The graph, built within a task: by the task itself, or by tasks of its own."""
    if how == "away":
        with distributed.worker_client() as client:
            return graph_bytes(distnnd.build(rows, None, 5, client=client))
    client = None
    if how == "client":
        client = distributed.get_client()
    elif how == "address":
        client = distributed.get_worker().scheduler.address
    return graph_bytes(distnnd.build(rows, None, 5, client=client))


@pytest.mark.parametrize("how", ["alone", "client", "address", "away"])
def test_as_many_tasks_as_threads_may_build(
    rows: np.ndarray, wanted: bytes, in_process: distributed.LocalCluster, how: str
) -> None:
    with distributed.Client(in_process, set_as_default=how == "alone") as client:
        futures = [client.submit(built_in_a_task, rows, how, pure=False) for _ in range(4)]
        assert client.gather(futures) == [wanted] * 4
        # Threads that left their place to wait have come back.
        assert client.submit(lambda: 1, pure=False).result(timeout=10) == 1


def built_in_partitions(rows: np.ndarray) -> tuple[int, bytes]:
    """The process of a task, and a graph of several partitions that it has built."""
    from distnnd.sources import plan_for

    def small(*arguments: Any) -> Any:
        plan = plan_for(*arguments)
        layout = replace(
            plan.layout, partitions=3, block_rows=1024, probes=300, sample=4000, cap=len(rows), exact=False
        )
        return replace(plan, layout=layout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["distnnd.underway"], "plan_for", small)
        return os.getpid(), graph_bytes(distnnd.build(rows, None, 5))


def test_tasks_of_worker_processes_build_partitions_by_themselves(
    points: np.ndarray, processes: distributed.Client
) -> None:
    wanted = built_in_partitions(points)[1]
    futures = [processes.submit(built_in_partitions, points, pure=False) for _ in range(2)]
    for process, built in processes.gather(futures):
        assert process != os.getpid()
        assert built == wanted


def with_processes(rows: np.ndarray) -> Any:
    """A build that starts worker processes."""
    return distnnd.build(rows, None, 5, n_workers=2)


def test_worker_processes_of_a_task_are_refused(rows: np.ndarray, processes: distributed.Client) -> None:
    with pytest.raises(distnnd.SpecError, match="may not start processes of its own"):
        processes.submit(with_processes, rows).result()


# --- forks and scripts -----------------------------------------------------------------------------------

FORKED = """
import multiprocessing, os, sys
import numpy as np
import distnnd, distributed
from distnnd.kernels import apart
from tests.conftest import clustered, graph_bytes

def child(queue, how, values, passed):
    try:
        client = passed if how == "client" else None
        workers = 2 if how == "n_workers" else None
        queue.put(graph_bytes(distnnd.build(values, None, 5, client=client, n_workers=workers)))
    except BaseException as error:
        queue.put(f"{type(error).__name__}: {error}")

if __name__ == "__main__":
    with apart.in_this_process(), distributed.Client(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as client:
        values = clustered(200, 5)
        wanted = graph_bytes(distnnd.build(values, None, 5))
        context = multiprocessing.get_context("fork")
        for how in ("current", "client", "n_workers"):
            queue = context.Queue()
            process = context.Process(target=child, args=(queue, how, values, client), daemon=False)
            process.start()
            answer = queue.get(timeout=60)
            process.join(10)
            print(how, "same bytes" if answer == wanted else answer)
"""


def test_a_forked_child_builds_by_itself_and_refuses_the_dask_of_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200, env=environment)
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert said["current"] == "same bytes", done.stderr
    for how in ("client", "n_workers"):
        assert said[how].startswith("SpecError")
        assert "was forked" in said[how]


SCRIPT = """
import numpy as np, distnnd
values = np.random.default_rng(0).normal(size=(200, 5)).astype("f4")
distnnd.build(values, {out!r}, 5, n_workers=2, memory_limit="1GiB")
"""


def test_a_script_without_a_main_guard_is_told_in_a_sentence(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(out=str(tmp_path / "g")))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, env=environment, start_new_session=True
    )
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert lines[-1].startswith("distnnd.values.errors.SpecError: n_workers starts processes")
    assert '`if __name__ == "__main__":`' in lines[-1]
    assert len(lines) < 60
    assert not (tmp_path / "g").exists()
    assert str(script) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


def test_a_child_that_imports_the_script_again_is_told_if_it_is_not_ours(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(distnnd.SpecError, match="runs this script again"):
        distnnd.build(rows, None, 5, n_workers=2)
