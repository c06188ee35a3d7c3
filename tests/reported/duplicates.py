"""Equal rows, in numbers that lists, leaves and partitions cannot hold, and rows that tie in other ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from distnnd.runtime.serial import SerialExecutor
from distnnd.testing import forced_partitions
from tests.conftest import graph_bytes
from tests.reported.answers import (
    assert_right,
    assert_sound,
    build,
    by_leaves,
    distances_between,
    lists_of,
    normal,
    three_ways,
)


def a_row_is_left_out_by_its_id(place: Path) -> None:
    """Among many equal rows each list is that of all pairs, and only the row itself is missing in it."""
    points = np.random.default_rng(0).integers(0, 5, (60, 2))
    ids, gaps = lists_of(points, 4)
    for dtype in (np.int64, np.float32, np.float64, np.uint8):
        graph = build(points.astype(dtype), 4)
        assert (graph.indices[:] == ids).all()
        np.testing.assert_allclose(graph.distances[:], gaps, rtol=1e-6)
    own, zeros = graph.to_numpy(include_self=True)
    assert (own[:, 0] == np.arange(60)).all()
    assert (own[:, 1:] == ids).all()
    assert not zeros[:, 0].any()
    without = graph.to_csr(include_self=False)
    assert not (without.indices.reshape(60, 4) == np.arange(60)[:, None]).any()


def twins_find_each_other(place: Path) -> None:
    """Places that stand twice, each other's only neighbour."""
    for n in (20, 1800):
        points = np.repeat(np.random.default_rng(0).uniform(size=(n // 2, 2)), 2, axis=0).astype(np.float32)
        for graph in three_ways(points, 1):
            assert_sound(graph)
            found = (graph.indices[:, 0] == (np.arange(n) ^ 1)).mean()
            assert found == 1 if graph.recall.exact else found > 0.95


def ids_of_a_row_differ(place: Path) -> None:
    """Uniform rows of many columns: no id twice."""
    for n in (100, 1500):
        points = np.random.default_rng(1).uniform(size=(n, 100)).astype(np.float32)
        for graph in three_ways(points, 15):
            assert_right(graph, points)


def copies_give_the_same_bytes(place: Path) -> None:
    """Rows that stand nine times: the same graph again and by other threads, and each copy finds the eight others."""
    rng = np.random.default_rng(2)
    base = normal(900, 384, 2)
    points = rng.permutation(np.concatenate([base[100:], np.repeat(base[:100], 9, axis=0)]))
    for partitions in (1, 4):
        with forced_partitions(partitions):
            one, other = (build(points, 15, metric="cosine", client=SerialExecutor(count)) for count in (1, 2))
        assert graph_bytes(one) == graph_bytes(other)
        assert_right(one, points, "cosine")
        assert (one.distances[:, :8] == 0).all(axis=1).sum() >= 0.99 * 900


def one_row_stands_for_half_of_all(place: Path) -> None:
    """More copies of one row than a leaf holds: all at 0, and the others do not suffer."""
    points = normal(1500, 16)
    points[:700] = points[0]
    points = np.random.default_rng(1).permutation(points)
    for metric in ("euclidean", "cosine", "manhattan"):
        for graph in three_ways(points, 10, metric=metric):
            assert_right(graph, points, metric)
            assert (graph.distances[:] == 0).all(axis=1).sum() == 700


def the_order_of_rows_does_not_matter(place: Path) -> None:
    """Distances of each row are the same under a permutation; ties go to the lowest ids."""
    rng = np.random.default_rng(3)
    points = normal(1200, 20, 3)
    points[600:900] = points[:300]
    points[900:1000] = points[5]
    order = rng.permutation(1200)
    for metric in ("euclidean", "cosine", "manhattan", "correlation"):
        as_is, shuffled = (build(rows, metric=metric) for rows in (points, points[order]))
        assert (as_is.distances[:][order] == shuffled.distances[:]).all()
    graph = build(points)
    equal = [row for row in range(1200) if (points[row] == points[5]).all()]
    for row in equal:
        assert graph.indices[row].tolist() == [other for other in equal if other != row][:10]


def sorted_rows_are_as_good_as_shuffled(place: Path) -> None:
    """Rows that come cluster by cluster, or the other way round."""
    clusters = np.concatenate([normal(400, 16, seed) + 10 * seed for seed in range(5)])
    for points in (clusters, clusters[::-1].copy(), np.random.default_rng(0).permutation(clusters)):
        for graph in by_leaves(points):
            assert_right(graph, points)


def more_copies_than_a_list_is_long(place: Path) -> None:
    """Ten rows stand for half of all, and lists are as long as 300: every list is complete."""
    points = normal(1500, 16, 4)
    points[300:1000] = points[np.random.default_rng(4).integers(0, 10, 700)]
    for graph in three_ways(points, 100):
        assert_right(graph, points)
    with forced_partitions(1):
        assert_right(build(points, 300), points)


def twins_keep_their_edge_of_zero(place: Path) -> None:
    """An edge of length 0 is an entry: in the CSR, and both ways in the symmetric graph; no row has one to itself."""
    points = normal(300, 6, 5)
    points[100], points[200:210] = points[7], points[199]
    graph = build(points, 8)
    for itself in (True, False):
        rows = graph.to_csr(include_self=itself)
        assert rows.nnz == 300 * (8 + itself)
        assert (rows.tocoo().row == rows.tocoo().col).sum() == 300 * itself
    for how in ("max", "min", "mean"):
        edges = graph.symmetrize(how).tocoo()
        lengths = {(int(a), int(b)): float(v) for a, b, v in zip(edges.row, edges.col, edges.data, strict=True)}
        assert len(lengths) == edges.nnz
        assert lengths[7, 100] == 0
        assert all(a != b and lengths[b, a] == length for (a, b), length in lengths.items())


def all_rows_are_equal(place: Path) -> None:
    """One row, again and again: all neighbours at 0."""
    points = np.tile(normal(1, 6), (1300, 1))
    for metric in ("euclidean", "cosine", "manhattan", "jaccard"):
        for graph in three_ways(points, 6, metric=metric):
            assert_sound(graph)
            assert graph.distances[:].max() < 1e-6


def all_rows_are_equally_far(place: Path) -> None:
    """One-hot rows: every other row is a nearest one, dense and sparse."""
    for points in (sparse.identity(900, format="csr", dtype=np.float32), np.eye(900, dtype=np.uint8)):
        for metric, far in (("euclidean", 2**0.5), ("cosine", 1.0)):
            for graph in three_ways(points, metric=metric):
                assert_sound(graph)
                np.testing.assert_allclose(graph.distances[:], far, rtol=1e-5)


def twelve_kinds_of_equal_rows(place: Path) -> None:
    """More than a hundred copies of each row and no other: all neighbours at 0."""
    points = np.eye(12, dtype=np.float32)[np.random.default_rng(0).integers(0, 12, 1800)]
    for graph in three_ways(points):
        assert_sound(graph)
        assert not graph.distances[:].any()


def near_copies_are_not_below_zero(place: Path) -> None:
    """Rows that differ by length and by the last bit: angles are none, and never negative."""
    rng = np.random.default_rng(11)
    base = np.repeat(rng.normal(size=(15, 300)), 100, axis=0)
    points = base * rng.uniform(0.1, 10, (1500, 1)) * (1 + 1e-7 * rng.normal(size=base.shape))
    points = points.astype(np.float32)
    for metric in ("cosine", "correlation", "true_angular"):
        for graph in three_ways(points, metric=metric):
            assert_sound(graph)
            assert graph.distances[:].max() < 1e-2
            true = distances_between(points[:100], points, metric)
            np.testing.assert_allclose(
                graph.distances[:100], np.take_along_axis(true, graph.indices[:100], axis=1), atol=1e-3
            )
