"""The k-d tree engine of a partition: exact, and cheaper than leaves where the rows are of low intrinsic dimension.

Which engine is cheaper is found by counting, not by the clock, so that the choice is the same on every machine: some
rows walk a tree, first one of few rows, and what they touch is weighed against the pairs that leaves would compare.
"""

from __future__ import annotations

import numpy as np

from ..kernels.codes import Rows, coded_form, trusted
from ..kernels.judge import Judge
from ..kernels.kdtree import Tree, plant, rows_from_blocks, squares_from, walk
from ..kernels.lanes import LANES
from ..kernels.merge import fold, permute
from ..kernels.neighbours import OLD, Lists, empty
from ..kernels.ranges import even_cuts
from ..kernels.rows import Form, plain_form
from ..storage import mailbox
from ..values.memory import TREE_AT_ONCE
from ..values.plan import TREE_COLUMNS, Task
from ..values.units import TREE_ROWS
from .judged import improved
from .partition import Known, Partition, Work, incoming, with_codes

# Blocks round otherwise than the canonical kernel: keep some more than k, and let the canonical distances decide.
SPARE = 2
# Leaves whose rows try a tree, and rows of the small tree that is tried first.
TRIED, FEW = 64, 32768
# Rows that tell whether float32 is too coarse for a tree; where more than this share of them says so, it is. Neighbours
# must be so many times as far away as float32 rounds.
ASKED, BLURRED, CLEARLY = 16, 0.1, 1e4
# What things cost, in pairs of the leaf engine (about 10 ns each, selection included, whatever d is below 40): entering
# a list; comparing a row with a block, at once and per column; testing a node, sixteen rows at a time, likewise.
# Fitted to normal rows of 2 to 24 columns and to 29 columns of real data, within a third of what was measured.
ENTER, BLOCK, BLOCK_COLUMN, NODE, NODE_COLUMN = 1.0, 2.0, 1 / 16, 2.0, 1 / 8
# What leaves and passes cost in such pairs, for a row and for each place of its list; measured on the same data.
LIMIT, LIMIT_PER_PLACE = 1600, 32


