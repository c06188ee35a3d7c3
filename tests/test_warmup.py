"""After a warm-up no process compiles anything; two that warm up at once do not disturb each other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed
import pytest

import distnnd
from distnnd.kernels import jit
from distnnd.runtime.cluster import on_each_worker
from distnnd.runtime.serial import SerialExecutor
from distnnd.values.errors import DistnndError, SpecError, StageError
from distnnd.values.metric import METRICS
from distnnd.warming import Kind, Warmed, kinds_of, layouts, place_of_kernels, warm_process
from tests.test_floors import ROOT

WARMUP = sys.modules["distnnd.warming"]
WARM = "import distnnd, json, sys; print(json.dumps(distnnd.warmup(*json.loads(sys.argv[1])).to_json()))"


def start(cache: Path | None, *arguments: str) -> subprocess.Popen[str]:
    """A Python whose compiled kernels lie below `cache`, or where they lie in this process."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "0"} | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, **pipes)


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object that it prints."""
    try:
        out, err = process.communicate(timeout=1500)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def warm(cache: Path | None, metrics: list[str], dtypes: list[str]) -> subprocess.Popen[str]:
    return start(cache, "-c", WARM, json.dumps([metrics, dtypes]))


def builds(cache: Path | None, metrics: list[str], dtypes: list[str]) -> dict[str, Any]:
    """What builds in a fresh process find and compile."""
    return said(start(cache, "-m", "tests.warmed", ",".join(metrics), ",".join(dtypes)))


# --- nothing is left to compile ---------------------------------------------------------------------------


def test_after_a_warm_up_the_next_process_compiles_nothing(tmp_path: Path) -> None:
    """Where kernels of other tests lie too; a copy that lacks some shows that the count would tell."""
    warmed = said(warm(None, ["cosine"], ["float32"]))
    assert warmed["cache"] == str(jit.cache_dir())
    found = builds(None, ["cosine"], ["float32"])["all"]
    assert found["found"] > 20
    assert (found["compiled"], found["inlined"], found["unsaved"]) == (0, 0, 0)
    shutil.copytree(warmed["cache"], tmp_path / Path(warmed["cache"]).name)
    lost = [path for path in tmp_path.rglob("*.kernel") if path.name.startswith(("merge.globalise", "merge.fold"))]
    assert lost
    for path in lost:
        path.unlink()
    found = builds(tmp_path, ["cosine"], ["float32"])["all"]
    assert found["compiled"] == 2
    assert found["inlined"] > 0


SPARSE_BUILDS = """
import json, numpy as np, distnnd
from scipy import sparse
from distnnd.kernels.jit import tally
from distnnd.runtime.serial import SerialExecutor
from distnnd.values import sparse_plan
rows = sparse.random(5000, 300, 0.03, "csr", np.float32, 0)
distnnd.build(rows[:300], metric="cosine", client=SerialExecutor())
sparse_plan.AFFORDABLE = 0
distnnd.build(rows, metric="cosine", client=SerialExecutor())
print(json.dumps(tally()._asdict()))
"""


def test_after_a_warm_up_builds_of_sparse_rows_compile_nothing() -> None:
    said(warm(None, ["cosine"], ["sparse"]))
    built = said(start(None, "-W", "ignore", "-c", SPARSE_BUILDS))
    assert (built["compiled"], built["found"] > 0) == (0, True)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_warm_the_same_cold_cache_and_then_nothing_is_compiled(tmp_path: Path) -> None:
    both = [warm(tmp_path, [], []) for _ in range(2)]
    for process in both:
        warmed = said(process)
        assert warmed["compiled"] + warmed["found"] > 30
    # One of them was first with some kernels, and neither wrote a file that is not there.
    assert not list(tmp_path.rglob("*.kernel.*"))
    for name, counts in builds(tmp_path, list(METRICS), ["float32", "float16", "uint8", "int8"]).items():
        assert (counts["compiled"], counts["inlined"]) == (0, 0), name
        assert name != "all" or counts["found"] > 30


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_cold_cache_shows(tmp_path: Path) -> None:
    counts = builds(tmp_path, ["euclidean"], ["float32"])["all"]
    # The build in partitions finds what another process has compiled for it by then.
    assert counts["compiled"] > 25
    assert counts["inlined"] > 25


COLD_WORKERS = """
import distnnd, json, numpy as np, warnings
from distnnd.kernels.jit import tally
from distnnd.runtime.cluster import executor_for, on_each_worker
if __name__ == "__main__":
    warnings.simplefilter("error")
    points = np.random.default_rng(0).normal(size=(5000, 8)).astype("float32")
    with executor_for(None, 2**31, 2) as executor:
        distnnd.build(points, client=executor.client)
        print(json.dumps({address: one._asdict() for address, one in on_each_worker(executor, tally).items()}))
