"""A metric is a type: one compiled kernel for each, and the next process finds it on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import distnnd
from distnnd.kernels.distances import distance, distances_between
from distnnd.kernels.forms import own_form
from distnnd.kernels.jit import cache_dir
from distnnd.kernels.sparse_distances import SparseRows
from distnnd.values.errors import SpecError

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


# --- the user's own ---------------------------------------------------------------------------------------


@numba.njit
def of_running_sums(x, y):
    """A metric that makes arrays, as a user's may."""
    return np.abs(np.cumsum(x) - np.cumsum(y)).sum()


@numba.njit
def listed_by_one(columns_x, values_x, columns_y, values_y):
    """How many columns are listed by one row only."""
    both = 0
    for column in columns_x:
        for other in columns_y:
            both += column == other
    return len(columns_x) + len(columns_y) - 2 * both


def test_a_users_own_metric_is_compared_like_any_other() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    form = own_form(of_running_sums, 4)
    out = np.empty((5, 5), np.float32)
    distances_between(rows, rows, form, out)
    np.testing.assert_allclose(out, abs(np.cumsum(rows[:, None] - rows, axis=2)).sum(axis=2), rtol=1e-4, atol=1e-6)
    assert distance(rows, 0, rows, 1, form) == pytest.approx(out[0, 1], rel=1e-5)


def test_a_users_own_metric_of_sparse_rows_is_handed_what_they_list() -> None:
    rows = SparseRows(np.array([0, 2, 3, 3]), np.array([0, 2, 2], np.int32), np.ones(3, np.float32))
    out = np.empty((3, 3), np.float32)
    distances_between(rows, rows, own_form(listed_by_one, 4, sparse=True), out)
    assert out.tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]


def test_nothing_of_a_users_own_metric_is_stored() -> None:
    @numba.njit
    def mine(x, y):
        return abs(x[0] - y[0])

    place = cache_dir()
    assert place is not None
    before = set(place.iterdir())
    rows = np.ones((2, 2), np.float32)
    distances_between(rows, rows, own_form(mine, 2), np.empty((2, 2), np.float32))
    assert set(place.iterdir()) == before


def test_a_plain_function_is_told_the_line_that_is_missing() -> None:
    def mine(x, y):
        return abs(x[0] - y[0])

    with pytest.raises(SpecError, match=r"plain Python function.*\n    @numba.njit\n    def mine"):
        own_form(mine, 2)
    with pytest.raises(SpecError, match=r"a name or a function .* not 3"):
        own_form(3, 2)
