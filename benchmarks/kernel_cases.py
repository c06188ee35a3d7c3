"""What `python -m benchmarks.kernels` measures: one small adapter a kernel, so that a changed signature is mended here.

An adapter gets a Size and returns a Case. Kernels that live inside others' loops are called in a loop of their own that
is compiled for it; what such a loop adds up is returned, so that no compiler can leave it out.
Here are lists, what is done a row at a time, storage, and the table of all; the engines are in kernel_engines.py.
"""

from __future__ import annotations

import tempfile

import numpy as np

from distnnd.kernels import codes, merge, neighbours, rows, trees
from distnnd.storage import graph
from distnnd.values.metric import METRICS

from . import distance_cases
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
    looped,
    points,
    wide,
)
from .kernel_engines import ENGINES
from .sparse_cases import SPARSE

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
        merge.globalise(lists, positions, known, positions, WIDTH)
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


def distances(kind: str) -> Make:
    """Pairs of rows by one metric."""
    name, make_rows, d = distance_cases.KINDS[kind]
    return lambda size: Case("pair", distance_cases.pairs(name, make_rows, d, size.loops))


CASES: dict[str, Make] = {
    **ENGINES,
    **SPARSE,
    **{f"distances {kind}": distances(kind) for kind in distance_cases.KINDS},
    "neighbours.insert": insert,
    "neighbours.holds": holds,
    "neighbours.take": take,
    "trees.descend d=100": tree,
    "merge.fold": fold,
    "merge.globalise": globalise,
    **wide(encode, "codes.encode", 100, 784),
    **wide(rescore, "rows.rescore", 100, 784),
    **wide(prepare, "rows.prepare cosine", 100, 784),
    "graph.write": write,
    "graph.read": read,
}
