"""The tree: every row lands in leaves, near rows in the same ones, and neither threads nor cuts change a leaf.

Rows are routed by their codes alone, so the twin, which goes by exact distances between codes, agrees on every row.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels import trees
from distnnd.kernels.codes import Rows, coded_form, coder_of, encode, routing_form, trusted
from distnnd.kernels.groups import all_members, slot_groups
from distnnd.kernels.ranges import even_cuts, even_ranges
from distnnd.kernels.rows import prepare, prepared_width
from distnnd.kernels.trees import Leaves, Role, Shape, descend, near_together
from distnnd.values.metric import METRICS
from tests import naive
from tests.strategies import FLAVOURS, few, make_points, points, sized

SEED = 2**62 + 12345
SHAPES = [Shape(leaf=20, largest=40, pivots=8, fanout=2), Shape(leaf=15, largest=25, pivots=5, fanout=3)]


def coded(raw: np.ndarray, present: np.ndarray | None = None) -> tuple[Rows, Role]:
    """The rows with their codes, and the role of those that are present: all, if it is not said."""
    metric = METRICS["euclidean"]
    ready = prepare(raw, metric, prepared_width(metric, raw.dtype, raw.shape[1], False), 0.0)
    coder = coder_of(ready, metric)
    rows = encode(ready, coder)
    return rows, Role(routing_form(rows, coder), np.ones(len(raw), bool) if present is None else present)


def grown(raw: np.ndarray, shape: Shape, seed: int = SEED, present: np.ndarray | None = None) -> Leaves:
    rows, role = coded(raw, present)
    (leaves,) = descend(rows, [role], shape, seed)
    return leaves


def sizes_of(leaves: Leaves) -> np.ndarray:
    return np.bincount(leaves.slots[leaves.slots >= 0], minlength=leaves.count)


def assert_all_land(leaves: Leaves, present: np.ndarray, shape: Shape) -> None:
    """Present rows stand in 1 to fanout different leaves, free places last; absent rows stand nowhere."""
    assert leaves.slots.shape[1] <= shape.fanout
    assert leaves.slots.max(initial=-1) < leaves.count
    for slots, there in zip(leaves.slots.tolist(), present.tolist(), strict=True):
        places = [slot for slot in slots if slot >= 0]
        assert slots == places + [-1] * (len(slots) - len(places))
        assert len(set(places)) == len(places)
        assert bool(places) == there


def assert_same(one: list[Leaves], other: list[Leaves]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.slots, b.slots)
        assert (a.count, a.compared) == (b.count, b.compared)


# --- where rows land ------------------------------------------------------------------------------


@few(40)
@given(data=st.data())
def test_present_rows_land_and_leaves_stay_small(data: st.DataObject) -> None:
    raw = data.draw(points(rows=(1, sized(500, 90)), columns=(1, 6)))
    shape = data.draw(st.sampled_from(SHAPES))
    seed = data.draw(st.integers(0, 2**63 - 1))
    present = np.random.default_rng(seed).random(len(raw)) < data.draw(st.sampled_from([0.5, 0.9, 1.0]))
    leaves = grown(raw, shape, seed, present)
    assert_all_land(leaves, present, shape)
    assert sizes_of(leaves).max() <= shape.largest


@pytest.mark.parametrize("kind", ["identical", "five values", "half identical", "a dense cluster", "one code"])
def test_runs_of_equal_rows_are_cut_too(kind: str) -> None:
    """Rows that are identical, and rows that codes cannot tell apart."""
    n = sized(5000, 400)
    rng = np.random.default_rng(0)
    raw = np.full((n, 3), 7, np.float32)
    if kind == "five values":
        raw += rng.integers(0, 5, n)[:, None].astype(np.float32)
    if kind == "half identical":
        raw[rng.random(n) < 0.5] = rng.normal(size=3)
        raw[: n // 3] += rng.normal(size=(n // 3, 3)).astype(np.float32)
    if kind == "a dense cluster":
        raw = rng.normal(size=(n, 3)).astype(np.float32)
        raw[n // 10 :] *= 1e-4
    if kind == "one code":
        raw = rng.normal(size=(n, 3)).astype(np.float32)
        raw[: n // 20] *= 1e5
        assert len(np.unique(coded(raw)[0].values[n // 20 :], axis=0)) < 10
    shape = SHAPES[0]
    leaves = grown(raw, shape)
    assert_all_land(leaves, np.ones(n, bool), shape)
    assert sizes_of(leaves).max() <= shape.largest


def test_leaves_that_are_given_stay_and_only_large_ones_are_cut() -> None:
    shape, n = SHAPES[0], sized(900, 300)
    raw = make_points("plain", np.float32, n, 4, seed=1)
    rows, role = coded(raw)
    # A third of the rows in leaves of twenty, the others in one that is far too large; every fifth stands in both.
    small = np.arange(n) < n // 3
    slots = np.full((n, 2), -1, np.int32)
    slots[small, 0] = 1 + np.arange(n)[small] // 20
    slots[~small, 0] = 0
    both = small & (np.arange(n) % 5 == 0)
    slots[both, 1] = 0
    begun = Leaves(slots.copy(), int(slots.max()) + 1, 0)
    (leaves,) = descend(rows, [role], shape, SEED, begun=begun)
    assert sizes_of(leaves).max() <= shape.largest
    assert_all_land(leaves, np.ones(n, bool), shape)
    # Leaves behind one that was cut are counted on from its pieces, and rows of small ones are still together.
    pieces = leaves.count - (begun.count - 1)
    assert pieces >= (n - n // 3) / shape.largest
    np.testing.assert_array_equal(leaves.slots[small, 0], slots[small, 0] - 1 + pieces)
    assert (leaves.slots[both, 1] < pieces).all()


def test_few_rows_are_one_leaf() -> None:
    for n in (1, 2, 40):
        leaves = grown(make_points("plain", np.float32, n, 3, seed=1), SHAPES[0])
        assert leaves.count == 1
        assert leaves.compared == 0
        assert (leaves.slots == 0).all()


def test_no_rows_are_no_trouble() -> None:
    rows, role = coded(make_points("plain", np.float32, 5, 3, seed=1))
    nobody = Rows(*(part[:0] for part in rows))
    (leaves,) = descend(nobody, [Role(role.form, role.present[:0])], SHAPES[0], SEED)
    assert leaves.slots.shape == (0, 1)


def test_nobody_lands_where_nobody_is_present() -> None:
    raw = make_points("plain", np.float32, 100, 3, seed=1)
    assert (grown(raw, SHAPES[0], present=np.zeros(100, bool)).slots == -1).all()


def test_members_of_leaves_by_place_and_altogether() -> None:
    slots = np.array([[2, 0, -1], [0, 2, 1], [-1, -1, -1], [1, -1, -1], [0, 1, 2]], np.int32)
    places = [[[1, 4], [3], [0]], [[0], [4], [1]], [[], [1], [4]]]
    assert [naive.members(groups) for groups in slot_groups(slots, 3)] == places
    assert naive.members(all_members(slots, 3)) == [[0, 1, 4], [1, 3, 4], [0, 1, 4]]


# --- the same tree whoever grows it ---------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["plain", "ties", "duplicates"])
def test_parts_and_threads_change_nothing(flavour: str) -> None:
    rows, role = coded(make_points(flavour, np.float32, sized(1500, 120), 4, seed=2))
    expected = descend(rows, [role], SHAPES[0], SEED)
    assert expected[0].count > 5
    for parts in (2, 3, 50):
        assert_same(expected, descend(rows, [role], SHAPES[0], SEED, parts=parts))
    with ThreadPoolExecutor(3) as pool:

        def each(function, ranges):
            return list(pool.map(lambda ends: function(*ends), ranges))

        assert_same(expected, descend(rows, [role], SHAPES[0], SEED, each, 5))

    def backwards(function, ranges):
        return [function(*ends) for ends in reversed(list(ranges))]

    assert_same(expected, descend(rows, [role], SHAPES[0], SEED, backwards, 7))


def test_another_seed_grows_another_tree() -> None:
    raw = make_points("plain", np.float32, 200, 4, seed=3)
    one, same, other = (grown(raw, SHAPES[0], seed) for seed in (SEED, SEED, SEED + 1))
    assert (one.slots == same.slots).all()
    assert one.slots.shape != other.slots.shape or (one.slots != other.slots).any()


def test_the_tree_is_one_of_codes() -> None:
    """What rows are beyond their codes moves nobody."""
    rows, role = coded(make_points("plain", np.float32, 200, 4, seed=3))
    blank = rows._replace(points=np.full_like(rows.points, np.nan))
    assert_same(descend(rows, [role], SHAPES[0], SEED), descend(blank, [role], SHAPES[0], SEED))


@few(30)
@given(weights=st.lists(st.integers(0, 50), max_size=40), parts=st.integers(1, 9))
def test_even_ranges_cover_all_in_order(weights: list[int], parts: int) -> None:
    ranges = even_ranges(np.array(weights, np.int64), parts)
    assert [i for first, last in ranges for i in range(first, last)] == list(range(len(weights)))
    assert len(ranges) <= parts
    assert all(first < last for first, last in ranges)
    for first, last in ranges:
        assert sum(weights[first:last]) <= sum(weights) / parts + 2 * max(weights) + 1e-9


@few(30)
@given(count=st.integers(0, 50), parts=st.integers(1, 9))
def test_even_cuts_are_of_about_equal_length(count: int, parts: int) -> None:
    cuts = even_cuts(count, parts)
    assert [i for first, last in cuts for i in range(first, last)] == list(range(count))
    assert len(cuts) == min(count, parts)
    lengths = [last - first for first, last in cuts]
    assert max(lengths, default=0) - min(lengths, default=0) <= 1


# --- the same tree as the twin's ------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[naive.Level]:
    """Writes down each level, sees that pivots are members of their node and that chance deals out to its children."""
    levels: list[naive.Level] = []
    carved: list[tuple[np.ndarray, np.ndarray]] = []
    draw_pivots, carry = trees.draw_pivots, trees.carry

    def draw_and_tell(members, pivot_starts, seed):
        pivots = draw_pivots(members, pivot_starts, seed)
        for node, (first, last) in enumerate(pairwise(pivot_starts)):
            chosen = pivots[first:last].tolist()
            assert len(set(chosen)) == len(chosen)
            assert set(chosen) <= set(members.rows[members.starts[node] : members.starts[node + 1]].tolist())
        carved.append((np.diff(pivot_starts), pivots.copy()))
        return pivots

    def carry_and_tell(slots, gaps, children, child_starts, stuck, seed, lists):
        carry(slots, gaps, children, child_starts, stuck, seed, lists)
        if len(levels) < len(carved):
            levels.append(naive.Level(children.copy(), *carved[-1], []))
        dealt = {}
        for row, nodes in enumerate(slots.tolist()):
            carried = [node for node in nodes if node >= 0 and (stuck[node] or children[node] == 1)]
            for place, node in enumerate(carried):
                child = int(lists.ids[row, place])
                assert child_starts[node] <= child < child_starts[node + 1]
                dealt[row, node] = child
        levels[-1].dealt.append(dealt)

    monkeypatch.setattr(trees, "draw_pivots", draw_and_tell)
    monkeypatch.setattr(trees, "carry", carry_and_tell)
    return levels


def as_lists(leaves: Leaves) -> list[list[int]]:
    return [[slot for slot in slots if slot >= 0] for slots in leaves.slots.tolist()]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_two_pivots_and_fanout_one_make_a_random_projection_tree(dtype: type, drawn: list[naive.Level]) -> None:
    """Each row is on the side of the nearer of the two rows that part its node, all the way down."""
    n, d = sized(700, 150), 6
    rows, role = coded((256 * np.random.default_rng(4).random((n, d))).astype(dtype))
    shape = Shape(leaf=20, largest=30, pivots=2, fanout=1)
    (leaves,) = descend(rows, [role], shape, SEED)
    assert all(set(level.carved.tolist()) <= {0, 2} for level in drawn)
    assert as_lists(leaves) == naive.descend(rows.values, [(True, d, role.present)], 1, drawn)[0]
    assert sizes_of(leaves).max() <= shape.largest
    assert len(drawn) >= 3


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("shape", [*SHAPES, Shape(20, 30, 6, 1)], ids=str)
def test_rows_stand_in_the_leaves_of_their_nearest_pivots(shape: Shape, flavour: str, drawn: list[naive.Level]) -> None:
    """As near as each other: in the leaf of the lower number."""
    n, d = sized(900, 150), 5
    present = np.random.default_rng(6).random(n) < 0.9
    rows, role = coded(make_points(flavour, np.float32, n, d, seed=5), present)
    (leaves,) = descend(rows, [role], shape, SEED)
    assert as_lists(leaves) == naive.descend(rows.values, [(True, d, present)], shape.fanout, drawn)[0]


def test_outliers_that_codes_cut_off_stand_with_their_codes(drawn: list[naive.Level]) -> None:
    n, d = sized(900, 250), 5
    raw = make_points("plain", np.float32, n, d, seed=12)
    raw[:2] *= 1e6
    assert coder_of(raw, METRICS["euclidean"]).cuts
    rows, role = coded(raw)
    (leaves,) = descend(rows, [role], SHAPES[0], SEED)
    assert as_lists(leaves) == naive.descend(rows.values, [(True, d, role.present)], SHAPES[0].fanout, drawn)[0]
    assert sizes_of(leaves).max() <= SHAPES[0].largest


def test_two_roles_share_one_tree(drawn: list[naive.Level]) -> None:
    """Under inner_product rows look by the product without the last column, and are found on the sphere."""
    n, shape = sized(900, 150), SHAPES[0]
    raw = make_points("plain", np.float32, n, 5, seed=7)
    metric = METRICS["inner_product"]
    ready = prepare(raw, metric, 6, float(np.linalg.norm(raw, axis=1).max()) + 1e-3)
    coder = coder_of(ready, metric)
    rows = encode(ready, coder)
    looking, standing = np.random.default_rng(8).random((2, n)) < 0.7
    pair = [Role(trusted(coded_form(metric, rows, coder)), looking), Role(routing_form(rows, coder), standing)]
    leaves = descend(rows, pair, shape, SEED)
    expected = naive.descend(rows.values, [(False, 5, looking), (True, 6, standing)], shape.fanout, drawn)
    for told, places, role in zip(leaves, expected, pair, strict=True):
        assert_all_land(told, role.present, shape)
        assert as_lists(told) == places
    assert leaves[0].count == leaves[1].count
    assert sizes_of(leaves[1]).max() <= shape.largest
    alone = descend(rows, pair[1:], shape, SEED)[0]
    np.testing.assert_array_equal(alone.slots, leaves[1].slots)


def test_the_pairs_compared_are_counted(drawn: list[naive.Level]) -> None:
    n = sized(600, 120)
    rows, role = coded(make_points("plain", np.float32, n, 4, seed=9))
    (leaves,) = descend(rows, [role], Shape(20, 30, 6, 1), SEED)
    stand = np.zeros(n, np.int64)
    compared = 0
    for depth, level in enumerate(drawn):
        compared += int(level.carved[stand].sum())
        places = naive.descend(rows.values, [(True, 4, role.present)], 1, drawn[: depth + 1])[0]
        stand = np.array([nodes[0] for nodes in places])
    assert leaves.compared == compared


# --- near rows meet -------------------------------------------------------------------------------


def share_met(rows: np.ndarray, leaves: Leaves, k: int) -> float:
    """Share of each row's k nearest rows that stand in one of its leaves."""
    others = naive.squared(rows, rows) + np.where(np.eye(len(rows), dtype=bool), np.inf, 0)
    places = [set(nodes) for nodes in as_lists(leaves)]
    near = np.argsort(others, axis=1)[:, :k]
    return float(np.mean([[bool(places[row] & places[label]) for label in near[row]] for row in range(len(rows))]))


