"""What `python -m benchmarks.kernels distances` measures: a pair of rows by metrics of each kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from distnnd.kernels.bit_distances import pack
from distnnd.kernels.distances import distances_between
from distnnd.kernels.forms import form_of
from distnnd.kernels.sparse_distances import SparseRows
from distnnd.values.metric import metric_of

# A row, its others and their distances stay in the nearest cache.
QUERIES, OTHERS = 20, 40


def numbers(d: int, filled: float) -> np.ndarray:
    """Rows of which that share of columns is not zero: float32[OTHERS, d]."""
    rng = np.random.default_rng(d)
    return (rng.random((OTHERS, d)) * (rng.random((OTHERS, d)) < filled)).astype(np.float32)


def sparse_numbers(d: int, filled: float) -> SparseRows:
    """The same, sparse."""
    rows = numbers(d, filled)
    starts = np.concatenate([[0], np.cumsum((rows != 0).sum(axis=1))])
    return SparseRows(starts, np.nonzero(rows)[1].astype(np.int32), rows[rows != 0])


def pairs(name: str, make_rows: Callable[[], Any], d: int, loops: int) -> Callable[[Any], int]:
    """All pairs of some rows and all, `loops` times; returns what counts them."""
    rows, form = make_rows(), form_of(metric_of(name, PARAMS.get(name)), d)
    out = np.empty((QUERIES, OTHERS), np.float32)

    def run(_: Any) -> int:
        for _ in range(loops):
            distances_between(rows, rows, form, out)
        return loops * out.size

    return run


COST = np.abs(np.subtract.outer(np.arange(16.0), np.arange(16.0)))
PARAMS: dict[str, dict[str, Any]] = {"minkowski": {"p": 3}, "kantorovich": {"cost": COST}, "sinkhorn": {"cost": COST}}
# (name of the metric, what the rows are, columns).
KINDS = {
    "manhattan d=784": ("manhattan", partial(numbers, 784, 1), 784),
    "canberra d=784": ("canberra", partial(numbers, 784, 1), 784),
    "jensen_shannon d=784": ("jensen_shannon", partial(numbers, 784, 1), 784),
    "minkowski p=3 d=784": ("minkowski", partial(numbers, 784, 1), 784),
    "symmetric_kl d=784": ("symmetric_kl", partial(numbers, 784, 1), 784),
    "wasserstein_1d d=784": ("wasserstein_1d", partial(numbers, 784, 1), 784),
    "circular_kantorovich d=784": ("circular_kantorovich", partial(numbers, 784, 1), 784),
    "kantorovich d=16": ("kantorovich", partial(numbers, 16, 0.6), 16),
    "sinkhorn d=16": ("sinkhorn", partial(numbers, 16, 0.6), 16),
    "jaccard of bits d=784": ("jaccard", lambda: pack(numbers(784, 0.2)), 784),
    "cosine of 100 in 10,000": ("cosine", partial(sparse_numbers, 10_000, 0.01), 10_000),
}
