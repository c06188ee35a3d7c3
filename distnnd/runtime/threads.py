"""How many threads there are to work with, and how many tasks may run side by side in a process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dask.system import CPU_COUNT

from ..values.plan import Job, Report, Task
from ..values.spec import whole_number

# What users set so that numerical libraries take no more threads; also here.
VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def threads_available(named: int | None = None) -> int:
    """The least of: processors that this process may use (affinity, cgroup), OMP_NUM_THREADS, NUMBA_NUM_THREADS, named.

    named: what the user asks for; SpecError unless it is a whole number of at least 1.
    """
    limits: list[int] = [CPU_COUNT, *filter(None, map(_of_environment, VARIABLES))]
    if named is not None:
        limits.append(whole_number("threads_per_worker", named, 1))
    return max(min(limits), 1)


def _of_environment(variable: str) -> int | None:
    """The number that an environment variable begins with, as OpenMP has a list of them; None if there is none."""
    first = os.environ.get(variable, "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


class _Gate:
    """Lets so many tasks of one build run at a time in this process, however many the scheduler has sent here."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: dict[str, int] = {}

    @contextmanager
    def __call__(self, build: str, at_once: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._running.get(build, 0) < at_once)
            self._running[build] = self._running.get(build, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._running[build] -= 1
                if not self._running[build]:
                    del self._running[build]
                self._changed.notify_all()


_gate = _Gate()


def in_turn(run: Callable[[Job, Task], Report], at_once: int, job: Any, task: Any) -> Report:
    """run(job, task) as soon as fewer than `at_once` tasks of that build are at work in this process.

    What a plan allows a worker holds wherever the scheduler sends a task: also when another worker has died.
    """
    with _gate(job.uuid, at_once):
        return run(job, task)
