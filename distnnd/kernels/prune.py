"""Prune: from the lists of a kNN graph the few edges that a search needs, in both directions.

A neighbour that is nearer to a kept one than to the row itself is dropped, since the search gets there through the kept
one (Harwood and Drummond 2016, FANNG; PyNNDescent's `diversify`); what is left gets reverse edges, the nearest
neighbours' first, until rows have as many as they may. Estimates of codes decide, as in the search.
"""

from __future__ import annotations

import numpy as np

from .compared import keys_to, number_of, query_width, take_query
from .jit import kernel
from .lanes import LANES
from .neighbours import FRESH, holds, insert
from .random import below
from .rows import surrogate

# A kept neighbour hides another one that is by so much nearer to it than to the row, as a share of the surrogate: a
# little more than none, or searches get stuck (the factor alpha of Jayaram Subramanya et al. 2019, DiskANN).
SLACK = np.float32(0.1)
CERTAIN = 2**30


@kernel
def fill_beside(points, form, lists, first, last):
    """Offer lists that have room the rows beside theirs, nearest places first, until they are full."""
    m, width = lists.ids.shape
    for row in range(first, last):
        step = 1
        while lists.ids[row, width - 1] == -1 and step < m:
            for label in (row - step, row + step):
                if 0 <= label < m:
                    insert(lists, row, np.int32(label), surrogate(points, row, points, label, form), np.uint8(FRESH))
            step += 1


@kernel
def append_found(ids, found):
    """Lists int32[m, k + f]: ids, int32[m, k], and behind them what else is in `found`, int32[m, f], -1 at the end."""
    m, k = ids.shape
    both = np.full((m, k + found.shape[1]), -1, np.int32)
    for row in range(m):
        both[row, :k] = ids[row]
        used = k
        for slot in range(found.shape[1]):
            if found[row, slot] >= 0 and not holds(ids, row, found[row, slot]):
                both[row, used] = found[row, slot]
                used += 1
    return both


@kernel
def diversify(compared, ids, slack, probability, seed, rows, kept):
    """Write to `kept`, int32[m, f], the first f neighbours of some rows that no kept one hides, else -1.

    compared: Coded or Exact rows; ids: int32[m, k], ascending by distance; below -1 for rows that are not at hand,
    which stay; slack: by what share a hidden neighbour is nearer to a kept one; probability: how likely it is dropped;
    rows: int32[r], which.
    """
    k = ids.shape[1]
    room = (k + LANES) // LANES * LANES + LANES
    near, own = np.zeros(room, np.int32), np.zeros(room, np.int32)
    there, products = np.zeros(room, np.int32), np.zeros(room, np.int32)
    query = np.zeros(query_width(compared), np.int8)
    certain = np.int64(probability * CERTAIN)
    for row in rows:
        count = 0
        for slot in range(k):
            if ids[row, slot] >= 0:
                near[count] = ids[row, slot]
                count += 1
        if count > 0:
            start, square = take_query(compared, row, query)
            keys_to(compared, near, count, compared, row, query, start, square, own)
        at = used = tested = 0
        for slot in range(k):
            label = ids[row, slot]
            if label == -1 or used == kept.shape[1]:
                break
            if label >= 0:
                hidden = False
                if tested > 0:
                    start, square = take_query(compared, label, query)
                    keys_to(compared, there, tested, compared, label, query, start, square, products)
                    for i in range(tested):
                        between = number_of(compared, products[i])
                        hidden |= between + slack * abs(between) < number_of(compared, own[at])
                at += 1
                if hidden and below(seed + row, label, CERTAIN) < certain:
                    continue
                there[tested] = label
                tested += 1
            kept[row, used] = label
            used += 1
        kept[row, used:] = -1


@kernel(inline=True)
def _add(edges, counts, row, label):
    """Add an edge unless it is there or the row is full."""
    count = counts[row]
    if count == edges.shape[1]:
        return
    for slot in range(count):
        if edges[row, slot] == label:
            return
    edges[row, count] = label
    counts[row] = count + 1


