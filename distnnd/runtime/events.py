"""What happens while a build or another long call runs, as values that whoever called is told of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ..values.plan import Plan, Report
from ..values.recall import Recall

T = TypeVar("T")


@dataclass(frozen=True)
class BuildStart:
    """A build begins or goes on: its plan, and the rounds that are committed already."""

    plan: Plan
    rounds_done: int


@dataclass(frozen=True)
class Compiling:
    """Kernels are compiled now, and kept on disk: once a machine and kind of build, about half a minute."""


@dataclass(frozen=True)
class StageStart:
    """A stage begins, with so many tasks. round: 0 before the first."""

    stage: str
    round: int
    tasks: int


@dataclass(frozen=True)
class TaskEnd:
    """A task of the running stage is done."""

    stage: str
    round: int
    index: int
    report: Report


@dataclass(frozen=True)
class RoundEnd:
    """A round is committed. width: length of its lists; recall: as measured; engine: what solved its partitions."""

    round: int
    width: int
    recall: Recall
    engine: str = ""


@dataclass(frozen=True)
class BuildEnd:
    """The graph is published. reached: whether the recall that was asked for was measured; seconds: of this run."""

    recall: Recall
    reached: bool
    seconds: float
    peak: int


Event = BuildStart | Compiling | StageStart | TaskEnd | RoundEnd | BuildEnd
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that does nothing."""


def told(listen: Listener, stage: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items, `total` of them, each told as a task of `stage` when the next one is asked for."""
    listen(StageStart(stage, 0, total))
    for index, item in enumerate(items):
        yield item
        listen(TaskEnd(stage, 0, index, Report()))
