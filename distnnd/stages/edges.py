"""The edges of a partition of an index: its lists are completed, pruned, and mended until rows find themselves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels import prune
from ..kernels.codes import Coder, Rows, coded_form
from ..kernels.companions import settle
from ..kernels.compared import Coded, Exact
from ..kernels.judge import Judge
from ..kernels.neighbours import FRESH, Lists, empty, sort_rows
from ..kernels.random import seed_of
from ..kernels.ranges import even_cuts
from ..kernels.rows import Form, plain_form, rescore
from ..storage.mailbox import strips
from ..values.metric import Metric
from ..values.searching import AT_ONCE, SIGHT, IndexJob, SearchSpec
from .partition import Hands
from .passes import TURNS, compare_companions, draw_companions, walk_over
from .walk import Asked, as_rows, entries_in, is_linear, pivots_of, reach_of, walk

HIDDEN, COMPLETED = 42, 43  # what random numbers are for: a part of their seed
# Passes that complete lists, at most, and the share of the lists' entries below which another is not worth while.
PASSES, LITTLE = 6, 0.02
# Times that edges are added for rows which do not find themselves; where these are more than such a share of all, the
# others are looked for again, so many times in all.
MENDED = 2
DIVERTING, ROUNDS = 0.002, 4


class Place(NamedTuple):
    """A partition as it is worked on. number: which; coder, metric: of the index; hands: who works."""

    job: IndexJob
    number: int
    coder: Coder
    metric: Metric
    hands: Hands

    def seed(self, what: int) -> int:
        """Of random numbers for that."""
        return seed_of(self.job.spec.random_state, what, self.number) >> 1

    def each(self, function, count: int) -> None:
        """Run function(first, last) over so many rows."""
        self.hands.each(function, even_cuts(count, 4 * self.hands.threads))


def lists_within(place: Place, rows: Rows, form: Form, metric: Metric, ids: np.ndarray) -> Lists:
    """Lists of neighbours within the partition, as long as those that are known: int32[m, k], below -1 for elsewhere.

    Rows beside it in the order fill up a row's list first, then passes of NN-descent find better ones. form, metric:
    how near two rows are.
    """
    m = len(ids)
    lists, plain = empty(m, ids.shape[1]), plain_form(metric, rows.points.shape[1])
    np.copyto(lists.ids, ids, where=ids >= 0)
    lists.state[:] = FRESH

    def begin(first: int, last: int) -> None:
        rescore(rows.points, rows.points, plain, lists, first, last)
        sort_rows(lists, first, last)
        prune.fill_beside(rows.points, plain, lists, first, last)

    place.each(begin, m)
    walk = walk_over(rows, form, lists)
    for number in range(PASSES):
        draw_companions(place.hands, walk, seed_of(place.seed(COMPLETED), number))
        for turn in range(TURNS):
            compare_companions(place.hands, walk, turn)
        if settle(lists, 0, m) <= LITTLE * lists.ids.size:
            break
    return lists


def completed(place: Place, rows: Rows, form: Form, ids: np.ndarray) -> np.ndarray:
    """The lists with neighbours within the partition behind those that were known: int32[m, 2k], -1 at the end.

    What lies elsewhere leaves lists short here, and a search within the partition would get stuck. ids: int32[m, k],
    below -1 for rows elsewhere.
    """
    return prune.append_found(ids, lists_within(place, rows, form, place.metric, ids).ids)


def by_length(place: Place, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours by euclidean distance within the partition, int32[m, k], and how many of them equal each row.

    Those by inner product all lie far out, and lead nowhere else: a search for large products is one for what is
    nearest to a point very far away, to which lists of near rows lead.
    """
    metric = place.metric._replace(euclidean=True, finish="root")
    nothing = np.full((len(rows.points), place.job.layout.n_neighbors), -2, np.int32)
    lists = lists_within(place, rows, coded_form(metric, rows, place.coder), metric, nothing)
    return lists.ids, np.count_nonzero(lists.distances == 0, axis=1)


class Ground(NamedTuple):
    """The rows of a partition as searches compare them. coded: by codes; judge: of the exact rows.

    blurred: bool[m], rows whose neighbours codes cannot tell apart.
    """

    coded: Coded
    judge: Judge
    blurred: np.ndarray

    def compared(self, exact: bool) -> Coded | Exact:
        """The rows in one of both ways."""
        return Exact(*self.judge) if exact else self.coded

    def split(self, rows: np.ndarray) -> list[tuple[bool, np.ndarray]]:
        """Some rows by how they are compared: (by exact rows or not, which), without those that there are none of."""
        both = [(exact, rows[self.blurred[rows] == exact]) for exact in (False, True)]
        return [(exact, mine) for exact, mine in both if len(mine)]


class Known(NamedTuple):
    """What is known of neighbours. ids: int32[m, k], by the metric, below -1 for rows that are not at hand.

    equals: int64[m], how many of the first of `nearest` equal the row. near: int32[m, f], neighbours by euclidean
    distance where the metric is another one; None where it is not needed.
    """

    ids: np.ndarray
    equals: np.ndarray
    near: np.ndarray | None

    @property
    def nearest(self) -> np.ndarray:
        """The lists in which a row that is equal comes first."""
        return self.ids if self.near is None else self.near


