"""What metrics make of rows that are special to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np
from scipy import sparse
from scipy.stats import rankdata
from sklearn.metrics import nan_euclidean_distances

import distnnd
from tests.conftest import graph_bytes
from tests.reported.answers import (
    assert_right,
    assert_sound,
    build,
    by_leaves,
    distances_between,
    ids_of,
    lists_of,
    normal,
    refused,
    three_ways,
    told,
    tried,
)


def largest_products(place: Path) -> None:
    """Inner product: the largest products are the nearest, and the recall that is told is true."""
    for points in (normal(10, 5, 12), normal(1500, 5, 12)):
        for graph in three_ways(points, 3, metric="inner_product"):
            assert_right(graph, points, "inner_product")
    measured = graph.measure_recall(points, probes=400)
    assert measured.low <= 1
    assert measured.estimate > 0.9
    simplex = (np.eye(9) - 1 / 9).astype(np.float32)
    graph = build(simplex, 4, metric="inner_product")
    assert_sound(graph)
    assert (graph.distances[:] > 0).all()


def products_that_are_all_negative(place: Path) -> None:
    """Inner product: rows that look at all others from behind, and rows of very uneven length."""
    rng = np.random.default_rng(13)
    ahead = rng.normal(size=(1400, 16)) + 20 * np.eye(16)[0]
    behind = 0.1 * rng.normal(size=(60, 16)) - 20 * np.eye(16)[0]
    for points in (
        np.concatenate([ahead, behind]).astype(np.float32),
        np.concatenate([ahead, behind[:5]]).astype(np.float32),
        (rng.normal(size=(1400, 16)) * rng.pareto(1.5, (1400, 1))).astype(np.float32),
        (rng.normal(size=(1400, 16)) * np.exp(2 * rng.normal(size=(1400, 1)))).astype(np.float32),
    ):
        for graph in by_leaves(points, metric="inner_product"):
            assert_right(graph, points, "inner_product", at_least=0.93, atol=1e-3)


def sets_are_what_is_there(place: Path) -> None:
    """Jaccard of numbers: whether a column is there counts, not how much of it; sparse as dense."""
    counts = np.random.default_rng(0).poisson(0.7, (1200, 40)).astype(np.float32)
    for points in (counts[:50], counts):
        for graph in three_ways(points, 10, metric="jaccard"):
            assert_right(graph, points, "jaccard")
    ids, _ = lists_of(counts[:50], 5, "jaccard", decimals=6)
    for points in (counts[:50], sparse.csr_matrix(counts[:50])):
        assert (ids_of(build(points, 5, metric="jaccard")) == ids).all()


def truths(place: Path) -> None:
    """bool rows: no warning, and rows of bits are the same packed or not, also where they end within a byte."""
    points = np.random.default_rng(2).random((1200, 41)) < 0.2
    for metric in ("jaccard", "hamming", "dice"):
        for graph in three_ways(points, metric=metric):
            assert_right(graph, points, metric)
        assert not told(points, metric=metric)[1]
    for metric, twin, unit in (("bit_jaccard", "jaccard", 1), ("bit_hamming", "hamming", 41)):
        as_bool, heard = told(points, metric=metric)
        packed = build(np.packbits(points, axis=1), metric=metric)
        assert graph_bytes(as_bool) == graph_bytes(packed)
        assert not heard
        true = np.take_along_axis(distances_between(points, points, twin), as_bool.indices[:], axis=1)
        np.testing.assert_allclose(as_bool.distances[:], true * unit, atol=1e-5)


@numba.njit
def overlap(x: Any, y: Any) -> float:
    """1 less the share of columns that both have."""
    both = 0
    for i in range(x.shape[0]):
        if x[i] != 0 and y[i] != 0:
            both += 1
    return 1.0 - both / x.shape[0]


@numba.njit
def by_bits(x: Any, y: Any) -> float:
    """What compiles for whole numbers alone."""
    both = 0
    for i in range(x.shape[0]):
        both += x[i] & y[i]
    return 1.0 - both / x.shape[0]


@numba.njit
def not_a_number(x: Any, y: Any) -> float:
    """No distance at all."""
    return np.nan


def own_metrics(place: Path) -> None:
    """A metric of one's own on bool rows; plain Python and a metric that gives NaN are refused."""
    points = np.random.default_rng(1).random((100, 10)) < 0.4
    graph = build(points, 5, metric=overlap)
    gaps = 1 - (points[:, None] & points).sum(axis=2) / 10
    np.fill_diagonal(gaps, np.inf)
    kth = np.sort(gaps, axis=1)[:, 4]
    assert (np.take_along_axis(gaps, graph.indices[:], axis=1) <= kth[:, None] + 1e-6).all()
    refused(lambda: build(points, 5, metric=lambda x, y: 0.0), "njit")
    refused(lambda: build(points, 5, metric=not_a_number), by=distnnd.DistnndError)


