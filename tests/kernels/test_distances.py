"""Each metric, of dense, sparse and packed rows, is what its twin says, and what SciPy and scikit-learn say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.spatial.distance
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.bit_distances import BitRows, from_bytes, pack
from distnnd.kernels.distances import distance, distances_between
from distnnd.kernels.forms import form_of
from distnnd.kernels.sparse_distances import SparseRows, as_compared
from distnnd.values.metric import Metric, metric_of, of_sparse
from distnnd.values.metrics_table import ENTRIES
from distnnd.values.points import Csr
from tests.naive_metrics import FARTHEST, TWINS
from tests.strategies import few, sized

D = 6
DENSE = [name for name, entry in ENTRIES.items() if entry.form != "bits"]
SPARSE = [name for name, entry in ENTRIES.items() if entry.sparse]
# One of each kind; tests/test_sparse.py builds by all of them.
QUICK = {
    "euclidean",
    "manhattan",
    "minkowski",
    "canberra",
    "cosine",
    "jensen_shannon",
    "wasserstein_1d",
    "sinkhorn",
    "yule",
}
SOME_SPARSE = [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in SPARSE]
SETS = [name for name, entry in ENTRIES.items() if entry.form in ("set", "bits")]


def params_of(name: str, d: int) -> list[dict[str, Any]]:
    """Some parameters for each metric that takes any; none for the others."""
    rng = np.random.default_rng(d)
    places = np.arange(d)
    cost = abs(places[:, None] - places) ** 0.7 + rng.uniform(0, 0.1)
    weights = rng.uniform(0.1, 3, d)
    weights[d // 2 : d // 2 + 1] = 0 if d > 1 else 1
    spread = rng.normal(size=(d, d)) + 2 * np.eye(d)
    return {
        "minkowski": [{}, {"p": 1}, {"p": 3.5}, {"p": 0.5}, {"p": math.inf}, {"p": 60}, {"p": 2, "w": weights}],
        "weighted_minkowski": [{"w": weights}, {"w": weights, "p": 3}, {"w": weights, "p": math.inf}],
        "seuclidean": [{"V": rng.uniform(0.1, 9, d)}],
        "mahalanobis": [{"VI": spread @ spread.T}, {"V": spread @ spread.T}],
        "jensenshannon": [{}, {"base": 2}],
        "wasserstein_1d": [{}, {"p": 2}, {"p": 0.5}],
        "circular_kantorovich": [{}, {"p": 2}, {"p": 3}],
        "kantorovich": [{"cost": cost}],
        "sinkhorn": [{"cost": cost, "regularization": 0.5}],
    }.get(name, [{}])


def rows_for(name: str, d: int) -> np.ndarray:
    """Random, zero, constant, identical, proportional, opposite, tiny and large rows, as far as the metric allows."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(9, d)) * (rng.random((9, d)) < 0.7)
    rows[2:4] = 0
    rows[4], rows[5] = 0.1, -0.3
    rows[6] = rows[0]
    rows[7] = -2 * rows[0]
    rows = np.concatenate([rows, rng.normal(size=(3, d)) * 1e-12, 1e4 + rng.normal(size=(2, d)), np.ones((1, d))])
    domain = ENTRIES[name].domain
    if domain == "non-negative":
        rows = abs(rows)
    if domain == "gaps":
        rows[rng.random(rows.shape) < 0.4] = np.nan
    if domain == "positions":
        rows = np.concatenate([rows[:9] / 3, [[math.pi / 2 - 1e-7, 1], [-1.5, 2]], -rows[:9] / 3])
        rows[-9:, 1] += math.pi
    return rows.astype(np.float32)


def all_pairs(rows: Any, metric: Metric, d: int, count: int) -> np.ndarray:
    out = np.full((count, count), np.nan, np.float32)
    distances_between(rows, rows, form_of(metric, d), out)
    return out


def sparse(rows: np.ndarray, wide: type = np.int32) -> SparseRows:
    csr = scipy.sparse.csr_matrix(rows)
    return SparseRows(csr.indptr.astype(np.int64), csr.indices.astype(wide), csr.data)


