"""Sparse rows laid out as short dense ones: sketches, of which products are those of the rows on the average.

Each column adds its number, with a sign, to one place of the sketch, both at random (Charikar, Chen and Farach-Colton
2002). A sketch is linear, so what a metric does to rows is done to their entries, or to the sketch. Few columns need
none: such rows are written out.
"""

from __future__ import annotations

import math

import numpy as np

from ..values.metric import SKETCH, Metric
from ..values.points import Csr, row_of_entries
from .sparse_distances import all_ranks
from .transforms import scales_of, transform

# Steps that look at all columns of a row together; who asks for them has few columns, or a matrix of all pairs of them.
_WHOLE = {"whiten", "smooth", "sphere"}
_ODD, _OTHER_ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def sketch(points: Csr, metric: Metric) -> np.ndarray:
    """The rows after the steps of the metric, in few columns: float64[m, laid_out_columns(d)]."""
    if points.columns <= SKETCH or _WHOLE & set(metric.steps):
        rows = transform(written_out(points), metric)
        if rows.shape[1] <= SKETCH:
            return rows
        row, column = (part.ravel() for part in np.indices(rows.shape))
        return _gather(row, *_place_of(column), rows.ravel(), len(rows))
    row, values = row_of_entries(points.indptr), points.data.astype(np.float64)
    place, sign = _place_of(points.indices)
    m, d = points.rows, points.columns
    for step in metric.steps:
        if step == "centre":
            continue
        if step == "sums":
            return _running_sums(row, points.indices, values, points)
        values = _on_entries(step, values, points, metric)
    rows = _gather(row, place, sign, values, m)
    if "centre" in metric.steps:
        every = np.arange(d)
        means = np.bincount(row, values, m) / d
        rows -= means[:, None] * _gather(np.zeros(d, np.int64), *_place_of(every), np.ones(d), 1)
    return rows


def written_out(points: Csr) -> np.ndarray:
    """The rows with their zeros: float32[m, d]."""
    rows = np.zeros((points.rows, points.columns), np.float32)
    rows[row_of_entries(points.indptr), points.indices] = points.data
    return rows


def _place_of(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each column goes in a sketch, int64, and its sign, float64."""
    with np.errstate(over="ignore"):
        mixed = (columns.astype(np.uint64) + np.uint64(1)) * _ODD
        mixed = (mixed ^ (mixed >> np.uint64(32))) * _OTHER_ODD
        mixed ^= mixed >> np.uint64(29)
    sign = 1.0 - 2.0 * ((mixed >> np.uint64(60)) & np.uint64(1)).astype(np.float64)
    return ((mixed >> np.uint64(20)) % np.uint64(SKETCH)).astype(np.int64), sign


def _gather(row: np.ndarray, place: np.ndarray, sign: np.ndarray, values: np.ndarray, m: int) -> np.ndarray:
    """The sums of what goes to each place: float64[m, SKETCH]."""
    return np.bincount(row * SKETCH + place, values * sign, m * SKETCH).reshape(m, SKETCH)


def _on_entries(step: str, values: np.ndarray, points: Csr, metric: Metric) -> np.ndarray:
    """What a step makes of the entries, where zeros stay zeros."""
    if step == "presence":
        return np.ones(len(values))
    if step == "root":
        # Of shares: rows that differ by a factor are the same.
        return np.sqrt(values)
    if step == "eighth_root":
        return np.sign(values) * abs(values) ** 0.125
    if step == "scale":
        return values * scales_of(metric)[points.indices]
    if step == "rank":
        return all_ranks(points.indptr, points.data, points.columns)
    assert step == "hash", f"there is no step {step} of sparse rows"
    # As far apart as all zeros: a number is a place of its own, beside that of the zero.
    return 1.0 - 2.0 * ((values.view(np.uint64) * _ODD >> np.uint64(61)) & np.uint64(1)).astype(np.float64)


def _running_sums(row: np.ndarray, columns: np.ndarray, values: np.ndarray, points: Csr) -> np.ndarray:
    """Running sums of shares at evenly spaced columns, each for all columns up to the next: float64[m, SKETCH]."""
    m, d = points.rows, points.columns
    totals = np.bincount(row, values, m)
    shares = values / np.where(totals > 0, totals, 1)[row]
    place = columns.astype(np.int64) * SKETCH // d
    sums = np.bincount(row * SKETCH + place, shares, m * SKETCH).reshape(m, SKETCH)
    return np.cumsum(sums, axis=1) * math.sqrt(d / SKETCH)
