"""Sparse rows: many, wide, empty, and of one value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

import distnnd
from distnnd.testing import forced_partitions
from tests.reported.answers import assert_right, assert_sound, build, ids_of, index_of, refused, share_answered


def counts(n: int, d: int, seed: int = 0) -> sparse.csr_matrix:
    """Counts of d things in n rows of twelve kinds, most of them 0: float32."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(0.25, 1, (12, d)) * rng.lognormal(0, 1, d)
    profiles /= profiles.sum(axis=1, keepdims=True)
    depth = rng.lognormal(5, 0.5, (n, 1))
    return sparse.csr_matrix(rng.poisson(profiles[rng.integers(0, 12, n)] * depth).astype(np.float32))


def rare_truths(place: Path) -> None:
    """Few columns a row, many rows that are equal or empty: no row is short of neighbours, in blocks or partitions."""
    points = sparse.csr_matrix((np.random.default_rng(9).standard_normal((1500, 600)) > 3).astype(np.float32))
    assert (np.diff(points.indptr) == 0).any()
    for metric in ("cosine", "jaccard"):
        with forced_partitions():
            assert_right(build(points, 15, metric=metric), points, metric)
        with forced_partitions(sketches=True):
            assert_sound(build(points, 15, metric=metric))
    assert_right(build(points.astype(bool), 15, metric="jaccard"), points, "jaccard")


def answers_are_distinct(place: Path) -> None:
    """Whole numbers in many columns: an index answers ten different rows, the nearest."""
    points = np.random.default_rng(9).integers(1, 1000, (1000, 50))
    found = index_of(points, place / "i", 10).query(points[:100], k=10)
    assert share_answered(found, points[:100], points) > 0.95


def more_rows_than_are_compared_in_pairs(place: Path) -> None:
    """Jaccard beyond a few thousand sparse rows, and of a few."""
    for points in (
        sparse.random(5000, 300, 0.03, "csr", dtype=np.float32, random_state=0),
        sparse.random(100, 1000, 0.01, "csr", dtype=np.float32, random_state=1),
    ):
        graph = build(points, 10, metric="jaccard")
        assert_right(graph, points, "jaccard")
    refused(lambda: graph.build_index(place / "i", source=points))
    dense = points.toarray()
    index = index_of(dense, place / "j", 10, "jaccard")
    assert share_answered(index.query(dense[:20], k=5), dense[:20], dense, "jaccard") > 0.95
    refused(lambda: index.query(points[:5], k=5))


def counts_of_things(place: Path) -> None:
    """Counts with many zeros, as they are and their logarithms; dense as sparse."""
    points = counts(1500, 400)
    logs = points.log1p()
    for matrix, metric in ((points, "euclidean"), (logs, "cosine"), (points, "jaccard")):
        with forced_partitions():
            assert_right(build(matrix, 15, metric=metric), matrix, metric, atol=2e-5)
    dense = points.toarray().clip(0, 255).astype(np.uint8)
    for metric in ("euclidean", "cosine"):
        with forced_partitions():
            assert_right(build(dense, 15, metric=metric), dense, metric)


def counts_of_twelve_hundred_columns(place: Path) -> None:
    """An eighth of all columns in each row: the sparse graph is that of the dense rows."""
    points = counts(600, 1200).log1p()
    sparsely, densely = (build(rows, 10, metric="cosine") for rows in (points, points.toarray()))
    assert_right(sparsely, points, "cosine", atol=2e-6)
    np.testing.assert_allclose(sparsely.distances[:], densely.distances[:], atol=2e-6)


def millions_of_columns(place: Path) -> None:
    """Very many columns, the last ones among them, and empty rows: planned in little memory, and right."""
    rng = np.random.default_rng(0)
    n, d, each = 1500, 5_000_000, 40
    columns = np.minimum((rng.pareto(0.6, (n, each)) * 40).astype(np.int64), d - 1)
    columns[:, 0] = d - 1 - rng.integers(0, 50, n)
    weights = rng.random((n, each)).astype(np.float32) * (rng.random((n, 1)) > 0.03)
    points = sparse.csr_matrix((weights.ravel(), columns.ravel(), np.arange(0, n * each + 1, each)), shape=(n, d))
    points.sum_duplicates()
    points.eliminate_zeros()
    narrow = points[:, np.unique(points.indices)]
    for metric in ("cosine", "euclidean"):
        assert distnnd.plan(points, 15, metric=metric, memory_limit="2GiB").peak < 2 * 2**30
        with forced_partitions():
            assert_right(build(points, 15, metric=metric), narrow, metric, atol=2e-5)


def sparse_as_dense(place: Path) -> None:
    """One graph of the same numbers, and a CSR of distances that is the matrix of all of them where it has entries."""
    points = sparse.random(40, 50, 0.3, "csr", dtype=np.float32, random_state=0)
    sparsely, densely = build(points, 8), build(points.toarray(), 8)
    assert (sparsely.indices[:] == densely.indices[:]).all()
    np.testing.assert_allclose(sparsely.distances[:], densely.distances[:], rtol=1e-5)


def the_same_rows_otherwise_listed(place: Path) -> None:
    """int64 indices, unsorted columns, zeros that are written down, doubled entries, CSC: the same graph."""
    tidy = sparse.random(300, 80, 0.1, "csr", dtype=np.float32, random_state=0)
    wide = sparse.csr_matrix((tidy.data, tidy.indices.astype(np.int64), tidy.indptr.astype(np.int64)), tidy.shape)
    backwards = tidy.copy()
    for first, last in zip(tidy.indptr[:-1], tidy.indptr[1:], strict=True):
        backwards.indices[first:last] = tidy.indices[first:last][::-1]
        backwards.data[first:last] = tidy.data[first:last][::-1]
    backwards.has_sorted_indices = False
    listed = tidy.tocoo()
    coordinates = (np.r_[listed.row, listed.row, [3]], np.r_[listed.col, listed.col, [7]])
    halves = sparse.coo_matrix((np.r_[listed.data / 2, listed.data / 2, [0]], coordinates), tidy.shape)
    for metric in ("cosine", "jaccard"):
        right = ids_of(build(tidy, metric=metric))
        for points in (wide, backwards, halves, sparse.csr_array(tidy), tidy.tocsc()):
            assert (ids_of(build(points, metric=metric)) == right).all()
