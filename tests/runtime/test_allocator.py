"""Workers keep freed memory while a build goes on, and give it back afterwards."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from typing import Any

import distributed
import numpy as np
import pytest

import distnnd
from distnnd.runtime import allocator, cluster
from distnnd.runtime.allocator import KeepsMemory
from distnnd.runtime.cluster import DaskExecutor
from distnnd.runtime.serial import SerialExecutor
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


def faults_of_ever_larger_arrays(count: int = 20) -> int:
    """Pages that the system gives for arrays of one to `count` MiB, each freed before the next one is made."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in range(1, count + 1):
        # As bytes: numpy asks for pages of 2 MiB for its arrays, of which it would need fewer.
        bytearray(size * MIB)[::4096] = b"1" * (size * MIB // 4096)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.parametrize("variable", [None, "MALLOC_MMAP_THRESHOLD_"])
def test_a_process_may_expect_large_arrays(variable: str | None) -> None:
    """Each then takes the pages of the one before, unless the environment has its own say."""
    if not GLIBC:
        return
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    faults = []
    for expecting in ("", "allocator.expect_large_arrays()\n"):
        code = (
            "from tests.runtime.test_allocator import allocator, faults_of_ever_larger_arrays\n"
            f"{expecting}print(faults_of_ever_larger_arrays())\n"
        )
        own = environment | ({variable: "131072"} if variable else {})
        ran = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
        faults.append(int(ran.stdout))
    assert faults[1] > 0.8 * faults[0] if variable else faults[1] < 0.3 * faults[0]


def test_a_build_in_ones_own_process_expects_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it runs right there, before any stage; as the library would come to it, not by setting anything."""
    seen: list[str] = []
    run = SerialExecutor.run

    def look_and_run(executor: SerialExecutor, *arguments: Any) -> Any:
        seen.append("stage")
        return run(executor, *arguments)

    monkeypatch.setattr(cluster, "expect_large_arrays", lambda: seen.append("expected"))
    monkeypatch.setattr(SerialExecutor, "run", look_and_run)
    distnnd.build(clustered(300, 8))
    assert seen[:2] == ["expected", "stage"]


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
    """Also where a cluster of worker threads, which runs stages as any other does, is in that process."""
    touched: list[tuple[int, ...]] = []
    monkeypatch.setattr(allocator, "set_thresholds", lambda *thresholds: touched.append(thresholds))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        distnnd.build(clustered(3000, 8), client=client)
        plugins = [one for worker in cluster.workers.values() for one in worker.plugins.values()]
        assert not any(isinstance(one, KeepsMemory) for one in plugins)
    assert touched == []
