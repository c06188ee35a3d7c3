"""`python -m benchmarks.in_memory [runs]`: distnnd and PyNNDescent in alternation on MNIST and GloVe, all in memory.

At defaults (target_recall=0.95), and, where PyNNDescent's defaults do not reach that, at a target it does reach.
"""

from __future__ import annotations

import json
import statistics
import sys

from .measure import machine, run

CASES = (
    ("mnist", {"target_recall": 0.95}),
    ("mnist", {"target_recall": 0.99}),
    ("glove", {"target_recall": 0.78}),
    ("glove", {"target_recall": 0.95}),
)


def main(runs: int = 3) -> None:
    """Print the table as Markdown."""
    print(machine())
    print("| data | target | recall | store says | CPU s | wall s | PyNNDescent recall | CPU s | wall s | CPU ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, settings in CASES:
        ours, theirs = [], []
        for _ in range(runs):
            ours.append(run("benchmarks.one", "distnnd", name, json.dumps(settings)).said)
            theirs.append(run("benchmarks.one", "pynndescent", name).said)
        ratio = statistics.median(b["cpu"] / a["cpu"] for a, b in zip(ours, theirs, strict=True))
        a, b = ours[0], theirs[0]
        cpu, wall = (statistics.median(one[what] for one in ours) for what in ("cpu", "wall"))
        their_cpu, their_wall = (statistics.median(one[what] for one in theirs) for what in ("cpu", "wall"))
        print(
            f"| {name} | {settings['target_recall']} | {a['recall']:.4f} | {a['low']:.4f} to {a['high']:.4f} "
            f"| {cpu:.1f} | {wall:.1f} | {b['recall']:.4f} | {their_cpu:.1f} | {their_wall:.1f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
