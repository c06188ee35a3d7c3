"""All pairs between the rows of a group and the group's base, through one matrix product a tile.

The same text routes rows to pivots (the base are the pivots of a node), compares the rows of a leaf (the base is the
leaf itself) and solves probe rows exactly (the base is a whole block). A row belongs to one group of a call, so ranges
of groups may run side by side without a race, and its list carries the threshold from call to call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Numba's products run in SciPy's BLAS: load it now, so that whoever limits BLAS threads finds it.
import scipy.linalg.cython_blas  # noqa: F401

from .jit import kernel
from .lanes import LANES, below, lowest_bit, without_lowest
from .neighbours import FRESH, insert
from .rows import gather, squares

# A tile of 128 x 512 products (256 KiB) and its rows stay in the second-level cache.
QUERIES = 128
BASE = 512
MIDDLE = 32  # rows whose mean is the centre of a group: more would only add rounding


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
def centre_of(points, rows, first, last, centre):
    """A point amid the given rows, the mean of a few of them: products around it keep their digits."""
    step = max(1, (last - first) // MIDDLE)
    centre[:] = 0
    count = 0
    for i in range(first, last, step):
        for j in range(centre.size):
            centre[j] += np.float32(points[rows[i], j])
        count += 1
    centre /= np.float32(count)


@kernel(inline=True)
def first_bound(product, half, count, wanted, minima):
    """A score that at least `wanted` of the `count` candidates do not exceed; inf where they are too few to tell.

    The candidates are dealt into groups of a few; the `wanted` smallest of the groups' minima are as many candidates.
    minima: float32[groups], scratch; a multiple of sixteen.
    """
    groups = minima.size
    if groups < wanted or count < 2 * groups:
        return np.float32(np.inf)
    minima[:] = np.float32(np.inf)
    whole = count - count % groups
    for start in range(0, whole, groups):
        for group in range(groups):
            minima[group] = min(minima[group], half[start + group] - product[start + group])
    best = np.float32(np.inf)
    for i in range(groups):
        upto = 0
        for j in range(groups):
            upto += minima[j] <= minima[i]
        if upto >= wanted:
            best = min(best, minima[i])
    return best


@kernel(inline=True)
def select(product, half, count, norm, scale, row, labels, offset, lists, itself, minima):
    """Offer list `row` every label whose surrogate beats the list's worst; sixteen candidates a test.

    product, half: float32[>= count]; labels[offset + j] names candidate j; itself: skip the row's own label.
    minima: scratch of first_bound, which spares a list that knows nothing yet most of its insertions.
    """
    last = lists.ids.shape[1] - 1
    bound = (lists.distances[row, last] - norm) / scale
    if lists.distances[row, last] == np.inf:
        # One more than the list holds: the row itself may be among the candidates.
        bound = np.nextafter(first_bound(product, half, count, last + 2, minima), np.float32(np.inf))
    for start in range(0, count, LANES):
        mask = below(half, product, start, count, bound)
        while mask != 0:
            at = start + lowest_bit(mask)
            mask = without_lowest(mask)
            label = labels[offset + at]
            if itself and label == row:
                continue
            distance = norm + scale * (half[at] - product[at])
            if scale == np.float32(2):
                distance = max(distance, np.float32(0))
            if insert(lists, row, label, distance, np.uint8(FRESH)):
                bound = min(bound, (lists.distances[row, last] - norm) / scale)


@kernel
def join(points, queries, others, base, labels, form, lists, itself, first, last):
    """Compare the rows of each group with the group's base and keep the nearest; returns the pairs compared.

    points: [m, width] prepared rows; queries: Groups over them; others: [p, width] rows of the base; base: Groups
    over those; labels: int32, the name of each entry of base.rows; lists: of the rows of `points`; itself: labels are
    rows of `points` and a row is no neighbour of itself; first, last: range of groups.
    """
    width = points.shape[1]
    left = np.empty((QUERIES, width), np.float32)
    right = np.empty((BASE, width), np.float32)
    products = np.empty(QUERIES * BASE, np.float32)
    half = np.zeros(BASE, np.float32)
    norms = np.zeros(QUERIES, np.float32)
    centre = np.zeros(width, np.float32)
    minima = np.empty((lists.ids.shape[1] * 3 // 2 + 16) // 16 * 16, np.float32)
    compared = 0
    for group in range(first, last):
        query_first, query_last = queries.starts[group], queries.starts[group + 1]
        base_first, base_last = base.starts[group], base.starts[group + 1]
        if query_first == query_last or base_first == base_last:
            continue
        if form.euclidean:
            centre_of(others, base.rows, base_first, base_last, centre)
        for b in range(base_first, base_last, BASE):
            b_count = min(base_last - b, BASE)
            gather(others, base.rows, b, b + b_count, centre, form.columns, right)
            if form.euclidean:
                squares(right, b_count, half)
                half[:b_count] *= np.float32(0.5)
            for q in range(query_first, query_last, QUERIES):
                q_count = min(query_last - q, QUERIES)
                gather(points, queries.rows, q, q + q_count, centre, form.columns, left)
                if form.euclidean:
                    squares(left, q_count, norms)
                product = products[: q_count * b_count].reshape(q_count, b_count)
                np.dot(left[:q_count], right[:b_count].T, product)
                compared += q_count * b_count
                for i in range(q_count):
                    row = queries.rows[q + i]
                    select(product[i], half, b_count, norms[i], form.scale, row, labels, b, lists, itself, minima)
    return compared
