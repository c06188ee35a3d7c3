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


def count_at_most(numbers: Array, start: int, bound: int) -> int:
    """How many of the sixteen numbers from `start` on are at most `bound`."""
    return sum(number <= bound for number in numbers.tolist()[start : start + 16])


def with_room(entries: list[tuple], at: int, newcomer: tuple) -> list[tuple]:
    """Sorted entries after the newcomer got its place among the sixteen from `at` on, the last of which may go."""
    window = sorted([*entries[at - 1 : at + 16], newcomer])
    return [*entries[:at], *window[1:17], *entries[at + 16 :]]


# --- sieve ----------------------------------------------------------------------------------------


def sift(bias: Array, products: Array, first: int, count: int, bound: int) -> list[int]:
    """Places of those of the candidates whose score is at most `bound`."""
    flat = products.ravel().tolist()
    scores = [int(bias[place]) - 2 * flat[first + place] for place in range(count)]
    return [place for place, score in enumerate(scores) if score <= int(bound)]


def within(numbers: Array, start: int, count: int, first: int, last: int) -> list[int]:
    """Places of the numbers that are at least `first` and below `last`, among `count` of them from `start` on."""
    return [
        start + i for i, number in enumerate(numbers.ravel().tolist()[start : start + count]) if first <= number < last
    ]


def meetings(cards: Array, row: int, member: int) -> int:
    """Bit 4 i is set where leaf i of `row` is one of those of `member`."""
    own, other = cards[row, :4].tolist(), cards[member, :4].tolist()
    return sum(1 << 4 * i for i, leaf in enumerate(own) if leaf in other)


def acquainted(leaves: Array, one: int, other: int) -> bool:
    """Whether two members stand in one leaf; leaves: by place and member."""
    return bool(set(leaves[:, one].tolist()) & set(leaves[:, other].tolist()))


def strangers(
    met: Array, squares: Array, limits: Array, members: Array, one: int, met_all: int, count: int, base: int
) -> list[tuple[int, int, int, int]]:
    """(base + square, larger limit, id of one, id) of the members that have yet to meet `one`."""
    found = []
    for at in range(count):
        turn = at > one or int(met[at]) & met_all
        if turn and not int(met[at]) & int(met[one]):
            limit = max(int(limits[at]), int(limits[one]))
            found.append((base + int(squares[at]), limit, int(members[one]), int(members[at])))
    return found


def near(
    bases: Array, products: Array, limits: Array, ones: Array, others: Array, count: int, share: bool
) -> list[tuple[int, int, int]]:
    """(one, other, estimate) of the pairs of different rows whose estimate is within their limit.

    share: limits are for each 4096 of what the bases are.
    """
    found = []
    for base, product, limit, one, other in zip(*map(list, (bases, products, limits, ones, others)), strict=True):
        estimate = int(base) - 2 * int(product)
        most = int(limit) * int(base) // 4096 if share else int(limit)
        found.append((int(one), int(other), estimate) if one != other and estimate <= most else None)
    return [pair for pair in found[:count] if pair]


def struck(candidates: list[tuple[int, int, int]], bound: int, itself: int, held: list[int]) -> list[tuple]:
    """The candidates (label, place, score) whose score is at most `bound` and whose label nobody knows yet."""
    return [one for one in candidates if one[2] <= bound and one[0] != itself and one[0] not in held]


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


def taken(held: list[tuple], offers: list[tuple], k: int) -> list[tuple]:
    """The k first of a list and of what it is offered, both (distance, id, state)."""
    return sorted([*held, *offers])[:k]


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


# --- products and codes ---------------------------------------------------------------------------


