"""Local: one partition alone, in memory: read it, let an engine improve its lists, write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..kernels import merge
from ..kernels.groups import keep_range
from ..kernels.neighbours import Lists, empty
from ..kernels.random import seed_of
from ..kernels.ranges import even_cuts
from ..storage import graph, listings, mailbox
from ..values.memory import WRITTEN_AT_ONCE, listed_bytes, strip_rows
from ..values.partitioning import (
    LEAF_FANOUT,
    local_cost,
    whole_cost,
)
from ..values.plan import Job, Stage, Task
from ..values.recall import EXACT, estimate_recall, good_enough
from ..values.units import Unit
from . import kdtree, leaves
from .drawn import Shared
from .measured import measured, side_by_side
from .partition import Partition, Standing, Work, in_order, with_codes
from .points import Held, Ruler, assemble, read_rows, width_of
from .probe import probes_between, recall_counters, solve_probes
from .publish import publish_rows
from .route import listed_at, mail_of
from .wire import Wire, gathered

LOCAL = 4  # part of a seed, after those of other stages
# Ranges of work per thread: enough that an uneven one does not hold up the rest.
PARTS = 4


def plan_local(job: Job, number: int, before: int, width: int, units: list[Unit], brief: bool = False) -> Stage:
    """One task a unit; without units one task holds everything.

    before: length of the lists that rows bring along, 0 in the first round; width: of those that they leave with;
    brief: rows look in one leaf each, and do not walk from there.
    """
    rows = max((unit.size for unit in units), default=job.layout.n)
    row, fixed = local_cost(job.kind, job.layout.dtype, job.layout.columns_held(job.kind), width, job.threads, rows)
    projected = fixed + listed_bytes(job.layout) + rows * row
    if not (units or job.layout.sparse):
        projected = whole_cost(job.layout, job.kind, width, job.threads)
    common = {"before": before, "width": width, "brief": brief}
    whats: list[dict[str, Any]] = [
        {"slices": [list(piece) for piece in unit.slices], "partitions": list(unit.partitions)} for unit in units
    ]
    tasks = [Task("local", number, i, common | what) for i, what in enumerate(whats or [{"slices": None}])]
    # The largest first: what is left for the end is small, and workers end together.
    tasks.sort(key=lambda task: -units[task.index].size if units else 0)
    return Stage("local", run_local, tasks, projected, job.threads)


@measured
def run_local(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Improve the lists of the rows of one unit and write them, in the order in which the rows came."""
    slices = task.arguments["slices"]
    partition = read_everything(job, task) if slices is None else read_mail(job, task)
    lists, order, counters = solve(job, task, partition)
    read = partition.points.nbytes + partition.known.nbytes + partition.distances.nbytes
    if slices is None:
        counters |= write_whole(job, task, partition, lists, order)
    else:
        write_found(job, task, partition, lists, order)
    return counters, read, lists.ids.shape[0] * lists.ids.shape[1] * 12


def read_everything(job: Job, task: Task) -> Partition:
    """All rows of the source, with the lists of the round before."""
    n = job.layout.n
    known, distances = np.empty((n, 0), np.int64), np.empty((n, 0), np.float32)
    if task.round > 1:
        known, distances = graph.read_lists(job.out, task.round - 1, 0, n)
    return Partition(*read_rows(job, 0, n), np.arange(n), None, known, distances)


