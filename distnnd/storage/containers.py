"""Points in containers of other libraries: frames, tensors, datasets in files, lists of rows.

They are told by what they can do, and no library is imported for them. What fits into memory as one array becomes one;
what lies in a file and is read by slices, like a dataset of h5py, is read by slices.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distnnd.values.errors import InputError, SpecError, StoreError

from .formats import BLOCK_BYTES, NUMBERS, Source, keep_resident, points_dtype, points_shape, rows_within

COLUMNS_NAMED = 5
# Libraries for files in formats like netCDF must not be called by two threads at once.
_one_reader = threading.Lock()


def kind_of(source: object) -> str:
    """The type of an object, for messages, with its article."""
    name = name_of(source)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def name_of(source: object) -> str:
    """The type of an object, for messages."""
    return f"{type(source).__module__}.{type(source).__qualname__}"


def is_xarray(source: object) -> bool:
    """Whether `source` is a DataArray or a Dataset of xarray: either may be lazy or not."""
    return type(source).__module__.partition(".")[0] == "xarray"


def is_scipy_sparse(source: object) -> bool:
    """Whether `source` is a sparse matrix or array of scipy, or of a class that is derived from one."""
    bases = type(source).__mro__
    return hasattr(source, "tocsr") and any(base.__module__.startswith("scipy.sparse") for base in bases)


def is_frame(source: object) -> bool:
    """Whether `source` is a table in memory: of pandas or of polars, or a Table of pyarrow."""
    columns = hasattr(source, "columns") and hasattr(source, "to_numpy") and hasattr(source, "dtypes")
    return columns or _is_arrow_table(source)


def _is_arrow_table(source: object) -> bool:
    return type(source).__module__.startswith("pyarrow") and hasattr(source, "column_names")


def is_read_by_rows(source: object) -> bool:
    """Whether `source` says its shape and a dtype of numpy, and gives rows by slices, as a dataset of h5py does."""
    shape, dtype = getattr(source, "shape", None), getattr(source, "dtype", None)
    described = isinstance(shape, tuple) and isinstance(dtype, np.dtype) and hasattr(type(source), "__getitem__")
    # What AnnData keeps in a file gives sparse rows.
    return described and not hasattr(source, "to_numpy") and not hasattr(source, "to_memory")


def array_of(source: Any) -> NDArray[Any] | None:
    """The values of a list of rows, frame, tensor or anything else that numpy can read as an array; None for others.

    Raises InputError for rows of different lengths and columns that hold no numbers, SpecError for what says that it
    is an array, but cannot be read as one here.
    """
    if isinstance(source, list | tuple):
        return _array_of_rows(source)
    if is_frame(source):
        return _array_of_frame(source)
    if type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach"):
        return _array_of_tensor(source)
    if hasattr(source, "__array__") or hasattr(source, "__array_interface__") or _is_buffer(source):
        return _converted(source, "write it to an .npy file or as Zarr, and give the path")
    return None


def _is_buffer(source: Any) -> bool:
    if isinstance(source, bytes | bytearray):
        return False
    try:
        with memoryview(source):
            return True
    except TypeError:
        return False


def _converted(source: Any, remedy: str) -> NDArray[Any]:
    try:
        return np.asarray(source)
    except Exception as error:
        said = " ".join(str(error).split())
        raise SpecError(f"{kind_of(source)} cannot be read by numpy.asarray(points): {said}; {remedy}") from error


# --- lists of rows ---------------------------------------------------------------------------------------


def _array_of_rows(rows: list[Any] | tuple[Any, ...]) -> NDArray[Any]:
    if not rows:
        raise InputError(f"{kind_of(rows)} without rows holds no points")
    first = rows[0]
    if is_scipy_sparse(first):
        raise SpecError("a list of sparse rows is no source of points; put them together, scipy.sparse.vstack(points)")
    if hasattr(first, "__dask_graph__"):
        raise SpecError(
            "a list of dask collections is no source of points; put them together, dask.array.concatenate(points)"
        )
    if isinstance(first, str | os.PathLike):
        raise SpecError(f"a list of texts is no source of points; give one path, for example {os.fspath(first)!r}")
    lengths = {_length(row) for row in rows}
    if len(lengths) > 1:
        wanted = _length(first)
        row = next(i for i, one in enumerate(rows) if _length(one) != wanted)
        raise InputError(
            f"row {row} of the list has {_length(rows[row])} values and row 0 has {wanted}; rows of points are of one "
            "length: cut or fill them"
        )
    return _converted(rows, "give one array of numbers, numpy.asarray(points)")


def _length(row: Any) -> str:
    try:
        return str(len(row))
    except TypeError:
        return "no"


# --- frames ----------------------------------------------------------------------------------------------


def _array_of_frame(frame: Any) -> NDArray[Any]:
    """The columns of a frame side by side, in the narrowest dtype that holds them all; its index is not looked at."""
    dtypes = frame.schema.types if _is_arrow_table(frame) else list(frame.dtypes)
    if len(set(map(str, dtypes))) == 1 and hasattr(frame, "to_numpy") and not hasattr(dtypes[0], "fill_value"):
        whole: NDArray[Any] = frame.to_numpy()
        if whole.ndim == 2 and whole.dtype.kind in NUMBERS:
            return whole
    columns = columns_of(frame)
    kinds = kinds_of(columns)
    check_columns(kinds, frame)
    if not columns:
        raise InputError(f"{kind_of(frame)} without columns holds no points")
    array = np.empty((len(frame), len(columns)), np.result_type(*kinds.values()))
    for place, (_, column) in enumerate(columns):
        array[:, place] = column()
    return array


def columns_of(frame: Any) -> list[tuple[str, Callable[[], NDArray[Any]]]]:
    """(name, what gives its values) of each column; names are told apart by place where they come twice."""
    names = list(map(str, frame.column_names if _is_arrow_table(frame) else frame.columns))
    if len(set(names)) < len(names):
        names = [f"{name} (column {place})" for place, name in enumerate(names)]

    def values(place: int) -> Callable[[], NDArray[Any]]:
        if hasattr(frame, "iloc"):
            return lambda: _series_values(frame.iloc[:, place])
        if hasattr(frame, "to_series"):
            return lambda: np.asarray(frame.to_series(place).to_numpy())
        return lambda: np.asarray(frame.column(place).to_numpy())

    return [(name, values(place)) for place, name in enumerate(names)]


def _series_values(series: Any) -> NDArray[Any]:
    values = np.asarray(series.to_numpy())
    if values.dtype.kind not in NUMBERS and getattr(series.dtype, "kind", "O") in NUMBERS:
        # Numbers of which some are missing come as objects; as NaN they are refused with their row and column.
        return np.asarray(series.to_numpy(dtype="float64", na_value=np.nan))
    return values


def kinds_of(columns: list[tuple[str, Callable[[], NDArray[Any]]]]) -> dict[str, np.dtype[Any]]:
    """The dtype of each column's values, by name; object for one whose cells hold vectors."""
    values = ((name, column()) for name, column in columns)
    return {name: one.dtype if one.ndim == 1 else np.dtype(object) for name, one in values}


