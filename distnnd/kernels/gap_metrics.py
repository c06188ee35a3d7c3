"""Metrics of the gaps between two rows: sums of powers, ratios, counts."""

from __future__ import annotations

import math

import numpy as np

from .columns import add, ending, look, looks, no_totals
from .forms import (
    BrayCurtis,
    Canberra,
    Chebyshev,
    Euclidean,
    Hamming,
    Manhattan,
    Minkowski,
    NanEuclidean,
    SquaredEuclidean,
    WeightedEuclidean,
    WeightedMinkowski,
)
from .jit import kernel

# As far as can be told in float32: what a ratio means whose denominator is 0, or rows that have nothing in common.
FARTHEST = float(np.finfo(np.float32).max)


@kernel(inline=True)
def gap_between(a, b):
    """|a - b| in float32."""
    return abs(np.float32(a) - np.float32(b))


@add.of(SquaredEuclidean, Euclidean)
def _add_square(form, facts, totals, a, b, column, times):
    gap = np.float64(a) - np.float64(b)
    return totals + gap * gap


@add.of(WeightedEuclidean)
def _add_weighted_square(form, facts, totals, a, b, column, times):
    gap = np.float64(a) - np.float64(b)
    return totals + form.weights[column] * gap * gap


@ending.of(Euclidean, WeightedEuclidean)
def _root(form, facts, totals):
    return math.sqrt(totals)


@no_totals.of(Manhattan, Canberra, Hamming)
def _no_float(form):
    return np.float32(0)


@add.of(Manhattan)
def _add_gap(form, facts, totals, a, b, column, times):
    return totals + gap_between(a, b)


@no_totals.of(Chebyshev)
def _no_gap(form):
    return np.int32(0)


@add.of(Chebyshev)
def _add_largest(form, facts, totals, a, b, column, times):
    # The bits of floats that are not negative are in the same order as the floats, and a maximum of whole numbers
    # runs in vector lanes, which one of floats does not as long as there could be NaN.
    return max(totals, np.float32(gap_between(a, b)).view(np.int32))


@ending.of(Chebyshev)
def _as_float(form, facts, totals):
    return np.int32(totals).view(np.float32)


@add.of(Canberra)
def _add_share(form, facts, totals, a, b, column, times):
    size = abs(np.float32(a)) + abs(np.float32(b))
    return totals + (gap_between(a, b) / size if size > 0 else np.float32(0))


@no_totals.of(BrayCurtis, NanEuclidean)
def _no_two(form):
    return 0.0, 0.0


@add.of(BrayCurtis)
def _add_gap_and_size(form, facts, totals, a, b, column, times):
    a, b = np.float64(a), np.float64(b)
    return totals[0] + abs(a - b), totals[1] + abs(a + b)


@ending.of(BrayCurtis)
def _ratio(form, facts, totals):
    gaps, sizes = totals
    if gaps == 0:
        return 0.0
    return min(gaps / sizes, FARTHEST) if sizes > 0 else FARTHEST


@add.of(Hamming)
def _add_unequal(form, facts, totals, a, b, column, times):
    return totals + (np.float32(1) if a != b else np.float32(0))


@ending.of(Hamming)
def _share(form, facts, totals):
    return totals / form.columns


@add.of(NanEuclidean)
def _add_present(form, facts, totals, a, b, column, times):
    gap = np.float64(a) - np.float64(b)
    present = gap == gap
    return totals[0] + (gap * gap if present else 0.0), totals[1] + (1.0 if present else 0.0)


@ending.of(NanEuclidean)
def _root_of_all(form, facts, totals):
    squares, present = totals
    return math.sqrt(squares * (form.columns / present)) if present > 0 else FARTHEST


@looks.of(Minkowski, WeightedMinkowski)
def _does_look(form):
    return True


@look.of(Minkowski)
def _look_at_gap(form, facts, a, b, column):
    return max(facts, abs(np.float64(a) - np.float64(b)))


@look.of(WeightedMinkowski)
def _look_at_weighted_gap(form, facts, a, b, column):
    return max(facts, abs(np.float64(a) - np.float64(b))) if form.weights[column] > 0 else facts


@kernel(inline=True)
def power_of_gap(largest, a, b, power):
    """(|a - b| / largest)^power: powers of shares of the largest gap neither overflow nor all vanish."""
    return (abs(np.float64(a) - np.float64(b)) / largest) ** power if largest > 0 else 0.0


@add.of(Minkowski)
def _add_power(form, facts, totals, a, b, column, times):
    return totals + power_of_gap(facts, a, b, form.power)


@add.of(WeightedMinkowski)
def _add_weighted_power(form, facts, totals, a, b, column, times):
    if form.weights[column] > 0 and form.power < math.inf:
        return totals + form.weights[column] * power_of_gap(facts, a, b, form.power)
    return totals


@ending.of(Minkowski)
def _root_of_power(form, facts, totals):
    return facts * totals ** (1 / form.power)


@ending.of(WeightedMinkowski)
def _root_of_weighted_power(form, facts, totals):
    return facts * totals ** (1 / form.power) if form.power < math.inf else facts
