"""Threads, forks, pickles and scripts: where the process of a build begins and ends."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numba
import numpy as np
from scipy import sparse

import distnnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.testing import forced_partitions
from tests.conftest import graph_bytes
from tests.reported.answers import assert_right, assert_sound, build, index_of, normal, refused, tried


def script(place: Path, text: str, seconds: int = 240, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    file = place / "script.py"
    file.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=os.environ | environment,
    )


def builds_side_by_side(place: Path) -> None:
    """Builds and queries in threads, in the executor of a loop and inside a running one: the same bytes."""
    rows = [normal(1300, 24, seed) for seed in range(3)]
    for partitions in (1, 4):
        with forced_partitions(partitions):
            right = [graph_bytes(build(points, 8)) for points in rows]
            with ThreadPoolExecutor(3) as pool:
                assert list(pool.map(lambda points: graph_bytes(distnnd.build(points, None, 8)), rows)) == right

            async def inside() -> bytes:
                return graph_bytes(distnnd.build(rows[0], None, 8))

            async def beside() -> list[bytes]:
                loop = asyncio.get_running_loop()
                calls = [lambda points=points: graph_bytes(distnnd.build(points, None, 8)) for points in rows[:2]]
                return await asyncio.gather(*[loop.run_in_executor(None, call) for call in calls])

            assert asyncio.run(inside()) == right[0]
            assert asyncio.run(beside()) == right[:2]
    index = index_of(rows[0], place / "i")
    ids, distances = index.query(rows[1][:200], k=10)
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(lambda threads: index.query(rows[1][:200], k=10, threads=threads), [1, 2, 1, 4]):
            assert (again[0] == ids).all()
            assert (again[1] == distances).all()


def the_same_bytes_everywhere(place: Path) -> None:
    """Other threads, another process, another BLAS and other vectors of NumPy; another seed is another graph."""
    points = normal(1300, 40)
    points[500:520] = points[:20]
    np.save(place / "x.npy", points)
    told = []
    for metric in ("euclidean", "cosine"):
        with forced_partitions():
            one, other = (build(points, 8, metric=metric, client=SerialExecutor(count)) for count in (1, 3))
        assert graph_bytes(one) == graph_bytes(other)
        told.append(hash_of(one))
    text = """
        import sys, numpy as np, distnnd
        from distnnd.runtime.serial import SerialExecutor
        from distnnd.testing import forced_partitions
        from tests.reported.processes import hash_of
        points = np.load(sys.path[0] + "/x.npy")
        with forced_partitions():
            for metric in ("euclidean", "cosine"):
                print(hash_of(distnnd.build(points, None, 8, metric=metric, client=SerialExecutor())))
    """
    home = str(Path(__file__).parents[2])
    for environment in ({"OPENBLAS_CORETYPE": "Nehalem"}, {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}):
        run = script(place, text, PYTHONPATH=home, **environment)
        assert run.stdout.split() == told, run.stderr
    with forced_partitions():
        another = build(points, 8, random_state=7)
    assert_right(another, points)


def hash_of(graph: Any) -> str:
    """A digest of the bytes of a graph."""
    return joblib.hash(graph_bytes(graph))


def threads_that_are_allowed(place: Path) -> None:
    """OMP_NUM_THREADS and NUMBA_NUM_THREADS, and one process of one thread."""
    text = "import numpy as np, distnnd\nprint(distnnd.plan(np.zeros((30000, 48), 'f4'), 10).threads)"
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        assert script(place, text, **{name: "1"}).stdout.strip() == "1", name


def threads_of_one_worker(place: Path) -> None:
    """One worker process has one thread, and affinity is obeyed."""
    assert distnnd.plan(np.zeros((3000, 8), np.float32), 10, n_workers=1).threads == 1
    if hasattr(os, "sched_getaffinity"):
        text = (
            "import os\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\nimport numpy as np, distnnd\n"
            "print(distnnd.plan(np.zeros((30000, 48), 'f4'), 10).threads)"
        )
        assert script(place, text).stdout.strip() == "1"


def threads_that_are_named(place: Path) -> None:
    """threads_per_worker= of plan and build."""
    points = np.zeros((30000, 48), np.float32)
    assert distnnd.plan(points, 10, n_workers=1, threads_per_worker=1).threads == 1


def forks(place: Path) -> None:
    """A child that is forked after a build, whole or in partitions, builds and asks as its parent does."""
    text = """
        import multiprocessing, sys
        import numpy as np, distnnd
        from distnnd.testing import forced_partitions
        points = np.random.default_rng(0).normal(size=(1300, 16)).astype("f4")

        def build(way):
            with forced_partitions(way):
                graph = distnnd.build(points, None, 8)
            return graph.indices[:].tobytes()

        def ask(way):
            return index.query(points[:50], k=5)[0].tobytes()

        def answer(pipe, call, way):
            try:
                pipe.send(call(way))
            except distnnd.DistnndError as error:
                pipe.send(str(error))

        if __name__ == "__main__":
            index = distnnd.build(points, None, 8).build_index(sys.path[0] + "/index", source=points)
            fork = multiprocessing.get_context("fork")
            for call, way in ((build, 1), (ask, 1), (build, 3), (ask, 1)):
                right = call(way)
                here, there = fork.Pipe()
                child = fork.Process(target=answer, args=(there, call, way))
                child.start()
                got = here.recv() if here.poll(60) else None
                child.join(5)
                if child.is_alive():
                    child.kill()
                print(call.__name__, way, "hangs" if got is None else "right" if got == right else f"said {got!r:.200}")
    """
    run = script(place, text)
    lines = run.stdout.splitlines()
    assert len(lines) == 4, run.stderr
    assert not [line for line in lines if line.endswith("hangs")], lines
    # In partitions it may be refused; else it has to be right.
    assert [line.split()[-1] for line in (lines[0], lines[1], lines[3])] == ["right"] * 3, lines


def builds_inside_tasks(place: Path) -> None:
    """As many tasks as threads, each with a build of its own: none waits for ever. Work, or a refusal at once."""
    text = """
        import distributed
        import numpy as np
        points = np.random.default_rng(0).normal(size=(1300, 8)).astype("f4")

        def inside(seed):
            import distnnd
            from distnnd.testing import forced_partitions
            try:
                with forced_partitions(3):
                    return distnnd.build(points + seed, None, 5).n
            except distnnd.DistnndError as error:
                return len(str(error)) > 40

        if __name__ == "__main__":
            with (
                distributed.LocalCluster(
                    n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
                ) as cluster,
                distributed.Client(cluster) as client,
            ):
                print(*client.gather(client.map(inside, range(4), pure=False)))
    """
    found = script(place, text, 90).stdout.split()
    assert len(found) == 4
    assert set(found) <= {"1300", "True"}


def no_main_guard(place: Path) -> None:
    """n_workers in a script without a main guard: one sentence that says so, and nothing is left behind."""
    body = "points = np.random.default_rng(0).normal(size=(500, 5)).astype('f4')\n"
    call = "distnnd.build(points, {out!r}, 5, n_workers=2, memory_limit='1GiB')"
    without = "import numpy as np, distnnd\n" + body + call.format(out=str(place / "g")) + "\n"
    run = script(place, without)
    assert run.returncode
    last = run.stderr.strip().splitlines()[-1]
    assert "__main__" in last, last
    assert "distnnd" in last, last
    assert len(run.stderr.splitlines()) < 100
    assert not (place / "g").exists()


def with_a_main_guard(place: Path) -> None:
    """The same with a guard works."""
    text = """
        import numpy as np, distnnd
        if __name__ == "__main__":
            points = np.random.default_rng(0).normal(size=(500, 5)).astype("f4")
            print(distnnd.build(points, None, 5, n_workers=2, memory_limit="1GiB").n)
    """
    run = script(place, text)
    assert run.stdout.strip() == "500", run.stderr


def graphs_and_indexes_by_pickle(place: Path) -> None:
    """pickle, cloudpickle, joblib and deepcopy: in this process, and in another one that stands elsewhere."""
    points = normal(400, 8)
    np.save(place / "x.npy", points)
    graph = build(place / "x.npy", 8, out=place / "g")
    index = graph.build_index(place / "i")
    ids, _ = index.query(points[:20], k=4)
    for dumps in (pickle.dumps, cloudpickle.dumps):
        assert len(dumps((graph, index))) < 40_000
        graph_again, index_again = pickle.loads(dumps((graph, index)))
        assert graph_bytes(graph_again) == graph_bytes(graph)
        assert graph_again.recall == graph.recall
        assert (index_again.query(points[:20], k=4)[0] == ids).all()
    assert graph_bytes(copy.deepcopy(graph)) == graph_bytes(graph)
    joblib.dump((graph, index), place / "both.gz", compress=3)
    text = """
        import os, sys, joblib, numpy as np
        place = sys.path[0]
        os.chdir("/")
        graph, index = joblib.load(place + "/both.gz")
        print(graph.n, index.query(np.load(place + "/x.npy")[:20], k=4)[0].sum())
    """
    assert script(place, text).stdout.split() == ["400", str(ids.sum())]
    listed = sparse.random(100, 60, 0.1, "csr", dtype=np.float32, random_state=0)
    of_sets = build(listed, 6, out=place / "s", metric="jaccard")
    assert graph_bytes(pickle.loads(pickle.dumps(of_sets))) == graph_bytes(of_sets)


def temporary_graphs(place: Path) -> None:
    """A graph without a place of its own lives as long as what was taken of it."""
    points = normal(300, 4)
    right = build(points, 5).to_numpy()[0]
    assert (build(points, 5).indices[:] == right).all()
    assert build(points, 5).distances[0].shape == (5,)
    lazy = build(points, 5).to_dask()[0]
    gc.collect()
    assert (lazy.compute() == right).all()
    indices = build(points, 5).indices
    gc.collect()
    assert (indices[:] == right).all()
    graph = build(points, 5)
    text = pickle.dumps(graph)
    twin = pickle.loads(text)
    del graph
    gc.collect()
    found, refusal = tried(lambda: twin.indices[:])
    assert (found == right).all() if found is not None else len(refusal) > 40


def temporary_graphs_in_one_call(place: Path) -> None:
    """Arrays, CSR and an index of a graph that nobody keeps."""
    points = normal(300, 4)
    assert build(points, 5).to_numpy()[0].shape == (300, 5)
    assert build(points, 5).to_csr().nnz == 1800
    index = build(points, 5).build_index(place / "i", source=points)
    gc.collect()
    assert index.query(points[:3], k=2)[0].shape == (3, 2)


@numba.njit
def first_column(x: Any, y: Any) -> float:
    """How far the first columns are apart."""
    return abs(x[0] - y[0])


def own_metrics_by_pickle(place: Path) -> None:
    """A graph and an index of one's own metric."""
    points = normal(300, 4)
    graph = build(points, 5, out=place / "g", metric=first_column)
    index = graph.build_index(place / "i", source=points)
    graph_again, index_again = pickle.loads(cloudpickle.dumps((graph, index)))
    assert graph_bytes(graph_again) == graph_bytes(graph)
    assert (index_again.query(points[:5], k=3)[0] == index.query(points[:5], k=3)[0]).all()


