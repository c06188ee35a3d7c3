"""What other libraries are handed, and how they like it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import DBSCAN, SpectralClustering
from sklearn.manifold import Isomap
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsTransformer,
    LocalOutlierFactor,
    NearestNeighbors,
    sort_graph_by_row_values,
)

from distnnd.stages.views import index_dtype
from tests.reported.answers import build, distances_between, lists_of, normal


def silently(call: Callable[[], Any]) -> Any:
    """What is called, whose warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


def first_rows_that_are_special(place: Path) -> None:
    """A first row that is alone, of zeros, or empty: DBSCAN of the graph is DBSCAN of all distances."""
    cloud = normal(120, 2)
    for first, points in (([50, 50], cloud), ([0, 0], cloud + 8)):
        points = np.concatenate([[first], points]).astype(np.float32)
        graph, gaps = build(points, 60), distances_between(points, points)
        for eps, least in ((0.3, 5), (0.5, 8)):
            assert (gaps <= eps).sum(axis=1).max() <= 61
            labels = [
                DBSCAN(eps=eps, min_samples=least, metric="precomputed").fit(one).labels_
                for one in (graph.to_csr(), gaps)
            ]
            assert (labels[0] == labels[1]).all()
    listed = sparse.random(50, 40, 0.3, "lil", dtype=np.float32, random_state=1)
    listed[0] = 0
    rows = build(listed.tocsr(), 6, metric="cosine").to_csr()
    assert (np.diff(rows.indptr) == 7).all()
    assert rows[0].indices[0] == 0


def a_row_is_at_zero_from_itself(place: Path) -> None:
    """Exactly, by angles too: in exports and in answers."""
    points = normal(600, 50, 10)
    for metric in ("cosine", "correlation", "true_angular", "euclidean"):
        graph = build(points, metric=metric)
        ids, distances = graph.to_numpy(include_self=True)
        assert (ids[:, 0] == np.arange(600)).all()
        assert not distances[:, 0].any()
        found, gaps = graph.build_index(place / metric, source=points).query(points, k=3)
        assert (found[:, 0] == np.arange(600)).mean() > 0.99
        assert not gaps[found[:, 0] == np.arange(600), 0].any()


def scikit_learn_takes_it(place: Path) -> None:
    """Sorted rows with duplicates: no warning, and the answers of scikit-learn's own graph."""
    points = normal(500, 4)
    points[50:60] = points[49]
    rows = build(points, 90).to_csr()
    own = KNeighborsTransformer(n_neighbors=90, mode="distance").fit_transform(points)
    assert all((np.diff(rows.data[a:b]) >= 0).all() for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True))
    silently(lambda: sort_graph_by_row_values(rows.copy(), copy=True, warn_when_not_sorted=True))
    for answers in (
        lambda graph: DBSCAN(eps=0.6, min_samples=6, metric="precomputed").fit(graph).labels_,
        lambda graph: NearestNeighbors(n_neighbors=10, metric="precomputed").fit(graph).kneighbors()[0],
        lambda graph: LocalOutlierFactor(20, metric="precomputed").fit(graph).negative_outlier_factor_,
    ):
        got, expected = silently(lambda answers=answers: answers(rows.copy())), answers(own.copy())
        np.testing.assert_allclose(np.asarray(got, float), np.asarray(expected, float), atol=1e-3)


def angles_of_near_copies_are_taken(place: Path) -> None:
    """scikit-learn takes cosine distances of rows that are nearly copies: none is negative."""
    base = np.repeat(normal(30, 60, 11).astype(float), 20, axis=0)
    points = (base * (1 + 1e-7 * np.random.default_rng(0).normal(size=base.shape))).astype(np.float32)
    rows = build(points, 20, metric="cosine").to_csr()
    assert len(set(silently(lambda: DBSCAN(eps=0.01, min_samples=3, metric="precomputed").fit(rows).labels_))) == 30


def index_dtypes(place: Path) -> None:
    """int32 where it fits, int64 beyond; scikit-learn's estimators run."""
    points = normal(300, 5)
    graph = build(points, 7)
    kinds = (graph.to_csr(), graph.to_csr(include_self=False), graph.to_csr(mode="connectivity"), graph.symmetrize())
    for matrix in kinds:
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    for n, k, wanted in ((144_000_000, 15, "int64"), (134_217_728, 15, "int32"), (2**31 - 1, 1, "int32")):
        assert index_dtype(n, n * k) == np.dtype(wanted)
    side = points[:, 0] > 0
    rows = graph.to_csr()
    model = silently(lambda: KNeighborsClassifier(5, metric="precomputed").fit(rows, side))
    assert silently(lambda: model.predict(rows)).shape == (300,)
    assert silently(lambda: Isomap(n_neighbors=7, metric="precomputed").fit_transform(rows)).shape == (300, 2)


def spectral_clustering_takes_it(place: Path) -> None:
    """As precomputed nearest neighbours, without a warning."""
    rows = build(normal(300, 5), 7).to_csr()
    model = SpectralClustering(3, n_neighbors=7, affinity="precomputed_nearest_neighbors", random_state=0)
    assert len(silently(lambda: model.fit(rows)).labels_) == 300


def order_survives_another_dtype(place: Path) -> None:
    """Rows of the CSR are in order of distance, and still are as float64."""
    points = normal(300, 5)
    graph = build(points, 14)
    for rows in (graph.to_csr(), graph.to_csr(dtype="float64"), graph.to_csr(dtype=np.float64, include_self=False)):
        again = rows.astype(np.float64)
        for one in (rows, again):
            by_row = one.data.reshape(300, -1)
            assert (np.diff(by_row, axis=1) >= 0).all()
    assert graph.to_csr(dtype="float64").dtype == np.float64


def as_scanpy_and_umap_want_it(place: Path) -> None:
    """k entries a row, with the row itself and without; with it, the lists of brute force in their order."""
    points = normal(400, 12)
    points[100:110] = points[99]
    graph = build(points, 14)
    for itself in (True, False):
        assert (np.diff(graph.to_csr(include_self=itself).indptr) == 14 + itself).all()
    ids, distances = graph.to_numpy(include_self=True)
    true, gaps = lists_of(points, 14)
    assert (ids == np.c_[np.arange(400), true]).mean() > 0.999
    np.testing.assert_allclose(distances[:, 1:], gaps, rtol=1e-5)
    edges = graph.symmetrize("max")
    assert not edges.diagonal().any()
    assert np.diff(edges.indptr).min() >= 14
    assert abs(edges - edges.T).nnz == 0


def pieces_are_counted_and_bridged(place: Path) -> None:
    """Clouds far apart: as many components as there are, and bridges that connect them by true distances."""
    points = np.concatenate([normal(30, 3, seed) + 100 * seed for seed in range(6)])
    graph = build(points, 5)
    edges = graph.symmetrize()
    pieces = connected_components(edges, directed=False)[0]
    assert pieces >= 6
    report = graph.search_report(connect=True, source=points)
    assert report["components"]["count"] == pieces
    assert len(report["bridges"]) == pieces - 1
    one, other, length = (np.array(column) for column in zip(*report["bridges"], strict=True))
    true = distances_between(points, points)
    np.testing.assert_allclose(length, true[one.astype(int), other.astype(int)], rtol=1e-5)
    bridges = sparse.coo_matrix((length, (one.astype(int), other.astype(int))), edges.shape).tocsr()
    connected = edges.maximum(bridges.maximum(bridges.T))
    assert connected_components(connected, directed=False)[0] == 1
