"""Neighbours through inverted lists: exactly the k smallest (surrogate, id), whatever blocks, bounds and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels import inverted
from distnnd.kernels.inverted import nearest_sparse, work, work_by_row
from distnnd.kernels.neighbours import Lists, empty
from distnnd.kernels.rows import finish
from distnnd.kernels.sparse_rows import prepare_sparse, sparse_form
from distnnd.values.metric import METRICS, Metric
from distnnd.values.points import Csr
from tests import naive
from tests.kernels.test_sparse_rows import all_surrogates
from tests.sparse_points import TFIDF, as_csr, as_dense, sparse_points
from tests.strategies import JIT_OFF, few

COSINE = METRICS["cosine"]
metrics = st.sampled_from(list(METRICS.values()))


def solve(points: Csr, others: Csr, metric: Metric, k: int, itself: bool, **run: object) -> Lists:
    lists = empty(points.rows, k)
    rows, columns = prepare_sparse(points, metric), prepare_sparse(others, metric)
    nearest_sparse(rows, columns, sparse_form(metric), lists, itself, **run)
    return lists


def assert_nearest(lists: Lists, points: Csr, others: Csr, metric: Metric, itself: bool) -> None:
    """Each list holds the first of all rows, sorted by canonical surrogate and id."""
    gaps = all_surrogates(points, others, metric)
    allowed = ~np.eye(*gaps.shape, dtype=bool) if itself else np.ones(gaps.shape, bool)
    expected = naive.nearest_allowed(gaps, allowed, lists.ids.shape[1])
    assert [naive.entries(lists.ids, lists.distances, row) for row in range(points.rows)] == expected


@few(150)
@given(sparse_points(), metrics, st.integers(1, 12), st.sampled_from([3, 10, 65536]), st.integers(1, 3))
def test_lists_hold_the_nearest_of_the_same_rows(points: Csr, metric: Metric, k: int, block: int, parts: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverted, "BLOCK", block)
        lists = solve(points, points, metric, k, True, parts=parts)
    assert_nearest(lists, points, points, metric, True)


@few(60)
@given(sparse_points(columns=(20, 20)), sparse_points(columns=(20, 20)), metrics, st.integers(1, 12))
def test_lists_hold_the_nearest_of_other_rows(points: Csr, others: Csr, metric: Metric, k: int) -> None:
    assert_nearest(solve(points, others, metric, k, False), points, others, metric, False)


@few(40)
@given(st.integers(0, 2**16), st.sampled_from([1e-3, 1.0, 1e15]), metrics)
def test_rows_that_differ_by_less_than_a_sum_is_off(seed: int, size: float, metric: Metric) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=12) + rng.integers(0, 3, (30, 12)) * 2.0**-22
    scale = size * np.exp2(rng.integers(-1, 2, (30, 1)))
    points = as_csr((dense * scale).astype(np.float32))
    assert_nearest(solve(points, points, metric, 5, True), points, points, metric, True)


@pytest.mark.parametrize("block", [8, 65536])
@pytest.mark.parametrize("size", [2.0**-9, 2.0**9])
@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_rows_far_longer_or_shorter_than_the_others(
    metric: Metric, size: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By how much a product may be off depends on both rows; the bound comes from the block, or from the list."""
    monkeypatch.setattr(inverted, "BLOCK", block)
    rng = np.random.default_rng(4)
    base = rng.normal(size=40)
    points = as_csr((size * (base + rng.normal(size=(10, 40)) / 9)).astype(np.float32))
    others = as_csr((base + rng.integers(0, 3, (60, 40)) * 2.0**-20).astype(np.float32))
    assert_nearest(solve(points, others, metric, 5, False), points, others, metric, False)


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_sums_that_return_to_zero_over_and_over(metric: Metric) -> None:
    """A row is then met again and again, which the room for those met must bear."""
    dense = np.ones((6, 40), np.float32)
    dense[1::2, 1::2] = -1
    dense[5, 30:] = 0
    points = as_csr(dense)
    assert_nearest(solve(points, points, metric, 3, True), points, points, metric, True)


def test_a_row_met_twice_counts_once_for_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted, "BLOCK", 4)
    others = np.zeros((8, 3), np.float32)
    others[:, 2] = [3.2, 3.3, 3.4, 3.5, -0.5, 3.025, 3.04, 5]
    others[4, :2] = [1, -1]  # its sum: 1, 0, -0.5
    lists = solve(as_csr(np.ones((1, 3))), as_csr(others), METRICS["euclidean"], 2, False)
    assert lists.ids.tolist() == [[5, 6]]


def test_products_too_small_for_a_sum_are_met_all_the_same() -> None:
    dense = np.full((8, 30), 1e-30, np.float32)
    dense[:, 0] = np.arange(8) * 1e-30
    for metric in METRICS.values():
        assert_nearest(solve(as_csr(dense), as_csr(dense), metric, 4, True), as_csr(dense), as_csr(dense), metric, True)


