"""All pairs between the rows of a group and the group's base, through products of their codes, a tile at a time.

The same text routes rows to pivots (the base are the pivots of a node), compares the rows of a leaf (the base is the
leaf itself) and solves probe rows exactly (the base is a whole block). A row belongs to one group of a call, so ranges
of groups may run side by side without a race, and its list carries the threshold from call to call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .codes import EVERYTHING, gather, limit_of
from .jit import kernel
from .lanes import LANES, below, count_at_most, keep_lower, lowest_bit, without_lowest
from .neighbours import FRESH, holds, room_for_offers, take
from .products import multiply, pack, room_for
from .rows import surrogate

# A tile of 128 x 512 products (256 KiB) and its rows stay in the second-level cache; both are multiples of sixteen.
QUERIES = 128
BASE = 512
# Candidates that are offered to a list at once.
HITS = 48


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


@kernel(inline=True)
def first_bound(bias, product, count, wanted, minima):
    """A score that at least `wanted` of the `count` candidates do not exceed; EVERYTHING where too few are there.

    The candidates are dealt into groups of a few; the `wanted` smallest of the groups' minima are as many candidates.
    minima: int32[groups], scratch; a multiple of sixteen.
    """
    groups = minima.size
    if groups < wanted or count < 2 * groups:
        return np.int32(EVERYTHING)
    minima[:] = np.int32(EVERYTHING)
    whole = count - count % groups
    for start in range(0, whole, groups):
        for group in range(0, groups, LANES):
            keep_lower(bias, product, start + group, minima, group)
    best = np.int32(EVERYTHING)
    for i in range(groups):
        upto = 0
        for start in range(0, groups, LANES):
            upto += count_at_most(minima, start, minima[i])
        if upto >= wanted:
            best = min(best, minima[i])
    return best


@kernel(inline=True)
def measure(rows, i, others, j, estimate, form):
    """The surrogate of row i and row j of `others`, whose codes say `estimate`: as a list keeps it."""
    if form.trusted:
        return form.unit * np.float32(estimate)
    return surrogate(rows.points, i, others.points, j, form)


@kernel(inline=True)
def select(rows, row, others, base_rows, labels, bias, product, count, form, lists, itself, minima, hits, offers):
    """Offer list `row` every label that may beat the list's worst; sixteen candidates a test.

    base_rows[j], labels[j]: row of candidate j and its name; bias, product: int32, what scores are made of; itself:
    skip the row's own label. minima: scratch of first_bound, which spares a list that knows nothing yet most of its
    insertions.
    """
    last = lists.ids.shape[1] - 1
    own = rows.squares[row] if form.euclidean else np.int32(0)
    limit = limit_of(form, lists.distances[row, last])
    if lists.distances[row, last] == np.inf:
        # One more than the list holds: the row itself may be among the candidates. The limit is that of an estimate,
        # which may be off, for the surrogate of another estimate, which may be off too.
        bound = first_bound(bias, product, count, last + 2, minima)
        if bound < EVERYTHING:
            limit = limit_of(form, form.unit * np.float32(limit_of(form, form.unit * np.float32(own + bound))))
    taken = 0
    for start in range(0, count, LANES):
        mask = below(bias, product, start, count, limit - own)
        while mask != 0:
            hits[taken] = start + lowest_bit(mask)
            mask = without_lowest(mask)
            taken += 1
        if taken > HITS or start + LANES >= count:
            used = 0
            for i in range(taken):
                at = hits[i]
                label = labels[at]
                if (itself and label == row) or holds(lists.ids, row, label):
                    continue
                distance = measure(rows, row, others, base_rows[at], own + bias[at] - 2 * product[at], form)
                if distance <= lists.distances[row, last]:
                    offers.distances[used] = distance
                    offers.ids[used] = label
                    used += 1
            if used > 0:
                take(lists, row, offers, used, np.uint8(FRESH))
                limit = min(limit, limit_of(form, lists.distances[row, last]))
            taken = 0


@kernel
def join(rows, queries, others, base, labels, form, lists, itself, first, last):
    """Compare the rows of each group with the group's base and keep the nearest; returns the pairs compared.

    rows: Rows; queries: Groups over them; others: Rows of the base; base: Groups over those; labels: int32, the name of
    each entry of base.rows; lists: of the rows of `rows`; itself: labels are rows of `rows` and a row is no neighbour of
    itself; first, last: range of groups.
    """
    width = rows.values.shape[1]
    left = np.zeros(QUERIES * width, np.int8)
    starts = np.zeros(QUERIES, np.int32)
    right = np.empty(BASE * room_for(width), np.int8)
    products = np.empty((QUERIES, BASE), np.int32)
    bias = np.zeros(BASE, np.int32)
    base_rows = np.empty(BASE, np.int32)
    minima = np.empty((lists.ids.shape[1] * 3 // 2 + 16) // 16 * 16, np.int32)
    hits = np.empty(HITS + LANES, np.int32)
    offers = room_for_offers(lists.ids.shape[1], HITS + LANES)
    compared = 0
    for group in range(first, last):
        query_first, query_last = queries.starts[group], queries.starts[group + 1]
        base_first, base_last = base.starts[group], base.starts[group + 1]
        if query_first == query_last or base_first == base_last:
            continue
        for b in range(base_first, base_last, BASE):
            count = min(base_last - b, BASE)
            groups = (count + LANES - 1) // LANES
            for j in range(LANES * groups):
                base_rows[j] = base.rows[min(b + j, base_last - 1)]
                bias[j] = others.squares[base_rows[j]] if form.euclidean else np.int32(0)
            pack(others.values, base_rows, 0, count, right)
            for q in range(query_first, query_last, QUERIES):
                q_count = min(query_last - q, QUERIES)
                gather(rows, queries.rows, q, q_count, form.columns, left, starts)
                multiply(left, width, 0, q_count, starts, right, 0, groups, products)
                compared += q_count * count
                for i in range(q_count):
                    row, mine = queries.rows[q + i], labels[b : b + count]
                    select(rows, row, others, base_rows, mine, bias, products[i], count, form, lists, itself, minima, hits, offers)
    return compared
