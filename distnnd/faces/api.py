"""The build() that users import: that of `distnnd.building`, which shows what it does as `progress` asks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..building import build as quietly
from .progress import listening

P = ParamSpec("P")
T = TypeVar("T")


def shown(function: Callable[P, T]) -> Callable[P, T]:
    """`function` with `progress` as users give it turned into the listener that it takes; its signature stays."""

    @functools.wraps(function)
    def with_listener(*args: P.args, **kwargs: P.kwargs) -> T:
        with listening(kwargs.get("progress")) as listener:  # type: ignore[arg-type]
            kwargs["progress"] = listener
            return function(*args, **kwargs)

    return with_listener


build = shown(quietly)
