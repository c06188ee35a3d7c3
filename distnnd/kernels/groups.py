"""Rows by group: of a leaf, of a node of a tree, of whatever else has a number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .jit import kernel


class Groups(NamedTuple):
    """Rows by group: rows int32[m] and starts int64[groups + 1]; group g holds rows[starts[g] : starts[g + 1]]."""

    rows: np.ndarray
    starts: np.ndarray


@kernel
def group_rows(group_of, groups):
    """Groups of the rows by number (counting sort); rows of a negative number are in none. group_of: int32[n]."""
    starts = np.zeros(groups + 1, np.int64)
    for row in range(group_of.size):
        if group_of[row] >= 0:
            starts[group_of[row] + 1] += 1
    for group in range(groups):
        starts[group + 1] += starts[group]
    at = starts[:-1].copy()
    rows = np.empty(starts[-1], np.int32)
    for row in range(group_of.size):
        group = group_of[row]
        if group >= 0:
            rows[at[group]] = row
            at[group] += 1
    return rows, starts


@kernel
def keep_range(slots, first, last):
    """Of each row's numbers keep those from `first` to `last`, in front, counted from `first`; -1 behind them.

    slots: int32[n, places], changed in place. Returns whether the number in front was kept: bool[n].
    """
    stayed = np.empty(slots.shape[0], np.bool_)
    for row in range(slots.shape[0]):
        kept = 0
        stayed[row] = first <= slots[row, 0] < last
        for place in range(slots.shape[1]):
            number = slots[row, place]
            slots[row, place] = -1
            if first <= number < last:
                slots[row, kept] = number - first
                kept += 1
    return stayed


def slot_groups(slots: np.ndarray, count: int) -> list[Groups]:
    """For each place of a row its groups by node: one list of groups a column of `slots`."""
    return [Groups(*group_rows(np.ascontiguousarray(column), count)) for column in slots.T]


def all_members(slots: np.ndarray, count: int) -> Groups:
    """Groups of all rows by node, whatever the place a node has in the row."""
    groups = Groups(*group_rows(np.ascontiguousarray(slots).ravel(), count))
    return Groups(groups.rows // np.int32(slots.shape[1]), groups.starts)


def all_in_one(count: int) -> Groups:
    """All of `count` rows in one group."""
    return Groups(np.arange(count, dtype=np.int32), np.array([0, count]))