def own_metrics_that_do_not_compile(place: Path) -> None:
    """A metric that needs whole numbers is refused before anything runs, and the dtype of the rows is said."""
    points = np.random.default_rng(1).random((100, 10)) < 0.4
    for call in (build, distnnd.plan):
        refused(
            lambda call=call: (
                call(points, n_neighbors=5, metric=by_bits)
                if call is distnnd.plan
                else call(points, 5, out=place / "g", metric=by_bits)
            ),
            "float32",
            by=distnnd.SpecError,
        )
    assert not (place / "g").exists()


def small_whole_numbers(place: Path) -> None:
    """uint8 and int8 rows, with -128: widened before anything is squared or summed."""
    rng = np.random.default_rng(3)
    signed = rng.integers(-128, 128, (1200, 40), dtype=np.int8)
    signed[:20], signed[20:30], signed[30:40] = -128, 127, 0
    for points in (rng.integers(0, 256, (1200, 40), dtype=np.uint8), signed):
        for metric in ("cosine", "euclidean", "inner_product", "manhattan", "correlation"):
            for graph in by_leaves(points, metric=metric):
                assert_right(graph, points, metric)


def rows_of_one_number(place: Path) -> None:
    """Correlation of rows that do not vary: 0 from each other, 1 from others, and never NaN."""
    points = normal(1300, 12, 5)
    points[::50] = np.arange(26)[:, None]
    points[50], points[100] = 0, -1e6
    for graph in three_ways(points, 8, metric="correlation"):
        assert_right(graph, points, "correlation")
        assert (graph.distances[:][::50] == 0).all()
    few = normal(300, 12, 5)
    few[10], few[20], few[290:] = 3, 0, 7
    for dtype in (np.float64, np.int32):
        assert_right(build(few.astype(dtype), 8, metric="correlation"), few.astype(dtype), "correlation")
    ranks = np.apply_along_axis(rankdata, 1, few)
    assert_right(build(few, 8, metric="spearmanr"), ranks, "correlation")
    listed = sparse.random(200, 40, 0.2, "lil", dtype=np.float32, random_state=1)
    listed[5], listed[6] = 2, 0
    assert_right(build(listed.tocsr(), 5, metric="correlation"), listed.tocsr(), "correlation")


def angles_in_radians(place: Path) -> None:
    """haversine of right radians is right; degrees are refused with the unit."""
    rng = np.random.default_rng(6)
    degrees = np.c_[rng.uniform(-90, 90, 1500), rng.uniform(-180, 180, 1500)]
    radians = np.radians(degrees).astype(np.float32)
    for graph in three_ways(radians, metric="haversine"):
        assert_right(graph, radians, "haversine", rtol=1e-5)
    for points in (degrees, degrees[:, ::-1]):
        refused(lambda points=points: build(points, 5, metric="haversine"), "radians")


def degrees_that_might_be_radians(place: Path) -> None:
    """Degrees near the equator: beyond two pi they are refused or told; a parameter names the unit."""
    rng = np.random.default_rng(6)
    for east in (6.5, 100):
        degrees = np.c_[rng.uniform(-1.5, 1.5, 400), rng.uniform(east, east + 10, 400)]
        found, refusal = tried(lambda degrees=degrees: told(degrees, 5, metric="haversine"))
        assert "radians" in (refusal if found is None else " ".join(found[1]))
    graph = build(degrees, 5, metric="haversine", metric_params={"unit": "degrees"})
    assert (graph.indices[:] == lists_of(np.radians(degrees), 5, "haversine")[0]).mean() > 0.99


