"""Builds of one builder in a process of its own: `python -m benchmarks.one distnnd mnist '{"target_recall": 0.95}'`.

Prints as a JSON list, for each of the settings, what benchmarks.measure.Built holds: the CPU and wall seconds of the
build itself, its recall against exact answers, the peak memory of the process during it, and apart the seconds that it
took to import everything and to build a small sample, which compiles or loads what the build needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from distnnd.storage.held import forget_peak, peak_memory

from . import data
from .peers import BUILDERS, Builder, Found
from .placement import count_all

SAMPLE = 20_000
# What is chosen for the size of a set, and does not suit its sample.
FOR_THE_SIZE = ("memory_limit", "nlist")


def main(builder: str, name: str, *several: str) -> None:
    """Build a sample at the first settings to warm up, then the whole at each of the settings, measured."""
    count_all()
    task, choices, build = data.task(name), [json.loads(settings) for settings in several] or [{}], BUILDERS[builder]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        start = time.perf_counter()
        small = {key: value for key, value in choices[0].items() if key not in FOR_THE_SIZE}
        build(sample_of(task, Path(folder)), small, Path(folder, "small"))
        startup = time.perf_counter() - start
        builds = [measured(build, task, settings, Path(folder, str(i))) for i, settings in enumerate(choices)]
    print(json.dumps([{**figures, "startup": startup} for figures in builds]))


def measured(build: Builder, task: data.Task, settings: dict[str, Any], place: Path) -> dict[str, Any]:
    """The figures of one build."""
    forget_peak()
    before, start = cpu_of_all(), time.perf_counter()
    found = build(task, settings, place)
    cpu, wall = cpu_of_all() - before, time.perf_counter() - start
    return {"cpu": cpu, "wall": wall, "peak": peak_memory()} | checked(task, found)


def sample_of(task: data.Task, folder: Path) -> data.Task:
    """The first rows of a set as a set of their own."""
    place = folder / "sample.npy"
    np.save(place, task.open()[:SAMPLE])
    return task._replace(points=place)


def checked(task: data.Task, found: Found) -> dict[str, Any]:
    """The recall of what was found, a digest of all of it where distances are kept, and what the builder says."""
    ids, digest = np.asarray(found.ids[:]), hashlib.sha256()
    digest.update(np.ascontiguousarray(ids))
    if found.distances is not None:
        digest.update(np.ascontiguousarray(found.distances[:]))
    return {"recall": task.recall(ids), "digest": digest.hexdigest()[:16], **found.facts}


def cpu_of_all() -> float:
    """CPU seconds of this process and of the children that have ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main(*sys.argv[1:])
