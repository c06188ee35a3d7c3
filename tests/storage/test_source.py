"""Opening and reading points: every format gives the same rows, and says so when it cannot."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.storage import MemoryStore

from distnnd.storage.converted import converted
from distnnd.storage.source import Source, is_dask_array, open_source, reopen_source
from distnnd.values.errors import InputError, SpecError, StoreError

N, D = 53, 6
RANGES = [(0, N), (0, 1), (N - 1, N), (7, 8), (3, 41), (8, 16), (15, 33), (20, 20), (0, 0), (N, N)]

Array = NDArray[Any]
Maker = Callable[[Path, Array], Any]


@pytest.fixture
def points() -> Array:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


# --- makers: a folder and an array, to something that open_source takes ------------------------------------


def as_given(folder: Path, array: Array) -> Array:
    return array


def write_zarr(store: Any, array: Array, **layout: Any) -> zarr.Array:
    layout = {"chunks": (8, D), "dtype": array.dtype, "config": {"write_empty_chunks": True}} | layout
    made = zarr.create_array(store, shape=array.shape, **layout)
    made[:] = array
    return made


def as_zarr(folder: Path, array: Array, **layout: Any) -> Path:
    write_zarr(folder / "z.zarr", array, **layout)
    return folder / "z.zarr"


def as_zarr_v2(folder: Path, array: Array) -> Path:
    encoding = {"name": "v2", "separator": "/"}
    return as_zarr(folder, array, zarr_format=2, chunks=(9, 4), order="F", chunk_key_encoding=encoding)


def leading_index() -> dict[str, Any]:
    codec = ShardingCodec(chunk_shape=(4, D), codecs=[BytesCodec(), Crc32cCodec()], index_location="start")
    return {"chunks": (16, D), "serializer": codec, "compressors": None}


def as_group(folder: Path, array: Array) -> Path:
    group = zarr.create_group(folder / "group of everything.zarr")
    for name, part in (("points", array), ("other", array[:, :2]), ("flat", array[:, 0])):
        group.create_array(name, data=part, chunks=(8, *part.shape[1:]))
    return folder / "group of everything.zarr"


def as_memory_url(folder: Path, array: Array) -> str:
    write_zarr(url := f"memory:/{folder}/of points.zarr", array)
    return url


def as_npy(folder: Path, array: Array, name: str = "p.npy", version: tuple[int, int] = (1, 0)) -> Path:
    with open(folder / name, "wb") as file:
        np.lib.format.write_array(file, array, version=version)
    return folder / name


def as_bin(folder: Path, array: Array) -> Path:
    suffix = {"float32": "fbin", "uint8": "u8bin", "int8": "i8bin"}[str(array.dtype)]
    path = folder / f"base.{suffix}"
    path.write_bytes(struct.pack("<II", *array.shape) + array.tobytes())
    return path


def as_vecs(folder: Path, array: Array) -> Path:
    path = folder / ("base.fvecs" if array.dtype == np.float32 else "base.bvecs")
    path.write_bytes(b"".join(struct.pack("<i", array.shape[1]) + row.tobytes() for row in array))
    return path


def as_memmap(folder: Path, array: Array) -> Array:
    made = np.memmap(folder / "raw.bin", array.dtype, "w+", offset=24, shape=array.shape)
    made[:] = array
    return made


def as_strided_memmap(folder: Path, array: Array) -> Array:
    wide = np.zeros((2 * N + 3, D + 2), array.dtype)
    wide[3::2, 1:-1] = array[::-1]
    return np.load(as_npy(folder, wide), mmap_mode="r")[3::2, 1:-1][::-1]


def as_strided(folder: Path, array: Array) -> Array:
    wide = np.zeros((2 * N, 2 * D), array.dtype)
    view = wide[::-2, ::-2]
    view[:] = array
    return view


COPIED = "memmap, copy on write"
MAKERS: dict[str, Maker] = {
    "numpy": as_given,
    "numpy of Fortran order": lambda folder, array: np.asfortranarray(array),
    "numpy of negative strides": as_strided,
    "numpy, big-endian": lambda folder, array: array.astype(array.dtype.newbyteorder(">")),
    "memmap": as_memmap,
    "memmap, part of": as_strided_memmap,
    COPIED: lambda folder, array: np.load(as_npy(folder, array), mmap_mode="c"),
    "npy": as_npy,
    "npy 2.0": lambda folder, array: as_npy(folder, array, version=(2, 0)),
    "npy of Fortran order": lambda folder, array: as_npy(folder, np.asfortranarray(array)),
    "bin": as_bin,
    "vecs": as_vecs,
    "zarr": as_zarr,
    "zarr v2": as_zarr_v2,
    "zarr of one chunk": lambda folder, array: as_zarr(folder, array, chunks=(1000, D)),
    "zarr split along d": lambda folder, array: as_zarr(folder, array, chunks=(5, 4)),
    "zarr with shards": lambda folder, array: as_zarr(folder, array, chunks=(4, 3), shards=(16, D)),
    "zarr with an index at the head of its shards": lambda folder, array: as_zarr(folder, array, **leading_index()),
    "zarr group": as_group,
    "zarr.Group": lambda folder, array: zarr.open_group(as_group(folder, array), mode="r"),
    "zarr.Array": lambda folder, array: zarr.open_array(as_zarr(folder, array), mode="r"),
    "zarr.Array in memory": lambda folder, array: write_zarr(MemoryStore(), array),
    "memory://": as_memory_url,
    "file://": lambda folder, array: as_zarr(folder, array).as_uri(),
}
IN_MEMORY = {COPIED, *(name for name in MAKERS if name.startswith("numpy") or "memory" in name)}


@pytest.fixture(params=list(MAKERS))
def made(request: pytest.FixtureRequest, tmp_path: Path, points: Array) -> tuple[str, Any]:
    return request.param, MAKERS[request.param](tmp_path, points)


# --- reading -----------------------------------------------------------------------------------------------


def assert_reads(source: Source, expected: Array) -> None:
    assert (source.n, source.d) == expected.shape
    assert source.dtype == expected.dtype.newbyteorder("=")
    assert source.chunk_rows >= 1
    for start, stop in RANGES:
        rows = source.read(start, stop)
        np.testing.assert_array_equal(rows, expected[start:stop])
        assert (type(rows), rows.dtype) == (np.ndarray, source.dtype)
        assert rows.flags.c_contiguous
        assert rows.flags.writeable


def test_every_format_reads_the_same_rows_again_after_reopening(made: tuple[str, Any], points: Array) -> None:
    name, given_source = made
    source = open_source(given_source)
    assert_reads(source, points)
    assert source.resident == (name in IN_MEMORY)
    again = reopen_source(json.loads(json.dumps(source.spec)))
    assert_reads(again, points)
    assert (again.location, again.chunk_rows) == (source.location, source.chunk_rows)
    assert again.spec == source.spec
    assert json.loads(json.dumps(again.fingerprint())) == source.fingerprint()


@pytest.mark.parametrize(("make", "dtype"), [(as_bin, "uint8"), (as_bin, "int8"), (as_vecs, "uint8")])
def test_bytes_in_flat_files_stay_bytes(tmp_path: Path, points: Array, make: Maker, dtype: str) -> None:
    array = (points * 10 + 50).astype(dtype)
    assert_reads(open_source(make(tmp_path, array)), array)


def test_rows_that_were_read_belong_to_the_reader(made: tuple[str, Any], points: Array) -> None:
    source = open_source(made[1])
    source.read(0, N)[:] = 7
    np.testing.assert_array_equal(source.read(0, N), points)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (0, N + 1), (N + 1, N + 2)])
def test_rows_outside_are_refused(points: Array, start: int, stop: int) -> None:
    with pytest.raises(SpecError, match=rf"rows \[{start}, {stop}\) do not lie within \[0, {N}\)"):
        open_source(points).read(start, stop)


# --- types and shapes --------------------------------------------------------------------------------------


READ_AS = {name: name for name in ("float32", "float16", "uint8", "int8")}
READ_AS |= {">f4": "float32", ">f2": "float16"}
READ_AS |= dict.fromkeys(("i2", "u2", "?"), "float32")
READ_AS |= dict.fromkeys(("f8", ">f8", ">i4", "u4", "i8", "u8"), "float64")


@pytest.mark.parametrize("make", [as_given, as_npy, as_zarr, as_zarr_v2])
@pytest.mark.parametrize("stored", list(READ_AS))
def test_narrow_types_stay_and_others_become_floats_that_hold_them(tmp_path: Path, make: Maker, stored: str) -> None:
    array = np.random.default_rng(2).integers(0, 120, size=(N, D)).astype(stored)
    assert_reads(open_source(make(tmp_path, array)), array.astype(READ_AS[stored]))


def test_wide_values_are_rounded_on_request_and_overflow_to_inf_without_a_warning() -> None:
    array = np.array([[1e300, -1e300, 1 + 2**-30, np.nan]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = converted(open_source(array), "float32").read(0, 1)
    np.testing.assert_array_equal(rows, np.array([[np.inf, -np.inf, 1, np.nan]], np.float32))
    np.testing.assert_array_equal(open_source(array).read(0, 1), array)


REMEDIES = [
    ("O", r"points\.astype"),
    ("c8", r"points\.real"),
    ("M8[s]", "moment"),
    ("m8[s]", "unit"),
    ("S3", "embedding"),
    ("U3", "embedding"),
    ([("a", "f4"), ("b", "f4")], "structured_to_unstructured"),
    ("V4", r"points\.astype"),
]


@pytest.mark.parametrize(("dtype", "remedy"), REMEDIES)
def test_what_is_no_real_number_is_refused_by_name(dtype: Any, remedy: str) -> None:
    array = np.zeros((3, 2), dtype)
    with pytest.raises(InputError, match=remedy) as caught:
        open_source(array)
    assert str(array.dtype) in str(caught.value)


def test_zarr_of_complex_numbers_and_npy_of_objects_are_refused(tmp_path: Path, points: Array) -> None:
    with pytest.raises(InputError, match="complex64"):
        open_source(as_zarr(tmp_path, points.astype("c8")))
    with pytest.raises(InputError, match="object"):
        open_source(as_npy(tmp_path, points.astype(object)))


SHAPES = {
    (): "one value",
    (5,): r"not \(5,\).*reshape\(-1, 1\)",
    (5, 2, 3): r"not \(5, 2, 3\).*reshape\(len\(points\), -1\)",
    (0, 3): r"\(0, 3\) have no rows",
    (3, 0): r"\(3, 0\) have no columns",
}


@pytest.mark.parametrize("shape", list(SHAPES), ids=str)
def test_other_shapes_are_refused_with_a_remedy(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.float32)
    for given_source in (array, as_npy(tmp_path, array), zarr.create_array({}, data=array)):
        with pytest.raises(InputError, match=SHAPES[shape]):
            open_source(given_source)


def test_what_is_no_source_is_refused_by_its_type() -> None:
    class Lazy:
        def __dask_graph__(self) -> None: ...

    assert is_dask_array(Lazy())
    assert not is_dask_array(np.zeros((2, 2)))
    with pytest.raises(SpecError, match="spooled"):
        open_source(Lazy())
    with pytest.raises(SpecError, match=r"builtins\.object.*numpy\.asarray"):
        open_source(object())
    with pytest.raises(InputError, match=r"points\.filled"):
        open_source(np.ma.masked_invalid(np.ones((2, 2))))
    with pytest.raises(SpecError, match="is empty"):
        open_source("")


# --- paths -------------------------------------------------------------------------------------------------


def test_a_path_that_does_not_exist_names_what_is_near(tmp_path: Path, points: Array) -> None:
    (tmp_path / "data").mkdir()
    as_npy(tmp_path / "data", points, "embeddings.npy")
    with pytest.raises(SpecError, match=r"embedings\.npy does not exist.*did you mean 'embeddings\.npy'"):
        open_source(tmp_path / "data" / "embedings.npy")
    with pytest.raises(SpecError, match="holds no 'dat'; did you mean 'data'"):
        open_source(tmp_path / "dat" / "x" / "embeddings.npy")


def test_a_file_of_another_format_and_a_folder_of_none(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("1,2")
    with pytest.raises(SpecError, match=r"p\.csv.*\.fbin.*Zarr"):
        open_source(tmp_path / "p.csv")
    with pytest.raises(SpecError, match="holds no Zarr array or group"):
        open_source(tmp_path)


@pytest.mark.parametrize("url", ["s3://me:secret@bucket/x.zarr", "https://host/x.zarr?token=secret"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SpecError, match="environment") as caught:
        open_source(url)
    assert "secret" not in str(caught.value)


def test_a_url_that_nothing_opens() -> None:
    with pytest.raises(SpecError, match="nothing installed opens this"):
        open_source("gopher://host/x.zarr")


# --- other processes ---------------------------------------------------------------------------------------


def test_a_released_array_cannot_be_reopened_but_a_file_can(tmp_path: Path, points: Array) -> None:
    for given_source in (points, as_npy(tmp_path, points)):
        source = open_source(given_source)
        source.release()
        source.release()
        np.testing.assert_array_equal(source.read(0, 2), points[:2])
    assert_reads(reopen_source(source.spec), points)
    (released := open_source(points)).release()
    with pytest.raises(StoreError, match="released"):
        reopen_source(released.spec)


READS_IN_ANOTHER_PROCESS = """
import json, sys
from distnnd.storage.source import reopen_source
*files, resident = json.loads(sys.argv[1])
for spec in files:
    print(reopen_source(spec).read(5, 9).tobytes().hex())
