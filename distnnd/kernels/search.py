"""Search: best first through the search graph, one query at a time.

The row that is nearest of those not looked at yet shows its neighbours, until none is left within the bound: epsilon
more than the k-th distance found so far (Iwasaki and Miyazaki 2018, section 3; PyNNDescent's `epsilon`), or the list of
nearest rows is all looked at (`ef` of HNSW: Malkov and Yashunin 2018, algorithm 2). What a query costs does not depend
on the number of rows: the bits that say which were seen are cleared one by one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .compared import FARTHEST, call_for, key_above, keys_to, query_width, take_query
from .jit import kernel
from .lanes import LANES, prefetch

# An entry of the pool is (key, row, looked at) in the bits of one number, so that one comparison orders it.
ROW = 0x7FFFFFFF


class Searched(NamedTuple):
    """What a query walks. rows: Coded or Exact; edges: int32[n, r], positions from `first` on, -1 at the end.

    An edge to a row before or behind these is passed over. allowed: uint8[n], which rows may be answers; uint8[0]: all.
    """

    rows: Any
    edges: np.ndarray
    first: int
    allowed: np.ndarray


class Reach(NamedTuple):
    """How far a search goes. k: answers that the bound follows; factor: by how much of the k-th number it lies above.

    pool: rows that may wait, or ef; from_zero: nothing is nearer than at 0.
    """

    k: int
    factor: float
    pool: int
    from_zero: bool = True


@kernel(inline=True)
def put(pool, size, key):
    """Put a key into the sorted pool of `size` keys, the last of which falls out where it is full; returns where."""
    low, high = 0, size
    while low < high:
        middle = (low + high) >> 1
        if (pool[middle] | 1) < key:
            low = middle + 1
        else:
            high = middle
    at = min(size, pool.size - 1)
    while at > low:
        pool[at] = pool[at - 1]
        at -= 1
    pool[low] = key
    return low


@kernel(inline=True)
def bound_of(rows, answers, size, reach):
    """The largest key of a row that is still worth looking at."""
    if size < reach.k:
        return FARTHEST
    return key_above(rows, answers[reach.k - 1] >> 32, reach.factor)


@kernel(inline=True)
def next_of(pool, size, at):
    """The first entry from `at` on that was not looked at."""
    while at < size and pool[at] & 1:
        at += 1
    return at


@kernel(inline=True)
def begin(entries, row, hidden, others, seen, touched):
    """Gather the entries of a query, as seen, all but the row that is hidden from it; returns how many."""
    count = 0
    for slot in range(entries.shape[1]):
        entry = entries[row, slot]
        if entry >= 0 and entry != hidden:
            seen[entry >> 5] |= np.uint32(1) << np.uint32(entry & 31)
            others[count] = touched[count] = entry
            count += 1
    return count


@kernel(inline=True)
def gather_neighbours(searched, here, others, seen, touched, marked):
    """Gather the neighbours of a row that were not seen yet, and ask for what compares them; returns how many."""
    edges, n, count = searched.edges, searched.edges.shape[0], 0
    for slot in range(edges.shape[1]):
        other = edges[here, slot]
        if other == -1:
            break
        other -= searched.first
        if other < 0 or other >= n:
            continue
        bit = np.uint32(1) << np.uint32(other & 31)
        if seen[other >> 5] & bit:
            continue
        seen[other >> 5] |= bit
        touched[marked + count] = other
        others[count] = other
        count += 1
        call_for(searched.rows, other)
    return count


@kernel
def search(searched, asked, entries, reach, wanted, found):
    """Write to found, int32[m, w], the rows nearest to the queries by their keys, -1 where there are no more.

    asked: the m queries, Codes for Coded rows, Exact for Exact ones; entries: int32[m, e], distinct rows to begin at,
    -1 for none; wanted: int32[m] or int32[0], a row of each query that ends its search as soon as it is met, or
    -2 - row for one that its search is not to meet at all, -1 for none.
    Returns the rows that were looked at, and those compared.
    """
    rows, edges = searched.rows, searched.edges
    filtered = searched.allowed.size > 0
    most = max(edges.shape[1], entries.shape[1])
    seen, touched = np.zeros((edges.shape[0] >> 5) + 1, np.uint32), np.empty(4096 + most + 1, np.int32)
    pool, answers = np.empty(reach.pool, np.int64), np.empty(found.shape[1] if filtered else 1, np.int64)
    room = (most + LANES) // LANES * LANES + LANES
    others, keys, query = np.zeros(room, np.int32), np.zeros(room, np.int32), np.zeros(query_width(rows), np.int8)
    looked = compared = 0
    for row in range(found.shape[0]):
        target = wanted[row] if wanted.size > 0 else np.int32(-1)
        start, square = take_query(asked, row, query)
        # A row that is wanted may be one of many equals, of which each list of candidates shows as many as it can.
        enough = reach.k if target < 0 else max(reach.k, found.shape[1])
        size = answered = at = 0
        bound, met = FARTHEST, False
        count = marked = begin(entries, row, -2 - target, others, seen, touched)
        if target < -1:
            hidden = -2 - target
            seen[hidden >> 5] |= np.uint32(1) << np.uint32(hidden & 31)
            touched[marked] = hidden
            marked += 1
        while True:
            compared += count
            if count > 0:
                keys_to(rows, others, count, asked, row, query, start, square, keys)
            for i in range(count):
                estimate = np.int64(keys[i])
                if estimate > bound:
                    continue
                met |= others[i] == target
                key = (estimate << 32) | (np.int64(others[i]) << 1)
                if size < pool.size or key < pool[size - 1]:
                    at = min(at, put(pool, size, key))
                    size = min(size + 1, pool.size)
                if not filtered:
                    bound = bound_of(rows, pool, size, reach)
                elif searched.allowed[others[i]] and (answered < answers.size or key < answers[answered - 1]):
                    put(answers, answered, key)
                    answered = min(answered + 1, answers.size)
                    bound = bound_of(rows, answers, answered, reach)
            at = next_of(pool, size, at)
            if at == size or (pool[at] >> 32) > bound or met:
                break
            # Nothing is nearer than enough rows that equal the query, of which there may be very many.
            if reach.from_zero and not filtered and size >= enough and pool[enough - 1] >> 32 == 0:
                break
            here = (pool[at] >> 1) & ROW
            pool[at] |= 1
            looked += 1
            if marked + most > touched.size:
                touched = np.concatenate((touched, np.empty(touched.size, np.int32)))
            count = gather_neighbours(searched, here, others, seen, touched, marked)
            marked += count
            ahead = next_of(pool, size, at + 1)
            if ahead < size:
                prefetch(edges, ((pool[ahead] >> 1) & ROW) * edges.shape[1])
        for i in range(marked):
            seen[touched[i] >> 5] = 0
        write_down(answers if filtered else pool, answered if filtered else size, found, row)
    return looked, compared


@kernel(inline=True)
def write_down(keys, size, found, row):
    """Write the rows of the nearest keys."""
    for slot in range(found.shape[1]):
        found[row, slot] = np.int32((keys[slot] >> 1) & ROW) if slot < size else np.int32(-1)
