"""Write metrics.md: the table of all metrics, from the registry itself. Run: python docs/make_metrics.py"""

from __future__ import annotations

from pathlib import Path

from distnnd.values.metrics_table import DOMAINS, ENTRIES, Entry, Param

HEAD = """# Metrics

Made from `distnnd/values/metrics_table.py` by `python docs/make_metrics.py`; a test fails where both differ.

Rows x and y have d columns; sums run over columns. Parameters of a metric are passed by name in `metric_params`, on
the command line by `--metric-param NAME=VALUE`. Their presence, type, shape and range are checked before any work.
Distances are float32; the largest float32 stands for all that is larger. No finite row that a metric accepts gives NaN
or inf. Rows whose squares overflow float32 are refused. Points are refused too if all of their squares would vanish
from float32 and the metric compares by squares.

The metric may also be a function of your own, `f(x, y)` of two rows of float32 (of float64 where the points are float64
or whole numbers of 32 bits and more), compiled by numba (`@numba.njit`),
symmetric and finite: `distnnd.build(points, out, metric=f)`, or `--metric module:f`. A graph stores the name `custom`
for it, not the function. To verify the graph, open it with `open_graph(out, metric=f)`.

| form | how rows are compared |
|---|---|
| inner | rows are transformed, compared by one inner product, and the distance is computed from the result |
| pair | column by column, or as whole rows; candidates are selected by another metric of the inner form, the *layout* |
| set | by counts of columns that are nonzero: b in both rows, o in one of them, n in none; also as packed bits |
| bits | the same, of rows that come packed, eight columns to a byte |

Sparse rows (CSR) are compared over the columns that one of both lists, or, where the last column says *filled*, written
out with their zeros.
"""

GROUPS = {
    "inner": "Inner form",
    "pair": "Pair form",
    "set": "Sets of nonzero columns",
    "bits": "Packed bits",
}
# Of the metrics that take whole rows, by whose sparse rows all columns are walked.
FILLED = ("haversine", "mahalanobis", "kantorovich", "sinkhorn")


def param_text(param: Param) -> str:
    """One parameter, what it must be and what it is unless given."""
    if param.kind == "choice":
        words = " or ".join(f"`'{word}'`" for word in param.limits.split())
        return f"`{param.name}`: {words}, the first unless given; {param.words}"
    names = " or ".join(f"`{name}`" for name in (param.name, *param.aliases))
    shape = {"number": "number", "whole": "whole number", "vector": "d numbers", "matrix": "d x d, symmetric"}
    limits = "" if param.limits == "any" else f" {param.limits},"
    needed = "optional" if param.optional else "required" if param.default is None else f"{param.default} unless given"
    return f"{names}: {shape[param.kind]},{limits} {needed}; {param.words}"


def layout(entry: Entry) -> str:
    """How rows of another form than the inner one are laid out, as a sentence."""
    if entry.form == "inner":
        return ""
    steps = [step.replace("_", " ") for step in entry.steps] + ["unit length"] * entry.unit
    how = "euclidean" if entry.euclidean else "by inner product"
    where = "Layout in an index" if entry.form == "bits" else "Layout"
    return f"{where}: {', '.join([*steps, how])}."


def row(entry: Entry) -> str:
    """One line of the table."""
    names = "**" + entry.name + "**" + "".join(f", {alias}" for alias in entry.aliases)
    takes = "<br>".join(param_text(param) for param in entry.params) or "-"
    sparse = "filled" if entry.name in FILLED else "yes" if entry.sparse else "no"
    formula = entry.formula.replace("|", "\\|")
    notes = " ".join(part for part in (layout(entry), entry.note.replace("|", "\\|")) if part)
    cells = [names, f"`{formula}`", takes, entry.zero, entry.axioms, sparse, notes or "-"]
    return "| " + " | ".join(cells) + " |"


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for form, title in GROUPS.items():
        lines += [f"## {title}", ""]
        lines += ["| name, aliases | distance | metric_params | zero rows | true metric | sparse | remarks |"]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += [row(entry) for entry in ENTRIES.values() if entry.form == form]
        lines += [""]
    lines += ["## What rows may hold", "", "| metrics | numbers |", "|---|---|"]
    for domain, words in DOMAINS.items():
        if domain != "finite":
            names = ", ".join(entry.name for entry in ENTRIES.values() if entry.domain == domain)
            lines.append(f"| {names} | {words} |")
    lines += [f"| all others | {DOMAINS['finite']} |", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(__file__).with_name("metrics.md").write_text(page(), encoding="utf-8")
