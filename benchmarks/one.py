"""One build in a process of its own: `python -m benchmarks.one distnnd mnist '{"target_recall": 0.95}'`.

Prints the CPU and wall seconds of the build itself (imports and kernels that were compiled before are apart) and its
recall against the exact answers, as one JSON object.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from typing import Any

import numpy as np

from . import data

K = 15


def build_distnnd(task: data.Task, settings: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Build out of the .npy file into a store on disk."""
    import distnnd

    folder = tempfile.mkdtemp(prefix="bench-")
    peaks: list[int] = []
    partitions: list[int] = []

    def listen(event: Any) -> None:
        if hasattr(event, "report"):
            peaks.append(event.report.peak)
        elif hasattr(event, "plan"):
            partitions.append(event.plan.layout.partitions)
            planned.append(event.plan.peak)

    planned: list[int] = []
    graph = distnnd.build(task.points, f"{folder}/g", K, task.metric, progress=listen, **settings)
    ids = graph.indices[:]
    facts = {
        "estimate": graph.recall.estimate,
        "low": graph.recall.low,
        "high": graph.recall.high,
        "rounds": len(graph.facts["rounds"]),
        "partitions": partitions[0],
        "worker_peak": max(peaks),
        "planned": planned[0],
    }
    shutil.rmtree(folder)
    return ids, facts


def build_pynndescent(task: data.Task, settings: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Build in memory; n_neighbors=16 is 15 neighbours and the row itself."""
    import pynndescent

    points = np.load(task.points).astype(np.float32)
    index = pynndescent.NNDescent(points, metric=task.metric, **{"n_neighbors": K + 1, **settings})
    return index.neighbor_graph[0][:, 1:], {}


def main(tool: str, name: str, settings: str = "{}") -> None:
    """Build once to warm up on a sample, once measured."""
    task, chosen = data.real(name), json.loads(settings)
    build = {"distnnd": build_distnnd, "pynndescent": build_pynndescent}[tool]
    with tempfile.TemporaryDirectory() as folder:
        sample = np.load(task.points, mmap_mode="r")[:6000]
        np.save(f"{folder}/sample.npy", sample)
        warm = {key: value for key, value in chosen.items() if key != "memory_limit"}
        build(task._replace(points=data.Path(f"{folder}/sample.npy")), warm)
    before, start = sum(os.times()[:4]), time.perf_counter()
    ids, facts = build(task, chosen)
    cpu, wall = sum(os.times()[:4]) - before, time.perf_counter() - start
    print(json.dumps({"cpu": cpu, "wall": wall, "recall": data.recall(task, ids, K), **facts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
