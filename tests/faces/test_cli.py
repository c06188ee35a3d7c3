"""The command line: what each command answers, what it says where, and with which code it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import distnnd
from distnnd.runtime.events import RoundEnd
from tests.faces.command_line import MANY, Said, normal, run, run_apart, save, start, tree, with_value
from tests.test_floors import ROOT, slow_modules_after

COMMANDS = [
    "plan",
    "build",
    "resume",
    "status",
    "info",
    "verify",
    "recall",
    "index",
    "query",
    "convert",
    "warmup",
    "demo",
]
INFO = {"n", "d", "n_neighbors", "metric", "state", "rounds", "recall", "format_version", "bytes"}


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
    assert "--traceback" in said.out


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
    options += ("--exchange-dtype", "float16")
    scratch = tmp_path / "scratch"
    assert run("build", shelf / "many.npy", tmp_path / "g.zarr", *options, "--scratch", scratch).code == 0
    spec = distnnd.open_graph(tmp_path / "g.zarr").facts["spec"]
    asked = {"n_neighbors": 4, "target_recall": 0.9, "max_rounds": 3, "random_state": 7, "memory_limit": 2**30}
    asked |= {"exchange_dtype": "float16"}
    assert asked.items() <= spec.items()


def test_the_old_name_of_an_option_is_taken_and_told(shelf: Path) -> None:
    said = run("plan", shelf / "many.npy", "-k", 4, "--wire", "float16", "--json")
    assert said.json["spec"]["exchange_dtype"] == "float16"
    assert said.err == "distnnd: wire is now called exchange_dtype; the old name will go\n"
    assert "--wire" not in run("build", "--help").out


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
    assert "100 sampled rows" in run(*asked).out


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
def test_convert_writes_points_that_a_plan_reads(tmp_path: Path, dtype: str | None) -> None:
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
    assert run("plan", tmp_path / "p.zarr", "-k", 3).code == 0


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
    bad = run_apart(
        "build", save(tmp_path, with_value(np.nan)), tmp_path / "bad.zarr", "-k", 5, "--workers", 1, "--quiet"
    )
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


# --- warmup -----------------------------------------------------------------------------------------------


def test_warmup_tells_where_kernels_are_and_how_many_were_compiled() -> None:
    plain, as_json = (run("warmup", "--metric", "euclidean", "--dtype", "float32", *more) for more in ((), ["--json"]))
    assert plain.code == as_json.code == 0
    assert as_json.json.keys() == {"host", "cache", "found", "compiled", "seconds", "workers"}
    assert as_json.json["compiled"] == 0
    assert as_json.json["found"] > 20
    assert as_json.json["cache"] in plain.out
    assert "warmup: 3 tasks" in plain.err
    assert run("warmup", "--metric", "euclidean", "--dtype", "float32", "--quiet") == (0, "", "")


def test_warmup_says_where_kernels_cannot_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    said = run("warmup", "--metric", "euclidean", "--json")
    assert said.code == 1
    assert "name another directory" in said.json["error"]["message"]
