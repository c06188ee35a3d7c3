"""The plan, and so the bytes, follow from the points, the settings and memory_limit: not from who is there to work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import distributed
import numpy as np
import pytest
import zarr
from scipy import sparse

import distnnd
from distnnd.runtime import threads
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage.points import write_points
from tests.conftest import clustered, graph_bytes
from tests.faces.command_line import run

# Rows that a worker of so little memory holds in several partitions.
LIMIT = "290MiB"
ROWS, COLUMNS = 12_000, 300


def wide() -> np.ndarray:
    """float32[12000, 300]: 14 MB."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS, 8)) @ rng.normal(size=(8, COLUMNS)) + 0.1 * rng.normal(size=(ROWS, COLUMNS))
    return rows.astype(np.float32)


class Executor(SerialExecutor):
    """One of so many workers and threads, as far as a plan can see."""

    def __init__(self, workers: int, threads: int) -> None:
        super().__init__(threads)
        self.workers = workers


@pytest.mark.parametrize("limit", [LIMIT, "1GiB", None])
@pytest.mark.parametrize("n", [ROWS, 1_000_000])
def test_workers_and_threads_change_nothing_of_a_layout(n: int, limit: str | None) -> None:
    rows = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (n, 64), (0, 0))
    limit = "350MiB" if limit == LIMIT else limit
    plans = [
        distnnd.plan(rows, memory_limit=limit, client=Executor(workers, threads))
        for workers in (1, 2, 3, 4, 9)
        for threads in (1, 2, 32)
    ]
    assert len({plan.layout for plan in plans}) == 1
    assert {plan.threads for plan in plans} <= set(range(1, 33))


@pytest.mark.parametrize("n_workers", [1, 2, 3, 4])
def test_worker_processes_of_our_own_change_nothing_of_a_layout(n_workers: int) -> None:
    rows = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1_000_000, 64), (0, 0))
    here = distnnd.plan(rows, memory_limit="500MiB")
    there = distnnd.plan(rows, memory_limit="500MiB", n_workers=n_workers)
    assert here.layout == there.layout
    assert here.layout.partitions > 1
    lists = sparse.random(5000, 300, 0.02, "csr", np.float32, random_state=0)
    assert distnnd.plan(lists).layout == distnnd.plan(lists, n_workers=n_workers).layout


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_build_that_is_cut_by_its_limit_gives_the_same_bytes_everywhere(tmp_path: Path, n_workers: int) -> None:
    points = wide()
    wanted = {"memory_limit": LIMIT, "target_recall": 0.8, "max_rounds": 2}
    here = distnnd.build(points, tmp_path / "here", 10, **wanted)
    assert here.facts["layout"]["partitions"] > 1
    there = distnnd.build(points, tmp_path / "there", 10, n_workers=n_workers, **wanted)
    assert there.facts["layout"] == here.facts["layout"]
    assert graph_bytes(there) == graph_bytes(here)
    peaks = [entry["peak"] for entry in there.facts["rounds"]]
    assert max(peaks) < 290 * 2**20


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_client_of_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, workers: int) -> None:
    points = clustered(9000)
    wanted = {"memory_limit": "600MiB", "partitions": 3}
    here = distnnd.build(points, **wanted)
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=2, memory_limit="1GiB", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        there = distnnd.build(points, tmp_path / "g", client=client, **wanted)
    assert there.facts["layout"] == here.facts["layout"]
    assert graph_bytes(there) == graph_bytes(here)


# --- plan and build agree ---------------------------------------------------------------------------------


def sources(folder: Path) -> dict[str, Any]:
    """The same points as users have them."""
    points = wide()
    np.save(folder / "x.npy", points)
    write_points(folder / "x.zarr", [points], n=ROWS, d=COLUMNS, dtype="float32")
    memory = zarr.create_array(zarr.storage.MemoryStore(), shape=points.shape, chunks=(700, COLUMNS), dtype="f4")
    memory[:] = points
    return {
        "array": points,
        "npy": folder / "x.npy",
        "zarr": folder / "x.zarr",
        "zarr in memory": memory,
        "dask": dask.array.from_array(points, chunks=(1000, 300)),
    }


