"""Small graphs written by hand, so that they can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distnnd.graph import Graph, open_graph
from distnnd.storage import graph as store
from distnnd.storage.source import open_source
from distnnd.values.spec import BuildSpec

Array = NDArray[Any]
N, D, K, BLOCK = 60, 5, 4, 16


def all_distances(points: Array, metric: str) -> Array:
    """Distances of all pairs, pair by pair in float64, rounded in the end: float32[n, n], inf for a row and itself."""
    rows = points.astype(np.float64)
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1)
        # A row of zeros is at 1 from all but its like.
        rows = np.column_stack([rows / np.where(norms, norms, 1)[:, None], norms == 0])
    squares = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    distances = {
        "euclidean": np.sqrt(squares),
        "sqeuclidean": squares,
        "cosine": squares / 2,
        "inner_product": -(rows @ rows.T),
    }[metric]
    np.fill_diagonal(distances, np.inf)
    return distances.astype(np.float32)


def true_lists(points: Array, k: int, metric: str) -> tuple[Array, Array]:
    """The exact graph: ids int64[n, k], distances float32[n, k], by (distance, id)."""
    distances = all_distances(points, metric)
    ids = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(distances, ids, axis=1)


def write_graph(
    place: Path, points: Array, lists: tuple[Array, Array], metric: str = "euclidean", source: Any = None
) -> Graph:
    """A finished graph of `points` with the given lists, as a build would leave it."""
    (n, k), opened = lists[0].shape, open_source(points if source is None else source)
    recall = {"estimate": 0.97, "low": 0.96, "high": 0.98, "probes": 256, "exact": False}
    facts = {"state": "complete", "n": n, "d": points.shape[1], "n_neighbors": k, "metric": metric, "recall": recall}
    facts |= {"spec": BuildSpec(k, metric).to_json(), "rounds": [{"number": 1, "width": k + 4, "recall": recall}]}
    facts |= {"source": {"location": opened.location, "fingerprint": opened.fingerprint()}}
    store.create(str(place), facts)
    store.create_result(str(place), n, k, BLOCK)
    for first in range(0, n, BLOCK):
        store.write_result(str(place), first, *(part[first : first + BLOCK] for part in lists))
    return open_graph(place)


def few_points() -> Array:
    """Rows with duplicates among them, in no order: float32[60, 5]."""
    rows = np.random.default_rng(5).normal(size=(N, D)).astype(np.float32)
    rows[[7, 21, 40]] = rows[3]
    return rows
