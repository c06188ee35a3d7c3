"""The executable specification: a stage is a function and a list, and this is the loop over it."""

from __future__ import annotations

from typing import Protocol

from ..values.errors import DistnndError, StageError
from ..values.plan import Job, Report, Stage, Task
from .events import Listener, StageStart, TaskEnd


class Machine(Protocol):
    """What a plan must know of who runs it.

    workers: how many; threads: of each; memory: bytes of each, None if unknown. An executor may also have share: of
    that memory what may be used (1); alone: threads of a task that runs alone (threads); named: whether the user named
    the threads (False).
    """

    workers: int
    threads: int
    memory: int | None


class Executor(Machine, Protocol):
    """Who runs stages. in_process: whether tasks see this process's memory."""

    in_process: bool

    def run(self, stage: Stage, job: Job, listen: Listener) -> list[Report]:
        """Run all tasks of the stage; reports in the order of its tasks."""
        ...


def failed(stage: Stage, task: Task, error: Exception) -> BaseException:
    """What is said of a task that failed by an error that is none of the project's.

    A signal that meets the call of a kernel comes out as a SystemError, mostly of another one; it is a
    KeyboardInterrupt all the same.
    """
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, KeyboardInterrupt):
        return cause
    return StageError(f"task {task.index} of stage {stage.name} failed: {error!r}")


class SerialExecutor:
    """One task after the other, here; a task may still use `threads` threads of its own."""

    workers = 1
    memory: int | None = None
    share = 1.0
    in_process = True

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def run(self, stage: Stage, job: Job, listen: Listener) -> list[Report]:
        """Run all tasks of the stage; reports in the order of its tasks. StageError as DaskExecutor.run."""
        if stage.tasks:
            listen(StageStart(stage.name, stage.tasks[0].round, len(stage.tasks)))
        reports = []
        for task in stage.tasks:
            try:
                reports.append(stage.run(job, task))
            except DistnndError:
                raise
            except Exception as error:
                raise failed(stage, task, error) from error
            listen(TaskEnd(stage.name, task.round, task.index, reports[-1]))
        return reports
