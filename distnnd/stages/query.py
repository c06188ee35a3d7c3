"""Answering: a batch of queries against an index, whole or by the partitions nearest to each query."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..kernels import search as kernels
from ..kernels.bit_distances import BitRows
from ..kernels.codes import Coder, Rows, coded_form, encode, trusted
from ..kernels.judge import judge_of
from ..kernels.merge import fold
from ..kernels.neighbours import Lists, empty, sort_rows
from ..kernels.prune import Coded, with_words
from ..kernels.ranges import even_cuts
from ..kernels.rows import WORD, Form, finish, stays_narrow
from ..kernels.signposts import Signposts, compare_all, find_pivots, signposts_of
from ..kernels.transforms import check_rows
from ..storage import index as store
from ..values.errors import InputError, SpecError
from ..values.metric import CUSTOM, Metric
from ..values.searching import AT_ONCE, ENTRIES, EXHAUSTED, FEW_ALLOWED, PIECES, SIGHT, VISITED, IndexLayout, SearchSpec
from .measured import one_blas_thread, side_by_side
from .points import Ruler
from .views import ruler_of

# No query wants a certain row.
NOBODY = np.empty(0, np.int32)


class Part(NamedTuple):
    """A range of positions, ready to be searched: its codes, edges, exact rows, and their row ids."""

    first: int
    last: int
    coded: Coded
    edges: np.ndarray
    rows: np.ndarray
    order: np.ndarray


class Pivots(NamedTuple):
    """Where searches begin. at: positions, int64[p]; pieces: int64[p], what is reached together in the whole.

    signposts: the way to them; form: how queries are compared with them, by estimates.
    """

    at: np.ndarray
    pieces: np.ndarray
    signposts: Signposts
    form: Form

    @property
    def wanted(self) -> int:
        """How many a query looks at, if all of the graph is at hand."""
        return PIECES if (self.pieces != self.pieces[0]).any() else ENTRIES

    def near(self, rows: Rows, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The positions and the pieces of those nearest to some rows, the nearest first: int64[m, count], -1 for none.

        Fewer columns where there are fewer pivots.
        """
        lists = empty(len(rows.points), min(count, len(self.at)))
        find_pivots(rows, np.arange(len(rows.points), dtype=np.int32), self.signposts, self.form, lists)
        at = np.maximum(lists.ids, 0)
        at, pieces = (np.where(lists.ids >= 0, part[at], -1).astype(np.int64) for part in (self.at, self.pieces))
        return at, pieces


class Opened:
    """An index as one process holds it: what every query needs; parts are mapped when they are first asked for.

    room: bytes that may be kept of what cannot be mapped, None for all of it.
    """

    def __init__(
        self,
        location: str,
        facts: dict[str, Any],
        whole: bool,
        function: Callable[..., float] | None,
        room: int | None = None,
    ) -> None:
        self.location, self.facts, self.whole, self.function = location, facts, whole, function
        self.room, self.arrays = room, store.Reader(location, room)
        self.layout = IndexLayout(**facts["layout"])
        self.ruler: Ruler = ruler_of(facts, function)
        coder = facts["coder"]
        self.coder = Coder(np.array(coder["centre"], np.float32), coder["step"], coder["exact"], coder["cuts"])
        self._whole: Part | None = None
        self._pivots: Pivots | None = None

    @property
    def metric(self) -> Metric:
        """The metric of the index."""
        return self.ruler.metric

    def part(self, first: int, last: int) -> Part:
        """A range of the index, mapped or read."""
        if self.whole and self._whole is not None:
            return self._whole
        codes, edges, rows, order = (
            self.arrays.rows(name, first, last) for name in ("codes", "edges", "rows", "order")
        )
        part = Part(first, last, with_words(codes), edges, rows, order)
        if self.whole:
            self._whole = part
        return part

    def pivots(self) -> Pivots:
        """The pivots, read when they are first asked for."""
        if self._pivots is None:
            at = self.arrays.rows("pivots")
            step = self.layout.n if self.whole else self.layout.rows
            codes = []
            for first in range(0, self.layout.n, step):
                part = self.arrays.rows("codes", first, min(first + step, self.layout.n))
                codes.append(part[at[(at >= first) & (at < first + step)] - first])
            pieces = self.arrays.rows("pieces")
            self._pivots = pivots_of(at, pieces, np.concatenate(codes), self.coder, self.metric)
        return self._pivots


