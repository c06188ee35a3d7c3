"""The page of metrics says what the table says."""

from __future__ import annotations

import importlib.util

from distnnd.kernels.forms import Mahalanobis, form_of
from distnnd.kernels.sparse_distances import sparse_distance
from distnnd.values.metric import metric_of, of_sparse
from distnnd.values.metrics_table import ENTRIES
from tests.kernels.test_distances import params_of
from tests.test_floors import ROOT

SPEC = importlib.util.spec_from_file_location("make_metrics", ROOT / "docs" / "make_metrics.py")
assert SPEC is not None
assert SPEC.loader is not None
MAKE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MAKE)


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == MAKE.page(), "run: python docs/make_metrics.py"


def test_every_name_is_on_the_page() -> None:
    page = MAKE.page()
    for entry in ENTRIES.values():
        assert f"**{entry.name}**" in page
        assert all(alias in page for alias in entry.aliases)


def test_what_is_said_to_be_filled_is() -> None:
    forms = {name: form_of(of_sparse(metric_of(name, params_of(name, 2)[0])), 2) for name in ENTRIES}
    written_out = sparse_distance.functions[Mahalanobis]
    assert {name for name in ENTRIES if sparse_distance.functions.get(type(forms[name])) is written_out} == set(
        MAKE.FILLED
    )
