"""A build under way: its plan, its facts as they stand in the store, and how its stages are run."""

from __future__ import annotations

import os
import uuid
import warnings
from dataclasses import asdict, fields, replace
from typing import Any

from .runtime.events import Listener
from .runtime.serial import Executor
from .sources import Points, extent_of, plan_as_it_was, plan_for
from .storage import graph as store
from .storage import mailbox, marks, outputs
from .values.errors import BudgetError, DistnndWarning, InUse, SpecError, StoreError
from .values.plan import Job, Layout, Plan, Report, Stage
from .values.spec import BuildSpec, as_stored, format_bytes, read_as

# Parameters that may differ when a build goes on: they do not change what a round computes.
FREE = ("memory_limit", "max_rounds")
# What the facts of a graph hold from the beginning.
NEEDED = ("uuid", "spec", "source", "scratch", "rounds", "recall")


class Build:
    """One build under way: what was asked, where, by whom it is run, and the facts as they stand in the store.

    layout: how to cut, where it is not for the plan to say; least_rounds: even if fewer reach the target.
    """

    def __init__(
        self,
        spec: BuildSpec,
        points: Points,
        out: str,
        scratch: str,
        executor: Executor,
        listen: Listener,
        layout: Layout | None = None,
        least_rounds: int = 1,
    ) -> None:
        self.least_rounds = least_rounds
        self.spec, self.source, self.out = spec, points.source, out
        self.executor, self.listen = executor, listen
        self.peak = 0
        found = store.facts_of(out)
        # The uuid that stands in the store, where that is to change.
        self._was: str | None = None
        if found is None:
            self.plan = plan_for(spec, executor, extent_of(self.source))
            if layout is not None:
                self.plan = replace(self.plan, layout=layout)
            self.facts = self._first_facts(points, scratch)
            self._check_disk()
        else:
            self.facts, self._was = self._taken_over(found, scratch)
            self.plan = self._plan_of(found)
        self._begun = found is not None
        layout = self.plan.layout
        # Never from the facts alone: they may be those of a copy, or have been altered.
        place = f"{scratch}/{self.facts['uuid']}"
        # Elsewhere the user's own process compiles just what it needs, in half the time.
        bounded = layout.partitions > 1 or spec.memory_limit is not None or not executor.in_process
        plan, room = self.plan, self.plan.task_memory
        self.job = Job(
            self.facts["uuid"],
            spec,
            layout,
            self.source.spec,
            out,
            place,
            plan.task_threads,
            bounded=bounded,
            slots=plan.threads,
            room=max(room, 1),
        )

    def begin(self) -> None:
        """Make the store and the scratch, or take over what is there of them."""
        if self._begun:
            store.check_no_links(self.out)
        else:
            store.create(self.out, self.facts)
        if self._was is not None:
            self.facts = store.commit(self.out, self.facts, self._was)
        self._begun, self._was = True, None
        mailbox.create(self.job.scratch, self.facts["uuid"], self.out)

    def run(self, stage: Stage) -> list[Report]:
        """Run a stage and keep the largest peak that a worker reported."""
        try:
            reports = self.executor.run(stage, self.job, self.listen)
        except Exception as error:
            self._check_alone(error)
            raise
        self.peak = max([self.peak, *(report.peak for report in reports)])
        return reports

    def _check_alone(self, error: Exception) -> None:
        """InUse if a stage failed because another process has gone on with this build, and tidied up."""
        try:
            store.check_current(self.out, self.facts)
        except InUse as overtaken:
            raise overtaken from error
        except StoreError:
            # Then the error of the stage says more.
            return

    def commit(self, **changes: Any) -> None:
        """Write changed facts: what they say holds from now on. InUse if another process has changed them."""
        self.facts = store.commit(self.out, self.facts | changes)

    def tidy(self) -> None:
        """Delete what only a build needs."""
        tidy(self.out, self.job.scratch, self.facts["uuid"])

    def abandon(self) -> None:
        """Delete all of a build that nothing was computed of yet."""
        mailbox.discard(self.job.scratch, self.facts["uuid"])
        store.drop(self.out)

    def _taken_over(self, found: dict[str, Any], scratch: str) -> tuple[dict[str, Any], str | None]:
        """The facts of an interrupted build as it goes on here; and the uuid that they had, if they differ from these.

        What was copied or moved gets a uuid of its own, and so a scratch of its own: the former one may be another
        build's. So does what goes on with another scratch: that of before is only known from the facts, and is not
        followed. Committed rounds lie in the store, so all that is lost is the round that was interrupted.
        """
        here, uid = store.identity(self.out), marks.checked(found.get("uuid"), self.out)
        scratch = store.identity(scratch)
        if found.get("place") == here and found.get("scratch") == scratch:
            return found, None
        inside = found.get("scratch") == f"{here}/scratch"
        if found.get("place") == here and not inside:
            warnings.warn(
                f"the scratch of this build lay in {found.get('scratch')}, which was not named again: the interrupted "
                f"round begins anew in {scratch}. Delete what is left there of {uid}, or stop and name it as scratch",
                DistnndWarning,
                stacklevel=5,
            )
        return found | {"uuid": uuid.uuid4().hex, "place": here, "scratch": scratch}, uid

    def _plan_of(self, found: dict[str, Any]) -> Plan:
        """The plan of an interrupted build: its layout as it was, if the workers of today can hold it."""
        layout = Layout(**found["layout"])
        return plan_as_it_was(self.spec, self.executor, extent_of(self.source), layout)

    def _first_facts(self, points: Points, scratch: str) -> dict[str, Any]:
        return {
            "uuid": uuid.uuid4().hex,
            "place": store.identity(self.out),
            "state": "building",
            "n": self.source.n,
            "d": self.source.d,
            "n_neighbors": self.spec.n_neighbors,
            "metric": self.spec.metric,
            "spec": self.spec.to_json(),
            "layout": asdict(self.plan.layout),
            "source": {"location": points.location, "fingerprint": points.fingerprint}
            | ({} if points.missing is None else {"missing": points.missing}),
            "scratch": store.identity(scratch),
            "rounds": [],
            "recall": None,
        }

    def _check_disk(self) -> None:
        for place, need in ((self.facts["scratch"], self.plan.disk), (self.out, self.plan.graph)):
            free = store.free_bytes(place)
            if free is not None and need > free:
                raise BudgetError(
                    f"{place} needs {format_bytes(need)}, but its disk has {format_bytes(free)} free; "
                    "name another place on a larger disk: scratch= for the exchange, out for the graph"
                )


