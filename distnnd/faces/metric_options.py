"""A metric on the command line: its name or where the user's own lies, and its parameters one by one."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..values.errors import SpecError


def metric_of_text(text: str | None) -> Any:
    """A name, or None, as it is; MODULE:FUNCTION as that function, looked for in the working directory too.

    SpecError where there is none.
    """
    module, colon, name = (text or "").partition(":")
    if not colon:
        return text
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function: Callable[..., float] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"there is no metric {text}: {error}; give MODULE:FUNCTION of a module that Python finds"
        ) from error
    return function


def params_of_texts(texts: Iterable[str]) -> dict[str, Any] | None:
    """Parameters from NAME=VALUE: a number, inf, a word, a list in JSON, or the path of an .npy file; None without any.

    SpecError for what is none of these.
    """
    params: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SpecError(f"--metric-param {text!r} is not of the form NAME=VALUE, for example p=3")
        if name in params:
            raise SpecError(f"--metric-param {name} is given twice")
        params[name] = _value_of(name, value)
    return params or None


def _value_of(name: str, text: str) -> Any:
    if text.endswith(".npy"):
        try:
            return np.load(os.path.expanduser(text), allow_pickle=False)
        except (OSError, ValueError) as error:
            raise SpecError(f"--metric-param {name}: {text} cannot be read ({error})") from error
    try:
        if text.isalpha() and text not in ("inf", "Infinity", "NaN", "true", "false", "null"):
            return text
        return float(text) if text in ("inf", "Infinity") else json.loads(text)
    except ValueError as error:
        raise SpecError(
            f"--metric-param {name}: {text!r} is no number, no list in JSON such as [1, 2.5], and no .npy file"
        ) from error
