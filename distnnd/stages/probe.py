"""Probe: solve a few random rows exactly, block by block; they say later how good the graph is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.codes import Coder, Encoded, Rows, coded_form, coder_of, encode
from ..kernels.groups import Groups, all_in_one
from ..kernels.judge import Judge, count_rows
from ..kernels.leaves import join
from ..kernels.merge import fold
from ..kernels.neighbours import Lists, empty, sort_rows
from ..kernels.ranges import Each, even_cuts, serial
from ..kernels.rows import Form
from ..storage import mailbox
from ..values.memory import probe_bytes
from ..values.metric import Metric
from ..values.plan import Job, Stage, Task
from ..values.recall import as_near_as
from .measured import measured
from .points import PROBES, Held, Ruler, chosen_rows, read_chosen, read_rows

# The product that selects is rounded: keep some more than k, and let the canonical distances decide.
SPARE = 8


def plan_probe(job: Job) -> Stage:
    """One task a block: its nearest rows to every probe row."""
    tasks = [Task("probe", 0, index) for index in range(job.layout.blocks)]
    layout, width = job.layout.held_by(job.kind), job.spec.n_neighbors + SPARE
    return Stage("probe", run_probe, tasks, probe_bytes(layout, job.kind, width))


def plan_truth(job: Job) -> Stage:
    """One task: the k-th true distance of every probe row."""
    return Stage("truth", run_truth, [Task("truth", 0, 0)], probe_bytes(job.layout.held_by(job.kind), job.kind, 0))


@measured
def run_probe(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the nearest rows of block `task.index` to each probe row: ids int64[p, k + 8], surrogates float32."""
    first, last = job.layout.block(task.index)
    probes, block = read_chosen(job, "probes", only_judged=True), read_rows(job, first, last, only_judged=True)
    chosen = chosen_rows(job, PROBES)
    found = nearest_in_block(probes, block, Ruler.of(job), job.spec.n_neighbors, chosen, first)
    mailbox.write(job.scratch, f"truth/{task.index}", {"ids": found.ids, "distances": found.distances})
    compared = len(chosen) * (last - first)
    return {"compared": compared}, block.points.nbytes, found.ids.nbytes + found.distances.nbytes


def without_itself(lists: Lists, rows: np.ndarray) -> None:
    """Take from each list the row it is of, and bring the lists into order. rows: int64, as the lists name them."""
    lists.distances[lists.ids == rows[:, None]] = np.inf
    sort_rows(lists, 0, len(rows))


class Codes(NamedTuple):
    """What selects for a judge: probe rows and rows of a block with their codes, and how these are compared.

    base: those of the rows that may be found, in one group.
    """

    probes: Rows
    rows: Rows
    form: Form
    base: Groups

    @classmethod
    def of(cls, probes: Rows, rows: Rows, coder: Coder, metric: Metric) -> Codes:
        """With no chance to miss a row."""
        return cls(probes, rows, coded_form(metric, rows, coder, strict=True), all_in_one(len(rows.points)))


def nearest_in_block(probes: Held, block: Held, ruler: Ruler, k: int, ids: np.ndarray, first: int) -> Lists:
    """The nearest rows of a block to each probe row but itself: k of them, and some to spare.

    ids: int64[p], of the probe rows; first: the id of the block's first row. The lists hold ids, int64, and canonical
    distances, float32.
    """
    codes = None
    if ruler.metric.form == "inner":
        coder = coder_of(block.points, ruler.metric, probes.points)
        codes = Codes.of(encode(probes.points, coder), encode(block.points, coder), coder, ruler.metric)
    lists = nearest(ruler.judge(probes).rows, ruler.judge(block), codes, k)
    without_itself(lists, ids - first)
    return lists._replace(ids=np.where(lists.distances < np.inf, lists.ids + np.int64(first), -1))


def nearest(asked: Any, judge: Judge, codes: Codes | None, k: int, each: Each = serial, parts: int = 1) -> Lists:
    """The rows of a judge that are nearest to each probe row: positions, int32, and canonical distances, float32.

    asked: the probe rows as the judge takes them; codes: None where the distance itself of every pair decides; each,
    parts: how ranges of probe rows are run, and into how many they are cut. Lists are longer than k by one or more.
    """
    count, m = count_rows(asked), count_rows(judge.rows)
    cuts = even_cuts(count, parts)
    if codes is None:
        lists = empty(count, min(k + 1, m))
        each(lambda a, b: judge.offer_all(lists, a, b, asked), cuts)
        return lists
    lists, base = empty(count, min(k + SPARE + 1, m)), codes.base

    def compare(first: int, last: int) -> None:
        queries = Groups(np.arange(first, last, dtype=np.int32), np.array([0, last - first]))
        join(codes.probes, queries, codes.rows, base, base.rows, codes.form, lists, False, 0, 1)

    each(compare, cuts)
    judge.settle(lists, 0, count, asked)
    return lists


