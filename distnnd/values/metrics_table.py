"""Every metric by name: what it computes, what it takes, how it is compared, and what it says of zero rows.

The table describes; `metric.py` turns a name and its parameters into a value, `kernels/` computes. `docs/metrics.md` is
made from it by `docs/make_metrics.py`.
"""

from __future__ import annotations

from typing import NamedTuple


class Param(NamedTuple):
    """One parameter of a metric, as metric_params names it.

    kind: "number", "whole", "vector" (d numbers), "matrix" (d x d numbers, symmetric) or "choice" (one of the words
    that limits names, the first unless given); limits: what each number must be: "positive", "non-negative", "above 1",
    "at least 1" or "any"; default: None where it has to be given, unless it
    is `optional`; aliases: names that other libraries give it; words: what it means.
    """

    name: str
    kind: str
    limits: str
    words: str
    default: float | None = None
    optional: bool = False
    aliases: tuple[str, ...] = ()


class Entry(NamedTuple):
    """One metric of the table.

    form: "inner" (a transform of the rows, one inner product, a finish), "pair" (column by column, or the whole rows),
    "set" (of the counts of columns that are nonzero in both, one, or none of two rows) or "bits" (the same, of rows
    whose columns are packed into bits, eight to a byte). formula: of rows x and y in d columns. zero: what a row
    of zeros means. axioms: "metric" where the triangle holds and only equal rows are at 0, else which of them fails.
    domain: what rows must hold, a key of DOMAINS. note: where other libraries say something else, and why.
    unit, euclidean, finish, steps: of the inner form, or of the one by which rows of another form are laid out, as
    Metric has them.
    """

    name: str
    aliases: tuple[str, ...]
    form: str
    formula: str
    zero: str
    axioms: str
    params: tuple[Param, ...] = ()
    domain: str = "finite"
    note: str = ""
    sparse: bool = True
    unit: bool = False
    euclidean: bool = True
    finish: str = "none"
    steps: tuple[str, ...] = ()


# What rows may hold, by the name of the domain.
DOMAINS = {
    "finite": "finite numbers",
    "non-negative": "finite numbers of at least 0",
    "positions": "two columns, latitude first, in radians (latitudes within pi/2, longitudes within 4 pi), or in "
    "degrees with unit='degrees'",
    "gaps": "finite numbers, and NaN where a value is missing",
    "bits": "uint8, eight columns to a byte",
}

_P = Param("p", "number", "positive", "the power", default=2)
_W = Param("w", "vector", "non-negative", "weight of each column")
_COST = Param("cost", "matrix", "non-negative", "what it costs to move one unit of mass between two columns")
_AS_ANY = "as any row"
_ONE_AWAY = "at 1 from every other row, at 0 from each other"
_FARTHEST = "at the largest distance that d columns allow from every other row, at 0 from each other"
_ROUGHLY = "not quite: the triangle does not hold"
_SCALES = "on rays: rows that differ by a positive factor are at 0"


def _power_entries() -> tuple[Entry, ...]:
    """Sums of powers of gaps."""
    return (
        Entry(
            "euclidean", ("l2", "euclid"), "inner", "sqrt(sum (x - y)^2)", _AS_ANY, "metric", finish="root",
        ),
        Entry("sqeuclidean", ("sqeuclid",), "inner", "sum (x - y)^2", _AS_ANY, _ROUGHLY),
        Entry("manhattan", ("l1", "taxicab", "cityblock"), "pair", "sum |x - y|", _AS_ANY, "metric"),
        Entry(
            "chebyshev", ("linf", "linfty", "linfinity", "infinity", "chebychev"), "pair", "max |x - y|", _AS_ANY,
            "metric",
        ),
        Entry(
            "minkowski", (), "pair", "(sum w |x - y|^p)^(1/p)", _AS_ANY, "metric where p >= 1 and w > 0",
            params=(_P, _W._replace(optional=True)),
            note="p may be inf; p = 2 is of the inner form. Powers are taken of gaps relative to the largest one, "
            "so none of them underflows.",
        ),
        Entry(
            "weighted_minkowski", ("wminkowski",), "pair", "(sum w |x - y|^p)^(1/p)", _AS_ANY,
            "metric where p >= 1 and w > 0", params=(_W, _P),
            note="As PyNNDescent and scipy.spatial.distance.minkowski have w; SciPy's former wminkowski raised w "
            "to the power p too.",
        ),
        Entry(
            "seuclidean", ("standardised_euclidean", "standardized_euclidean"), "inner", "sqrt(sum (x - y)^2 / V)",
            _AS_ANY, "metric",
            params=(Param("V", "vector", "positive", "variance of each column", aliases=("sigma",)),),
            finish="root", steps=("scale",),
            note="SciPy computes V from the rows where it is not given; here it is asked for.",
        ),
        Entry(
            "mahalanobis", (), "inner", "sqrt((x - y)' VI (x - y))", _AS_ANY, "metric where VI is positive definite",
            params=(
                Param("VI", "matrix", "any", "inverse of the covariance", optional=True, aliases=("vinv",)),
                Param("V", "matrix", "any", "covariance; one of VI and V has to be given", optional=True),
            ),
            finish="root", steps=("whiten",),
            note="VI has to be symmetric and without negative eigenvalues.",
        ),
        Entry(
            "nan_euclidean", (), "pair", "sqrt(d / m * sum (x - y)^2) over the m columns present in both", _AS_ANY,
            _ROUGHLY, domain="gaps", sparse=False,
            note="Rows without a common column are at the largest float32 (scikit-learn: NaN).",
        ),
    )  # fmt: skip


