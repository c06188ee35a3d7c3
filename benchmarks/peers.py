"""The graph builders that are measured beside each other: points in, ids of the 15 nearest out, everything in memory.

Each takes float32 points [n, d], the metric, and its own settings; what it does before (imports, compilation) is not
counted, as benchmarks.one builds a sample first. All run on as many threads as there are processors.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from . import data

K = 15
Found = tuple[np.ndarray, dict[str, Any]]


def distnnd(task: data.Task, settings: dict[str, Any]) -> Found:
    """Out of the file into a store on disk, with what the plan and the store say."""
    import distnnd

    folder = tempfile.mkdtemp(prefix="bench-")
    facts: dict[str, Any] = {"worker_peak": 0}

    def listen(event: Any) -> None:
        if hasattr(event, "report"):
            facts["worker_peak"] = max(facts["worker_peak"], event.report.peak)
        elif hasattr(event, "plan"):
            facts.update(partitions=event.plan.layout.partitions, planned=event.plan.peak)

    graph = distnnd.build(task.points, f"{folder}/g", K, task.metric, progress=listen, **settings)
    ids = graph.indices[:]
    facts |= {"estimate": graph.recall.estimate, "low": graph.recall.low, "high": graph.recall.high}
    facts["rounds"] = len(graph.facts["rounds"])
    shutil.rmtree(folder)
    return ids, facts


def pynndescent(task: data.Task, settings: dict[str, Any]) -> Found:
    """NNDescent; n_neighbors=16 is 15 neighbours and the row itself."""
    import pynndescent

    index = pynndescent.NNDescent(_floats(task), metric=task.metric, **{"n_neighbors": K + 1, **settings})
    return index.neighbor_graph[0][:, 1:], {}


def faiss_ivf(task: data.Task, settings: dict[str, Any]) -> Found:
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
    return _without_itself(index.search(points, K + 1)[1]), {}


def faiss_nndescent(task: data.Task, settings: dict[str, Any]) -> Found:
    """The same algorithm in C++; the graph is read out of the index."""
    import faiss

    points = _prepared(task)
    index = faiss.IndexNNDescentFlat(points.shape[1], settings.get("k", 32))
    index.nndescent.S = settings.get("S", 10)
    index.nndescent.iter = settings.get("iterations", 10)
    index.nndescent.L = settings.get("L", 50)
    index.add(points)
    graph = faiss.vector_to_array(index.nndescent.final_graph).reshape(len(points), -1)
    return graph[:, :K].astype(np.int64), {}


def hnswlib(task: data.Task, settings: dict[str, Any]) -> Found:
    """HNSW, searched with the rows themselves."""
    import hnswlib

    points = _prepared(task)
    index = hnswlib.Index("l2", points.shape[1])
    index.init_index(len(points), M=settings.get("M", 16), ef_construction=settings.get("ef_construction", 100))
    index.set_num_threads(os.cpu_count() or 1)
    index.add_items(points)
    index.set_ef(settings.get("ef", 50))
    return _without_itself(index.knn_query(points, K + 1)[0].astype(np.int64)), {}


def exact(task: data.Task, settings: dict[str, Any]) -> Found:
    """Exhaustive search, a block of rows at a time."""
    import faiss

    points = _prepared(task)
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    return _without_itself(index.search(points, K + 1)[1]), {}


BUILDERS: dict[str, Callable[[data.Task, dict[str, Any]], Found]] = {
    "distnnd": distnnd,
    "pynndescent": pynndescent,
    "faiss-ivf": faiss_ivf,
    "faiss-nndescent": faiss_nndescent,
    "hnswlib": hnswlib,
    "exact": exact,
}


def _floats(task: data.Task) -> np.ndarray:
    return np.load(task.points).astype(np.float32)


def _prepared(task: data.Task) -> np.ndarray:
    """Rows whose euclidean neighbours are those of the metric."""
    points = _floats(task)
    if task.metric == "cosine":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def _without_itself(ids: np.ndarray) -> np.ndarray:
    """Lists of K + 1 without the row itself, or without the last where the row did not find itself."""
    itself = ids == np.arange(len(ids))[:, None]
    itself[~itself.any(axis=1), -1] = True
    return ids[~itself].reshape(len(ids), -1)
