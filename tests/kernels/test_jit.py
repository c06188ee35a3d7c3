"""Compiled kernels are found on disk by the next process, and never served after an edit of any kernel source."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numba
import pytest

import distnnd
from distnnd.kernels import jit, leaves, merge  # noqa: F401  some kernels

PACKAGE = Path(distnnd.__file__).parent


def loaded(path: Path) -> ModuleType:
    """The module in that file, under a name of its own, with nothing remembered."""
    spec = importlib.util.spec_from_file_location(f"jit_of_{path.parent.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that may be edited: the directory in which it lies."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE / "kernels", tmp_path / "distnnd" / "kernels", ignore=skip)
    shutil.copytree(PACKAGE / "values", tmp_path / "distnnd" / "values", ignore=skip)
    (tmp_path / "distnnd" / "__init__.py").touch()
    return tmp_path


def digest_of(copy: Path) -> str:
    return loaded(copy / "distnnd" / "kernels" / "jit.py").source_digest()


# --- the digest -----------------------------------------------------------------------------------


def test_a_copy_has_the_same_digest(copy: Path) -> None:
    assert digest_of(copy) == digest_of(copy) == jit.source_digest()
    assert len(jit.source_digest()) == 16
    int(jit.source_digest(), 16)


@pytest.mark.parametrize(
    "source", ["kernels/rows.py", "kernels/random.py", "kernels/jit.py", "values/memory.py", "values/metric.py"]
)
def test_an_edit_of_what_becomes_machine_code_changes_the_digest(copy: Path, source: str) -> None:
    before = digest_of(copy)
    path = copy / "distnnd" / source
    path.write_bytes(path.read_bytes() + b"\n")
    assert digest_of(copy) != before


def test_a_new_a_renamed_and_a_lost_kernel_change_the_digest(copy: Path) -> None:
    kernels = copy / "distnnd" / "kernels"
    digests = {digest_of(copy)}
    (kernels / "exact.py").write_text("")
    digests.add(digest_of(copy))
    (kernels / "exact.py").rename(kernels / "prune.py")
    digests.add(digest_of(copy))
    (kernels / "trees.py").unlink()
    digests.add(digest_of(copy))
    assert len(digests) == 4


def test_what_lies_between_two_sources_is_theirs(copy: Path) -> None:
    """Text that moves from the end of one file to the head of the next is an edit of both."""
    kernels = copy / "distnnd" / "kernels"
    for name, text in (("exact.py", b"x = 1\n"), ("exact_too.py", b"y = 2\n")):
        (kernels / name).write_bytes(text)
    before = digest_of(copy)
    (kernels / "exact.py").write_bytes(b"x = 1\ny = 2\n")
    (kernels / "exact_too.py").write_bytes(b"")
    assert digest_of(copy) != before


def test_another_numba_has_another_digest(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "__version__", "0.0.1")
    assert digest_of(copy) != jit.source_digest()


def test_other_sources_do_not_matter(copy: Path) -> None:
    (copy / "distnnd" / "values" / "plan.py").write_text("")
    assert digest_of(copy) == jit.source_digest()


# --- where the cache lies -------------------------------------------------------------------------


@pytest.fixture
def homes(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The three places that a cache may lie in, none of which exists yet; the real ones are out of reach."""
    places = {name: tmp_path / name for name in ("numba", "user", "temporary")}
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(places["numba"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(places["user"]))
    monkeypatch.setattr(tempfile, "tempdir", str(places["temporary"]))
    return places


def unwritable(place: Path) -> None:
    """Not even the superuser makes a directory below a file."""
    place.write_text("")


def cache_dir(copy: Path) -> Path:
    return loaded(copy / "distnnd" / "kernels" / "jit.py").cache_dir()


def test_the_directory_carries_the_digest(copy: Path, homes: dict[str, Path]) -> None:
    path = cache_dir(copy)
    assert path == homes["numba"] / f"kernels-{jit.source_digest()}"
    assert path.is_dir()


def test_an_edit_starts_another_directory(copy: Path, homes: dict[str, Path]) -> None:
    before = cache_dir(copy)
    path = copy / "distnnd" / "kernels" / "rows.py"
    path.write_bytes(path.read_bytes() + b"\n")
    assert cache_dir(copy) != before
    assert cache_dir(copy).parent == before.parent


def test_what_cannot_be_written_is_passed_over(
    copy: Path, homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"kernels-{jit.source_digest()}"
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", "")
    assert cache_dir(copy) == homes["user"] / "distnnd" / name
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(homes["numba"]))
    unwritable(homes["numba"])
    assert cache_dir(copy) == homes["user"] / "distnnd" / name
    shutil.rmtree(homes["user"])
    unwritable(homes["user"])
    homes["temporary"].mkdir()
    path = cache_dir(copy)
    assert path == homes["temporary"] / f"distnnd-{os.getuid()}" / name
    assert path.is_dir()


def test_nowhere_to_write_means_no_cache(copy: Path, homes: dict[str, Path]) -> None:
    for place in homes.values():
        unwritable(place)
    path = cache_dir(copy)
    assert path is None or path.name == f"kernels-{jit.source_digest()}"


def test_the_users_own_cache_stays_where_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))

    def identity(x):
        return x

    jit.kernel(identity)
    assert Path(numba.core.config.CACHE_DIR) == tmp_path


