"""Sketches: products of sparse rows on the average, and all that a metric does to rows, done to what they list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from scipy.stats import rankdata

from distnnd.kernels.rows import prepare, prepared_width
from distnnd.kernels.sketches import sketch, written_out
from distnnd.kernels.sparse_distances import all_ranks
from distnnd.kernels.transforms import transform
from distnnd.values.metric import SKETCH, metric_of, of_sparse
from distnnd.values.points import Csr
from tests.sparse_points import as_csr, as_dense, sparse_points
from tests.strategies import few

WIDE = 3000


def sparse_rows(seed: int, n: int = 60, d: int = WIDE, share: float = 0.02) -> Csr:
    rng = np.random.default_rng(seed)
    return as_csr(np.where(rng.random((n, d)) < share, rng.exponential(size=(n, d)), 0).astype(np.float32))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["euclidean", "hellinger", "canberra", "jaccard", "correlation", "spearmanr"])
def test_products_are_those_of_the_rows_on_the_average(name: str) -> None:
    """One is off by 1 / sqrt(SKETCH) of both lengths, give or take; the mean of many is not."""
    metric, points = metric_of(name), sparse_rows(1)
    dense, short = (unit(rows) for rows in (transform(written_out(points), metric), sketch(points, of_sparse(metric))))
    off = (short @ short.T - dense @ dense.T)[np.triu_indices(len(dense), 1)]
    assert short.shape == (60, SKETCH)
    assert abs(off.mean()) < 0.01
    assert off.std() < 1.3 / SKETCH**0.5


def test_few_columns_are_written_out() -> None:
    points = sparse_rows(2, d=40, share=0.2)
    for name in ("manhattan", "correlation", "wasserstein_1d"):
        expected = transform(written_out(points), metric_of(name))
        np.testing.assert_array_equal(sketch(points, of_sparse(metric_of(name))), expected)


def test_steps_of_all_columns_come_before_the_sketch() -> None:
    d = SKETCH + 50
    metric = of_sparse(metric_of("mahalanobis", {"VI": np.eye(d)}))
    points = sparse_rows(3, n=8, d=d)
    plain = of_sparse(metric_of("sqeuclidean"))
    np.testing.assert_allclose(abs(sketch(points, metric)).sum(), abs(sketch(points, plain)).sum(), rtol=0.2)
    assert sketch(points, metric).shape == (8, SKETCH)


def test_running_sums_are_near_where_rows_are() -> None:
    metric = of_sparse(metric_of("wasserstein_1d"))
    dense = np.zeros((3, WIDE), np.float32)
    dense[0, 100], dense[1, 130], dense[2, 2000] = 1, 2, 3
    rows = sketch(as_csr(dense), metric)
    near, far = np.linalg.norm(rows[0] - rows[1]), np.linalg.norm(rows[0] - rows[2])
    assert near == pytest.approx(30**0.5, rel=0.3)
    assert far == pytest.approx(1900**0.5, rel=0.05)


@few(40)
@given(sparse_points(rows=(2, 10)))
def test_ranks_are_those_of_rows_written_out(points: Csr) -> None:
    dense = as_dense(points)
    ranks = all_ranks(points.indptr, points.data, points.columns)
    for row in range(points.rows):
        entries = slice(points.indptr[row], points.indptr[row + 1])
        true, columns = rankdata(dense[row]), points.indices[entries]
        zeros = np.setdiff1d(np.arange(points.columns), columns)
        if zeros.size:
            np.testing.assert_allclose(ranks[entries], true[columns] - true[zeros[0]])


def test_zero_rows_have_a_column_of_their_own() -> None:
    points = as_csr(np.array([[0.0] * 300, [1.0] * 300], np.float32))
    metric = of_sparse(metric_of("cosine"))
    rows = prepare(points, metric, prepared_width(metric, np.float32, 300, True), 0.0)
    assert rows.shape == (2, SKETCH + 1)
    assert rows[0].tolist() == [0.0] * SKETCH + [1.0]
    assert np.linalg.norm(rows[1]) == pytest.approx(1)
