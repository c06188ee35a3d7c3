"""Metrics column by column: what two rows have in a column is added up, and the totals are finished.

Dense and sparse rows share the formulae (gap_metrics.py, angle_metrics.py, share_metrics.py, sets.py): rows only say
what stands in a column. A metric may look at all columns once before it adds: `facts`, such as the sum of each row.
Everything is chosen by the class of the metric; below is what most do. Sums run in float64 where terms cancel, else in
float32.
"""

from __future__ import annotations

from .chosen import chosen


@chosen()
def looks(form):
    """Whether the columns are looked at before they are added up."""
    return False


@chosen()
def no_facts(form):
    """Facts before any column was looked at."""
    return 0.0


@chosen()
def look(form, facts, a, b, column):
    """Facts after a column in which the rows hold a and b."""
    return facts


@chosen()
def known(form, facts):
    """What of these facts every column is told, once all of them were looked at: quotients, say, of sums."""
    return facts


@chosen()
def counts_zeros(form):
    """Whether columns in which both rows are zero add something."""
    return False


@chosen()
def no_totals(form):
    """Totals before any column was added."""
    return 0.0


@chosen()
def add(form, facts, totals, a, b, column, times):
    """Totals after `times` columns from `column` on in which the rows hold a and b."""
    return totals


@chosen()
def ending(form, facts, totals):
    """The distance, from the totals of all columns."""
    return totals
