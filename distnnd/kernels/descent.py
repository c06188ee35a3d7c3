"""NN-descent: a neighbour of my neighbour is likely my neighbour (Dong, Moses and Li 2011, section 2).

A pass draws, for each row, some of its neighbours and of the rows whose neighbour it is, at most `cap` that are fresh
and `cap` that are old, and compares each fresh one with all others through one small matrix product around the row
itself. What it finds is written down first and put into the lists afterwards, block by block, so that the answer does
not depend on the number of threads. Rows should lie in leaf order: then the drawn rows are near in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .codes import gather, limit_of
from .jit import kernel
from .lanes import LANES, either, lowest_bit, prefetch, without_lowest
from .leaves import measure
from .neighbours import BORN, DRAWN, FRESH, OLD, holds, insert
from .products import QUERIES, multiply, pack, room_for
from .random import below as random_below


# Rows from one's own on which are asked for before they are needed.
AHEAD = 2


class Companions(NamedTuple):
    """Rows that hold a row in their list, drawn for each row, where it does not hold them.

    fresh, old: int32[m, cap], through fresh entries and through old ones; fresh_count, old_count: int32[m], how many
    were there to draw from.
    """

    fresh: np.ndarray
    old: np.ndarray
    fresh_count: np.ndarray
    old_count: np.ndarray


def no_companions(rows: int, cap: int) -> Companions:
    """Room for the companions of `rows` rows."""
    return Companions(
        np.empty((rows, cap), np.int32),
        np.empty((rows, cap), np.int32),
        np.zeros(rows, np.int32),
        np.zeros(rows, np.int32),
    )


@kernel(inline=True)
def offer(drawn, seen, row, label, seed):
    """Offer `label` to the reservoir of `row`: each is kept with equal chance."""
    cap, count = drawn.shape[1], seen[row]
    slot = np.int64(count)
    if count >= cap:
        stream = np.uint64(seed) ^ (np.uint64(row) << np.uint64(32))
        slot = random_below(stream, (np.uint64(count) << np.uint64(32)) | np.uint64(label), count + 1)
    if slot < cap:
        drawn[row, slot] = label
    seen[row] = count + 1


@kernel
def draw(lists, companions, first, last, seed):
    """Draw the companions of the rows first .. last, and mark the fresh entries of these rows as drawn."""
    ids, state = lists.ids, lists.state
    companions.fresh_count[first:last] = 0
    companions.old_count[first:last] = 0
    width = ids.shape[1]
    for row in range(ids.shape[0]):
        ahead = min(row + AHEAD, ids.shape[0] - 1)
        for slot in range(width):
            label = ids[ahead, slot]
            if first <= label < last:
                prefetch(ids, label * width)
                prefetch(ids, label * width + width - 1)
                prefetch(companions.fresh_count, label)
        for slot in range(width):
            label = ids[row, slot]
            # A neighbour that holds this row too is its own companion already.
            if label < first or label >= last or holds(ids, label, row):
                continue
            if state[row, slot] == OLD:
                offer(companions.old, companions.old_count, label, row, seed)
            else:
                offer(companions.fresh, companions.fresh_count, label, row, seed)


@kernel
def mark(lists, first, last):
    """Mark the fresh entries of the rows first .. last as drawn."""
    for row in range(first, last):
        for slot in range(lists.state.shape[1]):
            if lists.state[row, slot] == FRESH:
                lists.state[row, slot] = DRAWN


@kernel(inline=True)
def gather_companions(lists, companions, row, members):
    """Write the companions of a row to `members`, fresh ones first, up to a multiple of sixteen; returns both counts.

    Own entries, as far as they were there when companions were drawn, and the rows that were drawn.
    """
    news = count = 0
    for kind in (FRESH, OLD):
        for slot in range(lists.ids.shape[1]):
            what = lists.state[row, slot]
            if lists.ids[row, slot] >= 0 and what == (DRAWN if kind == FRESH else OLD):
                members[count] = lists.ids[row, slot]
                count += 1
        drawn, seen = companions.old, companions.old_count[row]
        if kind == FRESH:
            drawn, seen = companions.fresh, companions.fresh_count[row]
        for slot in range(min(seen, drawn.shape[1])):
            members[count] = drawn[row, slot]
            count += 1
        if kind == FRESH:
            news = count
            if news == 0:
                break
    for i in range(count, (count + LANES - 1) // LANES * LANES):
        members[i] = members[count - 1]
    return news, count


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
def join(rows, companions, form, lists, first, last, room):
    """Compare the companions of each row first .. last among themselves.

    Returns targets int32[u], labels int32[u], distances float32[u] (label would enter the list of target, as the lists
    stood), the row before which it stopped because `room` finds might not have held more, and the pairs compared.
    """
    ids, worst = lists.ids, lists.ids.shape[1] - 1
    width, cap = rows.values.shape[1], ids.shape[1] + companions.fresh.shape[1]
    most = (2 * cap + LANES - 1) // LANES * LANES
    left = np.zeros((cap + QUERIES) * width, np.int8)
    starts = np.zeros(cap + QUERIES, np.int32)
    right = np.empty(most * room_for(width), np.int8)
    products = np.empty((cap + QUERIES, most), np.int32)
    members = np.empty(most, np.int32)
    squares = np.zeros(most, np.int32)
    limits = np.empty(most, np.int32)
    firsts, seconds, estimates = (np.empty(cap * most, np.int32), np.empty(cap * most, np.int32), np.empty(cap * most, np.int32))
    room = max(room, 2 * cap * most)
    targets, labels, distances = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32)
    used = compared = 0
    for row in range(first, last):
        news, count = gather_companions(lists, companions, row, members)
        if news == 0 or count < 2:
            continue
        if used + 2 * news * count > room:
            return targets[:used], labels[:used], distances[:used], row, compared
        if row + 1 < last:
            for slot in range(ids.shape[1]):
                label = ids[row + 1, slot]
                if label >= 0:
                    for column in range(0, width + 63, 64):
                        prefetch(rows.values, label * width + min(column, width - 1))
                    prefetch(lists.distances, label * ids.shape[1] + worst)
        groups = (count + LANES - 1) // LANES
        for i in range(LANES * groups):
            squares[i] = rows.squares[members[i]] if form.euclidean else np.int32(0)
            limits[i] = limit_of(form, lists.distances[members[i], worst])
        hits = 0
        pack(rows.values, members, 0, count, right)
        gather(rows, members, 0, news, form.columns, left, starts)
        for group in range((news + LANES - 1) // LANES):
            # From the diagonal on: what lies left of it was compared as another stripe's column.
            stripe = group * LANES
            stop, columns = min(news, stripe + LANES), count - stripe
            multiply(left, width, stripe, stop, starts, right, group, groups, products)
            compared += (stop - stripe) * columns
            for i in range(stripe, stop):
                one = members[i]
                product = products[i]
                for start in range((i - stripe) // LANES * LANES, columns, LANES):
                    mask = either(squares, product, limits, stripe, start, columns, limits[i], -squares[i])
                    while mask != 0:
                        column = start + lowest_bit(mask)
                        mask = without_lowest(mask)
                        j = stripe + column
                        if j > i and members[j] != one:
                            firsts[hits], seconds[hits] = i, j
                            estimates[hits] = squares[i] + squares[j] - 2 * product[column]
                            hits += 1
                            prefetch(ids, one * ids.shape[1])
                            prefetch(ids, members[j] * ids.shape[1])
                            prefetch(ids, members[j] * ids.shape[1] + worst)
        for hit in range(hits):
            i, j, estimate = firsts[hit], seconds[hit], estimates[hit]
            one, other = members[i], members[j]
            for_one = estimate <= limits[i] and not holds(ids, one, other)
            for_other = estimate <= limits[j] and not holds(ids, other, one)
            if not (for_one or for_other):
                continue
            distance = measure(rows, one, rows, other, estimate, form)
            if for_one and distance < lists.distances[one, worst]:
                targets[used], labels[used], distances[used] = one, other, distance
                used += 1
            if for_other and distance < lists.distances[other, worst]:
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
