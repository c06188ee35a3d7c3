"""A plan keeps every task within its memory, a refusal names what would do, and units cover the mail exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distnnd.values.budget import RESERVED, Workers
from distnnd.values.errors import BudgetError, SpecError
from distnnd.values.memory import PLACES
from distnnd.values.metric import METRICS
from distnnd.values.partitioning import (
    EXACT_ROWS,
    GUIDED_WIDTH,
    LEAF_FANOUT,
    LOOKED_IN,
    MOST_LEAVES,
    MOST_PARTITIONS,
    companion_cap,
    enough_if_brief,
    first_width,
    leaf_fanout,
    make_plan,
    next_width,
    probe_count,
    shared_evenly,
    widest,
)
from distnnd.values.plan import Extent, Plan
from distnnd.values.spec import BuildSpec
from distnnd.values.units import make_units, pieces_of

MIB = 2**20


# --- plans -----------------------------------------------------------------------------------------------

Case = dict[str, Any]


def plan_of(spec: BuildSpec, n: int, d: int, dtype: str, chunk_rows: int = 1, **workers: int) -> Plan:
    """The plan for that many rows and columns, and such workers."""
    return make_plan(spec, Extent(n, d, dtype, chunk_rows), Workers(**workers))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Arguments of plan_of but for the memory, over all orders of magnitude."""
    n = int(2 ** draw(st.floats(1, 36)))
    dtype = draw(st.sampled_from(["float32", "float16", "uint8", "int8"]))
    metric = draw(st.sampled_from(sorted(METRICS)))
    wire = draw(st.sampled_from([None, "float16"])) if dtype == "float32" and METRICS[metric].euclidean else None
    return {
        "spec": BuildSpec(min(draw(st.integers(1, 100)), n - 1), metric, exchange_dtype=wire),
        "n": n,
        "d": int(2 ** draw(st.floats(0, 12))),
        "dtype": dtype,
        "count": draw(st.integers(1, 64)),
        "threads": draw(st.integers(1, 32)),
        "chunk_rows": draw(st.integers(1, min(n, 100_000))),
    }


MEMORY = st.floats(20, 42).map(lambda power: int(2**power))


def plan_or_none(case: Case, memory: int) -> Plan | None:
    try:
        return plan_of(**case, memory=memory)
    except BudgetError:
        return None


@settings(max_examples=150, deadline=None)
@given(case=cases(), memory=MEMORY)
def test_every_task_of_an_accepted_plan_keeps_within_its_memory(case: Case, memory: int) -> None:
    plan = plan_or_none(case, memory)
    assume(plan is not None)
    assert plan is not None
    assert plan.peak <= memory
    assert plan.task_memory == memory - RESERVED
    for cost in plan.costs:
        assert 1 <= cost.at_once <= min(cost.tasks, plan.threads)
        assert 0 < cost.projected * cost.at_once <= plan.task_memory


