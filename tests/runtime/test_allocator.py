"""Workers keep freed memory while a build goes on, and give it back afterwards."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import distnnd
from distnnd.runtime import allocator
from distnnd.runtime.allocator import KeepsMemory
from distnnd.runtime.cluster import DaskExecutor
from tests.conftest import clustered

GLIBC = platform.libc_ver()[0] == "glibc"
MIB = 2**20


def faults_of_arrays(count: int = 100) -> int:
    """Pages that the system gives for arrays of a MiB which are made and freed one after another."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        np.ones(MIB, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_what_is_freed_is_used_again() -> None:
    """In a process of its own that starts as Dask's do."""
    if not GLIBC:
        assert not allocator.set_thresholds(allocator.KEPT, allocator.ALONE)
        return
    code = (
        "from tests.runtime.test_allocator import allocator, faults_of_arrays\n"
        "print(faults_of_arrays())\n"
        "assert allocator.set_thresholds(allocator.KEPT, allocator.ALONE)\n"
        "faults_of_arrays(1)\n"
        "print(faults_of_arrays())\n"
        "allocator.give_back()\n"
        "print(faults_of_arrays())\n"
    )
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    as_started, kept, given_back = map(int, ran.stdout.split())
    assert kept < 0.2 * as_started
    assert given_back > 0.8 * as_started


def test_a_build_leaves_workers_as_they_were(processes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is on the workers while stages run, and is taken from them at the end."""

    def plugins(dask_worker: Any) -> list[str]:
        return [name for name, one in dask_worker.plugins.items() if isinstance(one, KeepsMemory)]

    seen: list[list[str]] = []
    close = DaskExecutor.close

    def look_and_close(executor: DaskExecutor) -> None:
        seen.extend(processes.run(plugins).values())
        close(executor)

    monkeypatch.setattr(DaskExecutor, "close", look_and_close)
    distnnd.build(clustered(3000, 8), client=processes)
    assert seen == [[allocator.PLUGIN]] * 2
    assert list(processes.run(plugins).values()) == [[], []]


def test_the_users_own_process_keeps_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*thresholds: int) -> bool:
        raise AssertionError("the allocator of this process was touched")

    monkeypatch.setattr(allocator, "set_thresholds", refuse)
    distnnd.build(clustered(3000, 8))
