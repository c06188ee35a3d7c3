"""`python -m benchmarks.sparse [--runs N]`: TF-IDF rows under cosine, distnnd and PyNNDescent in alternation.

Both on the rows of `tfidf_60k.npz` (see benchmarks/data.py): distnnd reads the file and writes its graph to disk within
the time, in one block and in eight (as a lack of memory would cut it); PyNNDescent is handed the matrix and keeps its
graph. Each run is a process of its own that builds a few rows first. Writes benchmarks/results/sparse.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from distnnd.storage.held import forget_peak, peak_memory

from .data import REAL, K
from .measure import Built, built, median, ratio, run
from .one import cpu_of_all
from .placement import count_all
from .table import Table, mib

POINTS, ANSWERS = REAL / "tfidf_60k.npz", REAL / "tfidf_60k.gt.npz"
SAMPLE = 3000
BLOCK = 8192
COLUMNS = ("builder", "blocks", "recall", "CPU s", "wall s", "peak MiB", "CPU ratio", "wall ratio")


def distnnd_in(rows: int | None, points: Path, place: Path) -> np.ndarray:
    """The ids that a build from a file finds; rows: of a block, where it is not for the plan to say."""
    import distnnd
    from distnnd import sources

    planner = sources.plan_sparse

    def cut(spec: Any, extent: Any, workers: Any) -> Any:
        plan = planner(spec, extent, workers)
        blocks = -(-extent.n // rows)
        layout = replace(plan.layout, block_rows=rows, partitions=blocks, block_entries=extent.sparsity.most(rows))
        return replace(plan, layout=layout)

    if rows is not None:
        sources.plan_sparse = cut
    return np.asarray(distnnd.build(points, place, K, metric="cosine").indices[:])


def pynndescent(points: Path, place: Path) -> np.ndarray:
    """The ids that NNDescent finds; n_neighbors=16 is 15 neighbours and the row itself."""
    import pynndescent

    matrix = sparse.load_npz(points)
    return pynndescent.NNDescent(matrix, metric="cosine", n_neighbors=K + 1).neighbor_graph[0][:, 1:]


BUILDERS: dict[str, Callable[[Path, Path], np.ndarray]] = {
    "distnnd": partial(distnnd_in, None),
    "distnnd in blocks": partial(distnnd_in, BLOCK),
    "PyNNDescent": pynndescent,
}

BLOCKS = {"distnnd": "1", "distnnd in blocks": "8", "PyNNDescent": ""}


def one(builder: str) -> None:
    """Build a sample, then everything, and say as JSON what it took and how good it is."""
    count_all()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        start = time.perf_counter()
        sample = Path(folder, "sample.npz")
        sparse.save_npz(sample, sparse.load_npz(POINTS)[:SAMPLE])
        BUILDERS[builder](sample, Path(folder, "small"))
        startup = time.perf_counter() - start
        forget_peak()
        before, start = cpu_of_all(), time.perf_counter()
        ids = BUILDERS[builder](POINTS, Path(folder, "graph"))
        cpu, wall = cpu_of_all() - before, time.perf_counter() - start
        figures = {"cpu": cpu, "wall": wall, "peak": peak_memory(), "startup": startup}
    print(json.dumps(figures | {"recall": recall(ids)}))


def recall(ids: np.ndarray) -> float:
    """Share of the true neighbours that lists hold: those as near as the k-th true one count, once each."""
    known, matrix = np.load(ANSWERS), sparse.load_npz(POINTS).astype(np.float64)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    unit = sparse.diags(1 / norms) @ matrix
    right = 0
    for query, distances in zip(known["query_ids"], known["distances"], strict=True):
        found = np.unique(ids[query, :K])
        found = found[(found >= 0) & (found != query)]
        near = 1 - (unit[found] @ unit[query].T).toarray().ravel()
        right += int((near <= distances[K - 1] + 1e-6).sum())
    return right / (K * len(known["query_ids"]))


def build(builder: str) -> Built:
    """One run of one builder in a process of its own."""
    return built(run("benchmarks.sparse", "--one", builder).said)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", choices=list(BUILDERS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one)
        return
    note = f"{chosen.runs} runs of each, in alternation; medians, and ranges of the ratios of PyNNDescent to distnnd."
    table = Table("sparse", *COLUMNS, note=note)
    runs = [{name: build(name) for name in BUILDERS} for _ in range(chosen.runs)]
    for name, blocks in BLOCKS.items():
        figures = median([one[name] for one in runs])
        pairs = [(one[name], one["PyNNDescent"]) for one in runs]
        ratios = [str(ratio(pairs, what)) if blocks else "" for what in ("cpu", "wall")]
        cells = [f"{figures.recall:.4f}", f"{figures.cpu:.2f}", f"{figures.wall:.2f}", mib(figures.peak)]
        table.add(name, blocks, *cells, *ratios)


if __name__ == "__main__":
    main()
