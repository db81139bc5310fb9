"""Whose a saved state is: nested mappings of texts and numbers, equal for equal runs, and what differs where they are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

NAMED = 5
"""Differences that a refusal tells, at most."""


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """What differs, a line each: `parameters.penalty: found 0.2, it was 0.1`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new and not _both_nan(old, new):
        found, was = (_short(value) for value in (new, old))
        yield f"{path}: found {found}, it was {was}" if len(found) + len(was) < 100 else f"{path} differs"


def _both_nan(old: Any, new: Any) -> bool:
    return bool(old != old and new != new)


def _short(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
