"""Narrower codes for wide rows: their coordinates in the subspace that holds most of their variance.

The subspace is found on a sample by subspace iteration from random directions (Halko, Martinsson and Tropp 2011,
algorithm 4.4), and turned at random within itself, so that all coordinates vary alike and one step serves all of them.
A projection only brings rows together: estimates may let in too much, but not too little.

The libraries that find the axes round otherwise on other processors. So axes are a subspace's own, whatever basis of it
was found, in float64, and what is kept of them is rounded to few digits; all else is sums of whole numbers.

Two uses: by `narrower` codes wide rows are compared as they would be by their own; by `guiding` ones, of a few columns,
rows only find the pivots near them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..values.memory import NARROW, NARROWED_WIDTH
from ..values.partitioning import GUIDED_WIDTH
from .codes import Coder, Encoded, Rows, add_up, peak_of, routing_form
from .jit import kernel
from .lanes import LANES
from .leaves import QUERIES
from .products import COLUMNS, multiply, pack, packed_size
from .rows import WORD
from .scratch import on_lines
from .signposts import nearest_of, rows_at

# So many rows repay the search for a subspace.
WORTH_IT = 16384
LOOKED_AT = 1024
ITERATIONS = 1
# Share of the variance that may be lost.
LOST = 0.02
# Wide rows (GUIDED_WIDTH) may find pivots by so many columns. Of the NEAREST of so many others that their own codes
# say, these must say that share.
GUIDING = 32
ASKING, OTHERS, NEAREST, AGREED = 256, 2048, 4, 0.6
# The largest code stands for so many standard deviations of a coordinate; what lies beyond is cut off.
REACH = 5.0
# Directions in which rows vary so much less than along the first axis are what rounding left of none.
NONE = 1e-12


class Projection(NamedTuple):
    """Where rows lie along a few axes. directions: int8[r, w], about the axes; start: int32[r], where the middle lies.

    step: products of codes that one unit of a coordinate stands for; coder: what the new codes are worth.
    """

    directions: np.ndarray
    start: np.ndarray
    step: float
    coder: Coder


def narrower(rows: Rows, coder: Coder, seed: int) -> Encoded | None:
    """The same rows with narrower codes, and the coder that says what they are worth; None where it does not pay.

    rows, coder: coded for squared euclidean distances.
    """
    found = narrow_of(rows, coder, seed) if len(rows.values) >= WORTH_IT else None
    return (project(rows, found), found.coder) if found else None


def narrow_of(rows: Rows, coder: Coder, seed: int) -> Projection | None:
    """The projection that gives rows like these narrower codes; None where half of the columns would lose too much.

    rows, coder: coded for squared euclidean distances.
    """
    width = told_columns(rows)
    if width <= NARROWED_WIDTH or not projectable(rows, coder):
        return None
    rng = np.random.default_rng(seed)
    middle, sample = sampled(rows)
    most = min(NARROW, width // 2 // COLUMNS * COLUMNS)
    axes, kept = leading_axes(sample, most, rng)
    # A multiple of what is packed at a time.
    count = -(-(int(np.searchsorted(kept, 1 - LOST)) + 1) // COLUMNS) * COLUMNS
    return None if count > most else projection_of(coder, turned(axes[:, :count], rng), middle, sample)


def guiding(rows: Rows, coder: Coder, seed: int) -> Encoded | None:
    """The same rows with codes by which they find near pivots in less time; None where too few would be the same.

    rows, coder: coded for squared euclidean distances.
    """
    found = guide_of(rows, coder, seed) if len(rows.values) >= WORTH_IT else None
    return (project(rows, found), found.coder) if found else None


def guide_of(rows: Rows, coder: Coder, seed: int) -> Projection | None:
    """The projection by which rows like these find near pivots in less time; None where too few would be the same.

    rows, coder: coded for squared euclidean distances.
    """
    if told_columns(rows) < GUIDED_WIDTH or len(rows.values) < ASKING + OTHERS or not projectable(rows, coder):
        return None
    rng = np.random.default_rng(seed)
    middle, sample = sampled(rows)
    axes, kept = leading_axes(sample, GUIDING, rng)
    if kept[-1] == 0:
        return None
    found = projection_of(coder, turned(axes, rng), middle, sample)
    chosen = rng.choice(len(rows.values), ASKING + OTHERS, replace=False)
    asking, among = rows_at(rows, chosen[:ASKING]), rows_at(rows, chosen[ASKING:])
    return found if agreement((asking, among), coder, found) >= AGREED else None


def projectable(rows: Rows, coder: Coder) -> bool:
    """Whether the codes are numbers of which products tell coordinates."""
    return not coder.cuts and rows.values.dtype == np.int8


def agreement(sides: tuple[Rows, Rows], coder: Coder, projection: Projection) -> float:
    """Of the rows nearest to some by their own codes, the share that is so in the projection.

    sides: the rows whose nearest are looked for, and the others among which they are.
    """
    narrow = [project(side, projection) for side in sides]
    ids = [
        nearest_of(*pair, routing_form(pair[0], what), NEAREST)[0].ids
        for pair, what in ((sides, coder), (narrow, projection.coder))
    ]
    return float(np.mean((ids[0][:, :, None] == ids[1][:, None, :]).any(axis=2)))


def told_columns(rows: Rows) -> int:
    """How many columns of codes say something: whole words; behind them there are zeros up to the end of a line."""
    return min(-(-rows.points.shape[1] // WORD) * WORD, rows.values.shape[1])


def sampled(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """About the mean of some codes, float64[w], and these around it, float64[s, w], all whole numbers; w: told_columns.

    Sums of their products are whole numbers too, and the same in whatever order they are added up.
    """
    sample = rows.values[:: -(-len(rows.values) // LOOKED_AT), : told_columns(rows)].astype(np.float64)
    middle = np.rint(sample.mean(axis=0))
    sample -= middle
    return middle, sample


def leading_axes(sample: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal axes float64[w, count], those of the largest variance first, and the share that the first ones hold.

    sample: float64[s, w], of about mean zero. Axes along which it does not vary are zeros.
    """
    basis = rng.standard_normal((sample.shape[1], count))
    for _ in range(ITERATIONS):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    inner = sample @ basis
    values, vectors = np.linalg.eigh(inner.T @ inner)
    values, axes = np.maximum(values[::-1], 0), basis @ vectors[:, ::-1]
    axes[:, values <= NONE * values[0]] = 0
    # Rows that do not vary lie in none of them.
    total = float((sample * sample).sum()) or np.inf
    return axes, np.cumsum(values) / total


