"""How good an index is: queries like its rows are made of random ones, asked, and solved exactly.

Most of them are rows moved by the gap between two of their neighbours, and a little easier to answer than new queries.
Every fourth is a row itself, hidden from its own search, which neither begins at it nor passes through it; as nothing
stands in its place, it is a little harder. Where a moved row may be none of the kind, as of bits, all are hidden rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..kernels.distances import is_dear
from ..kernels.merge import fold
from ..kernels.neighbours import empty
from ..kernels.random import seed_of
from ..storage import mailbox, stores
from ..values.metric import CUSTOM, Metric, described
from ..values.plan import Task
from ..values.recall import as_near_as, estimate_recall
from ..values.searching import IndexJob, SearchSpec
from .coder import facts_of, ruler
from .measured import measured, one_blas_thread
from .points import Held, Ruler
from .probe import SPARE, nearest_in_block
from .query import Opened, Search, check_queries, search_for
from .views import Sample

PROBES = 44  # what random rows are drawn for: a part of their seed
# Rows that are asked for: each is compared with all rows, many at a time, which costs less than a tenth of what makes
# an index, where each row is searched for. Fewer where the distance itself is computed, and where that is dear.
ASKED, ASKED_JUDGED, ASKED_DEAR = 256, 48, 16
# Each so many-th is a hidden row.
HIDDEN = 4
# Where codes leave so many of the queries in doubt, exact rows are asked at once.
DOUBTS = 0.25


def probe_count(how: Ruler, n: int) -> int:
    """Rows of `n` that are asked for."""
    if how.metric.form == "inner":
        return min(ASKED, n)
    # A row of zeros is enough to know the form of its metric.
    held = how.hold(np.zeros((1, how.d), np.uint8 if how.metric.form == "bits" else np.float32), only_judged=True)
    return min(ASKED_DEAR if is_dear(how.judge(held).form) else ASKED_JUDGED, n)


def nearest_count(n: int) -> int:
    """Neighbours that are asked for."""
    return min(SearchSpec().k, n - 1)


class Probes(NamedTuple):
    """What is asked for: int64[p] each. rows: random ones; to, fro: neighbours of a row that is moved by their gap.

    Of a row that stays where it is, and is hidden, both are the row itself.
    """

    rows: np.ndarray
    to: np.ndarray
    fro: np.ndarray

    def write(self, scratch: str, points: Callable[[np.ndarray], np.ndarray]) -> None:
        """Keep the rows that are hidden, -1 for the others, and the points to ask for; points: of given rows."""
        asked = points(self.rows)
        moved = self.to != self.rows
        with np.errstate(over="ignore", invalid="ignore"):
            there = asked[moved] + (points(self.to[moved]) - points(self.fro[moved]))
        # What would leave the numbers of its type stays.
        asked[moved] = np.where(np.isfinite(there), there, asked[moved])
        mailbox.write(scratch, "probes", {"rows": np.where(moved, -1, self.rows), "points": asked})


def may_move(metric: Metric) -> bool:
    """Whether any finite numbers are a row of the metric, so that one may be moved."""
    return metric.name != CUSTOM and metric.form in ("inner", "pair") and described(metric.name).domain == "finite"


def draw_probes(job: IndexJob, how: Ruler, sample: Sample) -> Probes:
    """Rows to ask for, of those in a random sample of the graph."""
    draw = np.random.default_rng(seed_of(job.spec.random_state, PROBES))
    chosen = draw.permutation(len(sample.rows))[: probe_count(how, len(sample.rows))]
    rows, lists = sample.rows[chosen], sample.ids[chosen]
    probes = Probes(rows, rows.copy(), rows.copy())
    if np.dtype(job.layout.dtype).kind == "f" and may_move(how.metric):
        moved = np.flatnonzero(np.arange(len(rows)) % HIDDEN)
        for side in (probes.to, probes.fro):
            side[moved] = lists[moved, draw.integers(0, lists.shape[1], len(moved))]
    return probes


def find_truth(job: IndexJob, how: Ruler, part: int, held: Held, at: np.ndarray, first: int) -> None:
    """Write the nearest rows of a partition to each probe: ids, positions, int64[p, w], and distances.

    held: the rows of the partition, the first of which is at position `first`; at: int64[n], the position of each row.
    """
    probes = how.hold(mailbox.read(job.scratch, "probes", "points"), only_judged=how.metric.form != "inner")
    mine = hidden_at(job, at)
    with one_blas_thread():
        found = nearest_in_block(probes, held, how, nearest_count(job.layout.n), mine, first)
    mailbox.write(job.scratch, f"truth/{part}", {"ids": found.ids, "distances": found.distances})


def hidden_at(job: IndexJob, at: np.ndarray) -> np.ndarray:
    """Positions of the rows that are hidden from their own search: int64[p], -1 for none."""
    rows = mailbox.read(job.scratch, "probes", "rows")
    return np.where(rows >= 0, at[np.maximum(rows, 0)], -1)


def true_distances(job: IndexJob) -> np.ndarray:
    """How far the farthest true neighbour of each probe row is, as a judge keeps it: float32[p]."""
    count, k = len(mailbox.read(job.scratch, "probes", "rows")), nearest_count(job.layout.n)
    lists = empty(count, k + SPARE, np.int64)
    for part in range(job.layout.partitions):
        found = [mailbox.read(job.scratch, f"truth/{part}", name) for name in ("ids", "distances")]
        fold(lists, np.arange(count), *found)
    thresholds: np.ndarray = lists.distances[:, k - 1]
    return thresholds


def ask(job: IndexJob) -> Search:
    """The search for the probe rows in the index that was written, each hidden from its own."""
    whole = job.layout.partitions == 1 or stores.is_local(job.out)
    opened = Opened(job.out, facts_of(job), whole, job.function)
    at = hidden_at(job, mailbox.read(job.scratch, "position", "at"))
    queries = check_queries(mailbox.read(job.scratch, "probes", "points"), opened.facts, opened.metric)
    return search_for(opened, queries, SearchSpec(nearest_count(job.layout.n)), None, at)


@measured
def run_recall(job: IndexJob, task: Task) -> tuple[dict[str, float], int, int]:
    """Ask the index for random rows. Counters: how many, the sum of their shares, that of the squares, and doubts."""
    with one_blas_thread():
        search = ask(job)
    k = nearest_count(job.layout.n)
    near = search.result.distances[:, :k] <= as_near_as(true_distances(job))[:, None]
    shares = (near & (search.result.ids[:, :k] >= 0)).mean(axis=1)
    counters = {"probes": len(shares), "hits": float(shares.sum()), "squares": float((shares * shares).sum())}
    return counters | {"doubts": search.doubts}, 0, 0


def recall_facts(job: IndexJob, counters: dict[str, float]) -> dict[str, Any]:
    """What the facts of an index say of its recall, and by what searches compare rows.

    By exact rows at once where inner products of codes are mostly in doubt; where rows find themselves they do so as
    the edges were made.
    """
    probes, hits, squares = (counters[name] for name in ("probes", "hits", "squares"))
    recall = estimate_recall(probes, hits, squares, nearest_count(job.layout.n))
    often = not ruler(job).metric.euclidean and counters["doubts"] > DOUBTS * probes
    return {"recall": recall.to_json()} | ({"compares": "rows"} if often else {})
