"""Distances of sparse rows: the columns of two rows are merged, and only those that are there are looked at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .chosen import chosen
from .columns import add, counts_zeros, ending, known, look, looks, no_facts, no_totals
from .forms import UsersOwnSparse
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


@sparse_distance.of(UsersOwnSparse)
def _of_users_own(form, points, i, others, j):
    return of_lists(form, points, i, others, j)


@chosen(allocates=True)
def of_lists(form, points, i, others, j):
    """Distance by the user's own function of what both rows list."""
    one = slice(points.starts[i], points.starts[i + 1])
    other = slice(others.starts[j], others.starts[j + 1])
    return form.function(points.columns[one], points.values[one], others.columns[other], others.values[other])
