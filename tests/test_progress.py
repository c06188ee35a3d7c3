"""What is shown of a build: to whom, where, and that the terminal is given back."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import distnnd
from distnnd import BudgetError, Recall, SpecError, progress
from distnnd.building import plan
from distnnd.progress import Bars, Lines, listening, progress_for
from distnnd.runtime.events import BuildEnd, BuildStart, Event, RoundEnd, StageStart, TaskEnd, silent
from distnnd.values.plan import Report

RECALL = Recall(0.9731, 0.968, 0.9776, 384)


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("points") / "points.npy"
    np.save(place, np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32))
    return place


@pytest.fixture
def events(points: Path) -> list[Event]:
    """A build of one round, told as it goes."""
    return [
        BuildStart(plan(points, 5), rounds_done=2),
        StageStart("scan", 0, 1),
        TaskEnd("scan", 0, 0, Report()),
        StageStart("route", 3, 40),
        *(TaskEnd("route", 3, index, Report()) for index in range(40)),
        RoundEnd(3, 20, RECALL),
        BuildEnd(RECALL, True, 12.34, 300 * 2**20),
    ]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


@pytest.fixture
def no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else find(name))


# --- who gets what ----------------------------------------------------------------------------------------


def test_a_function_is_its_own_listener() -> None:
    assert progress_for(print) is print


def test_elsewhere_than_in_a_terminal_only_true_speaks() -> None:
    assert progress_for(None) is progress_for(False) is silent
    assert isinstance(progress_for(True), Lines)


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_bars_unless_they_are_declined() -> None:
    assert isinstance(progress_for(None), Bars)
    assert isinstance(progress_for(True), Bars)
    assert progress_for(False) is silent


@pytest.mark.usefixtures("terminal", "no_rich")
def test_without_rich_a_terminal_gets_lines_on_request() -> None:
    assert progress_for(None) is silent
    assert isinstance(progress_for(True), Lines)


@pytest.mark.parametrize("value", [1, "yes", []])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(SpecError, match="progress"):
        progress_for(value)  # type: ignore[arg-type]


# --- lines ------------------------------------------------------------------------------------------------


def test_a_line_for_each_stage_and_round(events: list[Event]) -> None:
    stream = io.StringIO()
    listen = Lines(stream)
    for event in events:
        listen(event)
    said = stream.getvalue().splitlines()
    assert said[0].startswith("300 x 8 float32, k = 5, euclidean")
    assert said[0].endswith("going on after round 2")
    assert said[1].startswith("scan: 1 task, 0.")
    assert said[2].startswith("round 3, route: 40 tasks, 0.")
    assert said[3:] == [
        "round 3: recall 0.9731 (95 %: 0.9680 to 0.9776, 384 sampled rows), lists of 20",
        "done in 12.3 s, workers held 300 MiB at most",
    ]


def test_a_long_stage_gives_a_sign_of_life(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ticks(seconds=4.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    listen = Lines(stream)
    for event in events:
        listen(event)
    routed = [line for line in stream.getvalue().splitlines() if "route" in line]
    assert routed[0] == "round 3, route: 8 of 40 tasks, 32.0 s"
    assert routed[-1] == "round 3, route: 40 tasks, 160.0 s"
    assert len(routed) == 5


def ticks(seconds: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += seconds


# --- bars -------------------------------------------------------------------------------------------------


def test_bars_leave_the_rounds_behind_and_the_cursor_shown(events: list[Event]) -> None:
    screen = io.StringIO()
    bars = Bars(Console(file=screen, force_terminal=True, width=100))
    for event in events:
        bars(event)
    said = screen.getvalue()
    assert "round 3: recall 0.9731 (95 %: 0.9680 to 0.9776, 384 sampled rows)" in said
    assert "done in 12.3 s" in said
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l") >= 0


def interrupted(progress: bool) -> None:
    with listening(progress) as listen:
        listen(StageStart("scan", 0, 3))
        raise KeyboardInterrupt


def test_an_error_gives_the_terminal_back(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt):
        interrupted(progress=True)
    said = capsys.readouterr().err
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l") >= 0


# --- distnnd.build ----------------------------------------------------------------------------------------


def test_build_takes_progress(points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distnnd.build(points, n_neighbors=5, progress=True)
    assert "local: 1 task" in capsys.readouterr().err
    told: list[Event] = []
    distnnd.build(points, None, 5, progress=told.append)
    assert isinstance(told[0], BuildStart)
    assert isinstance(told[-1], BuildEnd)
    distnnd.build(points, None, 5)
    assert capsys.readouterr().err == ""


def test_build_warns_the_caller_of_a_missed_target(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(5000, 30)).astype(np.float32)
    with pytest.warns(UserWarning, match="was not reached") as caught:
        distnnd.build(points, n_neighbors=5, target_recall=1.0, max_rounds=1)
    assert [warning.filename for warning in caught if warning.category is distnnd.DistnndWarning] == [__file__]


def test_build_passes_errors_on(points: Path) -> None:
    with pytest.raises(BudgetError):
        distnnd.build(points, memory_limit="1MB")
    with pytest.raises(TypeError):
        distnnd.build()  # type: ignore[call-arg]
