"""Bounded neighbour lists: ascending by (distance, id), no id twice, -1 and inf where nothing is known yet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .jit import kernel
from .lanes import LANES, any_equal, make_room, prefetch, prefetch_row
from .sieve import order, rank

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
    width = ids.shape[1]
    if width >= LANES:
        # The last sixteen may have been looked at before.
        found = any_equal(ids, row * width + width - LANES, label)
        for slot in range(0, width - LANES, LANES):
            found |= any_equal(ids, row * width + slot, label)
        return found
    found = False
    for slot in range(width):
        found |= ids[row, slot] == label
    return found


@kernel(inline=True)
def ask_for_list(lists, row):
    """Ask for list `row` before it is needed."""
    prefetch_row(lists.ids, row)
    prefetch_row(lists.distances, row)
    prefetch(lists.state, row * lists.state.shape[1])


@kernel(inline=True)
def before(lists, row, slot, distance, label):
    """Whether the entry at `slot` comes before (distance, label): it is nearer, or as near with a lower id."""
    there = lists.distances[row, slot]
    return there < distance or (there == distance and lists.ids[row, slot] < label)


@kernel(inline=True)
def put(lists, row, label, distance, state, mixed):
    """Put (distance, label), which is new to list `row` and comes before its last entry, in its place.

    mixed: entries may differ in state; where they do not, there is no state to move.
    """
    width = lists.ids.shape[1]
    slot = width - 1
    # Sixteen places at a time from the far end, while the newcomer belongs further to the front.
    while slot >= LANES:
        slot -= LANES
        make_room(lists.distances, lists.ids, lists.state, row * width + slot + 1, distance, label, state)
        if before(lists, row, slot, distance, label):
            return
    while slot > 0 and not before(lists, row, slot - 1, distance, label):
        lists.distances[row, slot] = lists.distances[row, slot - 1]
        lists.ids[row, slot] = lists.ids[row, slot - 1]
        if mixed:
            lists.state[row, slot] = lists.state[row, slot - 1]
        slot -= 1
    lists.distances[row, slot] = distance
    lists.ids[row, slot] = label
    if mixed:
        lists.state[row, slot] = state


@kernel(inline=True)
def insert(lists, row, label, distance, state):
    """Put (distance, label) into list `row` unless it is there or the list is full of nearer ones; True if it did."""
    width = lists.ids.shape[1]
    if not distance <= lists.distances[row, width - 1] or before(lists, row, width - 1, distance, label):
        return False
    if holds(lists.ids, row, label):
        return False
    put(lists, row, label, distance, state, True)
    return True


class Offers(NamedTuple):
    """Room for offers to one list: distances float32[r], ids int32[r], r a multiple of sixteen.

    Beside them how many entries come before each offer, int32[r]; a copy of the list with how many offers come before
    each entry: as many places as the list has, to the next multiple of sixteen; and both in order, with their states.
    """

    distances: np.ndarray
    ids: np.ndarray
    ranks: np.ndarray
    held_distances: np.ndarray
    held_ids: np.ndarray
    gains: np.ndarray
    all_distances: np.ndarray
    all_ids: np.ndarray
    all_states: np.ndarray


@kernel
def room_for_offers(width, most):
    """Room for `most` offers at once to lists of `width` entries."""
    most, size = (most + LANES - 1) // LANES * LANES, (width + LANES - 1) // LANES * LANES
    return Offers(
        np.empty(most, np.float32),
        np.empty(most, np.int32),
        np.empty(most, np.int32),
        np.full(size, np.inf, np.float32),
        np.zeros(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size + most, np.float32),
        np.empty(size + most, np.int32),
        np.empty(size + most, np.uint8),
    )


@kernel(inline=True)
def take(lists, row, offers, count, state):
    """Merge the first `count` offers into list `row`: none known to the list, none twice.

    Each entry counts how many come before it and goes straight to that place; an insertion would wait for the last one.
    What falls out of the list is written down too: nobody could guess which that is.
    """
    width = lists.ids.shape[1]
    for slot in range(width):
        offers.held_distances[slot] = lists.distances[row, slot]
        offers.held_ids[slot] = lists.ids[row, slot]
    for i in range(count, (count + LANES - 1) // LANES * LANES):
        offers.distances[i] = np.inf
        offers.ids[i] = np.int32(-1)
    for start in range(0, count, LANES):
        order(offers.distances, offers.ids, count, start, offers.ranks)
    # A list that knows nothing yet has nothing to be ranked with.
    known = width if offers.held_distances[0] < np.inf else 0
    for start in range(0, known, LANES):
        held = (offers.held_distances, offers.held_ids)
        rank(offers.distances, offers.ids, count, *held, start, offers.ranks, offers.gains)
    for i in range(count):
        at = offers.ranks[i]
        offers.all_distances[at] = offers.distances[i]
        offers.all_ids[at] = offers.ids[i]
        offers.all_states[at] = state
    for slot in range(known):
        at = slot + offers.gains[slot]
        offers.all_distances[at] = offers.held_distances[slot]
        offers.all_ids[at] = offers.held_ids[slot]
        offers.all_states[at] = lists.state[row, slot]
    kept = min(width, count + known)
    # What is infinitely far is no neighbour, and free places are free already.
    while kept > 0 and offers.all_distances[kept - 1] == np.inf:
        kept -= 1
    for slot in range(kept):
        lists.distances[row, slot] = offers.all_distances[slot]
        lists.ids[row, slot] = offers.all_ids[slot]
        lists.state[row, slot] = offers.all_states[slot]


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


@kernel
def first_broken(ids, distances, first, n):
    """The first row without distinct valid neighbours other than itself at ascending finite distances; -1 for none.

    ids: int64[m, k], of the rows from `first` on; n: number of all rows.
    """
    for row in range(ids.shape[0]):
        before = np.float32(-np.inf)
        for slot in range(ids.shape[1]):
            label, distance = ids[row, slot], distances[row, slot]
            if not (0 <= label < n) or label == first + row or not before <= distance or distance == np.inf:
                return row
            for other in range(slot):
                if ids[row, other] == label:
                    return row
            before = distance
    return -1
