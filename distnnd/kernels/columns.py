"""Metrics column by column: what two rows have in a column is added up, and the totals are finished.

Dense and sparse rows share these formulae (kernels/distances.py, kernels/sparse_distances.py): both only say what
stands in a column. A metric may look at all columns once before it adds: `facts`, such as the sum of each row.
Everything is chosen by the class of the metric. Sums run in float64 where terms cancel, else in float32.
"""

from __future__ import annotations

import math

import numpy as np

from .chosen import chosen
from .forms import (
    SETS,
    BrayCurtis,
    Canberra,
    Chebyshev,
    Correlation,
    Cosine,
    Euclidean,
    Hamming,
    Hellinger,
    InnerProduct,
    JensenShannon,
    JensenShannonRoot,
    Manhattan,
    Minkowski,
    NanEuclidean,
    SquaredEuclidean,
    SymmetricKl,
    TrueAngular,
    TsSs,
    Wasserstein1d,
    WeightedEuclidean,
    WeightedMinkowski,
)
from .jit import kernel
from .sets import set_distance

# As far as can be told in float32: what a ratio means whose denominator is 0, or rows that have nothing in common.
FARTHEST = float(np.finfo(np.float32).max)
# Added to each share by symmetric_kl, so that none is zero.
SMOOTHING = 2.0**-23
TEN_DEGREES = math.radians(10)

_DISTRIBUTIONS = (Hellinger, JensenShannon, JensenShannonRoot, SymmetricKl, Wasserstein1d)
_ANGLES = (Cosine, TrueAngular, Correlation)


# --- the steps, and what they do for most metrics -------------------------------------------------


@chosen()
def looks(form):
    """Whether the columns are looked at before they are added up."""
    return False


@chosen()
def no_facts(form):
    """Facts before any column was looked at."""
    return 0.0


@chosen()
def look(form, facts, a, b, column):
    """Facts after a column in which the rows hold a and b."""
    return facts


@chosen()
def counts_zeros(form):
    """Whether columns in which both rows are zero add something."""
    return False


@chosen()
def no_totals(form):
    """Totals before any column was added."""
    return 0.0


@chosen()
def add(form, facts, totals, a, b, column, times):
    """Totals after `times` columns from `column` on in which the rows hold a and b."""
    return totals


@chosen()
def ending(form, facts, totals):
    """The distance, from the totals of all columns."""
    return totals


# --- gaps -----------------------------------------------------------------------------------------


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


@looks.of(Minkowski, WeightedMinkowski, Correlation, *_DISTRIBUTIONS)
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


# --- angles ---------------------------------------------------------------------------------------


@kernel(inline=True)
def cosine_between(product, square, other):
    """The cosine of two rows, of their inner product and squares: 1 where both are zero, 0 where one is."""
    if square == 0 or other == 0:
        return 1.0 if square == other else 0.0
    return min(max(product / math.sqrt(square * other), -1.0), 1.0)


@no_totals.of(*_ANGLES)
def _no_products(form):
    return 0.0, 0.0, 0.0


@add.of(Cosine, TrueAngular)
def _add_products(form, facts, totals, a, b, column, times):
    a, b = np.float64(a), np.float64(b)
    return totals[0] + a * b, totals[1] + a * a, totals[2] + b * b


@ending.of(Cosine, Correlation)
def _one_less_cosine(form, facts, totals):
    return 1 - cosine_between(totals[0], totals[1], totals[2])


@ending.of(TrueAngular)
def _half_turns(form, facts, totals):
    return math.acos(cosine_between(totals[0], totals[1], totals[2])) / math.pi


@add.of(InnerProduct)
def _add_product(form, facts, totals, a, b, column, times):
    return totals - np.float64(a) * np.float64(b)


@no_facts.of(Correlation)
def _no_sums_and_ranges(form):
    return 0.0, 0.0, math.inf, -math.inf, math.inf, -math.inf


@look.of(Correlation)
def _look_at_sums_and_ranges(form, facts, a, b, column):
    sum_x, sum_y, least_x, most_x, least_y, most_y = facts
    a, b = np.float64(a), np.float64(b)
    return sum_x + a, sum_y + b, min(least_x, a), max(most_x, a), min(least_y, b), max(most_y, b)


@kernel(inline=True)
def mean_of(total, least, most, columns):
    """The mean of a row; of a constant row exactly its number, so that nothing of it is left when it is centred."""
    return total / columns if least < most else least


@counts_zeros.of(Correlation, SymmetricKl, Wasserstein1d)
def _does_count_zeros(form):
    return True


@add.of(Correlation)
def _add_centred_products(form, facts, totals, a, b, column, times):
    sum_x, sum_y, least_x, most_x, least_y, most_y = facts
    a = np.float64(a) - mean_of(sum_x, least_x, most_x, form.columns)
    b = np.float64(b) - mean_of(sum_y, least_y, most_y, form.columns)
    return totals[0] + times * a * b, totals[1] + times * a * a, totals[2] + times * b * b


@no_totals.of(TsSs)
def _no_products_and_squares(form):
    return 0.0, 0.0, 0.0, 0.0


