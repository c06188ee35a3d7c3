"""Random numbers: a function of what they are for, even over their range, without visible pattern."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.random import below, mix, seed_of
from tests import naive
from tests.strategies import few

SEED = seed_of(0, 4, 1, 0)


@few(50)
@given(seed=st.integers(0, 2**63 - 1), label=st.integers(0, 2**63 - 1))
def test_mix_is_what_its_docstring_says(seed: int, label: int) -> None:
    assert int(mix(seed, label)) == naive.mix(seed, label)


def test_mix_takes_row_ids_of_any_width() -> None:
    assert int(mix(SEED, np.int32(77))) == int(mix(SEED, np.int64(77))) == naive.mix(SEED, 77)
    assert int(mix(np.int64(SEED), 2**40 + 1)) == naive.mix(SEED, 2**40 + 1)


@pytest.mark.parametrize("bound", [1, 2, 3, 10, 2**31, 2**40])
def test_below_stays_below(bound: int) -> None:
    drawn = [int(below(SEED, label, bound)) for label in range(500)]
    assert min(drawn) >= 0
    assert max(drawn) < bound
    if bound > 1:
        assert len(set(drawn)) > min(bound, 400) // 2


def test_below_does_not_depend_on_what_was_drawn_before() -> None:
    forward = [int(below(SEED, label, 1000)) for label in range(200)]
    backward = [int(below(SEED, label, 1000)) for label in reversed(range(200))]
    assert forward == backward[::-1]


def spread(drawn: list[int], bins: int) -> float:
    """Pearson's chi-square of the counts, in standard deviations from what chance would give."""
    counts = np.bincount(drawn, minlength=bins)
    expected = len(drawn) / bins
    return float((((counts - expected) ** 2).sum() / expected - (bins - 1)) / np.sqrt(2 * (bins - 1)))


@pytest.mark.parametrize("bins", [7, 16, 100])
@pytest.mark.parametrize("axis", ["labels", "seeds", "both"])
def test_below_is_even(bins: int, axis: str) -> None:
    """Neighbouring labels and neighbouring seeds are what the kernels use."""
    steps = range(4000)
    if axis == "both":
        drawn = [int(below(SEED + step, 3 * step, bins)) for step in steps]
    else:
        drawn = [int(below(SEED, step, bins) if axis == "labels" else below(SEED + step, 5, bins)) for step in steps]
    assert abs(spread(drawn, bins)) < 5


def test_neighbouring_seeds_say_nothing_of_each_other() -> None:
    pairs = [4 * int(below(SEED, label, 4)) + int(below(SEED + 1, label, 4)) for label in range(4000)]
    assert abs(spread(pairs, 16)) < 5


def test_each_bit_of_a_label_changes_half_of_the_bits() -> None:
    pairs = itertools.product(range(40), range(40))
    changed = [(int(mix(SEED, label)) ^ int(mix(SEED, label ^ 1 << bit))).bit_count() for label, bit in pairs]
    assert 31 < np.mean(changed) < 33
    assert min(changed) > 8


def test_seeds_are_whole_numbers_of_63_bits() -> None:
    seeds = [seed_of(number, 1) for number in range(500)]
    assert all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
    assert np.mean([seed.bit_count() for seed in seeds]) == pytest.approx(31.5, abs=1)


def test_a_seed_depends_on_every_number_and_on_their_order() -> None:
    numbers = list(itertools.product(range(5), range(5), range(1, 5)))
    assert len({seed_of(*three) for three in numbers}) == len(numbers)
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)
    assert seed_of(2**62 + 1, 3) != seed_of(2**62, 3)
