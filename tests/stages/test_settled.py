"""Rows that are settled stay at home: their lists are exact, and no other row lacks them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import distributed
import numpy as np
import pytest

import distnnd
from distnnd.kernels import settled as kernels
from distnnd.kernels.codes import Coder
from distnnd.kernels.signposts import MANY
from distnnd.runtime.events import TaskEnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.stages import kdtree, route, settle, settled
from distnnd.stages.drawn import Drawn
from distnnd.stages.settled import cells_of, may_settle, solved_whole
from distnnd.storage import graph, mailbox
from distnnd.values.memory import SETTLED_BY, SETTLED_PIVOTS, route_bytes, settle_bytes
from distnnd.values.metric import METRICS
from distnnd.values.partitioning import (
    NEAREST,
    pivot_count,
)
from distnnd.values.plan import Job, Layout, Report, Task
from distnnd.values.spec import BuildSpec
from distnnd.values.units import TREE_ROWS, Unit, least_unit
from tests.conftest import all_distances, clustered, graph_bytes, true_recall

N, K, BLOCK, PARTITIONS, ROUNDS = 6000, 5, 2048, 5, 3
BUILD = sys.modules["distnnd.stream"]


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, cut: Callable[..., None]) -> Callable[..., None]:
    """rounds(): builds of this test take three, in small partitions, which trees solve."""

    def set_up(partitions: int = PARTITIONS, cap: int | None = None, tree_rows: int = 64) -> None:
        cut(partitions, BLOCK, cap)
        monkeypatch.setattr(kdtree, "TREE_ROWS", tree_rows)
        monkeypatch.setattr(kdtree, "LIMIT", 1e9)
        monkeypatch.setattr(BUILD, "finished", lambda build, done: len(done) >= ROUNDS)
        monkeypatch.setattr(BUILD, "STAYING", 0)

    return set_up


def build(
    points: np.ndarray, out: Path | None = None, **wanted: Any
) -> tuple[distnnd.Graph, dict[tuple[str, int], float]]:
    """A graph, and the copies, settled and exact rows of each round."""
    counted: dict[tuple[str, int], float] = {}

    def listen(event: Any) -> None:
        if isinstance(event, TaskEnd):
            for name in ("copies", "settled", "exact"):
                value = event.report.counters.get(name, 0)
                counted[name, event.round] = counted.get((name, event.round), 0) + value

    made = distnnd.build(points, out, **({"n_neighbors": K, "client": SerialExecutor(), "progress": listen} | wanted))
    return made, counted


def low_dimensional(flavour: str, n: int = N) -> np.ndarray:
    rng = np.random.default_rng(5)
    points = rng.uniform(size=(n, 3))
    if flavour == "clusters":
        return clustered(n, 2)
    if flavour == "normal":
        return rng.normal(size=(n, 2)).astype(np.float32)
    if flavour == "bytes":
        return (points * 256).astype(np.uint8)
    if flavour == "far":
        points += 1000
    if flavour == "outliers":
        # So far that coordinates are cut off, of some that no sample holds.
        points[:40] *= rng.uniform(-40, 40, (40, 1))
    if flavour == "sphere":
        points[:4] = 0
    return points.astype(np.float16 if flavour == "halves" else np.float32)


FLAVOURS = ("uniform", "clusters", "normal", "bytes", "far", "outliers", "halves")


class Home(NamedTuple):
    """What is said of all rows before a round: exact, stays; the lists that they have."""

    exact: np.ndarray
    stays: np.ndarray
    ids: np.ndarray


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Home]]:
    """What routes were told of each block, by round."""
    told: dict[int, list[Home]] = {}

    def watching(job: Job, number: int, block: int) -> np.ndarray:
        stays = settled.settled_rows(job, number, block)
        exact = mailbox.read(job.scratch, settled.states_at(number, block), "exact").astype(bool)
        ids, _ = graph.read_lists(job.out, number - 1, *job.layout.block(block))
        told.setdefault(number, []).append(Home(exact, stays, ids))
        return stays

    monkeypatch.setattr(route, "settled_rows", watching)
    return told


@pytest.mark.parametrize(("flavour", "metric"), [*((one, "euclidean") for one in FLAVOURS), ("sphere", "cosine")])
def test_what_is_said_of_rows_is_true(
    rounds: Callable[..., None], watched: dict[int, list[Home]], flavour: str, metric: str
) -> None:
    rounds()
    points = low_dimensional(flavour)
    _, counted = build(points, metric=metric)
    away = all_distances(points.astype(np.float64), metric)
    np.fill_diagonal(away, np.inf)
    # How exactly float32 tells distances.
    blur = 1e-6 * (1 + np.abs(points.astype(np.float64)).max())
    kth = np.sort(away, axis=1)[:, K - 1]
    assert set(watched) == {2, 3}
    for number, blocks in watched.items():
        exact, stays, ids = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        held = np.zeros((N, N + 1), bool)
        np.put_along_axis(held, ids[:, :K], True, axis=1)
        # Of exact rows no nearer neighbour is missing; of those that stay none is missing to anybody.
        lacked = (away < kth[:, None] - blur) & ~held[:, :N]
        assert not lacked[exact].any()
        assert not lacked[:, stays].any()
        assert (exact | ~stays).all()
        assert counted["settled", number] == stays.sum()
        assert exact.mean() > 0.02 or flavour == "far"
        # An outlier's neighbours are so far away that it may need any row.
        assert stays.mean() > 0.02 or flavour in ("far", "outliers")
    assert counted["settled", 3] >= counted["settled", 2]


@pytest.mark.parametrize("flavour", ["uniform", "normal", "clusters"])
def test_the_same_graph_with_fewer_copies(
    rounds: Callable[..., None], monkeypatch: pytest.MonkeyPatch, flavour: str
) -> None:
    rounds()
    points = low_dimensional(flavour)
    some, few = build(points)
    share = few["settled", 2] / N
    assert share > {"uniform": 0.15, "normal": 0.1, "clusters": 0.02}[flavour]
    assert [entry["settled"] for entry in some.facts["rounds"]] == [few["settled", number] for number in (1, 2, 3)]
    assert all(entry["trees"] for entry in some.facts["rounds"])
    assert some.facts["rounds"][1]["engine"].endswith(f"; {few['settled', 2]:,} rows stayed at home")
    monkeypatch.setattr(BUILD, "solved_whole", lambda *arguments: [])
    all_of_them, many = build(points)
    assert ("exact", 2) in many
    assert many["settled", 2] == many["exact", 2] == 0
    assert few["copies", 1] == many["copies", 1]
    assert few["copies", 2] < (1 - share / 2) * many["copies", 2]
    assert graph_bytes(some) == graph_bytes(all_of_them)
    assert true_recall(points, some) > 0.999


class Shares:
    """Several numbers, one for each product that is asked for."""

    def __init__(self, shares: list[float]) -> None:
        self.shares = iter(shares)

    def __mul__(self, rows: int) -> float:
        return next(self.shares) * rows


@pytest.mark.parametrize("enough", [True, False])
def test_a_first_block_says_whether_it_is_worth_it(
    rounds: Callable[..., None], monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    """Of it no more rows stay than it says; and rows that stayed once may travel again."""
    rounds()
    points, said = low_dimensional("uniform"), []
    run = settle.run_settle

    def listening(job: Job, task: Task) -> Report:
        report = run(job, task)
        if task.index == 0:
            said.append(report.counters["stay"])
        return report

    monkeypatch.setattr(settle, "run_settle", listening)
    if not enough:
        # In the third round nothing is worth it.
        monkeypatch.setattr(BUILD, "STAYING", Shares([0, 2]))
    made, counted = build(points)
    assert len(said) == ROUNDS - 1
    assert said[0] >= counted["settled", 2] * BLOCK / N * 0.5 > 0
    assert (counted["settled", 3] > 0) == enough
    assert [entry["settled"] > 0 for entry in made.facts["rounds"]] == [False, True, enough]
    assert true_recall(points, made) > 0.999


def test_ties_keep_their_distances(rounds: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of bytes many are as near as the k-th neighbour: any of them will do."""
    rounds()
    points = low_dimensional("bytes")
    some, counted = build(points)
    assert counted["settled", 2] > 0.2 * N
    monkeypatch.setattr(BUILD, "solved_whole", lambda *arguments: [])
    all_of_them, _ = build(points)
    np.testing.assert_array_equal(some.distances[:], all_of_them.distances[:])


