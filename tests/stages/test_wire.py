"""Rows that travel as float16: half of the mail, the same promise about distances."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from scipy import sparse

import distnnd
from distnnd.graph import Graph
from distnnd.kernels.groups import Groups
from distnnd.runtime.events import RoundEnd, TaskEnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.stages import exact, merge
from distnnd.stages.probe import count_named
from distnnd.stages.route import mail_of
from distnnd.stages.wire import Wire, gathered
from distnnd.storage import graph as store
from distnnd.values.budget import Workers
from distnnd.values.errors import SpecError
from distnnd.values.partitioning import exact_blocks, make_plan
from distnnd.values.plan import Extent, Job, Layout, Plan
from distnnd.values.spec import BuildSpec
from tests.conftest import clustered, graph_bytes, near_a_subspace, true_recall

Cut = Callable[..., None]
ROWS = 12_000
NARROW = {"exchange_dtype": "float16"}


class Stop(Exception):
    """What stops a build from outside."""


@pytest.fixture(scope="module")
def guided() -> np.ndarray:
    """Rows that go to leaves of the whole set."""
    return near_a_subspace(ROWS)


def distances_of(points: np.ndarray, graph: Graph, metric: str) -> np.ndarray:
    """The distances of the graph's pairs, float64."""
    rows = points.astype(np.float64)
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(norms > 0, norms, 1)
    gaps = rows[graph.indices[:]] - rows[:, None]
    squares = (gaps * gaps).sum(axis=2)
    return squares / 2 if metric == "cosine" else np.sqrt(squares)


def build_quietly(points: Any, *arguments: Any, **wanted: Any) -> Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return distnnd.build(points, *arguments, **wanted)


def optimistic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates that say too much."""
    monkeypatch.setattr(merge, "count_named", lambda *where: np.ones_like(count_named(*where)))


# --- what comes out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "offset", "scale"),
    [("euclidean", 0.0, 1.0), ("euclidean", 1e4, 1.0), ("sqeuclidean", 0.0, 1e-5), ("cosine", 0.0, 1e6)],
)
def test_distances_are_those_of_the_points(
    serial: SerialExecutor, cut: Cut, metric: str, offset: float, scale: float
) -> None:
    """Wherever the rows lie, and however large they are, the recall is reached as if nothing had been rounded."""
    points = (clustered(ROWS) * scale + offset).astype(np.float32)
    cut(4, 2048)
    graph = distnnd.build(points, metric=metric, client=serial, **NARROW)
    graph.verify(points)
    if metric != "sqeuclidean":
        expected = distances_of(points, graph, metric)
        np.testing.assert_allclose(graph.distances[:], expected, rtol=2e-4 if offset else 1e-5, atol=1e-6)
    assert graph.recall.estimate >= 0.95
    assert true_recall(points, graph, metric) >= 0.95
    assert graph.facts["spec"]["exchange_dtype"] == "float16"


def test_what_is_found_has_the_bytes_that_it_has_without(serial: SerialExecutor, cut: Cut, guided: np.ndarray) -> None:
    """The same row, found either way, is at the same distance to the last bit."""
    cut(4, 2048)
    one, two = (build_quietly(guided, client=serial, max_rounds=2, target_recall=0.9999, **how) for how in (NARROW, {}))
    same = one.indices[:] == two.indices[:]
    assert same.mean() > 0.99
    np.testing.assert_array_equal(one.distances[:][same], two.distances[:][same])


def test_zero_rows_and_copies_of_rows(serial: SerialExecutor, cut: Cut) -> None:
    points = clustered(6000)
    points[::40], points[1::40] = 0, points[1]
    cut(4, 2048)
    graph = distnnd.build(points, metric="cosine", client=serial, **NARROW)
    graph.verify(points)
    assert (graph.distances[:][::40] == 0).all()
    assert (graph.distances[:][1::40] == 0).all()


def test_several_rounds(serial: SerialExecutor, cut: Cut, shapeless: np.ndarray) -> None:
    """Each round rounds otherwise: no list holds a row twice, and what is reported is measured on exact distances."""
    cut(8, 1024)
    ended: list[RoundEnd] = []
    listen = lambda event: ended.append(event) if isinstance(event, RoundEnd) else None  # noqa: E731
    graph = build_quietly(shapeless, client=serial, target_recall=0.9999, max_rounds=4, progress=listen, **NARROW)
    graph.verify(shapeless)
    assert len(ended) > 1
    assert ended[0].recall.estimate < graph.recall.estimate
    assert abs(true_recall(shapeless, graph) - graph.recall.estimate) < 0.01
    assert graph.facts["rounds"][-1]["recall"] == graph.recall.to_json()


def test_a_promise_that_was_not_kept_takes_another_round(
    serial: SerialExecutor, cut: Cut, shapeless: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an estimate says too much, what was published is measured, found wanting, and published again."""
    optimistic(monkeypatch)
    cut(8, 1024)
    ran: list[tuple[str, int]] = []
    listen = lambda event: ran.append((event.stage, event.round)) if isinstance(event, TaskEnd) else None  # noqa: E731
    graph = distnnd.build(shapeless, client=serial, target_recall=0.99, progress=listen, **NARROW)
    assert ("exact", 1) in ran
    assert ("exact", len(graph.facts["rounds"])) in ran
    assert graph.recall.estimate >= 0.99
    assert true_recall(shapeless, graph) >= 0.98
    with pytest.warns(UserWarning, match="or leave exchange_dtype out"):
        graph = distnnd.build(shapeless, client=serial, target_recall=0.99, max_rounds=1, **NARROW)
    assert graph.recall.estimate < 0.99


