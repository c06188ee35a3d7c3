"""`python -m benchmarks.out_of_core`: MNIST and GloVe in one worker process, in memory and with P >= 8 partitions.

Prints recall, CPU seconds and the peak memory of the worker beside the plan's figure.
"""

from __future__ import annotations

import json

from .measure import machine, run

LIMITS = {"mnist": "570MiB", "glove": "680MiB"}


def main() -> None:
    """Print the table as Markdown."""
    print(machine())
    print("| data | partitions | rounds | recall | store says | CPU s | to in memory | worker peak MiB | planned MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, limit in LIMITS.items():
        cpu: list[float] = []
        for memory in ("8GiB", limit):
            said = run("benchmarks.one", "distnnd", name, json.dumps({"memory_limit": memory, "n_workers": 1})).said
            cpu.append(said["cpu"])
            print(
                f"| {name} | {said['partitions']} | {said['rounds']} | {said['recall']:.4f} | {said['low']:.4f} to "
                f"{said['high']:.4f} | {said['cpu']:.1f} | {said['cpu'] / cpu[0]:.2f} | {said['worker_peak'] >> 20} "
                f"| {said['planned'] >> 20} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
