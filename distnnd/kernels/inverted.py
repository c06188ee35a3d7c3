"""Exact neighbours of sparse rows through inverted lists: for each column the rows that have an entry there.

A row goes through the lists of its own columns and adds up its products with all rows it meets, so what it costs is the
length of these lists, known before anything is done (`work`). The rows to be found are taken in blocks whose sums stay
in the cache; between blocks the lists of neighbours, and with them the score that counts, are carried on.

A sum is float32 and selects only: what may be near, given the largest error there can be, gets its distance from the
canonical kernel. Rows that share no column with a row come last, nearest first, as far as the list has room or a tie to
settle. So lists hold the k smallest (surrogate, id) of all rows, whatever blocks and threads there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..values.points import starts_of
from .jit import kernel
from .lanes import prefetch
from .neighbours import FRESH, Lists, before, insert
from .ranges import Each, even_cuts, even_ranges, serial
from .sparse_rows import SparseForm, SparseRows, sparse_surrogate

# Rows of a block at most: their numbers fit two bytes, their sums half of a second-level cache.
BLOCK = 65536
# So many rows ahead the entries of a row are asked for before they are needed.
AHEAD = 4
HALF_STEP = 2.0**-24  # of a float32 near one


class Terms(NamedTuple):
    """The entries of the rows that look, of each row those in the shortest columns first: likely neighbours come early.

    starts: int64[m + 1]; columns: int32[nnz]; weights: float32[nnz], of rows at unit length unless they are euclidean.
    """

    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray


class Block(NamedTuple):
    """Consecutive rows by column. first: the first of them; starts: int64[columns + 1]; rows: uint16[nnz] in the block.

    values: float32[nnz], at unit length where the form is unit. A score is the sum of products less half the square
    of the other row if the form is euclidean, so the nearest row has the highest. highs, lows: float32[b], what is
    taken from a row's sum for the highest and the lowest score it may truly have; least: of `highs`; error: how far a
    sum of products of unit rows may be off.
    """

    first: int
    starts: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    highs: np.ndarray
    lows: np.ndarray
    least: np.float32
    error: float


class Room(NamedTuple):
    """Room for what one row meets in a block of b rows.

    sums: float32[b], zero between rows; met: uint16[2 b], the rows it met; marks: bool[b], all False between uses.
    labels: int32[2 b] and scores: float32[2 b], of those that may be near; best: float32[k], scores that k different
    rows have at least, ascending.
    """

    sums: np.ndarray
    met: np.ndarray
    marks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    best: np.ndarray


# --- what it costs ------------------------------------------------------------------------------------------


def work_by_row(rows: SparseRows, others: SparseRows) -> np.ndarray:
    """How many products each row adds up: float64[m]."""
    lengths = np.bincount(others.indices, minlength=others.columns)
    return np.diff(starts_of(lengths[rows.indices])[rows.indptr]).astype(np.float64)


def work(rows: SparseRows, others: SparseRows) -> float:
    """How many products `nearest_sparse` adds up; a product takes about a nanosecond.

    With `others` the same rows, that is the sum over the columns of the squared number of rows with an entry there.
    """
    return float(work_by_row(rows, others).sum())


# --- the engine ---------------------------------------------------------------------------------------------


def nearest_sparse(
    rows: SparseRows,
    others: SparseRows,
    form: SparseForm,
    lists: Lists,
    itself: bool,
    each: Each = serial,
    parts: int = 1,
) -> int:
    """Offer every row of `others` to the list of every row of `rows`; returns how many distances were computed.

    lists: of `rows`, with rows of `others` as labels, int32; itself: both are the same rows, and a row is no neighbour
    of itself; each, parts: how ranges of rows are run, and into how many they are cut, by their work.
    """
    m = others.squares.size
    terms = terms_of(rows, others, form)
    # A row costs something even if it meets nobody.
    ranges = even_ranges(work_by_row(rows, others) + 1, parts)
    taken = 0
    for first, last in even_cuts(m, -(-m // BLOCK)):
        block = block_of(others, form, first, last, lists.ids.shape[1])

        def offer(start: int, stop: int, block: Block = block) -> int:
            return meet(terms, rows, others, block, form, lists, itself, start, stop)

        taken += sum(each(offer, ranges))
    order, run_ends = apart_order(others, form)
    each(lambda start, stop: stand_apart(rows, others, order, run_ends, form, lists, itself, start, stop), ranges)
    return taken


def terms_of(rows: SparseRows, others: SparseRows, form: SparseForm) -> Terms:
    """The terms of rows that look for `others`."""
    lengths = np.bincount(others.indices, minlength=others.columns)
    return Terms(rows.indptr, *sorted_terms(rows, lengths, form.unit or not form.euclidean))


@kernel
def sorted_terms(rows, lengths, scaled):
    """Columns and weights of Terms. lengths: int64[columns], of the columns; scaled: whether to unit length."""
    columns, weights = np.empty(rows.indices.size, np.int32), np.empty(rows.indices.size, np.float32)
    for row in range(rows.squares.size):
        scale = 1.0 / np.sqrt(rows.squares[row]) if scaled else 1.0
        start, stop = rows.indptr[row], rows.indptr[row + 1]
        order = np.argsort(lengths[rows.indices[start:stop]])
        for i in range(stop - start):
            columns[start + i] = rows.indices[start + order[i]]
            weights[start + i] = np.float32(rows.data[start + order[i]] * scale)
    return columns, weights


def block_of(others: SparseRows, form: SparseForm, first: int, last: int, width: int) -> Block:
    """Rows first .. last by column; width: of the lists that are sought."""
    indptr, squares = others.indptr[first : last + 1], others.squares[first:last]
    entries = slice(indptr[0], indptr[-1])
    norms, ones = np.sqrt(squares), np.ones(last - first)
    # At distance 0 from each other, the first zero rows are the neighbours of all zero rows.
    most = width + 1 if form.unit else last - first
    scale = 1 / norms if form.unit else ones
    by_column = gather_columns(indptr, others.indices[entries], others.data[entries], scale, others.columns, most)
    # A product is rounded, and each sum; the rest is for values, squares and scores that were rounded themselves.
    error = (float(np.diff(indptr).max(initial=0)) + 8) * HALF_STEP
    middle = squares / 2 if form.euclidean and not form.unit else np.zeros(last - first)
    doubt = error * (ones if form.unit else squares if form.euclidean else norms)
    highs, lows = (middle - doubt).astype(np.float32), (middle + doubt).astype(np.float32)
    return Block(first, *by_column, highs, lows, highs.min(), error)


@kernel
def gather_columns(indptr, indices, data, scale, columns, most):
    """Entries of rows, scaled, in order of column and row: starts int64[columns + 1], rows uint16, values float32.

    indptr: from any number on; scale: float64, of each row; most: of the last column at most so many entries are taken.
    """
    starts = np.zeros(columns + 1, np.int64)
    for entry in range(indices.size):
        starts[indices[entry] + 1] += 1
    starts[columns] = min(starts[columns], most)
    for column in range(columns):
        starts[column + 1] += starts[column]
    ends = starts[:columns].copy()
    rows, values = np.empty(starts[columns], np.uint16), np.empty(starts[columns], np.float32)
    for row in range(indptr.size - 1):
        for entry in range(indptr[row] - indptr[0], indptr[row + 1] - indptr[0]):
            column = indices[entry]
            at = ends[column]
            if at < starts[column + 1]:
                rows[at] = row
                values[at] = np.float32(data[entry] * scale[row])
                ends[column] = at + 1
    return starts, rows, values


@kernel(inline=True)
def least_score(square, worst, form, margin):
    """The least score by which a row may be at most `worst` away. square, margin: of the row that looks."""
    if form.unit:
        return np.float32(1.0 - 0.5 * np.float64(worst))
    if form.euclidean:
        return np.float32(0.5 * (square - np.float64(worst)) - margin)
    return np.float32(-np.float64(worst) / np.sqrt(square))


@kernel(inline=True)
def add_up(terms, row, block, room):
    """Add up the products of a row with the rows of the block; returns how many it met."""
    count = 0
    for term in range(terms.starts[row], terms.starts[row + 1]):
        weight = terms.weights[term]
        start, stop = block.starts[terms.columns[term]], block.starts[terms.columns[term] + 1]
        if count + stop - start > room.met.size:
            count = without_repeats(room, count)
        for at in range(start, stop):
            other = block.rows[at]
            held = room.sums[other]
            # Written in any case and kept if it is new: a branch would cost more than the product.
            room.met[count] = other
            count += held == 0
            room.sums[other] = held + weight * block.values[at]
    return count


@kernel(inline=True)
def without_repeats(room, count):
    """Take repeats from the rows met: a sum that was zero again for a while let its row in once more."""
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
def raise_best(best, score):
    """Put a score among the best in place of the least; returns the one that is the least then."""
    at = 0
    while at + 1 < best.size and best[at + 1] < score:
        best[at] = best[at + 1]
        at += 1
    best[at] = score
    return best[0]


@kernel(inline=True)
def sift_met(block, room, count, bound, margin, ignored):
    """Name those of the first `count` rows met whose score may reach the bound; returns it, raised, and how many.

    margin: by how much more a score may be off, whatever the other row is; ignored: a row that is no candidate.
    """
    room.best[:] = -np.inf
    kept = 0
    # Most rows fail by their sum alone, whatever is taken from it.
    least = bound + block.least
    for i in range(count):
        other = room.met[i]
        total = room.sums[other]
        room.sums[other] = 0
        if total >= least and other != ignored and total - block.highs[other] >= bound:
            room.labels[kept] = other
            room.scores[kept] = total - block.highs[other]
            kept += 1
            low = total - block.lows[other]
            # A sum of zero may be met twice, but scores must be those of different rows.
            if total != 0 and low > room.best[0]:
                bound = max(bound, np.float32(raise_best(room.best, low) - 2.0 * margin))
                least = bound + block.least
    return bound, kept


@kernel(inline=True)
def keep_best(others, block, room, count, bound):
    """Keep of the first `count` candidates those that reach the bound as it is now, as rows of `others`; how many."""
    kept = 0
    for i in range(count):
        if room.scores[i] >= bound:
            label = np.int32(block.first + room.labels[i])
            room.labels[kept] = label
            kept += 1
            prefetch(others.indptr, label)
            prefetch(others.squares, label)
    return kept


@kernel
def meet(terms, rows, others, block, form, lists, itself, first, last):
    """Offer the lists of the rows first .. last what they meet in the block; returns how many distances were computed.

    terms: Terms of `rows`; rows, others: SparseRows; block: of `others`; form, lists, itself: as in nearest_sparse.
    """
    size, width = block.highs.size, lists.ids.shape[1]
    room = Room(
        np.zeros(size, np.float32),
        np.empty(2 * size, np.uint16),
        np.zeros(size, np.bool_),
        np.empty(2 * size, np.int32),
        np.empty(2 * size, np.float32),
        np.empty(width, np.float32),
    )
    taken = 0
    for row in range(first, last):
        margin = block.error * rows.squares[row] if form.euclidean and not form.unit else 0.0
        bound = least_score(rows.squares[row], lists.distances[row, width - 1], form, margin)
        count = add_up(terms, row, block, room)
        bound, count = sift_met(block, room, count, bound, margin, row - block.first if itself else -1)
        count = keep_best(others, block, room, count, bound)
        for i in range(count):
            label, ahead = room.labels[i], others.indptr[room.labels[min(i + AHEAD, count - 1)]]
            prefetch(others.indices, ahead)
            prefetch(others.data, ahead)
            insert(lists, row, label, sparse_surrogate(rows, row, others, label, form), np.uint8(FRESH))
        taken += count
    return taken


# --- rows without a common column ---------------------------------------------------------------------------


def apart_order(others: SparseRows, form: SparseForm) -> tuple[np.ndarray, np.ndarray]:
    """The rows in the order of their distance from a row that shares no column with them, then by id: int32[m].

    And for each place where the run of equal distances ends that it lies in, int32[m].
    """
    squares = others.squares if form.euclidean and not form.unit else np.zeros(others.squares.size)
    order = np.argsort(squares, kind="stable").astype(np.int32)
    ends = np.flatnonzero(np.diff(squares[order], append=np.inf) > 0) + 1
    return order, np.repeat(ends, np.diff(ends, prepend=0)).astype(np.int32)


@kernel
def stand_apart(rows, others, order, run_ends, form, lists, itself, first, last):
    """Offer the lists of the rows first .. last the rows with which they share no column, as far as these may enter.

    order, run_ends: of `apart_order`. Rows that were met already are known to a list or too far for it.
    """
    end = lists.ids.shape[1] - 1
    for row in range(first, last):
        at = 0
        while at < order.size:
            other = order[at]
            apart = np.float32(0)
            if form.unit:
                apart = np.float32(2)
            elif form.euclidean:
                apart = np.float32(rows.squares[row] + others.squares[other])
            if apart > lists.distances[row, end]:
                break
            if before(lists, row, end, apart, other):
                at = run_ends[at]
                continue
            if not (itself and other == row):
                insert(lists, row, other, sparse_surrogate(rows, row, others, other, form), np.uint8(FRESH))
            at += 1
