"""`python -m benchmarks.metrics [case ...] [--runs N]`: distnnd and PyNNDescent by metrics of each form.

A process for each builder and run, in alternation, solves all cases, each after a small build that compiles what it
needs. distnnd writes its graph to disk within the time. Recall is by distance, ties allowed: of QUERIES rows whose
distances to all rows are taken by the canonical kernels, which tests hold against SciPy and written-out twins.
Writes benchmarks/results/metrics.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .data import REAL, K
from .measure import run
from .placement import count_all
from .table import Table

QUERIES, SMALL = 300, 20_000


class Case(NamedTuple):
    """The rows, how many of them (None for all), the metric, and the recall that distnnd is asked for."""

    rows: str
    n: int | None
    metric: str
    target: float


# The target is one at which distnnd measures no less than what PyNNDescent reaches.
CASES = {
    "cosine": Case("mnist", 20_000, "cosine", 0.995),
    "correlation": Case("mnist", 20_000, "correlation", 0.992),
    "manhattan": Case("mnist", 20_000, "manhattan", 0.99),
    "canberra": Case("mnist", 20_000, "canberra", 0.988),
    "haversine": Case("towns", None, "haversine", 0.99),
    "bit_jaccard": Case("fingerprints", None, "bit_jaccard", 0.93),
    "bit_hamming": Case("fingerprints", None, "bit_hamming", 0.955),
}
FILES = {
    "mnist": "mnist_u8.npz",
    "towns": "geo_cities500_latlon_deg.npz",
    "fingerprints": "moses_morgan2_150k_packed.npz",
}


def rows_of(case: Case) -> np.ndarray:
    """The rows as both builders take them."""
    with np.load(REAL / FILES[case.rows]) as file:
        rows = file["X"]
    if case.n is not None:
        rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), case.n, replace=False))]
    return np.radians(rows).astype(np.float32) if case.rows == "towns" else rows


def ours(case: Case, rows: np.ndarray) -> np.ndarray:
    """Ids by distnnd."""
    import distnnd

    return distnnd.build(rows, None, K, metric=case.metric, target_recall=case.target).to_numpy()[0]


def theirs(case: Case, rows: np.ndarray) -> np.ndarray:
    """Ids by PyNNDescent; n_neighbors=16 is 15 neighbours and the row itself."""
    import pynndescent

    given = rows if case.metric.startswith("bit_") else rows.astype(np.float32)
    return pynndescent.NNDescent(given, metric=case.metric, n_neighbors=K + 1).neighbor_graph[0][:, 1:]


BUILDERS = {"distnnd": ours, "pynndescent": theirs}


def recall(case: Case, rows: np.ndarray, ids: np.ndarray) -> float:
    """Share of the neighbours found that are as near as the k-th true one."""
    from distnnd.kernels.bit_distances import from_bytes
    from distnnd.kernels.distances import distances_between
    from distnnd.kernels.forms import form_of
    from distnnd.values.metric import metric_of

    queries = np.random.default_rng(1).choice(len(rows), QUERIES, replace=False)
    bits = case.metric.startswith("bit_")
    take, d = (from_bytes, 8 * rows.shape[1]) if bits else (partial(np.asarray, dtype=np.float32), rows.shape[1])
    out = np.empty((QUERIES, len(rows)), np.float32)
    distances_between(take(rows[queries]), take(rows), form_of(metric_of(case.metric, None, d), d), out)
    out[np.arange(QUERIES), queries] = np.inf
    kth = np.sort(out, axis=1)[:, K - 1, None]
    found = np.take_along_axis(out, ids[queries].astype(np.int64), axis=1)
    return float(np.mean(found <= kth * (1 + 1e-6)))


def solve(builder: str, names: list[str]) -> None:
    """All cases by one builder in this process; prints CPU and wall seconds and recall of each as JSON."""
    count_all()
    said = {}
    for name in names:
        case = CASES[name]
        rows = rows_of(case)
        BUILDERS[builder](case, rows[:SMALL])
        before, start = sum(os.times()[:4]), time.perf_counter()
        ids = BUILDERS[builder](case, rows)
        cpu, wall = sum(os.times()[:4]) - before, time.perf_counter() - start
        said[name] = (cpu, wall, recall(case, rows, ids))
    print(json.dumps(said))


def row(name: str, pairs: list[tuple[Any, Any]]) -> list[str]:
    """A row of the table: medians of the runs, ratios of the pairs."""
    case, cells = CASES[name], []
    for side in (0, 1):
        cpu, wall, found = (statistics.median(pair[side][i] for pair in pairs) for i in range(3))
        cells += [f"{found:.4f}", f"{cpu:.2f}", f"{wall:.2f}"]
    ratios = sorted(pair[1][0] / pair[0][0] for pair in pairs)
    ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return [name, case.rows + ("" if case.n is None else f" {case.n:,}"), str(case.target), *cells, ratio]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("cases", nargs="*", default=[])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--solve", choices=BUILDERS, help="the cases in this process, by one builder")
    chosen = parser.parse_args()
    names = chosen.cases or list(CASES)
    if chosen.solve:
        solve(chosen.solve, names)
        return
    runs = [
        [run("benchmarks.metrics", *names, "--solve", builder).said for builder in BUILDERS] for _ in range(chosen.runs)
    ]
    figures = ("recall", "CPU s", "wall s")
    columns = ("metric", "rows", "target", *figures, *(f"PyNNDescent {one}" for one in figures), "CPU ratio")
    table = Table("metrics", *columns, note=f"{chosen.runs} pairs, in alternation; medians, and ranges of ratios.")
    for name in names:
        table.add(*row(name, [(ours[name], theirs[name]) for ours, theirs in runs]))


if __name__ == "__main__":
    main()
