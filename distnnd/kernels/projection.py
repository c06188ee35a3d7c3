"""Narrower codes for wide rows: their coordinates in the subspace that holds nearly all of their variance.

The subspace is found on a sample by subspace iteration from random directions (Halko, Martinsson and Tropp 2011,
algorithm 4.4), and turned at random within itself, so that all coordinates vary alike and one step serves all of them.
A projection only brings rows together: estimates may let in too much, but not too little.
"""

from __future__ import annotations

import numpy as np

from .codes import Coder, Rows, add_up, peak_of
from .jit import kernel
from .lanes import LANES
from .leaves import QUERIES
from .products import COLUMNS, multiply, pack, room_for

# Wider rows than this may be narrowed, to so many columns at most, if there are enough of them to repay the search.
WIDE, MOST = 256, 256
WORTH_IT = 16384
LOOKED_AT = 1024
ITERATIONS = 1
# Share of the variance that may be lost.
LOST = 0.02
# The largest code stands for so many standard deviations of a coordinate; what lies beyond is cut off.
REACH = 5.0


def narrower(rows: Rows, coder: Coder, seed: int) -> tuple[Rows, Coder] | None:
    """The same rows with narrower codes, and the coder that says what they are worth; None where it does not pay.

    rows, coder: coded for squared euclidean distances.
    """
    m, width = rows.values.shape
    if width <= WIDE or m < WORTH_IT or coder.cuts or rows.values.dtype != np.int8:
        return None
    rng = np.random.default_rng(seed)
    sample = rows.values[:: m // LOOKED_AT].astype(np.float32)
    mean = sample.mean(axis=0)
    sample -= mean
    axes = principal_axes(sample, rng)
    return None if axes is None else project(rows, coder, axes, mean, sample)


def principal_axes(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Orthonormal axes float32[w, r] of the narrowest subspace that loses little variance, turned at random.

    sample: float32[s, w], of mean zero. None where no subspace of at most half the columns does.
    """
    width = sample.shape[1]
    most = min(MOST, width // 2 // COLUMNS * COLUMNS)
    basis = rng.standard_normal((width, most), np.float32)
    for _ in range(ITERATIONS):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    inner = sample @ basis
    values, vectors = np.linalg.eigh(inner.T @ inner)
    total = float(np.einsum("ij,ij->", sample, sample))
    if total == 0:
        return None
    kept = np.cumsum(values[::-1]) / total
    count = -(-(int(np.searchsorted(kept, 1 - LOST)) + 1) // COLUMNS) * COLUMNS
    if count > most:
        return None
    axes = basis @ vectors[:, ::-1][:, :count]
    # An eigenvector is one up to its sign, which libraries choose as they like.
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), np.arange(count)] < 0, np.float32(-1), np.float32(1))
    turn, _ = np.linalg.qr(rng.standard_normal((count, count), np.float32))
    return axes @ turn


def project(rows: Rows, coder: Coder, axes: np.ndarray, mean: np.ndarray, sample: np.ndarray) -> tuple[Rows, Coder]:
    """The rows with codes of their coordinates along `axes`, float32[w, r], around `mean`, float32[w], of their codes.

    sample: float32[s, w], some of the codes around their mean. One unit of the new codes stands for as much more as
    the projection loses on the whole, so that estimates are right in the middle.
    """
    m, count = len(rows.values), axes.shape[1]
    peak = peak_of(count)
    scale = 127 / np.abs(axes).max()
    directions = np.ascontiguousarray(np.rint(axes.T * scale).astype(np.int8))
    middle = np.rint(directions @ mean.astype(np.float64)).astype(np.int32)
    inside = sample @ directions.T.astype(np.float32)
    kept = float(np.mean(inside**2) * count / scale**2 / np.mean(np.einsum("ij,ij->i", sample, sample)))
    # A coordinate's standard deviation in products of codes; all vary alike.
    step = max(REACH * float(np.sqrt(np.mean(inside**2))) / peak, 1.0)
    values = np.empty((m, count), np.int8)
    along(rows.values, rows.starts, directions, middle, np.float32(1 / step), np.float32(peak), values)
    squares, starts = np.empty(m, np.int32), np.empty(m, np.int32)
    add_up(values, squares, starts)
    unit = float(coder.step * step / scale / kept**0.5)
    narrow = Coder(np.zeros(count, np.float32), unit, exact=False, cuts=False)
    return Rows(rows.points, values, squares, starts), narrow


@kernel
def along(codes, starts, directions, middle, inverse, peak, values):
    """values[i, j] = (codes[i] . directions[j] - middle[j]) * inverse, rounded, no larger than `peak`.

    codes: int8[m, w]; starts: int32[m], as in Rows; directions: int8[r, w]; middle: int32[r]; values: int8[m, r], r a
    multiple of sixteen.
    """
    width, count = codes.shape[1], directions.shape[0]
    packed = np.empty(count * room_for(width), np.int8)
    pack(directions, np.arange(count).astype(np.int32), 0, count, packed)
    block, begin = np.zeros(QUERIES * width, np.int8), np.zeros(QUERIES, np.int32)
    products = np.empty((QUERIES, count), np.int32)
    for first in range(0, codes.shape[0], QUERIES):
        rows = min(QUERIES, codes.shape[0] - first)
        for i in range(rows):
            begin[i] = starts[first + i]
            for column in range(width):
                block[i * width + column] = codes[first + i, column]
        multiply(block, width, 0, rows, begin, packed, 0, count // LANES, products)
        for i in range(rows):
            for j in range(count):
                value = np.float32(products[i, j] - middle[j]) * inverse
                value = min(max(value, -peak), peak)
                values[first + i, j] = np.int32(value + np.float32(128.5)) - 128
