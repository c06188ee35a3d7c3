"""Answers do not depend on how large numbers are, how uneven they lie, how far a query is, or which rows are equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import distnnd
from tests.conftest import clustered
from tests.index.conftest import make
from tests.index.test_index import between, recall_of

N, M, D = 3000, 100, 16


def normal(count: int, d: int = D, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, d))


def pulled_out(rows: np.ndarray, share: float, times: float) -> np.ndarray:
    """Rows of which a share lies so many times as far out."""
    rows = rows.copy()
    rows[: int(share * len(rows))] *= times
    return rows[np.random.default_rng(1).permutation(len(rows))]


def sets(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Points and queries of uneven scale, float32."""
    rng, points, queries = np.random.default_rng(5), normal(N), normal(M, seed=9)
    if name == "few rows 100 times as far out":
        points, queries = pulled_out(points, 0.012, 100), pulled_out(queries, 0.02, 100)
    elif name == "few rows 1e4 times as far out":
        points = pulled_out(points, 0.012, 1e4)
    elif name == "one row 1e6 away":
        points[7] = 1e6
    elif name == "heavy tails":
        points, queries = rng.standard_t(1.3, (N, D)), rng.standard_t(1.3, (M, D))
    elif name == "lognormal":
        points, queries = np.exp(2 * points), np.exp(2 * queries)
    elif name == "clusters 1,000 widths apart":
        centres = 1000 * rng.normal(size=(20, D))
        points, queries = points + centres[rng.integers(0, 20, N)], queries + centres[rng.integers(0, 20, M)]
    elif name == "two clusters 1e5 apart":
        points[N // 2 :] += 1e5
        queries[M // 2 :] += 1e5
    elif name == "columns of scales 1 to 1e4":
        points, queries = points * np.logspace(0, 4, D), queries * np.logspace(0, 4, D)
    elif name == "an offset of 1,000":
        points, queries = points + 1000, queries + 1000
    return points.astype(np.float32), queries.astype(np.float32)


UNEVEN = [
    "few rows 100 times as far out",
    "few rows 1e4 times as far out",
    "one row 1e6 away",
    "heavy tails",
    "lognormal",
    "clusters 1,000 widths apart",
    "two clusters 1e5 apart",
    "columns of scales 1 to 1e4",
    "an offset of 1,000",
]


@pytest.mark.parametrize("name", UNEVEN)
def test_points_of_uneven_scale(tmp_path: Path, name: str) -> None:
    points, queries = sets(name)
    index = make(tmp_path / "here", points, queries).index
    true = between(queries, points)
    assert recall_of(index.query(queries)[0], true) > 0.93
    assert recall_of(index.query(queries, ef=200)[0], true) > 0.99
    assert index.recall is not None
    assert index.recall.low - 0.03 <= recall_of(index.query(queries)[0], true) <= index.recall.high + 0.04
    ids, distances = index.query(points, k=10)
    assert (ids[:, 0] == np.arange(N)).mean() > 0.999
    assert distances[:, 0].max() == 0


@pytest.mark.parametrize("name", ["clusters 1,000 widths apart", "few rows 100 times as far out", "heavy tails"])
def test_an_index_in_partitions_of_uneven_scale(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from distnnd.values import searching

    points, queries = sets(name)
    index, true = make(tmp_path / "here", points, queries, partitions=3).index, between(queries, points)
    assert recall_of(index.query(queries)[0], true) > 0.93
    monkeypatch.setattr(searching, "OWN", 0)
    limit = index.plan().index - 1
    assert not index.plan(limit).whole
    ids, distances = index.query(queries, memory_limit=limit)
    assert recall_of(ids, true) > 0.93
    np.testing.assert_allclose(distances, np.take_along_axis(true, ids, 1), rtol=1e-4, atol=1e-4)
    allowed = np.random.default_rng(0).random(N) < 0.9
    found = index.query(queries, filter=allowed)[0]
    assert allowed[found].all()
    assert recall_of(found, np.where(allowed, true, np.inf)) > 0.93


def test_rows_that_codes_blur_are_searched_exactly_among_others(tmp_path: Path) -> None:
    # One row in fifty is in a cluster that is a thousandth as wide as all others: too few for the index to go by rows.
    points = normal(N)
    points[::50] = 0.5 + normal(N // 50, seed=3) / 1000
    points = points.astype(np.float32)
    index = make(tmp_path / "here", points, points).index
    assert index.info()["compares"] == "codes"
    queries = (0.5 + normal(40, seed=4) / 1000).astype(np.float32)
    assert recall_of(index.query(queries)[0], between(queries, points)) > 0.97


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> distnnd.Index:
    """3,000 normal rows."""
    return make(tmp_path_factory.mktemp("even"), normal(N).astype(np.float32), normal(M).astype(np.float32)).index


@pytest.mark.parametrize("times", [3, 10, 100, 1e4])
def test_queries_far_outside_the_points(even: distnnd.Index, times: float) -> None:
    queries, points = (times * normal(M, seed=9)).astype(np.float32), normal(N).astype(np.float32)
    ids, distances = even.query(queries)
    true = between(queries, points)
    assert recall_of(ids, true) > 0.95
    np.testing.assert_allclose(distances, np.take_along_axis(true, ids, 1), rtol=1e-5)


# --- inner products --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> distnnd.Index:
    """Normal rows under the inner product."""
    points = normal(N, 32).astype(np.float32)
    return make(tmp_path_factory.mktemp("products"), points, points, "inner_product").index


@pytest.mark.parametrize("times", [2.0**-20, 1e-4, 3.7, 1e4])
def test_a_positive_factor_of_a_query_changes_no_answer(products: distnnd.Index, times: float) -> None:
    queries, points = normal(M, 32, seed=9).astype(np.float32), normal(N, 32).astype(np.float32)
    ids, scores = products.query(queries)
    assert recall_of(ids, between(queries, points, "inner_product")) > 0.95
    scaled = (queries * np.float32(times)).astype(np.float32)
    other, more = products.query(scaled)
    # A factor that is no power of two rounds the query to another one, and its codes now and then.
    assert (ids == other).mean() > (0.9999 if times == 2.0**-20 else 0.99)
    np.testing.assert_allclose(more[:, 0], scores[:, 0] * np.float32(times), rtol=1e-4)


@pytest.mark.parametrize("kind", ["unit queries, items of norm 500", "power-law norms", "only negative scores"])
def test_inner_products_of_uneven_rows(tmp_path: Path, kind: str) -> None:
    points, queries = normal(N, 24), normal(M, 24, seed=9)
    if kind.startswith("unit"):
        points *= 500 / np.linalg.norm(points, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    elif kind.startswith("power"):
        points *= np.random.default_rng(2).pareto(1.5, (N, 1))
    else:
        points, queries = np.abs(points), -np.abs(queries)
    points, queries = points.astype(np.float32), queries.astype(np.float32)
    made = make(tmp_path / "here", points, queries, "inner_product", partitions=3 if "negative" in kind else None)
    ids, scores = made.index.query(queries)
    assert recall_of(ids, between(queries, points, "inner_product")) > 0.93
    assert (scores > 0).all() == ("negative" in kind)


# --- equal rows ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray, distnnd.Index]:
    """2,000 rows of which 300 are equal, which these are, and their index."""
    points = clustered(2000, 12)
    copies = np.sort(np.random.default_rng(3).choice(2000, 300, replace=False))
    points[copies] = points[copies[0]]
    return points, copies, make(tmp_path_factory.mktemp("copied"), points, points).index


def test_all_copies_of_a_row_are_found(copied: tuple[np.ndarray, np.ndarray, distnnd.Index]) -> None:
    points, copies, index = copied
    ids, distances = index.query(points[copies[:3]], k=300)
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.tile(copies, (3, 1)))
    assert (distances == 0).all()
    ids, distances = index.query(points[copies[:1]], k=500, radius=0.0)
    np.testing.assert_array_equal(np.sort(ids[ids >= 0]), copies)
    assert (distances[ids < 0] == np.inf).all()
    allowed = copies[::2]
    ids, _ = index.query(points[copies[:1]], k=150, filter=allowed)
    np.testing.assert_array_equal(np.sort(ids[0]), allowed)


@pytest.mark.parametrize("k", [500, 1500, 2000])
def test_many_answers_are_complete_where_rows_are_equal(tmp_path: Path, k: int) -> None:
    points = normal(2000).astype(np.float32)
    points[300:1500] = points[np.random.default_rng(0).integers(0, 5, 1200)]
    index = make(tmp_path / "here", points, points).index
    ids, distances = index.query(points[:10], k=k)
    assert all(len(set(row.tolist())) == k for row in ids)
    assert (ids >= 0).all()
    assert (np.diff(distances, axis=1) >= 0).all()
    assert recall_of(ids, between(points[:10], points)) > 0.97


def test_rows_of_a_graph_of_few_neighbours_find_themselves(tmp_path: Path) -> None:
    points = normal(3000, 64, seed=6).astype(np.float32)
    with pytest.warns(UserWarning, match="larger epsilon or ef"):
        index = distnnd.build_index(distnnd.build(points, n_neighbors=4), tmp_path / "index", points)
    for k in (1, 4):
        ids, distances = index.query(points, k=k)
        assert (ids[:, 0] == np.arange(3000)).mean() > 0.999
        assert distances[:, 0].max() == 0


def test_a_zero_query_gets_zero_rows_first(tmp_path: Path) -> None:
    points = normal(2000, 300, seed=2).astype(np.float32)
    zeros = np.arange(100, 180)
    points[zeros] = 0
    index = make(tmp_path / "here", points, points, "cosine").index
    ids, distances = index.query(np.zeros((1, 300), np.float32), k=90)
    np.testing.assert_array_equal(ids[0, :80], zeros)
    np.testing.assert_array_equal(distances[0], [0] * 80 + [1] * 10)
