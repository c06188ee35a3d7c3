"""One name for many functions, of which the first argument chooses one by its type, compiled or not.

A metric is a NamedTuple class of its own. Numba tells such classes apart by type, so that a kernel which is handed a
metric is compiled for it, with that metric's arithmetic inside its loops, and is found on disk by the next process. A
function that is handed in would do the first but not the second: its type is another one in every process. Arrays
choose by the type of their numbers, and so do single numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numba.np.numpy_support import as_dtype

from .jit import FASTMATH

# What is done once per column must become a part of the loop, and allocates nothing; see `kernel(inline=True)`.
_IN_LOOPS = {"fastmath": FASTMATH, "error_model": "numpy", "forceinline": True, "_nrt": False}
# Said aloud, as what is not said is taken over from the kernel that calls.
_BY_ITSELF = {"fastmath": FASTMATH, "error_model": "numpy", "forceinline": False, "_nrt": True}


def chosen(*, allocates: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function the name of several; its own body serves the classes for which there is no other.

    `name.of(A, B)` decorates the function for these classes of the first argument, or for arrays of these types of
    numbers; all take the same arguments. It stays plain Python, and may be called as such.

    allocates: the functions make arrays, so they are no part of the loops that call them.
    """

    def name_it(otherwise: Callable[..., Any]) -> Callable[..., Any]:
        functions: dict[type, Callable[..., Any]] = {}

        def call(*arguments):
            one = arguments[0]
            return functions.get(one.dtype.type if isinstance(one, np.ndarray) else type(one), otherwise)(*arguments)

        def of(*classes):
            def put(function):
                functions.update(dict.fromkeys(classes, function))
                return function

            return put

        # Functions of one name take the same arguments, whatever each calls them: hence not strict.
        @overload(call, strict=False, jit_options=_BY_ITSELF if allocates else _IN_LOOPS)
        def of_type(*arguments):
            one = arguments[0]
            numbers = one.dtype if isinstance(one, types.Array) else one
            is_number = isinstance(numbers, types.Number)
            kind = as_dtype(numbers).type if is_number else getattr(one, "instance_class", None)
            return functions.get(kind, otherwise)

        call.__name__, call.__doc__, call.of, call.functions = otherwise.__name__, otherwise.__doc__, of, functions
        return call

    return name_it
