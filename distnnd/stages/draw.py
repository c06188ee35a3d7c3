"""Draw: fresh pivots for a round, which of them share a partition, and how far from its own a row looks for others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.codes import Coder, Rows, coder_of, encode, routing_form
from ..kernels.neighbours import Lists, empty
from ..kernels.pivots import QUERY, assign, count_pivots, means, reach_for, share_out
from ..kernels.projection import guide_of, narrow_of
from ..kernels.random import seed_of
from ..kernels.rows import Form
from ..kernels.signposts import find_pivots, nearest_of, signposts_of
from ..kernels.trees import PIVOTS_TOGETHER
from ..values.memory import DIRECTIONS, draw_bytes
from ..values.metric import Metric
from ..values.partitioning import FANOUT, MOST_PARTITIONS, NEAREST, PIVOTS_PER_PARTITION, pivot_count
from ..values.plan import Job, Stage, Task
from .drawn import Drawn
from .measured import measured
from .points import read_chosen
from .probe import probes_between

DRAW, GUIDE, LEAVES, NARROW = 3, 1, 2, 4  # parts of seeds
# Pivots are moved to the means of the rows nearest to them so many times: borders then run where rows are few.
STEPS = 2
# The same where rows follow leaves of the whole set, and pivots only share these out: of fewer that have moved farther
# the partitions have shorter borders, which a tenth fewer rows cross.
FEW, MORE_STEPS = 4, 6
# Every third row of the sample moves no pivot: those that do lie nearer to theirs than others.
ASIDE = 3
# Copies of a row, on the average, that are tried in the first round: as few as bring enough neighbours together. Later
# rounds are for what was hard to bring together.
FEWER = (1.2, 1.4, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1, 2.2, 2.3, 2.4)
# Of the neighbours that may be missing, the share that the drawing may separate, by pairs that are as far from each
# other as neighbours ever are.
SPARED = 0.9
TINY = 1e-30


def plan_draw(job: Job, number: int) -> Stage:
    """One task."""
    layout, pivots = job.layout.held_by(job.kind), pivot_count(job.layout.partitions)
    return Stage("draw", run_draw, [Task("draw", number, 0)], draw_bytes(layout, job.kind, pivots))


class Sampled(NamedTuple):
    """The sample of a round in codes of one coder: rows that move pivots, and rows that say what came of it."""

    moving: Rows
    aside: Rows
    coder: Coder

    @property
    def form(self) -> Form:
        """How its rows are compared with pivots."""
        return routing_form(self.aside, self.coder)

    @classmethod
    def of(cls, points: np.ndarray, metric: Metric) -> Sampled:
        """The sample that prepared points are."""
        coder, apart = coder_of(points, metric), np.arange(len(points)) % ASIDE == 0
        return cls(encode(points[~apart], coder), encode(points[apart], coder), coder)

    def nearest(self, rows: Rows, pivots: np.ndarray, wanted: int) -> Lists:
        """The `wanted` pivots nearest to each row of its coder, or all of them; pivots: prepared rows."""
        return nearest_pivots(rows, encode(pivots, self.coder), self.form, wanted)


@measured
def run_draw(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write down where rows go in this round: pivots, the partition of each, and how rows find theirs."""
    points = read_chosen(job, "sample").points
    read, seed = points.nbytes, seed_of(job.spec.random_state, DRAW, task.round)
    sample = Sampled.of(points, job.kind)
    guide = guide_of(sample.moving, sample.coder, seed_of(seed, GUIDE)) if job.layout.leaves else None
    narrow = narrow_of(sample.moving, sample.coder, seed_of(seed, NARROW)) if job.kind.euclidean else None
    each, steps = (FEW, MORE_STEPS) if guide else (PIVOTS_PER_PARTITION, STEPS)
    pivots = some_of(points, each * job.layout.partitions, seed)
    leaves = some_of(points, job.layout.leaves, seed_of(seed, LEAVES)) if guide else None
    del points
    drawn = carved(job, sample, pivots, steps, seed)._replace(narrow=narrow)
    if leaves is not None:
        drawn = held_by(drawn, sample, leaves, seed)._replace(guide=guide)
    else:
        drawn = drawn._replace(reach=reach_of(job, task.round, drawn, sample))
    drawn.write(job, task.round)
    return {"pivots": len(drawn.pivots)}, read, drawn.pivots.nbytes


def some_of(sample: np.ndarray, count: int, seed: int) -> np.ndarray:
    """So many rows of the sample, or all of them, in its order."""
    return sample[np.sort(np.random.default_rng(seed).choice(len(sample), min(count, len(sample)), replace=False))]


