"""The kernels of sparse rows, for `python -m benchmarks.kernels`: adapters like those in benchmarks/kernel_cases.py."""

from __future__ import annotations

from functools import cache

import numpy as np

from distnnd.kernels import inverted, neighbours, sparse_rows
from distnnd.values.metric import METRICS
from distnnd.values.points import Csr, canonical, starts_of

from .kernel_data import SEED, WIDTH, Case, Make, Size, looped

WORDS, WORDS_A_ROW = 50_000, 10


@cache
def texts(n: int) -> Csr:
    """Rows of ten words each, drawn as often as words are in texts (Zipf 1935), weighted by how rare they are."""
    rng = np.random.default_rng(SEED)
    shares = 1 / (np.arange(WORDS) + 20.0)
    indices = rng.choice(WORDS, n * WORDS_A_ROW, p=shares / shares.sum())
    rarity = np.log(shares.sum() / shares)
    return canonical(Csr(starts_of(np.full(n, WORDS_A_ROW)), indices, rarity[indices], WORDS))


@cache
def prepared(n: int, metric: str) -> sparse_rows.SparseRows:
    """The rows as kernels compare them."""
    return sparse_rows.prepare_sparse(texts(n), METRICS[metric])


def nearest(size: Size, metric: str) -> Case:
    """All neighbours of all rows; a unit is a product that is added up."""
    rows, form = prepared(size.rows, metric), sparse_rows.sparse_form(METRICS[metric])

    def run(lists: neighbours.Lists) -> int:
        inverted.nearest_sparse(rows, rows, form, lists, True)
        return int(inverted.work(rows, rows))

    return Case("product", run, lambda: neighbours.empty(size.rows, WIDTH))


def by_column(size: Size) -> Case:
    """A block of rows by column."""
    rows, form = prepared(size.rows, "cosine"), sparse_rows.sparse_form(METRICS["cosine"])
    last = min(size.rows, inverted.BLOCK)

    def run(_: None) -> int:
        return int(inverted.block_of(rows, form, 0, last, WIDTH).starts[-1])

    return Case("entry", run)


@looped
def _measure(rows, form, ids, loops):
    total = 0.0
    for _ in range(loops):
        for row in range(ids.shape[0]):
            for slot in range(ids.shape[1]):
                total += sparse_rows.sparse_surrogate(rows, row, rows, ids[row, slot], form)
    return total


def surrogate(size: Size, metric: str) -> Case:
    """Canonical distances of rows that lie anywhere."""
    rows, form = prepared(size.rows, metric), sparse_rows.sparse_form(METRICS[metric])
    ids = np.random.default_rng(SEED).integers(0, size.rows, (size.rows, WIDTH)).astype(np.int32)

    def run(_: None) -> int:
        _measure(rows, form, ids, size.loops)
        return ids.size * size.loops

    return Case("pair", run)


def tidy(size: Size) -> Case:
    """Rows whose columns are in no order into canonical form."""
    points = texts(size.rows)
    order = np.random.default_rng(SEED).permutation(len(points.data))
    untidy = points._replace(indices=points.indices[order], data=points.data[order])

    def run(_: None) -> int:
        canonical(untidy)
        return len(order)

    return Case("entry", run)


SPARSE: dict[str, Make] = {
    "inverted.nearest cosine": lambda size: nearest(size, "cosine"),
    "inverted.nearest euclidean": lambda size: nearest(size, "euclidean"),
    "inverted.block": by_column,
    "sparse_rows.surrogate cosine": lambda size: surrogate(size, "cosine"),
    "sparse_rows.surrogate euclidean": lambda size: surrogate(size, "euclidean"),
    "points.canonical": tidy,
}
