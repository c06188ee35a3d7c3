"""Leaves: all pairs through products of codes, and nothing near gets lost on the way into the lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels.codes import EVERYTHING, Coder, coded_form, coder_of, encode, limit_of
from distnnd.kernels.groups import Groups
from distnnd.kernels.leaves import BASE, HITS, QUERIES, first_bound, join, room_for_tile
from distnnd.kernels.neighbours import empty
from distnnd.kernels.rows import prepare
from distnnd.values.metric import METRICS
from tests import naive
from tests.kernels.joins import (
    DTYPES,
    WAYS,
    assert_dense,
    assert_right,
    assert_true,
    canonical,
    coded,
    dense,
    everyone,
)
from tests.strategies import few, make_points, points, sized

# --- one group, all pairs -------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@few(50)
@given(data=st.data())
def test_all_pairs_of_a_leaf(way: str, data: st.DataObject) -> None:
    """Exact in any order of the base; lists of more than sixteen, and of more than there are rows, too."""
    raw = data.draw(points(dtypes=DTYPES, rows=(2, 120)))
    k, order = data.draw(st.integers(1, 40)), np.random.default_rng(len(raw)).permutation(len(raw))
    rows, form = coded(raw, way)
    lists = dense(rows, k, form, order)
    assert_dense(lists, rows, form)
    if not form.trusted or rows.values is rows.points:
        assert_true(lists, raw)


@pytest.mark.parametrize("way", WAYS)
@few(30)
@given(raw=points(dtypes=(np.float32,), columns=(2, 12)), k=st.integers(1, 12), last=st.sampled_from([0, 1, -300]))
def test_the_largest_inner_products_of_a_leaf(way: str, raw: np.ndarray, k: int, last: float) -> None:
    """The last column only serves routing: it must not count, whatever it holds."""
    raw[:, -1] *= last
    counting = raw[:, :-1].astype(np.float64)
    rows, form = coded(raw, way, "inner_product")
    lists = dense(rows, k, form)
    assert_dense(lists, rows, form)
    if not form.trusted:
        lengths = np.sqrt((counting**2).sum(axis=1))
        gaps, others = -naive.products(counting, counting), ~np.eye(len(raw), dtype=bool)
        naive.assert_nearest(lists.ids, lists.distances, gaps, others, 2e-6 * lengths[:, None] * lengths)


def test_an_outlier_shrinks_no_inner_product() -> None:
    """A row with nearly all of its length in one coordinate: cut off, it would look far where it is nearest."""
    n, d = sized(300, 130), 40
    raw = np.random.default_rng(12).normal(size=(n, d)).astype(np.float32)
    raw[7] *= 0.01
    raw[7, 3] = 60
    rows, form = coded(raw, metric="inner_product")
    lists = dense(rows, 5, form)
    assert_dense(lists, rows, form)
    assert (lists.ids[:, 0] == 7).mean() > 0.3


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_more_rows_than_tiles(way: str, dtype: type) -> None:
    """Ragged tiles on both sides, and the base beyond its first tile."""
    n, d, k = sized(2 * BASE + 77, BASE + 30), sized(5, 3), 7
    assert n > 2 * QUERIES
    raw = make_points("plain", dtype, n, d, seed=1)
    rows, form = coded(raw, way)
    lists = dense(rows, k, form)
    assert_dense(lists, rows, form)
    assert (lists.ids[: BASE // 2] >= BASE).any()
    assert (lists.ids[BASE:] < BASE).any()


@pytest.mark.parametrize("offset", [1e4, -1e4, 1e6])
@pytest.mark.parametrize("way", WAYS)
def test_far_from_the_origin_neighbours_are_the_same(way: str, offset: float) -> None:
    """Around the origin a product of these has no digit left for the distance."""
    n, d, k = sized(400, 80), 8, 10
    raw = (np.random.default_rng(2).normal(size=(n, d)) + offset).astype(np.float32)
    rows, form = coded(raw, way)
    lists = dense(rows, k, form)
    assert_dense(lists, rows, form)
    if way != "trusted":
        assert_true(lists, raw)


@pytest.mark.parametrize("far", [12, 300, 1e6])
def test_outliers_that_codes_cut_off_have_their_true_neighbours(far: float) -> None:
    """Cut off, rows along one ray are all the same, and what lies beside an outlier looks far: both are found.

    Where estimates are too low for some, no bound may be made of them.
    """
    n, k = sized(1500, 450), 6
    rng = np.random.default_rng(13)
    raw = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    raw[:3, 0], raw[3, 1] = far * np.arange(1, 4), -far
    rows, form = coded(raw)
    assert form.cut
    assert (rows.values[:3, 0] == 127).all()
    lists = dense(rows, k, form)
    assert_dense(lists, rows, form)
    assert_true(lists, raw)
    assert lists.ids[2, :2].tolist() == [1, 0]


def test_all_but_outliers_in_one_code_are_still_told_apart() -> None:
    """Outliers too many to be cut off leave nothing of the differences between the others."""
    n = sized(300, 100)
    raw = make_points("plain", np.float32, n, 3, seed=14)
    raw[: n // 10] *= 1e5
    rows, form = coded(raw)
    assert not form.cut
    assert len(np.unique(rows.values[n // 10 :], axis=0)) < 10
    lists = dense(rows, 5, form)
    assert_dense(lists, rows, form)
    assert_true(lists, raw)


@pytest.mark.parametrize("far", [1, 100])
def test_a_whole_block_far_from_the_origin(far: float) -> None:
    """Probe rows meet a base of a whole block, far beyond which they may lie themselves."""
    n, d, k = sized(2**16, 2000), 4, 5
    rng = np.random.default_rng(3)
    block, probes = ((rng.normal(size=(m, d)) + 1e5).astype(np.float32) for m in (n, 20))
    probes[::2, 0] += far
    coder = coder_of(block, METRICS["sqeuclidean"], probes)
    assert coder.cuts == (far > 50)
    rows, some = encode(block, coder), encode(probes, coder)
    form = coded_form(METRICS["sqeuclidean"], rows, coder, strict=True)
    lists, base = empty(len(probes), k), everyone(n)
    join(some, everyone(len(probes)), rows, base, base.rows, form, lists, False, 0, 1)
    assert_right(lists, canonical(some, rows, form), np.ones((len(probes), n), bool))
    gaps = naive.squared(probes, block)
    naive.assert_nearest(lists.ids, lists.distances, gaps, gaps >= 0, 2e-6 * gaps)


def test_probe_rows_of_another_shape_than_the_block() -> None:
    """Under inner_product all rows are as long, but these have in one coordinate what others have in many."""
    n, d, k = sized(2000, 300), 64, 10
    metric = METRICS["inner_product"]
    raw = np.random.default_rng(17).normal(size=(n, d))
    block = prepare(raw / np.linalg.norm(raw, axis=1)[:, None], metric, d + 1, 1.0)
    probes = prepare(np.eye(d)[:20], metric, d + 1, 1.0)
    coder = coder_of(block, metric, probes)
    rows, some = encode(block, coder), encode(probes, coder)
    form = coded_form(metric, rows, coder, strict=True)
    lists, base = empty(len(probes), k), everyone(n)
    join(some, everyone(len(probes)), rows, base, base.rows, form, lists, False, 0, 1)
    assert_right(lists, canonical(some, rows, form), np.ones((len(probes), n), bool))


@pytest.mark.parametrize("way", WAYS)
def test_identical_rows_are_at_no_distance(way: str) -> None:
    """All are hits at once, more than are offered at once; the lowest ids stay."""
    n, k = sized(BASE + 60, 2 * HITS + 10), 8
    rows, form = coded(np.full((n, 6), 0.1, np.float32), way)
    lists = dense(rows, k, form, np.random.default_rng(0).permutation(n))
    expected = np.tile(np.arange(k), (n, 1))
    expected[:k] += expected[:k] >= np.arange(k)[:, None]
    np.testing.assert_array_equal(lists.ids, expected)
    assert (lists.distances == 0).all()


@pytest.mark.parametrize("k", [3, 20, HITS + 12])
@pytest.mark.parametrize("way", WAYS)
def test_many_identical_rows_at_few_places(way: str, k: int) -> None:
    """Hundreds of ties at each distance; lists longer than the hits that are offered at once."""
    n = sized(600, 100)
    raw = np.random.default_rng(15).integers(0, 3, (n, 1)).astype(np.float32) ** 2
    rows, form = coded(raw, way)
    assert_dense(dense(rows, k, form), rows, form)


def test_estimates_that_are_mostly_right_find_mostly_all() -> None:
    """Not strict: few neighbours are missed, and what is kept bears its canonical surrogate."""
    n, d, k = sized(1000, 200), 24, 10
    raw = make_points("plain", np.float32, n, d, seed=16)
    coder = coder_of(raw, METRICS["sqeuclidean"])
    rows = encode(raw, coder)
    form = coded_form(METRICS["sqeuclidean"], rows, coder)
    assert form.spread < coded_form(METRICS["sqeuclidean"], rows, coder, strict=True).spread / 2
    lists = dense(rows, k, form)
    naive.assert_ordered(lists.ids, lists.distances)
    told = np.take_along_axis(canonical(rows, rows, form), lists.ids.astype(np.int64), axis=1)
    np.testing.assert_array_equal(lists.distances, told)
    assert naive.recall(lists.ids, naive.squared(raw, raw), k) > 0.999


# --- the bound that an unfilled list starts from --------------------------------------------------


@njit
def limit_of_all(form, surrogate):
    """limit_of() from outside of a kernel."""
    return limit_of(form, surrogate)


@njit
def bound_of(products, bias, count, wanted, width):
    """first_bound() of the scores bias - 2 products, and the groups that it deals candidates into."""
    tile = room_for_tile(np.zeros((1, 4), np.int8), width)
    return first_bound(bias, products, tile.minima, count, wanted), tile.minima.size


@few(60)
@given(count=st.integers(1, BASE), width=st.integers(1, 60), spread=st.sampled_from([1, 30, 2**26]), data=st.data())
def test_enough_candidates_are_within_the_first_bound(count: int, width: int, spread: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, 2 * width))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    products, bias = rng.integers(-spread, spread + 1, (2, BASE)).astype(np.int32)
    # What lies behind the last candidate would be nearest of all.
    bias[count:] = -(2**28)
    bound, groups = bound_of(products, bias, count, wanted, width)
    scores = (bias - 2 * products)[:count]
    expected = naive.first_bound(scores.tolist(), groups, wanted)
    if expected == np.inf:
        assert bound == EVERYTHING
        return
    # As low as it can be, or not much more is let in than is wanted.
    minima = naive.minima(scores.tolist(), groups)
    assert expected <= bound < EVERYTHING
    assert (scores <= bound).sum() >= wanted
    assert bound == expected or sum(least <= bound for least in minima) <= wanted + wanted // 8


def test_a_list_can_ask_for_one_more_than_it_holds() -> None:
    """The row itself may be among the candidates, so a bound needs more groups than the list has places."""
    for width in range(1, 200):
        assert room_for_tile(np.zeros((1, 4), np.int8), width).minima.size > width


def test_a_bound_forgives_the_estimates_it_is_made_of_too() -> None:
    """The nearest row looks far by its codes, all others look near: each off by nearly all that a form allows."""
    raw = np.full((BASE, 4), 10.49, np.float32)
    raw[0], raw[77] = -0.49, [-11.51, -10.51, -10.51, -10.51]
    coder = Coder(np.zeros(4, np.float32), 1.0, exact=False, cuts=False)
    rows = encode(raw, coder)
    form = coded_form(METRICS["sqeuclidean"], rows, coder, strict=True)
    assert not form.cut
    looks = naive.estimates(rows.values[:1], rows.values, True, 4)[0]
    assert looks[77] > limit_of_all(form, form.unit * np.float32(looks[1])) > looks[1]
    lists, query, base = empty(BASE, 1), Groups(np.zeros(1, np.int32), np.array([0, 1])), everyone(BASE)
    join(rows, query, rows, base, base.rows, form, lists, True, 0, 1)
    assert lists.ids[0, 0] == 77
