"""The last word on distances: what a layout selected is judged by the canonical distance of the rows as they came.

Leaves, trees and passes compare prepared rows by their codes (see values/metric.py). Where the surrogate of prepared
rows is the metric, it settles the lists too; else `distance` does (kernels/distances.py), and all that is compiled
anew for each metric are the few short loops below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..values.errors import InputError
from ..values.metric import CUSTOM, Metric
from . import forms
from .bit_distances import BitRows, from_bytes
from .descent import Finds
from .distances import distance_up_to, is_dear
from .jit import kernel
from .neighbours import FRESH, Lists, insert, sort_rows
from .rows import Form, plain_form, rescore, rows_as_they_came
from .sparse_distances import SparseRows, taken
from .transforms import transform

# A function of the user's own may return anything.
OWN = (forms.UsersOwn, forms.UsersOwnSparse)


@kernel
def judge(points, others, form, lists, kept, first, last):
    """Replace the distances of the rows first .. last by those of the metric, where the neighbour is at hand.

    kept: of how many nearest entries the distances count; that of another one may be any that is farther.
    """
    ids, distances, _ = lists
    best = np.empty(kept, np.float32)
    for row in range(first, last):
        best[:] = np.inf
        for slot in range(ids.shape[1]):
            if ids[row, slot] >= 0:
                distances[row, slot] = distance_up_to(form, points, row, others, ids[row, slot], best[kept - 1])
                if is_dear(form):
                    keep_least(best, distances[row, slot])


@kernel
def keep_least(best, number):
    """Put a number in its place among the least so far, which ascend, unless it is greater than all of them."""
    place = best.size - 1
    if not number < best[place]:
        return
    while place > 0 and best[place - 1] > number:
        best[place] = best[place - 1]
        place -= 1
    best[place] = number


@kernel
def price(finds, points, form, lists, first, last):
    """Replace the distances of the finds first .. last; a pair that found each other is measured once.

    lists: those that the finds are for; what would enter none of them may be any that is as far.
    """
    targets, labels, distances = finds
    worst = lists.distances.shape[1] - 1
    for found in range(first, last):
        target, label = targets[found], labels[found]
        if found > first and target == labels[found - 1] and label == targets[found - 1]:
            distances[found] = distances[found - 1]
        else:
            bound = max(lists.distances[target, worst], lists.distances[label, worst])
            distances[found] = distance_up_to(form, points, target, points, label, bound)


@kernel
def nearest(points, others, count, form, lists, itself, first, last):
    """Offer each of the rows first .. last the first `count` of the others, all but itself if they are the same.

    Returns the first pair whose distance is no finite number, and that; or -1, -1, 0.
    """
    worst = lists.distances.shape[1] - 1
    for row in range(first, last):
        for label in range(count):
            if not (itself and label == row):
                length = distance_up_to(form, points, row, others, label, lists.distances[row, worst])
                if not np.isfinite(length):
                    return row, label, length
                insert(lists, row, label, length, np.uint8(FRESH))
    return -1, -1, np.float32(0)


class Judge(NamedTuple):
    """Who settles lists. rows: prepared, or as they came and as `distance` takes them; form: Form, or of forms.py."""

    rows: Any
    form: Any

    def of(self, chosen: np.ndarray) -> Any:
        """Some of the rows, as rows of their own."""
        if isinstance(self.rows, SparseRows):
            return taken(self.rows, chosen)
        if isinstance(self.rows, tuple):
            return type(self.rows)(*(part[chosen] for part in self.rows))
        return self.rows[chosen]

    def zero_rows(self) -> np.ndarray:
        """Which of the rows, dense or sparse, hold nothing but zeros: int64, ascending."""
        if isinstance(self.rows, SparseRows):
            return np.flatnonzero(np.diff(self.rows.starts) == 0)
        return np.flatnonzero(~self.rows.any(axis=1))

    def settle(self, lists: Lists, first: int, last: int, rows: Any = None, kept: int | None = None) -> None:
        """Give the lists first .. last their distances, and put them in order; see `measure`."""
        self.measure(lists, first, last, rows, kept)
        sort_rows(lists, first, last)

    def measure(self, lists: Lists, first: int, last: int, rows: Any = None, kept: int | None = None) -> None:
        """Give the lists first .. last their distances, where neighbours are at hand; rows: by default the judge's own.

        kept: how many of the nearest count, by default all; a farther one may get any distance that is farther.
        InputError where a metric of the user's own gives something else than a finite number.
        """
        rows = self.rows if rows is None else rows
        if isinstance(self.form, Form):
            rescore(rows, self.rows, self.form, lists, first, last)
        else:
            width = lists.ids.shape[1]
            judge(rows, self.rows, self.form, lists, min(kept or width, width), first, last)
        if isinstance(self.form, OWN):
            ids, distances, _ = (part[first:last] for part in lists)
            bad = (ids >= 0) & ~np.isfinite(distances)
            if bad.any():
                row, slot = np.argwhere(bad)[0]
                raise self.undefined(distances[row, slot], rows, first + row, ids[row, slot])

    def offer_all(self, lists: Lists, first: int, last: int, rows: Any = None) -> None:
        """Offer the lists first .. last all of the judge's rows; rows: of the lists, by default the judge's own.

        A row of the judge's own is not offered itself. InputError as in `measure`.
        """
        asked, itself = (self.rows, True) if rows is None else (rows, False)
        count = count_rows(self.rows)
        row, label, length = nearest(asked, self.rows, count, self.form, lists, itself, first, last)
        if row >= 0:
            raise self.undefined(length, asked, row, label)

    def price(self, finds: Finds, lists: Lists, first: int, last: int) -> None:
        """Replace the distances of the finds first .. last, as far as they matter to the lists that they are for.

        InputError as in `measure`.
        """
        price(finds, self.rows, self.form, lists, first, last)
        if isinstance(self.form, OWN):
            bad = np.flatnonzero(~np.isfinite(finds.distances[first:last]))
            if bad.size:
                one, other = (part[first + bad[0]] for part in (finds.targets, finds.labels))
                raise self.undefined(finds.distances[first + bad[0]], self.rows, one, other)

    def undefined(self, length: Any, rows: Any, row: int, other: int) -> InputError:
        """The error for two rows whose distance is no finite number; other: one of the judge's own."""
        return InputError(
            f"the metric returned {length} for the rows {shown(rows, row)} and {shown(self.rows, other)}; "
            "let it return a finite number for any two rows"
        )


