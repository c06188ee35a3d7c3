"""Places in degrees and in radians: one answer for both, and degrees that are taken for radians are noticed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from scipy import sparse

import distnnd
from distnnd.kernels.transforms import degree_signs, like_degrees
from distnnd.values.errors import InputError, SpecError
from distnnd.values.metric import metric_of
from tests.faces.command_line import run

DEGREES = {"unit": "degrees"}


@pytest.fixture
def places() -> np.ndarray:
    """400 places all over the globe, in degrees, as far from a multiple of anything as random numbers are."""
    rng = np.random.default_rng(0)
    return np.c_[np.degrees(np.arcsin(rng.uniform(-1, 1, 400))), rng.uniform(-180, 180, 400)]


def true_distances(degrees: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    far = None if others is None else np.radians(others.astype(np.float64))
    return sklearn.metrics.pairwise.haversine_distances(np.radians(degrees.astype(np.float64)), far)


def silently(points: Any, out: Any = None, **arguments: Any) -> distnnd.Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return distnnd.build(points, out, 5, metric="haversine", progress=False, **arguments)


@pytest.mark.parametrize("form", [lambda rows: rows, sparse.csr_matrix], ids=["dense", "sparse"])
def test_degrees_are_the_places_that_they_mean(places: np.ndarray, form: Any) -> None:
    places = places.astype(np.float32)
    graph = silently(form(places), metric_params=DEGREES)
    far = true_distances(places)
    np.fill_diagonal(far, np.inf)
    assert np.allclose(np.take_along_axis(far, graph.indices[:], 1), graph.distances[:], rtol=1e-5)
    assert np.allclose(np.sort(far, axis=1)[:, :5], graph.distances[:], rtol=1e-5)
    assert graph.verify(form(places), rows=400, progress=False)["recomputed"] == 400
    assert graph.measure_recall(form(places), 100).estimate > 0.99


def test_radians_are_what_is_taken_unless_said(places: np.ndarray) -> None:
    plain = silently(np.radians(places))
    said = silently(np.radians(places), metric_params={"unit": "radians"})
    assert (plain.indices[:] == said.indices[:]).all()
    assert metric_of("haversine", {"unit": "radians"}) == metric_of("haversine")


def test_an_index_of_degrees_takes_queries_in_degrees(places: np.ndarray, tmp_path: Path) -> None:
    places = places.astype(np.float32)
    index = silently(places, metric_params=DEGREES).build_index(tmp_path / "i", places)
    queries = places[:20] + np.float32(0.25)
    queries[:, 0] = np.clip(queries[:, 0], -90, 90)
    ids, distances = index.query(queries, 3)
    far = np.sort(true_distances(queries, places), axis=1)[:, :3]
    assert np.allclose(distances, far, rtol=1e-4)
    assert ids.shape == (20, 3)
    with pytest.raises(InputError, match="latitude"):
        index.query(np.array([[91.0, 0.0]]), 3)


@pytest.mark.parametrize("unit", ["degree", "Degrees", 1, None, ["degrees"], np.ones((500, 500))])
def test_another_unit_is_refused(places: np.ndarray, unit: Any) -> None:
    with pytest.raises(SpecError, match="must be 'radians' or 'degrees'") as told:
        distnnd.plan(places, 5, metric="haversine", metric_params={"unit": unit})
    assert len(str(told.value)) < 200


# --- degrees in the place of radians -----------------------------------------------------------------------


def refused() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    latitudes = rng.uniform(-1.5, 1.5, 50)
    return {
        "latitudes": np.c_[rng.uniform(40, 60, 50), latitudes],
        "longitudes of two turns": np.c_[latitudes, rng.uniform(100, 120, 50)],
        "negative ones": np.c_[latitudes, rng.uniform(-120, -100, 50)],
    }


@pytest.mark.parametrize("form", [lambda rows: rows, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("what", refused())
def test_what_cannot_be_radians_is_refused(what: str, form: Any) -> None:
    with pytest.raises(InputError, match=r"radians.*row 0, column .*'unit': 'degrees'"):
        distnnd.build(form(refused()[what].astype(np.float32)), None, 5, metric="haversine")


def doubtful() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    small = np.c_[rng.uniform(-1.5, 1.5, 50), rng.uniform(-6, 6, 50)]
    return {
        "longitudes beyond a turn": np.c_[rng.uniform(-1.5, 1.5, 50), rng.uniform(5, 12, 50)],
        "whole degrees": np.round(small),
        "half degrees": np.round(small * 2) / 2,
        "hundredths": np.round(small, 2),
        "thousandths": np.round(small, 3),
        "minutes of arc": np.round(small * 60) / 60,
        "integers": np.round(small).astype(np.int8),
    }


@pytest.mark.parametrize("what", doubtful())
def test_what_looks_like_degrees_is_told(what: str) -> None:
    with pytest.warns(UserWarning, match="takes radians, but .* 'degrees'") as told:
        distnnd.build(doubtful()[what], None, 5, metric="haversine", progress=False)
    assert [one.filename for one in told if "radians" in str(one.message)] == [__file__]


def test_sparse_places_are_told_too() -> None:
    with pytest.warns(UserWarning, match=r"multiples of 1/1000"):
        distnnd.build(sparse.csr_matrix(doubtful()["hundredths"]), None, 5, metric="haversine", progress=False)


def test_true_radians_are_taken_in_silence(places: np.ndarray) -> None:
    around = np.radians(places)
    for rows in (around, around.astype(np.float32), np.c_[around[:, 0], around[:, 1] % (2 * np.pi)]):
        silently(rows)
    # A city, all of it within a few kilometres; and two rows that happen to be round.
    silently(np.radians([57.7, 11.95] + places / 5000))
    silently(np.vstack([around, [[0.5, 1.0], [0.0, 0.0]]]))
    silently(np.zeros((20, 2)))
    # Both ends of what latitudes and longitudes may be.
    silently(np.vstack([around, [[np.pi / 2, 2 * np.pi], [-np.pi / 2, -np.pi]]]).astype(np.float32))


def test_signs_are_added_up_over_blocks(places: np.ndarray) -> None:
    metric = metric_of("haversine")
    round_ones, others = degree_signs(np.round(places / 100, 1), metric), degree_signs(np.radians(places), metric)
    assert like_degrees(round_ones) is not None
    assert like_degrees({name: round_ones[name] + others[name] for name in others}) is None
    assert degree_signs(places, metric_of("euclidean")) == degree_signs(places, metric_of("haversine", DEGREES)) == {}


# --- the command line --------------------------------------------------------------------------------------


def test_the_command_line_takes_the_unit_and_warns(places: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "towns.npy", places)
    np.save(tmp_path / "few.npy", doubtful()["hundredths"])
    build = ("build", tmp_path / "towns.npy", tmp_path / "g.zarr", "-k", 5, "--metric", "haversine")
    said = run(*build)
    assert said.code == 1
    assert "--metric-param unit=degrees" in said.err
    assert run(*build, "--metric-param", "unit=degrees").code == 0
    facts = distnnd.open_graph(tmp_path / "g.zarr").facts
    assert facts["spec"]["metric_params"] == DEGREES
    said = run(*build, "--metric-param", "unit=grad")
    assert said.code == 2
    assert "must be 'radians' or 'degrees', not 'grad'" in said.err
    said = run("build", tmp_path / "few.npy", tmp_path / "h.zarr", "-k", 5, "--metric", "haversine", "--quiet")
    assert said.code == 0
    assert said.err.startswith("distnnd: metric 'haversine' takes radians, but all numbers are multiples of 1/1000")