def check_columns(kinds: dict[str, np.dtype[Any]], frame: Any) -> None:
    """InputError that names the columns of a frame, with their dtypes, that are no numbers."""
    others = {name: kind for name, kind in kinds.items() if kind.kind not in NUMBERS}
    if not others:
        return
    names = list(others)
    said = ", ".join(f"{name!r} ({others[name]})" for name in names[:COLUMNS_NAMED])
    more = f" and {len(names) - COLUMNS_NAMED} more" if len(names) > COLUMNS_NAMED else ""
    rest = f"drop what is no number, points.drop({'columns=' * hasattr(frame, 'iloc')}{names[:COLUMNS_NAMED]}), or "
    if len(names) == len(kinds):
        rest = ""
    raise InputError(
        f"{kind_of(frame)}: columns must hold numbers, but there is {said}{more}; {rest}turn it into numbers first; if "
        f"each cell holds a whole vector, give numpy.stack(points[{names[0]!r}].to_numpy())"
    )


# --- tensors ---------------------------------------------------------------------------------------------


def _array_of_tensor(tensor: Any) -> NDArray[Any]:
    if str(tensor.layout) != "torch.strided":
        raise SpecError(f"a torch tensor of the layout {tensor.layout} is not read here; give points.to_dense()")
    return _converted(
        tensor.detach().cpu(), "give numbers that numpy has, numpy.asarray(points.detach().cpu().float())"
    )


# --- datasets in files -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RowsSource(Source):
    """Points in an object that this process reads by slices of rows: a dataset of h5py, a variable of netCDF."""

    rows: Any

    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        try:
            with _one_reader:
                rows = self.rows[start:stop]
        except Exception as error:
            raise StoreError(
                f"{self.location}: rows [{start}, {stop}) cannot be read ({error}); keep its file open until the end"
            ) from error
        if isinstance(rows, np.ma.MaskedArray):
            if np.ma.is_masked(rows):
                row, column = np.argwhere(np.ma.getmaskarray(rows))[0].tolist()
                raise InputError(
                    f"{self.location}: row {start + row}, column {column} is masked, and has no distance; fill it "
                    "first, numpy.ma.filled(points[:], value)"
                )
            rows = rows.data
        return np.asarray(rows)

    def fingerprint(self) -> dict[str, Any]:
        """Layout, and the size and time of the file of an open dataset of h5py, or else a digest of all rows."""
        layout = {"kind": "rows", "shape": [self.n, self.d], "dtype": self.rows.dtype.str}
        file = getattr(self.rows, "file", None)
        name = getattr(file, "filename", None)
        if getattr(file, "mode", None) == "r" and isinstance(name, str) and os.path.isfile(name):
            status = os.stat(name)
            return layout | {"name": str(self.rows.name), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        digest = blake2b(digest_size=16)
        for start in range(0, self.n, self.chunk_rows):
            digest.update(np.ascontiguousarray(self._stored_rows(start, min(self.n, start + self.chunk_rows))).data)
        return layout | {"digest": digest.hexdigest()}


def open_rows(source: Any) -> Source:
    """The source of an object that is_read_by_rows; raises InputError for a shape or dtype that is not of points."""
    where = f"<{name_of(source)}>"
    given = "numpy.asarray(points)"
    dtype = points_dtype(source.dtype, where, given)
    n, d = points_shape(source.shape, where, given)
    rows = rows_within(BLOCK_BYTES, d * source.dtype.itemsize)
    chunks = getattr(source, "chunks", None)
    if isinstance(chunks, tuple) and len(chunks) == 2 and isinstance(chunks[0], int):
        # Whole chunks, each of which is read and decompressed once.
        rows = max(1, rows // chunks[0]) * chunks[0]
    return keep_resident(RowsSource(n, d, dtype, rows, where, None, source))
