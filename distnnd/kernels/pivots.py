"""Pivots and partitions: which pivots share a partition, and which partitions a row goes to."""

from __future__ import annotations

import numpy as np

from .jit import kernel
from .neighbours import Lists
from .random import below, seed_of
from .rows import Form, surrogate

QUERY, BASE = 1, 2  # what a row does in a partition: look for neighbours there, be found there


@kernel
def _farthest(points, members, origin, form):
    best, far = members[0], np.float32(-1)
    for member in members:
        distance = surrogate(points, origin, points, member, form)
        if distance > far:
            best, far = member, distance
    return best


@kernel
def _lean(points, members, seed, form):
    """How much nearer each member is to one of two far members than to the other: float32[members]."""
    one = _farthest(points, members, members[below(seed, 0, members.size)], form)
    other = _farthest(points, members, one, form)
    lean = np.empty(members.size, np.float32)
    for i in range(members.size):
        lean[i] = surrogate(points, members[i], points, one, form)
        lean[i] -= surrogate(points, members[i], points, other, form)
    return lean


def share_out(pivots: np.ndarray, loads: np.ndarray, parts: int, form: Form, seed: int) -> np.ndarray:
    """Deal pivots out to `parts` partitions of about equal load, near ones together: int32[len(pivots)].

    pivots: prepared rows; loads: rows that each pivot stands for. The set is halved again and again between two far
    pivots, where the loads balance; so partitions with adjacent numbers are near each other.
    """
    partition = np.zeros(len(pivots), np.int32)
    todo = [(np.arange(len(pivots), dtype=np.int64), 0, parts)]
    while todo:
        members, first, count = todo.pop()
        if count == 1 or len(members) <= 1:
            partition[members] = first
            continue
        order = np.argsort(_lean(pivots, members, seed_of(seed, first, count), form), kind="stable")
        members, half = members[order], count // 2
        total = np.concatenate([[0], np.cumsum(loads[members], dtype=np.float64)])
        cut = int(np.abs(total - total[-1] * half / count).argmin())
        # Enough pivots for each partition on either side, even where one pivot stands for most rows.
        cut = min(max(cut, min(half, len(members) - 1)), max(len(members) - (count - half), 1))
        todo += [(members[:cut], first, half), (members[cut:], first + half, count - half)]
    return partition


@kernel
def _sum_up(points, nearest, sums):
    counts = np.zeros(len(sums), np.int64)
    for row in range(len(points)):
        pivot = nearest[row]
        if pivot >= 0:
            counts[pivot] += 1
            for column in range(points.shape[1]):
                sums[pivot, column] += np.float64(points[row, column])
    return counts


def means(points: np.ndarray, nearest: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    """Each pivot moved to the mean of the rows nearest to it, in the type of the points (Lloyd 1982).

    points: prepared rows [m, w]; nearest: int32[m], -1 for none; a pivot that is nearest to no row stays, and so do
    pivots of bits, which have no mean.
    """
    if pivots.dtype == np.uint8:
        return pivots
    sums = np.zeros(pivots.shape)
    counts = _sum_up(points, nearest, sums)[:, None]
    moved = np.where(counts > 0, sums / np.maximum(counts, 1), pivots)
    return (np.rint(moved) if pivots.dtype == np.int8 else moved).astype(pivots.dtype)


@kernel
def _ratios(nearest, partition_of, most):
    ratios = np.full((nearest.ids.shape[0], most), np.inf, np.float32)
    taken = np.empty(most, np.int32)
    for row in range(nearest.ids.shape[0]):
        count, first = 0, nearest.distances[row, 0]
        for at in range(nearest.ids.shape[1]):
            pivot = nearest.ids[row, at]
            if pivot < 0 or count == most:
                break
            new = True
            for before in range(count):
                new &= taken[before] != partition_of[pivot]
            if new:
                taken[count] = partition_of[pivot]
                if count == 0:
                    ratios[row, 0] = 1
                elif first > 0:
                    ratios[row, count] = nearest.distances[row, at] / first
                elif nearest.distances[row, at] == 0:
                    ratios[row, count] = 1
                count += 1
    return ratios


def reach_for(nearest: Lists, partition_of: np.ndarray, most: int, copies: float) -> float:
    """How many times as far as the nearest partition another may be, so that rows like these go to `copies` of them.

    On the average, and each to `most` at most; to fewer where rows see no more. nearest: lists of pivots with squared
    distances; partition_of: int32. Copies are spent where borders are: a row deep inside one partition finds its
    neighbours there.
    """
    ratios = _ratios(nearest, partition_of, most)
    ratios = np.sort(ratios[ratios < np.inf])
    return float(ratios[min(int(copies * len(nearest.ids)), len(ratios)) - 1])


@kernel
def assign(nearest, role, partition_of, most, reach, slots, roles):
    """Write down the first different partitions among each row's nearest pivots, with the row's role there.

    nearest: lists of pivots; partition_of: int32, the partition of each pivot; most: of a row; reach: float32, how many
    times as far as the nearest a pivot may be; slots: int32[m, places], -1 free; roles: uint8[m, places]. A partition
    that stands there already takes the role on.
    """
    for row in range(slots.shape[0]):
        taken, farthest = 0, reach * nearest.distances[row, 0] if reach < np.inf else np.float32(np.inf)
        for at in range(nearest.ids.shape[1]):
            pivot = nearest.ids[row, at]
            if pivot < 0 or taken == most or (taken > 0 and nearest.distances[row, at] > farthest):
                break
            partition = partition_of[pivot]
            place = 0
            while slots[row, place] >= 0 and slots[row, place] != partition:
                place += 1
            if slots[row, place] == partition and roles[row, place] & role:
                continue
            slots[row, place] = partition
            roles[row, place] |= np.uint8(role)
            taken += 1


@kernel
def count_pivots(nearest, count):
    """Rows that each of `count` pivots is the nearest to: int64[count]."""
    loads = np.zeros(count, np.int64)
    for row in range(nearest.ids.shape[0]):
        loads[nearest.ids[row, 0]] += 1
    return loads
