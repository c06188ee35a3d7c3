"""Walking an index: what a process holds of it, where searches begin, and how they go, by codes or by exact rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.codes import Coder, Rows, coded_form, encode, peak_of, trusted
from ..kernels.compared import Coded, Codes, Exact, offer_all
from ..kernels.judge import Judge
from ..kernels.neighbours import empty
from ..kernels.rows import WORD, Form
from ..kernels.search import Reach, Searched, search
from ..kernels.signposts import MANY, Signposts, find_pivots, signposts_of
from ..values.metric import CUSTOM, Metric
from ..values.searching import ENTRIES, PIECES, VISITED, SearchSpec

# No query wants a certain row; all rows may be answers.
NOBODY, EVERYBODY = np.empty(0, np.int32), np.zeros(0, np.uint8)
# Where pivots are many, exact rows look for theirs among so many that are near by their codes.
NEAR_BY = 64


class Asked(NamedTuple):
    """Queries in both ways that rows are compared. rows: their codes; judged: as a judge takes them."""

    rows: Rows
    judged: Any

    def some(self, mine: np.ndarray) -> Asked:
        """Some of the queries."""
        if len(mine) == len(self.rows.values):
            return self
        judged = self.judged
        if isinstance(judged, tuple):
            judged = type(judged)(*(np.ascontiguousarray(part[mine]) for part in judged))
        else:
            judged = np.ascontiguousarray(judged[mine])
        return Asked(Rows(*(np.ascontiguousarray(part[mine]) for part in self.rows)), judged)


class Pivots(NamedTuple):
    """Where searches begin. at: positions, int64[p]; pieces: int64[p], what is reached together in the whole.

    signposts: the way to them by codes; form: how queries are compared with them, by estimates; judge: of them.
    """

    at: np.ndarray
    pieces: np.ndarray
    signposts: Signposts
    form: Form
    judge: Judge

    @property
    def wanted(self) -> int:
        """How many a query looks at, if all of the graph is at hand."""
        return PIECES if (self.pieces != self.pieces[0]).any() else ENTRIES

    def near(self, asked: Asked, count: int, exact: bool) -> tuple[np.ndarray, np.ndarray]:
        """The positions and the pieces of those nearest to some rows, the nearest first: int64[m, count], -1 for none.

        Fewer columns where there are fewer pivots. exact: by distances instead of codes.
        """
        m, count = len(asked.rows.values), min(count, len(self.at))
        few = len(self.at) < MANY
        lists = empty(m, count if not exact or few else min(max(count, NEAR_BY), len(self.at)))
        if exact and few:
            offer_all(Exact(*self.judge), Exact(asked.judged, self.judge.form), len(self.at), lists)
        else:
            find_pivots(asked.rows, np.arange(m, dtype=np.int32), self.signposts, self.form, lists)
            if exact:
                self.judge.settle(lists, 0, m, asked.judged)
        ids = lists.ids[:, :count]
        at = np.maximum(ids, 0)
        at, pieces = (np.where(ids >= 0, part[at], -1).astype(np.int64) for part in (self.at, self.pieces))
        return at, pieces


def pivots_of(
    at: np.ndarray, pieces: np.ndarray, codes: np.ndarray, coder: Coder, metric: Metric, judge: Judge
) -> Pivots:
    """Pivots at these positions, with their pieces and codes, and the way to them; judge: of their rows."""
    rows = as_rows(codes, coder, metric)
    form = trusted(coded_form(metric, rows, coder))
    return Pivots(at, pieces, signposts_of(rows, form), form, judge)


def as_rows(codes: np.ndarray, coder: Coder, metric: Metric) -> Rows:
    """Rows of the index, whose codes are int8[m, w], as other kernels compare them by estimates alone."""
    columns = len(coder.centre)
    inner = columns - (not metric.euclidean)
    values = np.zeros((len(codes), -(-columns // WORD) * WORD), np.int8)
    values[:, :inner] = codes[:, :inner]
    rows = encode(values, coder._replace(exact=True))
    # Estimates are never measured anew: the rows themselves only say their kind and how wide they are.
    return rows._replace(points=np.zeros((len(codes), columns), np.int8 if coder.exact else np.float32))


def coded_queries(points: np.ndarray, coder: Coder, metric: Metric) -> Rows:
    """Prepared queries [m, w] with their codes.

    What is largest by inner product does not depend on how long the query is: each has a step of its own.
    """
    if not metric.euclidean:
        far = np.abs(points).max(axis=1, keepdims=True, initial=0)
        scale = np.float64(coder.step * peak_of(points.shape[1])) / np.where(far > 0, far, 1)
        points = (points * scale).astype(np.float32)
    return encode(points, coder)


def reach_of(spec: SearchSpec, metric: Metric, width: int, exact: bool, coder: Coder) -> Reach:
    """How far a search for so many candidates goes."""
    squared = metric.euclidean and not (exact and is_linear(metric))
    pool = spec.pool() if spec.ef is not None else max(spec.pool(), width)
    # Rows of the same codes may differ; who asks by such codes looks at what they come to.
    certain = exact or coder.exact or metric.form == "inner"
    from_zero = metric.euclidean and metric.name != CUSTOM and certain
    return Reach(spec.followed(metric, width), spec.factor(squared), pool, from_zero)


def is_linear(metric: Metric) -> bool:
    """Whether a judge keeps distances that grow as lengths do, not their squares."""
    return metric.judged and metric.form != "bits"


def walk(
    rows: Coded | Exact,
    asked: Asked,
    edges: np.ndarray,
    first: int,
    entries: np.ndarray,
    reach: Reach,
    width: int,
    metric: Metric,
    allowed: np.ndarray = EVERYBODY,
    wanted: np.ndarray = NOBODY,
) -> np.ndarray:
    """Candidates by a search along the edges: int32[m, width], positions in the part, -1 where there are no more.

    rows: of the part that begins at position `first`, as they are compared; the other arguments as `search` has them.
    """
    found = np.empty((len(entries), width), np.int32)
    searched = Searched(rows, edges, first, allowed)
    search(searched, queries_for(rows, asked, metric), entries, reach, wanted, found)
    return found


def queries_for(rows: Coded | Exact, asked: Asked, metric: Metric) -> Codes | Exact:
    """The queries as rows like these are compared with them."""
    if isinstance(rows, Exact):
        return Exact(asked.judged, rows.form)
    own = asked.rows
    squares = own.squares if metric.euclidean else np.zeros_like(own.squares)
    return Codes(own.values, squares, own.points.shape[1] - (not metric.euclidean))


def entries_in(piece: np.ndarray, wanted: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The first few pivots of each row that are of the piece it wants: int32[m, p], -1 for the others.

    piece, near: int64[m, p], of each pivot, the nearest first; wanted: int64[m].
    """
    own = piece == wanted[:, None]
    return np.where(own & (np.cumsum(own, axis=1) <= ENTRIES), near, -1).astype(np.int32)


def first_distinct(place: np.ndarray) -> np.ndarray:
    """The first VISITED different numbers of each row, int64[m, VISITED], -1 where there are fewer, as for none."""
    visited = np.full((len(place), VISITED), -1, np.int64)
    count = np.zeros(len(place), np.int64)
    for column in place.T:
        new = (column >= 0) & (count < VISITED) & (visited != column[:, None]).all(axis=1)
        visited[new, count[new]] = column[new]
        count[new] += 1
    return visited
