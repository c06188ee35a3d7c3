"""Sparse points as a value: slices, chosen rows, and the canonical form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.values.points import Csr, canonical, row_of_entries, starts_of, together
from tests.sparse_points import as_csr, as_dense, sparse_points
from tests.strategies import few


def is_canonical(points: Csr) -> bool:
    rows = row_of_entries(points.indptr)
    places = list(zip(rows.tolist(), points.indices.tolist(), strict=True))
    right = (points.indptr.dtype, points.indices.dtype, points.data.dtype) == (np.int64, np.int32, np.float32)
    return right and places == sorted(set(places)) and bool((points.data != 0).all())


@st.composite
def untidy(draw: st.DrawFn) -> Csr:
    """Rows in any order of columns, with duplicates, zeros, and entries that cancel each other out."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=12))
    entries = sum(lengths)
    columns = draw(st.integers(1, 5))
    index = draw(st.sampled_from([np.int32, np.int64]))
    kind = draw(st.sampled_from([np.float32, np.float64, np.int16]))
    indices = draw(st.lists(st.integers(0, columns - 1), min_size=entries, max_size=entries))
    data = draw(st.lists(st.sampled_from([-2, -1, 0, 1, 2]), min_size=entries, max_size=entries))
    return Csr(starts_of(np.array(lengths)), np.array(indices, index), np.array(data, kind), columns)


@few(200)
@given(untidy())
def test_the_canonical_form_means_the_same_rows(points: Csr) -> None:
    tidy = canonical(points)
    assert is_canonical(tidy)
    np.testing.assert_array_equal(as_dense(tidy), as_dense(points))


@few(50)
@given(sparse_points())
def test_what_is_canonical_is_not_copied(points: Csr) -> None:
    tidy = canonical(points)
    assert np.shares_memory(tidy.data, points.data) or not points.data.size
    assert np.shares_memory(tidy.indices, points.indices) or not points.data.size


def test_duplicates_are_summed_before_they_are_rounded() -> None:
    data = np.array([1e8, 1, -1e8], np.float32)
    tidy = canonical(Csr(np.array([0, 3]), np.zeros(3, np.int64), data, 1))
    assert tidy.data.tolist() == [1]
    tidy = canonical(Csr(np.array([0, 2]), np.zeros(2, np.int64), np.array([3e38, 3e38], np.float32), 1))
    assert tidy.data.tolist() == [np.inf]


@few(100)
@given(sparse_points(), st.data())
def test_rows_are_sliced_chosen_and_put_together(points: Csr, data: st.DataObject) -> None:
    dense = as_dense(points)
    first = data.draw(st.integers(0, points.rows))
    last = data.draw(st.integers(first, points.rows))
    rows = data.draw(st.lists(st.integers(0, points.rows - 1), max_size=20))
    np.testing.assert_array_equal(as_dense(points.between(first, last)), dense[first:last])
    np.testing.assert_array_equal(as_dense(points.take(np.array(rows, np.int64))), dense[rows])
    whole = together([points.between(0, first), points.between(first, last), points.between(last, points.rows)])
    for part, expected in zip(whole, points, strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("rows", [0, 3])
def test_rows_without_entries(rows: int) -> None:
    points = as_csr(np.zeros((rows, 4)))
    assert (points.rows, points.columns, points.nbytes) == (rows, 4, 8 * (rows + 1))
    assert is_canonical(canonical(points))
    assert points.take(np.arange(rows)).rows == rows
