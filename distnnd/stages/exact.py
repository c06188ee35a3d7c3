"""Exact: the finished graph of rows that travelled rounded, its distances measured again from the source.

A task holds the rows of some consecutive blocks with their lists, and passes over the whole source once: the rows of
each strip are the neighbours that some entries of the lists name. Lists are longer than k, so that the k nearest are
among them though they were selected by rounded distances.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from ..kernels.judge import Judge
from ..kernels.merge import count_hits
from ..kernels.neighbours import Lists, sort_rows
from ..storage import graph, mailbox
from ..values.memory import exact_bytes, strip_rows
from ..values.partitioning import exact_blocks
from ..values.plan import Job, Stage, Task
from ..values.points import rows_in
from .measured import measured
from .points import Ruler, assemble, read_rows, read_strips
from .probe import probes_between, recall_counters
from .publish import publish_rows


def plan_exact(job: Job, number: int, width: int) -> Stage:
    """One task for as many blocks as fit, from the lists of round `number`, which are of `width`."""
    layout, each = job.layout, exact_blocks(job.spec, job.layout, width)
    tasks = [
        Task("exact", number, index, {"blocks": list(blocks)})
        for index, blocks in enumerate(mailbox.strips(0, layout.blocks, each))
    ]
    return Stage("exact", run_exact, tasks, exact_bytes(layout, job.kind, width, job.spec.n_neighbors, each))


class Asked(NamedTuple):
    """The lists of a block, and in which order their entries are asked for.

    first: the first row of the block; lists: ids int64[m, w], canonical distances float32[m, w] once they are measured;
    order: int32[m * w], the entries, counted through, by id.
    """

    first: int
    lists: Lists
    order: np.ndarray

    @classmethod
    def read(cls, job: Job, number: int, block: int) -> Asked:
        """Those that round `number` left of a block."""
        first, last = job.layout.block(block)
        ids, distances = graph.read_lists(job.out, number, first, last)
        order = np.argsort(ids, axis=None).astype(np.int32)
        return cls(first, Lists(ids, distances, np.zeros(ids.shape, np.uint8)), order)

    def measure(self, points: np.ndarray, judge: Judge, start: int, stop: int) -> None:
        """Give the entries that name the rows start .. stop their distances; points: prepared rows of the block.

        judge: of the rows start .. stop.
        """
        ids, distances = self.lists.ids.reshape(-1), self.lists.distances.reshape(-1)
        first, last = (bisect_left(self.order, end, key=lambda entry: ids[entry]) for end in (start, stop))
        # Row by row of the block, which is large; those of the strip are at hand.
        mine = np.sort(self.order[first:last])
        for a, b in mailbox.strips(0, len(mine), strip_rows(points.shape[1])):
            entries = mine[a:b]
            # Each pair as a list of one entry: what measures lists measures pairs.
            labels = (ids[entries] - start).astype(np.int32)[:, None]
            pairs = Lists(labels, np.empty(labels.shape, np.float32), np.zeros(labels.shape, np.uint8))
            judge.measure(pairs, 0, len(entries), points[entries // self.lists.ids.shape[1]])
            distances[entries] = pairs.distances[:, 0]


@measured
def run_exact(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the blocks of the task into the finished graph; counters: hits of probe rows, rows that are short.

    StageError if a row breaks the promise about rows.
    """
    blocks = range(*task.arguments["blocks"])
    first, last = job.layout.block(blocks[0])[0], job.layout.block(blocks[-1])[1]
    points = read_rows(job, first, last).points
    asked = [Asked.read(job, task.round, block) for block in blocks]
    ruler, read = Ruler.of(job), points.nbytes
    for start, strip in read_strips(job, 0, job.layout.n):
        stop = start + rows_in(strip)
        # In room of their own: strips of the source may be of any order, and read-only.
        judge = ruler.judge(assemble(ruler, stop - start, [(0, strip)]))
        for one in asked:
            one.measure(points[one.first - first :], judge, start, stop)
        read += strip.nbytes
    hits, short, written = [], 0, 0
    for one in asked:
        more, few = hits_of(job, one)
        hits.append(more)
        short += few
        written += publish_rows(job, one.first, one.lists.ids, one.lists.distances)
    read += sum(one.lists.ids.nbytes + one.lists.distances.nbytes for one in asked)
    return recall_counters(np.concatenate(hits)) | {"short": short}, read, written


def hits_of(job: Job, one: Asked) -> tuple[np.ndarray, int]:
    """Put the measured lists of a block in order; the shares of hits of its probe rows, float64[p], and rows short."""
    count, k = len(one.lists.ids), job.spec.n_neighbors
    sort_rows(one.lists, 0, count)
    probes, thresholds = probes_between(job, one.first, one.first + count)
    return count_hits(one.lists, probes, thresholds, k), int((one.lists.ids[:, k - 1] < 0).sum())
