"""The engine of leaves: a tree down to leaves, all pairs in each leaf, passes of NN-descent."""

from __future__ import annotations

import numpy as np

from ..kernels import merge, trees
from ..kernels.codes import Coder, Encoded, Rows, coded_form, routing_form, trusted
from ..kernels.groups import all_members, slot_groups
from ..kernels.leaves import Offered, join_places
from ..kernels.neighbours import FRESH, OLD, Lists
from ..kernels.pivots import BASE, QUERY
from ..kernels.projection import guiding
from ..kernels.random import seed_of
from ..kernels.ranges import even_cuts
from ..kernels.rows import Form
from ..kernels.sparse_distances import SparseRows, taken
from ..kernels.transforms import surrogates_near
from ..values.partitioning import leaf_fanout, leaf_rows
from ..values.plan import Job, Task
from .judged import improved, selected
from .partition import Known, Partition, Standing, Work, incoming
from .passes import descend
from .probe import probes_between, solve_here

PROBED, GUIDED = 6, 7  # parts of seeds, after those of other stages
# Rows of a partition that are solved by what it holds, to say when looking there is enough.
OWN_PROBES = 64
# A leaf may have so many times the rows it aims at: where the rows lie dense, their neighbours are in one leaf, and cut
# in pieces it would cost them the other leaves they stand in.
LARGEST = 8
# Leaves a row stands in where few columns guide it: there passes find the neighbours of neighbours for less.
GUIDED_FANOUT = 3
# Pivots of a node at most; most of a tree grows in one step.
PIVOTS = 65536
# Estimates are trusted where the k-th neighbours of all but a few probe rows are so many units of them away: there one
# standard deviation of their error is two per cent.
FINE = 1600
BLURRED = 0.02


def solve(
    work: Work, task: Task, partition: Partition, present: np.ndarray, coded: list[Encoded]
) -> tuple[Lists, np.ndarray, dict[str, float]]:
    """The lists after all pairs of leaves and passes of NN-descent, in leaf order, with that order and counters.

    coded: as with_codes has it.
    """
    job, points = work.job, partition.points
    probes = own_probes(work, partition, present, coded[-1]) if task.arguments["slices"] else None
    rows, coder = narrowest(job, coded)
    brief = task.arguments["brief"]
    fanout = 1 if brief else leaf_fanout(work.number, job.layout.partitions == 1 or probes is not None)
    if partition.standing is None:
        looking, standing = grow(work, rows, coder, partition.roles, present, fanout)
    else:
        looking = standing = cut_further(work, rows, coder, partition.standing, present, fanout)
    order = into_leaf_order(partition, rows, looking, standing)
    partition.rows[:] = partition.rows[order]
    present = present[order]
    width, state = min(task.arguments["width"], job.layout.n - 1), FRESH if task.arguments["slices"] else OLD
    form = coded_form(job.kind, rows, coder, strict=job.layout.exact)
    if fine_enough(job, coder, form):
        form = trusted(form)
    came = incoming(partition, present, width, state)
    lists = selected(job, points, form, came) if job.kind.judged else came
    known = Known.of(job, task, order, partition.judge(job), probes)
    compared = compare_leaves(work, rows, form, looking, standing, lists, known)
    ranges = even_cuts(len(order), work.parts)
    work.each(lambda a, b: merge.fill(points, form, lists, present, work.seed, a, b), ranges)
    counters: dict[str, float] = {"routed": standing.compared, "leaves": standing.count, "compared": compared}
    if not (job.layout.exact or brief):
        slots = standing.slots if looking is standing else None
        counters |= descend(work, rows, form, lists, slots, known)
    work.each(lambda a, b: known.judge.settle(lists, a, b, kept=width), ranges)
    if job.kind.judged:
        lists, more = improved(work, lists, came, known, lambda: (rows, form))
        counters |= more
    return lists, order, counters


def own_probes(
    work: Work, partition: Partition, present: np.ndarray, coded: Encoded
) -> tuple[np.ndarray, np.ndarray] | None:
    """A few rows of a partition among others, int64[p], and how far their k-th neighbours in it are, float32[p].

    They say when looking there is enough. None where another round has looked before, as the next one is for what was
    hard to find; where rows look elsewhere than they stand; and where distances are dear.
    """
    if work.number > 1 or work.job.kind.form != "inner" or partition.roles is not None:
        return None
    here = np.flatnonzero(present).astype(np.int32)
    # Of rows that only visit, most neighbours are found elsewhere.
    home = here if partition.standing is None else here[partition.standing.home[here]]
    drawn = np.random.default_rng(seed_of(work.seed, PROBED)).choice(home, min(OWN_PROBES, len(home)), replace=False)
    chosen = np.sort(drawn)
    judge = partition.judge(work.job)
    # Second copies of rows stand in no leaf, so they are nobody's neighbours.
    return chosen, solve_here(work.job, judge, coded, chosen, work.each, work.parts, here)


