"""All pairs between the rows of a group and the group's base, through products of their codes, a tile at a time.

The same text routes rows to pivots (the base are the pivots of a node), compares the rows of a leaf (the base is the
leaf itself) and solves probe rows exactly (the base is a whole block). A row belongs to one group of a call, so ranges
of groups may run side by side without a race, and its list carries the threshold from call to call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .codes import EVERYTHING, Rows, gather, limit_of, measure, multiplied
from .groups import Groups
from .jit import kernel
from .lanes import LANES, count_at_most, lowest, prefetch, prefetch_row
from .neighbours import FRESH, Lists, ask_for_list, room_for_offers, take
from .products import multiply, pack, packed_size
from .ranges import Each, even_ranges, serial
from .rows import Form
from .scratch import scratch
from .sieve import share, sift, strike

# A tile of 128 x 1024 products (512 KiB) and its rows stay in the second-level cache; both are multiples of sixteen.
# Most leaves fit into one: a row then takes what it keeps of a leaf in one go.
QUERIES = 128
BASE = 1024
# Candidates that are offered to a list at once.
HITS = 48
# So many rows ahead a list is asked for before it is needed.
AHEAD = 3


class Tile(NamedTuple):
    """Room for one tile: codes of queries and base, products of both, and what selection writes down.

    left: codes, flat; starts: int32[QUERIES]; right: codes, packed; products: int32[QUERIES, BASE]; base_rows, names,
    bias: int32[BASE], rows of the base, what they are called and their squares; shares: int32[BASE], and nothing beside
    them, int32[1, BASE], where scores are shares; minima: int32, a multiple of sixteen;
    found: int16[BASE + 16], places in the base of candidates that may enter a list; places, labels, scores: int32[BASE
    + 16], the same places with names and estimates.
    """

    left: np.ndarray
    starts: np.ndarray
    right: np.ndarray
    products: np.ndarray
    base_rows: np.ndarray
    names: np.ndarray
    bias: np.ndarray
    shares: np.ndarray
    nothing: np.ndarray
    minima: np.ndarray
    found: np.ndarray
    labels: np.ndarray
    places: np.ndarray
    scores: np.ndarray


@kernel
def room_for_tile(values, width):
    """Room for a tile of rows with such codes, [m, w], whose lists hold `width` entries."""
    columns = values.shape[1]
    return Tile(
        np.zeros(QUERIES * columns, values.dtype),
        np.zeros(QUERIES, np.int32),
        np.empty(packed_size(columns, BASE), values.dtype),
        np.empty((QUERIES, BASE), np.int32),
        np.empty(BASE, np.int32),
        np.empty(BASE, np.int32),
        np.zeros(BASE, np.int32),
        np.empty(BASE, np.int32),
        np.zeros((1, BASE), np.int32),
        np.empty((width * 3 // 2 + LANES) // LANES * LANES, np.int32),
        scratch(BASE + LANES, np.int16),
        scratch(BASE + LANES, np.int32),
        scratch(BASE + LANES, np.int32),
        scratch(BASE + LANES, np.int32),
    )


@kernel(inline=True)
def scoring(tile, query, count, own, form):
    """What scores the candidates of a query, bias - 2 products[row]: (bias, products, row); own: the row's square.

    The score and the row's square make the estimate. Of shares the score is what a limit says (codes.py: limit_of).
    """
    if not form.share:
        return tile.bias, tile.products, query
    share(tile.bias, tile.products, query * BASE, count, own, tile.shares)
    return tile.shares, tile.nothing, 0


@kernel(inline=True)
def first_bound(bias, product, minima, count, wanted):
    """A score that at least `wanted` of the `count` candidates do not exceed; EVERYTHING where too few are there.

    The candidates are dealt into groups of a few; the `wanted` smallest of the groups' minima are as many candidates.
    """
    groups = minima.size
    if groups < wanted or count < 2 * groups:
        return np.int32(EVERYTHING)
    for group in range(0, groups, LANES):
        lowest(bias, product, group, count - count % groups, groups, minima)
    low = high = minima[0]
    for group in range(1, groups):
        low, high = min(low, minima[group]), max(high, minima[group])
    # Halving: `high` is a bound all along, and near enough when few more than wanted lie below it.
    while low < high:
        middle = (low + high) >> 1
        upto = 0
        for start in range(0, groups, LANES):
            upto += count_at_most(minima, start, middle)
        if upto < wanted:
            low = middle + np.int32(1)
        else:
            high = middle
            if upto <= wanted + wanted // 8:
                break
    return high


@kernel(inline=True)
def limit_now(scores, minima, count, own, form, lists, row):
    """The largest score that may still enter list `row`; scores: of `scoring`; own: the row's square.

    A bound spares a list that knows nothing yet most of its insertions.
    """
    bias, products, at = scores
    last = lists.ids.shape[1] - 1
    if lists.distances[row, last] < np.inf:
        return score_within(form, lists.distances[row, last], own)
    if form.cut:
        # Estimates that are too low are no bound for what is near.
        return np.int32(EVERYTHING)
    # One more than the list holds: the row itself may be among the candidates.
    bound = first_bound(bias, products[at], minima, count, last + 2)
    if bound == EVERYTHING or form.share:
        return bound
    # An estimate may be off, and so may the one that it is compared with.
    return score_within(form, form.unit * np.float32(limit_of(form, form.unit * np.float32(own + bound))), own)


@kernel(inline=True)
def score_within(form, surrogate, own):
    """The largest score of what may be no farther than that."""
    limit = limit_of(form, surrogate)
    return limit if form.share else np.int32(limit - own)


@kernel(inline=True)
def price(rows, row, others, tile, query, first, count, own, form, worst, offers):
    """Make offers of `count` candidates from `first` on, with the distances that a list keeps; returns how many."""
    if form.trusted and not form.share:
        for i in range(count):
            offers.distances[i] = form.unit * np.float32(own + tile.scores[first + i])
            offers.ids[i] = tile.labels[first + i]
        return count
    used = 0
    for i in range(first, first + count):
        place = tile.places[i]
        estimate = own + tile.bias[place] - 2 * tile.products[query, place]
        distance = measure(rows, row, others, tile.base_rows[place], estimate, form)
        if form.trusted or distance <= worst:
            offers.distances[used] = distance
            offers.ids[used] = tile.labels[i]
            used += 1
    return used


@kernel(inline=True)
def select(rows, row, others, tile, query, count, form, lists, itself, offers):
    """Offer list `row` each of the first `count` rows of the base that may beat its worst, some at a time."""
    last = lists.ids.shape[1] - 1
    own = rows.squares[row] if form.euclidean else np.int32(0)
    scores = scoring(tile, query, count, own, form)
    limit = limit_now(scores, tile.minima, count, own, form, lists, row)
    bias, products, at = scores
    taken = sift(bias, products, at * BASE, count, limit, tile.found)
    for i in range(taken):
        place = np.int64(tile.found[i])
        tile.places[i], tile.labels[i] = place, tile.names[place]
        tile.scores[i] = bias[place] - 2 * products[at, place]
    ignored = np.int32(row) if itself else np.int32(-1)
    for first in range(0, taken, HITS):
        count = min(HITS, taken - first)
        count = strike(tile.labels, tile.places, tile.scores, first, count, limit, ignored, lists.ids, row, last + 1)
        used = price(rows, row, others, tile, query, first, count, own, form, lists.distances[row, last], offers)
        if used > 0:
            take(lists, row, offers, used, np.uint8(FRESH))
            limit = min(limit, score_within(form, lists.distances[row, last], own))


@kernel(inline=True)
def lay_out(others, base, labels, first, last, width, form, tile):
    """Put the base's entries first .. last into the tile, the last one again up to a multiple of sixteen."""
    count = last - first
    for j in range((count + LANES - 1) // LANES * LANES):
        at = min(first + j, last - 1)
        tile.base_rows[j] = base.rows[at]
        tile.names[j] = labels[at]
        tile.bias[j] = others.squares[base.rows[at]] if form.euclidean else np.int32(0)
    pack(others.values, tile.base_rows, 0, count, width, tile.right)


@kernel(inline=True)
def ask_for_rows(rows, groups, first, last):
    """Ask for the codes and squares of the entries first .. last of groups before they are copied."""
    for at in range(first, last):
        row = groups.rows[at]
        prefetch(rows.squares, np.int64(row))
        prefetch_row(rows.values, row)


@kernel
def join(rows, queries, others, base, labels, form, lists, itself, first, last):
    """Compare the rows of each group with the group's base and keep the nearest; returns the pairs compared.

    rows: Rows; queries: Groups over them; others: Rows of the base; base: Groups over those; labels: int32, the name of
    each entry of base.rows; lists: of the rows of `rows`; itself: labels are rows of `rows` and a row is no neighbour
    of itself; first, last: range of groups.
    """
    width = multiplied(form.columns, rows.values.shape[1])
    tile = room_for_tile(rows.values, lists.ids.shape[1])
    offers = room_for_offers(lists.ids.shape[1], HITS + LANES)
    compared = 0
    for group in range(first, last):
        query_first, query_last = queries.starts[group], queries.starts[group + 1]
        base_first, base_last = base.starts[group], base.starts[group + 1]
        if query_first == query_last or base_first == base_last:
            continue
        # While this base is compared, a few entries of the next one are asked for with each row that looks.
        coming, come = base_last, base.starts[group + 2] if group + 1 < last else base_last
        step = (come - coming) // (query_last - query_first) + 1
        for b in range(base_first, base_last, BASE):
            count = min(base_last - b, BASE)
            lay_out(others, base, labels, b, b + count, width, form, tile)
            groups = (count + LANES - 1) // LANES
            for q in range(query_first, query_last, QUERIES):
                q_count = min(query_last - q, QUERIES)
                gather(rows, queries.rows, q, q_count, form.columns, width, tile.left, tile.starts)
                multiply(tile.left, width, 0, q_count, tile.starts, tile.right, 0, groups, tile.products)
                compared += q_count * count
                for i in range(q_count):
                    ask_for_list(lists, queries.rows[q + min(i + AHEAD, q_count - 1)])
                    asked = min(coming + step, come)
                    ask_for_rows(others, base, coming, asked)
                    coming = asked
                    later = min(q + i + QUERIES, queries.rows.size - 1)
                    ask_for_rows(rows, queries, later, later + 1)
                    prefetch(rows.starts, np.int64(queries.rows[later]))
                    select(rows, queries.rows[q + i], others, tile, i, count, form, lists, itself, offers)
    return compared


class Offered(NamedTuple):
    """Whom rows are compared with. groups: over `rows`; labels: int32, the name of each entry of groups.rows."""

    rows: Rows
    groups: Groups
    labels: np.ndarray


def join_places(
    rows: Rows,
    places: Sequence[Groups],
    offered: Offered,
    form: Form,
    lists: Lists,
    itself: bool,
    each: Each = serial,
    parts: int = 1,
) -> int:
    """Join place by place: within one a row stands in one group, so ranges of groups cannot race for its list.

    places: for each place of a row the groups of those that look; each, parts: how ranges are run and into how many
    they are cut, without effect on the answer; else as join. Returns the pairs compared.
    """
    others, base, labels = offered
    compared = 0
    for queries in places:
        # A group costs something even where its base is empty.
        weights = np.diff(queries.starts) * (np.diff(base.starts) + 1)

        def run(first: int, last: int, queries: Groups = queries) -> int:
            return join(rows, queries, others, base, labels, form, lists, itself, first, last)

        compared += sum(each(run, even_ranges(weights, parts)))
    return compared
