"""The graph builders that are measured beside each other: a file of points in, ids of the 15 nearest out.

Each takes a task, its own settings, and a place for files. What happens before (imports, compilation) is not counted,
as benchmarks.one builds a sample first. All run on as many threads as there are processors.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .data import K, Task
from .placement import processors
from .truth import without_itself

# Exact search compares so many pairs of numbers at most; of larger sets only rows whose neighbours are known.
EXACT_WORK = 4e12


class Found(NamedTuple):
    """What a builder found: ids [n, >= K], below 0 where none; distances beside them where they are kept in a store."""

    ids: Any
    facts: dict[str, Any]
    distances: Any = None


def distnnd(task: Task, settings: dict[str, Any], place: Path) -> Found:
    """Out of the file into a store on disk, with what the plan and the store say."""
    import distnnd

    facts: dict[str, Any] = {"worker_peak": 0}

    def listen(event: Any) -> None:
        if hasattr(event, "report"):
            facts["worker_peak"] = max(facts["worker_peak"], event.report.peak)
        elif hasattr(event, "plan"):
            facts.update(partitions=event.plan.layout.partitions, planned=event.plan.peak)

    graph = distnnd.build(task.points, place, K, metric=task.metric, progress=listen, **settings)
    facts |= {"estimate": graph.recall.estimate, "low": graph.recall.low, "high": graph.recall.high}
    facts["rounds"] = len(graph.facts["rounds"])
    return Found(graph.indices, facts, graph.distances)


def pynndescent(task: Task, settings: dict[str, Any], place: Path) -> Found:
    """NNDescent; n_neighbors=16 is 15 neighbours and the row itself."""
    import pynndescent

    index = pynndescent.NNDescent(_floats(task), metric=task.metric, **{"n_neighbors": K + 1, **settings})
    return Found(index.neighbor_graph[0][:, 1:], {})


def faiss_ivf(task: Task, settings: dict[str, Any], place: Path) -> Found:
    """Inverted lists, searched with the rows themselves; nlist defaults to four times the root of n."""
    import faiss

    points = _prepared(task)
    nlist = settings.get("nlist", int(4 * len(points) ** 0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(points.shape[1]), points.shape[1], nlist)
    # A short training: the rows that are searched are the rows that are trained on.
    index.cp.max_points_per_centroid, index.cp.niter = 64, 10
    index.train(points)
    index.add(points)
    index.nprobe = settings.get("nprobe", 8)
    return Found(_of_all(index.search(points, K + 1)[1]), {})


def faiss_nndescent(task: Task, settings: dict[str, Any], place: Path) -> Found:
    """The same algorithm in C++; the graph is read out of the index."""
    import faiss

    points = _prepared(task)
    index = faiss.IndexNNDescentFlat(points.shape[1], settings.get("k", 32))
    index.nndescent.S = settings.get("S", 10)
    index.nndescent.iter = settings.get("iterations", 10)
    index.nndescent.L = settings.get("L", 50)
    index.add(points)
    graph = faiss.vector_to_array(index.nndescent.final_graph).reshape(len(points), -1)
    return Found(graph[:, :K].astype(np.int64), {})


def hnswlib(task: Task, settings: dict[str, Any], place: Path) -> Found:
    """HNSW, searched with the rows themselves."""
    import hnswlib

    points = _prepared(task)
    index = hnswlib.Index("l2", points.shape[1])
    index.init_index(len(points), M=settings.get("M", 16), ef_construction=settings.get("ef_construction", 100))
    index.set_num_threads(len(processors()))
    index.add_items(points)
    index.set_ef(settings.get("ef", 50))
    return Found(_of_all(index.knn_query(points, K + 1)[0].astype(np.int64)), {})


def exact(task: Task, settings: dict[str, Any], place: Path) -> Found:
    """Exhaustive search by products of blocks: for all rows, or, of a large set, for those whose neighbours are known.

    The seconds are those of the rows that were solved, never extrapolated; `solved` says how many.
    """
    import faiss

    points = _prepared(task)
    n, d = points.shape
    rows = np.arange(n) if float(n) * n * d <= EXACT_WORK else task.queries
    index = faiss.IndexFlatL2(d)
    index.add(points)
    ids = np.full((n, K), -1, np.int64)
    ids[rows] = without_itself(index.search(points[rows], K + 1)[1], rows)
    return Found(ids, {"solved": len(rows), "of": n})


Builder = Callable[[Task, dict[str, Any], Path], Found]
BUILDERS: dict[str, Builder] = {
    "distnnd": distnnd,
    "pynndescent": pynndescent,
    "faiss-ivf": faiss_ivf,
    "faiss-nndescent": faiss_nndescent,
    "hnswlib": hnswlib,
    "exact": exact,
}


def _floats(task: Task) -> np.ndarray:
    return np.load(task.points).astype(np.float32, copy=False)


def _prepared(task: Task) -> np.ndarray:
    """Rows whose euclidean neighbours are those of the metric."""
    points = _floats(task)
    if task.metric == "cosine":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def _of_all(ids: np.ndarray) -> np.ndarray:
    return without_itself(ids, np.arange(len(ids)))
