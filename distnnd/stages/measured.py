"""What every task does around its work: look for its own record and its kernels, measure itself, leave a record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from typing import Any

import threadpoolctl

from ..kernels import apart
from ..kernels.jit import tell_of_compiling, told_of_compiling
from ..kernels.ranges import Each, serial
from ..storage import arrays
from ..storage.held import peak_memory
from ..values.plan import Job, Report, Task

Run = Callable[[Job, Task], tuple[dict[str, float], int, int]]


@contextmanager
def compiling_told(tell: Callable[[], None], job: Job, elsewhere: bool) -> Iterator[None]:
    """Call `tell`, once, when kernels are compiled meanwhile.

    elsewhere: tasks run in other processes of this machine, which compile what is not on disk when they begin.
    """
    with told_of_compiling(tell):
        if elsewhere and not apart.are_compiled(apart.kinds_of(*job.compares)):
            tell_of_compiling()
        yield


def record_name(task: Task) -> str:
    """Where a task's record lies below the scratch."""
    return f"done/{task.round}-{task.stage}-{task.index}.json"


def measured(run: Run) -> Callable[[Job, Task], Report]:
    """Make run(job, task) -> (counters, bytes read, bytes written) a stage's function.

    A task whose record is there is not run again: its output was complete when the record was written.
    """

    @wraps(run)
    def task_of_stage(job: Job, task: Task) -> Report:
        found = arrays.get_json(job.scratch, record_name(task))
        if found is not None:
            return Report(**found)
        if job.bounded:
            apart.ensure(apart.kinds_of(*job.compares))
        start = time.perf_counter()
        with one_blas_thread():
            counters, read, written = run(job, task)
        report = Report(counters, read, written, time.perf_counter() - start, peak_memory())
        arrays.put_json(job.scratch, record_name(task), asdict(report))
        return report

    return task_of_stage


def _take_control() -> None:
    """Let this thread set OpenBLAS's limits: from 3.7 on threadpoolctl heeds only the thread that set them first."""
    openblas = getattr(threadpoolctl, "OpenBLASController", None)
    if hasattr(openblas, "clear_controlling_thread"):
        openblas.clear_controlling_thread(force=True)


class _BlasPin:
    """BLAS limited to one thread while any task of this process runs: the first in sets it, the last out frees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                _take_control()
                self._limit = threadpoolctl.ThreadpoolController().limit(limits=1, user_api="blas")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    _take_control()
                    self._limit.restore_original_limits()


one_blas_thread = _BlasPin()


@contextmanager
def side_by_side(threads: int) -> Iterator[Each]:
    """Run ranges of a kernel on this many threads; kernels release the GIL, and no answer depends on the number."""
    if threads == 1:
        yield serial
        return
    with ThreadPoolExecutor(threads) as pool:

        def each(function: Callable[..., Any], ranges: Iterable[tuple[int, int]]) -> list[Any]:
            return list(pool.map(lambda ends: function(*ends), ranges))

        yield each