def _ratio_entries() -> tuple[Entry, ...]:
    """Gaps measured by the size of what they lie between; gaps that are only counted; places on the globe."""
    return (
        Entry("canberra", (), "pair", "sum |x - y| / (|x| + |y|), 0 / 0 being 0", _AS_ANY, "metric"),
        Entry(
            "braycurtis", ("bray-curtis", "bray_curtis"), "pair", "sum |x - y| / sum |x + y|", _ONE_AWAY, _ROUGHLY,
            note="Opposite rows (y = -x) are at the largest float32 (SciPy: inf; PyNNDescent: 0).",
        ),
        Entry("hamming", (), "pair", "share of columns where x != y", _AS_ANY, "metric"),
        Entry(
            "haversine", (), "inner", "angle between two places, in radians", "the place at latitude 0, longitude 0",
            "metric on the sphere", domain="positions", finish="angle", steps=("sphere",),
            params=(Param("unit", "choice", "radians degrees", "of both columns; distances are in radians"),),
            note="The length on the globe is the angle times its radius, 6371 km for the Earth. A warning says where "
            "numbers look like degrees though unit is radians.",
        ),
    )  # fmt: skip


def _angle_entries() -> tuple[Entry, ...]:
    """Angles and correlations."""
    return (
        Entry(
            "cosine", ("dot", "direct_cosine"), "inner", "1 - <x, y> / (|x| |y|)", _ONE_AWAY, _ROUGHLY,
            unit=True, finish="half",
            note="Obtuse angles reach 2; PyNNDescent cuts them off at 1. Its dot is 1 - <x, y> of rows that the index "
            "has scaled to length one: this one.",
        ),
        Entry(
            "inner_product", (), "inner", "-<x, y>", "at 0 from every row", "no: nearness is not mutual",
            euclidean=False,
            note="Smaller is nearer, and negative is common; PyNNDescent reports 0 where <x, y> <= 0.",
        ),
        Entry(
            "correlation", (), "inner", "cosine of x - mean(x) and y - mean(y)",
            "as any constant row: at 1 from every row that is not constant, at 0 from each other", _ROUGHLY,
            unit=True, finish="half", steps=("centre",), note="SciPy: NaN for constant rows.",
        ),
        Entry(
            "spearmanr", ("spearman",), "inner", "correlation of the ranks within each row; ties share their mean",
            "as any constant row: at 1 from every row that is not constant, at 0 from each other", _ROUGHLY,
            unit=True, finish="half", steps=("rank", "centre"),
            note="1 - scipy.stats.spearmanr, which says NaN for constant rows.",
        ),
        Entry(
            "true_angular", ("angular",), "inner", "arccos(<x, y> / (|x| |y|)) / pi",
            "at 1/2 (a right angle) from every other row, at 0 from each other", f"metric {_SCALES}",
            unit=True, finish="half_turns",
            note="0 for the same direction, 1 for opposite ones; PyNNDescent's is 1 minus this, a similarity. "
            "ann-benchmarks calls the cosine angular.",
        ),
        Entry(
            "tsss", ("ts-ss", "ts_ss"), "pair",
            "|x| |y| sin(t) / 2 * (|x - y| + ||x| - |y||)^2 t / 2, t = angle + 10 degrees",
            "at 0 from every row, the limit of the formula", _ROUGHLY,
            note="Heidarian and Dinneen 2016, for rows without obtuse angles: beyond a right angle the distance falls "
            "again, to 0 at 170 degrees (PyNNDescent: below 0 from there on, and no zero rows). It grows with "
            "the fourth power of rows, so float32 tells apart those of length 1e-9 to 1e9.",
        ),
    )  # fmt: skip


