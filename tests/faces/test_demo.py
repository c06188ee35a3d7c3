"""The demo: a graph and a picture, and nothing of anybody else's touched."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import distnnd
from distnnd.faces import commands, demo
from distnnd.faces.cli import main
from tests.faces.test_cli import run_apart
from tests.test_floors import ROOT

PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 400 images in the place of all, and Dask's level as it was afterwards."""
    images, labels = demo.load(demo.find_data())
    np.savez(tmp_path / "few.npz", X=images[:400], y=labels[:400])
    monkeypatch.setattr(demo, "find_data", lambda: tmp_path / "few.npz")
    monkeypatch.delenv(commands.LOGGING, raising=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "demo"


def run(out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["demo", "--out", str(out), *options])


def test_the_demo_shows_plan_recall_and_seconds_and_draws(out: Path) -> None:
    done = run(out)
    assert done.exit_code == 0
    assert "memory/task" in done.stderr
    assert "round 1: recall exact" in done.stderr
    assert done.stdout.startswith("recall   exact\nseconds  ")
    assert distnnd.open_graph(out / "fashion.zarr").n == 400
    assert (out / "neighbours.png").read_bytes().startswith(PNG)


def test_a_former_demo_is_replaced_and_nothing_else(out: Path) -> None:
    assert run(out, "--quiet").stdout == ""
    (out / "notes.txt").write_text("mine")
    first = distnnd.open_graph(out / "fashion.zarr").facts["uuid"]
    facts = json.loads(run(out, "--json").stdout)
    assert facts["picture"] == str(out / "neighbours.png")
    assert distnnd.open_graph(out / "fashion.zarr").facts["uuid"] != first
    assert (out / "notes.txt").read_text() == "mine"


def test_an_unfinished_demo_is_replaced(out: Path) -> None:
    def stop(event: object) -> None:
        raise KeyboardInterrupt

    images, _ = demo.load(demo.find_data())
    with pytest.raises(KeyboardInterrupt):
        distnnd.build(images, out / "fashion.zarr", progress=stop)
    assert run(out, "--quiet").exit_code == 0


def test_the_graph_of_other_points_is_left_alone(out: Path) -> None:
    theirs = distnnd.build(np.eye(50, dtype=np.float32), out / "fashion.zarr", 3)
    done = run(out)
    assert done.exit_code == 2
    assert "--out" in done.stderr
    assert distnnd.open_graph(out / "fashion.zarr").facts == theirs.facts
    assert not (out / "neighbours.png").exists()


def test_a_picture_of_someone_else_is_left_alone(out: Path) -> None:
    out.mkdir()
    (out / "neighbours.png").write_bytes(PNG + b" mine")
    assert run(out).exit_code == 2
    assert (out / "neighbours.png").read_bytes() == PNG + b" mine"
    assert not (out / "fashion.zarr").exists()


def test_without_matplotlib_the_graph_stays(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run(out, "--quiet")
    assert done.exit_code == 1
    assert "pip install 'distnnd[plots]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert distnnd.open_graph(out / "fashion.zarr").n == 400


def test_damaged_images_are_reported(out: Path, tmp_path: Path) -> None:
    (tmp_path / "few.npz").write_bytes((tmp_path / "few.npz").read_bytes()[:1000])
    assert run(out).exit_code == 3
    assert not out.exists()


def test_an_installed_package_has_the_images_in_it(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = tmp_path / "few.npz"
    monkeypatch.undo()
    package = tmp_path / "site-packages" / "distnnd"
    monkeypatch.setattr(demo, "__file__", str(package / "faces" / "demo.py"))
    monkeypatch.chdir(tmp_path)
    done = run(out)
    assert done.exit_code == 1
    assert f"there is no {package / demo.DATA}; install distnnd again" in done.stderr
    assert not out.exists()
    (package / demo.DATA).parent.mkdir(parents=True)
    images.rename(package / demo.DATA)
    assert run(out, "--quiet").exit_code == 0


def test_a_wheel_is_told_to_hold_the_images() -> None:
    """Where they are looked for once it is installed, and their licence."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"][str(demo.DATA)] == f"distnnd/{demo.DATA}"
    assert all((ROOT / source).is_file() for source in wheel["force-include"])
    assert any("LICENSE" in source for source in wheel["force-include"])


def test_one_image_of_each_class_is_asked_about() -> None:
    labels = np.random.default_rng(3).integers(0, 10, 400)
    rows = demo.choose(labels)
    assert len(set(rows.tolist())) == demo.ASKED
    assert set(labels[rows]) == set(range(10))
    assert (np.diff(labels[rows]) >= 0).all()


def test_the_true_demo(out: Path) -> None:
    done = run_apart("demo", "--out", out, "--json")
    assert done.code == 0
    assert done.json["n"] == 10_000
    assert done.json["recall"]["low"] > 0.9
    assert done.json["reached"]