def packed(values: Array, rows: Array) -> list[int]:
    """Bytes of packed rows: sixteen side by side, four columns of each; 128 too high; zeros up to 64 columns."""
    width = values.shape[1]
    out = []
    for group in range(0, len(rows), 16):
        for word in range(0, -(-width // 64) * 64, 4):
            for row in rows[group : group + 16]:
                out += [(int(values[row, column]) if column < width else 0) + 128 for column in range(word, word + 4)]
    return out


def whole_products(values: Array, others: Array) -> Array:
    """Inner products of all pairs of rows of whole numbers: int64[m, p]."""
    return values.astype(np.int64) @ others.astype(np.int64).T


def estimates(values: Array, others: Array, euclidean: bool, columns: int) -> Array:
    """What codes say of all pairs, in units of a form, from gaps rather than from squares: int64[m, p]."""
    one, other = values[:, :columns].astype(np.int64), others[:, :columns].astype(np.int64)
    if not euclidean:
        return -2 * (one @ other.T)
    return np.array([((row - other) ** 2).sum(axis=1) for row in one], np.int64).reshape(len(one), len(other))


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


def nearest_allowed(gaps: Array, allowed: Array, k: int) -> list[list[tuple[float, int]]]:
    """For each row the k smallest (gap, column) among the allowed columns, ascending."""
    lists = []
    for row in range(len(gaps)):
        columns = np.flatnonzero(allowed[row])
        columns = columns[np.argsort(gaps[row, columns], kind="stable")][:k]
        lists.append([(float(gaps[row, column]), int(column)) for column in columns])
    return lists


def first_bound(scores: list[int], groups: int, wanted: int) -> float:
    """The smallest number that the least scores of `wanted` groups do not exceed; inf where too few scores are there.

    Scores are dealt to the groups in turn, as far as all groups get as many.
    """
    if groups < wanted or len(scores) < 2 * groups:
        return np.inf
    return sorted(minima(scores, groups))[wanted - 1]


def minima(scores: list[int], groups: int) -> list[int]:
    """The least score of each group to which the scores are dealt in turn."""
    whole = len(scores) // groups * groups
    return [min(scores[group:whole:groups]) for group in range(groups)]


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
    values: Array, roles: Sequence[tuple[bool, int, Array]], fanout: int, levels: Iterable[Level]
) -> list[list[list[int]]]:
    """The leaves of each row for each role, nearest first, in a tree whose pivots are known.

    values: codes of the rows, by which they are routed; roles: (euclidean, leading columns that count, present rows).
    Children are numbered in order of nodes and pivots.
    """
    stand = [[[(0.0, 0)] if there else [] for there in present] for _, _, present in roles]
    for level in levels:
        first_child = np.concatenate([[0], np.cumsum(level.children)])
        first_pivot = np.concatenate([[0], np.cumsum(level.carved)])
        for role, ((euclidean, columns, _), places) in enumerate(zip(roles, stand, strict=True)):
            gaps = surrogates(values[:, :columns], values[level.pivots, :columns], euclidean)
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


def holders(ids: Array, state: Array, states: Sequence[int]) -> list[set[int]]:
    """For each row those that hold it by an entry in one of the states, unless it holds them."""
    around: list[set[int]] = [set() for _ in range(len(ids))]
    for row in range(len(ids)):
        for label, what in zip(ids[row].tolist(), state[row].tolist(), strict=True):
            if label >= 0 and what in states and row not in ids[label]:
                around[label].add(row)
    return around


def companions(ids: Array, state: Array, states: Sequence[int], drawn: list[list[int]]) -> list[list[int]]:
    """For each row its entries in one of the states whose rows are at hand, then the rows that were drawn for it."""
    around = []
    for row, others in enumerate(drawn):
        entries_of_one = zip(ids[row].tolist(), state[row].tolist(), strict=True)
        around.append([label for label, what in entries_of_one if label >= 0 and what in states] + others)
    return around


def local_join(
    gaps: Array,
    fresh: list[list[int]],
    old: list[list[int]],
    ids: Array,
    worst: Array,
    ties: bool = False,
    leaves: list[set[int]] | None = None,
) -> tuple[list[tuple[int, int, float]], int]:
    """All (target, label, distance) where label would enter the list of target, and how many pairs are compared.

    Each fresh companion of a row meets all later fresh ones and all old ones. Who stands in one leaf finds nothing new,
    and is not compared where that leaf is one of the row's or some are old. Lists stay as they are. ties: what is as
    near as the last of a list may be found too.
    """
    found, compared = [], 0
    for row, (news, olds) in enumerate(zip(fresh, old, strict=True)):
        for i, one in enumerate(news):
            for other in [*news[i + 1 :], *olds]:
                shared = leaves[one] & leaves[other] if leaves else set()
                if shared and (olds or shared & leaves[row]):
                    continue
                compared += 1
                if shared:
                    continue
                gap = gaps[one, other]
                for target, label in ((one, other), (other, one)):
                    near = gap < worst[target] or (ties and gap == worst[target])
                    if one != other and near and label not in ids[target]:
                        found.append((target, label, float(gap)))
    return found, compared


# --- merge ----------------------------------------------------------------------------------------


def merged(lists: Iterable[list[tuple[float, int]]], k: int) -> list[tuple[float, int]]:
    """Several lists of one row made one."""
    return nearest([entry for entries_of_one in lists for entry in entries_of_one], k)


def hits(found: list[tuple[float, int]], threshold: float, k: int) -> float:
    """Share of the k nearest of a list that are as near as the k-th true neighbour."""
    return sum(distance <= threshold for distance, _ in found[:k]) / k


# --- pivots ---------------------------------------------------------------------------------------


def assign(
    nearest_pivots: list[int], distances: list[float], partition_of: Array, most: int, reach: float
) -> list[int]:
    """The first `most` different partitions along a row's nearest pivots that are `reach` times as far as the first."""
    partitions: list[int] = []
    for pivot, distance in zip(nearest_pivots, distances, strict=True):
        near = not partitions or distance <= reach * distances[0]
        if near and partition_of[pivot] not in partitions and len(partitions) < most:
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


def assert_nearest(ids: Array, distances: Array, gaps: Array, allowed: Array, tolerance: float | Array) -> None:
    """Each list holds the nearest of the allowed columns of `gaps`, whichever of those that tie within `tolerance`.

    tolerance: of all gaps, or of each.
    """
    assert_ordered(ids, distances)
    tolerances = np.broadcast_to(tolerance, gaps.shape)
    for row in range(len(ids)):
        columns = np.flatnonzero(allowed[row])
        held = ids[row][ids[row] >= 0]
        assert len(held) == min(ids.shape[1], len(columns)), f"row {row} holds {len(held)} of {len(columns)}"
        assert allowed[row, held].all(), f"row {row} holds what it was not compared with: {held}"
        told, true, slack = distances[row, : len(held)], gaps[row, held], tolerances[row, held]
        assert (abs(told - true) <= slack).all(), f"row {row} tells {told} instead of {true}"
        nearest_columns = columns[np.argsort(gaps[row, columns], kind="stable")][: len(held)]
        slack = 2 * np.maximum(np.sort(slack), tolerances[row, nearest_columns])
        best = gaps[row, nearest_columns]
        assert (abs(np.sort(true) - best) <= slack).all(), f"row {row} holds {np.sort(true)} instead of {best}"
