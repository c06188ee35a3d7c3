"""Running a command again: what is there is left, gone on with, refused, or replaced on demand."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import zarr

import distnnd
from distnnd.faces import commands
from distnnd.runtime.events import RoundEnd
from distnnd.storage import mailbox
from tests.faces.command_line import MANY, normal, run, tree


def test_the_same_build_again_is_left_as_it_is(tmp_path: Path, shelf: Path) -> None:
    asked = ("build", shelf / "points.npy", tmp_path / "g", "-k", 5)
    first = run(*asked, "--json").json
    uuid = distnnd.open_graph(tmp_path / "g").facts["uuid"]
    mailbox.create(f"{tmp_path}/g/scratch/{uuid}", uuid, "g")
    again = run(*asked, "--json")
    assert again.code == 0
    assert "finished already" in again.err
    assert {name: again.json[name] for name in ("n", "recall", "rounds")} == {
        name: first[name] for name in ("n", "recall", "rounds")
    }
    assert sorted(os.listdir(tmp_path / "g")) == ["distances", "indices", "zarr.json"]
    assert distnnd.open_graph(tmp_path / "g").facts["uuid"] == uuid


def test_resume_tidies_up_after_what_is_finished(tmp_path: Path, shelf: Path) -> None:
    assert run("build", shelf / "points.npy", tmp_path / "g", "-k", 5, "--scratch", tmp_path / "fast").code == 0
    uuid = distnnd.open_graph(tmp_path / "g").facts["uuid"]
    mailbox.create(f"{tmp_path}/fast/{uuid}", uuid, f"{tmp_path}/g")
    assert run("resume", tmp_path / "g", "--scratch", tmp_path / "fast").code == 0
    assert tree(tmp_path / "fast") == {}


def test_outputs_are_replaced_on_demand(tmp_path: Path, shelf: Path) -> None:
    points, graph, index = shelf / "points.npy", tmp_path / "g", tmp_path / "i"
    ways = [
        (("build", points, graph, "-k", 4), ("build", points, graph, "-k", 5)),
        (("index", graph, index, "--source", points), ("index", graph, index, "--diversify-prob", 0.5)),
        (("query", index, points, tmp_path / "a.npy", "-k", 3), ("query", index, points, tmp_path / "a.npy", "-k", 2)),
        (("query", index, points, tmp_path / "a", "-k", 3), ("query", index, points, tmp_path / "a", "-k", 2)),
        (("convert", points, tmp_path / "p"), ("convert", points, tmp_path / "p", "--dtype", "float16")),
    ]
    for first, other in ways:
        assert run(*first).code == 0
        before = tree(tmp_path)
        refused = run(*other)
        assert refused.code == 2
        assert "--overwrite" in refused.err
        assert tree(tmp_path) == before
        replaced = run(*other, "--overwrite")
        assert replaced.code == 0, replaced.err
    assert np.load(tmp_path / "a.npy").shape == zarr.open(tmp_path / "a")["indices"].shape == (300, 2)
    assert zarr.open(tmp_path / "p").dtype == np.float16
    assert distnnd.open_graph(graph).n_neighbors == 5
    assert sorted(os.listdir(tmp_path)) == ["a", "a.distances.npy", "a.npy", "g", "i", "p"]


@pytest.mark.parametrize("command", ["build", "convert", "index", "query"])
def test_what_is_not_ours_is_not_replaced(tmp_path: Path, shelf: Path, command: str) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("years of work")
    sources = {"build": [shelf / "points.npy"], "convert": [shelf / "points.npy"], "index": [shelf / "points.zarr"]}
    if command == "query":
        assert run("index", shelf / "points.zarr", tmp_path / "i", "--source", shelf / "points.npy").code == 0
        sources["query"] = [tmp_path / "i", shelf / "points.npy"]
    before = tree(tmp_path)
    said = run(command, *sources[command], tmp_path / "theirs", "--overwrite")
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({}, ["distnnd", "resume", "my graph.zarr"]),
        (
            {"n_workers": 2, "memory_limit": "2GiB", "scratch": "/fast disk", "metric": "euclidean", "client": None},
            shlex.split("distnnd resume 'my graph.zarr' --scratch '/fast disk' --memory-limit 2GiB --workers 2"),
        ),
        (
            {"client": "tcp://10.0.0.1:8786", "metric": "mine:far"},
            ["distnnd", "resume", "my graph.zarr", "--scheduler", "tcp://10.0.0.1:8786", "--metric", "mine:far"],
        ),
    ],
)
def test_the_line_that_resumes_is_complete(asked: dict[str, object], line: list[str]) -> None:
    assert shlex.split(commands.resume_line("my graph.zarr", asked)) == line


def test_a_scratch_elsewhere_is_named_again(tmp_path: Path) -> None:
    """As `status` says, and otherwise a warning tells what is left there."""

    def stop(event: object) -> None:
        if isinstance(event, RoundEnd):
            raise KeyboardInterrupt

    np.save(tmp_path / "many.npy", normal(MANY, 30))
    where = {"scratch": tmp_path / "fast"}
    with pytest.raises(KeyboardInterrupt):
        distnnd.build(tmp_path / "many.npy", tmp_path / "g", 5, target_recall=1.0, progress=stop, **where)
    (line,) = [shlex.split(run("status", tmp_path / "g", "--json").json["next"])]
    assert line == ["distnnd", "resume", str(tmp_path / "g"), "--scratch", str(tmp_path / "fast")]
    assert commands.how_to_go_on(str(tmp_path / "g"), where).count("--scratch") == 1
    said = run(*line[1:], "--max-rounds", 2)
    assert said.code == 0
    assert "named again" not in said.err
    assert tree(tmp_path / "fast") == {}
