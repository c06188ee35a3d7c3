"""What the command line refuses: a clear error, the exit code that was designed, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distnnd.faces import commands
from distnnd.storage.points import write_points
from tests.faces.command_line import normal, run, save, tree, with_value
from tests.test_floors import ROOT

Maker = Callable[[Path], Path]

# --- points, arguments, outputs ---------------------------------------------------------------------------


def in_npy(array: np.ndarray) -> Maker:
    return lambda folder: save(folder, array)


def in_zarr(harm: Callable[[Path], object]) -> Maker:
    def put(folder: Path) -> Path:
        write_points(folder / "in.zarr", [normal(300)], n=300, d=8, dtype="float32", chunk_rows=100)
        harm(folder / "in.zarr" / "c" / "1" / "0")
        return folder / "in.zarr"

    return put


def cut(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-9])


BAD_POINTS = {
    "nan": (in_npy(with_value(np.nan)), 1, "row 17, column 3 holds nan"),
    "inf": (in_npy(with_value(-np.inf)), 1, "row 17, column 3 holds -inf"),
    "huge": (in_npy(with_value(1e30)), 1, "row 17, column 3"),
    "empty": (in_npy(np.empty((0, 8), np.float32)), 1, "(0, 8)"),
    "no columns": (in_npy(np.empty((8, 0), np.float32)), 1, "(8, 0)"),
    "1-d": (in_npy(normal(300)[:, 0]), 1, "(300,)"),
    "3-d": (in_npy(normal(300)[:, :, None]), 1, "(300, 8, 1)"),
    "object": (in_npy(normal(300).astype(object)), 1, "object"),
    "complex": (in_npy(normal(300).astype(complex)), 1, "complex128"),
    "text": (in_npy(normal(300).astype("U8")), 1, "<U8"),
    "missing chunk": (in_zarr(Path.unlink), 3, "c/1/0 is missing"),
    "truncated chunk": (in_zarr(cut), 3, "c/1/0 is truncated"),
    "no such path": (lambda folder: folder / "none.npy", 2, "none.npy does not exist"),
    "no known format": (lambda folder: ROOT / "pyproject.toml", 2, "format"),
}


@pytest.mark.parametrize(("make", "code", "words"), BAD_POINTS.values(), ids=BAD_POINTS)
def test_bad_points_are_refused(tmp_path: Path, make: Maker, code: int, words: str) -> None:
    source = make(tmp_path)
    before = tree(tmp_path)
    said = run("build", source, tmp_path / "g.zarr", "--quiet", "--json")
    assert said.code == code
    assert words in said.err
    assert said.json["error"]["exit_code"] == code
    assert said.json["error"]["message"] in said.err
    assert len(said.err.splitlines()) == 1
    assert tree(tmp_path) == before


BAD_ARGUMENTS = {
    "k of 0": (["-k", 0], 2, "n_neighbors"),
    "k below 0": (["-k", -3], 2, "n_neighbors"),
    "k of n": (["-k", 300], 2, "at most 299"),
    "metric": (["--metric", "euclidian"], 2, "euclidean"),
    "recall": (["--target-recall", 1.5], 2, "target_recall"),
    "rounds": (["--max-rounds", 0], 2, "max_rounds"),
    "size": (["--memory-limit", "lots"], 2, "lots"),
    "memory": (["--memory-limit", "1MB"], 4, "memory_limit="),
    "component": (["--component", "X"], 2, "component"),
    "exchange dtype": (["--exchange-dtype", "float32"], 2, "exchange_dtype is 'float16'"),
    "exchange dtype of a metric": (
        ["--exchange-dtype", "float16", "--metric", "manhattan"],
        2,
        "not for manhattan; leave exchange_dtype out",
    ),
}


@pytest.mark.parametrize("command", ["plan", "build"])
@pytest.mark.parametrize(("options", "code", "words"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments_are_refused(
    shelf: Path, tmp_path: Path, command: str, options: list[object], code: int, words: str
) -> None:
    out = [tmp_path / "g.zarr"] if command == "build" else []
    said = run(command, shelf / "points.npy", *out, *options, "--json")
    assert said.code == code
    assert words in said.json["error"]["message"]
    assert tree(tmp_path) == {}


TAKEN = {
    "a graph": ("points.npy", "points.zarr"),
    "the points": ("points.npy", "points.npy"),
    "a file": ("points.npy", "many.npy"),
    "a folder": ("points.npy", "."),
    "inside the points": ("points-in.zarr", "points-in.zarr/g.zarr"),
}


@pytest.mark.parametrize(("source", "out"), TAKEN.values(), ids=TAKEN)
def test_an_output_that_is_taken_is_left_alone(shelf: Path, source: str, out: str) -> None:
    before = tree(shelf)
    said = run("build", shelf / source, shelf / out, "-k", 6)
    assert said.code == 2
    assert "another" in said.err
    assert tree(shelf) == before


def test_a_refused_build_leaves_nothing_in_a_scratch_of_its_own(tmp_path: Path) -> None:
    source = save(tmp_path, with_value(np.nan))
    (tmp_path / "scratch").mkdir()
    assert run("build", source, tmp_path / "g.zarr", "--scratch", tmp_path / "scratch").code == 1
    assert list((tmp_path / "scratch").iterdir()) == []


# --- how errors are told ----------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: str) -> None:
        raise RuntimeError("the sky\nfell")

    monkeypatch.setattr(commands, "info", fail)


@pytest.mark.usefixtures("broken")
def test_what_nobody_foresaw_is_told_in_a_line() -> None:
    said = run("info", "g.zarr", "--json")
    assert said.code == 1
    assert said.err == "distnnd: RuntimeError: the sky fell (--traceback shows where)\n"
    assert said.json["error"]["type"] == "RuntimeError"


@pytest.mark.usefixtures("broken")
def test_a_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" in run("info", "g.zarr", "--traceback").err
    monkeypatch.setenv("DISTNND_TRACEBACK", "1")
    assert "Traceback" in run("info", "g.zarr").err


def test_an_interrupt_anywhere_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(graph: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "info", stop)
    said = run("info", "g.zarr", "--json")
    assert said.code == 130
    assert said.json["error"] == {"type": "Interrupted", "message": "interrupted", "exit_code": 130}


@pytest.mark.parametrize(
    ("out", "words"), [("new.zarr", "run the same command again"), ("points.npy", "interrupted\n")]
)
def test_an_interrupt_before_anything_is_written(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, out: str, words: str
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "build_graph", stop)
    said = run("build", shelf / "points.npy", shelf / out)
    assert said.code == 130
    assert words in said.err
