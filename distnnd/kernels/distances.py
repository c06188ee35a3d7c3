"""The canonical distance of a pair of rows, for every metric: the same number wherever it is computed.

`distance(points, i, others, j, form)` is all that other kernels need to know. What the rows are (dense, sparse, bits)
is the type of `points`, what the metric is, the type of `form` (kernels/forms.py: form_of): a kernel is compiled for
each.
"""

from __future__ import annotations

import numpy as np

from . import angle_metrics, gap_metrics  # noqa: F401  each puts its formulae in their places
from .bit_distances import BitRows, over_words
from .chosen import chosen
from .columns import add, ending, known, look, looks, no_facts, no_totals
from .forms import Kantorovich, UsersOwn, UsersOwnSparse, Wasserstein1d, WassersteinPower1d
from .gap_metrics import FARTHEST
from .jit import kernel
from .share_metrics import over_segments
from .sparse_distances import SparseRows, filled, sparse_distance
from .whole_rows import WHOLE, transport_up_to, whole


@chosen()
def distance(points, i, others, j, form):
    """Distance of row i of `points` and row j of `others`, float32.

    points, others: both numbers[n, d], or SparseRows, or BitRows; form: of form_of, with the columns of these rows.
    """
    return as_told(form, dense_distance(form, points, i, others, j))


@distance.of(SparseRows)
def _of_sparse_rows(points, i, others, j, form):
    return as_told(form, sparse_distance(form, points, i, others, j))


@distance.of(BitRows)
def _of_bits(points, i, others, j, form):
    return np.float32(over_words(points.words, i, others.words, j, form))


@chosen()
def as_told(form, length):
    """The distance as float32; its largest number stands for all that is beyond."""
    return np.float32(min(length, FARTHEST))


@as_told.of(UsersOwn, UsersOwnSparse)
def _as_returned(form, length):
    return np.float32(length)


@chosen()
def dense_distance(form, points, i, others, j):
    """The same of rows of numbers: column by column, unless the metric takes whole rows."""
    facts = no_facts(form)
    if looks(form):
        for column in range(form.columns):
            facts = look(form, facts, points[i, column], others[j, column], column)
    told = known(form, facts)
    totals = no_totals(form)
    for column in range(form.columns):
        totals = add(form, told, totals, points[i, column], others[j, column], column, 1)
    return ending(form, told, totals)


@dense_distance.of(*WHOLE)
def _of_whole_rows(form, points, i, others, j):
    return whole(form, points[i], others[j])


@dense_distance.of(Wasserstein1d, WassersteinPower1d)
def _of_running_sums(form, points, i, others, j):
    return over_segments(form, points, i, others, j)


# --- as far as it matters -------------------------------------------------------------------------

# By this share of a bound, and so much, a distance has to pass it to be beyond: both are rounded to float32.
PASSED, PASSED_BY = 1 + 1e-6, 1e-37


@chosen()
def is_dear(form):
    """Whether it is far cheaper to see that a distance is beyond a bound than to compute it."""
    return False


@is_dear.of(Kantorovich)
def _is(form):
    return True


@chosen()
def distance_up_to(form, points, i, others, j, bound):
    """The distance; where it is beyond the bound, float32, and the metric dear, perhaps another number beyond it."""
    return distance(points, i, others, j, form)


@distance_up_to.of(Kantorovich)
def _of_transport(form, points, i, others, j, bound):
    return as_told(form, transport_of_rows(points, i, others, j, form, np.float64(bound) * PASSED + PASSED_BY))


@chosen(allocates=True)
def transport_of_rows(points, i, others, j, form, bound):
    """What `transport_up_to` says of row i of `points` and row j of `others`, with all their columns."""
    return transport_up_to(form, points[i], others[j], bound)


@transport_of_rows.of(SparseRows)
def _of_filled_rows(points, i, others, j, form, bound):
    return transport_up_to(form, filled(points, i, form.columns), filled(others, j, form.columns), bound)


@kernel
def distances_between(points, others, form, out):
    """Write the distances of all pairs: out: float32[m, p] for m rows of `points` and p of `others`."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = distance(points, i, others, j, form)
