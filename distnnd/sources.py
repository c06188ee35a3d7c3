"""What a build reads: points opened, described for a plan, and within reach of every worker."""

from __future__ import annotations

from typing import Any, NamedTuple

from .runtime.cluster import machine_memory
from .runtime.lazy import packed_lazily, shape_of, store_lazily
from .runtime.serial import Executor, Machine
from .storage.bits import pack, packed_columns
from .storage.source import Source, SparseSource
from .storage.spool import Spool
from .values.budget import Workers
from .values.partitioning import make_plan
from .values.plan import Extent, Plan
from .values.sparse_plan import plan_sparse
from .values.spec import BuildSpec


class Points(NamedTuple):
    """What is built from: the source where workers can read it; place and fingerprint of what the user named."""

    source: Source | SparseSource
    location: str
    fingerprint: dict[str, Any]


def named_points(source: Any) -> Points:
    """What the user named: an opened source, or a dask array, which is not read for it."""
    if isinstance(source, Source | SparseSource):
        return Points(source, source.location, source.fingerprint())
    # The name of a dask array is a digest of what it is made of.
    return Points(source, "<dask array>", {"kind": "dask", "name": source.name, "shape": list(shape_of(source)[:2])})


def within_reach(points: Points, executor: Executor, spool: Spool) -> Points:
    """The points where every worker can read them: those in this process are copied to disk if need be."""
    source = points.source
    return points._replace(source=spool.copy(source)) if source.resident and not executor.in_process else points


def spool_lazily(points: Points, executor: Executor, spool: Spool) -> Points:
    """The points of a dask array, written to disk."""
    lazy: Any = points.source
    n, d, dtype = shape_of(lazy)
    store_lazily(executor, lazy.astype(dtype), spool.target(n, d, dtype))
    return points._replace(source=spool.spooled())


def lazy_points(source: Any, spec: BuildSpec) -> Any:
    """A dask array as the metric takes it: truths packed where it compares bits."""
    return packed_lazily(source, pack, packed_columns(source.shape[-1])) if spec.kind.bits else source


def extent_of_lazy(source: Any) -> Extent:
    """The extent of a dask array as it will be read; SpecError unless it has two axes."""
    return Extent(*shape_of(source))


def extent_of(source: Source | SparseSource) -> Extent:
    """The extent of points; of sparse ones a sample is read too."""
    sparsity = source.sparsity() if isinstance(source, SparseSource) else None
    return Extent(source.n, source.d, source.dtype.name, source.chunk_rows, sparsity)


def plan_for(spec: BuildSpec, executor: Machine, extent: Extent) -> Plan:
    """The plan for points of that extent on those workers."""
    limits = [limit for limit in (spec.memory_limit, executor.memory) if limit]
    workers = Workers(min(limits, default=machine_memory()), executor.workers, executor.threads)
    return (make_plan if extent.sparsity is None else plan_sparse)(spec, extent, workers)