def _distribution_entries() -> tuple[Entry, ...]:
    """Rows as distributions p = x / sum(x), q = y / sum(y)."""
    # Larger powers of small shares vanish from float64, and smaller ones make rounding large.
    pile = Param("p", "number", "from 0.1 to 40", "the power", default=1)
    entries = (
        Entry(
            "hellinger", (), "inner", "sqrt(1 - sum sqrt(p q))", _ONE_AWAY, f"metric {_SCALES}", unit=True,
            finish="root_half", steps=("root",),
        ),
        Entry(
            "jensen_shannon", ("jensen-shannon",), "pair",
            "sum p ln(p / m) / 2 + q ln(q / m) / 2, m = (p + q) / 2", _FARTHEST + ": ln 2", _ROUGHLY,
            note="The divergence in nats; jensenshannon, SciPy's name, is its square root. PyNNDescent adds 1.2e-7 to "
            "each column first.",
        ),
        Entry(
            "jensenshannon", (), "pair", "sqrt(jensen_shannon / ln(base))", _FARTHEST, f"metric {_SCALES}",
            params=(Param("base", "number", "above 1", "of the logarithm; e unless given", optional=True),),
            note="As SciPy has it, which says NaN for zero rows.",
        ),
        Entry(
            "symmetric_kl", ("symmetric-kl", "symmetric_kullback_liebler", "symmetric_kullback_leibler"), "pair",
            "sum (p' - q') ln(p' / q'), p' = (p + e) / (1 + d e), e = 2^-23", "counts as uniform", _ROUGHLY,
            note="PyNNDescent adds e before rows are scaled to sum 1, so that a factor changes its distance.",
        ),
        Entry(
            "wasserstein_1d", ("wasserstein-1d", "kantorovich_1d", "kantorovich-1d"), "pair",
            "(sum |P - Q|^p)^(1/p), P and Q the running sums of p and q", _FARTHEST + ": (d - 1)^(1/p)",
            f"metric {_SCALES}, where p >= 1", params=(pile,),
            note="p = 1 is scipy.stats.wasserstein_distance over the numbers of the columns. PyNNDescent: NaN for "
            "zero rows.",
        ),
        Entry(
            "circular_kantorovich", ("circular_wasserstein",), "pair",
            "min over s of (sum |P - Q - s|^p)^(1/p)", _FARTHEST + ": floor(d / 2)^(1/p)", f"metric {_SCALES}",
            params=(pile._replace(limits="from 1 to 40"),),
            note="For p > 1 PyNNDescent takes the median of (P - Q)^p for s, which is not the least.",
        ),
        Entry(
            "kantorovich", ("wasserstein",), "pair", "least cost of moving p to q", _FARTHEST + ": the largest cost",
            f"metric {_SCALES}, where cost is one",
            params=(
                _COST,
                Param("max_iter", "whole", "at least 1", "paths that are tried; what is left then moves at the "
                      "largest cost", default=100_000),
            ),
            note="Exact, by shortest augmenting paths; where no detour is cheaper, what both rows have stays in place.",
        ),
        Entry(
            "sinkhorn", (), "pair",
            "sum T cost, where T moves p to q and is the least of sum T cost + regularization * sum T ln T",
            _FARTHEST + ": the largest cost", "no: a row is not at 0 from itself",
            params=(_COST, Param("regularization", "number", "positive", "weight of the entropy", default=1)),
            note="In logarithms where products would underflow, so a small regularization, to a millionth of the "
            "largest cost, does no harm. PyNNDescent says the same of rows without zeros that sum to 1 where its "
            "thousand sweeps are enough; it does not scale others to that, and fails where there are zeros.",
        ),
    )  # fmt: skip
    return tuple(entry._replace(domain="non-negative") for entry in entries)


