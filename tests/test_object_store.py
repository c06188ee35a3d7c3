"""Points, graphs and indexes in an object store, by a real S3 server: the same bytes as on a disk, or one error."""

from __future__ import annotations

import http.server
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import distributed
import numpy as np
import pytest
import scipy.sparse
import zarr

import distnnd
from distnnd.runtime.events import TaskEnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage import stores
from distnnd.storage.points import write_points
from distnnd.storage.source import open_source
from distnnd.storage.sparse import convert_csr, open_matrix
from distnnd.values import searching
from tests.conftest import clustered, graph_bytes
from tests.faces.command_line import run
from tests.object_store import Server
from tests.test_build import Stop, stop_after

Here = Callable[..., Any]


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """2,300 rows of 16 numbers."""
    return clustered(2300)


def written(place: str, rows: np.ndarray, chunk_rows: int = 500) -> str:
    """The points as Zarr in the object store."""
    url = f"{place}/points.zarr"
    write_points(url, [rows], n=len(rows), d=rows.shape[1], dtype=rows.dtype, chunk_rows=chunk_rows)
    return url


def left(place: str) -> list[str]:
    """What there is below a place, without the numbers of chunks."""
    store = stores.opened(place, read_only=True)
    return sorted({key.partition("/c/")[0] for key, _, _ in store.described("", list)})


# --- points ------------------------------------------------------------------------------------------------


def test_points_are_read_as_they_were_written(s3: Server, place: str, rows: np.ndarray) -> None:
    source = open_source(written(place, rows))
    s3.asked.clear()
    np.testing.assert_array_equal(source.read(100, 1600), rows[100:1600])
    # Each of the four chunks, and a look whether it is there.
    assert (s3.requests("GET"), s3.requests("HEAD")) == (4, 4)
    before = source.fingerprint()
    assert before == open_source(source.location).fingerprint()
    zarr.open_array(stores.opened(source.location), mode="r+")[17, 3] = 99
    assert source.fingerprint() != before
    stores.remove(source.location, "c/1")
    with pytest.raises(distnnd.StoreError, match=r"points\.zarr: chunk c/1/0 is missing"):
        source.read(400, 600)


def test_points_that_are_written_already_are_left_alone(place: str, rows: np.ndarray) -> None:
    url = written(place, rows)
    with pytest.raises(distnnd.SpecError, match="exists already"):
        write_points(url, [rows + 1], n=len(rows), d=16, dtype="float32")
    np.testing.assert_array_equal(open_source(url).read(0, len(rows)), rows)


def test_points_that_do_not_add_up_leave_nothing(place: str, rows: np.ndarray) -> None:
    with pytest.raises(distnnd.InputError, match="hold 2300 rows"):
        write_points(f"{place}/p.zarr", [rows], n=5000, d=16, dtype="float32", chunk_rows=500)
    assert left(place) == []


def test_where_no_points_are_it_is_said_what_could_be(place: str) -> None:
    with pytest.raises(distnnd.SpecError, match=r"holds no Zarr array or group$"):
        open_source(place)
    stores.put(place, "points.npy", b"no Zarr")
    with pytest.raises(distnnd.SpecError, match=r"but other objects; .*distnnd convert"):
        open_source(place)
    with pytest.raises(distnnd.StoreError, match="no such bucket"):
        open_source("s3://no-such-bucket/points.zarr")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that serves files and writes no log."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_points_on_a_web_server(tmp_path: Path, rows: np.ndarray, serial: Any) -> None:
    written(str(tmp_path), rows)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/points.zarr"
        source = open_source(url)
        np.testing.assert_array_equal(source.read(3, 700), rows[3:700])
        assert source.fingerprint()["objects"] == 5
        wanted = {"n_neighbors": 7, "client": serial}
        assert graph_bytes(distnnd.build(url, **wanted)) == graph_bytes(distnnd.build(rows, **wanted))
        with pytest.raises(distnnd.SpecError, match="holds no Zarr array or group"):
            open_source(f"{url}-elsewhere")
        with pytest.raises(distnnd.StoreError, match=r"the store did not answer as it should.*501"):
            distnnd.build(rows, f"{url}-graph", **wanted)
        server.shutdown()