def test_rows_that_share_no_column_are_neighbours_at_distance_one() -> None:
    points = as_csr(np.eye(7, 9, dtype=np.float32))
    lists = solve(points, points, COSINE, 3, True)
    assert (finish(lists.distances, COSINE) == 1).all()
    assert lists.ids.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], *[[0, 1, 2]] * 4]
    euclidean = as_csr(np.diag([5, 1, 4, 2, 3]).astype(np.float32))
    assert solve(euclidean, euclidean, METRICS["euclidean"], 2, True).ids.tolist() == [
        [1, 3],
        [3, 4],
        [1, 3],
        [1, 4],
        [1, 3],
    ]


def test_rows_apart_that_tie_once_rounded_are_taken_by_id() -> None:
    others = np.zeros((4, 2), np.float32)
    others[:, 1] = [0.5, 0.1, 0.2, 0.3]
    lists = solve(as_csr(np.array([[4096, 0]])), as_csr(others), METRICS["euclidean"], 2, False)
    assert (lists.ids.tolist(), lists.distances.tolist()) == ([[0, 1]], [[2.0**24] * 2])


def test_zero_rows_are_near_each_other_and_cost_little() -> None:
    dense = np.zeros((300, 4), np.float32)
    dense[::50] = 1
    points = as_csr(dense)
    lists = solve(points, points, COSINE, 4, True)
    assert lists.ids[299].tolist() == [1, 2, 3, 4]
    assert lists.ids[2].tolist() == [1, 3, 4, 5]
    assert lists.ids[50].tolist() == [0, 100, 150, 200]
    assert not lists.distances.any()
    rows = prepare_sparse(points, COSINE)
    block = inverted.block_of(rows, sparse_form(COSINE), 0, 300, 4)
    assert block.starts[-1] - block.starts[-2] == 5


def test_lists_that_know_something_are_improved() -> None:
    rng = np.random.default_rng(1)
    points = as_csr(np.where(rng.random((60, 30)) < 0.2, rng.normal(size=(60, 30)), 0).astype(np.float32))
    known = solve(points, points, COSINE, 5, True)
    again = Lists(*(part.copy() for part in known))
    again.ids[:, 3:], again.distances[:, 3:] = -1, np.inf
    # From elsewhere, nearer than all that is here.
    again.ids[:, 1:], again.distances[:, 1:] = again.ids[:, :-1].copy(), again.distances[:, :-1].copy()
    again.ids[:, 0], again.distances[:, 0] = -2, -1
    rows = prepare_sparse(points, COSINE)
    nearest_sparse(rows, rows, sparse_form(COSINE), again, True)
    assert (again.ids[:, 0] == -2).all()
    np.testing.assert_array_equal(again.ids[:, 1:], known.ids[:, :-1])
    np.testing.assert_array_equal(again.distances[:, 1:], known.distances[:, :-1])


def test_threads_change_nothing() -> None:
    rng = np.random.default_rng(2)
    points = as_csr(np.where(rng.random((200, 40)) < 0.1, rng.integers(1, 4, (200, 40)), 0).astype(np.float32))
    with ThreadPoolExecutor(3) as pool:
        each = lambda function, ranges: list(pool.map(lambda ends: function(*ends), ranges))  # noqa: E731
        side_by_side = solve(points, points, COSINE, 6, True, each=each, parts=7)
    for one, other in zip(solve(points, points, COSINE, 6, True), side_by_side, strict=True):
        np.testing.assert_array_equal(one, other)


@few(30)
@given(sparse_points())
def test_work_is_the_sum_of_squared_column_lengths(points: Csr) -> None:
    rows = prepare_sparse(points, METRICS["euclidean"])
    present = as_dense(points) != 0
    lengths = present.sum(axis=0)
    assert work(rows, rows) == (lengths**2).sum()
    assert work_by_row(rows, rows).tolist() == [lengths[row].sum() for row in present]


@pytest.mark.skipif(JIT_OFF or not TFIDF.is_file(), reason="needs the TF-IDF rows, and the JIT")
def test_real_rows_get_their_true_neighbours() -> None:
    from scipy import sparse

    matrix = sparse.load_npz(TFIDF).astype(np.float64)
    points = Csr(matrix.indptr.astype(np.int64), matrix.indices, matrix.data.astype(np.float32), matrix.shape[1])
    lists = solve(points, points, COSINE, 15, True)
    distances = finish(lists.distances, COSINE)
    queries = np.random.default_rng(3).choice(matrix.shape[0], 500, replace=False)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    true = 1 - (matrix[queries] @ matrix.T).toarray() / (norms[queries, None] * norms)
    true[np.arange(len(queries)), queries] = np.inf
    np.testing.assert_allclose(distances[queries], np.sort(true, axis=1)[:, :15], atol=1e-7)
    np.testing.assert_allclose(np.take_along_axis(true, lists.ids[queries], 1), distances[queries], atol=1e-7)
