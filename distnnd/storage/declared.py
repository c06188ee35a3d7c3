"""Points that a dask array promises: what it says of them before anything runs, and whether its chunks keep it.

Dask is not imported here. A dask array knows its shape, its dtype and an empty example of its chunks without computing
anything; chunks are looked at one by one, where they are computed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distnnd.storage.bits import pack, packed_columns
from distnnd.storage.containers import check_columns, columns_of, is_scipy_sparse, kind_of, kinds_of
from distnnd.storage.formats import NUMBERS, points_dtype, points_shape
from distnnd.values.errors import InputError, SpecError
from distnnd.values.points import Csr, canonical

WHERE = "<dask array>"


class Declared(NamedTuple):
    """What a dask array says: n rows of d numbers of the dtype `stored`, which are read as `dtype`.

    sparse: its chunks are matrices of scipy.sparse; packed: they are truths, and a row is packed to `d` bytes.
    """

    n: int
    d: int
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    sparse: bool
    packed: bool


def declared(source: Any, bits: bool) -> Declared:
    """What a dask collection says of its points; nothing is computed. bits: truths are to be packed.

    Raises InputError for a shape or dtype that is not that of points and for masked chunks, SpecError for chunks of
    unknown size and for collections that are no arrays; each says what to do.
    """
    # Of the type, as something delayed claims to have every attribute.
    kind = type(source)
    if hasattr(kind, "to_dask_array"):
        _refuse_frame(source)
    if not hasattr(kind, "chunks") or not hasattr(kind, "map_blocks"):
        raise SpecError(
            f"{kind_of(source)} does not say the shape of its points; make it an array, for example "
            "dask.array.from_delayed(points, shape=(n, d), dtype=dtype)"
        )
    sparse = _check_chunks_kind(source)
    dtype = points_dtype(source.dtype, WHERE)
    _check_known(source)
    n, d = points_shape(source.shape, WHERE)
    packed = bits and not sparse and source.dtype == np.bool_
    if packed:
        return Declared(n, packed_columns(d), np.dtype(np.uint8), source.dtype, sparse, packed)
    return Declared(n, d, np.dtype(np.float32) if sparse else dtype, source.dtype, sparse, packed)


def _refuse_frame(frame: Any) -> None:
    """A dask DataFrame does not know its number of rows before it is computed: say how to let it count them."""
    meta = frame._meta
    if not hasattr(meta, "columns"):
        raise SpecError(f"{kind_of(frame)} is one column; give a frame, points.to_frame().to_dask_array(lengths=True)")
    check_columns(kinds_of(columns_of(meta)), frame)
    cast = "" if meta.to_numpy().dtype.kind in NUMBERS else '.astype("float32")'
    raise SpecError(
        "a dask DataFrame does not know how many rows it has; give it as an array, which counts them: "
        f"points{cast}.to_dask_array(lengths=True)"
    )


def _check_chunks_kind(source: Any) -> bool:
    """Whether chunks are sparse matrices; raises unless they are these or numpy arrays, by the array's own example."""
    meta = getattr(source, "_meta", None)
    if isinstance(meta, np.ma.MaskedArray):
        raise InputError(f"{WHERE}: masked values have no distance; fill them, dask.array.ma.filled(points, value)")
    if meta is None or isinstance(meta, np.ndarray):
        return False
    if is_scipy_sparse(meta):
        return True
    raise InputError(
        f"{WHERE}: its chunks are said to be of the type {kind_of(meta).partition(' ')[2]}; make them numpy arrays, "
        f"for example points.map_blocks(numpy.asarray, dtype={str(source.dtype)!r}, meta=numpy.empty((0, 0)))"
    )


def _check_known(source: Any) -> None:
    if any(math.isnan(length) for length in source.shape):
        raise SpecError(
            f"{WHERE}: it does not know how many rows its chunks have, its shape is {source.shape}; call "
            "points.compute_chunk_sizes() first, which computes them once"
        )


# --- chunks as they come ---------------------------------------------------------------------------------


def kept_chunk(chunk: Any, place: tuple[int, ...], shape: tuple[int, ...], said: Declared) -> Any:
    """A chunk as it was promised: an array of the dtype `said.stored`, or a CSR matrix; InputError names one that is
    not. place: of the chunk among the others; shape: as the array says it."""
    where = f"{WHERE}: chunk {tuple(map(int, place))}"
    _check_shape(chunk, shape, where)
    if said.sparse:
        if not is_scipy_sparse(chunk):
            raise InputError(
                f"{where} is {kind_of(chunk)}, although the array says that its chunks are sparse; make all of them "
                "sparse, points.map_blocks(scipy.sparse.csr_matrix)"
            )
        points_dtype(chunk.dtype, where)
        return chunk.tocsr()
    if is_scipy_sparse(chunk):
        raise InputError(
            f"{where} is {kind_of(chunk)}, although the array says that its chunks are numpy arrays; say that they are "
            "sparse, points.map_blocks(scipy.sparse.csr_matrix, meta=scipy.sparse.csr_matrix((0, 0)))"
        )
    return _as_declared(_as_numbers(chunk, where), said.stored, where)


def packed_chunk(chunk: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Rows of truths, packed; also none of them."""
    return pack(chunk) if chunk.size else np.empty((len(chunk), packed_columns(chunk.shape[1])), np.uint8)


def _check_shape(chunk: Any, shape: tuple[int, ...], where: str) -> None:
    found = tuple(getattr(chunk, "shape", ()))
    if found != tuple(shape):
        remedy = "let the function that makes its chunks keep their shape"
        if len(found) == len(shape) and found[1:] == tuple(shape[1:]):
            remedy = "call points.compute_chunk_sizes() first, which counts the rows"
        raise InputError(f"{where} has the shape {found}, although the array says {tuple(shape)}; {remedy}")


def _as_numbers(chunk: Any, where: str) -> NDArray[Any]:
    if isinstance(chunk, np.ma.MaskedArray):
        if np.ma.is_masked(chunk):
            raise InputError(
                f"{where} has masked values, and these have no distance; fill them, dask.array.ma.filled(points, value)"
            )
        chunk = chunk.data
    array = np.asarray(chunk)
    points_dtype(array.dtype, where)
    return array


def _as_declared(chunk: NDArray[Any], stored: np.dtype[Any], where: str) -> NDArray[Any]:
    """The chunk in the dtype that the array says; InputError where that would change a value."""
    if chunk.dtype == stored:
        return chunk
    with np.errstate(all="ignore"):
        cast = chunk.astype(stored)
        same = (cast == chunk) | ((chunk != chunk) & (cast != cast))
    if not same.all():
        raise InputError(
            f"{where} holds {chunk.dtype}, although the array says {stored}, which does not hold all of its values; "
            f"say so, points.map_blocks(numpy.asarray, dtype={str(chunk.dtype)!r})"
        )
    return cast


def sparse_rows(matrix: Any) -> Csr:
    """The rows of a CSR matrix of scipy, in canonical form."""
    return canonical(Csr(matrix.indptr.astype(np.int64), matrix.indices, matrix.data, int(matrix.shape[1])))