def a_city_in_float64(place: Path) -> None:
    """Places within five kilometres, as float64 radians: float32 would make many of them equal."""
    rng = np.random.default_rng(6)
    city = np.radians(np.c_[57.7 + rng.uniform(0, 0.05, 1500), 11.9 + rng.uniform(0, 0.05, 1500)])
    for graph in three_ways(city, metric="haversine"):
        assert_right(graph, city, "haversine", rtol=1e-4, atol=1e-12)


def corners_of_metrics(place: Path) -> None:
    """Powers below 1 and without end, weights of 0, a singular matrix, -0.0, one column, the end of float16."""
    rng = np.random.default_rng(0)
    points = normal(300, 6)
    wide = abs(points[:, None].astype(float) - points)
    for p in (0.5, 1.5, 40, np.inf):
        gaps = wide.max(axis=2) if np.isinf(p) else (wide**p).sum(axis=2) ** (1 / p)
        assert_all_nearest(build(points, 6, metric="minkowski", metric_params={"p": p}), gaps)
    weights = np.array([0, 1, 2, 0, 3, 0.5])
    graph = build(points, 6, metric="minkowski", metric_params={"p": 2, "w": weights})
    assert_right(graph, points * np.sqrt(weights), rtol=1e-5)
    turn = rng.normal(size=(6, 3))
    graph = build(points, 6, metric="mahalanobis", metric_params={"VI": turn @ turn.T})
    assert_right(graph, points.astype(float) @ turn, rtol=1e-4)
    refused(lambda: build(points, 6, metric="mahalanobis", metric_params={"V": np.ones((6, 6))}))
    refused(lambda: build(points, 6, metric="seuclidean", metric_params={"V": np.ones(5)}))
    signs = np.where(rng.random((200, 9)) < 0.5, 1, np.where(rng.random((200, 9)) < 0.5, 0.0, -0.0)).astype(np.float32)
    for metric in ("hamming", "jaccard", "dice"):
        assert_right(build(signs, 6, metric=metric), signs, metric)
    for metric in ("cosine", "correlation", "euclidean", "manhattan"):
        assert_right(build(points[:, :1], 6, metric=metric), points[:, :1], metric)
    halves = (60000 * np.sign(points) * rng.uniform(0.9, 1, points.shape)).astype(np.float16)
    for metric in ("euclidean", "cosine", "inner_product", "manhattan"):
        assert_right(build(halves, 6, metric=metric), halves, metric, rtol=1e-5)
    zeros = rng.integers(-2, 3, (300, 5)).astype(np.float32)
    zeros[3:5] = 0
    assert_right(build(zeros, 6, metric="canberra"), zeros, "canberra", rtol=1e-5)


def columns_that_are_missing(place: Path) -> None:
    """nan_euclidean of rows that are all NaN, and of rows without a common column: as far as can be told."""
    rng = np.random.default_rng(0)
    points = normal(300, 6)
    points[rng.random(points.shape) < 0.3] = np.nan
    points[7:9] = np.nan
    points[9:11] = np.nan
    points[9, 0] = points[10, 1] = 1
    graph = build(points, 6, metric="nan_euclidean")
    assert_sound(graph)
    gaps = nan_euclidean_distances(points.astype(np.float64))
    assert_all_nearest(graph, np.where(np.isnan(gaps), 3e38, gaps))


def assert_all_nearest(graph: Any, gaps: np.ndarray) -> None:
    """All neighbours are as near as the k-th true one."""
    assert_sound(graph)
    np.fill_diagonal(gaps, np.inf)
    kth = np.sort(gaps, axis=1)[:, graph.n_neighbors - 1]
    assert (np.take_along_axis(gaps, graph.indices[:], axis=1) <= kth[:, None] * (1 + 1e-5)).all()
