"""Publish: the k nearest of each list, as distances the user knows, checked row by row."""

from __future__ import annotations

import numpy as np

from ..kernels.neighbours import Lists, first_broken, sort_rows
from ..storage import graph
from ..values.errors import StageError
from ..values.memory import publish_bytes
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import Ruler


def plan_publish(job: Job, number: int, width: int) -> Stage:
    """One task a block, from the lists of round `number`."""
    tasks = [Task("publish", number, index) for index in range(job.layout.blocks)]
    return Stage("publish", run_publish, tasks, publish_bytes(job.layout, width, job.spec.n_neighbors))


@measured
def run_publish(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write block `task.index` of the finished graph; StageError if a row breaks the promise about rows."""
    first, last = job.layout.block(task.index)
    ids, surrogates = graph.read_lists(job.out, task.round, first, last)
    return {}, ids.nbytes + surrogates.nbytes, publish_rows(job, first, ids, surrogates)


def publish_rows(job: Job, first: int, ids: np.ndarray, surrogates: np.ndarray) -> int:
    """Write the finished rows from `first` on, whole blocks, and return the bytes; StageError as run_publish.

    ids: int64[m, w], surrogates: float32[m, w], w >= k.
    """
    k = job.spec.n_neighbors
    # Different surrogates may round to one distance: order by (distance, id) again.
    nearest = np.ascontiguousarray(ids[:, :k])
    distances = np.ascontiguousarray(surrogates[:, :k])
    distances = Ruler.of(job).finish(distances)
    sort_rows(Lists(nearest, distances, np.zeros(nearest.shape, np.uint8)), 0, len(nearest))
    row = first_broken(nearest, distances, first, job.layout.n)
    if row >= 0:
        raise StageError(f"row {first + row} ended with ids {nearest[row].tolist()} at {distances[row].tolist()}")
    graph.write_result(job.out, first, nearest, distances)
    return nearest.nbytes + distances.nbytes