try:
    reopen_source(resident)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_another_process_opens_what_lies_in_files_and_nothing_else(tmp_path: Path, points: Array) -> None:
    makes = (as_strided_memmap(tmp_path, points), as_zarr(tmp_path, points), points)
    specs = json.dumps([open_source(make).spec for make in makes])
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", READS_IN_ANOTHER_PROCESS, specs]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    *rows, refusal = run.stdout.splitlines()
    assert rows == [points[5:9].tobytes().hex()] * 2
    assert refusal.startswith("StoreError")
    assert f"memory of process {os.getpid()}" in refusal


def test_a_spec_that_leads_nowhere(tmp_path: Path, points: Array) -> None:
    npy, stored = open_source(as_npy(tmp_path, points)), open_source(as_zarr(tmp_path, points))
    os.rename(tmp_path / "p.npy", tmp_path / "q.npy")
    os.rename(tmp_path / "z.zarr", tmp_path / "y.zarr")
    with pytest.raises(StoreError, match=r"p\.npy"):
        reopen_source(npy.spec)
    with pytest.raises(StoreError, match=r"z\.zarr does not exist.*each worker must see"):
        reopen_source(stored.spec)
    for spec in ({}, {"kind": "other"}, {"kind": "zarr"}, {"kind": "mapped", "path": "/"}):
        with pytest.raises(StoreError, match="not the description of a source"):
            reopen_source(spec)


