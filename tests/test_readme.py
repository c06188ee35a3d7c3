"""What the README shows in Python runs as it stands, block after block in one session."""

from __future__ import annotations

import importlib.metadata
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_floors import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
# Libraries that are handed the graph, and the least version that the README asks for; blocks of others always run.
OPTIONAL = {"umap-learn": ("umap", (0, 5)), "scanpy": ("scanpy", (1, 12)), "hdbscan": ("hdbscan", (0, 8))}


def runs(block: str) -> bool:
    """Whether all that it imports is installed."""
    for library, (module, least) in OPTIONAL.items():
        if re.search(rf"^import {module}\b", block, re.MULTILINE):
            try:
                found = importlib.metadata.version(library)
            except importlib.metadata.PackageNotFoundError:
                return False
            return tuple(int(part) for part in found.split(".")[:2]) >= least
    return True


def test_what_is_optional_is_there_to_be_left_out() -> None:
    for module, _ in OPTIONAL.values():
        assert sum(f"import {module}" in block for block in BLOCKS) == 1


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that are there when all blocks have run in an empty folder beside the examples."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    names: dict[str, Any] = {"__name__": "readme"}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        for number, block in enumerate(BLOCKS):
            if runs(block):
                exec(compile(block, f"README.md, block {number + 1}", "exec"), names)
                names["ran"] = number + 1
    return names


def test_the_five_lines_and_the_query(session: dict[str, Any]) -> None:
    assert session["X"].shape == (10_000, 784)
    assert session["index"].n == 10_000
    ids, _ = session["index"].query(session["X"][:5], k=1)
    assert ids[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_exports_are_what_the_table_says(session: dict[str, Any]) -> None:
    ids, distances, graph = session["ids"], session["distances"], session["graph"]
    assert ids.shape == distances.shape == (2000, 16)
    assert (ids[:, 0] == np.arange(2000)).all()
    assert session["mean_distance"] == pytest.approx(graph.distances[:].mean(), rel=1e-4)
    assert graph.to_csr(dtype="float64").dtype == np.float64
    for name in ("to_numpy", "to_csr", "symmetrize", "to_dask", "search_report", "build_index"):
        assert f"graph.{name}(" in README
        assert callable(getattr(graph, name))


def test_scikit_learn_finds_clusters(session: dict[str, Any]) -> None:
    labels = session["labels"]
    assert len(labels) == 2000
    assert len(set(labels.tolist())) > 1


def test_every_link_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / Path(target)).exists(), f"{page.name}: {target}"