@add.of(TsSs)
def _add_products_and_squares(form, facts, totals, a, b, column, times):
    a, b = np.float64(a), np.float64(b)
    return totals[0] + a * b, totals[1] + a * a, totals[2] + b * b, totals[3] + (a - b) * (a - b)


@ending.of(TsSs)
def _triangle_times_sector(form, facts, totals):
    """Heidarian and Dinneen 2016, section 4; the ten degrees keep rows of one direction apart.

    They had no obtuse angles: at 170 degrees the triangle would turn over.
    """
    product, square, other, squared_gap = totals
    turn = math.acos(cosine_between(product, square, other)) + TEN_DEGREES
    long, short = math.sqrt(square), math.sqrt(other)
    reach = math.sqrt(squared_gap) + abs(long - short)
    return min(long * short * max(math.sin(turn), 0.0) / 2 * (reach * reach * turn / 2), FARTHEST)


# --- distributions --------------------------------------------------------------------------------


@no_facts.of(*_DISTRIBUTIONS)
def _no_sums(form):
    return 0.0, 0.0


@look.of(*_DISTRIBUTIONS)
def _look_at_sums(form, facts, a, b, column):
    return facts[0] + np.float64(a), facts[1] + np.float64(b)


@kernel(inline=True)
def share(number, total):
    """What part of its row a number is; 0 in a zero row."""
    return np.float64(number) / total if total > 0 else 0.0


@add.of(Hellinger)
def _add_gap_of_roots(form, facts, totals, a, b, column, times):
    gap = math.sqrt(share(a, facts[0])) - math.sqrt(share(b, facts[1]))
    return totals + gap * gap


@ending.of(Hellinger)
def _root_of_half(form, facts, totals):
    if facts[0] == 0 or facts[1] == 0:
        return 0.0 if facts[0] == facts[1] else 1.0
    return math.sqrt(totals / 2)


@add.of(JensenShannon, JensenShannonRoot)
def _add_divergence(form, facts, totals, a, b, column, times):
    p, q = share(a, facts[0]), share(b, facts[1])
    both = p + q
    if p == 0 or q == 0:
        return totals + both * (math.log(2) / 2)
    skew = (p - q) / both
    if abs(skew) > 0.5:
        return totals + (p * math.log(2 * p / both) + q * math.log(2 * q / both)) / 2
    # The sum is small where p is near q, but its terms are not: written by the gap, they are.
    return totals + both / 4 * ((1 + skew) * math.log1p(skew) + (1 - skew) * math.log1p(-skew))


@kernel(inline=True)
def divergence(facts, totals):
    """Jensen and Shannon's, in nats, of the totals; ln 2 is the largest there is."""
    if facts[0] == 0 or facts[1] == 0:
        return 0.0 if facts[0] == facts[1] else math.log(2)
    return max(totals, 0.0)


@ending.of(JensenShannon)
def _nats(form, facts, totals):
    return divergence(facts, totals)


@ending.of(JensenShannonRoot)
def _root_of_nats(form, facts, totals):
    return math.sqrt(divergence(facts, totals) / form.unit)


@kernel(inline=True)
def smooth_share(number, total, columns):
    """The share after a little was added to all columns; those of a zero row are all equal."""
    return (share(number, total) + SMOOTHING) / ((1.0 if total > 0 else 0.0) + columns * SMOOTHING)


@add.of(SymmetricKl)
def _add_both_directions(form, facts, totals, a, b, column, times):
    p, q = smooth_share(a, facts[0], form.columns), smooth_share(b, facts[1], form.columns)
    return totals + times * (p - q) * math.log1p((p - q) / q)


@no_totals.of(Wasserstein1d)
def _no_running_sum(form):
    return 0.0, 0.0


@add.of(Wasserstein1d)
def _add_running_sum(form, facts, totals, a, b, column, times):
    ahead = totals[0] + share(a, facts[0]) - share(b, facts[1])
    return ahead, totals[1] + times * abs(ahead) ** form.power


@ending.of(Wasserstein1d)
def _root_of_running_sums(form, facts, totals):
    if facts[0] == 0 or facts[1] == 0:
        return 0.0 if facts[0] == facts[1] else max(form.columns - 1.0, 1.0) ** (1 / form.power)
    return totals[1] ** (1 / form.power)


# --- sets -----------------------------------------------------------------------------------------


@no_totals.of(*SETS)
def _no_counts(form):
    return np.float32(0), np.float32(0), np.float32(0)


@add.of(*SETS)
def _add_counts(form, facts, totals, a, b, column, times):
    # Numbers instead of truths: products of them run in vector lanes.
    one, none = np.float32(1), np.float32(0)
    in_x, in_y = one if a != 0 else none, one if b != 0 else none
    both = in_x * in_y
    return totals[0] + both, totals[1] + (in_x - both), totals[2] + (in_y - both)


@ending.of(*SETS)
def _of_counts(form, facts, totals):
    return set_distance(form, np.float64(totals[0]), np.float64(totals[1]), np.float64(totals[2]))
