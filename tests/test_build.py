"""The whole stream: right neighbours, honest recall, the same bytes whoever runs it and however often it stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import distnnd
from distnnd.runtime.events import RoundEnd, TaskEnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage.points import write_points
from distnnd.values import partitioning
from tests.conftest import clustered, graph_bytes, true_recall

METRICS = ("euclidean", "sqeuclidean", "cosine", "inner_product")


@pytest.mark.parametrize("metric", METRICS)
def test_few_rows_are_solved_exactly(serial, metric):
    points = clustered(700)
    graph = distnnd.build(points, n_neighbors=10, metric=metric, client=serial)
    assert graph.recall.exact
    assert true_recall(points, graph, metric) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_one_partition_reaches_the_recall(serial, points, metric):
    graph = distnnd.build(points, metric=metric, client=serial, target_recall=0.95)
    assert not graph.recall.exact
    assert true_recall(points, graph, metric) >= 0.94


@pytest.mark.parametrize("metric", METRICS)
def test_partitions_reach_the_recall(serial, points, metric, cut):
    cut(5, 1024)
    graph = distnnd.build(points, metric=metric, client=serial, target_recall=0.95)
    assert graph.facts["layout"]["partitions"] == 5
    assert true_recall(points, graph, metric) >= 0.94


@pytest.mark.parametrize(("metric", "partitions"), [("cosine", 1), ("inner_product", 3)])
def test_the_interval_holds_the_true_recall_as_often_as_it_says(serial, cut, metric, partitions):
    """A single interval may miss one time in twenty: it takes many builds to see whether it is honest.

    Of twenty at 95 % fewer than 16 hold the truth once in 400 times, and an estimate that leaned to one side would
    show in the mean of their errors. (Not in widths of the intervals: near 1 those of high estimates are the narrower.)
    """
    points = clustered(4500)
    if partitions > 1:
        cut(partitions, 1500)
    held, errors = 0, []
    for seed in range(20):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            graph = distnnd.build(
                points, metric=metric, client=serial, target_recall=0.9, max_rounds=1, random_state=seed
            )
        true, recall = true_recall(points, graph, metric), graph.recall
        held += recall.low <= true <= recall.high
        errors.append(recall.estimate - true)
    assert held >= 16
    assert abs(np.mean(errors)) < 3 * np.std(errors) / len(errors) ** 0.5


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int8", "float64"])
def test_narrow_and_wide_types(serial, dtype, cut):
    cut(3, 1000)
    points = clustered(3000) * (1 if dtype.startswith("float") else 12)
    points = (np.clip(points, 0, 255) if dtype == "uint8" else np.clip(points, -128, 127)).astype(dtype)
    graph = distnnd.build(points, n_neighbors=8, client=serial, target_recall=0.9)
    assert true_recall(points.astype(np.float64), graph) >= 0.9


def test_rows_keep_their_promises(serial, points, cut):
    cut(4, 1500)
    ids, distances = distnnd.build(points, n_neighbors=7, client=serial).to_numpy()
    assert ids.shape == distances.shape == (6000, 7)
    assert (ids.dtype, distances.dtype) == (np.int64, np.float32)
    assert ((ids >= 0) & (ids < 6000)).all()
    assert all(len(set(row)) == 7 for row in ids.tolist())
    assert (ids != np.arange(6000)[:, None]).all()
    assert (np.diff(distances, axis=1) >= 0).all()
    exact = np.linalg.norm(points[:, None].astype(float) - points[ids], axis=2)
    np.testing.assert_allclose(distances, exact, rtol=1e-5, atol=1e-5)


def test_every_pair_has_one_distance(serial, points, cut):
    cut(4, 1500)
    ids, distances = distnnd.build(points, client=serial).to_numpy()
    seen = {}
    for row, (others, lengths) in enumerate(zip(ids.tolist(), distances.tolist(), strict=True)):
        for other, length in zip(others, lengths, strict=True):
            assert seen.setdefault((min(row, other), max(row, other)), length) == length


def test_identical_rows_do_not_stop_it(serial, cut):
    points = clustered(4000)
    points[500:3000] = points[0]
    cut(4, 250, cap=1200)
    graph = distnnd.build(points, client=serial, target_recall=0.9)
    assert true_recall(points, graph) >= 0.9


def test_tiny_partitions_held_together(serial, cut):
    """Rows whose copies meet again in one unit must not become their own neighbours."""
    points = clustered(3000)
    cut(80, 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        graph = distnnd.build(points, client=serial, target_recall=1.0, max_rounds=3)
    assert (graph.indices[:] != np.arange(3000)[:, None]).all()


def test_all_rows_identical(serial, cut):
    cut(3, 1000, cap=1500)
    graph = distnnd.build(np.ones((3000, 4), np.float32), client=serial)
    assert (graph.distances[:] == 0).all()


def test_zero_rows_under_cosine(serial, points, cut):
    cut(3, 2000)
    points = points.copy()
    points[::100] = 0
    graph = distnnd.build(points, metric="cosine", client=serial)
    assert true_recall(points, graph, "cosine") >= 0.94


def test_data_far_from_the_origin(serial, points):
    far = points + np.float32(1000)
    assert true_recall(far, distnnd.build(far, client=serial)) >= 0.94


def test_more_threads_same_bytes(points):
    one = distnnd.build(points, client=SerialExecutor(threads=1))
    assert graph_bytes(one) == graph_bytes(distnnd.build(points, client=SerialExecutor(threads=3)))


def test_another_seed_other_bytes(serial, points):
    one = distnnd.build(points, client=serial, random_state=1)
    assert graph_bytes(one) != graph_bytes(distnnd.build(points, client=serial, random_state=2))


def test_rows_that_come_sorted(serial, points, cut):
    cut(4, 1000)
    ordered = points[np.argsort(points[:, 0])]
    assert true_recall(ordered, distnnd.build(ordered, client=serial)) >= 0.94


def test_a_target_out_of_reach_is_said_aloud(serial, shapeless, cut):
    cut(6, 1000)
    with pytest.warns(UserWarning, match="was not reached"):
        graph = distnnd.build(shapeless, client=serial, target_recall=1.0, max_rounds=1)
    assert graph.recall.estimate < 1.0


def test_what_is_enough_is_enough(serial):
    """A lower target costs less: fewer leaves are compared, and no pass is made."""
    many, counted = clustered(12_000, 48), {}
    for target in (0.3, 0.97):
        reports: list[dict[str, float]] = []
        listen = lambda event: reports.append(event.report.counters) if hasattr(event, "report") else None  # noqa: E731,B023
        graph = distnnd.build(many, client=serial, target_recall=target, max_rounds=1, progress=listen)
        assert graph.recall.estimate >= target
        counted[target] = next(one for one in reports if "passes" in one)
    assert counted[0.3]["passes"] == 0 < counted[0.97]["passes"]
    assert counted[0.3]["compared"] < 0.5 * counted[0.97]["compared"]


def test_a_pass_ends_in_the_middle_when_it_is_enough(serial):
    many, passes = clustered(12_000, 48), []
    for target in (0.91, 0.93, 0.95, 0.97):
        reports: list[dict[str, float]] = []
        listen = lambda event: reports.append(event.report.counters) if hasattr(event, "report") else None  # noqa: E731,B023
        distnnd.build(many, client=serial, target_recall=target, max_rounds=1, progress=listen)
        passes.append(next(one for one in reports if "passes" in one)["passes"])
    assert passes == sorted(passes)
    assert any(count % 1 for count in passes)


class Stop(Exception):
    """What a crash looks like from inside."""


def stop_after(tasks: int) -> Callable[[object], None]:
    """A listener that raises when the given number of tasks have ended."""
    count = 0

    def listen(event: object) -> None:
        nonlocal count
        if isinstance(event, TaskEnd):
            count += 1
            if count == tasks:
                raise Stop

    return listen


@pytest.mark.parametrize("partitions", [1, 3])
def test_stopped_anywhere_the_same_bytes(serial, tmp_path, partitions, cut):
    points = clustered(2000)
    cut(partitions, 700)
    wanted = {"n_neighbors": 6, "target_recall": 0.97, "client": serial}
    ended: list[object] = []
    whole = distnnd.build(points, tmp_path / "whole", progress=ended.append, **wanted)
    tasks = sum(isinstance(event, TaskEnd) for event in ended)
    for stop in range(1, tasks + 1, 1 if partitions == 1 else 3):
        out = tmp_path / f"stopped-{stop}"
        with pytest.raises(Stop):
            distnnd.build(points, out, progress=stop_after(stop), **wanted)
        if stop > 3:
            with pytest.raises(distnnd.StoreError, match="not finished"):
                distnnd.open_graph(out)
        assert graph_bytes(distnnd.build(points, out, **wanted)) == graph_bytes(whole)


def test_what_is_done_is_not_done_again(serial, tmp_path, points, cut):
    cut(3, 1500)
    with pytest.raises(Stop):
        distnnd.build(points, tmp_path / "g", client=serial, progress=stop_after(15), target_recall=1.0, max_rounds=2)
    rerun: list[TaskEnd] = []
    started: dict[tuple[str, int, int], float] = {}

    def listen(event: object) -> None:
        if isinstance(event, TaskEnd):
            rerun.append(event)
            started[event.stage, event.round, event.index] = event.report.seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distnnd.build(points, tmp_path / "g", client=serial, progress=listen, target_recall=1.0, max_rounds=2)
    marks = list((tmp_path / "g").rglob("done/*"))
    assert not marks, "scratch is gone once the graph is published"
    assert len(rerun) > 15


def test_resume_goes_on_at_the_last_committed_round(serial, tmp_path, shapeless, cut):
    cut(8, 1500)
    wanted = {"client": serial, "target_recall": 1.0, "max_rounds": 3}

    def stop_after_round(event: object) -> None:
        if isinstance(event, RoundEnd) and event.round == 2:
            raise Stop

    with pytest.raises(Stop):
        distnnd.build(shapeless, tmp_path / "g", progress=stop_after_round, **wanted)
    rounds: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distnnd.build(
            shapeless,
            tmp_path / "g",
            progress=lambda event: rounds.append(event.round) if isinstance(event, RoundEnd) else None,
            **wanted,
        )
    assert 1 not in rounds
    assert 2 not in rounds


def looked(points: np.ndarray, serial: SerialExecutor, rounds: int) -> tuple[list[dict[str, float]], list[float]]:
    """What was counted in the partitions of each round, added up, and the recall after each."""
    counted: list[dict[str, float]] = []
    recalls: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, RoundEnd):
            recalls.append(event.recall.estimate)
        if isinstance(event, TaskEnd) and event.stage == "local":
            counted.extend({} for _ in range(event.round - len(counted)))
            for name, number in event.report.counters.items():
                counted[-1][name] = counted[-1].get(name, 0) + number

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        graph = distnnd.build(points, client=serial, target_recall=0.99, max_rounds=rounds, progress=listen)
    graph.verify()
    return counted, recalls


def test_a_round_that_finds_the_little_that_is_missing_is_brief(serial, cut, monkeypatch):
    """Rows look in one leaf of fresh partitions and walk nowhere; but the last round allowed does all it can."""
    points = np.random.default_rng(0).standard_normal((12_000, 24), np.float32)
    cut(8, 4096)
    monkeypatch.setattr(partitioning, "BRIEFLY", 1.0)
    (_, brief, last), recalls = looked(points, serial, 3)
    assert recalls[0] < recalls[1] < recalls[2]
    assert "passes" not in brief
    assert last["passes"] > 0
    monkeypatch.setattr(partitioning, "BRIEFLY", 0.0)
    (_, full, _), _ = looked(points, serial, 3)
    assert full["passes"] > 0
    assert brief["compared"] < 0.9 * full["compared"]


def unfinished(points: np.ndarray, out: Path) -> None:
    """Leave an unfinished build behind."""
    with pytest.raises(Stop):
        distnnd.build(points, out, client=SerialExecutor(), progress=stop_after(2))


def test_resume_refuses_other_parameters(serial, tmp_path, points):
    unfinished(points, tmp_path / "g")
    with pytest.raises(distnnd.SpecError, match=r"n_neighbors=15 \(now 9\)"):
        distnnd.build(points, tmp_path / "g", n_neighbors=9, client=serial)


def test_resume_refuses_changed_points(serial, tmp_path, points):
    unfinished(points, tmp_path / "g")
    changed = points.copy()
    changed[17, 3] += 1
    with pytest.raises(distnnd.StoreError, match="changed since"):
        distnnd.build(changed, tmp_path / "g", client=serial)


def test_resume_can_be_declined(serial, tmp_path, points):
    unfinished(points, tmp_path / "g")
    with pytest.raises(distnnd.SpecError, match="unfinished build"):
        distnnd.build(points, tmp_path / "g", client=serial, resume=False)


def test_a_finished_graph_is_not_touched(serial, tmp_path):
    graph = distnnd.build(clustered(500), tmp_path / "g", client=serial)
    before = graph_bytes(graph)
    with pytest.raises(distnnd.SpecError, match="finished graph"):
        distnnd.build(clustered(500), tmp_path / "g", client=serial, target_recall=0.9)
    assert distnnd.build(clustered(500), tmp_path / "g", client=serial).facts == graph.facts
    assert graph_bytes(distnnd.open_graph(tmp_path / "g")) == before


def test_scratch_may_lie_elsewhere(serial, tmp_path, points, cut):
    cut(3, 2000)
    seen: list[bool] = []
    scratch = tmp_path / "fast disk"
    distnnd.build(
        points,
        tmp_path / "g",
        client=serial,
        scratch=scratch,
        progress=lambda event: seen.append(any(scratch.rglob("mail"))) if isinstance(event, TaskEnd) else None,
    )
    assert any(seen)
    assert not any(scratch.rglob("records"))
    assert not (tmp_path / "g" / "scratch").exists()


def test_zarr_and_file_and_array_give_the_same_graph(serial, tmp_path, points):
    write_points(tmp_path / "p.zarr", [points], n=len(points), d=16, dtype="float32")
    np.save(tmp_path / "p.npy", points)
    graphs = [distnnd.build(source, client=serial) for source in (points, tmp_path / "p.zarr", tmp_path / "p.npy")]
    assert len({graph_bytes(graph) for graph in graphs}) == 1


def test_a_plan_tells_what_build_does(serial, points):
    plan = distnnd.plan(points, client=serial, memory_limit="2GiB")
    ended: list[TaskEnd] = []
    distnnd.build(
        points,
        client=serial,
        memory_limit="2GiB",
        progress=lambda event: ended.append(event) if isinstance(event, TaskEnd) else None,
    )
    done = {event.stage for event in ended}
    for cost in plan.costs:
        assert cost.name in done
        assert sum(event.stage == cost.name for event in ended if event.round in (0, 1)) == cost.tasks
    assert "memory/task" in str(plan)