def the_module_by_pickle(place: Path) -> None:
    """A function of a script that names distnnd goes to workers as one that names NumPy."""
    text = """
        import cloudpickle, pickle, joblib
        import numpy as np, distnnd
        points = np.random.default_rng(0).normal(size=(200, 4)).astype("f4")
        def rows(number):
            return distnnd.build(points, None, 5).n
        if __name__ == "__main__":
            print(pickle.loads(cloudpickle.dumps(rows))(0), cloudpickle.loads(cloudpickle.dumps(distnnd)).__name__)
            print(*joblib.Parallel(2, timeout=100)(joblib.delayed(rows)(number) for number in range(2)))
    """
    run = script(place, text)
    assert run.stdout.split() == ["200", "distnnd", "200", "200"], run.stderr[-500:]


def memory_mapped_jobs(place: Path) -> None:
    """joblib hands out read-only maps of large arrays: the same bytes, in threads and processes."""
    points = normal(9000, 32)
    text = """
        import sys, joblib, numpy as np
        points = np.load(sys.path[0] + "/x.npy")
        def job(rows, number):
            import distnnd
            return bool(rows.flags.writeable), joblib.hash(distnnd.build(rows, None, 5).to_numpy()[0])
        if __name__ == "__main__":
            import distnnd
            right = joblib.hash(distnnd.build(points, None, 5).to_numpy()[0])
            for backend in ("loky", "threading"):
                jobs = joblib.Parallel(2, backend=backend, max_nbytes="1M")
                found = jobs(joblib.delayed(job)(points, i) for i in (0, 1))
                print(backend, found[0][0], all(one == right for _, one in found))
    """
    np.save(place / "x.npy", points)
    run = script(place, text)
    assert run.stdout.split() == ["loky", "False", "True", "threading", "True", "True"], run.stderr[-500:]


