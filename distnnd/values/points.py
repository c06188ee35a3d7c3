"""Sparse points as a value: rows of which only the entries that are not zero are held, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Csr(NamedTuple):
    """Sparse rows: entry e of row i, indptr[i] <= e < indptr[i + 1], holds data[e] in column indices[e].

    indptr: int64[m + 1], from 0; indices: int32[nnz]; data: float32[nnz]; columns: how many a row has. In canonical
    form, which is what sources give and kernels take, the columns of a row ascend, none twice, and no entry is zero.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: NDArray[np.float32]
    columns: int

    @property
    def rows(self) -> int:
        """How many rows there are; `len` of a tuple counts its fields."""
        return len(self.indptr) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.indptr.nbytes + self.indices.nbytes + self.data.nbytes

    def between(self, first: int, last: int) -> Csr:
        """Rows first .. last; their entries are views of these."""
        start, stop = self.indptr[first], self.indptr[last]
        return self._replace(
            indptr=self.indptr[first : last + 1] - start, indices=self.indices[start:stop], data=self.data[start:stop]
        )

    def take(self, rows: NDArray[np.integer]) -> Csr:
        """The rows of those numbers, in that order, each as often as it is named."""
        rows = np.asarray(rows)
        lengths = np.diff(self.indptr)[rows]
        indptr = starts_of(lengths)
        # From entry to entry of the result the place in the source moves on by one, save where a row begins.
        places = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][rows] - indptr[:-1], lengths)
        return self._replace(indptr=indptr, indices=self.indices[places], data=self.data[places])


def rows_in(points: NDArray[Any] | Csr) -> int:
    """How many rows there are, dense or sparse; `len` of a tuple counts its fields."""
    return points.rows if isinstance(points, Csr) else len(points)


def starts_of(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where each of consecutive pieces begins, and where the last one ends: int64[pieces + 1]."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def row_of_entries(indptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each entry: int64[nnz]."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def together(parts: Sequence[Csr]) -> Csr:
    """The rows of several parts of equally many columns, one after the other."""
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    indices = np.concatenate([part.indices for part in parts])
    return Csr(starts_of(lengths), indices, np.concatenate([part.data for part in parts]), parts[0].columns)


def canonical(points: Csr, dtype: DTypeLike = np.float32) -> Csr:
    """The same rows in canonical form: columns ascend, duplicates are summed, explicit zeros dropped.

    `points` may hold indices of any integer dtype that fit int32, and data of any real dtype; duplicates are summed in
    float64 before they are rounded to `dtype`. What is canonical already is not copied where its types are right.
    """
    indices = np.ascontiguousarray(points.indices, np.int32)
    if not _ascends(points.indptr, indices):
        rows = row_of_entries(points.indptr)
        # Stable, so that duplicates are summed in the order in which they were written.
        order = np.argsort(rows * points.columns + indices, kind="stable")
        rows, indices = rows[order], indices[order]
        first = np.append(True, (rows[1:] != rows[:-1]) | (indices[1:] != indices[:-1]))
        data = np.add.reduceat(points.data[order].astype(np.float64), np.flatnonzero(first))
        lengths = np.bincount(rows[first], minlength=points.rows)
        points = Csr(starts_of(lengths), indices[first], data, points.columns)
        indices = points.indices
    with np.errstate(over="ignore", under="ignore"):
        values: NDArray[Any] = np.ascontiguousarray(points.data, dtype)
    indptr = np.ascontiguousarray(points.indptr, np.int64)
    kept = values != 0
    if kept.all():
        return Csr(indptr, indices, values, points.columns)
    before = starts_of(kept)
    return Csr(before[indptr], indices[kept], values[kept], points.columns)


def _ascends(indptr: NDArray[np.int64], indices: NDArray[np.int32]) -> bool:
    """Whether the columns of each row ascend, none twice."""
    rising = indices[1:] > indices[:-1]
    borders = indptr[1:-1]
    rising[borders[(borders > 0) & (borders < len(indices))] - 1] = True
    return bool(rising.all())
