"""Exact neighbours of sparse rows through inverted lists: for each column the rows that have an entry there.

A row goes through the lists of its own columns and adds up what it shares with all rows it meets, so what it costs is
the length of these lists, known before anything is done (`work`). The rows to be found are taken in blocks whose totals
stay in the cache; between blocks the lists of neighbours, and with them the surrogate that counts, are carried on.

A total is float32 and selects only: what may be near, given the largest error there can be, gets its distance from the
canonical kernel. Rows that share no column with a row come last, nearest first, as far as the list has room or a tie to
settle. So lists hold the k smallest (distance, id) of all rows, whatever blocks and threads there are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..values.points import Csr, starts_of
from .distances import distance
from .jit import kernel
from .lanes import prefetch
from .neighbours import FRESH, Lists, before, insert
from .ranges import Each, even_cuts, even_ranges, serial
from .shared_columns import (
    Weighted,
    are_whole,
    bounds,
    common,
    counted,
    doubt,
    level,
    order_apart,
    sums_float32,
    surrogate_of,
    told,
    weigh,
)
from .sparse_distances import SparseRows, listed

# Rows of a block at most: their numbers fit two bytes, their totals half of a second-level cache.
BLOCK = 65536
# So many rows ahead the entries of a row are asked for before they are needed.
AHEAD = 4
HALF_STEP = 2.0**-24  # of a float32 near one
# Distances are rounded when they are kept: what is nearer than one by less than this share may be as near.
ROUNDED = 2.0**-20
# The same of distances that are summed in float32 where rows stand apart, in whatever order their columns come.
SUMMED = 2.0**-14


class Side(NamedTuple):
    """Consecutive rows of all, to look for neighbours or to be found. rows: as they came; first: the id of the first.

    weighted: of shared_columns.weigh; in `looking` order, those in the shortest columns first, where they look.
    """

    rows: SparseRows
    weighted: Weighted
    first: int


class Block(NamedTuple):
    """Consecutive rows by column. first: the first of them; starts: int64[width + 1]; rows: uint16[nnz] in the block.

    weights: float32[nnz]; sizes: float32[b]; error: how far a sum of products of unit rows may be off.
    """

    first: int
    starts: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray
    error: np.float32


class Room(NamedTuple):
    """Room for what one row meets in a block of b rows.

    totals: float32[b], zero between rows; met: uint16[2 b], the rows it met; marks: bool[b], all False between uses.
    labels: int32[2 b] and lows: float32[2 b], of those that may be near, with the least surrogates they may have; best:
    float32[k], the largest surrogates that k different rows may have, descending.
    """

    totals: np.ndarray
    met: np.ndarray
    marks: np.ndarray
    labels: np.ndarray
    lows: np.ndarray
    best: np.ndarray


class Apart(NamedTuple):
    """Rows in the order of their distance from one that shares no column with them, then of ids, and in the opposite.

    rising, falling: int32[m]; ends, falling_ends: int32[m], for each place where the run of equal sizes ends; alike:
    whether rows of such a run are equally far to the last bit.
    """

    rising: np.ndarray
    ends: np.ndarray
    falling: np.ndarray
    falling_ends: np.ndarray
    alike: bool


# --- what it costs ------------------------------------------------------------------------------------------


def work_by_row(rows: Weighted, others: Weighted) -> np.ndarray:
    """How many columns of others each row goes through: float64[m]."""
    lengths = np.bincount(others.columns, minlength=others.width)
    return np.diff(starts_of(lengths[rows.columns])[rows.starts]).astype(np.float64)


# --- the engine ---------------------------------------------------------------------------------------------


def known_columns(points: Csr, form: Any, most: int) -> np.ndarray | None:
    """The columns in which these rows weigh something, int32, ascending, if all columns are more than `most`."""
    return None if points.columns < most else np.unique(weigh(points, form).columns)


def looking_side(points: Csr, form: Any, first: int, known: np.ndarray | None = None) -> Side:
    """Rows that look for neighbours; first: the id of the first of them; known: of known_columns."""
    weighted = weigh(points, form) if known is None else weigh(points, form).among(known)
    lengths = np.bincount(weighted.columns, minlength=weighted.width)
    columns, weights = sorted_terms(weighted.starts, weighted.columns, weighted.weights, lengths)
    return Side(listed(points), weighted._replace(columns=columns, weights=weights), first)


def standing_side(points: Csr, form: Any, first: int, known: np.ndarray | None = None) -> Side:
    """Rows that are to be found; known: the columns of those that look, as others are of no use to them."""
    weighted = weigh(points, form) if known is None else weigh(points, form).among(known)
    return Side(listed(points), weighted, first)


@kernel
def sorted_terms(starts, columns, weights, lengths):
    """The entries of each row, those in the shortest columns first: likely neighbours come early.

    lengths: int64[width], of the columns.
    """
    sorted_columns, sorted_weights = np.empty_like(columns), np.empty_like(weights)
    for row in range(starts.size - 1):
        start, stop = starts[row], starts[row + 1]
        order = np.argsort(lengths[columns[start:stop]])
        for i in range(stop - start):
            sorted_columns[start + i] = columns[start + order[i]]
            sorted_weights[start + i] = weights[start + order[i]]
    return sorted_columns, sorted_weights


def nearest_sparse(looking: Side, standing: Side, form: Any, lists: Lists, each: Each = serial, parts: int = 1) -> int:
    """Offer every row of `standing` to the list of every row of `looking`; returns how many distances were computed.

    lists: of the rows that look, with ids as labels; a row is no neighbour of itself. form: one of SERVED. each, parts:
    how ranges of rows are run, and into how many they are cut, by their work.
    """
    m = standing.weighted.sizes.size
    # A row costs something even if it meets nobody.
    ranges = even_ranges(work_by_row(looking.weighted, standing.weighted) + 1, parts)
    taken = 0
    for first, last in even_cuts(m, -(-m // BLOCK)):
        block = block_of(standing.weighted, first, last, lists.ids.shape[1])

        def offer(start: int, stop: int, block: Block = block) -> int:
            return meet(looking, standing, block, form, lists, start, stop)

        taken += sum(each(offer, ranges))
    apart = apart_of(looking.weighted, standing.weighted, form)
    each(lambda start, stop: stand_apart(looking, standing, apart, form, lists, start, stop), ranges)
    return taken


def block_of(others: Weighted, first: int, last: int, width: int) -> Block:
    """Rows first .. last by column; width: of the lists that are sought."""
    part = others.between(first, last)
    # At distance 0 from each other, the first zero rows are the neighbours of all zero rows.
    most = width + 1 if others.vacancy else last - first
    by_column = gather_columns(part.starts, part.columns, part.weights, others.width, most)
    # A product is rounded, and each sum; the rest is for weights, sizes and surrogates that were rounded themselves.
    error = (float(np.diff(part.starts).max(initial=0)) + 16) * HALF_STEP
    return Block(first, *by_column, part.sizes.astype(np.float32), np.float32(error))


@kernel
def gather_columns(starts, columns, weights, width, most):
    """Entries of rows in order of column and row: starts int64[width + 1], rows uint16, weights float32.

    most: of the last column at most so many entries are taken.
    """
    begins = np.zeros(width + 1, np.int64)
    for entry in range(columns.size):
        begins[columns[entry] + 1] += 1
    begins[width] = min(begins[width], most)
    for column in range(width):
        begins[column + 1] += begins[column]
    ends = begins[:width].copy()
    rows, values = np.empty(begins[width], np.uint16), np.empty(begins[width], np.float32)
    for row in range(starts.size - 1):
        for entry in range(starts[row], starts[row + 1]):
            column = columns[entry]
            at = ends[column]
            if at < begins[column + 1]:
                rows[at] = row
                values[at] = weights[entry]
                ends[column] = at + 1
    return begins, rows, values


@kernel(inline=True)
def largest_surrogate(form, worst):
    """The largest surrogate that a row at most `worst` away may have, float32."""
    if worst == np.inf:
        return np.float32(np.inf)
    limit = level(form, np.float64(worst))
    return np.float32(limit + abs(limit) * ROUNDED)


@kernel(inline=True)
def add_up(form, terms, row, block, room):
    """Add up what a row shares with the rows of the block; returns how many it met."""
    count = 0
    for term in range(terms.starts[row], terms.starts[row + 1]):
        weight = terms.weights[term]
        start, stop = block.starts[terms.columns[term]], block.starts[terms.columns[term] + 1]
        if count + stop - start > room.met.size:
            count = without_repeats(room, count)
        for at in range(start, stop):
            other = block.rows[at]
            held = room.totals[other]
            # Written in any case and kept if it is new: a branch would cost more than the product.
            room.met[count] = other
            count += held == 0
            room.totals[other] = held + common(form, weight, block.weights[at])
    return count


@kernel(inline=True)
def without_repeats(room, count):
    """Take repeats from the rows met: a total that was zero again for a while let its row in once more."""
    kept = 0
    for i in range(count):
        other = room.met[i]
        room.met[kept] = other
        kept += not room.marks[other]
        room.marks[other] = True
    for i in range(kept):
        room.marks[room.met[i]] = False
    return kept


@kernel(inline=True)
def lower_best(best, surrogate):
    """Put a surrogate among the best in place of the largest; returns the one that is the largest then."""
    at = 0
    while at + 1 < best.size and best[at + 1] > surrogate:
        best[at] = best[at + 1]
        at += 1
    best[at] = surrogate
    return best[0]


@kernel(inline=True)
def sift_met(form, block, room, count, size, limit, ignored):
    """Name those of the first `count` rows met that may be within the limit; returns it, lowered, and how many.

    size: float32, of the row that looks; ignored: a row that is no candidate.
    """
    room.best[:] = np.inf
    kept = 0
    for i in range(count):
        other = room.met[i]
        total = room.totals[other]
        room.totals[other] = 0
        surrogate = np.float32(surrogate_of(form, total, size, block.sizes[other]))
        slack = doubt(form, block.error, size, block.sizes[other])
        if surrogate - slack <= limit and other != ignored:
            room.labels[kept] = other
            room.lows[kept] = surrogate - slack
            kept += 1
            # A total of zero may be met twice, but these must be surrogates of different rows.
            if bounds(form) and total != 0 and surrogate + slack < room.best[0]:
                limit = min(limit, lower_best(room.best, surrogate + slack))
    return limit, kept


@kernel(inline=True)
def keep_best(rows, block, room, count, limit):
    """Keep of the first `count` candidates those within the limit as it is now, as rows of `rows`; how many."""
    kept = 0
    for i in range(count):
        if room.lows[i] <= limit:
            label = np.int32(block.first + room.labels[i])
            room.labels[kept] = label
            room.lows[kept] = room.lows[i]
            kept += 1
            prefetch(rows.starts, label)
    return kept


@kernel
def meet(looking, standing, block, form, lists, first, last):
    """Offer the lists of the rows first .. last what they meet in the block; returns how many distances were computed.

    looking, standing: Side; block: of the latter; form, lists: as in nearest_sparse.
    """
    terms, rows, others = looking.weighted, looking.rows, standing.rows
    size, width = block.sizes.size, lists.ids.shape[1]
    room = Room(
        np.zeros(size, np.float32),
        np.empty(2 * size, np.uint16),
        np.zeros(size, np.bool_),
        np.empty(2 * size, np.int32),
        np.empty(2 * size, np.float32),
        np.empty(width, np.float32),
    )
    itself = looking.first - standing.first - block.first
    taken = 0
    for row in range(first, last):
        limit = largest_surrogate(form, lists.distances[row, width - 1])
        count = add_up(form, terms, row, block, room)
        limit, count = sift_met(form, block, room, count, np.float32(terms.sizes[row]), limit, row + itself)
        count = keep_best(others, block, room, count, limit)
        taken += offer_candidates(rows, row, others, standing.first, form, lists, room, count)
    return taken


@kernel(inline=True)
def offer_candidates(rows, row, others, others_first, form, lists, room, count):
    """Offer a list the first `count` candidates, as long as they may still enter; returns how many were measured."""
    width, taken = lists.ids.shape[1], 0
    limit = largest_surrogate(form, lists.distances[row, width - 1])
    for i in range(count):
        label, ahead = room.labels[i], others.starts[room.labels[min(i + AHEAD, count - 1)]]
        if not counted(form):
            prefetch(others.columns, ahead)
            prefetch(others.values, ahead)
        if room.lows[i] <= limit:
            if counted(form):
                gap = np.float32(told(form, np.float64(room.lows[i])))
            else:
                gap = distance(rows, row, others, label, form)
            taken += 1
            if insert(lists, row, others_first + label, gap, np.uint8(FRESH)):
                limit = largest_surrogate(form, lists.distances[row, width - 1])
    return taken


# --- rows without a common column ---------------------------------------------------------------------------


def apart_of(rows: Weighted, others: Weighted, form: Any) -> Apart:
    """Others in the order in which they are near to one of the rows that shares no column with them."""
    numbers = order_apart(others.sizes, form)
    # A float32 sum depends on the order of its terms, save of whole numbers.
    alike = not sums_float32(form) or (are_whole(rows) and are_whole(others))
    return Apart(*_in_order(numbers), *_in_order(-numbers), alike)


def _in_order(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending and by id, and for each place where the run of equal numbers ends."""
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order], append=np.inf) > 0) + 1
    return order.astype(np.int32), np.repeat(ends, np.diff(ends, prepend=0)).astype(np.int32)