def clusters(n: int) -> np.ndarray:
    rng = np.random.default_rng(10)
    return (5 * rng.normal(size=(20, 6))[rng.integers(0, 20, n)] + rng.normal(size=(n, 6))).astype(np.float32)


@pytest.mark.parametrize("n", [110, 1000])
def test_near_rows_meet(n: int) -> None:
    rows = clusters(sized(n, 110))
    leaves = grown(rows, Shape(leaf=40, largest=80, pivots=16, fanout=2))
    assert leaves.count >= 4
    assert share_met(rows, leaves, 8) > 0.85


def test_near_rows_meet_when_the_root_is_hardly_too_large() -> None:
    rows = clusters(90)
    leaves = grown(rows, Shape(leaf=40, largest=80, pivots=16, fanout=2))
    assert leaves.count >= 2
    assert share_met(rows, leaves, 8) > 0.85


def test_chance_is_the_last_resort(drawn: list[naive.Level]) -> None:
    """Rows whose codes do not repeat can always be carved: one uneven pair of pivots is a reason to draw another."""
    n = sized(1000, 300)
    raw = make_points("plain", np.float32, n, 6, seed=11)
    assert len(np.unique(coded(raw)[0].values, axis=0)) == n
    grown(raw, Shape(leaf=20, largest=30, pivots=2, fanout=1))
    stuck = [level.children[node] > 1 for level in drawn for (_, node) in level.dealt[0]]
    assert sum(stuck) < n / 50


def test_pivots_that_are_near_stand_together() -> None:
    """Rows in leaf order then find their neighbours near in memory."""
    rng = np.random.default_rng(5)
    points = (rng.normal(size=(40, 6))[rng.integers(0, 40, 800)] * 4 + rng.normal(size=(800, 6))).astype(np.float32)
    coder = coder_of(points, METRICS["euclidean"])
    rows = encode(points, coder)
    drawn = rng.permutation(800)[:320].astype(np.int32)
    ordered = near_together(rows, drawn, routing_form(rows, coder), 3)
    assert sorted(ordered) == sorted(drawn), "none is lost"

    def step(pivots: np.ndarray) -> float:
        return float(np.linalg.norm(np.diff(points[pivots], axis=0), axis=1).mean())

    assert step(ordered) < 0.7 * step(drawn)
