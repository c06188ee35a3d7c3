"""`python -m benchmarks.bounded [rows]`: a generated set of 4M x 96 built by two workers of 700 MB each.

Prints the peak memory of each stage, and what the workers' own log says of pauses, spilling and restarts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

from . import data
from .measure import machine

LIMIT = 700_000_000


class Watch:
    """Listens to a build: prints what happens, keeps the plan's bytes and the largest peak of each stage."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.peaks: dict[str, int] = {}
        self.planned = 0

    def __call__(self, event: Any) -> None:
        if hasattr(event, "plan"):
            self.planned = event.plan.peak
            print(event.plan, flush=True)
        elif hasattr(event, "report"):
            self.peaks[event.stage] = max(self.peaks.get(event.stage, 0), event.report.peak >> 20)
        else:
            print(f"{time.perf_counter() - self.start:7.1f} s  {event}", flush=True)


def calm(client: Any, before: dict[str, int]) -> dict[str, Any]:
    """Whether all workers lived, what they wrote about memory, and how many bytes they spilled."""
    warnings = [
        line
        for lines in client.get_worker_logs().values()
        for level, line in lines
        if level == "WARNING" and any(word in line.lower() for word in ("memory", "spill", "paus"))
    ]
    survived = before == client.run(os.getpid)
    spilled = list(client.run(_spilled).values())
    return {"workers_survived": survived, "memory_warnings": warnings, "spilled_bytes": spilled}


def _spilled(dask_worker: Any) -> int:
    total = dask_worker.data.spilled_total
    return int(total.disk if hasattr(total, "disk") else total)


def main() -> None:
    """Build to 0.9 and print what happened as JSON."""
    import distributed

    import distnnd

    parser = argparse.ArgumentParser(prog="python -m benchmarks.bounded", description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=4_000_000)
    source = data.stored(parser.parse_args().rows, 96)
    watch = Watch()
    with (
        tempfile.TemporaryDirectory(dir=data.MADE) as folder,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=LIMIT, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        before = client.run(os.getpid)
        graph = distnnd.build(source, f"{folder}/graph.zarr", target_recall=0.9, client=client, progress=watch)
        state = calm(client, before)
        verified = graph.verify(source, rows=1000)
    wall, cpu = time.perf_counter() - watch.start, sum(os.times()[:4])
    facts = {"recall": str(graph.recall), "rounds": len(graph.facts["rounds"]), "wall": wall, "cpu": cpu}
    memory = {"peaks_mib": watch.peaks, "planned_mib": watch.planned >> 20, "limit_mib": LIMIT >> 20}
    print(machine())
    print(json.dumps({**facts, **memory, **state, "verified": verified}, default=str))


if __name__ == "__main__":
    main()
