"""One public face: what is named alike means the same everywhere, and what is refused is refused in a sentence."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import numba
import numpy as np
import pytest

import distnnd
from distnnd import BudgetError, SpecError
from distnnd.progress import text_of
from distnnd.runtime.events import Compiling, StageStart, TaskEnd
from distnnd.values.errors import brief
from tests.faces.command_line import run


@numba.njit
def taxi(x, y):
    """The user's own metric."""
    total = 0.0
    for column in range(len(x)):
        total += abs(x[column] - y[column])
    return total


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, points: np.ndarray) -> Path:
    """A graph and its index, and the points that they are of."""
    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "points.npy", points)
    distnnd.build(folder / "points.npy", folder / "g.zarr", 5, progress=False)
    distnnd.build_index(folder / "g.zarr", folder / "i.zarr", progress=False)
    return folder


@pytest.fixture
def graph(folder: Path) -> distnnd.Graph:
    return distnnd.open_graph(folder / "g.zarr")


@pytest.fixture
def index(folder: Path) -> distnnd.Index:
    return distnnd.open_index(folder / "i.zarr")


# --- progress ---------------------------------------------------------------------------------------------

Call = Callable[[Path, Path, Any], Any]
SHOWN: dict[str, Call] = {
    "build": lambda made, new, how: distnnd.build(made / "points.npy", new, 5, progress=how),
    "build_index": lambda made, new, how: distnnd.build_index(made / "g.zarr", new, progress=how),
    "Graph.build_index": lambda made, new, how: distnnd.open_graph(made / "g.zarr").build_index(new, progress=how),
    "query_into": lambda made, new, how: distnnd.open_index(made / "i.zarr").query_into(
        made / "points.npy", new, 3, progress=how
    ),
    "Graph.verify": lambda made, new, how: distnnd.open_graph(made / "g.zarr").verify(progress=how),
    "Index.verify": lambda made, new, how: distnnd.open_index(made / "i.zarr").verify(progress=how),
    "warmup": lambda made, new, how: distnnd.warmup("euclidean", "float32", progress=how),
}


