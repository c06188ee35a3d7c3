"""The stream from points to a graph, top to bottom: scan, probe, then rounds until the recall is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from .runtime.events import RoundEnd
from .stages.blocks import plan_blocks, plan_scan_sparse
from .stages.doubts import doubts_of
from .stages.draw import plan_draw
from .stages.exact import plan_exact
from .stages.local import plan_local
from .stages.merge import plan_merge
from .stages.probe import plan_probe, plan_truth
from .stages.publish import plan_publish
from .stages.rounding import plan_centre, rows_for_centre, shift_of
from .stages.route import plan_route
from .stages.scan import check_scale, plan_collect, plan_scan
from .stages.settle import plan_settle
from .stages.settled import gather, solved_whole
from .storage import graph as store
from .storage import mailbox
from .underway import Build
from .values.errors import InUse, Unreachable
from .values.partitioning import enough_if_brief, first_width, longest, next_width
from .values.plan import Layout, Report
from .values.recall import EXACT, Recall, estimate_recall, good_enough
from .values.units import Unit, least_unit, make_units, pieces_of

# A round that adds less than this to a measured recall is the last: more of them would not reach the target.
LEAST_GAIN = 0.002
# To know who may stay at home costs a fifth of a round: it is worth it where so large a share of the rows does.
STAYING = 0.4


def carry_out(build: Build) -> Recall:
    """The whole stream, from wherever the store stands to the finished graph; its recall."""
    build.begin()
    prepare(build)
    recall = exact_rounds(build) if build.job.exchange_dtype else rounds(build)
    publish(build, recall)
    return recall


def prepare(build: Build) -> None:
    """Check every number, keep sampled rows aside, and solve the probe rows."""
    try:
        scanned = build.run(plan_scan_sparse(build.job) if build.job.layout.sparse else plan_scan(build.job))
        check_scale(scanned, build.job.kind)
    except (Unreachable, InUse):
        # The points may be as good as they were, or another process goes on: what is done is kept.
        raise
    except Exception:
        # Nothing was computed yet that would be worth keeping: leave no trace of a build that cannot be.
        if not build.facts["rounds"]:
            build.abandon()
        raise
    zero_rows = any(report.counters["zero_rows"] for report in scanned)
    radius = max(report.counters["radius"] for report in scanned)
    if rows_for_centre(build.job).size:
        build.run(plan_centre(build.job))
    shift = shift_of(build.job, max(report.counters.get("largest", 0.0) for report in scanned))
    build.job = replace(build.job, zero_rows=zero_rows, radius=radius, shift=shift)
    build.commit(
        scan={
            "zero_rows": zero_rows,
            "radius": radius,
            "centre": shift.centre,
            "scale": shift.scale,
            "doubts": doubts_of(build.job, scanned),
        }
    )
    if build.job.layout.partitions > 1 and not build.job.layout.exact:
        build.run(plan_collect(build.job))
        build.run(plan_probe(build.job))
        build.run(plan_truth(build.job))


def rounds(build: Build) -> Recall:
    """Rounds until the recall is reached, as many as are allowed, or until they stop to help; the last one's recall."""
    n, k, layout = build.source.n, build.spec.n_neighbors, build.job.layout
    done = build.facts["rounds"]
    while True:
        if done and finished(build, done):
            return Recall(**done[-1]["recall"])
        one = round_after(build, done[-1]) if done else Round(1, 0, first_width(k, n, build.spec.target_recall))
        number, width = one.number, one.width
        store.create_round(build.out, number, n, width, layout.block_rows)
        reports, trees = round_for(layout)(build, one)
        recall, short, published = measure(build, reports)
        entry = {
            "number": number,
            "width": width,
            "recall": recall.to_json(),
            "short": short,
            "published": published,
            "engine": engine_of(reports, layout.exact),
            "settled": int(sum(report.counters.get("settled", 0) for report in reports)),
            "trees": trees,
            "peak": build.peak,
        }
        build.commit(rounds=[*done, entry], recall=recall.to_json())
        done = build.facts["rounds"]
        build.listen(RoundEnd(number, width, recall, entry["engine"]))
        mailbox.drop_round(build.job.scratch, number)
        if number > 1:
            store.drop_round(build.out, number - 1)


