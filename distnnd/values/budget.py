"""The workers that a plan is for: what tasks may take of their memory, and what is said where that is too little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .errors import BudgetError
from .plan import Extent, StageCost
from .spec import BuildSpec, format_bytes

# What a process holds after its imports and with the compiled kernels of a few builds, measured (docs/performance.md).
RESERVED = 232 * 2**20
# What the compiler keeps of a few kernels: a metric of the user's own is compiled in every worker, and kept on no disk.
COMPILER = 200 * 2**20
# Dask begins to spill at 0.7 of a worker's limit and pauses it at 0.8: a plan for workers of a client stays below both.
USABLE = 0.7


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    memory: bytes of each worker, of which `share` may be used; reserved: bytes that are the process's own; count: how
    many there are; threads: that each may use; alone: threads that a task may use while no other one runs, 0 for as
    many as a worker has; named: whether the user named the threads, so that no fewer will do.
    """

    memory: int
    count: int = 1
    threads: int = 1
    reserved: int = RESERVED
    share: float = 1.0
    alone: int = 0
    named: bool = False

    @property
    def usable(self) -> int:
        """Bytes of a worker that its tasks may take together; less than nothing where it has too little for itself."""
        return int(self.share * self.memory) - self.reserved

    def threads_for(self, tasks: int) -> int:
        """Threads of a worker for a stage of so many tasks."""
        return max(self.alone, self.threads) if tasks == 1 else self.threads


def hands(threads: int, tasks: int, need: Callable[[int], int], usable: int) -> tuple[int, int]:
    """How many of a worker's threads are used, and how many tasks they do side by side, of those that use several.

    As many tasks as fit, as each has parts that only one thread does; else one task, on as many threads as fit.
    need: bytes of one task on so many threads.
    """
    for at_once in range(min(threads, tasks), 0, -1):
        if at_once * need(threads // at_once) <= usable:
            return threads, at_once
    return next(some for some in range(threads, 0, -1) if some == 1 or need(some) <= usable), 1


def tasks_at_once(cost: StageCost, threads: int, usable: int) -> int:
    """Tasks of one thread that run side by side in a worker: as many as there are, and find room."""
    return max(min(cost.tasks, threads, usable // cost.projected), 1)


def too_small(spec: BuildSpec, extent: Extent, workers: Workers, fits: Callable[[Workers], bool]) -> BudgetError:
    """The refusal where no layout fits on one thread: what is needed, what there is and the nearest limit that fits."""
    need = least_memory(workers, fits)
    if workers.share < 1:
        remedy = f"Start the workers with memory_limit='{need}MiB'"
    else:
        remedy = f"Set memory_limit='{need}MiB'"
        if workers.count > 1 and spec.memory_limit is None:
            remedy += f", or take fewer workers than n_workers={workers.count}, which leaves more to each"
    return BudgetError(
        f"{_points(spec, extent)} does not fit a worker of {format_bytes(workers.memory)}{_parts(workers)}: at least "
        f"{format_bytes(need * 2**20)} is needed for one task on one thread. {remedy}"
    )


def too_many_threads(
    spec: BuildSpec, extent: Extent, workers: Workers, most: int, fits: Callable[[Workers], bool]
) -> BudgetError:
    """The refusal where the threads that the user named do not fit: how many do, and the limit for all of them."""
    need = least_memory(workers, fits)
    raised = "start the workers with" if workers.share < 1 else "set"
    return BudgetError(
        f"{_points(spec, extent)} does not fit a worker of {format_bytes(workers.memory)}{_parts(workers)} on "
        f"{workers.threads} threads. Set threads_per_worker={most}, or {raised} memory_limit='{need}MiB'"
    )


def least_memory(workers: Workers, fits: Callable[[Workers], bool]) -> int:
    """The least memory of a worker that fits, in MiB, found by doubling and halving."""
    low, high = workers.memory, 2 * max(workers.memory, workers.reserved)
    while not fits(replace(workers, memory=high)):
        low, high = high, 2 * high
    while high - low > 2**19:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(replace(workers, memory=middle)) else (middle, high)
    need = -(-high // 2**20)
    while not fits(replace(workers, memory=need * 2**20)):
        need += 1
    return need


def _points(spec: BuildSpec, extent: Extent) -> str:
    dtype = "sparse" if extent.sparsity is not None else extent.dtype
    return f"{extent.n:,} x {extent.d} {dtype} with n_neighbors={spec.n_neighbors}"


def _parts(workers: Workers) -> str:
    """What of a worker's memory tasks do not have, in brackets."""
    own = f"{format_bytes(workers.reserved)} of it for Python, the libraries and compiled kernels"
    if workers.share < 1:
        own += f"; {workers.share:.0%} of the limit is used, as Dask spills to disk and pauses the worker above that"
    return f" ({own})"
