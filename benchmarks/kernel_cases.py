"""What `python -m benchmarks.kernels` measures: one small adapter a kernel, so that a changed signature is mended here.

An adapter gets a Size and returns a Case. Kernels that live inside others' loops are called in a loop of their own that
is compiled for it; what such a loop adds up is returned, so that no compiler can leave it out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np

from distnnd.kernels import codes, descent, leaves, merge, neighbours, products, rows, trees
from distnnd.kernels.jit import FASTMATH
from distnnd.storage import graph
from distnnd.values.metric import METRICS

from . import distance_cases

WIDTH, LEAF, SEED = 20, 400, 7
looped = numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")


class Size(NamedTuple):
    """rows: of the data; loops: how often short work is done in a repeat."""

    rows: int
    loops: int


class Case(NamedTuple):
    """unit: what is counted; run: does the work on what reset returned, and says how many units it was.

    reset: called before each repeat, its time does not count.
    """

    unit: str
    run: Callable[[Any], int]
    reset: Callable[[], Any] = lambda: None


# --- data that several share --------------------------------------------------------------------------------


@cache
def points(n: int, d: int) -> np.ndarray:
    """Rows around 40 centres on a bent sheet of ten dimensions, in leaf order, as in a partition: float32[n, d]."""
    rng = np.random.default_rng(SEED)
    centres = rng.normal(size=(40, 10)) * 2
    flat = centres[rng.integers(0, 40, n)] + rng.normal(size=(n, 10))
    bent = np.tanh(flat @ rng.normal(size=(10, d)) / 3) + rng.normal(size=(n, d)) / 50
    unordered = bent.astype(np.float32)
    coder = codes.coder_of(unordered, METRICS["euclidean"])
    own = codes.encode(unordered, coder)
    role = trees.Role(codes.routing_form(own, coder), np.ones(n, np.bool_))
    (ends,) = trees.descend(own, [role], trees.Shape(LEAF, 2 * LEAF, 64, 4), SEED)
    return np.ascontiguousarray(unordered[np.argsort(ends.slots[:, 0], kind="stable")])


@cache
def coded(n: int, d: int) -> tuple[codes.Rows, rows.Form]:
    """The rows with their codes, compared by estimates that are kept."""
    coder = codes.coder_of(points(n, d), METRICS["euclidean"])
    own = codes.encode(points(n, d), coder)
    return own, codes.trusted(codes.form_of(METRICS["euclidean"], own, coder))


@cache
def leaf_groups(n: int, shift: int = 0) -> leaves.Groups:
    """Leaves of LEAF rows that lie one after the other, the first one shorter by `shift`."""
    numbers = (np.arange(n) + shift).astype(np.int32) // np.int32(LEAF)
    return leaves.Groups(*leaves.group_rows(numbers, int(numbers[-1]) + 1))


def joined(n: int, d: int, lists: neighbours.Lists, shift: int = 0) -> int:
    """All pairs of each leaf; returns how many."""
    own, form = coded(n, d)
    group = leaf_groups(n, shift)
    return leaves.join(own, group, own, group, group.rows, form, lists, True, 0, len(group.starts) - 1)


@cache
def full_lists(n: int, d: int) -> neighbours.Lists:
    """Lists after all pairs of two leaves a row, which overlap by half; to be copied before they are changed."""
    lists = neighbours.empty(n, WIDTH)
    joined(n, d, lists)
    joined(n, d, lists, LEAF // 2)
    return lists


def copied(lists: neighbours.Lists) -> neighbours.Lists:
    """Lists of one's own."""
    return neighbours.Lists(*(part.copy() for part in lists))


# --- products and leaves ------------------------------------------------------------------------------------


@looped
def _multiply(block, width, starts, packed, groups, out, loops):
    for _ in range(loops):
        products.multiply(block, width, 0, starts.size, starts, packed, 0, groups, out)


