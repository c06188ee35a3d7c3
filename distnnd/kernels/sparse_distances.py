"""Distances of sparse rows: the columns of two rows are merged, and only those that are there are looked at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..values.metric import Metric
from ..values.points import Csr
from .chosen import chosen
from .columns import add, counts_zeros, ending, known, look, looks, no_facts, no_totals
from .forms import CircularWasserstein, UsersOwnSparse
from .jit import kernel
from .whole_rows import WHOLE, around_circle, best_shift, halfway_round, total_of, whole


class SparseRows(NamedTuple):
    """Rows that list their nonzero columns (CSR).

    starts: int64[n + 1], where the entries of each row begin; columns: int32[m] or int64[m], ascending within a row and
    none twice; values: numbers[m], zeros allowed.
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def listed(points: Csr) -> SparseRows:
    """The rows as `distance` takes them; no array is copied."""
    return SparseRows(points.indptr, points.indices, points.data)


def as_compared(points: Csr, metric: Metric) -> Csr:
    """The rows in the place of which the metric compares others: under spearmanr the ranks of their entries.

    These are taken from that of a zero, so that zeros stay zeros, and correlate as all ranks do. Ranks of ranks are the
    same ranks, so it does no harm to ask twice.
    """
    if metric.name != "spearmanr":
        return points
    return points._replace(data=all_ranks(points.indptr, points.data, points.columns).astype(np.float32))


def taken(rows: SparseRows, chosen: np.ndarray) -> SparseRows:
    """The rows of those numbers, in that order."""
    return listed(Csr(*rows, 0).take(chosen))


@kernel(inline=True)
def next_column(points, at, end, others, to, stop):
    """The next column of two rows, of which at least one goes on: what they hold, its number, where to go on."""
    none = points.values.dtype.type(0)
    if at < end and to < stop:
        # Both are loaded and one may be dropped: which of them is next is as good as random, and jumps cost more.
        one, other, a, b = points.columns[at], others.columns[to], points.values[at], others.values[to]
        column = min(one, other)
        a, b = a if one == column else none, b if other == column else none
        return a, b, column, at + (one == column), to + (other == column)
    if at < end:
        return points.values[at], none, points.columns[at], at + 1, to
    return none, others.values[to], others.columns[to], at, to + 1


@kernel(inline=True)
def facts_of(form, points, i, others, j):
    """What the metric has to know of both rows before it adds up their columns."""
    facts = no_facts(form)
    at, end, to, stop = points.starts[i], points.starts[i + 1], others.starts[j], others.starts[j + 1]
    met = 0
    while at < end or to < stop:
        a, b, column, at, to = next_column(points, at, end, others, to, stop)
        facts = look(form, facts, a, b, column)
        met += 1
    if met < form.columns:
        # Once is enough to know that there is a zero in both.
        facts = look(form, facts, 0, 0, 0)
    return known(form, facts)


@chosen()
def sparse_distance(form, points, i, others, j):
    """Distance of two sparse rows, column by column; float64 or float32 as its sums are."""
    facts = facts_of(form, points, i, others, j) if looks(form) else known(form, no_facts(form))
    totals = no_totals(form)
    at, end, to, stop = points.starts[i], points.starts[i + 1], others.starts[j], others.starts[j + 1]
    following = 0
    while at < end or to < stop:
        a, b, column, at, to = next_column(points, at, end, others, to, stop)
        if counts_zeros(form) and column > following:
            totals = add(form, facts, totals, 0, 0, following, column - following)
        totals = add(form, facts, totals, a, b, column, 1)
        following = column + 1
    if counts_zeros(form) and following < form.columns:
        totals = add(form, facts, totals, 0, 0, following, form.columns - following)
    return ending(form, facts, totals)


@sparse_distance.of(*WHOLE)
def _of_whole_rows(form, points, i, others, j):
    return of_filled_rows(form, points, i, others, j)


@chosen(allocates=True)
def of_filled_rows(form, points, i, others, j):
    """Distance of two sparse rows written out with their zeros: of d columns, however few are there."""
    return whole(form, filled(points, i, form.columns), filled(others, j, form.columns))


@kernel
def filled(points, i, columns):
    """Row i with its zeros: float32[columns]."""
    row = np.zeros(columns, np.float32)
    for at in range(points.starts[i], points.starts[i + 1]):
        row[points.columns[at]] = points.values[at]
    return row


@kernel
def ranks_from_zero(values, columns):
    """The rank of each entry of a row among all its columns, above the rank that its zeros share: float64[m].

    Equal numbers share the mean of their ranks; columns: how many the row has.
    """
    order = np.argsort(values)
    zeros = columns - len(values)
    below = (values < 0).sum()
    ranks = np.empty(len(values))
    first = 0
    while first < len(values):
        last, number = first, values[order[first]]
        while last + 1 < len(values) and values[order[last + 1]] == number:
            last += 1
        rank = (first + last) / 2 + (zeros if number > 0 else 0) - (below + (zeros - 1) / 2)
        for place in range(first, last + 1):
            ranks[order[place]] = rank
        first = last + 1
    return ranks


@kernel
def all_ranks(starts, values, columns):
    """The same of all rows: float64[nnz]."""
    ranks = np.empty(values.size)
    for row in range(starts.size - 1):
        start, stop = starts[row], starts[row + 1]
        ranks[start:stop] = ranks_from_zero(values[start:stop], columns)
    return ranks


@sparse_distance.of(CircularWasserstein)
def _of_running_sums(form, points, i, others, j):
    return of_segments(form, points, i, others, j)


@chosen(allocates=True)
def of_segments(form, points, i, others, j):
    """Distance of sparse rows around a circle: their running sums stand still between the columns that they list."""
    at, end, to, stop = points.starts[i], points.starts[i + 1], others.starts[j], others.starts[j + 1]
    mass, other = total_of(points.values[at:end]), total_of(others.values[to:stop])
    if mass == 0 or other == 0:
        return halfway_round(form, mass, other)
    quotient, other_quotient = 1.0 / mass, 1.0 / other
    most = end - at + stop - to + 1
    ahead, lengths = np.empty(most), np.empty(most)
    running, since, used = 0.0, 0, 0
    while at < end or to < stop:
        a, b, column, at, to = next_column(points, at, end, others, to, stop)
        ahead[used], lengths[used] = running, column - since
        running += np.float64(a) * quotient - np.float64(b) * other_quotient
        since, used = column, used + 1
    ahead[used], lengths[used] = running, form.columns - since
    ahead, lengths = ahead[: used + 1], lengths[: used + 1]
    return around_circle(ahead, lengths, best_shift(ahead, lengths, form.power), form.power)


@sparse_distance.of(UsersOwnSparse)
def _of_users_own(form, points, i, others, j):
    return of_lists(form, points, i, others, j)


@chosen(allocates=True)
def of_lists(form, points, i, others, j):
    """Distance by the user's own function of what both rows list."""
    one = slice(points.starts[i], points.starts[i + 1])
    other = slice(others.starts[j], others.starts[j + 1])
    return form.function(points.columns[one], points.values[one], others.columns[other], others.values[other])
