"""Nothing that is not ours is deleted, followed or replaced, whatever a store says of itself."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import distnnd
from distnnd.runtime.events import RoundEnd, StageStart
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage import facts, files, mailbox, marks, stores
from distnnd.storage import graph as store
from distnnd.storage.points import write_points
from distnnd.values.errors import InUse, SpecError, StoreError
from tests.conftest import graph_bytes

WANTED: dict[str, Any] = {"n_neighbors": 6, "target_recall": 1.0, "max_rounds": 2}
pytestmark = pytest.mark.filterwarnings("ignore:target_recall")


class Stop(Exception):
    """What a crash looks like from inside."""


def stop_in_round_2(event: object) -> None:
    if isinstance(event, StageStart) and (event.stage, event.round) == ("local", 2):
        raise Stop


@pytest.fixture
def build(serial: SerialExecutor, cut: Any, shapeless: np.ndarray) -> Any:
    """Builds of two rounds in partitions."""
    cut(4, 1500)

    def run(out: Path, **more: Any) -> Any:
        return distnnd.build(shapeless, out, client=serial, **(WANTED | more))

    return run


@pytest.fixture
def begun(build: Any, tmp_path: Path) -> Path:
    """A store whose build was stopped in its second round."""
    with pytest.raises(Stop):
        build(tmp_path / "home" / "g", progress=stop_in_round_2)
    return tmp_path / "home" / "g"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Somebody's folder, in which a name is the same as one of ours."""
    for name in ("data/thesis.tex", "1/ids/c/0/0", "scratch/notes", "thesis.tex"):
        path = tmp_path / "victim" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("years of work")
    return tmp_path / "victim"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(place: Path, **changes: Any) -> None:
    """Change facts of a store behind its back."""
    document = json.loads((place / "zarr.json").read_text())
    document["attributes"]["distnnd"] |= changes
    (place / "zarr.json").write_text(json.dumps(document))


# --- what facts say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uuid", ["../../../victim/data", "", "..", "a" * 31 + "/", "A" * 32, 7, None, ["a"]])
def test_a_uuid_that_is_none_is_not_followed(begun: Path, build: Any, victim: Path, uuid: Any) -> None:
    before = tree(victim)
    edit(begun, uuid=uuid)
    for run in (lambda: build(begun), lambda: build(begun, overwrite=True), lambda: distnnd.open_graph(begun)):
        with pytest.raises(StoreError, match="uuid"):
            run()
    assert tree(victim) == before


@pytest.mark.parametrize("scratch", ["../../victim", "{victim}", "{victim}/data", "http://127.0.0.1:9/x", 7])
def test_a_scratch_that_was_not_named_is_not_followed(begun: Path, build: Any, victim: Path, scratch: Any) -> None:
    before, uuid = tree(victim), store.facts_of(str(begun))["uuid"]  # type: ignore[index]
    shutil.copytree(victim / "data", victim / uuid)
    before = tree(victim)
    edit(begun, scratch=scratch.format(victim=victim) if isinstance(scratch, str) else scratch)
    with pytest.warns(UserWarning, match="was not named again"):
        graph = build(begun)
    assert tree(victim) == before
    graph.verify()
    assert sorted(os.listdir(begun)) == ["distances", "indices", "zarr.json"]


@pytest.mark.parametrize("number", ["../../victim", "1/../../../victim", 1.5, True, 2])
def test_a_round_that_is_no_number_is_not_followed(begun: Path, build: Any, victim: Path, number: Any) -> None:
    before, (only,) = tree(victim), store.facts_of(str(begun))["rounds"]  # type: ignore[index]
    edit(begun, rounds=[only | {"number": number}])
    with pytest.raises(StoreError, match="rounds"):
        build(begun)
    assert tree(victim) == before


