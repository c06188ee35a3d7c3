"""What every source of points shares, dense or sparse, in memory or not.

Rules of type, for all formats: float32, float16, uint8 and int8 are read as they are, in native byte order, and bool
and integers of 16 bits as float32, which holds each of them. Wider floats and integers are read as float64, and
distances are those of the float64 numbers. What is no real number is refused.
"""

from __future__ import annotations

import os
import re
import uuid
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from distnnd.storage.stores import refuse_secrets
from distnnd.values.errors import InputError, SpecError, StoreError

KEPT = tuple(np.dtype(name) for name in ("float64", "float32", "float16", "uint8", "int8"))
# Kinds of dtypes that hold real numbers: floats, whole numbers, truths.
NUMBERS = "fiub"
# Whole numbers beyond are rounded by float64 too.
LARGEST_WHOLE = 2**53
BLOCK_BYTES = 8 << 20
# Of points that any rows can be read from, in memory or in a flat file: so much at a time.
READ_BYTES = 4 << 20
WHOLE_DIGEST_BYTES, DIGEST = 64 << 20, 16

_REMEDIES = {
    "O": 'convert it first, for example points.astype("float64")',
    "c": "put both parts side by side, numpy.hstack([points.real, points.imag])",
    "M": 'take differences to one moment in a unit of your choice, then astype("float64")',
    "m": 'choose a unit, then astype("float64")',
    **dict.fromkeys(
        "SUT", "it is text: convert it first, into numbers, for example by an embedding; a path is given as str(points)"
    ),
}


@dataclass(frozen=True, eq=False)
class Opened(ABC):
    """Points, n rows of d values, that are read by ranges of rows: what dense and sparse ones have in common.

    `dtype` is what `read` gives, `chunk_rows` the rows that are cheapest to read together, `location` a name
    for messages. `token` is set for points in memory, which `keep_resident` keeps under it.
    """

    n: int
    d: int
    dtype: np.dtype[Any]
    chunk_rows: int
    location: str
    token: str | None

    @property
    def resident(self) -> bool:
        """Whether the points lie in this process's memory, so that no other process can open `spec`."""
        return self.token is not None

    @property
    def spec(self) -> dict[str, Any]:
        """A small JSON-able description, from which `distnnd.storage.source.reopen_source` opens the same."""
        return {"kind": "resident", "token": self.token, "pid": os.getpid()}

    def release(self) -> None:
        """Forget points in memory: their `spec` can be opened no more. Files and stores are left alone."""
        _residents.pop(self.token or "", None)

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """JSON-able facts, without the location, that differ once the points have changed."""

    def check_range(self, start: int, stop: int) -> None:
        """Raise SpecError unless rows [start, stop) lie within [0, n)."""
        if not 0 <= start <= stop <= self.n:
            raise SpecError(f"{self.location}: rows [{start}, {stop}) do not lie within [0, {self.n})")


class Source(Opened):
    """Dense points."""

    @abstractmethod
    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows [start, stop) in any layout and stored dtype; may be a view of someone's memory."""

    @property
    def lossless(self) -> bool:
        """Whether it is known that `read` rounds no number that is stored."""
        return False

    def as_stored(self, start: int, stop: int) -> NDArray[Any]:
        """Rows [start, stop) in the dtype in which they are stored, which `read` may round; not to be written to."""
        self.check_range(start, stop)
        return self._stored_rows(start, stop)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows [start, stop) as a C-contiguous (stop - start, d) array of `dtype` that the caller owns.

        A number beyond the range of `dtype` becomes inf, for the scan of the points to name.
        Raises SpecError for rows outside [0, n), StoreError for what is missing or damaged.
        """
        self.check_range(start, stop)
        if start == stop:
            return np.empty((0, self.d), self.dtype)
        return to_points(self._stored_rows(start, stop), self.dtype)


# --- rules of type and shape -----------------------------------------------------------------------------


def points_dtype(stored: np.dtype[Any], where: str, given: str = "points") -> np.dtype[Any]:
    """The dtype that points stored as `stored` are read as; raises InputError for what is no real number.

    given: what the remedy calls the array, in Python.
    """
    native = stored.newbyteorder("=")
    if native in KEPT:
        return native
    if stored.kind in NUMBERS:
        # All that 16 bits can say, a float32 can.
        return np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)
    fields = "numpy.lib.recfunctions.structured_to_unstructured(points)"
    remedy = fields if stored.names else _REMEDIES.get(stored.kind, 'try points.astype("float32")')
    raise InputError(f"{where}: points of dtype {stored} cannot be compared; {_called(remedy, given)}")


def points_shape(shape: tuple[int, ...], where: str, given: str = "points") -> tuple[int, int]:
    """(n, d) of a shape, as ints; raises InputError unless it has two axes and both are longer than 0.

    given: as for points_dtype.
    """
    if len(shape) == 2:
        n, d = int(shape[0]), int(shape[1])
        if n < 1 or d < 1:
            raise InputError(f"{where}: points of shape {(n, d)} have no {'columns' if n else 'rows'}")
        return n, d
    remedy = "one value is no set of points"
    if len(shape) == 1:
        remedy = "use points.reshape(-1, 1) if each value is a point, points.reshape(1, -1) if all are one point"
    elif len(shape) > 2:
        remedy = "use points.reshape(len(points), -1) to make each entry along the first axis a point"
    raise InputError(f"{where}: points need the shape (n, d), not {tuple(shape)}; {_called(remedy, given)}")


def _called(remedy: str, given: str) -> str:
    """The remedy, with the array called `given`."""
    return re.sub(r"\bpoints(?=[.)])", given, remedy)


def to_points(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`rows` as a C-contiguous array of `dtype` whose memory nobody else holds."""
    flags = rows.flags
    # An array that owns its data was made for this read: sources hand out slices of what others hold.
    if flags.owndata and flags.c_contiguous and flags.writeable and rows.dtype == dtype:
        return rows
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(rows, dtype=dtype, order="C")


