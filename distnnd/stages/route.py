"""Route: every row goes to the partitions of its nearest pivots, with its present neighbour list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.codes import Coder, coded_form, encode, routing_form, trusted
from ..kernels.groups import all_members
from ..kernels.neighbours import empty
from ..kernels.pivots import BASE, QUERY, assign
from ..kernels.rows import prepare
from ..kernels.signposts import Signposts, find_pivots, signposts_of
from ..storage import graph, mailbox
from ..values.memory import route_bytes, strip_rows
from ..values.partitioning import LOOKED_IN, MOST_PARTITIONS, NEAREST, pivot_count
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import read_strips, width_of


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
    slots = np.full((last - first, places_for(job)), -1, np.int32)
    roles = np.zeros(slots.shape, np.uint8)
    pivots = mailbox.read(job.scratch, f"{task.round}/pivots", "points")
    partition = mailbox.read(job.scratch, f"{task.round}/pivots", "partition")
    reach, step, exact, cuts = mailbox.read(job.scratch, f"{task.round}/way", "numbers").tolist()
    coder = Coder(mailbox.read(job.scratch, f"{task.round}/way", "centre"), step, bool(exact), bool(cuts))
    way = Way.of(pivots, partition, coder, reach)
    for start, strip in read_strips(job, first, last):
        here = slice(start - first, start - first + len(strip))
        points[here] = strip
        slots[here], roles[here] = places_of(job, strip, way)
    return points, slots, roles


class Way(NamedTuple):
    """How rows find their partitions: the signposts of a round, their coder, the partition of each pivot, int32.

    reach: how many times as far as the nearest pivot one may be whose partition a row goes to, in squared distances.
    """

    signposts: Signposts
    coder: Coder
    partition: np.ndarray
    reach: np.float32

    @classmethod
    def of(cls, pivots: np.ndarray, partition: np.ndarray, coder: Coder, reach: float) -> Way:
        """The way that prepared pivots show to rows of this coder."""
        rows = encode(pivots, coder)
        return cls(signposts_of(rows, routing_form(rows, coder)), coder, partition, np.float32(reach))


def places_for(job: Job) -> int:
    """Partitions that a row may go to at most."""
    return MOST_PARTITIONS + (0 if job.spec.kind.euclidean else LOOKED_IN)


def places_of(job: Job, points: np.ndarray, way: Way) -> tuple[np.ndarray, np.ndarray]:
    """The partitions each row goes to, int32[m, places], -1 for none, and its roles there, uint8[m, places].

    Where nearness is mutual a row has both roles everywhere. Under inner_product rows lie on a sphere of one more
    dimension to be found, and look for the largest product without it (see kernels.rows.prepare).
    """
    slots = np.full((len(points), places_for(job)), -1, np.int32)
    roles = np.zeros(slots.shape, np.uint8)
    rows = encode(prepare(points, job.spec.kind, width_of(job), job.radius), way.coder)
    near = routing_form(rows, way.coder)
    roads = [(near, QUERY | BASE, MOST_PARTITIONS, way.reach)]
    if not job.spec.kind.euclidean:
        # Products have no zero from which one could say how many times as far something is.
        look = trusted(coded_form(job.spec.kind, rows, way.coder))
        roads = [(near, BASE, MOST_PARTITIONS, way.reach), (look, QUERY, LOOKED_IN, np.float32(np.inf))]
    everyone = np.arange(len(points), dtype=np.int32)
    for form, role, most, reach in roads:
        nearest = empty(len(points), min(NEAREST, len(way.partition)))
        find_pivots(rows, everyone, way.signposts, form, nearest)
        assign(nearest, role, way.partition, most, reach, slots, roles)
        del nearest
    return slots, roles
