"""Products of codes, whichever these are: numbers of a byte each (int8), or eight columns of one bit each (uint8).

The type of the codes chooses (kernels/byte_products.py, kernels/bit_products.py); all that compares rows calls these
names and knows no more.
"""

from __future__ import annotations

import numpy as np

from . import bit_products, byte_products
from .byte_products import COLUMNS as COLUMNS
from .byte_products import OFFSET as OFFSET
from .byte_products import QUERIES as QUERIES
from .byte_products import room_for as room_for
from .chosen import chosen

_pack_bytes, _multiply_bytes = byte_products.pack, byte_products.multiply
_dots_bytes, _pair_dots_bytes = byte_products.dots, byte_products.pair_dots


@chosen()
def pack(values, rows, first, count, packed):
    """Lay out rows[first : first + count] of values[m, w] for `multiply`, w a multiple of four, of bits of eight.

    packed: flat, >= 16 * groups * room_for(w) bytes; `rows` goes on with valid ids to the next multiple of sixteen.
    """
    _pack_bytes(values, rows, first, count, packed)


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
