"""Lazy queries: on workers that open the index themselves, join later, or die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import distributed
import numpy as np
import pytest

import distnnd
from distnnd.runtime import indexes
from tests.index.conftest import Made
from tests.test_floors import ROOT


def opened_there() -> list[str]:
    """What a worker process has opened."""
    return list(indexes._opened)


def test_a_dask_array_is_answered_where_the_index_lies(made: Made, processes: distributed.Client) -> None:
    lazy = da.from_array(made.queries, chunks=(64, 5))
    ids, distances = made.index.query(lazy, k=7, client=processes)
    assert isinstance(ids, da.Array)
    assert (ids.shape, ids.dtype, distances.dtype) == ((300, 7), np.int64, np.float32)
    # The plugin opened it before anything was asked.
    assert all(len(names) == 1 for names in processes.run(opened_there).values())
    expected = made.index.query(made.queries, k=7)
    for found, right in zip(processes.compute([ids, distances], sync=True), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    processes.cluster.scale(3)
    processes.wait_for_workers(3, timeout=60)
    assert all(len(names) == 1 for names in processes.run(opened_there).values())
    processes.cluster.scale(2)


def test_without_a_client_it_is_lazy_all_the_same(made: Made) -> None:
    lazy = da.from_array(made.queries, chunks=(100, 16))
    ids = made.index.query(lazy, k=3, return_distances=False)
    np.testing.assert_array_equal(ids.compute(scheduler="sync"), made.index.query(made.queries, k=3)[0])


def test_by_partitions_on_workers(cut: Made, processes: distributed.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from distnnd.values import searching

    monkeypatch.setattr(searching, "OWN", 0)
    limit = cut.index.plan().index - 1
    ids, _ = cut.index.query(da.from_array(cut.queries, chunks=(100, 16)), client=processes, memory_limit=limit)
    right = cut.index.query(cut.queries, memory_limit=limit)[0]
    np.testing.assert_array_equal(processes.compute(ids, sync=True), right)


def test_more_than_the_workers_have_is_refused_before(made: Made) -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, memory_limit="50MiB", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.raises(distnnd.BudgetError, match=r"partitions="),
    ):
        made.index.query(da.from_array(made.queries), client=client)


@contextmanager
def small_worker(address: str, megabytes: int) -> Iterator[None]:
    """A worker process of so little memory."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    more = ["--memory-limit", f"{megabytes}MB", "--no-dashboard", "--name", "small"]
    # A command that ran in this process may have told workers to log nothing.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DASK_LOGGING")}
    process = subprocess.Popen(
        [*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_a_small_worker_that_joins_later_opens_nothing(made: Made) -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, memory_limit="2GiB", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        ids, _ = made.index.query(da.from_array(made.queries, chunks=(20, 16)), client=client)
        with small_worker(cluster.scheduler_address, 290):
            client.wait_for_workers(2, timeout=60)
            # What is asked of the small one by name is answered too: by the other.
            workers = client.scheduler_info(n_workers=-1)["workers"]
            small = next(address for address, one in workers.items() if one["name"] == "small")
            asked = client.compute(ids, workers=[small], allow_other_workers=False)
            np.testing.assert_array_equal(asked.result(timeout=60), made.index.query(made.queries)[0])
            names = client.run(opened_there)
            assert [len(names[address]) for address in workers] == [int(address != small) for address in workers]
            log = " ".join(text for _, text in client.get_worker_logs(workers=[small])[small])
            assert "BudgetError" in log
            assert "queries go to the others" in log
            with pytest.raises(distnnd.BudgetError, match="worker"):
                made.index.query(da.from_array(made.queries), client=client)


def test_a_file_is_answered_by_workers_batch_by_batch(
    made: Made, processes: distributed.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distnnd import index as module

    monkeypatch.setattr(module, "strip_rows", lambda d: 32)
    np.save(tmp_path / "queries.npy", made.queries)
    facts = made.index.query_into(tmp_path / "queries.npy", tmp_path / "out.npy", 7, client=processes)
    assert (facts["queries"], facts["k"]) == (300, 7)
    assert "whole" in facts["plan"]
    expected = made.index.query(made.queries, k=7)
    for name, right in zip(("out.npy", "out.distances.npy"), expected, strict=True):
        np.testing.assert_array_equal(np.load(tmp_path / name), right)


def die_once(block: np.ndarray, mark: str) -> np.ndarray:
    """Kill the process at the first call."""
    if not os.path.exists(mark):
        Path(mark).touch()
        os._exit(1)
    return block


def test_a_worker_that_dies_changes_nothing(made: Made, tmp_path: Path) -> None:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        lazy = da.from_array(made.queries, chunks=(20, 16)).map_blocks(
            die_once, str(tmp_path / "died"), meta=np.empty((0, 0), np.float32)
        )
        ids, distances = made.index.query(lazy, client=client)
        found = client.compute([ids, distances], sync=True)
    assert (tmp_path / "died").exists()
    for answer, right in zip(found, made.index.query(made.queries), strict=True):
        np.testing.assert_array_equal(answer, right)
