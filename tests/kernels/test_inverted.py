"""Neighbours through inverted lists: exactly the k smallest (distance, id), whatever blocks, bounds and threads."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels import inverted
from distnnd.kernels.distances import distances_between
from distnnd.kernels.forms import form_of
from distnnd.kernels.inverted import looking_side, nearest_sparse, standing_side, work_by_row
from distnnd.kernels.neighbours import Lists, empty
from distnnd.kernels.shared_columns import weigh
from distnnd.kernels.sparse_distances import listed
from distnnd.values.metric import metric_of
from distnnd.values.metrics_table import ENTRIES
from distnnd.values.points import Csr
from tests import naive
from tests.sparse_points import TFIDF, as_csr, as_dense, sparse_points
from tests.strategies import JIT_OFF, few

GAPS = ["euclidean", "sqeuclidean", "cosine", "inner_product"]
NAMES = [
    *GAPS,
    *["true_angular", "correlation", "hellinger", "manhattan", "canberra", "braycurtis", "hamming", "seuclidean"],
    *["jensen_shannon", "jensenshannon", "minkowski"],
    *[name for name, entry in ENTRIES.items() if entry.form == "set"],
]
# One of each way to add up what is shared; the others take as long to compile.
QUICK = {*GAPS, "correlation", "manhattan", "canberra", "jensen_shannon", "jaccard", "yule"}
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in NAMES]


def form_for(name: str, d: int) -> Any:
    params: dict[str, Any] = {"seuclidean": {"V": 1.0 + np.arange(d)}, "minkowski": {"p": 1}}.get(name, {})
    return form_of(metric_of(name, params, d), d)


def allowed_rows(points: Csr, name: str) -> Csr:
    """The rows, or those of the absolute numbers where a metric takes no others."""
    return points._replace(data=abs(points.data)) if ENTRIES[name].domain == "non-negative" else points


def all_distances(points: Csr, others: Csr, form: Any) -> np.ndarray:
    """Canonical distances of all pairs: float32[m, p]."""
    gaps = np.empty((points.rows, others.rows), np.float32)
    distances_between(listed(points), listed(others), form, gaps)
    return gaps


def solve(points: Csr, others: Csr, name: str, k: int, itself: bool, pieces: int = 1, **run: Any) -> Lists:
    """The lists; others: in so many pieces, one after the other. itself: both are the same rows."""
    form, lists = form_for(name, points.columns), empty(points.rows, k, np.int64)
    looking = looking_side(points, form, 0 if itself else -points.rows)
    cuts = np.linspace(0, others.rows, pieces + 1).astype(int)
    for first, last in itertools.pairwise(cuts):
        if first < last:
            nearest_sparse(looking, standing_side(others.between(first, last), form, int(first)), form, lists, **run)
    return lists


def assert_nearest(lists: Lists, points: Csr, others: Csr, name: str, itself: bool) -> None:
    """Each list holds the first of all rows, sorted by canonical distance and id."""
    gaps = all_distances(points, others, form_for(name, points.columns))
    allowed = ~np.eye(*gaps.shape, dtype=bool) if itself else np.ones(gaps.shape, bool)
    expected = naive.nearest_allowed(gaps, allowed, lists.ids.shape[1])
    assert [naive.entries(lists.ids, lists.distances, row) for row in range(points.rows)] == expected


@pytest.mark.parametrize("name", EACH)
@few(12)
@given(sparse_points(), st.integers(1, 12), st.sampled_from([3, 10, 65536]), st.integers(1, 3), st.integers(1, 3))
def test_lists_hold_the_nearest_of_the_same_rows(
    name: str, points: Csr, k: int, block: int, parts: int, pieces: int
) -> None:
    points = allowed_rows(points, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverted, "BLOCK", block)
        lists = solve(points, points, name, k, True, pieces, parts=parts)
    assert_nearest(lists, points, points, name, True)


@pytest.mark.parametrize("name", EACH)
@few(5)
@given(sparse_points(columns=(20, 20)), sparse_points(columns=(20, 20)), st.integers(1, 12))
def test_lists_hold_the_nearest_of_other_rows(name: str, points: Csr, others: Csr, k: int) -> None:
    points, others = allowed_rows(points, name), allowed_rows(others, name)
    assert_nearest(solve(points, others, name, k, False), points, others, name, False)


@few(40)
@given(st.integers(0, 2**16), st.sampled_from([1e-3, 1.0, 1e15]), st.sampled_from(GAPS))
def test_rows_that_differ_by_less_than_a_sum_is_off(seed: int, size: float, name: str) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=12) + rng.integers(0, 3, (30, 12)) * 2.0**-22
    scale = size * np.exp2(rng.integers(-1, 2, (30, 1)))
    points = as_csr((dense * scale).astype(np.float32))
    assert_nearest(solve(points, points, name, 5, True), points, points, name, True)


@pytest.mark.parametrize("block", [8, 65536])
@pytest.mark.parametrize("size", [2.0**-9, 2.0**9])
@pytest.mark.parametrize("name", GAPS)
def test_rows_far_longer_or_shorter_than_the_others(
    name: str, size: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By how much a product may be off depends on both rows; the bound comes from the block, or from the list."""
    monkeypatch.setattr(inverted, "BLOCK", block)
    rng = np.random.default_rng(4)
    base = rng.normal(size=40)
    points = as_csr((size * (base + rng.normal(size=(10, 40)) / 9)).astype(np.float32))
    others = as_csr((base + rng.integers(0, 3, (60, 40)) * 2.0**-20).astype(np.float32))
    assert_nearest(solve(points, others, name, 5, False), points, others, name, False)


