"""The consumers themselves: UMAP, scanpy and HDBSCAN take a graph and come to what they come to with their own.

They take a minute to import and compile, so these tests are long, and skipped where a library is missing: install the
extra `consumers`. The contract that they rely on is checked quickly in tests/test_reported_elsewhere.py.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsClassifier

from tests.reported.answers import build, lists_of

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Rows of six clouds, and which: float32[1200, 20], int64[1200]."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 6, 1200)
    return (4 * rng.normal(size=(6, 20))[kinds] + rng.normal(size=(1200, 20))).astype(np.float32), kinds


def of_arrays(points: np.ndarray, knn: tuple[np.ndarray, np.ndarray]) -> Any:
    """UMAP's weights of a graph."""
    umap = pytest.importorskip("umap.umap_")
    state = np.random.RandomState(0)
    return umap.fuzzy_simplicial_set(points, 15, state, "euclidean", knn_indices=knn[0], knn_dists=knn[1])[0]


def test_umap_weighs_it_as_the_exact_graph(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    points = clouds[0].copy()
    points[100:110] = points[99]
    ids, gaps = lists_of(points, 14)
    true = np.c_[np.arange(1200), ids], np.c_[np.zeros(1200), gaps].astype(np.float32)
    weights = of_arrays(points, build(points, 14).to_numpy(include_self=True))
    assert abs(weights - of_arrays(points, true)).max() < 1e-3


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_umap_embeds_it(clouds: tuple[np.ndarray, np.ndarray], dtype: Any) -> None:
    umap = pytest.importorskip("umap")
    points, kinds = clouds
    ids, distances = build(points, 14).to_numpy(include_self=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = umap.UMAP(n_neighbors=15, precomputed_knn=(ids.astype(dtype), distances), random_state=0, n_epochs=50)
        placed = model.fit_transform(points)
    assert np.isfinite(placed).all()
    assert KNeighborsClassifier(10).fit(placed, kinds).score(placed, kinds) > 0.95


class Ready(BaseEstimator, TransformerMixin):
    """What scanpy asks for neighbours: a scikit-learn transformer that gives the CSR of a graph."""

    def __init__(self, n_neighbors: int = 15, metric: str = "euclidean") -> None:
        self.n_neighbors, self.metric = n_neighbors, metric

    def fit(self, points: Any, kinds: Any = None) -> Ready:
        """Build the graph."""
        self.graph_ = build(np.asarray(points), self.n_neighbors - 1, metric=self.metric)
        return self

    def transform(self, points: Any) -> Any:
        """The distances, with each row itself."""
        return self.graph_.to_csr(include_self=True)


@pytest.mark.parametrize("way", ["transformer", "distances", "float64 distances", "distances without itself"])
def test_scanpy_weighs_and_clusters_it(clouds: tuple[np.ndarray, np.ndarray], way: str) -> None:
    scanpy, anndata = pytest.importorskip("scanpy"), pytest.importorskip("anndata")
    pytest.importorskip("igraph")
    if way != "transformer" and "distances" not in inspect.signature(scanpy.pp.neighbors).parameters:
        pytest.skip("this scanpy takes no distances")
    points, kinds = clouds
    data = anndata.AnnData(points.copy(), obsm={"X_pca": points})
    own = data.copy()
    rows = build(points, 14).to_csr(include_self="without" not in way)
    given = {"distances": rows.astype(np.float64) if "64" in way else rows}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy.pp.neighbors(own, n_neighbors=15, use_rep="X_pca")
        if way == "transformer":
            given = {"transformer": Ready(), "use_rep": "X_pca"}
        scanpy.pp.neighbors(data, n_neighbors=15, **given)
        assert abs(data.obsp["connectivities"] - own.obsp["connectivities"]).max() < 0.02
        scanpy.tl.leiden(data, flavor="igraph", n_iterations=2, directed=False)
    assert adjusted_rand_score(kinds, data.obs["leiden"]) > 0.8


def test_hdbscan_finds_the_clouds_over_bridges(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    hdbscan = pytest.importorskip("hdbscan")
    points, kinds = clouds[0][:400] * np.float32(3), clouds[1][:400]
    graph = build(points, 12)
    edges = graph.symmetrize()
    bridges = graph.search_report(connect=True, source=points)["bridges"]
    one, other, length = (np.array(column) for column in zip(*bridges, strict=True))
    added = sparse.coo_matrix((length, (one.astype(int), other.astype(int))), edges.shape).tocsr()
    connected = edges.maximum(added.maximum(added.T)).astype(np.float64)
    model = hdbscan.HDBSCAN(metric="precomputed", min_cluster_size=10, min_samples=5).fit(connected)
    assert adjusted_rand_score(kinds, model.labels_) > 0.8
