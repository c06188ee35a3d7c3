"""`python -m benchmarks.workers [rows] [--runs N]`: two worker processes against one.

The generated manifold of 128 columns, by default a million rows. Each worker is a process of one thread, tied to a
processor of its own, with memory for a quarter of the rows; so both do the same tasks, and must write the same bytes.
Kernels are loaded before the clock starts. Writes benchmarks/results/workers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from distnnd.storage.held import peak_memory

from . import data
from .measure import Built, alternate, built, median, ratio, run
from .one import checked, sample_of
from .peers import distnnd
from .placement import pin_process, processors
from .quarter import limit_for
from .table import Table, mib


def child(name: str, workers: int, limit: int) -> None:
    """One build by so many workers; prints what benchmarks.measure.Built holds."""
    from distributed import Client, LocalCluster

    task, settings = data.task(name), {"memory_limit": limit}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=limit, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        start = time.perf_counter()
        _place(client)
        distnnd(sample_of(task, Path(folder)), {"client": client}, Path(folder, "small"))
        startup = time.perf_counter() - start
        before, start = _cpu(client), time.perf_counter()
        found = distnnd(task, settings | {"client": client}, Path(folder, "whole"))
        cpu, wall = _cpu(client) - before, time.perf_counter() - start
        peak = sum(client.run(peak_memory).values())
        figures = {"cpu": cpu, "wall": wall, "peak": peak, "startup": startup}
        print(json.dumps(figures | checked(task, found)))


def _place(client: Any) -> None:
    """Tie each worker to a processor of its own, as far as there are any."""
    among = processors()
    for i, address in enumerate(sorted(client.scheduler_info(n_workers=-1)["workers"])):
        client.run(pin_process, among[i % len(among)], workers=[address])


def _cpu(client: Any) -> float:
    """CPU seconds of the workers and of this process so far."""
    return sum(sum(times[:2]) for times in [os.times(), *client.run(os.times).values()])


def cells(workers: int, one: Built) -> list[str]:
    """A row of the table."""
    figures = [f"{one.recall:.4f}", f"{one.wall:.1f}", f"{one.cpu:.1f}", mib(one.peak)]
    return [str(workers), str(one.facts["partitions"]), str(one.facts["rounds"]), *figures, one.facts["digest"]]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    name = f"manifold-{chosen.rows}-128"
    limit = limit_for(data.task(name))
    note = f"{name}, workers of {mib(limit)} MiB; {chosen.runs} pairs, in alternation; medians."
    columns = ("workers", "partitions", "rounds", "recall", "wall s", "CPU s", "peak MiB, all workers", "digest")
    table = Table("workers", *columns, note=note)
    two, one = (partial(_measured, "benchmarks.workers", "child", name, str(workers), str(limit)) for workers in (2, 1))
    pairs = alternate(two, one, chosen.runs)
    for workers, runs in zip((2, 1), zip(*pairs, strict=True), strict=True):
        table.add(*cells(workers, median(runs)))
    same = len({run.facts["digest"] for pair in pairs for run in pair}) == 1
    table.say(
        "", f"Two are {ratio(pairs, 'wall')} times as fast as one; {'the same' if same else 'NOT the same'} bytes."
    )


def _measured(*arguments: str) -> Built:
    # Workers are tied to processors by themselves.
    return built(run(*arguments, placed=False).said)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
