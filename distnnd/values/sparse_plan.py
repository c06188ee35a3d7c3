"""How sparse points are cut: into blocks that each look through all rows, exactly, or partitions of their sketches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from . import memory
from .budget import COMPILER, Workers, hands, tasks_at_once, too_many_threads, too_small
from .errors import SpecError
from .metric import CUSTOM, Metric, of_sparse
from .metrics_table import ENTRIES
from .partitioning import (
    AIM,
    EXACT_ROWS,
    FANOUT,
    LOOKED_IN,
    SAMPLES_PER_PIVOT,
    forced_fields,
    local_cost,
    pivot_count,
    probe_count,
    widest,
)
from .plan import Cut, Extent, Layout, Plan, StageCost
from .spec import BuildSpec

# Rows of a block at most, as many as the engine takes at once; and at least, as each looks through all others.
LARGEST_BLOCK, LEAST_BLOCK = 65536, 1024
# Wider rows are compared by the columns of the rows that look, so that no array is as long as there are columns.
MOST_COLUMNS = 2**22
# Nanoseconds of an entry that a row goes through, by what a shared column adds where that is no product, and of a pair.
ENTRY, ENTRIES_OF, PAIR = 1.5, {"jensen_shannon": 25.0, "jensenshannon": 25.0}, 80.0
# An exact answer is worth so many nanoseconds a row: about what leaves and passes over sketches take.
AFFORDABLE = 500_000.0

# Metrics that columns which both rows have decide, with the size of each row; see kernels/shared_columns.py.
_BY_COLUMNS = (
    *("euclidean", "sqeuclidean", "seuclidean", "cosine", "inner_product", "true_angular", "correlation", "spearmanr"),
    *("hellinger", "manhattan", "canberra", "braycurtis", "hamming", "jensen_shannon", "jensenshannon"),
)


def by_columns(metric: Metric) -> bool:
    """Whether inverted lists find the neighbours under the metric, exactly."""
    if metric.name in ("minkowski", "weighted_minkowski"):
        return metric.param("p") == 2 or (metric.param("p") == 1 and metric.param("w") is None)
    return metric.name in _BY_COLUMNS or metric.form == "set"


def check_sparse(metric: Metric) -> None:
    """SpecError for a metric that sparse rows do not have."""
    if metric.name != CUSTOM and not ENTRIES[metric.name].sparse:
        raise SpecError(
            f"metric {metric.name!r} takes no sparse points; write them out, X.toarray(), or take another metric"
        )


def exact_cost(spec: BuildSpec, extent: Extent) -> float:
    """About how many nanoseconds a row an exact answer takes."""
    assert extent.sparsity is not None
    if spec.function is None and by_columns(spec.kind):
        return extent.sparsity.products * ENTRIES_OF.get(spec.kind.name, ENTRY) / extent.n
    # A pair of columns of a transport costs about what a column of others does.
    return PAIR * extent.n * spec.kind.products(extent.d) / extent.d


def block_bytes(layout: Layout, k: int, threads: int) -> int:
    """Bytes of a task that looks for the neighbours of a block among all rows, block by block.

    Two blocks as read, by weight and by column, each entry as numbers of 64 bits in between; the lists of one; arrays
    over the columns; totals and candidates of each thread.
    """
    columns = min(layout.d, MOST_COLUMNS) + 1
    rooms = threads * LARGEST_BLOCK * 24
    return memory.SLACK + 120 * layout.block_entries + layout.block_rows * (21 * k + 120) + 40 * columns + rooms


def scan_bytes(layout: Layout) -> int:
    """A block as it is read and put into canonical form, and the sampled rows."""
    block = memory.LISTED * layout.block_entries + 32 * layout.block_rows
    return memory.SLACK + block + memory.sampled_listings(layout)


def plan_sparse(spec: BuildSpec, extent: Extent, workers: Workers, cut: Cut | None = None) -> Plan:
    """Blocks, as few as fit; where an exact answer costs too much, sketches in partitions.

    cut: a forced one. Where each block looks through all rows anyway, it makes at least so many blocks as partitions.

    BudgetError names what is needed, what there is and the nearest setting that fits; SpecError where rows are too few.
    """
    spec.check_rows(extent.n)
    if spec.function is not None:
        workers = replace(workers, reserved=workers.reserved + COMPILER)
    found = _fit(spec, extent, workers)
    if found is None:
        raise too_small(spec, extent, workers, lambda more: _fit(spec, extent, more) is not None)
    layout, threads, at_once = found
    if workers.named and threads < workers.threads:
        raise too_many_threads(spec, extent, workers, threads, lambda more: _all_threads_fit(spec, extent, more))
    if cut is not None:
        layout = _forced(spec, extent, layout, cut)
        threads, at_once = _hands(spec, extent, layout, workers)
    return _planned(spec, extent, workers, layout, threads, at_once)


def sparse_plan_of_layout(spec: BuildSpec, extent: Extent, workers: Workers, layout: Layout) -> Plan:
    """The plan for a layout that another one has chosen; its `peak` says whether it fits these workers."""
    if spec.function is not None:
        workers = replace(workers, reserved=workers.reserved + COMPILER)
    return _planned(spec, extent, workers, layout, *_hands(spec, extent, layout, workers))


def _planned(spec: BuildSpec, extent: Extent, workers: Workers, layout: Layout, threads: int, at_once: int) -> Plan:
    each = max(threads // at_once, 1)
    costs = tuple(
        replace(cost, at_once=at_once if _uses_threads(cost) else tasks_at_once(cost, threads, workers.usable))
        for cost in _costs(spec, extent, layout, each)
    )
    lists = 0 if layout.exact else 2 * extent.n * 12 * widest(spec.n_neighbors, extent.n, layout.partitions)
    mail = sum(cost.written for cost in costs if cost.name in ("draw", "route", "local")) if layout.copies > 1 else 0
    return Plan(
        spec=spec,
        layout=layout,
        costs=costs,
        task_memory=workers.usable,
        worker_memory=workers.memory,
        reserved=workers.reserved,
        threads=threads,
        disk=lists + mail,
        graph=extent.n * spec.n_neighbors * 12,
        workers=workers.count,
        share=workers.share,
        available=workers.threads_for(layout.partitions),
    )


def _uses_threads(cost: StageCost) -> bool:
    """Whether a task of that stage uses several threads where it is alone."""
    return cost.name in ("blocks", "local")


def _costs(spec: BuildSpec, extent: Extent, layout: Layout, threads: int) -> tuple[StageCost, ...]:
    """The stages of the layout, in their order; threads: of a task that uses several."""
    assert extent.sparsity is not None
    k, n, blocks = spec.n_neighbors, layout.n, layout.blocks
    data, result = 8 * (extent.sparsity.entries + n), n * k * 12
    scan = StageCost("scan", blocks, scan_bytes(layout), data, 0, False)
    if layout.exact:
        task = block_bytes(layout, k, threads)
        return scan, StageCost("blocks", blocks, task, blocks * data, result, True)
    metric, width = of_sparse(spec.kind), widest(k, n, layout.partitions)
    held, lists = layout.held_by(metric), n * width * 12
    task = _local_bytes(metric, held, width, threads)
    if layout.partitions == 1:
        return scan, StageCost("local", 1, task, data + lists, result, True)
    pivots, found = pivot_count(layout.partitions), int(layout.copies * lists)
    mail = int(layout.copies * (data + lists))
    return (
        scan,
        StageCost("probe", blocks, memory.probe_bytes(held, metric, k + 8), data, 0, False),
        StageCost("draw", 1, memory.draw_bytes(held, metric, pivots), layout.sample * 8, pivots * held.d * 4, True),
        StageCost("route", blocks, memory.route_bytes(held, metric, width, pivots), data + lists, mail, True),
        StageCost("local", layout.partitions, task, mail, found, True),
        StageCost("merge", blocks, memory.merge_bytes(held, width), found + lists, lists, True),
        StageCost("publish", blocks, memory.publish_bytes(held, width, k), lists, result, False),
    )


def _local_bytes(metric: Metric, held: Layout, width: int, threads: int) -> int:
    row, fixed = local_cost(metric, held.dtype, held.d, width, threads)
    return fixed + row * held.cap + memory.listed_bytes(held)


def _fit(spec: BuildSpec, extent: Extent, workers: Workers) -> tuple[Layout, int, int] | None:
    """The layout that fits, the threads that a worker uses, and heavy tasks side by side; None where there is none.

    The layout is the same however many workers and threads there are.
    """
    if extent.n > EXACT_ROWS and exact_cost(spec, extent) > AFFORDABLE:
        layouts = _in_partitions(spec, extent)
    else:
        layouts = _in_blocks(spec, extent)
    for layout in layouts:
        if max(cost.projected for cost in _costs(spec, extent, layout, 1)) <= workers.usable:
            return layout, *_hands(spec, extent, layout, workers)
    return None


def _hands(spec: BuildSpec, extent: Extent, layout: Layout, workers: Workers) -> tuple[int, int]:
    def need(threads: int) -> int:
        return max(cost.projected for cost in _costs(spec, extent, layout, threads) if _uses_threads(cost))

    return hands(workers.threads_for(layout.partitions), layout.partitions, need, workers.usable)


def _all_threads_fit(spec: BuildSpec, extent: Extent, workers: Workers) -> bool:
    found = _fit(spec, extent, workers)
    return found is not None and found[1] >= workers.threads


def _in_blocks(spec: BuildSpec, extent: Extent) -> Iterator[Layout]:
    """Exact layouts, of the largest blocks first, or of as many as are asked for."""
    rows = min(LARGEST_BLOCK, 1 << (extent.n - 1).bit_length())
    while rows > LEAST_BLOCK and -(-extent.n // rows) < (spec.partitions or 1):
        rows //= 2
    while rows >= min(LEAST_BLOCK, extent.n):
        yield replace(_layout(extent, rows), partitions=-(-extent.n // rows), exact=True)
        rows //= 2


def _in_partitions(spec: BuildSpec, extent: Extent) -> Iterator[Layout]:
    """Layouts by sketches: all rows at once, then ever more partitions; or at least as many as are asked for."""
    metric, n = of_sparse(spec.kind), extent.n
    rows = min(LARGEST_BLOCK, 1 << (n - 1).bit_length())
    whole = _layout(extent, rows)
    probes = probe_count(n, metric.products(whole.columns_held(metric)))
    asked = spec.partitions or 1
    if asked == 1:
        yield replace(whole, cap=n, probes=probes)
    copies, partitions = FANOUT if metric.euclidean else FANOUT + LOOKED_IN, max(2, asked)
    cap = n
    while cap > max(1024, 16 * widest(spec.n_neighbors, n, 2)):
        cap = min(n, ceil(n * copies / (partitions * AIM)))
        while rows > max(LEAST_BLOCK, cap // 2):
            rows //= 2
        piece = _layout(extent, rows)
        yield replace(
            piece,
            partitions=partitions,
            fanout=FANOUT,
            copies=copies,
            cap=cap,
            entries=cap * piece.block_entries // rows,
            probes=probes,
            sample=min(n, SAMPLES_PER_PIVOT * pivot_count(partitions)),
        )
        partitions = partitions + max(1, partitions // 4)


def _forced(spec: BuildSpec, extent: Extent, layout: Layout, cut: Cut) -> Layout:
    """The layout cut as it is asked for, whatever memory there is; rows of a block are a power of two."""
    n = extent.n
    if layout.exact and not cut.sketches:
        rows = _power_below(min(cut.block_rows, -(-n // cut.partitions)))
        return replace(_layout(extent, rows), partitions=-(-n // rows), exact=True)
    piece = _layout(extent, _power_below(cut.block_rows))
    fields = forced_fields(cut, of_sparse(spec.kind), n)
    assert piece.entries is not None
    held = min(piece.entries, fields["cap"] * piece.block_entries // piece.block_rows)
    return replace(piece, entries=held, **fields)


def _power_below(rows: int) -> int:
    return 1 << (rows.bit_length() - 1)


def _layout(extent: Extent, rows: int) -> Layout:
    """Blocks of so many rows."""
    n, d, dtype, chunk_rows, sparsity = extent
    assert sparsity is not None
    return Layout(
        n=n,
        d=d,
        dtype=dtype,
        block_rows=rows,
        chunk_rows=chunk_rows,
        entries=sparsity.entries,
        block_entries=sparsity.most(rows),
    )