def turned(axes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal axes of the same subspace, in no direction in particular: float64[w, r].

    Random directions, laid into the subspace, so that they say nothing of the basis that it came with. Zeros stay last.
    """
    held = axes[:, axes.any(axis=0)]
    basis, triangle = np.linalg.qr(held @ (held.T @ rng.standard_normal(held.shape)))
    laid_out = np.zeros_like(axes)
    # Libraries choose the sign of an axis as they like.
    laid_out[:, : held.shape[1]] = basis * np.where(np.diag(triangle) < 0, -1, 1)
    return laid_out


def projection_of(coder: Coder, axes: np.ndarray, middle: np.ndarray, sample: np.ndarray) -> Projection:
    """The projection of rows of that coder onto `axes`, float64[w, r].

    middle, sample: as sampled has them. One unit of the new codes stands for as much more as the projection loses on
    the whole, so that estimates are right in the middle.
    """
    width, count = axes.shape
    scale = _few_digits(np.floor, 127 / np.abs(axes).max())
    directions = np.ascontiguousarray(np.rint(axes.T * scale))
    inside = sample @ directions.T
    variance = float((inside * inside).sum())
    kept = variance / scale**2 / float((sample * sample).sum())
    # A coordinate's standard deviation in products of codes; all that vary do so alike.
    step = max(REACH * (variance / (len(sample) * int(directions.any(axis=1).sum()))) ** 0.5 / peak_of(count), 1.0)
    unit = float(coder.step * step / scale / kept**0.5)
    # Rounded directions are no longer orthonormal: the most by which they stretch a row.
    longest = _few_digits(np.ceil, np.linalg.eigvalsh(directions @ directions.T)[-1] ** 0.5)
    blur = 0.0 if coder.exact else width**0.5 * longest / step
    # Below one, as other rows than the sample's may lose something in any case.
    least = min(scale * kept**0.5 / longest, 0.9999)
    narrow = Coder(np.zeros(count, np.float32), unit, exact=False, cuts=False, least=least, blur=blur)
    return Projection(directions.astype(np.int8), (directions @ middle).astype(np.int32), step, narrow)


def project(rows: Rows, projection: Projection) -> Rows:
    """The same rows with codes of their coordinates in a projection that was made for rows of their coder."""
    directions, start, step, _ = projection
    (m, width), count = rows.values.shape, len(directions)
    values = on_lines((m, count), np.int8)
    laid_out = np.pad(directions, ((0, 0), (0, width - directions.shape[1])))
    along(rows.values, rows.starts, laid_out, start, np.float32(1 / step), np.float32(peak_of(count)), values)
    squares, starts = np.empty(m, np.int32), np.empty(m, np.int32)
    add_up(values, squares, starts)
    return Rows(rows.points, values, squares, starts)


def _few_digits(rounding: Callable[[float], float], number: float) -> float:
    """A number rounded up or down to 16ths, so that nothing is left of how a processor rounds."""
    return float(rounding(number * 16) / 16)


@kernel
def along(codes, starts, directions, middle, inverse, peak, values):
    """values[i, j] = (codes[i] . directions[j] - middle[j]) * inverse, rounded, no larger than `peak`.

    codes: int8[m, w]; starts: int32[m], as in Rows; directions: int8[r, w]; middle: int32[r]; values: int8[m, r], r a
    multiple of sixteen.
    """
    width, count = codes.shape[1], directions.shape[0]
    packed = np.empty(packed_size(width, count), np.int8)
    pack(directions, np.arange(count).astype(np.int32), 0, count, width, packed)
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