# --- two processes --------------------------------------------------------------------------------

CALL = """
import json
import numpy as np
from distnnd.kernels import codes, groups, leaves, merge, neighbours
from distnnd.values.metric import METRICS
points = np.arange(12, dtype=np.float32).reshape(6, 2)
group = groups.Groups(*groups.group_rows(np.zeros(6, np.int32), 1))
lists, merged = neighbours.empty(6, 2), neighbours.empty(6, 2, np.int64)
if {join}:
    coder = codes.coder_of(points, METRICS["euclidean"])
    rows = codes.encode(points, coder)
    form = codes.coded_form(METRICS["euclidean"], rows, coder)
    leaves.join(rows, group, rows, group, group.rows, form, lists, True, 0, 1)
merged.ids[:, 0], merged.distances[:, 0] = 9, 3
merge.fold(merged, np.arange(6), np.tile(np.array([7, 8]), (6, 1)), np.tile(np.array([1, 2], np.float32), (6, 1)))
stats = {{}}
for kernel in (groups.group_rows, merge.fold, leaves.join):
    hits, misses = (sum(counts.values()) for counts in (kernel.stats.cache_hits, kernel.stats.cache_misses))
    stats[kernel.__name__] = [hits, misses]
print(json.dumps({{"stats": stats, "ids": lists.ids.tolist(), "merged": merged.ids[0].tolist()}}))
"""


def called(package: Path, cache: Path, join: bool) -> dict:
    """What a fresh process finds when it calls a few kernels of the package below that directory."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "NUMBA_DISABLE_JIT": "0", "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", CALL.format(join=join)]
    done = subprocess.run(command, env=environment, cwd=package, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    """NamedTuples of arrays and of numbers are values: their types are the same in every process."""
    first, second = (called(PACKAGE.parent, tmp_path, join=True) for _ in range(2))
    assert first["stats"] == {"group_rows": [0, 1], "fold": [0, 1], "join": [0, 1]}
    assert second["stats"] == {"group_rows": [1, 0], "fold": [1, 0], "join": [1, 0]}
    assert first["ids"] == second["ids"]
    assert first["ids"][0] == [1, 2]
    (cache,) = tmp_path.iterdir()
    assert cache.name == f"kernels-{jit.source_digest()}"


def test_an_edit_in_another_file_is_not_served_from_disk(copy: Path, tmp_path: Path) -> None:
    """Numba looks only at the file of fold; what it calls lies in neighbours."""
    before = called(copy, tmp_path / "cache", join=False)
    path = copy / "distnnd" / "kernels" / "neighbours.py"
    source = path.read_text()
    ends = "    lists.ids[row, slot] = {}\n    if mixed"
    edited = source.replace(ends.format("label"), ends.format(99))
    assert edited != source
    path.write_text(edited)
    after = called(copy, tmp_path / "cache", join=False)
    assert (before["merged"], after["merged"]) == ([7, 8], [99, 99])
    assert after["stats"]["fold"] == [0, 1]
    assert len(list((tmp_path / "cache").iterdir())) == 2


# --- one file for each specialisation -------------------------------------------------------------


def test_what_is_saved_is_found_by_its_key_alone(tmp_path: Path) -> None:
    files = jit.OneFileEach(str(tmp_path), "kernel")
    assert files.load(("int32", "cpu")) is None
    files.save(("int32", "cpu"), b"for int32")
    files.save(("int64", "cpu"), b"for int64")
    again = jit.OneFileEach(str(tmp_path), "kernel")
    assert [again.load((kind, "cpu")) for kind in ("int32", "int64", "int8")] == [b"for int32", b"for int64", None]
    assert len(list(tmp_path.iterdir())) == 2


def test_two_that_save_at_once_do_not_mix_up_their_code(tmp_path: Path) -> None:
    """Each knows nothing of the other when it begins; numba's index would number both 1."""
    one, other = (jit.OneFileEach(str(tmp_path), "kernel") for _ in range(2))
    assert one.load("int32") is None
    assert other.load("int64") is None
    one.save("int32", b"for int32")
    other.save("int64", b"for int64")
    assert [one.load(key) for key in ("int32", "int64")] == [b"for int32", b"for int64"]


