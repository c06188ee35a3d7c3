"""How near to a row another can be that is at home elsewhere, by the pivots: the proof is in stages/settled.py."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .jit import kernel

# What floats may be off by, as a share of the numbers that were rounded.
ROUNDED = np.float32(1e-5)


class Cells(NamedTuple):
    """Pivots, each with the rows that are nearest to it. partition: int32[v], of each; apart: float32[v, v], how far.

    rounding: by how much two rows may be nearer to each other than what their codes say.
    """

    partition: np.ndarray
    apart: np.ndarray
    rounding: np.float32


class Seen(NamedTuple):
    """The pivots nearest to m rows: int16[m, w], the nearest first, and squared distances, float32[m, w]."""

    pivots: np.ndarray
    squares: np.ndarray


@kernel
def fill_bounds(cells, seen, row, bounds):
    """bounds[q]: no row of cell q is nearer to the row than that, less `rounding`; infinite at home. Returns the least.

    A pivot that is not listed is as far as the last one at least, and as the nearest pivot and the row leave it.
    """
    cell = seen.pivots[row, 0]
    home, square = cells.partition[cell], seen.squares[row, 0]
    near, last = math.sqrt(square), seen.squares[row, seen.squares.shape[1] - 1]
    for other in range(bounds.size):
        beyond = max(cells.apart[cell, other] - near, np.float32(0))
        bounds[other] = max(last, beyond * beyond)
    for place in range(seen.pivots.shape[1]):
        bounds[seen.pivots[row, place]] = seen.squares[row, place]
    least, smaller, larger = np.float32(np.inf), np.float32(1) - ROUNDED, (np.float32(1) + ROUNDED) * square
    for other in range(bounds.size):
        if cells.partition[other] == home:
            bounds[other] = np.inf
            continue
        apart = cells.apart[cell, other]
        # How far the plane is that lies halfway between both pivots.
        bound = (bounds[other] * smaller - larger) / (np.float32(2) * apart) if apart > 0 else np.float32(0)
        bounds[other] = bound - cells.rounding
        least = min(least, bounds[other])
    return least


@kernel
def find_exact(cells, seen, kth, whole, exact, looking):
    """Mark rows whose neighbours are all at home, and raise how far the others of each cell look into each cell.

    kth: float32[m], k-th distances, infinite where a list is short; whole: bool[partitions], those where all rows were
    compared; exact: bool[m], marked rows stay marked and look nowhere. looking: float32[v, v], 0 for nowhere.
    """
    bounds = np.empty(len(cells.apart), np.float32)
    for row in range(kth.size):
        if exact[row]:
            continue
        cell, far = seen.pivots[row, 0], kth[row] * (np.float32(1) + ROUNDED)
        exact[row] = far < fill_bounds(cells, seen, row, bounds) and whole[cells.partition[cell]]
        if not exact[row]:
            for other in range(bounds.size):
                if far > bounds[other]:
                    # Either row is beyond its own bound; what codes are rounded by is taken from both.
                    beyond = far - bounds[other] - cells.rounding
                    looking[cell, other] = max(looking[cell, other], beyond)


@kernel
def find_unwanted(cells, seen, whole, looked_at, unwanted):
    """Mark rows that no row of another home may still need: bool[m], marked rows stay marked.

    looked_at: float32[v, v], how far rows of each other cell look into a cell, by cell; whole: as find_exact has it.
    """
    bounds = np.empty(len(cells.apart), np.float32)
    for row in range(unwanted.size):
        cell = seen.pivots[row, 0]
        if unwanted[row] or not whole[cells.partition[cell]]:
            continue
        fill_bounds(cells, seen, row, bounds)
        free = True
        for other in range(bounds.size):
            free &= looked_at[cell, other] * (np.float32(1) + ROUNDED) < bounds[other] or bounds[other] == np.inf
        unwanted[row] = free
