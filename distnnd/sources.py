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
from .values.plan import Cut, Extent, Plan
from .values.sparse_plan import plan_sparse
from .values.spec import BuildSpec

# Cuts that distnnd.testing forces on all plans of this process, the innermost last. Threads that start inside have no
# context variables of the thread that started them, so these are the module's own.
FORCED: dict[object, Cut] = {}


class Points(NamedTuple):
    """What is built from: the source where workers can read it; place and fingerprint of what the user named."""

    source: Source | SparseSource
    location: str
    fingerprint: dict[str, Any]


def within_reach(source: Source | SparseSource, executor: Executor, spool: Spool) -> Points:
    """The points where every worker can read them: those in this process are copied to disk if need be."""
    reachable = spool.copy(source) if source.resident and not executor.in_process else source
    return Points(reachable, source.location, source.fingerprint())


def spool_lazily(source: Any, executor: Executor, spool: Spool) -> Points:
    """The points of a dask array, written to disk; its name is a digest of what it is made of."""
    n, d, dtype = shape_of(source)
    store_lazily(executor, source.astype(dtype), spool.target(n, d, dtype))
    return Points(spool.spooled(), "<dask array>", {"kind": "dask", "name": source.name, "shape": [n, d]})


def lazy_points(source: Any, spec: BuildSpec) -> Any:
    """A dask array as the metric takes it: truths packed where it compares bits; of the dtype that is asked for."""
    if spec.dtype is not None:
        return source.astype(spec.dtype)
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
    cut = next(reversed(FORCED.values()), None)
    return (make_plan if extent.sparsity is None else plan_sparse)(spec, extent, workers, cut)
