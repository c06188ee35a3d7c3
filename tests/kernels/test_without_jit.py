"""The same tests with the JIT disabled: kernels mean as Python what they mean compiled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOMS = ["random", "lanes", "sieve", "neighbours", "products", "rows", "codes", "estimates", "leaves", "groups"]
ROOMS += ["trees", "companions", "descent", "merge", "pivots"]
ROOMS += ["gaps", "kdtree", "signposts", "search", "distances", "inverted"]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    root = HERE.parent.parent
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=550)


def test_without_the_jit_kernels_are_plain_functions() -> None:
    """Else the test below would show nothing."""
    done = python("-c", "from distnnd.kernels import leaves, random; print(type(leaves.join), type(random.mix))")
    assert done.stdout.split("\n")[0] == "<class 'function'> <class 'function'>", done.stderr


def test_kernels_mean_the_same_as_plain_python() -> None:
    files = [str(HERE / f"test_{room}.py") for room in ROOMS]
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 100
