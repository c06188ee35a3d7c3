"""Whom NN-descent compares a row with: its neighbours, and rows drawn among those whose neighbour it is.

What a pass knows of an entry is its state in the list (see neighbours.py): `mark` begins a pass, `settle` ends it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..values.memory import DRAWN_AT_ONCE, HOLDERS
from .jit import kernel
from .lanes import LANES
from .neighbours import BORN, DRAWN, FRESH, OLD, holds
from .random import below as random_below
from .scratch import scratch
from .sieve import within


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
def offer(drawn, seen, at, row, label, seed):
    """Offer `label` to the reservoir of `row`, which stands at `at`: each is kept with equal chance."""
    cap, count = drawn.shape[1], seen[at]
    slot = np.int64(count)
    if count >= cap:
        stream = np.uint64(seed) ^ (np.uint64(row) << np.uint64(32))
        slot = random_below(stream, (np.uint64(count) << np.uint64(32)) | np.uint64(label), count + 1)
    if slot < cap:
        drawn[at, slot] = label
    seen[at] = count + 1


@kernel
def draw(lists, companions, first, last, seed):
    """Draw the companions of the rows first .. last among the rows that hold them and are not held by them.

    So many rows at a time: their holders are gathered first, with nothing to wait for, from the strips of lists that
    name any of them, and each row then looks at its own list alone.
    """
    holders = np.empty((min(last - first, DRAWN_AT_ONCE), HOLDERS), np.int32)
    counts = np.empty(len(holders), np.int32)
    strip = max(LANES, 4096 // lists.ids.shape[1] // LANES * LANES)
    named = ranges_named(lists.ids, strip)
    for start in range(first, last, DRAWN_AT_ONCE):
        stop = min(last, start + DRAWN_AT_ONCE)
        counts[:] = 0
        gather_holders(lists, named, strip, holders, counts, start, stop, seed)
        choose(lists, holders, counts, companions, start, stop, seed)


@kernel(inline=True)
def bit_of(row):
    """The bit that stands for the range of rows which a row lies in; far ones may share one."""
    return np.uint64(1) << np.uint64((row // DRAWN_AT_ONCE) % 64)


@kernel
def ranges_named(ids, strip):
    """The bits of the ranges that each strip of lists names: uint64[strips], for strips of so many rows."""
    named = np.zeros((ids.shape[0] + strip - 1) // strip, np.uint64)
    for number in range(named.size):
        bits = np.uint64(0)
        for row in range(number * strip, min(number * strip + strip, ids.shape[0])):
            for slot in range(ids.shape[1]):
                bits |= bit_of(ids[row, slot])
        named[number] = bits
    return named


@kernel
def gather_holders(lists, named, strip, holders, counts, first, last, seed):
    """Gather the holders of the rows first .. last, at most HOLDERS of each: r as 2 r + 1 where the entry is fresh.

    named: of ranges_named, by strips of so many rows.
    """
    width = lists.ids.shape[1]
    places, inverse = scratch((strip + LANES) * width, np.int32), 2**32 // width + 1
    wanted = bit_of(first) | bit_of(last - 1)
    for row in range(0, lists.ids.shape[0], strip):
        if not named[row // strip] & wanted:
            continue
        entries = min(strip, lists.ids.shape[0] - row) * width
        whole = entries - entries % LANES
        found = within(lists.ids[row:], 0, whole, first, last, places)
        for entry in range(whole, entries):
            if first <= lists.ids[row + entry // width, entry % width] < last:
                places[found] = entry
                found += 1
        for i in range(found):
            # As dividing by the width would, for numbers so small.
            one = (np.int64(places[i]) * inverse) >> 32
            slot = np.int64(places[i]) - one * width
            one += row
            holder = 2 * one + (lists.state[one, slot] != OLD)
            label = lists.ids[one, slot]
            offer(holders, counts, label - first, label, np.int32(holder), seed)


@kernel(inline=True)
def choose(lists, holders, counts, companions, first, last, seed):
    """Draw companions of the rows first .. last among their holders."""
    for row in range(first, last):
        companions.fresh_count[row] = companions.old_count[row] = 0
        count = 0
        for i in range(min(counts[row - first], HOLDERS)):
            # Kept in any case and counted unless the row holds it too, which makes it a companion already: a branch
            # would be guessed wrong half of the time.
            holder = holders[row - first, i]
            holders[row - first, count] = holder
            count += np.int64(not holds(lists.ids, row, holder >> 1))
        for i in range(count):
            holder = holders[row - first, i]
            label = holder >> 1
            if holder & 1:
                offer(companions.fresh, companions.fresh_count, row, row, label, seed)
            else:
                offer(companions.old, companions.old_count, row, row, label, seed)


@kernel
def mark(lists, first, last):
    """Mark the fresh entries of the rows first .. last as drawn."""
    for row in range(first, last):
        for slot in range(lists.state.shape[1]):
            if lists.state[row, slot] == FRESH:
                lists.state[row, slot] = DRAWN


@kernel(inline=True)
def gather_companions(lists, companions, row, members):
    """Write the companions of a row to `members`, fresh ones first; returns how many are fresh, and all.

    Own entries, as far as they were there when companions were drawn, and the rows that were drawn.
    """
    count = append_own(lists, row, DRAWN, members, 0)
    for slot in range(min(companions.fresh_count[row], companions.fresh.shape[1])):
        members[count] = companions.fresh[row, slot]
        count += 1
    news = count
    if news > 0:
        count = append_own(lists, row, OLD, members, count)
        for slot in range(min(companions.old_count[row], companions.old.shape[1])):
            members[count] = companions.old[row, slot]
            count += 1
    return news, count


@kernel(inline=True)
def append_own(lists, row, state, members, count):
    """Write the entries of list `row` in that state to `members` from `count` on; returns where they end."""
    for slot in range(lists.ids.shape[1]):
        # Written in any case and counted where it belongs there: no branch to guess.
        members[count] = lists.ids[row, slot]
        count += np.int64((lists.state[row, slot] == state) & (lists.ids[row, slot] >= 0))
    return count


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
