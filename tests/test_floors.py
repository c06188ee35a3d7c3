"""The house rules, read from the source itself: floors, names, sizes, docstrings, a quick `import distnnd`.

Each rule is a function from (path, source text) to a list of breaches, and each is tried on a small bad text
below, so that none can pass by seeing nothing. Imports inside functions count, and so do `import_module("x")`
and `__import__("x")` with a literal name. Imports under `if TYPE_CHECKING:` are exempt: they never run.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Room(NamedTuple):
    """What one room may import, beside itself and the standard library."""

    floor: int
    rooms: str
    libraries: str


# fmt: off
HOUSE = {
    #               floor  rooms                                        libraries
    "values":  Room(0,     "",                                          "numpy"),
    "kernels": Room(1,     "values",                                    "numpy numba llvmlite"),
    "storage": Room(1,     "values",                                    "numpy zarr google_crc32c "
                                                                        "h5py obstore fsspec"),
    "stages":  Room(2,     "values kernels storage",                    "numpy scipy.sparse threadpoolctl"),
    "runtime": Room(3,     "values",                                    "dask distributed threadpoolctl"),
    "progress": Room(4,    "values runtime",                            "rich"),
    "sources": Room(4,     "values storage runtime",                    "numpy"),
    "index_plan": Room(5,  "values storage stages runtime",             ""),
    "testing": Room(5,     "values sources",                            ""),
    "index":   Room(6,     "values storage stages runtime sources progress index_plan", ""),
    "indexing": Room(7,    "values storage stages runtime sources progress index_plan index", ""),
    "underway": Room(5,    "values storage runtime sources",            ""),
    "stream":  Room(6,     "values storage stages runtime underway",    ""),
    "graph":   Room(8,     "values storage stages runtime sources progress index indexing", ""),
    "building": Room(9,    "values storage stages runtime progress graph sources underway stream", ""),
    "warming": Room(10,    "values kernels storage runtime progress graph stream indexing sources underway", "numpy"),
    "faces":   Room(11,    "values storage runtime.events progress graph building index index_plan indexing warming",
                                                                        "numpy click matplotlib "
                                                                        "scipy.sparse sklearn anndata"),
}
# fmt: on
# kernels: llvmlite for intrinsics.
# faces: scipy.sparse, sklearn and anndata for the exports and estimators that speak those formats.

AT_HOME = {
    "dask": "runtime",
    "distributed": "runtime",
    "zarr": "storage",
    "numba": "kernels",
    "click": "faces",
}
NAMES_THAT_SAY_NOTHING = {"utils", "core", "common", "base", "helpers"}
LINES_PER_FILE = 450
LINES_PER_FUNCTION = 70
SLOW_TO_IMPORT = {"numba", "dask", "distributed", "zarr", "scipy"}


# --- reading imports ------------------------------------------------------------------------------


class Import(NamedTuple):
    """One imported name, absolute and in full, and whether it waits until a function is called."""

    line: int
    name: str
    deferred: bool


class ImportReader(ast.NodeVisitor):
    """Collects the imports of one file; `package` is the dotted package that the file lies in."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.found: list[Import] = []
        self.functions_deep = 0

    def note(self, node: ast.stmt | ast.expr, name: str) -> None:
        self.found.append(Import(node.lineno, name, self.functions_deep > 0))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.note(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        origin = self.absolute("." * node.level + (node.module or ""))
        for alias in node.names:
            self.note(node, f"{origin}.{alias.name}")

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in {"import_module", "__import__"} and node.args and isinstance(node.args[0], ast.Constant):
            self.note(node, self.absolute(str(node.args[0].value)))
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions_deep += 1
        self.generic_visit(node)
        self.functions_deep -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def absolute(self, name: str) -> str:
        dots = len(name) - len(name.lstrip("."))
        if dots == 0:
            return name
        parents = self.package.split(".")
        return ".".join([*parents[: len(parents) - dots + 1], *filter(None, [name[dots:]])])


def imports_of(path: PurePosixPath, source: str) -> list[Import]:
    reader = ImportReader(".".join(path.parent.parts))
    reader.visit(ast.parse(source))
    return reader.found


def lies_in(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


# --- the rules ------------------------------------------------------------------------------------


def broken_floors(path: PurePosixPath, source: str) -> list[str]:
    if path == PurePosixPath("distnnd/__init__.py"):
        return broken_front_door(path, source)
    name = path.parts[1].removesuffix(".py")
    if name not in HOUSE:
        return [f"{path}: no such room; the house has {', '.join(HOUSE)}"]
    room = HOUSE[name]
    allowed = [f"distnnd.{place}" for place in (name, *room.rooms.split())] + room.libraries.split()
    if name == "faces":
        allowed.append("distnnd.__version__")
    return [
        f"{path}:{found.line}: {name} (floor {room.floor}) may not import {found.name}"
        for found in imports_of(path, source)
        if not is_standard(found.name) and not any(lies_in(found.name, place) for place in allowed)
    ]


def broken_front_door(path: PurePosixPath, source: str) -> list[str]:
    """`distnnd/__init__.py` may name anything of the package, but only inside a function, so: lazily."""
    return [
        f"{path}:{found.line}: the package may import only from itself, inside a function; not {found.name}"
        for found in imports_of(path, source)
        if not is_standard(found.name) and not (found.deferred and lies_in(found.name, "distnnd"))
    ]


def broken_names(path: PurePosixPath, source: str) -> list[str]:
    empty = {part.removesuffix(".py").strip("_") for part in path.parts[1:]} & NAMES_THAT_SAY_NOTHING
    return [f"{path}: '{name}' says nothing of what is inside" for name in sorted(empty)]


def broken_file_lengths(path: PurePosixPath, source: str) -> list[str]:
    lines = len(source.splitlines())
    return [f"{path}: {lines} lines, at most {LINES_PER_FILE}"] if lines > LINES_PER_FILE else []


def broken_function_lengths(path: PurePosixPath, source: str) -> list[str]:
    breaches = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = lines_of(node)
            if ast.get_docstring(node) is not None:
                lines -= lines_of(node.body[0])
            if lines > LINES_PER_FUNCTION:
                breaches.append(f"{path}:{node.lineno}: {node.name}: {lines} lines, at most {LINES_PER_FUNCTION}")
    return breaches


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def missing_docstrings(path: PurePosixPath, source: str) -> list[str]:
    """Public functions, classes, methods; not overloads and setters: their body or getter speaks for them."""
    return [
        f"{path}:{node.lineno}: {node.name} has no docstring"
        for node in public_definitions(ast.parse(source))
        if ast.get_docstring(node) is None
        and not any(ast.unparse(d).endswith(("overload", ".setter", ".deleter")) for d in node.decorator_list)
    ]


def public_definitions(
    node: ast.AST,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from public_definitions(child)
        elif not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child)


Rule = Callable[[PurePosixPath, str], list[str]]
RULES: list[Rule] = [
    broken_floors,
    broken_names,
    broken_file_lengths,
    broken_function_lengths,
    missing_docstrings,
]


# --- the package keeps them -----------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Rule) -> None:
    breaches = []
    files = sorted((ROOT / "distnnd").rglob("*.py"))
    assert files
    for file in files:
        path = PurePosixPath(file.relative_to(ROOT).as_posix())
        breaches += rule(path, file.read_text(encoding="utf-8"))
    assert not breaches, "\n" + "\n".join(breaches)


def test_the_table_only_looks_down() -> None:
    for name, room in HOUSE.items():
        for below in room.rooms.split():
            assert HOUSE[below.partition(".")[0]].floor < room.floor, f"{name} looks up at {below}"


def test_each_of_these_libraries_has_one_home() -> None:
    for library, home in AT_HOME.items():
        homes = [
            name for name, room in HOUSE.items() if any(lies_in(entry, library) for entry in room.libraries.split())
        ]
        assert homes == [home]


# --- the rules see what they should ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "source", "culprit"),
    [
        ("values/spec.py", "import scipy", "scipy"),
        ("values/spec.py", "from distnnd.kernels.rows import f", "distnnd.kernels.rows.f"),
        ("values/deep/spec.py", "from ...kernels import rows", "distnnd.kernels.rows"),
        ("kernels/rows.py", "import zarr.storage", "zarr.storage"),
        ("kernels/rows.py", "from scipy import sparse", "scipy.sparse"),
        ("kernels/rows.py", "from .. import storage", "distnnd.storage"),
        ("kernels/rows.py", "import distnnd", "distnnd"),
        ("storage/graph.py", "import numba as nb", "numba"),
        ("storage/graph.py", "def f():\n    from dask import array", "dask.array"),
        ("storage/graph.py", "from ..kernels.rows import f", "distnnd.kernels.rows.f"),
        ("stages/local.py", "class A:\n    async def f(self):\n        import distributed", "distributed"),
        ("stages/local.py", "from distnnd.runtime import serial", "distnnd.runtime.serial"),
        ("stages/local.py", "import zarr", "zarr"),
        ("runtime/serial.py", "import numpy as np", "numpy"),
        ("runtime/serial.py", "from importlib import import_module\nimport_module('zarr')", "zarr"),
        ("runtime/serial.py", "import importlib\nimportlib.import_module('..stages')", "distnnd.stages"),
        ("runtime/serial.py", "__import__('distnnd.stages.local')", "distnnd.stages.local"),
        ("building.py", "from distnnd.kernels import rows", "distnnd.kernels.rows"),
        ("building.py", "from . import index", "distnnd.index"),
        ("building.py", "import click", "click"),
        ("index.py", "from distnnd.faces import cli", "distnnd.faces.cli"),
        ("index.py", "try:\n    import dask\nexcept ImportError:\n    pass", "dask"),
        ("faces/cli.py", "from distnnd.stages import local", "distnnd.stages.local"),
        ("faces/cli.py", "from distnnd.runtime import cluster", "distnnd.runtime.cluster"),
        ("faces/cli.py", "import numpy, zarr", "zarr"),
        ("faces/cli.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import dask", "dask"),
        ("__init__.py", "from distnnd.building import build", "distnnd.building.build"),
        ("__init__.py", "def __getattr__(name):\n    import numba", "numba"),
    ],
)
def test_a_broken_floor_is_seen(path: str, source: str, culprit: str) -> None:
    (breach,) = broken_floors(PurePosixPath("distnnd", path), source)
    assert breach.endswith(f" {culprit}")


def test_a_file_outside_the_rooms_is_seen() -> None:
    assert broken_floors(PurePosixPath("distnnd/attic.py"), "") != []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "values/spec.py",
            "from __future__ import annotations\nimport json, numpy as np\nfrom . import errors",
        ),
        ("values/spec.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import dask"),
        ("values/spec.py", "import typing as t\nif t.TYPE_CHECKING:\n    from distnnd import build"),
        ("kernels/rows.py", "import numba\nfrom llvmlite import ir\nfrom distnnd import values"),
        ("stages/local.py", "from distnnd.kernels import rows\nfrom ..storage.graph import Graph"),
        ("runtime/cluster.py", "from dask.distributed import Client\nimport distributed"),
        ("building.py", "from distnnd.runtime import serial\nfrom .stages import local"),
        ("faces/cli.py", "from distnnd.runtime.events import Event\nfrom distnnd import __version__, building"),
        ("__init__.py", "import importlib\ndef __getattr__(name):\n    from distnnd.building import build"),
    ],
)
def test_a_good_import_is_let_through(path: str, source: str) -> None:
    assert broken_floors(PurePosixPath("distnnd", path), source) == []