def arguments_that_make_no_sense(place: Path) -> None:
    """Refused before any work, in words of the argument; NumPy's scalars are numbers."""
    points = normal(50, 4)
    for k in ("5", 5.5, True, 0, -1, None, [5], np.nan):
        refused(lambda k=k: build(points, k))
    for k in (np.int64(5), np.uint8(5), np.array(5)):
        assert build(points, k).n_neighbors == 5
    assert build(points, 5, random_state=np.int64(7)).n == 50
    for wrong in (
        {"target_recall": "0.9"},
        {"target_recall": 95},
        {"target_recall": np.nan},
        {"max_rounds": 0},
        {"max_rounds": 1.5},
        {"memory_limit": "lots"},
        {"memory_limit": -5},
        {"random_state": -1},
        {"random_state": np.random.default_rng(0)},
        {"metric": "euclidian"},
        {"metric": np.linalg.norm},
        {"metric": "minkowski", "metric_params": {"p": "3"}},
        {"metric": "cosine", "metric_params": {"p": 3}},
        {"component": "x"},
        {"scratch": 5},
        {"out": ""},
        {"client": 5},
    ):
        refused(lambda wrong=wrong: build(points, 5, **wrong), by=distnnd.DistnndError)


def workers_that_make_no_sense(place: Path) -> None:
    """No workers, fewer than none, a text; and a target that is NumPy's."""
    points = normal(50, 4)
    for wrong in (0, -1, "2", 1.5):
        start = time.monotonic()
        refused(lambda wrong=wrong: distnnd.build(points, None, 5, n_workers=wrong), "n_workers")
        assert time.monotonic() - start < 15
    assert_sound(build(points, 5, target_recall=np.float32(0.9)))
