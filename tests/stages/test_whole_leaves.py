"""Leaves of the whole set: rows find them as they are routed, and no partition grows a tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import distributed
import numpy as np
import pytest

import distnnd
from distnnd.kernels.codes import encode
from distnnd.kernels.projection import project
from distnnd.kernels.ranges import serial
from distnnd.runtime.events import TaskEnd, silent
from distnnd.runtime.serial import SerialExecutor
from distnnd.stages import leaves, local
from distnnd.stages.drawn import Drawn, Shared
from distnnd.stages.partition import Work, with_codes
from distnnd.stages.route import plan_route, read_and_place
from distnnd.storage import mailbox
from distnnd.values.partitioning import LEAF_FANOUT, make_units
from distnnd.values.plan import Job, Task
from tests.conftest import graph_bytes, near_a_subspace, true_recall
from tests.stages.test_draw import drawn

ROWS, LEAVES = 12_000, 200


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return near_a_subspace(ROWS)


@pytest.fixture(scope="module")
def job(points: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job whose rows have been routed to such leaves."""
    made = drawn(tmp_path_factory.mktemp("drawn"), points, leaves=LEAVES)
    SerialExecutor().run(plan_route(made, 2, 0), made, silent)
    return made


def test_each_partition_has_leaves_and_they_stand_together(job: Job) -> None:
    partition = Drawn.read(job, 2).partition
    assert (np.diff(partition) >= 0).all()
    assert set(partition) == set(range(job.layout.partitions))
    np.testing.assert_array_equal(Shared.read(job, 2).leaves, partition)


def test_a_row_stands_in_its_nearest_leaves_and_goes_where_they_are(job: Job, points: np.ndarray) -> None:
    what = Drawn.read(job, 2)
    assert what.guide is not None
    codes = [project(encode(rows, what.coder), what.guide).values.astype(np.int64) for rows in (points, what.pivots)]
    for block in range(job.layout.blocks):
        first, last = job.layout.block(block)
        _, (slots, roles, named) = read_and_place(job, Task("route", 2, block))
        gaps = ((codes[0][first:last, None] - codes[1]) ** 2).sum(axis=2)
        near = np.sort(gaps, axis=1)[:, :LEAF_FANOUT]
        np.testing.assert_array_equal(np.take_along_axis(gaps, named.astype(np.int64), axis=1), near)
        for row, places in zip(named, slots, strict=True):
            assert set(what.partition[row]) == set(places[places >= 0])
        assert (roles[slots >= 0] > 0).all()


