"""NN-descent: a neighbour of my neighbour is likely my neighbour (Dong, Moses and Li 2011, section 2).

A pass gathers, for each row, its neighbours and some rows whose neighbour it is, and compares those that are fresh with
all the others through one small product of codes. What it finds is written down first and put into the lists
afterwards, block by block, so that the answer does not depend on the number of threads. Rows should lie in leaf order:
then companions are near in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .codes import WHOLE, limit_of, measure
from .companions import gather_companions
from .jit import kernel
from .lanes import LANES, prefetch, prefetch_row
from .neighbours import BORN, ask_for_list, holds, insert
from .products import OFFSET, pair_dots
from .scratch import on_lines, scratch
from .sieve import LEAVES, acquainted, meetings, near, strangers

# A card says all that comparing a row needs beside its codes, in one piece of memory: four leaves it stands in, its
# square, what its products begin with, and the largest estimate that may enter its list.
SQUARE, START, LIMIT, CARD = 4, 5, 6, 8
# Near pairs that are looked up in the lists together: by then the lists are at hand.
AT_ONCE = 96
# Pairs of a row that are multiplied together, if it has so many: they stay in the nearest cache.
TOGETHER = 512
# So many rows ahead of its turn what a row holds is asked for.
AHEAD = 4


class Meeting(NamedTuple):
    """Room to compare the companions of one row.

    coming: int32[most], the companions of the next row; members, squares, starts, limits: int32[most], leaves:
    int32[LEAVES, most], those of this one with what their cards say; met: int32[most], a bit for each leaf in which
    they met; ones, others, bases, higher, products: int32[pairs], the pairs that have not met yet, what their products
    are taken from, the larger limits.
    """

    coming: np.ndarray
    members: np.ndarray
    squares: np.ndarray
    starts: np.ndarray
    limits: np.ndarray
    leaves: np.ndarray
    met: np.ndarray
    ones: np.ndarray
    others: np.ndarray
    bases: np.ndarray
    higher: np.ndarray
    products: np.ndarray


@kernel
def room_for_meeting(cap):
    """Room for at most `cap` fresh companions and as many old ones."""
    most = 2 * cap + 2 * LANES
    pairs = TOGETHER + most
    return Meeting(
        np.zeros(most, np.int32),
        np.zeros(most, np.int32),
        np.zeros(most, np.int32),
        np.zeros(most, np.int32),
        np.zeros(most, np.int32),
        np.zeros((LEAVES, most), np.int32),
        np.zeros(most, np.int32),
        scratch(pairs, np.int32),
        scratch(pairs, np.int32),
        scratch(pairs, np.int32),
        scratch(pairs, np.int32),
        np.zeros(pairs, np.int32),
    )


class Near(NamedTuple):
    """Pairs that are near: both rows and their estimate. int32[room]."""

    ones: np.ndarray
    others: np.ndarray
    estimates: np.ndarray


@kernel
def room_for_near(cap):
    """Room for the near pairs of some rows with at most `cap` companions of each kind."""
    room = AT_ONCE + 2 * cap * cap + LANES
    return Near(scratch(room, np.int32), scratch(room, np.int32), scratch(room, np.int32))


@kernel(inline=True)
def introduce(cards, row, news, count, meeting):
    """Write down what comparing needs to know of the members; returns the bit of those that all have met each other.

    Members that stand in one leaf have met there. Where all are fresh, most do so in a leaf of the row: the leaf that
    most of them share is the one whose members need not be compared with all the others; the others are compared with
    them. A few fresh ones among old ones say themselves whom they have met.
    """
    for i in range(count):
        member = meeting.members[i]
        meeting.squares[i], meeting.limits[i] = cards[member, SQUARE], cards[member, LIMIT]
        meeting.starts[i] = cards[member, START]
        if news == count:
            meeting.met[i] = meetings(cards, row, member)
        else:
            for place in range(LEAVES):
                meeting.leaves[place, i] = cards[member, place]
    return leaf_of_most(meeting.met, count) if news == count else np.int32(0)


@kernel(inline=True)
def leaf_of_most(met, count):
    """The bit that most of the first `count` members have, 0 if none has any."""
    most, bit = 0, np.int32(0)
    for place in range(LEAVES):
        there = 0
        for i in range(count):
            there += (met[i] >> (4 * place)) & 1
        if there > most:
            most, bit = there, np.int32(1 << (4 * place))
    return bit


@kernel(inline=True)
def ask_for(lists, row):
    """Ask for the ids of list `row`, which are looked at soon."""
    width = lists.ids.shape[1]
    prefetch(lists.ids, row * width)
    prefetch(lists.ids, row * width + width - 1)


@kernel(inline=True)
def near_pairs(rows, form, lists, cards, all_met, news, count, meeting, pairs, used):
    """Note the pairs of a fresh member with others that are near and have not met, from pair `used` on.

    Returns where they end, and the pairs compared.
    """
    compared = waiting = 0
    for i in range(news):
        if news < count:
            acquainted(meeting.leaves, i, count, meeting.met)
        if not meeting.met[i] & all_met:
            # What is multiplied counts the others' codes higher; a start makes up for that.
            base = meeting.squares[i] - 2 * meeting.starts[i]
            waiting = strangers(
                meeting.met, meeting.squares, meeting.limits, meeting.members, i, all_met, count, base,
                meeting.bases, meeting.higher, meeting.ones, meeting.others, waiting,
            )  # fmt: skip
        if waiting >= TOGETHER or i == news - 1:
            used = near_of(rows, form, lists, cards, waiting, meeting, pairs, used)
            compared += waiting
            waiting = 0
    return used, compared


@kernel(inline=True)
def near_of(rows, form, lists, cards, count, meeting, pairs, used):
    """Note those of the first `count` pairs of a meeting that are near, from pair `used` on; returns where they end."""
    # Behind the columns of a euclidean form there is nothing but zeros.
    columns = rows.values.shape[1] if form.euclidean else min(form.columns, rows.values.shape[1])
    pair_dots(rows.values, meeting.ones, meeting.others, count, columns, meeting.products)
    before = used
    used = near(
        meeting.bases, meeting.products, meeting.higher, meeting.ones, meeting.others, count, pairs, used, form.share
    )
    kept = before
    for at in range(before, used):
        one, other = pairs.ones[at], pairs.others[at]
        pairs.ones[kept], pairs.others[kept], pairs.estimates[kept] = one, other, pairs.estimates[at]
        # Both lists know what a leaf of both has told them.
        if not meetings(cards, one, other):
            ask_for(lists, one)
            ask_for(lists, other)
            kept += 1
    return kept


@kernel(inline=True)
def ask_for_companions(lists, companions, row):
    """Ask for what says who the companions of a row are."""
    ask_for(lists, row)
    prefetch(lists.state, row * lists.state.shape[1])
    prefetch(companions.fresh, row * companions.fresh.shape[1])
    prefetch(companions.old, row * companions.old.shape[1])


class Finds(NamedTuple):
    """What a pass found: label would enter the list of target. targets, labels: int32[u]; distances: float32[u]."""

    targets: np.ndarray
    labels: np.ndarray
    distances: np.ndarray


@kernel(inline=True)
def expect(rows, companions, cards, lists, row, last, step, meeting):
    """Gather the companions of a row that comes next, and ask for their cards and codes before they are needed."""
    if row >= last:
        return 0, 0
    ask_for_companions(lists, companions, min(row + AHEAD * step, lists.ids.shape[0] - 1))
    news, count = gather_companions(lists, companions, row, meeting.coming)
    if news > 0:
        for i in range(count):
            member = np.int64(meeting.coming[i])
            prefetch(cards, member * CARD)
            prefetch_row(rows.values, member)
    return news, count


@kernel(inline=True)
def within(estimate, limit, columns, form):
    """Whether a limit of limit_of lets an estimate in; columns: of both rows, where it is a part of these."""
    return estimate <= (limit * columns // np.int32(WHOLE) if form.share else limit)


@kernel(inline=True)
def note(rows, form, lists, cards, pairs, count, finds, used):
    """Write down what the first `count` pairs would put into lists, unless it is there; returns where the finds end."""
    worst = lists.ids.shape[1] - 1
    for at in range(count):
        one, other, estimate = pairs.ones[at], pairs.others[at], pairs.estimates[at]
        columns = rows.squares[one] + rows.squares[other] if form.share else np.int32(0)
        for_one = within(estimate, cards[one, LIMIT], columns, form) and not holds(lists.ids, one, other)
        for_other = within(estimate, cards[other, LIMIT], columns, form) and not holds(lists.ids, other, one)
        if not (for_one or for_other):
            continue
        distance = measure(rows, one, rows, other, estimate, form)
        if for_one and (form.trusted or distance < lists.distances[one, worst]):
            finds.targets[used], finds.labels[used], finds.distances[used] = one, other, distance
            used += 1
        if for_other and (form.trusted or distance < lists.distances[other, worst]):
            finds.targets[used], finds.labels[used], finds.distances[used] = other, one, distance
            used += 1
    return used


@kernel
def join(rows, companions, cards, form, lists, first, last, step, room):
    """Compare the companions of the rows first, first + step ... < last, each among themselves, but those that met.

    cards: as fill_cards writes them; all pairs of each leaf on them have been compared. Returns Finds (as the lists
    stood), the row before which it stopped because `room` finds might not have held more, and the pairs compared.
    """
    cap = lists.ids.shape[1] + companions.fresh.shape[1]
    meeting, pairs = room_for_meeting(cap), room_for_near(cap)
    room = max(room, 2 * pairs.ones.size)
    finds = Finds(np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32))
    used = compared = waiting = 0
    stop = last
    news, count = expect(rows, companions, cards, lists, first, last, step, meeting)
    for row in range(first, last, step):
        if used + 2 * (waiting + news * count) > room:
            stop = row
            break
        for i in range(count):
            meeting.members[i] = meeting.coming[i]
        now, here = news, count
        news, count = expect(rows, companions, cards, lists, row + step, last, step, meeting)
        if now == 0 or here < 2:
            continue
        all_met = introduce(cards, row, now, here, meeting)
        waiting, more = near_pairs(rows, form, lists, cards, all_met, now, here, meeting, pairs, waiting)
        compared += more
        if waiting > AT_ONCE:
            used = note(rows, form, lists, cards, pairs, waiting, finds, used)
            waiting = 0
    used = note(rows, form, lists, cards, pairs, waiting, finds, used)
    return Finds(finds.targets[:used], finds.labels[:used], finds.distances[:used]), stop, compared


def new_cards(slots: np.ndarray) -> np.ndarray:
    """Cards of rows that stand in the leaves `slots`, int32[m, <= 4], -1 for none; fill_cards writes the rest."""
    cards = on_lines((len(slots), CARD), np.int32)
    # What stands in no leaf has met nobody: each row has a number of its own for that.
    cards[:, :LEAVES] = -2 - np.arange(len(slots), dtype=np.int32)[:, None]
    here = cards[:, : slots.shape[1]]
    here[slots >= 0] = slots[slots >= 0]
    return cards


@kernel
def fill_cards(rows, form, lists, cards):
    """Write the squares of the rows and what may enter their lists on the cards."""
    for row in range(lists.ids.shape[0]):
        cards[row, SQUARE] = rows.squares[row] if form.euclidean else np.int32(0)
        cards[row, START] = rows.starts[row]
        for column in range(form.columns, rows.values.shape[1]):
            cards[row, START] += OFFSET * np.int32(rows.values[row, column])
        cards[row, LIMIT] = limit_of(form, lists.distances[row, lists.ids.shape[1] - 1])


@kernel
def apply(finds, form, lists, cards, first, last):
    """Put the finds of targets first .. last into their lists, in the order in which they were found."""
    worst = lists.ids.shape[1] - 1
    for found in range(finds.targets.size):
        ask_for_list(lists, finds.targets[min(found + AHEAD, finds.targets.size - 1)])
        target = finds.targets[found]
        if not first <= target < last:
            continue
        if insert(lists, target, finds.labels[found], finds.distances[found], np.uint8(BORN)):
            cards[target, LIMIT] = limit_of(form, lists.distances[target, worst])
