"""A metric is a type: one compiled kernel for each, and the next process finds it on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import distnnd

CALL = """
import json
import numpy as np
from distnnd.kernels.bit_distances import pack
from distnnd.kernels.distances import distances_between
from distnnd.kernels.forms import form_of
from distnnd.kernels.sparse_distances import SparseRows
from distnnd.values.metric import metric_of

dense = np.eye(3, dtype=np.float32)
sparse = SparseRows(np.arange(4), np.arange(3, dtype=np.int32), np.ones(3, np.float32))
told = []
for rows, name, params in (
    (dense, "manhattan", {}),
    (dense, "canberra", {}),
    (dense, "minkowski", {"p": 3}),
    (dense, "minkowski", {"p": 4}),
    (dense, "wminkowski", {"p": 3, "w": [1, 2, 3]}),
    (sparse, "manhattan", {}),
    (pack(dense), "jaccard", {}),
    (dense, "spearmanr", {}),
):
    out = np.empty((3, 3), np.float32)
    distances_between(rows, rows, form_of(metric_of(name, params, 3), 3), out)
    told.append(float(out[0, 1]))
stats = distances_between.stats
counts = [sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]
print(json.dumps({"told": told, "counts": counts}))
"""


def called(cache: Path) -> dict[str, Any]:
    """What a fresh process says, and what it found and compiled."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "NUMBA_DISABLE_JIT": "0"}
    root = Path(distnnd.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", CALL], env=environment, cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_second_process_finds_a_kernel_for_each_metric(tmp_path: Path) -> None:
    """Two powers are one metric: a parameter is a number in it, and no reason to compile again."""
    first, second = called(tmp_path), called(tmp_path)
    assert first["counts"] == [0, 7]
    assert second["counts"] == [7, 0]
    assert first["told"] == second["told"]
    assert first["told"][:2] == [2, 2]
    assert len(list(tmp_path.rglob("distances.distances_between*.kernel"))) == 7