class Crashed(Exception):
    """What a crash looks like from inside."""


@pytest.mark.parametrize("when", [("settle", 2), ("route", 2), ("merge", 2), ("settle", 3), ("local", 3)])
def test_a_crash_changes_nothing(tmp_path: Path, rounds: Callable[..., None], when: tuple[str, int]) -> None:
    rounds()
    points = low_dimensional("uniform")
    np.save(tmp_path / "points.npy", points)
    expected, _ = build(points)

    def crash(event: Any) -> None:
        if isinstance(event, TaskEnd) and (event.stage, event.round, event.index) == (*when, 1):
            raise Crashed

    with pytest.raises(Crashed):
        build(tmp_path / "points.npy", tmp_path / "out", progress=crash)
    again, counted = build(tmp_path / "points.npy", tmp_path / "out")
    assert counted["settled", 3] > 0.15 * N
    assert graph_bytes(again) == graph_bytes(expected)


def test_workers_change_nothing(
    cut: Callable[..., None], processes: distributed.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BUILD, "finished", lambda build, done: len(done) >= ROUNDS)
    cut(3, 8192)
    points = low_dimensional("uniform", 36_000)
    (one, counted), (other, same) = (build(points, client=client) for client in (SerialExecutor(), processes))
    assert counted == same
    assert counted["settled", 2] > 0.3 * len(points)
    assert graph_bytes(one) == graph_bytes(other)


