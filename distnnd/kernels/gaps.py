"""Sixteen rows at once: squared distances of one row to a block of them, of a block of them to a box; of two boxes.

A box is its lowest corner and then its highest, each filled up with zeros to a multiple of sixteen columns. A block
holds sixteen rows column by column: number 16 c + l is column c of row l. Written as LLVM vector code, so one text
serves AVX-512, AVX2 and NEON; with the JIT disabled plain Python runs.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .lanes import FLOATS, LANES, mask_of, splat, sum_of, written

_INT, _LONG = ir.IntType(32), ir.IntType(64)
_ZERO = ir.Constant(FLOATS, [0.0] * LANES)
_FAST = ("contract", "reassoc", "nsz")


def _floats(call, i, index):
    """Sixteen numbers of argument i, from number `index` on."""
    return call.builder.load(call.place(i, index, FLOATS), align=4)


def _number(call, i, index):
    """One number of argument i, in every lane."""
    return splat(call.builder, call.builder.load(call.place(i, index, ir.FloatType())), FLOATS)


def _sum_of_squares(builder, columns, gap):
    """Sum over the columns of gap(column)^2, sixteen at once.

    Of an even number of columns, in two sums: one would wait for itself.
    """
    sums = [cgutils.alloca_once_value(builder, _ZERO) for _ in range(2)]
    half = builder.lshr(columns, _LONG(1))
    with cgutils.for_range(builder, half) as loop:
        for i, total in enumerate(sums):
            column = builder.add(builder.shl(loop.index, _LONG(1)), _LONG(i))
            here = gap(column)
            square = builder.fmul(here, here, flags=_FAST)
            builder.store(builder.fadd(builder.load(total), square, flags=_FAST), total)
    return builder.fadd(builder.load(sums[0]), builder.load(sums[1]), flags=_FAST)


def _larger(builder, one, other):
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


@intrinsic
def _nearer_lanes(typingctx, blocks, query, start, columns, bound, out):
    @written
    def code(call):
        builder, (query, start, columns, bound) = call.builder, call.arguments[1:5]

        def gap(column):
            offset = builder.shl(column, _LONG(4))
            other = _floats(call, 0, builder.add(start, offset))
            return builder.fsub(other, _number(call, 0, builder.add(query, offset)))

        found = _sum_of_squares(builder, columns, gap)
        builder.store(found, call.place(5, _LONG(0), FLOATS), align=4)
        return mask_of(builder, builder.fcmp_ordered("<", found, splat(builder, bound, FLOATS)))

    return types.uint32(blocks, types.intp, types.intp, types.intp, types.float32, out), code


@intrinsic
def _reaching_lanes(typingctx, blocks, start, boxes, box, width, columns, slack, bounds):
    @written
    def code(call):
        builder, start, (box, width, columns, slack) = call.builder, call.arguments[1], call.arguments[3:7]
        highest = builder.add(box, width)

        def gap(column):
            here = _floats(call, 0, builder.add(start, builder.shl(column, _LONG(4))))
            low = _number(call, 2, builder.add(box, column))
            high = _number(call, 2, builder.add(highest, column))
            return _larger(builder, _larger(builder, builder.fsub(low, here), builder.fsub(here, high)), _ZERO)

        found = builder.fmul(_sum_of_squares(builder, columns, gap), splat(builder, slack, FLOATS))
        return mask_of(builder, builder.fcmp_ordered("<", found, _floats(call, 7, _LONG(0))))

    return types.uint32(blocks, types.intp, boxes, *(types.intp,) * 3, types.float32, bounds), code


@intrinsic
def _apart_lanes(typingctx, boxes, one, other, width):
    @written
    def code(call):
        builder, (one, other, width) = call.builder, call.arguments[1:]
        total = cgutils.alloca_once_value(builder, _ZERO)

        def corner(at, column):
            return _floats(call, 0, builder.add(at, column))

        with cgutils.for_range(builder, builder.lshr(width, _LONG(4))) as loop:
            column = builder.shl(loop.index, _LONG(4))
            above = builder.fsub(corner(one, column), corner(builder.add(other, width), column))
            below = builder.fsub(corner(other, column), corner(builder.add(one, width), column))
            gap = _larger(builder, _larger(builder, above, below), _ZERO)
            square = builder.fmul(gap, gap, flags=_FAST)
            builder.store(builder.fadd(builder.load(total), square, flags=_FAST), total)
        return sum_of(builder, builder.load(total), _FAST)

    return types.float32(boxes, *(types.intp,) * 3), code


def _mask_python(hits):
    return np.uint32(sum(1 << lane for lane in range(LANES) if hits[lane]))


def _nearer_python(blocks, query, start, columns, bound, out):
    total = np.zeros(LANES, np.float32)
    for column in range(columns):
        gap = blocks[start + LANES * column : start + LANES * (column + 1)] - blocks[query + LANES * column]
        total += gap * gap
    out[:LANES] = total
    return _mask_python(total < bound)


def _reaching_python(blocks, start, boxes, box, width, columns, slack, bounds):
    total = np.zeros(LANES, np.float32)
    for column in range(columns):
        here = blocks[start + LANES * column : start + LANES * (column + 1)]
        gap = np.maximum(np.maximum(boxes[box + column] - here, here - boxes[box + width + column]), 0)
        total += gap * gap
    return _mask_python(total * slack < bounds[:LANES])


def _apart_python(boxes, one, other, width):
    lows, highs = (boxes[[range(at + i, at + i + width) for at in (one, other)]] for i in (0, width))
    gaps = np.maximum(np.maximum(lows[0] - highs[1], lows[1] - highs[0]), 0)
    return np.float32((gaps * gaps).sum())


# blocks, boxes, out, bounds: flat float32; query, start, box: flat positions; an even number of columns.
# Squared distances of the row at `query` to the sixteen of the block at `start` into out, and a mask of those < bound.
nearer = _nearer_python if config.DISABLE_JIT else _nearer_lanes
# A mask of the sixteen rows of the block at `start` whose squared distance to a box, times slack, is < bounds[lane].
reaching = _reaching_python if config.DISABLE_JIT else _reaching_lanes
# The squared distance of the boxes at `one` and `other`, each of two corners of `width` numbers.
apart = _apart_python if config.DISABLE_JIT else _apart_lanes
