"""Metrics of the angle between two rows."""

from __future__ import annotations

import math

import numpy as np

from .columns import add, counts_zeros, ending, look, looks, no_facts, no_totals
from .forms import Correlation, Cosine, InnerProduct, TrueAngular, TsSs
from .gap_metrics import FARTHEST
from .jit import kernel

TEN_DEGREES = math.radians(10)


@kernel(inline=True)
def cosine_between(product, square, other):
    """The cosine of two rows, of their inner product and squares: 1 where both are zero, 0 where one is."""
    if square == 0 or other == 0:
        return 1.0 if square == other else 0.0
    return min(max(product / math.sqrt(square * other), -1.0), 1.0)


@no_totals.of(Cosine, TrueAngular, Correlation)
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


@looks.of(Correlation)
@counts_zeros.of(Correlation)
def _does(form):
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
