"""Lazy queries: on workers that open the index themselves, join later, or die."""

from __future__ import annotations

import os
from pathlib import Path

import dask.array as da
import distributed
import numpy as np
import pytest

import distnnd
from distnnd.runtime import indexes
from tests.index.conftest import Made


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
