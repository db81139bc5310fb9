"""The lists of a structure: repeats, indices, points, diameters and names, frozen and checked as in `grammar`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic_core import PydanticCustomError

from implicit_cli.spec import grammar
from implicit_cli.spec.words import found


def numbers(given: Any) -> tuple[float, ...] | None:
    """A tuple of numbers above 0; None stands for what is left out."""
    if given is None:
        return None
    if not isinstance(given, (list, tuple)) or not given:
        grammar.stop([((), f"found {found(given)}, allowed: a list of numbers{_listed(given)}")])
    wrong = [index for index, one in enumerate(given) if isinstance(one, bool) or not isinstance(one, (int, float))]
    grammar.stop([((index,), f"found {found(given[index])}, allowed: a number") for index in wrong])
    grammar.stop(
        [
            ((index,), f"found {found(one)}, allowed: a finite number above 0")
            for index, one in enumerate(given)
            if not 0 < one < math.inf
        ]
    )
    return tuple(float(one) for one in given)


def counts(given: Any) -> tuple[int, ...] | None:
    """A tuple of two or three integers of at least 1, one for each dimension."""
    return None if given is None else _integers(given, 1, range(2, 4))


def indices(given: Any) -> tuple[int, ...]:
    """A tuple of different integers of at least 0."""
    return _integers(given, 0, range(2**62), different=True)


def substitutes(given: Any) -> Mapping[str, tuple[int, ...]]:
    """For each name the indices of the particles that get it; a single index may stand without a list."""
    if not isinstance(given, Mapping):
        grammar.stop([((), f"found {found(given)}, allowed: {{NAME: [INDEX, ...]}}")])
    faults: list[grammar.Fault] = []
    frozen: dict[str, tuple[int, ...]] = {}
    taken: set[int] = set()
    for name, value in given.items():
        many = value if isinstance(value, (list, tuple)) else [value]
        try:
            frozen[name] = _integers(many, 0, range(2**62), different=True)
        except PydanticCustomError as error:
            inner = (error.context or {})["faults"]
            faults += [((name, *(keys if many is value else ())), text) for keys, text in inner]
            continue
        faults += [((name,), f"found the index {index} twice") for index in frozen[name] if index in taken]
        taken |= set(frozen[name])
    grammar.stop(faults)
    return MappingProxyType(frozen)


def points(given: Any) -> tuple[tuple[float, ...], ...]:
    """A tuple of points, each of two or three numbers."""
    if not isinstance(given, (list, tuple)):
        grammar.stop([((), f"found {found(given)}, allowed: a list of points, [[x, y, z], ...]")])
    faults: list[grammar.Fault] = []
    for index, point in enumerate(given):
        if not isinstance(point, (list, tuple)) or len(point) not in (2, 3):
            faults.append(((index,), f"found {found(point)}, allowed: a point, [x, y] or [x, y, z]"))
            continue
        for axis, one in enumerate(point):
            if isinstance(one, bool) or not isinstance(one, (int, float)) or not math.isfinite(one):
                faults.append(((index, axis), f"found {found(one)}, allowed: a finite number"))
    grammar.stop(faults)
    return tuple(tuple(float(one) for one in point) for point in given)


def species(given: Any) -> tuple[str, ...] | None:
    """A tuple of different names without spaces; one name may stand without a list."""
    if given is None:
        return None
    many = grammar.names([given] if isinstance(given, str) else given)
    assert many is not None
    grammar.stop(
        [
            ((index,), f"found {found(name)}, allowed: a name of at most 32 characters without spaces")
            for index, name in enumerate(many)
            if not name or len(name) > 32 or not name.isprintable() or " " in name
        ]
    )
    return many


def _integers(given: Any, least: int, lengths: range, *, different: bool = False) -> tuple[int, ...]:
    if not isinstance(given, (list, tuple)) or len(given) not in lengths:
        size = f"{lengths[0]} or {lengths[-1]} " if lengths[0] else ""
        hint = _listed(given) if not lengths[0] else ""
        grammar.stop([((), f"found {found(given)}, allowed: a list of {size}integers, each at least {least}{hint}")])
    faults: list[grammar.Fault] = []
    for index, one in enumerate(given):
        if isinstance(one, bool) or not isinstance(one, int) or one < least:
            faults.append(((index,), f"found {found(one)}, allowed: an integer, at least {least}"))
        elif different and one in given[:index]:
            faults.append(((index,), f"found {one} twice"))
    grammar.stop(faults)
    return tuple(given)


def _listed(given: Any) -> str:
    return f"; did you mean [{given}]?" if isinstance(given, (int, float)) and not isinstance(given, bool) else ""
