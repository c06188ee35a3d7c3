"""Metrics of the gaps between two rows: sums of powers, ratios, counts."""

from __future__ import annotations

import math

import numpy as np

from .chosen import chosen
from .columns import add, ending, known, look, looks, no_facts, no_totals
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
    WholeMinkowski,
)
from .jit import kernel
from .logarithms import power_of_share, whole_power_of

# As far as can be told in float32: what a ratio means whose denominator is 0, or rows that have nothing in common.
FARTHEST = float(np.finfo(np.float32).max)


@chosen()
def gap_between(a, b):
    """|a - b|, float32."""
    return abs(np.float32(a) - np.float32(b))


@gap_between.of(np.float64)
def _gap_of_doubles(a, b):
    return np.float32(abs(a - b))


@chosen()
def share_of_sizes(a, b):
    """|a - b| / (|a| + |b|), float32; 0 where both are 0."""
    size = abs(np.float32(a)) + abs(np.float32(b))
    return gap_between(a, b) / size if size > 0 else np.float32(0)


@share_of_sizes.of(np.float64)
def _share_of_doubles(a, b):
    size = abs(a) + abs(b)
    return np.float32(abs(a - b) / size if size > 0 else 0.0)


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
    return totals + share_of_sizes(a, b)


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


@looks.of(Minkowski, WholeMinkowski, WeightedMinkowski)
def _does_look(form):
    return True


@no_facts.of(Minkowski, WholeMinkowski, WeightedMinkowski)
def _no_largest_gap(form):
    return np.int32(0)


@look.of(Minkowski, WholeMinkowski)
def _look_at_gap(form, facts, a, b, column):
    # As Chebyshev's, by the bits.
    return max(facts, np.float32(gap_between(a, b)).view(np.int32))


@look.of(WeightedMinkowski)
def _look_at_weighted_gap(form, facts, a, b, column):
    gap = np.float32(gap_between(a, b)).view(np.int32)
    return max(facts, gap if form.weights[column] > 0 else np.int32(0))


@known.of(Minkowski, WholeMinkowski, WeightedMinkowski)
def _largest_and_quotient(form, facts):
    largest = np.float64(np.int32(facts).view(np.float32))
    return largest, 1.0 / largest if largest > 0 else 0.0


@kernel(inline=True)
def share_of_gap(facts, a, b):
    """|a - b| by the largest: powers of such shares neither overflow nor all vanish."""
    return abs(np.float64(a) - np.float64(b)) * facts[1]


@add.of(Minkowski)
def _add_power(form, facts, totals, a, b, column, times):
    return totals + power_of_share(share_of_gap(facts, a, b), form.power)


@add.of(WholeMinkowski)
def _add_whole_power(form, facts, totals, a, b, column, times):
    return totals + whole_power_of(share_of_gap(facts, a, b), form.power)


@add.of(WeightedMinkowski)
def _add_weighted_power(form, facts, totals, a, b, column, times):
    # Of an infinite power nothing is added: the largest gap is all there is to say. Gaps of weight 0 may be larger.
    weight = form.weights[column]
    share = min(share_of_gap(facts, a, b), 2.0)
    power = power_of_share(share, form.power if form.power < math.inf else 1.0)
    return totals + (weight * power if weight > 0 else 0.0)


@ending.of(Minkowski, WholeMinkowski)
def _root_of_power(form, facts, totals):
    return facts[0] * totals ** (1 / form.power)


@ending.of(WeightedMinkowski)
def _root_of_weighted_power(form, facts, totals):
    return facts[0] * totals ** (1 / form.power) if form.power < math.inf else facts[0]
