"""Which rows became equal by rounding, told by hashes of the rows before and after.

A hash of a row is a sum of its numbers' bits, each times an odd number of its column, mixed at the end (multiply-shift
hashing, Dietzfelbinger et al. 1997). Rows are sampled by the hash of what they became, so that rows that became equal
are in the sample together.
"""

from __future__ import annotations

import numpy as np

from ..values.points import Csr

_SEED = 0x5EED
_MIX = np.uint64(0x9E3779B97F4A7C15)


def hashes(rows: np.ndarray | Csr) -> np.ndarray:
    """A hash of each row, uint64[m]; rows: numbers[m, d], or sparse rows in canonical form."""
    if isinstance(rows, Csr):
        each = _bits(rows.data) * _odd_numbers(rows.columns)[rows.indices]
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(each, dtype=np.uint64)])
        return _mixed(sums[rows.indptr[1:]] - sums[rows.indptr[:-1]])
    return _mixed(_bits(rows) @ _odd_numbers(rows.shape[1]))


def count_made_equal(before: np.ndarray, after: np.ndarray) -> int:
    """How many rows are equal after rounding to a row that they differed from before; uint64[m], hashes of both."""
    order = np.lexsort((before, after))
    before, after = before[order], after[order]
    starts = np.flatnonzero(np.append(True, after[1:] != after[:-1]))
    different = np.append(True, (before[1:] != before[:-1]) | (after[1:] != after[:-1]))
    kinds, sizes = np.add.reduceat(different.astype(np.int64), starts), np.diff(starts, append=len(after))
    return int(sizes[kinds > 1].sum())


def _bits(numbers: np.ndarray) -> np.ndarray:
    """Bits that are equal where numbers are: -0.0 equals 0.0. Whole numbers beyond float64 are told apart too."""
    if numbers.dtype.kind in "iu":
        return numbers.astype(np.uint64)
    return (numbers.astype(np.float64) + 0.0).view(np.uint64)


def _odd_numbers(columns: int) -> np.ndarray:
    return np.random.default_rng(_SEED).integers(0, 2**63, columns, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _mixed(sums: np.ndarray) -> np.ndarray:
    sums = (sums ^ (sums >> np.uint64(32))) * _MIX
    return sums ^ (sums >> np.uint64(29))