def exact_rounds(build: Build) -> Recall:
    """The same where rows travel rounded: what seems to be enough is measured exactly, published, and judged again."""
    while True:
        recall = rounds(build)
        *before, last = build.facts["rounds"]
        if last["published"]:
            return recall
        create_result(build)
        recall, short, _ = measure(build, build.run(plan_exact(build.job, last["number"], last["width"])))
        last = last | {"recall": recall.to_json(), "short": short, "published": True, "peak": build.peak}
        build.commit(rounds=[*before, last], recall=recall.to_json())


class Done(NamedTuple):
    """What a round came to: reports of its tasks, and the partitions of which a k-d tree compared all rows."""

    reports: list[Report]
    trees: list[int]


class Round(NamedTuple):
    """One round. before: length of the lists that rows bring along, 0 in the first; width: of those they leave with.

    brief: rows only look again where they stand; in partitions that other rounds have not drawn, this finds a little.
    """

    number: int
    before: int
    width: int
    brief: bool = False


def round_after(build: Build, last: dict[str, Any]) -> Round:
    """The round after `last`: brief where little is missing, unless there will be no other."""
    number, before = last["number"] + 1, last["width"]
    missed, allowed = missing(build, last)
    another = build.job.layout.partitions > 1 and number < build.spec.max_rounds
    if another and enough_if_brief(missed, allowed):
        return Round(number, before, before, brief=True)
    return Round(number, before, width_after(build, last))


def missing(build: Build, last: dict[str, Any]) -> tuple[float, float]:
    """The share of the neighbours that the round `last` missed, and the share that may be."""
    return 1 - last["recall"]["estimate"], 1 - build.spec.target_recall


def width_after(build: Build, last: dict[str, Any]) -> int:
    """Length of the lists in the round after `last`, if that is not brief."""
    missed, allowed = missing(build, last)
    shortfall = missed / max(allowed, LEAST_GAIN)
    return next_width(last["width"], longest(build.job.layout, build.spec.n_neighbors), shortfall)


def finished(build: Build, done: list[dict[str, Any]]) -> bool:
    """Whether the committed rounds are enough, or further ones would not help."""
    last = Recall(**done[-1]["recall"])
    if len(done) < build.least_rounds and not done[-1]["published"]:
        return False
    if good_enough(last, done[-1]["short"], build.spec.target_recall):
        return True
    if len(done) >= build.spec.max_rounds:
        return True
    widest = width_after(build, done[-1])
    grew = [one["recall"]["estimate"] for one in done[-3:]]
    return len(grew) == 3 and widest == done[-1]["width"] and max(grew) - grew[0] < LEAST_GAIN


def round_for(layout: Layout) -> Callable[[Build, Round], Done]:
    """How rows meet in a round: blocks with all blocks, all rows at once, or by exchange between partitions."""
    if layout.sparse and layout.exact:
        return block_round
    return whole_round if layout.partitions == 1 else exchange_round


def block_round(build: Build, one: Round) -> Done:
    """The only round where every block looks through all of them: what it finds is exact, and published."""
    create_result(build)
    return Done(build.run(plan_blocks(build.job)), [])


def whole_round(build: Build, one: Round) -> Done:
    """A round where everything is one partition: fresh leaves over the present lists; published if good enough."""
    create_result(build)
    return Done(build.run(plan_local(build.job, one.number, one.before, one.width, [])), [])


