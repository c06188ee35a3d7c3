"""Whether a metric of the user's own compiles for the rows that it will get: said before anything runs."""

from __future__ import annotations

import inspect
import os
import re
from typing import Any, NamedTuple

import numba
from numba import types
from numba.core.dispatcher import Dispatcher

from ..values.errors import SpecError

ROW, DOUBLE_ROW = types.float32[::1], types.float64[::1]
# Columns and values of one sparse row.
LISTED = (types.int32[::1], ROW)


class Rows(NamedTuple):
    """What a metric gets two of. d: columns; sparse: columns and values of each row; double: dense rows of float64."""

    d: int
    sparse: bool
    double: bool

    def __str__(self) -> str:
        if self.sparse:
            return "columns (int32) and values (float32) of one sparse row and of another"
        if self.double:
            return f"two rows of dtype float64 and shape ({self.d},), as the points are float64 or wide integers"
        return f"two rows of dtype float32 and shape ({self.d},), whatever narrower dtype the points have"


def check_compiles(function: Any, rows: Rows) -> None:
    """SpecError unless the function can be compiled for two such rows and returns one real number.

    With the JIT disabled nothing is compiled, and nothing is checked.
    """
    if not isinstance(function, Dispatcher):
        return
    arguments = LISTED * 2 if rows.sparse else (DOUBLE_ROW if rows.double else ROW,) * 2
    try:
        inspect.signature(function.py_func).bind(*arguments)
    except TypeError as error:
        raise _refusal(function, rows, f"{error} where it is given {len(arguments)} arguments") from None

    # A copy: within a kernel the function itself is compiled with the kernel's flags, unless it has been compiled
    # before, and then its sums are rounded otherwise than on workers. What was declared for some types compiles for no
    # others.
    if function._can_compile:
        function = numba.jit(**function.targetoptions)(function.py_func)

    # Made anew each time: the type of the function is its argument, and nothing of it should outlive the check.
    @numba.njit
    def called(own, both):
        return own(*both)

    try:
        called.compile((numba.typeof(function), types.Tuple(arguments)))
    except Exception as error:
        raise _refusal(function, rows, f"numba says: {in_one_line(error)}") from None
    returned = called.nopython_signatures[0].return_type
    if not isinstance(returned, types.Integer | types.Float | types.Boolean):
        raise _refusal(function, rows, f"it returns {returned}, and a distance is one real number")


def _refusal(function: Any, rows: Rows, said: str) -> SpecError:
    name = function.__name__
    return SpecError(
        f"the metric {name} cannot be used: it gets {rows}: {said}. Change {name} so that it takes such rows (of "
        "truths, x[i] != 0) and returns a number"
    )


def in_one_line(error: Exception) -> str:
    """What is wrong and where, of the many lines in which numba says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Failed in")] or [type(error).__name__]
    what = lines[0]
    if what.endswith("found for signature:"):
        signature = next((line.removeprefix(">>> ") for line in lines if line.startswith(">>> ")), "")
        what = f"there is no {signature}"
    if what.startswith("Invalid use of") and "Known signatures:" in lines:
        known = lines[lines.index("Known signatures:") + 1].removeprefix("* ")
        what = f"it was declared for other types, {known}; leave the declaration out of @njit"
    places = [(os.path.basename(path), line) for path, line in re.findall(r'File "([^"]+)", line (\d+)', str(error))]
    where = next((place for place in places if place[0] != os.path.basename(__file__)), None)
    return f"{what[:300].rstrip('.')}" + (f" ({where[0]}, line {where[1]})" if where else "")
