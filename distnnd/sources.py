"""What a build reads: points opened, described for a plan, and within reach of every worker."""

from __future__ import annotations

from typing import Any, NamedTuple

from .runtime.cluster import memory_of
from .runtime.lazy import packed_lazily, shape_of, store_lazily
from .runtime.serial import Executor, Machine
from .storage.bits import pack, packed_columns
from .storage.source import Source, SparseSource
from .storage.spool import Spool, rows_spooled
from .values.budget import Workers
from .values.errors import BudgetError
from .values.partitioning import make_plan, plan_of_layout
from .values.plan import Extent, Layout, Plan
from .values.sparse_plan import plan_sparse, sparse_plan_of_layout
from .values.spec import BuildSpec, format_bytes


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
    """A dask array as the metric takes it: truths packed where it compares bits."""
    return packed_lazily(source, pack, packed_columns(source.shape[-1])) if spec.kind.bits else source


def extent_of_lazy(source: Any) -> Extent:
    """The extent of a dask array as it will be read from where it is written; SpecError unless it has two axes."""
    n, d, dtype = shape_of(source)
    return Extent(n, d, dtype, min(n, rows_spooled(d)))


def extent_of(source: Source | SparseSource) -> Extent:
    """The extent of points; of sparse ones a sample is read too."""
    sparsity = source.sparsity() if isinstance(source, SparseSource) else None
    # A chunk may be longer than the points.
    return Extent(source.n, source.d, source.dtype.name, min(source.n, source.chunk_rows), sparsity)


def plan_for(spec: BuildSpec, executor: Machine, extent: Extent) -> Plan:
    """The plan for points of that extent on those workers."""
    return (make_plan if extent.sparsity is None else plan_sparse)(spec, extent, workers_of(spec, executor))


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