def narrowest(job: Job, coded: list[Encoded]) -> Encoded:
    """The narrower codes where they tell neighbours apart well; else the codes as they are."""
    fine = len(coded) > 1 and fine_enough(job, coded[-1][1], coded_form(job.kind, *coded[-1]))
    return coded[-1] if fine else coded[0]


def grow(
    work: Work, rows: Rows, coder: Coder, roles: np.ndarray | None, present: np.ndarray, fanout: int
) -> tuple[trees.Leaves, trees.Leaves]:
    """The leaves in which rows look for neighbours, and those in which they stand to be found: mostly the same.

    fanout: leaves a row stands in at most.
    """
    if work.job.layout.exact:
        leaves = trees.Leaves(np.zeros((len(rows.points), 1), np.int32), 1, 0)
        return leaves, leaves
    guided = guiding(rows, coder, seed_of(work.seed, GUIDED)) if work.job.kind.euclidean else None
    if guided:
        (rows, coder), fanout = guided, min(fanout, GUIDED_FANOUT)
    shape = shape_of(work, rows, fanout)
    standing = present if roles is None else present & (roles & BASE > 0)
    pair = [trees.Role(routing_form(rows, coder), standing)]
    if not work.job.kind.euclidean:
        looking = present if roles is None else present & (roles & QUERY > 0)
        pair.insert(0, trees.Role(trusted(coded_form(work.job.kind, rows, coder)), looking))
    leaves = trees.descend(rows, pair, shape, work.seed, work.each, work.parts)
    return leaves[0], leaves[-1]


def cut_further(
    work: Work, rows: Rows, coder: Coder, standing: Standing, present: np.ndarray, fanout: int
) -> trees.Leaves:
    """The leaves that rows were routed to, `fanout` of each at most, and those that are far too large in pieces."""
    # What brought a row here is where it meets others; of leaves that are all here the farthest finds it little.
    fanout = min(fanout, GUIDED_FANOUT)
    slots = np.where(present[:, None], standing.slots[:, :fanout], np.int32(-1))
    begun, role = trees.Leaves(slots, standing.count, 0), trees.Role(routing_form(rows, coder), present)
    return trees.descend(rows, [role], shape_of(work, rows, fanout), work.seed, work.each, work.parts, begun)[0]


def shape_of(work: Work, rows: Rows, fanout: int) -> trees.Shape:
    """How leaves of such rows are cut."""
    leaf = leaf_rows(rows.values.shape[1], work.job.spec.n_neighbors)
    return trees.Shape(leaf, LARGEST * leaf, PIVOTS, fanout)


def into_leaf_order(partition: Partition, rows: Rows, looking: trees.Leaves, standing: trees.Leaves) -> np.ndarray:
    """Put all that belongs to the rows but their ids into the order of their nearest leaves, in place; that order."""
    # Rows in no leaf come last, so that of two copies of a row the one that is in leaves stays the first.
    order = np.argsort(standing.slots[:, 0].astype(np.uint32), kind="stable").astype(np.int64)
    raw = [] if partition.raw is None or isinstance(partition.raw, SparseRows) else [partition.raw]
    if isinstance(partition.raw, SparseRows):
        for part, ordered in zip(partition.raw, taken(partition.raw, order), strict=True):
            part[:] = ordered
    # Rows may be their own codes, and look where they stand.
    merge.permute([*rows, *raw, partition.known, partition.distances, standing.slots, looking.slots], order)
    return order


def compare_leaves(
    work: Work,
    rows: Rows,
    form: Form,
    looking: trees.Leaves,
    standing: trees.Leaves,
    lists: Lists,
    known: Known,
) -> int:
    """Compare the pairs of each leaf, place by place of the looking row, until that is enough; the pairs compared."""
    base = all_members(standing.slots, standing.count)
    offered, compared = Offered(rows, base, base.rows), 0
    for place in slot_groups(looking.slots, looking.count):
        if compared and known.enough(lists):
            break
        compared += join_places(rows, [place], offered, form, lists, True, work.each, work.parts)
    return compared


def fine_enough(job: Job, coder: Coder, form: Form) -> bool:
    """Whether codes tell neighbours apart so well that lists may keep estimates until the partition is done.

    The probe rows know how far away a k-th neighbour is; a few of them may lie in clusters that codes blur.
    """
    if job.kind.form != "inner":
        return True
    if coder.cuts or not form.euclidean or job.layout.exact:
        return False
    thresholds = probes_between(job, 0, job.layout.n)[1]
    if job.kind.judged:
        thresholds = surrogates_near(thresholds, job.kind)
    return float(np.quantile(thresholds, BLURRED)) >= FINE * float(form.unit)
