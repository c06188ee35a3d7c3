"""The memory limit at which a worker holds a quarter of the rows at a time."""

from __future__ import annotations

import distnnd

from .data import K, Task

PARTS = 4


def limit_for(task: Task, parts: int = PARTS) -> int:
    """Bytes of a worker of one thread whose partitions hold at most n / parts rows, rounded up to a MiB."""
    wanted, low, high = len(task.open()) // parts, 0, 2**17
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _cap(task, middle << 20) < wanted else (low, middle)
    return high << 20


def _cap(task: Task, limit: int) -> int:
    """Rows of a partition under a limit; 0 where nothing fits."""
    try:
        return distnnd.plan(task.points, K, metric=task.metric, memory_limit=limit, n_workers=1).layout.cap
    except distnnd.BudgetError:
        return 0