@settings(max_examples=150, deadline=None)
@given(case=cases(), memory=MEMORY)
def test_a_plan_covers_the_data(case: Case, memory: int) -> None:
    plan = plan_or_none(case, memory)
    assume(plan is not None)
    assert plan is not None
    layout = plan.layout
    # A block is worth a task: a thousand rows, or a mebibyte of wide ones.
    row_bytes = case["d"] * np.dtype(case["dtype"]).itemsize
    assert layout.block_rows >= min(layout.n, 1024, max(1, MIB // row_bytes))
    bounds = [layout.block(index) for index in (*range(min(3, layout.blocks)), layout.blocks - 1)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == layout.n == case["n"]
    assert all(0 < last - first <= layout.block_rows for first, last in bounds)
    assert layout.exact == (layout.partitions == 1 and layout.n <= EXACT_ROWS)
    assert 0 <= layout.probes <= layout.n
    assert layout.exact or layout.probes > 0
    assert 0 <= layout.sample <= layout.n
    if layout.partitions > 1:
        # Room for all copies: make_units cuts what is above the cap, but there must be no need to, on the whole.
        assert layout.partitions * layout.cap >= layout.n * layout.copies
        assert layout.block_rows <= layout.cap


@settings(max_examples=100, deadline=None)
@given(case=cases(), memory=MEMORY, more=st.floats(1, 16))
def test_what_fits_fits_more_memory_too(case: Case, memory: int, more: float) -> None:
    plan = plan_or_none(case, memory)
    assume(plan is not None)
    assert plan is not None
    roomier = plan_or_none(case, int(memory * more))
    assert roomier is not None
    if min(roomier.layout.partitions, plan.layout.partitions) > 1:
        assert roomier.layout.partitions <= plan.layout.partitions
        assert roomier.layout.cap >= plan.layout.cap


def test_too_few_rows_are_refused_before_memory_is_thought_of() -> None:
    with pytest.raises(SpecError, match="n_neighbors=15 needs at least 16 rows"):
        plan_of(BuildSpec(15), 15, 4, "float32", memory=1)


def test_little_data_is_compared_exhaustively_and_in_one_piece() -> None:
    plan = plan_of(BuildSpec(), EXACT_ROWS, 64, "float32", memory=2**31)
    assert plan.layout.exact
    assert plan.layout.partitions == 1
    assert [cost.name for cost in plan.costs] == ["scan", "local"]
    assert not plan_of(BuildSpec(), EXACT_ROWS + 1, 64, "float32", memory=2**31).layout.exact


def test_data_larger_than_memory_is_cut() -> None:
    plan = plan_of(BuildSpec(), 10_000_000, 128, "float32", memory=2**31)
    assert plan.layout.partitions > 2
    assert [cost.name for cost in plan.costs if cost.each_round] == ["draw", "route", "local", "merge"]
    assert plan.disk > 10_000_000 * 128 * 4
    assert plan.graph == 10_000_000 * 15 * 12


def test_a_row_that_looks_and_is_found_in_other_places_has_more_copies() -> None:
    layouts = {
        metric: plan_of(BuildSpec(metric=metric), 10_000_000, 64, "float32", memory=2**31).layout
        for metric in ("euclidean", "inner_product")
    }
    assert layouts["inner_product"].copies == layouts["euclidean"].copies + LOOKED_IN


@pytest.mark.parametrize(
    ("metric", "n", "d", "leaves"),
    [
        ("euclidean", 1_000_000, 128, 8000),
        ("cosine", 1_000_000, 784, 10_000),
        ("euclidean", 10_000_000, 128, MOST_LEAVES),
        # Leaves would be more than twice as large as they should.
        ("euclidean", 17_000_000, 128, 0),
        ("euclidean", 1_000_000, GUIDED_WIDTH, 8000),
        ("euclidean", 1_000_000, GUIDED_WIDTH - 1, 0),
        ("inner_product", 1_000_000, 128, 0),
        ("bit_jaccard", 1_000_000, 128, 0),
    ],
)
def test_leaves_of_the_whole_set_are_planned_where_few_columns_may_guide_rows(
    metric: str, n: int, d: int, leaves: int
) -> None:
    dtype = "uint8" if metric == "bit_jaccard" else "float32"
    memory = 2**31 if n > 1_000_000 else 2**30 if d > 128 else 2**29
    layout = plan_of(BuildSpec(metric=metric), n, d, dtype, memory=memory).layout
    assert layout.partitions > 1
    assert layout.leaves == leaves
    assert layout.sample >= leaves


def test_a_worker_that_cannot_draw_leaves_of_the_whole_set_does_without() -> None:
    plans = [plan_of(BuildSpec(), 10_000_000, 128, "float32", memory=memory * MIB) for memory in (500, 2000)]
    assert [plan.layout.leaves for plan in plans] == [0, MOST_LEAVES]
    assert all(plan.peak <= plan.task_memory + plan.reserved for plan in plans)


def test_places_of_a_row_are_counted_among_the_bytes_of_a_route() -> None:
    assert PLACES == MOST_PARTITIONS + LOOKED_IN


@pytest.mark.parametrize(("number", "probed", "leaves"), [(1, True, 4), (1, False, 3), (2, True, 4), (2, False, 4)])
def test_rows_stand_in_fewer_leaves_where_nobody_says_when_they_are_enough(
    number: int, probed: bool, leaves: int
) -> None:
    assert leaf_fanout(number, probed) == leaves <= LEAF_FANOUT


@pytest.mark.parametrize(
    ("missed", "allowed", "enough"),
    [(0.055, 0.05, True), (0.06, 0.05, False), (0.05, 0.05, False), (0.04, 0.05, False), (0.0, 0.0, False)],
)
def test_a_brief_round_is_for_what_is_nearly_there(missed: float, allowed: float, enough: bool) -> None:
    """Nothing is missing where another condition asks for a round; of a recall of 1 something always is."""
    assert enough_if_brief(missed, allowed) == enough
    assert not enough_if_brief(0.001, 0.0)


def test_a_plan_says_itself_as_json_and_as_a_table() -> None:
    plan = plan_of(BuildSpec(), 10_000_000, 128, "float32", memory=2**31)
    told = plan.to_json()
    assert told["layout"]["partitions"] == plan.layout.partitions
    assert [stage["name"] for stage in told["stages"]] == [cost.name for cost in plan.costs]
    assert BuildSpec(**told["spec"]) == plan.spec
    lines = str(plan).splitlines()
    assert lines[0].startswith("10,000,000 x 128 float32, k = 15, euclidean")
    assert [line.split()[0] for line in lines[2 : 2 + len(plan.costs)]] == [cost.name for cost in plan.costs]
    assert str(replace(plan, layout=replace(plan.layout, exact=True))) != str(plan)


# --- lengths of lists ------------------------------------------------------------------------------------


@given(wanted=st.integers(1, 300))
def test_two_workers_or_four_share_partitions_evenly(wanted: int) -> None:
    partitions = shared_evenly(wanted)
    assert wanted <= partitions <= wanted * 1.13
    assert partitions % 2 == 0 or wanted < 12
    assert partitions % 4 == 0 or wanted < 24
    assert partitions <= shared_evenly(wanted + 1), "less memory, more partitions"
    assert shared_evenly(partitions) == partitions


@given(k=st.integers(1, 200), more=st.integers(1, 10_000), partitions=st.integers(1, 50), shortfall=st.floats(0, 20))
def test_lists_hold_what_is_asked_for_and_grow_to_an_end(k: int, more: int, partitions: int, shortfall: float) -> None:
    n = k + more
    width = first_width(k, n)
    assert k <= width <= n - 1
    for _ in range(30):
        following = next_width(width, widest(k, n, partitions), shortfall)
        assert width <= following <= next_width(width, widest(k, n, partitions), 2 * shortfall) <= n - 1
        width = following
    assert width == max(first_width(k, n), widest(k, n, partitions))
    assert 8 <= companion_cap(width) <= 30


@given(n=st.integers(1, 10**9), d=st.integers(1, 10**5))
def test_probe_rows_are_rows(n: int, d: int) -> None:
    assert min(n, 256) <= probe_count(n, d) <= min(n, 512)


# --- units -----------------------------------------------------------------------------------------------

Offsets = NDArray[np.int64]


@st.composite
def mail(draw: st.DrawFn) -> Offsets:
    """Where each partition's mail begins in each block's: int64[blocks, partitions + 1]; many are empty or crowded."""
    blocks, partitions = draw(st.integers(1, 8)), draw(st.integers(1, 9))
    count = st.integers(0, 12) | st.just(0) | st.integers(30, 60)
    counts = draw(st.lists(count, min_size=blocks * partitions, max_size=blocks * partitions))
    assume(any(counts))
    ends = np.cumsum(np.reshape(counts, (blocks, partitions)), axis=1)
    return np.concatenate([np.zeros((blocks, 1), np.int64), ends], axis=1)


def rows_of(block: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    return ((block, row) for row in range(first, last))


@given(offsets=mail(), cap=st.integers(1, 300), least=st.integers(1, 60))
def test_units_hold_all_mail_exactly_once(offsets: Offsets, cap: int, least: int) -> None:
    units = make_units(offsets, cap, least)
    held = [row for unit in units for piece in unit.slices for row in rows_of(*piece)]
    sent = [row for block, last in enumerate(offsets[:, -1]) for row in rows_of(block, 0, int(last))]
    assert sorted(held) == sent
    for unit in units:
        assert unit.size == sum(last - first for _, first, last in unit.slices) > 0
        blocks = [block for block, _, _ in unit.slices]
        assert blocks == sorted(set(blocks))


@given(offsets=mail(), cap=st.integers(121, 400), least=st.integers(1, 30))
def test_units_keep_to_the_cap(offsets: Offsets, cap: int, least: int) -> None:
    # A block has at most half as many rows as the cap, by the plan's choice of block_rows.
    assume(2 * np.diff(offsets, axis=1).max() <= cap)
    for unit in make_units(offsets, cap, least):
        assert unit.size <= cap


@example(offsets=np.array([[0, count] for count in (50, 50, 50, 50, 50, 50, 1)]), cap=200, least=20)
@given(offsets=mail(), cap=st.integers(121, 400), least=st.integers(1, 30))
def test_no_unit_is_left_with_a_few_rows(offsets: Offsets, cap: int, least: int) -> None:
    assume(offsets[:, -1].sum() >= least)
    assume(4 * np.diff(offsets, axis=1).max() <= cap)
    for unit in make_units(offsets, cap, least):
        assert unit.size >= least


def test_partitions_that_fit_stay_as_they_are() -> None:
    offsets = np.array([[0, 10, 30, 35], [0, 20, 25, 50]])
    units = make_units(offsets, cap=40, least=5)
    assert [unit.slices for unit in units] == [
        ((0, 0, 10), (1, 0, 20)),
        ((0, 10, 30), (1, 20, 25)),
        ((0, 30, 35), (1, 25, 50)),
    ]


def test_small_neighbours_are_held_together_and_large_ones_cut() -> None:
    small = make_units(np.array([[0, 2, 4, 6, 50]]), cap=100, least=6)
    assert [unit.size for unit in small] == [6, 44]
    large = make_units(np.array([[0, 40], [0, 40], [0, 40], [0, 40]]), cap=100, least=5)
    assert [unit.size for unit in large] == [80, 80]


def test_no_mail_makes_no_units() -> None:
    assert make_units(np.zeros((3, 4), np.int64), cap=10, least=2) == []


@given(offsets=mail(), cap=st.integers(20, 300), least=st.integers(1, 60))
def test_pieces_lead_every_row_of_a_block_to_its_place_in_a_unit(offsets: Offsets, cap: int, least: int) -> None:
    units = make_units(offsets, cap, least)
    order = [[row for piece in unit.slices for row in rows_of(*piece)] for unit in units]
    pieces = pieces_of(units, len(offsets))
    assert len(pieces) == len(offsets)
    for block, mine in enumerate(pieces):
        found = []
        for number, start, first, last in mine:
            there = order[number][start : start + last - first]
            assert there == list(rows_of(block, first, last))
            found += there
        assert sorted(found) == list(rows_of(block, 0, int(offsets[block, -1])))


def test_four_million_rows_fit_workers_of_700_megabytes() -> None:
    """What was promised once stays possible (docs/performance.md, a bound on memory)."""
    plan = plan_of(BuildSpec(), 4_000_000, 96, "float32", memory=700_000_000, count=2)
    assert plan.peak <= 700_000_000
