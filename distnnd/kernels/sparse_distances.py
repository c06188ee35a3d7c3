"""Distances of sparse rows: the columns of two rows are merged, and only those that are there are looked at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..values.points import Csr
from .angle_metrics import cosine_between
from .chosen import chosen
from .columns import add, counts_zeros, ending, known, look, looks, no_facts, no_totals
from .forms import Spearman, UsersOwnSparse
from .jit import kernel
from .whole_rows import WHOLE, whole


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


@sparse_distance.of(Spearman)
def _of_ranks(form, points, i, others, j):
    return of_lists_of_ranks(form, points, i, others, j)


@chosen(allocates=True)
def of_lists_of_ranks(form, points, i, others, j):
    """Distance of two sparse rows by ranks, however many columns are zero: 1 - cos around the means."""
    start, stop = points.starts[i], points.starts[i + 1]
    others_start, others_stop = others.starts[j], others.starts[j + 1]
    own = ranks_from_zero(points.values[start:stop], form.columns)
    other = ranks_from_zero(others.values[others_start:others_stop], form.columns)
    product, at = 0.0, others_start
    for entry in range(start, stop):
        while at < others_stop and others.columns[at] < points.columns[entry]:
            at += 1
        if at < others_stop and others.columns[at] == points.columns[entry]:
            product += own[entry - start] * other[at - others_start]
    centred = product - own.sum() * other.sum() / form.columns
    return 1 - cosine_between(centred, around_mean(own, form.columns), around_mean(other, form.columns))


@kernel
def around_mean(ranks, columns):
    """The square of what is left of ranks around their mean, the others of so many columns being 0."""
    total, square = 0.0, 0.0
    for rank in ranks:
        total += rank
        square += rank * rank
    return square - total * total / columns


@sparse_distance.of(UsersOwnSparse)
def _of_users_own(form, points, i, others, j):
    return of_lists(form, points, i, others, j)


@chosen(allocates=True)
def of_lists(form, points, i, others, j):
    """Distance by the user's own function of what both rows list."""
    one = slice(points.starts[i], points.starts[i + 1])
    other = slice(others.starts[j], others.starts[j + 1])
    return form.function(points.columns[one], points.values[one], others.columns[other], others.values[other])
