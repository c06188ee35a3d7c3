"""Exact neighbours of some rows, and the recall of lists against them."""

from __future__ import annotations

import numpy as np

# From so many columns on, products of whole blocks are quicker than a k-d tree.
FEW_COLUMNS = 8
BLOCK = 16384
# So many times k rows, nearest by float32, are ranked anew in float64.
SPARE = 4


def nearest(points: np.ndarray, queries: np.ndarray, k: int, metric: str = "euclidean") -> np.ndarray:
    """The k nearest rows of each of the rows `queries`, itself excluded: int64[queries, k]. points: array or memmap."""
    if points.shape[1] <= FEW_COLUMNS and metric == "euclidean":
        return _nearest_in_tree(points, queries, k)
    some = _candidates(points, queries, min(SPARE * k, len(points) - 1), metric)
    order = np.argsort(distances(points, queries, some, metric), axis=1, kind="stable")[:, :k]
    return np.take_along_axis(some, order, axis=1)


def _nearest_in_tree(points: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    from scipy.spatial import cKDTree

    found = cKDTree(points).query(points[queries], k + 1)[1]
    return without_itself(found, queries)


def _candidates(points: np.ndarray, queries: np.ndarray, keep: int, metric: str) -> np.ndarray:
    """The `keep` rows that float32 finds nearest to each query, by products of blocks that grow."""
    wanted = _prepared(points[queries], metric)
    asked, ids, gaps = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    bound = np.full(len(queries), np.inf, np.float32)
    start, step = 0, 2 * keep
    while start < len(points):
        block = _prepared(points[start : start + step], metric)
        apart = np.einsum("ij,ij->i", block, block) - 2 * (wanted @ block.T)
        here = np.flatnonzero((queries >= start) & (queries < start + len(block)))
        apart[here, queries[here] - start] = np.inf
        who, which = np.nonzero(apart < bound[:, None])
        asked, ids = np.concatenate([asked, who]), np.concatenate([ids, which + start])
        gaps = np.concatenate([gaps, apart[who, which]])
        order = np.lexsort((gaps, asked))
        firsts = np.searchsorted(asked[order], np.arange(len(queries)))
        order = order[np.arange(len(order)) - firsts[asked[order]] < keep]
        asked, ids, gaps = asked[order], ids[order], gaps[order]
        full = np.bincount(asked, minlength=len(queries)) == keep
        ends = np.searchsorted(asked, np.arange(len(queries)), side="right") - 1
        bound[full] = gaps[ends[full]]
        start, step = start + len(block), min(2 * step, BLOCK)
    return ids.reshape(len(queries), keep)


def _prepared(rows: np.ndarray, metric: str) -> np.ndarray:
    """Rows as float32, of length one where only their direction counts."""
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows


def distances(points: np.ndarray, rows: np.ndarray, others: np.ndarray, metric: str) -> np.ndarray:
    """Distances of each of `rows` to the rows others[i], float64[rows, m]. Ids below 0 are infinitely far."""
    result = np.empty(others.shape)
    for start in range(0, len(rows), 500):
        part = slice(start, start + 500)
        row, near = points[rows[part]].astype(np.float64), points[others[part]].astype(np.float64)
        if metric == "cosine":
            lengths = np.linalg.norm(near, axis=2) * np.linalg.norm(row, axis=1)[:, None]
            result[part] = 1 - np.einsum("qmd,qd->qm", near, row) / lengths
        else:
            result[part] = np.linalg.norm(near - row[:, None], axis=2)
    return np.where(others < 0, np.inf, result)


def recall(points: np.ndarray, queries: np.ndarray, truth: np.ndarray, ids: np.ndarray, metric: str) -> float:
    """Share of the k true neighbours that were found: those as near as the k-th true one count, once each.

    truth: [queries, k] exact ids; ids: [queries, k] those found, below 0 where none.
    """
    near = distances(points, queries, ids, metric)
    farthest = distances(points, queries, truth, metric).max(axis=1, keepdims=True)
    right = (near <= farthest * (1 + 1e-6) + 1e-12) & (ids != queries[:, None]) & ~_repeated(ids)
    return float(right.mean())


def _repeated(ids: np.ndarray) -> np.ndarray:
    """Where a list names an id that it has named before."""
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return again


def without_itself(ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Lists of one more than wanted without the row itself, or without the last where a row did not find itself."""
    itself = ids == rows[:, None]
    itself[~itself.any(axis=1), -1] = True
    return ids[~itself].reshape(len(ids), -1)
