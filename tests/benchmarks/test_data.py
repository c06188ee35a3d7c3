"""Sets, exact answers and recall of the benchmarks, at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import data, generated, measure, one, peers, truth


@pytest.fixture(autouse=True)
def _made_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "MADE", tmp_path / "data")


def exhaustive(points: np.ndarray, queries: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Distances to the k nearest other rows, by comparing with all."""
    everything = np.tile(np.arange(len(points)), (len(queries), 1))
    apart = truth.distances(points, queries, everything, metric)
    apart[np.arange(len(queries)), queries] = np.inf
    return np.sort(apart, axis=1)[:, :k]


@pytest.mark.parametrize("name", ["manifold-3000-20", "stars-3000-3"])
def test_a_generated_set_is_made_once_and_is_always_the_same(name: str) -> None:
    task = data.task(name)
    made = task.points.stat().st_mtime_ns
    again = data.task(name)
    assert again.points.stat().st_mtime_ns == made
    assert np.array_equal(task.truth, again.truth)
    family, n, d = name.split("-")
    rows = np.concatenate(list(generated.FAMILIES[family](int(n), int(d))))
    assert rows.dtype == np.float32
    assert np.array_equal(task.open(), rows)
    assert sorted(path.suffix for path in data.MADE.iterdir()) == [".npy", ".npz"]


@pytest.mark.parametrize(("name", "metric"), [("manifold-3000-20", "euclidean"), ("manifold-3000-20", "cosine")])
def test_answers_are_exact_with_blocks(name: str, metric: str) -> None:
    points, queries = data.task(name).open(), np.array([0, 7, 1500, 2999])
    near = truth.nearest(points, queries, 15, metric)
    assert not (near == queries[:, None]).any()
    found = truth.distances(points, queries, near, metric)
    np.testing.assert_allclose(found, exhaustive(points, queries, 15, metric), atol=1e-12)


def test_answers_are_exact_with_a_tree() -> None:
    points, queries = np.array(data.task("stars-3000-3").open()), np.array([1, 5, 10])
    points[5] = points[10] = points[20]
    found = truth.distances(points, queries, truth.nearest(points, queries, 15), "euclidean")
    np.testing.assert_allclose(found, exhaustive(points, queries, 15, "euclidean"))


def test_recall_counts_ties_once_and_neither_the_row_itself_nor_nothing() -> None:
    points = np.array([[0.0], [1.0], [-1.0], [2.0], [5.0]])
    queries, exact = np.array([0]), np.array([[1, 2]])

    def recall(*ids: int) -> float:
        return truth.recall(points, queries, exact, np.array([ids]), "euclidean")

    assert recall(2, 1) == 1
    assert recall(1, 3) == recall(1, 1) == recall(1, 0) == recall(1, -1) == 0.5
    assert truth.recall(points, queries, np.array([[1]]), np.array([[2]]), "euclidean") == 1
    assert recall(3, 4) == recall(-1, -1) == 0


def test_an_unknown_set_is_refused_with_those_there_are() -> None:
    for name in ("mnits", "manifold-12", "stars-x-3"):
        with pytest.raises(SystemExit, match="mnist"):
            data.task(name)


@pytest.mark.parametrize(
    ("builder", "package", "least"),
    # PyNNDescent compiles for a minute: the benchmarks run it.
    [
        ("faiss-ivf", "faiss", 0.7),
        ("faiss-nndescent", "faiss", 0.9),
        ("hnswlib", "hnswlib", 0.9),
        ("exact", "faiss", 1),
    ],
)
def test_a_peer_finds_neighbours(builder: str, package: str, least: float, tmp_path: Path) -> None:
    pytest.importorskip(package)
    task = data.task("manifold-2000-16")
    said = one.checked(task, peers.BUILDERS[builder](task, {}, tmp_path / "graph"))
    assert said["recall"] >= least


def test_a_build_says_the_same_digest_twice(tmp_path: Path) -> None:
    task = data.task("manifold-5000-16")
    said = [one.checked(task, peers.distnnd(task, {}, tmp_path / name)) for name in "ab"]
    assert said[0]["digest"] == said[1]["digest"]
    assert said[0]["recall"] > 0.9
    assert said[0]["partitions"] == 1


def test_exact_search_of_a_large_set_solves_the_known_rows_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(peers, "EXACT_WORK", 1.0)
    task = data.task("manifold-2000-16")
    found = peers.exact(task, {}, tmp_path)
    assert found.facts == {"solved": 1000, "of": 2000}
    assert one.checked(task, found)["recall"] == 1
    assert (found.ids == -1).all(axis=1).sum() == 1000


def test_a_process_measures_several_settings_after_one_start(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss")
    one.main("exact", "manifold-2000-16", "{}", "{}")
    builds = [measure.built(said) for said in json.loads(capsys.readouterr().out)]
    assert [built.recall for built in builds] == [1, 1]
    assert builds[0].startup == builds[1].startup > 0
    assert all(built.peak > 2**20 and built.cpu > 0 for built in builds)
    assert builds[0].facts["digest"] == builds[1].facts["digest"]
