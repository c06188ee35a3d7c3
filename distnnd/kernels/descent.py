"""NN-descent: a neighbour of my neighbour is likely my neighbour (Dong, Moses and Li 2011, section 2).

A pass draws, for each row, some of its neighbours and of the rows whose neighbour it is, at most `cap` that are fresh
and `cap` that are old, and compares each fresh one with all others through one small matrix product around the row
itself. What it finds is written down first and put into the lists afterwards, block by block, so that the answer does
not depend on the number of threads. Rows should lie in leaf order: then the drawn rows are near in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .jit import kernel
from .lanes import LANES, below, lowest_bit, without_lowest
from .neighbours import BORN, DRAWN, FRESH, OLD, holds, insert
from .random import below as random_below
from .rows import gather, squares

# Rows of one product: small ones waste less on pairs that are compared twice.
STRIPE = 10


class Candidates(NamedTuple):
    """Drawn companions of a block of rows. fresh, old: int32[rows, cap]; fresh_count, old_count: int32[rows]."""

    fresh: np.ndarray
    old: np.ndarray
    fresh_count: np.ndarray
    old_count: np.ndarray


def no_candidates(rows: int, cap: int) -> Candidates:
    """Room for the companions of `rows` rows."""
    return Candidates(
        np.empty((rows, cap), np.int32),
        np.empty((rows, cap), np.int32),
        np.zeros(rows, np.int32),
        np.zeros(rows, np.int32),
    )


@kernel(inline=True)
def offer(drawn, seen, at, row, label, seed):
    """Offer `label` to the reservoir of `row`, which stands at `at`: each is kept with equal chance, none twice."""
    cap = drawn.shape[1]
    count = seen[at]
    for slot in range(min(count, cap)):
        if drawn[at, slot] == label:
            return
    if count < cap:
        drawn[at, count] = label
    else:
        stream = np.uint64(seed) ^ (np.uint64(row) << np.uint64(32))
        slot = random_below(stream, (np.uint64(count) << np.uint64(32)) | np.uint64(label), count + 1)
        if slot < cap:
            drawn[at, slot] = label
    seen[at] = count + 1


@kernel
def draw(lists, candidates, origin, first, last, seed):
    """Draw the companions of the rows first .. last, and mark the fresh entries that were drawn.

    candidates: of a block of rows that begins at row `origin`. Every edge is looked at from both its ends.
    """
    ids, _, state = lists
    fresh, old, fresh_count, old_count = candidates
    for row in range(ids.shape[0]):
        mine = first <= row < last
        for slot in range(ids.shape[1]):
            label = ids[row, slot]
            if label < 0 or state[row, slot] == OLD or state[row, slot] == BORN:
                continue
            if mine:
                offer(fresh, fresh_count, row - origin, row, label, seed)
            if first <= label < last:
                offer(fresh, fresh_count, label - origin, label, row, seed)
    # Old companions are only compared with fresh ones: rows that have none of those need none.
    for row in range(ids.shape[0]):
        mine = first <= row < last and fresh_count[row - origin] > 0
        for slot in range(ids.shape[1]):
            label = ids[row, slot]
            if label < 0 or state[row, slot] != OLD:
                continue
            if mine:
                offer(old, old_count, row - origin, row, label, seed)
            if first <= label < last and fresh_count[label - origin] > 0:
                offer(old, old_count, label - origin, label, row, seed)
    cap = fresh.shape[1]
    for row in range(first, last):
        at = row - origin
        fresh_count[at] = min(fresh_count[at], cap)
        old_count[at] = min(old_count[at], cap)
        for slot in range(ids.shape[1]):
            if state[row, slot] == FRESH:
                for drawn in range(fresh_count[at]):
                    if fresh[at, drawn] == ids[row, slot]:
                        state[row, slot] = DRAWN


@kernel
def settle(lists, first, last):
    """End a pass for the rows first .. last: what was drawn is old now, what was born is fresh; returns the births."""
    births = 0
    for row in range(first, last):
        for slot in range(lists.state.shape[1]):
            if lists.state[row, slot] == DRAWN:
                lists.state[row, slot] = OLD
            elif lists.state[row, slot] == BORN:
                lists.state[row, slot] = FRESH
                births += 1
    return births


@kernel
def join(points, candidates, origin, form, lists, first, last, room):
    """Compare the companions of each row first .. last among themselves.

    Returns targets int32[u], labels int32[u], distances float32[u] (label would enter the list of target, as the lists
    stood), the row before which it stopped because `room` finds might not have held more, and the pairs compared.
    """
    fresh, old, fresh_count, old_count = candidates
    most = fresh.shape[1] + old.shape[1]
    width = points.shape[1]
    block = np.empty((most, width), np.float32)
    products = np.empty(fresh.shape[1] * most, np.float32)
    rows = np.empty(most, np.int32)
    worst = np.empty(most, np.float32)
    norms = np.zeros(most, np.float32)
    half = np.zeros(most, np.float32)
    upper = np.empty(most, np.float32)
    centre = np.zeros(width, np.float32)
    room = max(room, 2 * fresh.shape[1] * most)
    targets, labels, distances = (
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.float32),
    )
    used = compared = 0
    for row in range(first, last):
        at = row - origin
        news = fresh_count[at]
        count = news + old_count[at]
        if news == 0 or count < 2:
            continue
        rows[:news] = fresh[at, :news]
        rows[news:count] = old[at, : count - news]
        if used + 2 * news * count > room:
            return targets[:used], labels[:used], distances[:used], row, compared
        if form.euclidean:
            for j in range(width):
                centre[j] = np.float32(points[row, j])
        gather(points, rows, 0, count, centre, form.columns, block)
        if form.euclidean:
            squares(block, count, norms)
        for i in range(count):
            worst[i] = lists.distances[rows[i], lists.ids.shape[1] - 1]
            half[i] = norms[i] / form.scale
            upper[i] = (norms[i] - worst[i]) / form.scale
        for stripe in range(0, news, STRIPE):
            stop = min(news, stripe + STRIPE)
            # From the diagonal on: what lies left of it was compared as another stripe's column.
            columns = count - stripe
            product = products[: (stop - stripe) * columns].reshape(stop - stripe, columns)
            np.dot(block[stripe:stop], block[stripe:count].T, product)
            compared += (stop - stripe) * columns
            for i in range(stripe, stop):
                # Pair (i, j) matters if it beats the worst of i (a bound for all j) or that of j (one for each j).
                bound = (worst[i] - norms[i]) / form.scale
                for start in range(0, columns, LANES):
                    mask = below(half[stripe:], product[i - stripe], start, columns, bound)
                    mask |= below(upper[stripe:], product[i - stripe], start, columns, -half[i])
                    while mask != 0:
                        at_column = start + lowest_bit(mask)
                        mask = without_lowest(mask)
                        j = stripe + at_column
                        one, other = rows[i], rows[j]
                        if j <= i or one == other:
                            continue
                        distance = norms[i] + form.scale * (half[j] - product[i - stripe, at_column])
                        if form.euclidean:
                            distance = max(distance, np.float32(0))
                        if distance < worst[i] and not holds(lists.ids, one, other):
                            targets[used], labels[used], distances[used] = one, other, distance
                            used += 1
                        if distance < worst[j] and not holds(lists.ids, other, one):
                            targets[used], labels[used], distances[used] = other, one, distance
                            used += 1
    return targets[:used], labels[:used], distances[:used], last, compared


@kernel
def apply(targets, labels, distances, lists, first, last):
    """Put the found pairs of targets first .. last into their lists, in the order in which they were found."""
    for found in range(targets.size):
        target = targets[found]
        if first <= target < last:
            insert(lists, target, labels[found], distances[found], np.uint8(BORN))
