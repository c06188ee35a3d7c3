"""Views of a finished graph for other tools, and what is checked and measured of it, one block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import sparse

from ..kernels.merge import fold
from ..kernels.neighbours import Lists, empty
from ..kernels.random import seed_of
from ..kernels.rows import Form
from ..kernels.sparse_distances import SparseRows
from ..storage import graph
from ..storage.mailbox import strips
from ..storage.source import Source, SparseSource, open_for
from ..values.errors import SpecError, StoreError, brief
from ..values.memory import strip_rows
from ..values.metric import CUSTOM, Metric, metric_behind
from ..values.plan import Shift
from ..values.points import Csr, together
from ..values.recall import Recall, as_near_as, estimate_recall
from ..values.spec import read_as
from .measured import one_blas_thread
from .points import Ruler
from .probe import nearest_in_block
from .row_order import in_order

Function = Callable[..., float] | None
T = TypeVar("T")
# Metrics by which the nearest row may be at less than nothing.
MAY_BE_NEGATIVE = ("inner_product", CUSTOM)
VERIFY, MEASURE = 5, 6  # what random rows are drawn for: a part of their seed, after those of a build
MODES = ("distance", "connectivity")
# An edge of one direction stays as it is, one of two has two values to choose from.
HOWS = {"max": np.maximum, "min": np.minimum, "mean": np.add}


# --- the graph in other shapes ---------------------------------------------------------------------------


def to_numpy(location: str, n: int, include_self: bool) -> tuple[np.ndarray, np.ndarray]:
    """The whole graph of `n` rows in memory, the caller's own: ids int64[n, k] and distances float32[n, k].

    include_self: k + 1 columns, the first of them each row itself at distance 0.
    StoreError names a chunk that is missing or damaged.
    """
    return _whole(location, n, include_self, np.dtype(np.int64))


def to_csr(location: str, n: int, include_self: bool, mode: str, dtype: Any = np.float32) -> sparse.csr_matrix:
    """The graph as scipy CSR [n, n], every row with the same number of entries in the order of distance.

    include_self: each row begins with itself, an explicit zero; mode: "distance", or "connectivity" where every entry
    is 1; dtype: float32 or float64. Indices are int32 where n and the number of entries allow it, else int64. SpecError
    for another mode or dtype.
    """
    if mode not in MODES:
        raise SpecError(f"mode={brief(mode)} is none of {', '.join(map(repr, MODES))}")
    try:
        kept = np.dtype(dtype)
    except TypeError:
        kept = None
    if dtype is None or kept not in (np.float32, np.float64):
        raise SpecError(f"dtype is float32 or float64, not {brief(dtype)}")
    width = graph.result_arrays(location)[0].shape[1] + include_self
    kind = index_dtype(n, n * width)
    ids, distances = _whole(location, n, include_self, kind)
    if mode == "connectivity":
        distances[:] = 1
    starts = np.arange(0, n * width + 1, width, dtype=kind)
    data = distances.ravel().astype(kept, copy=False)
    return in_order(sparse.csr_matrix((data, ids.ravel(), starts), shape=(n, n)))


def index_dtype(n: int, entries: int) -> np.dtype[Any]:
    """The narrower of int32 and int64 that holds the ids of `n` rows and positions among so many entries."""
    return np.dtype(np.int32 if max(n, entries) <= np.iinfo(np.int32).max else np.int64)


def symmetrize(location: str, n: int, how: str) -> sparse.csr_matrix:
    """Distances as scipy CSR float32[n, n] with both directions of every edge, columns ascending.

    how: "max", "min" or "mean" of the two where the graph holds both. Distances of 0, those of duplicates, stay as
    explicit entries. SpecError for another `how`.
    """
    if how not in HOWS:
        raise SpecError(f"how={brief(how)} is none of {', '.join(map(repr, HOWS))}")
    there = to_csr(location, n, include_self=False, mode="distance")
    both = sparse.hstack([there, there.T.tocsr()], format="csr")
    # Sums, maxima and minima of sparse matrices drop zeros: lay both directions side by side and reduce them here.
    both.indices %= n
    both.has_sorted_indices = False
    both.sort_indices()
    first = np.ones(both.nnz, bool)
    first[1:] = both.indices[1:] != both.indices[:-1]
    first[both.indptr[:-1]] = True
    starts = np.flatnonzero(first)
    distances = HOWS[how].reduceat(both.data, starts)
    if how == "mean":
        distances /= np.diff(starts, append=both.nnz)
    row_starts = np.searchsorted(starts, both.indptr).astype(both.indptr.dtype)
    return sparse.csr_matrix((distances, both.indices[starts], row_starts), shape=(n, n))


def _whole(location: str, n: int, include_self: bool, kind: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of dtype `kind` and distances float32 of all rows, after a column of the rows themselves if so wished."""
    at = int(include_self)
    width = graph.result_arrays(location)[0].shape[1] + at
    ids, distances = np.empty((n, width), kind), np.empty((n, width), np.float32)
    ids[:, :at], distances[:, :at] = np.arange(n)[:, None], 0
    for first, block_ids, block_distances in graph.result_blocks(location):
        rows = slice(first, first + len(block_ids))
        ids[rows, at:], distances[rows, at:] = block_ids, block_distances
    return ids, distances


