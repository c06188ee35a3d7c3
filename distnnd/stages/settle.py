"""Settle: before a round, each block finds which of its rows the last round has settled (see stages/settled.py)."""

from __future__ import annotations

import numpy as np

from ..kernels.codes import encode
from ..kernels.settled import Seen, find_exact, find_unwanted
from ..storage import graph, mailbox
from ..values.memory import SETTLED_ROW, item_bytes, settle_bytes
from ..values.partitioning import NEAREST, pivot_count
from ..values.plan import Job, Stage, Task
from .drawn import Drawn
from .measured import measured
from .points import Ruler, read_strips
from .route import Way, look, roads_of
from .settled import cells_of, settle_at, states_at


def plan_settle(job: Job, number: int, width: int, whole: list[int], again: bool) -> Stage:
    """One task a block, before round `number`; width: of the lists of the round before it.

    whole: the partitions of that round of which a k-d tree compared all rows; again: it left settled rows at home.
    """
    arguments = {"whole": whole, "again": again}
    tasks = [Task("settle", number, index, arguments) for index in range(job.layout.blocks)]
    projected = settle_bytes(job.layout, job.kind, width, pivot_count(job.layout.partitions))
    return Stage("settle", run_settle, tasks, projected)


@measured
def run_settle(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write what block `task.index` knows of its rows: pivots near them, which are exact, how far the others look.

    Counters: exact rows; of the first block such, too, as no other row of that block needs: those that may stay.
    """
    before, place = task.round - 1, settle_at(task.round, task.index)
    first, last = job.layout.block(task.index)
    kth = kth_distances(job, before, first, last)
    exact, unwanted = np.zeros((2, last - first), bool)
    if task.arguments["again"]:
        states = states_at(before, task.index)
        exact, unwanted = (mailbox.read(job.scratch, states, name).view(bool) for name in ("exact", "unwanted"))
    drawn = Drawn.read(job, before)
    seen, cells = see(job, drawn, first, last), cells_of(drawn)
    whole = np.isin(np.arange(job.layout.partitions), task.arguments["whole"])
    looking = np.zeros(cells.apart.shape, np.float32)
    find_exact(cells, seen, kth, whole, exact, looking)
    states = {"exact": exact.view(np.uint8), "unwanted": unwanted.view(np.uint8)}
    for columns in (states | seen._asdict(), {"looking": looking}):
        mailbox.write(job.scratch, place, columns)
    read = (last - first) * job.layout.d * item_bytes(job.layout.dtype)
    counters = {"exact": int(exact.sum())}
    if task.index == 0:
        find_unwanted(cells, seen, whole, np.ascontiguousarray(looking.T), unwanted)
        counters["stay"] = int((exact & unwanted).sum())
    return counters, read, (last - first) * SETTLED_ROW + looking.nbytes


def kth_distances(job: Job, number: int, first: int, last: int) -> np.ndarray:
    """How far the k-th neighbour of rows first .. last is after round `number`, float32[m]; infinite if none."""
    ids, surrogates = graph.read_lists(job.out, number, first, last)
    kth = job.spec.n_neighbors - 1
    return np.where(ids[:, kth] >= 0, np.sqrt(surrogates[:, kth]), np.float32(np.inf))


def see(job: Job, drawn: Drawn, first: int, last: int) -> Seen:
    """The drawn pivots that rows first .. last saw as they were routed."""
    way = Way.of(drawn)
    places = min(NEAREST, len(drawn.partition))
    seen = Seen(np.empty((last - first, places), np.int16), np.empty((last - first, places), np.float32))
    for start, strip in read_strips(job, first, last):
        here = slice(start - first, start - first + len(strip))
        rows = encode(Ruler.of(job).prepare(strip), way.coder)
        nearest = look(roads_of(job, rows, way)[0], way)
        seen.pivots[here], seen.squares[here] = nearest.ids, nearest.distances
    return seen
