"""The random-pivot tree: rows descend to their nearest pivots, down to overlapping leaves.

At each level a node that is too large draws pivots among its rows, one for each child; every row compares itself with
the children of all nodes it stands in and keeps the `fanout` nearest. The root draws as many pivots as there may be
leaves, and signposts lead to the nearest of them, so most rows go down one level. With two pivots a node and fanout 1
this is the random-projection tree (the hyperplane between two random rows: Dasgupta and Freund 2008). With more it is
overlapping ball carving (Rubel et al. 2026, PiPNN, section 4). A node that carving cannot shrink, a run of identical
rows say, is dealt out at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .codes import Rows
from .groups import Groups, slot_groups
from .jit import kernel
from .leaves import Offered, join_places
from .neighbours import empty
from .pivots import share_out
from .random import below, seed_of
from .ranges import Each, serial
from .rows import Form
from .signposts import find_pivots, rows_at, signposts_of

DEEPEST = 40
# A node has not shrunk if it keeps more than this share of its parent's rows; after so many times it is dealt out.
SHRUNK, FAILURES = 0.9, 3
# Pivots of the root that stand together in no order.
PIVOTS_TOGETHER = 8


class Shape(NamedTuple):
    """How a tree grows. leaf: rows a child aims at, copies included; largest: rows a leaf may have at most.

    pivots: children of a node at most; fanout: leaves a row ends in at most.
    """

    leaf: int
    largest: int
    pivots: int
    fanout: int


class Leaves(NamedTuple):
    """Where rows ended. slots: int32[m, fanout], the leaf of each place by nearness, -1 for none; count: of leaves."""

    slots: np.ndarray
    count: int
    compared: int


@kernel
def draw_pivots(members, pivot_starts, seed):
    """For each node draw as many of its members as it gets pivots, no row twice: int32 row ids by node."""
    pivots = np.empty(pivot_starts[-1], np.int32)
    for node in range(pivot_starts.size - 1):
        if pivot_starts[node] == pivot_starts[node + 1]:
            continue
        first = members.starts[node]
        pool = members.rows[first : members.starts[node + 1]].copy()
        for i in range(pivot_starts[node + 1] - pivot_starts[node]):
            other = i + below(seed + node, i, pool.size - i)
            pool[i], pool[other] = pool[other], pool[i]
            pivots[pivot_starts[node] + i] = pool[i]
    return pivots


@kernel
def carry(slots, gaps, children, child_starts, stuck, seed, lists):
    """Rows of nodes that are leaves keep their place; rows of stuck nodes are dealt out to the children at random."""
    for row in range(slots.shape[0]):
        place = 0
        for slot in range(slots.shape[1]):
            node = slots[row, slot]
            if node < 0 or (children[node] > 1 and not stuck[node]):
                continue
            child = child_starts[node]
            if stuck[node]:
                child += below(seed, row, children[node])
            lists.ids[row, place] = child
            lists.distances[row, place] = gaps[row, slot]
            place += 1


def count_children(sizes: np.ndarray, shape: Shape, home: np.ndarray) -> np.ndarray:
    """Children of each node: none for a leaf (written 1: itself), else as many as its rows ask for. int64[nodes]."""
    # A row stands in the root once, and below it in `fanout` places.
    entries = sizes * shape.fanout if len(sizes) == 1 else sizes
    # With as many children as fanout every row would go to all of them, and the node would not shrink.
    wanted = np.clip(np.round(entries / shape.leaf).astype(np.int64), 2 * shape.fanout, shape.pivots)
    return np.where(sizes > shape.largest, np.minimum(wanted, np.maximum(home, 2)), 1)


def near_together(rows: Rows, pivots: np.ndarray, form: Form, seed: int) -> np.ndarray:
    """The pivots, int32, in an order in which adjacent ones are mostly near, as rows in leaf order then are."""
    parts = len(pivots) // PIVOTS_TOGETHER
    if parts < 2:
        return pivots
    place = share_out(rows.points[pivots], np.ones(len(pivots)), parts, form, seed)
    return pivots[np.argsort(place, kind="stable")]


class Role(NamedTuple):
    """Rows that go down the tree together. form: how they are compared with pivots; present: bool[m], who goes."""

    form: Form
    present: np.ndarray


def descend(
    rows: Rows,
    roles: Sequence[Role],
    shape: Shape,
    seed: int,
    each: Each = serial,
    parts: int = 1,
    begun: Leaves | None = None,
) -> list[Leaves]:
    """Grow a tree over the rows of the last role, and say for each role in which leaves its rows end.

    rows: prepared and coded; each, parts: how ranges of nodes are run and into how many parts they are cut,
    without effect on the answer. Mostly there is one role; where nearness is not mutual those that look for neighbours
    follow the tree of those that stand to be found. begun: leaves in which the rows of the only role stand already, of
    which only those that are too large are cut.
    """
    m = len(rows.points)
    slots = [np.where(role.present, 0, -1).astype(np.int32)[:, None] for role in roles]
    gaps = [np.zeros((m, 1), np.float32) for _ in roles]
    count, compared = 1, 0
    if begun is not None:
        # How near the leaves are that a row has is not known; they stay before all that are carved.
        order = np.arange(-begun.slots.shape[1], 0, dtype=np.float32)
        slots, gaps, count = [begun.slots], [np.tile(order, (m, 1))], begun.count
    before, failures = np.full(count, 2 * m), np.zeros(count, np.int64)
    for level in range(DEEPEST):
        places = [slot_groups(part, count) for part in slots]
        sizes = sum(np.diff(groups.starts) for groups in places[-1])
        home = np.diff(places[-1][0].starts)
        children = count_children(sizes, shape, home)
        if children.max(initial=1) == 1:
            break
        # Other pivots may carve what these did not: chance comes after some failures in a row.
        failures = np.where(sizes > SHRUNK * before, failures + 1, 0)
        stuck = (children > 1) & ((failures >= FAILURES) | (home < 2) | (level >= DEEPEST - 5))
        child_starts = np.concatenate([[0], np.cumsum(children)])
        carved = np.where(stuck | (children == 1), 0, children)
        pivot_starts = np.concatenate([[0], np.cumsum(carved)])
        level_seed = seed_of(seed, level)
        pivots = draw_pivots(places[-1][0], pivot_starts, level_seed)
        base = Groups(pivots if count > 1 else near_together(rows, pivots, roles[-1].form, level_seed), pivot_starts)
        labels = np.repeat(child_starts[:-1] - pivot_starts[:-1], carved) + np.arange(pivot_starts[-1])
        labels = labels.astype(np.int32)
        signposts = signposts_of(rows_at(rows, base.rows), roles[-1].form) if count == 1 else None
        offered = Offered(rows, base, labels)
        for i, role in enumerate(roles):
            lists = empty(m, shape.fanout)
            carry(slots[i], gaps[i], children, child_starts, stuck, level_seed, lists)
            if signposts is None:
                compared += join_places(rows, places[i], offered, role.form, lists, False, each, parts)
            else:
                compared += find_pivots(rows, places[i][0].rows, signposts, role.form, lists, each, parts)
            slots[i], gaps[i] = lists.ids, lists.distances
        before, failures = np.repeat(sizes, children), np.repeat(failures, children)
        count = int(child_starts[-1])
    return [Leaves(part, count, compared) for part in slots]
