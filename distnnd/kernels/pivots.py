"""Pivots and partitions: which pivots share a partition, and which partitions a row goes to."""

from __future__ import annotations

import numpy as np

from .jit import kernel
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
def assign(nearest, role, partition_of, fanout, slots, roles):
    """Write down the first `fanout` different partitions among each row's nearest pivots, with the row's role there.

    nearest: lists of pivots; partition_of: int32, the partition of each pivot; slots: int32[m, places], -1 free;
    roles: uint8[m, places]. A partition that stands there already takes the role on.
    """
    for row in range(slots.shape[0]):
        taken = 0
        for at in range(nearest.ids.shape[1]):
            pivot = nearest.ids[row, at]
            if pivot < 0 or taken == fanout:
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
