"""Route: every row goes to the partitions of its nearest pivots, with its present neighbour list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.codes import Coder, Rows, coder_of, encode, form_of, routing_form, trusted
from ..kernels.leaves import Groups, join
from ..kernels.neighbours import Lists, empty
from ..kernels.pivots import BASE, QUERY, assign
from ..kernels.rows import Form, prepare
from ..kernels.trees import all_members, slot_groups
from ..storage import graph, mailbox
from ..values.memory import route_bytes, strip_rows
from ..values.partitioning import pivot_count
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import read_strips, width_of

# A row whose sixteen nearest pivots share one partition lies deep inside it and needs no second copy.
NEAREST = 16
# From so many pivots on a row asks guides for its way: about the root of the pivots' number. A pivot follows its two
# nearest guides, a row the four nearest; so 0.94 of its two nearest pivots are found, in two thirds of the time at
# 2,400 pivots and in a third at 7,400 (128 columns).
MANY, FOLLOWED, GUIDES = 2048, 2, 4


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
    writer = mailbox.RecordWriter(job.scratch, place, total, record, total // job.layout.partitions)
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
    writer.close()
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
    signposts = Signposts.of(job, pivots, partition)
    for start, strip in read_strips(job, first, last):
        here = slice(start - first, start - first + len(strip))
        points[here] = strip
        slots[here], roles[here] = places_of(job, strip, signposts)
    return points, slots, roles


class Signposts(NamedTuple):
    """The pivots of a round, coded, with their coder and the partition of each, int32[v].

    guides: some of the pivots; following: by guide the pivots that stand nearest to it. A row looks at the guides
    first, and then only at the pivots that follow the nearest of them.
    """

    pivots: Rows
    coder: Coder
    partition: np.ndarray
    guides: Rows
    following: Groups

    @classmethod
    def of(cls, job: Job, pivots: np.ndarray, partition: np.ndarray) -> Signposts:
        """The signposts that prepared pivots are."""
        coder = coder_of(pivots, job.spec.kind)
        rows = encode(pivots, coder)
        count = len(pivots)
        if count < MANY:
            return cls(rows, coder, partition, rows, all_in_one(count))
        guides = Rows(*(np.ascontiguousarray(part[:: round(count**0.5)]) for part in rows))
        lists = nearest_of(rows, guides, routing_form(rows, coder), FOLLOWED)
        return cls(rows, coder, partition, guides, all_members(lists.ids, len(guides.points)))

    def nearest(self, rows: Rows, form: Form) -> Lists:
        """The pivots nearest to coded rows, NEAREST of them where there are as many."""
        if len(self.guides.points) == len(self.partition):
            return nearest_of(rows, self.pivots, form, NEAREST)
        guides = nearest_of(rows, self.guides, form, GUIDES)
        lists = empty(len(rows.points), NEAREST)
        base = self.following
        for queries in slot_groups(guides.ids, len(self.guides.points)):
            join(rows, queries, self.pivots, base, base.rows, form, lists, False, 0, len(base.starts) - 1)
        return lists


def all_in_one(count: int) -> Groups:
    """All of `count` rows in one group."""
    return Groups(np.arange(count, dtype=np.int32), np.array([0, count]))


def nearest_of(rows: Rows, others: Rows, form: Form, wanted: int) -> Lists:
    """For each row the `wanted` nearest others, or all of them where they are fewer."""
    lists = empty(len(rows.points), min(wanted, len(others.points)))
    base = all_in_one(len(others.points))
    join(rows, all_in_one(len(rows.points)), others, base, base.rows, form, lists, False, 0, 1)
    return lists


def places_of(job: Job, points: np.ndarray, signposts: Signposts) -> tuple[np.ndarray, np.ndarray]:
    """The partitions each row goes to, int32[m, copies], -1 for none, and its roles there, uint8[m, copies].

    Where nearness is mutual a row has both roles everywhere. Under inner_product rows lie on a sphere of one more
    dimension to be found, and look for the largest product without it (see kernels.rows.prepare).
    """
    width = width_of(job)
    slots = np.full((len(points), job.layout.copies), -1, np.int32)
    roles = np.zeros(slots.shape, np.uint8)
    coder = signposts.coder
    rows = encode(prepare(points, job.spec.kind, width, job.radius), coder)
    forms = [(routing_form(rows, coder), QUERY | BASE)]
    if not job.spec.kind.euclidean:
        forms = [(routing_form(rows, coder), BASE), (trusted(form_of(job.spec.kind, rows, coder)), QUERY)]
    for form, role in forms:
        assign(signposts.nearest(rows, form), role, signposts.partition, job.layout.fanout, slots, roles)
    return slots, roles
