"""Sparse rows as kernels hold them: their distances are those of the same rows written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.rows import finish
from distnnd.kernels.sparse_rows import prepare_sparse, sparse_form, sparse_surrogate, sums_of_squares
from distnnd.values.metric import METRICS, Metric
from distnnd.values.points import Csr
from tests import naive
from tests.sparse_points import as_csr, as_dense, sparse_points
from tests.strategies import few


def all_surrogates(points: Csr, others: Csr, metric: Metric) -> np.ndarray:
    """Canonical surrogates of all pairs: float32[m, p]."""
    rows, columns, form = prepare_sparse(points, metric), prepare_sparse(others, metric), sparse_form(metric)
    return np.array(
        [[sparse_surrogate(rows, i, columns, j, form) for j in range(others.rows)] for i in range(points.rows)],
        np.float32,
    ).reshape(points.rows, others.rows)


@few(60)
@given(sparse_points(rows=(2, 15)), st.sampled_from(list(METRICS.values())))
def test_distances_are_those_of_rows_written_out(points: Csr, metric: Metric) -> None:
    dense = as_dense(points)
    found = finish(all_surrogates(points, points, metric), metric)
    np.testing.assert_allclose(found, naive.distances(metric.name, dense, dense), rtol=2e-7, atol=1e-7)


@few(60)
@given(sparse_points(rows=(2, 15)), st.sampled_from(list(METRICS.values())))
def test_a_pair_has_one_number_either_way(points: Csr, metric: Metric) -> None:
    found = all_surrogates(points, points, metric)
    np.testing.assert_array_equal(found, found.T)
    if metric.euclidean:
        assert not found.diagonal().any()


def test_cosine_is_exact_where_it_can_be() -> None:
    rng = np.random.default_rng(0)
    row = rng.normal(size=50)
    dense = np.zeros((5, 100))
    dense[0, :50], dense[1, :50], dense[2, 50:] = row, row, rng.normal(size=50)
    found = finish(all_surrogates(as_csr(dense), as_csr(dense), METRICS["cosine"]), METRICS["cosine"])
    assert found[0, 1] == 0
    assert found[0, 2:].tolist() == [1, 1, 1]
    assert found[3].tolist() == [1, 1, 1, 0, 0]


def test_near_rows_far_from_the_origin_do_not_cancel_out() -> None:
    dense = np.array([[1e6, 0, 3], [1e6, 1e-3, 3]], np.float32)
    found = all_surrogates(as_csr(dense), as_csr(dense), METRICS["euclidean"])
    assert found[0, 1] == pytest.approx(np.float64(np.float32(1e-3)) ** 2, rel=1e-7)


def test_zero_rows_get_an_entry_of_their_own_under_unit_metrics() -> None:
    points = as_csr(np.array([[0, 0], [0, 2], [0, 0], [3, 0], [0, 0]], np.float32))
    rows = prepare_sparse(points, METRICS["cosine"])
    assert rows.columns == 3
    assert rows.indptr.tolist() == [0, 1, 2, 3, 4, 5]
    assert rows.indices.tolist() == [2, 1, 2, 0, 2]
    assert rows.data.tolist() == [1, 2, 1, 3, 1]
    assert rows.squares.tolist() == [1, 4, 1, 9, 1]
    raw = prepare_sparse(points, METRICS["euclidean"])
    assert (raw.columns, raw.indices is points.indices, raw.data is points.data) == (2, True, True)
    np.testing.assert_array_equal(sums_of_squares(points.indptr, points.data), [0, 4, 0, 9, 0])
