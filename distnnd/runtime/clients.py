"""Which Dask client a caller means, whether it can be used from here, and what is said when it is lost."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dask
import distributed
from dask.utils import parse_timedelta
from distributed.comm import CommClosedError

from ..values.errors import DistnndError, DistnndWarning, SpecError, StageError
from ..values.spec import whole_number

CONNECT = "distributed.comm.timeouts.connect"
# Seconds to wait for a scheduler's answer, unless Dask's own setting is another than Dask's default.
ANSWER, DASKS_OWN = 10.0, 30.0
# Seconds to wait for the first worker of a cluster, and after which it is said that something does not answer.
ARRIVAL, SILENCE = 60.0, 3.0
# Of the environment of worker processes of our own, while they start: a file to leave a mark in.
STARTING = "DISTNND_STARTING"
# The reason that Dask gives for futures that are cancelled so.
LOST = "scheduler-connection-lost"
GUARD = 'put the call under `if __name__ == "__main__":`'


# --- where this is called from ----------------------------------------------------------------------------


# The processes that have used a cluster of Dask: this one, and the one that it was forked from, in which threads and
# event loops of Dask are that are gone here. Clients of that one.
_used_by: set[int] = set()
_left_behind: weakref.WeakSet[Any] = weakref.WeakSet()


def dask_is_used() -> None:
    """Note that this process has used a cluster of Dask, which a fork does not survive."""
    _used_by.add(os.getpid())


def _after_fork() -> None:
    if distributed.Client._instances:
        _used_by.add(os.getppid())
        _left_behind.update(distributed.Client._instances)


os.register_at_fork(after_in_child=_after_fork)


def is_forked() -> bool:
    """Whether Dask cannot be used here, because this process was forked from one that had used it."""
    return bool(_used_by - {os.getpid()})


def task_worker() -> Any:
    """The worker whose task this thread runs; None outside of tasks."""
    try:
        return distributed.get_worker()
    except ValueError:
        return None


@contextmanager
def not_waited_for() -> Iterator[None]:
    """Let the worker start another task meanwhile, if this thread runs a task and is about to wait for others.

    As many tasks as a worker has threads would wait for ever for tasks that need one of these threads.
    """
    try:
        distributed.secede()
    except (ValueError, KeyError, AttributeError):
        # No task, or one that has left its place already.
        yield
        return
    try:
        yield
    finally:
        distributed.rejoin()


@contextmanager
def noting_scripts_run_again() -> Iterator[None]:
    """While worker processes of our own start: SpecError if one ran the user's script again and came to this call."""
    with tempfile.TemporaryDirectory(prefix="distnnd-") as folder:
        mark = os.environ[STARTING] = os.path.join(folder, "again")
        try:
            yield
        except Exception as error:
            if os.path.exists(mark):
                # Without what Dask said, which is of its own processes.
                raise SpecError(
                    f"n_workers starts processes, and each of them ran this script again: {GUARD}"
                ) from None
            raise StageError(f"worker processes could not be started: {error!r}") from error
        finally:
            os.environ.pop(STARTING, None)


# --- what the caller passed -------------------------------------------------------------------------------


def check_client(client: Any, n_workers: Any = None) -> int | None:
    """n_workers as an int or None; SpecError, before anything is read or started, for what cannot be used from here."""
    count = None if n_workers is None else whole_number("n_workers", n_workers, 1)
    if client is None and count is not None:
        _check_processes()
    elif client is None:
        current_client()
    elif isinstance(client, distributed.Client):
        check_usable(client, "client")
    elif hasattr(client, "scheduler_address"):
        check_usable(client, "cluster")
    elif not isinstance(client, str) and not (hasattr(client, "run") and hasattr(client, "in_process")):
        raise SpecError(f"client must be a dask Client, a cluster, an address or None, not {type(client).__name__}")
    if client is not None and not hasattr(client, "in_process"):
        _check_not_forked("a client")
    return count


def check_usable(thing: Any, what: str) -> None:
    """SpecError if a client or cluster is asynchronous, closed, or belongs to the process that this was forked from.

    StageError if it has lost its scheduler.
    """
    name = f"the {what} {_address(thing)}".rstrip()
    if thing in _left_behind:
        _check_not_forked(name)
    if getattr(thing, "_asynchronous", False) or _blocks(thing):
        raise SpecError(
            f"{name} is asynchronous, and this call would block the event loop that it needs; start it without "
            "asynchronous=True, or make the call in another thread by its address: "
            f"await asyncio.to_thread(distnnd.build, ..., client={_address(thing) or 'address'!r})"
        )
    # One that was just made, or is about to find its scheduler again, gets a moment.
    deadline = time.monotonic() + SILENCE
    while (status := getattr(thing.status, "name", thing.status)) == "connecting" and time.monotonic() < deadline:
        time.sleep(0.05)
    if status in ("closed", "closing", "failed"):
        raise SpecError(f"{name} is {status}; pass one that is open, or None")
    if status == "connecting":
        raise StageError(f"{name} has lost its scheduler; start one, and make the same call with a client of it")


def _blocks(thing: Any) -> bool:
    """Whether this thread runs the event loop of a client or cluster."""
    with suppress(RuntimeError, AttributeError):
        return bool(thing.loop.asyncio_loop is asyncio.get_running_loop())
    return False


