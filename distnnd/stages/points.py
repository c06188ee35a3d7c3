"""Rows as tasks get them: a block of the source, raw or prepared for the metric, and the fixed random rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..kernels.random import seed_of
from ..kernels.rows import prepare, prepared_width
from ..storage import mailbox
from ..storage.source import reopen_source
from ..values.memory import strip_rows
from ..values.plan import Job

SAMPLE, PROBES = 1, 2  # what chosen rows are for: a part of their seed


def width_of(job: Job) -> int:
    """Columns of a prepared row of the job."""
    return prepared_width(job.spec.kind, job.layout.dtype, job.layout.d, job.zero_rows)


def read_strips(job: Job, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
    """Rows first .. last of the source in pieces (row id of the first, points [m, d]) that follow its own chunks."""
    source = reopen_source(job.source)
    rows = source.chunk_rows * max(1, strip_rows(job.layout.d) // source.chunk_rows)
    start = first
    while start < last:
        stop = min(last, start - start % rows + rows)
        yield start, source.read(start, stop)
        start = stop


def read_prepared(job: Job, first: int, last: int) -> np.ndarray:
    """Rows first .. last of the source, prepared; beside them only a strip is held."""
    return assemble(job, last - first, ((start - first, piece) for start, piece in read_strips(job, first, last)))


def assemble(job: Job, count: int, pieces: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
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
    return prepare(mailbox.read(job.scratch, f"{place}/all", "points"), job.spec.kind, width_of(job), job.radius)