@pytest.mark.parametrize("path", ["kernels/utils.py", "core/rows.py", "storage/_helpers.py", "base.py"])
def test_an_empty_name_is_seen(path: str) -> None:
    assert len(broken_names(PurePosixPath("distnnd", path), "")) == 1
    assert broken_names(PurePosixPath("distnnd/storage/database.py"), "") == []


def test_a_long_file_is_seen() -> None:
    path = PurePosixPath("distnnd/values/spec.py")
    assert broken_file_lengths(path, "x = 1\n" * LINES_PER_FILE) == []
    assert len(broken_file_lengths(path, "x = 1\n" * (LINES_PER_FILE + 1))) == 1


@pytest.mark.parametrize(
    "head", ["def f(x):\n", "async def f(x):\n", "def f(x):\n    '''Add\n\n    things.\n    '''\n"]
)
def test_a_long_function_is_seen(head: str) -> None:
    path = PurePosixPath("distnnd/values/spec.py")
    step = "    x += 1\n"
    assert broken_function_lengths(path, head + step * (LINES_PER_FUNCTION - 1)) == []
    assert len(broken_function_lengths(path, head + step * LINES_PER_FUNCTION)) == 1


def test_a_missing_docstring_is_seen() -> None:
    source = """
def bare(): ...
def _private(): ...
class Bare:
    x: int
class Told:
    '''Told.'''
    def method(self): ...
    def __repr__(self): ...
    @property
    def size(self):
        '''Told.'''
        def inside(): ...
    @size.setter
    def size(self, value): ...
class _Private:
    def method(self): ...
try:
    import zarr
except ImportError:
    async def fallback(): ...
@typing.overload
def many(x: int): ...
"""
    breaches = missing_docstrings(PurePosixPath("distnnd/values/spec.py"), source)
    assert [breach.split()[1] for breach in breaches] == ["bare", "Bare", "method", "fallback"]


# --- import distnnd is quick, and its names are what they say -------------------------------------


def fresh_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def slow_modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return SLOW_TO_IMPORT & set(fresh_interpreter(code).split())


def test_importing_the_package_is_quick() -> None:
    assert (ROOT / "distnnd" / "__init__.py").is_file()
    assert slow_modules_after("import distnnd") == set()


def test_a_slow_import_is_seen() -> None:
    assert "scipy" in slow_modules_after("import scipy")
