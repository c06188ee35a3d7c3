"""k-nearest-neighbour graphs of data larger than memory, on Dask, to a recall you name.

Names are looked up when they are first used, so that `import distnnd` costs next to nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_HOMES = {
    "build": "faces.api",
    "plan": "build",
    "open_graph": "graph",
    "build_index": "index",
    "open_index": "index",
    "warmup": "warmup",
    "Graph": "graph",
    "Index": "index",
    "BuildSpec": "values.spec",
    "Plan": "values.plan",
    "Recall": "values.recall",
    "DistnndError": "values.errors",
    "SpecError": "values.errors",
    "InputError": "values.errors",
    "StoreError": "values.errors",
    "BudgetError": "values.errors",
    "StageError": "values.errors",
    "Interrupted": "values.errors",
}
__version__ = "0.1.0"
__all__ = ["__version__", *_HOMES]


class _Lazy(ModuleType):
    """The package: public names on demand; a submodule of the same name (build, graph) does not take their place."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'distnnd' has no attribute {name!r}")
        return getattr(importlib.import_module(f"distnnd.{_HOMES[name]}"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_HOMES})


sys.modules[__name__].__class__ = _Lazy
