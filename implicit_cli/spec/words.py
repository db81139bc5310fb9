"""How keys, names and found values are written in a message: always on one line, never long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Keys = tuple[str | int, ...]
_LONGEST = 60
_MOST_FAULTS = 50


def shown(text: str) -> str:
    """`text` without line breaks and control characters, cut where it is long."""
    cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in cut)


def dotted(keys: Keys) -> str:
    """A path as `--set` takes it: `sensitivity.products.1.jvp`."""
    return ".".join(shown(str(key)) or "''" for key in keys)


def found(value: Any) -> str:
    """What a message says was found: a YAML scalar as YAML writes it, a collection by its kind and length."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else ("an infinite number" if value > 0 else "a negative infinite number")
        case int() | float():
            return str(value)
        case str():
            return f"'{shown(value)}'"
        case Mapping():
            return "a mapping" if value else "an empty mapping"
        case Sequence():
            return f"a list of {len(value)}" if value else "an empty list"
        case _:
            raise TypeError(type(value).__name__)


def meant_number(given: Any, kind: type[int] | type[float] = float) -> str:
    """`; did you mean the number 0.1?` for a text that Python would read as one, else the empty string."""
    if not isinstance(given, str) or len(given) > _LONGEST:
        return ""
    try:
        number = kind(given)
    except ValueError:
        return ""
    return f"; did you mean the number {number}?" if math.isfinite(number) else ""


def some(name: str, messages: Sequence[str]) -> list[str]:
    """The first of many messages about the text `name`, and how many more there are."""
    rest = len(messages) - _MOST_FAULTS
    return [*messages[:_MOST_FAULTS], *([f"{name}: and {rest} faults more"] if rest > 0 else [])]
