"""`python -m benchmarks.index_scale [part of a name ...] [--rows N]`: indexes of points and queries of uneven scale.

Recall of the ten nearest of new queries, in float64. Ours is shown as it is asked by default, beside what the index
says of itself, and then with hnswlib (M=16, ef_construction=200) where both look at the nearest `ef` rows. Recall alone
is measured, no time. Writes benchmarks/results/index_scale.md.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import distnnd

from .table import Table

QUERIES, K, EFS = 300, 10, (60, 200)
COLUMNS = (
    "set",
    "metric",
    "compares",
    "ours by default",
    "as stored",
    *(f"{who}, ef={ef}" for ef in EFS for who in ("ours", "hnswlib")),
)
# In a table each row is asked for so many at a time: all distances of these are held.
AT_ONCE = 100


class Uneven(NamedTuple):
    """Points and queries, float32."""

    points: np.ndarray
    queries: np.ndarray
    metric: str = "euclidean"


def normal(rng: np.random.Generator, n: int, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Points and queries of one normal distribution."""
    return rng.normal(size=(n, d)), rng.normal(size=(QUERIES, d))


def as_drawn(draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray], d: int) -> Callable[..., Uneven]:
    """Points and queries by one function of a generator and a shape."""
    return lambda rng, n: Uneven(draw(rng, (n, d)), draw(rng, (QUERIES, d)))


def moved(scale: float = 1, offset: float = 0) -> Callable[..., Uneven]:
    """Normal rows, all at an offset, and queries so many times as far out."""

    def make(rng: np.random.Generator, n: int) -> Uneven:
        points, queries = normal(rng, n)
        return Uneven(points + offset, queries * scale + offset)

    return make


def pulled_out(share: float, times: float) -> Callable[..., Uneven]:
    """Normal rows, of which a share lies so many times as far out; at least one."""

    def make(rng: np.random.Generator, n: int) -> Uneven:
        points, queries = normal(rng, n)
        points[: max(round(share * n), 1)] *= times
        return Uneven(points[rng.permutation(n)], queries)

    return make


def apart(clusters: int, gap: float) -> Callable[..., Uneven]:
    """Normal rows around centres that are so many of their widths apart."""

    def make(rng: np.random.Generator, n: int) -> Uneven:
        points, queries = normal(rng, n)
        centres = gap * rng.normal(size=(clusters, 16))
        return Uneven(*(part + centres[rng.integers(0, clusters, len(part))] for part in (points, queries)))

    return make


def columns(rng: np.random.Generator, n: int) -> Uneven:
    """Columns of very different scales."""
    return Uneven(*(part * np.logspace(0, 4, 16) for part in normal(rng, n)))


def products(kind: str) -> Callable[..., Uneven]:
    """Sets for inner products."""

    def make(rng: np.random.Generator, n: int) -> Uneven:
        points, queries = normal(rng, n, 32)
        if kind == "short":
            queries *= 1e-4
        elif kind == "long items":
            points *= 500 / np.linalg.norm(points, axis=1, keepdims=True)
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        elif kind == "negative":
            points, queries = np.abs(points), -np.abs(queries)
        elif kind == "power law":
            points *= rng.pareto(1.5, (n, 1))
        return Uneven(points, queries, "inner_product")

    return make


SETS: dict[str, Callable[..., Uneven]] = {
    "normal, 16 columns": moved(),
    "queries 3 times as far out": moved(3),
    "queries 10 times as far out": moved(10),
    "queries 100 times as far out": moved(100),
    "queries 10,000 times as far out": moved(1e4),
    "all offset by 1,000": moved(offset=1000),
    "one row 1e6 away": pulled_out(0, 1e6),
    "1.2 % of rows 100 times as far out": pulled_out(0.012, 100),
    "1.2 % of rows 10,000 times as far out": pulled_out(0.012, 1e4),
    "columns of scales 1 to 10,000": columns,
    "Student t, 1.5 degrees": as_drawn(lambda rng, shape: rng.standard_t(1.5, shape), 16),
    "lognormal(2), 20 columns": as_drawn(lambda rng, shape: np.exp(2 * rng.normal(size=shape)), 20),
    "gamma(0.1), 30 columns": as_drawn(lambda rng, shape: rng.gamma(0.1, 1000, shape), 30),
    "20 clusters, 1,000 widths apart": apart(20, 1000),
    "2 clusters, 1e5 widths apart": apart(2, 1e5),
    "uniform, 3 columns": as_drawn(lambda rng, shape: rng.random(shape), 3),
    "products: normal": products("normal"),
    "products: queries of norm 1e-4": products("short"),
    "products: unit queries, items of norm 500": products("long items"),
    "products: power-law norms": products("power law"),
    "products: only negative scores": products("negative"),
}


def recall(sets: Uneven, ids: np.ndarray) -> float:
    """Share of answers as near as the tenth true one, in float64."""
    points, hits = sets.points.astype(np.float64), []
    for first in range(0, len(ids), AT_ONCE):
        found, queries = ids[first : first + AT_ONCE], sets.queries[first : first + AT_ONCE].astype(np.float64)
        if sets.metric == "inner_product":
            far = -(queries @ points.T)
        else:
            far = np.stack([((points - query) ** 2).sum(axis=1) for query in queries])
        tenth = np.partition(far, K - 1, axis=1)[:, K - 1 :][:, :1]
        hits.append((np.take_along_axis(far, found, axis=1) <= tenth + abs(tenth) * 2e-6) & (found >= 0))
    return float(np.concatenate(hits).mean())


def by_hnswlib(sets: Uneven) -> list[float]:
    """Recall of hnswlib for each ef."""
    import hnswlib

    index = hnswlib.Index("ip" if sets.metric == "inner_product" else "l2", sets.points.shape[1])
    index.init_index(len(sets.points), M=16, ef_construction=200, random_seed=1)
    index.add_items(sets.points, num_threads=1)
    recalls = []
    for ef in EFS:
        index.set_ef(ef)
        recalls.append(recall(sets, index.knn_query(sets.queries, K, num_threads=1)[0].astype(np.int64)))
    return recalls


def ours(sets: Uneven) -> tuple[distnnd.Index, list[float]]:
    """An index of the set, with its recall by default and for each ef."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = distnnd.build(sets.points, f"{folder}/graph", n_neighbors=15, metric=sets.metric)
        index = distnnd.build_index(graph, f"{folder}/index", sets.points)
        asked = [index.query(sets.queries, K, **how)[0] for how in ({}, *({"ef": ef} for ef in EFS))]
    return index, [recall(sets, ids) for ids in asked]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_scale", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rows", type=int, default=8000)
    chosen = parser.parse_args(arguments)
    note = f"{chosen.rows:,} rows and {QUERIES} queries; graphs of 15 neighbours; hnswlib of M=16, ef_construction=200."
    table = Table("index_scale", *COLUMNS, note=note)
    for number, (name, make) in enumerate(SETS.items()):
        if chosen.names and not any(part in name for part in chosen.names):
            continue
        points, queries, metric = make(np.random.default_rng(number), chosen.rows)
        sets = Uneven(points.astype(np.float32), queries.astype(np.float32), metric)
        index, (default, *mine) = ours(sets)
        told, pairs = index.recall, zip(mine, by_hnswlib(sets), strict=True)
        stored = "" if told is None else f"{told.estimate:.3f} ({told.low:.3f} to {told.high:.3f})"
        table.add(
            name,
            metric,
            index.info()["compares"],
            f"{default:.3f}",
            stored,
            *(f"{one:.3f}" for pair in pairs for one in pair),
        )


if __name__ == "__main__":
    main()
