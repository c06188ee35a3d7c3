"""Inner products of rows of small whole numbers where they lie: one with many, or pair by pair; exact."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .byte_lanes import (
    BYTE,
    INT,
    LONG,
    OFFSET,
    ROWS,
    WIDE,
    add_products,
    all_of,
    masked,
    sums_over,
    words_left,
    words_of,
)
from .jit import kernel
from .lanes import LANES, splat, sum_up, written
from .rows import WORD

# Words of bytes that count as signed become words of bytes that count OFFSET higher, as unsigned.
_FLIP = all_of(-0x7F7F7F80, WIDE)
_NOTHING = all_of(0, WIDE)


@intrinsic
def _dots_wide(typingctx, values, rows, first, query, start, products):
    """products[first + l] = start + query . values[rows[first + l]] for as many l as WIDE has lanes.

    query: as long as whole vectors of 64 columns.
    """
    signature = types.void(values, rows, types.intp, query, types.int32, products)

    @written
    def code(call):
        builder, first, start = call.builder, call.arguments[2], call.arguments[4]
        width = call.columns(0)
        ids = [builder.load(call.place(1, builder.add(first, LONG(i)), INT)) for i in range(WIDE.count)]
        left = [builder.mul(builder.sext(row, LONG), width) for row in ids]

        def add(at, sums):
            words = words_of(builder, builder.load(call.place(3, at, WIDE), align=1))
            inside, ended = words_left(builder, width, at, WIDE), []
            for total, row in zip(sums, left, strict=True):
                base = masked(builder, call.place(0, builder.add(row, at), WIDE), inside, _NOTHING)
                ended.append(add_products(builder, total, builder.xor(base, _FLIP), words))
            return ended

        sums = sums_over(builder, sum_up(builder, width, WORD * WIDE.count, [_NOTHING] * WIDE.count, add))
        builder.store(builder.add(sums, splat(builder, start, WIDE)), call.place(5, first, WIDE), align=4)

    return signature, code


@intrinsic
def _pair_dots_wide(typingctx, values, ones, others, first, columns, products):
    """products[first + l] = values[ones[first + l]] . values[others[first + l]] for as many l as WIDE has lanes.

    The leading `columns` take part, and those of the others count 128 higher.
    """
    signature = types.void(values, ones, others, *(types.intp,) * 2, products)

    @written
    def code(call):
        builder, (first, columns) = call.builder, call.arguments[3:5]
        step = WORD * WIDE.count
        width = call.columns(0)
        whole = builder.and_(columns, LONG(-step))
        left = builder.trunc(builder.sub(columns, whole), INT)
        bytes_of = ir.VectorType(BYTE, step)
        taken = builder.icmp_unsigned(
            "<", ir.Constant(bytes_of, list(range(step))), splat(builder, builder.trunc(left, BYTE), bytes_of)
        )
        taken = builder.bitcast(builder.sext(taken, bytes_of), WIDE)
        inside = builder.icmp_signed("!=", taken, _NOTHING)
        sums = cgutils.alloca_once(builder, WIDE, WIDE.count)
        total = cgutils.alloca_once(builder, WIDE)

        def row(i, pair):
            number = builder.load(call.place(i, builder.add(first, pair), INT))
            return builder.mul(builder.sext(number, LONG), width)

        def add(one, other):
            words = words_of(builder, one)
            builder.store(add_products(builder, builder.load(total), builder.xor(other, _FLIP), words), total)

        with cgutils.for_range(builder, LONG(WIDE.count), intp=LONG) as loop:
            builder.store(_NOTHING, total)
            rows = [row(i, loop.index) for i in (1, 2)]
            with cgutils.for_range_slice(builder, LONG(0), whole, LONG(step), LONG) as (at, _):
                places = [call.place(0, builder.add(start, at), WIDE) for start in rows]
                add(*(builder.load(place, align=1) for place in places))
            with builder.if_then(builder.icmp_signed("!=", left, INT(0))):
                places = [call.place(0, builder.add(start, whole), WIDE) for start in rows]
                one, other = (masked(builder, place, inside, _NOTHING) for place in places)
                add(builder.and_(one, taken), other)
            builder.store(builder.load(total), builder.gep(sums, [loop.index]))
        vectors = [builder.load(builder.gep(sums, [LONG(i)])) for i in range(WIDE.count)]
        builder.store(sums_over(builder, vectors), call.place(5, first, WIDE), align=4)

    return signature, code


@kernel(inline=True)
def _dots(values, rows, count, query, start, products):
    for first in range(0, count, ROWS):
        _dots_wide(values, rows, first, query, start, products)


@kernel(inline=True)
def _pair_dots(values, ones, others, count, columns, products):
    for first in range(0, count, ROWS):
        _pair_dots_wide(values, ones, others, first, columns, products)


def _pair_dots_python(values, ones, others, count, columns, products):
    count = -(-count // LANES) * LANES
    left, right = (values[rows[:count], :columns] for rows in (ones, others))
    right = (right.view(np.uint8) ^ np.uint8(OFFSET)).astype(np.int32)
    products[:count] = (left.astype(np.int32) * right).sum(axis=1)


def _dots_python(values, rows, count, query, start, products):
    count = -(-count // LANES) * LANES
    width = values.shape[1]
    base = (values[rows[:count]].view(np.uint8) ^ np.uint8(OFFSET)).astype(np.int32)
    products[:count] = base @ query[:width].astype(np.int32) + start


# As kernels/products.py has them; values are int8[m, w].
dots = _dots_python if config.DISABLE_JIT else _dots
pair_dots = _pair_dots_python if config.DISABLE_JIT else _pair_dots
