"""A partition as a task holds it: its rows with what they came with, who works on it, and what its probe rows know."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels import merge
from ..kernels.codes import Coder, Encoded, coder_of, encode
from ..kernels.judge import Judge
from ..kernels.neighbours import Lists, empty, sort_rows
from ..kernels.projection import Projection, narrower, project
from ..kernels.random import seed_of
from ..kernels.ranges import Each
from ..values.plan import Job, Task
from .points import Held, Ruler
from .probe import probes_between

NARROWED = 5  # part of a seed, after those of other stages


class Hands(NamedTuple):
    """Who works on arrays: how ranges are run, and on how many threads."""

    each: Each
    threads: int


class Work(NamedTuple):
    """Who works on a partition: the job, the number of the round, the task's seed, how ranges are run and how cut."""

    job: Job
    number: int
    seed: int
    each: Each
    parts: int

    @property
    def hands(self) -> Hands:
        """Who does it."""
        return Hands(self.each, self.job.threads)


class Standing(NamedTuple):
    """Leaves of the whole set that lie in a partition. slots: int32[m, places], those of each row, nearest first.

    -1 for none; count: of leaves; home: bool[m], rows of which the nearest leaf of all is among them.
    """

    slots: np.ndarray
    count: int
    home: np.ndarray


class Partition(NamedTuple):
    """The rows of one task. points, raw: as Held has them; rows: int64[m], their ids; roles: uint8[m], None for both.

    known: int64[m, w], the lists they came with, as ids; distances: float32[m, w] of those. w = 0 in the first round.
    standing: the leaves they were routed to; None where the partition grows its own. codes: by what wide rows of all
    partitions are coded and narrowed; None where this one looks for itself.
    """

    points: np.ndarray
    raw: Any
    rows: np.ndarray
    roles: np.ndarray | None
    known: np.ndarray
    distances: np.ndarray
    standing: Standing | None = None
    codes: tuple[Coder, Projection] | None = None

    def judge(self, job: Job) -> Judge:
        """Who settles the lists of its rows."""
        return Ruler.of(job).judge(Held(self.points, self.raw))


class Known(NamedTuple):
    """Probe rows of a partition, and what is asked of their lists.

    positions: int64[p]; thresholds: their k-th true distances among the rows here; judge: who settles lists; k,
    target: of how many neighbours a list must hold which share.
    """

    positions: np.ndarray
    thresholds: np.ndarray
    judge: Judge
    k: int
    target: float

    @classmethod
    def of(
        cls,
        job: Job,
        task: Task,
        order: np.ndarray,
        judge: Judge,
        own: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Known:
        """The build's probe rows where all rows are here; else the partition's own, if it has any.

        Elsewhere the build's may miss neighbours for another reason. order: of the rows; own: rows as they came, with
        thresholds.
        """
        rows, thresholds = own or (np.empty(0, np.int64), np.empty(0, np.float32))
        if task.arguments["slices"] is None:
            rows, thresholds = probes_between(job, 0, job.layout.n)
        return cls(in_order(order)[rows], thresholds, judge, job.spec.n_neighbors, job.spec.target_recall)

    def enough(self, lists: Lists) -> bool:
        """Whether the target is reached by half a standard error: looking again and again must not pass by luck."""
        if not self.positions.size:
            return False
        sample = Lists(*(part[self.positions] for part in lists))
        self.judge.settle(sample, 0, len(self.positions), self.judge.of(self.positions))
        hits = merge.count_hits(sample, np.arange(len(self.positions)), self.thresholds, self.k)
        return bool(hits.mean() - 0.5 * hits.std() / len(hits) ** 0.5 >= self.target)


def with_codes(work: Work, points: np.ndarray, known: tuple[Coder, Projection] | None = None) -> list[Encoded]:
    """The rows with their codes, which a tree does without, and their coder; after them narrower ones if they pay.

    known: by what they are coded and narrowed, if that is known.
    """
    kind = work.job.kind
    if known is not None:
        coder, narrow = known
        rows = encode(points, coder)
        return [(rows, coder), (project(rows, narrow), narrow.coder)]
    coder = coder_of(points, kind)
    coded = [(encode(points, coder), coder)]
    found = narrower(*coded[0], seed_of(work.seed, NARROWED)) if kind.euclidean and not work.job.layout.exact else None
    return [*coded, found] if found else coded


def incoming(partition: Partition, present: np.ndarray, width: int, state: int) -> Lists:
    """The lists that the rows came with, as positions in the partition where the neighbour is here."""
    rows = partition.rows
    lists = empty(len(rows), width)
    if partition.known.shape[1]:
        table, _ = merge.table_of(rows)
        merge.localise(partition.known, table, rows, 0, state, lists)
        lists.distances[:, : partition.known.shape[1]] = partition.distances
        # A second copy of a row is nobody's neighbour and draws nobody: its first copy works for both.
        lists.ids[~present], lists.distances[~present] = -1, np.inf
        # As near ones were in the order of their ids, and positions have another.
        sort_rows(lists, 0, len(rows))
    return lists


def in_order(order: np.ndarray) -> np.ndarray:
    """Where each row that came stands now: the inverse of a permutation."""
    positions = np.empty(len(order), np.int64)
    positions[order] = np.arange(len(order))
    return positions
