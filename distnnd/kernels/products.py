"""Products of codes, whichever these are: numbers of a byte each (int8), or eight columns of one bit each (uint8).

The type of the codes chooses (kernels/byte_products.py, kernels/bit_products.py); all that compares rows calls these
names and knows no more.
"""

from __future__ import annotations

import numpy as np
from numba.core import config

from . import bit_products, byte_products, framed_products, row_products
from .byte_lanes import BYTES
from .byte_lanes import COLUMNS as COLUMNS
from .byte_lanes import OFFSET as OFFSET
from .byte_lanes import QUERIES as QUERIES
from .chosen import chosen
from .packing import room_for as room_for

# Whichever the machine is made for; they lay out a base each in its own way.
_packed = byte_products if BYTES or config.DISABLE_JIT else framed_products
_pack_bytes, _multiply_bytes, packed_size = _packed.pack, _packed.multiply, _packed.packed_size
_dots_bytes, _pair_dots_bytes = row_products.dots, row_products.pair_dots


@chosen(allocates=True)
def pack(values, rows, first, count, width, packed):
    """Lay out rows[first : first + count] of values[m, w] for `multiply`: the leading `width` of their columns.

    width: a multiple of four, of bits of eight; packed: flat, >= packed_size(width, count) bytes; `rows` goes on with
    valid ids to the next multiple of sixteen.
    """
    _pack_bytes(values, rows, first, count, width, packed)


@chosen(allocates=True)
def multiply(queries, width, first, last, starts, packed, first_group, groups, products):
    """Products of the queries first .. last with the packed rows from group `first_group` on.

    queries: codes, flat, w a row; starts: int32, what each query's sums begin with; products: int32[., stride], a row a
    query. Queries, starts and products have room to the next multiple of four rows.
    """
    _multiply_bytes(queries, width, first, last, starts, packed, first_group, groups, products)


@chosen()
def dots(values, rows, count, query, start, products):
    """products[l] = start + query . row l, for the first `count` of `rows` of values[m, w] where they lie.

    query: codes, filled up with zeros to whole vectors of 64; `rows` goes on with valid ids, and products has room, to
    the next multiple of sixteen. Rows of numbers count 128 higher than they are.
    """
    _dots_bytes(values, rows, count, query, start, products)


@chosen()
def pair_dots(values, ones, others, count, columns, products):
    """products[l] = row ones[l] . row others[l] of values[m, w], l < count, in their leading `columns`.

    `ones` and `others` go on with valid ids, and products has room, to the next multiple of sixteen. Where rows are of
    numbers the others count 128 higher than they are; rows of bits take part as wholes.
    """
    _pair_dots_bytes(values, ones, others, count, columns, products)


pack.of(np.uint8)(bit_products.pack)
multiply.of(np.uint8)(bit_products.multiply)
dots.of(np.uint8)(bit_products.dots)
pair_dots.of(np.uint8)(bit_products.pair_dots)
