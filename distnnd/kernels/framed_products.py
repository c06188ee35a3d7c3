"""Products of packed bytes on machines that cannot multiply bytes four at a time, as byte_products.py has them: exact.

Numbers of 16 bits are what these machines multiply, in pairs. Many of them (AVX2, since 2013) also multiply bytes, two
at a time, but add such products up in 16 bits, which two large ones leave. So bases and queries are taken into a frame
(frames.py), within which they are small, and the sums of many products fit: of how many, each query's own numbers tell
for certain. Where not even those of two words do, the numbers are spread out to 16 bits.
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
    INT,
    LONG,
    QUERIES,
    VECTOR,
    add_products,
    all_of,
    lanes_of,
)
from .frames import EIGHT, IN_PAIRS, SHORTS, WORDS, enter, group_at, most_to_fit, spread
from .frames import pack as pack
from .frames import packed_size as packed_size
from .jit import kernel
from .lanes import LANES, Call, invoke, splat, written
from .packing import room_for
from .rows import WORD
from .scratch import scratch


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
        if IN_PAIRS:
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
        sums = [[cgutils.alloca_once(builder, SHORTS) for _ in parts] for _ in totals]
        step = builder.mul(fitting, LONG(WORD))
        with cgutils.for_range_slice(builder, LONG(0), self.width, step, LONG) as (first, _):
            for held in (held for one in sums for held in one):
                builder.store(all_of(0, SHORTS), held)
            end = builder.add(first, step)
            end = builder.select(builder.icmp_signed("<", end, self.width), end, self.width)
            with cgutils.for_range_slice(builder, first, end, LONG(WORD), LONG) as (column, _):
                base = [builder.bitcast(lanes_of(builder, self.base(column), part), bytes_of) for part in parts]
                for query, one in zip(self.queries, sums, strict=True):
                    word = builder.bitcast(self.word(0, builder.add(query, column), WORDS), bytes_of)
                    for own, held in zip(base, one, strict=True):
                        product = invoke(builder, "llvm.x86.avx2.pmadd.ub.sw", SHORTS, own, word)
                        builder.store(builder.add(builder.load(held), product), held)
            for total, one in zip(totals, sums, strict=True):
                wide = [
                    invoke(builder, "llvm.x86.avx2.pmadd.wd", WORDS, builder.load(held), all_of(1, SHORTS))
                    for held in one
                ]
                wide = builder.shuffle_vector(*wide, ir.Constant(VECTOR, list(range(LANES))))
                builder.store(builder.add(builder.load(total), wide), total)


@kernel
def multiply(queries, width, first, last, starts, packed, first_group, groups, products):
    """As kernels/products.py has it; the starts make up for numbers of a base that count OFFSET higher."""
    room = room_for(width)
    near, halves = scratch(QUERIES * room, np.int8), scratch(QUERIES * room, np.int16)
    begin = np.empty(QUERIES, np.int32)
    limit = most_to_fit(packed, width)
    for query in range(first, last, QUERIES):
        fitting = enter(queries, query * width, width, packed, room, limit, starts, query, near, begin)
        if not (IN_PAIRS and fitting):
            spread(queries, query * width, width, packed, room, halves)
        for group in range(first_group, groups):
            at, column = group_at(room, group), LANES * (group - first_group)
            _tile16(near, halves, width, room, fitting, begin, packed, at, products, query, column)
