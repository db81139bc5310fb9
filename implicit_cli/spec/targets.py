"""The mapping `sweep.over`: which targets a sweep varies, each with its axis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from implicit_cli.spec.axes import AxisSpec, axis, thaw_axis
from implicit_cli.spec.grammar import Fault, stop
from implicit_cli.spec.words import found, shown

SEED = "seed"
"""The target that is no quantity of a problem: the spec's own seed."""

_TARGET = re.compile(r"(?P<name>[^\[\]\s](?:[^\[\]\n]*[^\[\]\s])?)(?:\[(?P<index>\s*\d{1,18}\s*(?:,\s*\d{1,18}\s*)*)\])?", re.ASCII)


def split_target(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and index of the target `NAME`, `NAME[i]` or `NAME[i, j]`; the index is empty where there is none.

    Raises ValueError for a text of another form.
    """
    match = _TARGET.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"found the target '{shown(str(text))}', allowed: NAME, NAME[i] or NAME[i, j], with indices from 0 on")
    return match["name"], tuple(int(entry) for entry in (match["index"] or "").split(",") if entry.strip())


def over(given: Any) -> Mapping[str, AxisSpec]:
    """A frozen mapping from targets to their axes, in the order written."""
    if not isinstance(given, Mapping) or not given:
        stop([((), f"found {found(given)}, allowed: {{TARGET: AXIS}}, such as {{penalty: [0.1, 1.0]}}")])
    faults: list[Fault] = []
    frozen: dict[str, AxisSpec] = {}
    indices: dict[str, dict[tuple[int, ...], str]] = {}
    for target, written in given.items():
        try:
            name, index = split_target(target)
        except ValueError as error:
            faults.append(((target,), str(error)))
            continue
        before = len(faults)
        frozen_axis = axis(written, (target,), faults)
        faults += [((target,), text) for text in _overlaps(target, index, indices.setdefault(name, {}))]
        if name == SEED and len(faults) == before:
            faults += _of_seed(target, index, frozen_axis)
        if frozen_axis is not None:
            frozen[target] = frozen_axis
    stop(faults)
    return MappingProxyType(frozen)


def thaw_over(frozen: Mapping[str, AxisSpec]) -> dict[str, Any]:
    """Axes as a spec writes them."""
    return {target: thaw_axis(entry) for target, entry in frozen.items()}


def _overlaps(target: str, index: tuple[int, ...], others: dict[tuple[int, ...], str]) -> Iterator[str]:
    """An entry must not be given by two targets, and all targets of a name must have as many indices."""
    for other, text in others.items():
        if () in (index, other) or index == other:
            yield f"found beside '{shown(text)}', which gives the same entries, allowed: one of them"
        elif len(index) != len(other):
            yield f"found beside '{shown(text)}', allowed: as many indices in both"
        else:
            continue
        break
    others[index] = target


def _of_seed(target: str, index: tuple[int, ...], given: AxisSpec | None) -> Iterator[Fault]:
    if index:
        yield (target,), "found an index, allowed: 'seed', which is one number"
    elif given is not None and given.kind not in ("list", "integers", "reference"):
        yield (target,), f"found {{{given.kind}: ...}}, allowed: a list of integers, a reference, or {{integers: [FIRST, LAST]}}"
    elif given is not None and given.kind != "reference":
        for position, number in enumerate(given.arguments):
            if not isinstance(number, int) or number < 0:
                keys = (target, "integers", position) if given.kind == "integers" else (target, position)
                yield keys, f"found {found(number)}, allowed: an integer, at least 0"
                break
