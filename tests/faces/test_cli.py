"""The command line: what each command answers, what it says where, and with which code it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import distnnd
from distnnd.faces import commands
from distnnd.faces.cli import main
from distnnd.runtime.events import RoundEnd
from distnnd.storage.points import write_points
from tests.test_floors import ROOT, slow_modules_after

COMMANDS = ["plan", "build", "resume", "status", "info", "verify", "recall", "convert", "demo"]
INFO = {"n", "d", "n_neighbors", "metric", "state", "rounds", "recall", "format_version", "bytes"}
# More rows than are compared pair by pair, so that there are rounds and probe rows.
MANY = 5000


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


def run(*args: object) -> Said:
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    return Said(done.exit_code, done.stdout, done.stderr)


def command_line(*args: object) -> list[str]:
    return [sys.executable, "-c", "from distnnd.faces.cli import main; main(prog_name='distnnd')", *map(str, args)]


def start(*args: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command_line(*args), cwd=ROOT, start_new_session=True, **pipes)


def run_apart(*args: object) -> Said:
    process = start(*args)
    out, err = process.communicate(timeout=120)
    return Said(process.returncode, out, err)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its bytes."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def normal(n: int, d: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


@pytest.fixture(autouse=True)
def dask_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(commands.LOGGING, raising=False)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with points and the graph built from them; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("shelf")
    np.save(folder / "points.npy", normal(300))
    np.save(folder / "many.npy", normal(MANY, 30))
    for points in ("points", "many"):
        assert run("build", folder / f"{points}.npy", folder / f"{points}.zarr", "-k", 5).code == 0
    return folder


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A build of many.npy that was stopped after its first round; points and graph lie side by side."""

    def stop(event: object) -> None:
        if isinstance(event, RoundEnd):
            raise KeyboardInterrupt

    np.save(tmp_path / "many.npy", normal(MANY, 30))
    with pytest.raises(KeyboardInterrupt):
        distnnd.build(tmp_path / "many.npy", tmp_path / "graph.zarr", 5, target_recall=1.0, progress=stop)
    return tmp_path / "graph.zarr"


# --- help and usage ---------------------------------------------------------------------------------------


def test_help_names_the_commands_in_the_order_of_their_use() -> None:
    lines = run("--help").out.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in lines if line.strip()] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    said = run(command, "-h")
    assert (said.code, said.err) == (0, "")
    assert "--json" in said.out
    assert "--traceback" not in said.out


def test_importing_the_command_line_is_quick() -> None:
    assert slow_modules_after("import distnnd.faces.cli") == set()


