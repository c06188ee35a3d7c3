"""Indexes on the workers: each process opens one from its path, once, also those that join later."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import distributed
from distributed.scheduler import KilledWorker

from ..values.errors import BudgetError, StageError
from ..values.spec import format_bytes
from .clients import current_client, is_lost, told_if_lost
from .cluster import WINDOW, executor_for

# What this process has opened, by name: an index is opened where it is asked for first, and stays.
_opened: dict[str, Any] = {}
_lock = threading.Lock()

Opener = Callable[[], Any]


def opened(name: str, opener: Opener) -> Any:
    """What `opener` opened under that name, once a process."""
    with _lock:
        if name not in _opened:
            _opened[name] = opener()
        return _opened[name]


def close(name: str) -> None:
    """Forget what was opened under that name."""
    with _lock:
        _opened.pop(name, None)


class OpensIndex(distributed.WorkerPlugin):  # type: ignore[misc]
    """Opens an index when a worker starts, and closes it when the plugin is taken away.

    need: bytes that a worker must have for it.
    """

    def __init__(self, name: str, opener: Opener, need: int) -> None:
        self.name, self._opener, self._need = name, opener, need

    def setup(self, worker: Any) -> None:
        """Open the index in the process of this worker; BudgetError, in the log of one that joins, if it is too small.

        Such a worker goes on with other work: see `where_it_fits`.
        """
        limit = limit_of(worker)
        if limit and limit < self._need:
            raise BudgetError(
                f"worker {worker.address} has {format_bytes(limit)}, but {self.name} takes {format_bytes(self._need)} "
                "of a worker; it opens nothing, and queries go to the others. Give each worker as much memory, or open "
                "the index by partitions: pass memory_limit"
            )
        opened(self.name, self._opener)

    def teardown(self, worker: Any) -> None:
        """Let go of it."""
        close(self.name)


def worker_limit(client: Any = None) -> int | None:
    """The least memory limit of the workers of a client, by default of the current one; None where there is none."""
    client = client or current_client()
    if client is None:
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return min((worker["memory_limit"] for worker in workers if worker["memory_limit"]), default=None)


def limit_of(worker: Any) -> int | None:
    """The memory limit of a worker object; None where there is none."""
    return worker.memory_manager.memory_limit or None


def install(client: Any, name: str, opener: Opener, need: int) -> None:
    """Open the index, which takes `need` bytes, on all workers of the client, and on those to come.

    Errors of the project pass as they are.
    """
    for address, status in client.register_plugin(OpensIndex(name, opener, need), name=name).items():
        if isinstance(status, dict) and status.get("status") not in ("OK", None):
            raise status.get("exception") or BudgetError(f"worker {address} could not open the index")


def uninstall(client: Any, name: str) -> None:
    """Take the index from all workers, if the client still has any."""
    # Another index object of the same store may have done so already.
    with suppress(ValueError, KeyError):
        if client.status == "running":
            client.unregister_worker_plugin(name)


def query_lazily(queries: Any, k: int, run: Callable[..., Any], need: int, nothing: Any) -> tuple[Any, Any]:
    """ids and distances as lazy dask arrays, a chunk of whole queries at a time.

    run: from queries to an array of records (ids, distances), which takes `need` bytes of a worker, called as
    run(queries, first=number of the first); nothing: such an array without rows. A chunk is one task: where its worker
    dies it is run again on another one, and answers the same.
    """
    queries = queries.rechunk({1: -1})
    # Dask would find out the kind of the answers by a call in this process, which need not open the index.
    asked = partial(_answer_block, run, need)
    both = queries.map_blocks(asked, meta=nothing, chunks=(queries.chunks[0], (k,)))
    ids, distances = (both.map_blocks(_field, name, meta=nothing[name].copy()) for name in ("ids", "distances"))
    return ids, distances


def _answer_block(run: Callable[..., Any], need: int, queries: Any, block_info: Any = None) -> Any:
    """The answers to a block of queries. Where sizes are unknown, messages number its rows from 0."""
    first = block_info[0]["array-location"][0][0] if block_info else 0
    return where_it_fits(partial(run, first=int(first) if first == first else 0), need, queries)


def _field(both: Any, name: str) -> Any:
    return both[name].copy()


def where_it_fits(run: Callable[[Any], Any], need: int, queries: Any) -> Any:
    """run(queries), here or, where this worker has less than `need` bytes, on one that has them.

    Dask forgets which workers a task of an array is meant for when it optimises the graph, so a worker that joined
    later and is too small is asked like the others. BudgetError where no worker is left that can.
    """
    try:
        limit = limit_of(distributed.get_worker())
    except ValueError:
        return run(queries)
    if limit is None or limit >= need:
        return run(queries)
    with distributed.worker_client() as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        able = [address for address, one in workers.items() if not one["memory_limit"] or one["memory_limit"] >= need]
        if not able:
            raise BudgetError(
                f"the index takes {format_bytes(need)} of a worker, but the workers that are left have less; give them "
                "more memory, or open it by partitions: pass memory_limit"
            )
        # Should all of these die, somebody else may try, and finds out for himself.
        task = client.submit(where_it_fits, run, need, queries, workers=able, allow_other_workers=True, pure=False)
        return task.result()


# --- batches, answered in their order --------------------------------------------------------------------


@contextmanager
def client_of(client: Any) -> Iterator[Any]:
    """The Dask client for what the user passed (see executor_for); None for None where there is no current one."""
    if client is None and current_client() is None:
        yield None
        return
    with executor_for(client) as executor:
        yield getattr(executor, "client", None)


def in_order(client: Any, run: Callable[..., Any], need: int, batches: Iterable[tuple[int, Any]]) -> Iterator[Any]:
    """What workers answer to each batch, in the order of the batches, of which few are under way at any time.

    batches: number of the first query, and the queries; called as run(queries, first=number).

    StageError if a worker died of one several times, or the scheduler is lost; errors of the project pass as they are.
    """
    waiting: deque[Any] = deque()
    try:
        with told_if_lost(client):
            for first, batch in batches:
                waiting.append(client.submit(where_it_fits, partial(run, first=first), need, batch, pure=False))
                if len(waiting) > WINDOW * max(sum(client.nthreads().values()), 1):
                    yield _taken(waiting.popleft())
            while waiting:
                yield _taken(waiting.popleft())
    finally:
        if not is_lost(client):
            client.cancel(list(waiting))


def _taken(future: Any) -> Any:
    try:
        return future.result()
    except KilledWorker as error:
        raise StageError(
            f"a batch of queries lost its worker several times ({error}); give workers more memory"
        ) from error