def absolute(path: str | os.PathLike[str]) -> str:
    """The local path, ~ expanded, absolute, without a trailing slash; a URL stays one, save for file://.

    Raises SpecError for a URL that carries credentials.
    """
    text = os.fsdecode(path)
    refuse_secrets(text)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
        text = text if os.path.exists(text) else unquote(text)
    elif "://" in text:
        return text.rstrip("/")
    return os.path.abspath(os.path.expanduser(text))


def rows_within(target_bytes: int, row_bytes: int) -> int:
    """The largest power of two of rows that takes at most `target_bytes`; at least 1."""
    return 1 << max(0, (target_bytes // row_bytes).bit_length() - 1)


# --- points in memory ------------------------------------------------------------------------------------

_residents: dict[str, Opened] = {}
Kept = TypeVar("Kept", bound=Opened)


def keep_resident(source: Kept) -> Kept:
    """`source` with a token, kept for the life of this process or until `release`."""
    token = uuid.uuid4().hex
    kept = replace(source, token=token)
    _residents[token] = kept
    return kept


def find_resident(spec: dict[str, Any]) -> Opened:
    """The source that `keep_resident` kept; raises StoreError in any other process and after `release`."""
    token, pid = spec["token"], spec["pid"]
    if token in _residents:
        return _residents[token]
    if pid == os.getpid():
        raise StoreError("the points in memory have been released; open the source again")
    raise StoreError(
        f"the points lie in the memory of process {pid}, out of reach of process {os.getpid()}; write them "
        "to a path that every worker sees, as Zarr or .npy, and open that"
    )


# --- telling whether points have changed ------------------------------------------------------------------


def digest_of(array: NDArray[Any], at_once: int) -> dict[str, Any]:
    """A digest of all bytes of an array, whatever its strides; at_once: rows that may be copied together.

    BLAKE2b of blocks of 64 MiB, side by side on the processors that this process may use, and of their digests if there
    are several: about a second for each 0.9 GB and processor. Contiguous arrays are not copied.
    """
    rows = max(1, WHOLE_DIGEST_BYTES // max(1, array.nbytes // max(len(array), 1)))
    starts = range(0, max(len(array), 1), rows)
    workers = min(
        len(starts), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    with ThreadPoolExecutor(workers) as pool:
        digests = list(pool.map(lambda start: _digest(array[start : start + rows], at_once), starts))
    whole = digests[0] if len(digests) == 1 else blake2b(b"".join(digests), digest_size=DIGEST).digest()
    # Of large arrays, former versions took one row in so many.
    return {"row_stride": 1, "digest": whole.hex()}


def _digest(rows: NDArray[Any], at_once: int) -> bytes:
    digest = blake2b(digest_size=DIGEST)
    step = len(rows) if rows.flags.c_contiguous else max(1, at_once)
    for start in range(0, len(rows), max(1, step)):
        part = np.ascontiguousarray(rows[start : start + step])
        digest.update(part.reshape(-1).view(np.uint8).data)
    return digest.digest()
