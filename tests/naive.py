"""A slow honest twin of each kernel: plain loops, float64, sorting instead of bounded lists. Tests compare with these.

Nothing here is shared with the kernels but the meaning of their arguments. Where a kernel may settle a tie either way
the twin says what is true of every good answer, in the `assert_` functions at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

Array = np.ndarray
WORD = 2**64 - 1

# --- random ---------------------------------------------------------------------------------------


def mix(seed: int, label: int) -> int:
    """64 random bits of two whole numbers: two odd multipliers, then the finaliser of splitmix64."""
    bits = (seed * 0x9E3779B97F4A7C15 & WORD) ^ (label * 0xC2B2AE3D27D4EB4F & WORD)
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & WORD
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & WORD
    return bits ^ bits >> 31


# --- lanes ----------------------------------------------------------------------------------------


def below(bias: Array, product: Array, start: int, count: int, bound: float) -> int:
    """Bit l is set where bias[start + l] - product[start + l] < bound; only lanes before `count`, at most sixteen."""
    mask = 0
    for lane in range(min(16, count - start)):
        if np.float32(bias[start + lane]) - np.float32(product[start + lane]) < np.float32(bound):
            mask |= 1 << lane
    return mask


# --- neighbours -----------------------------------------------------------------------------------


def nearest(offers: Iterable[tuple[float, int]], k: int) -> list[tuple[float, int]]:
    """The k smallest (distance, id) of the offers, ascending, no id twice: the first offer of an id counts."""
    first: dict[int, float] = {}
    for distance, label in offers:
        first.setdefault(label, distance)
    return sorted((distance, label) for label, distance in first.items())[:k]


def entries(ids: Array, distances: Array, row: int) -> list[tuple[float, int]]:
    """What list `row` holds, free places left out."""
    return [
        (float(distance), int(label)) for distance, label in zip(distances[row], ids[row], strict=True) if label != -1
    ]


# --- rows and metrics -----------------------------------------------------------------------------


def squared(points: Array, others: Array) -> Array:
    """Squared euclidean distances of all pairs: float64[m, p]."""
    gaps = points.astype(np.float64)[:, None] - others.astype(np.float64)[None]
    return (gaps * gaps).sum(axis=2)


def products(points: Array, others: Array) -> Array:
    """Inner products of all pairs: float64[m, p]."""
    return points.astype(np.float64) @ others.astype(np.float64).T


def surrogates(points: Array, others: Array, euclidean: bool) -> Array:
    """What kernels compare, of all pairs: float64[m, p]."""
    return squared(points, others) if euclidean else -products(points, others)


def distances(name: str, points: Array, others: Array) -> Array:
    """The metric of that name as the textbook has it, of all pairs of raw rows: float64[m, p].

    A zero row is at cosine distance 1 from every other row and at 0 from another zero row.
    """
    if name == "euclidean":
        return np.sqrt(squared(points, others))
    if name == "sqeuclidean":
        return squared(points, others)
    if name == "inner_product":
        return -products(points, others)
    assert name == "cosine"
    out = np.empty((len(points), len(others)))
    for i, x in enumerate(points.astype(np.float64)):
        for j, y in enumerate(others.astype(np.float64)):
            lengths = np.linalg.norm(x) * np.linalg.norm(y)
            out[i, j] = 1 - x @ y / lengths if lengths else float(x.any() or y.any())
    return out


# --- leaves ---------------------------------------------------------------------------------------


def group_rows(group_of: Array, groups: int) -> list[list[int]]:
    """The rows of each group, ascending; negative numbers are in none."""
    return [[row for row in range(len(group_of)) if group_of[row] == group] for group in range(groups)]


def members(groups: tuple[Array, Array]) -> list[list[int]]:
    """Groups(rows, starts) as lists of rows."""
    rows, starts = groups
    return [rows[starts[g] : starts[g + 1]].tolist() for g in range(len(starts) - 1)]


def allowed_by_join(shape: tuple[int, int], queries: list[list[int]], base: list[list[int]], itself: bool) -> Array:
    """Which pairs (row of points, row of others) a join compares and may keep: bool[m, p]."""
    allowed = np.zeros(shape, bool)
    for rows, stock in zip(queries, base, strict=True):
        for row in rows:
            allowed[row, stock] = True
    if itself:
        np.fill_diagonal(allowed, False)
    return allowed


# --- trees ----------------------------------------------------------------------------------------


class Level(NamedTuple):
    """One level of a tree as it was drawn.

    children, carved: of each node, how many children it has, and how many of them stand for a pivot; pivots: rows, by
    node; dealt: for each role the child that chance gave to (row, node).
    """

    children: Array
    carved: Array
    pivots: Array
    dealt: list[dict[tuple[int, int], int]]


def descend(
    points: Array, roles: Sequence[tuple[bool, int, Array]], fanout: int, levels: Iterable[Level]
) -> list[list[list[int]]]:
    """The leaves of each row for each role, nearest first, in a tree whose pivots are known.

    roles: (euclidean, leading columns that count, present rows). Children are numbered in order of nodes and pivots.
    """
    stand = [[[(0.0, 0)] if there else [] for there in present] for _, _, present in roles]
    for level in levels:
        first_child = np.concatenate([[0], np.cumsum(level.children)])
        first_pivot = np.concatenate([[0], np.cumsum(level.carved)])
        for role, ((euclidean, columns, _), places) in enumerate(zip(roles, stand, strict=True)):
            gaps = surrogates(points[:, :columns], points[level.pivots, :columns], euclidean)
            for row, nodes in enumerate(places):
                found = []
                for gap, node in nodes:
                    child = int(first_child[node])
                    if level.carved[node] == 0:
                        found.append((gap, level.dealt[role].get((row, node), child)))
                    for i in range(level.carved[node]):
                        found.append((float(gaps[row, first_pivot[node] + i]), child + i))
                places[row] = sorted(found)[:fanout]
    return [[[node for _, node in nodes] for nodes in places] for places in stand]


# --- descent --------------------------------------------------------------------------------------


def companions(ids: Array, state: Array, states: Sequence[int]) -> list[set[int]]:
    """For each row the neighbours in one of the states, and the rows that hold it in one of the states."""
    around: list[set[int]] = [set() for _ in range(len(ids))]
    for row in range(len(ids)):
        for label, what in zip(ids[row].tolist(), state[row].tolist(), strict=True):
            if label >= 0 and what in states:
                around[row].add(label)
                around[label].add(row)
    return around


def local_join(
    points: Array, fresh: list[list[int]], old: list[list[int]], euclidean: bool, ids: Array, distances: Array
) -> tuple[list[tuple[int, int, float]], range]:
    """All (target, label, distance) where label would enter the list of target, and how many products that may take.

    Each fresh companion of a row meets all later fresh ones and all old ones; lists stay as they are.
    """
    found, least, most = [], 0, 0
    gaps = surrogates(points, points, euclidean)
    for news, olds in zip(fresh, old, strict=True):
        if len(news) + len(olds) >= 2:
            least += len(news) * (len(news) - 1) // 2 + len(news) * len(olds)
            most += len(news) * (len(news) + len(olds))
        for i, one in enumerate(news):
            for other in [*news[i + 1 :], *olds]:
                for target, label in ((one, other), (other, one)):
                    if one != other and gaps[one, other] < distances[target, -1] and label not in ids[target]:
                        found.append((target, label, float(gaps[one, other])))
    return found, range(least, most + 1)


# --- merge ----------------------------------------------------------------------------------------


def merged(lists: Iterable[list[tuple[float, int]]], k: int) -> list[tuple[float, int]]:
    """Several lists of one row made one."""
    return nearest([entry for entries_of_one in lists for entry in entries_of_one], k)


def hits(found: list[tuple[float, int]], threshold: float, k: int) -> float:
    """Share of the k nearest of a list that are as near as the k-th true neighbour."""
    return sum(distance <= threshold for distance, _ in found[:k]) / k


# --- pivots ---------------------------------------------------------------------------------------


def assign(nearest_pivots: list[int], partition_of: Array, fanout: int) -> list[int]:
    """The first `fanout` different partitions along a row's nearest pivots."""
    partitions: list[int] = []
    for pivot in nearest_pivots:
        if pivot >= 0 and partition_of[pivot] not in partitions and len(partitions) < fanout:
            partitions.append(int(partition_of[pivot]))
    return partitions


