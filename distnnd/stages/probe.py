"""Probe: solve a few random rows exactly, block by block; they say later how good the graph is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.codes import Coder, Rows, coded_form, coder_of, encode
from ..kernels.groups import Groups
from ..kernels.judge import Judge, count_rows
from ..kernels.leaves import join
from ..kernels.merge import fold
from ..kernels.neighbours import Lists, empty, sort_rows
from ..kernels.ranges import Each, even_cuts, serial
from ..storage import mailbox
from ..values.memory import probe_bytes
from ..values.metric import Metric
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import PROBES, Held, Ruler, chosen_rows, read_chosen, read_rows

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
    probes, rows = read_chosen(job, "probes", only_judged=True), read_rows(job, first, last, only_judged=True)
    ruler = Ruler.of(job)
    asked, judge = ruler.judge(probes).rows, ruler.judge(rows)
    lists, compared = nearest_in_block(probes.points, asked, rows.points, judge, job.spec.kind, job.spec.n_neighbors)
    without_itself(lists, chosen_rows(job, PROBES) - first)
    found = {
        "ids": np.where(lists.distances < np.inf, lists.ids + np.int64(first), -1),
        "distances": lists.distances,
    }
    mailbox.write(job.scratch, f"truth/{task.index}", found)
    return {"compared": compared}, rows.points.nbytes, sum(values.nbytes for values in found.values())


def without_itself(lists: Lists, rows: np.ndarray) -> None:
    """Take from each list the row it is of, and bring the lists into order. rows: int64, as the lists name them."""
    lists.distances[lists.ids == rows[:, None]] = np.inf
    sort_rows(lists, 0, len(rows))


def nearest_in_block(
    probes: np.ndarray, asked: Any, block: np.ndarray, judge: Judge, metric: Metric, k: int
) -> tuple[Lists, int]:
    """The nearest rows of a block to each probe row, k and some to spare, and the pairs compared.

    probes, block: prepared rows; asked: the probe rows as the judge takes them, who is of the block. The lists hold
    positions in the block, int32, and canonical distances, float32.
    """
    if metric.form != "inner":
        return nearest_by_distance(asked, judge, k)
    coder = coder_of(block, metric, probes)
    rows = encode(block, coder)
    return nearest_among(encode(probes, coder), asked, rows, coder, judge, metric, k)


def nearest_by_distance(asked: Any, judge: Judge, k: int, each: Each = serial, parts: int = 1) -> tuple[Lists, int]:
    """The same, by the distance itself of every pair; asked: rows as the judge takes them."""
    count, m = count_rows(asked), count_rows(judge.rows)
    lists = empty(count, min(k + 1, m))
    each(lambda a, b: judge.offer_all(lists, a, b, asked), even_cuts(count, parts))
    return lists, count * m


def nearest_among(
    probes: Rows,
    asked: Any,
    rows: Rows,
    coder: Coder,
    judge: Judge,
    metric: Metric,
    k: int,
    each: Each = serial,
    parts: int = 1,
) -> tuple[Lists, int]:
    """The same for coded rows; each, parts: how ranges of probe rows are run, and into how many they are cut."""
    form = coded_form(metric, rows, coder, strict=True)
    count, m = len(probes.points), len(rows.points)
    lists = empty(count, min(k + SPARE + 1, m))
    everyone = np.arange(m, dtype=np.int32)
    base = Groups(everyone, np.array([0, m]))

    def compare(first: int, last: int) -> int:
        queries = Groups(np.arange(first, last, dtype=np.int32), np.array([0, last - first]))
        return join(probes, queries, rows, base, everyone, form, lists, False, 0, 1)

    compared = sum(each(compare, even_cuts(count, parts)))
    judge.settle(lists, 0, count, asked)
    return lists, compared


def solve_probes(job: Job, held: Held, rows: Rows, coder: Coder, each: Each, parts: int) -> None:
    """Write the truth about the probe rows where all rows are at hand, in the order of their ids."""
    chosen, k, metric = chosen_rows(job, PROBES), job.spec.n_neighbors, job.spec.kind
    judge = Ruler.of(job).judge(held)
    asked = judge.of(chosen)
    if metric.form == "inner":
        probes = Rows(*(np.ascontiguousarray(part[chosen]) for part in rows))
        lists, _ = nearest_among(probes, asked, rows, coder, judge, metric, k, each, parts)
    else:
        lists, _ = nearest_by_distance(asked, judge, k, each, parts)
    without_itself(lists, chosen)
    write_truth(job, chosen, lists.distances[:, k - 1].copy())


@measured
def run_truth(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Merge what the blocks found and write the probe rows with their k-th true surrogate: float32[p]."""
    rows, k = chosen_rows(job, PROBES), job.spec.n_neighbors
    lists = empty(len(rows), k, np.int64)
    everyone = np.arange(len(rows), dtype=np.int32)
    for block in range(job.layout.blocks):
        found = [mailbox.read(job.scratch, f"truth/{block}", name) for name in ("ids", "distances")]
        fold(lists, everyone, *found)
    return {}, 0, write_truth(job, rows, lists.distances[:, -1].copy())


def write_truth(job: Job, rows: np.ndarray, thresholds: np.ndarray) -> int:
    """Write the probe rows, int64[p], with their k-th true surrogates, float32[p]; returns the bytes."""
    mailbox.write(job.scratch, "truth/all", {"rows": rows, "threshold": thresholds})
    return rows.nbytes + thresholds.nbytes


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
