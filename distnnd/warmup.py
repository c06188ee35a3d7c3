"""Compile every kernel that a build may call, before a fan-out: workers then find them on disk and compile nothing.

Kernels are compiled by calling them, so tiny builds are run, of each kind of metric and points: one where all pairs are
compared, one in one partition, one in several that exchange rows. Each graph is checked and measured in the end.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .build import Build, Points, carry_out
from .graph import Graph, open_graph
from .index import build_index
from .kernels.codes import coder_of, encode
from .kernels.jit import cache_dir, compiled_kernels, tally
from .kernels.kdtree import plant, rows_from_blocks, walk
from .kernels.lanes import LANES
from .kernels.merge import permute
from .kernels.neighbours import empty
from .kernels.projection import project
from .kernels.rows import stays_narrow
from .runtime.cluster import on_each_worker
from .runtime.events import silent
from .runtime.serial import SerialExecutor
from .storage.source import Source, open_source
from .storage.spool import Spool
from .values.errors import DistnndError, SpecError
from .values.metric import METRICS, metric_of
from .values.plan import Layout
from .values.spec import DTYPES, BuildSpec

# So many rows that one partition of them is more than one leaf.
ROWS, COLUMNS = 4400, 8
PROBES, SAMPLE = 64, 400

Tell = Callable[[str], None]


def unheard(text: str) -> None:
    """Tell nobody."""


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
    progress: Tell = unheard,
) -> Warmed:
    """Compile what builds by these metrics on points of these dtypes need, unless it is on disk; by default for all.

    client: a Dask client, cluster or address, whose workers are warmed too, one of each host before the others; None
    for the current client, if there is one. progress: called with a text now and then.

    Raises SpecError for an unknown metric or dtype, and DistnndError where the kernels cannot be kept.
    """
    kinds = kinds_of(_several(metrics, METRICS), _several(dtypes, DTYPES))
    here = warm_process(kinds, progress)
    workers = on_each_worker(client, warm_process, kinds)
    return Warmed(**{**asdict(here), "workers": workers})


def _several(names: Iterable[str] | str | None, everything: Iterable[str]) -> list[str]:
    """The names given as one or several, or else all."""
    return [names] if isinstance(names, str) else list(everything if names is None else names) or list(everything)


def kinds_of(metrics: Iterable[str], dtypes: Iterable[str]) -> list[tuple[str, str]]:
    """Metric and dtype of the builds that call all kernels between them; SpecError for one that does not exist.

    Kernels see prepared rows, so what is prepared alike and only finished otherwise needs no build of its own.
    """
    kinds: dict[tuple[bool, bool, bool], tuple[str, str]] = {}
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise SpecError(f"there are no points of dtype {dtype!r}; choose among {', '.join(DTYPES)}")
        for name in metrics:
            metric = metric_of(name)
            kind = metric.unit, metric.euclidean, stays_narrow(metric, dtype, COLUMNS)
            kinds.setdefault(kind, (name, dtype))
    return list(kinds.values())


def warm_process(kinds: list[tuple[str, str]], progress: Tell = unheard) -> Warmed:
    """Compile or find in this process what builds of these metrics and dtypes need; DistnndError if it is not kept."""
    place = place_of_kernels()
    before, start = tally(), time.perf_counter()
    for metric, dtype in kinds:
        for layout in layouts(metric, dtype):
            how = "all pairs" if layout.exact else f"{layout.partitions} partition(s)"
            progress(f"{metric}, {dtype}, {how}")
            build_tiny(metric, layout)
    narrow_tiny()
    for dtype in (np.float32, np.int8):
        walk_tiny(dtype)
    now = tally()
    new = now.since(before)
    if new.unsaved:
        raise DistnndError(
            f"{new.unsaved} of {new.compiled} compiled kernels could not be written to {place} on "
            f"{socket.gethostname()}; make room there, or set NUMBA_CACHE_DIR to another directory, and run it again"
        )
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
            f"NUMBA_CACHE_DIR={wanted} cannot be written by this user on {socket.gethostname()}; "
            f"name another directory, or unset it, and kernels are kept in {place.parent}"
        )
    return place


def layouts(metric: str, dtype: str) -> list[Layout]:
    """Three ways to cut a few rows, which together go through every stage."""
    whole = {"n": ROWS, "d": COLUMNS, "dtype": dtype, "cap": ROWS}
    return [
        Layout(**whole, block_rows=2048, exact=True),
        Layout(**whole, block_rows=2048, probes=PROBES),
        Layout(**whole, block_rows=1024, partitions=2, probes=PROBES, sample=SAMPLE),
    ]


def build_tiny(metric: str, layout: Layout) -> None:
    """Build the graph of a few random rows, cut like that, in two rounds; check and measure it."""
    points = np.random.default_rng(0).integers(0, 128, size=(layout.n, layout.d)).astype(layout.dtype)
    with Spool(None, None) as spool:
        source = open_source(points)
        try:
            where = Points(source, source.location, source.fingerprint())
            spec = BuildSpec(n_neighbors=5, metric=metric)
            carry_out(Build(spec, where, spool.out, spool.scratch, SerialExecutor(), silent, layout, least_rounds=2))
            graph = open_graph(spool.out)
            graph.verify(source, rows=20)
            graph.measure_recall(source, probes=20)
            if layout.partitions == 1 and not layout.exact:
                ask_tiny(graph, source, f"{spool.out}-index")
        finally:
            source.release()


def ask_tiny(graph: Graph, source: Source, place: str) -> None:
    """Make an index of a graph and ask it, for few rows and for all."""
    index = build_index(graph, place, source)
    queries = source.read(0, 8)
    for allowed in (None, [0, 1], range(0, ROWS - 1)):
        index.query(queries, 5, filter=None if allowed is None else np.array(allowed))


def walk_tiny(dtype: type) -> None:
    """Let a few rows of prepared points walk a k-d tree, which only large partitions have."""
    points = np.random.default_rng(0).integers(0, 9, (40, 4)).astype(dtype)
    tree = plant(points, np.arange(len(points)))
    found = empty(LANES, 3)
    walk(tree, np.full(LANES, np.inf, np.float32), found, 0, 1)
    rows_from_blocks(tree.blocks, tree.columns, points, len(tree.order))
    permute(np.zeros((40, 2), np.int64), np.arange(40))


def narrow_tiny() -> None:
    """Narrow the codes of a few wide rows, which no tiny build has."""
    points = np.random.default_rng(0).standard_normal((64, 8)) @ np.ones((8, 300))
    points = points.astype(np.float32)
    coder = coder_of(points, metric_of("euclidean"))
    rows = encode(points, coder)
    sample = rows.values - rows.values.mean(axis=0, dtype=np.float32)
    project(rows, coder, np.eye(300, 64, dtype=np.float32), rows.values.mean(axis=0, dtype=np.float32), sample)
