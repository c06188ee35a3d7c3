"""Inner products of rows of small whole numbers, sixteen rows at a time: exact, and four times as fast as floats.

A base of rows is packed so that sixteen of them stand side by side, four columns of each in 32 bits; a query then meets
sixteen rows in each vector operation (the layout of the instruction that multiplies bytes: Intel 2019, VNNI). Where the
machine has no such instruction the same text becomes products of 16-bit numbers, a register of sums at a time as many
as there are registers. Whole numbers have no rounding, so every machine, every cut and every order gives the same
products.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .jit import kernel
from .lanes import LANES, machine_has, splat, sum_up, written
from .rows import WORD

QUERIES = 4  # rows of a tile
# Groups of the base in a tile: its sums fill half of the registers, which are 32 of 512 bits or 16 of 256.
GROUPS = 4 if machine_has("avx512f") else 1
COLUMNS = 64  # columns that are packed at a time: one vector of bytes
OFFSET = 128  # packed bytes are unsigned, this much above their value

_BYTE, _HALF, _INT, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_VECTOR = ir.VectorType(_INT, LANES)
# The rows that are multiplied where they lie, in as many sums: half of the registers.
ROWS = LANES if GROUPS > 1 else LANES // 2
_WIDE = ir.VectorType(_INT, ROWS)


@kernel(inline=True)
def room_for(width):
    """Bytes of one packed row of `width` columns."""
    return (width + COLUMNS - 1) // COLUMNS * COLUMNS


# Whether the machine multiplies bytes; else a query's even and odd columns are spread out to numbers of 16 bits first.
BYTES = machine_has("avx512vnni") or machine_has("avxvnni")


def _data(context, builder, array_type, array):
    return context.make_array(array_type)(context, builder, array).data


def _vector_at(builder, data, index, vector=_VECTOR):
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _words_of(builder, codes):
    """What _add_products takes of a query's bytes, int32 each four of them: as they are, or spread out to 16 bits."""
    if BYTES:
        return (codes,)
    halves = ir.VectorType(_HALF, 2 * codes.type.count)
    codes, eight = builder.bitcast(codes, halves), ir.Constant(halves, [8] * halves.count)
    return builder.ashr(builder.shl(codes, eight), eight), builder.ashr(codes, eight)


def _add_products(builder, total, base, words):
    """total[l] + the sum over four bytes of base[l], unsigned, times those of a query, signed.

    words: the bytes themselves where the machine multiplies them; else the even and the odd ones, 16 bits each.
    """
    if BYTES:
        return _add_byte_products(builder, total, base, *words)
    halves = ir.VectorType(_HALF, 2 * total.type.count)
    base = builder.bitcast(base, halves)
    eight, low = (ir.Constant(halves, [number] * halves.count) for number in (8, 255))
    for one, other in zip((builder.and_(base, low), builder.lshr(base, eight)), words, strict=True):
        total = builder.add(total, _sums_of_pairs(builder, one, builder.bitcast(other, halves)))
    return total


def _add_byte_products(builder, total, base, word):
    """The same by the machine's own instruction, in vectors as wide as its registers."""
    lanes = list(range(total.type.count))
    if len(lanes) > ROWS:
        halves = [ir.Constant(ir.VectorType(_INT, ROWS), part) for part in (lanes[:ROWS], lanes[ROWS:])]
        parts = [
            _add_byte_products(builder, *(builder.shuffle_vector(whole, whole, half) for whole in (total, base, word)))
            for half in halves
        ]
        return builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))
    name, of = f"llvm.x86.avx512.vpdpbusd.{32 * len(lanes)}", ir.FunctionType(total.type, [total.type] * 3)
    function = builder.module.globals.get(name) or ir.Function(builder.module, of, name)
    return builder.call(function, [total, base, word])


