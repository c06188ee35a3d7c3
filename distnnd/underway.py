"""A build under way: its plan, its facts as they stand in the store, and how its stages are run."""

from __future__ import annotations

import uuid
from dataclasses import asdict, replace
from typing import Any

from .runtime.events import Listener
from .runtime.serial import Executor
from .sources import Points, extent_of, plan_as_it_was, plan_for
from .storage import graph as store
from .values.errors import BudgetError, SpecError, StoreError
from .values.plan import Job, Layout, Plan, Report, Stage
from .values.spec import BuildSpec, format_bytes

# Parameters that may differ when a build goes on: they do not change what a round computes.
FREE = ("memory_limit", "max_rounds")


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
        if found is None:
            self.plan = plan_for(spec, executor, extent_of(self.source))
            if layout is not None:
                self.plan = replace(self.plan, layout=layout)
            self.facts = self._first_facts(points, scratch)
            self._check_disk()
        else:
            self.facts = check_same(found, spec, points, out)
            self.plan = self._plan_of(found)
        layout = self.plan.layout
        place = f"{self.facts['scratch']}/{self.facts['uuid']}"
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

    def run(self, stage: Stage) -> list[Report]:
        """Run a stage and keep the largest peak that a worker reported."""
        reports = self.executor.run(stage, self.job, self.listen)
        self.peak = max([self.peak, *(report.peak for report in reports)])
        return reports

    def commit(self, **changes: Any) -> None:
        """Write changed facts: what they say holds from now on."""
        self.facts |= changes
        store.commit(self.out, self.facts)

    def _plan_of(self, found: dict[str, Any]) -> Plan:
        """The plan of an interrupted build: its layout as it was, if the workers of today can hold it."""
        layout = Layout(**found["layout"])
        return plan_as_it_was(self.spec, self.executor, extent_of(self.source), layout)

    def _first_facts(self, points: Points, scratch: str) -> dict[str, Any]:
        return {
            "uuid": uuid.uuid4().hex,
            "state": "building",
            "n": self.source.n,
            "d": self.source.d,
            "n_neighbors": self.spec.n_neighbors,
            "metric": self.spec.metric,
            "spec": self.spec.to_json(),
            "layout": asdict(self.plan.layout),
            "source": {"location": points.location, "fingerprint": points.fingerprint},
            "scratch": scratch,
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


def check_same(found: dict[str, Any], spec: BuildSpec, points: Points, out: str) -> dict[str, Any]:
    """The facts of an unfinished build, if it is of the same points with the same parameters; else SpecError."""
    now = spec.to_json()
    differ = [name for name in now if name not in FREE and found["spec"].get(name) != now[name]]
    if differ:
        said = ", ".join(f"{name}={found['spec'].get(name)!r} (now {now[name]!r})" for name in differ)
        raise SpecError(f"{out} holds an unfinished build with {said}; use the same, or another output")
    if found["source"]["fingerprint"] != points.fingerprint:
        raise StoreError(f"the points at {points.location} changed since the build at {out} began; build anew")
    return found
