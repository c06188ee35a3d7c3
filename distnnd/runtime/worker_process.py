"""What worker processes of our own do as they start: leave Ctrl-C to the client, which ends them in good order."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by Dask in each new process: a terminal sends Ctrl-C to all processes of a group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
