"""Memory that this process has held, as the system wrote it down."""

from __future__ import annotations

import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path


def peak_memory() -> int:
    """Bytes that this process has held at most, since it began or since they were last forgotten."""
    with suppress(OSError):
        # Not ru_maxrss, which begins with what the process held that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Let the peak of this process begin anew, where the system can."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
