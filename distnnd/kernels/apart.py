"""Compile in a process of its own that ends, so that no process that holds data keeps the compiler's memory.

A process that has compiled the kernels of a build keeps some 300 MiB of the compiler's, more than one that found them
on disk: a worker would leave its plan. So the first task that needs kernels of a kind looks for their mark beside them,
and where there is none lets another Python compile them once, while other processes that need them too wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import llvmlite.binding as llvm
import numpy as np
from numba.core import config

from ..values.metric import CUSTOM, Metric
from .jit import cache_dir, compiled_kernels, tell_of_compiling
from .rows import stays_narrow

# A few columns: rows of more than thousands are no longer bytes, and have the kernels of floats.
_COLUMNS = 8
# What stands for a dtype where rows are sparse, and the kernels of rows of bits.
LISTED, PACKED = "sparse", "bits"


class _Here:
    """What this process knows. ready: kinds that need no second look; compiling: whether it was told to compile."""

    ready: ClassVar[set[str]] = set()
    compiling = False


def kinds_of(metric: Metric, dtype: str) -> list[str]:
    """The names of the kernels that builds by this metric on points of this dtype need.

    Those of its layout: kernels see prepared rows, so what is prepared alike and only finished otherwise has the same
    ones. And those of its judge, told in full, with parameters for rows of eight columns: JSON [name, dtype,
    parameters]. A function of the user's own is never on disk.
    """
    sparse = metric.form == "sparse"
    judged = LISTED if sparse else "float32" if dtype == "float16" else dtype
    judge = json.dumps([metric.name, judged, small_params(metric)])
    dtype = "float32" if sparse else dtype
    return [_layout_of(metric, dtype)] + [judge] * (metric.judged and metric.name != CUSTOM)


def _layout_of(metric: Metric, dtype: str) -> str:
    if metric.packed:
        return PACKED
    unit = "unit-" if metric.unit else ""
    compared = "euclidean" if metric.euclidean else "inner"
    rows = "float64" if metric.double else "int8" if stays_narrow(metric, dtype, _COLUMNS) else "float32"
    return f"{unit}{compared}-{rows}"


def small_params(metric: Metric) -> dict[str, Any]:
    """The parameters of the metric with eight columns: they have the same types."""
    matrices = {"VI": np.eye(_COLUMNS), "cost": np.abs(np.subtract.outer(np.arange(_COLUMNS), np.arange(_COLUMNS)))}
    small: dict[str, Any] = {}
    for name, value in metric.params:
        if isinstance(value, tuple):
            small[name] = matrices[name].tolist() if name in matrices else [1.0] * _COLUMNS
        else:
            small[name] = value
    return small


def ensure(kinds: list[str]) -> int:
    """See to it that kernels of these kinds are on disk; returns how many another process has compiled for it.

    Where that is not possible this process compiles what it needs as it goes, and a warning says so.
    """
    if _Here.compiling or _Here.ready.issuperset(kinds):
        return 0
    place = cache_dir()
    compiled = 0
    if place is not None and compiled_kernels() and not all(map(is_marked, kinds)):
        tell_of_compiling()
        with _one_at_a_time([kind for kind in kinds if not is_marked(kind)]):
            missing = [kind for kind in kinds if not is_marked(kind)]
            compiled = _compile(missing) if missing else 0
    _Here.ready.update(kinds)
    return compiled


@contextmanager
def in_this_process() -> Iterator[None]:
    """Whatever is missing meanwhile is compiled here, and nobody else is asked."""
    before, _Here.compiling = _Here.compiling, True
    try:
        yield
    finally:
        _Here.compiling = before


def _file_of(kind: str, what: str) -> Path | None:
    """A file beside the kernels of a kind, for this Python and processor: homes may be shared. what: how it ends."""
    place = cache_dir()
    if place is None:
        return None
    machine = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), config.CPU_NAME, config.CPU_FEATURES
    text = repr((machine, sys.implementation.cache_tag))
    return place / f"{hashlib.blake2b((kind + text).encode(), digest_size=12).hexdigest()}.{what}"


def is_marked(kind: str) -> bool:
    """Whether all kernels of a kind were written to disk."""
    mark = _file_of(kind, "all")
    return mark is not None and mark.exists()


def are_compiled(kinds: list[str]) -> bool:
    """Whether kernels of all these kinds are on disk, or nothing is ever compiled."""
    return not compiled_kernels() or all(map(is_marked, kinds))


def mark(kind: str) -> None:
    """Say that all kernels of a kind are on disk; where that cannot be written they are looked for again."""
    with suppress(OSError):
        file = _file_of(kind, "all")
        if file is not None:
            file.touch()


@contextmanager
def _one_at_a_time(kinds: list[str]) -> Iterator[None]:
    """One process for each of these kinds on this machine, and on others that share the directory and its locks."""
    with ExitStack() as files:
        # All in one order, so that no two processes wait for each other.
        for path in sorted(filter(None, (_file_of(kind, "lock") for kind in kinds))):
            file = files.enter_context(open(path, "wb"))
            # Without locks, as on some shared disks, the work is done twice, which harms nobody.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(kinds: list[str]) -> int:
    """Let another Python compile them, with this one's modules; returns how many, 0 with a warning if it fails."""
    # What was frozen into one program would start itself.
    if not sys.executable or getattr(sys, "frozen", False):
        return 0
    command = [sys.executable, "-P", "-m", "distnnd.warming", *kinds]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr.strip().rpartition("\n")[2] or f"it ended with code {done.returncode}")
        return int(json.loads(done.stdout.splitlines()[-1])["compiled"])
    except (OSError, ValueError, LookupError) as error:
        warnings.warn(
            f"kernels could not be compiled in a process of their own ({error}); this one compiles them and keeps some "
            "300 MiB more than planned. `distnnd warmup` on this machine says what is wrong",
            RuntimeWarning,
            stacklevel=4,
        )
        return 0