def test_where_nothing_travels_nothing_changes(serial: SerialExecutor) -> None:
    for rows in (2000, 6000):
        points = clustered(rows)
        one, two = (distnnd.build(points, client=serial, **how) for how in (NARROW, {}))
        assert graph_bytes(one) == graph_bytes(two)


# --- the same bytes ----------------------------------------------------------------------------------------


def test_a_build_goes_on_wherever_it_was_stopped(
    serial: SerialExecutor, cut: Cut, shapeless: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same bytes, also where it was published once and not found good enough."""
    optimistic(monkeypatch)
    monkeypatch.setattr(exact, "exact_blocks", lambda *_: 2)
    cut(8, 512)
    wanted = {"client": serial, "target_recall": 0.99, **NARROW}
    ran: list[tuple[str, int, int]] = []

    def stop_at(place: tuple[str, int, int] | None) -> Callable[[object], None]:
        def listen(event: object) -> None:
            if isinstance(event, TaskEnd):
                ran.append((event.stage, event.round, event.index))
                if ran[-1] == place:
                    raise Stop

        return listen

    whole = distnnd.build(shapeless, progress=stop_at(None), **wanted)
    assert len({number for stage, number, _ in ran if stage == "exact"}) > 1
    # Amid the first stage that publishes, at its end, in the round after it, and amid the last one.
    first = [place for place in ran if place[:2] == ("exact", 1)]
    for number, place in enumerate([first[0], first[-1], ("route", 2, 0), ran[-2]]):
        out = tmp_path / str(number)
        with pytest.raises(Stop):
            distnnd.build(shapeless, out, progress=stop_at(place), **wanted)
        again = distnnd.build(shapeless, out, **wanted)
        assert graph_bytes(again) == graph_bytes(whole), place
        assert again.facts["recall"] == whole.facts["recall"]


def test_workers_and_tasks_change_nothing(
    cut: Cut, guided: np.ndarray, serial: SerialExecutor, processes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(4, 1024)
    one, two = (distnnd.build(guided, target_recall=0.9, client=who, **NARROW) for who in (serial, processes))
    monkeypatch.setattr(exact, "exact_blocks", lambda *_: 1)
    three = distnnd.build(guided, target_recall=0.9, client=serial, **NARROW)
    assert graph_bytes(one) == graph_bytes(two) == graph_bytes(three)


def test_another_wire_is_another_build(serial: SerialExecutor, cut: Cut, shapeless: np.ndarray, tmp_path: Path) -> None:
    """A store from before there were wires is one without."""
    cut(4, 1024)

    def stop(event: object) -> None:
        if isinstance(event, TaskEnd) and event.stage == "route":
            raise Stop

    with pytest.raises(Stop):
        distnnd.build(shapeless, tmp_path / "g", client=serial, progress=stop)
    with pytest.raises(SpecError, match=r"exchange_dtype=None \(now 'float16'\)"):
        distnnd.build(shapeless, tmp_path / "g", client=serial, **NARROW)
    facts = store.facts_of(str(tmp_path / "g"))
    assert facts is not None
    del facts["spec"]["exchange_dtype"]
    store.commit(str(tmp_path / "g"), facts)
    distnnd.build(shapeless, tmp_path / "g", client=serial)


# --- what travels ------------------------------------------------------------------------------------------


def test_the_mail_is_half_of_it(serial: SerialExecutor, cut: Cut, guided: np.ndarray) -> None:
    cut(4, 2048)
    sent: list[tuple[int, float]] = []

    def listen(event: object) -> None:
        if isinstance(event, TaskEnd) and (event.stage, event.round) == ("route", 1):
            sent.append((event.report.written, event.report.counters["copies"]))

    for how in ({}, NARROW):
        distnnd.build(guided, client=serial, progress=listen, target_recall=0.5, **how)
    (wide, copies), (narrow, others) = (map(sum, zip(*part, strict=True)) for part in (sent[:6], sent[6:]))
    assert copies == others
    assert wide - narrow == copies * 2 * guided.shape[1]


def test_the_record_of_a_row() -> None:
    layout = Layout(100, 12, "float32", 64, partitions=2)
    job = Job("x", BuildSpec(metric="cosine", exchange_dtype="float16"), layout, {}, "", "", zero_rows=True)
    assert mail_of(job, 0, leaves=False)["points"] == np.dtype(("<f2", 13)), "zero rows have a column of their own"
    whole = replace(job, layout=replace(layout, partitions=1))
    assert whole.exchange_dtype is None
    assert mail_of(whole, 0, leaves=False)["points"] == np.dtype(("<f4", 12))


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_rows_come_as_they_went_but_for_their_rounding(offset: float) -> None:
    """By a share of how far they are from the middle of their partition."""
    points = clustered(3000) + np.float32(offset)
    partition = np.arange(3000) % 3
    points += (1000 * partition[:, None]).astype(np.float32)
    points[7] *= 1e6
    copies = Groups(np.argsort(partition, kind="stable").astype(np.int32), np.arange(0, 3001, 1000)[[0, 1, 2, 3, 3]])
    wire = Wire.of(points, copies)
    assert wire.centres.shape == (4, 16), "nothing goes to the last one"
    middle = np.stack([np.median(points[partition == one], axis=0) for one in range(3)])
    assert np.abs(wire.centres[:3] - middle).max() < 1
    told = wire.narrowed(points, partition)
    assert told.dtype == np.float16
    assert np.isfinite(told).all()
    rows = wire.restored(told, partition)
    held = gathered(3000, 16, [(1000, rows[1000:]), (0, rows[:1000])])
    assert held.raw is None
    off = np.abs(held.points.astype(np.float64) - points)
    least = 2.0**-24 * wire.steps[partition][:, None] + 2.0**-22 * np.abs(points)
    assert (off <= 2.0**-11 * np.abs(points - wire.centres[partition]) + least).all()
    assert off.max() > 0
    one = Wire(wire.centres[2:3], wire.steps[2:3], 2)
    np.testing.assert_array_equal(one.restored(told[2::3], partition[2::3]), rows[2::3])


def test_an_estimate_by_rounded_distances_is_what_will_be_measured(
    serial: SerialExecutor, cut: Cut, shapeless: np.ndarray
) -> None:
    cut(8, 1024)
    estimates: list[float] = []
    listen = lambda event: estimates.append(event.recall.estimate) if isinstance(event, RoundEnd) else None  # noqa: E731
    graph = build_quietly(shapeless, client=serial, max_rounds=1, progress=listen, **NARROW)
    assert graph.recall.estimate == pytest.approx(estimates[0], abs=1e-3)


def test_tight_clusters_far_apart_stay_apart(serial: SerialExecutor, cut: Cut) -> None:
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(ROWS, 8)) + 200 * rng.integers(0, 2, (ROWS, 1))).astype(np.float32)
    cut(4, 2048)
    one, two = (distnnd.build(points, client=serial, **how) for how in (NARROW, {}))
    one.verify(points)
    assert len(one.facts["rounds"]) == len(two.facts["rounds"])
    assert true_recall(points, one) >= 0.95


def test_rows_that_are_alike_count_as_found(serial: SerialExecutor, cut: Cut) -> None:
    """Of many that are as near as the k-th only some can be named."""
    points = np.random.default_rng(0).integers(0, 12, (6000, 2)).astype(np.float32)
    cut(4, 2048)
    graph = distnnd.build(points, client=serial, **NARROW)
    graph.verify(points)
    assert len(graph.facts["rounds"]) == 1
    assert (graph.distances[:] == 0).all()


def test_a_row_far_from_all_others_travels_too(serial: SerialExecutor, cut: Cut) -> None:
    points = clustered(6000)
    points[4321] *= 1e8
    cut(4, 2048)
    graph = distnnd.build(points, client=serial, **NARROW)
    graph.verify(points)
    assert graph.recall.estimate >= 0.95


# --- what is refused ---------------------------------------------------------------------------------------


@numba.njit
def own_metric(x, y):
    """A metric of the user's own."""
    return np.abs(x - y).sum()


def refused() -> Iterable[tuple[Any, dict[str, Any], str]]:
    rows = clustered(300)
    for dtype in ("uint8", "int8", "float16"):
        yield rows.astype(dtype), {}, f"{dtype} points travel as they are; leave exchange_dtype out"
    yield sparse.csr_matrix(rows), {"metric": "cosine"}, "sparse points travel as they are; leave exchange_dtype out"
    for metric in ("manhattan", "inner_product", "jaccard"):
        yield rows, {"metric": metric}, f"not for {metric}; leave exchange_dtype out"
    yield rows, {"metric": own_metric}, "not for custom; leave exchange_dtype out"
    yield (rows > 0).astype(np.uint8), {"metric": "bit_jaccard"}, "leave exchange_dtype out"


@pytest.mark.parametrize(("points", "wanted", "said"), list(refused()))
def test_where_it_means_nothing_it_is_refused(tmp_path: Path, points: Any, wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        distnnd.plan(points, **wanted, **NARROW)
    with pytest.raises(SpecError, match=said):
        distnnd.build(points, tmp_path / "g", **wanted, **NARROW)
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("wire", ["float32", "bfloat16", 16, ""])
def test_an_unknown_wire_is_refused(wire: Any) -> None:
    with pytest.raises(
        SpecError, match=r"exchange_dtype is 'float16', or None for rows as they are, not .*; leave it out"
    ):
        distnnd.plan(clustered(300), exchange_dtype=wire)


# --- what it takes -----------------------------------------------------------------------------------------


def planned(n: int, memory: int, **wanted: Any) -> Plan:
    return make_plan(BuildSpec(**wanted), Extent(n, 128, "float32", 4096), Workers(memory=memory))


def test_the_plan_halves_the_mail_and_says_what_the_last_stage_reads() -> None:
    wide, narrow = (planned(10**7, 2**30, exchange_dtype=wire) for wire in (None, "float16"))
    assert narrow.layout.partitions == wide.layout.partitions
    costs = [{cost.name: cost for cost in plan.costs} for plan in (wide, narrow)]
    data, lists = 10**7 * 128 * 4, 12 * 10**7 * 30
    before, after = (each["route"].written for each in costs)
    assert after == pytest.approx(before - narrow.layout.copies * data / 2, rel=0.01)
    assert narrow.disk < wide.disk
    last = costs[1]["exact"]
    assert "exact" not in costs[0]
    assert "publish" not in costs[1]
    assert last.read == (last.tasks + 1) * data + lists
    assert costs[1]["local"].projected >= last.projected > costs[0]["publish"].projected
    blocks = exact_blocks(narrow.spec, narrow.layout, 30)
    assert last.tasks == -(-narrow.layout.blocks // blocks)
    assert "float32 sent as float16" in str(narrow)
    assert "sent as" not in str(wide) + str(planned(5000, 2**32, exchange_dtype="float16"))


@pytest.mark.parametrize(("k", "memory"), [(1, 1450), (15, 1450), (100, 2500), (400, 3500), (15, 10**5)])
def test_it_needs_no_more_memory(k: int, memory: int) -> None:
    wide, narrow = (planned(10**8, memory * 2**20, n_neighbors=k, exchange_dtype=wire) for wire in (None, "float16"))
    assert narrow.layout.partitions == wide.layout.partitions
    assert narrow.peak == wide.peak <= memory * 2**20
