"""`python -m benchmarks.run [set ...] [--full]`: every builder on the same data in the same run; tables and curves.

Sets: mnist, glove and manifold-200000-128 unless others are named; --full adds manifold-1000000-128 and more settings
for the curves. Each builder runs in a process of its own, one after the other, on all processors; its settings share
that process and its start-up, which is counted apart: imports, and a first small build, which compiles or loads.
Writes benchmarks/results/<set>.md and .png; with --full <set>-full.md and .png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from . import data
from .measure import Built, builds
from .table import RESULTS, Table, mib, said

SMALL = ("mnist", "glove", "manifold-200000-128")
Settings = dict[str, list[dict[str, Any]]]
# From quick to thorough. One setting of each slow peer keeps the small run below ten minutes.
FEW: Settings = {
    "distnnd": [{"target_recall": target} for target in (0.95, 0.99)],
    "pynndescent": [{}, {"n_neighbors": 31}],
    "faiss-ivf": [{"nprobe": 16}],
    "faiss-nndescent": [{"k": 32}],
    "hnswlib": [{"ef": 30}],
    "exact": [{}],
}
# Hard data: what PyNNDescent reaches at its defaults, and the default of distnnd.
FEW_ON_GLOVE: Settings = FEW | {"distnnd": [{"target_recall": target} for target in (0.78, 0.95)]}
MANY: Settings = {
    "distnnd": [{"target_recall": target} for target in (0.6, 0.75, 0.85, 0.9, 0.95, 0.98, 0.99)],
    "pynndescent": [{}, {"n_neighbors": 31}, {"n_neighbors": 46}],
    "faiss-ivf": [{"nprobe": probes} for probes in (4, 16, 64)],
    "faiss-nndescent": [{"k": 32}, {"k": 64, "L": 80}],
    "hnswlib": [{"ef": 30}, {"ef": 60}, {"ef": 120}],
    "exact": [{}],
}


class Measured(NamedTuple):
    """One run of one builder."""

    builder: str
    settings: dict[str, Any]
    built: Built


def measure(name: str, choices: Settings, table: Table) -> list[Measured]:
    """Run every builder at every setting on one set."""
    runs = []
    for builder, settings in choices.items():
        here = [Measured(builder, *one) for one in zip(settings, builds(builder, name, settings), strict=True)]
        for one in here:
            table.add(*cells(one))
        runs += here
    return runs


def cells(one: Measured) -> tuple[str, ...]:
    """A row of the table."""
    built = one.built
    return (
        one.builder,
        said(one.settings) if whole(one) else f"only {built.facts['solved']:,} of {built.facts['of']:,} rows",
        f"{built.recall:.4f}",
        f"{built.cpu:.1f}",
        f"{built.wall:.1f}",
        mib(built.peak),
        f"{built.startup:.1f}",
    )


def whole(one: Measured) -> bool:
    """Whether all rows were solved."""
    return one.built.facts.get("solved") == one.built.facts.get("of")


COLUMNS = ("builder", "settings", "recall", "CPU s", "wall s", "peak MiB", "start-up s")


def draw(name: str, runs: list[Measured], place: Path) -> None:
    """Curves of recall against CPU seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for builder in dict.fromkeys(one.builder for one in runs if whole(one)):
        points = sorted((one.built.recall, one.built.cpu) for one in runs if one.builder == builder)
        axes.plot(*zip(*points, strict=True), marker="o", label=builder, linewidth=2.5 if builder == "distnnd" else 1.2)
    axes.set(title=f"{name}: the graph of {data.K} neighbours", xlabel="recall", ylabel="CPU seconds", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(place, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--full", action="store_true", help="more settings, and the set of a million rows")
    chosen = parser.parse_args()
    for name in chosen.sets or (*SMALL, "manifold-1000000-128")[: 4 if chosen.full else 3]:
        data.task(name)
        called = f"{name}-full" if chosen.full else name
        few = FEW_ON_GLOVE if name == "glove" else FEW
        runs = measure(name, MANY if chosen.full else few, Table(called, *COLUMNS))
        draw(name, runs, RESULTS / f"{called}.png")


if __name__ == "__main__":
    main()