# --- is it sound? ----------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """Random rows as a graph holds them. rows: int64[p], ascending; ids: int64[p, k]; distances: float32[p, k]."""

    rows: np.ndarray
    ids: np.ndarray
    distances: np.ndarray


def unseen(items: Iterable[T], total: int) -> Iterable[T]:
    """The items as they are."""
    return items


def verify(
    location: str,
    facts: dict[str, Any],
    source: Any,
    rows: int,
    function: Function = None,
    seen: Callable[[Iterable[Any], int], Iterable[Any]] = unseen,
) -> dict[str, Any]:
    """Read every chunk of the graph, a block at a time, and hold each row against what was promised of it.

    source: the points, or None. With them the distances of `rows` random rows are recomputed, which takes the memory
    of these rows and their neighbours. function: the metric of the user's own, if the graph is of one. seen: passes on
    the blocks, of which it is told how many there are, and shows how many were read. Returns n, n_neighbors, chunks,
    bytes and rows recomputed. StoreError names the chunk, or the row, and what is wrong, or says that the points are
    not those of the graph. SpecError for rows < 0.
    """
    if rows < 0:
        raise SpecError(f"rows={rows}: the number of rows to recompute cannot be below 0")
    n, k = facts["n"], facts["n_neighbors"]
    seed = seed_of(facts["spec"]["random_state"], VERIFY)
    sample = no_sample(n, k, 0 if source is None else rows, seed)
    blocks = 0
    total = -(-n // graph.result_arrays(location)[0].chunks[0])
    for first, ids, distances in seen(sound_blocks(location, facts), total):
        keep(sample, first, ids, distances)
        blocks += 1
    if source is not None:
        with same_points(location, facts, source) as points:
            compare(location, points, ruler_of(facts, function), sample)
    return {"n": n, "n_neighbors": k, "chunks": 2 * blocks, "bytes": 12 * n * k, "recomputed": len(sample.rows)}


def sound_blocks(location: str, facts: dict[str, Any]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The finished graph block by block (see storage.graph.result_blocks); StoreError where it breaks a promise."""
    graph.check_result(location, facts)
    for first, ids, distances in graph.result_blocks(location):
        fault = broken_promise(ids, distances, first, facts["n"], metric_behind(facts))
        if fault is not None:
            raise StoreError(f"{location}: {fault}; restore it from a copy, or build the graph again")
        yield first, ids, distances


def broken_promise(ids: np.ndarray, distances: np.ndarray, first: int, n: int, metric: Metric) -> str | None:
    """What is wrong with the rows from `first` on, told of the first row it is wrong with; None if nothing is.

    ids: int64[m, k]; distances: float32[m, k]; n: rows of the graph.
    """
    ordered = np.sort(ids, axis=1)
    nearer, farther = distances[:, :-1], distances[:, 1:]
    faults = {
        "an id that is no row": (ids < 0) | (ids >= n),
        "itself among its neighbours": ids == np.arange(first, first + len(ids))[:, None],
        "a neighbour twice": ordered[:, 1:] == ordered[:, :-1],
        "a distance that is not finite": ~np.isfinite(distances),
        "a distance below 0": (distances < 0) & (metric.name not in MAY_BE_NEGATIVE),
        "neighbours out of order": (nearer > farther) | ((nearer == farther) & (ids[:, :-1] > ids[:, 1:])),
    }
    for fault, places in faults.items():
        rows = np.flatnonzero(places.any(axis=1))
        if rows.size:
            row = int(rows[0])
            return f"row {first + row} has {fault}: ids {ids[row].tolist()} at {distances[row].tolist()}"
    return None


def no_sample(n: int, k: int, count: int, seed: int) -> Sample:
    """`count` random rows of `n`, or all of them if there are fewer, whose neighbours are still to be read."""
    count = min(count, n)
    rows = np.sort(np.random.default_rng(seed).choice(n, count, replace=False))
    return Sample(rows, np.empty((count, k), np.int64), np.empty((count, k), np.float32))


def keep(sample: Sample, first: int, ids: np.ndarray, distances: np.ndarray) -> None:
    """Put what a block from row `first` on holds of the sampled rows into the sample."""
    mine = slice(*np.searchsorted(sample.rows, (first, first + len(ids))))
    sample.ids[mine] = ids[sample.rows[mine] - first]
    sample.distances[mine] = distances[sample.rows[mine] - first]


def compare(location: str, points: Source | SparseSource, ruler: Ruler, sample: Sample) -> None:
    """StoreError unless the points give the distances of the sample again, up to how float32 rounds a sum."""
    distances, slack = recompute(points, ruler, sample)
    far = np.abs(distances - sample.distances) > slack
    if far.any():
        row, slot = (int(place) for place in np.argwhere(far)[0])
        raise StoreError(
            f"{location}: row {sample.rows[row]} has neighbour {sample.ids[row, slot]} at "
            f"{sample.distances[row, slot]}, but the points say {distances[row, slot]}; build the graph again"
        )


def recompute(points: Source | SparseSource, ruler: Ruler, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The distances of the sample as this machine reckons them, and how far apart another may be: float32[p, k] each.

    The same terms may be added in another order there: twice the error bound of such a sum.
    """
    wanted = np.unique(np.concatenate([sample.rows, sample.ids.ravel()]))
    others = ruler.hold(points_at(points, wanted), only_judged=True)
    own, judge = np.searchsorted(wanted, sample.rows), ruler.judge(others)
    lists = empty(*sample.ids.shape)
    lists.ids[:] = np.searchsorted(wanted, sample.ids)
    judge.measure(lists, 0, len(own), judge.of(own))
    distances = ruler.finish(lists.distances)
    scale, columns = np.abs(distances), judge.form.columns
    if isinstance(judge.rows, SparseRows):
        columns = 2 * int(np.diff(judge.rows.starts).max(initial=0))
    if isinstance(judge.form, Form) and not judge.form.euclidean:
        norms = np.linalg.norm(others.points[:, :columns], axis=1)
        scale = norms[own, None] * norms[lists.ids]
    return distances, scale * np.float32((columns + 4) * np.finfo(np.float32).eps) + np.float32(1e-20)


# --- how good is it? -------------------------------------------------------------------------------------


def measure_recall(
    location: str, facts: dict[str, Any], source: Any, probes: int, random_state: int, function: Function = None
) -> Recall:
    """The recall of the graph on `probes` random rows, drawn afresh and solved exactly against all points of `source`.

    A neighbour counts if it is as near as the k-th true one. Reads the graph once and the points twice, block by block,
    and holds the probe rows and their neighbours. SpecError for probes < 1 or random_state < 0, StoreError if the graph
    is damaged or the points are not those it was built of. function: as in verify.
    """
    if probes < 1 or random_state < 0:
        raise SpecError(f"probes={probes} must be at least 1, random_state={random_state} at least 0")
    k, ruler = facts["n_neighbors"], ruler_of(facts, function)
    sample = no_sample(facts["n"], k, probes, seed_of(random_state, MEASURE))
    with same_points(location, facts, source) as points:
        for first, ids, distances in sound_blocks(location, facts):
            keep(sample, first, ids, distances)
        # Not the distances of the graph: with numbers of one machine alone, ties are ties.
        distances, _ = recompute(points, ruler, sample)
        true = nearest(points, ruler, k, sample.rows).distances[:, -1:]
    true = ruler.finish(true)
    shares = (distances <= as_near_as(true)).mean(axis=1)
    return estimate_recall(len(shares), float(shares.sum()), float((shares * shares).sum()), k)


def nearest(points: Source | SparseSource, ruler: Ruler, k: int, rows: np.ndarray) -> Lists:
    """The k nearest of all points to each of the given rows but itself: ids int64[p, k], as lists hold distances."""
    probes = ruler.hold(points_at(points, rows), only_judged=True)
    everyone = np.arange(len(rows), dtype=np.int32)
    lists = empty(len(rows), k, np.int64)
    for first, last in blocks_of(points):
        block = ruler.hold(points.read(first, last), only_judged=True)
        with one_blas_thread():
            found = nearest_in_block(probes, block, ruler, k, rows, first)
        fold(lists, everyone, found.ids, found.distances)
    return lists


# --- the points behind a graph ---------------------------------------------------------------------------


def ruler_of(facts: dict[str, Any], function: Function) -> Ruler:
    """What measures the points behind a graph; SpecError where that is a function of the user's own that is missing."""
    if facts["metric"] == CUSTOM and function is None:
        raise SpecError(
            "this graph was built by a metric of your own, which is not stored with it; "
            "give it when you open the graph: open_graph(location, metric=function)"
        )
    # The radius only serves routing, and distances do not see it.
    return Ruler(metric_behind(facts), facts["d"], zero_rows=True, radius=0.0, function=function, shift=Shift.of(facts))


@contextmanager
def same_points(location: str, facts: dict[str, Any], source: Any) -> Iterator[Source | SparseSource]:
    """The points of the graph at `location`, opened; StoreError unless `source` are the very same.

    Of a lazy array no more is known than its shape: then only that is compared.
    """
    points = open_for(source, None, metric_behind(facts), dtype=read_as(facts))
    try:
        now, then = points.fingerprint(), facts["source"]["fingerprint"]
        if now["shape"] != then["shape"] or (now != then and "dask" not in (now["kind"], then["kind"])):
            raise StoreError(
                f"the points at {points.location} changed since the graph at {location} was built of them, "
                "or it was built of others; build it again"
            )
        yield points
    finally:
        if points is not source:
            points.release()


def blocks_of(points: Source | SparseSource) -> Iterator[tuple[int, int]]:
    """First row and end of each block to read in turn: whole chunks of the source, several if they are small."""
    chunk = points.chunk_rows
    if isinstance(points, SparseSource):
        return strips(0, points.n, chunk)
    return strips(0, points.n, -(-strip_rows(points.d) // chunk) * chunk)


def points_at(points: Source | SparseSource, rows: np.ndarray) -> np.ndarray | Csr:
    """The points of the given ascending row ids, [p, d], gathered in one pass over the source."""
    if isinstance(points, SparseSource):
        cuts = ((first, last, np.searchsorted(rows, (first, last))) for first, last in blocks_of(points))
        return together([points.read(a, b).take(rows[i:j] - a) for a, b, (i, j) in cuts if i < j])
    chosen = np.empty((len(rows), points.d), points.dtype)
    for first, last in blocks_of(points):
        mine = slice(*np.searchsorted(rows, (first, last)))
        if mine.start < mine.stop:
            chosen[mine] = points.read(first, last)[rows[mine] - first]
    return chosen
