"""The lanes of vectors that are kept, written down side by side, branch-free."""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

from .lanes import INTS, LANES, invoke, machine_has, mask_of, place

EIGHT = 8
_INT, _LONG, _SHORT = (ir.IntType(bits) for bits in (32, 64, 16))
_TABLE = "distnnd.kept_lanes"
# Whether the machine permutes lanes but cannot press them together: LLVM would move them one by one.
BY_TABLE = machine_has("avx2") and not machine_has("avx512f")


def write_down(call, kept, columns, used):
    """Write the kept lanes of each column's vector to its array from `used` on, and count them there.

    columns: (array type, array, vector of int32); each array has room for sixteen more, and may be of int16.
    """
    builder = call.builder
    narrow = ir.VectorType(_SHORT, LANES)
    vectors = [builder.trunc(v, narrow) if kind.dtype is types.int16 else v for kind, _, v in columns]
    for part in _parts(builder, kept, vectors):
        at = builder.load(used)
        for (array_type, array, _), packed in zip(columns, part.packed, strict=True):
            pointer = place(call.context, builder, array_type, array, at, packed.type)
            builder.store(packed, pointer, align=array_type.dtype.bitwidth // 8)
        builder.store(builder.add(at, builder.zext(part.count, _LONG)), used)


class _Part(NamedTuple):
    """Lanes of some vectors, those that are kept first: vectors of int32, and how many are kept."""

    packed: list
    count: Any


def _parts(builder, kept, vectors):
    """The kept lanes of vectors of sixteen: at once where the machine can, else half by half through a table."""
    if BY_TABLE:
        for half in (range(EIGHT), range(EIGHT, LANES)):
            yield _permuted(builder, *(_half_of(builder, vector, half) for vector in (kept, *vectors)))
        return
    packed = []
    for vector in vectors:
        # The machine may press only numbers of 32 bits together.
        wide = vector if vector.type == INTS else builder.zext(vector, INTS)
        name = "llvm.experimental.vector.compress.v16i32"
        pressed = invoke(builder, name, INTS, wide, kept, ir.Constant(INTS, ir.Undefined))
        packed.append(pressed if vector.type == INTS else builder.trunc(pressed, vector.type))
    yield _Part(packed, builder.ctpop(mask_of(builder, kept)))


def _half_of(builder, vector, lanes):
    """Those lanes of a vector of sixteen."""
    half = ir.Constant(ir.VectorType(_INT, EIGHT), list(lanes))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), half)


def _permuted(builder, kept, *vectors):
    """The kept lanes of vectors of eight: numbers of 32 bits are put in order, those of 16 byte by byte."""
    mask = builder.bitcast(kept, ir.IntType(EIGHT))
    packed = []
    for vector in vectors:
        if vector.type.element == _INT:
            lanes = builder.zext(_kept_lanes(builder, mask, 1), vector.type)
            packed.append(invoke(builder, "llvm.x86.avx2.permd", vector.type, vector, lanes))
        else:
            lanes = _kept_lanes(builder, mask, 2)
            moved = invoke(
                builder, "llvm.x86.ssse3.pshuf.b.128", lanes.type, builder.bitcast(vector, lanes.type), lanes
            )
            packed.append(builder.bitcast(moved, vector.type))
    return _Part(packed, builder.ctpop(mask))


def _kept_lanes(builder, mask, size):
    """For eight truths the bytes of the lanes, of `size` bytes each, that are true, ascending: 256 x 8 * size bytes."""
    name, module = f"{_TABLE}.{size}", builder.module
    if name not in module.globals:
        kind = ir.VectorType(ir.IntType(8), EIGHT * size)
        rows = []
        for truths in range(256):
            row = [size * lane + byte for lane in range(EIGHT) if truths >> lane & 1 for byte in range(size)]
            rows.append(ir.Constant(kind, row + [0] * (EIGHT * size - len(row))))
        table = ir.GlobalVariable(module, ir.ArrayType(kind, len(rows)), name)
        table.initializer, table.global_constant, table.linkage = ir.Constant(table.value_type, rows), True, "internal"
    place = builder.gep(module.globals[name], [_INT(0), builder.zext(mask, _LONG)])
    return builder.load(place, align=1)