@pytest.mark.parametrize("name", SHOWN)
def test_progress_means_the_same(name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = SHOWN[name]
    for number, silent in enumerate((None, False)):
        call(folder, tmp_path / f"silent{number}", silent)
        assert capsys.readouterr().err == ""
    call(folder, tmp_path / "lines", True)
    assert "task" in capsys.readouterr().err
    events: list[Any] = []
    call(folder, tmp_path / "events", events.append)
    starts = [event for event in events if isinstance(event, StageStart)]
    ends = [event for event in events if isinstance(event, TaskEnd)]
    assert sum(start.tasks for start in starts) == len(ends) > 0
    for wrong in ("yes", 3, np.ones((300, 300))):
        with pytest.raises(SpecError, match="progress is True, False, None or a function") as told:
            call(folder, tmp_path / "wrong", wrong)
        assert len(str(told.value)) < 200


def test_all_that_take_progress_take_it_by_name() -> None:
    taking = [
        distnnd.build,
        distnnd.build_index,
        distnnd.warmup,
        distnnd.Graph.verify,
        distnnd.Index.verify,
        distnnd.Index.query_into,
    ]
    annotations = set()
    for function in taking:
        parameter = inspect.signature(function).parameters["progress"]
        assert parameter.default is None
        annotations.add(parameter.annotation)
    assert annotations == {"Listener | bool | None"}


def test_compiling_is_told_of_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels are not on disk; here another process is only asked to compile them."""
    from distnnd.kernels import apart

    monkeypatch.setattr(apart._Here, "ready", set())
    monkeypatch.setattr(apart._Here, "compiling", False)
    monkeypatch.setattr(apart, "is_marked", lambda kind: False)
    monkeypatch.setattr(apart, "_compile", lambda kinds: 0)
    events: list[Any] = []
    distnnd.build(folder / "points.npy", tmp_path / "g", 5, memory_limit="1GiB", progress=events.append)
    assert [event for event in events if isinstance(event, Compiling)] == [Compiling()]
    assert text_of(Compiling()) == "compiling kernels (once, about 30 s)"
    events.clear()
    distnnd.build(folder / "points.npy", tmp_path / "h", 5, memory_limit="1GiB", progress=events.append)
    assert Compiling() not in events


# --- metric -----------------------------------------------------------------------------------------------

OPENED: dict[str, Call] = {
    "open_graph": lambda made, new, metric: distnnd.open_graph(made / "g.zarr", metric),
    "open_index": lambda made, new, metric: distnnd.open_index(made / "i.zarr", metric),
    "build_index": lambda made, new, metric: distnnd.build_index(made / "g.zarr", new, metric=metric),
}


@pytest.mark.parametrize("name", OPENED)
def test_a_metric_is_a_name_or_a_function(name: str, folder: Path, tmp_path: Path) -> None:
    call = OPENED[name]
    for number, good in enumerate(("euclidean", "l2", None)):
        assert call(folder, tmp_path / str(number), good).metric == "euclidean"
    for wrong, words in (
        ("cosine", "given metric 'cosine', but was built by 'euclidean': leave metric out"),
        (taxi, "given a function, but was built by 'euclidean'"),
        ("euclidian", "near names: euclidean"),
    ):
        with pytest.raises(SpecError, match=words):
            call(folder, tmp_path / "wrong", wrong)


def test_the_users_own_is_asked_for(points: np.ndarray, tmp_path: Path) -> None:
    distnnd.build(points, tmp_path / "own", 5, metric=taxi, progress=False)
    assert distnnd.open_graph(tmp_path / "own", taxi).verify(points)["recomputed"] == 400
    for wrong in ("euclidean", 3):
        with pytest.raises(SpecError, match="a function"):
            distnnd.open_graph(tmp_path / "own", wrong)  # type: ignore[arg-type]


# --- verify, plans ----------------------------------------------------------------------------------------


def test_graphs_and_indexes_are_verified_alike(graph: distnnd.Graph, index: distnnd.Index) -> None:
    one, other = graph.verify(), index.verify()
    assert {"n", "n_neighbors", "chunks", "bytes"} <= one.keys() & other.keys()
    assert (other["n"], other["n_neighbors"]) == (one["n"], one["n_neighbors"]) == (400, 5)
    assert other["chunks"] > 4
    assert other["bytes"] > 400 * 6 * 4


def test_an_index_can_be_planned(folder: Path, tmp_path: Path) -> None:
    plan = distnnd.plan_index(folder / "g.zarr", partitions=2, pruning_degree_multiplier=3.0)
    made = distnnd.build_index(folder / "g.zarr", tmp_path / "i", partitions=2, pruning_degree_multiplier=3.0)
    assert isinstance(plan, distnnd.IndexPlan)
    assert plan.layout == made.layout
    assert plan.index == made.info()["bytes"]
    assert 0 < plan.projected < plan.task_memory
    assert "2 partitions of 200 rows" in str(plan)
    assert plan.to_json()["layout"]["degree"] == 15
    assert "one partition" in str(distnnd.plan_index(distnnd.open_graph(folder / "g.zarr"), folder / "points.npy"))
    with pytest.raises(BudgetError):
        distnnd.plan_index(folder / "g.zarr", memory_limit="200MiB")
    assert isinstance(made.plan(), distnnd.SearchPlan)


def test_the_command_line_plans_an_index(folder: Path, tmp_path: Path) -> None:
    said = run("index", folder / "g.zarr", "--plan", "--partitions", 2)
    assert said.code == 0
    assert "2 partitions of 200 rows" in said.out
    told = run("index", folder / "g.zarr", "--plan", "--json").json
    assert {"layout", "index", "projected", "worker_memory"} <= told.keys()
    assert list(tmp_path.iterdir()) == []
    said = run("index", folder / "g.zarr")
    assert said.code == 2
    assert "--plan" in said.err


# --- close ------------------------------------------------------------------------------------------------


def test_an_index_can_be_closed_and_asked_again(index: distnnd.Index, points: np.ndarray) -> None:
    with index as entered:
        assert entered is index
        before = index.query(points[:9], 3)[0]
        assert index._here is not None
    assert index._here is None
    index.close()
    assert (index.query(points[:9], 3)[0] == before).all()
    assert (pickle.loads(pickle.dumps(index)).query(points[:9], 3)[0] == before).all()


def plugins_of(dask_worker: Any) -> list[str]:
    """Of the project, on a worker."""
    return [name for name in dask_worker.plugins if name.startswith("distnnd-")]


def test_workers_are_left_as_they_were(index: distnnd.Index, folder: Path, points: np.ndarray, tmp_path: Path) -> None:
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        # The client of this call is opened and closed by it.
        index.query_into(folder / "points.npy", tmp_path / "a", 3, client=cluster.scheduler_address)
        assert client.run(plugins_of) == {address: [] for address in client.nthreads()}
        index.query_into(folder / "points.npy", tmp_path / "b", 3, client=client)
        assert all(len(names) == 1 for names in client.run(plugins_of).values())
        other = distnnd.open_index(folder / "i.zarr")
        other.query_into(folder / "points.npy", tmp_path / "c", 3, client=client)
        other.close()
        index.close()
        assert not any(client.run(plugins_of).values())
        index.query_into(folder / "points.npy", tmp_path / "d", 3, client=client)
    index.close()


# --- refusals ---------------------------------------------------------------------------------------------


def test_points_in_the_place_of_a_graph_are_refused_in_a_sentence(points: np.ndarray, tmp_path: Path) -> None:
    for function in (lambda: distnnd.build_index(points, tmp_path / "i"), lambda: distnnd.plan_index(points)):
        with pytest.raises(SpecError, match=r"not of a numpy.ndarray of shape \(400, 6\) and dtype float32") as told:
            function()
        assert "build the graph of the points first" in str(told.value)


ARRAYS = np.random.default_rng(0).normal(size=(300, 300))
SHOUTED: dict[str, Callable[[], Any]] = {
    "out": lambda: distnnd.build(np.eye(9), ARRAYS, 3),
    "open_graph": lambda: distnnd.open_graph(ARRAYS),
    "open_index": lambda: distnnd.open_index(ARRAYS),
    "n_neighbors": lambda: distnnd.build(np.eye(9), None, ARRAYS),
    "target_recall": lambda: distnnd.build(np.eye(9), None, 3, target_recall=ARRAYS),
    "exchange_dtype": lambda: distnnd.plan(np.eye(9), 3, exchange_dtype=ARRAYS),
    "memory_limit": lambda: distnnd.plan(np.eye(9), 3, memory_limit=ARRAYS),
    "random_state": lambda: distnnd.plan(np.eye(9), 3, random_state=ARRAYS),
    "metric": lambda: distnnd.plan(np.eye(9), 3, metric=ARRAYS),
    "metric_params": lambda: distnnd.plan(np.eye(9), 3, metric_params=ARRAYS),
    "a parameter": lambda: distnnd.plan(np.eye(9), 3, metric="minkowski", metric_params={"p": [["a"] * 300] * 300}),
}


@pytest.mark.parametrize("name", SHOUTED)
def test_no_message_prints_an_array(name: str) -> None:
    with pytest.raises(SpecError) as told:
        SHOUTED[name]()
    assert len(str(told.value)) < 400
    assert "\n" not in str(told.value)


def test_a_value_is_shown_in_brief() -> None:
    assert brief(np.zeros((2, 3), np.int8)) == "a numpy.ndarray of shape (2, 3) and dtype int8"
    assert (brief("2 GB"), brief(np.float64(3)), brief(None)) == ("'2 GB'", repr(np.float64(3)), "None")
    assert len(brief(list(range(10**6)))) < 130
    assert len(brief("x" * 10**6)) < 130


def test_numpy_numbers_are_numbers() -> None:
    graph = distnnd.build(np.eye(9, dtype=np.float32), None, np.int64(3), target_recall=np.float32(0.9))  # type: ignore[arg-type]
    assert graph.facts["spec"]["target_recall"] == pytest.approx(0.9)
    assert type(graph.facts["spec"]["target_recall"]) is float


def test_what_nothing_takes_is_not_public() -> None:
    assert not hasattr(distnnd, "BuildSpec")
