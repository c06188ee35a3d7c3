"""The kernels of sparse rows, for `python -m benchmarks.kernels`: adapters like those in benchmarks/kernel_cases.py."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from distnnd.kernels import distances, forms, inverted, neighbours, shared_columns, sparse_distances
from distnnd.values.metric import metric_of
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


def form_for(metric: str) -> Any:
    """The metric as kernels take it."""
    return forms.form_of(metric_of(metric), WORDS)


def nearest(size: Size, metric: str) -> Case:
    """All neighbours of all rows; a unit is an entry that is gone through."""
    form = form_for(metric)
    looking = inverted.looking_side(texts(size.rows), form, 0)
    standing = inverted.standing_side(texts(size.rows), form, 0)

    def run(lists: neighbours.Lists) -> int:
        inverted.nearest_sparse(looking, standing, form, lists)
        return int(inverted.work_by_row(looking.weighted, standing.weighted).sum())

    return Case("entry", run, lambda: neighbours.empty(size.rows, WIDTH, np.int64))


def by_column(size: Size) -> Case:
    """A block of rows by column."""
    rows = shared_columns.weigh(texts(size.rows), form_for("cosine"))
    last = min(size.rows, inverted.BLOCK)

    def run(_: None) -> int:
        return int(inverted.block_of(rows, 0, last, WIDTH).starts[-1])

    return Case("entry", run)


@looped
def _measure(rows, form, ids, loops):
    total = 0.0
    for _ in range(loops):
        for row in range(ids.shape[0]):
            for slot in range(ids.shape[1]):
                total += distances.distance(rows, row, rows, ids[row, slot], form)
    return total


def distance(size: Size, metric: str) -> Case:
    """Canonical distances of rows that lie anywhere."""
    rows, form = sparse_distances.listed(texts(size.rows)), form_for(metric)
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
    "inverted.nearest jaccard": lambda size: nearest(size, "jaccard"),
    "sparse.distance cosine": lambda size: distance(size, "cosine"),
    "sparse.distance euclidean": lambda size: distance(size, "euclidean"),
    "points.canonical": tidy,
}