@kernel
def both_ways(kept, width):
    """Edges int32[m, width], -1 at the end: the first half of what each row kept, reverse edges, then the rest.

    Reverse edges come by rank: first those of nearest neighbours, so that rows which nobody else holds are held by
    theirs, even where a hub is full.
    """
    m, most = kept.shape
    edges, counts = np.full((m, width), -1, np.int32), np.zeros(m, np.int32)
    half = max(width // 2, 1)
    for row in range(m):
        for slot in range(min(half, most)):
            if kept[row, slot] == -1:
                break
            _add(edges, counts, row, kept[row, slot])
    for slot in range(most):
        for row in range(m):
            if kept[row, slot] >= 0:
                _add(edges, counts, kept[row, slot], np.int32(row))
    for slot in range(half, most):
        for row in range(m):
            if kept[row, slot] != -1:
                _add(edges, counts, row, kept[row, slot])
    return edges


@kernel
def side_by_side(kept, others):
    """Lists int32[m, f + g] of both in turn, those of `others` first, each id once: int32[m, f], int32[m, g]."""
    m, f, g = kept.shape[0], kept.shape[1], others.shape[1]
    both = np.full((m, f + g), -1, np.int32)
    for row in range(m):
        used = 0
        for slot in range(max(f, g)):
            for mine in (others, kept):
                label = mine[row, slot] if slot < mine.shape[1] else np.int32(-1)
                if label != -1 and not holds(both, row, label):
                    both[row, used] = label
                    used += 1
    return both


@kernel(inline=True)
def _first_equal(first, row):
    """The first of the rows that equal a row, as far as is known; the way there is shortened."""
    while first[row] != row:
        first[row] = first[first[row]]
        row = first[row]
    return row


@kernel
def equals_of(ids, equals):
    """The first of the rows that equal each row: int32[m]. ids: int32[m, k]; the first equals[row] of them equal it."""
    first = np.arange(ids.shape[0]).astype(np.int32)
    for row in range(ids.shape[0]):
        for slot in range(equals[row]):
            if ids[row, slot] >= 0:
                one, other = _first_equal(first, row), _first_equal(first, ids[row, slot])
                first[max(one, other)] = min(one, other)
    for row in range(ids.shape[0]):
        first[row] = _first_equal(first, row)
    return first


@kernel(inline=True)
def _append(edges, row, label):
    """Add an edge behind the last one of a row; whether there was room."""
    place = edges.shape[1]
    while place > 0 and edges[row, place - 1] == -1:
        place -= 1
    if place < edges.shape[1]:
        edges[row, place] = label
    return place < edges.shape[1]


@kernel(inline=True)
def _lead_to(edges, row, label, kept):
    """Let an edge lead from a row to another: where there is no room in place of the last, but not that to `kept`."""
    if not holds(edges, row, label) and not _append(edges, row, label):
        place = edges.shape[1] - 1
        if edges[row, place] == kept:
            place -= 1
        edges[row, place] = label


@kernel
def chain(edges, first, order):
    """Let edges lead from each row to the next of its equals and back, so that whoever meets one finds them all.

    Lists name the first few of many equals alone. edges: int32[m, w], changed; first: of equals_of; order: int64[m],
    all rows, equal ones side by side.
    """
    before = np.int32(-1)
    for at in range(order.size - 1):
        one, other = np.int32(order[at]), np.int32(order[at + 1])
        if first[one] == first[other]:
            _lead_to(edges, one, other, before)
            _lead_to(edges, other, one, np.int32(-1))
            before = one
        else:
            before = np.int32(-1)


@kernel(inline=True)
def _walk(edges, piece, stack, origin, number):
    """Give all rows that edges lead to from `origin`, and that have none yet, the number of a piece; how many."""
    piece[origin] = number
    stack[0], size, count = origin, 1, 1
    while size > 0:
        size -= 1
        row = stack[size]
        for slot in range(edges.shape[1]):
            label = edges[row, slot]
            if label >= 0 and piece[label] < 0:
                piece[label] = number
                stack[size] = label
                size += 1
                count += 1
    return count


@kernel(inline=True)
def _hold(edges, ids, piece, row):
    """Add an edge to `row` from the nearest of its neighbours that is in a piece and has room; whether there is one."""
    for slot in range(ids.shape[1]):
        label = ids[row, slot]
        if label >= 0 and piece[label] >= 0 and _append(edges, label, row):
            return True
    return False


@kernel
def _begin_in_each_cell(piece, cells, pivots):
    """The pivots and, where a cell holds rows of a piece but no pivot of it, the first of these rows: int32[p]."""
    m = piece.size
    begins, used = np.empty(pivots.size + m, np.int32), pivots.size
    begins[:used] = pivots
    begun, there = np.zeros(m, np.bool_), np.empty(m, np.int32)
    begun[pivots] = True
    first = 0
    while first < m:
        last, known = first, 0
        while last < m and cells[last] == cells[first]:
            if begun[last]:
                there[known] = piece[last]
                known += 1
            last += 1
        for row in range(first, last):
            new = True
            for i in range(known):
                new &= there[i] != piece[row]
            if new:
                there[known] = piece[row]
                known += 1
                begins[used] = row
                used += 1
        first = last
    return begins[:used].copy()


@kernel
def make_reachable(edges, ids, pivots, cells):
    """Make every row reachable: by an edge from one of its neighbours, or from a pivot of its own piece.

    edges: int32[m, w], changed; ids: int32[m, k], lists of the graph; pivots: int32; cells: int32[m], ascending, which
    pivot of all is nearest to each row. What most rows are reached from is the main piece, and it takes in all rows
    whose neighbours are in it and have room. A piece has a pivot in each cell where it has rows, so that a query finds
    one near by. Returns the pivots, with those that are new, int32[p], and for each row the one after which its piece
    is named, int32[m].
    """
    m = edges.shape[0]
    piece, stack = np.full(m, -1, np.int32), np.empty(m, np.int32)
    main, most = np.int32(0), 0
    for pivot in pivots:
        if piece[pivot] < 0:
            count = _walk(edges, piece, stack, pivot, pivot)
            if count > most:
                main, most = np.int32(pivot), count
    piece[:] = -1
    _walk(edges, piece, stack, main, main)
    taken = 1
    while taken > 0:
        taken = 0
        for row in range(m):
            if piece[row] < 0 and _hold(edges, ids, piece, row):
                # What is reached from this row alone may be far from the main piece, and needs pivots of its own.
                piece[row] = main
                taken += 1
    for pivot in pivots:
        if piece[pivot] < 0:
            _walk(edges, piece, stack, pivot, pivot)
    for row in range(m):
        if piece[row] < 0:
            _walk(edges, piece, stack, np.int32(row), np.int32(row))
    return _begin_in_each_cell(piece, cells, pivots), piece


@kernel
def hold_by_found(edges, rows, found):
    """Add an edge to each of some rows from the nearest row found for it that has room.

    edges: int32[m, w], changed; rows: int32[r]; found: int32[r, f], the nearest first, -1 at the end.
    """
    for i in range(rows.size):
        for slot in range(found.shape[1]):
            if found[i, slot] >= 0 and _append(edges, found[i, slot], rows[i]):
                break


@kernel
def into_whole(edges, known, first):
    """Make edges between rows of a partition edges of the whole index, in place.

    edges: int32[m, w], -2 - slot for a neighbour elsewhere, at known[row, slot]; known: int64[m, k]; first: position of
    the first row.
    """
    for row in range(edges.shape[0]):
        for slot in range(edges.shape[1]):
            label = edges[row, slot]
            if label == -1:
                break
            edges[row, slot] = label + first if label >= 0 else known[row, -2 - label]


@kernel
def count_leaving(edges, rows, partitions):
    """How many edges lead to each partition of so many rows: int64[partitions]. edges: int32[m, w] in the whole."""
    counts = np.zeros(partitions, np.int64)
    for row in range(edges.shape[0]):
        for slot in range(edges.shape[1]):
            if edges[row, slot] == -1:
                break
            counts[edges[row, slot] // rows] += 1
    return counts
