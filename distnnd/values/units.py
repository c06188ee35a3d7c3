"""What one local task holds: the mail of a partition, of a part of a large one, or of several small ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A partition of fewer rows is too small for the choice of an engine to matter.
TREE_ROWS = 8192


@dataclass(frozen=True)
class Unit:
    """What one local task holds: for each block the mail from `first` to `last`; size: rows in all.

    partitions: the first of those that it is of, and the first behind them.
    """

    slices: tuple[tuple[int, int, int], ...]
    size: int
    partitions: tuple[int, int]


def least_unit(width: int, cap: int, settled: bool) -> int:
    """Rows that a unit should have at least, with lists of `width`; settled: some rows stay at home.

    Rows that are left are few: held together they are enough for a k-d tree.
    """
    return max(4 * width, TREE_ROWS if settled and cap >= 4 * TREE_ROWS else 0)


def make_units(offsets: np.ndarray, cap: int, least: int, seed: int = 0) -> list[Unit]:
    """Turn routed mail into units of at most `cap` rows, and of at least `least` where neighbouring partitions allow.

    offsets: int64[blocks, partitions + 1], where each partition's mail begins in each block's. A partition above the
    cap is cut by blocks, in an order that `seed` shuffles, so that another round cuts it otherwise; small neighbours
    are held together. Adjacent partitions are mostly near each other, so this keeps rows among their like.
    """
    order = np.random.default_rng(seed).permutation(len(offsets))
    sizes = np.diff(offsets, axis=1).sum(axis=0)
    units: list[Unit] = []
    first, held = 0, 0
    for partition, size in enumerate(sizes.tolist()):
        held += size
        rest = int(sizes[partition + 1 :].sum())
        if held >= least and (rest >= least or partition + 1 == len(sizes)):
            units += _cut_by_blocks(offsets, (first, partition + 1), cap, order)
            first, held = partition + 1, 0
    if held:
        units += _cut_by_blocks(offsets, (first, len(sizes)), cap, order)
    return units


def _cut_by_blocks(offsets: np.ndarray, partitions: tuple[int, int], cap: int, order: np.ndarray) -> list[Unit]:
    firsts, lasts = (offsets[:, border] for border in partitions)
    counts = lasts - firsts
    rest = int(counts.sum())
    room = max(cap - int(counts.max()), 1)
    order = order if rest > cap else np.arange(len(counts))
    units: list[Unit] = []
    slices: list[tuple[int, int, int]] = []
    size = 0
    for block in order.tolist():
        count = int(counts[block])
        if count:
            slices.append((block, int(firsts[block]), int(lasts[block])))
            size += count
        # An even share of what is left, reckoned anew for each unit, so that the last is not left with a few rows.
        if size and size >= (rest if rest <= cap else rest / -(-rest // room)):
            units.append(Unit(tuple(sorted(slices)), size, partitions))
            rest, slices, size = rest - size, [], 0
    return units


def pieces_of(units: list[Unit], blocks: int) -> list[list[tuple[int, int, int, int]]]:
    """For each block what the units found for its mail: (unit, start in the unit's lists, mail first, mail last)."""
    pieces: list[list[tuple[int, int, int, int]]] = [[] for _ in range(blocks)]
    for number, unit in enumerate(units):
        start = 0
        for block, first, last in unit.slices:
            pieces[block].append((number, start, first, last))
            start += last - first
    return pieces
