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
        text = _SHORT.repr(value)
        return text if len(text) <= _SHORT.maxother else text[: _SHORT.maxother - 3] + "..."
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    return f"a {name} of shape {shape}" + (f" and dtype {dtype}" if dtype is not None else "")


class DistnndError(Exception):
    """Anything distnnd refuses or fails at; the message names the value and the remedy."""

    exit_code = 1


class SpecError(DistnndError, ValueError):
    """A wrong argument: an unknown metric, k out of range, an output that exists already."""

    exit_code = 2


class InputError(DistnndError, ValueError):
    """Points that cannot be compared: NaN or inf, a wrong shape or dtype, too few rows."""

    exit_code = 1


class StoreError(DistnndError):
    """A store that is damaged, incomplete or of another format version."""

    exit_code = 3


class Unreachable(StoreError):
    """A store that refuses access or does not answer; its data are not damaged."""

    exit_code = 1


class InUse(StoreError):
    """A store that another process changes while this one writes to it; nothing in it is damaged."""

    exit_code = 1


class BudgetError(DistnndError):
    """A plan that would exceed the memory or the disk it was given."""

    exit_code = 4


class StageError(DistnndError):
    """A task that failed while it ran; the cause is chained."""

    exit_code = 1


class DistnndWarning(UserWarning):
    """What the user should know of a result: a target that was missed, or rows that rounding made equal."""


class Interrupted(DistnndError):
    """A build that was stopped from outside and can be resumed."""

    exit_code = 130
