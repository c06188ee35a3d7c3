"""Indexes on the workers: each process opens one from its path, once, also those that join later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import distributed

from ..values.errors import BudgetError
from .cluster import current_client

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
    """Opens an index when a worker starts, and closes it when the plugin is taken away."""

    def __init__(self, name: str, opener: Opener) -> None:
        self.name, self._opener = name, opener

    def setup(self, worker: Any) -> None:
        """Open the index in the process of this worker."""
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


def install(client: Any, name: str, opener: Opener) -> None:
    """Open the index on all workers of the client, and on those to come; errors of the project pass as they are."""
    for address, status in client.register_plugin(OpensIndex(name, opener), name=name).items():
        if isinstance(status, dict) and status.get("status") not in ("OK", None):
            raise status.get("exception") or BudgetError(f"worker {address} could not open the index")


def uninstall(client: Any, name: str) -> None:
    """Take the index from all workers."""
    client.unregister_worker_plugin(name)


def query_lazily(queries: Any, k: int, run: Callable[[Any], Any], nothing: Any) -> tuple[Any, Any]:
    """ids and distances as lazy dask arrays, a chunk of whole queries at a time.

    run: from queries to an array of records (ids, distances); nothing: such an array without rows. A chunk is one task:
    where its worker dies it is run again on another one, and answers the same.
    """
    queries = queries.rechunk({1: -1})
    # Dask would find out the kind of the answers by a call in this process, which need not open the index.
    both = queries.map_blocks(run, meta=nothing, chunks=(queries.chunks[0], (k,)))
    ids, distances = (both.map_blocks(_field, name, meta=nothing[name].copy()) for name in ("ids", "distances"))
    return ids, distances


def _field(both: Any, name: str) -> Any:
    return both[name].copy()
