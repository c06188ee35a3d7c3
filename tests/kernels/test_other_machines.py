"""Kernels as they are compiled for machines with other instructions than this one: the same answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.strategies import JIT_OFF, sized

ROOT = Path(__file__).resolve().parents[2]
# What LLVM calls them, and what they have: no wide vectors at all; vectors of 256 bits whose lanes can be permuted; the
# same with an instruction that multiplies bytes.
PLAIN, AVX2 = ("generic", ""), ("haswell", "+avx2,+bmi,+bmi2,+fma,+popcnt")
AVX_VNNI = ("alderlake", "+avx2,+bmi,+bmi2,+fma,+popcnt,+avxvnni")
COMPILED = """
import numba
from distnnd.kernels import byte_products
tile, size = numba.int8[::1], numba.int64
numbers = numba.int32[::1]
byte_products._multiply.compile((tile, size, size, size, numbers, tile, size, size, numba.int32[:, ::1]))
(code,) = byte_products._multiply.inspect_asm().values()
print(code)
"""

pytestmark = [
    pytest.mark.skipif(JIT_OFF, reason="nothing is compiled"),
    pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="this is another machine already"),
]


def as_on(machine: tuple[str, str], place: Path, *command: str) -> str:
    """What a Python process prints that compiles for another machine."""
    name, features = machine
    other = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(place)}
    environment = os.environ | other
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("machine", "room"),
    [
        (PLAIN, "sieve"),
        pytest.param(AVX2, "sieve", marks=pytest.mark.long),
        pytest.param(PLAIN, "products", marks=pytest.mark.long),
        pytest.param(AVX2, "products", marks=pytest.mark.long),
    ],
)
def test_a_machine_without_wide_vectors_says_the_same(machine: tuple[str, str], room: str, tmp_path: Path) -> None:
    tests = str(Path(__file__).with_name(f"test_{room}.py"))
    said = as_on(machine, tmp_path, "-m", "pytest", "-q", "-k", "not python", "-p", "no:cacheprovider", tests)
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) > sized(40, 0)


def test_a_machine_that_multiplies_bytes_in_narrower_vectors_does(tmp_path: Path) -> None:
    """It may not be this one: looked at, but not run."""
    code = as_on(AVX_VNNI, tmp_path, "-c", COMPILED)
    assert re.search(r"vpdpbusd\s.*ymm", code)
    assert "zmm" not in code
