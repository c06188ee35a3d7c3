"""Rows as the kernels hold them: prepared once for the metric, gathered into small blocks around a centre."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..values.memory import strip_rows
from ..values.metric import Metric
from .jit import kernel


class Form(NamedTuple):
    """How a surrogate comes out of an inner product, as numbers that a kernel can take.

    With g = <x - c, y - c>, b = |y - c|^2 / 2 and a = |x - c|^2, both zero where `euclidean` is 0, a surrogate is
    a + scale (b - g): the squared euclidean distance (scale 2), or the negated inner product (scale 1, c = 0).
    columns: how many leading columns of a prepared row take part.
    """

    euclidean: bool
    scale: np.float32
    columns: int


def form_of(metric: Metric, width: int) -> Form:
    """The form for prepared rows of `width` columns; the last one of inner_product only serves routing."""
    if metric.euclidean:
        return Form(True, np.float32(2), width)
    return Form(False, np.float32(1), width - 1)


def routing_form(width: int) -> Form:
    """The form in which rows look for their pivots: euclidean over all columns."""
    return Form(True, np.float32(2), width)


def prepared_width(metric: Metric, d: int, zero_rows: bool) -> int:
    """Columns of a prepared row: one more than d where zero rows or norms need a coordinate of their own."""
    return d + int((metric.unit and zero_rows) or not metric.euclidean)


def prepare(points: np.ndarray, metric: Metric, width: int, radius: float) -> np.ndarray:
    """Rows as leaves and passes compare them: the narrow rows themselves, or float32[m, width].

    Unit metrics: rows scaled to length one in float64, then rounded; a zero row becomes a unit vector along a column
    of its own, so that it is at cosine distance 1 from every other row and at 0 from another zero row.
    inner_product: a last column sqrt(radius^2 - |x|^2) puts all rows on one sphere, where the largest inner product
    is the nearest point (Bachrach et al. 2014, section 3); radius: the largest norm of all rows.
    """
    if metric.euclidean and not metric.unit:
        return points if points.dtype != np.float16 else points.astype(np.float32)
    rows = np.zeros((len(points), width), np.float32)
    step = strip_rows(points.shape[1])
    for first in range(0, len(points), step):
        part = points[first : first + step].astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", part, part))
        if metric.unit:
            rows[first : first + step, : part.shape[1]] = part / np.where(norms > 0, norms, 1)[:, None]
            if width > part.shape[1]:
                rows[first : first + step, -1] = norms == 0
        else:
            rows[first : first + step, :-1] = part
            rows[first : first + step, -1] = np.sqrt(np.maximum(radius * radius - norms * norms, 0))
    return rows


def finish(surrogates: np.ndarray, metric: Metric) -> np.ndarray:
    """The distances that the user sees, float32, from surrogates."""
    if metric.finish == "root":
        return np.sqrt(surrogates, dtype=np.float32)
    return surrogates * np.float32(0.5) if metric.finish == "half" else surrogates


@kernel(inline=True)
def gather(points, rows, first, last, centre, columns, block):
    """block[i] = points[rows[first + i]] - centre as float32, columns beyond `columns` zero."""
    width = points.shape[1]
    for i in range(last - first):
        row = rows[first + i]
        for j in range(columns):
            block[i, j] = np.float32(points[row, j]) - centre[j]
        for j in range(columns, width):
            block[i, j] = np.float32(0)


@kernel(inline=True)
def squares(block, count, out):
    """out[i] = |block[i]|^2 for the first `count` rows."""
    for i in range(count):
        total = np.float32(0)
        for j in range(block.shape[1]):
            total += block[i, j] * block[i, j]
        out[i] = total


@kernel(inline=True)
def surrogate(points, i, others, j, form):
    """The canonical surrogate of row i of `points` and row j of `others`: the same number wherever it is computed."""
    total = np.float32(0)
    if form.euclidean:
        for column in range(form.columns):
            gap = np.float32(points[i, column]) - np.float32(others[j, column])
            total += gap * gap
        return total
    for column in range(form.columns):
        total += np.float32(points[i, column]) * np.float32(others[j, column])
    return -total


@kernel
def rescore(points, others, form, lists, first, last):
    """Replace the distances of the rows first .. last by canonical ones, where the neighbour is at hand (id >= 0)."""
    ids, distances, _ = lists
    for row in range(first, last):
        for slot in range(ids.shape[1]):
            if ids[row, slot] >= 0:
                distances[row, slot] = surrogate(points, row, others, ids[row, slot], form)
