"""A fault of our own: what is kept of it, and a report of it that holds no data.

Kept are the kinds of exceptions and the places in the code that they went through; messages, arguments and values are not, because
they may be somebody's data. Paths are those within packages.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePath

LAST = "last_fault.txt"
MOST = 60
"""Places that are kept, the last ones."""


def remember(error: BaseException) -> None:
    """Keep the last fault beside the compilation cache, where there is one; a fault is not made worse where that fails."""
    try:
        place = _place()
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("\n".join(_told(error)) + "\n", encoding="utf-8")
    except OSError:
        return


def last() -> list[str]:
    """Lines on the last fault; none where none is known."""
    place = _place()
    try:
        return place.read_text(encoding="utf-8").splitlines() if place is not None else []
    except OSError:
        return []


def _place() -> Path | None:
    from implicit_cli import runtime

    folder = runtime.cache_folder()
    return folder.parent / LAST if folder is not None else None


def _told(error: BaseException) -> Iterator[str]:
    """Time, kind and way of an exception and of those behind it."""
    yield f"at {datetime.now(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}"
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield f"{type(one).__module__}.{type(one).__qualname__}"
        for frame in traceback.extract_tb(one.__traceback__)[-MOST:]:
            yield f"  {_shortened(frame.filename)}:{frame.lineno} {frame.name}"
        one = one.__cause__ or one.__context__


def _shortened(name: str) -> str:
    """A file as its place within the package; of a file elsewhere, which may be somebody's, nothing is told."""
    parts = PurePath(name).parts
    for root in ("site-packages", "implicit_cli", "implicit_problems"):
        if root in parts:
            at = len(parts) - 1 - parts[::-1].index(root)
            return "/".join(parts[at + (root == "site-packages") :])
    return "a file elsewhere"
