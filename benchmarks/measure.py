"""Whole processes, measured from outside: CPU seconds with all children, wall seconds, what they say of themselves."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .placement import PROCESSORS, Placement, processors

ROOT = Path(__file__).resolve().parents[1]


# Libraries count processors when they are loaded, which may be while their thread is tied to one.
THREADS = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"), str(len(processors())))
THREADS[PROCESSORS] = ",".join(map(str, processors()))


class Run(NamedTuple):
    """One finished process: its seconds and what it said."""

    cpu: float
    wall: float
    said: Any


class Built(NamedTuple):
    """One build of one graph by one builder.

    recall: of the rows whose neighbours are known; cpu: seconds of all processes; wall: seconds; peak: bytes of the
    process; startup: seconds of the imports and a first small build before; facts: whatever else the builder says.
    """

    recall: float
    cpu: float
    wall: float
    peak: int
    startup: float
    facts: dict[str, Any]


def run(module: str, *arguments: str, environment: dict[str, str] | None = None, placed: bool = True) -> Run:
    """Run `python -m module arguments`; its last line of output is JSON.

    placed: spread its busy threads over the processors.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **(THREADS if placed else {}), **(environment or {})},
        text=True,
    )
    assert process.stdout is not None
    if placed:
        with Placement(process.pid):
            said = process.stdout.read()
    else:
        said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} ended with {process.returncode}")
    wall = time.perf_counter() - start
    return Run(usage.ru_utime + usage.ru_stime, wall, json.loads(said.strip().splitlines()[-1]))


def build(builder: str, name: str, settings: dict[str, Any] | None = None) -> Built:
    """One build of the set `name` in a process of its own, on all processors."""
    return builds(builder, name, [settings or {}])[0]


def builds(builder: str, name: str, choices: Sequence[dict[str, Any]]) -> list[Built]:
    """Builds at several settings, one after the other in one process: they share its start-up."""
    return [built(said) for said in run("benchmarks.one", builder, name, *map(json.dumps, choices)).said]


def built(said: dict[str, Any]) -> Built:
    """What a process said of a build."""
    facts = {key: value for key, value in said.items() if key not in Built._fields}
    return Built(*(said[field] for field in Built._fields[:-1]), facts=facts)


class Ratio(NamedTuple):
    """Median and range of the ratios of pairs of runs."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


Pair = tuple[Built, Built]


def alternate(first: Callable[[], Built], second: Callable[[], Built], runs: int) -> list[Pair]:
    """Run both in alternation: what drifts, drifts under both."""
    return [(first(), second()) for _ in range(runs)]


def ratio(pairs: Sequence[Pair], what: str) -> Ratio:
    """How many times as much of `what` ("cpu", "wall", "peak") the second of each pair took as the first."""
    ratios = [getattr(second, what) / getattr(first, what) for first, second in pairs]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def median(runs: Sequence[Built]) -> Built:
    """The median of each figure of several runs; the facts of the first."""
    figures = ([getattr(one, field) for one in runs] for field in Built._fields[:-1])
    return Built(*map(statistics.median, figures), facts=runs[0].facts)


def machine() -> str:
    """What the figures were measured on, in one line."""
    model = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"
