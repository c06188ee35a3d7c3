"""Rows as the kernels hold them: prepared once for the metric, gathered into small blocks around a centre."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..values.memory import WORD as WORD
from ..values.memory import strip_rows
from ..values.metric import SKETCH, Metric
from ..values.plan import AS_THEY_ARE, Shift
from ..values.points import Csr
from .bit_distances import WORD_BYTES
from .bit_products import bits_apart
from .chosen import chosen
from .halves import as_float32
from .jit import kernel
from .lanes import prefetch_row
from .sketches import sketch
from .sums import inner_product, long_inner_product, long_squared_distance, squared_distance, squared_length
from .transforms import finish as finish
from .transforms import transform

# Wider rows of narrow numbers are compared as floats: their squares would leave 32 bits.
WIDEST_NARROW = 8192
# So many entries of a list ahead a row is asked for before it is needed.
AHEAD = 6


class Form(NamedTuple):
    """How rows are compared, as numbers that a kernel can take.

    euclidean: the surrogate is the squared euclidean distance, else the negated inner product; columns: how many
    leading columns of a prepared row take part; unit: the surrogate that an estimate of one stands for. An estimate may
    be off by spread * sqrt(estimate) + spare, and far too low where codes may be `cut` off; trusted: it is kept. share:
    the surrogate is what differs as a share of what either of two sets holds.
    """

    euclidean: bool
    columns: int
    unit: np.float32
    spread: np.float32
    spare: np.float32
    trusted: bool
    cut: bool
    share: bool = False


def plain_form(metric: Metric, width: int) -> Form:
    """The form of rows without codes, of which only the canonical surrogate is asked."""
    one, none = np.float32(1), np.float32(0)
    return Form(metric.euclidean, width - (not metric.euclidean), one, none, none, False, False, metric.share)


def stays_narrow(metric: Metric, dtype: np.dtype | str, d: int) -> bool:
    """Whether prepared rows are bytes: narrow whole numbers under a plain euclidean metric."""
    plain = metric.euclidean and not metric.unit and not metric.steps
    return np.dtype(dtype).itemsize == 1 and plain and d <= WIDEST_NARROW


def rows_as_they_came(metric: Metric, dtype: np.dtype | str) -> bool:
    """Whether preparing rows to `dtype` leaves their numbers as they are."""
    return np.dtype(dtype) == np.float32 and metric.euclidean and not metric.unit and not metric.steps


def prepared_width(metric: Metric, dtype: np.dtype | str, d: int, zero_rows: bool) -> int:
    """Columns of a prepared row: one more than d where zero rows or norms need a coordinate of their own."""
    if metric.packed:
        return -(-d // WORD_BYTES) * WORD_BYTES
    if stays_narrow(metric, dtype, d):
        return -(-d // WORD) * WORD
    return metric.laid_out_columns(d) + int((metric.unit and zero_rows) or not metric.euclidean)


def prepare(
    points: np.ndarray | Csr,
    metric: Metric,
    width: int,
    radius: float,
    room: np.ndarray | None = None,
    shift: Shift = AS_THEY_ARE,
) -> np.ndarray:
    """Rows as leaves and passes compare them: int8[m, width] where they stay narrow, else float32[m, width].

    Rows of float64 become float64[m, width], see `prepare_double`.

    Rows of bits are filled up with zeros: uint8[m, width]. Narrow rows: moved into the range of int8, which changes no
    difference, and filled up with zeros.
    Other rows go through the steps of the metric first, if there are any (kernels/transforms.py), in float64, and are
    rounded once; of sparse rows there are sketches (kernels/sketches.py). Then see `put`.
    room: where they are to stand, if anywhere; rows that are float32 as they come need none.
    """
    if isinstance(points, Csr):
        rows, step = _room(room, points.rows, width, np.float32), strip_rows(SKETCH)
        for first in range(0, points.rows, step):
            last = min(first + step, points.rows)
            put(sketch(points.between(first, last), metric), metric.unit, metric.euclidean, radius, rows[first:last])
        return rows
    if metric.packed:
        packed = _room(room, len(points), width, np.uint8)
        packed[:, : points.shape[1]], packed[:, points.shape[1] :] = points, 0
        return packed
    if metric.double:
        return prepare_double(points, metric, radius, _room(room, len(points), width, np.float64), shift)
    if stays_narrow(metric, points.dtype, points.shape[1]):
        narrow = _room(room, len(points), width, np.int8)
        narrow[:, : points.shape[1]] = points.view(np.int8)
        narrow[:, points.shape[1] :] = 0
        if points.dtype == np.uint8:
            narrow[:, : points.shape[1]] ^= np.int8(-128)
        return narrow
    if rows_as_they_came(metric, np.float32):
        if room is None:
            return points if points.dtype == np.float32 else as_float32(points)
        room[:] = as_float32(points) if points.dtype == np.float16 else points
        return room
    rows, step = _room(room, len(points), width, np.float32), strip_rows(width)
    for first in range(0, len(points), step):
        part = points[first : first + step]
        part = transform(part, metric) if metric.steps else as_float32(part)
        put(part, metric.unit, metric.euclidean, radius, rows[first : first + step])
    return rows


def prepare_double(points: np.ndarray, metric: Metric, radius: float, rows: np.ndarray, shift: Shift) -> np.ndarray:
    """Write rows of float64 as they are compared to `rows`, float64[m, width].

    As `prepare` does, and moved by `shift`: a distance does not change with the centre, and all of them grow by the
    scale. Rows of unit metrics are first multiplied by powers of two that bring their largest number near one, so that
    no square of it vanishes or overflows.
    """
    columns, step = metric.laid_out_columns(points.shape[1]), strip_rows(rows.shape[1])
    centre = np.asarray(shift.centre)
    for first in range(0, len(points), step):
        part = transform(points[first : first + step], metric)
        strip = rows[first : first + step]
        if metric.unit:
            _, exponents = np.frexp(np.abs(part).max(axis=1, keepdims=True))
            put(np.ldexp(part, -exponents), True, metric.euclidean, radius, strip)
        else:
            if centre.size:
                part = part - centre
            put(part * shift.scale, False, metric.euclidean, radius * shift.scale, strip)
        if metric.unit and centre.size:
            strip[:, :columns] -= centre
    return rows


def _room(room: np.ndarray | None, count: int, width: int, dtype: type) -> np.ndarray:
    return np.empty((count, width), dtype) if room is None else room


@kernel(exact=True)
def put(part, unit, euclidean, radius, rows):
    """Write rows after the steps of the metric as they are compared: numbers[m, c] to float32[m, width].

    Unit metrics: rows scaled to length one; a zero row becomes a unit vector along a column of its own, so that it is
    at cosine distance 1 from every other row and at 0 from another zero row. inner_product: a last column
    sqrt(radius^2 - |x|^2) puts all rows on one sphere, where the largest inner product is the nearest point (Bachrach
    et al. 2014, section 3); radius: the largest norm of all rows.
    """
    columns, last = part.shape[1], rows.shape[1] - 1
    for row in range(part.shape[0]):
        square = squared_length(part, row)
        scale = 1 / math.sqrt(square) if unit and square > 0 else 1.0
        for column in range(columns):
            rows[row, column] = np.float64(part[row, column]) * scale
        if last == columns:
            rows[row, last] = np.float64(square == 0) if unit else math.sqrt(max(radius * radius - square, 0.0))


@chosen()
def surrogate(points, i, others, j, form):
    """The canonical surrogate of row i of `points` and row j of `others`: the same number wherever it is computed."""
    if form.euclidean:
        return squared_distance(points, i, others, j, form.columns)
    return -inner_product(points, i, others, j, form.columns)


surrogate.of(np.uint8)(bits_apart)


@surrogate.of(np.float64)
def _of_double_rows(points, i, others, j, form):
    if form.euclidean:
        return np.float32(long_squared_distance(points, i, others, j, form.columns))
    return np.float32(-long_inner_product(points, i, others, j, form.columns))


@kernel
def rescore(points, others, form, lists, first, last):
    """Replace the distances of the rows first .. last by canonical ones, where the neighbour is at hand (id >= 0)."""
    ids, distances, _ = lists
    coming, last_one = ids.reshape(-1), last * ids.shape[1] - 1
    for row in range(first, last):
        for slot in range(ids.shape[1]):
            prefetch_row(others, max(coming[min(row * ids.shape[1] + slot + AHEAD, last_one)], 0))
            if ids[row, slot] >= 0:
                distances[row, slot] = surrogate(points, row, others, ids[row, slot], form)
