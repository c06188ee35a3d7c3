"""Codes: rows as small whole numbers, which products compare four times as fast as floats, and without rounding.

A row is about centre + step * values, each value a byte. A product of codes gives an *estimate* of the surrogate; how
far it may be off follows from the step alone, so it says which pairs deserve the canonical surrogate. Coordinates that
a byte cannot reach are cut off, which only brings rows together: an estimate may let in too much, but not too little.
Narrow whole numbers are their own codes: nothing is lost, and the estimate is the surrogate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..values.memory import code_columns
from ..values.metric import Metric
from .bit_products import set_bits, share_apart
from .chosen import chosen
from .jit import kernel
from .products import OFFSET, room_for
from .rows import WORD, Form, surrogate
from .scratch import on_lines
from .sieve import SHARE_BITS

PEAK = 127
# Larger than every estimate: squares and products of codes stay below 2^27, for which wide rows get smaller codes.
EVERYTHING = 2**29
LARGEST_SQUARE = 2**27
# From these many rows a coder learns where the centre lies and how far coordinates reach.
LOOKED_AT = 2048
# Coordinates are cut off where the farthest reaches so many times as far as all but a hundredth of the rows do.
FAR, USUAL = 4.0, 0.99
# Standard deviations of its rounding that an estimate is forgiven.
DEVIATIONS = 3.0
# See limit_of: times the columns of two rows of 2^17 bits (transforms.py: MOST_BYTES) it stays below 2^31.
WHOLE = 2**SHARE_BITS


class Coder(NamedTuple):
    """How rows become codes. centre: float32[w]; step: one unit of a code; cuts: some coordinates are cut off.

    least, blur: of codes that are projections. Rows are at least `least` times as far apart as these say, less what
    rounding does; what the projected codes were rounded by comes on top of that, at most `blur` units.
    """

    centre: np.ndarray
    step: float
    exact: bool
    cuts: bool
    least: float = 1.0
    blur: float = 0.0


class Rows(NamedTuple):
    """Prepared rows with their codes. points: [m, w]; values: int8[m, v], v the next multiple of four.

    Rows of bits are their own codes, uint8.
    squares: int32[m], |values|^2; starts: int32[m], what products of a row with packed ones begin with.
    """

    points: np.ndarray
    values: np.ndarray
    squares: np.ndarray
    starts: np.ndarray


# Rows with the coder that says what their codes are worth.
Encoded = tuple[Rows, Coder]


def coder_of(points: np.ndarray, metric: Metric, others: np.ndarray | None = None) -> Coder:
    """A coder for rows like these. points: prepared rows [m, w]; others: rows that will be compared with them, if any.

    Around the mean of some rows; inner products allow no centre but the origin, and they would shrink if anything
    were cut off, so that what is nearest looked far.
    """
    width = points.shape[1]
    if points.dtype.itemsize == 1:
        return Coder(np.zeros(width, np.float32), 1.0, exact=True, cuts=False)
    centre = np.zeros(width, np.float32)
    usual = np.inf
    if metric.euclidean and len(points):
        some = points[:: max(1, len(points) // LOOKED_AT)]
        reach = np.abs(some - some.mean(axis=0)).max(axis=1)
        # The farthest rows, which may be cut off, would draw the centre towards them.
        near = some[reach <= np.quantile(reach, USUAL)]
        centre = near.mean(axis=0, dtype=np.float64).astype(np.float32)
        usual = float(np.abs(near - centre).max())
    farthest = max(farthest_from(centre, rows) for rows in (points, others) if rows is not None)
    cuts = farthest > FAR * usual > 0
    return Coder(centre, (FAR * usual if cuts else farthest) / peak_of(width) or 1.0, exact=False, cuts=cuts)


def peak_of(width: int) -> int:
    """The largest code of rows that wide: squares and products of rows must stay in 32 bits."""
    return min(PEAK, int((LARGEST_SQUARE / width) ** 0.5))


@kernel(inline=True)
def bits_of(number):
    """The bits of a float32 as an int32: of floats that are not negative they ascend as these do."""
    return np.float32(number).view(np.int32)


@kernel(inline=True)
def float_of(bits):
    """The float32 of such bits."""
    return np.int32(bits).view(np.float32)


@kernel
def farthest_from(centre, points):
    """The largest distance of a coordinate from that of the centre; both are finite."""
    # Vectors have a maximum of whole numbers, but none of floats that heeds NaN.
    farthest = np.int32(0)
    for row in range(points.shape[0]):
        for column in range(points.shape[1]):
            farthest = max(farthest, bits_of(abs(np.float32(points[row, column]) - centre[column])))
    return float_of(farthest)


def beyond(points: np.ndarray, coder: Coder) -> np.ndarray:
    """Which prepared rows [m, w] lie beyond what codes reach, where coordinates are cut off: bool[m]."""
    result = np.zeros(len(points), np.bool_)
    if not coder.exact:
        _beyond(points, coder.centre, np.float32(coder.step * (peak_of(points.shape[1]) + 0.5)), result)
    return result


@kernel
def _beyond(points, centre, reach, result):
    for row in range(points.shape[0]):
        far = False
        for column in range(points.shape[1]):
            far |= abs(points[row, column] - centre[column]) > reach
        result[row] = far


def encode(points: np.ndarray, coder: Coder) -> Rows:
    """The rows with their codes. points: prepared rows [m, w]; exact codes are the points themselves."""
    m, width = points.shape
    squares, starts = np.empty(m, np.int32), np.empty(m, np.int32)
    values = points
    if not coder.exact:
        values = on_lines((m, code_columns(width)), np.int8)
        code(points, coder.centre, np.float32(1 / coder.step), np.float32(peak_of(width)), values)
    add_up(values, squares, starts)
    return Rows(points, values, squares, starts)


@kernel
def code(points, centre, inverse, peak, values):
    """values[i] = (points[i] - centre) * inverse, rounded to the nearest, no larger than `peak`."""
    for row in range(points.shape[0]):
        for column in range(points.shape[1]):
            value = (np.float32(points[row, column]) - centre[column]) * inverse
            value = min(max(value, -peak), peak)
            # Truncation rounds down only what is positive.
            values[row, column] = np.int32(value + np.float32(128.5)) - 128


@kernel
def add_up(values, squares, starts):
    """squares[i] = |values[i]|^2; starts[i]: what products of row i with packed ones begin with."""
    measure_codes(values, squares, starts)


@chosen()
def measure_codes(values, squares, starts):
    """As add_up has it: packed bytes lie 128 too high, of which the sum of a row makes -128 times as much."""
    for row in range(values.shape[0]):
        square, total = np.int32(0), np.int32(0)
        for column in range(values.shape[1]):
            value = np.int32(values[row, column])
            square = np.int32(square + value * value)
            total = np.int32(total + value)
        squares[row], starts[row] = square, np.int32(-OFFSET * total)


measure_codes.of(np.uint8)(set_bits)


def coded_form(metric: Metric, rows: Rows, coder: Coder, strict: bool = False) -> Form:
    """How rows of this coder are compared for their surrogates; the last column of inner_product only serves routing.

    A coordinate is rounded by at most step / 2, with variance step^2 / 12: a distance between codes is off by at most
    step * sqrt(width), and mostly by a few times step / sqrt(6). strict: allow for the most, and for all that a
    projection loses, so that nothing is missed among rows that the coder has seen.
    """
    width = rows.points.shape[1]
    # A coordinate on the verge of the next code is off by a little more than half a step, as floats are rounded too.
    off = 1.0001 * (min(width, rows.values.shape[1]) ** 0.5 + coder.blur) if strict else DEVIATIONS / 6**0.5
    if metric.euclidean:
        step, cut = (coder.step * coder.least, coder.cuts or coder.least < 1) if strict else (coder.step, coder.cuts)
        unit, spread, spare = step**2, 2 * off, max(off * off, width)
        form = Form(True, width, np.float32(unit), np.float32(spread), np.float32(spare), False, cut)
        form = trusted(form) if coder.exact else form
        return form._replace(share=True, trusted=False) if metric.share else form
    unit, spare = coder.step**2 / 2, 2 * (off * float(rows.squares.max(initial=1)) ** 0.5 + width / 4)
    return Form(False, width - 1, np.float32(unit), np.float32(0), np.float32(spare), False, False)


def routing_form(rows: Rows, coder: Coder) -> Form:
    """How rows look for their pivots: by estimates, euclidean over all columns."""
    width, none = rows.points.shape[1], np.float32(0)
    return Form(True, width, np.float32(coder.step**2), none, none, True, False)


def trusted(form: Form) -> Form:
    """The same form where estimates are good enough to be kept."""
    return form._replace(spread=np.float32(0), spare=np.float32(0), trusted=True, cut=False)


def admitting(form: Form) -> Form:
    """The same form where every estimate may enter every list, as something else than estimates decides."""
    return trusted(form)._replace(spare=np.float32(2 * EVERYTHING))


@kernel(inline=True, exact=True)
def limit_of(form, surrogate):
    """The largest estimate, int32, that may belong to a surrogate no larger than the given one.

    Of shares: how large it may be for each column that both rows hold between them, in parts of WHOLE. For sets that
    hold a and b columns and differ in h the share t is 2 h / (a + b + h), so h is t / (2 - t) of a + b.
    """
    if form.share:
        share = np.float64(min(surrogate, np.float32(1)))
        return np.int32(min(np.int32(share / (2 - share) * WHOLE) + 1, WHOLE))
    if surrogate == np.inf:
        return np.int32(EVERYTHING)
    # Huge surrogates of outliers first: no infinity times zero below.
    codes = min(max(surrogate / form.unit, np.float32(-EVERYTHING)), np.float32(EVERYTHING))
    codes += form.spread * np.sqrt(max(codes, np.float32(0))) + form.spare + abs(codes) * np.float32(3e-7)
    return np.int32(min(codes, np.float32(EVERYTHING)))


@kernel(inline=True)
def measure(rows, i, others, j, estimate, form):
    """The surrogate of row i and row j of `others`, whose codes say `estimate`: as a list keeps it."""
    if form.share:
        return share_apart(estimate, rows.squares[i], others.squares[j])
    if form.trusted:
        return form.unit * np.float32(estimate)
    return surrogate(rows.points, i, others.points, j, form)


@kernel(inline=True)
def multiplied(columns, width):
    """How many columns of rows of `width` are multiplied where the first `columns` take part: whole words.

    Of a packed base these must lie where all would.
    """
    words = (min(columns, width) + WORD - 1) // WORD * WORD
    return words if room_for(words) == room_for(width) else width


@kernel(inline=True)
def gather(rows, chosen, first, count, columns, width, block, starts):
    """Codes of some rows one after the other, `width` of each, and what their products begin with.

    From `columns` on they are zero. block: int8, flat; starts: int32.
    """
    for i in range(count):
        row = chosen[first + i]
        start = rows.starts[row]
        for column in range(width):
            block[i * width + column] = rows.values[row, column]
        for column in range(columns, width):
            block[i * width + column] = 0
        for column in range(columns, rows.values.shape[1]):
            start += OFFSET * np.int32(rows.values[row, column])
        starts[i] = start