@pytest.mark.parametrize("make", [as_npy, as_bin, as_vecs])
def test_a_truncated_file_is_refused_when_opened_and_when_read(tmp_path: Path, points: Array, make: Maker) -> None:
    path = make(tmp_path, points)
    source = open_source(path)
    path.write_bytes(path.read_bytes()[:-3])
    np.testing.assert_array_equal(source.read(0, 10), points[:10])
    with pytest.raises(StoreError, match="truncated"):
        source.read(40, N)
    with pytest.raises(StoreError, match="truncated"):
        open_source(path)
    path.write_bytes(b"")
    for attempt in (lambda: source.read(0, 1), lambda: open_source(path)):
        with pytest.raises(StoreError, match=path.name):
            attempt()


def test_flat_files_that_do_not_fit_their_suffix(tmp_path: Path, points: Array) -> None:
    path = as_bin(tmp_path, points)
    wrong = path.rename(tmp_path / "base.u8bin")
    with pytest.raises(StoreError, match="is the suffix right"):
        open_source(wrong)
    vecs = as_vecs(tmp_path, points)
    content = bytearray(vecs.read_bytes())
    content[(4 + 4 * D) * 9] = 99
    vecs.write_bytes(content)
    with pytest.raises(StoreError, match="row 9 says it has 99 values, row 0 has 6"):
        open_source(vecs).read(5, 12)
    vecs.write_bytes(struct.pack("<i", -4) * 20)
    with pytest.raises(InputError, match="-4 values"):
        open_source(vecs)
