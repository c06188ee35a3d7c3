"""Ctrl-C and SIGTERM: the first lets a command tidy up for a while, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from .answer import say

# Seconds: less than the half minute that Kubernetes leaves between SIGTERM and SIGKILL.
GRACE = 10


class Stoppable:
    """While entered, a signal raises KeyboardInterrupt once; after GRACE seconds or a second signal the process ends.

    Tidying waits for tasks that are running, which may take minutes; what is committed is safe without it. After a
    signal the former handlers do not come back, so that the interpreter's own end is bounded too.
    """

    def __init__(self, farewell: Callable[[], int]) -> None:
        """farewell: says what there is to say and returns the exit code; called at most once from here."""
        self._farewell = farewell
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        # Only the main thread may set handlers; elsewhere there is nothing to stop.
        if threading.current_thread() is threading.main_thread():
            self._former = {which: signal.signal(which, self._first) for which in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *exception: object) -> None:
        for which, handler in self._former.items():
            signal.signal(which, handler)

    def _first(self, number: int, frame: FrameType | None) -> None:
        self._former = {}
        for which in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(which, self._second)
        signal.alarm(GRACE)
        say("distnnd: stopping; once more to leave at once")
        raise KeyboardInterrupt

    def _second(self, number: int, frame: FrameType | None) -> None:
        os._exit(self._farewell())
