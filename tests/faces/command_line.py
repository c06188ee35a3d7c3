"""Calling the command line from tests, in this process or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from click.testing import CliRunner

from distnnd.faces.cli import main
from tests.test_floors import ROOT

# More rows than are compared pair by pair, so that there are rounds and probe rows.
MANY = 5000


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


def run(*args: object) -> Said:
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    return Said(done.exit_code, done.stdout, done.stderr)


def command_line(*args: object) -> list[str]:
    return [sys.executable, "-c", "from distnnd.faces.cli import main; main(prog_name='distnnd')", *map(str, args)]


def start(*args: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command_line(*args), cwd=ROOT, start_new_session=True, **pipes)


def run_apart(*args: object) -> Said:
    process = start(*args)
    out, err = process.communicate(timeout=120)
    return Said(process.returncode, out, err)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its bytes."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def normal(n: int, d: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


def with_value(value: float) -> np.ndarray:
    """300 points, two of which hold `value`: rows 17 and 200."""
    points = normal(300)
    points[17, 3] = points[200, 0] = value
    return points


def save(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "in.npy", array, allow_pickle=True)
    return folder / "in.npy"