def shown(rows: Any, row: int) -> str:
    """A row for messages: its numbers, or the columns that it lists, with theirs."""
    if isinstance(rows, SparseRows):
        entries = slice(rows.starts[row], rows.starts[row + 1])
        columns, values = (np.array2string(part[entries], threshold=8) for part in (rows.columns, rows.values))
        return f"columns {columns} with {values}"
    return np.array2string((rows[0] if isinstance(rows, tuple) else rows)[row], threshold=8)


def count_rows(rows: Any) -> int:
    """How many rows a judge has been given; `len` of a tuple counts its fields."""
    if isinstance(rows, SparseRows):
        return len(rows.starts) - 1
    return len(rows[0] if isinstance(rows, tuple) else rows)


def judge_of(
    points: np.ndarray,
    raw: np.ndarray | SparseRows | None,
    metric: Metric,
    d: int,
    function: Callable[..., float] | None = None,
) -> Judge:
    """The judge of these rows. points: prepared [m, w]; raw: of as_they_came, where the metric is judged; d: columns.

    function: the user's own metric, compiled. SpecError if it is not.
    """
    if not metric.judged:
        return Judge(points, plain_form(metric, points.shape[1]))
    if function is not None:
        return Judge(raw, forms.own_form(function, d, metric.form == "sparse"))
    if metric.form == "bits":
        return Judge(BitRows(raw), forms.form_of(metric, 8 * d))
    if metric.form == "inner" and "whiten" in metric.steps:
        return Judge(raw, forms.Euclidean(d))
    return Judge(raw, forms.form_of(metric, d))


def as_they_came(points: np.ndarray, prepared: np.ndarray, metric: Metric) -> np.ndarray | None:
    """Rows as a judge takes them, [m, .]: `prepared` where that is the same; None where nothing is judged.

    points: as the source gives them. float16, which kernels do not take, becomes float32, and so do bytes for a
    function of the user's own, in which their differences might wrap; bits become words of 64. Under a quadratic form
    rows are whitened, in float64: each pair would cost d^2 products else.
    """
    if not metric.judged:
        return None
    if metric.form == "bits":
        return from_bytes(points).words
    if "whiten" in metric.steps:
        return transform(points, metric)
    if rows_as_they_came(metric, prepared.dtype):
        return prepared
    as_floats = points.dtype == np.float16 or (metric.name == CUSTOM and not metric.double)
    return points.astype(np.float32, copy=False) if as_floats else points
