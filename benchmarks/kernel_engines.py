"""The engines by themselves: products, leaves, passes of NN-descent, walks of a k-d tree."""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import numpy as np

from distnnd.kernels import codes, descent, kdtree, leaves, neighbours, products
from distnnd.kernels import companions as drawing
from distnnd.kernels.rows import WORD

from .kernel_data import (
    LEAF,
    SEED,
    WIDTH,
    Case,
    Make,
    Size,
    coded,
    copied,
    full_lists,
    joined,
    looped,
    points,
    wide,
)

# --- products and leaves ------------------------------------------------------------------------------------


@looped
def _multiply(block, width, starts, packed, groups, out, loops):
    for _ in range(loops):
        products.multiply(block, width, 0, starts.size, starts, packed, 0, groups, out)


@looped
def _pack(values, chosen, width, packed, loops):
    for _ in range(loops):
        products.pack(values, chosen, 0, chosen.size, width, packed)


@looped
def _packed_size(width, count):
    return products.packed_size(width, count)


def multiply(size: Size, d: int, anywhere: bool = False) -> Case:
    """A tile of a leaf: 128 queries with 1,024 packed rows; or of rows from anywhere, which lie far from each other."""
    own, form = coded(size.rows, d)
    width = -(-d // WORD) * WORD
    queries, base = leaves.QUERIES, leaves.BASE
    chosen = np.arange(base, dtype=np.int32)
    if anywhere:
        chosen = np.random.default_rng(SEED).integers(0, size.rows, base).astype(np.int32)
    block, starts = np.zeros(queries * width, np.int8), np.zeros(queries, np.int32)
    packed = np.empty(_packed_size(width, base), np.int8)
    _pack(own.values, chosen, width, packed, 1)
    _gather(own, chosen, queries, form.columns, width, block, starts)
    out = np.empty((queries, base), np.int32)
    loops, groups = 20 * size.loops, base // 16

    def run(_: None) -> int:
        _multiply(block, width, starts, packed, groups, out, loops)
        return queries * base * loops

    return Case("pair", run)


@looped
def _gather(own, chosen, count, columns, width, block, starts):
    codes.gather(own, chosen, 0, count, columns, width, block, starts)


@looped
def _pair_dots(values, ones, others, columns, out, loops):
    for _ in range(loops):
        products.pair_dots(values, ones, others, ones.size, columns, out)


def pair_dots(size: Size, d: int) -> Case:
    """96 pairs of 40 rows where they lie, as those of a row of NN-descent."""
    own, _ = coded(size.rows, d)
    ones, others = np.random.default_rng(SEED).integers(0, 40, (2, 96)).astype(np.int32)
    out, loops = np.empty(96, np.int32), 1000 * size.loops

    def run(_: None) -> int:
        _pair_dots(own.values, ones, others, own.values.shape[1], out, loops)
        return 96 * loops

    return Case("pair", run)


def pack(size: Size, d: int) -> Case:
    """512 rows of a base, side by side."""
    own, _ = coded(size.rows, d)
    chosen = np.random.default_rng(SEED).integers(0, size.rows, leaves.BASE).astype(np.int32)
    width = own.values.shape[1]
    packed = np.empty(_packed_size(width, leaves.BASE), np.int8)

    def run(_: None) -> int:
        _pack(own.values, chosen, width, packed, 20 * size.loops)
        return leaves.BASE * 20 * size.loops

    return Case("row", run)


def join_empty(size: Size, d: int) -> Case:
    """All pairs of leaves of 400, into lists that know nothing."""
    coded(size.rows, d)
    return Case("pair", lambda lists: joined(size.rows, d, lists), lambda: neighbours.empty(size.rows, WIDTH))


def join_full(size: Size, d: int) -> Case:
    """The same pairs once more: nothing enters."""
    lists = copied(full_lists(size.rows, d))
    return Case("pair", lambda _: joined(size.rows, d, lists))


@looped
def _bounds(tile, count, wanted, loops):
    total = 0
    for _ in range(loops):
        for query in range(tile.products.shape[0]):
            total += leaves.first_bound(tile.bias, tile.products[query], tile.minima, count, wanted)
    return total


def first_bound(size: Size) -> Case:
    """The bound that a new list gets from its first leaf."""
    tile = leaves.room_for_tile(np.zeros((1, 128), np.int8), WIDTH)
    rng = np.random.default_rng(SEED)
    tile.products[:] = rng.integers(0, 2**20, tile.products.shape)
    tile.bias[:] = rng.integers(2**20, 2**21, tile.bias.shape)

    def run(_: None) -> int:
        _bounds(tile, LEAF, WIDTH + 1, 10 * size.loops)
        return tile.products.shape[0] * LEAF * 10 * size.loops

    return Case("pair", run)


# --- NN-descent ---------------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """A pass that has drawn its companions."""

    lists: neighbours.Lists
    companions: drawing.Companions
    cards: np.ndarray


@cache
def drawn(n: int, d: int) -> Pass:
    """Companions drawn, entries marked, cards written."""
    lists = copied(full_lists(n, d))
    companions, cards = drawing.no_companions(n, 20), descent.new_cards(np.empty((n, 0), np.int32))
    descent.fill_cards(*coded(n, d)[:2], lists, cards)
    drawing.draw(lists, companions, 0, n, SEED)
    drawing.mark(lists, 0, n)
    return Pass(lists, companions, cards)


def joined_pass(n: int, d: int) -> tuple[descent.Finds, int]:
    """What the pass finds among the companions of all rows, and the pairs compared."""
    own, form = coded(n, d)
    lists, companions, cards = drawn(n, d)
    finds, _, compared = descent.join(own, companions, cards, form, lists, 0, n, 1, 400 * n)
    return finds, compared


def draw(size: Size) -> Case:
    """Companions of all rows, from lists whose entries are all fresh."""
    lists, n = full_lists(size.rows, 100), size.rows
    companions = drawing.no_companions(n, 20)

    def run(_: None) -> int:
        drawing.draw(lists, companions, 0, n, SEED)
        return lists.ids.size

    return Case("entry", run)


def compare(size: Size, d: int) -> Case:
    """Companions among themselves, finds written down."""
    drawn(size.rows, d)
    return Case("pair", lambda _: joined_pass(size.rows, d)[1])


def apply(size: Size) -> Case:
    """Finds of a pass into their lists."""
    finds, _ = joined_pass(size.rows, 100)
    lists, _, cards = drawn(size.rows, 100)
    form = coded(size.rows, 100)[1]

    def run(own: tuple[neighbours.Lists, np.ndarray]) -> int:
        descent.apply(finds, form, *own, 0, size.rows)
        return finds.targets.size

    return Case("find", run, lambda: (copied(lists), cards.copy()))


def settle(size: Size) -> Case:
    """The end of a pass."""
    lists = drawn(size.rows, 100).lists

    def run(own: neighbours.Lists) -> int:
        drawing.settle(own, 0, size.rows)
        return own.ids.size

    return Case("entry", run, lambda: copied(lists))


# --- the k-d tree -------------------------------------------------------------------------------------------


def walk(size: Size, d: int) -> Case:
    """Every row of a tree to its nearest, 17 of them: 15 neighbours, and two to spare."""
    tree = kdtree.plant(points(size.rows, d), np.arange(size.rows, dtype=np.int32))
    limits = np.full(size.rows, np.inf, np.float32)

    def run(lists: neighbours.Lists) -> int:
        kdtree.walk(tree, limits, lists, 0, tree.leaves)
        return size.rows

    return Case("row", run, lambda: neighbours.empty(size.rows, 17))


ENGINES: dict[str, Make] = {
    **wide(multiply, "products.multiply", 32, 100, 128, 784),
    **wide(partial(multiply, anywhere=True), "products.multiply, rows from anywhere", 128),
    **wide(pair_dots, "products.pair_dots", 32, 100, 128),
    **wide(pack, "products.pack", 100, 784),
    **wide(join_empty, "leaves.join empty", 100, 128, 784),
    **wide(join_full, "leaves.join full", 100, 128, 784),
    "leaves.first_bound": first_bound,
    "descent.draw": draw,
    **wide(compare, "descent.join", 100, 784),
    "descent.apply": apply,
    "descent.settle": settle,
    **wide(walk, "kdtree.walk", 3, 8),
}
