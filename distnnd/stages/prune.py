"""Making an index of a graph: pivots, the place of each row among them, and the pruned edges of each partition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse.csgraph import connected_components

from ..kernels import compared, prune
from ..kernels.codes import Rows, coded_form, encode, routing_form, trusted
from ..kernels.neighbours import empty
from ..kernels.pivots import share_out
from ..kernels.random import seed_of
from ..kernels.rows import plain_form
from ..kernels.signposts import find_pivots, signposts_of
from ..storage import graph as graph_store
from ..storage import index as store
from ..storage import mailbox, stores
from ..storage.source import Source
from ..values import memory
from ..values.plan import Stage, Task
from ..values.searching import OWN, PLACED, SAMPLED, IndexJob, index_row, pivot_count, prune_fixed, prune_row
from .coder import (
    blurred_rows,
    codes_tell,
    followed_of,
    goes_by_rows,
    learn_coder,
    listed_sample,
    points_of,
    read_coder,
    ruler,
    write_coder,
)
from .edges import Ground, Known, Place, by_length, completed, mended, pruned
from .measured import measured, side_by_side
from .own_recall import draw_probes, find_truth, run_recall
from .partition import Hands
from .points import Held, Ruler, assemble
from .views import blocks_of, points_at

PIVOTS = 41  # what random numbers are for: a part of their seed
# Partitions hang together where so many edges lead from one to the other and back, as a share of their rows.
TIED = 0.01


def plan_index(job: IndexJob) -> list[Stage]:
    """The stages in their order."""
    layout, metric = job.layout, ruler(job).metric
    row = memory.coded_bytes(metric, layout.dtype, layout.d) + memory.raw_bytes(metric, layout.dtype, layout.d)
    sampled = memory.SLACK + 3 * SAMPLED * row
    placed = memory.SLACK + memory.tile_bytes(layout.d) + memory.strip_rows(layout.d) * 8 * row + 8 * PLACED
    cut = layout.partitions > 1
    pruned = prune_fixed(layout.n, layout.d, layout.n_neighbors, cut or not metric.euclidean)
    pruned += layout.rows * prune_row(metric, layout.dtype, layout.d, layout.n_neighbors, layout.degree, cut)
    places = [Task("place", 0, index) for index in range(-(-layout.n // PLACED))]
    parts = [Task("prune", 0, index) for index in range(layout.partitions)]
    stages = [
        Stage("pivots", run_pivots, [Task("pivots", 0, 0)], sampled),
        Stage("place", run_place, places, placed),
        Stage("order", run_order, [Task("order", 0, 0)], memory.SLACK + 32 * layout.n),
        Stage("prune", run_prune, parts, pruned),
        Stage("seal", run_seal, [Task("seal", 0, 0)], memory.SLACK + 16 * layout.n),
        Stage("recall", run_recall, [Task("recall", 0, 0)], recall_bytes(job)),
    ]
    return stages  # type: ignore[return-value]


def recall_bytes(job: IndexJob) -> int:
    """Bytes of the task that asks the index: of what is in files only pages are mapped."""
    layout = job.layout
    held = index_row(ruler(job).metric, layout.dtype, layout.d, layout.width) * layout.rows
    return memory.SLACK + OWN // 4 + 8 * layout.n + (0 if stores.is_local(job.out) else held)


@measured
def run_pivots(job: IndexJob, task: Task) -> tuple[dict[str, float], int, int]:
    """Draw the pivots, near ones side by side, and learn how rows become codes.

    Writes rows int64[p]; points, prepared; numbers float64 (step, exact, cuts) and centre float32[w] of the coder.
    """
    points, layout, how = points_of(job), job.layout, ruler(job)
    seed = seed_of(job.spec.random_state, PIVOTS)
    draw = np.random.default_rng(seed)
    chosen = np.sort(draw.choice(layout.n, min(SAMPLED, layout.n), replace=False))
    listed = listed_sample(job)
    probes, others = draw_probes(job, how, listed), followed_of(listed.ids)
    # All that is wanted of the points by one pass over them.
    wanted = np.unique(np.concatenate([chosen, listed.rows, others, *probes]))
    read = points_at(points, wanted)

    def rows_at(rows: np.ndarray) -> np.ndarray:
        return read[np.searchsorted(wanted, rows)]

    probes.write(job.scratch, rows_at)
    sample = how.hold(rows_at(chosen)).points
    coder = learn_coder(how, points, sample)
    count = pivot_count(layout.n)
    some = draw.choice(len(chosen), min(count, len(chosen)), replace=False)
    form = plain_form(how.metric, sample.shape[1])._replace(euclidean=True)
    near = share_out(sample[some], np.ones(len(some)), max(len(some) // 2, 1), form, seed)
    some = some[np.argsort(near, kind="stable")]
    mailbox.write(job.scratch, "pivots", {"rows": chosen[some], "points": sample[some]})
    told = codes_tell(how.metric, coder, *(how.hold(rows_at(rows)).points for rows in (listed.rows, others)))
    write_coder(job.scratch, coder, not told)
    return {"pivots": len(some)}, sample.nbytes, sample[some].nbytes


@measured
def run_place(job: IndexJob, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the number of the pivot nearest to each row of a range: int32[m]."""
    points, how, coder = points_of(job), ruler(job), read_coder(job.scratch)
    pivots = encode(mailbox.read(job.scratch, "pivots", "points"), coder)
    form = routing_form(pivots, coder)
    signposts = signposts_of(pivots, form)
    first, last = task.index * PLACED, min(job.layout.n, (task.index + 1) * PLACED)
    nearest, read = np.empty(last - first, np.int32), 0
    for start, stop in mailbox.strips(first, last, memory.strip_rows(job.layout.d)):
        strip = points.read(start, stop)
        rows = encode(how.hold(strip).points, coder)
        lists = empty(stop - start, 1)
        find_pivots(rows, np.arange(stop - start, dtype=np.int32), signposts, form, lists)
        nearest[start - first : stop - first] = lists.ids[:, 0]
        read += strip.nbytes
    mailbox.write(job.scratch, f"place/{task.index}", {"pivot": nearest})
    return {}, read, nearest.nbytes


