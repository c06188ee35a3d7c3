"""How every kernel is compiled: serial, without the GIL, and kept on disk under a digest of all kernel sources.

Numba looks only at a function's own file when it decides whether a compiled kernel on disk is still good.
Kernels call each other across files, so the directory of the cache carries a digest of every source that can
change machine code: an edit anywhere starts a new directory and no stale kernel can be served. In it each compiled
specialisation has a file of its own, so that processes which compile side by side cannot mix up their answers.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
from numba.core import config, event
from numba.core.serialize import dumps

# Reassociation lets reductions run in vector lanes; NaN and inf keep their meaning.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Digest of the kernel sources, the values they compile in and numba's version: 16 hexadecimal digits."""
    here = Path(__file__).parent
    values = [here.parent / "values" / name for name in ("memory.py", "metric.py")]
    digest = hashlib.blake2b(numba.__version__.encode(), digest_size=8)
    for path in sorted([*here.glob("*.py"), *values]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def cache_dir() -> Path | None:
    """Directory of the compiled kernels: under NUMBA_CACHE_DIR, else the user's cache, else the temporary one.

    Compiled kernels are run when they are loaded, so a place that somebody else could fill is passed over, and the user
    is warned of it once. None where there is no place left: kernels are then compiled anew in every process.
    """
    refused = []
    for base in _bases():
        path = base / f"kernels-{source_digest()}"
        try:
            made = _made_private(base, path)
            why = _danger(base) or _danger(path, alone=True)
        except OSError:
            continue
        if why is None and os.access(path, os.W_OK):
            _warn_of(refused, path)
            return path
        if why is not None:
            refused.append(why)
        if made:
            with suppress(OSError):
                path.rmdir()
    _warn_of(refused, None)
    return None


def _made_private(base: Path, path: Path) -> bool:
    """Make the folder of the kernels, and the one above if it is ours to make, for this user alone; whether it was."""
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        base.mkdir(mode=0o700, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _danger(path: Path, alone: bool = False) -> str | None:
    """Why somebody else could put files below a folder, None if nobody can; alone: if they could write into it.

    In a folder that others may write to, any link may be theirs; unless it is sticky, they may replace what is in it.
    """
    users = (os.getuid(), 0)
    for place in (path, *path.parents):
        if place.is_symlink() and place.lstat().st_uid not in users and _open_to_others(place.parent):
            return f"{place} is a link that another user made"
    if alone and path.is_symlink():
        return f"{path} is a link"
    status = path.stat()
    if status.st_uid not in users[: 1 if alone else 2]:
        return f"{path} belongs to another user"
    if _open_to_others(path) and (alone or not status.st_mode & stat.S_ISVTX):
        return f"others may write to {path}"
    return None


def _open_to_others(folder: Path) -> bool:
    return bool(folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _warn_of(refused: list[str], instead: Path | None) -> None:
    if refused:
        where = f"they are kept in {instead}" if instead else "they are compiled in each process"
        warnings.warn(
            f"compiled kernels are not taken from where others could have put them ({'; '.join(refused)}): {where}. "
            "Make that folder writable for you alone (chmod 700), or name another one by NUMBA_CACHE_DIR",
            stacklevel=2,
        )


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


class OneFileEach:
    """The compiled specialisations of one kernel on disk, each in a file named after what it was compiled for.

    It stands where numba keeps an index of numbered files, which each process reads, changes and writes back: of two
    that do so at once one loses its entry, and its number may lead to the other's code, compiled for other types.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._start = os.path.join(folder, name)
        self.unsaved = 0

    def _place(self, key: Any) -> str:
        return f"{self._start}.{hashlib.blake2b(repr(key).encode(), digest_size=12).hexdigest()}.kernel"

    def load(self, key: Any) -> Any:
        """What was saved under `key`; None if nothing was, or if it is damaged: it is compiled and saved again then."""
        if _has_function(key):
            return None
        # Whatever a damaged file makes of the unpickling.
        with suppress(Exception), open(self._place(key), "rb") as file:
            found, data = pickle.load(file)
            return data if found == key else None
        return None

    def save(self, key: Any, data: Any) -> None:
        """Keep `data` under `key`; on a full disk, say, the kernel serves this process alone."""
        if _has_function(key):
            return
        place = self._place(key)
        new = f"{place}.{uuid.uuid4().hex[:16]}"
        try:
            with open(new, "wb") as file:
                file.write(dumps((key, data)))
            os.replace(new, place)
        except OSError:
            self.unsaved += 1
            with suppress(OSError):
                os.unlink(new)


def _has_function(key: Any) -> bool:
    """Whether a kernel was compiled for a function that was handed in: the user's own, which is never stored.

    It could not be found again either: its type is another one in every process.
    """
    return "CPUDispatcher(" in repr(key)


# Every kernel that was made in this process, whether it was called or not.
_made: list[Any] = []


def compiled_kernels() -> list[Any]:
    """Numba's dispatchers of all kernels that were imported so far; none where the JIT is disabled."""
    return list(_made)


class _Compiling(event.Listener):  # type: ignore[misc]
    """Tells once of a kernel that is compiled in this process, or of another process that is to compile some."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell: Callable[[], None] | None = tell

    def tell(self) -> None:
        """Tell, if it was not told yet."""
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()

    def on_start(self, event: Any) -> None:
        """Numba begins to compile something: the user's own functions are not our concern."""
        if self._tell is not None and any(event.data["dispatcher"] is made for made in _made):
            self.tell()

    def on_end(self, event: Any) -> None:
        """It has ended."""


_listeners: list[_Compiling] = []


@contextmanager
def told_of_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` when a kernel is compiled meanwhile, once, before that begins."""
    listener = _Compiling(tell)
    _listeners.append(listener)
    event.register("numba:compile", listener)
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)
        _listeners.remove(listener)


def tell_of_compiling() -> None:
    """Tell whoever waits that another process is about to compile kernels for this one."""
    for listener in list(_listeners):
        listener.tell()


class Tally(NamedTuple):
    """What became of the kernels that this process has called, counted by specialisations to argument types.

    found: loaded from disk; compiled: kernels with a place on disk; inlined: small ones, as parts of those;
    unsaved: compiled, but their place could not be written.
    """

    found: int
    compiled: int
    inlined: int
    unsaved: int

    def since(self, before: Tally) -> Tally:
        """What was added after `before`."""
        return Tally(*(now - then for now, then in zip(self, before, strict=True)))


def tally() -> Tally:
    """Kernels found and compiled in this process so far."""
    found = compiled = inlined = unsaved = 0
    for made in _made:
        found += sum(made.stats.cache_hits.values())
        misses = sum(made.stats.cache_misses.values())
        files = getattr(made._cache, "_cache_file", None)
        compiled, inlined = compiled + misses * (files is not None), inlined + misses * (files is None)
        unsaved += getattr(files, "unsaved", 0)
    return Tally(found, compiled, inlined, unsaved)


def kernel(
    function: Callable[..., Any] | None = None, *, inline: bool = False, exact: bool = False
) -> Callable[..., Any]:
    """Compile `function` the house's way; `inline=True` for small ones that live inside others' loops.

    exact: floats are rounded as they are written down, in that order, so that the answer is the same on every machine.
    """

    def compile_it(body: Callable[..., Any]) -> Callable[..., Any]:
        flags: dict[str, Any] = {"nogil": True, "fastmath": False if exact else FASTMATH, "error_model": "numpy"}
        # Small ones allocate nothing, so they need not count references to the arrays they are handed: an atomic
        # operation each time a field of a tuple is named costs more than most of these functions do otherwise.
        made = numba.njit(**flags, forceinline=True, _nrt=False)(body) if inline else _kept(body, flags)
        # With the JIT disabled it is a plain function, of which there is nothing to count.
        if hasattr(made, "stats"):
            _made.append(made)
        return made

    return compile_it if function is None else compile_it(function)


def _kept(body: Callable[..., Any], flags: dict[str, Any]) -> Any:
    """The compiled function, kept on disk if there is a place."""
    # Numba fixes a function's cache directory at decoration: lend it ours, then give back the user's.
    place, before = cache_dir(), config.CACHE_DIR
    if place is None:
        return numba.njit(**flags)(body)
    config.CACHE_DIR = str(place)
    try:
        made = numba.njit(cache=True, **flags)(body)
    finally:
        config.CACHE_DIR = before
    # A kernel from elsewhere is not in the digest; numba's own files know when its source has changed. Without the JIT,
    # or if numba no longer has these names, there is nothing to replace.
    with suppress(AttributeError):
        cache = made._cache
        if Path(body.__code__.co_filename).parent == Path(__file__).parent:
            cache._cache_file = OneFileEach(cache.cache_path, cache._impl.filename_base)
    return made