@kernel
def stand_apart(looking, standing, apart, form, lists, first, last):
    """Offer the lists of the rows first .. last the rows with which they share no column, as far as these may enter.

    Rows that were met already are known to a list or too far for it.
    """
    rows, others, sizes = looking.rows, standing.rows, standing.weighted.sizes
    end, m = lists.ids.shape[1] - 1, standing.weighted.sizes.size
    itself = looking.first - standing.first
    for row in range(first, last):
        size = looking.weighted.sizes[row]
        near = surrogate_of(form, 0.0, size, sizes[apart.rising[0]])
        far = surrogate_of(form, 0.0, size, sizes[apart.rising[m - 1]])
        order, ends = (apart.rising, apart.ends) if near <= far else (apart.falling, apart.falling_ends)
        at = 0
        while at < m:
            # Where all are as far, the order is that of ids.
            other = np.int32(at) if near == far else order[at]
            gap = np.float32(told(form, np.float64(surrogate_of(form, 0.0, size, sizes[other]))))
            if gap - abs(gap) * SUMMED > lists.distances[row, end]:
                break
            if apart.alike and before(lists, row, end, gap, standing.first + other):
                at = m if near == far else ends[at]
                continue
            if other != row + itself:
                insert(lists, row, standing.first + other, distance(rows, row, others, other, form), np.uint8(FRESH))
            at += 1