def _address(thing: Any) -> str:
    """The address of the scheduler of a client or cluster, or of one itself; "" where it has none (any more)."""
    with suppress(Exception):
        if isinstance(thing, distributed.Client):
            return str(thing.scheduler.address)
        return str(thing.address if isinstance(thing, distributed.Scheduler) else thing.scheduler_address)
    return ""


def _check_not_forked(name: str) -> None:
    if is_forked():
        raise SpecError(
            f"{name} cannot be used here: this process was forked from one that had used Dask, whose threads are gone "
            'in it; start it by multiprocessing.get_context("spawn"), or leave client and n_workers out'
        )


def _check_processes() -> None:
    """SpecError unless this process can start worker processes."""
    process = multiprocessing.current_process()
    _check_not_forked("n_workers")
    if getattr(process, "_inheriting", False):
        mark = os.environ.get(STARTING)
        if mark:
            # One of the processes that are starting below: the one that waits for them says what is wrong.
            with open(mark, "a", encoding="ascii") as file:
                file.write("again\n")
            sys.exit(1)
        raise SpecError(f"n_workers starts processes, and each of them runs this script again: {GUARD}")
    if process.daemon:
        raise SpecError(
            "n_workers cannot be used in a worker process of a pool or of Dask, which may not start processes of its "
            "own; leave it out"
        )


def current_client() -> Any:
    """The client that Dask calls the current one; None where there is none, and in tasks, which build by themselves.

    SpecError for one that cannot be used from here.
    """
    if task_worker() is not None:
        return None
    try:
        client = distributed.default_client()
    except ValueError:
        return None
    if client in _left_behind:
        return None
    check_usable(client, "current Dask client")
    return client


# --- the other side ---------------------------------------------------------------------------------------


@contextmanager
def connected(address: Any) -> Iterator[Any]:
    """A client of the scheduler at an address, or of a cluster; closed at the end.

    StageError if nothing answers within seconds, SpecError for what is no address.
    """
    name = address if isinstance(address, str) else _address(address)
    _check_not_own_loop(name)
    patience = parse_timedelta(dask.config.get(CONNECT, DASKS_OWN), "s")
    patience = ANSWER if patience == DASKS_OWN else patience
    try:
        client = distributed.Client(address, set_as_default=False, timeout=patience)
    except OSError as error:
        raise StageError(
            f"no Dask scheduler answers at {name} within {patience:g} s ({error}); check the address and that it runs, "
            f"or allow more time: dask.config.set({{{CONNECT!r}: '60s'}})"
        ) from error
    except Exception as error:
        raise SpecError(f"{name} cannot be used as the address of a Dask scheduler ({error})") from error
    with client:
        yield client


def _check_not_own_loop(address: str) -> None:
    """SpecError if the scheduler at the address lives in the event loop of this thread, which would wait for itself."""
    for scheduler in list(distributed.Scheduler._instances):
        if _address(scheduler) == address:
            check_usable(scheduler, "scheduler")


def workers_of(client: Any) -> list[dict[str, Any]]:
    """What the scheduler knows of each worker; the first of them is waited for, which is said after seconds.

    StageError if none comes.
    """
    address = _address(client)
    with told_if_lost(client):
        found = _workers(client)
        if not found:
            # A cluster that grows with its work needs to see some.
            asked = client.submit(os.getpid, pure=False)
            for patience in (SILENCE, ARRIVAL - SILENCE):
                with suppress(TimeoutError):
                    client.wait_for_workers(1, timeout=patience)
                    break
                if patience == SILENCE:
                    warnings.warn(
                        f"waiting for workers: the cluster at {address} has none yet; waiting for the first one, for "
                        f"{ARRIVAL:g} s at most",
                        DistnndWarning,
                        stacklevel=2,
                    )
            asked.release()
            found = _workers(client)
    if not found:
        raise StageError(
            f"no worker has joined the cluster at {address} in {ARRIVAL:g} s; start one, cluster.scale(1) or "
            f"`dask worker {address}`, and make the same call again"
        )
    return found


def _workers(client: Any) -> list[dict[str, Any]]:
    return list(client.scheduler_info(n_workers=-1).get("workers", {}).values())


@contextmanager
def told_if_lost(client: Any, store: str | None = None) -> Iterator[None]:
    """Turn whatever Dask raises once the scheduler is lost into a StageError that names it.

    store: where a build stands that can be resumed.
    """
    address = _address(client)
    try:
        yield
    except DistnndError:
        raise
    except Exception as error:
        if not is_lost(client, error):
            raise
        goes_on = "make the same call again with a scheduler that runs"
        # The folder of a temporary graph goes with the call.
        if store is not None and not os.path.dirname(store).startswith(os.path.join(tempfile.gettempdir(), "distnnd-")):
            goes_on += f"; the build goes on at its last committed round, also by `distnnd resume {store}`"
        raise StageError(f"the Dask scheduler at {address} was lost ({error}); {goes_on}") from error


def is_lost(client: Any, error: BaseException | None = None) -> bool:
    """Whether a client has lost its scheduler, by its status or by what it raised."""
    reasons = [getattr(one, "reason", None) for one in (error, *getattr(error, "errors", ()))]
    return client.status != "running" or isinstance(error, CommClosedError) or LOST in reasons
