"""Local: one partition alone, in memory: a tree down to leaves, all pairs in each leaf, passes of NN-descent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..kernels import merge, trees
from ..kernels.codes import Coder, Rows, coded_form, coder_of, encode, routing_form, trusted
from ..kernels.groups import all_members, slot_groups
from ..kernels.judge import Judge
from ..kernels.leaves import Offered, join_places
from ..kernels.neighbours import FRESH, OLD, Lists, empty, sort_rows
from ..kernels.pivots import BASE, QUERY
from ..kernels.projection import narrower
from ..kernels.random import seed_of
from ..kernels.ranges import even_cuts
from ..kernels.rows import Form, rescore
from ..kernels.sparse_distances import SparseRows, taken
from ..kernels.transforms import surrogates_near
from ..storage import graph, listings, mailbox
from ..values.memory import (
    WRITTEN_AT_ONCE,
    listed_bytes,
    local_fixed,
    local_row,
    strip_rows,
)
from ..values.partitioning import LEAF_FANOUT, Unit, companion_cap, leaf_fanout
from ..values.plan import Job, Stage, Task
from ..values.recall import EXACT, estimate_recall, good_enough
from . import kdtree
from .measured import measured, side_by_side
from .passes import Known, Work, descend, in_order
from .points import Held, Ruler, assemble, read_rows
from .probe import probes_between, recall_counters, solve_probes
from .publish import publish_rows
from .route import listed_at, mail_of

LOCAL, NARROWED = 4, 5  # parts of seeds
# Ranges of work per thread: enough that an uneven one does not hold up the rest.
PARTS = 4
# Rows that a leaf aims at: as many as make its products cost as much as what is selected from them, between these.
LEAF_LEAST, LEAF_MOST, LEAF_CODES = 400, 500, 102_400
# A leaf may have so many times the rows it aims at: where the rows lie dense, their neighbours are in one leaf, and cut
# in pieces it would cost them the other leaves they stand in.
LARGEST = 8
# Pivots of a node at most; most of a tree grows in one step.
PIVOTS = 65536
# Estimates are trusted where the k-th neighbours of all but a few probe rows are so many units of them away: there one
# standard deviation of their error is two per cent.
FINE = 1600
BLURRED = 0.02


class Partition(NamedTuple):
    """The rows of one task. points, raw: as Held has them; rows: int64[m], their ids; roles: uint8[m], None for both.

    known: int64[m, w], the lists they came with, as ids; distances: float32[m, w] of those. w = 0 in the first round.
    """

    points: np.ndarray
    raw: Any
    rows: np.ndarray
    roles: np.ndarray | None
    known: np.ndarray
    distances: np.ndarray


def plan_local(job: Job, number: int, before: int, width: int, units: list[Unit]) -> Stage:
    """One task a unit; without units one task holds everything.

    before: length of the lists that rows bring along, 0 in the first round; width: of those that they leave with.
    """
    rows = max((unit.size for unit in units), default=job.layout.n)
    companions, columns = companion_cap(job.kind.selected(width)), job.layout.columns_held(job.kind)
    row = local_row(job.kind, job.layout.dtype, columns, width, LEAF_FANOUT, companions)
    fixed = local_fixed(job.kind, job.layout.dtype, columns, width, job.threads) + listed_bytes(job.layout)
    slices = [[list(piece) for piece in unit.slices] for unit in units] or [None]
    lengths = {"before": before, "width": width}
    tasks = [Task("local", number, i, lengths | {"slices": part}) for i, part in enumerate(slices)]
    # The largest first: what is left for the end is small, and workers end together.
    tasks.sort(key=lambda task: -units[task.index].size if units else 0)
    return Stage("local", run_local, tasks, fixed + rows * row)


@measured
def run_local(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Improve the lists of the rows of one unit and write them, in the order in which the rows came."""
    slices = task.arguments["slices"]
    partition = read_everything(job, task) if slices is None else read_mail(job, task)
    lists, order, counters = solve(job, task, partition)
    read = partition.points.nbytes + partition.known.nbytes + partition.distances.nbytes
    if slices is None:
        counters |= write_whole(job, task, partition, lists, order)
    else:
        write_found(job, task, partition, lists, order)
    return counters, read, lists.ids.shape[0] * lists.ids.shape[1] * 12


