"""What it costs to move one distribution to another with a preference for spreading (entropy): Sinkhorn's scaling.

Rows and columns of exp(-cost / regularization) are scaled in turn until both masses are right (Peyre and Cuturi 2019,
sections 4.2 and 4.4). Going further than would set a side right, by a power of what it is wrong by, takes a third of
the sweeps, and a seventh where the regularization is small (Thibault, Chizat, Dossal and Papadakis 2021).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .jit import kernel

# A transport is good enough when its masses are right to this.
CLOSE = 1e-10
SWEEPS = 10_000
# Sweeps before the pace is changed for the first time, and by what share their number grows before the next.
FIRST, GROWTH = 8, 0.25
FASTEST = 1.99
# Numbers that are scaled at once.
LANES = 8


class Pace(NamedTuple):
    """How far a sweep goes. omega: the power, 1 to 2; check: the sweep after which it changes; before, then: how much
    mass was wrong in the sweep before, and when the pace was last changed.
    """

    omega: float
    check: int
    before: float
    then: float


@kernel(inline=True)
def first_pace():
    """Sweeps that set each side right."""
    return Pace(1.0, FIRST, math.inf, math.inf)


@kernel(inline=True)
def paced(pace, sweep, off):
    """The pace after a sweep that found `off` of the masses wrong.

    How fast that falls says how fast it would at pace 1, and so which pace is the best (Young 1954). If it has grown
    the pace was too fast.
    """
    if sweep < pace.check:
        return Pace(pace.omega, pace.check, off, pace.then)
    omega, rate = pace.omega, off / pace.before
    if not off < pace.then:
        omega = 1 + (omega - 1) / 2
    elif omega - 1 < rate < 1:
        alone = (rate + omega - 1) ** 2 / (omega * omega * rate)
        omega = max(omega, min(2 / (1 + math.sqrt(max(1 - alone, 0.0))), FASTEST))
    return Pace(omega, sweep + max(FIRST, int(GROWTH * sweep)), off, off)


@kernel
def entropic_cost(supply, demand, cost, gibbs):
    """sum T cost of the transport T that is the least of sum T cost + regularization * sum T ln T.

    supply: float64[m], demand: float64[p], all above 0, of equal sum; cost: float64[m, p]; gibbs: float64[m, p],
    exp(-cost / regularization), from which products with shares do not underflow. T is right to CLOSE in its masses,
    or has been scaled SWEEPS times.
    """
    m, p = cost.shape
    standing, lying = filled_up(gibbs.T), filled_up(gibbs)
    one, other = filled_up(supply.reshape(1, m))[0], filled_up(demand.reshape(1, p))[0]
    rows, columns = np.ones(len(one)), np.ones(len(other))
    sums = np.empty(max(len(one), len(other)))
    pace = first_pace()
    for sweep in range(SWEEPS):
        off = scale(columns, other, lying, rows, sums, pace.omega)
        off += scale(rows, one, standing, columns, sums, pace.omega)
        if off < CLOSE:
            break
        pace = paced(pace, sweep, off)
    total = 0.0
    for row in range(m):
        moved = 0.0
        for column in range(p):
            moved += gibbs[row, column] * columns[column] * cost[row, column]
        total += rows[row] * moved
    return total


@kernel
def filled_up(numbers):
    """The same with so many copies of the last column that their number is a multiple of LANES: float64[m, .]."""
    m, width = numbers.shape
    out = np.empty((m, (width + LANES - 1) // LANES * LANES))
    for row in range(m):
        for column in range(out.shape[1]):
            out[row, column] = numbers[row, min(column, width - 1)]
    return out


@kernel(inline=True)
def scale(factors, masses, gibbs, others, sums, omega):
    """Bring the factors of one side to where masses are right, or further, and tell how wrong they were.

    factors, masses: float64[w]; gibbs: float64[., w]; others: factors of the other side; sums: room for w numbers.
    """
    for start in range(0, len(factors), LANES):
        for lane in range(LANES):
            sums[start + lane] = 0.0
        for other in range(gibbs.shape[0]):
            for lane in range(LANES):
                sums[start + lane] += gibbs[other, start + lane] * others[other]
    off = 0.0
    for place in range(len(factors)):
        mass = factors[place] * sums[place]
        gap = masses[place] - mass
        off += abs(gap)
        # (1 + x)^omega for a small x = gap / mass, without a power (Pade); omega 1 for a large one.
        powered = (mass + (1 + omega) / 2 * gap) / (mass + (1 - omega) / 2 * gap)
        factors[place] *= powered if -0.5 * mass < gap < mass else masses[place] / mass
    return off


@kernel
def entropic_cost_in_logs(supply, demand, cost, regularization):
    """The same, in logarithms of the factors, where exp(-cost / regularization) may underflow."""
    m, p = cost.shape
    rows, columns = np.zeros(m), np.zeros(p)
    terms = np.empty(max(m, p))
    pace = first_pace()
    for sweep in range(SWEEPS):
        off = scale_in_logs(columns, demand, cost.T, rows, terms, regularization, pace.omega)
        off += scale_in_logs(rows, supply, cost, columns, terms, regularization, pace.omega)
        if off < CLOSE:
            break
        pace = paced(pace, sweep, off)
    total = 0.0
    for row in range(m):
        for column in range(p):
            total += math.exp(rows[row] + columns[column] - cost[row, column] / regularization) * cost[row, column]
    return total


@kernel
def scale_in_logs(logs, masses, cost, others, terms, regularization, omega):
    """What `scale` does, with logarithms of factors; cost: float64[w, .]; terms: room for those of the other side."""
    off = 0.0
    for place in range(len(logs)):
        for other in range(len(others)):
            terms[other] = others[other] - cost[place, other] / regularization
        gap = math.log(masses[place]) - log_of_sum(terms, len(others)) - logs[place]
        # The mass that was here, against what is right.
        off += masses[place] * abs(math.expm1(min(-gap, 700.0)))
        logs[place] += omega * gap
    return off


@kernel
def log_of_sum(terms, count):
    """ln of the sum of exp(term) of the first `count`, without overflow."""
    most = -math.inf
    for place in range(count):
        most = max(most, terms[place])
    total = 0.0
    for place in range(count):
        total += math.exp(terms[place] - most)
    return most + math.log(total)