def choose(work: Work, points: np.ndarray, present: np.ndarray) -> tuple[Tree | None, dict[str, float]]:
    """A tree over the present rows if it is cheaper than leaves, and what was counted.

    points: prepared rows [m, w]; present: bool[m].
    """
    job = work.job
    apt = job.kind.euclidean and not (job.kind.packed or job.layout.exact or job.layout.sparse)
    apt = apt and job.layout.d < TREE_COLUMNS
    rows = np.flatnonzero(present)
    if not apt or len(rows) < TREE_ROWS or (job.kind.double and blurred(points, rows, job.spec.n_neighbors)):
        return None, {"kdtree": 0}
    k = job.spec.n_neighbors
    limit = LIMIT + LIMIT_PER_PLACE * k
    # Of fewer rows there are fewer leaves to walk through: a tree of some of them costs less, not more.
    steps = [len(rows) // FEW, 1] if len(rows) >= 4 * FEW else [1]
    for step in steps:
        tree = plant(points, rows[::step], work.each, work.parts)
        cost = trial(tree, k + SPARE, limit)
        if cost > limit:
            return None, {"kdtree": 0, "tree_share": cost / limit}
    return tree, {"kdtree": 1, "tree_share": cost / limit}


def blurred(points: np.ndarray, rows: np.ndarray, k: int) -> bool:
    """Whether float32, which a tree holds, is too coarse for some neighbours.

    points: prepared rows float64[m, w]; rows: those of them in which is searched. Told by rows at even spaces: the k-th
    of other rows than equal ones must be CLEARLY farther from most of them than float32 rounds a coordinate.
    """
    rounded = float(max(points.max(), -points.min())) * np.finfo(np.float32).eps / 2
    close = 0
    for row in rows[np.linspace(0, len(rows) - 1, ASKED).astype(int)]:
        squares = squares_from(points, rows, row)
        others = squares[squares > 0]
        kth = min(k, len(others)) - 1
        close += kth >= 0 and float(np.partition(others, kth)[kth]) ** 0.5 < CLEARLY * rounded
    return close > BLURRED * ASKED


def trial(tree: Tree, places: int, limit: float) -> float:
    """What a row of the tree costs on average, in pairs, by some of its rows; more than `limit` if it seems to.

    places: length of the lists.
    """
    total, rows = 0.0, 0
    chosen = np.unique(np.linspace(0, tree.leaves - 1, TRIED).astype(int)).tolist()
    for leaf in chosen:
        found = empty(min(LANES, len(tree.order) - leaf * LANES), places)
        limits = np.full(len(found.ids), np.inf, np.float32)
        total += pairs_of(walk(tree, limits, found, leaf, leaf + 1), tree.columns)
        rows += len(found.ids)
        if total > limit * LANES * len(chosen):
            break
    return total / rows


def pairs_of(counts: tuple[int, int, int], columns: int) -> float:
    """The cost of a walk in pairs of the leaf engine; counts: nodes tested, blocks compared, entries."""
    tested, compared, entered = counts
    return tested * (NODE + NODE_COLUMN * columns) + compared * (BLOCK + BLOCK_COLUMN * columns) + entered * ENTER


def solve(
    work: Work, task: Task, partition: Partition, present: np.ndarray, tree: Tree
) -> tuple[Lists, np.ndarray, dict[str, float]]:
    """The lists with the nearest rows of the partition, in the order of the tree, with that order and counters."""
    raw = [] if partition.raw is None or partition.raw is partition.points else [partition.raw]
    order = into_tree_order(tree, present, partition.points, [*raw, partition.known, partition.distances])
    partition.rows[:] = partition.rows[order]
    job, width = work.job, min(task.arguments["width"], work.job.layout.n - 1)
    came = incoming(partition, present[order], width, OLD)
    if not job.kind.judged:
        search(work, tree, partition.points, came)
        return came, order, {}
    # A layout of the inner form has the order of the metric, but for its own rounding.
    lists = empty(len(order), width if job.kind.form == "inner" else min(job.kind.selected(width), job.layout.n - 1))
    search(work, tree, partition.points, lists)
    known = Known.of(job, task, order, partition.judge(job))
    work.each(lambda a, b: known.judge.settle(lists, a, b, kept=width), even_cuts(len(order), work.parts))

    def coded() -> tuple[Rows, Form]:
        rows, coder = with_codes(work, partition.points)[0]
        return rows, trusted(coded_form(job.kind, rows, coder))

    lists, counters = improved(work, lists, came, known, coded)
    return lists, order, counters


def into_tree_order(tree: Tree, present: np.ndarray, points: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """Put all that belongs to the rows into the order of the leaves, absent ones last, in place; that order, int64[m].

    points: those the tree was made of; absent rows become anything. others: arrays of m rows.
    """
    order = np.concatenate([tree.order.astype(np.int64), np.flatnonzero(~present)])
    if points.dtype == np.float64:
        # Blocks hold float32.
        permute([points, *others], order)
    else:
        rows_from_blocks(tree.blocks, tree.columns, points, len(tree.order))
        permute(others, order)
    return order


def search(work: Work, tree: Tree, points: np.ndarray, lists: Lists) -> None:
    """The k nearest rows into each list, and some to spare; lists keep what they hold where that is nearer.

    points: prepared rows in the order of the tree, rows of no leaf behind them; lists: of all rows, full of what is
    known or empty. Distances are canonical, but where the metric is judged anyway.
    """
    k, metric = work.job.spec.n_neighbors, work.job.kind
    settler = Judge(points, plain_form(metric, points.shape[1]))
    fresh = not (lists.ids != -1).any()
    places = min(metric.selected(k) + SPARE if metric.form == "inner" else lists.ids.shape[1], lists.ids.shape[1])

    def run(first: int, last: int) -> None:
        for a, b in mailbox.strips(first, last, TREE_AT_ONCE):
            rows = slice(a * LANES, min(b * LANES, len(tree.order)))
            found = empty(rows.stop - rows.start, places)
            # A little more than what is known, which is rounded otherwise.
            limits = lists.distances[rows, k - 1] * np.float32(1.0001)
            walk(tree, limits, found, a, b)
            if not metric.judged:
                settler.settle(found, 0, len(found.ids), points[rows])
            if fresh:
                lists.ids[rows, :places], lists.distances[rows, :places] = found.ids, found.distances
            else:
                fold(lists, np.arange(rows.start, rows.stop, dtype=np.int32), found.ids, found.distances)

    work.each(run, even_cuts(tree.leaves, work.parts))
