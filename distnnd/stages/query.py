"""Answering: a batch of queries against an index, whole or by the partitions nearest to each query."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..kernels.bit_distances import BitRows
from ..kernels.codes import Coder, beyond, coded_form, trusted
from ..kernels.compared import Coded, Exact, offer_all, with_words
from ..kernels.judge import Judge, judge_of
from ..kernels.merge import fold
from ..kernels.neighbours import Lists, empty, sort_rows
from ..kernels.prune import SLACK, diversify
from ..kernels.ranges import even_cuts
from ..kernels.rows import stays_narrow
from ..kernels.signposts import compare_all
from ..kernels.transforms import check_rows, surrogates_near
from ..storage import index as store
from ..values.errors import InputError, SpecError
from ..values.metric import CUSTOM, Metric
from ..values.searching import AT_ONCE, EXHAUSTED, FEW_ALLOWED, SIGHT, IndexLayout, SearchSpec
from .coder import TELLING
from .measured import one_blas_thread, side_by_side
from .points import Ruler
from .views import ruler_of
from .walk import (
    EVERYBODY,
    NOBODY,
    Asked,
    Pivots,
    as_rows,
    coded_queries,
    entries_in,
    first_distinct,
    pivots_of,
    reach_of,
    walk,
)


class Part(NamedTuple):
    """A range of positions, ready to be searched: its codes, edges, who judges its exact rows, and their row ids."""

    first: int
    last: int
    coded: Coded
    edges: np.ndarray
    judge: Judge
    order: np.ndarray

    def compared(self, exact: bool) -> Coded | Exact:
        """Its rows as a search compares them."""
        return Exact(*self.judge) if exact else self.coded


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
        self.exact = facts.get("compares") == "rows"
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
        part = Part(first, last, with_words(codes), edges, self.judge_of(rows), order)
        if self.whole:
            self._whole = part
        return part

    def judge_of(self, rows: np.ndarray) -> Judge:
        """Who settles answers among some rows of the index, as these are stored."""
        return judge_of(rows, rows if self.metric.judged else None, self.metric, self.layout.d, self.function)

    def pivots(self) -> Pivots:
        """The pivots, read when they are first asked for."""
        if self._pivots is None:
            at = self.arrays.rows("pivots")
            step = self.layout.n if self.whole else self.layout.rows
            codes, rows = [], []
            for first in range(0, self.layout.n, step):
                mine = at[(at >= first) & (at < first + step)] - first
                for name, parts in (("codes", codes), ("rows", rows)):
                    parts.append(self.arrays.rows(name, first, min(first + step, self.layout.n))[mine])
            judge, pieces = self.judge_of(np.concatenate(rows)), self.arrays.rows("pieces")
            self._pivots = pivots_of(at, pieces, np.concatenate(codes), self.coder, self.metric, judge)
        return self._pivots


# --- queries ---------------------------------------------------------------------------------------------


def check_queries(queries: np.ndarray, facts: dict[str, Any], metric: Metric, first: int = 0) -> np.ndarray:
    """The queries as the index takes them, [m, d]; InputError says what is wrong with them, and the first bad row.

    first: number of queries[0] among all that were asked.
    """
    queries, d, dtype = np.asarray(queries), facts["d"], np.dtype(facts["dtype"])
    if queries.ndim != 2 or queries.shape[1] != d:
        remedy = "; write queries[None] for a single one" if queries.shape == (d,) else ""
        raise InputError(f"queries have shape {queries.shape}, but the index holds rows of {d} columns{remedy}")
    if queries.dtype.kind not in "fiub":
        raise InputError(f"queries of dtype {queries.dtype} cannot be compared; the index holds {dtype}")
    if queries.dtype.kind == "f" and metric.name != "nan_euclidean" and not np.isfinite(queries).all():
        row, column = np.argwhere(~np.isfinite(queries))[0].tolist()
        raise InputError(
            f"query {first + row}, column {column} holds {queries[row, column]}; leave the row out or fill it"
        )
    if queries.dtype != dtype:
        queries = converted(queries, dtype, metric.form == "bits" or stays_narrow(metric, dtype, d))
    if metric.name != CUSTOM:
        check_rows(queries, metric, first)
    return np.ascontiguousarray(queries)


def converted(queries: np.ndarray, dtype: np.dtype[Any], only: bool) -> np.ndarray:
    """Queries of another dtype than the index; InputError where it takes its own `only` and values would change."""
    if dtype == np.float64:
        return queries.astype(dtype)
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
    result = search_for(opened, queries, spec, allowed).result
    distances = opened.ruler.finish(result.distances)
    distances[result.ids < 0] = np.inf
    if spec.radius is not None:
        result.ids[distances > spec.radius], distances[distances > spec.radius] = -1, np.inf
    # Different surrogates may round to one distance: order by (distance, id) again.
    sort_rows(Lists(result.ids, distances, result.state), 0, len(distances))
    return result.ids[:, : spec.k].copy(), distances[:, : spec.k].copy()


def search_for(
    opened: Opened, queries: np.ndarray, spec: SearchSpec, allowed: np.ndarray | None, hidden: np.ndarray | None = None
) -> Search:
    """The search for a batch of queries, done. hidden: int64[m], the position of a row that each must not meet."""
    held = opened.ruler.hold(queries)
    raw = BitRows(held.raw) if opened.metric.form == "bits" else held.points if held.raw is None else held.raw
    asked = Asked(coded_queries(held.points, opened.coder, opened.metric), raw)
    search = Search(opened, spec, asked, allowed, hidden)
    # However long a query is, codes of its own step reach it.
    exact = beyond(held.points, opened.coder) & opened.metric.euclidean | opened.exact
    search.by(np.flatnonzero(~exact), exact=False)
    exact[search.doubtful()] = True
    search.doubts = int(exact.sum())
    search.by(np.flatnonzero(exact), exact=True)
    search.complete()
    return search


def try_rows(opened: Opened, queries: np.ndarray) -> None:
    """Search for queries by exact rows, and prune a few of these, whatever codes tell: for what this compiles."""
    points, opened.exact = check_queries(queries, opened.facts, opened.metric), True
    for allowed in (None, np.ones(opened.layout.n, np.uint8)):
        search_for(opened, points, SearchSpec(), allowed)
    ids, rows = np.ones((2, 2), np.int32), np.arange(2, dtype=np.int32)
    diversify(opened.part(0, opened.layout.n).compared(True), ids, SLACK, 1.0, 0, rows, ids.copy())


class Search:
    """A batch of queries on its way. result: their lists so far; doubts: how many queries exact rows were asked for."""

    def __init__(
        self,
        opened: Opened,
        spec: SearchSpec,
        asked: Asked,
        allowed: np.ndarray | None = None,
        hidden: np.ndarray | None = None,
    ) -> None:
        """The arguments are those of search_for."""
        self.opened, self.spec, self.asked, self.allowed, self.hidden = opened, spec, asked, allowed, hidden
        self.width = spec.candidates(opened.metric, opened.layout.n)
        count = len(asked.rows.values)
        self.result, self.doubts = empty(count, self.width, np.int64), 0
        # How near the nearest answer is that codes would almost have missed.
        self.late = np.full(count, np.inf, np.float32)

    def by(self, mine: np.ndarray, exact: bool) -> None:
        """Search for some of the queries along the edges, by codes or by exact rows."""
        for part, there, entries in visits(self.opened, self.asked.some(mine), exact) if len(mine) else ():
            self.look(part, mine[there], entries, exact)
            del part

    def look(self, part: Part, mine: np.ndarray, entries: np.ndarray | None, exact: bool) -> None:
        """Take in what a part holds for some of the queries; entries: None to compare all of it."""
        opened, asked, hidden = self.opened, self.asked.some(mine), self._hidden_in(part, mine)
        allowed = None if self.allowed is None else self.allowed[part.first : part.last]
        if entries is None or (allowed is not None and is_few(allowed)):
            lists = exhaust(opened, part, asked, self.width, allowed, exact)
            if len(hidden):
                lists.ids[lists.ids == -2 - hidden[:, None]] = -1
        else:
            reach = reach_of(self.spec, opened.metric, self.width, exact, opened.coder)
            mask = EVERYBODY if allowed is None else allowed
            rows = part.compared(exact)
            found = walk(rows, asked, part.edges, part.first, entries, reach, self.width, opened.metric, mask, hidden)
            lists = as_lists(found)
        part.judge.measure(lists, 0, len(mine), asked.judged)
        if not exact and not opened.coder.exact:
            last = lists.distances[:, self.width - (self.width - self.spec.k) // 2 :]
            self.late[mine] = np.minimum(self.late[mine], last.min(axis=1, initial=np.inf))
        sort_rows(lists, 0, len(mine))
        ids = np.where(lists.ids >= 0, part.order[np.maximum(lists.ids, 0)], -1)
        fold(self.result, mine.astype(np.int64), ids, lists.distances)

    def _hidden_in(self, part: Part, mine: np.ndarray) -> np.ndarray:
        """The rows of a part that some queries must not meet, as `search` takes them."""
        if self.hidden is None:
            return NOBODY
        at = self.hidden[mine] - part.first
        return np.where((at >= 0) & (at < part.last - part.first), -2 - at, -1).astype(np.int32)

    def doubtful(self) -> np.ndarray:
        """The queries whose answers codes cannot tell from others: they are too near, or almost were no candidates.

        Where the layout is another metric than what it selects for, neither says anything of codes.
        """
        metric, coder = self.opened.metric, self.opened.coder
        if metric.form != "inner" or coder.exact:
            return NOBODY
        farthest = self.result.distances[:, self.spec.k - 1]
        doubtful = self.late < farthest
        if metric.euclidean:
            # Where too few were found the last is at infinity, which no angle is.
            with np.errstate(invalid="ignore"):
                near = surrogates_near(farthest, metric) if metric.judged else farthest
            doubtful |= (near > 0) & (near < TELLING * coder.step**2)
        return np.flatnonzero(doubtful)

    def complete(self) -> None:
        """Compare all rows where edges do not lead to the answers: seldom, and never in vain."""
        there = self.opened.layout.n if self.allowed is None else int(self.allowed.sum())
        if not there:
            return
        last = min(self.spec.k, there) - 1
        lost = self.result.ids[:, last] < 0
        if not self.opened.metric.euclidean:
            # Edges lead to large products; where these are below nothing, they lead astray.
            lost |= (self.result.distances[:, last] >= 0) & (self.asked.rows.values.any(axis=1))
        mine = np.flatnonzero(lost)
        for first, end in parts_of(self.opened) if len(mine) else ():
            self.look(self.opened.part(first, end), mine, None, self.opened.exact)


def parts_of(opened: Opened) -> list[tuple[int, int]]:
    """First position and end of all that is opened at a time."""
    layout = opened.layout
    return [(0, layout.n)] if opened.whole else [layout.range_of(part) for part in range(layout.partitions)]


def visits(opened: Opened, asked: Asked, exact: bool) -> Iterator[tuple[Part, np.ndarray, np.ndarray]]:
    """The parts to search, the queries that go to each, and where each of them begins: int32[m, e], -1 for none."""
    pivots = opened.pivots()
    near, piece = pivots.near(asked, pivots.wanted if opened.whole else SIGHT * opened.layout.partitions, exact)
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


def is_few(allowed: np.ndarray) -> bool:
    """Whether so few rows are allowed that it is cheaper to compare them all than to walk past the others."""
    share, most = FEW_ALLOWED
    return int(allowed.sum()) <= max(most, int(share * len(allowed)))


def exhaust(opened: Opened, part: Part, asked: Asked, width: int, allowed: np.ndarray | None, exact: bool) -> Lists:
    """Candidates from all rows that are allowed; their distances are still to be measured."""
    at = np.arange(part.last - part.first) if allowed is None else np.flatnonzero(allowed)
    count = len(asked.rows.values)
    everyone, result = np.arange(count, dtype=np.int32), empty(count, width, np.int64)
    for first in range(0, len(at), EXHAUSTED):
        some = at[first : first + EXHAUSTED]
        lists = empty(count, min(width, len(some)))
        if exact:
            rows = Exact(part.judge.of(some), part.judge.form)
            offer_all(rows, Exact(asked.judged, rows.form), len(some), lists)
        else:
            others = as_rows(part.coded.codes[some], opened.coder, opened.metric)
            form = trusted(coded_form(opened.metric, others, opened.coder))
            compare_all(asked.rows, everyone, others, form, lists)
        ids = np.where(lists.ids >= 0, some[np.maximum(lists.ids, 0)], -1)
        fold(result, everyone.astype(np.int64), ids, lists.distances)
    return as_lists(result.ids.astype(np.int32))


def as_lists(found: np.ndarray) -> Lists:
    """Candidates, int32[m, w], as lists whose distances are still to be measured."""
    return Lists(found, np.full(found.shape, np.inf, np.float32), np.zeros(found.shape, np.uint8))


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
