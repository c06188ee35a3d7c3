"""Wire: float32 rows as float16 between partitions, in half of the bytes; distances are measured again in the end.

What travels is the prepared row, less the middle of the rows that its block sends to the same partition, in steps that
let the farthest of them be told. A float16 is rounded by a share of itself: what counts is how far a row lies from that
middle, wherever the data lie and however large they are. Only of clusters in one partition that are thousands of times
as far apart as they are wide little is left. Copies of a row are rounded otherwise elsewhere, and in another round: an
entry's distance may differ a little by where it was found, and lists know their entries by id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..kernels.groups import Groups
from ..kernels.halves import as_float32
from ..kernels.scratch import on_lines
from ..storage import mailbox
from ..values.memory import strip_rows
from ..values.plan import Job
from .points import Held

# Steps to the farthest row: a float16 goes on to twice as many, and is rounded evenly down to 2^-14 of one.
FARTHEST = 2.0**15
# Rows that say where the middle is.
LOOKED_AT = 256
TINY = np.finfo(np.float32).tiny


class Wire(NamedTuple):
    """How prepared rows of a block travel to the partitions from `first` on.

    centres: float32[p, w], about the medians of what goes to each; steps: float32[p], the units of what is told.
    """

    centres: np.ndarray
    steps: np.ndarray
    first: int = 0

    @classmethod
    def of(cls, points: np.ndarray, copies: Groups) -> Wire:
        """The one of a block. points: prepared rows, float32[m, w]; copies: of these, by partition."""
        count, width = len(copies.starts) - 1, points.shape[1]
        centres, steps = np.zeros((count, width), np.float32), np.ones(count, np.float32)
        for partition in range(count):
            first, last = (int(end) for end in copies.starts[partition : partition + 2])
            if first == last:
                continue
            some = points[copies.rows[first : last : -(-(last - first) // LOOKED_AT)]]
            # No mean: a single row far enough from all others would draw it away from these.
            centres[partition] = np.partition(some, len(some) // 2, axis=0)[len(some) // 2]
            strips = mailbox.strips(first, last, strip_rows(width))
            farthest = max(float(np.abs(points[copies.rows[a:b]] - centres[partition]).max()) for a, b in strips)
            steps[partition] = max(farthest / FARTHEST, TINY)
        return cls(centres, steps)

    @classmethod
    def read(cls, job: Job, number: int, block: int, first: int, last: int) -> Wire:
        """The one of a block in round `number`, for what goes to the partitions first .. last."""
        place = f"{number}/mail/{block}"
        centres, steps = (mailbox.read(job.scratch, place, name, first, last) for name in ("centres", "steps"))
        return cls(centres, steps, first)

    def narrowed(self, rows: np.ndarray, partition: np.ndarray) -> np.ndarray:
        """Prepared rows, float32[m, w], as they travel: float16[m, w]. partition: int[m], where each of them goes."""
        told = rows - self.centres[partition - self.first]
        told /= self.steps[partition - self.first][:, None]
        return told.astype(np.float16)

    def restored(self, told: np.ndarray, partition: np.ndarray) -> np.ndarray:
        """Rows that travelled, float16[m, w], as prepared rows again: float32[m, w]. partition: as in `narrowed`."""
        rows = as_float32(told)
        rows *= self.steps[partition - self.first][:, None]
        rows += self.centres[partition - self.first]
        return rows


def gathered(count: int, width: int, pieces: Iterable[tuple[int, np.ndarray]]) -> Held:
    """`count` rows from (position of the first, prepared rows float32[m, width]) pieces."""
    points = on_lines((count, width), np.float32)
    for at, piece in pieces:
        points[at : at + len(piece)] = piece
    return Held(points, None)
