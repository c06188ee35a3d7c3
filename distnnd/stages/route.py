"""Route: every row goes to the partitions of its nearest pivots, with its present neighbour list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.codes import Coder, Rows, coded_form, encode, routing_form, trusted
from ..kernels.groups import Groups, all_members
from ..kernels.neighbours import Lists, empty
from ..kernels.pivots import BASE, QUERY, assign
from ..kernels.projection import Projection, project
from ..kernels.rows import Form
from ..kernels.signposts import Signposts, find_pivots, signposts_of
from ..storage import graph, listings, mailbox
from ..values.memory import route_bytes, settle_bytes, strip_rows
from ..values.metric import SKETCH
from ..values.partitioning import LEAF_FANOUT, LOOKED_IN, MOST_PARTITIONS, NEAREST, pivot_count
from ..values.plan import Job, Stage, Task
from ..values.points import Csr, rows_in, starts_of, together
from .drawn import Drawn
from .measured import measured
from .points import Ruler, read_strips, width_of
from .settled import settled_rows
from .wire import Wire


def plan_route(job: Job, number: int, width: int, settled: bool = False) -> Stage:
    """One task a block; width: length of the lists that travel along, 0 in the first round.

    settled: it is known which rows may stay at home (stages/settle.py).
    """
    arguments = {"width": width, "settled": settled}
    tasks = [Task("route", number, index, arguments) for index in range(job.layout.blocks)]
    pivots, layout = pivot_count(job.layout.partitions), job.layout.held_by(job.kind)
    routing = route_bytes(layout, job.kind, width, pivots, job.exchange_dtype)
    return Stage("route", run_route, tasks, max(routing, settle_bytes(layout, job.kind, width, pivots)))


@measured
def run_route(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the copies of block `task.index` sorted by partition, and where each partition's begin.

    Counters: copies, and rows that stay at home, of which there are none.
    """
    place = f"{task.round}/mail/{task.index}"
    first, last = job.layout.block(task.index)
    at_home = settled_rows(job, task.round, task.index) if task.arguments["settled"] else np.zeros(last - first, bool)
    points, (slots, roles, leaves) = read_and_place(job, task)
    slots[at_home] = -1
    record = mail_of(job, task.arguments["width"], leaves.shape[1] > 0)
    columns: dict[str, np.ndarray] = {}
    if isinstance(points, Csr):
        columns["length"] = np.diff(points.indptr)
    elif not job.exchange_dtype:
        columns["points"] = points
    if task.arguments["width"]:
        columns["ids"], columns["distances"] = graph.read_lists(job.out, task.round - 1, first, last)
    if "leaves" in record.names:
        columns["leaves"] = leaves
    copies = all_members(slots, job.layout.partitions)
    wire = Wire.of(points, copies) if job.exchange_dtype and not isinstance(points, Csr) else None
    total = len(copies.rows)
    with mailbox.RecordWriter(job.scratch, place, total, record, total // job.layout.partitions) as writer:
        for start, stop in mailbox.strips(0, total, strip_rows(job.layout.d)):
            rows = copies.rows[start:stop]
            strip = np.empty(stop - start, record)
            strip["row"] = rows
            for name, values in columns.items():
                strip[name] = values[rows]
            if wire is not None:
                strip["points"] = wire.narrowed(points[rows], mailbox.partition_of(copies.starts, start, stop))
            if "role" in record.names:
                partition = mailbox.partition_of(copies.starts, start, stop)
                strip["role"] = roles[rows, (slots[rows] == partition[:, None]).argmax(axis=1)]
            writer.append(strip)
    columns = {"starts": copies.starts, "rows": copies.rows}
    if wire is not None:
        columns |= {"centres": wire.centres, "steps": wire.steps}
    if isinstance(points, Csr):
        columns["entries"] = write_listed(job, task, points, copies)
    mailbox.write(job.scratch, place, columns)
    return {"copies": total, "settled": int(at_home.sum())}, points.nbytes, total * record.itemsize


def write_listed(job: Job, task: Task, points: Csr, copies: Groups) -> np.ndarray:
    """Write what the copies list; returns where that of each partition begins, int64[partitions + 1]."""
    ends = starts_of(np.diff(points.indptr)[copies.rows])
    place, total = listed_at(task.round, task.index), int(ends[-1])
    with mailbox.RecordWriter(job.scratch, place, total, listings.ENTRY, total // job.layout.partitions) as writer:
        for start, stop in mailbox.strips(0, len(copies.rows), strip_rows(SKETCH)):
            writer.append(listings.as_records(points.take(copies.rows[start:stop])))
    return ends[copies.starts]


def listed_at(number: int, block: int) -> str:
    """Where the entries of the rows lie that a block sent in a round."""
    return f"{number}/listed/{block}"


def mail_of(job: Job, width: int, leaves: bool) -> np.dtype:
    """The record of a routed row, with lists of `width` places; leaves: rows come with the leaves they stand in."""
    d = None if job.layout.sparse else width_of(job) if job.exchange_dtype else job.layout.d
    places = LEAF_FANOUT if leaves else 0
    return mailbox.mail_record(job.exchange_dtype or job.layout.dtype, d, width, not job.kind.euclidean, places)


class Places(NamedTuple):
    """Where m rows go. slots: int32[m, places], their partitions, -1 for none; roles: uint8[m, places], theirs there.

    leaves: int32[m, LEAF_FANOUT], those of the whole set that they stand in, nearest first; of no places where there
    are none.
    """

    slots: np.ndarray
    roles: np.ndarray
    leaves: np.ndarray

    @classmethod
    def none(cls, job: Job, count: int, guided: bool) -> Places:
        """Of rows that go nowhere yet."""
        # Rows that look elsewhere than they stand may go to more.
        slots = np.full((count, MOST_PARTITIONS + (0 if job.kind.euclidean else LOOKED_IN)), -1, np.int32)
        leaves = np.full((count, LEAF_FANOUT if guided else 0), -1, np.int32)
        return cls(slots, np.zeros(slots.shape, np.uint8), leaves)


def read_and_place(job: Job, task: Task) -> tuple[np.ndarray | Csr, Places]:
    """The points of the task's block, [m, d], prepared where they travel so, with what places_of says of them."""
    first, last = job.layout.block(task.index)
    d, dtype = (width_of(job), "float32") if job.exchange_dtype else (job.layout.d, job.layout.dtype)
    points = np.empty((0 if job.layout.sparse else last - first, d), dtype)
    sparse_strips: list[Csr] = []
    way, ruler = Way.of(Drawn.read(job, task.round)), Ruler.of(job)
    places = Places.none(job, last - first, way.guide is not None)
    for start, strip in read_strips(job, first, last):
        here = slice(start - first, start - first + rows_in(strip))
        prepared = ruler.prepare(strip)
        if isinstance(strip, Csr):
            sparse_strips.append(strip)
        else:
            points[here] = prepared if job.exchange_dtype else strip
        for all_rows, of_strip in zip(places, places_of(job, prepared, way), strict=True):
            all_rows[here] = of_strip
    return together(sparse_strips) if sparse_strips else points, places


class Way(NamedTuple):
    """How rows find their partitions: what was drawn, with signposts to the pivots as rows are compared with them."""

    signposts: Signposts
    coder: Coder
    partition: np.ndarray
    reach: np.float32
    guide: Projection | None

    @classmethod
    def of(cls, drawn: Drawn) -> Way:
        """The way that drawn pivots show."""
        pivots, coder = encode(drawn.pivots, drawn.coder), drawn.coder
        if drawn.guide is not None:
            pivots, coder = project(pivots, drawn.guide), drawn.guide.coder
        signposts = signposts_of(pivots, routing_form(pivots, coder))
        return cls(signposts, drawn.coder, drawn.partition, np.float32(drawn.reach), drawn.guide)


class Road(NamedTuple):
    """One way on which rows look for pivots.

    rows, form: how they are compared; role: what they do where it leads; most: partitions they go to; reach: as Way has
    it; pivots: how many they look at.
    """

    rows: Rows
    form: Form
    role: int
    most: int
    reach: np.float32
    pivots: int


def roads_of(job: Job, rows: Rows, way: Way) -> list[Road]:
    """The roads of coded rows.

    Where nearness is mutual a row has both roles everywhere. Under inner_product rows lie on a sphere of one more
    dimension to be found, and look for the largest product without it (see kernels.rows.prepare).
    """
    both = QUERY | BASE
    if way.guide is not None:
        rows = project(rows, way.guide)
        form = routing_form(rows, way.guide.coder)
        return [Road(rows, form, both, MOST_PARTITIONS, way.reach, LEAF_FANOUT)]
    near = routing_form(rows, way.coder)
    if job.kind.euclidean:
        return [Road(rows, near, both, MOST_PARTITIONS, way.reach, NEAREST)]
    # Products have no zero from which one could say how many times as far something is.
    look, any_distance = trusted(coded_form(job.kind, rows, way.coder)), np.float32(np.inf)
    stand = Road(rows, near, BASE, MOST_PARTITIONS, way.reach, NEAREST)
    return [stand, Road(rows, look, QUERY, LOOKED_IN, any_distance, NEAREST)]


def look(road: Road, way: Way) -> Lists:
    """The pivots that the rows see on that road: lists of as many as there are, or as they look at."""
    count = len(road.rows.points)
    nearest = empty(count, min(road.pivots, len(way.partition)))
    find_pivots(road.rows, np.arange(count, dtype=np.int32), way.signposts, road.form, nearest)
    return nearest


def places_of(job: Job, prepared: np.ndarray, way: Way) -> Places:
    """Where each prepared row goes."""
    count = len(prepared)
    places = Places.none(job, count, way.guide is not None)
    rows = encode(prepared, way.coder)
    for road in roads_of(job, rows, way):
        nearest = look(road, way)
        assign(nearest, road.role, way.partition, road.most, road.reach, places.slots, places.roles)
        if way.guide is not None:
            places.leaves[:, : nearest.ids.shape[1]] = nearest.ids
    return places