@pytest.mark.parametrize("left", [0, 1, 2, 3, 40])
def test_few_rows_or_none_are_left(rounds: Callable[..., None], monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    rounds()
    points = low_dimensional("uniform")
    first: list[np.ndarray] = []

    def nearly_all(job: Job, number: int, block: int) -> np.ndarray:
        stays = settled.settled_rows(job, number, block)
        first.append(graph.read_lists(job.out, number - 1, *job.layout.block(block))[0])
        stays[:] = True
        stays[: left if block == 0 else 0] = False
        return stays

    monkeypatch.setattr(route, "settled_rows", nearly_all)
    made, counted = build(points)
    assert counted["settled", 2] == counted["settled", 3] == N - left
    before = np.concatenate(first[: -(-N // BLOCK)])[left:, :K]
    np.testing.assert_array_equal(made.indices[:][left:], before)


@pytest.mark.filterwarnings("ignore:target_recall")
def test_leaves_settle_nobody(rounds: Callable[..., None]) -> None:
    rounds(tree_rows=N)
    made, counted = build(low_dimensional("uniform"))
    assert [(entry["settled"], entry["trees"]) for entry in made.facts["rounds"]] == [(0, [])] * ROUNDS
    assert counted["copies", 2] > 2 * N


@pytest.mark.filterwarnings("ignore:target_recall")
def test_a_partition_that_is_cut_settles_nobody(rounds: Callable[..., None]) -> None:
    rounds(2, cap=2500)
    made, _ = build(low_dimensional("uniform"))
    assert made.facts["rounds"][0]["trees"] == []
    assert made.facts["rounds"][0]["engine"].startswith("k-d tree")


def job_of(metric: str = "euclidean", d: int = 3, partitions: int = 6, leaves: int = 0) -> Job:
    layout = Layout(N, d, "float32", BLOCK, partitions=partitions, leaves=leaves)
    return Job("x", BuildSpec(metric=metric), layout, {}, "", "")


def test_units_that_held_whole_partitions() -> None:
    units = [Unit((), 9, held) for held in ((0, 1), (1, 2), (1, 2), (2, 4), (4, 5), (5, 6))]
    trees = [True, True, True, True, False, True]
    assert solved_whole(job_of(), units, trees) == [0, 2, 3, 5]
    assert solved_whole(job_of("manhattan"), units, trees) == []


def test_where_rows_may_be_settled() -> None:
    assert all(may_settle(job_of(metric)) for metric in ("euclidean", "sqeuclidean", "cosine", "correlation"))
    assert not any(may_settle(job_of(metric)) for metric in ("inner_product", "manhattan", "hellinger", "jaccard"))
    assert not may_settle(job_of(leaves=9))
    most = SETTLED_PIVOTS // pivot_count(1)
    assert may_settle(job_of(partitions=most))
    assert not may_settle(job_of(partitions=most + 1))


def test_few_rows_are_held_together() -> None:
    assert least_unit(20, 10**6, settled=False) == 80
    assert least_unit(20, 10**6, settled=True) == TREE_ROWS
    assert least_unit(20, TREE_ROWS, settled=True) == 80


def test_no_row_is_nearer_than_the_bounds() -> None:
    """Of pairs of rows of different homes, in codes that cut off: the bounds of either row, and of both together."""
    rng = np.random.default_rng(0)
    pivots = rng.normal(size=(40, 3)).astype(np.float32)
    rows = (rng.normal(size=(1500, 3)) * 1.5).astype(np.float32)
    pivots[7] = pivots[8]
    partition = np.sort(rng.integers(0, 5, 40)).astype(np.int32)
    coder = Coder(np.zeros(3, np.float32), 0.02, exact=False, cuts=True)
    drawn = Drawn(pivots, partition, coder, np.inf)
    way = route.Way.of(drawn)
    coded = route.encode(rows, coder)
    nearest = route.look(route.roads_of(job_of(), coded, way)[0], way)
    seen = kernels.Seen(nearest.ids.astype(np.int16), nearest.distances)
    cells = cells_of(drawn)
    bounds = np.empty((len(rows), len(pivots)), np.float32)
    for row in range(len(rows)):
        least = kernels.fill_bounds(cells, seen, row, bounds[row])
        assert least == bounds[row].min()
    away = np.sqrt(all_distances(rows.astype(np.float64), "sqeuclidean"))
    cell = nearest.ids[:, 0]
    home = partition[cell]
    toward = bounds[:, cell]
    assert (home[:, None] == home)[np.isinf(toward)].all()
    elsewhere = home[:, None] != home
    assert (away[elsewhere] > toward[elsewhere] - 1e-5).all()
    assert (away[elsewhere] > (toward + toward.T + cells.rounding)[elsewhere] - 1e-5).all()
    assert (toward[elsewhere] > 0).mean() > 0.9, "nothing was said"


def test_what_is_known_takes_what_is_planned() -> None:
    assert SETTLED_BY == NEAREST
    assert SETTLED_PIVOTS < MANY, "rows look at all pivots"
    for partitions, d, width in ((2, 3, 20), (16, 39, 20), (SETTLED_PIVOTS // 16, 3, 20), (16, 3, 200)):
        layout, metric = Layout(10**6, d, "float32", 32768, partitions=partitions), METRICS["euclidean"]
        needed = settle_bytes(layout, metric, width, pivot_count(partitions))
        assert needed <= route_bytes(layout, metric, width, pivot_count(partitions))
