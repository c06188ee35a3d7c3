"""Exports keep the order of distance, whatever becomes of their dtype."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import DBSCAN, SpectralClustering
from sklearn.manifold import Isomap
from sklearn.neighbors import KNeighborsClassifier

import distnnd
from distnnd.values.errors import SpecError


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def graph(points: np.ndarray) -> distnnd.Graph:
    return distnnd.build(points, n_neighbors=7, progress=False)


def in_order(matrix: Any, graph: distnnd.Graph) -> bool:
    """Whether the entries of each row are its neighbours, the nearest first, each at its distance."""
    ids, distances = matrix.indices.reshape(400, -1)[:, -7:], matrix.data.reshape(400, -1)[:, -7:]
    return bool((ids == graph.indices[:]).all() and (distances == graph.distances[:]).all())


CHANGES: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda matrix: matrix,
    "astype": lambda matrix: matrix.astype(np.float64),
    "astype by name": lambda matrix: matrix.astype("f8"),
    "there and back": lambda matrix: matrix.astype(np.float64).astype(np.float32),
    "astype of the same": lambda matrix: matrix.astype(np.float32).astype(np.float64),
    "astype without a copy": lambda matrix: matrix.astype(np.float32, copy=False).astype(np.float64),
    "copied": lambda matrix: matrix.copy().astype(np.float64),
    "pickled": lambda matrix: pickle.loads(pickle.dumps(matrix)).astype(np.float64),
    "deep copy": lambda matrix: copy.deepcopy(matrix).astype(np.float64),
}


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_row_keeps_the_order_of_its_neighbours(graph: distnnd.Graph, change: str, include_self: bool) -> None:
    changed = CHANGES[change](graph.to_csr(include_self))
    assert type(changed) is sparse.csr_matrix
    assert in_order(changed, graph)


def test_scipy_alone_would_lose_it(graph: distnnd.Graph) -> None:
    """Else there were nothing to do."""
    assert not in_order(sparse.csr_matrix.astype(graph.to_csr(), np.float64), graph)


def test_astype_takes_what_the_matrix_holds_by_then(graph: distnnd.Graph) -> None:
    matrix = graph.to_csr(include_self=False)
    matrix.data = matrix.data * 2
    wide = matrix.astype(np.float64)
    assert (wide.data == 2.0 * graph.distances[:].ravel()).all()
    wide.data[:] = 0
    assert matrix.data.all()
    with pytest.raises(TypeError, match="Cannot cast"):
        matrix.astype(np.int8, casting="safe")


def test_a_matrix_goes_when_nobody_holds_it(graph: distnnd.Graph) -> None:
    gone = weakref.ref(graph.to_csr())
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
@pytest.mark.parametrize("dtype", [np.float32, "float64", np.dtype("f8"), float])
def test_a_dtype_may_be_asked_for(graph: distnnd.Graph, dtype: Any, mode: str) -> None:
    matrix = graph.to_csr(mode=mode, dtype=dtype)
    assert matrix.dtype == np.dtype(dtype)
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    assert mode == "connectivity" or in_order(matrix, graph)
    assert mode == "distance" or (matrix.data == 1).all()


@pytest.mark.parametrize("dtype", ["float16", np.int64, None, "distances", complex, np.zeros((300, 300))])
def test_another_dtype_is_refused(graph: distnnd.Graph, dtype: Any) -> None:
    with pytest.raises(SpecError, match="dtype is float32 or float64, not") as told:
        graph.to_csr(dtype=dtype)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scikit_learn_takes_it_without_a_warning(graph: distnnd.Graph, points: np.ndarray, dtype: str) -> None:
    labels = (points[:, 0] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = graph.to_csr(dtype=dtype)
        clusters = SpectralClustering(3, n_neighbors=7, affinity="precomputed_nearest_neighbors", random_state=0)
        assert len(set(clusters.fit(matrix).labels_)) == 3
        told = KNeighborsClassifier(5, metric="precomputed").fit(matrix, labels).predict(matrix)
        assert (told == labels).mean() > 0.8
        assert Isomap(n_neighbors=7, metric="precomputed").fit_transform(matrix).shape == (400, 2)
        assert DBSCAN(eps=0.5, metric="precomputed").fit(matrix).labels_.shape == (400,)
