"""Compile every kernel that a build may call, before a fan-out: workers then find them on disk and compile nothing.

Kernels are compiled by calling them, so tiny builds are run, of each kind of metric and points: one where all pairs are
compared, one in one partition, one in several that exchange rows. Each graph is checked and measured in the end.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .graph import Graph, open_graph
from .indexing import ask_by_rows, build_index
from .kernels import apart
from .kernels.codes import coder_of, encode
from .kernels.groups import keep_range
from .kernels.jit import cache_dir, compiled_kernels, tally, told_of_compiling
from .kernels.kdtree import plant, rows_from_blocks, squares_from, walk
from .kernels.lanes import LANES
from .kernels.merge import permute
from .kernels.neighbours import empty
from .kernels.projection import project, projection_of, sampled
from .kernels.rows import prepare
from .kernels.settled import Cells, Seen, find_exact, find_unwanted
from .progress import listening
from .runtime.cluster import on_each_worker
from .runtime.events import Compiling, Listener, silent, told
from .runtime.serial import SerialExecutor
from .sources import Points
from .storage.source import Source, SparseSource, open_source
from .storage.sparse import open_parts
from .storage.spool import Spool
from .stream import carry_out
from .underway import Build
from .values.errors import DistnndError, SpecError
from .values.metric import METRICS, described, metric_of, of_sparse
from .values.plan import Layout
from .values.sparse_plan import check_sparse
from .values.spec import DTYPES, BuildSpec

# So many rows that one partition of them is more than one leaf.
ROWS, COLUMNS = 4400, 8
PROBES, SAMPLE = 64, 400
# Enough where only a judge is asked, who may be slow.
FEW = 160
_COST = np.abs(np.subtract.outer(np.arange(COLUMNS), np.arange(COLUMNS))).tolist()
# Parameters of metrics that do not go without.
EXAMPLES: dict[str, dict[str, Any]] = {
    "weighted_minkowski": {"p": 3, "w": [1.0] * COLUMNS},
    "minkowski": {"p": 3},
    "seuclidean": {"V": [1.0] * COLUMNS},
    "mahalanobis": {"VI": np.eye(COLUMNS).tolist()},
    "kantorovich": {"cost": _COST},
    "sinkhorn": {"cost": _COST},
}


@dataclass(frozen=True)
class Warmed:
    """What a process, and then each worker of a cluster, found and compiled.

    cache: directory of the compiled kernels on `host`; found, compiled: kernels by specialisations to argument types,
    that were on disk or are now; workers: the same of each, by its address.
    """

    host: str
    cache: str
    found: int
    compiled: int
    seconds: float
    workers: dict[str, Warmed] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)


def warmup(
    metrics: Iterable[str] | str | None = None,
    dtypes: Iterable[str] | str | None = None,
    client: Any = None,
    progress: Listener | bool | None = None,
) -> Warmed:
    """Compile what builds by these metrics on points of these dtypes need, unless it is on disk.

    metrics: by default euclidean, sqeuclidean, cosine and inner_product; most other metrics use the same kernels and a
    few of their own, so name those that you use. dtypes: by default all of dense points; "sparse" for sparse points.
    client: a Dask client, cluster or address, whose workers are warmed too, one of each host before the others; None
    for the current client, if there is one. progress: as for build().

    Raises SpecError for an unknown metric or dtype, and DistnndError where the kernels cannot be kept.
    """
    kinds = kinds_of(_several(metrics, METRICS), _several(dtypes, DTYPES))
    with listening(progress) as listen:
        here = warm_machine(kinds, listen)
    workers = on_each_worker(client, warm_machine, kinds)
    return Warmed(**{**asdict(here), "workers": workers})


def _several(names: Iterable[str] | str | None, everything: Iterable[str]) -> list[str]:
    """The names given as one or several, or else all."""
    return [names] if isinstance(names, str) else list(everything if names is None else names) or list(everything)


class Kind(NamedTuple):
    """Builds that call the same kernels: by this metric, on points of this dtype; params: JSON, for COLUMNS columns."""

    metric: str
    dtype: str
    params: str = "null"

    def spec(self) -> BuildSpec:
        """What such a build asks for."""
        dtype = None if self.sparse else self.dtype
        return BuildSpec(n_neighbors=5, metric=self.metric, metric_params=json.loads(self.params), dtype=dtype)

    @property
    def sparse(self) -> bool:
        """Whether the points are sparse."""
        return self.dtype == apart.LISTED

    @property
    def kernels(self) -> str:
        """The name of its kernels: those of the judge, where there is one."""
        return self.all_kernels[-1]

    @property
    def all_kernels(self) -> list[str]:
        """The names of all that it calls; rows of bits have a layout in an index only."""
        metric = self.spec().kind
        bits = [apart.PACKED] if metric.packed else []
        metric = metric_of(self.metric) if metric.packed else of_sparse(metric) if self.sparse else metric
        return [*bits, *apart.kinds_of(metric, self.dtype)]

    @property
    def compiled(self) -> list[str]:
        """The names of what its tiny builds compile in full."""
        return [self.kernels] + [apart.PACKED] * self.spec().kind.packed

    @classmethod
    def named(cls, kernels: str) -> Kind:
        """One that calls the kernels of that name."""
        if kernels.startswith("["):
            metric, dtype, params = json.loads(kernels)
            return cls(metric, dtype, json.dumps(params))
        if kernels == apart.PACKED:
            return cls("bit_hamming", "uint8")
        everything = (cls(metric, dtype) for metric in METRICS for dtype in DTYPES)
        return next(kind for kind in everything if kind.kernels == kernels)


def kinds_of(metrics: Iterable[str], dtypes: Iterable[str]) -> list[Kind]:
    """The builds that call all kernels between them; SpecError for a metric or dtype that does not exist.

    Kernels see prepared rows, so what is prepared alike and only finished otherwise needs no build of its own.
    """
    kinds: dict[str, Kind] = {}
    for dtype in dtypes:
        if dtype not in (*DTYPES, apart.LISTED):
            known = ", ".join([*DTYPES, apart.LISTED])
            raise SpecError(f"there are no points of dtype {dtype!r}; choose among {known}")
        for name in metrics:
            kind = Kind(name, dtype, json.dumps(EXAMPLES.get(described(name).name)))
            if kind.sparse:
                check_sparse(kind.spec().kind)
            if described(name).domain != "bits" or dtype == "uint8":
                for name in kind.all_kernels:
                    kinds.setdefault(name, kind if name == kind.kernels else Kind.named(name))
    return list(dict.fromkeys(kinds.values()))


def warm_machine(kinds: list[Kind], listen: Listener = silent) -> Warmed:
    """Compile in a process of its own what builds of these metrics and dtypes need, then find it on disk."""
    start = time.perf_counter()
    place_of_kernels()
    with told_of_compiling(lambda: listen(Compiling())):
        compiled = apart.ensure([kind.kernels for kind in kinds])
        warmed = warm_process(kinds, listen)
    now = {"found": warmed.found - compiled, "compiled": warmed.compiled + compiled}
    return Warmed(**{**asdict(warmed), **now, "seconds": time.perf_counter() - start})


def warm_process(kinds: list[Kind], listen: Listener = silent) -> Warmed:
    """Compile or find in this process what builds of these metrics and dtypes need; DistnndError if it is not kept."""
    place = place_of_kernels()
    before, start = tally(), time.perf_counter()
    with apart.in_this_process():
        tiny = [(kind, layout) for kind in kinds for layout in layouts(kind)]
        for kind, layout in told(listen, "warmup", tiny, len(tiny)):
            build_tiny(kind, layout)
        put_tiny()
        narrow_tiny()
        doubles = [np.float64] if any(kind.dtype == "float64" for kind in kinds) else []
        for dtype in (np.float32, np.int8, *doubles):
            walk_tiny(dtype)
    now = tally()
    new = now.since(before)
    if new.unsaved:
        raise DistnndError(
            f"{new.unsaved} of {new.compiled} compiled kernels could not be written to {place} on "
            f"{socket.gethostname()}; make room there, or set NUMBA_CACHE_DIR to another directory, and run it again"
        )
    for kind in kinds:
        for name in kind.compiled:
            apart.mark(name)
    found = now.found + now.compiled - new.compiled
    return Warmed(socket.gethostname(), str(place), found, new.compiled, time.perf_counter() - start)


def place_of_kernels() -> Path:
    """Where compiled kernels are kept; DistnndError if nowhere, not where the user wants them, or if there are none."""
    if not compiled_kernels():
        raise DistnndError("nothing is compiled while NUMBA_DISABLE_JIT is set; unset it")
    wanted, place = os.environ.get("NUMBA_CACHE_DIR"), cache_dir()
    if place is None:
        raise DistnndError(
            f"compiled kernels cannot be kept on {socket.gethostname()}: neither NUMBA_CACHE_DIR, the user's cache nor "
            "the temporary directory can be written; set NUMBA_CACHE_DIR to a directory of your own that can be"
        )
    if wanted and Path(wanted) != place.parent:
        raise DistnndError(
            f"NUMBA_CACHE_DIR={wanted} cannot be written by this user on {socket.gethostname()}, or others can write "
            f"to it; name another directory, or unset it, and kernels are kept in {place.parent}"
        )
    return place


def layouts(kind: Kind) -> list[Layout]:
    """Three ways to cut a few rows, which together go through every stage."""
    d = 2 if described(kind.metric).domain == "positions" else COLUMNS
    whole: dict[str, Any] = {"n": ROWS, "d": d, "dtype": "float32" if kind.sparse else kind.dtype, "cap": ROWS}
    if kind.sparse:
        whole |= {"entries": FEW * d, "block_entries": FEW * d}
    if kind.sparse or kind.spec().kind.judged:
        # Leaves and passes are those of another kind.
        whole |= {"n": FEW, "cap": FEW}
    return [
        Layout(**whole, block_rows=2048, exact=True),
        Layout(**whole, block_rows=2048, probes=PROBES),
        Layout(**whole, block_rows=1024, partitions=2, probes=PROBES, sample=min(SAMPLE, whole["n"] // 2)),
    ]


def build_tiny(kind: Kind, layout: Layout) -> None:
    """Build the graph of a few random rows, cut like that, in two rounds; check and measure it."""
    # Latitudes end at half of pi.
    end = 2 if layout.d == 2 else 128
    points = np.random.default_rng(0).integers(0, end, size=(layout.n, layout.d)).astype(layout.dtype)
    with Spool(None, None) as spool:
        source: Source | SparseSource = listed_source(points) if kind.sparse else open_source(points)
        try:
            where = Points(source, source.location, source.fingerprint())
            tiny = Build(kind.spec(), where, spool.out, spool.scratch, SerialExecutor(), silent, layout, least_rounds=2)
            carry_out(tiny)
            graph = open_graph(spool.out)
            graph.verify(source, rows=20)
            graph.measure_recall(source, probes=20)
            if layout.partitions == 1 and not layout.exact and isinstance(source, Source):
                ask_tiny(graph, source, f"{spool.out}-index")
        finally:
            source.release()


def ask_tiny(graph: Graph, source: Source, place: str) -> None:
    """Make an index of a graph, whole and in partitions, and ask it, for few rows and for all."""
    queries = source.read(0, 8)
    for partitions in (1, 2):
        index = build_index(graph, f"{place}-{partitions}", source, partitions=partitions)
        for allowed in (None, [0, 1], range(graph.n - 1)):
            index.query(queries, 5, filter=None if allowed is None else np.array(allowed))
        ask_by_rows(index, queries)


def listed_source(points: np.ndarray) -> SparseSource:
    """Dense rows as sparse ones that list every column."""
    n, d = points.shape
    parts = {"data": points.ravel(), "indices": np.tile(np.arange(d), n), "indptr": np.arange(0, n * d + 1, d)}
    return open_parts(points.shape, parts, "<a few rows>")


def walk_tiny(dtype: type) -> None:
    """Let a few rows of prepared points walk a k-d tree, which only large partitions have."""
    points = np.random.default_rng(0).integers(0, 9, (40, 4)).astype(dtype)
    tree = plant(points, np.arange(len(points)))
    found = empty(LANES, 3)
    walk(tree, np.full(LANES, np.inf, np.float32), found, 0, 1)
    if dtype == np.float64:
        squares_from(points, np.arange(3), 0)
        permute([points], np.arange(40))
    else:
        rows_from_blocks(tree.blocks, tree.columns, points, len(tree.order))
    permute([np.zeros((40, 2), np.int64)], np.arange(40))
    settle_tiny()


def settle_tiny() -> None:
    """Look whether a row is settled, which only partitions say that trees have solved."""
    cells = Cells(np.zeros(1, np.int32), np.zeros((1, 1), np.float32), np.float32(0))
    seen = Seen(np.zeros((1, 1), np.int16), np.zeros((1, 1), np.float32))
    state, whole, looking = np.zeros(1, bool), np.ones(1, bool), np.zeros((1, 1), np.float32)
    find_exact(cells, seen, np.ones(1, np.float32), whole, state, looking)
    find_unwanted(cells, seen, whole, looking, state)


def put_tiny() -> None:
    """Prepare a few rows as they come and after steps of a metric: builds of one kind may do either."""
    points = np.ones((2, 2), np.float32)
    for name in ("cosine", "correlation"):
        prepare(points, metric_of(name), 2, 0.0)
    # What is read as numbers of 16 bits is the same kind from then on.
    prepare(points.astype(np.float16), metric_of("cosine"), 2, 0.0)


def narrow_tiny() -> None:
    """Narrow the codes of a few wide rows and take them into leaves that they were routed to: no tiny build does."""
    points = np.random.default_rng(0).standard_normal((64, 8)) @ np.ones((8, 300))
    points = points.astype(np.float32)
    coder = coder_of(points, metric_of("euclidean"))
    rows = encode(points, coder)
    project(rows, projection_of(coder, np.eye(300, 64), *sampled(rows)))
    keep_range(np.zeros((1, 1), np.int32), 0, 1)


def main(names: list[str]) -> None:
    """`python -m distnnd.warming KIND…`: compile the kernels of these kinds; print what became of them as JSON."""
    print(json.dumps(warm_process([Kind.named(name) for name in names]).to_json()))


if __name__ == "__main__":
    main(sys.argv[1:])
