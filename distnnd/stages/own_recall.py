"""How good an index is: random rows are asked for as if they were new, and solved exactly.

A row that is asked for is hidden from its own search, which neither begins at it nor passes through it: what is found
are its neighbours, found as a query finds them that is like the rows and none of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.distances import is_dear
from ..kernels.merge import fold
from ..kernels.neighbours import empty
from ..kernels.random import seed_of
from ..storage import mailbox, stores
from ..storage.source import Source
from ..values.plan import Task
from ..values.recall import as_near_as, estimate_recall
from ..values.searching import IndexJob, SearchSpec
from .coder import facts_of
from .measured import measured, one_blas_thread
from .points import Held, Ruler
from .probe import SPARE, nearest_in_block
from .query import Opened, Search, check_queries, search_for
from .views import points_at

PROBES = 44  # what random rows are drawn for: a part of their seed
# Rows that are asked for: each is compared with all rows, many at a time, which costs less than a tenth of what makes
# an index, where each row is searched for. Fewer where the distance itself is computed, and where that is dear.
ASKED, ASKED_JUDGED, ASKED_DEAR = 256, 48, 16
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


def draw_probes(job: IndexJob, how: Ruler, points: Source) -> None:
    """Write random rows: rows int64[p], ascending, and their points as they were read."""
    n = job.layout.n
    draw = np.random.default_rng(seed_of(job.spec.random_state, PROBES))
    rows = np.sort(draw.choice(n, probe_count(how, n), replace=False))
    mailbox.write(job.scratch, "probes", {"rows": rows, "points": points_at(points, rows)})


def find_truth(job: IndexJob, how: Ruler, part: int, held: Held, at: np.ndarray, first: int) -> None:
    """Write the nearest rows of a partition to each probe row: ids, positions, int64[p, w], and distances.

    held: the rows of the partition, the first of which is at position `first`; at: int64[n], the position of each row.
    """
    probes = how.hold(mailbox.read(job.scratch, "probes", "points"), only_judged=how.metric.form != "inner")
    mine = at[mailbox.read(job.scratch, "probes", "rows")]
    with one_blas_thread():
        found = nearest_in_block(probes, held, how, nearest_count(job.layout.n), mine, first)
    mailbox.write(job.scratch, f"truth/{part}", {"ids": found.ids, "distances": found.distances})


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
    at = mailbox.read(job.scratch, "position", "at")[mailbox.read(job.scratch, "probes", "rows")]
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
    """What the facts of an index say of its recall; exact rows are asked at once where codes are mostly in doubt."""
    probes, hits, squares = (counters[name] for name in ("probes", "hits", "squares"))
    recall = estimate_recall(probes, hits, squares, nearest_count(job.layout.n))
    often = {"compares": "rows"} if counters["doubts"] > DOUBTS * probes else {}
    return {"recall": recall.to_json()} | often
