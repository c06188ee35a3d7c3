"""Route: every row goes to the partitions of its nearest pivots, with its present neighbour list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.codes import Coder, coder_of, encode, form_of, routing_form, trusted
from ..kernels.groups import all_members
from ..kernels.neighbours import empty
from ..kernels.pivots import BASE, QUERY, assign
from ..kernels.rows import prepare
from ..kernels.signposts import Signposts, find_pivots, signposts_of
from ..storage import graph, mailbox
from ..values.memory import route_bytes, strip_rows
from ..values.partitioning import pivot_count
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import read_strips, width_of

# A row whose sixteen nearest pivots share one partition lies deep inside it and needs no second copy.
NEAREST = 16


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
    record = mail_of(job, task.arguments["width"])
    points, slots, roles = read_and_place(job, task)
    columns = {"points": points}
    if task.arguments["width"]:
        columns["ids"], columns["distances"] = graph.read_lists(job.out, task.round - 1, first, last)
    copies = all_members(slots, job.layout.partitions)
    total = len(copies.rows)
    with mailbox.RecordWriter(job.scratch, place, total, record, total // job.layout.partitions) as writer:
        for start, stop in mailbox.strips(0, total, strip_rows(job.layout.d)):
            rows = copies.rows[start:stop]
            strip = np.empty(stop - start, record)
            strip["row"] = rows
            for name, values in columns.items():
                strip[name] = values[rows]
            if "role" in record.names:
                partition = np.searchsorted(copies.starts, np.arange(start, stop), side="right") - 1
                strip["role"] = roles[rows, (slots[rows] == partition[:, None]).argmax(axis=1)]
            writer.append(strip)
    mailbox.write(job.scratch, place, {"starts": copies.starts, "rows": copies.rows})
    return {"copies": total}, points.nbytes, total * record.itemsize


def mail_of(job: Job, width: int) -> np.dtype:
    """The record of a routed row, with lists of `width` places."""
    return mailbox.mail_record(job.layout.dtype, job.layout.d, width, roles=not job.spec.kind.euclidean)


def read_and_place(job: Job, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points of the task's block, [m, d], with what places_of says of them."""
    first, last = job.layout.block(task.index)
    points = np.empty((last - first, job.layout.d), job.layout.dtype)
    slots = np.full((last - first, job.layout.copies), -1, np.int32)
    roles = np.zeros(slots.shape, np.uint8)
    pivots = mailbox.read(job.scratch, f"{task.round}/pivots", "points")
    partition = mailbox.read(job.scratch, f"{task.round}/pivots", "partition")
    way = Way.of(job, pivots, partition)
    for start, strip in read_strips(job, first, last):
        here = slice(start - first, start - first + len(strip))
        points[here] = strip
        slots[here], roles[here] = places_of(job, strip, way)
    return points, slots, roles


class Way(NamedTuple):
    """How rows find their partitions: the signposts of a round, their coder, and the partition of each pivot, int32."""

    signposts: Signposts
    coder: Coder
    partition: np.ndarray

    @classmethod
    def of(cls, job: Job, pivots: np.ndarray, partition: np.ndarray) -> Way:
        """The way that prepared pivots show."""
        coder = coder_of(pivots, job.spec.kind)
        rows = encode(pivots, coder)
        return cls(signposts_of(rows, routing_form(rows, coder)), coder, partition)


def places_of(job: Job, points: np.ndarray, way: Way) -> tuple[np.ndarray, np.ndarray]:
    """The partitions each row goes to, int32[m, copies], -1 for none, and its roles there, uint8[m, copies].

    Where nearness is mutual a row has both roles everywhere. Under inner_product rows lie on a sphere of one more
    dimension to be found, and look for the largest product without it (see kernels.rows.prepare).
    """
    slots = np.full((len(points), job.layout.copies), -1, np.int32)
    roles = np.zeros(slots.shape, np.uint8)
    rows = encode(prepare(points, job.spec.kind, width_of(job), job.radius), way.coder)
    forms = [(routing_form(rows, way.coder), QUERY | BASE)]
    if not job.spec.kind.euclidean:
        forms = [(routing_form(rows, way.coder), BASE), (trusted(form_of(job.spec.kind, rows, way.coder)), QUERY)]
    everyone = np.arange(len(points), dtype=np.int32)
    for form, role in forms:
        nearest = empty(len(points), min(NEAREST, len(way.partition)))
        find_pivots(rows, everyone, way.signposts, form, nearest)
        assign(nearest, role, way.partition, job.layout.fanout, slots, roles)
    return slots, roles
