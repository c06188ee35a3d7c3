"""Queries of rows never seen, as ann-benchmarks asks them: k = 10, one thread, recall against queries a second.

    python -m benchmarks.queries [mnist glove] [--peers distnnd pynndescent hnswlib faiss-hnsw] [--partitions P]

10,000 rows are held out of each set (of MNIST the last ones, its test digits; of GloVe random ones) and the rest is
indexed, everything on one thread. Each builder runs in a process of its own, after a small run that compiles what it
has to. An answer is right when it is as near as the tenth true one. --partitions: our index is cut into so many, and
opened one after the other, as if a worker could not hold all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import data, measure

K, HELD_OUT, RUNS = 10, 10_000, 3
FEW = 5000
ENOUGH = 0.998


class Split(NamedTuple):
    """Rows to index, rows to ask for, the squared distance of each one's tenth neighbour; unit rows under cosine."""

    points: np.ndarray
    queries: np.ndarray
    tenth: np.ndarray
    metric: str


def unit(rows: np.ndarray, metric: str) -> np.ndarray:
    """Rows whose euclidean neighbours are those of the metric, float32."""
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows


def split(name: str) -> Split:
    """The set, cut in two, with its answers, which are found once and kept."""
    task = data.task(name)
    rows = np.array(task.open())
    order = np.arange(len(rows))
    if name != "mnist":
        order = np.random.default_rng(0).permutation(len(rows))
    held, kept = np.sort(order[-HELD_OUT:]), np.sort(order[:-HELD_OUT])
    place = data.MADE / f"{name}-queries.gt.npz"
    if not place.exists():
        import faiss

        exact = faiss.IndexFlatL2(rows.shape[1])
        exact.add(unit(rows[kept], task.metric))
        data._save(place, ids=exact.search(unit(rows[held], task.metric), K)[1])
    made = Split(rows[kept], rows[held], np.empty(0), task.metric)
    tenth = squared(made, np.load(place)["ids"][:, K - 1 :])[:, 0]
    return made._replace(tenth=tenth)


def squared(sets: Split, ids: np.ndarray) -> np.ndarray:
    """Squared distances of queries and answers: float32[m, k], inf where there is none."""
    points, queries = unit(sets.points, sets.metric), unit(sets.queries, sets.metric)
    columns = [((queries - points[column]) ** 2).sum(axis=1) for column in ids.T]
    return np.where(ids >= 0, np.stack(columns, axis=1), np.inf)


def recall(sets: Split, ids: np.ndarray) -> float:
    """Share of answers as near as the tenth true one."""
    return float((squared(sets, ids) <= sets.tenth[:, None] * (1 + 1e-5) + 1e-6).mean())


Asker = Callable[[np.ndarray, Any], np.ndarray]


def distnnd(sets: Split, settings: dict[str, Any]) -> tuple[Asker, list[Any]]:
    """The graph, pruned and indexed, out of memory into a store."""
    import distnnd

    folder = tempfile.mkdtemp(prefix="queries-")
    options = {"n_neighbors": 15, "pruning_degree_multiplier": 2.0, **settings}
    degree, partitions = options.pop("pruning_degree_multiplier"), options.pop("partitions", 1)
    graph = distnnd.build(sets.points, f"{folder}/graph.zarr", metric=sets.metric, **options)
    index = distnnd.build_index(
        graph, f"{folder}/index.zarr", sets.points, pruning_degree_multiplier=degree, partitions=partitions
    )
    # A byte less than the whole takes, so that it is opened by partitions.
    limit = None if partitions == 1 else index.plan().need - 1

    def ask(queries: np.ndarray, epsilon: float) -> np.ndarray:
        return index.query(queries, K, epsilon, memory_limit=limit)[0]

    ask(sets.queries[:10], 0.1)
    return ask, [0, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2]


def pynndescent(sets: Split, settings: dict[str, Any]) -> tuple[Asker, list[Any]]:
    """NNDescent, prepared."""
    import pynndescent

    options = {"n_neighbors": 30, "n_jobs": 1, **settings}
    index = pynndescent.NNDescent(sets.points.astype(np.float32), metric=sets.metric, **options)
    index.prepare()
    index.query(sets.queries[:10].astype(np.float32), k=K)

    def ask(queries: np.ndarray, epsilon: float) -> np.ndarray:
        return index.query(queries.astype(np.float32), k=K, epsilon=epsilon)[0]

    return ask, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.36]


def hnswlib(sets: Split, settings: dict[str, Any]) -> tuple[Asker, list[Any]]:
    """HNSW of hnswlib."""
    import hnswlib

    points = unit(sets.points, sets.metric)
    index = hnswlib.Index("l2", points.shape[1])
    index.init_index(len(points), **{"M": 16, "ef_construction": 200, **settings})
    index.add_items(points, num_threads=1)

    def ask(queries: np.ndarray, ef: int) -> np.ndarray:
        index.set_ef(ef)
        return index.knn_query(unit(queries, sets.metric), K, num_threads=1)[0].astype(np.int64)

    return ask, [10, 20, 40, 80, 160, 320, 640, 1280]


def faiss_hnsw(sets: Split, settings: dict[str, Any]) -> tuple[Asker, list[Any]]:
    """HNSW of faiss."""
    import faiss

    points = unit(sets.points, sets.metric)
    index = faiss.IndexHNSWFlat(points.shape[1], settings.get("M", 16))
    index.hnsw.efConstruction = settings.get("ef_construction", 200)
    index.add(points)

    def ask(queries: np.ndarray, ef: int) -> np.ndarray:
        index.hnsw.efSearch = ef
        return index.search(unit(queries, sets.metric), K)[1]

    return ask, [10, 20, 40, 80, 160, 320, 640, 1280]


PEERS = {"distnnd": distnnd, "pynndescent": pynndescent, "hnswlib": hnswlib, "faiss-hnsw": faiss_hnsw}


def curve(peer: str, name: str, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Seconds to build, and for each width of the search its recall and queries a second, the best of some runs."""
    sets, make = split(name), PEERS[peer]
    few = sets._replace(points=sets.points[:FEW], queries=sets.queries[:100])
    ask, widths = make(few, settings)
    ask(few.queries, widths[0])
    start = time.perf_counter()
    ask, widths = make(sets, settings)
    built = time.perf_counter() - start
    for width in widths:
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            ids = ask(sets.queries, width)
            seconds.append(time.perf_counter() - start)
        found = recall(sets, ids)
        yield {"built": built, "width": width, "recall": found, "qps": len(ids) / min(seconds)}
        if found > ENOUGH:
            return


def main() -> None:
    """Run what is asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["mnist", "glove"])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        peer, name, settings = arguments.one
        print(json.dumps(list(curve(peer, name, json.loads(settings)))))
        return
    print(measure.machine(), "; one thread")
    one = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in arguments.names:
        split(name)
        for peer in arguments.peers:
            settings = {"partitions": arguments.partitions} if peer == "distnnd" else {}
            told = measure.run(
                "benchmarks.queries", "--one", peer, name, json.dumps(settings), environment=one, placed=False
            ).said
            print(f"{name:<7}{peer:<12} built in {told[0]['built']:.1f} s", flush=True)
            for point in told:
                print(f"{point['width']:>12} {point['recall']:>8.4f} {point['qps']:>10,.0f} queries/s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
