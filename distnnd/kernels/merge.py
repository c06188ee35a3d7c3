"""Lists of one row that several partitions found become one: the k nearest by (distance, id), no id twice.

The operation is commutative, associative and idempotent as long as a pair has the same distance everywhere, which is
what the canonical surrogate is for. So retries, late tasks and their order cannot change a graph.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..values.recall import as_near_as
from .jit import kernel
from .lanes import prefetch
from .neighbours import FRESH, OLD, Lists, ask_for_list, before, empty, insert
from .random import below as random_below
from .random import mix
from .rows import surrogate

# So many moves ahead a row is asked for before it is needed.
ROWS_AHEAD = 8


@kernel(inline=True)
def adopt(lists, row, ids, distances, i):
    """Let an empty list begin with the entries of ids[i], distances[i] up to one that is out of order; how many."""
    taken = 0
    if lists.ids[row, 0] != -1:
        return taken
    for slot in range(min(ids.shape[1], lists.ids.shape[1])):
        disordered = slot > 0 and not before(lists, row, slot - 1, distances[i, slot], ids[i, slot])
        # What is at infinity, or no number, is for `insert` to refuse.
        if ids[i, slot] < 0 or disordered or not distances[i, slot] < np.inf:
            break
        lists.ids[row, slot], lists.distances[row, slot] = ids[i, slot], distances[i, slot]
        lists.state[row, slot] = FRESH
        taken += 1
    return taken


@kernel
def fold(lists, rows, ids, distances):
    """Offer each entry of ids[i], distances[i] to list rows[i]; ids: int64[m, w], -1 for none."""
    last = lists.ids.shape[1] - 1
    for i in range(rows.size):
        for slot in range(adopt(lists, rows[i], ids, distances, i), ids.shape[1]):
            if ids[i, slot] >= 0 and insert(lists, rows[i], ids[i, slot], distances[i, slot], np.uint8(FRESH)):
                continue
            # Both lists ascend: once an entry is too far, so are the rest; after a known one may come better.
            if ids[i, slot] < 0 or distances[i, slot] > lists.distances[rows[i], last]:
                break


def offer_to_all(lists: Lists, near: np.ndarray, first: int) -> None:
    """Offer all lists the rows `near`, which are at distance 0 from all others, but none to its own list.

    near: int64[m], of which no list needs more than its length and one; first: the row whose list is the first.
    """
    count, width = lists.ids.shape
    near = near[: width + 1]
    itself = near == np.arange(first, first + count)[:, None]
    # In its own place a row is offered another one, twice.
    ids = np.where(itself, np.roll(near, 1) if len(near) > 1 else -1, near).astype(lists.ids.dtype)
    fold(lists, np.arange(count, dtype=ids.dtype), ids, np.zeros(ids.shape, np.float32))


@kernel
def join_lists(lists, others):
    """Offer each list all entries of the other list of that row, under their own state."""
    for row in range(lists.ids.shape[0]):
        for slot in range(others.ids.shape[1]):
            if others.ids[row, slot] != -1:
                insert(lists, row, others.ids[row, slot], others.distances[row, slot], others.state[row, slot])


@kernel(inline=True)
def _find(table, rows, wanted):
    """Slot of the table that holds the position of row id `wanted`, or the free slot where it would go."""
    mask = table.size - 1
    at = np.int64(mix(0, wanted) & np.uint64(mask))
    while table[at] >= 0 and rows[table[at]] != wanted:
        at = (at + 1) & mask
    return at


@kernel
def table_of(rows):
    """Hash table of the rows of a partition: int32 positions, -1 free; a repeated row keeps its first position.

    Returns the table and bool[m]: whether a row stands here for the first time. rows: int64[m].
    """
    size = 16
    while size < 2 * rows.size:
        size *= 2
    table = np.full(size, -1, np.int32)
    first_time = np.ones(rows.size, np.bool_)
    for i in range(rows.size):
        at = _find(table, rows, rows[i])
        if table[at] >= 0:
            first_time[i] = False
        else:
            table[at] = i
    return table, first_time


@kernel
def share_roles(table, rows, roles):
    """Give the first copy of each row the roles of all its copies. roles: uint8[m]."""
    for i in range(rows.size):
        roles[table[_find(table, rows, rows[i])]] |= roles[i]


@kernel
def localise(ids, table, rows, first, state, lists):
    """Write the incoming ids of the rows from `first` on as local labels.

    ids: int64[m, w]. A neighbour that is in the partition becomes its position there and takes `state`; one that is
    elsewhere becomes -2 - slot, by which its id is found again.
    """
    for i in range(ids.shape[0]):
        for slot in range(ids.shape[1]):
            label, what = np.int32(-1), np.uint8(OLD)
            if ids[i, slot] >= 0:
                position = table[_find(table, rows, ids[i, slot])]
                label = position if position >= 0 else np.int32(-2 - slot)
                what = np.uint8(state) if position >= 0 else np.uint8(OLD)
            lists.ids[first + i, slot] = label
            lists.state[first + i, slot] = what


@kernel
def globalise(lists, rows, known, positions, kept):
    """The first `kept` entries of the lists at `positions`, with global ids: int64[m, kept] and float32[m, kept].

    known: int64[., w], ids as they came in.
    """
    ids, distances = np.empty((positions.size, kept), np.int64), np.empty((positions.size, kept), np.float32)
    for i in range(positions.size):
        ask_for_list(lists, positions[min(i + ROWS_AHEAD, positions.size - 1)])
        for slot in range(kept):
            label, number = lists.ids[positions[i], slot], np.int64(-1)
            if label >= 0:
                number = rows[label]
            elif label <= -2:
                number = known[positions[i], -2 - label]
            ids[i, slot], distances[i, slot] = number, lists.distances[positions[i], slot]
    return ids, distances


@kernel
def _cycles(order):
    """A permutation cycle by cycle: int32[m], position after position, each where the one before it gets its row from.

    The first position of a cycle is written as -1 - position.
    """
    chain, done, used = np.empty(order.size, np.int32), np.zeros(order.size, np.bool_), 0
    for start in range(order.size):
        if done[start]:
            continue
        at, written = start, -1 - start
        while not done[at]:
            done[at], chain[used] = True, written
            used += 1
            at = written = order[at]
    return chain


@kernel
def _move(block, chain):
    """Rows of `block`, moved along the cycles of a permutation."""
    width, line = block.shape[1], 64 // block.itemsize
    held = np.empty(width, block.dtype)
    at = 0
    for i in range(chain.size):
        ahead = np.int64(chain[min(i + ROWS_AHEAD, chain.size - 1)])
        ahead = max(ahead, -1 - ahead) * width
        for column in range(0, width, line):
            prefetch(block, ahead + column)
        prefetch(block, ahead + width - 1)
        if chain[i] < 0:
            at = np.int64(-1 - chain[i])
            for column in range(width):
                held[column] = block[at, column]
        if i + 1 == chain.size or chain[i + 1] < 0:
            for column in range(width):
                block[at, column] = held[column]
        else:
            source = np.int64(chain[i + 1])
            for column in range(width):
                block[at, column] = block[source, column]
            at = source


def permute(blocks: Iterable[np.ndarray], order: np.ndarray) -> None:
    """Rows of each block into the given order, in place: row i becomes what row order[i] was.

    blocks: arrays of m rows, each moved once, however often it is named; order: int64[m], a permutation.
    """
    # Cycles are found once, and then all blocks know ahead which rows they will touch: they wait for memory far less.
    chain = _cycles(order)
    for block in {id(block): block for block in blocks if block.size}.values():
        _move(block.reshape(len(order), -1), chain)


@kernel
def fill(points, form, lists, present, seed, first, last):
    """Give rows whose lists have room random companions, so that every list can be full and no row stands alone."""
    m, width = lists.ids.shape
    for row in range(first, last):
        if not present[row]:
            continue
        tries = 0
        while lists.ids[row, width - 1] == -1 and tries < 8 * width:
            label = random_below(seed + tries, row, m)
            tries += 1
            if label != row and present[label]:
                insert(lists, row, np.int32(label), surrogate(points, row, points, label, form), np.uint8(FRESH))


@kernel
def _hits(lists, rows, thresholds, k):
    hits = np.zeros(rows.size, np.int64)
    for i in range(rows.size):
        for slot in range(k):
            hits[i] += lists.ids[rows[i], slot] >= 0 and lists.distances[rows[i], slot] <= thresholds[i]
    return hits


def count_hits(lists: Lists, rows: np.ndarray, thresholds: np.ndarray, k: int) -> np.ndarray:
    """For each probe row the share of its k neighbours that are as near as the k-th true one: float64[p]."""
    # Not divided by the kernel: its fastmath may multiply by 1 / k, and then all of k is not exactly one.
    return _hits(lists, rows, as_near_as(thresholds).astype(np.float32), k) / k


def widened(ids: np.ndarray, distances: np.ndarray, width: int) -> Lists:
    """Lists of `width` places that begin with the given ones: int64 ids and float32 distances of fewer places."""
    lists = empty(len(ids), width, np.int64)
    lists.ids[:, : ids.shape[1]] = ids
    lists.distances[:, : ids.shape[1]] = distances
    return lists
