"""Metrics of sets: how many columns are nonzero in both rows, in one of them only, in the other only."""

from __future__ import annotations

import numpy as np

from .chosen import chosen
from .columns import add, ending, no_totals
from .forms import SETS, Dice, Jaccard, Kulsinski, Matching, RogersTanimoto, RussellRao, SokalSneath, Yule


@chosen()
def set_distance(form, both, only_x, only_y):
    """The distance from the counts, float64; otherwise (bit_hamming) the number of columns that differ."""
    return only_x + only_y


@chosen()
def tells_sides_apart(form):
    """Whether it matters in which of the rows a column is that is in one only."""
    return False


@tells_sides_apart.of(Yule)
def _does(form):
    return True


@set_distance.of(Jaccard)
def _jaccard(form, both, only_x, only_y):
    one = only_x + only_y
    return one / (both + one) if one > 0 else 0.0


@set_distance.of(Dice)
def _dice(form, both, only_x, only_y):
    one = only_x + only_y
    return one / (2 * both + one) if one > 0 else 0.0


@set_distance.of(SokalSneath)
def _sokal_sneath(form, both, only_x, only_y):
    one = only_x + only_y
    return one / (both / 2 + one) if one > 0 else 0.0


@set_distance.of(Matching)
def _matching(form, both, only_x, only_y):
    return (only_x + only_y) / form.columns


@set_distance.of(Kulsinski)
def _kulsinski(form, both, only_x, only_y):
    one = only_x + only_y
    return (one - both + form.columns) / (one + form.columns)


@set_distance.of(RogersTanimoto)
def _rogers_tanimoto(form, both, only_x, only_y):
    one = only_x + only_y
    return 2 * one / (form.columns + one)


@set_distance.of(RussellRao)
def _russell_rao(form, both, only_x, only_y):
    # Never below 0, as 1 less a rounded share of 1 may be.
    return (form.columns - both) / form.columns


@set_distance.of(Yule)
def _yule(form, both, only_x, only_y):
    crossed = only_x * only_y
    neither = form.columns - both - only_x - only_y
    return 2 * crossed / (both * neither + crossed) if crossed > 0 else 0.0


# --- column by column -----------------------------------------------------------------------------


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