@pytest.mark.parametrize("name", ["", "rounds/../..", "/etc", "..", "rounds/./1"])
def test_only_what_lies_below_is_removed(tmp_path: Path, victim: Path, name: str) -> None:
    (tmp_path / "g").mkdir()
    if name:
        with pytest.raises(StoreError, match="nothing is deleted"):
            stores.remove(str(tmp_path / "g"), name)
    assert tree(victim)


def test_what_bears_no_mark_is_no_scratch(begun: Path, build: Any, victim: Path) -> None:
    uuid = store.facts_of(str(begun))["uuid"]  # type: ignore[index]
    foreign = victim / uuid
    shutil.copytree(victim / "data", foreign)
    before = tree(victim)
    edit(begun, scratch=str(victim))
    with pytest.raises(StoreError, match="not the scratch of this build"):
        build(begun, scratch=victim)
    mailbox.discard(str(foreign), uuid)
    marks.remove(str(foreign), "scratch", uuid)
    assert tree(victim) == before


# --- links ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rounds", "scratch", "rounds/1"])
def test_links_in_a_store_are_not_followed(begun: Path, build: Any, victim: Path, name: str) -> None:
    before = tree(victim)
    shutil.rmtree(begun / name)
    (begun / name).symlink_to(victim, target_is_directory=True)
    with pytest.raises(StoreError, match=r"is a symbolic link to .*victim"):
        build(begun)
    store.drop_round(str(begun), 1)
    store.tidy(str(begun))
    assert tree(victim) == before
    store.drop(str(begun))
    assert tree(victim) == before
    assert not begun.exists()


def test_a_scratch_that_is_a_link_is_not_deleted(tmp_path: Path) -> None:
    mailbox.create(str(tmp_path / "real"), "a" * 32, "out")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mailbox.discard(str(tmp_path / "link"), "a" * 32)
    assert (tmp_path / "real" / "zarr.json").exists()
    mailbox.discard(str(tmp_path / "real"), "b" * 32)
    assert (tmp_path / "real" / "zarr.json").exists()
    mailbox.discard(str(tmp_path / "real"), "a" * 32)
    assert not (tmp_path / "real").exists()


# --- copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_copy_goes_on_by_itself(build: Any, tmp_path: Path, elsewhere: bool) -> None:
    """From its committed rounds, and the original's scratch stays as it is."""
    scratch = {"scratch": tmp_path / "fast"} if elsewhere else {}
    original, copy = tmp_path / "g", tmp_path / "copy"
    with pytest.raises(Stop):
        build(original, progress=stop_in_round_2, **scratch)
    shutil.copytree(original, copy)
    before = tree(tmp_path / "fast" if elsewhere else original / "scratch")
    rounds: list[int] = []

    def listen(event: object) -> None:
        if isinstance(event, RoundEnd):
            rounds.append(event.round)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="target_recall")
        other = build(copy, progress=listen, **scratch)
        assert rounds == [2]
        assert tree(tmp_path / "fast" if elsewhere else original / "scratch") == before != {}
        graph = build(original, **scratch)
    assert graph_bytes(other) == graph_bytes(graph)
    assert graph.facts["uuid"] != other.facts["uuid"]
    assert tree(tmp_path / "fast") == {}


# --- two at once ---------------------------------------------------------------------------------------------


def test_a_second_build_is_not_set_back(build: Any, tmp_path: Path) -> None:
    out = tmp_path / "g"
    done: list[Any] = []

    def listen(event: object) -> None:
        if isinstance(event, StageStart) and (event.stage, event.round) == ("merge", 2) and not done:
            done.append(build(out))

    with pytest.raises(InUse, match="another process builds here"):
        build(out, progress=listen)
    assert graph_bytes(distnnd.open_graph(out)) == graph_bytes(done[0])
    assert sorted(os.listdir(out)) == ["distances", "indices", "zarr.json"]


