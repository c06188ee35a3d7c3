"""The build() that users import: the stream of `distnnd.build`, which shows what it does as `progress` asks."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from ..build import build as stream
from ..graph import Graph
from .progress import listening

_SIGNATURE = inspect.signature(stream)


@functools.wraps(stream)
def build(*args: Any, **kwargs: Any) -> Graph:
    """Bind the arguments, so that `progress` is found wherever it stands, and turn it into a listener."""
    given = _SIGNATURE.bind(*args, **kwargs)
    with listening(given.arguments.get("progress")) as listener:
        given.arguments["progress"] = listener
        return stream(*given.args, **given.kwargs)
