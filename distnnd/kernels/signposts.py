"""The pivots nearest to each row, where there may be thousands: guides among the pivots show rows their way.

A pivot follows the few guides nearest to it; a row looks at all guides first, and then only at the pivots that follow
the nearest of them. As a pivot follows several guides, a row near the border between two finds the pivots of both
(overlapping cells of a coarse quantiser: Chen et al. 2021, SPANN, section 3.2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .codes import Rows
from .groups import Groups, all_in_one, all_members, slot_groups
from .leaves import Offered, join, join_places
from .neighbours import Lists, empty
from .ranges import Each, even_cuts, serial
from .rows import Form

# From so many pivots on guides pay: as many as GUIDES times the root of their number. Of the four nearest pivots a row
# must find nearly all, or passes of NN-descent have to make up for it; guides of guides save no more
# (docs/tried.md).
MANY, GUIDES, FOLLOWED, ASKED = 2000, 3, 16, 2


class Signposts(NamedTuple):
    """Pivots, and guides among them; following: by guide the numbers of the pivots that follow it.

    Where pivots are few, guides are all of them and nobody follows.
    """

    pivots: Rows
    guides: Rows
    following: Groups | None


def signposts_of(pivots: Rows, form: Form) -> Signposts:
    """The signposts that coded pivots are. form: how near two pivots are."""
    count = len(pivots.points)
    if count < MANY:
        return Signposts(pivots, pivots, None)
    guides = rows_at(pivots, slice(None, None, round(count**0.5 / GUIDES)))
    lists, _ = nearest_of(pivots, guides, form, FOLLOWED)
    return Signposts(pivots, guides, all_members(lists.ids, len(guides.points)))


def rows_at(rows: Rows, chosen: np.ndarray | slice) -> Rows:
    """Some of the rows, as rows of their own."""
    return Rows(*(np.ascontiguousarray(part[chosen]) for part in rows))


def nearest_of(rows: Rows, others: Rows, form: Form, wanted: int) -> tuple[Lists, int]:
    """For each row the `wanted` nearest others, or all of them where they are fewer, and the pairs compared."""
    lists = empty(len(rows.points), min(wanted, len(others.points)))
    return lists, compare_all(rows, np.arange(len(rows.points), dtype=np.int32), others, form, lists)


def compare_all(
    rows: Rows, looking: np.ndarray, others: Rows, form: Form, lists: Lists, each: Each = serial, parts: int = 1
) -> int:
    """Offer each of some rows all others; returns the pairs compared. looking: int32[.], distinct; lists: of all rows.

    each, parts: how ranges are run and into how many they are cut, without effect on the answer.
    """
    base = all_in_one(len(others.points))

    def run(first: int, last: int) -> int:
        queries = Groups(looking[first:last], np.array([0, last - first]))
        return join(rows, queries, others, base, base.rows, form, lists, False, 0, 1)

    return sum(each(run, even_cuts(len(looking), parts)))


def find_pivots(
    rows: Rows, looking: np.ndarray, signposts: Signposts, form: Form, lists: Lists, each: Each = serial, parts: int = 1
) -> int:
    """Offer each of some rows the pivots near it, as their numbers; the arguments and the answer of compare_all."""
    if signposts.following is None:
        return compare_all(rows, looking, signposts.pivots, form, lists, each, parts)
    guides, base = len(signposts.guides.points), signposts.following
    asked = empty(len(rows.points), min(ASKED, guides))
    compared = compare_all(rows, looking, signposts.guides, form, asked, each, parts)
    places, offered = slot_groups(asked.ids, guides), Offered(signposts.pivots, base, base.rows)
    return compared + join_places(rows, places, offered, form, lists, False, each, parts)
