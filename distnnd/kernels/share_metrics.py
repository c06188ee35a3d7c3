"""Metrics of rows as distributions: each number is a share of its row."""

from __future__ import annotations

import math

import numpy as np

from .chosen import chosen
from .columns import add, counts_zeros, ending, known, look, looks, no_facts, no_totals
from .forms import Hellinger, JensenShannon, JensenShannonRoot, SymmetricKl, Wasserstein1d, WassersteinPower1d
from .jit import kernel
from .logarithms import log_of, narrow_log_of

# Added to each share by symmetric_kl, so that none is zero.
SMOOTHING = 2.0**-23
# Of the series of Jensen and Shannon's divergence, which float32 asks for.
TERMS = 10
ONE, HALF = np.float32(1), np.float32(0.5)
# In the place of 0, below a bar or under a logarithm: without effect on what is told.
LEAST, LEAST_LOG = 1e-300, np.float32(1e-30)

_DISTRIBUTIONS = (Hellinger, JensenShannon, JensenShannonRoot, SymmetricKl, Wasserstein1d, WassersteinPower1d)


@looks.of(*_DISTRIBUTIONS)
def _does_look(form):
    return True


@counts_zeros.of(SymmetricKl, Wasserstein1d, WassersteinPower1d)
def _does_count_zeros(form):
    return True


@no_totals.of(JensenShannon, JensenShannonRoot)
def _no_spread(form):
    # Of columns that both rows have; the mass of those that one of them has, which alone is at most ln 2 away.
    return np.float32(0), 0.0


@no_facts.of(*_DISTRIBUTIONS)
def _no_sums(form):
    return 0.0, 0.0


@look.of(*_DISTRIBUTIONS)
def _look_at_sums(form, facts, a, b, column):
    return facts[0] + np.float64(a), facts[1] + np.float64(b)


@known.of(*_DISTRIBUTIONS)
def _quotients(form, facts):
    return 1.0 / facts[0] if facts[0] > 0 else 0.0, 1.0 / facts[1] if facts[1] > 0 else 0.0


@kernel(inline=True)
def share(number, quotient):
    """What part of its row a number is; quotient: of 1 and the sum of the row, 0 for a zero row."""
    return np.float64(number) * quotient


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
    # Which only has to be above 0 where both are 0.
    skew = np.float32(abs(p - q) / max(both, LEAST))
    spread = np.float32(both) / np.float32(4) * spread_of(skew)
    apart = skew == ONE
    return totals[0] + (np.float32(0) if apart else spread), totals[1] + (both if apart else 0.0)


@kernel(inline=True)
def spread_of(skew):
    """(1 + s) ln(1 + s) + (1 - s) ln(1 - s), float32, for s of 0 to 1; as exact where s is tiny."""
    square = skew * skew
    # The sum is small where s is, but its terms are not: the series sum s^2k / (k (2k - 1)) is, and takes no logarithm.
    series = np.float32(0)
    for term in range(TERMS, 0, -1):
        series = (series + np.float32(1 / (term * (2 * term - 1)))) * square
    more, less = ONE + skew, ONE - skew
    logarithms = more * narrow_log_of(more) + less * narrow_log_of(max(less, LEAST_LOG))
    return series if skew < HALF else logarithms


@kernel(inline=True)
def divergence(facts, totals):
    """Jensen and Shannon's, in nats, of the totals; ln 2, the largest there is, of rows that share no column."""
    if facts[0] == 0 or facts[1] == 0:
        return 0.0 if facts[0] == facts[1] else math.log(2)
    return max(np.float64(totals[0]) + totals[1] / 2 * math.log(2), 0.0)


@ending.of(JensenShannon)
def _nats(form, facts, totals):
    return divergence(facts, totals)


@ending.of(JensenShannonRoot)
def _root_of_nats(form, facts, totals):
    return math.sqrt(divergence(facts, totals) / form.unit)


@kernel(inline=True)
def smooth_share(number, quotient, columns):
    """The share after a little was added to all columns; those of a zero row are all equal."""
    return (share(number, quotient) + SMOOTHING) * (1.0 / ((1.0 if quotient > 0 else 0.0) + columns * SMOOTHING))


@add.of(SymmetricKl)
def _add_both_directions(form, facts, totals, a, b, column, times):
    p, q = smooth_share(a, facts[0], form.columns), smooth_share(b, facts[1], form.columns)
    return totals + times * (p - q) * log_of(p / q)


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


@kernel(inline=True)
def over_segments(form, points, i, others, j):
    """The distance of two dense rows by their running sums, of four segments side by side: a sum waits for itself."""
    facts = no_facts(form)
    for column in range(form.columns):
        facts = look(form, facts, points[i, column], others[j, column], column)
    told = known(form, facts)
    width, power = form.columns // 4, power_of(form)
    # How far the row is ahead of the other where each segment begins.
    b = c = d = 0.0
    for column in range(width):
        b += gap_of_shares(told, points, i, others, j, column)
        c += gap_of_shares(told, points, i, others, j, width + column)
        d += gap_of_shares(told, points, i, others, j, 2 * width + column)
    a, c, d = 0.0, b + c, b + c + d
    totals = (0.0, 0.0, 0.0, 0.0)
    for column in range(width):
        a += gap_of_shares(told, points, i, others, j, column)
        b += gap_of_shares(told, points, i, others, j, width + column)
        c += gap_of_shares(told, points, i, others, j, 2 * width + column)
        d += gap_of_shares(told, points, i, others, j, 3 * width + column)
        t, u, v, w = totals
        totals = (t + abs(a) ** power, u + abs(b) ** power, v + abs(c) ** power, w + abs(d) ** power)
    t, u, v, w = totals
    for column in range(4 * width, form.columns):
        d += gap_of_shares(told, points, i, others, j, column)
        w += abs(d) ** power
    return ending(form, told, (d, (t + u) + (v + w)))


@kernel(inline=True)
def gap_of_shares(quotients, points, i, others, j, column):
    """How much more of its row a column holds than of the other."""
    return share(points[i, column], quotients[0]) - share(others[j, column], quotients[1])
