"""Metrics on the command line: parameters one by one, and functions of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import distnnd
from distnnd.faces.metric_options import metric_of_text, params_of_texts
from distnnd.values.errors import SpecError
from tests.faces.command_line import run

OWN = """
import numba


@numba.njit
def taxi(x, y):
    total = 0.0
    for column in range(len(x)):
        total += abs(x[column] - y[column])
    return total


def plain(x, y):
    return 0.0
"""


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A few bytes at points.npy of the working directory, beside a module with metrics."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics_of_mine.py").write_text(OWN)
    rows = np.random.default_rng(0).integers(0, 255, size=(300, 5)).astype(np.uint8)
    np.save("points.npy", rows)
    return rows


def test_parameters_are_numbers_lists_and_files(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones(3))
    params = params_of_texts(["p=1.5", "q=inf", "V=[1, 2.5]", f"w={tmp_path / 'w.npy'}"])
    assert params is not None
    assert (params["p"], params["q"], params["V"]) == (1.5, float("inf"), [1, 2.5])
    assert params["w"].tolist() == [1, 1, 1]
    assert params_of_texts([]) is None


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["p"], "NAME=VALUE"),
        (["=3"], "NAME=VALUE"),
        (["p=1", "p=2"], "twice"),
        (["p=1,5"], "no number"),
        (["w=nowhere.npy"], "cannot be read"),
    ],
)
def test_what_is_no_parameter_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        params_of_texts(texts)


def test_a_function_is_found_in_the_working_directory(points: np.ndarray) -> None:
    assert metric_of_text("cosine") == "cosine"
    assert callable(metric_of_text("metrics_of_mine:taxi"))
    for text in ("metrics_of_mine:bus", "no_such_module_of_mine:taxi"):
        with pytest.raises(SpecError, match="there is no metric"):
            metric_of_text(text)


def test_a_metric_with_parameters_is_built(points: np.ndarray) -> None:
    done = run(
        "build", "points.npy", "graph.zarr", "-k", "4", "--metric", "minkowski", "--metric-param", "p=3", "--quiet"
    )
    assert done.code == 0, done.err
    _, distances = distnnd.open_graph("graph.zarr").to_numpy()
    apart = np.abs(points[:, None].astype(float) - points[None])
    true = (apart**3).sum(axis=2) ** (1 / 3)
    np.testing.assert_allclose(distances, np.sort(true, axis=1)[:, 1:5], rtol=1e-6)
    assert run("verify", "graph.zarr", "--source", "points.npy").code == 0


def test_a_metric_of_ones_own_is_built_and_asked_for_again(points: np.ndarray) -> None:
    own = ("--metric", "metrics_of_mine:taxi")
    assert run("build", "points.npy", "own.zarr", "-k", "4", *own, "--quiet").code == 0
    _, distances = distnnd.open_graph("own.zarr").to_numpy()
    true = np.abs(points[:, None].astype(float) - points[None]).sum(axis=2)
    assert np.array_equal(distances, np.sort(true, axis=1)[:, 1:5].astype(np.float32))
    alone = run("recall", "own.zarr", "--source", "points.npy")
    assert alone.code == 2
    assert "open_graph(location, metric=function)" in alone.err
    assert run("recall", "own.zarr", "--source", "points.npy", *own).code == 0
    assert run("verify", "own.zarr", "--source", "points.npy", "--metric", "manhattan").code == 2
    stored = "".join(path.read_text() for path in Path("own.zarr").rglob("zarr.json"))
    assert '"metric": "custom"' in stored
    assert "taxi" not in stored


def test_a_plain_function_is_told_the_line_it_lacks(points: np.ndarray) -> None:
    done = run("build", "points.npy", "no.zarr", "--metric", "metrics_of_mine:plain")
    assert done.code == 2
    assert "@numba.njit" in done.err
    assert not Path("no.zarr").exists()
