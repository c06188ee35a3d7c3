"""Markdown tables: printed row by row, and kept as they grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .data import ROOT, K
from .measure import machine

RESULTS = ROOT / "benchmarks" / "results"


class Table:
    """A table in benchmarks/results/<name>.md, as far as it is filled: an interrupted run leaves what it measured."""

    def __init__(self, name: str, *columns: str, note: str = "") -> None:
        self.place: Path = RESULTS / f"{name}.md"
        self.lines = [f"{machine()}; k = {K}", ""]
        if note:
            self.lines += [note, ""]
        self.lines += [_line(columns), "|---" * len(columns) + "|"]
        print("\n".join([f"\n## {name}\n", *self.lines]), flush=True)

    def add(self, *cells: Any) -> None:
        """One more row."""
        self.say(_line(cells))

    def say(self, *lines: str) -> None:
        """Lines below the rows."""
        self.lines += lines
        print("\n".join(lines), flush=True)
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.place.write_text("\n".join(self.lines) + "\n", encoding="utf-8")


def _line(cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def mib(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:.0f}"


def said(settings: dict[str, Any]) -> str:
    """Settings as one reads them."""
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "defaults"