def pivots_of(at: np.ndarray, pieces: np.ndarray, codes: np.ndarray, coder: Coder, metric: Metric) -> Pivots:
    """Pivots at these positions, with their pieces and codes, and the way to them."""
    rows = as_rows(codes, coder, metric)
    form = trusted(coded_form(metric, rows, coder))
    return Pivots(at, pieces, signposts_of(rows, form), form)


def as_rows(codes: np.ndarray, coder: Coder, metric: Metric) -> Rows:
    """Rows of the index, whose codes are int8[m, w], as other kernels compare them by estimates alone."""
    columns = len(coder.centre)
    inner = columns - (not metric.euclidean)
    values = np.zeros((len(codes), -(-columns // WORD) * WORD), np.int8)
    values[:, :inner] = codes[:, :inner]
    rows = encode(values, coder._replace(exact=True))
    # Estimates are never measured anew: the rows themselves only say their kind and how wide they are.
    return rows._replace(points=np.zeros((len(codes), columns), np.int8 if coder.exact else np.float32))


# --- queries ---------------------------------------------------------------------------------------------


def check_queries(queries: np.ndarray, facts: dict[str, Any], metric: Metric) -> np.ndarray:
    """The queries as the index takes them, [m, d]; InputError says what is wrong with them, and the first bad row."""
    queries, d, dtype = np.asarray(queries), facts["d"], np.dtype(facts["dtype"])
    if queries.ndim != 2 or queries.shape[1] != d:
        remedy = "; write queries[None] for a single one" if queries.shape == (d,) else ""
        raise InputError(f"queries have shape {queries.shape}, but the index holds rows of {d} columns{remedy}")
    if queries.dtype.kind not in "fiub":
        raise InputError(f"queries of dtype {queries.dtype} cannot be compared; the index holds {dtype}")
    if queries.dtype.kind == "f" and metric.name != "nan_euclidean" and not np.isfinite(queries).all():
        row, column = np.argwhere(~np.isfinite(queries))[0].tolist()
        raise InputError(f"query {row}, column {column} holds {queries[row, column]}; leave the row out or fill it")
    if queries.dtype != dtype:
        queries = converted(queries, dtype, metric.form == "bits" or stays_narrow(metric, dtype, d))
    if metric.name != CUSTOM:
        check_rows(queries, metric)
    return np.ascontiguousarray(queries)


def converted(queries: np.ndarray, dtype: np.dtype[Any], only: bool) -> np.ndarray:
    """Queries of another dtype than the index; InputError where it takes its own `only` and values would change."""
    with np.errstate(over="ignore", invalid="ignore"):
        same, wide = queries.astype(dtype), queries.astype(np.float32)
    if dtype.kind in "iu" and (same == queries).all():
        return same
    if only:
        raise InputError(
            f"queries are {queries.dtype} and do not fit {dtype}, which the index holds; convert them first"
        )
    if not np.isfinite(wide[np.isfinite(queries)]).all():
        raise InputError("queries hold numbers beyond float32; scale them as the points of the index were")
    return wide


def allowed_positions(opened: Opened, allowed: Any) -> np.ndarray:
    """Which positions may be answers, uint8[n], from a boolean array over the row ids or an array of ids.

    SpecError for another length, or an id that is none.
    """
    n = opened.layout.n
    allowed = np.asarray(allowed)
    if allowed.dtype == bool:
        if allowed.shape != (n,):
            raise SpecError(f"filter is boolean of shape {allowed.shape}, but the index holds {n} rows")
        by_id = allowed
    elif allowed.ndim == 1 and (allowed.dtype.kind in "iu" or not allowed.size):
        if allowed.size and not 0 <= int(allowed.min()) <= int(allowed.max()) < n:
            raise SpecError(f"filter names rows from {allowed.min()} to {allowed.max()}, but ids are 0 to {n - 1}")
        by_id = np.zeros(n, bool)
        by_id[allowed.astype(np.int64)] = True
    else:
        raise SpecError("filter is a boolean array over all rows, or an array of row ids")
    return by_id[opened.arrays.rows("order")].astype(np.uint8)


def answer(
    opened: Opened, queries: np.ndarray, spec: SearchSpec, allowed: np.ndarray | None = None, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows to each query: ids int64[m, k], distances float32[m, k], ascending by (distance, id).

    queries: of check_queries; allowed: of allowed_positions. -1 and inf where fewer are allowed, or lie in the radius.
    """
    if not len(queries):
        return np.empty((0, spec.k), np.int64), np.empty((0, spec.k), np.float32)
    with one_blas_thread(), side_by_side(threads) as each:

        def some(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
            return answer_some(opened, queries[first:last], spec, allowed)

        parts = max(-(-len(queries) // AT_ONCE), min(threads, len(queries)))
        answers = each(some, even_cuts(len(queries), parts))
    ids, distances = (np.concatenate(part) for part in zip(*answers, strict=True))
    return ids, distances


def answer_some(
    opened: Opened, queries: np.ndarray, spec: SearchSpec, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The same for one batch."""
    held = opened.ruler.hold(queries)
    rows = encode(held.points, opened.coder)
    asked = BitRows(held.raw) if opened.metric.form == "bits" else held.points if held.raw is None else held.raw
    width = spec.candidates(opened.metric, opened.layout.n)
    result = empty(len(queries), width, np.int64)

    def look(part: Part, mine: np.ndarray, entries: np.ndarray, everywhere: bool) -> None:
        if everywhere:
            found = exhaust(opened, part, chosen(rows, mine), width, allowed)
        else:
            found = walk(opened, part, chosen(rows, mine), entries, spec, width, allowed)
        lists = settle(opened, part, found, chosen_asked(asked, mine))
        ids = np.where(lists.ids >= 0, part.order[np.maximum(lists.ids, 0)], -1)
        fold(result, mine.astype(np.int64), ids, lists.distances)

    for part, mine, entries in visits(opened, rows):
        look(part, mine, entries, allowed is not None and is_few(allowed[part.first : part.last]))
        del part
    # Where a search ends with too few answers, on a small piece say, all rows are compared: seldom, and never in vain.
    there = opened.layout.n if allowed is None else int(allowed.sum())
    short = np.flatnonzero(result.ids[:, min(spec.k, there) - 1] < 0) if there else np.empty(0, np.int64)
    for first, last in parts_of(opened) if len(short) else ():
        look(opened.part(first, last), short, np.empty((len(short), 0), np.int32), True)
    distances = result.distances if opened.metric.judged else finish(result.distances, opened.metric)
    distances[result.ids < 0] = np.inf
    if spec.radius is not None:
        result.ids[distances > spec.radius], distances[distances > spec.radius] = -1, np.inf
    # Different surrogates may round to one distance: order by (distance, id) again.
    sort_rows(Lists(result.ids, distances, result.state), 0, len(distances))
    return result.ids[:, : spec.k].copy(), distances[:, : spec.k].copy()


def parts_of(opened: Opened) -> list[tuple[int, int]]:
    """First position and end of all that is opened at a time."""
    layout = opened.layout
    return [(0, layout.n)] if opened.whole else [layout.range_of(part) for part in range(layout.partitions)]


def chosen(rows: Rows, mine: np.ndarray) -> Rows:
    """Some of the queries."""
    return rows if len(mine) == len(rows.values) else Rows(*(np.ascontiguousarray(part[mine]) for part in rows))


def chosen_asked(asked: Any, mine: np.ndarray) -> Any:
    """The same as a judge takes them."""
    if isinstance(asked, tuple):
        return type(asked)(*(np.ascontiguousarray(part[mine]) for part in asked))
    return np.ascontiguousarray(asked[mine])


def visits(opened: Opened, rows: Rows) -> Iterator[tuple[Part, np.ndarray, np.ndarray]]:
    """The parts to search, the queries that go to each, and where each of them begins: int32[m, e], -1 for none."""
    pivots = opened.pivots()
    near, piece = pivots.near(rows, pivots.wanted if opened.whole else SIGHT * opened.layout.partitions)
    for first, last in parts_of(opened):
        inside = np.where((near >= first) & (near < last), piece, -1)
        visited = first_distinct(inside)
        if not (visited >= 0).any():
            continue
        # Not two of them at a time: room was made for one.
        part = None
        part = opened.part(first, last)
        # Each piece by itself: its pivots may lie beyond the bound that answers of another one set.
        for number in visited.T:
            mine = np.flatnonzero(number >= 0)
            if len(mine):
                yield part, mine, entries_in(inside[mine], number[mine], near[mine] - first)


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


def is_few(allowed: np.ndarray) -> bool:
    """Whether so few rows are allowed that it is cheaper to compare them all than to walk past the others."""
    share, most = FEW_ALLOWED
    return int(allowed.sum()) <= max(most, int(share * len(allowed)))


def walk(
    opened: Opened, part: Part, rows: Rows, entries: np.ndarray, spec: SearchSpec, width: int, allowed: Any
) -> np.ndarray:
    """Candidates by a search along the edges: int32[m, width], positions in the part, -1 where there are no more."""
    mask = np.zeros(0, np.uint8) if allowed is None else allowed[part.first : part.last]
    searched = kernels.Searched(part.coded, part.edges, part.first, mask)
    reach = reach_of(spec, opened.metric, opened.coder, width)
    found = np.empty((len(rows.values), width), np.int32)
    kernels.search(searched, rows.values, rows.squares, entries, reach, NOBODY, found)
    return found


def reach_of(spec: SearchSpec, metric: Metric, coder: Coder, width: int) -> kernels.Reach:
    """How far a search for so many candidates goes."""
    euclidean = metric.euclidean
    columns = len(coder.centre) - (not euclidean)
    return kernels.Reach(spec.followed(width), spec.factor(euclidean), spec.pool(), columns, euclidean)


def exhaust(opened: Opened, part: Part, rows: Rows, width: int, allowed: Any) -> np.ndarray:
    """The same by comparing all rows that are allowed."""
    mine = slice(part.first, part.last)
    at = np.arange(part.last - part.first) if allowed is None else np.flatnonzero(allowed[mine])
    count = len(rows.values)
    everyone, result = np.arange(count, dtype=np.int32), empty(count, width, np.int64)
    for first in range(0, len(at), EXHAUSTED):
        some = at[first : first + EXHAUSTED]
        others = as_rows(part.coded.codes[some], opened.coder, opened.metric)
        lists = empty(count, min(width, len(some)))
        compare_all(rows, everyone, others, trusted(coded_form(opened.metric, others, opened.coder)), lists)
        ids = np.where(lists.ids >= 0, some[np.maximum(lists.ids, 0)], -1)
        fold(result, everyone.astype(np.int64), ids, lists.distances)
    return result.ids.astype(np.int32)


def settle(opened: Opened, part: Part, found: np.ndarray, asked: Any) -> Lists:
    """The candidates with their exact distances, in order."""
    raw = part.rows if opened.metric.judged else None
    judge = judge_of(part.rows, raw, opened.metric, opened.layout.d, opened.function)
    lists = Lists(found, np.full(found.shape, np.inf, np.float32), np.zeros(found.shape, np.uint8))
    judge.settle(lists, 0, len(found), asked)
    return lists


RECORD = np.dtype([("ids", "<i8"), ("distances", "<f4")])


def side_by_side_of(ids: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """ids and distances [m, k] in one array of records, as one chunk of a lazy array."""
    both = np.empty(ids.shape, RECORD)
    both["ids"], both["distances"] = ids, distances
    return both


def apart(both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ids and distances of such an array."""
    return both["ids"], both["distances"]


def no_answers() -> np.ndarray:
    """Such an array without rows."""
    return np.empty((0, 0), RECORD)
