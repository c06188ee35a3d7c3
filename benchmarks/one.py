"""One build in a process of its own: `python -m benchmarks.one distnnd mnist '{"target_recall": 0.95}'`.

Prints the CPU and wall seconds of the build itself (imports and compilation come before), its recall against the exact
answers and the largest resident memory of the process, as one JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time

import numpy as np

from . import data
from .peers import BUILDERS, K


def main(tool: str, name: str, settings: str = "{}") -> None:
    """Build once to warm up on a sample, once measured."""
    task, chosen, build = data.task(name), json.loads(settings), BUILDERS[tool]
    with tempfile.TemporaryDirectory() as folder:
        sample = np.load(task.points, mmap_mode="r")[:6000]
        np.save(f"{folder}/sample.npy", sample)
        warm = {key: value for key, value in chosen.items() if key not in ("memory_limit", "nlist")}
        build(task._replace(points=data.Path(f"{folder}/sample.npy")), warm)
    before, start = sum(os.times()[:4]), time.perf_counter()
    ids, facts = build(task, chosen)
    cpu, wall = sum(os.times()[:4]) - before, time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, "recall": data.recall(task, ids, K), **facts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
