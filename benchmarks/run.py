"""`python -m benchmarks.run [set ...]`: every builder on the same data in the same run; a table and curves.

Sets: mnist, glove, manifold-200000-128 (the small ones, by default), manifold-1000000-128. Each builder runs in a
process of its own at a few settings, one after the other, on all processors.
Writes benchmarks/results/<set>.md and .png.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from .data import ROOT
from .measure import machine, run

SMALL = ("mnist", "glove", "manifold-200000-128")
RESULTS = ROOT / "benchmarks" / "results"
# From quick to thorough.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "distnnd": [{"target_recall": target} for target in (0.75, 0.9, 0.95, 0.99)],
    "pynndescent": [{}, {"n_neighbors": 31}],
    "faiss-ivf": [{"nprobe": probes} for probes in (4, 16, 64)],
    "faiss-nndescent": [{"k": 32}, {"k": 64, "L": 80}],
    "hnswlib": [{"ef": 30}, {"ef": 120}],
}


class Measured(NamedTuple):
    """One run of one builder: its name, settings, and what its process said."""

    tool: str
    settings: dict[str, Any]
    said: dict[str, Any]


def measure(name: str) -> list[Measured]:
    """Run every builder at every setting on one set."""
    runs = []
    for tool, choices in SETTINGS.items():
        for settings in choices:
            said = run("benchmarks.one", tool, name, json.dumps(settings)).said
            runs.append(Measured(tool, settings, said))
            print(line(runs[-1]), flush=True)
    return runs


def line(one: Measured) -> str:
    """A row of the table."""
    said = one.said
    settings = ", ".join(f"{key} {value}" for key, value in one.settings.items()) or "defaults"
    return (
        f"| {one.tool} | {settings} | {said['recall']:.4f} | {said['cpu']:.1f} | {said['wall']:.1f} "
        f"| {said['peak'] / 2**20:.0f} |"
    )


HEAD = "| builder | settings | recall | CPU s | wall s | peak MiB |\n|---|---|---|---|---|---|"


def draw(name: str, runs: list[Measured], place: Path) -> None:
    """Curves of recall against CPU seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for tool in SETTINGS:
        points = sorted((one.said["recall"], one.said["cpu"]) for one in runs if one.tool == tool)
        axes.plot(*zip(*points, strict=True), marker="o", label=tool, linewidth=2.5 if tool == "distnnd" else 1.2)
    axes.set(title=f"{name}: the graph of 15 neighbours", xlabel="recall", ylabel="CPU seconds", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(place, dpi=120)
    pyplot.close(figure)


def main(*names: str) -> None:
    """Measure, print and keep."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    print(machine())
    for name in names or SMALL:
        print(f"\n## {name}\n\n{HEAD}", flush=True)
        runs = measure(name)
        table = "\n".join([f"{machine()}; k = 15", "", HEAD, *map(line, runs)])
        (RESULTS / f"{name}.md").write_text(table + "\n", encoding="utf-8")
        draw(name, runs, RESULTS / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
