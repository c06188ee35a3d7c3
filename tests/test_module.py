"""The package as a module: it can be pickled by name, and type checkers see what is in it."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

import distnnd

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_is_there_and_seen() -> None:
    assert set(distnnd.__all__) == {*distnnd._HOMES, "__version__"}
    assert set(distnnd.__all__) <= set(dir(distnnd))
    for name in distnnd.__all__:
        assert not isinstance(getattr(distnnd, name), ModuleType), name
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        distnnd.bild  # noqa: B018


def test_no_submodule_is_named_like_a_public_name() -> None:
    """Importing one would put it into the name's place."""
    modules = {module.name for module in pkgutil.iter_modules(distnnd.__path__)}
    assert {"building", "warming", "graph", "index"} <= modules
    assert not modules & set(distnnd.__all__)


@pytest.mark.parametrize("where", ["<stdin>", "__main__"])
def test_a_function_that_names_the_package_can_be_pickled(where: str) -> None:
    """cloudpickle writes such a function by value, and the modules that it names by their names."""
    scope: dict[str, Any] = {"distnnd": distnnd, "__name__": where}
    exec("def names(n):\n    return distnnd.Recall(1.0, 1.0, 1.0, n).probes", scope)
    for _ in range(2):
        # The second time its attributes have been looked up, and lie in the module.
        assert pickle.loads(cloudpickle.dumps(scope["names"]))(3) == 3
    assert pickle.loads(cloudpickle.dumps(distnnd)) is distnnd


def test_the_arguments_of_a_build_are_named() -> None:
    for function, by_position in ((distnnd.build, 3), (distnnd.plan, 2), (distnnd.build_index, 3)):
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
        named = len(kinds) - by_position
        assert (
            kinds == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * by_position + [inspect.Parameter.KEYWORD_ONLY] * named
        )
    with pytest.raises(TypeError, match="positional"):
        distnnd.build([[0.0], [1.0], [2.0]], None, 1, "cosine")  # type: ignore[call-arg]


TYPED = """
from pathlib import Path
from typing import Any

import distnnd


def use(points: Any, folder: Path) -> tuple[distnnd.Graph, distnnd.Index]:
    plan: distnnd.Plan = distnnd.plan(points, 15, metric="cosine", memory_limit="2GiB")
    graph: distnnd.Graph = distnnd.build(points, folder / "graph.zarr", 15, target_recall=0.9, progress=print)
    index: distnnd.Index = distnnd.build_index(graph, folder / "index.zarr", points, progress=False)
    recall: distnnd.Recall = graph.recall
    print(plan.peak + 1, recall.estimate + 1.0, distnnd.warmup(), distnnd.__version__.upper())
    try:
        return distnnd.open_graph(folder / "graph.zarr"), distnnd.open_index(index.location)
    except (distnnd.SpecError, distnnd.StoreError, distnnd.DistnndError):
        raise
"""
WRONG = {
    "an unknown argument": ('distnnd.build("x", n_neighbours=3)', "call-arg"),
    "a metric by position": ('distnnd.build("x", None, 15, "cosine")', "call-arg"),
    "a number of another type": ('distnnd.plan("x", max_rounds="3")', "arg-type"),
    "an unknown name": ("distnnd.bild()", "attr-defined"),
    "a result of another type": ('found: int = distnnd.open_graph("x")', "assignment"),
}


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_a_type_checker_sees_every_name_with_its_signature(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(TYPED)
    bad.write_text("import distnnd\n" + "".join(f"{line}\n" for line, _ in WRONG.values()))
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    command += ["--config-file=", f"--cache-dir={tmp_path / 'cache'}", str(good), str(bad)]
    done = subprocess.run(
        command, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    found = done.stdout.splitlines()
    assert not [line for line in found if "good.py" in line], done.stdout
    told = [line for line in found if "error:" in line]
    assert len(told) == len(WRONG), done.stdout + done.stderr
    for number, ((_, code), line) in enumerate(zip(WRONG.values(), told, strict=True), start=2):
        assert f"bad.py:{number}:" in line, line
        assert line.endswith(f"[{code}]"), line


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(distnnd.__file__).parent / "py.typed").is_file()
