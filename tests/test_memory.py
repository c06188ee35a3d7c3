"""The promise about memory: no task takes more than its stage was projected to take."""

from __future__ import annotations

import ctypes
import gc
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import distnnd
from distnnd.kernels import apart
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage.points import write_points
from distnnd.storage.source import open_source
from distnnd.storage.sparse import convert_csr
from distnnd.values.plan import Job, Report, Stage
from tests.conftest import clustered, near_a_subspace

STATUS = Path("/proc/self/status")


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@pytest.fixture(autouse=True)
def compiling_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As builds have it: what a compiler takes is not counted."""
    monkeypatch.setattr(apart._Here, "compiling", False)


class Measuring(SerialExecutor):
    """Runs tasks one by one and keeps, for each stage, how far memory rose above where it stood."""

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        self.grown: dict[str, tuple[int, int]] = {}

    def run(self, stage: Stage, job: Job, listen) -> list[Report]:
        """Run all tasks; Linux lets a process reset its own high-water mark."""
        reports = []
        for task in stage.tasks:
            gc.collect()
            # What earlier tasks freed and the allocator kept would hide what this one takes.
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            before = memory("VmRSS")
            reports.append(stage.run(job, task))
            grown = max(memory("VmHWM") - before, self.grown.get(stage.name, (0, 0))[0])
            self.grown[stage.name] = (grown, stage.projected)
        return reports


def stored_points(
    place: Path, n: int, dtype: str, d: int, family: Callable[[int, int], np.ndarray] = clustered
) -> np.ndarray:
    """Rows that the dtype can hold, clustered unless said otherwise, also written to `place`."""
    points = family(n, d) * {"uint8": 10, "float16": 1, "float32": 0.1}[dtype]
    points = (np.clip(points, 0, 255) if dtype == "uint8" else points).astype(dtype)
    write_points(place, [points], n=n, d=d, dtype=dtype, chunk_rows=4096)
    return points


def with_params(metric: str, d: int) -> dict[str, Any]:
    """The metric with what it cannot do without, as arguments of build()."""
    return {"metric": metric} | ({"metric_params": {"VI": np.eye(d) + 0.1}} if metric == "mahalanobis" else {})


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which only Linux has")
@pytest.mark.parametrize(
    ("partitions", "metric", "dtype", "d"),
    [
        (1, "euclidean", "float32", 64),
        (4, "euclidean", "float32", 64),
        pytest.param(4, "cosine", "float16", 64, marks=pytest.mark.long),
        (1, "euclidean", "uint8", 64),
        # Solved by k-d trees.
        (1, "euclidean", "float32", 3),
        (4, "cosine", "float32", 4),
        (4, "euclidean", "float32", 2),
        (1, "euclidean", "uint8", 4),
        # Judged by the rows as they came, beside those that are laid out.
        (1, "manhattan", "uint8", 64),
        (4, "manhattan", "uint8", 64),
        pytest.param(1, "canberra", "float16", 48, marks=pytest.mark.long),
        # Routed to leaves of the whole set, and compared by narrower codes.
        (4, "guided", "float32", 320),
        # Rows that travel as float16, and distances measured again.
        (4, "narrow", "float32", 64),
        pytest.param(4, "narrow", "float32", 320, marks=pytest.mark.long),
        (1, "bit_jaccard", "uint8", 32),
        pytest.param(4, "bit_jaccard", "uint8", 32, marks=pytest.mark.long),
        (1, "haversine", "float32", 2),
        pytest.param(4, "haversine", "float32", 2, marks=pytest.mark.long),
        pytest.param(4, "mahalanobis", "float32", 48, marks=pytest.mark.long),
    ],
)
def test_tasks_stay_under_their_projection(tmp_path, cut, partitions, metric, dtype, d):
    if partitions > 1:
        cut(partitions, 8192, cap=30_000)
    guided, narrow = metric == "guided", metric == "narrow"
    metric = "cosine" if narrow else "euclidean" if guided else metric
    points = stored_points(tmp_path / "p.zarr", 40_000, dtype, d, near_a_subspace if guided else clustered)
    wanted = with_params(metric, d) | {"target_recall": 0.999, "max_rounds": 2}
    wanted |= {"exchange_dtype": "float16"} if narrow else {}
    distnnd.build(points[:10_000], client=SerialExecutor(2), **(wanted | {"max_rounds": 1, "target_recall": 0.1}))
    del points
    executor = Measuring(threads=2 if partitions == 1 else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        distnnd.build(tmp_path / "p.zarr", tmp_path / "g", client=executor, **wanted)
    last = "exact" if narrow else "publish"
    expected = {"scan", "local"} if partitions == 1 else {"scan", "probe", "route", "local", "merge", last}
    assert expected <= set(executor.grown)
    assert executor.grown["local"][0] > 5 * 2**20, "nothing was measured"
    assert not {name: pair for name, pair in executor.grown.items() if pair[0] > pair[1]}


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which only Linux has")
def test_what_finds_settled_rows_stays_under_its_projection(tmp_path, cut, monkeypatch):
    monkeypatch.setattr(sys.modules["distnnd.stream"], "finished", lambda build, done: len(done) >= 2)
    cut(4, 8192, cap=30_000)
    points = stored_points(tmp_path / "p.zarr", 40_000, "float32", 3)
    distnnd.build(points[:36_000], client=SerialExecutor())
    executor = Measuring()
    graph = distnnd.build(tmp_path / "p.zarr", tmp_path / "g", client=executor)
    assert graph.facts["rounds"][1]["settled"] > 0
    assert executor.grown["settle"][0] > 2**17, "nothing was measured"
    assert not {name: pair for name, pair in executor.grown.items() if pair[0] > pair[1]}


def listed_rows(n: int, d: int, entries: int) -> sparse.csr_matrix:
    """Random rows of so many entries each, common columns and rare ones."""
    rng = np.random.default_rng(0)
    columns = (rng.random(n * entries) ** 3 * d).astype(np.int64)
    ends = np.arange(0, n * entries + 1, entries)
    return sparse.csr_matrix((rng.random(n * entries, np.float32), columns, ends), (n, d))


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which only Linux has")
@pytest.mark.parametrize(("blocks", "partitions"), [(1, 0), (4, 0), (0, 1), pytest.param(0, 4, marks=pytest.mark.long)])
def test_tasks_of_sparse_rows_stay_under_their_projection(tmp_path, cut, blocks, partitions):
    n = 30_000
    if blocks > 1:
        cut(blocks, 8192)
    if partitions:
        cut(partitions, 65536 if partitions == 1 else 8192, cap=24_000 if partitions > 1 else None, sketches=True)
    points = listed_rows(n, 20_000, 60)
    convert_csr(open_source(points, sparse=True), tmp_path / "p.zarr")
    wanted = {"metric": "cosine", "target_recall": 0.6, "max_rounds": 1}
    threads = 2 if blocks == 1 or partitions == 1 else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        distnnd.build(points[:3000], client=SerialExecutor(2), **wanted)
        del points
        executor = Measuring(threads)
        distnnd.build(tmp_path / "p.zarr", tmp_path / "g", client=executor, **wanted)
    assert not {name: pair for name, pair in executor.grown.items() if pair[0] > pair[1]}
    assert max(pair[0] for pair in executor.grown.values()) > 5 * 2**20, "nothing was measured"


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which only Linux has")
@pytest.mark.parametrize(
    ("partitions", "metric", "dtype", "d"),
    [
        (1, "euclidean", "float32", 64),
        (4, "euclidean", "float32", 64),
        (4, "euclidean", "uint8", 256),
        (1, "cosine", "float16", 64),
        (4, "manhattan", "uint8", 64),
        (1, "bit_jaccard", "uint8", 32),
        *(
            pytest.param(partitions, *case, marks=pytest.mark.long)
            for partitions, case in [
                (1, ("euclidean", "float32", 3)),
                (4, ("euclidean", "float32", 3)),
                (1, ("euclidean", "uint8", 256)),
                (4, ("cosine", "float16", 64)),
                (1, ("inner_product", "float32", 32)),
                (4, ("inner_product", "float32", 32)),
                (1, ("manhattan", "uint8", 64)),
                (4, ("bit_jaccard", "uint8", 32)),
                (1, ("mahalanobis", "float32", 48)),
                (4, ("mahalanobis", "float32", 48)),
            ]
        ),
    ],
)
def test_indexes_are_made_within_their_projection(tmp_path, partitions, metric, dtype, d):
    points = stored_points(tmp_path / "p.zarr", 60_000, dtype, d)
    wanted = with_params(metric, d) | {"target_recall": 0.1, "max_rounds": 1}
    distnnd.build(points[:5000], tmp_path / "few", client=SerialExecutor(2), **wanted)
    distnnd.build(tmp_path / "p.zarr", tmp_path / "g", client=SerialExecutor(2), **wanted)
    threads = 2 if partitions == 1 else 1
    few = {"client": SerialExecutor(threads), "partitions": partitions}
    distnnd.build_index(tmp_path / "few", tmp_path / "few-index", points[:5000], **few)
    del points
    executor = Measuring(threads)
    distnnd.build_index(tmp_path / "g", tmp_path / "index", client=executor, partitions=partitions)
    assert {"pivots", "place", "order", "prune", "seal", "recall"} == set(executor.grown)
    assert executor.grown["prune"][0] > 2 * 2**20, "nothing was measured"
    assert not {name: pair for name, pair in executor.grown.items() if pair[0] > pair[1]}
