"""Route: every row goes to the partitions of its nearest pivots, with its present neighbour list."""

from __future__ import annotations

import numpy as np

from ..kernels.leaves import Groups, join
from ..kernels.neighbours import empty
from ..kernels.pivots import BASE, QUERY, assign
from ..kernels.rows import form_of, prepare, routing_form
from ..kernels.trees import all_members
from ..storage import graph, mailbox
from ..values.memory import STRIP_ROWS, route_bytes
from ..values.partitioning import pivot_count
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import read_block, width_of

# A row whose eight nearest pivots share one partition lies deep inside it and needs no second copy.
NEAREST = 8


def plan_route(job: Job, number: int, width: int) -> Stage:
    """One task a block; width: length of the lists that travel along, 0 in the first round."""
    tasks = [Task("route", number, index, {"width": width}) for index in range(job.layout.blocks)]
    pivots = pivot_count(job.layout.partitions)
    return Stage("route", run_route, tasks, route_bytes(job.layout, job.spec.kind, width, pivots))


@measured
def run_route(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the copies of block `task.index` sorted by partition, and where each partition's begin."""
    place = f"{task.round}/mail/{task.index}"
    first, last = job.layout.block(task.index)
    block = read_block(job, task.index)
    slots, roles = places_of(job, task.round, block)
    copies = all_members(slots, job.layout.partitions)
    columns = {"points": block, "rows": np.arange(last - first, dtype=np.int32)}
    if task.arguments["width"]:
        columns["ids"], columns["distances"] = graph.read_lists(job.out, task.round - 1, first, last)
    kinds = {name: (values.dtype, values.shape[1:]) for name, values in columns.items()}
    if not job.spec.kind.euclidean:
        kinds["roles"] = (np.uint8, ())
    total = len(copies.rows)
    writer = mailbox.Writer(job.scratch, place, total, kinds, max(1, total // (2 * job.layout.partitions)))
    for start, stop in mailbox.strips(0, total, STRIP_ROWS):
        rows = copies.rows[start:stop]
        strip = {name: values[rows] for name, values in columns.items()}
        if "roles" in kinds:
            partition = np.searchsorted(copies.starts, np.arange(start, stop), side="right") - 1
            strip["roles"] = roles[rows, (slots[rows] == partition[:, None]).argmax(axis=1)]
        writer.append(strip)
    writer.close()
    mailbox.write(job.scratch, place, {"starts": copies.starts})
    written = total * sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in kinds.values())
    return {"copies": total}, block.nbytes, written


def places_of(job: Job, number: int, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The partitions each row goes to, int32[m, copies], -1 for none, and its roles there, uint8[m, copies].

    Where nearness is mutual a row has both roles everywhere. Under inner_product rows lie on a sphere of one more
    dimension to be found, and look for the largest product without it (see kernels.rows.prepare).
    """
    width = width_of(job)
    pivots = mailbox.read(job.scratch, f"{number}/pivots", "points")
    partition = mailbox.read(job.scratch, f"{number}/pivots", "partition")
    slots = np.full((len(block), job.layout.copies), -1, np.int32)
    roles = np.zeros(slots.shape, np.uint8)
    forms = [(routing_form(width), QUERY | BASE)]
    if not job.spec.kind.euclidean:
        forms = [(routing_form(width), BASE), (form_of(job.spec.kind, width), QUERY)]
    rows = prepare(block, job.spec.kind, width, job.radius)
    queries = Groups(np.arange(len(rows), dtype=np.int32), np.array([0, len(rows)]))
    everyone = np.arange(len(pivots), dtype=np.int32)
    base = Groups(everyone, np.array([0, len(pivots)]))
    for form, role in forms:
        nearest = empty(len(rows), min(NEAREST, len(pivots)))
        join(rows, queries, pivots, base, everyone, form, nearest, False, 0, 1)
        assign(nearest, role, partition, job.layout.fanout, slots, roles)
    return slots, roles
