"""Settled rows: whose list is exact and whom no other row needs any more; they stay at home in all later rounds.

The proof is in codes, between which estimates are distances. The home of a row is the partition of the pivot nearest to
it. Let that of x be p, and q a pivot of another partition: x lies on its own side of the plane halfway between them, as
far from it as its *bound* for q says, and all rows that are nearest to q lie on the other side. So none of these is
nearer to x than the bound; and none of them, y, is nearer to x than the bounds of both together. Rows are at least as
far apart as their codes, less what rounding does: cutting off only brings rows together.

Where a k-d tree solved all rows of a partition together, each has been compared with all that are at home there. Then
x is exact if its k-th distance is below all of its bounds. It is unwanted if no row y of another home, whose list is
not exact, may be nearer to it than y's own k-th neighbour: if its bound is above what the k-th distance of any such y
is beyond y's bound for p. Either, once so, stays so, as later lists are only nearer.
"""

from __future__ import annotations

import numpy as np

from ..kernels.codes import encode
from ..kernels.settled import Cells, Seen, find_unwanted
from ..storage import mailbox
from ..values.memory import SETTLED_PIVOTS
from ..values.partitioning import (
    pivot_count,
)
from ..values.plan import Job
from ..values.units import Unit
from .drawn import Drawn

# A code is off by at most so many times half a step, as floats are rounded too.
VERGE = 1.001


def may_settle(job: Job) -> bool:
    """Whether rows may be settled: distances are those of prepared rows, and pivots so few that all are looked at."""
    kind, layout = job.kind, job.layout
    if not kind.euclidean or kind.form != "inner" or kind.judged or kind.packed or layout.sparse or layout.leaves:
        return False
    # Distances of rows that travel rounded prove nothing, nor do planes that float32 blurs.
    return job.exchange_dtype is None and not kind.double and pivot_count(layout.partitions) <= SETTLED_PIVOTS


def solved_whole(job: Job, units: list[Unit], trees: list[bool]) -> list[int]:
    """The partitions of which a k-d tree compared all rows; trees: of each unit, whether a tree solved it.

    Units of a partition that was cut by blocks are none of these. Empty where rows cannot be settled.
    """
    if not may_settle(job):
        return []
    held = [unit.partitions for unit in units]
    whole = [one for one, tree in zip(held, trees, strict=True) if tree and held.count(one) == 1]
    return sorted(partition for one in whole for partition in range(*one))


def cells_of(drawn: Drawn) -> Cells:
    """The pivots of a round as codes have them."""
    coder, values = drawn.coder, encode(drawn.pivots, drawn.coder).values.astype(np.float32)
    # Whole numbers that are small enough for float32.
    squares = (values * values).sum(axis=1)
    apart = np.sqrt(squares[:, None] + squares - 2 * (values @ values.T)) * np.float32(coder.step)
    rounding = 0.0 if coder.exact else VERGE * coder.step * len(coder.centre) ** 0.5
    return Cells(drawn.partition, apart, np.float32(rounding))


def settle_at(number: int, block: int | str) -> str:
    """Where it lies in the scratch what the round before `number` says of the rows of a block, or of all."""
    return f"{number}/settle/{block}"


def states_at(number: int, block: int) -> str:
    """Where it lies in the scratch which rows of a block are exact and unwanted from round `number` on."""
    return f"{number}/settled/{block}"


def gather(job: Job, number: int, whole: list[int]) -> None:
    """Put together how far rows look, of all blocks, for the routes of round `number`; whole: see solved_whole."""
    looking = None
    for block in range(job.layout.blocks):
        one = mailbox.read(job.scratch, settle_at(number, block), "looking")
        looking = one if looking is None else np.maximum(looking, one, out=looking)
    assert looking is not None
    is_whole = np.isin(np.arange(job.layout.partitions), whole).astype(np.uint8)
    for columns in ({"looked_at": np.ascontiguousarray(looking.T)}, {"whole": is_whole}):
        mailbox.write(job.scratch, settle_at(number, "all"), columns)


def settled_rows(job: Job, number: int, block: int) -> np.ndarray:
    """Which rows of a block stay at home from round `number` on, bool[m]; writes down their states."""
    place, everywhere = settle_at(number, block), settle_at(number, "all")
    exact, unwanted = (mailbox.read(job.scratch, place, name).view(bool) for name in ("exact", "unwanted"))
    seen = Seen(*(mailbox.read(job.scratch, place, name) for name in Seen._fields))
    whole = mailbox.read(job.scratch, everywhere, "whole").view(bool)
    looked_at = mailbox.read(job.scratch, everywhere, "looked_at")
    find_unwanted(cells_of(Drawn.read(job, number - 1)), seen, whole, looked_at, unwanted)
    columns = {"exact": exact.view(np.uint8), "unwanted": unwanted.view(np.uint8)}
    mailbox.write(job.scratch, states_at(number, block), columns)
    return exact & unwanted
