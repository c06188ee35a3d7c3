"""Metrics of rows as distributions: each number is a share of its row."""

from __future__ import annotations

import math

import numpy as np

from .chosen import chosen
from .columns import add, counts_zeros, ending, look, looks, no_facts, no_totals
from .forms import Hellinger, JensenShannon, JensenShannonRoot, SymmetricKl, Wasserstein1d, WassersteinPower1d
from .jit import kernel

# Added to each share by symmetric_kl, so that none is zero.
SMOOTHING = 2.0**-23
# Of the series of Jensen and Shannon's divergence.
TERMS = 14

_DISTRIBUTIONS = (Hellinger, JensenShannon, JensenShannonRoot, SymmetricKl, Wasserstein1d, WassersteinPower1d)


@looks.of(*_DISTRIBUTIONS)
def _does_look(form):
    return True


@counts_zeros.of(SymmetricKl, Wasserstein1d, WassersteinPower1d)
def _does_count_zeros(form):
    return True


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
    # The sum is small where p is near q, but its terms are not; the series of the gap is, and takes no logarithm.
    return totals + both / 4 * series_of(skew * skew)


@kernel(inline=True)
def series_of(square):
    """(1 + s) ln(1 + s) + (1 - s) ln(1 - s) = sum s^2k / (k (2k - 1)), to 1e-11 where s^2 <= 1/4."""
    total = 0.0
    for term in range(TERMS, 0, -1):
        total = (total + 1 / (term * (2 * term - 1))) * square
    return total


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


@chosen()
def power_of(form):
    """The power of gaps; known while it is compiled where it is 1, so that none is taken."""
    return 1.0


@power_of.of(WassersteinPower1d)
def _power_of(form):
    return form.power


@no_totals.of(Wasserstein1d, WassersteinPower1d)
def _no_running_sum(form):
    return 0.0, 0.0


@add.of(Wasserstein1d, WassersteinPower1d)
def _add_running_sum(form, facts, totals, a, b, column, times):
    ahead = totals[0] + share(a, facts[0]) - share(b, facts[1])
    return ahead, totals[1] + times * abs(ahead) ** power_of(form)


@ending.of(Wasserstein1d, WassersteinPower1d)
def _root_of_running_sums(form, facts, totals):
    if facts[0] == 0 or facts[1] == 0:
        return 0.0 if facts[0] == facts[1] else max(form.columns - 1.0, 1.0) ** (1 / power_of(form))
    return totals[1] ** (1 / power_of(form))
