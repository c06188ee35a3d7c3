"""`python -m benchmarks.startup`: seconds of an import, of a first build in a fresh process, and of a cold compile."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile

from .measure import machine, run


def child() -> None:
    """Build 10,000 x 64 once; prints the seconds of the import and of the build."""
    import time

    start = time.perf_counter()
    import distnnd

    imported = time.perf_counter()
    import numpy as np

    points = np.random.default_rng(0).normal(size=(10_000, 64)).astype(np.float32)
    ready = time.perf_counter()
    distnnd.build(points, target_recall=0.9)
    print(json.dumps({"import": imported - start, "build": time.perf_counter() - ready}))


def main() -> None:
    """Print the three figures."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        cold = run("benchmarks.startup", "child", environment={"NUMBA_CACHE_DIR": folder})
        warm = [run("benchmarks.startup", "child", environment={"NUMBA_CACHE_DIR": folder}).said for _ in range(3)]
    print(f"import distnnd: {statistics.median(one['import'] for one in warm):.3f} s")
    print(f"first build of 10,000 x 64, kernels on disk: {statistics.median(one['build'] for one in warm):.2f} s")
    print(f"the same with nothing compiled: {cold.said['build']:.1f} s ({cold.cpu:.1f} CPU s)")


if __name__ == "__main__":
    child() if sys.argv[1:] == ["child"] else main()