@pytest.mark.parametrize("kind", ["array", "npy", "zarr", "zarr in memory", "dask"])
@pytest.mark.parametrize("n_workers", [None, 2])
def test_a_build_is_planned_as_plan_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, n_workers: int | None
) -> None:
    class Planned(Exception):
        """Enough is known."""

    def stop(event: Any) -> None:
        if hasattr(event, "plan"):
            seen.append(event.plan)
            raise Planned

    source, seen = sources(tmp_path)[kind], []
    asked = {"memory_limit": "310MiB", "n_workers": n_workers}
    planned = distnnd.plan(source, **asked)
    with pytest.raises(Planned):
        distnnd.build(source, tmp_path / "g", progress=stop, **asked)
    assert seen == [planned]


@pytest.mark.parametrize("n_workers", [None, 2])
def test_what_plan_accepts_build_accepts_and_what_it_refuses_too(tmp_path: Path, n_workers: int | None) -> None:
    points, asked = wide(), {"n_workers": n_workers, "max_rounds": 1, "target_recall": 0.1}
    with pytest.raises(distnnd.BudgetError) as caught:
        distnnd.plan(points, memory_limit="200MiB", **asked)
    least = str(caught.value).split("memory_limit='")[1].split("'")[0]
    below = f"{int(least.removesuffix('MiB')) - 2}MiB"
    for attempt in (distnnd.plan, distnnd.build):
        with pytest.raises(distnnd.BudgetError, match=f"memory_limit='{least}'"):
            attempt(points, memory_limit=below, **asked)
    graph = distnnd.build(points, tmp_path / "g", memory_limit=least, **asked)
    assert graph.facts["layout"]["partitions"] == distnnd.plan(points, memory_limit=least, **asked).layout.partitions


# --- partitions that are asked for ------------------------------------------------------------------------


def test_partitions_are_made_in_both_faces(tmp_path: Path) -> None:
    points = clustered(6000)
    graph = distnnd.build(points, partitions=3)
    assert graph.facts["layout"]["partitions"] == 3
    assert graph.facts["spec"]["partitions"] == 3
    np.save(tmp_path / "x.npy", points)
    done = run("build", tmp_path / "x.npy", tmp_path / "g", "--partitions", 3, "--quiet")
    assert done.code == 0, done.err
    assert graph_bytes(distnnd.open_graph(tmp_path / "g")) == graph_bytes(graph)
    lists = sparse.random(4000, 300, 0.02, "csr", np.float32, random_state=0)
    cut = distnnd.build(lists, partitions=3)
    assert cut.facts["layout"]["partitions"] >= 3
    assert graph_bytes(cut) == graph_bytes(distnnd.build(lists))
    assert run("plan", tmp_path / "x.npy", "--partitions", 0).code == 2
    for wrong in (0, 2.5, "3"):
        with pytest.raises(distnnd.SpecError, match="partitions"):
            distnnd.plan(points, partitions=wrong)


# --- a build that goes on ---------------------------------------------------------------------------------


class Stopped(Exception):
    """The power went."""


def stop_in_the_middle(event: Any) -> None:
    """At the first task of the local stage."""
    if getattr(event, "stage", None) == "local":
        raise Stopped


def test_a_build_goes_on_in_its_layout_with_other_threads_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = clustered(6000)
    wanted = distnnd.build(points, partitions=4)
    for name, more in (("less", {"memory_limit": "400MiB"}), ("threads", {"threads_per_worker": 1})):
        with pytest.raises(Stopped):
            distnnd.build(points, tmp_path / name, partitions=4, progress=stop_in_the_middle)
        monkeypatch.setattr(threads, "CPU_COUNT", 3)
        assert graph_bytes(distnnd.build(points, tmp_path / name, partitions=4, **more)) == graph_bytes(wanted)


def test_a_build_that_workers_of_today_cannot_hold_is_refused(tmp_path: Path) -> None:
    points = wide()
    with pytest.raises(Stopped):
        distnnd.build(points, tmp_path / "g", memory_limit="1GiB", progress=stop_in_the_middle)
    with pytest.raises(distnnd.BudgetError, match="resume it with the memory it began with, or build anew"):
        distnnd.build(points, tmp_path / "g", memory_limit=LIMIT)
