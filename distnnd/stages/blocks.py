"""Blocks: sparse points, block against block, exactly: each task finds the neighbours of its rows among all rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..kernels.forms import form_of, own_form
from ..kernels.inverted import known_columns, looking_side, nearest_sparse, standing_side
from ..kernels.judge import Judge
from ..kernels.merge import fold
from ..kernels.neighbours import Lists, empty
from ..kernels.ranges import Each, even_cuts
from ..kernels.sketches import sketch
from ..kernels.sparse_distances import as_compared, listed
from ..kernels.transforms import check_sparse_rows, degree_signs
from ..storage import listings
from ..storage.source import SparseSource, reopen_source
from ..values.plan import Job, Stage, Task
from ..values.points import Csr, row_of_entries
from ..values.sparse_plan import MOST_COLUMNS, block_bytes, by_columns, scan_bytes
from .measured import measured, side_by_side
from .points import chosen_rows
from .publish import publish_rows
from .rounding import note_rounding
from .scan import PLACES, note_zeros

# Ranges of work per thread: enough that an uneven one does not hold up the rest.
PARTS = 4


def plan_scan_sparse(job: Job) -> Stage:
    """One task a block."""
    tasks = [Task("scan", 0, index) for index in range(job.layout.blocks)]
    return Stage("scan", run_scan_sparse, tasks, scan_bytes(job.layout))


@measured
def run_scan_sparse(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Check every number of block `task.index`; InputError names the first row that cannot be compared."""
    first, last = job.layout.block(task.index)
    points = source_of(job).read(first, last)
    check_sparse_rows(points, job.spec.kind, first)
    zero_rows, radius = 0, 0.0
    if job.kind.unit:
        zero_rows = int((np.diff(points.indptr) == 0).sum())
    elif not job.kind.euclidean and not job.layout.exact:
        # Of the rows as they are laid out, which are routed and compared by that.
        radius = float(np.linalg.norm(sketch(points, job.kind), axis=1).max(initial=0))
    written = 0
    if not job.layout.exact and job.layout.partitions > 1:
        for place, what in PLACES.items():
            rows = chosen_rows(job, what)
            kept = points.take(rows[(rows >= first) & (rows < last)] - first)
            listings.write(job.scratch, f"{place}/{task.index}", kept)
            written += kept.nbytes
    note_zeros(job, task, [first + np.flatnonzero(np.diff(points.indptr) == 0)])
    counters = {"zero_rows": zero_rows, "radius": radius}
    if points.columns == 2 and job.spec.function is None:
        places = np.zeros((points.rows, 2))
        places[row_of_entries(points.indptr), points.indices] = points.data
        counters |= degree_signs(places, job.spec.kind)
    read = points.nbytes
    del points
    return counters | {"rounded": note_rounding(job, task)}, read, written


def plan_blocks(job: Job) -> Stage:
    """One task a block."""
    tasks = [Task("blocks", 1, index) for index in range(job.layout.blocks)]
    need = block_bytes(job.layout, job.spec.n_neighbors, job.threads)
    return Stage("blocks", run_blocks, tasks, need, job.threads)


@measured
def run_blocks(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the finished rows of block `task.index`; counters: distances that were computed."""
    source, (first, last) = source_of(job), job.layout.block(task.index)
    points = as_compared(source.read(first, last), job.kind)
    form = form_for(job)
    lists = empty(last - first, job.spec.n_neighbors, np.int64)
    served = job.spec.function is None and by_columns(job.spec.kind)
    known = known_columns(points, form, MOST_COLUMNS) if served else None
    looking = looking_side(points, form, first, known) if served else None
    found, read = 0, points.nbytes
    with side_by_side(job.threads) as each:
        parts = PARTS * job.threads if job.threads > 1 else 1
        for start, others in all_blocks(job, source, task.index, points):
            if looking is not None:
                standing = standing_side(others, form, start, known)
                found += nearest_sparse(looking, standing, form, lists, each, parts)
            else:
                found += nearest_of_all(points, first, others, start, form, lists, each, parts)
            read += others.nbytes
    written = publish_rows(job, first, lists.ids, lists.distances)
    counted = "added" if served else "compared"
    return {counted: found, "short": 0, "published": 1}, read, written


def source_of(job: Job) -> SparseSource:
    """The sparse points of the job, opened."""
    source = reopen_source(job.source, sparse=True)
    assert isinstance(source, SparseSource)
    return source


def form_for(job: Job) -> Any:
    """The metric as `distance` takes it, for sparse rows."""
    if job.spec.function is not None:
        return own_form(job.spec.function, job.layout.d, sparse=True)
    return form_of(job.kind, job.layout.d)


def all_blocks(job: Job, source: SparseSource, index: int, own: Csr) -> Iterator[tuple[int, Csr]]:
    """First row and rows of each block, as compared, in the order of their ids: of rows as far the lowest ids count."""
    for other in range(job.layout.blocks):
        first, last = job.layout.block(other)
        yield first, own if other == index else as_compared(source.read(first, last), job.kind)


def nearest_of_all(
    points: Csr, first: int, others: Csr, start: int, form: Any, lists: Lists, each: Each, parts: int
) -> int:
    """Offer the lists of `points` each of the others by the distance itself; returns the pairs compared.

    first, start: ids of the first rows of both, which are the same or another block. What metrics need that look at
    more than the columns which rows share.
    """
    found = empty(points.rows, min(lists.ids.shape[1], others.rows))
    judge, rows = Judge(listed(others), form), None if start == first else listed(points)
    each(lambda a, b: judge.offer_all(found, a, b, rows), even_cuts(points.rows, parts))
    ids = np.where(found.ids >= 0, found.ids + np.int64(start), -1)
    fold(lists, np.arange(points.rows), ids, found.distances)
    return points.rows * others.rows
