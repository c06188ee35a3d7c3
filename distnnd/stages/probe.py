"""Probe: solve a few random rows exactly, block by block; they say later how good the graph is."""

from __future__ import annotations

import numpy as np

from ..kernels.codes import coder_of, encode, form_of
from ..kernels.leaves import Groups, join
from ..kernels.merge import fold
from ..kernels.neighbours import Lists, empty, sort_rows
from ..kernels.rows import rescore
from ..storage import mailbox
from ..values.memory import probe_bytes
from ..values.metric import Metric
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import PROBES, chosen_rows, read_chosen, read_prepared

# The product that selects is rounded: keep some more than k, and let the canonical distances decide.
SPARE = 8


def plan_probe(job: Job) -> Stage:
    """One task a block: its nearest rows to every probe row."""
    tasks = [Task("probe", 0, index) for index in range(job.layout.blocks)]
    return Stage("probe", run_probe, tasks, probe_bytes(job.layout, job.spec.kind, job.spec.n_neighbors + SPARE))


def plan_truth(job: Job) -> Stage:
    """One task: the k-th true distance of every probe row."""
    return Stage("truth", run_truth, [Task("truth", 0, 0)], probe_bytes(job.layout, job.spec.kind, 0))


@measured
def run_probe(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the nearest rows of block `task.index` to each probe row: ids int64[p, k + 8], surrogates float32."""
    first, last = job.layout.block(task.index)
    probes, rows = read_chosen(job, "probes"), read_prepared(job, first, last)
    lists, compared = nearest_in_block(probes, rows, job.spec.kind, job.spec.n_neighbors)
    itself = lists.ids + first == chosen_rows(job, PROBES)[:, None]
    lists.distances[itself] = np.inf
    sort_rows(lists, 0, len(probes))
    found = {
        "ids": np.where(lists.distances < np.inf, lists.ids + np.int64(first), -1),
        "distances": lists.distances,
    }
    mailbox.write(job.scratch, f"truth/{task.index}", found)
    return {"compared": compared}, rows.nbytes, sum(values.nbytes for values in found.values())


def nearest_in_block(probes: np.ndarray, block: np.ndarray, metric: Metric, k: int) -> tuple[Lists, int]:
    """The nearest rows of a block to each probe row, k and some to spare, in no order, and the pairs compared.

    probes, block: prepared rows; the lists hold positions in the block, int32, and canonical surrogates, float32.
    """
    coder = coder_of(block, metric, probes)
    rows = encode(block, coder)
    form = form_of(metric, rows, coder, strict=True)
    lists = empty(len(probes), min(k + SPARE + 1, len(block)))
    one, other = np.arange(len(probes), dtype=np.int32), np.arange(len(block), dtype=np.int32)
    queries, base = Groups(one, np.array([0, len(probes)])), Groups(other, np.array([0, len(block)]))
    compared = join(encode(probes, coder), queries, rows, base, other, form, lists, False, 0, 1)
    rescore(probes, block, form, lists, 0, len(probes))
    return lists, compared


@measured
def run_truth(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Merge what the blocks found and write the probe rows with their k-th true surrogate: float32[p]."""
    rows, k = chosen_rows(job, PROBES), job.spec.n_neighbors
    lists = empty(len(rows), k, np.int64)
    everyone = np.arange(len(rows), dtype=np.int32)
    for block in range(job.layout.blocks):
        found = [mailbox.read(job.scratch, f"truth/{block}", name) for name in ("ids", "distances")]
        fold(lists, everyone, *found)
    columns = {"rows": rows, "threshold": lists.distances[:, -1].copy()}
    mailbox.write(job.scratch, "truth/all", columns)
    return {}, 0, sum(values.nbytes for values in columns.values())


def probes_between(job: Job, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The probe rows in first .. last, counted from `first`, and their thresholds; none where all is exact."""
    if job.layout.probes == 0:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    rows = mailbox.read(job.scratch, "truth/all", "rows")
    mine = slice(int(np.searchsorted(rows, first)), int(np.searchsorted(rows, last)))
    return rows[mine] - first, mailbox.read(job.scratch, "truth/all", "threshold")[mine]


def recall_counters(hits: np.ndarray) -> dict[str, float]:
    """Counters from which build() makes an estimate: shares of hits per probe row, float64[p]."""
    return {"probes": float(hits.size), "hits": float(hits.sum()), "squares": float((hits * hits).sum())}