@pytest.mark.parametrize("name", GAPS)
def test_sums_that_return_to_zero_over_and_over(name: str) -> None:
    """A row is then met again and again, which the room for those met must bear."""
    dense = np.ones((6, 40), np.float32)
    dense[1::2, 1::2] = -1
    dense[5, 30:] = 0
    points = as_csr(dense)
    assert_nearest(solve(points, points, name, 3, True), points, points, name, True)


def test_a_row_met_twice_counts_once_for_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted, "BLOCK", 4)
    others = np.zeros((8, 3), np.float32)
    others[:, 2] = [3.2, 3.3, 3.4, 3.5, -0.5, 3.025, 3.04, 5]
    others[4, :2] = [1, -1]  # its sum: 1, 0, -0.5
    lists = solve(as_csr(np.ones((1, 3))), as_csr(others), "euclidean", 2, False)
    assert lists.ids.tolist() == [[5, 6]]


def test_products_too_small_for_a_sum_are_met_all_the_same() -> None:
    dense = np.full((8, 30), 1e-30, np.float32)
    dense[:, 0] = np.arange(8) * 1e-30
    for name in GAPS:
        assert_nearest(solve(as_csr(dense), as_csr(dense), name, 4, True), as_csr(dense), as_csr(dense), name, True)


def test_rows_that_share_no_column_are_neighbours_at_distance_one() -> None:
    points = as_csr(np.eye(7, 9, dtype=np.float32))
    lists = solve(points, points, "cosine", 3, True)
    assert (lists.distances == 1).all()
    assert lists.ids.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], *[[0, 1, 2]] * 4]
    euclidean = as_csr(np.diag([5, 1, 4, 2, 3]).astype(np.float32))
    expected = [[1, 3], [3, 4], [1, 3], [1, 4], [1, 3]]
    assert solve(euclidean, euclidean, "euclidean", 2, True).ids.tolist() == expected


def test_rows_apart_that_tie_once_rounded_are_taken_by_id() -> None:
    others = np.zeros((4, 2), np.float32)
    others[:, 1] = [0.5, 0.1, 0.2, 0.3]
    lists = solve(as_csr(np.array([[4096, 0]])), as_csr(others), "sqeuclidean", 2, False)
    assert (lists.ids.tolist(), lists.distances.tolist()) == ([[0, 1]], [[2.0**24] * 2])


def test_zero_rows_are_near_each_other_and_cost_little() -> None:
    dense = np.zeros((300, 4), np.float32)
    dense[::50] = 1
    points = as_csr(dense)
    lists = solve(points, points, "cosine", 4, True)
    assert lists.ids[299].tolist() == [1, 2, 3, 4]
    assert lists.ids[2].tolist() == [1, 3, 4, 5]
    assert lists.ids[50].tolist() == [0, 100, 150, 200]
    assert not lists.distances.any()
    block = inverted.block_of(weigh(points, form_for("cosine", 4)), 0, 300, 4)
    assert block.starts[-1] - block.starts[-2] == 5


