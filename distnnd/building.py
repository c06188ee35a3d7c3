"""build() and plan(): what a caller asks for is checked, the points are opened, and the stream is run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from .graph import Graph, open_graph
from .progress import listening
from .runtime.clients import check_client
from .runtime.cluster import executor_for, machine_for
from .runtime.events import BuildEnd, BuildStart, Compiling, Listener
from .sources import Opened, extent_of, is_sparse, known_dtype, named_points, open_points, plan_for, within_reach
from .stages.measured import compiling_told
from .stages.points import check_points
from .storage import graph as store
from .storage import outputs
from .storage.spool import Spool
from .stream import carry_out
from .underway import Build, missed, place_for, tidy
from .values.errors import DistnndWarning
from .values.plan import Plan
from .values.recall import Recall
from .values.spec import BuildSpec, as_stored, exchange_dtype_of


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
    threads_per_worker: int | None = None,
    partitions: int | None = None,
) -> Plan:
    """The plan of what build() would do with the same arguments: stages, tasks, memory and disk.

    Only metadata are read; of sparse points also the row ends and a sample of the rows.

    Raises BudgetError, SpecError and InputError as build() does.
    """
    limits = (target_recall, max_rounds, memory_limit)
    exchanged = exchange_dtype_of(exchange_dtype, wire, stacklevel=3)
    spec = BuildSpec.asked(n_neighbors, metric, metric_params, *limits, random_state, exchanged, dtype, partitions)
    check_client(client, n_workers)
    opened = open_points(source, spec.kind, component, missing, dtype)
    spec = spec.for_points(opened.dtype.name, is_sparse(opened))
    check_opened(spec, opened)
    extent = extent_of(opened)
    if opened is not source:
        opened.release()
    with machine_for(client, spec.memory_limit, n_workers, threads_per_worker) as machine:
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
    threads_per_worker: int | None = None,
    partitions: int | None = None,
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
    memory_limit: of one worker, in bytes or as a text like "2GiB"; your own arrays in this process do not count. The
    plan, and with it the bytes of the graph, follows from the points, the arguments and this limit, never from how many
    workers and threads there are. Without it the memory of the machine counts (divided by n_workers), or that of the
    client's workers: name it to have the same plan on all machines.
    client: a Dask client, cluster or address; None for the current client. If there is none, a temporary cluster is
    used: threads of this process, or `n_workers` processes.
    threads_per_worker: threads that a worker may use. By default as many as fit of those that the machine,
    OMP_NUM_THREADS and NUMBA_NUM_THREADS allow, and one for each of `n_workers`.
    partitions: cut the points into at least so many, by default as few as fit. One worker does all the work if it holds
    all points; several partitions are shared out.
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
    spec = BuildSpec.asked(n_neighbors, metric, metric_params, *limits, random_state, exchanged, dtype, partitions)
    check_client(client, n_workers)
    with ExitStack() as stack:
        listen = stack.enter_context(listening(progress))
        # Whatever is wrong with the arguments is said before a cluster starts, and before a chunk is computed.
        opened = open_points(source, spec.kind, component, missing, dtype)
        if opened is not source:
            stack.callback(opened.release)
        sparse = is_sparse(opened)
        spec = spec.for_points(known_dtype(opened), sparse)
        check_opened(spec, opened)
        points = named_points(opened)._replace(missing=missing)
        final = place = None if out is None else store.place_of(out)
        if final is not None:
            store.check_apart(final, points.location)
            place = place_for(final, spec, points, resume, overwrite)
        spool = stack.enter_context(Spool(place, scratch))
        if place is None or not is_finished(place):
            workers = executor_for(client, spec.memory_limit, n_workers, threads_per_worker)
            executor = stack.enter_context(workers)
            points = within_reach(points, executor, spool)
            spec = spec.for_points(points.source.dtype.name, sparse)
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
