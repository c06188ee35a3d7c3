"""Answers of an index: complete, distinct, the nearest ones, whatever the scale of points and queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.reported.answers import distances_between, index_of, lists_of, normal, refused, share_answered

N = 2500


def long_lists_of_answers(place: Path) -> None:
    """As many answers as are wanted, up to all rows, whole and in partitions; never more."""
    points = normal(900, 20)
    graph_place, other = place / "i", place / "j"
    index = index_of(points, graph_place)
    from_parts = index_of(points, other)
    for k in (300, 899, 900):
        for one in (index, from_parts):
            ids, distances = one.query(points[:10], k=k)
            assert all(len(set(row)) == k for row in ids.tolist())
            assert np.isfinite(distances).all()
    refused(lambda: index.query(points[:2], k=901))


def more_answers_than_copies(place: Path) -> None:
    """Half of all rows are copies of ten: k of 100 to all is complete and right."""
    points = normal(N, 16, 4)
    points[500:1800] = points[np.random.default_rng(4).integers(0, 10, 1300)]
    index = index_of(points, place / "i")
    for k in (100, 500, 2000, N):
        assert share_answered(index.query(points[:30], k=k), points[:30], points) > 0.9


def copies_find_all_copies(place: Path) -> None:
    """300 copies of one row among 2,500 are all found, by k and by radius."""
    points = normal(N, 16, 4)
    points[::8][:300] = points[0]
    index = index_of(points, place / "i")
    copies = np.flatnonzero((points == points[0]).all(axis=1))
    ids, distances = index.query(points[:1], k=len(copies))
    assert set(ids[0].tolist()) == set(copies.tolist())
    assert not distances.any()
    ids, _ = index.query(points[:1], k=len(copies) + 50, radius=1e-3)
    assert set(ids[ids >= 0].tolist()) == set(copies.tolist())


def rows_find_themselves(place: Path) -> None:
    """A row that is asked of its own index comes first, at 0, also where the graph has four neighbours a row."""
    points = normal(N, 64, 6)
    for metric in ("euclidean", "cosine", "manhattan"):
        ids, distances = index_of(points, place / metric, 4, metric).query(points, k=4)
        first = ids[:, 0] == np.arange(N)
        assert first.mean() > 0.999
        assert not distances[first, 0].any()


def products_at_any_scale(place: Path) -> None:
    """Inner product: a positive factor of the query changes nothing; scores may all be negative."""
    points = normal(N, 32, 13)
    index = index_of(points, place / "i", metric="inner_product")
    queries = normal(200, 32, 14)
    found = index.query(queries, k=10)
    assert share_answered(found, queries, points, "inner_product") > 0.85
    for factor in (1e-4, 1e4):
        scaled = (queries * np.float32(factor)).astype(np.float32)
        ids, distances = index.query(scaled, k=10)
        assert share_answered((ids, distances), scaled, points, "inner_product") > 0.85
        assert (np.sort(ids) == np.sort(found[0])).mean() > 0.95


def products_of_long_rows(place: Path) -> None:
    """Inner product: unit queries on rows of length 500, and queries that look at all rows from behind."""
    rng = np.random.default_rng(3)
    long = rng.normal(size=(N, 32))
    long = (500 * long / np.linalg.norm(long, axis=1)[:, None] * rng.uniform(0.8, 1.2, (N, 1))).astype(np.float32)
    unit = normal(200, 32, 5)
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    index = index_of(long, place / "long", metric="inner_product")
    assert share_answered(index.query(unit, k=10), unit, long, "inner_product") > 0.85
    positive = abs(normal(N, 16, 7))
    behind = -abs(normal(100, 16, 8))
    found = index_of(positive, place / "behind", metric="inner_product").query(behind, k=10)
    assert (found[1] > 0).all()
    assert share_answered(found, behind, positive, "inner_product") > 0.85


def answers_are_nested(place: Path) -> None:
    """More answers hold the fewer ones, and the first stays the first."""
    points, queries = normal(N, 24), normal(200, 24, 1)
    for metric in ("euclidean", "cosine"):
        index = index_of(points, place / metric, metric=metric)
        before: Any = None
        for k in (1, 5, 10, 50):
            ids, _ = index.query(queries, k=k)
            if before is not None:
                nested = [set(few) <= set(more) for few, more in zip(before.tolist(), ids.tolist(), strict=True)]
                assert np.mean(nested) > 0.95
                assert (before[:, 0] == ids[:, 0]).mean() > 0.93
            before = ids


def filters(place: Path) -> None:
    """Only rows that are allowed, none twice; -1 and inf where there are fewer; with a radius too."""
    points = normal(3, 4)
    index = index_of(points, place / "three", 2)
    for allowed in ([0, 2], np.array([True, False, True]), [0, 0, 2, 2]):
        ids, _ = index.query(points, k=2, filter=allowed)
        assert all(sorted(row) == [0, 2] for row in ids.tolist())
    ids, distances = index.query(points, k=3, filter=[0, 2])
    assert (ids[:, 2] == -1).all()
    assert np.isinf(distances[:, 2]).all()
    assert (index.query(points, k=2, filter=np.array([], int))[0] == -1).all()
    for wrong in ([3], [True, False], [0.0, 1.0]):
        refused(lambda wrong=wrong: index.query(points, k=1, filter=wrong))
    points, queries = normal(N, 24), normal(100, 24, 1)
    for metric in ("euclidean", "inner_product"):
        index = index_of(points, place / metric, metric=metric)
        for share in (0.5, 0.05, 0.01):
            allowed = np.random.default_rng(0).random(N) < share
            found = index.query(queries, k=5, filter=allowed)
            assert allowed[found[0]].all()
            assert share_answered(found, queries, points, metric, allowed) > 0.9
        gaps = distances_between(queries, points, metric)
        radius = float(np.median(np.sort(gaps)[:, 3]))
        ids, distances = index.query(queries, k=10, radius=radius)
        assert (distances[ids >= 0] <= radius).all()
        assert abs(np.minimum((gaps <= radius).sum(axis=1), 10) - (ids >= 0).sum(axis=1)).mean() < 0.5


def filter_of_nobody(place: Path) -> None:
    """An empty list allows nobody."""
    points = normal(30, 4)
    ids, distances = index_of(points, place / "i", 5).query(points, k=2, filter=[])
    assert (ids == -1).all()
    assert np.isinf(distances).all()


def queries_like_the_points(place: Path) -> None:
    """Queries of the same kind, shifted with the points, and of columns of very different scale."""
    points, queries = normal(N, 16), normal(200, 16, 1)
    scales = np.logspace(0, 4, 16).astype(np.float32)
    for name, rows, asked in (
        ("plain", points, queries),
        ("shifted", points + 1000, queries + 1000),
        ("scaled", points * scales, queries * scales),
    ):
        assert share_answered(index_of(rows, place / name).query(asked, k=10), asked, rows) > 0.85


def queries_from_far_away(place: Path) -> None:
    """Queries 10, 100 and 10,000 times as far out as the points."""
    points, queries = normal(N, 16), normal(200, 16, 1)
    index = index_of(points, place / "i")
    for factor in (10, 100, 1e4):
        far = (queries * factor).astype(np.float32)
        assert share_answered(index.query(far, k=10), far, points) > 0.85, factor


def points_of_uneven_scale(place: Path) -> None:
    """A few rows far out, heavy tails, and clusters a thousand widths apart."""
    rng = np.random.default_rng(0)
    both = N + 200
    far = rng.normal(size=(both, 16))
    far[rng.random(both) < 0.012] *= 100
    outlier = rng.normal(size=(both, 16))
    outlier[0] = 1e6
    middles = 1000 * rng.normal(size=(20, 16))
    for name, rows in (
        ("few far out", far),
        ("one far out", outlier),
        ("tails", rng.standard_t(1.5, (both, 16))),
        ("lognormal", np.exp(2 * rng.normal(size=(both, 20)))),
        ("clusters", middles[rng.integers(0, 20, both)] + rng.normal(size=(both, 16))),
        ("two clusters", rng.normal(size=(both, 16)) + 1e5 * (rng.random((both, 1)) < 0.5)),
    ):
        points, queries = rows[:N].astype(np.float32), rows[N:].astype(np.float32)
        share = share_answered(index_of(points, place / name).query(queries, k=10), queries, points)
        assert share > 0.85, (name, share)


def a_zero_query_by_angle(place: Path) -> None:
    """Under cosine zero rows are the nearest to a query of zeros."""
    points = normal(600, 8)
    points[[5, 100, 333]] = 0
    ids, distances = index_of(points, place / "i", metric="cosine").query(np.zeros((1, 8), np.float32), k=5)
    assert ids[0, :3].tolist() == [5, 100, 333]
    np.testing.assert_allclose(distances[0], [0, 0, 0, 1, 1])


def exact_float64_answers(place: Path) -> None:
    """Points and queries in float64 metres, by the millimetre."""
    rng = np.random.default_rng(0)
    points = 4e5 + np.round(rng.uniform(0, 3, (N, 2)), 3)
    queries = 4e5 + np.round(rng.uniform(0, 3, (100, 2)), 3)
    ids, distances = index_of(points, place / "i").query(queries, k=5)
    true = distances_between(queries, points)
    kth = np.sort(true)[:, 4]
    assert (np.take_along_axis(true, ids, axis=1) <= kth[:, None] + 1e-9).mean() > 0.85
    np.testing.assert_allclose(distances, np.take_along_axis(true, ids, axis=1), rtol=1e-4, atol=1e-9)


def one_bit_rows_and_bytes(place: Path) -> None:
    """An index of uint8 rows holds uint8, and answers as brute force does."""
    points = np.random.default_rng(0).integers(0, 256, (N, 24), dtype=np.uint8)
    index = index_of(points, place / "i")
    assert index.facts["dtype"] == "uint8"
    assert share_answered(index.query(points[:100], k=5), points[:100], points) > 0.9
    assert (index.query(points[:100], k=5)[0][:, 1] == lists_of(points, 1)[0][:100, 0]).mean() > 0.9
