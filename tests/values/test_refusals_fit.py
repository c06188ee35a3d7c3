"""What is refused does not fit, the number that a refusal names does, and fewer threads are tried before a refusal."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from distnnd.values.budget import COMPILER, RESERVED, USABLE, Workers
from distnnd.values.errors import BudgetError, SpecError
from distnnd.values.partitioning import EXACT_ROWS, make_plan, widest
from distnnd.values.plan import Extent, Plan, Sparsity
from distnnd.values.sparse_plan import plan_sparse
from distnnd.values.spec import BuildSpec
from tests.values.test_partitioning import MEMORY, MIB, Case, cases, plan_of, plan_or_none

SHARED = {"spec": BuildSpec(5), "n": 2**20, "d": 128, "dtype": "float32", "count": 15, "threads": 13}


def number_in(error: BudgetError) -> int:
    """The limit, in bytes, that a refusal says would do."""
    found = re.search(r"memory_limit='(\d+)MiB'", str(error))
    assert found is not None, str(error)
    return int(found[1]) * MIB


def refusal(case: Case, memory: int, **workers: float) -> BudgetError | None:
    """What is said of so much memory; None where it fits."""
    try:
        plan_of(**case, memory=memory, **workers)  # type: ignore[arg-type]
    except BudgetError as error:
        return error
    return None


@example(case=SHARED, memory=MIB)
@settings(max_examples=150, deadline=None)
@given(case=cases(), memory=MEMORY)
def test_the_number_of_a_refusal_fits_and_a_mebibyte_less_does_not(case: Case, memory: int) -> None:
    refused = refusal(case, memory)
    assume(refused is not None)
    assert refused is not None
    need = number_in(refused)
    assert need > memory
    plan_of(**case, memory=need)
    assert plan_or_none(case, need - 2 * MIB) is None


@settings(max_examples=60, deadline=None)
@given(case=cases(), memory=st.floats(20, 30).map(lambda power: int(2**power)))
def test_the_number_of_a_refusal_fits_workers_of_which_dask_leaves_a_part(case: Case, memory: int) -> None:
    refused = refusal(case, memory, share=USABLE)
    assume(refused is not None)
    assert refused is not None
    assert "Start the workers with memory_limit=" in str(refused)
    assert "70% of the limit is used, as Dask spills to disk and pauses the worker above that" in str(refused)
    plan = plan_of(**case, memory=number_in(refused), share=USABLE)  # type: ignore[arg-type]
    assert plan.peak <= USABLE * plan.worker_memory


@settings(max_examples=60, deadline=None)
@given(
    entries=st.floats(10, 36).map(lambda power: int(2**power)),
    rows=st.floats(4, 28).map(lambda power: int(2**power)),
    metric=st.sampled_from(["cosine", "chebyshev", "jaccard"]),
    memory=st.floats(20, 34).map(lambda power: int(2**power)),
    threads=st.integers(1, 32),
)
def test_the_number_of_a_refusal_of_sparse_points_fits(
    entries: int, rows: int, metric: str, memory: int, threads: int
) -> None:
    each = max(entries // rows, 1)
    densest = tuple(min(each * 2**power, entries) for power in range(rows.bit_length()))
    extent = Extent(rows, 20_000, "float32", 1, Sparsity(each * rows, float(each * rows) ** 1.5, densest))
    spec = BuildSpec(5, metric)
    try:
        plan_sparse(spec, extent, Workers(memory, threads=threads))
    except BudgetError as error:
        need = number_in(error)
    else:
        assume(False)
    assert plan_sparse(spec, extent, Workers(need, threads=threads)).peak <= need
    with pytest.raises(BudgetError):
        plan_sparse(spec, extent, Workers(need - 2 * MIB, threads=threads))


@settings(max_examples=150, deadline=None)
@given(case=cases(), memory=MEMORY, threads=st.integers(1, 64), count=st.integers(1, 9))
def test_neither_threads_nor_workers_change_a_layout(case: Case, memory: int, threads: int, count: int) -> None:
    plan, other = plan_or_none(case, memory), plan_or_none(case | {"threads": threads, "count": count}, memory)
    assert (plan is None) == (other is None)
    if plan is not None and other is not None:
        assert plan.layout == other.layout
        assert other.threads <= threads


@settings(max_examples=100, deadline=None)
@given(case=cases(), memory=MEMORY)
def test_threads_are_all_used_where_they_fit(case: Case, memory: int) -> None:
    plan = plan_or_none(case, memory)
    assume(plan is not None)
    assert plan is not None
    if plan.threads < case["threads"]:
        with pytest.raises(BudgetError, match=f"threads_per_worker={plan.threads},"):
            make_plan(
                case["spec"],
                Extent(case["n"], case["d"], case["dtype"], case["chunk_rows"]),
                Workers(memory, case["count"], plan.threads + 1, named=True),
            )


def tiny(n: int, d: int, memory: int, threads: int) -> Plan:
    """The plan of a user's small float32 points."""
    return plan_of(BuildSpec(), n, d, "float32", n, memory=memory, threads=threads)


