"""Memory, time and outputs: what is planned, refused, told and left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import distnnd
from distnnd.faces.cli import main
from distnnd.testing import forced_partitions
from tests.reported.answers import assert_right, build, normal, refused


def unread(n: int, d: int, dtype: str) -> Any:
    """An array of that size of which nothing lies in memory."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), (n, d), (0, 0))


def command(*arguments: Any) -> Any:
    """The command line, in this process."""
    return CliRunner().invoke(main, [str(one) for one in arguments])


def plans_of_large_data(place: Path) -> None:
    """Shapes that do not fit: cut into partitions, or refused with a limit that is then enough."""
    for n, d, dtype, limit in (
        (700_000, 75, "f4", "2GiB"),
        (5_400_000, 768, "f4", "4GiB"),
        (100_000, 4096, "u1", "1GiB"),
        (130_000_000, 512, "f4", "4GiB"),
        (1_000_000_000, 96, "u1", "8GiB"),
        (60_000, 20_000, "f4", "2GiB"),
        (2_000, 200_000, "f4", "2GiB"),
    ):
        points = unread(n, d, dtype)
        try:
            plan = distnnd.plan(points, 15, memory_limit=limit, n_workers=4)
        except distnnd.BudgetError as error:
            enough = str(error).split("memory_limit='")[-1].split("'")[0]
            plan = distnnd.plan(points, 15, memory_limit=enough, n_workers=4)
        assert plan.peak <= plan.worker_memory


def too_little_by_the_command_line(place: Path) -> None:
    """Exit code 4 of plan and build, and nothing is left."""
    np.save(place / "x.npy", normal(3000, 64))
    assert command("plan", place / "x.npy", "--memory-limit", "100MiB").exit_code == 4
    assert command("build", place / "x.npy", place / "g", "--memory-limit", "100MiB").exit_code == 4
    assert not (place / "g").exists()


def what_plan_accepts(place: Path) -> None:
    """The least limit that plan accepts is enough for build, in the same workers."""
    points = normal(6000, 600)
    limit = least_limit(lambda mib: distnnd.plan(points, 10, memory_limit=f"{mib}MiB", n_workers=1))
    graph = distnnd.build(points, place / "g", 10, memory_limit=f"{limit}MiB", n_workers=1, max_rounds=1)
    assert max(one["peak"] for one in graph.facts["rounds"]) <= limit * 2**20


def small_data_in_small_memory(place: Path) -> None:
    """Few rows are planned in the memory of a small machine, and the number that a refusal names is enough."""
    for n, d, dtype, limit in (
        (5_000, 2, "f4", "450MiB"),
        (60_000, 16, "f4", "500MiB"),
        (70_000, 784, "u1", "400MiB"),
    ):
        plan = distnnd.plan(unread(n, d, dtype), 15, memory_limit=limit)
        assert plan.peak <= plan.worker_memory, (n, d)


def least_limit(plan: Any) -> int:
    """The least number of MiB, by steps of 10, in which there is a plan."""
    for mib in range(100, 2000, 10):
        try:
            plan(mib)
        except distnnd.BudgetError:
            continue
        return mib
    raise AssertionError("nothing is enough")


def the_target_that_was_missed(place: Path) -> None:
    """Told by text and JSON, also with --quiet; the graph is there, and its recall is what it says."""
    points = np.random.default_rng(0).uniform(size=(1500, 200)).astype(np.float32)
    np.save(place / "x.npy", points)
    asked = ["build", place / "x.npy", "-k", 10, "--max-rounds", 1, "--target-recall", 0.99999]
    with forced_partitions(8, 256):
        told = command(*asked, place / "g", "--json")
        quiet = command(*asked, place / "h", "--quiet")
    assert told.exit_code == quiet.exit_code == 0, told.output
    assert "not reached" in told.output
    assert "not reached" in quiet.output
    assert "recall" in json.loads(told.output.strip().splitlines()[-1])
    assert_right(distnnd.open_graph(place / "g"), points, at_least=0.2)
    again = command("recall", place / "g", "--source", place / "x.npy", "--json")
    assert again.exit_code == 0


def points_that_changed(place: Path) -> None:
    """verify and build_index say so; an output with other settings is not overwritten."""
    points = normal(900, 8)
    np.save(place / "x.npy", points)
    assert command("build", place / "x.npy", place / "g", "-k", 5).exit_code == 0
    assert command("build", place / "x.npy", place / "g", "-k", 6).exit_code == 2
    points[5] += 1
    np.save(place / "x.npy", points)
    graph = distnnd.open_graph(place / "g")
    refused(lambda: graph.verify(place / "x.npy"), by=distnnd.StoreError)
    refused(lambda: graph.build_index(place / "i"), by=distnnd.StoreError)


def every_second_row_changed(place: Path) -> None:
    """A large array in memory of which every second row changed is not the one whose build was interrupted."""
    points = normal(70_000, 256)
    with pytest.raises((KeyboardInterrupt, distnnd.Interrupted)):
        build(points, 5, out=place / "g", progress=stop)
    points[1::2] += 1
    refused(lambda: build(points, 5, out=place / "g"), "changed", by=distnnd.StoreError)


def stop(event: Any) -> None:
    """Interrupt a build at its first stage."""
    if getattr(event, "stage", None):
        raise KeyboardInterrupt


def events_are_told(place: Path) -> None:
    """Wide rows: the build ends, and says how far it is."""
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(1300, 40)) @ rng.normal(size=(40, 960)) + rng.normal(size=(1300, 960))).astype("f4")
    seen: list[Any] = []
    with forced_partitions():
        graph = build(points, 15, progress=seen.append)
    assert_right(graph, points, rtol=1e-5)
    names = [type(one).__name__ for one in seen]
    assert names[0] == "BuildStart"
    assert names[-1] == "BuildEnd"
    assert {"StageStart", "RoundEnd"} <= set(names)


def many_neighbours(place: Path) -> None:
    """64, 65, 300, half and all of the rows as neighbours, also in leaves and partitions."""
    points = normal(900, 20)
    for k in (64, 65, 300, 450, 899):
        assert_right(build(points, k), points)
    for partitions, k in ((1, 300), (3, 65)):
        with forced_partitions(partitions, 256):
            assert_right(build(points, k), points)
    refused(lambda: build(points, 900), "at most")


def partitions_with_outliers(place: Path) -> None:
    """Wide rows with an offset, copies and a few rows far out, cut as a lack of memory would: right and honest."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1500, 12)) @ rng.normal(size=(12, 300)) + 0.3 * rng.normal(size=(1500, 300)) + 50
    points[600:700] = points[0]
    points[800:803] *= 1e3
    points = points.astype(np.float32)
    for partitions, cap in ((4, None), (6, 700)):
        with forced_partitions(partitions, 256, cap=cap):
            graph = build(points)
        assert_right(graph, points, rtol=1e-5)
        assert not graph.distances[600:700].any()