@measured
def run_order(job: IndexJob, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the order of the index, rows of near pivots side by side, int64[n].

    And each row's position, int64[n], with the number of the pivot nearest to what stands at each: int32[n].
    """
    n = job.layout.n
    pivot = np.concatenate([mailbox.read(job.scratch, f"place/{i}", "pivot") for i in range(-(-n // PLACED))])
    order = np.argsort(pivot, kind="stable")
    position = np.empty(n, np.int64)
    position[order] = np.arange(n)
    store.write(job.out, "order", 0, order)
    mailbox.write(job.scratch, "position", {"at": position, "cell": pivot[order]})
    return {}, pivot.nbytes, order.nbytes + position.nbytes


@measured
def run_prune(job: IndexJob, task: Task) -> tuple[dict[str, float], int, int]:
    """Write a partition of the index: codes, rows, edges.

    Counters: edges, rows that had to become pivots, and rows that did not find themselves at first.
    """
    layout, how, coder, by_rows = job.layout, ruler(job), read_coder(job.scratch), goes_by_rows(job.scratch)
    first, last = layout.range_of(task.index)
    position = mailbox.read(job.scratch, "position", "at")
    held = gather_rows(points_of(job), how, position, first, last)
    find_truth(job, how, task.index, held, position, first)
    rows = encode(held.points, coder)
    form = coded_form(how.metric, rows, coder)
    codes = np.empty((last - first, compared.coded_width(form.columns)), np.int8)
    compared.lay_out(rows, form, codes)
    exact = as_stored(how, held)
    store.write(job.out, "codes", first, codes)
    store.write(job.out, "rows", first, exact)
    read, written = exact.nbytes, exact.nbytes + codes.nbytes
    judge = how.judge(held)
    judge = judge._replace(rows=type(judge.rows)(exact) if isinstance(judge.rows, tuple) else exact)
    del held, exact
    known, ids, zeros = gather_lists(job, position, first, last)
    pivots = position[mailbox.read(job.scratch, "pivots", "rows")]
    mine = (pivots[(pivots >= first) & (pivots < last)] - first).astype(np.int32)
    cells = mailbox.read(job.scratch, "position", "cell", first, last)
    with side_by_side(job.threads) as each:
        place = Place(job, task.index, coder, how.metric, Hands(each, job.threads))
        if layout.partitions > 1:
            ids = completed(place, rows, form if by_rows else trusted(form), ids)
        near = known_of(place, how, rows, ids, zeros)
        blurred = np.ones(last - first, bool) if by_rows else blurred_rows(rows, coder, how.metric, ids)
        del rows
        ground = Ground(compared.with_words(codes), judge, blurred)
        edges = pruned(place, ground, near)
        begins, piece = prune.make_reachable(edges, near.nearest, mine, cells)
        begins, strayed = mended(place, ground, edges, begins, piece)
    prune.into_whole(edges, known, first)
    store.write(job.out, "edges", first, edges)
    columns = {"at": begins.astype(np.int64) + first, "pieces": piece[begins].astype(np.int64) + first}
    columns |= {
        "main": main_piece(piece) + first,
        "leaving": prune.count_leaving(edges, layout.rows, layout.partitions),
    }
    mailbox.write(job.scratch, f"pivots/{task.index}", columns)
    counters = {"edges": int((edges >= 0).sum()), "new_pivots": len(begins) - len(mine), "strayed": strayed}
    return counters, read + known.nbytes, written + edges.nbytes


def known_of(place: Place, how: Ruler, rows: Rows, ids: np.ndarray, zeros: np.ndarray) -> Known:
    """What is known of the neighbours of a partition's rows; zeros: int32[m], entries of lists at distance 0."""
    if not how.metric.euclidean:
        near, equals = by_length(place, rows)
        return Known(ids, equals, near)
    return Known(ids, np.zeros_like(zeros) if how.metric.zeros_are_near else zeros, None)


def gather_rows(points: Source, how: Ruler, position: np.ndarray, first: int, last: int) -> Held:
    """The rows at the positions first .. last, in their order, from one pass over the points."""

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for a, b in blocks_of(points):
            here = position[a:b]
            mine = np.flatnonzero((here >= first) & (here < last))
            if len(mine):
                yield here[mine] - first, points.read(a, b)[mine]

    return assemble(how, last - first, pieces())


def as_stored(how: Ruler, held: Held) -> np.ndarray:
    """The rows as exact distances take them: an array of the index."""
    rows = how.judge(held).rows
    return rows[0] if isinstance(rows, tuple) else rows


def gather_lists(
    job: IndexJob, position: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The neighbours of the rows at the positions first .. last, as positions in the whole and in this part.

    int64[last - first, k] and int32[last - first, k], the latter -2 - slot for a neighbour that is elsewhere; and how
    many of them are at distance 0, int64[last - first].
    """
    known = np.empty((last - first, job.layout.n_neighbors), np.int64)
    inside, zeros = np.empty(known.shape, np.int32), np.empty(len(known), np.int64)
    slots = -2 - np.arange(known.shape[1], dtype=np.int32)
    for start, ids, distances in graph_store.result_blocks(job.graph):
        here = position[start : start + len(ids)]
        mine = np.flatnonzero((here >= first) & (here < last))
        there, at = position[ids[mine]], here[mine] - first
        known[at] = there
        inside[at] = np.where((there >= first) & (there < last), there - first, slots)
        zeros[at] = np.count_nonzero(distances[mine] == 0, axis=1)
    return known, inside, zeros


def main_piece(piece: np.ndarray) -> np.ndarray:
    """The piece that most rows are on: int64[1]. piece: int32[m], of each row."""
    names, counts = np.unique(piece, return_counts=True)
    return names[[counts.argmax()]].astype(np.int64)


def joined(pieces: np.ndarray, mains: np.ndarray, leaving: np.ndarray, rows: int) -> np.ndarray:
    """The pieces of pivots where the main ones of partitions are one, as far as enough edges lead there and back.

    A search that has all rows at hand then walks them together. pieces: int64[p]; mains: int64[partitions]; leaving:
    int64[partitions, partitions], how many edges of each partition lead to each.
    """
    tied = (leaving >= TIED * rows) & (TIED * rows <= leaving.T)
    _, label = connected_components(tied, directed=False)
    first_of = np.unique(label, return_index=True)[1]
    together = dict(zip(mains.tolist(), mains[first_of[label]].tolist(), strict=True))
    return np.array([together.get(piece, piece) for piece in pieces.tolist()], np.int64)


@measured
def run_seal(job: IndexJob, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the pivots as ascending positions, with the pieces that they lie on, and close the files."""
    names, parts = ("at", "pieces", "main", "leaving"), range(job.layout.partitions)
    columns = zip(
        *([mailbox.read(job.scratch, f"pivots/{part}", name) for name in names] for part in parts), strict=True
    )
    pivots, pieces, mains, leaving = (np.concatenate(part) for part in columns)
    pieces = joined(pieces, mains, leaving.reshape(len(mains), -1), job.layout.rows)
    ascending = np.argsort(pivots)
    for name, values in (("pivots", pivots), ("pieces", pieces)):
        store.create_array(job.out, name, values.shape, np.int64, len(values))
        store.write(job.out, name, 0, values[ascending])
    for name in store.NAMES:
        store.seal(job.out, name)
    return {"pivots": len(pivots)}, 0, pivots.nbytes


def create_arrays(job: IndexJob) -> None:
    """The arrays of the index, still empty; their widths follow from one row of the points."""
    layout, how = job.layout, ruler(job)
    held = how.hold(points_of(job).read(0, 1))
    rows = as_stored(how, held)
    columns = held.points.shape[1] - (not how.metric.euclidean)
    shapes = {
        "codes": ((layout.n, compared.coded_width(columns)), np.int8),
        "rows": ((layout.n, rows.shape[1]), rows.dtype),
        "edges": ((layout.n, layout.width), np.int32),
        "order": ((layout.n,), np.int64),
    }
    for name, (shape, dtype) in shapes.items():
        store.create_array(job.out, name, shape, dtype, layout.n if name == "order" else layout.rows)
