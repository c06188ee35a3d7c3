"""What `progress` means, everywhere: bars in a terminal, plain lines elsewhere, silence, or a function of events."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from .runtime.events import BuildEnd, BuildStart, Compiling, Event, Listener, RoundEnd, StageStart, TaskEnd, silent
from .values.errors import SpecError, brief
from .values.spec import format_bytes

# A log that stands still for longer looks dead.
SILENCE = 30.0


def progress_for(value: Listener | bool | None) -> Listener:
    """The listener that is meant by `progress`.

    A function is taken as it is; True shows bars in a terminal and lines elsewhere, None bars in a terminal and nothing
    elsewhere, False nothing. SpecError for anything else.
    """
    if callable(value):
        return value
    if value is not None and not isinstance(value, bool):
        raise SpecError(f"progress is True, False, None or a function of one event, not {brief(value)}")
    if value is not False and sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        return Bars()
    return Lines() if value else silent


@contextmanager
def listening(value: Listener | bool | None) -> Iterator[Listener]:
    """`progress_for(value)`, which gives the terminal back whatever happens."""
    listener = progress_for(value)
    try:
        yield listener
    finally:
        if isinstance(listener, Bars):
            listener.stop()


# --- what is said of an event -----------------------------------------------------------------------------


def start_text(event: BuildStart) -> str:
    """Points, parameters and cut in one line, and what is there already."""
    head = str(event.plan).partition("\n")[0]
    return head if not event.rounds_done else f"{head}; going on after round {event.rounds_done}"


def round_text(event: RoundEnd) -> str:
    """The recall that a round measured, with its interval, and what solved it."""
    text = f"round {event.round}: recall {event.recall}, lists of {event.width}"
    return f"{text}; {event.engine}" if event.engine else text


def end_text(event: BuildEnd) -> str:
    """How long it took, and the largest worker."""
    if event.found:
        return "finished already, with the same points and options: left as it is"
    return f"done in {event.seconds:.1f} s, workers held {format_bytes(event.peak)} at most"


def stage_text(stage: str, number: int) -> str:
    """Name of a stage, and of its round if it has one."""
    return f"round {number}, {stage}" if number else stage


def text_of(event: Event) -> str | None:
    """The line that an event is worth by itself; None for stages and tasks, which are shown as they go."""
    if isinstance(event, Compiling):
        return "compiling kernels (once, about 30 s)"
    if isinstance(event, BuildStart):
        return start_text(event)
    if isinstance(event, RoundEnd):
        return round_text(event)
    return end_text(event) if isinstance(event, BuildEnd) else None


# --- listeners --------------------------------------------------------------------------------------------


class Lines:
    """A line for each stage when it is done, for each round, and for a long stage every half minute."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        """stream: where lines go, by default stderr as it is at each line."""
        self._stream = stream
        self._tasks = self._done = 0
        self._began = self._spoke = 0.0

    def __call__(self, event: Event) -> None:
        """Write what the event is worth."""
        if isinstance(event, StageStart):
            self._tasks, self._done = event.tasks, 0
            self._began = self._spoke = time.monotonic()
        elif isinstance(event, TaskEnd):
            self._count(event)
        elif (text := text_of(event)) is not None:
            self._write(text)

    def _count(self, event: TaskEnd) -> None:
        self._done += 1
        now = time.monotonic()
        if self._done < self._tasks and now - self._spoke < SILENCE:
            return
        self._spoke = now
        share = f"{self._done}" if self._done == self._tasks else f"{self._done} of {self._tasks}"
        unit = "task" if self._tasks == 1 else "tasks"
        self._write(f"{stage_text(event.stage, event.round)}: {share} {unit}, {now - self._began:.1f} s")

    def _write(self, text: str) -> None:
        print(text, file=self._stream or sys.stderr, flush=True)


class Bars:
    """A bar for the running stage that makes room for the next, under the lines of the finished rounds; needs rich."""

    def __init__(self, console: Any = None) -> None:
        """console: a rich Console, by default one on stderr."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(
            *columns, TimeElapsedColumn(), console=console or Console(stderr=True), transient=True
        )
        self._bar: Any = None

    def __call__(self, event: Event) -> None:
        """Move the bar, or print a line above it."""
        if isinstance(event, StageStart):
            self._replace(event)
        elif isinstance(event, TaskEnd) and self._bar is not None:
            self._progress.advance(self._bar)
        elif (text := text_of(event)) is not None:
            self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
        if isinstance(event, BuildEnd):
            self.stop()

    def stop(self) -> None:
        """Take the bar away and show the cursor again; more than once does no harm."""
        self._progress.stop()

    def _replace(self, event: StageStart) -> None:
        if self._bar is not None:
            self._progress.remove_task(self._bar)
        self._bar = self._progress.add_task(stage_text(event.stage, event.round), total=event.tasks)
        self._progress.start()