def _set_entries() -> tuple[Entry, ...]:
    """Rows as sets of their nonzero columns: b in both, o in one of them, n in none; d = b + o + n."""
    both_empty = "at 0 from each other"
    return (
        Entry("jaccard", (), "set", "o / (b + o)", _ONE_AWAY, "metric on sets"),
        Entry("dice", (), "set", "o / (2 b + o)", _ONE_AWAY, _ROUGHLY, note="SciPy: NaN for two zero rows."),
        Entry("matching", (), "set", "o / d", "as any row", "metric on sets"),
        Entry(
            "kulsinski", (), "set", "(o - b + d) / (o + d)", "at 1 from every row, each other too",
            "no: a row is not at 0 from itself",
            note="As scikit-learn has it; PyNNDescent says 0 where both sets are equal.",
        ),
        Entry(
            "rogerstanimoto", ("sokalmichener",), "set", "2 o / (d + o)", "as any row", "metric on sets",
        ),
        Entry(
            "russellrao", (), "set", "1 - b / d", "at 1 from every row, each other too",
            "no: a row is not at 0 from itself",
            note="As SciPy has it; PyNNDescent says 0 where both sets are equal.",
        ),
        Entry("sokalsneath", (), "set", "o / (b / 2 + o)", _ONE_AWAY, "metric on sets"),
        Entry(
            "yule", (), "set", "2 s t / (b n + s t), s only in x, t only in y; 0 where s t = 0", "at 0 from every row",
            "no: sets of which one holds the other are at 0",
        ),
        Entry(
            "bit_hamming", (), "bits", "o: how many bits differ", "as any row", "metric", domain="bits", sparse=False,
            note="A count, as in PyNNDescent; hamming is a share.",
        ),
        Entry(
            "bit_jaccard", (), "bits", "o / (b + o)", both_empty + ", at 1 from every other row", "metric",
            domain="bits", sparse=False,
            note="PyNNDescent reports -ln(1 - this): the same order, but inf for sets without a common bit.",
        ),
    )  # fmt: skip


# How rows of metrics without an inner form are laid out: by steps, whether to unit length, whether by squared euclidean
# distance (else by products). What is near by the metric should be near there too. How many of the fifteen nearest rows
# of 10,000 of MNIST were among the thirty nearest of the layout: manhattan 0.997, canberra 0.936, braycurtis 0.998,
# jensen_shannon 1.000, wasserstein_1d 0.968, jaccard 1.000, hamming 0.51, chebyshev 0.73, yule 0.70.
_LAYOUTS: dict[str, tuple[tuple[str, ...], bool, bool]] = {
    "nan_euclidean": (("fill",), False, True),
    "canberra": (("eighth_root",), False, True),
    "braycurtis": ((), True, True),
    "hamming": (("hash",), False, True),
    "jensen_shannon": (("root",), True, True),
    "jensenshannon": (("root",), True, True),
    "symmetric_kl": (("root",), True, True),
    "wasserstein_1d": (("sums",), False, True),
    "circular_kantorovich": (("sums",), False, True),
    "kantorovich": (("smooth",), False, True),
    "sinkhorn": (("smooth",), False, True),
    "jaccard": (("presence",), True, True),
    "dice": (("presence",), True, True),
    "sokalsneath": (("presence",), True, True),
    "yule": (("presence",), True, True),
    "matching": (("presence",), False, True),
    "rogerstanimoto": (("presence",), False, True),
    "kulsinski": (("presence",), False, False),
    "russellrao": (("presence",), False, False),
    "bit_hamming": (("fold",), False, True),
    "bit_jaccard": (("fold",), True, True),
}


def _laid_out(entry: Entry) -> Entry:
    if entry.name not in _LAYOUTS:
        return entry
    steps, unit, euclidean = _LAYOUTS[entry.name]
    return entry._replace(steps=steps, unit=unit, euclidean=euclidean)


ENTRIES = {
    entry.name: _laid_out(entry)
    for entry in (
        *_power_entries(),
        *_ratio_entries(),
        *_angle_entries(),
        *_distribution_entries(),
        *_set_entries(),
    )
}
# Every name that is understood, and the primary name of its metric.
PRIMARY = {name: entry.name for entry in ENTRIES.values() for name in (entry.name, *entry.aliases)}
