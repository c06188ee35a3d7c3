"""The frame of a base: what its rows are packed within, and how queries are taken into it.

A base is packed as how far each number lies above the least of its column, in unsigned bytes. A query takes part as how
far it lies from the middle of each column, in signed ones. Where rows lie near each other both are small.

With u = base - least and v = query - middle, query . (base + 128) is v . u, and what only one of both decides:
v . (least + 128), a sum that a query begins with, and middle . (base + 128), a sum that a packed row begins with.
"""

from __future__ import annotations

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
    QUERIES,
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
from .lanes import LANES, invoke, machine_has, numbers_of, splat, sum_up, written
from .packing import pack16, room_for
from .rows import WORD

# Whether bytes are multiplied in pairs, into sums of 16 bits.
IN_PAIRS = machine_has("avx2")
# A sum of 2^15 - 1 may have been larger.
_LARGEST_HALF, _LARGEST_BYTE = 2**15 - 2, 2**7 - 1
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
WORDS, _HALVES = ir.VectorType(INT, EIGHT), ir.VectorType(HALF, STEP)
_SUMS, SHORTS = ir.VectorType(INT, 2 * EIGHT), ir.VectorType(HALF, 2 * EIGHT)


_number_at, _put_number = numbers_of(types.int32)


@kernel(inline=True)
def packed_size(width, count):
    """Bytes of `count` packed rows of `width` columns, with their frame."""
    return group_at(room_for(width), (count + LANES - 1) // LANES)


@kernel(inline=True)
def group_at(room, group):
    """Where a group of sixteen rows begins."""
    return 2 * room + _REACH + group * (LANES * room + _BEGIN)


@intrinsic
def _frame64(typingctx, values, rows, first, count, width, column, room, packed):
    """Write down the least and the middle number of 64 columns of some rows; returns how far the widest reaches."""
    signature = types.int32(values, rows, *(types.intp,) * 5, packed)

    @written
    def code(here):
        builder, (first, count, width, column, room) = here.builder, here.arguments[2:7]
        stride, inside = here.columns(0), words_left(builder, width, column, VECTOR)
        least, most = (cgutils.alloca_once_value(builder, all_of(end, _CHUNK)) for end in (_LARGEST_BYTE, -OFFSET))
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
def pack(values, rows, first, count, width, packed):
    """As kernels/products.py has it: the frame of these rows, then the rows within it, by groups of sixteen."""
    room, groups = room_for(width), (count + LANES - 1) // LANES
    reach = 1
    for column in range(0, width, COLUMNS):
        reach = max(reach, _frame64(values, rows, first, groups * LANES, width, column, room, packed))
    _put_number(packed, 2 * room, np.int32(reach))
    start = np.int32(0)
    for column in range(width):
        start += np.int32(packed[room + column]) * (np.int32(packed[column]) + np.int32(OFFSET))
    for group in range(groups):
        at, row = group_at(room, group), first + LANES * group
        for column in range(0, width, COLUMNS):
            pack16(values, rows, row, column, width, packed, column, packed, at + column * LANES)
        _begin16(packed, width, room, at, at + LANES * room, start)


@kernel(inline=True)
def most_to_fit(packed, width):
    """What bytes of a query may add up to, so that their products with the largest ones of a base fit into 16 bits."""
    return np.int32(_LARGEST_HALF) // _number_at(packed, 2 * room_for(width))


@intrinsic
def enter(typingctx, queries, first, width, packed, room, limit, starts, row, near, begin):
    """Take four queries into the frame of a base; returns of how many words products fit into sums of 16 bits.

    first: where the queries begin, of `width` columns each. Writes to `near` how far they lie from the middle, as
    bytes, `room` for each, and to `begin` what their sums begin with, of which starts[row ..] are a part. limit: as
    most_to_fit has it.
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
                if IN_PAIRS:
                    reached.note(away, bytes_of)
            begun = builder.load(here.place(6, builder.add(row, query.index), INT))
            begun = builder.add(begun, invoke(builder, "llvm.vector.reduce.add.v16i32", INT, builder.load(start)))
            builder.store(begun, here.place(9, query.index, INT))
            reached.end()
        return reached.fitting(limit, width)

    return signature, code


def _away(here, query, width, at, room):
    """How far a query is from the middle, and the least, 128 higher, of 32 columns from `at` on, in 16 bits each."""
    builder = here.builder
    inside = words_left(builder, width, at, WORDS)
    own = builder.bitcast(masked(builder, here.place(0, query, WORDS), inside, all_of(0, WORDS)), _STEP)
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
        return cgutils.alloca_once_value(self.builder, all_of(0, SHORTS))

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
            sides.append(invoke(builder, "llvm.x86.avx2.pmadd.ub.sw", SHORTS, side, all_of(1, _STEP)))
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
        sums = invoke(builder, "llvm.sadd.sat.v16i16", SHORTS, builder.load(self.whole), sums)
        builder.store(sums, self.whole)

    def _add(self, one, other):
        """Neighbours added up: of each half of a register those of one, then those of the other."""
        return invoke(self.builder, "llvm.x86.avx2.phadd.w", SHORTS, one, other)

    def end(self):
        """Of a query."""
        _keep(self.builder, self.largest[0], self.builder.load(self.whole), ">")
        for slot in (self.before, self.whole):
            self.builder.store(all_of(0, SHORTS), slot)

    def fitting(self, limit, width):
        """The most words of which no sum exceeds the limit; 0 if those of two may, or if a byte holds less."""
        builder, most = self.builder, LONG(0)
        for count, slot in self.largest.items():
            largest = builder.sext(_largest(builder, builder.load(slot)), INT)
            words = LONG(count) if count else builder.sdiv(builder.add(width, LONG(WORD - 1)), LONG(WORD))
            most = builder.select(builder.icmp_signed("<=", largest, limit), words, most)
        far = invoke(builder, "llvm.vector.reduce.or.v32i16", HALF, builder.load(self.far))
        return builder.select(builder.icmp_unsigned("<", far, HALF(2 * OFFSET)), most, LONG(0))


@intrinsic
def spread(typingctx, queries, first, width, packed, room, halves):
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
