"""What a result file says of all its cases in a word: the root's attributes, the weakest provenance, what machines differ in."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from typing import Any

from implicit_cli import __version__
from implicit_cli.store import layout

_WEAKEST_FIRST = ("estimated", "computed", "proved")
_SEVERAL = 5
_MORE = re.compile(r"and (\d+) more")


def root_attributes(problem: str, summary: str) -> dict[str, Any]:
    """The attributes of the root group of a finished file."""
    return {
        "format": layout.FORMAT,
        "format_version": layout.FORMAT_VERSION,
        "complete": 1,
        "creator": layout.CREATOR,
        "creator_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "problem": problem,
        "summary": summary,
    }


def weakest(sources: Iterable[str]) -> str:
    """The provenance that holds for all cases: the weakest of theirs."""
    return min(dict.fromkeys(sources), key=lambda source: _WEAKEST_FIRST.index(source) if source in _WEAKEST_FIRST else -1)


def weakest_kind(kinds: Container[str]) -> str:
    """The kind of a bound that holds for all cases."""
    return "estimate" if "estimate" in kinds else "bound"


def joined(names: Iterable[str]) -> str:
    """Each name once, in the order in which the cases have them."""
    return ", ".join(dict.fromkeys(names))


def told(values: Iterable[str]) -> str:
    """What differs between processes as one text: `a; b`, and how many more there are after the first five."""
    values = list(dict.fromkeys(values))
    if len(values) == 1:
        return values[0]
    # a file may itself be a merged one
    pieces = list(dict.fromkeys(piece for value in values for piece in value.split("; ")))
    more = sum(int(found[1]) for piece in pieces if (found := _MORE.fullmatch(piece)))
    named = [piece for piece in pieces if not _MORE.fullmatch(piece)]
    more += len(named[_SEVERAL:])
    return "; ".join([*named[:_SEVERAL], *([f"and {more} more"] if more else [])])
