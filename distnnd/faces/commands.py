"""What the commands of the command line do; each takes plain values and returns its Answer."""

from __future__ import annotations

import logging
import os
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..building import build as build_graph
from ..building import found_again
from ..building import plan as plan_graph
from ..graph import Graph, open_graph
from ..progress import listening
from ..runtime.events import BuildEnd, Event, Listener, StageStart, TaskEnd, silent
from ..storage import graph as store
from ..storage import outputs
from ..storage.points import write_points
from ..storage.source import Source, SparseSource, open_source
from ..storage.sparse import convert_csr
from ..values.errors import DistnndError, DistnndWarning, InputError, SpecError
from ..values.plan import Report
from ..values.recall import Recall
from ..values.spec import as_stored, format_bytes, read_as
from ..warming import Warmed
from ..warming import warmup as warm_up
from .answer import Answer, say, table
from .metric_options import metric_of_text, params_of_texts

# Dask sets the levels of these when it is imported; its other loggers follow them.
LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application")
# Worker processes inherit the environment, not the levels of this process.
LOGGING = "DASK_LOGGING__DISTRIBUTED"
# Options of `build` that `resume` needs again: what they are called in Python. A metric only if it is the user's own.
RESUMED = {
    "--scratch": "scratch",
    "--memory-limit": "memory_limit",
    "--scheduler": "client",
    "--workers": "n_workers",
    "--metric": "metric",
}


# --- plan, build, resume ----------------------------------------------------------------------------------


def plan(source: str, **arguments: Any) -> Answer:
    """What build() would do with these arguments, which are those of distnnd.plan."""
    hush()
    with warnings_said():
        planned = plan_graph(source, **arguments | metric_in(arguments))
    return Answer(planned.to_json(), str(planned))


def build(source: str, out: str, quiet: bool, **arguments: Any) -> Answer:
    """Build a graph; the arguments are those of distnnd.build."""
    with listening(not quiet) as show:
        graph, end = build_aloud(source, out, show, **arguments | metric_in(arguments))
    return built(graph, end, quiet)


def metric_in(arguments: dict[str, Any]) -> dict[str, Any]:
    """The metric and its parameters, as Python has them."""
    return {
        "metric": metric_of_text(arguments["metric"]),
        "metric_params": params_of_texts(arguments["metric_params"]),
    }


def resume(
    out: str, quiet: bool, max_rounds: int | None, memory_limit: str | None, metric: str | None, **others: Any
) -> Answer:
    """Go on with an unfinished build as it was begun, save for what is given; a finished one is left as it is."""
    facts = facts_at(out)
    if facts["state"] == "complete":
        say(f"{out} is finished already")
        place = store.place_of(out)
        with warnings_said():
            found_again(place, store.place_of(others["scratch"] or f"{place}/scratch"), silent)
        return info(out)
    source = source_of(facts, out)
    asked = as_stored(facts["spec"]) | {
        "max_rounds": facts["spec"]["max_rounds"] if max_rounds is None else max_rounds,
        "memory_limit": memory_limit or facts["spec"]["memory_limit"],
        "dtype": read_as(facts),
    }
    if metric is not None:
        asked["metric"] = metric_of_text(metric)
    with listening(not quiet) as show:
        missing = facts["source"].get("missing")
        graph, end = build_aloud(source, out, show, **asked, **others, missing=missing)
    return built(graph, end, quiet)


def source_of(facts: dict[str, Any], out: str) -> str:
    """Where the points of an unfinished build lie; SpecError if that was the memory of a process that is gone."""
    location = str(facts["source"]["location"])
    if "://" in location or os.path.exists(location):
        return location
    where = "lay in memory" if location.startswith("<") else f"are not at {location} any more"
    raise SpecError(
        f"the points of {out} {where}; call distnnd.build in Python with the same points, output and parameters, "
        "and it continues after the last committed round"
    )


def build_aloud(source: Any, out: str, listener: Listener, **arguments: Any) -> tuple[Graph, BuildEnd]:
    """build() as the command line has it: Dask kept quiet, a missed target said."""
    ends: list[BuildEnd] = []

    def listen(event: Event) -> None:
        listener(event)
        if isinstance(event, BuildEnd):
            ends.append(event)

    hush()
    with warnings_said():
        graph = build_graph(source, out, progress=listen, **arguments)
    return graph, ends[-1]


def how_to_go_on(out: str, asked: dict[str, Any]) -> str:
    """What to do about a build that was interrupted, as the rest of a sentence; asked: the options of its command."""
    place = store.place_of(out)
    try:
        # What replaces a graph is built beside it.
        if asked.get("overwrite") and store.facts_of(outputs.beside(place)) is not None:
            return "; run the same command again, and it goes on"
        facts = store.facts_of(place)
    except DistnndError:
        # Stopped before it was found out that `out` is not for us.
        return ""
    if facts is None or facts["state"] == "complete":
        return "; run the same command again" if facts else "; nothing is written yet, run the same command again"
    done = len(facts["rounds"])
    return f" with {done} round{'s' * (done != 1)} committed; `{resume_line(out, asked)}` goes on from there"


