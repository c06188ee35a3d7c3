"""Stages on Dask: a bounded window of futures, each released as it finishes; nothing of value stays on a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dask
import distributed
from distributed.scheduler import KilledWorker
from distributed.system import MEMORY_LIMIT

from ..values.budget import USABLE
from ..values.errors import DistnndError, StageError
from ..values.plan import Job, Report, Stage, Task
from ..values.spec import format_bytes, whole_number
from . import worker_process
from .allocator import PLUGIN, KeepsMemory, expect_large_arrays
from .clients import (
    check_client,
    connected,
    current_client,
    dask_is_used,
    is_forked,
    is_lost,
    not_waited_for,
    noting_scripts_run_again,
    task_worker,
    told_if_lost,
    workers_of,
)
from .events import Listener, StageStart, TaskEnd
from .serial import Executor, Machine, SerialExecutor, failed
from .threads import in_turn, threads_available

# Tasks in flight for each that may run: one that runs and one that waits, so that no thread idles between two.
WINDOW = 2
# Seconds after which to look whether a worker that has not answered is still there.
PATIENCE = 2
# Seconds that tasks at work get to end when another one has failed.
LAST_WORDS = 30
LOOPBACK = "127.0.0.1:0"
# Of the machine's memory, where nobody set a limit: the rest is for the user and the page cache.
SHARE = 0.6


class DaskExecutor:
    """Runs stages on the workers of a client, which it neither restarts nor closes.

    machine: what a plan was told of workers that were started for it; None for those of the user, of whose limit Dask
    leaves a part. threads: that the user allows each worker.
    """

    def __init__(self, client: Any, machine: LocalMachine | None = None, threads: int | None = None) -> None:
        dask_is_used()
        self.client = client
        workers = workers_of(client)
        self.workers = len(workers)
        self.threads = min(worker["nthreads"] for worker in workers)
        limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
        self.memory: int | None = min(limits) if limits else None
        self.share, self.alone, self.named = USABLE, self.threads, threads is not None
        if machine is not None:
            self.memory, self.share, self.alone, self.named = machine.memory, 1.0, machine.alone, machine.named
        elif threads is not None:
            self.threads = self.alone = min(self.threads, whole_number("threads_per_worker", threads, 1))
        self.in_process = self.workers == 1 and client.scheduler is not None and _is_inproc(client)
        # Worker processes whose kernels lie where those of this process lie.
        self.on_this_machine = not self.in_process and all(worker["host"] == "127.0.0.1" for worker in workers)
        self._keeps_memory = False

    def run(self, stage: Stage, job: Job, listen: Listener) -> list[Report]:
        """Run all tasks of the stage; reports in the order of its tasks.

        StageError if a worker died of a task several times, or the scheduler is lost; errors of the project pass as
        they are.
        """
        if not stage.tasks:
            return []
        with told_if_lost(self.client, job.out):
            return self._run(stage, job, listen)

    def _run(self, stage: Stage, job: Job, listen: Listener) -> list[Report]:
        self._keep_memory()
        listen(StageStart(stage.name, stage.tasks[0].round, len(stage.tasks)))
        reports: dict[int, Report] = {}
        waiting = iter(enumerate(stage.tasks))
        running: dict[Any, tuple[int, Task]] = {}
        done = distributed.as_completed(with_results=False, loop=self.client.loop)
        try:
            self._top_up(stage, job, waiting, running, done)
            for future in done:
                place, task = running.pop(future.key)
                reports[place] = self._take(future, stage, task)
                listen(TaskEnd(stage.name, task.round, task.index, reports[place]))
                self._top_up(stage, job, waiting, running, done)
        except Exception as error:
            # Whoever tidies up after a failure must not be written to by those still at work.
            if not is_lost(self.client, error):
                with suppress(Exception), self.client.as_current():
                    distributed.wait(list(done.futures), timeout=LAST_WORDS)
            raise
        finally:
            if running and not is_lost(self.client):
                self.client.cancel(list(done.futures))
        return [reports[place] for place in range(len(stage.tasks))]

    def _keep_memory(self) -> None:
        # In the user's own process his allocator stays as it is.
        if not self._keeps_memory and not _is_inproc(self.client):
            self.client.register_plugin(KeepsMemory(), name=PLUGIN)
            self._keeps_memory = True

    def close(self) -> None:
        """Leave the workers as they were."""
        if self._keeps_memory:
            self._keeps_memory = False
            if is_lost(self.client):
                return
            with suppress(Exception):
                self.client.unregister_worker_plugin(PLUGIN)

    def _top_up(self, stage: Stage, job: Job, waiting: Iterator[tuple[int, Task]], running: Any, done: Any) -> None:
        at_once = stage.at_once(getattr(job, "slots", 0) or self.threads, getattr(job, "room", 0))
        each = self.client.nthreads().values() if self.workers > 1 else [self.threads]
        while len(running) < WINDOW * max(sum(min(threads, at_once) for threads in each), 1):
            entry = next(waiting, None)
            if entry is None:
                return
            place, task = entry
            key = (f"distnnd-{stage.name}-{job.uuid}-{task.round}", task.index)
            future = self.client.submit(in_turn, stage.run, at_once, job, task, key=key, pure=False)
            running[future.key] = (place, task)
            done.add(future)

    def _take(self, future: Any, stage: Stage, task: Task) -> Report:
        try:
            report: Report = future.result()
        except DistnndError:
            raise
        except KilledWorker as error:
            raise StageError(
                f"task {task.index} of stage {stage.name} lost its worker several times; it was projected to take "
                f"{format_bytes(stage.projected)} beside the worker's own memory. Give workers more memory or set "
                "a lower memory_limit, and run the same command again: it goes on at the last committed round"
            ) from error
        except Exception as error:
            if is_lost(self.client, error):
                raise
            raise failed(stage, task, error) from error
        future.release()
        return report


class LocalExecutor:
    """Runs in this process: one partition right here, several on a temporary cluster that starts when it is needed.

    A cluster takes a fifth of a second of CPU time to start and end, and could only hold one partition's task. There is
    none in a process that was forked from one that had used Dask: one task runs after the other.
    """

    in_process = True

    def __init__(self, stack: ExitStack, threads: int | None = None) -> None:
        machine = local_machine(None, None, threads)
        self.workers, self.threads, self.memory = machine.workers, machine.threads, machine.memory
        self.share, self.alone, self.named = 1.0, machine.alone, machine.named
        self._stack = stack
        self._cluster: DaskExecutor | None = None

    def run(self, stage: Stage, job: Job, listen: Listener) -> list[Report]:
        """Run all tasks of the stage; reports in the order of its tasks."""
        if job.layout.partitions == 1 or is_forked():
            expect_large_arrays()
            return SerialExecutor(self.threads).run(stage, job, listen)
        if self._cluster is None:
            threads = getattr(job, "slots", 0) or self.threads
            self._cluster = self._stack.enter_context(_temporary(None, None, threads))
        return self._cluster.run(stage, job, listen)


def _is_inproc(client: Any) -> bool:
    return str(client.scheduler.address).startswith("inproc://")


def on_each_worker(client: Any, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """The answers of function(*arguments) on every worker of what the user passed, by address.

    One worker of each host has answered before the others are asked, so that these find what it left on disk. None
    means the current client's workers, or nobody; an Executor has none. StageError if one fails or dies of it; errors
    of the project pass as they are.
    """
    if client is None and current_client() is None:
        return {}
    with executor_for(client) as executor:
        if not isinstance(executor, DaskExecutor):
            return {}
        own = executor.client
        workers = own.scheduler_info(n_workers=-1)["workers"]
        first = {worker["host"]: address for address, worker in reversed(workers.items())}.values()
        answers: dict[str, Any] = {}
        for turn in (list(first), [address for address in workers if address not in first]):
            # As tasks, not by client.run, which would hold up the worker's heartbeat.
            futures = {address: own.submit(function, *arguments, workers=[address], pure=False) for address in turn}
            for address, future in futures.items():
                answers[address] = _answer(own, future, address)
        return answers


def _answer(client: Any, future: Any, address: str) -> Any:
    while not future.done():
        # What it came to is asked below: here a failure that is a TimeoutError would look like impatience.
        with suppress(Exception):
            future.result(timeout=PATIENCE)
        # Nobody else may run it: it would wait for ever for a worker that is gone.
        if not future.done() and address not in client.scheduler_info(n_workers=-1)["workers"]:
            client.cancel([future])
            raise StageError(f"worker {address} went away at work; give workers more memory, or try again")
    try:
        return future.result()
    except DistnndError:
        raise
    except Exception as error:
        raise StageError(f"worker {address} failed: {error!r}") from error


@contextmanager
def executor_for(
    client: Any = None, memory_limit: int | None = None, n_workers: int | None = None, threads: int | None = None
) -> Iterator[Executor]:
    """The executor for what the user passed: a Client, a cluster, an address, an Executor, or None.

    None: the current client if there is one, else this process, with a temporary cluster on loopback where there are
    several partitions, or `n_workers` processes of one thread each; closed at the end. Within a task of a worker, None
    means that task alone. threads: that a worker may use, by default all of this process, one of a process of
    `n_workers`, or all that a client's worker has. SpecError for anything else, and for what check_client refuses;
    StageError for a scheduler that does not answer, and for a cluster without workers.
    """
    n_workers = check_client(client, n_workers)
    if client is None and n_workers is None:
        client = current_client()
    if client is None and n_workers is None:
        with ExitStack() as stack:
            yield LocalExecutor(stack, threads) if task_worker() is None else _task_executor()
    elif client is None:
        with _temporary(n_workers, memory_limit, threads) as executor:
            yield executor
    elif isinstance(client, distributed.Client):
        with not_waited_for(), closing(DaskExecutor(client, threads=threads)) as executor:
            yield executor
    elif hasattr(client, "run") and hasattr(client, "in_process"):
        yield client
    else:
        with not_waited_for(), connected(client) as own, closing(DaskExecutor(own)) as executor:
            yield executor


def _task_executor() -> Executor:
    """Runs in this thread alone, which runs a task of a worker: its other threads have tasks of their own."""
    worker = task_worker()
    executor = SerialExecutor(1)
    limit = worker.memory_manager.memory_limit
    executor.memory = limit // max(1, worker.state.nthreads) if limit else None
    executor.share = USABLE
    return executor


@dataclass
class LocalMachine:
    """The temporary cluster that executor_for would start, described without starting it; as Machine has it.

    alone: threads of a task that is the only one; named: whether the user named the threads.
    """

    workers: int
    threads: int
    memory: int | None
    alone: int
    named: bool
    share: float = 1.0


def local_machine(memory_limit: int | None, n_workers: int | None, threads: int | None = None) -> LocalMachine:
    """One worker in this process with all its threads, or `n_workers` processes of one thread each.

    threads: another number of them, of each worker. A task that nobody else has work beside may use the threads of all.
    """
    most = threads_available(threads)
    if n_workers is None:
        return LocalMachine(1, most, None, most, threads is not None)
    each = 1 if threads is None else most
    alone = max(min(threads_available(), n_workers * each), each)
    return LocalMachine(n_workers, each, memory_limit or machine_memory() // n_workers, alone, threads is not None)


@contextmanager
def machine_for(
    client: Any = None, memory_limit: int | None = None, n_workers: int | None = None, threads: int | None = None
) -> Iterator[Machine]:
    """What executor_for would run on; nothing is started for it."""
    n_workers = check_client(client, n_workers)
    if client is None and n_workers is None and task_worker() is not None:
        yield _task_executor()
    elif client is None and (n_workers is not None or current_client() is None):
        yield local_machine(memory_limit, n_workers, threads)
    else:
        with executor_for(client, memory_limit, n_workers, threads) as executor:
            yield executor


# Nobody looks at what the workers of a temporary cluster are doing a hundred times a second. To look can lock up Python
# before 3.11.9 for good, if garbage is collected meanwhile (https://github.com/python/cpython/issues/106883).
UNWATCHED = {"distributed.worker.profile.enabled": False}
# The plan keeps workers of a temporary cluster below their limit, so they need not pause below it, nor write to disk
# what a process holds beside results of tasks. Results themselves, of a dask array that is written out, still go to
# disk where they become too many.
UP_TO_THE_LIMIT = {f"distributed.worker.memory.{name}": False for name in ("spill", "pause")} | {
    "distributed.worker.memory.terminate": 1.0
}

_starting = threading.Lock()


@contextmanager
def _temporary(n_workers: int | None, memory_limit: int | None, threads: int | None = None) -> Iterator[DaskExecutor]:
    dask_is_used()
    machine = local_machine(memory_limit, n_workers, threads)
    # One after the other: Dask's settings are the whole process's, and so is what it imports as a cluster starts.
    with _starting, dask.config.set(UNWATCHED | UP_TO_THE_LIMIT), noting_scripts_run_again():
        cluster = _local_cluster(machine, memory_limit, n_workers)
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield DaskExecutor(client, machine)


def _local_cluster(machine: LocalMachine, memory_limit: int | None, n_workers: int | None) -> Any:
    return distributed.LocalCluster(
        n_workers=machine.workers,
        threads_per_worker=machine.threads,
        processes=n_workers is not None,
        # In this process a limit would count the user's own arrays too; the plan keeps the bound.
        memory_limit=0 if n_workers is None else memory_limit or MEMORY_LIMIT // n_workers,
        # The dashboard of a LocalCluster, and the page of a worker in this process, listen on all interfaces unless
        # told otherwise. Worker processes take theirs from the host.
        dashboard_address=LOOPBACK,
        **(
            {"worker_dashboard_address": LOOPBACK}
            if n_workers is None
            else {"host": "127.0.0.1", "preload": [worker_process.__name__]}
        ),
    )


def machine_memory() -> int:
    """Bytes that a build may take of this machine where nobody set a limit."""
    return int(SHARE * MEMORY_LIMIT)


def memory_of(executor: Machine, limit: int | None) -> tuple[int, float]:
    """Bytes of a worker, and the share of them that may be used: the user's limit, or what workers have if less."""
    share, memory = getattr(executor, "share", 1.0), executor.memory
    if memory is None:
        return limit or machine_memory(), 1.0
    return (limit, 1.0) if limit is not None and limit <= share * memory else (memory, share)