def pruned(place: Place, ground: Ground, known: Known) -> np.ndarray:
    """Edges int32[m, width] of a partition's rows as positions in it, -2 - slot for those that are not at hand."""
    layout, m = place.job.layout, len(known.ids)
    kept = np.empty((m, min(known.ids.shape[1], layout.degree)), np.int32)
    for exact, rows in ground.split(np.arange(m, dtype=np.int32)):
        slack = np.float32((1 + prune.SLACK) ** 0.5 - 1) if exact and is_linear(place.metric) else prune.SLACK
        diversify(place, ground.compared(exact), known.ids, slack, rows, kept)
    if known.near is not None:
        others = np.empty((m, min(known.near.shape[1], layout.degree)), np.int32)
        by_distance = Exact(ground.judge.rows, ground.judge.form._replace(euclidean=True))
        diversify(place, by_distance, known.near, prune.SLACK, np.arange(m, dtype=np.int32), others)
        kept = prune.side_by_side(kept, others)
    edges = np.full((m, layout.width), -1, np.int32)
    edges[:, : layout.degree] = prune.both_ways(kept, layout.degree)
    first = prune.equals_of(known.nearest, known.equals)
    prune.chain(edges, first, np.argsort(first, kind="stable"))
    return edges


def diversify(
    place: Place, compared: Coded | Exact, ids: np.ndarray, slack: np.float32, rows: np.ndarray, kept: np.ndarray
) -> None:
    """Write what is kept of the neighbours of some rows, see prune.diversify."""
    probability, seed = float(place.job.spec.diversify_prob), place.seed(HIDDEN)
    place.each(lambda a, b: prune.diversify(compared, ids, slack, probability, seed, rows[a:b], kept), len(rows))


def mended(
    place: Place, ground: Ground, edges: np.ndarray, begins: np.ndarray, piece: np.ndarray
) -> tuple[np.ndarray, int]:
    """The rows where searches begin, after every row has found itself, and how many rows had not.

    A row that a search for itself passes by, as wide as the default, gets an edge from the nearest row that was found
    and has room; if that is not enough, searches begin at it too. edges: changed; piece: int32[m], as make_reachable
    returns it. Where nearness is not mutual a row need not be its own nearest, and nothing is done.
    """
    everyone, count = np.arange(len(edges), dtype=np.int32), 0
    if not place.metric.euclidean:
        return begins, count

    def missing(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = [unfound(place, ground, edges, begins, piece, mine, exact) for exact, mine in ground.split(rows)]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True)) if parts else (rows, rows)

    for _ in range(ROUNDS):
        rows = everyone
        for turn in range(MENDED + 1):
            rows, found = missing(rows)
            if not turn:
                strayed = len(rows)
            if not len(rows) or turn == MENDED:
                break
            prune.hold_by_found(edges, rows, found)
        begins, count = np.concatenate([begins, rows]), count or strayed
        # What was added for many rows diverts searches for others.
        if strayed <= DIVERTING * len(edges):
            break
    return begins, count


def unfound(
    place: Place,
    ground: Ground,
    edges: np.ndarray,
    begins: np.ndarray,
    piece: np.ndarray,
    rows: np.ndarray,
    exact: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Which of some rows a search for themselves does not find, and what it finds instead: int32[r, w]."""
    spec, metric, coded, judge = SearchSpec(), place.metric, ground.coded, ground.judge
    width = spec.candidates(metric, len(edges))
    reach, compared = reach_of(spec, metric, width, exact, place.coder), ground.compared(exact)
    there = judge._replace(rows=judge.of(begins))
    pivots = pivots_of(begins, piece[begins], coded.codes[begins], place.coder, metric, there)
    sight = SIGHT if place.job.layout.partitions > 1 else pivots.wanted

    def look(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        mine = rows[first:last]
        asked = Asked(as_rows(coded.codes[mine], place.coder, metric), judge.of(mine))
        near, pieces = pivots.near(asked, sight, exact)
        own = piece[mine].astype(np.int64)
        # What has no pivot of its piece near by is to be held by another piece.
        lost = (pieces != own[:, None]).all(axis=1)
        own[lost] = pieces[lost, 0]
        entries = entries_in(pieces, own, near)
        found = walk(compared, asked, edges, 0, entries, reach, width, metric, wanted=mine)
        missed = np.flatnonzero((found != mine[:, None]).all(axis=1))
        # Among more equals than there are answers each one is as good as any other.
        farthest = found[missed, -1]
        missed = missed[(farthest < 0) | ~equal(ground, mine[missed], farthest)]
        return mine[missed], found[missed]

    parts = place.hands.each(look, strips(0, len(rows), AT_ONCE))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def equal(ground: Ground, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of some rows are at distance 0 from these others: bool[r]."""
    lists = Lists(others[:, None].copy(), np.empty((len(rows), 1), np.float32), np.zeros((len(rows), 1), np.uint8))
    ground.judge.measure(lists, 0, len(rows), ground.judge.of(rows))
    result: np.ndarray = (lists.ids[:, 0] >= 0) & (lists.distances[:, 0] == 0)
    return result
