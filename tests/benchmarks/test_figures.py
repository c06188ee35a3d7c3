"""Ratios, costs, tables and places of threads."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import choices, data, growth, measure, pairs, placement, quarter, run, table, truth
from benchmarks.measure import Built


def built(recall: float = 0.9, cpu: float = 1.0, wall: float = 1.0, **facts: int) -> Built:
    return Built(recall, cpu, wall, 2**20, 0.5, facts)


# --- ratios ---------------------------------------------------------------------------------------


def test_ratios_are_taken_pair_by_pair() -> None:
    cpus = iter([1.0, 3.0, 2.0, 4.0, 4.0, 20.0])
    found = measure.alternate(lambda: built(cpu=next(cpus)), lambda: built(cpu=next(cpus)), 3)
    assert measure.ratio(found, "cpu") == (3.0, 2.0, 5.0)
    assert str(measure.ratio(found, "cpu")) == "3.00 (2.00 to 5.00)"


def test_medians_are_taken_figure_by_figure() -> None:
    middle = measure.median([built(0.9, 1, 9, rounds=1), built(0.8, 2, 7, rounds=2), built(0.7, 3, 8)])
    assert (middle.recall, middle.cpu, middle.wall, middle.facts) == (0.8, 2, 8, {"rounds": 1})


def test_a_ratio_with_less_recall_is_marked() -> None:
    case = pairs.CASES[0]
    assert pairs.cells(case, [(built(0.9), built(0.8))])[-1] == "1.00 (1.00 to 1.00)"
    assert pairs.cells(case, [(built(0.8), built(0.9))])[-1].endswith("less recall")
    assert len(pairs.cells(case, [(built(), built())])) == len(pairs.COLUMNS)


def test_exact_search_of_some_rows_is_no_whole_build() -> None:
    part = run.Measured("exact", {}, built(solved=10, of=20))
    assert not run.whole(part)
    assert run.cells(part)[1] == "only 10 of 20 rows"
    assert run.whole(run.Measured("exact", {}, built(solved=20, of=20)))
    assert run.whole(run.Measured("hnswlib", {}, built()))


def test_every_setting_of_every_builder_is_a_row_and_a_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "builds", lambda builder, name, choices: [built() for _ in choices])
    runs = run.measure("some", run.FEW, table.Table("some", *run.COLUMNS))
    assert [one.builder for one in runs] == [builder for builder, settings in run.FEW.items() for _ in settings]
    rows = (tmp_path / "some.md").read_text().splitlines()[2:]
    assert len(rows) == 2 + len(runs)
    assert len({row.count("|") for row in rows}) == 1
    run.draw("some", runs, tmp_path / "some.png")
    assert (tmp_path / "some.png").stat().st_size > 1000


# --- growth ---------------------------------------------------------------------------------------


def test_a_power_is_fitted() -> None:
    rows = [1e5, 4e5, 1.6e6]
    assert growth.exponent(rows, [2 * n**1.14 for n in rows]) == pytest.approx(1.14)


@pytest.mark.parametrize(
    ("step", "tried", "said"),
    [
        (lambda target: target, [0.95], "target 0.95"),
        (lambda target: 0.6 if target < 0.9 else 0.955, [0.95], "target 0.95"),
        (lambda target: 0.6 if target < 0.9 else 0.98, [0.95, 0.4, 0.85, 0.9], "interpolated"),
        (lambda target: 0.6 if target < 0.99 else 0.98, [0.95, 0.99, 0.97, 0.98], "interpolated"),
        (lambda target: 0.9 if target < 0.97 else 0.955, [0.95, 0.99], "target 0.99"),
    ],
)
def test_costs_are_taken_near_the_recall_or_between_two(
    step: Callable[[float], float], tried: list[float], said: str
) -> None:
    targets = []

    def build(target: float) -> Built:
        targets.append(target)
        return built(step(target), 100 * step(target))

    cost = growth.cost_at(0.95, build)
    assert cost.cpu == pytest.approx(100 * cost.recall)
    assert cost.said.startswith(said)
    assert targets == tried


def test_a_recall_that_no_target_comes_down_to_is_said() -> None:
    cost = growth.cost_at(0.95, lambda target: built(0.99, target))
    assert (cost.recall, cost.cpu) == (0.99, growth.RECALL)
    assert cost.said == "target 0.95, no other comes nearer"


# --- memory ---------------------------------------------------------------------------------------


def test_a_limit_for_a_quarter_cuts_at_a_quarter(tmp_path: Path) -> None:
    import distnnd
    from benchmarks.data import Task

    n = 200_000
    np.save(tmp_path / "points.npy", np.zeros((n, 32), np.float32))
    task = Task("zeros", tmp_path / "points.npy", "euclidean", np.empty(0, int), np.empty((0, 15), int))
    layout = distnnd.plan(task.points, memory_limit=quarter.limit_for(task), n_workers=1).layout
    assert layout.partitions > 1
    assert n / 4 <= layout.cap < n / 4 * 1.1


# --- tables ---------------------------------------------------------------------------------------


def test_a_table_is_kept_row_by_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    kept = table.Table("some", "a", "b", note="What it is.")
    kept.add(1, "x")
    lines = (tmp_path / "results" / "some.md").read_text().splitlines()
    assert lines[0].endswith("k = 15")
    assert lines[1:] == ["", "What it is.", "", "| a | b |", "|---|---|", "| 1 | x |"]
    kept.add(2, "y")
    assert (tmp_path / "results" / "some.md").read_text().endswith("| 1 | x |\n| 2 | y |\n")


def test_settings_are_said_as_one_reads_them() -> None:
    assert table.said({}) == "defaults"
    assert table.said({"k": 64, "L": 80}) == "k 64, L 80"


# --- places of threads ----------------------------------------------------------------------------


def test_two_busy_threads_never_share_one_of_two_processors() -> None:
    assert placement.assign({}, [5, 6], [0, 1]) == {5: 0, 6: 1}
    assert placement.assign({5: 1, 6: 1}, [5, 6], [0, 1]) == {5: 1, 6: 0}


def test_a_thread_stays_where_it_is_while_that_is_fair() -> None:
    assert placement.assign({5: 1, 7: 0}, [5, 7], [0, 1]) == {5: 1, 7: 0}
    assert placement.assign({5: 1, 7: 0}, [5, 7, 8, 9], [0, 1]) == {5: 1, 7: 0, 8: 0, 9: 1}
    assert placement.assign({6: 1}, [5, 6], [0, 1]) == {6: 1, 5: 0}


def test_a_thread_that_is_busy_alone_is_left_free() -> None:
    assert placement.assign({5: 1}, [5], [0, 1]) == {}
    assert placement.assign({}, [], [0, 1]) == {}


def test_busy_threads_are_placed_and_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    ties: dict[int, list[int]] = {}
    demands = dict.fromkeys((101, 102, 103), 0.0)
    monkeypatch.setattr(placement, "_tie", lambda thread, to: ties.__setitem__(thread, list(to)))
    monkeypatch.setattr(placement, "processors", lambda: [0, 1])
    monkeypatch.setattr(placement, "demand_of", demands.__getitem__)
    watched = placement.Placement(os.getpid())
    watched.look(list(demands), 1.0)
    assert ties == {thread: [0, 1] for thread in demands}, "a thread inherits the place of the one that started it"
    demands |= {101: 0.9, 102: 0.8, 103: 0.1}
    watched.look(list(demands), 1.0)
    assert sorted([ties[101], ties[102]]) == [[0], [1]]
    assert ties[103] == [0, 1]
    demands |= {101: 1.8, 102: 0.9, 103: 0.2}
    watched.look(list(demands), 1.0)
    assert ties[101] == [0, 1], "a thread that is busy alone is left free"


def test_all_threads_of_a_process_are_seen() -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not list threads")
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    seen = placement.threads_of(os.getpid())
    stop.set()
    thread.join()
    assert {threading.get_native_id(), thread.native_id} <= set(seen)


def test_demand_grows_with_work() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this system does not say how long threads wait")
    own = threading.get_native_id()
    before, start = placement.demand_of(own), time.thread_time()
    while time.thread_time() - start < 0.05:
        pass
    assert placement.demand_of(own) - before > 0.03
    assert own in placement.threads_of(os.getpid())
    assert os.getpid() in placement.family_of(os.getppid())
    assert placement.demand_of(2**30) == 0.0


# --- choices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [choices.MODEL, *choices.OTHERS], ids=lambda one: one.said)
def test_a_choice_changes_one_thing_and_only_while_it_is_tried(choice: choices.Choice) -> None:
    from distnnd.stages import leaves, passes
    from distnnd.values.partitioning import companion_cap, leaf_fanout, leaf_rows

    stream = importlib.import_module("distnnd.stream")

    def now() -> tuple[int, ...]:
        lists = stream.first_width(15, 10_000, 0.95)
        return leaves.leaf_rows(128, 15), leaves.leaf_fanout(1, True), lists, passes.companion_cap(40)

    before = now()
    assert before == (leaf_rows(128, 15), leaf_fanout(1, True), 20, companion_cap(40))
    with choices.chosen(choice):
        differ = sum(one != other for one, other in zip(now(), before, strict=True))
    assert differ == (choice is not choices.MODEL)
    assert now() == before


def test_a_choice_is_weighed_by_a_real_build(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5_000, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    asked = np.arange(100)
    near = truth.nearest(rows, asked, 15)
    task = data.Task("normal", tmp_path / "rows.npy", "euclidean", asked, near)
    cost = choices.cost_of(task, 0.9, choices.OTHERS[0])
    assert cost.recall >= 0.9
    assert cost.cpu > 0
    assert cost.rounds >= 1