def carved(job: Job, sample: Sampled, pivots: np.ndarray, steps: int, seed: int) -> Drawn:
    """The pivots moved to means so many times, near ones in one partition; rows go wherever they see pivots."""
    for _ in range(steps):
        nearest = sample.nearest(sample.moving, pivots, 1)
        pivots = means(sample.moving.points, nearest.ids[:, 0], pivots)
    loads = count_pivots(sample.nearest(sample.aside, pivots, 1), len(pivots))
    partition = share_out(pivots, loads, job.layout.partitions, sample.form, seed)
    return Drawn(pivots, partition, sample.coder, np.inf)


def held_by(drawn: Drawn, sample: Sampled, leaves: np.ndarray, seed: int) -> Drawn:
    """Leaves, prepared rows, as the pivots: each in the partition of what was the pivot nearest to it.

    Their order: those of one partition together, and near ones with adjacent numbers.
    """
    partition = drawn.partition[sample.nearest(encode(leaves, sample.coder), drawn.pivots, 1).ids[:, 0]]
    together = share_out(leaves, np.ones(len(leaves)), max(len(leaves) // PIVOTS_TOGETHER, 1), sample.form, seed)
    order = np.lexsort((together, partition))
    return drawn._replace(pivots=leaves[order], partition=partition[order])


def reach_of(job: Job, number: int, drawn: Drawn, sample: Sampled) -> float:
    """How many times as far as the nearest pivot another may be whose partition a row goes to.

    In the first round the shortest reach by which enough neighbours meet in a partition, as far as one can say; else
    the one by which rows go to as many partitions as planned.
    """
    nearest, partition = sample.nearest(sample.aside, drawn.pivots, NEAREST), drawn.partition
    planned = reach_for(nearest, partition, MOST_PARTITIONS, FANOUT)
    pairs = pairs_of_neighbours(job, sample.moving, sample.coder) if number == 1 else None
    if pairs is None:
        return planned
    sides = [sample.nearest(encode(side, sample.coder), drawn.pivots, NEAREST) for side in pairs]
    fewer = (reach_for(nearest, partition, MOST_PARTITIONS, copies) for copies in FEWER)
    wanted = 1 - SPARED * (1 - job.spec.target_recall)
    return next((one for one in fewer if share_that_meets(sides, partition, one) >= wanted), planned)


def pairs_of_neighbours(job: Job, sample: Rows, coder: Coder) -> tuple[np.ndarray, np.ndarray] | None:
    """Probe rows, and rows as far from them as their k-th true neighbours, in directions that rows of the sample take.

    Both are prepared rows, [p * DIRECTIONS, width], one under the other. None where nearness is not mutual, or is
    another than that of prepared rows: what the probe rows know is no distance between these then. Nor are there
    directions among bits.
    """
    metric = job.kind
    if not metric.euclidean or metric.judged or metric.packed:
        return None
    probes, (_, thresholds) = read_chosen(job, "probes").points, probes_between(job, 0, job.layout.n)
    rows = encode(probes, coder)
    near, _ = nearest_of(rows, sample, routing_form(rows, coder), DIRECTIONS)
    others = sample.points[np.maximum(near.ids, 0)]
    gaps = others.astype(np.float64 if metric.double else np.float32) - probes[:, None]
    lengths = np.sqrt((gaps * gaps).sum(axis=2))
    gaps *= np.minimum(1, np.sqrt(thresholds)[:, None] / np.maximum(lengths, TINY))[:, :, None]
    made = probes[:, None] + gaps
    made = (np.rint(made) if probes.dtype == np.int8 else made).astype(probes.dtype)
    return np.repeat(probes, others.shape[1], axis=0), made.reshape(-1, probes.shape[1])


def share_that_meets(sides: list[Lists], partition: np.ndarray, reach: float) -> float:
    """The share of the pairs whose rows go to a common partition; sides: the pivots nearest to each row of both."""
    slots = [np.full((len(side.ids), MOST_PARTITIONS), -1, np.int32) for side in sides]
    for side, places in zip(sides, slots, strict=True):
        assign(side, QUERY, partition, MOST_PARTITIONS, np.float32(reach), places, np.zeros(places.shape, np.uint8))
    one, other = slots
    return float(((one[:, :, None] == other[:, None]) & (one >= 0)[:, :, None]).any(axis=(1, 2)).mean())


def nearest_pivots(rows: Rows, pivots: Rows, form: Form, wanted: int) -> Lists:
    """The `wanted` pivots nearest to each row, or all of them."""
    lists = empty(len(rows.points), min(wanted, len(pivots.points)))
    find_pivots(rows, np.arange(len(rows.points), dtype=np.int32), signposts_of(pivots, form), form, lists)
    return lists