def test_a_partition_holds_whole_leaves(job: Job, points: np.ndarray) -> None:
    named = np.concatenate([read_and_place(job, Task("route", 2, i))[1].leaves for i in range(job.layout.blocks)])
    units = make_units(mailbox.offsets(job.scratch, 2, job.layout.blocks), ROWS, least=ROWS // 2)
    assert 1 < len(units) < job.layout.partitions, "some hold two partitions"
    of_leaves, seen = Drawn.read(job, 2).partition, 0
    for task in sorted(local.plan_local(job, 2, 0, 20, units).tasks, key=lambda task: task.arguments["partitions"]):
        partition = local.read_mail(job, task)
        assert partition.standing is not None
        (slots, count, home), rows = partition.standing, partition.rows
        assert seen == np.searchsorted(of_leaves, task.arguments["partitions"][0])
        for leaf in range(count):
            members = set(rows[(slots == leaf).any(axis=1)])
            assert members == set(np.flatnonzero((named == seen + leaf).any(axis=1)))
        np.testing.assert_array_equal(home, (named[rows, 0] >= seen) & (named[rows, 0] < seen + count))
        np.testing.assert_array_equal(partition.points, points[rows])
        seen += count
    assert seen == LEAVES


def test_a_row_looks_in_as_many_leaves_as_where_its_partition_grows_them(job: Job) -> None:
    """Its nearest ones: one that only visits has the leaves that brought it."""
    units = make_units(mailbox.offsets(job.scratch, 2, job.layout.blocks), ROWS, least=1)
    task = local.plan_local(job, 2, 0, 20, units).tasks[0]
    partition = local.read_mail(job, task)
    assert partition.standing is not None
    named = partition.standing.slots
    assert (named[:, -1] >= 0).any()
    work = Work(job, 2, 0, serial, 1)
    ((rows, coder),), present = with_codes(work, partition.points), np.arange(len(named)) % 7 > 0
    found = leaves.cut_further(work, rows, coder, partition.standing, present, LEAF_FANOUT)
    assert found.count == partition.standing.count, "none was too large"
    np.testing.assert_array_equal(found.slots[present], named[present, : leaves.GUIDED_FANOUT])
    assert (found.slots[~present] == -1).all()


def test_rows_that_nothing_guides_are_routed_by_pivots(tmp_path: Path) -> None:
    shapeless = np.random.default_rng(0).standard_normal((ROWS, 128)).astype(np.float32)
    made = drawn(tmp_path, shapeless, leaves=LEAVES)
    what = Drawn.read(made, 2)
    assert what.guide is None
    assert Shared.read(made, 2) == (None, None)
    assert 1 < what.reach < np.inf
    _, places = read_and_place(made, Task("route", 2, 0))
    assert places.leaves.shape[1] == 0


def test_what_was_drawn_is_read_as_it_was_written(job: Job, tmp_path: Path) -> None:
    what, other = Drawn.read(job, 2), replace(job, scratch=str(tmp_path / "scratch"))
    mailbox.create(other.scratch, "0" * 32, other.out)
    what = what._replace(narrow=what.guide)
    what.write(other, 1)
    again = Drawn.read(other, 1)
    for one, same in ((what.guide, again.guide), (what.narrow, again.narrow)):
        assert one is not None
        assert same is not None
        np.testing.assert_equal(tuple(same), tuple(one))
    shared = Shared.read(other, 1)
    np.testing.assert_array_equal(shared.leaves, what.partition)
    assert shared.codes is not None
    np.testing.assert_equal((tuple(shared.codes[0]), tuple(shared.codes[1])), (tuple(what.coder), tuple(again.narrow)))
    np.testing.assert_equal(tuple(again[:4]), tuple(what[:4]))


@pytest.mark.filterwarnings("ignore:target_recall")
def test_the_whole_build(
    points: np.ndarray, cut: Callable[..., None], serial: SerialExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No partition grows a tree, later rounds draw other leaves, and a smaller cap cuts partitions by blocks."""
    grown: list[int] = []
    monkeypatch.setattr(leaves, "grow", lambda *arguments: grown.append(1))
    for cap, least in ((None, 0.9995), (6000, 0.95)):
        cut(4, 2048, cap)
        ended: list[TaskEnd] = []
        listen = lambda event, ended=ended: ended.append(event) if isinstance(event, TaskEnd) else None  # noqa: E731
        graph = distnnd.build(points, target_recall=0.9999, max_rounds=3, client=serial, progress=listen)
        assert not grown
        assert graph.facts["layout"]["leaves"] > 0
        assert true_recall(points, graph) >= least
        assert {event.round for event in ended} > {1}, "one round was enough to reach what is asked for"
        if cap:
            assert len([event for event in ended if (event.stage, event.round) == ("local", 1)]) > 4


def test_workers_change_nothing(
    points: np.ndarray, cut: Callable[..., None], serial: SerialExecutor, processes: distributed.Client
) -> None:
    cut(4, 4096)
    one, two = (distnnd.build(points, target_recall=0.9, client=who) for who in (serial, processes))
    assert graph_bytes(one) == graph_bytes(two)


def test_partitions_ask_rows_that_are_at_home(points: np.ndarray, job: Job) -> None:
    """The others find most of their neighbours elsewhere."""
    units = make_units(mailbox.offsets(job.scratch, 2, job.layout.blocks), ROWS, least=1)
    task, own, asked = local.plan_local(job, 2, 0, 20, units).tasks[0], leaves.own_probes, []

    def asking(work, partition, present, coded):
        found = own(work._replace(number=1), partition, present, coded)
        asked.append(partition.standing.home[found[0]].all() and not partition.standing.home.all())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaves, "own_probes", asking)
        local.solve(job, task, local.read_mail(job, task))
    assert asked == [True]


def test_partitions_of_wide_rows_have_one_way_to_narrow_them(tmp_path: Path) -> None:
    """However few rows a partition has; and what they are worth is known where they were drawn."""
    points = near_a_subspace(6000, 320)
    made = drawn(tmp_path, points, leaves=100)
    SerialExecutor().run(plan_route(made, 2, 0), made, silent)
    units = make_units(mailbox.offsets(made.scratch, 2, made.layout.blocks), ROWS, least=1)
    narrowed = []
    for task in local.plan_local(made, 2, 0, 20, units).tasks:
        partition = local.read_mail(made, task)
        work = Work(made, 2, 0, serial, 1)
        (wide, coder), (narrow, worth) = with_codes(work, partition.points, partition.codes)
        assert wide.values.shape[1] == 320
        assert narrow.values.shape[1] == 64
        pairs = np.random.default_rng(0).integers(0, len(narrow.values), (2, 500))
        pairs = pairs[:, pairs[0] != pairs[1]]
        one, other = (partition.points[side].astype(np.float64) for side in pairs)
        true = ((one - other) ** 2).sum(axis=1)
        apart = narrow.values[pairs[0]].astype(np.float64) - narrow.values[pairs[1]]
        assert np.quantile(np.abs((apart**2).sum(axis=1) * worth.step**2 / true - 1), 0.95) < 0.1
        narrowed.append((coder.step, worth.step))
    assert len(narrowed) == len(units) > 1
    assert len(set(narrowed)) == 1