@pytest.mark.parametrize(
    ("n", "d", "limit", "threads", "used"),
    [
        # Reported: each of these was refused.
        (5_000, 2, 1024, 2, 2),
        (5_000, 2, 450, 2, 2),
        (1_000, 2, 4096, 32, 32),
        (60_000, 16, 700, 2, 2),
        (60_000, 16, 500, 2, 2),
    ],
)
def test_small_points_fit_on_all_threads(n: int, d: int, limit: int, threads: int, used: int) -> None:
    plan = tiny(n, d, limit * MIB, threads)
    assert (plan.layout.partitions, plan.threads) == (1, used)
    assert plan.peak <= limit * MIB


def test_pictures_fit_one_task_in_little_memory_with_shorter_lists() -> None:
    case = {"spec": BuildSpec(), "n": 70_000, "d": 784, "dtype": "uint8", "threads": 2, "chunk_rows": 4096}
    little, much = plan_of(**case, memory=400 * MIB), plan_of(**case, memory=2000 * MIB)  # type: ignore[arg-type]
    assert little.layout.partitions == much.layout.partitions == 1
    assert little.threads == 2
    assert (little.layout.longest, much.layout.longest) == (widest(15, 70_000, 2), 0)
    assert plan_of(**case, memory=300 * MIB).layout.partitions > 1  # type: ignore[arg-type]


def test_threads_that_the_user_named_are_used_or_refused_with_both_ways_out() -> None:
    extent, spec = Extent(10_000_000, 128, "float32", 4096), BuildSpec()
    assert make_plan(spec, extent, Workers(4096 * MIB, threads=8, named=True)).threads == 8
    with pytest.raises(BudgetError, match="on 64 threads") as caught:
        make_plan(spec, extent, Workers(600 * MIB, threads=64, named=True))
    fewer = int(re.findall(r"threads_per_worker=(\d+)", str(caught.value))[0])
    assert make_plan(spec, extent, Workers(600 * MIB, threads=fewer, named=True)).threads == fewer
    assert make_plan(spec, extent, Workers(number_in(caught.value), threads=64, named=True)).threads == 64
    # Who named none has what fits.
    plan = make_plan(spec, extent, Workers(600 * MIB, threads=64))
    assert plan.threads == fewer
    assert f"1 worker(s), {fewer} thread(s) each of 64, as more do not fit the memory" in str(plan)


def test_a_refusal_names_the_settings_that_exist() -> None:
    spec, extent = BuildSpec(), Extent(1_000_000, 128, "float32", 4096)
    with pytest.raises(BudgetError, match=r"1,000,000 x 128 float32 .* 250 MiB \(232 MiB of it .* Set memory_limit='"):
        make_plan(spec, extent, Workers(250 * MIB, threads=8))
    with pytest.raises(BudgetError, match="or take fewer workers than n_workers=3"):
        make_plan(spec, extent, Workers(250 * MIB, count=3))
    with pytest.raises(BudgetError) as caught:
        make_plan(BuildSpec(memory_limit=250 * MIB), extent, Workers(250 * MIB, count=3))
    assert "n_workers" not in str(caught.value)


def test_a_metric_of_the_users_own_leaves_room_for_its_compiler() -> None:
    spec = BuildSpec(metric="custom", function=len)
    plan = make_plan(spec, Extent(1000, 4, "float32"), Workers(2**31))
    assert plan.reserved == RESERVED + COMPILER


@pytest.mark.parametrize("partitions", [2, 3, 7])
def test_partitions_that_are_asked_for_share_the_work(partitions: int) -> None:
    spec, n = BuildSpec(partitions=partitions), 10 * EXACT_ROWS
    plan = plan_of(spec, n, 32, "float32", memory=2**33, threads=4, count=3)
    assert plan.layout.partitions == partitions
    assert plan.layout.partitions * plan.layout.cap >= n * plan.layout.copies
    local = next(cost for cost in plan.costs if cost.name == "local")
    assert local.at_once == min(partitions, 4)
    assert plan.task_threads * local.at_once <= 4
    assert "so one worker does the work" not in str(plan)
    alone = plan_of(BuildSpec(), n, 32, "float32", memory=2**33, threads=4, count=3)
    assert "so one worker does the work; partitions=3 would share it out" in str(alone)


@pytest.mark.parametrize(("n", "most"), [(50, 1), (5000, 4), (2_000_000, 1953)])
def test_partitions_of_too_few_rows_are_refused(n: int, most: int) -> None:
    with pytest.raises(SpecError, match=f"fewer than 1,024 rows each; ask for at most {most}$"):
        plan_of(BuildSpec(5, partitions=most + 1), n, 8, "float32", memory=2**34)
    layout = plan_of(BuildSpec(5, partitions=most), n, 8, "float32", memory=2**34).layout
    assert layout.partitions == most