def test_a_build_that_fails_takes_nothing_away_from_another(
    serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray
) -> None:
    bad = shapeless[:300].copy()
    bad[7, 3] = np.nan

    def listen(event: object) -> None:
        # Meanwhile another process commits.
        found = store.facts_of(str(tmp_path / "g"))
        if isinstance(event, StageStart) and found is not None:
            store.commit(str(tmp_path / "g"), found)

    with pytest.raises(InUse):
        distnnd.build(bad, tmp_path / "g", client=serial, progress=listen)
    assert store.facts_of(str(tmp_path / "g")) is not None


@pytest.mark.parametrize("kind", ["local", "s3", "memory"])
def test_a_commit_compares(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    places = {"local": str(tmp_path / "g"), "memory": f"memory://{tmp_path}/g"}
    place = request.getfixturevalue("place") if kind == "s3" else places[kind]
    begun = {"uuid": "a" * 32, "state": "building", "n": 3}
    store.create(place, begun)
    with pytest.raises(SpecError, match="exists"):
        store.create(place, begun)
    one = store.commit(place, begun | {"n": 4})
    for stale in (begun, begun | {"commits": 3}, one | {"uuid": "b" * 32}):
        with pytest.raises(InUse):
            store.commit(place, stale)
        with pytest.raises(InUse):
            store.check_current(place, stale)
    store.check_current(place, one)
    two = store.commit(place, one | {"uuid": "c" * 32}, was="a" * 32)
    assert store.facts_of(place) == {"format_version": "1.0", **two, "commits": 2}


def test_an_object_that_changes_between_is_noticed(place: str) -> None:
    """An object store has no locks: the etag tells."""
    store.create(place, {"uuid": "a" * 32})

    def changed(text: bytes | None) -> bytes:
        stores.put(place, marks.DOCUMENT, b"{}")
        return text or b""

    assert not stores.change(place, marks.DOCUMENT, changed)
    assert stores.get(place, marks.DOCUMENT) == b"{}"
    assert not stores.put_new(place, marks.DOCUMENT, b"new")


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with files.locked(str(tmp_path)):
        other = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


# --- what is there already -----------------------------------------------------------------------------------


def test_a_finished_graph_is_returned(build: Any, tmp_path: Path) -> None:
    graph = build(tmp_path / "g")
    (tmp_path / "g" / "rounds" / "1").mkdir(parents=True)
    mailbox.create(f"{tmp_path}/g/scratch/{graph.facts['uuid']}", graph.facts["uuid"], "out")
    again = build(tmp_path / "g")
    assert again.facts == graph.facts
    assert sorted(os.listdir(tmp_path / "g")) == ["distances", "indices", "zarr.json"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_neighbors": 5}, r"n_neighbors=6 \(now 5\)"),
        ({"metric": "cosine"}, r"metric='euclidean' \(now 'cosine'\)"),
        ({"random_state": 3}, r"random_state=0 \(now 3\)"),
        ({"max_rounds": 5}, r"max_rounds=2 \(now 5\)"),
        ({"resume": False}, "holds a finished graph"),
    ],
)
def test_another_graph_is_refused_and_replaced_on_demand(
    build: Any, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    before = build(tmp_path / "g")
    with pytest.raises(SpecError, match=f"{said}.*overwrite=True"):
        build(tmp_path / "g", **changes)
    if "max_rounds" not in changes:
        after = build(tmp_path / "g", overwrite=True, **changes)
        assert after.facts["uuid"] != before.facts["uuid"]
        assert os.listdir(tmp_path) == ["g"]


def test_points_that_changed_are_another_graph(serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray) -> None:
    points = shapeless[:400].copy()
    distnnd.build(points, tmp_path / "g", 5, client=serial)
    points[311, 3] += 1
    with pytest.raises(SpecError, match=r"other points.*overwrite=True"):
        distnnd.build(points, tmp_path / "g", 5, client=serial)
    distnnd.build(points, tmp_path / "g", 5, client=serial, overwrite=True).verify(points)


def foreign_group(place: Path) -> None:
    zarr.create_group(place, attributes={"title": "someone else's"})


def foreign_points(place: Path) -> None:
    zarr.create_array(place, data=np.ones((3, 2)))


def folder_of_files(place: Path) -> None:
    place.mkdir()
    (place / "thesis.tex").write_text("years of work")


def flat_file(place: Path) -> None:
    place.write_text("years of work")


def whole_folder(place: Path) -> dict[str, bytes]:
    return tree(place.parent)


@pytest.mark.parametrize("make", [foreign_group, foreign_points, folder_of_files, flat_file])
def test_what_is_not_ours_is_never_replaced(
    serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray, make: Any
) -> None:
    points = shapeless[:400]
    np.save(tmp_path / "points.npy", points)
    graph = distnnd.build(tmp_path / "points.npy", tmp_path / "g", 5, client=serial)
    index = graph.build_index(tmp_path / "i")
    make(tmp_path / "theirs")
    if make is flat_file:
        np.save(tmp_path / "theirs.npy", points)
    before = whole_folder(tmp_path / "theirs")
    theirs = tmp_path / "theirs"
    for replace in (
        lambda: distnnd.build(points, theirs, 5, client=serial, overwrite=True),
        lambda: distnnd.build_index(graph, theirs, overwrite=True),
        lambda: index.query_into(tmp_path / "points.npy", theirs, 3, overwrite=True),
        lambda: write_points(theirs, [points], n=400, d=24, dtype="float32", overwrite=True),
        lambda: index.query_into(tmp_path / "points.npy", tmp_path / "points.npy", 3, overwrite=True),
        lambda: distnnd.build_index(graph, tmp_path / "g", overwrite=True),
        lambda: index.query_into(tmp_path / "points.npy", tmp_path / "g", 3, overwrite=True),
    ):
        with pytest.raises(SpecError):
            replace()
    assert whole_folder(theirs) == before


def test_what_is_ours_is_replaced(serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray) -> None:
    points = shapeless[:400]
    np.save(tmp_path / "points.npy", points)
    graph = distnnd.build(tmp_path / "points.npy", tmp_path / "g", 5, client=serial)
    index = graph.build_index(tmp_path / "i")
    uuid = index.facts["uuid"]
    assert graph.build_index(tmp_path / "i").facts["uuid"] == uuid
    assert graph.build_index(tmp_path / "i", overwrite=True).facts["uuid"] != uuid
    with pytest.raises(SpecError, match=r"diversify_prob=1.0 .now 0.5.*overwrite=True"):
        graph.build_index(tmp_path / "i", diversify_prob=0.5)
    index = graph.build_index(tmp_path / "i", diversify_prob=0.5, overwrite=True)
    for name in ("a.npy", "a.zarr"):
        index.query_into(tmp_path / "points.npy", tmp_path / name, 3)
        with pytest.raises(SpecError, match="overwrite=True"):
            index.query_into(tmp_path / "points.npy", tmp_path / name, 2)
        index.query_into(tmp_path / "points.npy", tmp_path / name, 2, overwrite=True)
    assert np.load(tmp_path / "a.npy").shape == zarr.open(tmp_path / "a.zarr")["indices"].shape == (400, 2)
    for n in (400, 200):
        write_points(tmp_path / "p", [points[:n]], n=n, d=24, dtype="float32", overwrite=True)
        assert zarr.open(tmp_path / "p").shape == (n, 24)
    with pytest.raises(SpecError, match=r"exists already.*overwrite"):
        write_points(tmp_path / "p", [points], n=400, d=24, dtype="float32")
    names = ["a.distances.npy", "a.npy", "a.zarr", "g", "i", "p", "points.npy"]
    assert sorted(os.listdir(tmp_path)) == names


def test_answers_that_fail_leave_nothing(serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray) -> None:
    """And the row that an error names is that of the file."""
    np.save(tmp_path / "points.npy", shapeless)
    index = distnnd.build(tmp_path / "points.npy", tmp_path / "g", 5, client=serial).build_index(tmp_path / "i")
    queries = np.tile(shapeless, (120, 1))
    queries[300_000 + 17, 5] = np.nan
    np.save(tmp_path / "queries.npy", queries)
    before = sorted(os.listdir(tmp_path))
    for name in ("a.npy", "a.zarr"):
        with pytest.raises(distnnd.InputError, match="query 300017, column 5"):
            index.query_into(tmp_path / "queries.npy", tmp_path / name, 1, ef=1)
        assert sorted(os.listdir(tmp_path)) == before


def test_a_lazy_query_names_the_row_of_all(serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray) -> None:
    import dask.array

    np.save(tmp_path / "points.npy", shapeless)
    index = distnnd.build(tmp_path / "points.npy", tmp_path / "g", 5, client=serial).build_index(tmp_path / "i")
    queries = shapeless.copy()
    queries[2500, 3] = np.inf
    ids, _ = index.query(dask.array.from_array(queries, chunks=(1000, 24)), 2)
    with pytest.raises(distnnd.InputError, match="query 2500, column 3"):
        ids.compute(scheduler="sync")


def test_answers_in_an_object_store_are_there_when_they_are_whole(
    place: str, serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray
) -> None:
    from distnnd.storage import answers

    ids, distances = np.zeros((5, 2), np.int64), np.zeros((5, 2), np.float32)
    writer = answers.Writer(place, 5, 2)
    writer.append(ids, distances)
    assert stores.get(place, marks.DOCUMENT) is None
    # Killed here: the same again is not in the way of itself.
    for _ in range(2):
        with answers.Writer(answers.free_place(place, overwrite=True), 5, 2) as writer:
            writer.append(ids, distances)
    assert zarr.open_group(stores.opened(place), mode="r")["indices"].shape == (5, 2)
    with pytest.raises(SpecError, match="exists already"):
        answers.free_place(place)


def test_an_index_begun_by_a_process_at_work_is_left_to_it(
    serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "points.npy", shapeless[:400])
    graph = distnnd.build(tmp_path / "points.npy", tmp_path / "g", 5, client=serial)
    facts.create(
        str(tmp_path / "i"), distnnd_kind := facts.Kind("index", "distnnd_index", "1.0", "", "", ""),
        attributes=marks.attributes(distnnd_kind.name, "a" * 32, "i"),
    )  # fmt: skip
    with pytest.raises(InUse, match=f"process {os.getpid()} is making this index"):
        graph.build_index(tmp_path / "i")
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert graph.build_index(tmp_path / "i").n == 400


@pytest.mark.parametrize("changes", [{"layout": None}, {"layout": {"n": 3, "evil": 1}}, {"layout": [3]}])
def test_facts_that_lack_something_are_damaged(begun: Path, build: Any, changes: dict[str, Any]) -> None:
    edit(begun, **changes)
    with pytest.raises(StoreError, match="its facts lack a layout"):
        build(begun)


def test_an_output_that_is_a_link_of_the_users(serial: SerialExecutor, tmp_path: Path, shapeless: np.ndarray) -> None:
    """Goes on leading to the same place, where the new graph is then."""
    (tmp_path / "disk").mkdir()
    distnnd.build(shapeless[:300], tmp_path / "disk" / "g", 5, client=serial)
    (tmp_path / "g").symlink_to(tmp_path / "disk" / "g")
    assert distnnd.build(shapeless[:300], tmp_path / "g", 5, client=serial).n_neighbors == 5
    distnnd.build(shapeless[:300], tmp_path / "g", 4, client=serial, overwrite=True)
    assert (tmp_path / "g").is_symlink()
    assert distnnd.open_graph(tmp_path / "disk" / "g").n_neighbors == 4
    assert sorted(os.listdir(tmp_path)) == ["disk", "g"]
    assert os.listdir(tmp_path / "disk") == ["g"]
