"""Graphs without a place of their own: their folder lives as long as anything that was made from them."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import distnnd
from distnnd.graph import Graph
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage import temporary
from tests.conftest import clustered
from tests.test_floors import ROOT


@pytest.fixture
def points() -> np.ndarray:
    return clustered(300, 4)


@pytest.fixture
def ids(points: np.ndarray, serial: SerialExecutor) -> np.ndarray:
    return distnnd.build(points, None, 5, client=serial).to_numpy()[0]


def folder_of(graph: Graph) -> Path:
    return Path(graph.location).parent


MAKERS: dict[str, Any] = {
    "indices": lambda graph: graph.indices,
    "the array of another mode": lambda graph: zarr.open_array(
        graph.indices.store.with_read_only(True), path="indices", mode="r"
    ),
    "to_dask": lambda graph: graph.to_dask()[0],
    "a pickle": lambda graph: pickle.loads(pickle.dumps(graph)).indices,
    "a pickled array": lambda graph: pickle.loads(pickle.dumps(graph.indices)),
    "a deep copy": lambda graph: copy.deepcopy(graph).indices,
    "a copy": lambda graph: copy.copy(graph).indices,
    "a part of dask": lambda graph: graph.to_dask()[0][:, :2],
}


@pytest.mark.parametrize("what", MAKERS)
def test_what_was_made_keeps_the_folder(points: np.ndarray, ids: np.ndarray, what: str) -> None:
    graph = distnnd.build(points, None, 5, client=SerialExecutor())
    folder, made = folder_of(graph), MAKERS[what](graph)
    del graph
    gc.collect()
    found = np.asarray(made.compute(scheduler="sync") if hasattr(made, "compute") else made[:])
    np.testing.assert_array_equal(found, ids[:, : found.shape[1]])
    del made
    gc.collect()
    assert not folder.exists()


def test_the_first_idiom_of_users_of_other_libraries(points: np.ndarray, ids: np.ndarray) -> None:
    serial = SerialExecutor()
    np.testing.assert_array_equal(distnnd.build(points, None, 5, client=serial).indices[:], ids)
    assert distnnd.build(points, None, 5, client=serial).distances[0].shape == (5,)
    rows, _ = distnnd.build(points, None, 5, client=serial).to_numpy()
    np.testing.assert_array_equal(rows, ids)


def test_an_index_of_it_needs_it_no_more(points: np.ndarray, tmp_path: Path, serial: SerialExecutor) -> None:
    index = distnnd.build(points, None, 5, client=serial).build_index(tmp_path / "i", points)
    gc.collect()
    assert (index.query(points[:3], 1)[0][:, 0] == [0, 1, 2]).all()
    assert (distnnd.open_index(tmp_path / "i").query(points[:3], 1)[0][:, 0] == [0, 1, 2]).all()


def test_nothing_stays_when_nobody_holds_it(points: np.ndarray, serial: SerialExecutor) -> None:
    kept = pickle.dumps(graph := distnnd.build(points, None, 5, client=serial))
    folder = folder_of(graph)
    assert folder.exists()
    del graph
    gc.collect()
    assert not folder.exists()
    with pytest.raises(distnnd.StoreError, match=r"temporary graph in .* is gone.*graph\.zarr"):
        pickle.loads(kept)
    bad = points.copy()
    bad[3, 1] = np.nan
    before = set(os.listdir(folder.parent))
    with pytest.raises(distnnd.InputError):
        distnnd.build(bad, None, 5, client=serial)
    gc.collect()
    assert not [name for name in set(os.listdir(folder.parent)) - before if name.startswith("distnnd-")]


ASK = """
import pickle, sys
graph = pickle.load(open(sys.argv[1], "rb"))
print(int(graph.indices[:].sum()), flush=True)
sys.stdin.readline()
for read in (lambda: graph.indices[:], lambda: graph.to_numpy(), lambda: graph.to_dask()[0].compute()):
    try:
        print(read())
    except Exception as error:
        print(type(error).__name__, error)
del graph
"""


def test_another_process_is_a_guest(points: np.ndarray, ids: np.ndarray, tmp_path: Path) -> None:
    graph = distnnd.build(points, None, 5, client=SerialExecutor())
    folder = folder_of(graph)
    (tmp_path / "graph.pickle").write_bytes(pickle.dumps(graph))
    asking = [sys.executable, "-c", ASK, str(tmp_path / "graph.pickle")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(
        asking, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert first.stdout is not None
    assert first.stdout.readline().strip() == str(ids.sum())
    assert folder.exists()
    del graph
    gc.collect()
    said, _ = first.communicate("\n", timeout=120)
    assert [line.split()[0] for line in said.splitlines()] == ["StoreError"] * 3, said
    late = subprocess.run(asking, input="\n", capture_output=True, text=True, env=environment, timeout=120)
    assert "StoreError: the temporary graph in" in late.stderr


def test_a_forked_child_takes_nothing_away(points: np.ndarray, serial: SerialExecutor) -> None:
    graph = distnnd.build(points, None, 5, client=serial)
    folder = folder_of(graph)
    child = os.fork()
    if child == 0:
        temporary._delete(str(folder), os.getppid())
        os._exit(0)
    os.waitpid(child, 0)
    assert graph.indices[:].shape == (300, 5)
