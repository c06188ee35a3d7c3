"""Whatever moment a process is killed at, the same command goes on, finishes, and tidies up.

A kill is simulated at each change of the file system in turn: from then on no change is made any more, not even by
those who would tidy up after a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distnnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage import files, stores
from distnnd.storage.points import write_points
from tests.conftest import clustered, graph_bytes

CHANGES = ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir")


class Killed(BaseException):
    """What a kill looks like from inside."""


class Life:
    """Lets a process make so many changes, and counts them."""

    def __init__(self, allowed: int | None) -> None:
        self.allowed, self.made = allowed, 0

    def spend(self) -> None:
        if self.allowed is not None and self.made >= self.allowed:
            raise Killed
        self.made += 1


@contextmanager
def life_of(allowed: int | None) -> Iterator[Life]:
    """All changes of the file system, of which so many are made."""
    life = Life(allowed)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            life.spend()
            return function(*args, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(files, "created", counted(files.created))
        # Which it does by other calls where the system has them.
        patch.setattr(shutil.rmtree, "avoids_symlink_attacks", False, raising=False)
        yield life


def killed_everywhere(
    folder: Path, command: Callable[[Path], Any], step: int = 1, prepare: Callable[[Path], Any] = str
) -> Iterator[Path]:
    """Folders in which a command was killed after 0, step, 2 step ... changes, and then run again.

    prepare: what is to be done in the folder first.
    """
    whole = folder / "whole"
    whole.mkdir()
    prepare(whole)
    with life_of(None) as life:
        command(whole)
    assert life.made >= 2 * step
    for allowed in range(0, life.made, step):
        place = folder / f"killed-{allowed}"
        place.mkdir()
        prepare(place)
        with pytest.raises(Killed), life_of(allowed):
            command(place)
        yield place
        command(place)
        assert tree(place) == tree(whole), f"after {allowed} of {life.made} changes"
        shutil.rmtree(place)


def tree(folder: Path) -> list[str]:
    """The names of all files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def half_built(place: Path) -> bool:
    """Whether there is no finished graph yet; one that says it is finished must be sound."""
    try:
        graph = distnnd.open_graph(place / "g")
    except distnnd.StoreError:
        return True
    graph.verify()
    return False


@pytest.fixture
def far() -> SerialExecutor:
    """A worker that cannot see the memory of this process: points are copied to disk for it."""
    executor = SerialExecutor()
    executor.in_process = False
    return executor


@pytest.mark.parametrize("scratch", [None, "scratch"])
def test_a_build_that_is_killed_anywhere(tmp_path: Path, far: SerialExecutor, scratch: str | None) -> None:
    points = clustered(300)

    def command(place: Path) -> None:
        distnnd.build(points, place / "g", 5, client=far, scratch=scratch and place / scratch)

    wanted = graph_bytes(distnnd.build(points, n_neighbors=5, client=far))
    halves = 0
    for place in killed_everywhere(tmp_path, command):
        halves += half_built(place)
    assert halves > 10
    assert graph_bytes(distnnd.open_graph(tmp_path / "whole" / "g")) == wanted


def test_a_build_in_partitions_that_is_killed(tmp_path: Path, serial: SerialExecutor, cut: Any) -> None:
    cut(2, 700)
    points = clustered(1400)

    def command(place: Path) -> None:
        distnnd.build(points, place / "g", 5, client=serial, target_recall=0.9)

    command(tmp_path)
    wanted = graph_bytes(distnnd.open_graph(tmp_path / "g"))
    for place in killed_everywhere(tmp_path, command, 37):
        half_built(place)
        command(place)
        assert graph_bytes(distnnd.open_graph(place / "g")) == wanted