# --- graphs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_graph_is_that_of_a_disk(
    s3: Server, place: str, rows: np.ndarray, serial: Any, cut: Here, partitions: int, tmp_path: Path
) -> None:
    cut(partitions, 1000)
    wanted = {"n_neighbors": 7, "client": serial}
    local = distnnd.build(rows, tmp_path / "g.zarr", **wanted)
    graph = distnnd.build(written(place, rows), f"{place}/g.zarr", **wanted)
    assert graph_bytes(graph) == graph_bytes(local)
    assert left(f"{place}/g.zarr") == ["distances", "distances/zarr.json", "indices", "indices/zarr.json", "zarr.json"]
    again = distnnd.open_graph(f"{place}/g.zarr")
    assert graph_bytes(again) == graph_bytes(local)
    assert again.verify(f"{place}/points.zarr")["n"] == 2300
    for found, right in zip(again.to_numpy(), local.to_numpy(), strict=True):
        np.testing.assert_array_equal(found, right)
    np.testing.assert_array_equal(again.to_dask()[0].compute(scheduler="sync"), local.indices[:])


def test_requests_grow_with_chunks_not_with_rows(
    s3: Server, place: str, rows: np.ndarray, serial: Any, cut: Here
) -> None:
    asked = []
    for some in (rows[:1150], rows):
        cut(3, len(some) // 2)
        url = written(f"{place}/{len(some)}", some, len(some) // 2)
        s3.asked.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distnnd.build(url, f"{place}/{len(some)}/g.zarr", 7, client=serial, max_rounds=1)
        asked.append(sum(s3.asked.values()))
    assert asked[1] <= 1.1 * asked[0]


def test_on_processes_stopped_and_resumed(
    place: str, rows: np.ndarray, serial: Any, cut: Here, s3: Server, processes: distributed.Client
) -> None:
    cut(3, 800)
    url, wanted = written(place, rows), {"n_neighbors": 7, "client": processes}
    local = distnnd.build(rows, n_neighbors=7, client=serial)
    for stop in (6, 12, 20):
        out = f"{place}/stopped-{stop}.zarr"
        with pytest.raises(Stop):
            distnnd.build(url, out, progress=stop_after(stop), **wanted)
        with pytest.raises(distnnd.StoreError, match=r"is not finished|no graph"):
            distnnd.open_graph(out)
        ended: list[object] = []
        graph = distnnd.build(url, out, progress=ended.append, **wanted)
        assert graph_bytes(graph) == graph_bytes(local)
        assert distnnd.open_graph(out).verify()["n"] == 2300


def test_points_in_memory_and_lazy_ones_are_spooled_and_taken_away(
    place: str, rows: np.ndarray, serial: Any, processes: distributed.Client
) -> None:
    local = distnnd.build(rows, n_neighbors=7, client=serial)
    for name, source in (("held", rows), ("lazy", da.from_array(rows, chunks=(700, 16)))):
        graph = distnnd.build(source, f"{place}/{name}.zarr", n_neighbors=7, client=processes)
        assert graph_bytes(graph) == graph_bytes(local)
    assert {key.split("/")[0] for key in left(place)} == {"held.zarr", "lazy.zarr"}


def test_sparse_points(place: str, serial: Any, tmp_path: Path) -> None:
    matrix = scipy.sparse.random(900, 60, 0.1, "csr", np.float32, rng=np.random.default_rng(0))
    convert_csr(open_matrix(matrix), f"{place}/sparse.zarr")
    wanted = {"n_neighbors": 5, "metric": "cosine", "client": serial}
    graph = distnnd.build(f"{place}/sparse.zarr", f"{place}/g.zarr", **wanted)
    assert graph_bytes(graph) == graph_bytes(distnnd.build(matrix, **wanted))


def test_scratch_on_a_disk_spares_the_store_the_mail(
    s3: Server, place: str, rows: np.ndarray, serial: Any, cut: Here, tmp_path: Path
) -> None:
    cut(3, 1000)
    url = written(place, rows)
    local = distnnd.build(rows, n_neighbors=7, client=serial)
    s3.asked.clear()
    graph = distnnd.build(url, f"{place}/g.zarr", 7, client=serial, scratch=tmp_path / "scratch")
    assert graph_bytes(graph) == graph_bytes(local)
    assert not s3.requests("PUT", "/mail/")
    assert not s3.requests("PUT", "/scratch/")


def test_a_finished_graph_is_not_touched(place: str, rows: np.ndarray, serial: Any) -> None:
    graph = distnnd.build(rows, f"{place}/g.zarr", 7, client=serial)
    before = graph_bytes(graph)
    with pytest.raises(distnnd.SpecError, match="holds a finished graph"):
        distnnd.build(rows, f"{place}/g.zarr", 6, client=serial)
    assert distnnd.build(rows, f"{place}/g.zarr", 7, client=serial).facts == graph.facts
    distnnd.build(rows, f"{place}/other.zarr", 3, client=serial)
    with pytest.raises(distnnd.SpecError, match=r"other\.zarr exists"):
        distnnd.build_index(graph, f"{place}/other.zarr", rows)
    assert graph_bytes(distnnd.open_graph(f"{place}/g.zarr")) == before


def test_what_is_ours_is_replaced_on_demand(place: str, rows: np.ndarray, serial: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", rows)
    for k in (7, 6):
        graph = distnnd.build(tmp_path / "points.npy", f"{place}/g.zarr", k, client=serial, overwrite=True)
        index = distnnd.build_index(graph, f"{place}/i.zarr", overwrite=True)
        index.query_into(tmp_path / "points.npy", f"{place}/a.zarr", k, overwrite=True)
    assert graph.n_neighbors == distnnd.open_index(f"{place}/i.zarr").info()["n_neighbors"] == 6
    assert zarr.open_group(stores.opened(f"{place}/a.zarr"), mode="r")["indices"].shape == (len(rows), 6)
    stores.put(f"{place}/theirs", "thesis.tex", b"years of work")
    with pytest.raises(distnnd.SpecError):
        distnnd.build(rows, f"{place}/theirs", 7, client=serial, overwrite=True)
    with pytest.raises(distnnd.SpecError):
        index.query_into(tmp_path / "points.npy", f"{place}/theirs", 7, overwrite=True)
    assert stores.get(f"{place}/theirs", "thesis.tex") == b"years of work"


def test_bad_points_leave_nothing_and_take_nothing_else_away(place: str, rows: np.ndarray, serial: Any) -> None:
    stores.put(place, "thesis.tex", b"years of work")
    bad = rows.copy()
    bad[17, 3] = np.nan
    for out, error in ((place, distnnd.SpecError), (f"{place}/g.zarr", distnnd.InputError)):
        with pytest.raises(error):
            distnnd.build(bad, out, client=serial)
    assert left(place) == ["thesis.tex"]


def test_a_damaged_graph_is_found(place: str, rows: np.ndarray, serial: Any) -> None:
    graph = distnnd.build(rows, f"{place}/g.zarr", 7, client=serial)
    stores.remove(place, "g.zarr/distances/c")
    with pytest.raises(distnnd.StoreError, match=r"g\.zarr/distances/c/0/0 is missing"):
        graph.verify()


def test_where_no_graph_and_no_index_is(place: str) -> None:
    with pytest.raises(distnnd.StoreError, match=f"there is no graph at {place}"):
        distnnd.open_graph(place)
    with pytest.raises(distnnd.StoreError, match=f"there is no index at {place}"):
        distnnd.open_index(place)


# --- servers that refuse and die ---------------------------------------------------------------------------


def uses(rows: np.ndarray, place: str) -> list[Callable[[], object]]:
    """Everything that begins with a location."""
    return [
        lambda: distnnd.open_graph(place),
        lambda: distnnd.open_index(place),
        lambda: distnnd.plan(place),
        lambda: distnnd.build(rows, place),
        lambda: distnnd.build(place, f"{place}-out"),
        lambda: distnnd.build_index(place, f"{place}-out"),
    ]


@pytest.mark.parametrize("use", range(6))
def test_refused_and_missing(s3: Server, place: str, rows: np.ndarray, use: int) -> None:
    with s3.refusing(), pytest.raises(distnnd.StoreError, match=f"^{place}.*refused.*AWS_ACCESS_KEY_ID"):
        uses(rows, place)[use]()
    with pytest.raises(distnnd.StoreError, match=r"^s3://no-such-bucket.*no such bucket.*create it"):
        uses(rows, "s3://no-such-bucket/x")[use]()


def die_after(server: Server, tasks: int) -> Callable[[object], None]:
    """A listener that stops the server when the given number of tasks have ended."""
    ended = 0

    def listen(event: object) -> None:
        nonlocal ended
        ended += isinstance(event, TaskEnd)
        if isinstance(event, TaskEnd) and ended == tasks:
            server.stop()

    return listen


def build_until_it_dies(server: Server, tasks: int, *arguments: Any) -> None:
    """A build whose server dies, with one error that says so, and comes back."""
    try:
        with pytest.raises(distnnd.StoreError, match=r"^s3://.* run the same again"):
            distnnd.build(*arguments, client=SerialExecutor(), progress=die_after(server, tasks))
    finally:
        server.start()


@pytest.mark.usefixtures("impatient")
def test_a_server_that_dies_and_comes_back(s3: Server, place: str, rows: np.ndarray, serial: Any, cut: Here) -> None:
    cut(3, 800)
    url, local = written(place, rows), distnnd.build(rows, n_neighbors=7, client=serial)
    for tasks in (1, 8, 20):
        build_until_it_dies(s3, tasks, url, f"{place}/g.zarr", 7)
    graph = distnnd.build(url, f"{place}/g.zarr", 7, client=serial)
    assert graph_bytes(graph) == graph_bytes(local)


@pytest.mark.usefixtures("impatient")
def test_a_build_on_a_disk_outlives_the_server_of_its_points(
    s3: Server, place: str, rows: np.ndarray, serial: Any, cut: Here, tmp_path: Path
) -> None:
    cut(3, 800)
    url, local = written(place, rows), distnnd.build(rows, n_neighbors=7, client=serial)
    build_until_it_dies(s3, 1, url, tmp_path / "g.zarr", 7)
    with pytest.raises(distnnd.StoreError, match="is not finished"):
        distnnd.open_graph(tmp_path / "g.zarr")
    assert graph_bytes(distnnd.build(url, tmp_path / "g.zarr", 7, client=serial)) == graph_bytes(local)


# --- indexes -----------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(place: str, rows: np.ndarray, serial: Any, tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
    """indexed(**options): an index on a disk and the same in the object store, of rows[:2000]."""

    def make(**options: Any) -> tuple[Any, Any]:
        points = rows[:2000]
        graph = distnnd.build(points, f"{place}/g.zarr", 7, client=serial)
        local = distnnd.build_index(graph, tmp_path / "i.zarr", points, client=serial, **options)
        return local, distnnd.build_index(graph, f"{place}/i.zarr", points, client=serial, **options)

    return make


def assert_same(found: Any, right: Any) -> None:
    for one, other in zip(found, right, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("partitions", [1, 3])
def test_an_index_answers_as_on_a_disk_and_is_read_once(
    s3: Server, place: str, rows: np.ndarray, indexed: Any, partitions: int
) -> None:
    local, _ = indexed(partitions=partitions)
    s3.asked.clear()
    index = distnnd.open_index(f"{place}/i.zarr")
    assert not s3.requests("GET", "/c/")
    queries, few = rows[2000:], np.arange(0, 2000, 3)
    for _ in range(3):
        assert_same(index.query(queries, 5), local.query(queries, 5))
        assert_same(index.query(queries, 5, filter=few, threads=2), local.query(queries, 5, filter=few))
    assert set(s3.asked.values()) == {1}, s3.asked
    # There is an object for each partition, where a disk has a file for all of them.
    checked, here = ({name: each.verify()[name] for name in ("n", "n_neighbors", "bytes")} for each in (index, local))
    assert checked == here
    with pytest.raises(distnnd.SpecError, match="exists"):
        distnnd.build_index(f"{place}/g.zarr", f"{place}/i.zarr", rows[:2000], diversify_prob=0.5)


def test_by_partitions_no_more_is_kept_than_the_limit(
    s3: Server, place: str, rows: np.ndarray, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "OWN", 0)
    local, index = indexed(partitions=4)
    plan, queries = local.plan(), rows[2000:]
    right = local.query(queries, 5, memory_limit=plan.index - 1)
    for limit in (plan.partition, 2 * plan.partition):
        for _ in range(2):
            s3.asked.clear()
            assert_same(index.query(queries, 5, memory_limit=limit), right)
            assert sum(rows.nbytes for rows in index._here.arrays._kept.values()) <= limit
        # Four arrays of four partitions, once.
        assert 0 < s3.requests("GET", "/c/") <= 16


def test_workers_read_an_index_once_each(
    s3: Server, place: str, rows: np.ndarray, indexed: Any, processes: distributed.Client
) -> None:
    local, index = indexed()
    lazy = da.from_array(rows[2000:], chunks=(30, 16))
    s3.asked.clear()
    found = processes.compute(list(index.query(lazy, 5, client=processes)), sync=True)
    assert_same(found, local.query(rows[2000:], 5))
    read = {path: count for (_, path), count in s3.asked.items() if "/c/" in path}
    assert read
    assert max(read.values()) <= 2


# --- the command line --------------------------------------------------------------------------------------


def test_the_command_line(s3: Server, place: str, rows: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", rows[:2000])
    np.save(tmp_path / "queries.npy", rows[2000:])
    at = {name: f"{place}/{name}.zarr" for name in ("points", "graph", "index", "answers")}
    for command in (
        ("convert", tmp_path / "points.npy", at["points"]),
        ("plan", at["points"]),
        ("build", at["points"], at["graph"], "-k", 7),
        ("status", at["graph"]),
        ("info", at["graph"]),
        ("verify", at["graph"], "--source", at["points"]),
        ("recall", at["graph"], "--source", at["points"]),
        ("index", at["graph"], at["index"]),
        ("query", at["index"], tmp_path / "queries.npy", at["answers"], "-k", 5),
    ):
        said = run(*command)
        assert said.code == 0, (command, said.err)
    index = distnnd.open_index(at["index"])
    answers = zarr.open_group(stores.opened(at["answers"]), mode="r")
    assert_same((answers["indices"][:], answers["distances"][:]), index.query(rows[2000:], 5))
    for again in (
        ("convert", tmp_path / "points.npy", at["points"]),
        ("build", at["points"], at["graph"], "-k", 6),
        ("index", at["graph"], at["index"], "--diversify-prob", 0.5),
        ("query", at["index"], tmp_path / "queries.npy", at["answers"]),
        ("query", at["index"], tmp_path / "queries.npy", f"{place}/answers.npy"),
    ):
        assert run(*again).code == 2, again
    with s3.refusing():
        refused = run("build", at["points"], f"{place}/other.zarr")
    assert refused.code == 1
    assert "AWS_ACCESS_KEY_ID" in refused.err
    assert len(refused.err.strip().splitlines()) == 1
