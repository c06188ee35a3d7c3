"""Bounded neighbour lists: ascending by (distance, id), no id twice, -1 and inf where nothing is known yet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .jit import kernel

# What NN-descent knows of an entry: compared with its companions already; not yet; not yet but drawn in this pass;
# found in this pass.
OLD, FRESH, DRAWN, BORN = 0, 1, 2, 3


class Lists(NamedTuple):
    """The lists of n rows. ids: int32 or int64[n, k]; distances: float32[n, k]; state: uint8[n, k]."""

    ids: np.ndarray
    distances: np.ndarray
    state: np.ndarray


def empty(n: int, k: int, dtype: type = np.int32) -> Lists:
    """Lists of `n` rows that know nothing."""
    return Lists(np.full((n, k), -1, dtype), np.full((n, k), np.inf, np.float32), np.zeros((n, k), np.uint8))


@kernel(inline=True)
def holds(ids, row, label):
    """Whether list `row` holds `label`."""
    found = False
    for slot in range(ids.shape[1]):
        found |= ids[row, slot] == label
    return found


@kernel(inline=True)
def insert(lists, row, label, distance, state):
    """Put (distance, label) into list `row` unless it is there or the list is full of nearer ones; True if it did."""
    ids, distances, states = lists
    last = ids.shape[1] - 1
    worst = distances[row, last]
    if not distance <= worst or (distance == worst and label >= ids[row, last]) or holds(ids, row, label):
        return False
    slot = last
    while slot > 0:
        before = distances[row, slot - 1]
        if before < distance or (before == distance and ids[row, slot - 1] < label):
            break
        distances[row, slot] = before
        ids[row, slot] = ids[row, slot - 1]
        states[row, slot] = states[row, slot - 1]
        slot -= 1
    distances[row, slot] = distance
    ids[row, slot] = label
    states[row, slot] = state
    return True


@kernel
def sort_rows(lists, first, last):
    """Bring the rows first .. last back into order by (distance, id) after their distances changed."""
    ids, distances, states = lists
    for row in range(first, last):
        for slot in range(1, ids.shape[1]):
            label, distance, state = ids[row, slot], distances[row, slot], states[row, slot]
            at = slot
            while at > 0 and (
                distances[row, at - 1] > distance or (distances[row, at - 1] == distance and ids[row, at - 1] > label)
            ):
                distances[row, at] = distances[row, at - 1]
                ids[row, at] = ids[row, at - 1]
                states[row, at] = states[row, at - 1]
                at -= 1
            distances[row, at] = distance
            ids[row, at] = label
            states[row, at] = state
