"""What the drawing of a round says of where rows go, as it lies in the scratch: drawn once, read by every task."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.codes import Coder
from ..kernels.projection import Projection
from ..storage import mailbox
from ..values.plan import Job


class Drawn(NamedTuple):
    """Pivots, and how rows find theirs. pivots: prepared [v, width]; partition: int32[v], that of each.

    coder: of pivots and rows alike; reach: how many times as far as the nearest pivot one may be whose partition a row
    goes to, in squared distances. guide: the few columns by which rows find pivots that are leaves of the whole set;
    pivots of one partition have adjacent numbers then. None where each partition grows its own leaves. narrow: by what
    rows of that coder are compared in partitions, if they are so wide that it pays.
    """

    pivots: np.ndarray
    partition: np.ndarray
    coder: Coder
    reach: float
    guide: Projection | None = None
    narrow: Projection | None = None

    def write(self, job: Job, number: int) -> None:
        """Keep it for round `number`."""
        mailbox.write(job.scratch, f"{number}/pivots", {"points": self.pivots, "partition": self.partition})
        # Distances have to be reckoned as they were here, or the reach would mean something else.
        coder, projections = self.coder, [self.guide, self.narrow]
        numbers = np.array([self.reach, coder.step, coder.exact, coder.cuts, *(one is not None for one in projections)])
        mailbox.write(job.scratch, f"{number}/way", {"centre": coder.centre, "numbers": numbers})
        for name, one in zip(PROJECTIONS, projections, strict=True):
            if one is not None:
                numbers = np.array([one.step, one.coder.step, one.coder.least, one.coder.blur])
                columns = {"directions": one.directions, "start": one.start, "numbers": numbers}
                mailbox.write(job.scratch, f"{number}/{name}", columns)

    @classmethod
    def read(cls, job: Job, number: int) -> Drawn:
        """What was kept for round `number`."""
        pivots, partition = (mailbox.read(job.scratch, f"{number}/pivots", name) for name in ("points", "partition"))
        return cls(pivots, partition, *_read_way(job, number))


class Shared(NamedTuple):
    """What the partitions of a round have in common.

    leaves: int32[v], ascending, the partition of each leaf of the whole set; None where they grow their own. codes: the
    coder, and the projection by which its rows are narrowed; None where each has a coder of its own.
    """

    leaves: np.ndarray | None
    codes: tuple[Coder, Projection] | None

    @classmethod
    def read(cls, job: Job, number: int) -> Shared:
        """What the drawing of round `number` said of it."""
        coder, _, guide, narrow = _read_way(job, number)
        leaves = None if guide is None else mailbox.read(job.scratch, f"{number}/pivots", "partition")
        return cls(leaves, None if narrow is None else (coder, narrow))


# What projections are called in the scratch, in the order of their fields.
PROJECTIONS = ("guide", "narrow")


def _read_way(job: Job, number: int) -> tuple[Coder, float, Projection | None, Projection | None]:
    reach, step, exact, cuts, *there = mailbox.read(job.scratch, f"{number}/way", "numbers").tolist()
    coder = Coder(mailbox.read(job.scratch, f"{number}/way", "centre"), step, bool(exact), bool(cuts))
    places = (f"{number}/{name}" for name in PROJECTIONS)
    guide, narrow = (_read_projection(job, place) if one else None for place, one in zip(places, there, strict=True))
    return coder, reach, guide, narrow


def _read_projection(job: Job, place: str) -> Projection:
    directions, start, numbers = (mailbox.read(job.scratch, place, name) for name in ("directions", "start", "numbers"))
    step, unit, least, blur = numbers.tolist()
    centre = np.zeros(len(directions), np.float32)
    return Projection(directions, start, step, Coder(centre, unit, exact=False, cuts=False, least=least, blur=blur))