def test_what_replaces_a_graph_and_is_killed_anywhere(tmp_path: Path, serial: SerialExecutor) -> None:
    points, other = clustered(300), clustered(200, seed=1)
    distnnd.build(other, tmp_path / "old", 4, client=serial)

    def prepare(place: Path) -> None:
        shutil.copytree(tmp_path / "old", place / "g")

    def command(place: Path) -> None:
        distnnd.build(points, place / "g", 5, client=serial, overwrite=True)

    for place in killed_everywhere(tmp_path, command, prepare=prepare):
        standing = [path for path in place.iterdir() if path.is_dir()]
        assert any(is_whole(path) for path in standing), "the old one stays until the new one is whole"
    assert distnnd.open_graph(tmp_path / "whole" / "g").n == 300


def is_whole(path: Path) -> bool:
    try:
        distnnd.open_graph(path).verify()
    except distnnd.DistnndError:
        return False
    return True


def test_an_index_that_is_killed_anywhere(tmp_path: Path, far: SerialExecutor) -> None:
    points = clustered(300)
    np.save(tmp_path / "points.npy", points)
    graph = distnnd.build(tmp_path / "points.npy", tmp_path / "g", 5, client=far)
    wanted = distnnd.build_index(graph, tmp_path / "i").query(points[:9], 3)[0]

    def command(place: Path) -> None:
        distnnd.build_index(graph, place / "i", client=far, scratch=place / "scratch")

    for place in killed_everywhere(tmp_path, command, 3):
        with pytest.MonkeyPatch.context() as patch:
            # The process that was killed is gone.
            patch.setattr(os, "kill", no_such_process)
            command(place)
            index = distnnd.open_index(place / "i")
        np.testing.assert_array_equal(index.query(points[:9], 3)[0], wanted)


def no_such_process(pid: int, number: int) -> None:
    raise ProcessLookupError


@pytest.mark.parametrize("name", ["answers.npy", "answers.zarr"])
def test_answers_that_are_killed_anywhere(tmp_path: Path, serial: SerialExecutor, name: str) -> None:
    points = clustered(300)
    np.save(tmp_path / "points.npy", points)
    index = distnnd.build(tmp_path / "points.npy", tmp_path / "g", 5, client=serial).build_index(tmp_path / "i")

    def command(place: Path) -> None:
        index.query_into(tmp_path / "points.npy", place / name, 3)

    for place in killed_everywhere(tmp_path, command):
        # The distances may be there; ids, or a group, only if all is.
        assert not (place / name).exists() or len(tree(place)) >= 2


def test_a_build_in_an_object_store_that_is_killed(place: str, far: SerialExecutor, monkeypatch: Any) -> None:
    points, life = clustered(300), Life(None)

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            life.spend()
            return method(*args, **named)

        return call

    for name in ("set", "set_large", "delete", "delete_dir", "put_if"):
        monkeypatch.setattr(stores.Objects, name, counted(getattr(stores.Objects, name)))

    def objects(folder: str) -> list[str]:
        found = stores.opened(folder).store.list()
        return sorted(item["path"] for batch in found for item in batch)

    whole = graph_bytes(distnnd.build(points, f"{place}/whole/g", 5, client=far))
    made, wanted = life.made, objects(f"{place}/whole")
    assert len(wanted) == 5
    for allowed in range(0, made, 4):
        life.made, life.allowed = 0, allowed
        with pytest.raises(Killed):
            distnnd.build(points, f"{place}/{allowed}/g", 5, client=far)
        life.allowed = None
        for _ in range(2):
            assert graph_bytes(distnnd.build(points, f"{place}/{allowed}/g", 5, client=far)) == whole
        assert objects(f"{place}/{allowed}") == wanted, f"after {allowed} of {made} changes"


def test_points_that_are_killed_anywhere_while_they_are_written(tmp_path: Path) -> None:
    points = clustered(60)

    def command(place: Path) -> None:
        try:
            write_points(place / "p", [points], n=60, d=16, dtype="float32", chunk_rows=16)
        except distnnd.SpecError:
            assert (place / "p").exists()

    for place in killed_everywhere(tmp_path, command):
        if (place / "p").exists():
            assert len(tree(place / "p")) == 5