def _sums_of_pairs(builder, one, other):
    """Products of numbers of 16 bits, two neighbouring ones added up: LLVM knows that as one instruction."""
    wide = ir.VectorType(_INT, one.type.count)
    product = builder.mul(builder.sext(one, wide), builder.sext(other, wide))
    nothing = ir.Constant(wide, ir.Undefined)
    half = one.type.count // 2
    kept = [ir.Constant(ir.VectorType(_INT, half), [2 * i + odd for i in range(half)]) for odd in (0, 1)]
    return builder.add(*(builder.shuffle_vector(product, nothing, lanes) for lanes in kept))


def _tile_of(groups: int):
    """An intrinsic that multiplies four queries with `groups` groups of sixteen packed rows."""

    @intrinsic
    def tile(typingctx, queries, query, width, starts, base, group, room, products, row, column):
        """products[row + i, column ..] = starts[row + i] + queries[query + i] . packed rows, for four i.

        Where the machine does not multiply bytes `queries` are as `_spread` leaves them, and `query` is 0.
        """
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
            left = [builder.gep(queries, [builder.mul(builder.add(query, _LONG(i)), width)]) for i in range(QUERIES)]
            right = [builder.gep(base, [builder.mul(columns, builder.add(group, _LONG(g)))]) for g in range(groups)]
            rows = [builder.add(row, _LONG(i)) for i in range(QUERIES)]
            first = [splat(builder, builder.load(builder.gep(starts, [at])), _VECTOR) for at in rows]
            begin = [vector for vector in first for _ in range(groups)]

            def words_at(at, i):
                if BYTES:
                    places = [builder.gep(left[i], [at])]
                else:
                    first = builder.add(builder.mul(at, _LONG(2)), _LONG(2 * i))
                    places = [builder.gep(queries, [builder.add(first, _LONG(odd))]) for odd in (0, 1)]
                words = [builder.load(builder.bitcast(place, _INT.as_pointer()), align=1) for place in places]
                return [splat(builder, word, _VECTOR) for word in words]

            def add(at, sums):
                packed = builder.mul(at, _LONG(LANES))
                bases = [builder.load(_vector_at(builder, part, packed), align=1) for part in right]
                ended = []
                for i in range(QUERIES):
                    words, own = words_at(at, i), sums[i * groups : (i + 1) * groups]
                    ended += [
                        _add_products(builder, total, part, words) for total, part in zip(own, bases, strict=True)
                    ]
                return ended

            for i, total in enumerate(sum_up(builder, width, WORD, begin, add)):
                place = builder.mul(rows[i // groups], stride)
                place = builder.add(place, builder.add(column, _LONG(LANES * (i % groups))))
                builder.store(total, _vector_at(builder, out.data, place), align=4)
            return context.get_dummy_value()

        return signature, codegen

    return tile


_tile1, _tile2, _tile3, _tile_most = (_tile_of(groups) for groups in (1, 2, 3, GROUPS))


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
        inside = _words_left(builder, width, column, _VECTOR)
        zero = ir.Constant(_VECTOR, [0] * LANES)
        lanes = []
        for i in range(LANES):
            row = builder.sext(builder.load(builder.gep(row_ids, [builder.add(first, _LONG(i))])), _LONG)
            at = builder.add(builder.mul(row, width), column)
            lanes.append(
                builder.call(_masked(builder, _VECTOR), [_vector_at(builder, array.data, at), _INT(4), inside, zero])
            )
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


def _masked(builder, vector):
    """Loads words of a vector as far as a mask says, zeros elsewhere."""
    truths = ir.VectorType(ir.IntType(1), vector.count)
    shape = ir.FunctionType(vector, [vector.as_pointer(), _INT, truths, vector])
    name = f"llvm.masked.load.v{vector.count}i32.p0"
    return builder.module.globals.get(name) or ir.Function(builder.module, shape, name)


def _words_left(builder, width, column, vector):
    """Which words of a vector from `column` on lie inside a row of `width` columns."""
    left = builder.trunc(builder.udiv(builder.sub(width, column), _LONG(WORD)), _INT)
    return builder.icmp_signed("<", ir.Constant(vector, list(range(vector.count))), splat(builder, left, vector))


def _exchange(builder, one, other, bit):
    """The lanes of two vectors without and with `bit` in their number: (of both without, of both with)."""
    vector = one.type
    low = [lane if not lane & bit else vector.count + (lane ^ bit) for lane in range(vector.count)]
    high = [lane | bit if not lane & bit else vector.count + lane for lane in range(vector.count)]
    return [builder.shuffle_vector(one, other, ir.Constant(vector, lanes)) for lanes in (low, high)]


@intrinsic
def _dots_wide(typingctx, values, rows, first, query, start, products):
    """products[first + l] = start + query . values[rows[first + l]] for as many l as _WIDE has lanes.

    query: as long as whole vectors of 64 columns.
    """
    signature = types.void(values, rows, types.intp, query, types.int32, products)

    def codegen(context, builder, signature, arguments):
        values, rows, first, query, start, products = arguments
        array = context.make_array(signature.args[0])(context, builder, values)
        width = builder.extract_value(array.shape, 1)
        row_ids, query, out = (
            _data(context, builder, signature.args[i], part) for i, part in ((1, rows), (3, query), (5, products))
        )
        ids = [builder.load(builder.gep(row_ids, [builder.add(first, _LONG(i))])) for i in range(_WIDE.count)]
        left = [builder.gep(array.data, [builder.mul(builder.sext(row, _LONG), width)]) for row in ids]
        zero, flip = (ir.Constant(_WIDE, [word] * _WIDE.count) for word in (0, -0x7F7F7F80))

        def add(at, sums):
            codes = builder.load(_vector_at(builder, query, at, _WIDE), align=1)
            words, inside = _words_of(builder, codes), _words_left(builder, width, at, _WIDE)
            ended = []
            for total, row in zip(sums, left, strict=True):
                base = builder.call(
                    _masked(builder, _WIDE), [_vector_at(builder, row, at, _WIDE), _INT(4), inside, zero]
                )
                ended.append(_add_products(builder, total, builder.xor(base, flip), words))
            return ended

        sums = _sums_over(builder, sum_up(builder, width, WORD * _WIDE.count, [zero] * _WIDE.count, add))
        total = builder.add(sums, splat(builder, start, _WIDE))
        builder.store(total, _vector_at(builder, out, first, _WIDE), align=4)
        return context.get_dummy_value()

    return signature, codegen


def _sums_over(builder, vectors):
    """Lane l is the sum over vector l, of as many vectors as they have lanes."""
    # Butterfly: sums of pairs of vectors, until one is left.
    bit = 1
    while len(vectors) > 1:
        vectors = [builder.add(*_exchange(builder, *vectors[i : i + 2], bit)) for i in range(0, len(vectors), 2)]
        bit *= 2
    return vectors[0]


@intrinsic
def _pair_dots_wide(typingctx, values, ones, others, first, columns, products):
    """products[first + l] = values[ones[first + l]] . values[others[first + l]] for as many l as _WIDE has lanes.

    The leading `columns` take part, and those of the others count 128 higher.
    """
    signature = types.void(values, ones, others, *(types.intp,) * 2, products)

    @written
    def code(call):
        builder, (first, columns) = call.builder, call.arguments[3:5]
        step = WORD * _WIDE.count
        width = builder.extract_value(
            call.context.make_array(values)(call.context, builder, call.arguments[0]).shape, 1
        )
        whole = builder.and_(columns, _LONG(-step))
        left = builder.trunc(builder.sub(columns, whole), _INT)
        flip, nothing = (ir.Constant(_WIDE, [word] * _WIDE.count) for word in (-0x7F7F7F80, 0))
        bytes_of = ir.VectorType(_BYTE, step)
        taken = builder.icmp_unsigned(
            "<", ir.Constant(bytes_of, list(range(step))), splat(builder, builder.trunc(left, _BYTE), bytes_of)
        )
        taken = builder.bitcast(builder.sext(taken, bytes_of), _WIDE)
        inside = builder.icmp_signed("!=", taken, nothing)
        sums = cgutils.alloca_once(builder, _WIDE, _WIDE.count)
        total = cgutils.alloca_once(builder, _WIDE)

        def row(i, pair):
            number = builder.load(call.place(i, builder.add(first, pair), _INT))
            return builder.mul(builder.sext(number, _LONG), width)

        def add(one, other):
            words = _words_of(builder, one)
            builder.store(_add_products(builder, builder.load(total), builder.xor(other, flip), words), total)

        with cgutils.for_range(builder, _LONG(_WIDE.count), intp=_LONG) as loop:
            builder.store(nothing, total)
            rows = [row(i, loop.index) for i in (1, 2)]
            with cgutils.for_range_slice(builder, _LONG(0), whole, _LONG(step), _LONG) as (at, _):
                places = [call.place(0, builder.add(start, at), _WIDE) for start in rows]
                add(*(builder.load(place, align=1) for place in places))
            with builder.if_then(builder.icmp_signed("!=", left, _INT(0))):
                places = [call.place(0, builder.add(start, whole), _WIDE) for start in rows]
                one, other = (
                    builder.call(_masked(builder, _WIDE), [place, _INT(4), inside, nothing]) for place in places
                )
                add(builder.and_(one, taken), other)
            builder.store(builder.load(total), builder.gep(sums, [loop.index]))
        vectors = [builder.load(builder.gep(sums, [_LONG(i)])) for i in range(_WIDE.count)]
        builder.store(_sums_over(builder, vectors), call.place(5, first, _WIDE), align=4)

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


@kernel(inline=True)
def _pack(values, rows, first, count, packed):
    room = room_for(values.shape[1])
    for group in range((count + LANES - 1) // LANES):
        for column in range(0, values.shape[1], COLUMNS):
            _pack16(values, rows, first + LANES * group, column, packed, (group * room + column) * LANES)


@kernel(inline=True)
def _spread(queries, width, query, words):
    """Four queries as numbers of 16 bits, two to a word: for each four columns two words of each query in turn."""
    for column in range(0, width, WORD):
        for i in range(QUERIES):
            at = (query + i) * width + column
            for odd in range(2):
                low, high = np.int32(queries[at + odd]), np.int32(queries[at + 2 + odd])
                words[2 * (column + i) + odd] = (low & np.int32(0xFFFF)) | (high << np.int32(16))


@kernel
def _multiply(queries, width, first, last, starts, packed, first_group, groups, products):
    words = np.empty(0 if BYTES else 2 * width, np.int32)
    for query in range(first, last, QUERIES):
        if BYTES:
            _across(queries, query, width, starts, packed, first_group, groups, products, query)
        else:
            _spread(queries, width, query, words)
            _across(words, 0, width, starts, packed, first_group, groups, products, query)


@kernel(inline=True)
def _across(queries, query, width, starts, packed, first_group, groups, products, row):
    """Products of four queries with all packed rows from a group on, to products[row ..]; see _tile_of."""
    room, group = room_for(width), first_group
    while group < groups:
        column = LANES * (group - first_group)
        if group + GROUPS <= groups:
            _tile_most(queries, query, width, starts, packed, group, room, products, row, column)
        elif group + 3 == groups:
            _tile3(queries, query, width, starts, packed, group, room, products, row, column)
        elif group + 2 == groups:
            _tile2(queries, query, width, starts, packed, group, room, products, row, column)
        else:
            _tile1(queries, query, width, starts, packed, group, room, products, row, column)
        group += GROUPS


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


# As kernels/products.py has them. Values are int8[m, w]; packed bytes are unsigned, which `starts` makes up for.
pack = _pack_python if config.DISABLE_JIT else _pack
multiply = _multiply_python if config.DISABLE_JIT else _multiply
dots = _dots_python if config.DISABLE_JIT else _dots
pair_dots = _pair_dots_python if config.DISABLE_JIT else _pair_dots
