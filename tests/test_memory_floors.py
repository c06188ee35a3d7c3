"""How little memory is enough: whole processes, their imports and their compiled kernels included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import SHARED
from tests.test_floors import ROOT

STATUS = Path("/proc/self/status")
MIB = 2**20

# Kernels are compiled first, in a process of their own, as the first build of a machine does.
SCRIPT = """
import json, os, sys
import distnnd
from distnnd.storage.held import peak_memory

class Peaks:
    most = 0
    def __call__(self, event):
        self.most = max(self.most, getattr(getattr(event, "report", None), "peak", 0))

def main():
    path, limit, more = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    seen = Peaks()
    graph = distnnd.build(path, None, 15, memory_limit=limit, progress=seen, **more)
    print(json.dumps({
        "peak": peak_memory(), "workers": seen.most, "partitions": graph.facts["layout"]["partitions"],
        "recall": graph.recall.estimate, "threads": distnnd.plan(path, 15, memory_limit=limit, **more).threads,
    }))

if __name__ == "__main__":
    main()
"""


def build_apart(folder: Path, points: np.ndarray, limit: str, **more: Any) -> dict[str, Any]:
    """Build in a fresh process, twice if kernels had to be compiled; what it held at most, in bytes."""
    np.save(folder / "x.npy", points)
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), str(folder / "x.npy"), limit, json.dumps(more)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        environment.pop(name, None)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=550)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def uniform(n: int, d: int) -> np.ndarray:
    """float32[n, d]."""
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which only Linux has")
@pytest.mark.parametrize(("n", "d", "limit"), [(5_000, 2, 450), (60_000, 16, 500), (60_000, 16, 300), (1_000, 2, 280)])
def test_a_whole_process_stays_below_its_limit(tmp_path: Path, n: int, d: int, limit: int) -> None:
    told = build_apart(tmp_path, uniform(n, d), f"{limit}MiB")
    assert told["peak"] < limit * MIB
    assert told["recall"] >= 0.93


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which only Linux has")
def test_worker_processes_stay_below_their_limit(tmp_path: Path) -> None:
    told = build_apart(tmp_path, uniform(60_000, 16), "400MiB", n_workers=2, partitions=2)
    assert told["partitions"] == 2
    assert 0 < told["workers"] < 400 * MIB
    assert told["peak"] < 400 * MIB


@pytest.mark.long
@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc, which only Linux has")
@pytest.mark.parametrize(("limit", "whole"), [(400, True), (300, False)])
def test_pictures_fit_400_mebibytes_in_one_task(tmp_path: Path, limit: int, whole: bool) -> None:
    place = SHARED / "mnist_u8.npz"
    if not place.exists():
        pytest.skip(f"{place} is not there")
    with np.load(place) as files:
        points = files[files.files[0]]
    told = build_apart(tmp_path, points, f"{limit}MiB")
    assert told["peak"] < limit * MIB
    assert (told["partitions"] == 1) == whole
    assert told["recall"] >= 0.93
