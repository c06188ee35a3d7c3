"""A base of rows of bytes laid out for products: sixteen rows side by side, four columns of each in 32 bits."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .byte_lanes import BYTE, COLUMNS, INT, LONG, VECTOR, all_of, exchange, masked, words_left
from .jit import kernel
from .lanes import LANES, written
from .rows import WORD

_BYTES = ir.VectorType(BYTE, COLUMNS)


@kernel(inline=True)
def room_for(width):
    """Bytes of one packed row of `width` columns."""
    return (width + COLUMNS - 1) // COLUMNS * COLUMNS


@intrinsic
def pack16(typingctx, values, rows, first, column, width, least, at, packed, place):
    """Words of 64 columns of sixteen rows, transposed, as unsigned bytes: how far each lies above the least one.

    The rows are rows[first ..] of values, their columns from `column` on, zeros from `width` on. least: int8, from flat
    index `at` on as many. What is packed goes to `packed` from flat index `place` on.
    """
    sizes = (types.intp,) * 3
    signature = types.void(values, rows, *sizes, least, types.intp, packed, types.intp)

    @written
    def code(call):
        builder = call.builder
        first, column, width = call.arguments[2:5]
        at, place = call.arguments[6], call.arguments[8]
        stride = call.columns(0)
        least = builder.load(call.place(5, at, _BYTES), align=1)
        inside, nothing = words_left(builder, width, column, VECTOR), all_of(0, VECTOR)
        lanes = []
        for i in range(LANES):
            row = builder.sext(builder.load(call.place(1, builder.add(first, LONG(i)), INT)), LONG)
            words = call.place(0, builder.add(builder.mul(row, stride), column), VECTOR)
            words = builder.bitcast(masked(builder, words, inside, nothing), _BYTES)
            lanes.append(builder.bitcast(builder.sub(words, least), VECTOR))
        # Butterfly: at each step two vectors exchange the lanes in which their numbers differ by that bit.
        for bit in (1, 2, 4, 8):
            for i in range(LANES):
                if not i & bit:
                    lanes[i], lanes[i | bit] = exchange(builder, lanes[i], lanes[i | bit], bit)
        for word in range(LANES):
            at = builder.add(place, LONG(LANES * WORD * word))
            builder.store(lanes[word], call.place(7, at, VECTOR), align=1)

    return signature, code
