"""Kernels are compiled by another process, once for all that need them, and by this one if that fails."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distnnd.kernels import apart
from distnnd.values.metric import METRICS, metric_of
from distnnd.values.spec import DTYPES

KIND = "euclidean-float32"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process that has not looked yet, where nothing is on disk."""
    monkeypatch.setattr(apart._Here, "ready", set())
    monkeypatch.setattr(apart._Here, "compiling", False)
    monkeypatch.setattr(apart, "cache_dir", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were started, each of which marks the kinds it was asked for."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        kinds = command[command.index("distnnd.warming") + 1 :]
        for kind in kinds:
            apart.mark(kind)
        return subprocess.CompletedProcess(command, 0, 'a word\n{"compiled": 7}\n', "")

    monkeypatch.setattr(apart.subprocess, "run", run)
    return commands


def test_what_is_prepared_alike_has_the_same_kernels() -> None:
    kinds = {(name, dtype): apart.kinds_of(metric_of(name), dtype)[0] for name in METRICS for dtype in DTYPES}
    assert set(kinds.values()) == {KIND, "euclidean-int8", "unit-euclidean-float32", "inner-float32"}
    assert kinds["sqeuclidean", "float16"] == kinds["euclidean", "float32"] == KIND
    assert kinds["euclidean", "uint8"] == "euclidean-int8"
    assert kinds["cosine", "uint8"] == "unit-euclidean-float32"


def test_another_process_compiles_once(fresh: Path, started: list[list[str]]) -> None:
    assert apart.ensure([KIND]) == 7
    assert started == [[sys.executable, "-P", "-m", "distnnd.warming", KIND]]
    apart._Here.ready.clear()
    assert apart.ensure([KIND]) == 0
    assert apart.ensure([KIND, "inner-float32"]) == 7
    assert started[1:] == [[sys.executable, "-P", "-m", "distnnd.warming", "inner-float32"]]


def test_of_several_at_once_the_others_wait(fresh: Path, started: list[list[str]]) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: apart.ensure([KIND]), range(4))) == [0, 0, 0, 7]
    assert len(started) == 1


def test_who_needs_other_kernels_does_not_wait(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two processes is started before the other has ended."""
    both, asked = threading.Barrier(2, timeout=60), []

    def run(command: list[str], **_: Any) -> Any:
        both.wait()
        asked.append(command[command.index("distnnd.warming") + 1 :])
        return subprocess.CompletedProcess(command, 0, '{"compiled": 1}', "")

    monkeypatch.setattr(apart.subprocess, "run", run)
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(apart.ensure, ([KIND], ["euclidean-int8", "inner-float32"]))) == 2
    assert sorted(asked) == [[KIND], ["euclidean-int8", "inner-float32"]]


def test_two_that_need_the_same_in_another_order_do_not_wait_for_each_other(
    fresh: Path, started: list[list[str]]
) -> None:
    kinds = [KIND, "euclidean-int8", "inner-float32"]
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(apart.ensure, (kinds, kinds[::-1]), timeout=60)) == [0, 7]
    assert len(started) == 1


def test_one_that_was_told_to_compile_asks_nobody(fresh: Path, started: list[list[str]]) -> None:
    with apart.in_this_process():
        assert apart.ensure([KIND]) == 0
    assert not started
    assert apart.ensure([KIND]) == 7


def ended_badly(command: list[str], **_: Any) -> Any:
    return subprocess.CompletedProcess(command, 1, "", "Traceback\nMemoryError: no room")


def killed(command: list[str], **_: Any) -> Any:
    return subprocess.CompletedProcess(command, -9, "", "")


def not_there(command: list[str], **_: Any) -> Any:
    raise FileNotFoundError("no such interpreter")


def silent(command: list[str], **_: Any) -> Any:
    return subprocess.CompletedProcess(command, 0, "", "")


@pytest.mark.parametrize("run", [ended_badly, killed, not_there, silent])
def test_if_it_fails_a_warning_says_so(fresh: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    monkeypatch.setattr(apart.subprocess, "run", run)
    with pytest.warns(RuntimeWarning, match="could not be compiled in a process of their own"):
        assert apart.ensure([KIND]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert apart.ensure([KIND]) == 0  # once in a process is enough


def test_where_there_is_nothing_to_keep_or_start_nobody_is_started(
    fresh: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert apart.ensure([KIND]) == 0
    monkeypatch.setattr(apart._Here, "ready", set())
    monkeypatch.setattr(apart, "cache_dir", lambda: None)
    assert apart.ensure([KIND]) == 0
    assert not started
