"""Rows as tasks get them: a block of the source, raw or prepared for the metric, and the fixed random rows."""

from __future__ import annotations

import numpy as np

from ..kernels.random import seed_of
from ..kernels.rows import prepare, prepared_width
from ..storage import mailbox
from ..storage.source import reopen_source
from ..values.memory import STRIP_ROWS
from ..values.plan import Job

SAMPLE, PROBES = 1, 2  # what chosen rows are for: a part of their seed


def width_of(job: Job) -> int:
    """Columns of a prepared row of the job."""
    return prepared_width(job.spec.kind, job.layout.d, job.zero_rows)


def read_block(job: Job, index: int) -> np.ndarray:
    """The points of block `index`: [m, d] in the source's dtype."""
    return reopen_source(job.source).read(*job.layout.block(index))


def read_prepared(job: Job, first: int, last: int) -> np.ndarray:
    """Rows first .. last of the source, prepared; beside them only a strip is held."""
    source = reopen_source(job.source)
    pieces = (
        (start, source.read(start, stop)) for start, stop in mailbox.strips(first, last, STRIP_ROWS * 8)
    )
    return assemble(job, last - first, ((start - first, piece) for start, piece in pieces))


def assemble(job: Job, count: int, pieces) -> np.ndarray:
    """`count` prepared rows from (position, raw rows) pieces."""
    rows: np.ndarray | None = None
    for at, piece in pieces:
        part = prepare(piece, job.spec.kind, width_of(job), job.radius)
        if rows is None:
            rows = np.empty((count, part.shape[1]), part.dtype)
        rows[at : at + len(part)] = part
    assert rows is not None, "a task was planned without rows"
    return rows


def chosen_rows(job: Job, what: int) -> np.ndarray:
    """The rows drawn for the sample or for the probes, the same in every task: int64, ascending."""
    count = job.layout.sample if what == SAMPLE else job.layout.probes
    draw = np.random.default_rng(seed_of(job.spec.random_state, what))
    return np.sort(draw.choice(job.layout.n, count, replace=False))


def read_chosen(job: Job, place: str) -> np.ndarray:
    """The rows that the scan kept at `place`, prepared, in the order of chosen_rows."""
    parts = [mailbox.read(job.scratch, f"{place}/{block}", "points") for block in range(job.layout.blocks)]
    return prepare(np.concatenate(parts), job.spec.kind, width_of(job), job.radius)
