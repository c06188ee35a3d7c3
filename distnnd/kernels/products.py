"""Inner products of rows of small whole numbers, sixteen rows at a time: exact, and four times as fast as floats.

A base of rows is packed so that sixteen of them stand side by side, four columns of each in 32 bits; a query then meets
sixteen rows in each vector operation (the layout of the instruction that multiplies bytes: Intel 2019, VNNI). Where the
machine has no such instruction the same text becomes products of 16-bit numbers. Whole numbers have no rounding, so
every machine, every cut and every order gives the same products.
"""

from __future__ import annotations

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .jit import kernel
from .lanes import LANES, splat
from .rows import WORD

QUERIES = 4  # rows of a tile: with four groups of the base its sums fill half of the registers
COLUMNS = 64  # columns that are packed at a time: one vector of bytes
OFFSET = 128  # packed bytes are unsigned, this much above their value

_BYTE, _HALF, _INT, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_VECTOR = ir.VectorType(_INT, LANES)
_HALVES = ir.VectorType(_HALF, 2 * LANES)


@kernel(inline=True)
def room_for(width):
    """Bytes of one packed row of `width` columns."""
    return (width + COLUMNS - 1) // COLUMNS * COLUMNS


def _multiplies_bytes() -> bool:
    """Whether the machine that numba compiles for multiplies bytes in 512-bit vectors."""
    if config.CPU_NAME or config.CPU_FEATURES:
        return "+avx512vnni" in (config.CPU_FEATURES or "")
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512vnni"))


def _data(context, builder, array_type, array):
    return context.make_array(array_type)(context, builder, array).data


def _vector_at(builder, data, index, vector=_VECTOR):
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _add_products(builder, total, base, query):
    """total[l] + the sum over four bytes of base[l], unsigned, times query[l], signed."""
    if _multiplies_bytes():
        name, of = "llvm.x86.avx512.vpdpbusd.512", ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = builder.module.globals.get(name) or ir.Function(builder.module, of, name)
        return builder.call(function, [total, base, query])
    # Even and odd bytes as 16-bit numbers; LLVM knows the sum of two neighbouring products as one instruction.
    eight, low = ir.Constant(_HALVES, [8] * 2 * LANES), ir.Constant(_HALVES, [255] * 2 * LANES)
    base, query = builder.bitcast(base, _HALVES), builder.bitcast(query, _HALVES)
    pairs = (
        (builder.and_(base, low), builder.ashr(builder.shl(query, eight), eight)),
        (builder.lshr(base, eight), builder.ashr(query, eight)),
    )
    wide = ir.VectorType(_INT, 2 * LANES)
    for one, other in pairs:
        product = builder.mul(builder.sext(one, wide), builder.sext(other, wide))
        nothing = ir.Constant(wide, ir.Undefined)
        halves = [
            builder.shuffle_vector(product, nothing, ir.Constant(_VECTOR, [2 * i + odd for i in range(LANES)]))
            for odd in (0, 1)
        ]
        total = builder.add(total, builder.add(*halves))
    return total


def _sum_up(builder, width, step, begin, add):
    """Vectors that a loop over columns sums up, in steps, until `width` is reached.

    begin: what they begin with; add(column, sums): the sums with what stands there.
    """
    before, loop, after = builder.block, *(builder.append_basic_block(name) for name in ("columns", "sums"))
    builder.branch(loop)
    builder.position_at_end(loop)
    at, sums = builder.phi(_LONG), [builder.phi(_VECTOR) for _ in begin]
    ended, following = add(at, sums), builder.add(at, _LONG(step))
    for number, first, then in zip([at, *sums], [_LONG(0), *begin], [following, *ended], strict=True):
        number.add_incoming(first, before)
        number.add_incoming(then, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, width), loop, after)
    builder.position_at_end(after)
    return ended


