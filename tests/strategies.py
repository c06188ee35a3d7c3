"""Hypothesis strategies: small point sets with everything that upsets a neighbour search, and offers to lists."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numba.core import config

# With the JIT disabled kernels are plain Python: the same tests, on less.
JIT_OFF = bool(config.DISABLE_JIT)

FLAVOURS = ("plain", "ties", "duplicates", "zeros", "constant", "far")


def few(examples: int) -> settings:
    """The same few examples in every run, however long one takes."""
    return settings(max_examples=max(3, examples // 5) if JIT_OFF else examples, derandomize=True, deadline=None)


def sized(full: int, without_jit: int) -> int:
    """How large a test may be: as asked for, or less where kernels are plain Python."""
    return without_jit if JIT_OFF else full


def make_points(flavour: str, dtype: type, n: int, d: int, seed: int) -> np.ndarray:
    """n x d points of one flavour.

    plain: normal; ties: few values, so that many distances are equal; duplicates: a third of the rows repeat others;
    zeros: some rows are zero; constant: all columns but the first hold one value; far: a spread of 1 around an offset
    of 10,000 (around the largest value where the dtype is narrow).
    """
    rng = np.random.default_rng(seed)
    narrow = np.dtype(dtype).kind != "f"
    points = rng.normal(size=(n, d))
    if flavour == "ties":
        points = rng.integers(0, 3, (n, d)).astype(np.float64)
    if flavour == "duplicates":
        points[rng.integers(0, n, n // 3)] = points[rng.integers(0, n, n // 3)]
    if flavour == "zeros":
        points[rng.integers(0, n, 1 + n // 5)] = 0
    if flavour == "constant":
        points[:, 1:] = 0.5
    if not narrow:
        return (points + (1e4 if flavour == "far" else 0)).astype(dtype)
    limits = np.iinfo(dtype)
    if flavour != "ties":
        points = np.rint(points * 20)
    if flavour == "far":
        points += limits.max - 40
    elif flavour != "zeros" and limits.min == 0:
        points += 100
    return np.clip(points, limits.min, limits.max).astype(dtype)


@st.composite
def points(
    draw: st.DrawFn,
    dtypes: tuple[type, ...] = (np.float32, np.uint8, np.int8),
    rows: tuple[int, int] = (2, 60),
    columns: tuple[int, int] = (1, 20),
) -> np.ndarray:
    """A small point set of any flavour and one of the dtypes."""
    n, d = draw(st.integers(*rows)), draw(st.integers(*columns))
    flavour, dtype = draw(st.sampled_from(FLAVOURS)), draw(st.sampled_from(dtypes))
    return make_points(flavour, dtype, n, d, draw(st.integers(0, 2**16)))


class Offers(NamedTuple):
    """What one row is offered, in order: (distance, id) pairs; k: length of its list."""

    offers: list[tuple[float, int]]
    k: int


@st.composite
def offers(draw: st.DrawFn, largest_id: int) -> Offers:
    """Offers with repeats and ties, in any order; each id always comes with the same distance."""
    ids = draw(st.lists(st.integers(0, largest_id), min_size=1, max_size=25, unique=True))
    values = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    distance = {label: draw(values) for label in ids}
    order = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=40))
    return Offers([(distance[label], label) for label in order], draw(st.integers(1, 12)))


@st.composite
def lists_of_one_row(draw: st.DrawFn) -> tuple[list[list[tuple[float, int]]], int]:
    """Lists that several partitions found for one row, and the length of the merged list.

    Each ascends by distance; ids, some above 2^32, stand in any order where distances tie, as they do by local labels.
    """
    ids = draw(st.lists(st.integers(0, 30) | st.integers(2**32, 2**40), min_size=1, max_size=20, unique=True))
    distance = {label: draw(st.sampled_from([0.0, 1.0, 2.0, 3.0])) for label in ids}
    found = []
    for _ in range(draw(st.integers(1, 4))):
        mine = draw(st.lists(st.sampled_from(ids), unique=True, max_size=8))
        found.append([(distance[label], label) for label in sorted(mine, key=distance.__getitem__)])
    return found, draw(st.integers(1, 8))
