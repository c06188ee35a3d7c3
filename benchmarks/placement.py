"""Busy threads on processors of their own.

A kernel may leave two busy threads of a process on one of two processors for seconds, and then a wall time says more
of the kernel than of the builder. So whoever measures looks at the measured process from outside, many times a second,
and gives each busy thread a processor. All builders are treated alike, and nothing of it is counted as theirs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

TICK = 0.03
# Names the processors to a measured process, which may be tied to one of them while it counts.
PROCESSORS = "BENCHMARK_PROCESSORS"
# Processes are looked for less often than threads: that takes a walk over all of /proc.
PROCESSES_TICK = 1.0
# A thread that ran or wanted to run for this share of a tick is busy.
BUSY = 0.5


def processors() -> list[int]:
    """The processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def assign(homes: Mapping[int, int], busy: Collection[int], among: Sequence[int]) -> dict[int, int]:
    """The processor of each busy thread: its home where that is not crowded, else the emptiest.

    Nothing where one thread is busy alone: threads that it starts would inherit its place, and count one processor.
    """
    if len(busy) < 2:
        return {}
    room = -(-len(busy) // len(among))
    load = dict.fromkeys(among, 0)
    places: dict[int, int] = {}
    for thread in sorted(busy, key=lambda thread: (thread not in homes, thread)):
        home = homes.get(thread, among[0])
        if thread not in homes or load[home] >= room:
            home = min(among, key=lambda processor: load[processor])
        places[thread] = home
        load[home] += 1
    return places


def pin_process(processor: int) -> int:
    """Tie all threads of this process, and those that they start later, to one processor; returns the process id."""
    for thread in threads_of(os.getpid()):
        _tie(thread, [processor])
    return os.getpid()


def count_all() -> None:
    """Free this thread for all processors, and let Dask count them before it is placed again."""
    if PROCESSORS in os.environ and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(processor) for processor in os.environ[PROCESSORS].split(",")])
    import dask.system

    dask.system.CPU_COUNT = dask.system.cpu_count()


class Placement:
    """Spreads the busy threads of a process and of its children while it is entered; idle where there is no /proc."""

    def __init__(self, process: int) -> None:
        self.process, self.among = process, processors()
        self.homes: dict[int, int] = {}
        self.demands: dict[int, float] = {}
        self._left = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Placement:
        if len(self.among) > 1 and Path(f"/proc/{self.process}/schedstat").exists():
            self._watcher.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._left.set()
        if self._watcher.ident is not None:
            self._watcher.join()

    def _watch(self) -> None:
        last = looked = 0.0
        family = [self.process]
        while not self._left.wait(TICK):
            now = time.perf_counter()
            if now - looked > PROCESSES_TICK:
                family, looked = family_of(self.process), now
            self.look([thread for process in family for thread in threads_of(process)], now - last)
            last = now

    def look(self, threads: Sequence[int], seconds: float) -> None:
        """Place those of the threads that were busy in the last `seconds`, and free those that no longer are."""
        demands = {thread: demand_of(thread) for thread in threads}
        known = self.demands.keys() & demands.keys()
        busy = [thread for thread in known if demands[thread] - self.demands[thread] > BUSY * seconds]
        places = assign(self.homes, busy, self.among)
        for thread, home in places.items():
            if self.homes.get(thread) != home:
                _tie(thread, [home])
        alone = [thread for thread in busy if not places and thread in self.homes]
        # A thread inherits the place of the one that started it.
        for thread in [*alone, *(demands.keys() - known)]:
            _tie(thread, self.among)
        held = {thread: home for thread, home in self.homes.items() if thread in demands and thread not in alone}
        self.homes, self.demands = held | places, demands


def demand_of(thread: int) -> float:
    """Seconds that a thread ran or waited for a processor; 0 if it is gone."""
    try:
        ran, waited, _ = Path(f"/proc/{thread}/schedstat").read_text().split()
    except OSError:
        return 0.0
    return (int(ran) + int(waited)) * 1e-9


def threads_of(process: int) -> list[int]:
    """Ids of the threads of a process, empty if it is gone."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{process}/task")]
    except OSError:
        return []


def family_of(process: int) -> list[int]:
    """A process and all below it."""
    below: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            # The name of a process stands in brackets and may hold anything.
            parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(name))
    family = [process]
    for member in family:
        family += below.get(member, [])
    return family


def _tie(thread: int, to: Sequence[int]) -> None:
    try:
        os.sched_setaffinity(thread, to)
    except OSError:
        # The thread ended meanwhile.
        return