"""


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_worker_compiles(tmp_path: Path) -> None:
    script = tmp_path / "cold.py"
    script.write_text(COLD_WORKERS)
    counts = said(start(tmp_path, str(script)))
    assert len(counts) == 2
    assert sum(one["found"] for one in counts.values()) > 15
    assert all(one["compiled"] == 0 for one in counts.values())


SIGNATURES = """
import distnnd, json
from distnnd.kernels.jit import compiled_kernels
distnnd.warmup(["euclidean", "inner_product"], ["float32", "uint8"])
kept = [made for made in compiled_kernels() if hasattr(made._cache, "_cache_file")]
print(json.dumps({made.__module__ + "." + made.__name__: [str(one) for one in made.signatures] for made in kept}))
"""


def test_each_kernel_of_a_build_has_few_specialisations() -> None:
    """float32 or int8 rows, int32 or int64 ids: two. An argument that varies without need would double that."""
    signatures = said(start(None, "-c", SIGNATURES))
    assert sum(map(len, signatures.values())) > 30
    # Whole blocks of each dtype are put in order; indexes compare codes, or exact rows of either dtype.
    more = {"distnnd.kernels.merge._move", "distnnd.kernels.search.search", "distnnd.kernels.prune.diversify"}
    assert {name for name, each in signatures.items() if len(each) > 2} <= more
    texts = [text for each in signatures.values() for text in each]
    assert not [text for text in texts if "readonly" in text or "nonaligned" in text or ", A)" in text or "'A'" in text]


# --- what is built for it ---------------------------------------------------------------------------------


def test_kinds_that_are_prepared_alike_are_built_once() -> None:
    everything = kinds_of(METRICS, ["float32", "float16", "uint8", "int8"])
    assert everything == [
        Kind("euclidean", "float32"),
        Kind("cosine", "float32"),
        Kind("inner_product", "float32"),
        Kind("euclidean", "uint8"),
    ]
    bits = [Kind("bit_hamming", "uint8"), Kind("cosine", "float32"), Kind("bit_jaccard", "uint8")]
    assert kinds_of(["bit_jaccard"], ["float32", "uint8"]) == bits


JUDGED = ["manhattan", "minkowski", "weighted_minkowski", "kantorovich", "haversine", "mahalanobis"]


@pytest.mark.parametrize("name", [*JUDGED, "cosine"])
def test_a_kind_is_known_by_the_name_of_its_kernels(name: str) -> None:
    kind = kinds_of([name], ["float32"])[-1]
    assert kind.metric == name
    assert Kind.named(kind.kernels).kernels == kind.kernels
    kind.spec().check_metric(layouts(kind)[0].d)
    assert kinds_of(["sqeuclidean", "l2"], ["int8"]) == [Kind("sqeuclidean", "int8")]


def test_the_cuts_go_through_every_stage() -> None:
    exact, one, several = layouts(Kind("inner_product", "float32"))
    assert exact.exact
    assert one.partitions == 1
    assert several.partitions > 1
    assert several.blocks > 1


@pytest.mark.parametrize(("metrics", "dtypes", "words"), [("cosin", None, "cosine"), (None, "int64", "float16")])
def test_what_does_not_exist_is_refused(metrics: str | None, dtypes: str | None, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        distnnd.warmup(metrics, dtypes)


# --- where kernels cannot be kept -------------------------------------------------------------------------


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(DistnndError, match=r"elsewhere cannot be written .* name another directory"):
        place_of_kernels()
    monkeypatch.setattr(WARMUP, "cache_dir", lambda: None)
    with pytest.raises(DistnndError, match="set NUMBA_CACHE_DIR"):
        distnnd.warmup("euclidean", "float32")


def test_without_the_jit_there_is_nothing_to_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WARMUP, "compiled_kernels", list)
    with pytest.raises(DistnndError, match="NUMBA_DISABLE_JIT"):
        distnnd.warmup("euclidean", "float32")


def test_kernels_that_were_not_saved_are_no_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([jit.Tally(0, 0, 0, 0), jit.Tally(5, 4, 9, 2)])
    monkeypatch.setattr(WARMUP, "tally", lambda: next(counts))
    monkeypatch.setattr(WARMUP, "build_tiny", lambda metric, layout: None)
    with pytest.raises(DistnndError, match=r"2 of 4 compiled kernels could not be written .* make room"):
        warm_process([Kind("euclidean", "float32")])


# --- clusters ---------------------------------------------------------------------------------------------


def test_workers_find_what_was_compiled_here(processes: Any) -> None:
    warmed = distnnd.warmup("euclidean", "float32", client=processes)
    assert warmed.workers.keys() == processes.scheduler_info()["workers"].keys()
    for one in warmed.workers.values():
        assert isinstance(one, Warmed)
        assert one.cache == warmed.cache
        assert (one.compiled, one.found > 20) == (0, True)
    with processes.as_current():
        assert distnnd.warmup("euclidean", "float32").to_json()["workers"].keys() == warmed.workers.keys()


def spell(seconds: float) -> tuple[float, float, int]:
    """When it began and ended, and where."""
    import time

    began = time.time()
    time.sleep(seconds)
    return began, time.time(), os.getpid()


def fail(error: Exception) -> None:
    """Fail in that way."""
    raise error


def test_one_worker_of_a_host_goes_first(processes: Any) -> None:
    (first_began, first_ended, one), (began, _, other) = sorted(on_each_worker(processes, spell, 0.3).values())
    assert first_began < first_ended <= began
    assert one != other


def test_a_worker_that_fails_is_named(processes: Any) -> None:
    with pytest.raises(StageError, match=r"worker tcp://.* failed: KeyError"):
        on_each_worker(processes, fail, KeyError("x"))
    with pytest.raises(StageError, match="failed: TimeoutError"):
        on_each_worker(processes, fail, TimeoutError("its own"))
    with pytest.raises(DistnndError, match=r"^no room$"):
        on_each_worker(processes, fail, DistnndError("no room"))


def die() -> None:
    """Leave without a word, as one does that takes too much memory."""
    os._exit(1)


def test_a_worker_that_dies_is_not_waited_for() -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.raises(StageError, match=r"worker tcp://\S+ "),
    ):
        on_each_worker(client, die)


def test_without_a_cluster_nobody_is_asked() -> None:
    assert on_each_worker(None, fail, KeyError("x")) == {}
    assert on_each_worker(SerialExecutor(), fail, KeyError("x")) == {}