@looped
def _pack(values, chosen, packed, loops):
    for _ in range(loops):
        products.pack(values, chosen, 0, chosen.size, packed)


def multiply(size: Size, d: int) -> Case:
    """A tile of a leaf: 128 queries with 512 packed rows."""
    own, form = coded(size.rows, d)
    width = own.values.shape[1]
    queries, base = leaves.QUERIES, leaves.BASE
    chosen = np.arange(base, dtype=np.int32)
    block, starts = np.zeros(queries * width, np.int8), np.zeros(queries, np.int32)
    packed = np.empty(base * (-(-width // products.COLUMNS) * products.COLUMNS), np.int8)
    _pack(own.values, chosen, packed, 1)
    _gather(own, chosen, queries, form.columns, block, starts)
    out = np.empty((queries, base), np.int32)
    loops, groups = 20 * size.loops, base // 16

    def run(_: None) -> int:
        _multiply(block, width, starts, packed, groups, out, loops)
        return queries * base * loops

    return Case("pair", run)


@looped
def _gather(own, chosen, count, columns, block, starts):
    codes.gather(own, chosen, 0, count, columns, block, starts)


def pack(size: Size, d: int) -> Case:
    """512 rows of a base, side by side."""
    own, _ = coded(size.rows, d)
    chosen = np.random.default_rng(SEED).integers(0, size.rows, leaves.BASE).astype(np.int32)
    packed = np.empty(leaves.BASE * (-(-own.values.shape[1] // products.COLUMNS) * products.COLUMNS), np.int8)

    def run(_: None) -> int:
        _pack(own.values, chosen, packed, 20 * size.loops)
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
            total += leaves.first_bound(tile, query, count, wanted)
    return total


def first_bound(size: Size) -> Case:
    """The bound that a new list gets from its first leaf."""
    tile = leaves.room_for_tile(128, WIDTH)
    rng = np.random.default_rng(SEED)
    tile.products[:] = rng.integers(0, 2**20, tile.products.shape)
    tile.bias[:] = rng.integers(2**20, 2**21, tile.bias.shape)

    def run(_: None) -> int:
        _bounds(tile, LEAF, WIDTH + 1, 10 * size.loops)
        return tile.products.shape[0] * LEAF * 10 * size.loops

    return Case("pair", run)


# --- lists --------------------------------------------------------------------------------------------------


@looped
def _insert(lists, targets, labels, distances):
    done = 0
    for i in range(targets.size):
        done += neighbours.insert(lists, targets[i], labels[i], distances[i], np.uint8(neighbours.BORN))
    return done


@looped
def _holds(ids, targets, labels):
    found = 0
    for i in range(targets.size):
        found += neighbours.holds(ids, targets[i], labels[i])
    return found


@looped
def _take(lists, offers, given, labels, count):
    for row in range(lists.ids.shape[0]):
        for i in range(count):
            offers.distances[i], offers.ids[i] = given[row, i], labels[row, i]
        neighbours.take(lists, row, offers, count, np.uint8(neighbours.FRESH))


def random_finds(size: Size) -> tuple[neighbours.Lists, np.ndarray, np.ndarray, np.ndarray]:
    """Full lists, and finds in random order that all go in somewhere: targets, labels, distances."""
    lists = full_lists(size.rows, 100)
    rng = np.random.default_rng(SEED)
    targets = rng.permutation(np.repeat(np.arange(size.rows, dtype=np.int32), 4))
    labels = rng.integers(0, size.rows, targets.size).astype(np.int32)
    places = rng.integers(0, WIDTH - 1, targets.size)
    return lists, targets, labels, lists.distances[targets, places]


def insert(size: Size) -> Case:
    """Finds at a random place of a list of 20, row after row at random."""
    lists, *finds = random_finds(size)

    def run(own: neighbours.Lists) -> int:
        _insert(own, *finds)
        return len(finds[0])

    return Case("offer", run, lambda: copied(lists))


def holds(size: Size) -> Case:
    """Whether a list of 20 holds a label, row after row at random."""
    lists, targets, labels, _ = random_finds(size)

    def run(_: None) -> int:
        for _ in range(size.loops):
            _holds(lists.ids, targets, labels)
        return targets.size * size.loops

    return Case("look-up", run)


def take(size: Size) -> Case:
    """Sixteen offers merged into a list of 20 at once, half of which find a place."""
    lists, count = full_lists(size.rows, 100), 16
    offers = neighbours.room_for_offers(WIDTH, count)
    rng = np.random.default_rng(SEED)
    given = lists.distances[:, WIDTH // 2 :][:, rng.integers(0, WIDTH // 2, count)]
    given = np.ascontiguousarray(given * rng.uniform(0.95, 1.05, given.shape)).astype(np.float32)
    labels = (size.rows + np.tile(np.arange(count), (size.rows, 1))).astype(np.int32)

    def run(own: neighbours.Lists) -> int:
        _take(own, offers, given, labels, count)
        return size.rows * count

    return Case("offer", run, lambda: copied(lists))


# --- NN-descent ---------------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """A pass that has drawn its companions."""

    lists: neighbours.Lists
    companions: descent.Companions
    cards: np.ndarray


@cache
def drawn(n: int, d: int) -> Pass:
    """Companions drawn, entries marked, cards written."""
    lists = copied(full_lists(n, d))
    companions, cards = descent.no_companions(n, 20), descent.new_cards(np.empty((n, 0), np.int32))
    descent.fill_cards(*coded(n, d)[:2], lists, cards)
    descent.draw(lists, companions, 0, n, SEED)
    descent.mark(lists, 0, n)
    return Pass(lists, companions, cards)


def joined_pass(n: int, d: int) -> tuple[descent.Finds, int]:
    """What the pass finds among the companions of all rows, and the pairs compared."""
    own, form = coded(n, d)
    lists, companions, cards = drawn(n, d)
    finds, _, compared = descent.join(own, companions, cards, False, form, lists, 0, n, 400 * n)
    return finds, compared


def draw(size: Size) -> Case:
    """Companions of all rows, from lists whose entries are all fresh."""
    lists, n = full_lists(size.rows, 100), size.rows
    companions = descent.no_companions(n, 20)

    def run(_: None) -> int:
        descent.draw(lists, companions, 0, n, SEED)
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
        descent.settle(own, 0, size.rows)
        return own.ids.size

    return Case("entry", run, lambda: copied(lists))


# --- a row at a time ----------------------------------------------------------------------------------------


def tree(size: Size) -> Case:
    """Down to overlapping leaves of 400, four a row."""
    own, form = coded(size.rows, 100)
    roles = [trees.Role(form, np.ones(size.rows, np.bool_))]
    shape = trees.Shape(LEAF, 2 * LEAF, 64, 4)

    def run(_: None) -> int:
        trees.descend(own, roles, shape, SEED)
        return size.rows

    return Case("row", run)


def as_ids(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists as they travel: ids int64, distances float32."""
    lists = full_lists(n, 100)
    return lists.ids.astype(np.int64), lists.distances


def fold(size: Size) -> Case:
    """A second list of 20 into one of 20, half of its entries new."""
    ids, distances = as_ids(size.rows)
    more = np.where(np.arange(WIDTH) % 2, ids, ids + size.rows)
    everyone = np.arange(size.rows, dtype=np.int32)

    def run(lists: neighbours.Lists) -> int:
        merge.fold(lists, everyone, more, distances)
        return size.rows

    return Case("row", run, lambda: merge.widened(ids, distances, WIDTH))


def globalise(size: Size) -> Case:
    """Positions in a partition turned into ids."""
    lists, n = full_lists(size.rows, 100), size.rows
    positions = np.random.default_rng(SEED).permutation(n)
    known = np.zeros((n, WIDTH), np.int64)

    def run(_: None) -> int:
        merge.globalise(lists, positions, known, positions)
        return n

    return Case("row", run)


def encode(size: Size, d: int) -> Case:
    """Rows into codes, with their squares."""
    own = points(size.rows, d)
    coder = codes.coder_of(own, METRICS["euclidean"])

    def run(_: None) -> int:
        codes.encode(own, coder)
        return size.rows

    return Case("row", run)


def rescore(size: Size, d: int) -> Case:
    """Canonical distances of lists whose rows lie near each other."""
    own, form = coded(size.rows, d)
    lists = copied(full_lists(size.rows, d))

    def run(_: None) -> int:
        rows.rescore(own.points, own.points, form, lists, 0, size.rows)
        return lists.ids.size

    return Case("pair", run)


def prepare(size: Size, d: int) -> Case:
    """Rows to unit length."""
    own = points(size.rows, d)

    def run(_: None) -> int:
        rows.prepare(own, METRICS["cosine"], d, 0.0)
        return size.rows

    return Case("row", run)


# --- storage ------------------------------------------------------------------------------------------------


def write(size: Size) -> Case:
    """A block of a finished graph, 15 neighbours a row, with its checksums, to a temporary folder."""
    ids, distances = (np.ascontiguousarray(part[:, :15]) for part in as_ids(size.rows))

    def reset() -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory()
        graph.create(f"{folder.name}/g", {"state": "building"})
        graph.create_result(f"{folder.name}/g", size.rows, 15, size.rows)
        return folder

    def run(folder: tempfile.TemporaryDirectory[str]) -> int:
        graph.write_result(f"{folder.name}/g", 0, ids, distances)
        return size.rows

    return Case("row", run, reset)


def read(size: Size) -> Case:
    """The same block read, its checksums looked at."""
    ids, distances = (np.ascontiguousarray(part[:, :15]) for part in as_ids(size.rows))
    folder = tempfile.TemporaryDirectory()
    graph.create(f"{folder.name}/g", {"state": "building"})
    graph.create_result(f"{folder.name}/g", size.rows, 15, size.rows)
    graph.write_result(f"{folder.name}/g", 0, ids, distances)

    def run(_: None) -> int:
        return sum(len(block[1]) for block in graph.result_blocks(f"{folder.name}/g"))

    return Case("row", run)


Make = Callable[[Size], Case]


def _wide(make: Callable[[Size, int], Case], name: str, *columns: int) -> dict[str, Make]:
    """The same for rows of several widths."""
    return {f"{name} d={d}": lambda size, d=d: make(size, d) for d in columns}


def distances(kind: str) -> Make:
    """Pairs of rows by one metric."""
    name, make_rows, d = distance_cases.KINDS[kind]
    return lambda size: Case("pair", distance_cases.pairs(name, make_rows, d, size.loops))


CASES: dict[str, Make] = {
    **{f"distances {kind}": distances(kind) for kind in distance_cases.KINDS},
    **_wide(multiply, "products.multiply", 32, 100, 128, 784),
    **_wide(pack, "products.pack", 100, 784),
    **_wide(join_empty, "leaves.join empty", 100, 128, 784),
    **_wide(join_full, "leaves.join full", 100, 128, 784),
    "leaves.first_bound": first_bound,
    "neighbours.insert": insert,
    "neighbours.holds": holds,
    "neighbours.take": take,
    "descent.draw": draw,
    **_wide(compare, "descent.join", 100, 784),
    "descent.apply": apply,
    "descent.settle": settle,
    "trees.descend d=100": tree,
    "merge.fold": fold,
    "merge.globalise": globalise,
    **_wide(encode, "codes.encode", 100, 784),
    **_wide(rescore, "rows.rescore", 100, 784),
    **_wide(prepare, "rows.prepare cosine", 100, 784),
    "graph.write": write,
    "graph.read": read,
}
