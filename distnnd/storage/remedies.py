"""What to do with files and objects that are no points as they are: a line of Python that works for that very one."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from distnnd.storage.containers import kind_of

SNIFFED = 4096  # bytes at the head of a text file that tell whether its columns have names
LISTED = 5


# --- files -----------------------------------------------------------------------------------------------


def remedy_for_file(path: str) -> str | None:
    """What to do about a file by its suffix, as the rest of a sentence; None for a suffix that says nothing."""
    stem, suffix = os.path.splitext(path.lower())
    if suffix in (".gz", ".bz2", ".xz", ".zst") and os.path.splitext(stem)[1] in _TEXTS:
        suffix = os.path.splitext(stem)[1]
    if suffix not in _FILES:
        return None
    format_, line = _FILES[suffix]
    return f"it is {format_}: in Python give {line(path)}; for the command line, save that by numpy.save as .npy"


def _text(path: str) -> str:
    """How pandas reads a text of columns, by its first line."""
    separator, header = ",", True
    with suppress(OSError, UnicodeDecodeError, IndexError), open(path, encoding="utf-8") as file:
        first = file.read(SNIFFED).splitlines()[0]
        separator = next((one for one in ("\t", ";", ",", " ") if one in first), ",")
        header = not all(_is_number(cell) for cell in first.split(separator))
    options = "" if separator == "," else f", sep={separator!r}"
    return f"pandas.read_csv({path!r}{options}{'' if header else ', header=None'})"


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        float(cell)
        return True
    return not cell.strip()


def _hdf5(path: str) -> str:
    names = [name for name, ndim in _datasets(path) if ndim == 2] or ["name"]
    said = " or ".join(f"h5py.File({path!r})[{name!r}]" for name in names[:LISTED])
    return f"{said}, which is read by rows (numpy.asarray of it where it fits into memory)"


def _h5ad(path: str) -> str:
    names = [name for name, ndim in _datasets(path) if ndim == 2 and name.startswith("obsm/")]
    read = f"anndata.read_h5ad({path!r})"
    more = "".join(f", or {read}.obsm[{name.removeprefix('obsm/')!r}]" for name in names[:LISTED])
    return (
        f"{read}.X{more}; where it does not fit into memory, write it once as Zarr, {read[:-1]}, backed='r')"
        ".write_zarr('data.zarr'), and give component='X' of that"
    )


def _datasets(path: str) -> list[tuple[str, int]]:
    """(name, axes) of each dataset of an HDF5 file; none where h5py is not installed or cannot read it."""
    found: list[tuple[str, int]] = []

    def note(name: str, node: Any) -> None:
        if hasattr(node, "shape") and node.shape is not None:
            found.append((name, len(node.shape)))

    with suppress(ImportError, OSError):
        import h5py

        with h5py.File(path, "r") as file:
            file.visititems(note)
    return found


def remedy_for_npz(path: str) -> str:
    """What to do about an .npz file that numpy wrote, as the rest of a sentence."""
    names = [name for name, ndim in _members(path) if ndim == 2] or [name for name, _ in _members(path)] or ["name"]
    said = " or ".join(f"numpy.load({path!r})[{name!r}]" for name in names[:LISTED])
    return (
        f"holds arrays of numpy, and no matrix of scipy.sparse; in Python give {said}; for the command line, save that "
        "by numpy.save as .npy"
    )


def _members(path: str) -> Iterator[tuple[str, int]]:
    """(name, axes) of each array in an .npz file, by their headers alone."""
    with suppress(OSError, ValueError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with suppress(ValueError), archive.open(member) as file:
                first = np.lib.format.read_magic(file) == (1, 0)
                header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                yield member.removesuffix(".npy"), len(header(file)[0])


def _called(function: str, rest: str = "") -> Callable[[str], str]:
    return lambda path: f"{function}({path!r}){rest}"


_TEXTS = (".csv", ".tsv", ".txt", ".tab")
_FILES: dict[str, tuple[str, Callable[[str], str]]] = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".he5", ".loom"), ("an HDF5 file", _hdf5)),
    ".h5ad": ("an AnnData file", _h5ad),
    **dict.fromkeys(_TEXTS, ("a text", _text)),
    **dict.fromkeys((".parquet", ".pq"), ("a Parquet file", _called("pandas.read_parquet"))),
    **dict.fromkeys((".feather", ".arrow"), ("an Arrow file", _called("pandas.read_feather"))),
    **dict.fromkeys((".xlsx", ".xls"), ("a spreadsheet", _called("pandas.read_excel"))),
    ".mtx": ("a MatrixMarket file", _called("scipy.io.mmread", ".tocsr()")),
    ".mat": ("a Matlab file", _called("scipy.io.loadmat", "['name']")),
    ".nc": ("a netCDF file", _called("xarray.open_dataset", "['name']")),
    ".zip": ("an archive", lambda path: f"zarr.open({path!r}, mode='r') if it holds Zarr"),
    **dict.fromkeys((".pt", ".pth"), ("a file of torch", _called("torch.load"))),
    ".safetensors": ("a file of tensors", _called("safetensors.numpy.load_file", "['name']")),
    **dict.fromkeys((".pkl", ".pickle"), ("a pickle, which runs code as it is read", _called("pandas.read_pickle"))),
}


# --- objects ---------------------------------------------------------------------------------------------


def remedy_for_object(source: Any) -> str | None:
    """What to do about an object that holds points, but not as one array; None for one that nothing is known of."""
    for known in (_annotated, _backed, _named, _lazy_frame):
        if (remedy := known(source)) is not None:
            return remedy
    if isinstance(source, dict):
        return "give one of its values, or numpy.asarray(list(points.values()))"
    if hasattr(source, "__next__") or isinstance(source, set | frozenset | range):
        return "give an array, numpy.asarray(list(points))"
    return None


def _annotated(source: Any) -> str | None:
    """AnnData: several matrices in one object."""
    if not (hasattr(source, "obsm") and hasattr(source, "X")):
        return None
    more = "".join(f", points.obsm[{name!r}]" for name in list(source.obsm)[:LISTED])
    return f"give one of its matrices: points.X{more}"


def _backed(source: Any) -> str | None:
    """A sparse matrix of AnnData that stays in its HDF5 file."""
    if not hasattr(source, "to_memory"):
        return None
    return "give points.to_memory(); where that is too much, write the AnnData as Zarr, and give that and component='X'"


def _named(source: Any) -> str | None:
    """Files and data sets that hold arrays by name: of h5py, numpy, xarray."""
    if type(source) is dict or not (hasattr(source, "keys") and hasattr(source, "__getitem__")):
        return None
    names = [name for name in source if len(getattr(source[name], "shape", ())) == 2] or list(source)
    return "give one of its arrays: " + ", ".join(f"points[{name!r}]" for name in names[:LISTED]) if names else None


def _lazy_frame(source: Any) -> str | None:
    """A query of polars that has not run."""
    return "give points.collect()" if hasattr(source, "collect") and hasattr(source, "columns") else None


def refused(source: Any, others: str) -> str:
    """The sentence that refuses an object. others: what could be given instead, if nothing better is known."""
    remedy = remedy_for_object(source)
    return f"{kind_of(source)} is no source of points; {remedy or others}"