def exchange_round(build: Build, one: Round) -> Done:
    """A round of exchange: fresh pivots, rows to their partitions, each partition alone, and the lists merged.

    All rows in the first, later those that are not settled.
    """
    job, (number, before, width, _) = build.job, one
    settled = settle(build, one)
    build.run(plan_draw(job, number))
    routed = build.run(plan_route(job, number, before, settled))
    offsets = mailbox.offsets(job.scratch, number, job.layout.blocks)
    least = least_unit(width, job.layout.cap, settled)
    units = make_units(offsets, job.layout.cap, least, seed=build.spec.random_state + number)
    local, trees = local_round(build, one, units)
    merged = build.run(plan_merge(job, number, width, pieces_of(units, job.layout.blocks)))
    return Done(routed + local + merged, trees)


def settle(build: Build, one: Round) -> bool:
    """Find the rows that may stay at home in this round; whether there are enough of them, after k-d trees.

    A first block tries it, by what its own rows still look for: with those of the others no more of it can stay.
    """
    done = build.facts["rounds"]
    solved = [bool(entry.get("trees")) for entry in done]
    # In a scratch that is new, because the former one is not ours to use, nothing is known of the round before.
    if not any(solved) or not mailbox.holds(build.job.scratch, f"{one.number - 1}/pivots/points"):
        return False
    whole, again = done[-1]["trees"], done[-1]["settled"] > 0
    stage = plan_settle(build.job, one.number, one.before, whole, again)
    first, *others = stage.tasks
    (tried,) = build.run(replace(stage, tasks=[first]))
    if tried.counters["stay"] < STAYING * (build.job.layout.block(first.index)[1]):
        return False
    build.run(replace(stage, tasks=others))
    gather(build.job, one.number, whole)
    return True


def local_round(build: Build, one: Round, units: list[Unit]) -> Done:
    """Each unit alone; there are none if all rows are settled."""
    if not units:
        return Done([], [])
    stage = plan_local(build.job, one.number, one.before, one.width, units, one.brief)
    reports = build.run(stage)
    trees = [False] * len(units)
    for task, report in zip(stage.tasks, reports, strict=True):
        trees[task.index] = report.counters["kdtree"] > 0
    return Done(reports, solved_whole(build.job, units, trees))


def engine_of(reports: list[Report], exact: bool) -> str:
    """What solved the partitions of a round, what a trial said of a k-d tree's work, how many rows stayed at home."""
    if exact:
        return "inverted lists" if any("added" in report.counters for report in reports) else "all pairs"
    local = [report.counters for report in reports if "kdtree" in report.counters]
    settled = int(sum(report.counters.get("settled", 0) for report in reports))
    stayed = f"; {settled:,} rows stayed at home" if settled else ""
    trees = sum(counters["kdtree"] > 0 for counters in local)
    shares = sorted(counters["tree_share"] for counters in local if "tree_share" in counters)
    where = "" if trees in (0, len(local)) else f" in {trees} of {len(local)} partitions"
    # A trial ends early where a tree is the dearer one.
    why = f" (a k-d tree takes {shares[len(shares) // 2]:.2g} of the work of leaves, or more)" if shares else ""
    return ("k-d tree" + where if trees else "leaves") + (why if not trees else why.replace(", or more", "")) + stayed


def measure(build: Build, reports: list[Report]) -> tuple[Recall, int, bool]:
    """The recall that the reports of a round add up to, how many rows lack neighbours, and whether all is published."""

    def total(name: str) -> float:
        return sum(report.counters.get(name, 0) for report in reports)

    recall = EXACT
    if not build.job.layout.exact:
        recall = estimate_recall(total("probes"), total("hits"), total("squares"), build.spec.n_neighbors)
    return recall, int(total("short")), bool(total("published"))


def create_result(build: Build) -> None:
    """The arrays of the finished graph, still empty."""
    store.create_result(build.out, build.source.n, build.spec.n_neighbors, build.job.layout.block_rows)


def publish(build: Build, recall: Recall) -> None:
    """Write the finished arrays, then say so in one piece, then clean up."""
    last = build.facts["rounds"][-1]
    if not last["published"]:
        create_result(build)
        build.run(plan_publish(build.job, last["number"], last["width"]))
    build.commit(state="complete", recall=recall.to_json())
    build.tidy()
