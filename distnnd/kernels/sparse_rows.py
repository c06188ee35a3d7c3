"""Sparse rows as the kernels hold them, prepared once for the metric, and the canonical surrogate of two of them.

The numbers of a row stay as they came, and squares and products are summed in float64 in the order of the columns. So a
pair gets the same number in whichever partition it meets, two equal rows are at distance 0, and rows without a common
column are at cosine distance 1, to the last bit: rows that were rounded to unit length would be near to that only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..values.metric import Metric
from ..values.points import Csr, starts_of
from .jit import kernel

STEP = 2.0**-53  # by so much a float64 near one may be rounded


class SparseRows(NamedTuple):
    """Rows in canonical form with their squares.

    indptr: int64[m + 1]; indices: int32[nnz]; data: float32[nnz]; squares: float64[m]; columns: how many there are.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    squares: np.ndarray
    columns: int


class SparseForm(NamedTuple):
    """How sparse rows are compared, as truths that a kernel can take.

    unit: the surrogate is the squared distance of the rows at unit length, 2 - 2 cos; else euclidean: their squared
    distance; else the negated inner product.
    """

    unit: bool
    euclidean: bool


def sparse_form(metric: Metric) -> SparseForm:
    """The form of a metric."""
    return SparseForm(metric.unit, metric.euclidean)


def prepare_sparse(points: Csr, metric: Metric) -> SparseRows:
    """Rows in canonical form as kernels compare them; raw arrays are kept where nothing has to be added.

    Under unit metrics a zero row gets one entry, in a column of its own behind the others, so that it is at cosine
    distance 1 from every other row and at 0 from another zero row.
    """
    indptr, indices, data, columns = points
    lengths = np.diff(indptr)
    if metric.unit:
        empty = np.flatnonzero(lengths == 0)
        indices = np.insert(indices, indptr[empty], np.int32(columns)) if len(empty) else indices
        data = np.insert(data, indptr[empty], np.float32(1)) if len(empty) else data
        indptr, columns = starts_of(np.maximum(lengths, 1)), columns + 1
    return SparseRows(indptr, indices, data, sums_of_squares(indptr, data), columns)


@kernel
def sums_of_squares(indptr, data):
    """The square of each row, summed in float64 entry by entry: float64[m]."""
    squares = np.zeros(indptr.size - 1)
    for row in range(squares.size):
        for entry in range(indptr[row], indptr[row + 1]):
            squares[row] += np.float64(data[entry]) * np.float64(data[entry])
    return squares


@kernel
def sparse_product(rows, i, others, j):
    """The inner product of row i of `rows` and row j of `others`, float64, summed column by column."""
    a, b = rows.indptr[i], others.indptr[j]
    a_end, b_end = rows.indptr[i + 1], others.indptr[j + 1]
    total = 0.0
    while a < a_end and b < b_end:
        left, right = rows.indices[a], others.indices[b]
        if left == right:
            total += np.float64(rows.data[a]) * np.float64(others.data[b])
        a += left <= right
        b += right <= left
    return total


@kernel
def sparse_gap(rows, i, others, j):
    """The squared euclidean distance of two rows, float64, summed column by column: near rows do not cancel out."""
    a, b = rows.indptr[i], others.indptr[j]
    a_end, b_end = rows.indptr[i + 1], others.indptr[j + 1]
    total = 0.0
    while a < a_end or b < b_end:
        left = rows.indices[a] if a < a_end else np.int32(2**31 - 1)
        right = others.indices[b] if b < b_end else np.int32(2**31 - 1)
        gap = 0.0
        if left <= right:
            gap += np.float64(rows.data[a])
            a += 1
        if right <= left:
            gap -= np.float64(others.data[b])
            b += 1
        total += gap * gap
    return total


@kernel
def sparse_surrogate(rows, i, others, j, form):
    """The canonical surrogate of row i of `rows` and row j of `others`, float32: the same wherever it is computed."""
    if form.unit:
        cosine = sparse_product(rows, i, others, j) / np.sqrt(rows.squares[i] * others.squares[j])
        # What is less than sums of so many products may be off is nothing: equal rows are at distance 0.
        entries = rows.indptr[i + 1] - rows.indptr[i] + others.indptr[j + 1] - others.indptr[j]
        return np.float32(2.0 - 2.0 * cosine if 1.0 - cosine > (entries + 8) * STEP else 0.0)
    if form.euclidean:
        return np.float32(sparse_gap(rows, i, others, j))
    return np.float32(-sparse_product(rows, i, others, j))
