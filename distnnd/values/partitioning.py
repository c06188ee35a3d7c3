"""How the data is cut for the memory there is: pure arithmetic from the spec, the shape and the workers to a Plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from . import memory
from .budget import COMPILER, Workers, too_small
from .memory import LEAF_FANOUT as LEAF_FANOUT
from .metric import Metric
from .plan import TREE_COLUMNS, Cut, Extent, Layout, Plan, StageCost
from .spec import BuildSpec

# Up to here all pairs cost less than a tree would.
EXACT_ROWS = 4096
# Partitions that a row goes to, on the average and at most: more where partitions meet, one deep inside. A first round
# that needs fewer for its target makes do with them (stages/draw.py).
FANOUT = 2.5
MOST_PARTITIONS = 4
# The same for rows that look elsewhere than they stand.
LOOKED_IN = 3
# A row whose sixteen nearest pivots share one partition lies deep inside it and needs no second copy.
NEAREST = 16
PIVOTS_PER_PARTITION = 16
# Rows that a leaf aims at, between these, in codes of so many bytes in all.
LEAF_LEAST, LEAF_MOST, LEAF_CODES = 400, 500, 102_400
# Rows at least so wide may find their pivots by a third of that, or fewer columns (kernels/projection.py).
GUIDED_WIDTH = 96
# Leaves of the whole set to which rows are routed, at most: leaves twice as large are still worth it, and beyond that
# partitions grow their own.
MOST_LEAVES = 65536
# Of the neighbours that are missing, the share that a brief round finds: rows look in one leaf of a partition each, and
# do not walk from there. It costs half of another round, or less.
BRIEFLY = 0.13
# A partition of fewer rows is too small for the choice of an engine to matter.
TREE_ROWS = 8192
SAMPLES_PER_PIVOT = 24
# What a forced cut of few rows takes: probe rows, rows of the sample for each partition, and rows of it where leaves of
# the whole set are drawn.
FORCED_PROBES, FORCED_SAMPLE, FORCED_LEAVES = 300, 200, 4000
# Partitions are drawn from a sample: aim below the cap, so that few exceed it and must be split.
AIM = 0.7
LARGEST_BLOCK = 131072
# From here on the first round pays for longer lists: the passes of short ones end before they are there.
HIGH_RECALL = 0.97
# A block of fewer rows, or of fewer bytes where rows are wide, costs more to send out as a task than to do.
LEAST_BLOCK, LEAST_BLOCK_BYTES = 1024, 2**20
# So many partitions for each worker are shared evenly, among so many workers at most; another one costs copies of rows.
SHARED, MOST_SHARING = 6, 4
# From so many rows on, several workers are worth a second copy of the data.
SPREAD_ROWS = 200_000


def first_width(k: int, n: int, target_recall: float = 0.95) -> int:
    """Length of the lists in the first round: longer than asked for, as NN-descent walks better along them."""
    more = k // 3 if target_recall < HIGH_RECALL else k // 2
    return min(k + max(4, more), n - 1)


def widest(k: int, n: int, partitions: int) -> int:
    """Length that lists may grow to later: in one partition, width does what fresh partitions do elsewhere."""
    return min(4 * k if partitions == 1 else 2 * k, n - 1) if k > 4 else min(k + 12, n - 1)


def next_width(width: int, k: int, n: int, partitions: int, shortfall: float) -> int:
    """Length of the lists in the round after one of `width` that missed `shortfall` times as much as it may.

    Longer lists cost in proportion to their square: far from the target a large step saves a round, near it a fresh
    drawing does most of the work.
    """
    step = 2.25 if shortfall > 2.5 else 1.5 if shortfall > 1.3 else 1.2
    return min(int(width * step), max(widest(k, n, partitions), width))


def enough_if_brief(missed: float, allowed: float) -> bool:
    """Whether a brief round will do after one that missed such a share of the neighbours: little more than allowed."""
    return 0 < missed - allowed <= BRIEFLY * missed


def leaf_fanout(number: int, probed: bool) -> int:
    """Leaves of a partition that a row stands in, in round `number`.

    Fewer in a first round where no probe rows say when they are enough; later ones are for what was hard to find.
    """
    return LEAF_FANOUT if probed or number > 1 else LEAF_FANOUT - 1


def leaf_rows(columns: int, k: int) -> int:
    """Rows that a leaf aims at: as many as make its products cost as much as what is selected from them."""
    return max(min(max(LEAF_CODES // columns, LEAF_LEAST), LEAF_MOST), 8 * k)


def leaves_of_all(metric: Metric, n: int, d: int, k: int) -> int:
    """Leaves of the whole set, if partitions are not to grow their own; 0 where rows are never guided to them."""
    columns = metric.laid_out_columns(d)
    if metric.packed or not metric.euclidean or columns < GUIDED_WIDTH:
        return 0
    wanted = n * LEAF_FANOUT // leaf_rows(columns, k)
    return min(wanted, MOST_LEAVES) if wanted <= 2 * MOST_LEAVES else 0


def companion_cap(width: int) -> int:
    """Companions that NN-descent draws of each kind for lists of `width`, beside those that a list holds itself."""
    return min(max(width // 2, 8), 30)


def probe_count(n: int, products: int) -> int:
    """Rows solved exactly: as many as keep the products that their pairs cost under about a tenth of a round."""
    return min(n, max(256, min(512, 50_000 // products)))


def local_cost(metric: Metric, dtype: str, d: int, width: int, threads: int = 1) -> tuple[int, int]:
    """Bytes per row, and bytes besides, of a local task whose lists are of `width`."""
    companions = companion_cap(metric.selected(width))
    row = memory.local_row(metric, dtype, d, width, LEAF_FANOUT, companions)
    return row, memory.local_fixed(metric, dtype, d, width, threads)


def exact_blocks(spec: BuildSpec, layout: Layout, width: int) -> int:
    """Blocks of which one task measures the lists, of `width`, again: as many as take no more than a full partition.

    It follows from the layout: with other memory a build that goes on has the same tasks.
    """
    row, fixed = local_cost(spec.kind, layout.dtype, layout.d, width)
    return memory.exact_blocks(layout, spec.kind, width, spec.n_neighbors, fixed + row * layout.cap)


def pivot_count(partitions: int) -> int:
    """Pivots that the partitions of a round are made of."""
    return partitions * PIVOTS_PER_PARTITION


def shared_evenly(partitions: int) -> int:
    """As many partitions or a few more, so that two workers or four share them evenly where they are several for each.

    Whoever builds: the plan, and with it the bytes, are the same for one worker.
    """
    step = _power_below(max(partitions // SHARED, 1), MOST_SHARING)
    return -(-partitions // step) * step


def forced_fields(cut: Cut, metric: Metric, n: int, leaves: int = 0) -> dict[str, Any]:
    """The fields of a layout of n rows that a forced cut decides, whether the points are dense or sparse."""
    if cut.partitions == 1:
        exchange: dict[str, Any] = {"fanout": 1, "copies": 1, "sample": 0, "leaves": 0}
    else:
        copies = FANOUT if metric.euclidean else FANOUT + LOOKED_IN
        sample = min(n, max(FORCED_SAMPLE * cut.partitions, FORCED_LEAVES if leaves else 0))
        exchange = {"fanout": FANOUT, "copies": copies, "sample": sample, "leaves": leaves}
    whole = {"partitions": cut.partitions, "cap": cut.cap or n, "probes": min(n, FORCED_PROBES), "exact": False}
    return whole | exchange


def _power_below(value: float, most: int) -> int:
    power = 1
    while 2 * power <= min(value, most):
        power *= 2
    return power


class _Planner:
    """The arithmetic of one plan: what a task may take, and what each stage would take under a layout."""

    def __init__(self, spec: BuildSpec, extent: Extent, task_memory: int, threads: int) -> None:
        self.spec, self.task_memory, self.threads = spec, task_memory, threads
        self.n, self.d, self.dtype, self.chunk_rows = extent[:4]
        self.item = memory.item_bytes(self.dtype)
        self.sent = memory.sent_bytes(spec.kind, self.dtype, self.d, spec.exchange_dtype)
        # Where nearness is not mutual a row travels twice: to where it looks, and to where it may be found.
        self.copies = FANOUT if spec.kind.euclidean else FANOUT + LOOKED_IN

    def row_cost(self, partitions: int) -> tuple[int, int]:
        """Bytes per row, and bytes besides, of a local task."""
        width = widest(self.spec.n_neighbors, self.n, partitions)
        return local_cost(self.spec.kind, self.dtype, self.d, width, self.threads if partitions == 1 else 1)

    def whole(self) -> Layout | None:
        """Everything in one task, if it fits."""
        layout = Layout(
            n=self.n,
            d=self.d,
            dtype=self.dtype,
            block_rows=_power_below(2 * self.n - 1, self._block_limit(self.threads)),
            cap=self.n,
            probes=0 if self.n <= EXACT_ROWS else probe_count(self.n, self.spec.kind.products(self.d)),
            exact=self.n <= EXACT_ROWS,
            chunk_rows=self.chunk_rows,
        )
        largest = max(cost.projected * min(cost.tasks, self.threads) for cost in self.costs(layout))
        return layout if largest <= self.task_memory and self._worth_tasks(layout) else None

    def cut(self, at_least: int) -> Layout | None:
        """As few partitions as keep every task within its memory, but at least so many; None where none does."""
        row, fixed = self.row_cost(2)
        cap = (self.task_memory - fixed) // row
        block_rows = _power_below(min(self._block_limit(1), cap // 2), LARGEST_BLOCK)
        if cap < max(1024, 16 * widest(self.spec.n_neighbors, self.n, 2)):
            return None
        partitions = max(2, at_least, shared_evenly(ceil(self.n * self.copies / (cap * AIM))))
        leaves = leaves_of_all(self.spec.kind, self.n, self.d, self.spec.n_neighbors)
        sample = SAMPLES_PER_PIVOT * pivot_count(partitions)
        layout = Layout(
            n=self.n,
            d=self.d,
            dtype=self.dtype,
            block_rows=block_rows,
            partitions=partitions,
            fanout=FANOUT,
            copies=self.copies,
            cap=cap,
            probes=probe_count(self.n, self.spec.kind.products(self.d)),
            sample=min(self.n, max(sample, leaves)),
            chunk_rows=self.chunk_rows,
            leaves=leaves,
        )
        plain = replace(layout, sample=min(self.n, sample), leaves=0)
        fitting = (one for one in (layout, plain) if self._fits(one))
        return next(fitting, None) if self._worth_tasks(layout) else None

    def forced(self, layout: Layout, cut: Cut) -> Layout:
        """The layout cut as it is asked for, whatever memory there is."""
        leaves = leaves_of_all(self.spec.kind, self.n, self.d, self.spec.n_neighbors)
        return replace(layout, block_rows=cut.block_rows, **forced_fields(cut, self.spec.kind, self.n, leaves))

    def _fits(self, layout: Layout) -> bool:
        return max(cost.projected for cost in self.costs(layout)) <= self.task_memory

    def _worth_tasks(self, layout: Layout) -> bool:
        """Whether blocks are large enough that the tasks of a stage are not countless."""
        return layout.block_rows >= min(self.n, LEAST_BLOCK, max(1, LEAST_BLOCK_BYTES // (self.d * self.item)))

    def _block_limit(self, side_by_side: int) -> int:
        """Rows of a block that the stages which hold one can hold, `side_by_side` of them in a worker."""
        width = widest(self.spec.n_neighbors, self.n, 2)
        exact = memory.exact_row(self.spec.kind, self.dtype, self.d, width) + 24 * width + 36 * self.spec.n_neighbors
        row = max(
            memory.route_row(self.spec.kind, self.dtype, self.d, width, self.spec.exchange_dtype),
            memory.merge_row(width),
            exact if self.spec.exchange_dtype else 0,
            memory.prepared_bytes(self.spec.kind, self.dtype, self.d)
            + memory.raw_bytes(self.spec.kind, self.dtype, self.d)
            + 4,
        )
        empty = Layout(n=self.n, d=self.d, dtype=self.dtype, block_rows=0, chunk_rows=self.chunk_rows)
        room = self.task_memory // side_by_side - memory.route_bytes(
            empty, self.spec.kind, width, 4096, self.spec.exchange_dtype
        )
        return _power_below(max(room // row, 1), LARGEST_BLOCK)

    def costs(self, layout: Layout) -> tuple[StageCost, ...]:
        """The stages of the layout, in their order, with their projected bytes and what they read and write."""
        n, d, k = layout.n, layout.d, self.spec.n_neighbors
        metric = self.spec.kind
        width = widest(k, n, layout.partitions)
        data, lists = n * d * self.item, n * width * 12
        result = n * k * 12
        row, fixed = self.row_cost(layout.partitions)
        blocks = layout.blocks
        costs = [StageCost("scan", blocks, memory.scan_bytes(layout), data, 0, False)]
        if layout.partitions == 1:
            # The same task solves the probe rows, and publishes what is good enough.
            costs.append(StageCost("local", 1, fixed + row * n, data + lists, result, True))
            return tuple(costs)
        pivots, copies = pivot_count(layout.partitions), layout.copies
        draw = memory.draw_bytes(layout, metric, pivots)
        route = memory.route_bytes(layout, metric, width, pivots, self.spec.exchange_dtype)
        # Before a route it is found which rows are settled, where they may be.
        route = max(route, memory.settle_bytes(layout, metric, width, pivots))
        # What travels as steps from a middle comes with that, once for each block and partition.
        middles = 0 if self.spec.exchange_dtype is None else 2 * blocks * layout.partitions * self.sent
        mail = int(copies * (n * self.sent + lists)) + middles
        costs += [
            StageCost("probe", blocks, memory.probe_bytes(layout, metric, k + 8), data, 0, False),
            StageCost("draw", 1, draw, layout.sample * d * self.item, pivots * d * 4, True),
            StageCost("route", blocks, route, data + lists, mail, True),
            StageCost("local", layout.partitions, fixed + row * layout.cap, mail, int(copies * lists), True),
            StageCost("merge", blocks, memory.merge_bytes(layout, width), int(copies * lists) + lists, lists, True),
            self._last_cost(layout, width, data, lists, result),
        ]
        return tuple(costs)

    def _last_cost(self, layout: Layout, width: int, data: int, lists: int, result: int) -> StageCost:
        """The stage that writes the graph: a block at a time, or many that pass over the points together."""
        metric, k = self.spec.kind, self.spec.n_neighbors
        if self.spec.exchange_dtype is None:
            return StageCost("publish", layout.blocks, memory.publish_bytes(layout, width, k), lists, result, False)
        each = exact_blocks(self.spec, layout, width)
        tasks = -(-layout.blocks // each)
        need = memory.exact_bytes(layout, metric, width, k, each)
        return StageCost("exact", tasks, need, (tasks + 1) * data + lists, result, False)


def make_plan(spec: BuildSpec, extent: Extent, workers: Workers, cut: Cut | None = None) -> Plan:
    """The cheapest cut of dense points that keeps each worker within its memory; or, where there is one, a forced cut.

    BudgetError names what is needed, what there is and the nearest setting that fits; SpecError where rows are too few.
    """
    spec.check_rows(extent.n)
    if spec.function is not None:
        workers = replace(workers, reserved=workers.reserved + COMPILER)
    planner, layout = _fit(spec, extent, workers)
    if layout is None:
        raise too_small(spec, extent, workers, lambda more: _fit(spec, extent, more)[1] is not None)
    if cut is not None:
        layout = planner.forced(layout, cut)
    costs = planner.costs(layout)
    lists = 2 * extent.n * 12 * widest(spec.n_neighbors, extent.n, layout.partitions)
    mail = sum(cost.written for cost in costs if cost.name in ("draw", "route", "local"))
    if spec.kind.euclidean and extent.d < TREE_COLUMNS:
        mail += memory.settled_disk(layout, pivot_count(layout.partitions))
    return Plan(
        spec=spec,
        layout=layout,
        costs=costs,
        task_memory=planner.task_memory,
        worker_memory=workers.memory,
        reserved=workers.reserved,
        threads=workers.threads,
        disk=lists + (mail if layout.partitions > 1 else 0),
        graph=extent.n * spec.n_neighbors * 12,
    )


def _fit(spec: BuildSpec, extent: Extent, workers: Workers) -> tuple[_Planner, Layout | None]:
    """Everything in one task if that fits and workers are few, else a cut; the planner that found it."""
    usable, threads = workers.usable, workers.threads
    spread = workers.tasks if workers.count >= 4 and extent.n >= SPREAD_ROWS else 0
    single = _Planner(spec, extent, usable, threads)
    whole = single.whole() if usable > 0 else None
    if whole is not None and not spread:
        return single, whole
    several = _Planner(spec, extent, usable // threads, 1)
    cut = several.cut(max(2, spread)) if usable > 0 else None
    if cut is None and whole is None and usable > 0:
        # More partitions take more pivots, and a larger sample of the data to draw them from.
        cut = several.cut(2)
    return (several, cut) if cut is not None else (single, whole)


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