@pytest.mark.parametrize("harm", [b"", b"\x80\x05", b"nonsense"])
def test_a_damaged_file_is_compiled_and_saved_again(tmp_path: Path, harm: bytes) -> None:
    files = jit.OneFileEach(str(tmp_path), "kernel")
    files.save("int32", b"good")
    (path,) = tmp_path.iterdir()
    path.write_bytes(harm)
    assert files.load("int32") is None
    files.save("int32", b"good")
    assert files.load("int32") == b"good"


def test_another_kernels_file_is_not_taken(tmp_path: Path) -> None:
    """Two keys of one digest will not be met, but a renamed file might."""
    files = jit.OneFileEach(str(tmp_path), "kernel")
    files.save("int32", b"for int32")
    (path,) = tmp_path.iterdir()
    files.save("int64", b"for int64")
    (other,) = set(tmp_path.iterdir()) - {path}
    path.replace(other)
    assert files.load("int64") is None


def test_a_full_disk_is_counted_and_does_no_harm(tmp_path: Path) -> None:
    files = jit.OneFileEach(str(tmp_path / "gone"), "kernel")
    files.save("int32", b"code")
    assert files.unsaved == 1
    assert files.load("int32") is None


def test_compiled_kernels_are_kept_this_way() -> None:
    """Numba's internals may change; then its own files would serve, and the promises above would not hold."""
    ours = [made for made in jit.compiled_kernels() if made.__module__.startswith("distnnd.kernels.")]
    kept = [made for made in ours if type(made._cache).__name__ == "FunctionCache"]
    assert len(kept) > 20
    assert all(isinstance(made._cache._cache_file, jit.OneFileEach) for made in kept)


# --- whom the cache is open to --------------------------------------------------------------------


def the_user(homes: dict[str, Path]) -> Path:
    return homes["user"] / "distnnd" / f"kernels-{jit.source_digest()}"


def test_the_cache_is_for_its_user_alone(copy: Path, homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", "")
    before = os.umask(0)
    try:
        path = cache_dir(copy)
    finally:
        os.umask(before)
    assert path == the_user(homes)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path, path.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
@pytest.mark.parametrize("which", ["the kernels", "the folder above"])
def test_a_folder_that_others_can_write_to_is_passed_over(
    copy: Path, homes: dict[str, Path], mode: int, which: str
) -> None:
    path = homes["numba"] / f"kernels-{jit.source_digest()}"
    path.mkdir(parents=True, mode=0o700)
    (path if which == "the kernels" else path.parent).chmod(mode)
    with pytest.warns(UserWarning, match=r"others may write to .*numba") as warned:
        assert cache_dir(copy) == the_user(homes)
    assert len(warned) == 1
    assert os.listdir(path) == []


def test_a_sticky_folder_is_as_good_as_a_temporary_one(copy: Path, homes: dict[str, Path]) -> None:
    homes["numba"].mkdir()
    homes["numba"].chmod(0o1777)
    assert cache_dir(copy).parent == homes["numba"]


def test_a_folder_of_another_user_is_passed_over(
    copy: Path, homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = loaded(copy / "distnnd" / "kernels" / "jit.py")
    module.cache_dir()
    module.cache_dir.cache_clear()
    monkeypatch.setattr(os, "getuid", lambda: os.stat(homes["numba"]).st_uid + 1)
    with pytest.warns(UserWarning, match="belongs to another user"):
        assert module.cache_dir() != homes["numba"] / f"kernels-{jit.source_digest()}"


def test_a_link_that_leads_to_the_cache_is_the_users_own(
    copy: Path, homes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    homes["numba"].symlink_to(tmp_path / "real")
    assert cache_dir(copy).parent == homes["numba"]
    # Planted by another user, in a folder where he may.
    tmp_path.chmod(0o1777)
    module, lstat = loaded(copy / "distnnd" / "kernels" / "jit.py"), Path.lstat

    def of_another(path: Path) -> os.stat_result:
        status = list(lstat(path))
        status[stat.ST_UID] += 1
        return os.stat_result(status)

    monkeypatch.setattr(Path, "lstat", of_another)
    with pytest.warns(UserWarning, match="is a link that another user made"):
        assert module.cache_dir() == the_user(homes)


def test_kernels_in_a_link_are_not_loaded(copy: Path, homes: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    homes["numba"].mkdir(mode=0o700)
    (homes["numba"] / f"kernels-{jit.source_digest()}").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="is a link"):
        assert cache_dir(copy) == the_user(homes)
