"""Real rows for each metric, and rows that hurt, together: what builds of every metric are tested on."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from distnnd.kernels.bit_distances import from_bytes
from distnnd.kernels.distances import distances_between
from distnnd.kernels.forms import form_of
from distnnd.values.metric import metric_of
from distnnd.values.metrics_table import ENTRIES
from tests.kernels.test_distances import params_of, rows_for
from tests.naive_metrics import TWINS
from tests.test_floors import ROOT

# A pixel that is brighter is a bit that is set.
BRIGHT = 100
# A transport costs too much between all sixteen columns: those in the middle of the picture.
MIDDLE = [5, 6, 9, 10]
TRANSPORTS = ("kantorovich", "sinkhorn")


@lru_cache(maxsize=1)
def pictures() -> np.ndarray:
    """Fashion-MNIST's test images: uint8[10000, 784]."""
    with np.load(ROOT / "examples" / "fashion_10k_u8.npz") as file:
        return file["X"]


@lru_cache(maxsize=1)
def small_pictures() -> np.ndarray:
    """The same, each square of seven by seven pixels a column: float32[10000, 16], a mean that few rows share."""
    squares = pictures().reshape(-1, 4, 7, 4, 7).mean(axis=(2, 4))
    return squares.reshape(-1, 16).astype(np.float32)


def real_rows(name: str, n: int) -> np.ndarray:
    """The first rows, as the metric takes them."""
    if ENTRIES[name].domain == "bits":
        return np.packbits(pictures()[:n] > BRIGHT, axis=1)
    rows = small_pictures()[:n].copy()
    if ENTRIES[name].domain == "positions":
        return rows[:, [5, 10]] / 255 * np.float32(np.pi / 2)
    if ENTRIES[name].domain == "gaps":
        rows[np.random.default_rng(1).random(rows.shape) < 0.1] = np.nan
    if name == "hamming":
        # Columns that are equal by chance only say nothing.
        rows = np.round(rows / 32)
    if ENTRIES[name].form == "set":
        rows[rows < np.median(rows, axis=0)] = 0
    return np.ascontiguousarray(rows[:, MIDDLE]) if name in TRANSPORTS else rows


def mixed_rows(name: str, n: int) -> np.ndarray:
    """Rows that hurt, with duplicates, and real ones, in one set."""
    real = real_rows(name, n)
    if ENTRIES[name].domain == "bits":
        real[3:5], real[5], real[6], real[7:] = 0, 255, real[7], real[7:]
        return real
    return np.concatenate([rows_for(name, real.shape[1]), real])


def params_for(name: str, d: int) -> list[dict[str, Any]]:
    """Parameters to build by."""
    return params_of(name, d)


def said(name: str, rows: np.ndarray, params: dict[str, Any], queries: np.ndarray) -> np.ndarray:
    """Distances of some rows to all by the kernel that is tested against the twins: float64[queries, n]."""
    d = rows.shape[1] * (8 if ENTRIES[name].domain == "bits" else 1)
    out = np.empty((len(queries), len(rows)), np.float32)
    if ENTRIES[name].domain == "bits":
        own, others = from_bytes(rows[queries]), from_bytes(rows)
    else:
        own, others = rows[queries], rows
    distances_between(own, others, form_of(metric_of(name, params, d), d), out)
    return out.astype(np.float64)


def twins(name: str, rows: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Distances of all pairs by the twin: float64[n, n]; of a transport, which would take hours, by `said`."""
    if name in TRANSPORTS:
        return said(name, rows, params, np.arange(len(rows)))
    exact = np.unpackbits(rows, axis=1) if ENTRIES[name].domain == "bits" else rows
    exact = exact.astype(np.float64)
    return np.array([[float(TWINS[name](x, y, **params)) for y in exact] for x in exact])


def recall_by_distance(name: str, rows: np.ndarray, params: dict[str, Any], graph: Any, count: int = 150) -> float:
    """Share of the neighbours of some rows that are as near as the k-th true one, by `said`."""
    queries = np.sort(np.random.default_rng(2).choice(len(rows), min(count, len(rows)), replace=False))
    distances = said(name, rows, params, queries)
    distances[np.arange(len(queries)), queries] = np.inf
    found = np.take_along_axis(distances, graph.indices[:][queries], axis=1)
    kth = np.sort(distances, axis=1)[:, graph.n_neighbors - 1, None]
    return float(np.mean(found <= kth + 1e-5 * abs(kth) + 1e-9))
