"""What a search would meet in a graph: how often rows are neighbours, and what hangs together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from ..kernels.neighbours import Lists
from ..kernels.random import seed_of
from ..storage import graph
from .views import index_dtype, points_at, ruler_of, same_points

BRIDGES = 43  # what random rows are drawn for: a part of their seed
# Rows of a component, and of the largest one, among which the shortest bridge is sought.
ASHORE, OPPOSITE = 64, 1024
SIZES = 10


def search_report(
    location: str, facts: dict[str, Any], connect: bool, source: Any, function: Callable[..., float] | None
) -> dict[str, Any]:
    """Numbers about the finished graph at `location`, see Graph.search_report."""
    n, k = facts["n"], facts["n_neighbors"]
    held = np.zeros(n, np.int64)
    kind = index_dtype(n, n * k)
    ids = np.empty((n, k), kind)
    for first, block, _ in graph.result_blocks(location):
        ids[first : first + len(block)] = block
        held += np.bincount(block.ravel(), minlength=n)
    edges = sparse.csr_matrix((np.ones(n * k, np.int8), ids.ravel(), np.arange(0, n * k + 1, k, dtype=kind)), (n, n))
    count, labels = csgraph.connected_components(edges, directed=True, connection="weak")
    sizes = np.sort(np.bincount(labels))[::-1]
    spread = float(held.std())
    hubs = np.sort(held)[::-1][: max(n // 100, 1)]
    report: dict[str, Any] = {
        "n": n,
        "out_degree": k,
        "in_degree": {
            "max": int(held.max()),
            "median": float(np.median(held)),
            "none": int((held == 0).sum()),
            "hubness": float(((held - k) ** 3).mean() / spread**3) if spread else 0.0,
            "share_of_top_hundredth": float(hubs.sum() / (n * k)),
        },
        "components": {"count": int(count), "largest": [int(size) for size in sizes[:SIZES]]},
    }
    if connect:
        with same_points(location, facts, source) as points:
            report["bridges"] = bridges(points, ruler_of(facts, function), labels, facts["spec"]["random_state"])
    return report


def bridges(points: Any, ruler: Any, labels: np.ndarray, seed: int) -> list[tuple[int, int, float]]:
    """For each component but the largest a short edge to that one: (row, row there, distance)."""
    largest = np.bincount(labels).argmax()
    draw = np.random.default_rng(seed_of(seed, BRIDGES))
    there = some(np.flatnonzero(labels == largest), OPPOSITE, draw)
    others = ruler.hold(points_at(points, there))
    judge, found = ruler.judge(others), []
    for label in np.delete(np.arange(labels.max() + 1), largest):
        here = some(np.flatnonzero(labels == label), ASHORE, draw)
        asked = ruler.judge(ruler.hold(points_at(points, here))).rows
        shape = (len(here), len(there))
        every = np.ascontiguousarray(np.broadcast_to(np.arange(len(there), dtype=np.int32), shape))
        lists = Lists(every, np.empty(shape, np.float32), np.zeros(shape, np.uint8))
        judge.measure(lists, 0, len(here), asked)
        distances = ruler.finish(lists.distances)
        row, other = np.unravel_index(int(distances.argmin()), shape)
        found.append((int(here[row]), int(there[other]), float(distances[row, other])))
    return found


def some(rows: np.ndarray, most: int, draw: np.random.Generator) -> np.ndarray:
    """At most so many of the rows, ascending."""
    return rows if len(rows) <= most else np.sort(draw.choice(rows, most, replace=False))
