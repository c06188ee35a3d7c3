"""A metric of the user's own that cannot be compiled for its rows is refused in one line, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from scipy import sparse

import distnnd
from tests.faces.command_line import run

TRUTHS = np.random.default_rng(0).random((60, 5)) < 0.4


@numba.njit
def by_bits(x, y):
    """What truths have and numbers do not."""
    both = 0
    for column in range(x.shape[0]):
        if x[column] & y[column]:
            both += 1
    return 1.0 - both / x.shape[0]


@numba.njit
def calls_by_bits(x, y):
    """Wrong a call further down."""
    return by_bits(x, y)


@numba.njit
def of_one_row(x):
    """Too few arguments."""
    return x[0]


@numba.njit
def differences(x, y):
    """A row, not a number."""
    return x - y


@numba.njit
def nothing(x, y):
    """No number at all."""


@numba.njit("float64(float64[:], float64[:])")
def declared(x, y):
    """For rows of another type."""
    return np.abs(x - y).sum()


@numba.njit
def attribute(x, y):
    """What arrays do not have."""
    return x.length


@numba.njit
def unlike(x, y):
    """Fine: a count."""
    return (x != y).sum()


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (by_bits, r"there is no and_\(float32, float32\) \(test_own_metric.py, line \d+\)"),
        (calls_by_bits, r"there is no and_\(float32, float32\) \(test_own_metric.py, line \d+\)"),
        (of_one_row, "too many positional arguments where it is given 2"),
        (differences, r"it returns array\(float32, 1d, C\), and a distance is one real number"),
        (nothing, "it returns none"),
        (declared, "it was declared for other types, .*float64.*; leave the declaration out of @njit"),
        (attribute, "Unknown attribute 'length' of type array"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("points", [TRUTHS, TRUTHS.astype(np.uint8)], ids=["bool", "uint8"])
def test_what_does_not_compile_is_refused_before_anything_runs(
    tmp_path: Path, points: np.ndarray, metric: Any, said: str
) -> None:
    wanted = rf"metric {metric.__name__} cannot be used: it gets two rows of dtype float32 and shape \(5,\).*: .*{said}"
    for attempt in (
        lambda: distnnd.build(points, tmp_path / "g", 3, metric=metric),
        lambda: distnnd.plan(points, 3, metric=metric),
    ):
        with pytest.raises(distnnd.SpecError, match=wanted) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "g").exists()


def test_sparse_rows_are_told_as_they_come(tmp_path: Path) -> None:
    rows = sparse.csr_matrix(TRUTHS.astype(np.float32))
    with pytest.raises(distnnd.SpecError, match=r"columns \(int32\) and values \(float32\) of one sparse row"):
        distnnd.build(rows, tmp_path / "g", 3, metric=unlike)
    assert not (tmp_path / "g").exists()


def test_the_remedy_works() -> None:
    graph = distnnd.build(TRUTHS, None, 3, metric=unlike)
    differ = (TRUTHS[:, None] != TRUTHS).sum(axis=2).astype(np.float32)
    np.fill_diagonal(differ, np.inf)
    np.testing.assert_array_equal(graph.distances[:], np.sort(differ, axis=1)[:, :3])


def test_the_command_line_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import numba\n\n@numba.njit\ndef by_bits(x, y):\n    return 1.0 if x[0] & y[0] else 0.0\n"
    )
    np.save(tmp_path / "x.npy", TRUTHS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for arguments in (["build", str(tmp_path / "x.npy"), str(tmp_path / "g")], ["plan", str(tmp_path / "x.npy")]):
        done = run(*arguments, "-k", "3", "--metric", "mine:by_bits")
        assert done.code == 2
        assert "it gets two rows of dtype float32 and shape (5,)" in done.err
        assert "(mine.py, line 5)" in done.err
    assert not (tmp_path / "g").exists()
