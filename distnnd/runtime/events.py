"""What happens while a build runs, as values; faces listen, and nothing below them knows that they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..values.plan import Plan, Report
from ..values.recall import Recall


@dataclass(frozen=True)
class BuildStart:
    """A build begins or goes on: its plan, and the rounds that are committed already."""

    plan: Plan
    rounds_done: int


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
    """The graph is published. reached: whether the recall that was asked for was measured; seconds: of this run.

    found: whether it was there already, finished by a former run.
    """

    recall: Recall
    reached: bool
    seconds: float
    peak: int
    found: bool = False


Event = BuildStart | StageStart | TaskEnd | RoundEnd | BuildEnd
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that does nothing."""
