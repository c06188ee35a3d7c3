"""What it costs to move one distribution to another, exactly; kernels/entropic.py: with a preference for spreading."""

from __future__ import annotations

import math

import numpy as np

from .jit import kernel

# Mass that is left over because shares were rounded.
DUST = 1e-13


@kernel
def least_cost(supply, demand, cost, paths, bound):
    """The least sum of flow times cost that empties `supply` into `demand`: successive shortest paths.

    supply: float64[m] and demand: float64[p], of equal sum, are used up; cost: float64[m, p], none negative. After
    `paths` augmentations what is left moves at the largest cost. Ahuja, Magnanti and Orlin 1993, section 9.7.
    A sum above `bound` may be told too low, though above the bound.
    """
    m, p = cost.shape
    flow = np.zeros((m, p))
    prices = np.zeros(m + p)
    gaps, parents, done = np.empty(m + p), np.empty(m + p, np.int64), np.empty(m + p, np.bool_)
    spent, rest = 0.0, supply.sum()
    for _ in range(paths):
        end = shortest_path(supply, demand, cost, flow, prices, gaps, parents, done)
        if end < 0:
            break
        reach = gaps[end]
        for node in range(m + p):
            prices[node] += min(gaps[node], reach)
        # The price of a demand that is not met is the length of the path to it, and no later path is shorter.
        if spent + rest * prices[end] > bound:
            return spent + rest * prices[end]
        moved = push(supply, demand, flow, parents, end)
        spent, rest = spent + moved * prices[end], rest - moved
    left = 0.0
    total = 0.0
    for row in range(m):
        left += supply[row] if supply[row] > DUST else 0.0
        for column in range(p):
            total += flow[row, column] * cost[row, column]
    return total + left * cost.max()


@kernel
def shortest_path(supply, demand, cost, flow, prices, gaps, parents, done):
    """The node of the nearest demand, of the supplies that are left; -1 where one of both is met.

    Nodes are the supplies 0 .. m - 1, then the demands; gaps and parents of all nodes are written. Costs are reduced
    by prices, so that none is negative (Dijkstra 1959, dense).
    """
    m = len(supply)
    for node in range(len(gaps)):
        gaps[node] = 0.0 if node < m and supply[node] > DUST else math.inf
        parents[node], done[node] = -1, False
    while True:
        near, node = math.inf, -1
        for other in range(len(gaps)):
            if not done[other] and gaps[other] < near:
                near, node = gaps[other], other
        if node < 0 or (node >= m and demand[node - m] > DUST):
            return node
        done[node] = True
        for other in range(len(gaps)):
            if done[other] or (node < m) == (other < m):
                continue
            if node < m:
                length = max(cost[node, other - m] + prices[node] - prices[other], 0.0)
            elif flow[other, node - m] > 0:
                length = max(prices[node] - prices[other] - cost[other, node - m], 0.0)
            else:
                continue
            if near + length < gaps[other]:
                gaps[other], parents[other] = near + length, node


@kernel
def push(supply, demand, flow, parents, end):
    """Send as much as fits along the path that ends in the demand of node `end`, and tell how much that is."""
    m = len(supply)
    most = demand[end - m]
    node = end
    while parents[node] >= 0:
        if node < m:
            most = min(most, flow[node, parents[node] - m])
        node = parents[node]
    most = min(most, supply[node])
    supply[node] -= most
    demand[end - m] -= most
    node = end
    while parents[node] >= 0:
        if node < m:
            flow[node, parents[node] - m] -= most
        else:
            flow[parents[node], node - m] += most
        node = parents[node]
    return most


@kernel
def least_cost_at_least(supply, demand, cost):
    """A bound below the least cost, from prices that no path undercuts: every supply pays for the nearest demand, and
    a demand what its nearest supply saves; or the other way round (Kuhn 1955, the reduction of a matrix).

    supply: float64[m]; demand: float64[p]; cost: float64[m, p].
    """
    m, p = cost.shape
    paid, others = np.empty(m), np.empty(p)
    total, other_total = 0.0, 0.0
    others[:] = math.inf
    for row in range(m):
        least = math.inf
        for column in range(p):
            least = min(least, cost[row, column])
            others[column] = min(others[column], cost[row, column])
        paid[row] = least
        total += supply[row] * least
    for column in range(p):
        other_total += demand[column] * others[column]
        least = math.inf
        for row in range(m):
            least = min(least, cost[row, column] - paid[row])
        total += demand[column] * least
    for row in range(m):
        least = math.inf
        for column in range(p):
            least = min(least, cost[row, column] - others[column])
        other_total += supply[row] * least
    return max(total, other_total)