def test_a_last_column_that_all_rows_have_is_no_column_of_zero_rows() -> None:
    points = as_csr(np.arange(1.0, 41)[:, None].astype(np.float32))
    for name in ("euclidean", "cosine", "matching"):
        assert_nearest(solve(points, points, name, 3, True), points, points, name, True)


def test_lists_that_know_something_are_improved() -> None:
    rng = np.random.default_rng(1)
    points = as_csr(np.where(rng.random((60, 30)) < 0.2, rng.normal(size=(60, 30)), 0).astype(np.float32))
    known = solve(points, points, "cosine", 5, True)
    again = Lists(*(part.copy() for part in known))
    again.ids[:, 3:], again.distances[:, 3:] = -1, np.inf
    # From elsewhere, nearer than all that is here.
    again.ids[:, 1:], again.distances[:, 1:] = again.ids[:, :-1].copy(), again.distances[:, :-1].copy()
    again.ids[:, 0], again.distances[:, 0] = -2, -1
    form = form_for("cosine", 30)
    nearest_sparse(looking_side(points, form, 0), standing_side(points, form, 0), form, again)
    assert (again.ids[:, 0] == -2).all()
    np.testing.assert_array_equal(again.ids[:, 1:], known.ids[:, :-1])
    np.testing.assert_array_equal(again.distances[:, 1:], known.distances[:, :-1])


def test_threads_change_nothing() -> None:
    rng = np.random.default_rng(2)
    points = as_csr(np.where(rng.random((200, 40)) < 0.1, rng.integers(1, 4, (200, 40)), 0).astype(np.float32))
    with ThreadPoolExecutor(3) as pool:
        each = lambda function, ranges: list(pool.map(lambda ends: function(*ends), ranges))  # noqa: E731
        side_by_side = solve(points, points, "cosine", 6, True, each=each, parts=7)
    for one, other in zip(solve(points, points, "cosine", 6, True), side_by_side, strict=True):
        np.testing.assert_array_equal(one, other)


@few(30)
@given(sparse_points())
def test_work_is_the_sum_of_squared_column_lengths(points: Csr) -> None:
    rows = weigh(points, form_for("euclidean", points.columns))
    present = as_dense(points) != 0
    lengths = present.sum(axis=0)
    assert work_by_row(rows, rows).tolist() == [lengths[row].sum() for row in present]


def test_cosine_is_exact_where_it_can_be() -> None:
    rng = np.random.default_rng(0)
    row = rng.normal(size=50)
    dense = np.zeros((5, 100))
    dense[0, :50], dense[1, :50], dense[2, 50:] = row, row, rng.normal(size=50)
    found = all_distances(as_csr(dense), as_csr(dense), form_for("cosine", 100))
    assert found[0, 1] == 0
    assert found[0, 2:].tolist() == [1, 1, 1]
    assert found[3].tolist() == [1, 1, 1, 0, 0]


def test_near_rows_far_from_the_origin_do_not_cancel_out() -> None:
    dense = np.array([[1e6, 0, 3], [1e6, 1e-3, 3]], np.float32)
    found = all_distances(as_csr(dense), as_csr(dense), form_for("euclidean", 3))
    assert found[0, 1] == pytest.approx(np.float64(np.float32(1e-3)), rel=1e-7)
    assert math.isfinite(found.sum())


@pytest.mark.skipif(JIT_OFF or not TFIDF.is_file(), reason="needs the TF-IDF rows, and the JIT")
def test_real_rows_get_their_true_neighbours() -> None:
    from scipy import sparse

    matrix = sparse.load_npz(TFIDF).astype(np.float64)
    points = Csr(matrix.indptr.astype(np.int64), matrix.indices, matrix.data.astype(np.float32), matrix.shape[1])
    lists = solve(points, points, "cosine", 15, True)
    queries = np.random.default_rng(3).choice(matrix.shape[0], 500, replace=False)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    true = 1 - (matrix[queries] @ matrix.T).toarray() / (norms[queries, None] * norms)
    true[np.arange(len(queries)), queries] = np.inf
    np.testing.assert_allclose(lists.distances[queries], np.sort(true, axis=1)[:, :15], atol=1e-7)
    np.testing.assert_allclose(np.take_along_axis(true, lists.ids[queries], 1), lists.distances[queries], atol=1e-7)
