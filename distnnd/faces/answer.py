"""How a command answers: facts for programs, text for people, and everything said on the way on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a command found out: an object of JSON values, and the same for people; "" where nothing need be said."""

    facts: dict[str, Any]
    text: str = ""


def say(text: str) -> None:
    """Write a line to stderr."""
    print(text, file=sys.stderr, flush=True)


def table(rows: Iterable[tuple[str, Any]]) -> str:
    """Names in one column, values in the next."""
    lines = [(name, str(value)) for name, value in rows]
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)
