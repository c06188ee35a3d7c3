"""Draw: fresh pivots for a round, which of them share a partition, and how far from its own a row looks for others."""

from __future__ import annotations

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


@measured
def run_draw(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write down where rows go in this round: pivots, the partition of each, and how rows find theirs."""
    sample = read_chosen(job, "sample").points
    read, seed = sample.nbytes, seed_of(job.spec.random_state, DRAW, task.round)
    coder = coder_of(sample, job.kind)
    apart = np.arange(len(sample)) % ASIDE == 0
    moving, aside = encode(sample[~apart], coder), encode(sample[apart], coder)
    guide = guide_of(moving, coder, seed_of(seed, GUIDE)) if job.layout.leaves else None
    pivots = some_of(sample, (FEW if guide else PIVOTS_PER_PARTITION) * job.layout.partitions, seed)
    narrow = narrow_of(moving, coder, seed_of(seed, NARROW)) if job.kind.euclidean else None
    leaves = some_of(sample, job.layout.leaves, seed_of(seed, LEAVES)) if guide else None
    del sample
    form = routing_form(aside, coder)
    for _ in range(MORE_STEPS if guide else STEPS):
        pivots = means(moving.points, nearest_pivots(moving, encode(pivots, coder), form, 1).ids[:, 0], pivots)
    nearest = nearest_pivots(aside, encode(pivots, coder), form, NEAREST)
    partition = share_out(pivots, count_pivots(nearest, len(pivots)), job.layout.partitions, form, seed)
    drawn = Drawn(pivots, partition, coder, reach_for(nearest, partition, MOST_PARTITIONS, FANOUT))
    if leaves is not None:
        drawn = held_by(drawn, leaves, form, seed)._replace(guide=guide)
    elif task.round == 1:
        drawn = drawn._replace(reach=least_reach(job, drawn, moving, nearest, form))
    drawn._replace(narrow=narrow).write(job, task.round)
    return {"pivots": len(drawn.pivots), "reach": drawn.reach}, read, drawn.pivots.nbytes


def some_of(sample: np.ndarray, count: int, seed: int) -> np.ndarray:
    """So many rows of the sample, or all of them, in its order."""
    return sample[np.sort(np.random.default_rng(seed).choice(len(sample), min(count, len(sample)), replace=False))]


def held_by(drawn: Drawn, leaves: np.ndarray, form: Form, seed: int) -> Drawn:
    """Leaves, prepared rows, as the pivots: each in the partition of what was the pivot nearest to it.

    Their order: those of one partition together, and near ones with adjacent numbers. Rows go wherever their leaves
    are.
    """
    pivots, coder = encode(drawn.pivots, drawn.coder), drawn.coder
    partition = drawn.partition[nearest_pivots(encode(leaves, coder), pivots, form, 1).ids[:, 0]]
    together = share_out(leaves, np.ones(len(leaves)), max(len(leaves) // PIVOTS_TOGETHER, 1), form, seed)
    order = np.lexsort((together, partition))
    return drawn._replace(pivots=leaves[order], partition=partition[order], reach=np.inf)


def least_reach(job: Job, drawn: Drawn, moving: Rows, nearest: Lists, form: Form) -> float:
    """The shortest reach by which enough neighbours meet in a partition, as far as one can say; else the drawn one.

    moving: rows of the sample; nearest: the pivots nearest to those that moved none.
    """
    pairs, (pivots, partition, coder) = pairs_of_neighbours(job, moving, drawn.coder), drawn[:3]
    if pairs is None:
        return drawn.reach
    sides = [nearest_pivots(encode(side, coder), encode(pivots, coder), form, NEAREST) for side in pairs]
    fewer = (reach_for(nearest, partition, MOST_PARTITIONS, copies) for copies in FEWER)
    wanted = 1 - SPARED * (1 - job.spec.target_recall)
    return next((one for one in fewer if share_that_meets(sides, partition, one) >= wanted), drawn.reach)


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
    gaps = others.astype(np.float32) - probes[:, None]
    lengths = np.sqrt((gaps * gaps).sum(axis=2))
    gaps *= np.minimum(1, np.sqrt(thresholds)[:, None] / np.maximum(lengths, TINY))[:, :, None]
    made = probes[:, None] + gaps
    made = (np.rint(made) if probes.dtype == np.int8 else made).astype(probes.dtype)
    return np.repeat(probes, DIRECTIONS, axis=0), made.reshape(-1, probes.shape[1])


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
