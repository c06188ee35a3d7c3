"""Draw: fresh pivots for a round, which of them share a partition, and how far from its own a row looks for others."""

from __future__ import annotations

import numpy as np

from ..kernels.codes import Rows, coder_of, encode, routing_form
from ..kernels.neighbours import Lists, empty
from ..kernels.pivots import count_pivots, means, reach_for, share_out
from ..kernels.random import seed_of
from ..kernels.rows import Form
from ..kernels.signposts import find_pivots, signposts_of
from ..storage import mailbox
from ..values.memory import draw_bytes
from ..values.partitioning import FANOUT, MOST_PARTITIONS, NEAREST, pivot_count
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import read_chosen

DRAW = 3
# Pivots are moved to the means of the rows nearest to them so many times: borders then run where rows are few.
STEPS = 2
# Every third row of the sample moves no pivot: those that do lie nearer to theirs than others.
ASIDE = 3


def plan_draw(job: Job, number: int) -> Stage:
    """One task."""
    pivots = pivot_count(job.layout.partitions)
    return Stage(
        "draw", run_draw, [Task("draw", number, 0)], draw_bytes(job.layout.held_by(job.kind), job.kind, pivots)
    )


@measured
def run_draw(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the pivots of the round, prepared: points [v, width]; the partition of each, int32[v]; the way to them.

    The way: numbers float64 (reach, and step, exact, cuts of the coder) and its centre, float32[width].
    """
    sample = read_chosen(job, "sample").points
    seed = seed_of(job.spec.random_state, DRAW, task.round)
    count = min(pivot_count(job.layout.partitions), len(sample))
    chosen = np.sort(np.random.default_rng(seed).choice(len(sample), count, replace=False))
    pivots, coder = sample[chosen], coder_of(sample, job.kind)
    apart = np.arange(len(sample)) % ASIDE == 0
    moving, aside = encode(sample[~apart], coder), encode(sample[apart], coder)
    form, read = routing_form(aside, coder), sample.nbytes
    del sample
    for _ in range(STEPS):
        pivots = means(moving.points, nearest_pivots(moving, encode(pivots, coder), form, 1).ids[:, 0], pivots)
    nearest = nearest_pivots(aside, encode(pivots, coder), form, NEAREST)
    partition = share_out(pivots, count_pivots(nearest, count), job.layout.partitions, form, seed)
    reach = reach_for(nearest, partition, MOST_PARTITIONS, FANOUT)
    mailbox.write(job.scratch, f"{task.round}/pivots", {"points": pivots, "partition": partition})
    # Distances have to be reckoned as they were here, or the reach would mean something else.
    numbers = np.array([reach, coder.step, coder.exact, coder.cuts])
    mailbox.write(job.scratch, f"{task.round}/way", {"centre": coder.centre, "numbers": numbers})
    return {"pivots": count, "reach": reach}, read, pivots.nbytes


def nearest_pivots(rows: Rows, pivots: Rows, form: Form, wanted: int) -> Lists:
    """The `wanted` pivots nearest to each row, or all of them."""
    lists = empty(len(rows.points), min(wanted, len(pivots.points)))
    find_pivots(rows, np.arange(len(rows.points), dtype=np.int32), signposts_of(pivots, form), form, lists)
    return lists
