"""What happens during a build or another long call, as values that are passed to `progress`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ..values.plan import Plan, Report
from ..values.recall import Recall

T = TypeVar("T")


@dataclass(frozen=True)
class BuildStart:
    """A build begins or continues: its plan, and how many rounds are committed already."""

    plan: Plan
    rounds_done: int


@dataclass(frozen=True)
class Compiling:
    """Kernels are being compiled, about half a minute; they are kept on disk for the next time."""


@dataclass(frozen=True)
class StageStart:
    """A stage begins. tasks: how many it has; round: 0 before the first round."""

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
    """The graph is published. reached: whether the recall that was asked for was measured; seconds: of this run.

    found: whether it was there already, finished by a former run.
    """

    recall: Recall
    reached: bool
    seconds: float
    peak: int
    found: bool = False


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
