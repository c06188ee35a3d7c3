"""Coded rows, groups and what their lists should hold: what the tests of leaves share."""

from __future__ import annotations

import numpy as np

from distnnd.kernels.codes import Rows, coded_form, coder_of, encode, trusted
from distnnd.kernels.groups import Groups, group_rows
from distnnd.kernels.leaves import join
from distnnd.kernels.neighbours import FRESH, Lists, empty
from distnnd.kernels.rows import Form, prepare, prepared_width, rescore
from distnnd.values.metric import METRICS
from tests import naive

DTYPES = (np.float32, np.uint8, np.int8)
# How lists may be kept: strict; strict, as if codes were cut off, which leaves a new list without a bound; by the
# estimates themselves.
WAYS = ["strict", "cut", "trusted"]


def everyone(n: int) -> Groups:
    return Groups(np.arange(n, dtype=np.int32), np.array([0, n]))


def grouped(group_of: np.ndarray, groups: int) -> Groups:
    return Groups(*group_rows(group_of.astype(np.int32), groups))


def prepared(raw: np.ndarray) -> np.ndarray:
    metric = METRICS["sqeuclidean"]
    return prepare(raw, metric, prepared_width(metric, raw.dtype, raw.shape[1], False), 0.0)


def coded(raw: np.ndarray, way: str = "strict", metric: str = "sqeuclidean") -> tuple[Rows, Form]:
    """The rows with their codes and a form to compare them; under inner_product raw rows count as prepared ones."""
    ready = prepared(raw) if METRICS[metric].euclidean else raw
    coder = coder_of(ready, METRICS[metric])
    rows = encode(ready, coder)
    form = coded_form(METRICS[metric], rows, coder, strict=True)
    if way == "cut":
        form = form._replace(cut=True)
    return rows, trusted(form) if way == "trusted" else form


def canonical(rows: Rows, others: Rows, form: Form) -> np.ndarray:
    """What a list would keep, of all pairs, by the estimates where the form trusts them: float32[m, p]."""
    if form.trusted:
        return form.unit * naive.estimates(rows.values, others.values, form.euclidean, form.columns).astype(np.float32)
    m, p = len(rows.points), len(others.points)
    ids = np.tile(np.arange(p, dtype=np.int32), (m, 1))
    lists = Lists(ids, np.empty((m, p), np.float32), np.zeros((m, p), np.uint8))
    rescore(rows.points, others.points, form, lists, 0, m)
    return lists.distances


def assert_right(lists: Lists, gaps: np.ndarray, allowed: np.ndarray) -> None:
    """The lists hold what sorting all pairs finds: to the bit, ties by the lower id, all of it fresh."""
    naive.assert_ordered(lists.ids, lists.distances)
    for row, expected in enumerate(naive.nearest_allowed(gaps, allowed, lists.ids.shape[1])):
        assert naive.entries(lists.ids, lists.distances, row) == expected, f"row {row}"
    assert (lists.state[lists.ids >= 0] == FRESH).all()


def assert_dense(lists: Lists, rows: Rows, form: Form) -> None:
    """The lists are right if all rows met each other."""
    assert_right(lists, canonical(rows, rows, form), ~np.eye(len(rows.points), dtype=bool))


def dense(rows: Rows, k: int, form: Form, order: np.ndarray | None = None) -> Lists:
    """The lists after all rows were compared with each other, the base in the given order."""
    n = len(rows.points)
    lists, base = empty(n, k), everyone(n)
    if order is not None:
        base = Groups(order.astype(np.int32), base.starts)
    assert join(rows, everyone(n), rows, base, base.rows, form, lists, True, 0, 1) == n**2
    return lists


def assert_true(lists: Lists, raw: np.ndarray) -> None:
    """The lists hold the nearest of all other rows by the textbook; rounding is in proportion to a distance."""
    gaps, others = naive.squared(raw, raw), ~np.eye(len(raw), dtype=bool)
    naive.assert_nearest(lists.ids, lists.distances, gaps, others, 2e-6 * gaps)


def same(one: Lists, other: Lists) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
