"""k-nearest-neighbour graphs of data larger than memory, on Dask, to a recall you name.

Names are looked up when they are first used, so that `import distnnd` costs next to nothing. No submodule is named like
one of them: the import system would put the module in its place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .building import build, plan
    from .graph import Graph, open_graph
    from .index import Index, open_index
    from .index_plan import plan_index
    from .indexing import build_index
    from .values.errors import (
        BudgetError,
        DistnndError,
        DistnndWarning,
        InputError,
        Interrupted,
        SpecError,
        StageError,
        StoreError,
    )
    from .values.plan import Plan
    from .values.recall import Recall
    from .values.searching import IndexPlan, SearchPlan
    from .warming import warmup

__version__ = "0.1.0"
__all__ = [
    "BudgetError",
    "DistnndError",
    "DistnndWarning",
    "Graph",
    "Index",
    "IndexPlan",
    "InputError",
    "Interrupted",
    "Plan",
    "Recall",
    "SearchPlan",
    "SpecError",
    "StageError",
    "StoreError",
    "__version__",
    "build",
    "build_index",
    "open_graph",
    "open_index",
    "plan",
    "plan_index",
    "warmup",
]
_HOMES = {
    "build": "building",
    "plan": "building",
    "open_graph": "graph",
    "plan_index": "index_plan",
    "build_index": "indexing",
    "open_index": "index",
    "warmup": "warming",
    "Graph": "graph",
    "Index": "index",
    "IndexPlan": "values.searching",
    "SearchPlan": "values.searching",
    "Plan": "values.plan",
    "Recall": "values.recall",
    "DistnndError": "values.errors",
    "DistnndWarning": "values.errors",
    "SpecError": "values.errors",
    "InputError": "values.errors",
    "StoreError": "values.errors",
    "BudgetError": "values.errors",
    "StageError": "values.errors",
    "Interrupted": "values.errors",
}

if not TYPE_CHECKING:
    # Hidden from type checkers, which would take any name for one that is there.

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'distnnd' has no attribute {name!r}")
        return getattr(importlib.import_module(f"distnnd.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
