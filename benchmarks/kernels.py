"""`python -m benchmarks.kernels [name ...] [--save FILE] [--compare FILE]`: nanoseconds of each kernel by itself.

CPU time of the process, one thread, a pair (or row, or entry) of the work; the best of some repeats and their median.
Names choose by what they contain: `leaves`, `d=784`. A change of less than the distance between best and median of
either run means nothing. Adapters are in benchmarks/kernel_engines.py, kernel_cases.py,
distance_cases.py and sparse_cases.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

from .kernel_cases import CASES
from .kernel_data import Case, Make, Size
from .measure import machine

FULL, TINY = Size(rows=20_000, loops=10), Size(rows=1_000, loops=1)
# A repeat that is shorter than this is drowned by the clock and the call.
SHORTEST = 0.02


class Figure(NamedTuple):
    """Nanoseconds a unit: the best repeat, and the median of all."""

    unit: str
    best: float
    median: float


def measure(make: Make, size: Size, repeats: int) -> Figure:
    """Measure one kernel; the first call, which may compile, does not count."""
    case = make(size)
    once(case, 1)
    calls = 1
    while size is FULL and once(case, calls)[0] < SHORTEST and calls < 64:
        calls *= 2
    times = [seconds / units * 1e9 for seconds, units in (once(case, calls) for _ in range(repeats))]
    return Figure(case.unit, min(times), statistics.median(times))


def once(case: Case, calls: int) -> tuple[float, int]:
    """CPU seconds of so many calls, each on a fresh start, and the units of work that they did."""
    seconds, units = 0.0, 0
    for _ in range(calls):
        start = case.reset()
        began = time.process_time()
        units += case.run(start)
        seconds += time.process_time() - began
    return seconds, units


def chosen(names: list[str]) -> dict[str, Make]:
    """The kernels whose names contain one of these; all if there are none. SystemExit for a name that none contains."""
    for name in names:
        if not any(name in each for each in CASES):
            raise SystemExit(f"no kernel is called {name!r}; there are: {', '.join(CASES)}")
    return {each: make for each, make in CASES.items() if not names or any(name in each for name in names)}


def row_of(name: str, figure: Figure, before: dict[str, Any] | None) -> str:
    """A line of the table; before: the figures of a saved run by name."""
    line = f"| {name} | {figure.unit} | {figure.best:.2f} | {figure.median:.2f} |"
    if before is None:
        return line
    if name not in before:
        return f"{line} | new |"
    best = before[name]["best"]
    return f"{line} {best:.2f} | {100 * (figure.best / best - 1):+.0f} % |"


def share(figures: dict[str, Figure]) -> str:
    """How much of a first leaf goes into the bound that spares insertions; "" where one of the two was not measured."""
    bound, join = figures.get("leaves.first_bound"), figures.get("leaves.join empty d=100")
    if bound is None or join is None:
        return ""
    return f"\nleaves.first_bound takes {bound.best / join.best:.0%} of leaves.join empty d=100."


def main(arguments: list[str] | None = None) -> None:
    """Print the table as Markdown, line by line as it is measured."""
    parser = argparse.ArgumentParser("python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the figures for a later --compare")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="show the change against a saved run")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="only see whether all of them run")
    asked = parser.parse_args(arguments)
    before = None
    print(f"{machine()}; one thread\n")
    if asked.compare:
        saved = json.loads(asked.compare.read_text())
        before = saved["figures"]
        if saved["machine"] != machine():
            print(f"Before: {saved['machine']} - another machine.\n")
    print("| kernel | unit | best ns | median ns |" + (" before | change |" if before is not None else ""))
    print("|---|---|---|---|" + ("---|---|" if before is not None else ""))
    figures: dict[str, Figure] = {}
    failed = []
    for name, make in chosen(asked.names).items():
        try:
            figures[name] = measure(make, TINY if asked.tiny else FULL, 1 if asked.tiny else asked.repeats)
            print(row_of(name, figures[name], before), flush=True)
        except Exception as error:  # one adapter that a change has left behind should not hide the others
            failed.append(name)
            print(f"| {name} | failed: {type(error).__name__} | | |", flush=True)
    if text := share(figures):
        print(text)
    if asked.save:
        figures_now = {name: figure._asdict() for name, figure in figures.items()}
        asked.save.write_text(json.dumps({"machine": machine(), "figures": figures_now}, indent=1) + "\n")
    if failed:
        raise SystemExit(f"mend in benchmarks/kernel_engines.py or kernel_cases.py: {', '.join(failed)}")


if __name__ == "__main__":
    main()