def place_for(final: str, spec: BuildSpec, points: Points, resume: bool, overwrite: bool) -> str:
    """Where to build what is to be at `final`: there, or beside it if something there is to be replaced.

    SpecError if what is there may neither be gone on with nor replaced, or is not ours.
    """
    found = store.facts_of(final)
    if not overwrite:
        if found is not None:
            check_resumed(found, final, resume)
            check_all_there(found, final)
            check_same(found, spec, points, final)
        return final

    def goes_on(facts: dict[str, Any]) -> bool:
        check_all_there(facts, final)
        return resume and not differences(facts, spec) and facts["source"]["fingerprint"] == points.fingerprint

    place = outputs.beside(final)
    begun = store.facts_of(place) if place != final else None
    if begun is not None and goes_on(begun):
        return place
    if begun is not None:
        store.drop(place)
    if found is None or (found["state"] != "complete" and goes_on(found)):
        return final
    if place == final:
        store.drop(final)
    return place


def check_all_there(found: dict[str, Any], out: str) -> None:
    """StoreError if the facts of a graph lack what a build must know of it."""
    missing = [name for name in NEEDED if name not in found]
    if not isinstance(found.get("layout"), dict) or set(found["layout"]) - {one.name for one in fields(Layout)}:
        missing.append("a layout that this version knows")
    if missing:
        raise StoreError(
            f"{out}: its facts lack {', '.join(missing)}; restore them from a copy, or delete the store and build anew"
        )


def check_resumed(found: dict[str, Any], out: str, resume: bool) -> None:
    """SpecError if there is a graph that the user does not want to go on with."""
    if resume:
        return
    what = (
        "a finished graph; open it with open_graph"
        if found["state"] == "complete"
        else "an unfinished build; resume it"
    )
    raise SpecError(
        f"{out} holds {what}, delete it, choose another output, or pass overwrite=True (--overwrite) to replace it"
    )


def tidy(out: str, scratch: str, uid: str) -> None:
    """Delete what only a build needed of a graph that is finished; again and again, until all of it is gone."""
    mailbox.discard(scratch, uid)
    store.tidy(out)
    marks.sweep(out, os.path.dirname(scratch))


def check_same(found: dict[str, Any], spec: BuildSpec, points: Points, out: str) -> None:
    """SpecError unless the graph at `out` is one with these parameters, StoreError unless it is of these points."""
    said, whole = differences(found, spec), found["state"] == "complete"
    what, remedy = ("a finished graph", "open it with open_graph") if whole else ("an unfinished build", "use the same")
    if said:
        raise SpecError(
            f"{out} holds {what} with {said}; {remedy}, choose another output, or pass overwrite=True (--overwrite) to "
            "replace it"
        )
    if found["source"]["fingerprint"] != points.fingerprint:
        raise (SpecError if whole else StoreError)(
            f"{out} holds {what} of other points: those at {points.location} changed since it began, or are others; "
            "choose another output, or pass overwrite=True (--overwrite) to build anew in its place"
        )


def differences(found: dict[str, Any], spec: BuildSpec) -> str:
    """In which parameters the graph that is there differs from what is asked for; empty if in none.

    A finished graph that missed its target may be built anew with more rounds than it was allowed.
    """
    # Earlier versions read all points as the dtype that the layout names.
    now, was, free = spec.to_json(), {"dtype": read_as(found), **as_stored(found["spec"])}, set(FREE)
    if now["dtype"] is None:
        # What a dask array holds is known once it is computed.
        free.add("dtype")
    if found["state"] == "complete" and missed(found) and now["max_rounds"] > was["max_rounds"]:
        free.discard("max_rounds")
    differ = [name for name in now if name not in free and was.get(name) != now[name]]
    return ", ".join(f"{name}={was.get(name)!r} (now {now[name]!r})" for name in differ)


def missed(found: dict[str, Any]) -> bool:
    """Whether a finished graph has less than the recall that it was to have."""
    recall = found["recall"]
    return not recall["exact"] and recall["estimate"] < found["spec"]["target_recall"]
