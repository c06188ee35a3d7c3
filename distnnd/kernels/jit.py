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
def cache_dir() -> Path:
    """Directory of the compiled kernels: under NUMBA_CACHE_DIR, else the user's cache, else the temporary one."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    bases = [Path(cache_home) / "distnnd", Path(tempfile.gettempdir()) / f"distnnd-{os.getuid()}"]
    if config.CACHE_DIR:
        bases.insert(0, Path(config.CACHE_DIR))
    for base in bases:
        path = base / f"kernels-{source_digest()}"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(path, os.W_OK):
            return path
    return bases[-1]


def kernel(function: Callable[..., Any] | None = None, *, inline: bool = False) -> Callable[..., Any]:
    """Compile `function` the house's way; `inline=True` for small ones that live inside others' loops."""

    def compile_it(body: Callable[..., Any]) -> Callable[..., Any]:
        flags: dict[str, Any] = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
        if inline:
            return numba.njit(**flags, forceinline=True)(body)
        # Numba fixes a function's cache directory at decoration: lend it ours, then give back the user's.
        before = config.CACHE_DIR
        config.CACHE_DIR = str(cache_dir())
        try:
            return numba.njit(cache=True, **flags)(body)
        finally:
            config.CACHE_DIR = before

    return compile_it if function is None else compile_it(function)