@pytest.mark.parametrize(
    "args",
    [
        ["bild"],
        ["build", "points.npy"],
        ["build", "points.npy", "out.zarr", "--colour", "red"],
        ["build", "points.npy", "out.zarr", "-k", "many"],
        ["build", "points.npy", "out.zarr", "--workers", "0"],
        ["build", "points.npy", "out.zarr", "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"],
        ["plan", "points.npy", "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"],
        ["convert", "points.npy", "out.zarr", "--dtype", "int64"],
        ["recall", "graph.zarr"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_told_by_click_and_as_json(args: list[str]) -> None:
    plain, as_json = run(*args), run(*args, "--json")
    assert plain.code == as_json.code == 2
    assert plain.out == ""
    assert "Error: " in plain.err
    error = as_json.json["error"]
    assert error["exit_code"] == 2
    assert error["message"] in plain.err


# --- plan, build, info ------------------------------------------------------------------------------------


def test_plan_starts_nothing_and_shows_the_stages(shelf: Path) -> None:
    before = tree(shelf)
    plain, as_json = run("plan", shelf / "many.npy", "-k", 5), run("plan", shelf / "many.npy", "-k", 5, "--json")
    assert plain.code == as_json.code == 0
    assert as_json.json["stages"][0]["name"] == "scan"
    assert as_json.json["spec"]["n_neighbors"] == 5
    assert "memory/task" in plain.out
    assert tree(shelf) == before


def test_build_answers_on_stdout_and_reports_on_stderr(shelf: Path, tmp_path: Path) -> None:
    said = run("build", shelf / "many.npy", tmp_path / "g.zarr", "-k", 5, "--metric", "cosine", "--json")
    assert said.code == 0
    assert len(said.out.splitlines()) == 1
    assert INFO | {"target_recall", "reached", "seconds", "peak"} <= said.json.keys()
    assert said.json["metric"] == "cosine"
    assert any(line.startswith("round 1: recall 0.") for line in said.err.splitlines())
    assert "distributed" not in said.err


def test_quiet_means_silence(shelf: Path, tmp_path: Path) -> None:
    assert run("build", shelf / "points.npy", tmp_path / "g.zarr", "-k", 5, "--quiet") == (0, "", "")


def test_options_reach_the_build(shelf: Path, tmp_path: Path) -> None:
    options = ("-k", 4, "--target-recall", 0.9, "--max-rounds", 3, "--random-state", 7, "--memory-limit", "1GiB")
    scratch = tmp_path / "scratch"
    assert run("build", shelf / "many.npy", tmp_path / "g.zarr", *options, "--scratch", scratch).code == 0
    spec = distnnd.open_graph(tmp_path / "g.zarr").facts["spec"]
    asked = {"n_neighbors": 4, "target_recall": 0.9, "max_rounds": 3, "random_state": 7, "memory_limit": 2**30}
    assert asked.items() <= spec.items()


def test_component_names_the_array_of_a_group(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "group.zarr")
    for name, d in (("one", 3), ("other", 4)):
        group.create_array(name, data=normal(50, d), config={"write_empty_chunks": True})
    said = run("build", tmp_path / "group.zarr", tmp_path / "g.zarr", "-k", 5, "--component", "other", "--json")
    assert said.json["d"] == 4
    assert run("verify", tmp_path / "g.zarr", "--source", tmp_path / "group.zarr", "--component", "other").code == 0


def test_a_missed_target_is_said_and_is_no_failure(shelf: Path, tmp_path: Path) -> None:
    options = ("-k", 5, "--target-recall", 1.0, "--max-rounds", 1, "--quiet", "--json")
    said = run("build", shelf / "many.npy", tmp_path / "g.zarr", *options)
    assert said.code == 0
    assert said.json["reached"] is False
    assert said.err.startswith("distnnd: target_recall=1.0 was not reached: measured 0.")
    assert len(said.err.splitlines()) == 1


def test_info_is_the_promised_object(shelf: Path) -> None:
    said = run("info", shelf / "many.zarr", "--json")
    assert said.json.keys() >= INFO
    assert {
        "n": MANY,
        "d": 30,
        "n_neighbors": 5,
        "metric": "euclidean",
        "state": "complete",
    }.items() <= said.json.items()
    assert isinstance(said.json["rounds"], int)
    assert {"estimate", "low", "high", "probes"} <= said.json["recall"].keys()
    assert said.json["bytes"] == MANY * 5 * 12
    assert f"{MANY:,} x 30" in run("info", shelf / "many.zarr").out


# --- status, resume ---------------------------------------------------------------------------------------


def test_status_of_an_unfinished_build_says_what_to_do(unfinished: Path) -> None:
    said, plain = run("status", unfinished, "--json"), run("status", unfinished)
    assert said.json["state"] == "building"
    assert [(one["number"], one["recall"]["probes"] > 0) for one in said.json["rounds"]] == [(1, True)]
    assert said.json["rounds"][0]["width"] >= 5
    assert said.json["next"] == f"distnnd resume {unfinished}"
    assert f"distnnd resume {unfinished}" in plain.out
    assert "round 1" in plain.out


def test_status_of_a_finished_build(shelf: Path) -> None:
    assert run("status", shelf / "many.zarr", "--json").json["state"] == "complete"


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_reader_of_an_unfinished_graph_is_told_to_resume(unfinished: Path, command: str) -> None:
    said = run(command, unfinished)
    assert said.code == 3
    assert "distnnd resume" in said.err


def test_resume_goes_on_with_what_was_asked(unfinished: Path) -> None:
    said = run("resume", unfinished, "--max-rounds", 2, "--json")
    assert said.code == 0
    assert (said.json["rounds"], said.json["target_recall"]) == (2, 1.0)
    assert "going on after round 1" in said.err
    assert run("verify", unfinished, "--source", unfinished.parent / "many.npy").code == 0


def test_build_without_resume_leaves_an_unfinished_build_alone(unfinished: Path) -> None:
    before = tree(unfinished)
    said = run("build", unfinished.parent / "many.npy", unfinished, "-k", 5, "--target-recall", 1.0, "--no-resume")
    assert said.code == 2
    assert tree(unfinished) == before


def test_resume_refuses_points_that_changed(unfinished: Path) -> None:
    np.save(unfinished.parent / "many.npy", normal(MANY, 30) + 1)
    said = run("resume", unfinished)
    assert said.code == 3
    assert "changed" in said.err


def test_resume_of_a_finished_graph_has_nothing_to_do(shelf: Path) -> None:
    said = run("resume", shelf / "many.zarr", "--json")
    assert (said.code, said.json["state"]) == (0, "complete")
    assert "finished already" in said.err


@pytest.mark.parametrize(("location", "words"), [("<numpy array>", "lay in memory"), ("/gone.npy", "/gone.npy")])
def test_resume_cannot_find_points_that_are_gone(unfinished: Path, location: str, words: str) -> None:
    group = zarr.open_group(unfinished, mode="r+")
    facts = dict(group.attrs["distnnd"])
    group.attrs["distnnd"] = facts | {"source": facts["source"] | {"location": location}}
    said = run("resume", unfinished)
    assert said.code == 2
    assert words in said.err
    assert "distnnd.build" in said.err


# --- verify, recall ---------------------------------------------------------------------------------------


def test_verify_with_and_without_the_points(shelf: Path) -> None:
    assert run("verify", shelf / "many.zarr").code == 0
    said = run("verify", shelf / "many.zarr", "--source", shelf / "many.npy", "--rows", 50, "--json")
    assert said.code == 0
    assert said.json["n"] == MANY


def test_recall_is_measured_anew(shelf: Path) -> None:
    asked = ("recall", shelf / "many.zarr", "--source", shelf / "many.npy", "--probes", 100, "--random-state", 3)
    said = run(*asked, "--json")
    assert said.code == 0
    assert said.json["recall"]["probes"] == 100
    assert said.json["recall"]["low"] <= said.json["stored"]["high"]
    assert "100 probe rows" in run(*asked).out


@pytest.mark.parametrize("array", ["indices", "distances"])
def test_a_lost_chunk_of_the_graph_is_named(shelf: Path, tmp_path: Path, array: str) -> None:
    run("build", shelf / "points.npy", tmp_path / "g.zarr", "-k", 5)
    (tmp_path / "g.zarr" / array / "c" / "0" / "0").unlink()
    said = run("verify", tmp_path / "g.zarr", "--json")
    assert (said.code, said.json["error"]["type"]) == (3, "StoreError")
    assert f"{array}/c/0/0" in said.err


def test_an_altered_chunk_of_the_graph_is_found(shelf: Path, tmp_path: Path) -> None:
    run("build", shelf / "points.npy", tmp_path / "g.zarr", "-k", 5)
    chunk = tmp_path / "g.zarr" / "indices" / "c" / "0" / "0"
    altered = bytearray(chunk.read_bytes())
    altered[100] ^= 1
    chunk.write_bytes(altered)
    assert run("verify", tmp_path / "g.zarr").code == 3


@pytest.mark.parametrize("command", ["info", "status", "resume", "verify"])
def test_a_graph_that_is_not_there(tmp_path: Path, command: str) -> None:
    said = run(command, tmp_path / "none.zarr", "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "SpecError")
    assert "none.zarr" in said.err


@pytest.mark.parametrize("command", ["info", "status", "resume"])
def test_damaged_facts(shelf: Path, tmp_path: Path, command: str) -> None:
    run("build", shelf / "points.npy", tmp_path / "g.zarr", "-k", 5)
    facts = tmp_path / "g.zarr" / "zarr.json"
    facts.write_bytes(facts.read_bytes()[:50])
    assert run(command, tmp_path / "g.zarr").code == 3


# --- convert ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "uint8", "int8"])
def test_convert_writes_points_that_a_build_reads(tmp_path: Path, dtype: str | None) -> None:
    points = np.random.default_rng(0).integers(0, 100, (300, 8)).astype(np.float32)
    np.save(tmp_path / "p.npy", points)
    options = [] if dtype is None else ["--dtype", dtype]
    said = run("convert", tmp_path / "p.npy", tmp_path / "p.zarr", *options, "--json")
    assert said.code == 0
    assert said.json["dtype"] == (dtype or "float32")
    written = zarr.open_array(tmp_path / "p.zarr", mode="r")
    assert written.dtype == np.dtype(dtype or "float32")
    np.testing.assert_array_equal(written[:], points)
    assert "convert: " in said.err
    assert run("build", tmp_path / "p.zarr", tmp_path / "g.zarr", "-k", 3).code == 0


@pytest.mark.parametrize(
    ("value", "dtype"), [(0.5, "uint8"), (-1, "uint8"), (300, "int8"), (np.nan, "int8"), (1e6, "float16")]
)
def test_convert_names_the_first_value_that_does_not_fit(tmp_path: Path, value: float, dtype: str) -> None:
    points = np.ones((300, 8), np.float32)
    points[123, 4] = points[200, 1] = value
    np.save(tmp_path / "p.npy", points)
    said = run("convert", tmp_path / "p.npy", tmp_path / "p.zarr", "--dtype", dtype)
    assert said.code == 1
    assert "row 123, column 4" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["p.npy"]


def test_convert_overwrites_nothing(shelf: Path) -> None:
    before = tree(shelf)
    assert run("convert", shelf / "points.npy", shelf / "many.zarr").code == 2
    assert run("convert", shelf / "many.zarr" / "distances", shelf / "many.zarr" / "distances" / "c.zarr").code == 2
    assert tree(shelf) == before


# --- bad input: a clear error, its code, and nothing written ----------------------------------------------


def with_value(value: float) -> np.ndarray:
    points = normal(300)
    points[17, 3] = points[200, 0] = value
    return points


def save(array: np.ndarray) -> Callable[[Path], Path]:
    def put(folder: Path) -> Path:
        np.save(folder / "in.npy", array, allow_pickle=True)
        return folder / "in.npy"

    return put


def in_zarr(harm: Callable[[Path], object]) -> Callable[[Path], Path]:
    def put(folder: Path) -> Path:
        write_points(folder / "in.zarr", [normal(300)], n=300, d=8, dtype="float32", chunk_rows=100)
        harm(folder / "in.zarr" / "c" / "1" / "0")
        return folder / "in.zarr"

    return put


def cut(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-9])


BAD_POINTS = {
    "nan": (save(with_value(np.nan)), 1, "row 17, column 3 holds nan"),
    "inf": (save(with_value(-np.inf)), 1, "row 17, column 3 holds -inf"),
    "huge": (save(with_value(1e30)), 1, "row 17, column 3"),
    "empty": (save(np.empty((0, 8), np.float32)), 1, "(0, 8)"),
    "no columns": (save(np.empty((8, 0), np.float32)), 1, "(8, 0)"),
    "1-d": (save(normal(300)[:, 0]), 1, "(300,)"),
    "3-d": (save(normal(300)[:, :, None]), 1, "(300, 8, 1)"),
    "object": (save(normal(300).astype(object)), 1, "object"),
    "complex": (save(normal(300).astype(complex)), 1, "complex128"),
    "text": (save(normal(300).astype("U8")), 1, "<U8"),
    "missing chunk": (in_zarr(Path.unlink), 3, "c/1/0 is missing"),
    "truncated chunk": (in_zarr(cut), 3, "c/1/0 is truncated"),
    "no such path": (lambda folder: folder / "none.npy", 2, "none.npy does not exist"),
    "no known format": (lambda folder: ROOT / "pyproject.toml", 2, "format"),
}


@pytest.mark.parametrize(("make", "code", "words"), BAD_POINTS.values(), ids=BAD_POINTS)
def test_bad_points_are_refused(tmp_path: Path, make: Callable[[Path], Path], code: int, words: str) -> None:
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


def outputs(shelf: Path) -> dict[str, tuple[Path, Path]]:
    return {
        "a graph": (shelf / "points.npy", shelf / "points.zarr"),
        "the points": (shelf / "points.npy", shelf / "points.npy"),
        "a file": (shelf / "points.npy", shelf / "many.npy"),
        "a folder": (shelf / "points.npy", shelf),
        "inside the points": (shelf / "in.zarr", shelf / "in.zarr" / "g.zarr"),
    }


@pytest.mark.parametrize("name", ["a graph", "the points", "a file", "a folder", "inside the points"])
def test_an_output_that_is_taken_is_left_alone(shelf: Path, name: str) -> None:
    if not (shelf / "in.zarr").exists():
        write_points(shelf / "in.zarr", [normal(300)], n=300, d=8, dtype="float32")
    before = tree(shelf)
    said = run("build", *outputs(shelf)[name], "-k", 5)
    assert said.code == 2
    assert "another" in said.err
    assert tree(shelf) == before


def test_a_refused_build_leaves_nothing_in_a_scratch_of_its_own(tmp_path: Path) -> None:
    source = save(with_value(np.nan))(tmp_path)
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


# --- true processes ---------------------------------------------------------------------------------------


def test_dask_finds_the_command(tmp_path: Path, shelf: Path) -> None:
    (tmp_path / "distnnd-0.dist-info").mkdir()
    (tmp_path / "distnnd-0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: distnnd\nVersion: 0\n")
    entry = "[dask_cli]\ndistnnd = distnnd.faces.cli:main\n"
    (tmp_path / "distnnd-0.dist-info" / "entry_points.txt").write_text(entry)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    asked = [sys.executable, "-m", "dask", "distnnd", "info", str(shelf / "none.zarr"), "--json"]
    done = subprocess.run(asked, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["type"] == "SpecError"


def test_worker_processes_and_a_bad_row_make_no_noise(tmp_path: Path, shelf: Path) -> None:
    good = run_apart("build", shelf / "points.npy", tmp_path / "g.zarr", "-k", 5, "--workers", 1, "--quiet")
    assert good == (0, "", "")
    np.save(tmp_path / "bad.npy", with_value(np.nan))
    bad = run_apart("build", tmp_path / "bad.npy", tmp_path / "bad.zarr", "-k", 5, "--workers", 1, "--quiet")
    assert bad.code == 1
    assert len(bad.err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_build_says_how_to_go_on_and_does(shelf: Path, tmp_path: Path, number: signal.Signals) -> None:
    options = ("-k", 15, "--target-recall", 1.0, "--max-rounds", 50, "--json")
    process = start("build", shelf / "many.npy", tmp_path / "g.zarr", *options)
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("round 1: recall"))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    stopped = Said(process.returncode, out, err)
    assert stopped.code == 130
    assert stopped.json["error"]["type"] == "Interrupted"
    assert f"distnnd resume {tmp_path / 'g.zarr'}" in stopped.err
    assert "Traceback" not in stopped.err
    assert run("status", tmp_path / "g.zarr", "--json").json["state"] == "building"
    assert run("resume", tmp_path / "g.zarr", "--max-rounds", 3).code == 0
    assert run("verify", tmp_path / "g.zarr", "--source", shelf / "many.npy").code == 0


def test_a_second_signal_ends_the_command_at_once(tmp_path: Path) -> None:
    code = """
        import os, signal, time
        from distnnd.faces.stopping import Stoppable
        with Stoppable(lambda: print("farewell", flush=True) or 130):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except KeyboardInterrupt:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
    """
    script = tmp_path / "script.py"
    script.write_text("\n".join(line[8:] for line in code.splitlines()))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (130, "farewell\n")
