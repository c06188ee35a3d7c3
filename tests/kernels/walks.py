"""Rows, lists and companions that the tests of NN-descent share."""

from __future__ import annotations

import numpy as np

from distnnd.kernels.codes import Rows, coded_form, coder_of, encode
from distnnd.kernels.companions import Companions, draw, mark, no_companions
from distnnd.kernels.descent import Finds, fill_cards, join, new_cards
from distnnd.kernels.neighbours import DRAWN, OLD, Lists, empty, sort_rows
from distnnd.kernels.rows import Form, prepare, prepared_width, rescore
from distnnd.values.metric import METRICS
from tests import naive

SEED = 2**62 + 12345
METRIC_NAMES = ["sqeuclidean", "inner_product"]


def whole_points(n: int, d: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    """Small whole numbers: every sum and product of them is exact in float32."""
    return np.random.default_rng(seed).integers(0, 12, (n, d)).astype(dtype)


def coded(raw: np.ndarray, name: str = "sqeuclidean", strict: bool = True) -> tuple[Rows, Form]:
    """The rows with their codes, and a form to compare them."""
    metric = METRICS[name]
    radius = float(np.linalg.norm(raw.astype(np.float64), axis=1).max())
    ready = prepare(raw, metric, prepared_width(metric, raw.dtype, raw.shape[1], False), radius)
    coder = coder_of(ready, metric)
    rows = encode(ready, coder)
    return rows, coded_form(metric, rows, coder, strict)


def gaps_of(rows: Rows, form: Form) -> np.ndarray:
    """What a find is worth, of all pairs: the canonical surrogate, or the estimate where the form trusts it."""
    if form.trusted:
        return form.unit * naive.estimates(rows.values, rows.values, form.euclidean, form.columns).astype(np.float32)
    n = len(rows.points)
    lists = Lists(np.tile(np.arange(n, dtype=np.int32), (n, 1)), np.empty((n, n), np.float32), empty(n, n).state)
    rescore(rows.points, rows.points, form, lists, 0, n)
    return lists.distances


def some_lists(gaps: np.ndarray, k: int, seed: int, states: int = 4) -> Lists:
    """Random lists with true distances and random states; some have room, some hold what is elsewhere (below -1)."""
    rng = np.random.default_rng(seed)
    n = len(gaps)
    lists = empty(n, k)
    for row in range(n):
        held = rng.choice(np.delete(np.arange(n), row), min(k, n - 1) - (row % 5 == 0), replace=False)
        entries = sorted((gaps[row, label], int(label), int(rng.integers(0, states))) for label in held)
        for slot, (gap, label, state) in enumerate(entries):
            # As localise() writes it: -2 and less, for the place in the list that a row came with.
            label = -2 - slot if row % 7 == 1 and slot % 3 == 0 else label
            lists.ids[row, slot], lists.distances[row, slot], lists.state[row, slot] = label, gap, state
    sort_rows(lists, 0, n)
    return lists


def random_lists(n: int, k: int, seed: int) -> Lists:
    """Lists of which only the ids and states matter."""
    return some_lists(np.random.default_rng(seed).random((n, n)).astype(np.float32), k, seed)


def copied(lists: Lists) -> Lists:
    return Lists(*(part.copy() for part in lists))


def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def drawn_of(companions: Companions) -> tuple[list[list[int]], list[list[int]]]:
    """The rows that were drawn for each row, through fresh entries and through old ones."""
    cap = companions.fresh.shape[1]
    fresh = [row[: min(seen, cap)].tolist() for row, seen in zip(companions.fresh, companions.fresh_count, strict=True)]
    old = [row[: min(seen, cap)].tolist() for row, seen in zip(companions.old, companions.old_count, strict=True)]
    return fresh, old


def drawn(lists: Lists, cap: int, seed: int = SEED) -> Companions:
    """Companions of all rows; what was fresh in the lists is marked as drawn."""
    n = len(lists.ids)
    companions = no_companions(n, cap)
    draw(lists, companions, 0, n, seed)
    mark(lists, 0, n)
    return companions


def stand(n: int, places: int, leaves: int, seed: int) -> np.ndarray:
    """Leaves in which rows stand, no row twice in one, some in fewer than others: int32[n, places]."""
    rng = np.random.default_rng(seed)
    slots = np.array([rng.choice(max(leaves, places), places, replace=False) for _ in range(n)], np.int32)
    slots = slots.reshape(n, places)
    slots[rng.random(slots.shape) < 0.15] = -1
    slots[::11] = -1
    return slots


def expected_finds(
    lists: Lists, companions: Companions, gaps: np.ndarray, form: Form, slots: np.ndarray | None = None
) -> tuple[list[tuple[int, int, float]], int]:
    """What the naive local join finds among the companions of all rows, and how many pairs it compares.

    slots: where rows stand, whose leaves have compared all pairs.
    """
    fresh, old = drawn_of(companions)
    fresh = naive.companions(lists.ids, lists.state, (DRAWN,), fresh)
    old = naive.companions(lists.ids, lists.state, (OLD,), old)
    leaves = None if slots is None else [{leaf for leaf in row if leaf >= 0} for row in slots.tolist()]
    worst = lists.distances[:, -1]
    found, compared = naive.local_join(gaps, fresh, old, lists.ids, worst, form.trusted, leaves)
    return sorted(found), compared


def cards_of(rows: Rows, form: Form, lists: Lists, slots: np.ndarray | None = None) -> np.ndarray:
    """Cards of rows that stand in these leaves, mostly in none, with the lists as they are."""
    cards = new_cards(np.empty((len(lists.ids), 0), np.int32) if slots is None else slots)
    fill_cards(rows, form, lists, cards)
    return cards


def meet(
    rows: Rows,
    companions: Companions,
    form: Form,
    lists: Lists,
    first: int = 0,
    last: int = -1,
    room: int = 10**6,
    slots: np.ndarray | None = None,
    step: int = 1,
) -> tuple[Finds, int, int]:
    """What join() says of every `step`th of the rows first .. last, mostly of all, when the lists are as they are."""
    last = last if last >= 0 else len(lists.ids)
    cards = cards_of(rows, form, lists, slots)
    return join(rows, companions, cards, form, lists, first, last, step, room)


def as_tuples(*finds: Finds) -> list[tuple[int, int, float]]:
    return sorted(entry for part in finds for entry in zip(*(column.tolist() for column in part), strict=True))
