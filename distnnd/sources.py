"""What a build reads: points opened, described for a plan, and within reach of every worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .runtime.cluster import executor_for, memory_of
from .runtime.lazy import blocks_of_rows, packed_lazily, store_lazily, with_checked_chunks
from .runtime.serial import Executor, Machine
from .storage.converted import ConvertedSource, converted
from .storage.declared import WHERE, Declared, declared, kept_chunk, packed_chunk
from .storage.dense import holds_in_float32
from .storage.source import Source, SparseSource, check_sparse_dtype, is_dask_array, open_for, unwrapped
from .storage.spool import Spool, spooled_rows
from .values.budget import Workers
from .values.errors import BudgetError, SpecError
from .values.metric import Metric
from .values.partitioning import make_plan, plan_of_layout
from .values.plan import Cut, Extent, Layout, Plan
from .values.sparse_plan import plan_sparse, sparse_plan_of_layout
from .values.spec import BuildSpec, format_bytes

# Cuts that distnnd.testing forces on all plans of this process, the innermost last. Threads that start inside have no
# context variables of the thread that started them, so these are the module's own.
FORCED: dict[object, Cut] = {}


@dataclass(frozen=True, eq=False)
class LazyPoints:
    """The points of a dask array, of which nothing is computed yet; what it says of itself has been checked.

    read_as: the dtype as which dense points are read, None for the one that suits them; narrow: whether float64 numbers
    that float32 holds are read as float32, which is known once they are computed.
    """

    array: Any
    said: Declared
    read_as: str | None = None
    narrow: bool = False
    location: str = WHERE

    @property
    def n(self) -> int:
        """Rows."""
        return self.said.n

    @property
    def d(self) -> int:
        """Numbers of a row, as it will be read."""
        return self.said.d

    @property
    def dtype(self) -> Any:
        """The dtype of what will be read."""
        return self.said.dtype if self.read_as is None else np.dtype(self.read_as)

    def fingerprint(self) -> dict[str, Any]:
        """Its name, which is a digest of what it is made of."""
        return {"kind": "dask", "name": self.array.name, "shape": [self.n, self.d]}

    def release(self) -> None:
        """Nothing is held."""

    def spooled(self, executor: Executor, spool: Spool, through_here: bool = False) -> Source | SparseSource:
        """The points, computed once and written to disk; InputError names a chunk that is not what the array says.

        through_here: this process writes them, block by block, where workers do not see the disk of the spool.
        """
        said = self.said
        chunks = with_checked_chunks(self.array, partial(kept_chunk, said=said), said.stored)
        if said.packed:
            chunks = packed_lazily(chunks, packed_chunk, said.d)
        if said.sparse or through_here:
            spool.write(blocks_of_rows(executor, chunks), said)
        else:
            dtype = said.dtype.name
            store_lazily(executor, chunks.astype(dtype), spool.target(said.n, said.d, dtype))
        points = spool.spooled(self.fingerprint())
        if not isinstance(points, Source):
            return points
        narrow = self.narrow and holds_in_float32(points)
        return converted(points, "float32" if narrow else self.read_as)


Opened = Source | SparseSource | LazyPoints


class Points(NamedTuple):
    """What is built from: its source; place and fingerprint of what the user named.

    source: lazy points until they are within reach of every worker; missing: what the user said of chunks that are not
    there.
    """

    source: Any
    location: str
    fingerprint: dict[str, Any]
    missing: str | None = None


def named_points(opened: Opened) -> Points:
    """What the user named; of a dask array nothing is computed for it."""
    return Points(opened, opened.location, opened.fingerprint())


def open_points(
    source: Any, metric: Metric, component: str | None = None, missing: str | None = None, dtype: str | None = None
) -> Opened:
    """The points that a user names, as this metric takes them, see open_source; of a dask array only what it says.

    dtype: as which they are read, see open_for. Raises as open_source, and as declared().
    """
    source = unwrapped(source)
    if not is_dask_array(source):
        return open_for(source, component, metric, missing, dtype)
    for name, said in (("component", component), ("missing", missing)):
        if said is not None:
            raise SpecError(f"{name}={said!r} is about arrays in Zarr; a dask array is none")
    promised = declared(source, metric.bits)
    if promised.sparse:
        check_sparse_dtype(dtype)
    if promised.sparse or promised.packed:
        return LazyPoints(source, promised)
    return LazyPoints(source, promised, dtype, dtype is None and promised.dtype == np.float64 and not metric.unit)


def known_dtype(opened: Opened) -> str | None:
    """As which dtype points are compared; None where that is known only once they are computed."""
    return None if isinstance(opened, LazyPoints) and opened.narrow else str(opened.dtype.name)


def within_reach(points: Points, executor: Executor, spool: Spool) -> Points:
    """The points where every worker can read them: lazy ones, and those in this process, are copied to disk if need be.

    Raises as LazyPoints.spooled.
    """
    source = points.source
    if isinstance(source, LazyPoints):
        return points._replace(source=source.spooled(executor, spool))
    return points._replace(source=copied(source, spool)) if source.resident and not executor.in_process else points


def copied(source: Source | SparseSource, spool: Spool) -> Source | SparseSource:
    """A copy on disk; of points that are read as another dtype, a copy of them as they are given."""
    if isinstance(source, ConvertedSource):
        return converted(copied(source.given, spool), source.dtype.name)
    return spool.copy(source)


@contextmanager
def points_of(
    source: Any, metric: Metric, facts: dict[str, Any], missing: str | None = None
) -> Iterator[Source | SparseSource | None]:
    """The points of a finished graph, opened; those of a dask array on disk, from where they are deleted in the end.

    source: None for None; missing: by default as the graph was built from a path. Raises as open_points and
    within_reach.
    """
    if source is None:
        yield None
        return
    if missing is None and isinstance(source, str | os.PathLike):
        missing = facts["source"].get("missing")
    opened = open_points(source, metric, None, missing)
    try:
        if isinstance(opened, LazyPoints):
            with Spool(None, None) as spool, executor_for() as executor:
                yield opened.spooled(executor, spool, through_here=True)
        else:
            yield opened
    finally:
        if opened is not source:
            opened.release()


def is_sparse(opened: Opened) -> bool:
    """Whether rows are sparse."""
    return opened.said.sparse if isinstance(opened, LazyPoints) else isinstance(opened, SparseSource)


def extent_of(opened: Opened) -> Extent:
    """The extent of points; of sparse ones a sample is read too, and SpecError is raised for those of a dask array."""
    if isinstance(opened, LazyPoints):
        if opened.said.sparse:
            raise SpecError(
                "a plan counts the entries of sparse points, and a dask array knows them only once it is computed; "
                "build() does so, or write the points to disk first, as CSR in Zarr or by scipy.sparse.save_npz"
            )
        return Extent(opened.n, opened.d, opened.dtype.name, spooled_rows(opened.n, opened.d))
    sparsity = opened.sparsity() if isinstance(opened, SparseSource) else None
    return Extent(opened.n, opened.d, opened.dtype.name, opened.chunk_rows, sparsity)


def plan_for(spec: BuildSpec, executor: Machine, extent: Extent) -> Plan:
    """The plan for points of that extent on those workers."""
    cut = next(reversed(FORCED.values()), None)
    make = make_plan if extent.sparsity is None else plan_sparse
    return make(spec, extent, workers_of(spec, executor), cut)


def plan_as_it_was(spec: BuildSpec, executor: Machine, extent: Extent, layout: Layout) -> Plan:
    """The plan of a build that goes on, in the layout it began with; BudgetError where the workers cannot hold it."""
    again = plan_of_layout if extent.sparsity is None else sparse_plan_of_layout
    plan = again(spec, extent, workers_of(spec, executor), layout)
    if plan.peak > plan.share * plan.worker_memory:
        raise BudgetError(
            f"this build was cut for workers of which each takes {format_bytes(plan.peak)}, but there are "
            f"{format_bytes(int(plan.share * plan.worker_memory))}; resume it with the memory it began with, or build "
            "anew"
        )
    return plan


def workers_of(spec: BuildSpec, executor: Machine) -> Workers:
    """The workers as a plan takes them."""
    memory, share = memory_of(executor, spec.memory_limit)
    more = {name: getattr(executor, name) for name in ("alone", "named") if hasattr(executor, name)}
    return Workers(memory, executor.workers, executor.threads, share=share, **more)
