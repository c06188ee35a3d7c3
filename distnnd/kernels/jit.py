"""How every kernel is compiled: serial, without the GIL, and kept on disk under a digest of all kernel sources.

Numba looks only at a function's own file when it decides whether a compiled kernel on disk is still good.
Kernels call each other across files, so the directory of the cache carries a digest of every source that can
change machine code: an edit anywhere starts a new directory and no stale kernel can be served.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config

# Reassociation lets reductions run in vector lanes; NaN and inf keep their meaning.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Digest of the kernel sources, the metric values and numba's version: 16 hexadecimal digits."""
    here = Path(__file__).parent
    digest = hashlib.blake2b(numba.__version__.encode(), digest_size=8)
    for path in sorted([*here.glob("*.py"), here.parent / "values" / "metric.py"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def cache_dir() -> Path | None:
    """Directory of the compiled kernels: under NUMBA_CACHE_DIR, else the user's cache, else the temporary one.

    None where none of them can be written: kernels are then compiled anew in every process.
    """
    for base in _bases():
        path = base / f"kernels-{source_digest()}"
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            ours = path.stat().st_uid == os.getuid()
        except OSError:
            continue
        # Compiled kernels are run when they are loaded: never from a place that somebody else could fill.
        if ours and os.access(path, os.W_OK):
            return path
    return None


def _bases() -> list[Path]:
    """Where the cache may lie, the user's own choice first."""
    bases = [Path(config.CACHE_DIR)] if config.CACHE_DIR else []
    if "XDG_CACHE_HOME" in os.environ:
        bases.append(Path(os.environ["XDG_CACHE_HOME"]) / "distnnd")
    else:
        with suppress(RuntimeError):  # no home directory, as in some containers
            bases.append(Path.home() / ".cache" / "distnnd")
    with suppress(FileNotFoundError):  # nowhere to write at all
        bases.append(Path(tempfile.gettempdir()) / f"distnnd-{os.getuid()}")
    return bases


def kernel(function: Callable[..., Any] | None = None, *, inline: bool = False) -> Callable[..., Any]:
    """Compile `function` the house's way; `inline=True` for small ones that live inside others' loops."""

    def compile_it(body: Callable[..., Any]) -> Callable[..., Any]:
        flags: dict[str, Any] = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
        if inline:
            # They allocate nothing, so they need not count references to the arrays they are handed: an atomic
            # operation each time a field of a tuple is named costs more than most of these functions do otherwise.
            return numba.njit(**flags, forceinline=True, _nrt=False)(body)
        # Numba fixes a function's cache directory at decoration: lend it ours, then give back the user's.
        place, before = cache_dir(), config.CACHE_DIR
        if place is None:
            return numba.njit(**flags)(body)
        config.CACHE_DIR = str(place)
        try:
            return numba.njit(cache=True, **flags)(body)
        finally:
            config.CACHE_DIR = before

    return compile_it if function is None else compile_it(function)