def resume_line(out: str, asked: dict[str, Any]) -> str:
    """The command that resumes the build at `out`, with the options that its facts do not hold.

    asked: by the name that Python has for each.
    """
    words = ["distnnd", "resume", out]
    for option, name in RESUMED.items():
        value = asked.get(name)
        if value is not None and (name != "metric" or ":" in str(value)):
            words += [option, str(value)]
    return " ".join(map(shlex.quote, words))


def asked_of(out: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What a command must name again to go on at `out`, as far as its facts tell. Not of a copy: that begins anew."""
    here = store.identity(store.place_of(out))
    elsewhere = facts.get("place") == here and facts["scratch"] != f"{here}/scratch"
    return {"scratch": facts["scratch"]} if elsewhere else {}


def hush() -> None:
    """Keep Dask's log lines off stderr, here and in worker processes, unless the user chose a level.

    What matters comes as an error or an event.
    """
    if LOGGING in os.environ and os.environ[LOGGING] != "critical":
        return
    os.environ[LOGGING] = "critical"
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def warnings_said() -> Iterator[None]:
    """Turn our own warnings into lines on stderr as they come, and leave out all that libraries warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=DistnndWarning)
        warnings.filterwarnings("always", category=FutureWarning, module=r"distnnd\.faces\.")
        warnings.showwarning = lambda message, *others, **more: say(f"distnnd: {message}")
        yield


def built(graph: Graph, end: BuildEnd, quiet: bool) -> Answer:
    """What a build came to."""
    asked = graph.facts["spec"]["target_recall"]
    facts = facts_of_graph(graph)
    facts |= {"target_recall": asked, "reached": end.reached, "seconds": round(end.seconds, 3), "peak": end.peak}
    return Answer(facts, "" if quiet else text_of_graph(graph))


# --- status, info, verify, recall -------------------------------------------------------------------------


def facts_at(location: str) -> dict[str, Any]:
    """The facts of a graph store, finished or not; SpecError where there is none, StoreError if it is damaged."""
    place = store.place_of(location)
    facts = store.facts_of(place)
    if facts is None:
        raise SpecError(f"there is no graph at {place}")
    return facts


def graph_at(location: str, metric: str | None = None) -> Graph:
    """The finished graph at a path or URL; SpecError where there is none, StoreError if it is damaged or unfinished.

    metric: where the user's own lies, if the graph is of one.
    """
    facts_at(location)
    return open_graph(location, metric_of_text(metric))


def status(out: str) -> Answer:
    """How far a build is; reads the facts only."""
    facts = facts_at(out)
    told = {name: facts[name] for name in ("state", "n", "d", "n_neighbors", "metric", "recall")}
    told |= {name: facts["spec"][name] for name in ("target_recall", "max_rounds")}
    told["rounds"] = [{name: one[name] for name in ("number", "width", "recall")} for one in facts["rounds"]]
    told["source"] = facts["source"]["location"]
    finished = told["state"] == "complete"
    told["next"] = f"distnnd info {shlex.quote(out)}" if finished else resume_line(out, asked_of(out, facts))
    asked = f"{neighbours_text(facts)}, recall {told['target_recall']} in at most {told['max_rounds']} rounds"
    rounds = [
        (f"round {one['number']}", f"recall {Recall(**one['recall'])}, lists of {one['width']}")
        for one in told["rounds"]
    ]
    lines = [
        ("state", told["state"]),
        ("points", points_text(facts)),
        ("asked", asked),
        *rounds,
        ("next", told["next"]),
    ]
    return Answer({"location": out, **told}, table(lines))


def info(graph: str) -> Answer:
    """What a finished graph holds."""
    opened = graph_at(graph)
    return Answer(facts_of_graph(opened), text_of_graph(opened))


def verify(
    graph: str, source: str | None, component: str | None, missing: str | None, rows: int, metric: str | None
) -> Answer:
    """Check every chunk and row of a graph, and the distances of `rows` rows if the points are given."""
    points = None if source is None else open_source(source, component, sparse=True, missing=missing)
    checked = graph_at(graph, metric).verify(points, rows)
    return Answer({"location": graph, **checked}, table([("graph", f"{graph} is sound"), *checked.items()]))


def recall(
    graph: str,
    source: str,
    component: str | None,
    missing: str | None,
    probes: int,
    random_state: int,
    metric: str | None,
) -> Answer:
    """Measure recall on rows drawn afresh, beside what was measured when the graph was built."""
    opened = graph_at(graph, metric)
    points = open_source(source, component, sparse=True, missing=missing)
    measured = opened.measure_recall(points, probes, random_state)
    rows = [("measured", measured), ("stored", opened.recall)]
    return Answer({"recall": measured.to_json(), "stored": opened.recall.to_json()}, table(rows))


