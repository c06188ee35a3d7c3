"""`python -m benchmarks.bounded [rows]`: a generated set of 4M x 96 built by two workers of 700 MB each.

Prints the peak memory of each stage, and what the workers' own log says of pauses, spilling and restarts.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

import distributed

import distnnd

from . import data
from .measure import machine


def main(rows: int = 4_000_000) -> None:
    """Build to 0.9 and print what happened as JSON."""
    source = data.generated(rows, 96)
    peaks: dict[str, int] = {}
    planned: list[int] = []

    def listen(event: Any) -> None:
        if hasattr(event, "plan"):
            planned.append(event.plan.peak)
            print(event.plan, flush=True)
        elif hasattr(event, "report"):
            peaks[event.stage] = max(peaks.get(event.stage, 0), event.report.peak >> 20)
        else:
            print(f"{time.perf_counter() - start:7.1f} s  {event}", flush=True)

    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(dir=data.MADE) as folder,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="700MB", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        before = dict(client.run(os.getpid).items())
        graph = distnnd.build(source, f"{folder}/graph.zarr", target_recall=0.9, client=client, progress=listen)
        same = before == dict(client.run(os.getpid).items())
        warnings = [
            line
            for lines in client.get_worker_logs().values()
            for level, line in lines
            if level == "WARNING" and ("memory" in line.lower() or "spill" in line.lower() or "paus" in line.lower())
        ]
        spilled = client.run(_spilled)
        verified = graph.verify(source, rows=1000)
    wall = time.perf_counter() - start
    usage = sum(os.times()[:4])
    facts = {"recall": str(graph.recall), "rounds": len(graph.facts["rounds"]), "wall": wall, "cpu": usage}
    memory = {"peaks_mib": peaks, "planned_mib": planned[0] >> 20, "limit_mib": 700_000_000 >> 20}
    calm = {"workers_survived": same, "memory_warnings": warnings, "spilled_bytes": list(spilled.values())}
    print(machine())
    print(json.dumps({**facts, **memory, **calm, "verified": verified}, default=str))


def _spilled(dask_worker: Any) -> int:
    total = dask_worker.data.spilled_total
    return int(total.disk if hasattr(total, "disk") else total)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
