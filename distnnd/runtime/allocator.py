"""What workers free stays with their process for the next task, instead of being fetched from the system page by page.

Dask starts worker processes with a low MALLOC_TRIM_THRESHOLD_, under which the GNU C library asks the system for every
array anew: a third of the CPU time of a build in many partitions. Tasks of a build follow one another and are of one
size, so while it goes on a worker keeps what it has: no more than a task takes, which the plan bounds.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import Any

import distributed

# Parameters of mallopt (malloc.h), and the environment variables that set them as a process starts.
TRIM, MMAP = -1, -3
VARIABLES = {TRIM: "MALLOC_TRIM_THRESHOLD_", MMAP: "MALLOC_MMAP_THRESHOLD_"}
# Bytes of the library's own thresholds before it has seen what a process does.
USUAL = 128 * 2**10
# Bytes that may lie free at the end of a heap, and the least of an array that the system is asked for; the largest
# that the library takes on 64 bits.
KEPT, ALONE = 64 * 2**20, 32 * 2**20
PLUGIN = "distnnd-keeps-memory"


def set_thresholds(trim: int, alone: int) -> bool:
    """Set both thresholds of malloc in this process, in bytes; whether its C library has them."""
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(TRIM, trim)) and bool(mallopt(MMAP, alone))
    return False


def expect_large_arrays() -> None:
    """Let the GNU C library raise its thresholds as it does itself once a process has freed an array of ALONE bytes.

    Else it learns of each larger array anew, and asks the system for all pages of it. Nothing is set that the process
    could not come to by itself; what its environment says goes on to hold. Elsewhere this does nothing.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        library.free.argtypes = [ctypes.c_void_p]
        # Never written to, so it costs no page; with its header it is no more than ALONE in whole pages.
        library.free(library.malloc(ALONE - 8192))


def give_back() -> None:
    """Free memory goes back to the system as it did before, and what is free now does so at once."""
    trim, alone = (int(os.environ.get(VARIABLES[parameter], USUAL)) for parameter in (TRIM, MMAP))
    if set_thresholds(trim, alone):
        ctypes.CDLL(None).malloc_trim(0)


class KeepsMemory(distributed.WorkerPlugin):  # type: ignore[misc]
    """A worker keeps freed memory for as long as the plugin is there."""

    def setup(self, worker: Any) -> None:
        """Set the thresholds of the worker's process."""
        set_thresholds(KEPT, ALONE)

    def teardown(self, worker: Any) -> None:
        """Set them back."""
        give_back()
