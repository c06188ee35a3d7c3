"""Publish: the k nearest of each list, as distances the user knows, checked row by row."""

from __future__ import annotations

import numpy as np

from ..kernels.neighbours import Lists, sort_rows
from ..kernels.rows import finish
from ..storage import graph
from ..values.errors import StageError
from ..values.memory import publish_bytes
from ..values.plan import Job, Stage, Task
from .measured import measured


def plan_publish(job: Job, number: int, width: int) -> Stage:
    """One task a block, from the lists of round `number`."""
    tasks = [Task("publish", number, index) for index in range(job.layout.blocks)]
    return Stage("publish", run_publish, tasks, publish_bytes(job.layout, width, job.spec.n_neighbors))


@measured
def run_publish(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write block `task.index` of the finished graph; StageError if a row breaks the promise about rows."""
    first, last = job.layout.block(task.index)
    k = job.spec.n_neighbors
    ids, surrogates = graph.read_lists(job.out, task.round, first, last)
    # Different surrogates may round to one distance: order by (distance, id) again.
    nearest = np.ascontiguousarray(ids[:, :k])
    distances = finish(np.ascontiguousarray(surrogates[:, :k]), job.spec.kind)
    sort_rows(Lists(nearest, distances, np.zeros(nearest.shape, np.uint8)), 0, len(nearest))
    bad = broken_rows(nearest, distances, first, job.layout.n)
    if bad.size:
        row = int(bad[0])
        raise StageError(f"row {first + row} ended with ids {nearest[row].tolist()} at {distances[row].tolist()}")
    graph.write_result(job.out, first, nearest, distances)
    return {}, ids.nbytes + surrogates.nbytes, nearest.nbytes + distances.nbytes


def broken_rows(ids: np.ndarray, distances: np.ndarray, first: int, n: int) -> np.ndarray:
    """Positions of rows without k distinct valid neighbours other than themselves at ascending finite distances."""
    ordered = np.sort(ids, axis=1)
    rows = np.arange(first, first + len(ids))[:, None]
    good = (ids >= 0).all(axis=1) & (ids < n).all(axis=1) & (ids != rows).all(axis=1)
    good &= (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
    good &= np.isfinite(distances).all(axis=1) & (np.diff(distances, axis=1) >= 0).all(axis=1)
    return np.flatnonzero(~good)