def true(name: str, rows: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    exact = rows.astype(np.float64)
    return np.array([[TWINS[name](x, y, **params) for y in exact] for x in exact])


def assert_close(told: np.ndarray, true: np.ndarray) -> None:
    """To 1e-5 of the value; what cancels out is off by the rounding of float64 (under a root, by that of its root)."""
    assert np.isfinite(told).all()
    np.testing.assert_allclose(told, true, rtol=1e-5, atol=5e-8)


# --- twins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENSE)
def test_dense_rows_are_as_far_as_the_twin_says(name: str) -> None:
    for d in (2,) if name == "haversine" else (D, 1):
        rows = rows_for(name, d)
        for params in params_of(name, d):
            told = all_pairs(rows, metric_of(name, params, d), d, len(rows))
            assert_close(told, true(name, rows, params))


def test_places_near_each_other_are_as_far_as_the_library_says() -> None:
    """Where short series stand for sines, where they end, and beyond."""
    gaps = np.concatenate([np.geomspace(1e-7, 3.1, sized(400, 40)), [0.0999, 0.1, 0.1001, 0.199999, 0.200001]])
    for latitude in (0.0, 0.8, -1.5):
        along = np.stack([np.full(len(gaps), latitude), gaps - 1.5], axis=1)
        up = np.stack([np.clip(latitude + gaps / 3, -1.57, 1.57), np.full(len(gaps), -1.5)], axis=1)
        rows = np.concatenate([[[latitude, -1.5]], along, up]).astype(np.float32)
        exact = sklearn.metrics.pairwise.haversine_distances(rows.astype(np.float64))
        told = all_pairs(rows, metric_of("haversine"), 2, len(rows))
        np.testing.assert_allclose(told[0], exact[0], rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("name", SOME_SPARSE)
def test_sparse_rows_are_as_far_as_dense_ones(name: str) -> None:
    for d in (2,) if name == "haversine" else (D, 1):
        rows = rows_for(name, d)
        for params in params_of(name, d):
            told = all_pairs(sparse(rows), metric_of(name, params, d), d, len(rows))
            assert_close(told, true(name, rows, params))


def test_ranks_of_sparse_rows_correlate_as_those_of_all_columns() -> None:
    rows = np.round(rows_for("spearmanr", 40), 1)
    metric = of_sparse(metric_of("spearmanr"))
    listed = sparse(rows)
    ranks = as_compared(Csr(*listed, 40), metric)
    assert as_compared(ranks, metric).data.tobytes() == ranks.data.tobytes()
    out = np.empty((len(rows), len(rows)), np.float32)
    distances_between(SparseRows(*ranks[:3]), SparseRows(*ranks[:3]), form_of(metric, 40), out)
    assert_close(out, true("spearmanr", rows, {}))


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("d", [1, 2, 500])
def test_around_a_circle_few_columns_say_what_all_do(p: float, d: int) -> None:
    rng = np.random.default_rng(d)
    rows = rng.random((14, d)) * (rng.random((14, d)) < 8 / d)
    rows[0], rows[1], rows[2, 1:], rows[3, :-1], rows[4] = 0, rows[5], 0, 0, 1
    metric = metric_of("circular_kantorovich", {"p": p})
    told = all_pairs(sparse(rows.astype(np.float32)), metric, d, 14)
    np.testing.assert_allclose(told, all_pairs(rows.astype(np.float32), metric, d, 14), rtol=1e-5, atol=1e-9)


def test_the_share_of_what_both_have_is_never_below_zero() -> None:
    for d in (6, 49, 1000):
        rows = np.ones((2, d), np.float32)
        for one in (rows, sparse(rows), pack(rows)):
            assert (all_pairs(one, metric_of("russellrao"), d, 2) == 0).all()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("d", [1, 8, 70, 128])
def test_bits_are_as_far_as_the_columns_they_stand_for(name: str, d: int) -> None:
    rng = np.random.default_rng(5)
    rows = (rng.random((12, d)) < 0.4) * rng.normal(size=(12, d))
    rows[3:5], rows[5], rows[6] = 0, 1, rows[7]
    expected = true(name, rows, {})
    np.testing.assert_allclose(all_pairs(pack(rows), metric_of(name), d, 12), expected, rtol=1e-6, atol=1e-12)
    packed = np.packbits(rows != 0, axis=1)
    np.testing.assert_allclose(all_pairs(from_bytes(packed), metric_of(name), d, 12), expected, rtol=1e-6, atol=1e-12)


def test_a_negative_zero_is_no_column() -> None:
    assert not pack(np.array([[-0.0, 0.0]])).words.any()


def test_columns_may_be_numbered_by_64_bits_and_zeros_may_be_listed() -> None:
    rows = rows_for("cosine", D)
    listed = SparseRows(
        np.arange(len(rows) + 1, dtype=np.int64) * D, np.tile(np.arange(D), len(rows)), rows.ravel().copy()
    )
    for name in ("cosine", "jaccard", "canberra"):
        told = [all_pairs(one, metric_of(name), D, len(rows)) for one in (sparse(rows, np.int64), listed)]
        np.testing.assert_allclose(told[0], told[1], rtol=1e-6, atol=1e-9)


# --- other libraries ------------------------------------------------------------------------------

boolean = scipy.spatial.distance


def by_cdist(name: str) -> Callable[..., np.ndarray]:
    return lambda rows, **params: scipy.spatial.distance.cdist(rows, rows, name, **params)


def of_truths(name: str) -> Callable[..., np.ndarray]:
    return lambda rows: scipy.spatial.distance.cdist(rows != 0, rows != 0, name)


def by_sklearn(name: str) -> Callable[..., np.ndarray]:
    return lambda rows: sklearn.metrics.DistanceMetric.get_metric(name).pairwise((rows != 0).astype(float))


def pair_by_pair(function: Callable[..., float]) -> Callable[..., np.ndarray]:
    return lambda rows, **params: np.array([[function(x, y, **params) for y in rows] for x in rows])


OTHERS: dict[str, Callable[..., np.ndarray]] = {
    **{name: by_cdist(name) for name in ("euclidean", "sqeuclidean", "chebyshev", "canberra", "braycurtis")},
    **{name: by_cdist(name) for name in ("hamming", "cosine", "correlation", "minkowski", "seuclidean")},
    **{name: by_cdist(name) for name in ("mahalanobis", "jensenshannon")},
    **{name: of_truths(name) for name in ("jaccard", "dice", "rogerstanimoto", "russellrao", "sokalsneath", "yule")},
    **{name: by_sklearn(name) for name in ("kulsinski", "matching", "sokalmichener")},
    "cityblock": by_cdist("cityblock"),
    "weighted_minkowski": by_cdist("minkowski"),
    "haversine": sklearn.metrics.pairwise.haversine_distances,
    "nan_euclidean": sklearn.metrics.pairwise.nan_euclidean_distances,
    "spearman": pair_by_pair(lambda x, y: 1 - scipy.stats.spearmanr(x, y).statistic),
    "wasserstein_1d": pair_by_pair(
        lambda x, y: scipy.stats.wasserstein_distance(np.arange(len(x)), np.arange(len(y)), x, y)
    ),
}
SAID_OTHERWISE = {
    "minkowski": [{"p": 3}, {"p": 1.5, "w": np.linspace(0.5, 2, D)}],
    "weighted_minkowski": [{"p": 3, "w": np.linspace(0.5, 2, D)}],
    "seuclidean": [{"V": np.linspace(0.5, 2, D)}],
    "mahalanobis": [{"VI": np.diag(np.linspace(0.5, 2, D)) + 0.1}],
    "jensenshannon": [{}],
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_metric_is_that_of_other_libraries(name: str) -> None:
    d = 2 if name == "haversine" else D
    rng = np.random.default_rng(1)
    rows = (abs(rng.normal(size=(12, d))) + 0.01).astype(np.float32)
    rows[:, : d // 2] *= rng.random((12, d // 2)) < 0.6
    rows[0, 0], rows[1] = 1, rows[2]
    rows[3:, -1] = 0
    if name == "nan_euclidean":
        rows[rng.random(rows.shape) < 0.2] = np.nan
    for params in SAID_OTHERWISE.get(name, [{}]):
        expected = OTHERS[name](rows.astype(np.float64), **params)
        told = all_pairs(rows, metric_of(name, params, d), d, 12)
        np.testing.assert_allclose(told, expected, rtol=1e-5, atol=2e-7)


def test_mahalanobis_takes_the_covariance_too() -> None:
    rows = rows_for("mahalanobis", 3)[:8]
    covariance = np.cov(np.random.default_rng(2).normal(size=(50, 3)).T)
    told = [
        all_pairs(rows, metric_of("mahalanobis", params, 3), 3, 8)
        for params in ({"V": covariance}, {"VI": np.linalg.inv(covariance)}, {"vinv": np.linalg.inv(covariance)})
    ]
    for one in told[1:]:
        np.testing.assert_allclose(one, told[0], rtol=1e-5)


# --- what is true of all --------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENSE)
@few(15)
@given(data=st.data())
def test_distances_are_finite_and_the_same_both_ways(name: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    d = 2 if name == "haversine" else D
    rows = rng.choice([0, 0, 1, 3, 1e-20, 1e15], (6, d)) * rng.choice([1, -1], (6, d))
    domain = ENTRIES[name].domain
    rows = (abs(rows) if domain == "non-negative" else rows % 1.5 if domain == "positions" else rows).astype("f4")
    (params, *_) = params_of(name, d)
    if name == "mahalanobis":
        params = {"VI": np.eye(d)}
    told = all_pairs(rows, metric_of(name, params, d), d, 6)
    assert np.isfinite(told).all()
    assert (told >= 0).all() or name == "inner_product"
    np.testing.assert_allclose(told, told.T, rtol=1e-5, atol=1e-7)
    own = ("inner_product", "kulsinski", "russellrao", "sinkhorn", "kantorovich")
    if name not in own:
        np.testing.assert_allclose(np.diag(told), 0, atol=1e-7)


def excess(name: str, rows: np.ndarray, params: dict[str, Any]) -> float:
    """By how much the way between two rows over a third falls short of their distance, at most, as a share of it."""
    told = all_pairs(rows, metric_of(name, params, rows.shape[1]), rows.shape[1], len(rows)).astype(np.float64)
    over = (told[:, :, None] + told[None]).min(axis=1)
    return float(np.max((told - over) / np.maximum(told, 1e-6)))


def some_rows(name: str, seed: int, count: int = 12) -> np.ndarray:
    """Numbers, as far as the metric allows, of which some are zero: what sets have in common differs."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 2 if name == "haversine" else D))
    if name != "haversine":
        rows[rng.random(rows.shape) < 0.4] = np.nan if ENTRIES[name].domain == "gaps" else 0
    return (abs(rows) if ENTRIES[name].domain == "non-negative" else rows).astype(np.float32)


TRIANGLE = [name for name in DENSE if ENTRIES[name].axioms.startswith("metric")]
SHORTER = [name for name in DENSE if ENTRIES[name].axioms.startswith("not quite")]


@pytest.mark.parametrize("name", TRIANGLE)
@few(10)
@given(seed=st.integers(0, 2**16))
def test_no_way_over_a_third_row_is_shorter_under_a_true_metric(name: str, seed: int) -> None:
    rows = some_rows(name, seed)
    (params, *_) = params_of(name, rows.shape[1])
    if name == "mahalanobis":
        params = {"VI": np.diag(np.arange(1.0, D + 1))}
    assert excess(name, rows, params) < 1e-5


@pytest.mark.parametrize("name", SHORTER)
def test_some_way_over_a_third_row_is_shorter_where_the_table_says_so(name: str) -> None:
    (params, *_) = params_of(name, D)
    assert max(excess(name, some_rows(name, seed), params) for seed in range(20)) > 0.01


# What the anchor project gets wrong: rows of numbers, and how far the second is from the first.
DEFECTS = {
    "an angle is no similarity": ("true_angular", {}, [[1, 2], [1, 2], [2, 4], [2, -1], [-1, -2]], [0, 0, 0, 0.5, 1]),
    "obtuse angles differ": ("dot", {}, [[1, 0], [0, 3], [-1, 1], [-5, 0]], [0, 1, 1 + math.sqrt(0.5), 2]),
    "obtuse products differ": ("inner_product", {}, [[1, 0], [-1, 0], [-5, 0]], [-1, 1, 5]),
    "zero rows are near each other": ("cosine", {}, [[0, 0], [0, 0], [1, 0]], [0, 0, 1]),
    "angles of zero rows": ("tsss", {}, [[0, 0], [1, 2], [0, 0]], [0, 0, 0]),
    "masses may be zero": ("sinkhorn", {"cost": [[0, 1], [1, 0]]}, [[1, 0], [0, 1], [0, 0]], [0, 1, 1]),
    "zero rows have no running sums": ("wasserstein_1d", {}, [[0, 0, 0], [1, 0, 0], [0, 0, 0]], [0, 2, 0]),
    "disjoint sets": ("jaccard", {}, [[1, 0], [0, 1], [0, 0]], [0, 1, 1]),
    "zero rows under a circle": ("circular_wasserstein", {}, [[0, 0, 0, 0], [1, 0, 0, 0]], [0, 2]),
    "a smooth zero row": ("symmetric_kl", {}, [[0, 0], [3, 3], [0, 0]], [0, 0, 0]),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_known_defect_is_not_copied(defect: str) -> None:
    name, params, numbers, expected = DEFECTS[defect]
    rows = np.array(numbers, np.float32)
    metric = metric_of(name, params, rows.shape[1])
    for one in (rows, sparse(rows)):
        told = all_pairs(one, metric, rows.shape[1], len(rows))[0]
        np.testing.assert_allclose(told, expected, rtol=1e-6, atol=1e-7)


def test_the_farthest_is_a_float32() -> None:
    rows = np.array([[1, -2], [-1, 2], [0, 0]], np.float32)
    told = all_pairs(rows, metric_of("braycurtis"), 2, 3)
    assert told[0, 1] == np.float32(FARTHEST)
    assert told[0, 2] == 1
    gaps = np.array([[1, np.nan], [np.nan, 2]], np.float32)
    assert all_pairs(gaps, metric_of("nan_euclidean"), 2, 2)[0, 1] == np.float32(FARTHEST)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("minkowski", {"p": 1e-3}),
        ("minkowski", {"p": 1e-300}),
        ("weighted_minkowski", {"p": 2, "w": [1e300] * D}),
        ("weighted_minkowski", {"p": 1e-3, "w": [1e300] * D}),
        ("kantorovich", {"cost": (1 - np.eye(D)) * 1e300}),
        ("sinkhorn", {"cost": (1 - np.eye(D)) * 1e300, "regularization": 1e299}),
        ("tsss", {}),
    ],
)
def test_what_is_farther_than_float32_can_say_is_at_its_largest_number(name: str, params: dict[str, Any]) -> None:
    rows = abs(rows_for(name, D)) * np.float32(1e10)
    for points in (rows, sparse(rows)):
        told = all_pairs(points, metric_of(name, params, D), D, len(rows))
        assert np.isfinite(told).all()
        assert told[0, 1] == np.float32(FARTHEST)
        assert told[0, 6] == 0 or name in ("tsss", "sinkhorn")


def test_one_pair_is_asked_for_in_plain_python_too() -> None:
    rows = rows_for("tsss", D)
    for name in ("manhattan", "correlation", "chebyshev", "spearmanr", "wasserstein_1d"):
        x = abs(rows) if ENTRIES[name].domain == "non-negative" else rows
        form = form_of(metric_of(name), D)
        compiled = all_pairs(x, metric_of(name), D, len(x))[0, 1]
        told = [distance(one, 0, one, 1, form) for one in (x, sparse(x))]
        np.testing.assert_allclose(told, compiled, rtol=1e-5)
    assert isinstance(pack(rows), BitRows)
    assert distance(pack(rows), 2, pack(rows), 4, form_of(metric_of("jaccard"), D)) == 1


def test_a_transport_takes_no_more_paths_than_it_may() -> None:
    rows = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.float32)
    cost = abs(np.subtract.outer(np.arange(4), np.arange(4))).astype(float)
    metric = metric_of("kantorovich", {"cost": cost, "max_iter": 1})
    assert all_pairs(rows, metric, 4, 2)[0, 1] == pytest.approx(0.5 * 1 + 0.5 * 3)


@pytest.mark.parametrize("d", [2, 9, sized(40, 9)])
def test_transports_along_a_line_are_those_of_running_sums(d: int) -> None:
    rng = np.random.default_rng(d)
    rows = (rng.random((6, d)) * (rng.random((6, d)) < 0.7) + 1e-3).astype(np.float32)
    cost = abs(np.subtract.outer(np.arange(d), np.arange(d)))
    told = all_pairs(rows, metric_of("wasserstein", {"cost": cost}, d), d, 6)
    np.testing.assert_allclose(told, all_pairs(rows, metric_of("wasserstein_1d"), d, 6), rtol=1e-5, atol=1e-9)