def neighbours_text(facts: dict[str, Any]) -> str:
    """How many neighbours, and by which metric."""
    return f"{facts['n_neighbors']} neighbours each, {facts['metric']}"


def points_text(facts: dict[str, Any]) -> str:
    """How many points, and from where."""
    return f"{facts['n']:,} x {facts['d']} from {facts['source']['location']}"


def facts_of_graph(graph: Graph) -> dict[str, Any]:
    """The facts of a finished graph as --json gives them: `rounds` is their number."""
    return graph.info() | {"rounds": len(graph.facts["rounds"]), "recall": graph.recall.to_json()}


def text_of_graph(graph: Graph) -> str:
    """The facts of a finished graph for people."""
    facts = facts_of_graph(graph)
    return table(
        [
            ("graph", graph.location),
            ("points", points_text(graph.facts)),
            ("holds", f"{neighbours_text(facts)}, {format_bytes(facts['bytes'])}, format {facts['format_version']}"),
            ("recall", f"{graph.recall}, after {facts['rounds']} round{'s' * (facts['rounds'] != 1)}"),
        ]
    )


# --- convert ----------------------------------------------------------------------------------------------


def convert(
    source: str,
    out: str,
    component: str | None,
    missing: str | None,
    dtype: str | None,
    quiet: bool,
    overwrite: bool = False,
) -> Answer:
    """Write points to a new Zarr array, as `dtype` or as they are read; sparse ones to a group of AnnData's layout."""
    with warnings_said():
        opened = open_source(source, component, sparse=True, missing=missing)
    store.check_apart(store.place_of(out), opened.location)
    if isinstance(opened, SparseSource):
        return convert_sparse(opened, out, dtype, quiet, overwrite)
    kind = np.dtype(dtype or opened.dtype)
    with listening(not quiet) as show:
        blocks = blocks_of(opened, kind, show)
        write_points(out, blocks, n=opened.n, d=opened.d, dtype=kind, overwrite=overwrite)
    size = opened.n * opened.d * kind.itemsize
    facts = {"location": out, "n": opened.n, "d": opened.d, "dtype": kind.name, "bytes": size}
    return Answer(facts, "" if quiet else f"{out}: {opened.n:,} x {opened.d} {kind}, {format_bytes(size)}")


def convert_sparse(opened: SparseSource, out: str, dtype: str | None, quiet: bool, overwrite: bool = False) -> Answer:
    """Write sparse points, in canonical form; SpecError for a dtype, as they are kept in float32."""
    if dtype is not None:
        raise SpecError(f"--dtype {dtype} is for dense points; sparse ones are kept as float32")
    convert_csr(opened, out, overwrite=overwrite)
    facts = {"location": out, "n": opened.n, "d": opened.d, "dtype": "float32", "entries": opened.entries}
    return Answer(facts, "" if quiet else f"{out}: {opened.n:,} x {opened.d} sparse, {opened.entries:,} entries")


def blocks_of(source: Source, dtype: np.dtype[Any], listener: Listener) -> Iterator[np.ndarray]:
    """The rows of a source as `dtype`, block by block; `listener` is told of each as of a task."""
    firsts = range(0, source.n, source.chunk_rows)
    listener(StageStart("convert", 0, len(firsts)))
    for index, first in enumerate(firsts):
        block = source.read(first, min(source.n, first + source.chunk_rows))
        yield as_dtype(block, dtype, first)
        listener(TaskEnd("convert", 0, index, Report(read=block.nbytes)))


def as_dtype(block: np.ndarray, dtype: np.dtype[Any], first: int) -> np.ndarray:
    """The block as `dtype`; InputError names the first value that does not fit. first: row id of block[0].

    Floats may be rounded to float16; integers must come out as they went in.
    """
    if block.dtype == dtype:
        return block
    with np.errstate(over="ignore", invalid="ignore"):
        cast = block.astype(dtype)
    lost = np.isinf(cast) & np.isfinite(block) if dtype.kind == "f" else cast != block
    if lost.any():
        row, column = np.argwhere(lost)[0].tolist()
        raise InputError(
            f"row {first + row}, column {column} holds {block[row, column]}, which {dtype} cannot hold; "
            "choose another --dtype"
        )
    return cast


# --- warmup -----------------------------------------------------------------------------------------------


def warmup(metric: tuple[str, ...], dtype: tuple[str, ...], client: str | None, quiet: bool) -> Answer:
    """Compile what is not on disk yet, here and on the workers of a cluster; without names, everything."""
    hush()
    warmed = warm_up(metric, dtype, client, progress=not quiet)
    lines = [("kernels", warmed.cache), ("here", text_of_warmed(warmed))]
    lines += [(address, f"{text_of_warmed(one)}, {one.cache}") for address, one in warmed.workers.items()]
    return Answer(warmed.to_json(), "" if quiet else table(lines))


def text_of_warmed(warmed: Warmed) -> str:
    """What one process had to do."""
    return f"{warmed.compiled} compiled, {warmed.found} found, {warmed.seconds:.1f} s"
