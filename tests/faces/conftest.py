"""Points and graphs that the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distnnd.faces import commands
from distnnd.storage.points import write_points
from tests.faces.command_line import MANY, normal, run


@pytest.fixture(autouse=True)
def dask_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(commands.LOGGING, raising=False)


@pytest.fixture(scope="package")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with points and the graph built from them; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("shelf")
    np.save(folder / "points.npy", normal(300))
    np.save(folder / "many.npy", normal(MANY, 30))
    write_points(folder / "points-in.zarr", [normal(300)], n=300, d=8, dtype="float32")
    for points in ("points", "many"):
        assert run("build", folder / f"{points}.npy", folder / f"{points}.zarr", "-k", 5).code == 0
    return folder
