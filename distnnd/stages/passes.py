"""Passes of NN-descent over a partition, in memory, until the probe rows show that it is enough."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels import descent
from ..kernels.codes import Rows, admitting
from ..kernels.companions import Companions, draw, mark, no_companions, settle
from ..kernels.judge import Judge
from ..kernels.neighbours import FRESH, Lists
from ..kernels.random import seed_of
from ..kernels.ranges import even_cuts
from ..kernels.rows import Form
from ..storage import mailbox
from ..values.memory import DESCENT_FINDS, DESCENT_RANGE, DESCENT_ROWS
from ..values.partitioning import companion_cap
from .partition import Hands, Known, Work

PASSES = 12
# A pass is taken in turns, each with every fourth row: between them the probe rows may show that it is enough.
TURNS = 4
# So many times as much counts as little where rows stand in other partitions too.
ELSEWHERE = 3


class Walk(NamedTuple):
    """What passes work on: coded rows in leaf order, how they are compared, their lists; scratch beside them.

    companions: room for those of all rows; cards: as descent.fill_cards writes them; final: who says how far apart
    rows are, if not the form.
    """

    rows: Rows
    form: Form
    lists: Lists
    companions: Companions
    cards: np.ndarray
    final: Judge | None


def descend(
    work: Work,
    rows: Rows,
    form: Form,
    lists: Lists,
    slots: np.ndarray | None,
    known: Known,
    by_distance: bool = False,
) -> dict[str, float]:
    """Passes of NN-descent until the probe rows show that it is enough, or a pass changes little.

    How little follows from the recall that is asked for; where rows stand in several partitions, another may find what
    is missing here. slots: int32[m, places], the leaves of which all pairs have been compared; None where rows look
    elsewhere than they stand. by_distance: every pair of companions is judged, while the form only lets them meet; all
    that the lists hold is fresh.
    """
    m, spec = len(lists.ids), work.job.spec
    little = min(max((1 - spec.target_recall) / 5, 0.001), 0.02) * spec.n_neighbors * m
    if work.job.layout.partitions > 1:
        little *= ELSEWHERE
    compared, passes = 0, 0.0
    if by_distance:
        form = admitting(form)
        lists.state[:] = FRESH
    walk = walk_over(rows, form, lists, slots, known.judge if by_distance else None)
    for number in range(PASSES):
        for turn in range(TURNS):
            if known.enough(lists):
                return {"passes": passes, "descended": compared}
            if turn == 0:
                draw_companions(work.hands, walk, seed_of(work.seed, number))
            compared += compare_companions(work.hands, walk, turn)
            passes += 1 / TURNS
        if settle(lists, 0, m) <= little:
            break
    return {"passes": passes, "descended": compared}


def walk_over(
    rows: Rows, form: Form, lists: Lists, slots: np.ndarray | None = None, final: Judge | None = None
) -> Walk:
    """All that passes over these lists need; slots: as descend has them."""
    companions = no_companions(len(lists.ids), companion_cap(lists.ids.shape[1]))
    cards = descent.new_cards(np.empty((len(lists.ids), 0), np.int32) if slots is None else slots)
    descent.fill_cards(rows, form, lists, cards)
    return Walk(rows, form, lists, companions, cards, final)


def draw_companions(hands: Hands, walk: Walk, seed: int) -> None:
    """Begin a pass: draw companions of all rows, and mark what has been drawn."""
    m = len(walk.lists.ids)
    # Drawing reads all lists once for each range: one range a thread.
    cuts = even_cuts(m, hands.threads)
    hands.each(lambda a, b: draw(walk.lists, walk.companions, a, b, seed), cuts)
    hands.each(lambda a, b: mark(walk.lists, a, b), cuts)


def compare_companions(hands: Hands, walk: Walk, turn: int) -> int:
    """Compare the companions of every row whose turn it is, strip by strip; returns the pairs compared."""
    strips = mailbox.strips(0, len(walk.lists.ids), DESCENT_ROWS * TURNS)
    return sum(compare_strip(hands, walk, turn, start, stop) for start, stop in strips)


def compare_strip(hands: Hands, walk: Walk, turn: int, first: int, last: int) -> int:
    """Compare the companions of such rows first .. last against the lists as they stand, then change the lists."""
    rows, form, lists, companions, cards, final = walk

    def join(a: int, b: int) -> tuple[descent.Finds, int, int]:
        return descent.join(rows, companions, cards, form, lists, a, b, TURNS, room)

    todo = [(start + turn, stop) for start, stop in mailbox.strips(first, last, DESCENT_RANGE * TURNS)]
    targets_of = even_cuts(len(lists.ids), hands.threads)
    room, compared = DESCENT_RANGE * DESCENT_FINDS, 0
    while todo:
        found = hands.each(join, todo)
        # A range whose finds filled the room stops early and goes on once they are in the lists.
        todo = [(stop, b) for (_, b), (_, stop, _) in zip(todo, found, strict=True) if stop < b]
        compared += sum(part[-1] for part in found)
        finds = descent.Finds(*(np.concatenate(parts) for parts in zip(*(part[0] for part in found), strict=True)))
        if final is not None:
            cuts = even_cuts(len(finds.targets), hands.threads)
            hands.each(lambda a, b, finds=finds: final.price(finds, lists, a, b), cuts)
        hands.each(lambda a, b, finds=finds: descent.apply(finds, form, lists, cards, a, b), targets_of)
    return compared
