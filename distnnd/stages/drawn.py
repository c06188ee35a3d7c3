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
    pivots of one partition have adjacent numbers then. None where each partition grows its own leaves.
    """

    pivots: np.ndarray
    partition: np.ndarray
    coder: Coder
    reach: float
    guide: Projection | None = None

    def write(self, job: Job, number: int) -> None:
        """Keep it for round `number`."""
        columns = {"points": self.pivots, "partition": self.partition}
        mailbox.write(job.scratch, f"{number}/pivots", columns)
        # Distances have to be reckoned as they were here, or the reach would mean something else.
        coder, guided = self.coder, self.guide is not None
        numbers = np.array([self.reach, coder.step, coder.exact, coder.cuts, guided])
        mailbox.write(job.scratch, f"{number}/way", {"centre": coder.centre, "numbers": numbers})
        if self.guide is not None:
            directions, start, step, narrow = self.guide
            numbers = np.array([step, narrow.step, narrow.least, narrow.blur])
            columns = {"directions": directions, "start": start, "numbers": numbers}
            mailbox.write(job.scratch, f"{number}/guide", columns)

    @classmethod
    def read(cls, job: Job, number: int) -> Drawn:
        """What was kept for round `number`."""
        pivots = mailbox.read(job.scratch, f"{number}/pivots", "points")
        partition = mailbox.read(job.scratch, f"{number}/pivots", "partition")
        reach, step, exact, cuts, guided = mailbox.read(job.scratch, f"{number}/way", "numbers").tolist()
        coder = Coder(mailbox.read(job.scratch, f"{number}/way", "centre"), step, bool(exact), bool(cuts))
        return cls(pivots, partition, coder, reach, _read_guide(job, number) if guided else None)


def partition_of_leaves(job: Job, number: int) -> np.ndarray | None:
    """The partition of each leaf of the whole set, int32, ascending; None where a round has no such leaves."""
    if not job.layout.leaves or not mailbox.read(job.scratch, f"{number}/way", "numbers")[-1]:
        return None
    return mailbox.read(job.scratch, f"{number}/pivots", "partition")


def _read_guide(job: Job, number: int) -> Projection:
    directions, start, numbers = (
        mailbox.read(job.scratch, f"{number}/guide", name) for name in ("directions", "start", "numbers")
    )
    step, unit, least, blur = numbers.tolist()
    centre = np.zeros(len(directions), np.float32)
    return Projection(directions, start, step, Coder(centre, unit, exact=False, cuts=False, least=least, blur=blur))
