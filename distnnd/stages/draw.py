"""Draw: fresh pivots for a round, and which of them share a partition."""

from __future__ import annotations

import numpy as np

from ..kernels.codes import coder_of, encode, routing_form
from ..kernels.groups import Groups
from ..kernels.leaves import join
from ..kernels.neighbours import empty
from ..kernels.pivots import count_pivots, share_out
from ..kernels.random import seed_of
from ..storage import mailbox
from ..values.memory import draw_bytes
from ..values.partitioning import pivot_count
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import read_chosen

DRAW = 3


def plan_draw(job: Job, number: int) -> Stage:
    """One task."""
    pivots = pivot_count(job.layout.partitions)
    return Stage("draw", run_draw, [Task("draw", number, 0)], draw_bytes(job.layout, job.spec.kind, pivots))


@measured
def run_draw(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the pivots of the round, prepared, and the partition of each: points [v, width], partition int32[v]."""
    sample = read_chosen(job, "sample")
    seed = seed_of(job.spec.random_state, DRAW, task.round)
    count = min(pivot_count(job.layout.partitions), len(sample))
    chosen = np.sort(np.random.default_rng(seed).choice(len(sample), count, replace=False))
    pivots = sample[chosen]
    coder = coder_of(pivots, job.spec.kind)
    rows, signposts = encode(sample, coder), encode(pivots, coder)
    form = routing_form(rows, coder)
    nearest = empty(len(sample), 1)
    everyone = np.arange(count, dtype=np.int32)
    queries = Groups(np.arange(len(sample), dtype=np.int32), np.array([0, len(sample)]))
    base = Groups(everyone, np.array([0, count]))
    join(rows, queries, signposts, base, everyone, form, nearest, False, 0, 1)
    partition = share_out(pivots, count_pivots(nearest, count), job.layout.partitions, form, seed)
    mailbox.write(job.scratch, f"{task.round}/pivots", {"points": pivots, "partition": partition})
    return {"pivots": count}, sample.nbytes, pivots.nbytes
