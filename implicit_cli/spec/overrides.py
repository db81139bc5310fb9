"""`--set key.sub=value`: values given on the command line take the place of values of the spec, before anything is checked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from implicit_cli.errors import InputError, listing
from implicit_cli.spec.compose import MAX_DEPTH, parse
from implicit_cli.spec.source import Tree
from implicit_cli.spec.words import Keys, dotted, found, shown

OVERRIDE = "--set "
"""What the origin of a value from the command line starts with."""
SHORTHANDS: dict[Keys, str] = {("solver",): "name", ("sensitivity", "linear_solver"): "name", ("structure",): "file"}
"""Where a bare string stands for a mapping with this one key."""


def apply(tree: Tree, overrides: Sequence[str]) -> None:
    """Put each `key.sub=value` into the tree, in order. The value is YAML; numbers in the path count the entries of a list from 0.

    Raises InputError for an override that cannot be read, leads nowhere, or undoes an earlier one.
    """
    done: list[Keys] = []
    for override in overrides:
        parts, label, value = _read(override)
        keys = _put(tree, parts, value, label)
        for earlier in done:
            if earlier[: len(keys)] == keys:
                same = "found twice" if earlier == keys else f"it undoes the earlier --set {dotted(earlier)}: give it first"
                raise InputError(f"{label}: {same}")
        done.append(keys)


def _read(override: str) -> tuple[Keys, str, Any]:
    """Path, label for messages, and value."""
    path, equals, text = override.partition("=")
    parts = tuple(part.strip() for part in path.split("."))
    if not equals or not all(parts) or len(parts) > MAX_DEPTH:
        what = "a path that is empty or too long" if equals else "no '='"
        raise InputError(f"--set '{shown(override)}': found {what}, allowed: key.sub=value")
    label = f"{OVERRIDE}{dotted(parts)}"
    return parts, label, parse(text, label, place=lambda _: label).value if text.strip() else None


def _put(tree: Tree, parts: Keys, value: Any, label: str) -> Keys:
    """Replace or add one value; the path as keys and indices."""
    if not isinstance(tree.value, dict):
        return parts  # a spec that is no mapping is refused as such
    holder: Any = tree.value
    keys: Keys = ()
    for part, following in pairwise(parts):
        key = _key(holder, keys, part, label)
        keys = (*keys, key)
        inner = holder[key] if isinstance(holder, list) else holder.get(key)
        if inner is None:
            inner = {}
            tree.keys.setdefault(keys, label)
        elif isinstance(inner, str) and keys in SHORTHANDS:
            inner = {SHORTHANDS[keys]: inner}
        elif not isinstance(inner, (dict, list)):
            raise InputError(f"{label}: {dotted(keys)} is {found(inner)} and holds no '{shown(str(following))}'")
        holder[key] = inner
        holder = inner
    key = _key(holder, keys, parts[-1], label)
    keys = (*keys, key)
    holder[key] = value
    for origins in (tree.values, tree.keys):
        for stale in [known for known in origins if known[: len(keys)] == keys]:
            del origins[stale]
        origins[keys] = label
    return keys


def _key(holder: Any, keys: Keys, part: str | int, label: str) -> Any:
    """The key in a mapping, or the index in a list, that a part of the path means."""
    if not isinstance(holder, list):
        return part
    allowed = [str(index) for index in range(len(holder))]
    if part not in allowed:
        span = f"0 to {len(holder) - 1}" if holder else listing(())
        raise InputError(f"{label}: found '{shown(str(part))}', allowed: {span}, the entries of {dotted(keys)}")
    return int(part)