def solve_probes(job: Job, held: Held, coded: Encoded | None, each: Each, parts: int) -> None:
    """Write the truth about the probe rows where all rows are at hand, in the order of their ids.

    coded: the rows with their codes, and the coder; None where the distance itself decides.
    """
    chosen = chosen_rows(job, PROBES)
    write_truth(job, chosen, solve_here(job, Ruler.of(job).judge(held), coded, chosen, each, parts))


def solve_here(
    job: Job,
    judge: Judge,
    coded: Encoded | None,
    chosen: np.ndarray,
    each: Each,
    parts: int,
    found: np.ndarray | None = None,
) -> np.ndarray:
    """The k-th true distances of some of the rows at hand, among these: float32[p].

    coded: as in solve_probes; found: of coded rows those that may be found, int32, if not all.
    """
    codes, k = None, job.spec.n_neighbors
    if coded is not None:
        rows, coder = coded
        codes = Codes.of(Rows(*(np.ascontiguousarray(part[chosen]) for part in rows)), rows, coder, job.kind)
        if found is not None:
            codes = codes._replace(base=Groups(found, np.array([0, len(found)])))
    lists = nearest(judge.of(chosen), judge, codes, k, each, parts)
    without_itself(lists, chosen)
    return lists.distances[:, k - 1].copy()


@measured
def run_truth(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Merge what the blocks found and write the probe rows with their k-th true surrogate: float32[p]."""
    rows, k = chosen_rows(job, PROBES), job.spec.n_neighbors
    lists = empty(len(rows), k + SPARE, np.int64)
    everyone = np.arange(len(rows), dtype=np.int32)
    for block in range(job.layout.blocks):
        found = [mailbox.read(job.scratch, f"truth/{block}", name) for name in ("ids", "distances")]
        fold(lists, everyone, *found)
    thresholds = lists.distances[:, k - 1].copy()
    if job.exchange_dtype:
        near = lists.distances <= as_near_as(thresholds)[:, None]
        mailbox.write(job.scratch, "truth/near", {"ids": np.where(near, lists.ids, -1)})
    return {}, 0, write_truth(job, rows, thresholds)


def write_truth(job: Job, rows: np.ndarray, thresholds: np.ndarray) -> int:
    """Write the probe rows, int64[p], with their k-th true surrogates, float32[p]; returns the bytes."""
    mailbox.write(job.scratch, "truth/all", {"rows": rows, "threshold": thresholds})
    return rows.nbytes + thresholds.nbytes


def probes_between(job: Job, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The probe rows in first .. last, counted from `first`, and their thresholds; none where all is exact."""
    if job.layout.probes == 0:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    rows = mailbox.read(job.scratch, "truth/all", "rows")
    mine = _between(rows, first, last)
    return rows[mine] - first, mailbox.read(job.scratch, "truth/all", "threshold")[mine]


def _between(rows: np.ndarray, first: int, last: int) -> slice:
    return slice(int(np.searchsorted(rows, first)), int(np.searchsorted(rows, last)))


def count_named(job: Job, lists: Lists, first: int, last: int) -> np.ndarray:
    """For each probe row in first .. last the share of its k neighbours that are in its list, anywhere: float64[p].

    lists: of the rows first .. last, with distances of rounded rows, which put neighbours out of order: what is in the
    list will be in its place once it is measured. So neighbours are known by their ids; where more are as near as the
    k-th than there is room to name, also by a distance that is no larger.
    """
    probes, thresholds = probes_between(job, first, last)
    mine = _between(mailbox.read(job.scratch, "truth/all", "rows"), first, last)
    named, k = mailbox.read(job.scratch, "truth/near", "ids")[mine], job.spec.n_neighbors
    hits = np.empty(len(probes))
    for i, (row, limit) in enumerate(zip(probes, as_near_as(thresholds), strict=True)):
        ids = lists.ids[row]
        there = (np.isin(ids, named[i]) | (lists.distances[row] <= limit)) & (ids >= 0)
        hits[i] = min(int(there.sum()), k) / k
    return hits


def recall_counters(hits: np.ndarray) -> dict[str, float]:
    """Counters from which build() makes an estimate: shares of hits per probe row, float64[p]."""
    return {"probes": float(hits.size), "hits": float(hits.sum()), "squares": float((hits * hits).sum())}
