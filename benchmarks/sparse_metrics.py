"""`python -m benchmarks.sparse_metrics [metric ...] [--rows N]`: builds of TF-IDF rows by each metric of sparse rows.

One thread, after a build of a few rows that compiles what it needs; recall against exact answers of 500 rows. Metrics
that need a matrix of all columns, or have two columns, are left out. Writes benchmarks/results/sparse_metrics.md.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from scipy import sparse

import distnnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.values.metrics_table import ENTRIES

from .data import REAL, K
from .one import cpu_of_all
from .table import Table

WARM, PROBES = 7000, 500
LEFT_OUT = {"haversine", "mahalanobis", "kantorovich", "sinkhorn"}
COLUMNS = ("metric", "engine", "recall", "CPU s", "wall s")


def params_of(name: str, matrix: Any) -> dict[str, Any]:
    """Parameters for the metrics that ask for them."""
    weights = 1 + np.bincount(matrix.indices, minlength=matrix.shape[1])
    return {"seuclidean": {"V": weights}, "minkowski": {"p": 3}, "weighted_minkowski": {"w": weights, "p": 1.5}}.get(
        name, {}
    )


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse_metrics", description=__doc__)
    parser.add_argument("metrics", nargs="*")
    parser.add_argument("--rows", type=int, default=20_000)
    chosen = parser.parse_args()
    matrix = sparse.load_npz(REAL / "tfidf_60k.npz").tocsr()[: chosen.rows]
    names = [name for name, entry in ENTRIES.items() if entry.sparse and name not in LEFT_OUT]
    table = Table("sparse_metrics", *COLUMNS, note=f"{chosen.rows:,} rows, target 0.95.")
    for name in chosen.metrics or names:
        settings = {"n_neighbors": K, "metric": name, "metric_params": params_of(name, matrix)}
        distnnd.build(matrix[:WARM], client=SerialExecutor(), **settings)
        before, start = cpu_of_all(), time.perf_counter()
        graph = distnnd.build(matrix, client=SerialExecutor(), **settings)
        cpu, wall = cpu_of_all() - before, time.perf_counter() - start
        layout = graph.facts["layout"]
        engine = graph.facts["rounds"][-1]["engine"] if layout["exact"] else "sketches"
        recall = graph.measure_recall(matrix, PROBES).estimate
        table.add(name, engine, f"{recall:.4f}", f"{cpu:.2f}", f"{wall:.2f}")


if __name__ == "__main__":
    main()