def read_mail(job: Job, task: Task) -> Partition:
    """The rows that the blocks routed to this unit."""
    slices = task.arguments["slices"]
    before = task.arguments["before"]
    shared = Shared.read(job, task.round)
    record = mail_of(job, before, shared.leaves is not None)
    size = sum(last - first for _, first, last in slices)
    rows, roles = np.empty(size, np.int64), np.zeros(size, np.uint8)
    known, distances = np.empty((size, before), np.int64), np.empty((size, before), np.float32)
    leaves = np.empty((size, LEAF_FANOUT if shared.leaves is not None else 0), np.int32)

    def strips() -> Iterator[tuple[int, Any]]:
        at, d = 0, job.layout.d
        for block, first, last in slices:
            entry = first_entry(job, task.round, block, first)
            wire = Wire.read(job, task.round, block, *task.arguments["partitions"]) if job.exchange_dtype else None
            starts = (
                mailbox.read(job.scratch, f"{task.round}/mail/{block}", "starts") if job.exchange_dtype else np.empty(0)
            )
            # Whole chunks: one that is read in part is read as often as it has parts.
            for start, stop in mailbox.strips(first, last, max(1, WRITTEN_AT_ONCE // record.itemsize)):
                mail = mailbox.read_records(job.scratch, f"{task.round}/mail/{block}", record, start, stop)
                here = slice(at, at + len(mail))
                rows[here] = mail["row"] + np.int64(job.layout.block(block)[0])
                if before:
                    known[here], distances[here] = mail["ids"], mail["distances"]
                if "leaves" in record.names:
                    leaves[here] = mail["leaves"]
                if "role" in record.names:
                    roles[here] = mail["role"]
                if job.layout.sparse:
                    lengths = mail["length"]
                    yield at, listings.read_entries(job.scratch, listed_at(task.round, block), lengths, entry, d)
                    entry += int(lengths.sum())
                elif wire is not None:
                    yield at, wire.restored(mail["points"], mailbox.partition_of(starts, start, stop))
                else:
                    yield at, mail["points"]
                at += len(mail)

    held = gathered(size, width_of(job), strips()) if job.exchange_dtype else assemble(Ruler.of(job), size, strips())
    standing = None
    if shared.leaves is not None:
        first, last = np.searchsorted(shared.leaves, task.arguments["partitions"]).tolist()
        standing = Standing(leaves, last - first, keep_range(leaves, first, last))
    return Partition(*held, rows, None if job.kind.euclidean else roles, known, distances, standing, shared.codes)


def first_entry(job: Job, number: int, block: int, first: int) -> int:
    """Where what sparse rows list begins, of those that a block sent from `first` on, where a partition's begin."""
    if not job.layout.sparse:
        return 0
    starts, entries = (mailbox.read(job.scratch, f"{number}/mail/{block}", name) for name in ("starts", "entries"))
    return int(entries[np.searchsorted(starts, first)])


def solve(job: Job, task: Task, partition: Partition) -> tuple[Lists, np.ndarray, dict[str, float]]:
    """The improved lists, in the order of leaves or of a k-d tree, with that order and what was counted.

    Puts the arrays of `partition` into that order, in place: position i holds what came as row order[i].
    """
    points, metric = partition.points, job.kind
    seed = seed_of(job.spec.random_state, LOCAL, task.round, task.index)
    table, present = merge.table_of(partition.rows)
    if partition.roles is not None:
        merge.share_roles(table, partition.rows, partition.roles)
    with side_by_side(job.threads) as each:
        work = Work(job, task.round, seed, each, PARTS * job.threads if job.threads > 1 else 1)
        if job.layout.exact and metric.form != "inner":
            return *solve_by_pairs(work, task, partition), {"kdtree": 0, "compared": len(points) ** 2}
        coded = None
        if task.arguments["slices"] is None and task.round == 1 and not job.layout.exact:
            coded = with_codes(work, points) if metric.form == "inner" else None
            solve_probes(job, Held(points, partition.raw), coded and coded[-1], each, work.parts)
        tree, tried = kdtree.choose(work, points, present)
        if tree is None:
            coded = coded or with_codes(work, points, partition.codes)
            lists, order, counters = leaves.solve(work, task, partition, present, coded)
        else:
            # What a tree takes is planned without codes.
            del coded
            lists, order, counters = kdtree.solve(work, task, partition, present, tree)
    return lists, order, tried | counters


def solve_by_pairs(work: Work, task: Task, partition: Partition) -> tuple[Lists, np.ndarray]:
    """The lists after the distances of all pairs, and the order of the rows, which stays as it was."""
    m = len(partition.rows)
    final, lists = partition.judge(work.job), empty(m, min(task.arguments["width"], m - 1))
    work.each(lambda a, b: final.offer_all(lists, a, b), even_cuts(m, work.parts))
    return lists, np.arange(m)


def write_whole(job: Job, task: Task, partition: Partition, lists: Lists, order: np.ndarray) -> dict[str, float]:
    """Write the lists of all rows block by block, as the finished graph if they are good enough, else as the round's.

    Counters: hits of the probe rows, rows that are short of neighbours, and whether the graph was published.
    """
    positions, k = in_order(order), job.spec.n_neighbors
    probes, thresholds = probes_between(job, 0, job.layout.n)
    counters = recall_counters(merge.count_hits(lists, positions[probes], thresholds, k))
    short = int((lists.ids[:, k - 1] == -1).sum())
    recall = EXACT if job.layout.exact else estimate_recall(**counters, k=k)
    done = good_enough(recall, short, job.spec.target_recall)
    for index in range(job.layout.blocks):
        first, last = job.layout.block(index)
        kept = k if done else lists.ids.shape[1]
        found = merge.globalise(lists, partition.rows, partition.known, positions[first:last], kept)
        if done:
            publish_rows(job, first, *found)
        else:
            graph.write_lists(job.out, task.round, first, *found)
    return counters | {"short": short, "published": done}


def write_found(job: Job, task: Task, partition: Partition, lists: Lists, order: np.ndarray) -> None:
    """Write the lists of a unit in the order of its mail, for the merge."""
    positions = in_order(order)
    record = mailbox.found_record(lists.ids.shape[1])
    chunk = len(positions) // len(task.arguments["slices"])
    place = f"{task.round}/found/{task.index}"
    with mailbox.RecordWriter(job.scratch, place, len(positions), record, chunk) as writer:
        for start, stop in mailbox.strips(0, len(positions), strip_rows(job.layout.columns_held(job.kind))):
            chosen = positions[start:stop]
            strip = np.empty(stop - start, record)
            found = merge.globalise(lists, partition.rows, partition.known, chosen, lists.ids.shape[1])
            strip["ids"], strip["distances"] = found
            writer.append(strip)
