"""The stream from points to a graph, top to bottom: scan, probe, then rounds until the recall is measured."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

from .graph import Graph, open_graph
from .progress import listening
from .runtime.clients import check_client
from .runtime.cluster import executor_for, machine_for
from .runtime.events import BuildEnd, BuildStart, Compiling, Listener, RoundEnd
from .sources import Opened, extent_of, is_sparse, named_points, open_points, plan_for, within_reach
from .stages.blocks import plan_blocks, plan_scan_sparse
from .stages.doubts import doubts_of
from .stages.draw import plan_draw
from .stages.exact import plan_exact
from .stages.local import plan_local
from .stages.measured import compiling_told
from .stages.merge import plan_merge
from .stages.points import check_points
from .stages.probe import plan_probe, plan_truth
from .stages.publish import plan_publish
from .stages.rounding import plan_centre, rows_for_centre, shift_of
from .stages.route import plan_route
from .stages.scan import check_scale, plan_collect, plan_scan
from .stages.settle import plan_settle
from .stages.settled import gather, solved_whole
from .storage import graph as store
from .storage import mailbox, outputs
from .storage.spool import Spool
from .underway import Build, missed, place_for, tidy
from .values.errors import DistnndWarning, InUse, Unreachable
from .values.partitioning import Unit, enough_if_brief, first_width, least_unit, make_units, next_width, pieces_of
from .values.plan import Layout, Plan, Report
from .values.recall import EXACT, Recall, estimate_recall, good_enough
from .values.spec import BuildSpec, as_stored, exchange_dtype_of

# A round that adds less than this to a measured recall is the last: more of them would not reach the target.
LEAST_GAIN = 0.002
# To know who may stay at home costs a fifth of a round: it is worth it where so large a share of the rows does.
STAYING = 0.4


def plan(
    source: Any,
    n_neighbors: int = 15,
    *,
    metric: str | Callable[..., float] = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    target_recall: float = 0.95,
    max_rounds: int = 8,
    memory_limit: int | str | None = None,
    client: Any = None,
    random_state: int = 0,
    component: str | None = None,
    n_workers: int | None = None,
    exchange_dtype: str | None = None,
    wire: str | None = None,
    dtype: str | None = None,
    missing: str | None = None,
) -> Plan:
    """The plan of what build() would do with the same arguments: stages, tasks, memory and disk.

    Only metadata are read; of sparse points also the row ends and a sample of the rows.

    Raises BudgetError, SpecError and InputError as build() does.
    """
    limits = (target_recall, max_rounds, memory_limit)
    exchanged = exchange_dtype_of(exchange_dtype, wire, stacklevel=3)
    spec = BuildSpec.asked(n_neighbors, metric, metric_params, *limits, random_state, exchanged, dtype)
    check_client(client, n_workers)
    opened = open_points(source, spec.kind, component, missing, dtype)
    spec = spec.for_points(opened.dtype.name, is_sparse(opened))
    check_opened(spec, opened)
    extent = extent_of(opened)
    if opened is not source:
        opened.release()
    with machine_for(client, spec.memory_limit, n_workers) as machine:
        return plan_for(spec, machine, extent)


def build(
    source: Any,
    out: Any = None,
    n_neighbors: int = 15,
    *,
    metric: str | Callable[..., float] = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    target_recall: float = 0.95,
    max_rounds: int = 8,
    memory_limit: int | str | None = None,
    client: Any = None,
    scratch: Any = None,
    random_state: int = 0,
    resume: bool = True,
    progress: Listener | bool | None = None,
    component: str | None = None,
    n_workers: int | None = None,
    exchange_dtype: str | None = None,
    wire: str | None = None,
    dtype: str | None = None,
    missing: str | None = None,
    overwrite: bool = False,
) -> Graph:
    """Build the k-nearest-neighbour graph of `source` in the Zarr store `out`, to a recall of `target_recall`.

    source: n x d numbers: the path or URL of a Zarr array or group (`component` names the array in it), or of a .npy,
    .fbin, .u8bin, .i8bin, .fvecs or .bvecs file; a zarr.Array, dask array, numpy array or memmap, list of rows, frame
    of numbers, tensor, or dataset of h5py. Or sparse rows: a scipy matrix, an .npz of scipy.sparse, CSR in Zarr as
    AnnData stores it, or a dask array of such chunks.
    out: path or URL of the store. None makes a temporary graph, which lives as long as the returned object or anything
    that was made from it.
    resume: True continues an unfinished build of the same points with the same parameters at `out` after its last
    committed round, and returns a finished one as it is.
    overwrite: True replaces another graph at `out`, once the new one is whole; in an object store, which cannot rename,
    the old one is deleted first. Only what distnnd wrote is ever replaced.
    n_neighbors: neighbours of each row, without the row itself.
    metric: a name of docs/metrics.md, with its parameters by name in metric_params; or a function f(x, y) of two rows
    that numba has compiled, symmetric and finite.
    max_rounds: stop after this many rounds, with a warning if the target is not reached.
    memory_limit: of one worker, in bytes or as a text like "2GiB".
    client: a Dask client, cluster or address; None for the current client. If there is none, a temporary cluster is
    used: threads of this process, or `n_workers` processes.
    scratch: directory for temporary data, on a disk that all workers see; by default inside `out`.
    random_state: seed; the same seed and plan give the same bytes.
    progress: True shows bars in a terminal and lines elsewhere, None bars in a terminal only, False nothing; a function
    is called with each event.
    exchange_dtype: "float16" sends float32 points between partitions as float16, which halves the bytes. At the end the
    distances are computed again from the points. Some metrics do not allow it (SpecError). `wire` is its old name.
    dtype: None compares the points as they are given, so that distances and the measured recall are those of float64
    input in float64. "float32" rounds float64 points and wide integers first, which takes less memory and time; a
    warning says how many rows became equal. "float64" widens float32 points.
    missing: of a Zarr array, whether chunks that are not there read as its fill value, "fill", or are refused, "error".
    None refuses them, unless whole columns of chunks were never written, of which a warning tells.

    Raises SpecError, InputError (bad points, with the first row), BudgetError (what is needed, what there is and what
    would fit), StoreError (damaged input or graph), StageError.
    """
    limits = (target_recall, max_rounds, memory_limit)
    exchanged = exchange_dtype_of(exchange_dtype, wire, stacklevel=3)
    spec = BuildSpec.asked(n_neighbors, metric, metric_params, *limits, random_state, exchanged, dtype)
    check_client(client, n_workers)
    with ExitStack() as stack:
        listen = stack.enter_context(listening(progress))
        # Whatever is wrong with the arguments is said before a cluster starts, and before a chunk is computed.
        opened = open_points(source, spec.kind, component, missing, dtype)
        if opened is not source:
            stack.callback(opened.release)
        spec = spec.for_points(opened.dtype.name, is_sparse(opened))
        check_opened(spec, opened)
        points = named_points(opened)._replace(missing=missing)
        final = place = None if out is None else store.place_of(out)
        if final is not None:
            store.check_apart(final, points.location)
            place = place_for(final, spec, points, resume, overwrite)
        spool = stack.enter_context(Spool(place, scratch))
        if place is None or not is_finished(place):
            executor = stack.enter_context(executor_for(client, spec.memory_limit, n_workers))
            points = within_reach(points, executor, spool)
            _run(Build(spec, points, spool.out, spool.scratch, executor, listen))
        else:
            found_again(place, spool.scratch, listen)
        outputs.swap(spool.out, final or spool.out)
        return open_graph(final or spool.out, spec.function)


def check_opened(spec: BuildSpec, opened: Opened) -> None:
    """InputError or SpecError unless what is asked for fits the number of rows and columns, and their dtype."""
    spec.check_rows(opened.n)
    check_points(spec, opened.d, opened.dtype.name, is_sparse(opened))


def is_finished(place: str) -> bool:
    """Whether a finished graph is there."""
    facts = store.facts_of(place)
    return facts is not None and facts["state"] == "complete"


def found_again(place: str, scratch: str, listen: Listener) -> None:
    """Tidy up after a graph that was finished before, and say what it came to as if it were now."""
    facts = store.facts_of(place)
    assert facts is not None
    if "uuid" in facts:
        tidy(place, f"{scratch}/{facts['uuid']}", facts["uuid"])
    warn_of(facts)
    listen(BuildEnd(Recall(**facts["recall"]), not missed(facts), 0.0, 0, found=True))


def _run(build: Build) -> None:
    start = time.perf_counter()
    build.listen(BuildStart(build.plan, len(build.facts["rounds"])))
    elsewhere = getattr(build.executor, "on_this_machine", False)
    with compiling_told(lambda: build.listen(Compiling()), build.job, elsewhere):
        recall = carry_out(build)
    warn_of(build.facts)
    reached = not missed(build.facts)
    build.listen(BuildEnd(recall, reached, time.perf_counter() - start, build.peak))


def warn_of(facts: dict[str, Any]) -> None:
    """Warn of what the scan of a graph's points found, and if it has less than the recall that was asked for."""
    for doubt in facts.get("scan", {}).get("doubts", ()):
        warnings.warn(doubt, DistnndWarning, stacklevel=4)
    if missed(facts):
        warnings.warn(
            f"target_recall={facts['spec']['target_recall']} was not reached: measured {Recall(**facts['recall'])} "
            f"after {len(facts['rounds'])} rounds; allow more max_rounds, or ask for more n_neighbors"
            + (", or leave exchange_dtype out" if as_stored(facts["spec"]).get("exchange_dtype") else ""),
            DistnndWarning,
            stacklevel=4,
        )


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
    return next_width(last["width"], build.spec.n_neighbors, build.source.n, build.job.layout.partitions, shortfall)


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
