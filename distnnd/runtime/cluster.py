"""Stages on Dask: a bounded window of futures, each released as it finishes; nothing of value stays on a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dask
import distributed
from distributed.scheduler import KilledWorker
from distributed.system import MEMORY_LIMIT

from ..values.budget import USABLE
from ..values.errors import DistnndError, SpecError, StageError
from ..values.plan import Job, Report, Stage, Task
from ..values.spec import format_bytes, whole_number
from . import worker_process
from .allocator import PLUGIN, KeepsMemory, expect_large_arrays
from .events import Listener, StageStart, TaskEnd
from .serial import Executor, Machine, SerialExecutor, failed
from .threads import in_turn, threads_available

# Tasks in flight for each that may run: one that runs and one that waits, so that no thread idles between two.
WINDOW = 2
# Seconds after which to look whether a worker that has not answered is still there.
PATIENCE = 2
# Seconds that tasks at work get to end when another one has failed.
LAST_WORDS = 30
# Of the machine's memory, where nobody set a limit: the rest is for the user and the page cache.
SHARE = 0.6


class DaskExecutor:
    """Runs stages on the workers of a client, which it neither restarts nor closes.

    machine: what a plan was told of workers that were started for it; None for those of the user, of whose limit Dask
    leaves a part. threads: that the user allows each worker.
    """

    def __init__(self, client: Any, machine: LocalMachine | None = None, threads: int | None = None) -> None:
        self.client = client
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if not workers:
            client.wait_for_workers(1, timeout=60)
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
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
        self._keeps_memory = False

    def run(self, stage: Stage, job: Job, listen: Listener) -> list[Report]:
        """Run all tasks of the stage; reports in the order of its tasks.

        StageError if a worker died of a task several times; errors of the project pass as they are.
        """
        if not stage.tasks:
            return []
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
        except Exception:
            # Whoever tidies up after a failure must not be written to by those still at work.
            with suppress(Exception), self.client.as_current():
                distributed.wait(list(done.futures), timeout=LAST_WORDS)
            raise
        finally:
            if running:
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
            raise failed(stage, task, error) from error
        future.release()
        return report


class LocalExecutor:
    """Runs in this process: one partition right here, several on a temporary cluster that starts when it is needed.

    A cluster takes a fifth of a second of CPU time to start and end, and could only hold one partition's task.
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
        if job.layout.partitions == 1:
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
    several partitions, or `n_workers` processes of one thread each; closed at the end. threads: that a worker may use,
    by default all of this process, one of a process of `n_workers`, or all that a client's worker has. SpecError for
    anything else.
    """
    if client is None and n_workers is None:
        client = current_client()
    if client is None and n_workers is None:
        with ExitStack() as stack:
            yield LocalExecutor(stack, threads)
    elif client is None:
        with _temporary(n_workers, memory_limit, threads) as executor:
            yield executor
    elif isinstance(client, distributed.Client):
        with closing(DaskExecutor(client, threads=threads)) as executor:
            yield executor
    elif hasattr(client, "run") and hasattr(client, "in_process"):
        yield client
    elif isinstance(client, str) or hasattr(client, "scheduler_address"):
        with (
            distributed.Client(client, set_as_default=False) as own,
            closing(DaskExecutor(own, threads=threads)) as executor,
        ):
            yield executor
    else:
        raise SpecError(f"client must be a dask Client, a cluster, an address or None, not {type(client).__name__}")


def current_client() -> Any:
    """The client that Dask calls the current one; None where there is none."""
    try:
        return distributed.default_client()
    except ValueError:
        return None


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
    if client is None and (n_workers is not None or current_client() is None):
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


@contextmanager
def _temporary(n_workers: int | None, memory_limit: int | None, threads: int | None = None) -> Iterator[DaskExecutor]:
    machine = local_machine(memory_limit, n_workers, threads)
    with dask.config.set(UNWATCHED | UP_TO_THE_LIMIT):
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
        # The dashboard of a LocalCluster listens on all interfaces unless told otherwise.
        dashboard_address="127.0.0.1:0",
        **({} if n_workers is None else {"host": "127.0.0.1", "preload": [worker_process.__name__]}),
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
