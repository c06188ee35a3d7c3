"""Twenty thousand real rows by every metric: the recall that is asked for, by distance; about twenty minutes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import distnnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.values.metrics_table import ENTRIES
from tests.conftest import SHARED
from tests.metric_rows import TRANSPORTS, recall_by_distance

FILES = {
    "mnist": "mnist_u8.npz",
    "flights": "nycflights_327k_29.npz",
    "fingerprints": "moses_morgan2_150k_packed.npz",
    "towns": "geo_cities500_latlon_deg.npz",
    "words": "tfidf_60k.npz",
}
ROWS = 20_000
# Sparse rows of metrics that want a matrix of all columns, or two columns: the other names are sparse enough with many.
SPARSE = [
    *(("haversine", "towns"), ("mahalanobis", "flights"), ("mahalanobis", "words 64")),
    *(("circular_kantorovich", "mnist small"), ("circular_kantorovich", "words 64")),
    *(("kantorovich", "mnist small"), ("sinkhorn", "mnist small"), ("sinkhorn", "words 32")),
]


def rows_named(what: str) -> np.ndarray:
    """Real rows: of a file, or made of one; words are folded to so many columns."""
    name, _, made = what.partition(" ")
    if name == "words":
        lines = sparse.load_npz(SHARED / FILES[name]).tocsr()[:ROWS]
        folded = (lines.data, lines.indices % int(made), lines.indptr)
        return sparse.csr_matrix(folded, (ROWS, int(made))).toarray()
    with np.load(SHARED / FILES[name]) as file:
        rows = file["X"]
    rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), ROWS, replace=False))]
    if name == "towns":
        return np.radians(rows).astype(np.float32)
    if made == "small":
        return rows.reshape(-1, 4, 7, 4, 7).mean(axis=(2, 4)).reshape(-1, 16).astype(np.float32)
    if made == "unpacked":
        return np.unpackbits(rows, axis=1)
    if made == "gaps":
        rows[np.random.default_rng(1).random(rows.shape) < 0.1] = np.nan
    return rows


def cases() -> list[tuple[str, str]]:
    """What each metric is tried on: pixels as they are, or as sets; flights where numbers have signs."""
    special = {"haversine": ["towns"], "nan_euclidean": ["flights gaps"], "mahalanobis": ["flights", "mnist small"]}
    tried = []
    for name, entry in ENTRIES.items():
        rows = ["mnist"] if entry.domain == "non-negative" else ["mnist", "flights"]
        rows = ["mnist", "fingerprints unpacked"] if entry.form == "set" else rows
        rows = ["fingerprints"] if entry.form == "bits" else ["mnist small"] if name in TRANSPORTS else rows
        tried += [(name, one) for one in special.get(name, rows)]
    return tried


def params_for(name: str, rows: np.ndarray) -> dict[str, Any]:
    """Parameters as one would choose them."""
    d = rows.shape[1]
    places = np.arange(d, dtype=float)
    cost = abs(places[:, None] - places)
    if name == "mahalanobis":
        return {"V": np.cov(rows.T.astype(float)) + 0.01 * np.eye(d)}
    return {
        "minkowski": {"p": 3},
        "weighted_minkowski": {"p": 3, "w": np.linspace(0.5, 2, d)},
        "seuclidean": {"V": rows.var(axis=0, dtype=float) + 1e-3},
        "kantorovich": {"cost": cost},
        "sinkhorn": {"cost": cost},
    }.get(name, {})


real = pytest.mark.skipif(not all((SHARED / name).exists() for name in FILES.values()), reason="real data are missing")


@pytest.mark.long
@pytest.mark.timeout(1200)
@real
@pytest.mark.parametrize(("name", "what"), cases())
def test_twenty_thousand_real_rows_reach_the_recall(serial: SerialExecutor, name: str, what: str) -> None:
    rows = rows_named(what)
    assert_reached(serial, name, what, rows, rows)


@pytest.mark.long
@pytest.mark.timeout(1200)
@real
@pytest.mark.parametrize(("name", "what"), SPARSE)
def test_so_do_sparse_rows(serial: SerialExecutor, name: str, what: str) -> None:
    rows = rows_named(what)
    assert_reached(serial, name, what, rows, sparse.csr_matrix(rows))


def assert_reached(serial: SerialExecutor, name: str, what: str, rows: np.ndarray, points: Any) -> None:
    """The graph of the points, which are `rows`, dense or sparse, has the recall, and fresh rows say so too."""
    params = params_for(name, rows)
    graph = distnnd.build(points, metric=name, metric_params=params, client=serial, target_recall=0.95)
    graph.verify(points, 100)
    assert np.isfinite(graph.distances[:]).all()
    # Of fewer rows where a pair takes long; one standard error of the sample, and the build's own of its probe rows.
    count = 60 if name in TRANSPORTS else 150
    found = recall_by_distance(name, rows, params, graph, count)
    print(f"\n{name}, {what}: {graph.recall}, {len(graph.facts['rounds'])} rounds; fresh rows {found:.4f}")
    assert graph.recall.estimate >= 0.95
    assert found >= 0.925
