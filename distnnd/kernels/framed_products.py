"""Products of packed bytes on machines that cannot multiply bytes four at a time, as byte_products.py has them: exact.

Numbers of 16 bits are what these machines multiply, in pairs. Many of them (AVX2, since 2013) also multiply bytes, two
at a time, but add such products up in 16 bits, which two large ones leave. Rows that are compared mostly lie near each
other, so a base is packed within its *frame*: bytes tell how far each number lies above the least of its column, and a
query takes part as how far it lies from the middle of each column. Both are small, and the sums of many products fit:
of how many, each query's own numbers tell for certain. Where even the fewest do not, they are spread out to 16 bits.

With u = base - least and v = query - middle, query . (base + 128) is v . u, and what only one of both decides:
v . (least + 128), a sum that a query begins with, and middle . (base + 128), a sum that a packed row begins with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .byte_lanes import (
    BYTE,
    COLUMNS,
    HALF,
    INT,
    LONG,
    OFFSET,
    VECTOR,
    add_products,
    all_of,
    lanes_of,
    masked,
    sums_of_pairs,
    words_left,
    words_of,
)
from .jit import kernel
from .lanes import LANES, Call, invoke, machine_has, splat, sum_up, written
from .packing import pack16, room_for
from .rows import WORD
from .scratch import scratch

QUERIES = 4  # rows of a tile
# Whether bytes are multiplied in pairs, into sums of 16 bits.
PAIRS = machine_has("avx2")
# A sum of 2^15 - 1 may have been larger.
LARGEST_HALF, LARGEST_BYTE = 2**15 - 2, 2**7 - 1
# A query is looked at thirty-two columns at a time, eight words; products of the words that follow each other are added
# up in 16 bits: of two of them, of four, of eight, of sixteen or of all.
EIGHT = 8
STEP = EIGHT * WORD
FITTING = 2, 4, EIGHT, 2 * EIGHT
# What begins sixteen packed rows comes behind them; the least and the middle number of each column, and how far columns
# reach, come before all of them.
_BEGIN = LANES * 4
_REACH = 64
_CHUNK, _STEP = ir.VectorType(BYTE, COLUMNS), ir.VectorType(BYTE, STEP)
_WORDS, _HALVES = ir.VectorType(INT, EIGHT), ir.VectorType(HALF, STEP)
_SUMS, _PAIRS = ir.VectorType(INT, 2 * EIGHT), ir.VectorType(HALF, 2 * EIGHT)


@kernel(inline=True)
def packed_size(width, count):
    """Bytes of `count` packed rows of `width` columns, with their frame."""
    return _group_at(room_for(width), (count + LANES - 1) // LANES)


@kernel(inline=True)
def _group_at(room, group):
    """Where a group of sixteen rows begins."""
    return 2 * room + _REACH + group * (LANES * room + _BEGIN)


@intrinsic
def _put_number(typingctx, packed, at, number):
    @written
    def code(here):
        here.builder.store(here.arguments[2], here.place(0, here.arguments[1], INT), align=1)

    return types.void(packed, types.intp, types.int32), code


@intrinsic
def _number_at(typingctx, packed, at):
    @written
    def code(here):
        return here.builder.load(here.place(0, here.arguments[1], INT), align=1)

    return types.int32(packed, types.intp), code


@intrinsic
def _frame64(typingctx, values, rows, first, count, width, column, room, packed):
    """Write down the least and the middle number of 64 columns of some rows; returns how far the widest reaches."""
    signature = types.int32(values, rows, *(types.intp,) * 5, packed)

    @written
    def code(here):
        builder, (first, count, width, column, room) = here.builder, here.arguments[2:7]
        stride, inside = here.columns(0), words_left(builder, width, column, VECTOR)
        least, most = (cgutils.alloca_once_value(builder, all_of(end, _CHUNK)) for end in (LARGEST_BYTE, -OFFSET))
        with cgutils.for_range_slice(builder, first, builder.add(first, count), LONG(1), LONG) as (i, _):
            row = builder.sext(builder.load(here.place(1, i, INT)), LONG)
            words = here.place(0, builder.add(builder.mul(row, stride), column), VECTOR)
            own = builder.bitcast(masked(builder, words, inside, all_of(0, VECTOR)), _CHUNK)
            _keep(builder, least, own, "<")
            _keep(builder, most, own, ">")
        least, most = builder.load(least), builder.load(most)
        wide = ir.VectorType(HALF, COLUMNS)
        low, high = (builder.sext(ends, wide) for ends in (least, most))
        middle = builder.trunc(builder.ashr(builder.add(low, high), all_of(1, wide)), _CHUNK)
        builder.store(least, here.place(7, column, _CHUNK), align=1)
        builder.store(middle, here.place(7, builder.add(room, column), _CHUNK), align=1)
        return builder.zext(_largest(builder, builder.sub(high, low)), INT)

    return signature, code


def _keep(builder, slot, vector, sign):
    """What a slot holds becomes the smaller, "<", or the larger of that and a vector, lane by lane."""
    held = builder.load(slot)
    builder.store(builder.select(builder.icmp_signed(sign, vector, held), vector, held), slot)


def _largest(builder, vector):
    """The largest number of a vector."""
    kind = vector.type.element
    return invoke(builder, f"llvm.vector.reduce.smax.v{vector.type.count}i{kind.width}", kind, vector)


@intrinsic
def _begin16(typingctx, packed, width, room, group, begin, start):
    """Of sixteen packed rows: begin[l] = start + middle . row l; `group` and `begin` are places in `packed`."""
    signature = types.void(packed, *(types.intp,) * 4, types.int32)

    @written
    def code(here):
        builder, (width, room, group, begin, start) = here.builder, here.arguments[1:]

        def add(at, sums):
            word = builder.load(here.place(0, builder.add(room, at), INT), align=1)
            base = builder.add(group, builder.mul(at, LONG(LANES)))
            base = builder.load(here.place(0, base, VECTOR), align=1)
            return [add_products(builder, *sums, base, words_of(builder, splat(builder, word, VECTOR)))]

        (total,) = sum_up(builder, width, WORD, [splat(builder, start, VECTOR)], add)
        builder.store(total, here.place(0, begin, VECTOR), align=1)

    return signature, code


@kernel
def _pack(values, rows, first, count, width, packed):
    room = room_for(width)
    reach = 1
    for column in range(0, width, COLUMNS):
        reach = max(reach, _frame64(values, rows, first, count, width, column, room, packed))
    _put_number(packed, 2 * room, np.int32(reach))
    start = np.int32(0)
    for column in range(width):
        start += np.int32(packed[room + column]) * (np.int32(packed[column]) + np.int32(OFFSET))
    for group in range((count + LANES - 1) // LANES):
        at, row = _group_at(room, group), first + LANES * group
        for column in range(0, width, COLUMNS):
            pack16(values, rows, row, column, width, packed, column, packed, at + column * LANES)
        _begin16(packed, width, room, at, at + LANES * room, start)


@intrinsic
def _enter(typingctx, queries, first, width, packed, room, limit, starts, row, near, begin):
    """Take four queries into the frame of a base; returns of how many words products fit into sums of 16 bits.

    first: where the queries begin, of `width` columns each. Writes to `near` how far they lie from the middle, as
    bytes, `room` for each, and to `begin` what their sums begin with, of which starts[row ..] are a part. limit: what
    the bytes of a query may add up to, so that products with the largest bytes of the base fit.
    """
    sizes = (types.intp,) * 2
    signature = types.intp(queries, *sizes, packed, types.intp, types.int32, starts, types.intp, near, begin)

    @written
    def code(here):
        builder = here.builder
        (first, width), (room, limit), row = here.arguments[1:3], here.arguments[4:6], here.arguments[7]
        reached = _Reached(builder)
        start = cgutils.alloca_once(builder, _SUMS)
        with cgutils.for_range(builder, LONG(QUERIES), intp=LONG) as query:
            builder.store(all_of(0, _SUMS), start)
            own, place = (
                builder.add(at, builder.mul(query.index, size)) for at, size in ((first, width), (LONG(0), room))
            )
            with cgutils.for_range_slice(builder, LONG(0), width, LONG(STEP), LONG) as (at, _):
                away, least = _away(here, builder.add(own, at), width, at, room)
                bytes_of = builder.trunc(away, _STEP)
                builder.store(bytes_of, here.place(8, builder.add(place, at), _STEP), align=1)
                builder.store(builder.add(builder.load(start), sums_of_pairs(builder, away, least)), start)
                if PAIRS:
                    reached.note(away, bytes_of)
            begun = builder.load(here.place(6, builder.add(row, query.index), INT))
            begun = builder.add(begun, invoke(builder, "llvm.vector.reduce.add.v16i32", INT, builder.load(start)))
            builder.store(begun, here.place(9, query.index, INT))
            reached.end()
        return reached.fitting(limit, width)

    return signature, code


def _away(here, query, width, at, room):
    """How far a query is from the middle, and the least, 128 higher, of thirty-two columns from `at` on: 16 bits each."""
    builder = here.builder
    inside = words_left(builder, width, at, _WORDS)
    own = builder.bitcast(masked(builder, here.place(0, query, _WORDS), inside, all_of(0, _WORDS)), _STEP)
    middle, least = (builder.load(here.place(3, place, _STEP), align=1) for place in (builder.add(room, at), at))
    away = builder.sub(builder.sext(own, _HALVES), builder.sext(middle, _HALVES))
    return away, builder.zext(builder.xor(least, all_of(-OFFSET, _STEP)), _HALVES)


class _Reached:
    """How much the bytes of queries add up to, those above the middle and those below, while code is written.

    Of each word the first two columns and the last two go into sums of their own, as the instruction has it.
    """

    def __init__(self, builder):
        self.builder = builder
        # The largest sums of so many words, and of all words of a query; those of the eight words before, and of this
        # query so far; what a byte may not hold.
        self.largest = {count: self._slot() for count in (*FITTING, 0)}
        self.before, self.whole, self.far = (
            self._slot(),
            self._slot(),
            cgutils.alloca_once_value(builder, all_of(0, _HALVES)),
        )

    def _slot(self):
        return cgutils.alloca_once_value(self.builder, all_of(0, _PAIRS))

    def note(self, away, near):
        """Thirty-two columns more, in 16 bits and as bytes."""
        builder, nothing = self.builder, all_of(0, _STEP)
        # What a byte holds is below 256 then.
        moved = builder.add(away, all_of(OFFSET, _HALVES))
        builder.store(builder.or_(builder.load(self.far), moved), self.far)
        sides = []
        for side, sign in ((near, ">"), (builder.sub(nothing, near), "<")):
            # Below the middle up to 128, as an unsigned byte.
            side = builder.select(builder.icmp_signed(sign, near, nothing), side, nothing)
            sides.append(invoke(builder, "llvm.x86.avx2.pmadd.ub.sw", _PAIRS, side, all_of(1, _STEP)))
        # First columns beside first ones, as neighbours are added up, each four words within their half of a register.
        order = [8 * half + lane for half in range(2) for lane in (0, 2, 4, 6, 1, 3, 5, 7)]
        sums = self._add(*(lanes_of(builder, side, order) for side in sides))
        _keep(builder, self.largest[2], sums, ">")
        sums = self._add(sums, sums)
        _keep(builder, self.largest[4], sums, ">")
        sums = builder.add(sums, lanes_of(builder, sums, [*range(8, 16), *range(8)]))
        _keep(builder, self.largest[EIGHT], sums, ">")
        _keep(builder, self.largest[2 * EIGHT], builder.add(sums, builder.load(self.before)), ">")
        builder.store(sums, self.before)
        # However wide rows are: what leaves 16 bits stays at their end.
        sums = invoke(builder, "llvm.sadd.sat.v16i16", _PAIRS, builder.load(self.whole), sums)
        builder.store(sums, self.whole)

    def _add(self, one, other):
        """Neighbours added up: of each half of a register those of one, then those of the other."""
        return invoke(self.builder, "llvm.x86.avx2.phadd.w", _PAIRS, one, other)

    def end(self):
        """Of a query."""
        _keep(self.builder, self.largest[0], self.builder.load(self.whole), ">")
        for slot in (self.before, self.whole):
            self.builder.store(all_of(0, _PAIRS), slot)

    def fitting(self, limit, width):
        """The most words of which no sum exceeds the limit; 0 if even two may, or if a byte does not hold what is far."""
        builder, most = self.builder, LONG(0)
        for count, slot in self.largest.items():
            largest = builder.sext(_largest(builder, builder.load(slot)), INT)
            words = LONG(count) if count else builder.sdiv(builder.add(width, LONG(WORD - 1)), LONG(WORD))
            most = builder.select(builder.icmp_signed("<=", largest, limit), words, most)
        far = invoke(builder, "llvm.vector.reduce.or.v32i16", HALF, builder.load(self.far))
        return builder.select(builder.icmp_unsigned("<", far, HALF(2 * OFFSET)), most, LONG(0))


@intrinsic
def _spread(typingctx, queries, first, width, packed, room, halves):
    """Write to `halves`, `room` for each, how far four queries lie from the middle, in 16 bits.

    Columns 0 and 2 of a word come first, as even bytes of a base are taken apart first.
    """
    signature = types.void(queries, *(types.intp,) * 2, packed, types.intp, halves)

    @written
    def code(here):
        builder, (first, width), room = here.builder, here.arguments[1:3], here.arguments[4]
        order = [WORD * word + column for word in range(EIGHT) for column in (0, 2, 1, 3)]
        with cgutils.for_range(builder, LONG(QUERIES), intp=LONG) as query:
            own, place = (
                builder.add(at, builder.mul(query.index, size)) for at, size in ((first, width), (LONG(0), room))
            )
            with cgutils.for_range_slice(builder, LONG(0), width, LONG(STEP), LONG) as (at, _):
                away, _ = _away(here, builder.add(own, at), width, at, room)
                place_of = here.place(5, builder.add(place, at), _HALVES)
                builder.store(lanes_of(builder, away, order), place_of, align=1)

    return signature, code


@intrinsic
def _tile16(typingctx, near, halves, width, room, fitting, begin, packed, group, products, row, column):
    """products[row + i, column ..] = begin[i] + query i . sixteen packed rows, for four i.

    near, halves: the queries within the frame, `room` for each; fitting: of how many words products are added up
    in 16 bits, 0 if the halves are to be taken; group: where the rows begin in `packed`.
    """
    sizes = (types.intp,) * 2
    signature = types.void(near, halves, *sizes, types.intp, begin, packed, types.intp, products, *sizes)

    @written
    def code(here):
        builder = here.builder
        width, room, fitting = here.arguments[2:5]
        group, (row, column) = here.arguments[7], here.arguments[9:]
        tile = _Tile(here, group, width, [builder.mul(room, LONG(i)) for i in range(QUERIES)])
        own = builder.load(here.place(6, builder.add(group, builder.mul(room, LONG(LANES))), VECTOR), align=1)
        totals = []
        for i in range(QUERIES):
            start = splat(builder, builder.load(here.place(5, LONG(i), INT)), VECTOR)
            totals.append(cgutils.alloca_once_value(builder, builder.add(start, own)))
        if PAIRS:
            with builder.if_else(builder.icmp_signed("!=", fitting, LONG(0))) as (fits, fits_not):
                with fits:
                    tile.add_bytes(totals, fitting)
                with fits_not:
                    tile.add_halves(totals)
        else:
            tile.add_halves(totals)
        for i, total in enumerate(totals):
            place = builder.add(builder.mul(builder.add(row, LONG(i)), here.columns(8)), column)
            builder.store(builder.load(total), here.place(8, place, VECTOR), align=4)

    return signature, code


class _Tile(NamedTuple):
    """Products of four queries with sixteen rows while their code is written; places where these begin."""

    here: Call
    rows: Any
    width: Any
    queries: list

    def base(self, column):
        """The words of the rows at a column."""
        place = self.here.builder.add(self.rows, self.here.builder.mul(column, LONG(LANES)))
        return self.here.builder.load(self.here.place(6, place, VECTOR), align=1)

    def word(self, array, place, kind):
        """A word of a query, again and again: four bytes or two numbers of 16 bits."""
        builder = self.here.builder
        return splat(builder, builder.load(self.here.place(array, place, INT), align=1), kind)

    def add_halves(self, totals):
        """Add up products of numbers of 16 bits."""
        builder = self.here.builder
        with cgutils.for_range_slice(builder, LONG(0), self.width, LONG(WORD), LONG) as (column, _):
            base = self.base(column)
            for query, total in zip(self.queries, totals, strict=True):
                place = builder.add(query, column)
                words = [self.word(1, builder.add(place, LONG(more)), VECTOR) for more in (0, 2)]
                builder.store(add_products(builder, builder.load(total), base, words), total)

    def add_bytes(self, totals, fitting):
        """Add up products of bytes, those of so many words in 16 bits."""
        builder, bytes_of = self.here.builder, ir.VectorType(BYTE, 2 * LANES)
        parts = (range(EIGHT), range(EIGHT, LANES))
        sums = [[cgutils.alloca_once(builder, _PAIRS) for _ in parts] for _ in totals]
        step = builder.mul(fitting, LONG(WORD))
        with cgutils.for_range_slice(builder, LONG(0), self.width, step, LONG) as (first, _):
            for held in (held for one in sums for held in one):
                builder.store(all_of(0, _PAIRS), held)
            end = builder.add(first, step)
            end = builder.select(builder.icmp_signed("<", end, self.width), end, self.width)
            with cgutils.for_range_slice(builder, first, end, LONG(WORD), LONG) as (column, _):
                base = [builder.bitcast(lanes_of(builder, self.base(column), part), bytes_of) for part in parts]
                for query, one in zip(self.queries, sums, strict=True):
                    word = builder.bitcast(self.word(0, builder.add(query, column), _WORDS), bytes_of)
                    for own, held in zip(base, one, strict=True):
                        product = invoke(builder, "llvm.x86.avx2.pmadd.ub.sw", _PAIRS, own, word)
                        builder.store(builder.add(builder.load(held), product), held)
            for total, one in zip(totals, sums, strict=True):
                wide = [
                    invoke(builder, "llvm.x86.avx2.pmadd.wd", _WORDS, builder.load(held), all_of(1, _PAIRS))
                    for held in one
                ]
                wide = builder.shuffle_vector(*wide, ir.Constant(VECTOR, list(range(LANES))))
                builder.store(builder.add(builder.load(total), wide), total)


@kernel
def _multiply(queries, width, first, last, starts, packed, first_group, groups, products):
    room = room_for(width)
    near, halves = scratch(QUERIES * room, np.int8), scratch(QUERIES * room, np.int16)
    begin = np.empty(QUERIES, np.int32)
    limit = np.int32(LARGEST_HALF) // _number_at(packed, 2 * room)
    for query in range(first, last, QUERIES):
        fitting = _enter(queries, query * width, width, packed, room, limit, starts, query, near, begin)
        if not (PAIRS and fitting):
            _spread(queries, query * width, width, packed, room, halves)
        for group in range(first_group, groups):
            at, column = _group_at(room, group), LANES * (group - first_group)
            _tile16(near, halves, width, room, fitting, begin, packed, at, products, query, column)


# As kernels/products.py has them. Values are int8[m, w]; the starts of queries make up for bytes that count as 128
# higher than they are, as byte_products.py packs them.
pack = _pack
multiply = _multiply
