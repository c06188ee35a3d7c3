"""How the data is cut for the memory there is: pure arithmetic from the spec, the shape and the workers to a Plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Any

from . import memory
from .budget import COMPILER, Workers, hands, tasks_at_once, too_many_threads, too_small
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
# Where rows are cut, of a worker's memory the share that is kept for its threads, at least of one, and of so many at
# most: however many there are when a build begins, the cut is the same.
FOR_THREADS, MOST_THREADS = 8, 32
# Tasks of a block that should find room side by side, where blocks of so many rows allow it.
BLOCKS_AT_ONCE, LEAST_AT_ONCE = 4, 8192
# Partitions that are asked for may become so many times as large as they should be on the average, before they are cut.
UNEVEN = 2


def first_width(k: int, n: int, target_recall: float = 0.95) -> int:
    """Length of the lists in the first round: longer than asked for, as NN-descent walks better along them."""
    more = k // 3 if target_recall < HIGH_RECALL else k // 2
    return min(k + max(4, more), n - 1)


def widest(k: int, n: int, partitions: int) -> int:
    """Length that lists may grow to later: in one partition, width does what fresh partitions do elsewhere."""
    return min(4 * k if partitions == 1 else 2 * k, n - 1) if k > 4 else min(k + 12, n - 1)


def longest(layout: Layout, k: int) -> int:
    """Length that lists may grow to under that layout."""
    return layout.longest or widest(k, layout.n, layout.partitions)


def next_width(width: int, most: int, shortfall: float) -> int:
    """Length of the lists in the round after one of `width` that missed `shortfall` times as much as it may.

    Longer lists cost in proportion to their square: far from the target a large step saves a round, near it a fresh
    drawing does most of the work. most: what they may grow to.
    """
    step = 2.25 if shortfall > 2.5 else 1.5 if shortfall > 1.3 else 1.2
    return min(int(width * step), max(most, width))


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


def local_cost(
    metric: Metric, dtype: str, d: int, width: int, threads: int = 1, rows: int | None = None
) -> tuple[int, int]:
    """Bytes per row, and bytes besides, of a local task whose lists are of `width`; rows: how many, None for any."""
    companions = companion_cap(metric.selected(width))
    row = memory.local_row(metric, dtype, d, width, LEAF_FANOUT, companions)
    return row, memory.local_fixed(metric, dtype, d, width, threads, rows)


def whole_cost(layout: Layout, metric: Metric, width: int, threads: int) -> int:
    """Bytes of the local task that holds all rows, with lists of `width`."""
    return memory.whole_bytes(layout, metric, width, threads, companion_cap(metric.selected(width)))


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
    whole["longest"] = 0
    return whole | exchange


def _power_below(value: float, most: int) -> int:
    power = 1
    while 2 * power <= min(value, most):
        power *= 2
    return power


class _Planner:
    """The arithmetic of one plan: what tasks may take together, and what each stage would take under a layout.

    usable: bytes of a worker for its tasks. What a layout is follows from the points, the spec and these alone: never
    from how many workers or threads there are.
    """

    def __init__(self, spec: BuildSpec, extent: Extent, usable: int) -> None:
        self.spec, self.usable = spec, usable
        self.n, self.d, self.dtype, self.chunk_rows = extent[:4]
        self.item = memory.item_bytes(self.dtype)
        self.sent = memory.sent_bytes(spec.kind, self.dtype, self.d, spec.exchange_dtype)
        # Where nearness is not mutual a row travels twice: to where it looks, and to where it may be found.
        self.copies = FANOUT if spec.kind.euclidean else FANOUT + LOOKED_IN

    def layout(self) -> Layout | None:
        """Everything in one task if that fits and no more of them are asked for, else a cut; None if neither fits."""
        if self.usable <= 0:
            return None
        asked = self.spec.partitions or 1
        return (self.whole() if asked == 1 else None) or self.cut(max(2, asked))

    def whole(self) -> Layout | None:
        """Everything in one task, if it fits: with lists that grow as long as is of use, or at least as in a cut."""
        k, metric = self.spec.n_neighbors, self.spec.kind
        lengths = sorted({widest(k, self.n, partitions) for partitions in (1, 2)}, reverse=True)
        layout = Layout(
            n=self.n,
            d=self.d,
            dtype=self.dtype,
            block_rows=1,
            cap=self.n,
            probes=0 if self.n <= EXACT_ROWS else probe_count(self.n, metric.products(self.d)),
            exact=self.n <= EXACT_ROWS,
            chunk_rows=self.chunk_rows,
        )
        for length in lengths:
            most = replace(layout, longest=0 if length == lengths[0] else length)
            for rows in _powers_down(min(2 * self.n - 1, LARGEST_BLOCK)):
                one = replace(most, block_rows=rows)
                if not self._worth_tasks(one):
                    break
                if max(whole_cost(one, metric, length, 1), memory.scan_bytes(one)) <= self.usable:
                    return one
        return None

    def cut(self, at_least: int) -> Layout | None:
        """As few partitions as keep every task within the memory, but at least so many; None where none does."""
        room = min(max(self.usable // FOR_THREADS, self._thread), MOST_THREADS * self._thread)
        row, fixed = self._row_cost(1)
        cap = (self.usable - room - (fixed - self._thread)) // row
        if cap < max(1024, 16 * widest(self.spec.n_neighbors, self.n, 2)):
            return None
        partitions = max(at_least, shared_evenly(ceil(self.n * self.copies / (cap * AIM))))
        cap = min(cap, max(1024, ceil(UNEVEN * self.n * self.copies / (partitions * AIM))))
        leaves = leaves_of_all(self.spec.kind, self.n, self.d, self.spec.n_neighbors)
        sample = SAMPLES_PER_PIVOT * pivot_count(partitions)
        layout = Layout(
            n=self.n,
            d=self.d,
            dtype=self.dtype,
            block_rows=1,
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
        return self._in_blocks(layout) or self._in_blocks(plain)

    def forced(self, layout: Layout, cut: Cut) -> Layout:
        """The layout cut as it is asked for, whatever memory there is."""
        leaves = leaves_of_all(self.spec.kind, self.n, self.d, self.spec.n_neighbors)
        return replace(layout, block_rows=cut.block_rows, **forced_fields(cut, self.spec.kind, self.n, leaves))

    def _in_blocks(self, layout: Layout) -> Layout | None:
        """The layout with the largest blocks of which a few find room side by side, or else one."""
        largest = min(LARGEST_BLOCK, max(layout.cap // 2, 1), 2 * self.n - 1)
        for side_by_side in (BLOCKS_AT_ONCE, 2, 1):
            for rows in _powers_down(largest):
                one = replace(layout, block_rows=rows)
                if not self._worth_tasks(one) or (side_by_side > 1 and rows < min(LEAST_AT_ONCE, self.n)):
                    break
                if self._fits(one, side_by_side):
                    return one
        return None

    def _fits(self, layout: Layout, side_by_side: int) -> bool:
        """Whether tasks of a block find room side by side, so many, and every other one alone."""
        costs = [(cost, side_by_side if cost.tasks == layout.blocks else 1) for cost in self.costs(layout)]
        return max(cost.projected * min(cost.tasks, many) for cost, many in costs) <= self.usable

    def _worth_tasks(self, layout: Layout) -> bool:
        """Whether blocks are large enough that the tasks of a stage are not countless."""
        return layout.block_rows >= min(self.n, LEAST_BLOCK, max(1, LEAST_BLOCK_BYTES // (self.d * self.item)))

    @property
    def _thread(self) -> int:
        """Bytes that one more thread adds to a local task."""
        return memory.thread_bytes(self.spec.kind, self.d)

    def _row_cost(self, threads: int) -> tuple[int, int]:
        """Bytes per row, and bytes besides, of the local task of a partition among others."""
        return local_cost(self.spec.kind, self.dtype, self.d, widest(self.spec.n_neighbors, self.n, 2), threads)

    def local(self, layout: Layout, threads: int) -> int:
        """Bytes of a local task on so many threads."""
        if layout.partitions == 1:
            return whole_cost(layout, self.spec.kind, longest(layout, self.spec.n_neighbors), threads)
        row, fixed = self._row_cost(threads)
        return fixed + row * layout.cap

    def hands(self, layout: Layout, threads: int) -> tuple[int, int]:
        """How many of so many threads a worker uses, and local tasks that they do side by side."""
        return hands(threads, layout.partitions, lambda each: self.local(layout, each), self.usable)

    def costs(self, layout: Layout, threads: int = 1, at_once: int = 1) -> tuple[StageCost, ...]:
        """The stages of the layout, in their order, with their projected bytes and what they read and write.

        threads: of a worker; at_once: local tasks that they do side by side.
        """
        n, d, k = layout.n, layout.d, self.spec.n_neighbors
        metric = self.spec.kind
        width = longest(layout, k)
        data, lists = n * d * self.item, n * width * 12
        result = n * k * 12
        blocks = layout.blocks
        local = self.local(layout, max(threads // at_once, 1))
        costs = [StageCost("scan", blocks, memory.scan_bytes(layout), data, 0, False)]
        if layout.partitions == 1:
            # The same task solves the probe rows, and publishes what is good enough.
            costs.append(StageCost("local", 1, local, data + lists, result, True))
            return self._side_by_side(costs, threads, at_once)
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
            StageCost("local", layout.partitions, local, mail, int(copies * lists), True),
            StageCost("merge", blocks, memory.merge_bytes(layout, width), int(copies * lists) + lists, lists, True),
            self._last_cost(layout, width, data, lists, result),
        ]
        return self._side_by_side(costs, threads, at_once)

    def _side_by_side(self, costs: list[StageCost], threads: int, local: int) -> tuple[StageCost, ...]:
        return tuple(
            replace(cost, at_once=local if cost.name == "local" else tasks_at_once(cost, threads, self.usable))
            for cost in costs
        )

    def _last_cost(self, layout: Layout, width: int, data: int, lists: int, result: int) -> StageCost:
        """The stage that writes the graph: a block at a time, or many that pass over the points together."""
        metric, k = self.spec.kind, self.spec.n_neighbors
        if self.spec.exchange_dtype is None:
            return StageCost("publish", layout.blocks, memory.publish_bytes(layout, width, k), lists, result, False)
        each = exact_blocks(self.spec, layout, width)
        tasks = -(-layout.blocks // each)
        need = memory.exact_bytes(layout, metric, width, k, each)
        return StageCost("exact", tasks, need, (tasks + 1) * data + lists, result, False)


def _powers_down(most: int) -> Iterator[int]:
    """Powers of two from the largest that is no more than `most` down to 1."""
    power = _power_below(most, most)
    while power:
        yield power
        power //= 2


def make_plan(spec: BuildSpec, extent: Extent, workers: Workers, cut: Cut | None = None) -> Plan:
    """The cheapest cut of dense points that keeps each worker within its memory, on as many threads as fit.

    cut: one that is forced instead.

    BudgetError names what is needed, what there is and the nearest setting that fits; SpecError where rows are too few.
    """
    spec.check_rows(extent.n)
    if spec.function is not None:
        workers = replace(workers, reserved=workers.reserved + COMPILER)
    found = _fit(spec, extent, workers)
    if found is None:
        raise too_small(spec, extent, workers, lambda more: _fit(spec, extent, more) is not None)
    planner, layout, threads, at_once = found
    if workers.named and threads < workers.threads:
        raise too_many_threads(spec, extent, workers, threads, lambda more: _all_threads_fit(spec, extent, more))
    if cut is not None:
        layout = planner.forced(layout, cut)
        threads, at_once = planner.hands(layout, workers.threads_for(layout.partitions))
    return _planned(planner, workers, layout, threads, at_once)


def plan_of_layout(spec: BuildSpec, extent: Extent, workers: Workers, layout: Layout) -> Plan:
    """The plan for a layout that another one has chosen; its `peak` says whether it fits these workers."""
    if spec.function is not None:
        workers = replace(workers, reserved=workers.reserved + COMPILER)
    planner = _Planner(spec, extent, workers.usable)
    return _planned(planner, workers, layout, *planner.hands(layout, workers.threads_for(layout.partitions)))


def _planned(planner: _Planner, workers: Workers, layout: Layout, threads: int, at_once: int) -> Plan:
    spec, n, d = planner.spec, planner.n, planner.d
    costs = planner.costs(layout, threads, at_once)
    lists = 2 * n * 12 * longest(layout, spec.n_neighbors)
    mail = sum(cost.written for cost in costs if cost.name in ("draw", "route", "local"))
    if spec.kind.euclidean and d < TREE_COLUMNS:
        mail += memory.settled_disk(layout, pivot_count(layout.partitions))
    return Plan(
        spec=spec,
        layout=layout,
        costs=costs,
        task_memory=planner.usable,
        worker_memory=workers.memory,
        reserved=workers.reserved,
        threads=threads,
        disk=lists + (mail if layout.partitions > 1 else 0),
        graph=n * spec.n_neighbors * 12,
        workers=workers.count,
        share=workers.share,
        available=workers.threads_for(layout.partitions),
    )


def _fit(spec: BuildSpec, extent: Extent, workers: Workers) -> tuple[_Planner, Layout, int, int] | None:
    """The layout that fits, with its planner, the threads that a worker uses and local tasks side by side; or None."""
    planner = _Planner(spec, extent, workers.usable)
    layout = planner.layout()
    if layout is None:
        return None
    return planner, layout, *planner.hands(layout, workers.threads_for(layout.partitions))


def _all_threads_fit(spec: BuildSpec, extent: Extent, workers: Workers) -> bool:
    found = _fit(spec, extent, workers)
    return found is not None and found[2] >= workers.threads
