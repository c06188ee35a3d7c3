"""The engine of leaves: partitions ask rows of their own when looking there is enough."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import distnnd
from distnnd.kernels import projection
from distnnd.kernels.ranges import serial
from distnnd.runtime.events import TaskEnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.stages import leaves
from distnnd.stages.partition import Partition, Work, with_codes
from distnnd.stages.points import Ruler
from distnnd.values.partitioning import LEAF_FANOUT
from distnnd.values.plan import Job, Layout
from distnnd.values.spec import BuildSpec
from tests.conftest import clustered, true_recall


def partition_of(points: np.ndarray, metric: str, roles: np.ndarray | None = None) -> tuple[Work, Partition]:
    """A first round's partition of these rows, among others that nobody sees, and who works on it."""
    m, d = points.shape
    job = Job("0", BuildSpec(metric=metric, n_neighbors=7), Layout(10 * m, d, "float32", m, partitions=8), {}, "", "")
    nothing = np.empty((m, 0), np.int64), np.empty((m, 0), np.float32)
    return Work(job, 1, 11, serial, 1), Partition(*Ruler.of(job).hold(points), np.arange(m), roles, *nothing)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "true_angular"])
def test_own_probes_know_how_far_their_neighbours_in_the_partition_are(metric: str) -> None:
    points = clustered(900, 12)
    work, partition = partition_of(points, metric)
    present = np.ones(900, bool)
    own = leaves.own_probes(work, partition, present, with_codes(work, partition.points)[-1])
    assert own is not None
    rows, thresholds = own
    assert len(set(rows.tolist())) == leaves.OWN_PROBES
    far = cdist(points[rows].astype(float), points.astype(float), "euclidean" if metric == "euclidean" else "cosine")
    far[np.arange(len(rows)), rows] = np.inf
    # Surrogates of all three rise with these.
    nearer = np.sort(far, axis=1)[:, :8]
    surrogates = {
        "euclidean": lambda x: x * x,
        "cosine": lambda x: 2 * x,
        "true_angular": lambda x: np.arccos(1 - x) / np.pi,
    }
    np.testing.assert_allclose(thresholds, surrogates[metric](nearer[:, 6]), rtol=2e-4)


def test_nobody_is_asked_where_that_is_dear_or_says_little() -> None:
    points = np.abs(clustered(600, 8))
    present = np.ones(600, bool)
    for metric, roles in (("manhattan", None), ("inner_product", np.full(600, 3, np.uint8))):
        work, partition = partition_of(points, metric, roles)
        assert leaves.own_probes(work, partition, present, with_codes(work, partition.points)[-1]) is None
    work, partition = partition_of(points, "euclidean")
    coded = with_codes(work, partition.points)[-1]
    assert leaves.own_probes(work._replace(number=2), partition, present, coded) is None


def test_second_copies_of_a_row_are_neither_asked_nor_found() -> None:
    """As in a unit of several small partitions, to which a row may have been sent twice."""
    once = clustered(200, 8)
    work, partition = partition_of(np.concatenate([once, once]), "euclidean")
    present = np.arange(400) < 200
    own = leaves.own_probes(work, partition, present, with_codes(work, partition.points)[-1])
    assert own is not None
    rows, thresholds = own
    assert rows.max() < 200
    # The row itself comes first.
    nearer = np.sort(cdist(once[rows].astype(float), once.astype(float), "sqeuclidean"), axis=1)
    np.testing.assert_allclose(thresholds, nearer[:, 7], rtol=2e-4)


def test_partitions_look_no_longer_than_the_target_asks(
    cut: Callable[..., None], serial: SerialExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than where nobody is asked, in as many leaves, though the target alone ends passes earlier or later."""
    points = clustered(12_000, 24)
    cut(4, 4096)

    def looked() -> float:
        ended: list[TaskEnd] = []
        listen = lambda event: ended.append(event) if isinstance(event, TaskEnd) else None  # noqa: E731
        graph = distnnd.build(points, target_recall=0.7, client=serial, progress=listen)
        assert true_recall(points, graph) >= 0.68
        # Of the first round: another may follow.
        counters = [event.report.counters for event in ended if event.stage == "local" and event.round == 1]
        return sum(one["compared"] + one["descended"] for one in counters)

    asked = looked()
    monkeypatch.setattr(leaves, "own_probes", lambda *arguments: None)
    monkeypatch.setattr(leaves, "leaf_fanout", lambda *arguments: LEAF_FANOUT)
    assert asked < 0.9 * looked()


def test_rows_that_few_columns_guide_stand_in_fewer_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "WORTH_IT", 1)
    rng = np.random.default_rng(4)
    low = rng.standard_normal((6000, 8)) @ rng.standard_normal((8, 128)) + 0.01 * rng.standard_normal((6000, 128))
    places = []
    for points in (low, rng.standard_normal((6000, 128))):
        work, partition = partition_of(points.astype(np.float32), "euclidean")
        rows, coder = with_codes(work, partition.points)[0]
        looking, standing = leaves.grow(work, rows, coder, None, np.ones(6000, bool), LEAF_FANOUT)
        assert looking is standing
        places.append(standing.slots.shape[1])
    assert places == [leaves.GUIDED_FANOUT, LEAF_FANOUT]


def test_wide_rows_have_narrower_codes_beside_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "WORTH_IT", 1)
    rng = np.random.default_rng(4)
    low = (rng.standard_normal((3000, 20)) @ rng.standard_normal((20, 320))).astype(np.float32)
    work, partition = partition_of(low, "euclidean")
    wide, narrow = with_codes(work, partition.points)
    assert wide[0].values.shape == (3000, 320)
    assert narrow[0].values.shape == (3000, 64)
    own = leaves.own_probes(work, partition, np.ones(3000, bool), narrow)
    assert own is not None
    nearer = np.sort(cdist(low[own[0]].astype(float), low.astype(float), "sqeuclidean"), axis=1)
    np.testing.assert_allclose(own[1], nearer[:, 7], rtol=2e-4)
