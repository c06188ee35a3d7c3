"""The same tests with the JIT disabled: kernels mean as Python what they mean compiled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
QUICK = ["random", "lanes", "sieve", "neighbours", "products", "rows", "codes", "estimates", "groups", "companions"]
QUICK += ["merge", "pivots", "gaps", "trees"]
# For some of these Python takes a minute or more.
SLOW = ["leaves", "descent", "kdtree", "signposts", "search", "distances", "inverted"]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    root = HERE.parent.parent
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=550)


def test_without_the_jit_kernels_are_plain_functions() -> None:
    """Else the test below would show nothing."""
    done = python("-c", "from distnnd.kernels import leaves, random; print(type(leaves.join), type(random.mix))")
    assert done.stdout.split("\n")[0] == "<class 'function'> <class 'function'>", done.stderr


@pytest.mark.parametrize("rooms", [QUICK, *(pytest.param([room], marks=pytest.mark.long) for room in SLOW)])
def test_kernels_mean_the_same_as_plain_python(rooms: list[str]) -> None:
    files = [str(HERE / f"test_{room}.py") for room in rooms]
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 5 * len(rooms)
