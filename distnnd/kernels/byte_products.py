"""Inner products of rows of small whole numbers, sixteen rows at a time: exact, and four times as fast as floats.

A base of rows is packed so that sixteen of them stand side by side, four columns of each in 32 bits; a query then meets
sixteen rows in each vector operation (the layout of the instruction that multiplies bytes: Intel 2019, VNNI). Machines
without it multiply as framed_products.py has it. Whole numbers have no rounding, so every machine, every cut and every
order gives the same products.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .byte_lanes import COLUMNS, INT, LONG, OFFSET, QUERIES, ROWS, VECTOR, add_products
from .jit import kernel
from .lanes import LANES, splat, sum_up, written
from .packing import pack16, room_for
from .rows import WORD

# Groups of the base in a tile: its sums fill half of the registers.
GROUPS = 4 if ROWS == LANES else 1
# What all columns lie above: -128.
_LEAST = np.full(COLUMNS, -OFFSET, np.int8)


@kernel(inline=True)
def packed_size(width, count):
    """Bytes of `count` packed rows of `width` columns."""
    return (count + LANES - 1) // LANES * LANES * room_for(width)


def _tile_of(groups: int):
    """An intrinsic that multiplies four queries with `groups` groups of sixteen packed rows."""

    @intrinsic
    def tile(typingctx, queries, query, width, starts, base, group, room, products, row, column):
        """products[row + i, column ..] = starts[row + i] + queries[query + i] . packed rows, for four i."""
        sizes = (types.intp,) * 2
        signature = types.void(queries, *sizes, starts, base, *sizes, products, *sizes)

        @written
        def code(call):
            builder = call.builder
            (query, width), (group, room), (row, column) = (call.arguments[i : i + 2] for i in (1, 5, 8))
            columns, stride = builder.mul(room, LONG(LANES)), call.columns(7)
            left = [builder.mul(builder.add(query, LONG(i)), width) for i in range(QUERIES)]
            right = [builder.mul(columns, builder.add(group, LONG(g))) for g in range(groups)]
            rows = [builder.add(row, LONG(i)) for i in range(QUERIES)]
            first = [splat(builder, builder.load(call.place(3, at, INT)), VECTOR) for at in rows]

            def add(at, sums):
                packed = builder.mul(at, LONG(LANES))
                bases = [builder.load(call.place(4, builder.add(part, packed), VECTOR), align=1) for part in right]
                ended = []
                for i in range(QUERIES):
                    word = builder.load(call.place(0, builder.add(left[i], at), INT), align=1)
                    words, own = (splat(builder, word, VECTOR),), sums[i * groups : (i + 1) * groups]
                    ended += [add_products(builder, total, part, words) for total, part in zip(own, bases, strict=True)]
                return ended

            begin = [vector for vector in first for _ in range(groups)]
            for i, total in enumerate(sum_up(builder, width, WORD, begin, add)):
                place = builder.add(builder.mul(rows[i // groups], stride), column)
                place = builder.add(place, LONG(LANES * (i % groups)))
                builder.store(total, call.place(7, place, VECTOR), align=4)

        return signature, code

    return tile


_tile1, _tile2, _tile3, _tile_most = (_tile_of(groups) for groups in (1, 2, 3, GROUPS))


@kernel
def _pack(values, rows, first, count, width, packed):
    room = room_for(width)
    for group in range((count + LANES - 1) // LANES):
        for column in range(0, width, COLUMNS):
            place = (group * room + column) * LANES
            pack16(values, rows, first + LANES * group, column, width, _LEAST, 0, packed, place)


@kernel
def _multiply(queries, width, first, last, starts, packed, first_group, groups, products):
    for query in range(first, last, QUERIES):
        _across(queries, query, width, starts, packed, first_group, groups, products)


@kernel(inline=True)
def _across(queries, query, width, starts, packed, first_group, groups, products):
    """Products of four queries with all packed rows from a group on."""
    room, group = room_for(width), first_group
    while group < groups:
        column = LANES * (group - first_group)
        if group + GROUPS <= groups:
            _tile_most(queries, query, width, starts, packed, group, room, products, query, column)
        elif group + 3 == groups:
            _tile3(queries, query, width, starts, packed, group, room, products, query, column)
        elif group + 2 == groups:
            _tile2(queries, query, width, starts, packed, group, room, products, query, column)
        else:
            _tile1(queries, query, width, starts, packed, group, room, products, query, column)
        group += GROUPS


def _pack_python(values, rows, first, count, width, packed):
    room = room_for(width)
    groups = -(-count // LANES)
    block = np.zeros((groups * LANES, room), np.uint8)
    block[:, :width] = values[rows[first : first + groups * LANES], :width].view(np.uint8)
    words = (block ^ np.uint8(OFFSET)).reshape(groups, LANES, room // WORD, WORD)
    packed[: block.size] = words.transpose(0, 2, 1, 3).ravel().view(packed.dtype)


def _multiply_python(queries, width, first, last, starts, packed, first_group, groups, products):
    room = room_for(width)
    words = packed[: groups * LANES * room].view(np.uint8).reshape(groups, room // WORD, LANES, WORD)
    base = words.transpose(0, 2, 1, 3).reshape(groups * LANES, room)[LANES * first_group :, :width].astype(np.int32)
    last = first + -(-(last - first) // QUERIES) * QUERIES
    left = queries[first * width : last * width].reshape(-1, width).astype(np.int32)
    products[first:last, : len(base)] = left @ base.T + starts[first:last, None]


# As kernels/products.py has them. Values are int8[m, w]; packed bytes are unsigned, which `starts` makes up for.
pack = _pack_python if config.DISABLE_JIT else _pack
multiply = _multiply_python if config.DISABLE_JIT else _multiply