def read_everything(job: Job, task: Task) -> Partition:
    """All rows of the source, with the lists of the round before."""
    n = job.layout.n
    known, distances = np.empty((n, 0), np.int64), np.empty((n, 0), np.float32)
    if task.round > 1:
        known, distances = graph.read_lists(job.out, task.round - 1, 0, n)
    return Partition(*read_rows(job, 0, n), np.arange(n), None, known, distances)


def read_mail(job: Job, task: Task) -> Partition:
    """The rows that the blocks routed to this unit."""
    slices = task.arguments["slices"]

    before = task.arguments["before"]
    record = mail_of(job, before)
    size = sum(last - first for _, first, last in slices)
    rows, roles = np.empty(size, np.int64), np.zeros(size, np.uint8)
    known, distances = np.empty((size, before), np.int64), np.empty((size, before), np.float32)

    def strips() -> Iterator[tuple[int, Any]]:
        at, d = 0, job.layout.d
        for block, first, last in slices:
            entry = first_entry(job, task.round, block, first)
            # Whole chunks: one that is read in part is read as often as it has parts.
            for start, stop in mailbox.strips(first, last, max(1, WRITTEN_AT_ONCE // record.itemsize)):
                mail = mailbox.read_records(job.scratch, f"{task.round}/mail/{block}", record, start, stop)
                here = slice(at, at + len(mail))
                rows[here] = mail["row"] + np.int64(job.layout.block(block)[0])
                if before:
                    known[here], distances[here] = mail["ids"], mail["distances"]
                if "role" in record.names:
                    roles[here] = mail["role"]
                if job.layout.sparse:
                    lengths = mail["length"]
                    yield at, listings.read_entries(job.scratch, listed_at(task.round, block), lengths, entry, d)
                    entry += int(lengths.sum())
                else:
                    yield at, mail["points"]
                at += len(mail)

    return Partition(*assemble(job, size, strips()), rows, None if job.kind.euclidean else roles, known, distances)


def first_entry(job: Job, number: int, block: int, first: int) -> int:
    """Where what sparse rows list begins, of those that a block sent from `first` on, where a partition's begin."""
    if not job.layout.sparse:
        return 0
    starts, entries = (mailbox.read(job.scratch, f"{number}/mail/{block}", name) for name in ("starts", "entries"))
    return int(entries[np.searchsorted(starts, first)])


def solve(job: Job, task: Task, partition: Partition) -> tuple[Lists, np.ndarray, dict[str, float]]:
    """The improved lists, in the order of leaves or of a k-d tree, with that order and what was counted.

    Puts the arrays of `partition` into that order, in place: position i holds what came as row order[i].
    """
    points, metric = partition.points, job.kind
    seed = seed_of(job.spec.random_state, LOCAL, task.round, task.index)
    table, present = merge.table_of(partition.rows)
    if partition.roles is not None:
        merge.share_roles(table, partition.rows, partition.roles)
    with side_by_side(job.threads) as each:
        work = Work(job, task.round, seed, each, PARTS * job.threads if job.threads > 1 else 1)
        if job.layout.exact and metric.form != "inner":
            return *solve_by_pairs(work, task, partition), {"kdtree": 0, "compared": len(points) ** 2}
        coded = None
        if task.arguments["slices"] is None and task.round == 1 and not job.layout.exact:
            coded = with_codes(job, points) if metric.form == "inner" else None
            solve_probes(job, Held(points, partition.raw), coded, each, work.parts)
        tree, tried = kdtree.choose(work, points, present)
        if tree is not None:
            lists, order, counters = solve_by_tree(work, task, partition, present, tree)
            return lists, order, tried | counters
        coded = coded or with_codes(job, points)
        lists, order, counters = solve_by_leaves(work, task, partition, present, *narrowed(work, *coded))
    return lists, order, tried | counters


def with_codes(job: Job, points: np.ndarray) -> tuple[Rows, Coder]:
    """The rows with their codes, which a tree does without, and their coder."""
    coder = coder_of(points, job.kind)
    return encode(points, coder), coder


def solve_by_leaves(
    work: Work, task: Task, partition: Partition, present: np.ndarray, rows: Rows, coder: Coder
) -> tuple[Lists, np.ndarray, dict[str, float]]:
    """The lists after all pairs of leaves and passes of NN-descent, in leaf order, with that order and counters."""
    job, points = work.job, partition.points
    looking, standing = grow(work, rows, coder, partition.roles, present)
    order = into_leaf_order(partition, rows, looking, standing)
    partition.rows[:] = partition.rows[order]
    present = present[order]
    width, state = min(task.arguments["width"], job.layout.n - 1), FRESH if task.arguments["slices"] else OLD
    form = coded_form(job.kind, rows, coder, strict=job.layout.exact)
    if fine_enough(job, coder, form):
        form = trusted(form)
    came = incoming(partition, present, width, state)
    lists = laid_out(job, points, form, came) if job.kind.judged else came
    known, final = Known.of(job, task, order), judge_for(job, partition)

    def enough() -> bool:
        return known.enough(final, lists, job.spec.n_neighbors, job.spec.target_recall)

    compared = compare_leaves(work, rows, form, looking, standing, lists, enough)
    ranges = even_cuts(len(order), work.parts)
    work.each(lambda a, b: merge.fill(points, form, lists, present, work.seed, a, b), ranges)
    counters: dict[str, float] = {"routed": standing.compared, "leaves": standing.count, "compared": compared}
    if not job.layout.exact:
        slots = standing.slots if looking is standing else None
        counters |= descend(work, rows, form, lists, slots, enough)
    work.each(lambda a, b: final.settle(lists, a, b), ranges)
    if job.kind.judged:
        lists, more = judged(work, lists, came, final, known, lambda: (rows, form))
        counters |= more
    return lists, order, counters


def solve_by_pairs(work: Work, task: Task, partition: Partition) -> tuple[Lists, np.ndarray]:
    """The lists after the distances of all pairs, and the order of the rows, which stays as it was."""
    m = len(partition.rows)
    final, lists = judge_for(work.job, partition), empty(m, min(task.arguments["width"], m - 1))
    work.each(lambda a, b: final.offer_all(lists, a, b), even_cuts(m, work.parts))
    return lists, np.arange(m)


def judge_for(job: Job, partition: Partition) -> Judge:
    """Who settles the lists of the partition."""
    return Ruler.of(job).judge(Held(partition.points, partition.raw))


def laid_out(job: Job, points: np.ndarray, form: Form, came: Lists) -> Lists:
    """Lists that begin with what came, as far as it is at hand, by its surrogates; longer where those only select."""
    lists = empty(len(came.ids), min(job.kind.selected(came.ids.shape[1]), job.layout.n - 1))
    at_hand = came.ids >= 0
    if at_hand.any():
        width = came.ids.shape[1]
        lists.ids[:, :width][at_hand] = came.ids[at_hand]
        lists.state[:, :width][at_hand] = came.state[at_hand]
        lists.distances[:, :width][at_hand] = 0
        rescore(points, points, form, lists, 0, len(points))
        sort_rows(lists, 0, len(points))
    return lists


def judged(
    work: Work, lists: Lists, came: Lists, final: Judge, known: Known, coded: Callable[[], tuple[Rows, Form]]
) -> tuple[Lists, dict[str, float]]:
    """The lists that a layout selected, settled, with what came; after passes by the distance itself where they help.

    coded: the rows as they stand, with their codes, and how these are compared. Returns lists as long as those that
    came, and what was counted.
    """
    width, spec, counters = came.ids.shape[1], work.job.spec, {}
    lists = Lists(*(np.ascontiguousarray(part[:, :width]) for part in lists))

    def enough() -> bool:
        return known.enough(final, lists, spec.n_neighbors, spec.target_recall)

    if work.job.kind.form != "inner" and not enough():
        own = descend(work, *coded(), lists, None, enough, final)
        counters = {"judged": own["descended"], "own_passes": own["passes"]}
    merge.join_lists(lists, came)
    return lists, counters


def narrowed(work: Work, rows: Rows, coder: Coder) -> tuple[Rows, Coder]:
    """Narrower codes of wide rows where they tell neighbours apart well; else the codes as they are."""
    if work.job.layout.exact or not work.job.kind.euclidean:
        return rows, coder
    found = narrower(rows, coder, seed_of(work.seed, NARROWED))
    return found if found and fine_enough(work.job, found[1], coded_form(work.job.kind, *found)) else (rows, coder)


def solve_by_tree(
    work: Work, task: Task, partition: Partition, present: np.ndarray, tree: kdtree.Tree
) -> tuple[Lists, np.ndarray, dict[str, float]]:
    """The lists with the nearest rows of the partition, in the order of the tree, with that order and counters."""
    raw = [] if partition.raw is None or partition.raw is partition.points else [partition.raw]
    order = kdtree.into_tree_order(tree, present, partition.points, [*raw, partition.known, partition.distances])
    partition.rows[:] = partition.rows[order]
    job, width = work.job, min(task.arguments["width"], work.job.layout.n - 1)
    came = incoming(partition, present[order], width, OLD)
    if not job.kind.judged:
        kdtree.search(work, tree, partition.points, came)
        return came, order, {}
    lists = empty(len(order), min(job.kind.selected(width), job.layout.n - 1))
    kdtree.search(work, tree, partition.points, lists)
    final = judge_for(job, partition)
    work.each(lambda a, b: final.settle(lists, a, b), even_cuts(len(order), work.parts))

    def coded() -> tuple[Rows, Form]:
        rows, coder = with_codes(job, partition.points)
        return rows, trusted(coded_form(job.kind, rows, coder))

    lists, counters = judged(work, lists, came, final, Known.of(job, task, order), coded)
    return lists, order, counters


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


def grow(
    work: Work, rows: Rows, coder: Coder, roles: np.ndarray | None, present: np.ndarray
) -> tuple[trees.Leaves, trees.Leaves]:
    """The leaves in which rows look for neighbours, and those in which they stand to be found: mostly the same."""
    leaf = min(max(LEAF_CODES // rows.values.shape[1], LEAF_LEAST), LEAF_MOST)
    leaf = max(leaf, 8 * work.job.spec.n_neighbors)
    shape = trees.Shape(leaf, LARGEST * leaf, PIVOTS, leaf_fanout(work.job.layout.partitions, work.number))
    if work.job.layout.exact:
        leaves = trees.Leaves(np.zeros((len(rows.points), 1), np.int32), 1, 0)
        return leaves, leaves
    standing = present if roles is None else present & (roles & BASE > 0)
    pair = [trees.Role(routing_form(rows, coder), standing)]
    if not work.job.kind.euclidean:
        looking = present if roles is None else present & (roles & QUERY > 0)
        pair.insert(0, trees.Role(trusted(coded_form(work.job.kind, rows, coder)), looking))
    leaves = trees.descend(rows, pair, shape, work.seed, work.each, work.parts)
    return leaves[0], leaves[-1]


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


def compare_leaves(
    work: Work,
    rows: Rows,
    form: Form,
    looking: trees.Leaves,
    standing: trees.Leaves,
    lists: Lists,
    enough: Callable[[], bool],
) -> int:
    """Compare the pairs of each leaf, place by place of the looking row, until that is enough; the pairs compared."""
    base = all_members(standing.slots, standing.count)
    offered, compared = Offered(rows, base, base.rows), 0
    for place in slot_groups(looking.slots, looking.count):
        if compared and enough():
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


def write_whole(job: Job, task: Task, partition: Partition, lists: Lists, order: np.ndarray) -> dict[str, float]:
    """Write the lists of all rows block by block, as the finished graph if they are good enough, else as the round's.

    Counters: hits of the probe rows, rows that are short of neighbours, and whether the graph was published.
    """
    positions, k = in_order(order), job.spec.n_neighbors
    probes, thresholds = probes_between(job, 0, job.layout.n)
    counters = recall_counters(merge.count_hits(lists, positions[probes], thresholds, k))
    short = int((lists.ids[:, k - 1] == -1).sum())
    recall = EXACT if job.layout.exact else estimate_recall(**counters, k=k)
    done = good_enough(recall, short, job.spec.target_recall)
    for index in range(job.layout.blocks):
        first, last = job.layout.block(index)
        chosen = positions[first:last]
        ids = merge.globalise(lists, partition.rows, partition.known, chosen)
        if done:
            publish_rows(job, first, ids, lists.distances[chosen])
        else:
            graph.write_lists(job.out, task.round, first, ids, lists.distances[chosen])
    return counters | {"short": short, "published": done}


def write_found(job: Job, task: Task, partition: Partition, lists: Lists, order: np.ndarray) -> None:
    """Write the lists of a unit in the order of its mail, for the merge."""
    positions = in_order(order)
    record = mailbox.found_record(lists.ids.shape[1])
    chunk = len(positions) // len(task.arguments["slices"])
    place = f"{task.round}/found/{task.index}"
    with mailbox.RecordWriter(job.scratch, place, len(positions), record, chunk) as writer:
        for start, stop in mailbox.strips(0, len(positions), strip_rows(job.layout.columns_held(job.kind))):
            chosen = positions[start:stop]
            strip = np.empty(stop - start, record)
            strip["ids"] = merge.globalise(lists, partition.rows, partition.known, chosen)
            strip["distances"] = lists.distances[chosen]
            writer.append(strip)
