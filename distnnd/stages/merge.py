"""Merge: each block takes the lists that the partitions found for its rows."""

from __future__ import annotations

import numpy as np

from ..kernels.merge import count_hits, fold, offer_to_all, widened
from ..storage import graph, mailbox
from ..values.memory import merge_bytes, strip_rows
from ..values.plan import Job, Stage, Task
from .measured import measured
from .probe import count_named, probes_between, recall_counters
from .scan import ZEROS


def plan_merge(job: Job, number: int, width: int, pieces: list[list[tuple[int, int, int, int]]]) -> Stage:
    """One task a block; pieces: for each block what the units found (see values.partitioning.pieces_of)."""
    tasks = [
        Task("merge", number, index, {"width": width, "pieces": [list(piece) for piece in mine]})
        for index, mine in enumerate(pieces)
    ]
    return Stage("merge", run_merge, tasks, merge_bytes(job.layout, width))


@measured
def run_merge(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the lists of block `task.index` as the round's; counters: hits of its probe rows, rows that are short."""
    first, last = job.layout.block(task.index)
    width = task.arguments["width"]
    ids, distances = np.empty((last - first, 0), np.int64), np.empty((last - first, 0), np.float32)
    if task.round > 1:
        ids, distances = graph.read_lists(job.out, task.round - 1, first, last)
    lists = widened(ids, distances, width)
    read = ids.nbytes + distances.nbytes
    rows = mailbox.read(job.scratch, f"{task.round}/mail/{task.index}", "rows")
    record = mailbox.found_record(width)
    for unit, start, mail_first, mail_last in task.arguments["pieces"]:
        for a, b in mailbox.strips(mail_first, mail_last, strip_rows(job.layout.columns_held(job.kind))):
            at = start + a - mail_first
            found = mailbox.read_records(job.scratch, f"{task.round}/found/{unit}", record, at, at + b - a)
            fold(lists, rows[a:b], np.ascontiguousarray(found["ids"]), np.ascontiguousarray(found["distances"]))
            read += found.nbytes
    if task.round == 1 and job.kind.zeros_are_near:
        blocks = range(job.layout.blocks)
        zeros = [mailbox.read(job.scratch, f"{ZEROS}/{block}", "rows") for block in blocks]
        offer_to_all(lists, np.concatenate(zeros), first)
    if job.exchange_dtype:
        hits = count_named(job, lists, first, last)
    else:
        hits = count_hits(lists, *probes_between(job, first, last), job.spec.n_neighbors)
    graph.write_lists(job.out, task.round, first, lists.ids, lists.distances)
    short = int((lists.ids[:, job.spec.n_neighbors - 1] < 0).sum())
    return recall_counters(hits) | {"short": short}, read, lists.ids.nbytes + lists.distances.nbytes
