"""Metrics that take two rows as a whole: places, ranks, quadratic forms, transports."""

from __future__ import annotations

import math

import numpy as np

from .angle_metrics import cosine_between
from .chosen import chosen
from .entropic import entropic_cost, entropic_cost_in_logs
from .forms import CircularWasserstein, Haversine, Kantorovich, Mahalanobis, Sinkhorn, Spearman, UsersOwn
from .jit import kernel
from .logarithms import power_of_share
from .transport import least_cost

WHOLE = (Haversine, Spearman, Mahalanobis, CircularWasserstein, Kantorovich, Sinkhorn, UsersOwn)
# A smaller share of a row counts as nothing: what it moves is far below what float64 can say.
TRACE = 1e-60


@chosen(allocates=True)
def whole(form, x, y):
    """The distance of two rows, numbers[d] each, float64."""
    return math.nan


@whole.of(UsersOwn)
def _users_own(form, x, y):
    return form.function(x, y)


# --- places ---------------------------------------------------------------------------------------


@kernel(inline=True)
def sine(angle):
    """sin(angle), float64: a short series near 0, where the gaps between neighbours lie, is thrice as fast."""
    if abs(angle) > 0.1:
        return math.sin(angle)
    square = angle * angle
    return angle * (1 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040 + square / 362880))))


@kernel(inline=True)
def arc_of(sine):
    """asin(sine) for sines from 0 to 1, likewise."""
    if sine > 0.05:
        return math.asin(min(sine, 1.0))
    square = sine * sine
    series = square * (15 / 336 + square * (105 / 3456 + square * 945 / 42240))
    return sine * (1 + square * (1 / 6 + square * (3 / 40 + series)))


@whole.of(Haversine)
def _haversine(form, x, y):
    latitude, other = np.float64(x[0]), np.float64(y[0])
    up = sine((latitude - other) / 2)
    along = sine((np.float64(x[1]) - np.float64(y[1])) / 2)
    return 2 * arc_of(math.sqrt(up * up + math.cos(latitude) * math.cos(other) * along * along))


# --- ranks ----------------------------------------------------------------------------------------


@kernel
def centred_ranks(x):
    """Ranks around their mean: float64[d]; equal numbers share the mean of theirs."""
    order = np.argsort(x)
    ranks = np.empty(len(x))
    first = 0
    while first < len(x):
        last = first
        while last + 1 < len(x) and x[order[last + 1]] == x[order[first]]:
            last += 1
        for place in range(first, last + 1):
            ranks[order[place]] = (first + last) / 2 - (len(x) - 1) / 2
        first = last + 1
    return ranks


@whole.of(Spearman)
def _spearman(form, x, y):
    one, other = centred_ranks(x), centred_ranks(y)
    product, square, other_square = 0.0, 0.0, 0.0
    for column in range(len(one)):
        product += one[column] * other[column]
        square += one[column] * one[column]
        other_square += other[column] * other[column]
    return 1 - cosine_between(product, square, other_square)


# --- quadratic forms ------------------------------------------------------------------------------


@whole.of(Mahalanobis)
def _mahalanobis(form, x, y):
    total = 0.0
    for row in range(form.columns):
        inner = 0.0
        for column in range(form.columns):
            inner += form.inverse[row, column] * (np.float64(x[column]) - np.float64(y[column]))
        total += inner * (np.float64(x[row]) - np.float64(y[row]))
    return math.sqrt(max(total, 0.0))


# --- distributions --------------------------------------------------------------------------------


@kernel
def total_of(x):
    """The sum of a row, float64."""
    total = 0.0
    for number in x:
        total += np.float64(number)
    return total


@whole.of(CircularWasserstein)
def _circular_wasserstein(form, x, y):
    mass, other = total_of(x), total_of(y)
    if mass == 0 or other == 0:
        return 0.0 if mass == other else max(form.columns // 2, 1) ** (1 / form.power)
    ahead = np.empty(form.columns)
    quotient, other_quotient = 1.0 / mass, 1.0 / other
    running = 0.0
    for column in range(form.columns):
        running += np.float64(x[column]) * quotient - np.float64(y[column]) * other_quotient
        ahead[column] = running
    shift = best_shift(ahead, form.power)
    total = 0.0
    if form.power == 1:
        for number in ahead:
            total += abs(number - shift)
        return total
    for number in ahead:
        # Running sums of shares are at most 1 apart.
        total += power_of_share(abs(number - shift), form.power)
    return total ** (1 / form.power)


@kernel
def select(numbers, place):
    """The number that would stand at `place` if they were in order; puts them into another order (Hoare 1961)."""
    first, last = 0, len(numbers) - 1
    while first < last:
        middle, low, high = numbers[(first + last) // 2], first, last
        while low <= high:
            while numbers[low] < middle:
                low += 1
            while numbers[high] > middle:
                high -= 1
            if low <= high:
                numbers[low], numbers[high] = numbers[high], numbers[low]
                low, high = low + 1, high - 1
        if place <= high:
            last = high
        elif place >= low:
            first = low
        else:
            break
    return numbers[place]


@kernel
def best_shift(numbers, power):
    """The s for which sum |number - s|^power is least, power >= 1: the median, the mean, or halfway between bounds.

    For the median the numbers are put into another order.
    """
    if power == 1:
        return select(numbers, len(numbers) // 2)
    if power == 2:
        return numbers.mean()
    low, high = numbers.min(), numbers.max()
    for _ in range(60):
        middle = (low + high) / 2
        slope = 0.0
        for number in numbers:
            part = power_of_share(abs(middle - number), power - 1)
            slope += part if middle > number else -part
        if slope > 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2


@kernel
def masses(x):
    """The shares of a row that are not nothing beside its sum, and their columns: (float64[m], int64[m])."""
    total = total_of(x)
    columns = np.flatnonzero(x > total * TRACE)
    shares = np.empty(len(columns))
    for place in range(len(columns)):
        shares[place] = np.float64(x[columns[place]]) / total
    return shares, columns


@kernel
def part_of(matrix, rows, columns):
    """What a matrix says between some columns and some others: float64[m, p]."""
    out = np.empty((len(rows), len(columns)))
    for row in range(len(rows)):
        for column in range(len(columns)):
            out[row, column] = matrix[rows[row], columns[column]]
    return out


@kernel
def nothing_to_move(supply, demand, cost):
    """The distance where one of two rows, or both, are all zeros."""
    return 0.0 if len(supply) == len(demand) else cost.max()


@whole.of(Kantorovich)
def _kantorovich(form, x, y):
    (supply, rows), (demand, columns) = masses(x), masses(y)
    if len(supply) == 0 or len(demand) == 0:
        return nothing_to_move(supply, demand, form.cost)
    return least_cost(supply, demand, part_of(form.cost, rows, columns), form.paths)


@whole.of(Sinkhorn)
def _sinkhorn(form, x, y):
    (supply, rows), (demand, columns) = masses(x), masses(y)
    if len(supply) == 0 or len(demand) == 0:
        return nothing_to_move(supply, demand, form.cost)
    cost = part_of(form.cost, rows, columns)
    if form.steep:
        return entropic_cost_in_logs(supply, demand, cost, form.regularization)
    return entropic_cost(supply, demand, cost, part_of(form.gibbs, rows, columns))
