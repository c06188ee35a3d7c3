"""The errors a user can meet, each with the exit code of the command line."""

from __future__ import annotations

import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlevel = 2


def brief(value: Any) -> str:
    """A value as an error message shows it: an array by its type, shape and dtype, and whatever is long cut short."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if not shape or not isinstance(shape, tuple):
        return _SHORT.repr(value)
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    return f"a {name} of shape {shape}" + (f" and dtype {dtype}" if dtype is not None else "")


class DistnndError(Exception):
    """Anything distnnd refuses or fails at; the message names the value and the remedy."""

    exit_code = 1


class SpecError(DistnndError, ValueError):
    """An argument that cannot be meant: unknown metric, k out of range, output that exists."""

    exit_code = 2


class InputError(DistnndError, ValueError):
    """Points that cannot be compared: NaN or inf, wrong shape, wrong dtype, too few rows."""

    exit_code = 1


class StoreError(DistnndError):
    """A store that is damaged, incomplete or of another format version."""

    exit_code = 3


class Unreachable(StoreError):
    """A store that refuses or does not answer; nothing in it is damaged."""

    exit_code = 1


class BudgetError(DistnndError):
    """A plan that would exceed the memory or the disk it was given."""

    exit_code = 4


class StageError(DistnndError):
    """A task that failed while it ran; the cause is chained."""

    exit_code = 1


class Interrupted(DistnndError):
    """A build that was stopped from outside and can be resumed."""

    exit_code = 130
