"""Metrics that take two rows as a whole: places, ranks, quadratic forms, transports."""

from __future__ import annotations

import math

import numpy as np

from .angle_metrics import cosine_between
from .chosen import chosen
from .entropic import entropic_cost, entropic_cost_in_logs
from .forms import (
    CircularWasserstein,
    Haversine,
    HaversineOfDegrees,
    Kantorovich,
    Mahalanobis,
    Sinkhorn,
    Spearman,
    UsersOwn,
)
from .jit import kernel
from .logarithms import power_of_share
from .transport import least_cost, least_cost_at_least

DEGREE = math.pi / 180
WHOLE = (Haversine, HaversineOfDegrees, Spearman, Mahalanobis, CircularWasserstein, Kantorovich, Sinkhorn, UsersOwn)
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


@kernel(inline=True)
def central_angle(latitude, longitude, other_latitude, other_longitude, unit):
    """The angle between two places, in radians; unit: radians in one unit of what the places are given in."""
    # Gaps are taken first: they are exact where places lie close together.
    up = sine((latitude - other_latitude) * unit / 2)
    along = sine((longitude - other_longitude) * unit / 2)
    around = math.cos(latitude * unit) * math.cos(other_latitude * unit)
    return 2 * arc_of(math.sqrt(up * up + around * along * along))


@whole.of(Haversine)
def _haversine(form, x, y):
    return central_angle(np.float64(x[0]), np.float64(x[1]), np.float64(y[0]), np.float64(y[1]), 1.0)


@whole.of(HaversineOfDegrees)
def _haversine_of_degrees(form, x, y):
    return central_angle(np.float64(x[0]), np.float64(x[1]), np.float64(y[0]), np.float64(y[1]), DEGREE)


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
        return halfway_round(form, mass, other)
    ahead = np.empty(form.columns)
    quotient, other_quotient = 1.0 / mass, 1.0 / other
    running = 0.0
    for column in range(form.columns):
        running += np.float64(x[column]) * quotient - np.float64(y[column]) * other_quotient
        ahead[column] = running
    # The median of many numbers that all count alike needs no order of them.
    shift = select(ahead, len(ahead) // 2) if form.power == 1 else best_shift(ahead, form.each, form.power)
    return around_circle(ahead, form.each, shift, form.power)


@kernel(inline=True)
def halfway_round(form, mass, other):
    """The distance of rows around a circle of which one has no mass, or both; mass, other: the sums of the rows."""
    return 0.0 if mass == other else max(form.columns // 2, 1) ** (1 / form.power)


@kernel
def around_circle(ahead, lengths, shift, power):
    """(sum length |ahead - shift|^power)^(1 / power); ahead, lengths: float64[m], sums, and over how many columns."""
    total = 0.0
    if power == 1:
        for place in range(len(ahead)):
            total += lengths[place] * abs(ahead[place] - shift)
        return total
    for place in range(len(ahead)):
        # Running sums of shares are at most 1 apart.
        total += lengths[place] * power_of_share(abs(ahead[place] - shift), power)
    return total ** (1 / power)


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
def median(numbers, lengths):
    """The number up to which half of the lengths reach, in the order of the numbers; float64[m] both."""
    half, reached = lengths.sum() / 2, 0.0
    order = np.argsort(numbers)
    for place in order:
        reached += lengths[place]
        if reached >= half:
            return numbers[place]
    return numbers[order[-1]]


@kernel
def best_shift(numbers, lengths, power):
    """The s for which sum length |number - s|^power is least, power >= 1: the median, the mean, or between bounds.

    numbers, lengths: float64[m].
    """
    if power == 1:
        return median(numbers, lengths)
    if power == 2:
        return (numbers * lengths).sum() / lengths.sum()
    low, high = numbers.min(), numbers.max()
    for _ in range(60):
        middle = (low + high) / 2
        slope = 0.0
        for place in range(len(numbers)):
            part = lengths[place] * power_of_share(abs(middle - numbers[place]), power - 1)
            slope += part if middle > numbers[place] else -part
        if slope > 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2


@kernel
def shares_of(x):
    """The shares of a row, 0 where they are nothing beside its sum: float64[d], all 0 of a zero row."""
    total = total_of(x)
    quotient = 1.0 / total if total > 0 else 0.0
    shares = np.empty(len(x))
    for column in range(len(x)):
        number = np.float64(x[column]) * quotient
        shares[column] = number if number > TRACE else 0.0
    return shares


@kernel
def listed_masses(shares):
    """The shares that are not 0, and their columns: (float64[m], int64[m])."""
    columns = np.flatnonzero(shares)
    return shares[columns], columns


@kernel
def part_of(matrix, rows, columns):
    """What a matrix says between some columns and some others: float64[m, p]."""
    out = np.empty((len(rows), len(columns)))
    for row in range(len(rows)):
        for column in range(len(columns)):
            out[row, column] = matrix[rows[row], columns[column]]
    return out


@kernel
def nothing_to_move(some, others, cost):
    """The distance where one of two rows, or both, are all zeros; some, others: whether the one, the other is not."""
    return 0.0 if some == others else cost.max()


@whole.of(Kantorovich)
def _kantorovich(form, x, y):
    return transport_up_to(form, x, y, math.inf)


@kernel
def transport_up_to(form, x, y, bound):
    """The distance of two rows by Kantorovich; one above `bound` may be told too low, though above the bound."""
    one, other = shares_of(x), shares_of(y)
    some, others = one.any(), other.any()
    if not (some and others):
        return nothing_to_move(some, others, form.cost)
    stay = 0.0
    if form.stays:
        stay = leave_in_place(one, other, form.cost)
        least = stay + farthest_column(one, other, form.cost)
        if least > bound:
            return least
    (supply, rows), (demand, columns) = listed_masses(one), listed_masses(other)
    if len(supply) == 0 or len(demand) == 0:
        return stay
    cost = part_of(form.cost, rows, columns)
    least = stay + least_cost_at_least(supply, demand, cost)
    return least if least > bound else stay + least_cost(supply, demand, cost, form.paths, bound - stay)


@kernel
def leave_in_place(one, other, cost):
    """Take from two rows of shares what both have, and tell what it costs to leave it where it is."""
    total = 0.0
    for column in range(len(one)):
        both = min(one[column], other[column])
        total += both * cost[column, column]
        one[column] -= both
        other[column] -= both
    return total


@kernel
def farthest_column(one, other, cost):
    """A bound below the cost of moving one row of shares to another: how much nearer one is to some column.

    Where the triangle holds no transport brings mass nearer to a column than it costs (Kantorovich and Rubinstein).
    """
    most = 0.0
    for row in range(len(one)):
        nearer = 0.0
        for column in range(len(one)):
            nearer += (one[column] - other[column]) * cost[row, column]
        most = max(most, abs(nearer))
    return most


@whole.of(Sinkhorn)
def _sinkhorn(form, x, y):
    (supply, rows), (demand, columns) = listed_masses(shares_of(x)), listed_masses(shares_of(y))
    if len(supply) == 0 or len(demand) == 0:
        return nothing_to_move(len(supply) > 0, len(demand) > 0, form.cost)
    cost = part_of(form.cost, rows, columns)
    if form.steep:
        return entropic_cost_in_logs(supply, demand, cost, form.regularization)
    return entropic_cost(supply, demand, cost, part_of(form.gibbs, rows, columns))
