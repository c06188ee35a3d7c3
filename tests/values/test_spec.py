"""What the user asks for is checked at the door, and said back in words that help."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.values.errors import SpecError
from distnnd.values.metric import METRICS
from distnnd.values.spec import BuildSpec, format_bytes, parse_bytes

# --- sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (2_000_000_000, 2_000_000_000),
        (1.5, 1),
        (np.int64(7), 7),
        ("2000000000", 2_000_000_000),
        ("2GiB", 2 * 2**30),
        ("2GB", 2 * 10**9),
        ("2G", 2 * 10**9),
        ("2gib", 2 * 2**30),
        (" 1.5 MiB ", 3 * 2**19),
        ("12 kB", 12_000),
        ("1Ti", 2**40),
        ("700b", 700),
    ],
)
def test_a_size_may_be_written_in_many_ways(said: Any, meant: int) -> None:
    assert parse_bytes(said) == meant


@pytest.mark.parametrize("said", [None, "auto"])
def test_no_size_is_left_to_the_machine(said: str | None) -> None:
    assert parse_bytes(said) is None


NO_SIZES = ["", "lots", "2 GiB each", "-2GiB", "2PiBs", "GiB", "1.2.3 MB", ".", 0, -1, 0.5, "0", "0.1 B", True, [1]]


@pytest.mark.parametrize("said", [*NO_SIZES, float("nan"), float("inf")])
def test_what_is_no_size_is_refused(said: Any) -> None:
    with pytest.raises(SpecError, match="size"):
        parse_bytes(said)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 2**20, "1.5 GiB"),
        (300 * 2**20, "300 MiB"),
        (5000 * 2**30, "5000 GiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(st.integers(1, 2**50))
def test_a_size_for_people_can_be_read_back(size: int) -> None:
    again = parse_bytes(format_bytes(size))
    assert again == pytest.approx(size, rel=0.06, abs=1)


# --- the spec of a build ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_neighbors", 0),
        ("n_neighbors", -3),
        ("n_neighbors", 15.0),
        ("n_neighbors", True),
        ("n_neighbors", "15"),
        ("max_rounds", 0),
        ("random_state", -1),
        ("random_state", None),
        ("target_recall", 0),
        ("target_recall", 1.01),
        ("target_recall", float("nan")),
        ("target_recall", True),
        ("target_recall", "0.9"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(name: str, value: Any) -> None:
    with pytest.raises(SpecError, match=name):
        BuildSpec(**{name: value})


def test_an_unknown_metric_is_told_the_near_names() -> None:
    with pytest.raises(SpecError, match=r"unknown metric 'euclidian'; near names: .*euclidean"):
        BuildSpec(metric="euclidian")


def test_parameters_that_a_metric_does_not_take_are_named() -> None:
    with pytest.raises(SpecError, match=r"cosine.*takes no parameters.* has p, w"):
        BuildSpec(metric="cosine", metric_params={"w": 1, "p": 2})
    assert BuildSpec(metric="cosine", metric_params={}).kind == METRICS["cosine"]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_found_by_its_name(name: str) -> None:
    assert BuildSpec(metric=name).kind.name == name


def test_an_alias_is_the_metric_itself() -> None:
    assert BuildSpec(metric="l2").kind is METRICS["euclidean"]


@given(k=st.integers(1, 40), n=st.integers(0, 41))
def test_each_row_needs_as_many_others_as_it_has_neighbours(k: int, n: int) -> None:
    spec = BuildSpec(n_neighbors=k)
    if n > k:
        spec.check_rows(n)
        return
    with pytest.raises(SpecError, match=rf"n_neighbors={k} needs at least {k + 1} rows, but there are {n}\b") as caught:
        spec.check_rows(n)
    found = re.search(r"ask for at most (\d+)", str(caught.value))
    assert found is not None
    if most := int(found[1]):
        BuildSpec(n_neighbors=most).check_rows(n)


@given(
    k=st.integers(1, 100),
    metric=st.sampled_from(sorted(METRICS)),
    target=st.floats(0.01, 1),
    limit=st.none() | st.integers(1, 2**50),
    seed=st.integers(0, 2**63),
)
def test_a_spec_travels_as_json(k: int, metric: str, target: float, limit: int | None, seed: int) -> None:
    spec = BuildSpec(k, metric, None, target, 3, limit, seed)
    assert BuildSpec(**json.loads(json.dumps(spec.to_json()))) == spec