# --- what is true of every good answer ------------------------------------------------------------


def recall(ids: Array, gaps: Array, k: int) -> float:
    """Share of the first k ids of each row that are as near as its k-th nearest other row; gaps: float64[m, m]."""
    others = gaps + np.where(np.eye(len(gaps), dtype=bool), np.inf, 0)
    thresholds = np.sort(others, axis=1)[:, k - 1]
    shares = [
        np.mean([label >= 0 and others[row, label] <= thresholds[row] for label in ids[row, :k]])
        for row in range(len(ids))
    ]
    return float(np.mean(shares))


def assert_ordered(ids: Array, distances: Array) -> None:
    """Each list ascends by (distance, id), holds no id twice, and is free only at its end."""
    for row in range(len(ids)):
        held = entries(ids, distances, row)
        assert held == sorted(held), f"row {row} is not in order: {held}"
        assert len({label for _, label in held}) == len(held), f"row {row} holds an id twice: {held}"
        assert (ids[row, len(held) :] == -1).all(), f"row {row} has a free place in between: {ids[row]}"
        assert np.isinf(distances[row, len(held) :]).all(), f"row {row} has a distance without an id"


def assert_nearest(ids: Array, distances: Array, gaps: Array, allowed: Array, tolerance: float) -> None:
    """Each list holds the nearest of the allowed columns of `gaps`, whichever of those that tie within `tolerance`."""
    assert_ordered(ids, distances)
    for row in range(len(ids)):
        columns = np.flatnonzero(allowed[row])
        held = ids[row][ids[row] >= 0]
        assert len(held) == min(ids.shape[1], len(columns)), f"row {row} holds {len(held)} of {len(columns)}"
        assert allowed[row, held].all(), f"row {row} holds what it was not compared with: {held}"
        told, true = distances[row, : len(held)], gaps[row, held]
        np.testing.assert_allclose(told, true, rtol=0, atol=tolerance, err_msg=f"row {row}: distances of {held}")
        best = np.sort(gaps[row, columns])[: len(held)]
        np.testing.assert_allclose(np.sort(true), best, rtol=0, atol=tolerance, err_msg=f"row {row} missed nearer")
