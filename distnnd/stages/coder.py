"""How rows of an index become codes, and whether these tell neighbours apart."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ..kernels.codes import Coder, Rows, beyond, coder_of, farthest_from, peak_of
from ..kernels.neighbours import empty
from ..kernels.random import seed_of
from ..kernels.rows import plain_form, rescore
from ..storage import graph as graph_store
from ..storage import mailbox
from ..storage.source import Source, reopen_source
from ..values.metric import Metric
from ..values.searching import FOLLOWED, IndexJob
from .points import Ruler
from .views import Sample, blocks_of, keep, no_sample, ruler_of

TOLD = 45  # what random rows are drawn for: a part of their seed
# Codes tell neighbours apart that are so many squared units away: there one standard deviation of an estimate's error
# is four per cent.
TELLING = 400
# From these many rows it is learned how many have nearer ones; where they are more than such a share of all, searches
# compare exact rows. Else these rows alone do, and queries that codes leave in doubt.
LOOKED_AT, BLURRED = 1024, 0.03


def ruler(job: IndexJob) -> Ruler:
    """How rows of the index are prepared and measured."""
    return ruler_of(job.facts, job.function)


def points_of(job: IndexJob) -> Source:
    """The points, opened again in this process."""
    return reopen_source(job.source)


def learn_coder(how: Ruler, points: Source, sample: np.ndarray) -> Coder:
    """A coder for the points; sample: prepared rows of them."""
    coder = coder_of(sample, how.metric)
    if how.metric.euclidean:
        return coder
    # What were cut off of a long row would make it look shorter, hence farther, than it is.
    far = max(float(farthest_from(coder.centre, how.hold(points.read(a, b)).points)) for a, b in blocks_of(points))
    return coder._replace(step=far / peak_of(sample.shape[1]) or 1.0)


def write_coder(scratch: str, coder: Coder, by_rows: bool) -> None:
    """Keep a coder, and whether searches compare exact rows."""
    numbers = np.array([coder.step, coder.exact, coder.cuts, by_rows], np.float64)
    mailbox.write(scratch, "coder", {"centre": coder.centre, "numbers": numbers})


def read_coder(scratch: str) -> Coder:
    """How rows become codes."""
    step, exact, cuts, _ = mailbox.read(scratch, "coder", "numbers")
    return Coder(mailbox.read(scratch, "coder", "centre"), float(step), bool(exact), bool(cuts))


def goes_by_rows(scratch: str) -> bool:
    """Whether searches compare exact rows, as codes cannot tell neighbours apart."""
    return bool(mailbox.read(scratch, "coder", "numbers")[3])


def listed_sample(job: IndexJob) -> Sample:
    """Random rows with their lists in the graph."""
    layout = job.layout
    sample = no_sample(layout.n, layout.n_neighbors, LOOKED_AT, seed_of(job.spec.random_state, TOLD))
    for first, ids, distances in graph_store.result_blocks(job.graph):
        keep(sample, first, ids, distances)
    return sample


def followed_of(ids: np.ndarray) -> np.ndarray:
    """Of each list the neighbour that a search has to tell from farther ones: int[m]."""
    followed: np.ndarray = ids[:, min(FOLLOWED, ids.shape[1]) - 1]
    return followed


def codes_tell(metric: Metric, coder: Coder, rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether codes tell the neighbours of most rows apart; rows, others: prepared, and the neighbour of each followed.

    Where the largest inner products are, rows are long, and codes tell them apart.
    """
    if coder.exact or not metric.euclidean:
        return True
    gaps = ((rows - others).astype(np.float64) ** 2).sum(axis=1)
    # Equal rows have equal codes, and say nothing of others.
    gaps = gaps[gaps > 0]
    return not len(gaps) or float(np.mean(gaps < TELLING * coder.step**2)) <= BLURRED


def blurred_rows(rows: Rows, coder: Coder, metric: Metric, ids: np.ndarray) -> np.ndarray:
    """Rows whose neighbours codes cannot tell apart, bool[m]: these are too near by, or the row lies beyond codes.

    ids: int32[m, k], lists, below -1 for rows that are not at hand.
    """
    if coder.exact or not metric.euclidean:
        return np.zeros(len(ids), bool)
    blurred = beyond(rows.points, coder)
    columns = min(FOLLOWED, ids.shape[1])
    lists = empty(len(ids), 1)
    for column in range(columns):
        np.copyto(lists.ids[:, 0], ids[:, column], where=ids[:, column] >= 0)
    rescore(rows.points, rows.points, plain_form(metric, rows.points.shape[1]), lists, 0, len(ids))
    gaps = lists.distances[:, 0]
    blurred |= (gaps > 0) & (gaps < TELLING * coder.step**2)
    return blurred


def facts_of(job: IndexJob) -> dict[str, Any]:
    """What the facts of an index say of its rows and codes, as JSON; float32 and float64 come back as they were."""
    graph, coder = job.facts, read_coder(job.scratch)
    scanned = graph.get("scan") or {}
    return {name: graph[name] for name in ("n", "d", "n_neighbors", "metric", "spec")} | {
        "dtype": job.layout.dtype,
        "layout": asdict(job.layout),
        "coder": {"centre": coder.centre.tolist(), "step": coder.step, "exact": coder.exact, "cuts": coder.cuts},
        # How float64 rows are moved as they are prepared: queries likewise.
        "scan": {name: scanned[name] for name in ("centre", "scale") if name in scanned},
        "compares": "rows" if goes_by_rows(job.scratch) else "codes",
    }
