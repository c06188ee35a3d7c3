"""Data and small plans that many tests share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest

import distnnd.stream  # noqa: F401  tests change what it chooses
from distnnd.kernels import apart
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage import stores
from distnnd.testing import forced_partitions
from tests.object_store import BUCKET, Server, serving

# Python before 3.11.9 can lock up for good while Dask's profiler looks at its threads (README.md: Install).
PROFILED = "distributed.worker.profile.enabled"
dask.config.set({PROFILED: False})

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def clustered(n: int, d: int = 16, seed: int = 0) -> np.ndarray:
    """Rows around 40 centres of unequal weight: float32[n, d]."""
    rng = np.random.default_rng(seed)
    weights = rng.pareto(1.5, 40) + 0.1
    centres = rng.normal(size=(40, d)) * 2
    labels = rng.choice(40, n, p=weights / weights.sum())
    return (centres[labels] + rng.normal(size=(n, d))).astype(np.float32)


def near_a_subspace(n: int, d: int = 128, rank: int = 10, seed: int = 0) -> np.ndarray:
    """Rows that few columns guide to their pivots: float32[n, d], a little off a subspace of few dimensions."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)) + 0.02 * rng.standard_normal((n, d))
    return rows.astype(np.float32)


@pytest.fixture(scope="session", autouse=True)
def compiling_here() -> Iterator[None]:
    """This process compiles what a test calls and no more; another one would compile all that builds may call."""
    with apart.in_this_process():
        yield


@pytest.fixture(scope="session")
def points() -> np.ndarray:
    """6,000 clustered rows of 16 numbers."""
    return clustered(6000)


@pytest.fixture(scope="session")
def shapeless() -> np.ndarray:
    """3,000 rows of 24 numbers without any shape, whose neighbours no border spares."""
    return np.random.default_rng(1).normal(size=(3000, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def processes():
    """A cluster of two worker processes of one thread each."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    """An S3 server with a bucket, which the environment names."""
    with serving() as server:
        yield server


@pytest.fixture
def place(s3: Server, request: pytest.FixtureRequest) -> str:
    """A URL in the bucket that no other test uses."""
    s3.asked.clear()
    return f"s3://{BUCKET}/{re.sub('[^a-z0-9]+', '-', request.node.name)}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that does not answer is asked once more, not for a quarter of a minute."""
    monkeypatch.setitem(stores.RETRIES, "max_retries", 1)
    stores.forget()
    yield
    stores.forget()


@pytest.fixture
def serial() -> SerialExecutor:
    """One task after the other, one thread."""
    return SerialExecutor()


@pytest.fixture
def cut() -> Iterator[Callable[..., None]]:
    """cut(partitions, block_rows): from here to its end, a test cuts even small data, as a lack of memory would."""
    with ExitStack() as stack:
        yield lambda *how, **more: stack.enter_context(forced_partitions(*how, **more))


def graph_bytes(graph: Any) -> bytes:
    """Every byte of the two arrays of a graph."""
    return graph.indices[:].tobytes() + graph.distances[:].tobytes()


def all_distances(points: np.ndarray, metric: str) -> np.ndarray:
    """Distances of all pairs of float64 rows: float64[n, n]; zero rows are at cosine distance 1 but from each other."""
    if metric == "inner_product":
        return -(points @ points.T)
    if metric == "cosine":
        norms = np.linalg.norm(points, axis=1)
        unit = points / np.where(norms > 0, norms, 1)[:, None]
        return np.where((norms[:, None] == 0) & (norms == 0), 0.0, 1 - unit @ unit.T)
    squares = (points * points).sum(axis=1)
    squared = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    return np.sqrt(squared) if metric == "euclidean" else squared


def true_recall(points: np.ndarray, graph: Any, metric: str = "euclidean") -> float:
    """Share of neighbours at most as far as the k-th true one, by float64 brute force."""
    distances = all_distances(points.astype(np.float64), metric)
    np.fill_diagonal(distances, np.inf)
    k = graph.n_neighbors
    kth = np.sort(distances, axis=1)[:, k - 1 : k]
    found = np.take_along_axis(distances, graph.indices[:], axis=1)
    return float(np.mean(found <= kth + 1e-5 * np.abs(kth) + 1e-9))
