"""Kernels compiled for machines with other instructions than this one, and libraries that round otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
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
# Builds in partitions what was saved in a file, and prints the digest of the graph.
BUILT = """
import hashlib, sys
import distnnd
from distnnd.kernels import projection
from distnnd.runtime.serial import SerialExecutor
project, projected = projection.project, []
projection.WORTH_IT = 1000
projection.project = lambda *arguments: projected.append(1) or project(*arguments)
graph = distnnd.build(*sys.argv[1:3], metric=sys.argv[3], partitions=3, client=SerialExecutor(1))
assert graph.facts["layout"]["partitions"] > 1
assert len(projected) > 1, "partitions that need axes"
digest = hashlib.sha256(graph.indices[:].tobytes() + graph.distances[:].tobytes())
print(digest.hexdigest())
"""

pytestmark = [
    pytest.mark.skipif(JIT_OFF, reason="nothing is compiled"),
    pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="this is another machine already"),
]


def compiled_for(machine: tuple[str, str], place: Path) -> dict[str, str]:
    """What a process must find in its environment to compile for another machine; place: where it keeps the kernels."""
    name, features = machine
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(place)}


def said_with(environment: dict[str, str], *command: str) -> str:
    """What a Python process prints that has more in its environment than this one."""
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("machine", "room"),
    [
        (PLAIN, "sieve"),
        (PLAIN, "sums"),
        pytest.param(AVX2, "sieve", marks=pytest.mark.long),
        pytest.param(PLAIN, "products", marks=pytest.mark.long),
        pytest.param(AVX2, "products", marks=pytest.mark.long),
    ],
)
def test_a_machine_without_wide_vectors_says_the_same(machine: tuple[str, str], room: str, tmp_path: Path) -> None:
    tests = str(Path(__file__).with_name(f"test_{room}.py"))
    said = said_with(
        compiled_for(machine, tmp_path), "-m", "pytest", "-q", "-k", "not python", "-p", "no:cacheprovider", tests
    )
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) > sized(40, 0)


def test_a_machine_that_multiplies_bytes_in_narrower_vectors_does(tmp_path: Path) -> None:
    """It may not be this one: looked at, but not run."""
    code = said_with(compiled_for(AVX_VNNI, tmp_path), "-c", COMPILED)
    assert re.search(r"vpdpbusd\s.*ymm", code)
    assert "zmm" not in code


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of rows near a subspace, so wide that few columns guide them and so many that the others are narrowed."""
    rng = np.random.default_rng(0)
    bent = np.tanh(rng.standard_normal((18_000, 10)) @ rng.standard_normal((10, 40)))
    wide = bent @ rng.standard_normal((40, 320)) + 0.02 * rng.standard_normal((18_000, 320))
    place = tmp_path_factory.mktemp("points") / "wide.npy"
    np.save(place, wide.astype(np.float32))
    return place


@pytest.fixture(scope="module")
def built(points: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the graphs that this machine builds, by metric."""
    folder = tmp_path_factory.mktemp("built")
    return {name: said_with({}, "-c", BUILT, str(points), str(folder / name), name) for name in ("euclidean", "cosine")}


# OpenBLAS and numpy as they are on processors without wide vectors.
OTHER_LIBRARIES = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"}


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_libraries_that_round_otherwise_change_no_graph(
    metric: str, points: Path, built: dict[str, str], tmp_path: Path
) -> None:
    said = said_with(OTHER_LIBRARIES, "-c", BUILT, str(points), str(tmp_path / "graph"), metric)
    assert said == built[metric]


@pytest.mark.long
@pytest.mark.parametrize("machine", [PLAIN, AVX2])
def test_kernels_of_another_machine_build_the_same_graph(
    machine: tuple[str, str], points: Path, built: dict[str, str], tmp_path: Path
) -> None:
    for metric, digest in built.items():
        environment = compiled_for(machine, tmp_path / "kernels")
        said = said_with(environment, "-c", BUILT, str(points), str(tmp_path / metric), metric)
        assert said == digest, metric
