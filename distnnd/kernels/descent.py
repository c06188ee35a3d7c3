"""NN-descent: a neighbour of my neighbour is likely my neighbour (Dong, Moses and Li 2011, section 2).

A pass gathers, for each row, its neighbours and some rows whose neighbour it is, and compares those that are fresh with
all the others through one small product of codes. What it finds is written down first and put into the lists
afterwards, block by block, so that the answer does not depend on the number of threads. Rows should lie in leaf order:
then companions are near in memory.
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
    """Draw the companions of the rows first .. last among the rows that hold them and are not held by them."""
    ids, state = lists.ids, lists.state
    companions.fresh_count[first:last] = 0
    companions.old_count[first:last] = 0
    for row in range(ids.shape[0]):
        for slot in range(ids.shape[1]):
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


class Pairs(NamedTuple):
    """Room to compare the companions of one row: codes, what estimates are made of, and the near pairs found.

    left: int8, flat; starts: int32; right: int8, packed; products: int32[., most]; members, squares, limits:
    int32[most], companions with their squares and the largest estimates that would enter their lists; first, second,
    estimate: int32, near pairs as places among the members.
    """

    left: np.ndarray
    starts: np.ndarray
    right: np.ndarray
    products: np.ndarray
    members: np.ndarray
    squares: np.ndarray
    limits: np.ndarray
    first: np.ndarray
    second: np.ndarray
    estimate: np.ndarray


@kernel
def room_for_pairs(cap, width):
    """Room for at most `cap` fresh companions and as many old ones, in rows of `width` columns."""
    most = (2 * cap + LANES - 1) // LANES * LANES
    return Pairs(
        np.zeros((cap + QUERIES) * width, np.int8),
        np.zeros(cap + QUERIES, np.int32),
        np.empty(most * room_for(width), np.int8),
        np.empty((cap + QUERIES, most), np.int32),
        np.empty(most, np.int32),
        np.zeros(most, np.int32),
        np.empty(most, np.int32),
        np.empty(cap * most, np.int32),
        np.empty(cap * most, np.int32),
        np.empty(cap * most, np.int32),
    )


@kernel(inline=True)
def near_pairs(rows, form, lists, limits, news, count, pairs):
    """Note the pairs of the first `news` members with all later ones that may enter a list; how many, and compared."""
    worst = lists.ids.shape[1] - 1
    width = rows.values.shape[1]
    groups = (count + LANES - 1) // LANES
    for i in range(LANES * groups):
        member = pairs.members[i]
        pairs.squares[i] = rows.squares[member] if form.euclidean else np.int32(0)
        pairs.limits[i] = limits[member]
    pack(rows.values, pairs.members, 0, count, pairs.right)
    gather(rows, pairs.members, 0, news, form.columns, pairs.left, pairs.starts)
    near = compared = 0
    for group in range((news + LANES - 1) // LANES):
        # From the diagonal on: what lies left of it was compared as another stripe's column.
        stripe = group * LANES
        stop, columns = min(news, stripe + LANES), count - stripe
        multiply(pairs.left, width, stripe, stop, pairs.starts, pairs.right, group, groups, pairs.products)
        compared += (stop - stripe) * columns
        for i in range(stripe, stop):
            one, limit, square = pairs.members[i], pairs.limits[i], pairs.squares[i]
            product = pairs.products[i]
            for start in range(0, columns, LANES):
                mask = either(pairs.squares, product, pairs.limits, stripe, start, columns, limit, -square)
                while mask != 0:
                    column = start + lowest_bit(mask)
                    mask = without_lowest(mask)
                    j = stripe + column
                    other = pairs.members[j]
                    if j <= i or other == one:
                        continue
                    pairs.first[near], pairs.second[near] = i, j
                    pairs.estimate[near] = square + pairs.squares[j] - 2 * product[column]
                    near += 1
                    # Their lists are looked at next.
                    prefetch(lists.ids, one * (worst + 1))
                    prefetch(lists.ids, other * (worst + 1))
                    prefetch(lists.ids, other * (worst + 1) + worst)
    return near, compared


class Finds(NamedTuple):
    """What a pass found: label would enter the list of target. targets, labels: int32[u]; distances: float32[u]."""

    targets: np.ndarray
    labels: np.ndarray
    distances: np.ndarray


@kernel(inline=True)
def note(rows, form, lists, pairs, near, finds, used):
    """Write down the near pairs that a list does not hold yet, from find `used` on; returns how many there are."""
    worst = lists.ids.shape[1] - 1
    for at in range(near):
        i, j, estimate = pairs.first[at], pairs.second[at], pairs.estimate[at]
        one, other = pairs.members[i], pairs.members[j]
        for_one = estimate <= pairs.limits[i] and not holds(lists.ids, one, other)
        for_other = estimate <= pairs.limits[j] and not holds(lists.ids, other, one)
        if not (for_one or for_other):
            continue
        distance = measure(rows, one, rows, other, estimate, form)
        if for_one and distance < lists.distances[one, worst]:
            finds.targets[used], finds.labels[used], finds.distances[used] = one, other, distance
            used += 1
        if for_other and distance < lists.distances[other, worst]:
            finds.targets[used], finds.labels[used], finds.distances[used] = other, one, distance
            used += 1
    return used


@kernel
def join(rows, companions, limits, form, lists, first, last, room):
    """Compare the companions of each row first .. last among themselves.

    limits: int32[m], the largest estimates that may enter the lists (as limits_of says).
    Returns Finds (as the lists stood), the row before which it stopped because `room` finds might not have held more,
    and the pairs compared.
    """
    cap = lists.ids.shape[1] + companions.fresh.shape[1]
    pairs = room_for_pairs(cap, rows.values.shape[1])
    room = max(room, 2 * pairs.first.size)
    finds = Finds(np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32))
    used = compared = 0
    stop = last
    for row in range(first, last):
        news, count = gather_companions(lists, companions, row, pairs.members)
        if used + 2 * news * count > room:
            stop = row
            break
        if news > 0 and count > 1:
            near, more = near_pairs(rows, form, lists, limits, news, count, pairs)
            used = note(rows, form, lists, pairs, near, finds, used)
            compared += more
    return Finds(finds.targets[:used], finds.labels[:used], finds.distances[:used]), stop, compared


@kernel
def limits_of(form, lists, limits):
    """Write down for each row the largest estimate that may enter its list: together, as they are looked at often."""
    for row in range(lists.ids.shape[0]):
        limits[row] = limit_of(form, lists.distances[row, lists.ids.shape[1] - 1])


@kernel
def apply(finds, form, lists, limits, first, last):
    """Put the finds of targets first .. last into their lists, in the order in which they were found."""
    worst = lists.ids.shape[1] - 1
    for found in range(finds.targets.size):
        target = finds.targets[found]
        if not first <= target < last:
            continue
        if insert(lists, target, finds.labels[found], finds.distances[found], np.uint8(BORN)):
            limits[target] = limit_of(form, lists.distances[target, worst])