def _tile_of(groups: int):
    """An intrinsic that multiplies four queries with `groups` groups of sixteen packed rows."""

    @intrinsic
    def tile(typingctx, queries, query, width, starts, base, group, room, products, row, column):
        """products[row + i, column ..] = starts[query + i] + queries[query + i] . packed rows, for four i."""
        sizes = (types.intp,) * 2
        signature = types.void(queries, *sizes, starts, base, *sizes, products, *sizes)

        def codegen(context, builder, signature, arguments):
            queries, query, width, starts, base, group, room, products, row, column = arguments
            queries, starts, base = (
                _data(context, builder, signature.args[i], array) for i, array in ((0, queries), (3, starts), (4, base))
            )
            out = context.make_array(signature.args[7])(context, builder, products)
            stride = builder.extract_value(out.shape, 1)
            columns = builder.mul(room, _LONG(LANES))
            rows = [builder.add(query, _LONG(i)) for i in range(QUERIES)]
            left = [builder.gep(queries, [builder.mul(at, width)]) for at in rows]
            right = [builder.gep(base, [builder.mul(columns, builder.add(group, _LONG(g)))]) for g in range(groups)]
            first = [splat(builder, builder.load(builder.gep(starts, [at])), _VECTOR) for at in rows]
            begin = [vector for vector in first for _ in range(groups)]

            def add(at, sums):
                packed = builder.mul(at, _LONG(LANES))
                bases = [builder.load(_vector_at(builder, part, packed), align=1) for part in right]
                ended = []
                for i in range(QUERIES):
                    word = builder.load(builder.bitcast(builder.gep(left[i], [at]), _INT.as_pointer()), align=1)
                    word = splat(builder, word, _VECTOR)
                    own = sums[i * groups : (i + 1) * groups]
                    ended += [_add_products(builder, total, part, word) for total, part in zip(own, bases, strict=True)]
                return ended

            for i, total in enumerate(_sum_up(builder, width, WORD, begin, add)):
                place = builder.mul(builder.add(row, _LONG(i // groups)), stride)
                place = builder.add(place, builder.add(column, _LONG(LANES * (i % groups))))
                builder.store(total, _vector_at(builder, out.data, place), align=4)
            return context.get_dummy_value()

        return signature, codegen

    return tile


_tile1, _tile2, _tile3, _tile4 = (_tile_of(groups) for groups in (1, 2, 3, 4))


@intrinsic
def _pack16(typingctx, values, rows, first, column, packed, place):
    """Sixteen columns-of-four of sixteen rows, transposed, made unsigned; columns beyond the last are zero."""
    signature = types.void(values, rows, types.intp, types.intp, packed, types.intp)

    def codegen(context, builder, signature, arguments):
        values, rows, first, column, packed, place = arguments
        array = context.make_array(signature.args[0])(context, builder, values)
        width = builder.extract_value(array.shape, 1)
        row_ids = _data(context, builder, signature.args[1], rows)
        out = _data(context, builder, signature.args[4], packed)
        inside = _words_left(builder, width, column)
        zero = ir.Constant(_VECTOR, [0] * LANES)
        lanes = []
        for i in range(LANES):
            row = builder.sext(builder.load(builder.gep(row_ids, [builder.add(first, _LONG(i))])), _LONG)
            at = builder.add(builder.mul(row, width), column)
            lanes.append(builder.call(_masked(builder), [_vector_at(builder, array.data, at), _INT(4), inside, zero]))
        # Butterfly: at each step two vectors exchange the lanes in which their numbers differ by that bit.
        for bit in (1, 2, 4, 8):
            for i in range(LANES):
                if i & bit:
                    continue
                lanes[i], lanes[i | bit] = _exchange(builder, lanes[i], lanes[i | bit], bit)
        flip = ir.Constant(_VECTOR, [-0x7F7F7F80] * LANES)
        for word in range(LANES):
            at = builder.add(place, _LONG(COLUMNS * word))
            builder.store(builder.xor(lanes[word], flip), _vector_at(builder, out, at), align=1)
        return context.get_dummy_value()

    return signature, codegen


def _masked(builder):
    """Loads sixteen words as far as a mask says, zeros elsewhere."""
    shape = ir.FunctionType(_VECTOR, [_VECTOR.as_pointer(), _INT, ir.VectorType(ir.IntType(1), LANES), _VECTOR])
    name = "llvm.masked.load.v16i32.p0"
    return builder.module.globals.get(name) or ir.Function(builder.module, shape, name)


def _words_left(builder, width, column):
    """Which of sixteen words from `column` on lie inside a row of `width` columns."""
    left = builder.trunc(builder.udiv(builder.sub(width, column), _LONG(WORD)), _INT)
    return builder.icmp_signed("<", ir.Constant(_VECTOR, list(range(LANES))), splat(builder, left, _VECTOR))


def _exchange(builder, one, other, bit):
    """The lanes of two vectors without and with `bit` in their number: (of both without, of both with)."""
    low = [lane if not lane & bit else LANES + (lane ^ bit) for lane in range(LANES)]
    high = [lane | bit if not lane & bit else LANES + lane for lane in range(LANES)]
    return [builder.shuffle_vector(one, other, ir.Constant(_VECTOR, lanes)) for lanes in (low, high)]


@intrinsic
def _dots16(typingctx, values, rows, first, query, start, products):
    """products[first + l] = start + query . values[rows[first + l]] for sixteen l; query as long as whole vectors."""
    signature = types.void(values, rows, types.intp, query, types.int32, products)

    def codegen(context, builder, signature, arguments):
        values, rows, first, query, start, products = arguments
        array = context.make_array(signature.args[0])(context, builder, values)
        width = builder.extract_value(array.shape, 1)
        row_ids, query, out = (
            _data(context, builder, signature.args[i], part) for i, part in ((1, rows), (3, query), (5, products))
        )
        ids = [builder.load(builder.gep(row_ids, [builder.add(first, _LONG(i))])) for i in range(LANES)]
        left = [builder.gep(array.data, [builder.mul(builder.sext(row, _LONG), width)]) for row in ids]
        zero = ir.Constant(_VECTOR, [0] * LANES)

        def add(at, sums):
            word = builder.load(_vector_at(builder, query, at), align=1)
            inside, flip = _words_left(builder, width, at), ir.Constant(_VECTOR, [-0x7F7F7F80] * LANES)
            ended = []
            for total, row in zip(sums, left, strict=True):
                base = builder.call(_masked(builder), [_vector_at(builder, row, at), _INT(4), inside, zero])
                ended.append(_add_products(builder, total, builder.xor(base, flip), word))
            return ended

        ended = _sum_up(builder, width, COLUMNS, [zero] * LANES, add)
        # Butterfly: sums of pairs of vectors, until lane l of the last one is the sum over vector l.
        for bit in (1, 2, 4, 8):
            ended = [builder.add(*_exchange(builder, ended[i], ended[i + 1], bit)) for i in range(0, len(ended), 2)]
        total = builder.add(ended[0], splat(builder, start, _VECTOR))
        builder.store(total, _vector_at(builder, out, first), align=4)
        return context.get_dummy_value()

    return signature, codegen


@kernel(inline=True)
def _dots(values, rows, count, query, start, products):
    for first in range(0, count, LANES):
        _dots16(values, rows, first, query, start, products)


def _dots_python(values, rows, count, query, start, products):
    count = -(-count // LANES) * LANES
    width = values.shape[1]
    base = (values[rows[:count]].view(np.uint8) ^ np.uint8(OFFSET)).astype(np.int32)
    products[:count] = base @ query[:width].astype(np.int32) + start


@kernel(inline=True)
def _pack(values, rows, first, count, packed):
    room = room_for(values.shape[1])
    for group in range((count + LANES - 1) // LANES):
        for column in range(0, values.shape[1], COLUMNS):
            _pack16(values, rows, first + LANES * group, column, packed, (group * room + column) * LANES)


@kernel(inline=True)
def _multiply(queries, width, first, last, starts, packed, first_group, groups, products):
    room = room_for(width)
    for query in range(first, last, QUERIES):
        group = first_group
        while group < groups:
            column = LANES * (group - first_group)
            if group + 4 <= groups:
                _tile4(queries, query, width, starts, packed, group, room, products, query, column)
            elif group + 3 == groups:
                _tile3(queries, query, width, starts, packed, group, room, products, query, column)
            elif group + 2 == groups:
                _tile2(queries, query, width, starts, packed, group, room, products, query, column)
            else:
                _tile1(queries, query, width, starts, packed, group, room, products, query, column)
            group += 4


def _pack_python(values, rows, first, count, packed):
    width, room = values.shape[1], room_for(values.shape[1])
    groups = -(-count // LANES)
    block = np.zeros((groups * LANES, room), np.uint8)
    block[:, :width] = values[rows[first : first + groups * LANES]].view(np.uint8)
    words = (block ^ np.uint8(OFFSET)).reshape(groups, LANES, room // WORD, WORD)
    packed[: block.size] = words.transpose(0, 2, 1, 3).ravel().view(packed.dtype)


def _multiply_python(queries, width, first, last, starts, packed, first_group, groups, products):
    room = room_for(width)
    words = packed[: groups * LANES * room].view(np.uint8).reshape(groups, room // WORD, LANES, WORD)
    base = words.transpose(0, 2, 1, 3).reshape(groups * LANES, room)[LANES * first_group :, :width].astype(np.int32)
    last = first + -(-(last - first) // QUERIES) * QUERIES
    left = queries[first * width : last * width].reshape(-1, width).astype(np.int32)
    products[first:last, : len(base)] = left @ base.T + starts[first:last, None]


# pack: rows[first : first + count] of values int8[m, w], w a multiple of four, into packed int8[>= 16 * groups * room];
# `rows` goes on with valid ids to the next multiple of sixteen.
# multiply: the queries first .. last with the packed rows from group `first_group` on, to products int32[., stride], a
# row a query; queries: int8, flat, w a row; starts: int32, what each query's sums begin with. Queries, starts and
# products have room to the next multiple of four rows.
pack = _pack_python if config.DISABLE_JIT else _pack
multiply = _multiply_python if config.DISABLE_JIT else _multiply
# dots: one query, int8, filled up with zeros to whole vectors of 64, with the first `count` of `rows` of values
# int8[m, w] where they lie: products[l] = start + query . row l; `rows` goes on with valid ids, and products has room,
# to the next multiple of sixteen.
dots = _dots_python if config.DISABLE_JIT else _dots
