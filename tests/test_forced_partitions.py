"""Small data through several partitions, wherever the build or the plan of this process comes from."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse

import distnnd
from distnnd.faces.cli import main
from distnnd.runtime.serial import SerialExecutor
from distnnd.testing import forced_partitions
from tests.conftest import clustered, graph_bytes, true_recall


def layout_of(graph: Any) -> dict[str, Any]:
    return graph.facts["layout"]


def test_rows_travel_between_partitions(serial: SerialExecutor) -> None:
    points = clustered(1500)
    with forced_partitions():
        graph = distnnd.build(points, n_neighbors=5, client=serial)
    layout = layout_of(graph)
    assert (layout["partitions"], layout["block_rows"], layout["exact"]) == (4, 512, False)
    assert not graph.recall.exact
    assert true_recall(points, graph) > 0.95
    assert distnnd.build(points, n_neighbors=5, client=serial).recall.exact


def test_the_plan_is_the_one_that_is_built_and_its_table_is_of_it(serial: SerialExecutor) -> None:
    points = clustered(1500)
    with forced_partitions(3, 600, cap=1200):
        plan = distnnd.plan(points, n_neighbors=5, client=serial)
        graph = distnnd.build(points, n_neighbors=5, client=serial)
    assert layout_of(graph) == plan.to_json()["layout"]
    tasks = {cost.name: cost.tasks for cost in plan.costs}
    assert (tasks["local"], tasks["route"], tasks["publish"]) == (3, 3, 3)
    assert plan.disk > plan.graph
    assert "3 partition(s)" in str(plan)


def test_the_inner_one_counts_and_the_last_leaves_nothing() -> None:
    def partitions() -> int:
        return distnnd.plan(clustered(600), n_neighbors=5).layout.partitions

    with forced_partitions(5):
        with forced_partitions(2):
            assert partitions() == 2
        with pytest.raises(distnnd.SpecError), forced_partitions(3):
            distnnd.plan(clustered(600), n_neighbors=600)
        assert partitions() == 5
    assert partitions() == 1


def test_threads_of_the_process_do_it_too(serial: SerialExecutor) -> None:
    points, found = clustered(900), []

    def build() -> None:
        found.append(distnnd.build(points, n_neighbors=5, client=serial))

    with forced_partitions(3, 400):
        build()
        thread = threading.Thread(target=build)
        thread.start()
        thread.join()
    assert [layout_of(graph)["partitions"] for graph in found] == [3, 3]
    assert graph_bytes(found[0]) == graph_bytes(found[1])


def test_the_command_line_in_process_does_it_too(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", clustered(900))
    place = str(tmp_path / "g.zarr")
    with forced_partitions(3, 400):
        planned = CliRunner().invoke(main, ["plan", str(tmp_path / "x.npy"), "-k", "5"])
        built = CliRunner().invoke(main, ["build", str(tmp_path / "x.npy"), place, "-k", "5"])
    assert planned.exit_code == built.exit_code == 0, built.output
    assert "3 partition(s)" in planned.output
    assert layout_of(distnnd.open_graph(place))["partitions"] == 3


def test_one_partition_is_solved_by_leaves(serial: SerialExecutor) -> None:
    points = clustered(1500)
    with forced_partitions(partitions=1):
        graph = distnnd.build(points, n_neighbors=5, client=serial)
    assert layout_of(graph)["partitions"] == 1
    assert not graph.recall.exact
    assert true_recall(points, graph) > 0.95


@pytest.mark.parametrize("metric", ["inner_product", "cosine"])
def test_nearness_that_is_not_mutual_takes_more_copies(metric: str) -> None:
    with forced_partitions():
        layout = distnnd.plan(clustered(900), metric=metric).layout
    assert layout.copies == (5.5 if metric == "inner_product" else 2.5)


def test_sparse_rows_stay_exact_in_blocks_or_go_through_sketches(serial: SerialExecutor) -> None:
    points = sparse.random(600, 80, density=0.1, format="csr", random_state=0, dtype=np.float32)
    whole = distnnd.build(points, n_neighbors=5, metric="cosine", client=serial)
    with forced_partitions(3, 512):
        blocks = distnnd.build(points, n_neighbors=5, metric="cosine", client=serial)
    with forced_partitions(3, 256, sketches=True):
        sketches = distnnd.build(points, n_neighbors=5, metric="cosine", client=serial)
    assert layout_of(blocks)["partitions"] == 5  # of 128 rows: a power of two, at most a third of all
    assert blocks.recall.exact
    assert graph_bytes(blocks) == graph_bytes(whole)
    assert layout_of(sketches)["partitions"] == 3
    assert not sketches.recall.exact
    assert np.mean(sketches.indices[:] == whole.indices[:]) > 0.9


@pytest.mark.parametrize(("n", "partitions"), [(5, 2), (20, 30), (7, 4)])
def test_fewer_rows_than_partitions_will_do(serial: SerialExecutor, n: int, partitions: int) -> None:
    points = clustered(n)
    with forced_partitions(partitions, 3):
        graph = distnnd.build(points, n_neighbors=2, client=serial)
    assert true_recall(points, graph) == 1


def test_an_interrupted_build_keeps_the_cut_that_it_began_with(serial: SerialExecutor, tmp_path: Path) -> None:
    points, place = clustered(900), tmp_path / "g.zarr"

    def stop(event: Any) -> None:
        if getattr(event, "stage", None) == "local":
            raise KeyboardInterrupt

    with forced_partitions(3, 400), pytest.raises((KeyboardInterrupt, distnnd.Interrupted)):
        distnnd.build(points, place, 5, client=serial, progress=stop)
    assert layout_of(distnnd.build(points, place, 5, client=serial))["partitions"] == 3


@pytest.mark.parametrize("wrong", [{"partitions": 0}, {"block_rows": 2.5}, {"cap": 0}, {"partitions": True}])
def test_no_such_cut(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(distnnd.SpecError, match=f"{name}=.*whole number"), forced_partitions(**wrong):
        pass
    assert distnnd.plan(clustered(600), n_neighbors=5).layout.partitions == 1
