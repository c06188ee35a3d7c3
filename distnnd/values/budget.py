"""The workers that a plan is for: what tasks may take of their memory, and what is said where that is too little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .errors import BudgetError
from .plan import Extent
from .spec import BuildSpec, format_bytes

# A worker's own memory after its imports and a first compiled kernel, measured (docs/performance.md), rounded up.
RESERVED = 300 * 2**20
# What the compiler keeps of a few kernels: a metric of the user's own is compiled in every worker, and kept on no disk.
COMPILER = 200 * 2**20
# Dask spills above 0.7 of a worker's limit and pauses above 0.8: a plan stays below both.
USABLE = 0.7


@dataclass(frozen=True)
class Workers:
    """Who does the work. memory: bytes of each, `reserved` of them its own; threads: tasks that run in it at a time."""

    memory: int
    count: int = 1
    threads: int = 1
    reserved: int = RESERVED

    @property
    def tasks(self) -> int:
        """Tasks that run at a time in all of them."""
        return self.count * self.threads

    @property
    def usable(self) -> int:
        """Bytes of a worker that its tasks may take together; less than nothing where it has too little for itself."""
        return int(USABLE * self.memory) - self.reserved


def too_small(spec: BuildSpec, extent: Extent, workers: Workers, fits: Callable[[Workers], bool]) -> BudgetError:
    """The refusal, with both numbers and the nearest limit that fits, found by doubling and halving."""
    low, high = workers.memory, 2 * max(workers.memory, workers.reserved)
    while not fits(replace(workers, memory=high)):
        low, high = high, 2 * high
    while high - low > 2**20:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(replace(workers, memory=middle)) else (middle, high)
    need = -(-high // 2**20)
    points = "sparse" if extent.sparsity is not None else extent.dtype
    fewer = f" or fewer threads per worker than {workers.threads}" if workers.threads > 1 else ""
    return BudgetError(
        f"{extent.n:,} x {extent.d} {points} with n_neighbors={spec.n_neighbors} does not fit a worker of "
        f"{format_bytes(workers.memory)} ({workers.threads} thread(s), {format_bytes(workers.reserved)} of it the "
        f"worker's own): at least {format_bytes(need * 2**20)} is needed. Set memory_limit='{need}MiB'{fewer}"
    )
