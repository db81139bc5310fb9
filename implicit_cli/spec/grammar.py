"""The parts of a spec that are more than a name and a number: values, references, labels and products.

Each function here takes what YAML gave and returns it frozen, or raises one pydantic error that carries all faults found, each with
the path from where the function was called.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from implicit_cli.errors import listing, nearest
from implicit_cli.spec.words import Keys, found, meant_number, shown

FAULTS = "spec_faults"
REFERENCE = r"^[^\n]+?:/([^/\n][^\n]*)?$"
"""The file ends at the first `:/` that is not the start of `://`."""
_REFERENCE = re.compile(r"(?P<file>[^\n]+?):(?P<path>/(?:[^/\n][^\n]*)?)\Z")
_VALUE = "a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}"
_PRODUCT = "'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}"
_BARE = ("jacobian", "hessian")
_NAMED = ("jvp", "vjp", "hessian")

Fault = tuple[Keys, str]


@dataclass(frozen=True)
class JacobianSpec:
    """The whole Jacobian, for every `of` and `wrt`."""

    kind: Literal["jacobian"] = "jacobian"


@dataclass(frozen=True)
class HessianSpec:
    """The whole Hessian of every scalar in `of`, for every pair of `wrt`."""

    kind: Literal["hessian"] = "hessian"


@dataclass(frozen=True)
class DirectionSpec:
    """The direction of a jvp or of a second derivative, or a vjp's cotangent: its name, and a value by quantity in `parts`."""

    kind: Literal["jvp", "vjp", "hessian"]
    name: str
    parts: Mapping[str, Any]


ProductSpec = JacobianSpec | HessianSpec | DirectionSpec


def split_reference(text: str) -> tuple[str, str] | None:
    """File and path of `file.h5:/path`; None for a text that is no reference."""
    match = _REFERENCE.match(text)
    return (match["file"], match["path"]) if match else None


def value(given: Any) -> Any:
    """A number, nested tuples of numbers, a reference, or a frozen mapping of `value` and `unit`."""
    faults: list[Fault] = []
    frozen = _value(given, (), faults)
    stop(faults)
    return frozen


def labels(given: Any) -> Any:
    """A tuple of texts, or a reference."""
    allowed = "a list of texts, or 'file.h5:/path'"
    if isinstance(given, str):
        if split_reference(given) is None:
            stop([((), f"found {found(given)}, allowed: {allowed}")])
        return given
    if not isinstance(given, (list, tuple)) or not given:
        stop([((), f"found {found(given)}, allowed: {allowed}")])
    for index, label in enumerate(given):
        if not isinstance(label, str):
            hint = "" if isinstance(label, (list, dict)) or label is None else f"; did you mean '{found(label)}', in quotes?"
            stop([((index,), f"found {found(label)}, allowed: a text{hint}")])
    return tuple(given)


def option(given: Any) -> Any:
    """A boolean, a finite number or a text."""
    if not isinstance(given, (bool, int, float, str)) or (isinstance(given, float) and not math.isfinite(given)):
        stop([((), f"found {found(given)}, allowed: true or false, a finite number, or a text")])
    return given


def names(given: Any) -> tuple[str, ...] | None:
    """A tuple of different texts; None stands for all."""
    if given is None:
        return None
    if not isinstance(given, (list, tuple)) or not given:
        hint = f"; did you mean [{shown(given)}]?" if isinstance(given, str) else "; leave the key out for all"
        stop([((), f"found {found(given)}, allowed: a list of names{hint}")])
    faults: list[Fault] = []
    for index, name in enumerate(given):
        if not isinstance(name, str):
            faults.append(((index,), f"found {found(name)}, allowed: a text"))
        elif name in given[:index]:
            faults.append(((index,), f"found {found(name)} twice"))
    stop(faults)
    return tuple(given)


_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_MEMORY = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]+)\s*\Z")


def memory(given: Any) -> int:
    """Bytes, from an integer or from a text such as '512 MiB'."""
    allowed = "bytes as an integer, or a text such as '512 MiB'"
    if isinstance(given, str):
        match = _MEMORY.match(given)
        if match is None or match["unit"] not in _UNITS:
            hint = nearest(match["unit"], _UNITS) if match else meant_number(given, int)
            stop([((), f"found {found(given)}, allowed: {allowed}{hint}")])
        assert match is not None
        given = int(float(match["number"]) * _UNITS[match["unit"]])
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        stop([((), f"found {found(given)}, allowed: {allowed}")])
    return int(given)


def products(given: Any) -> tuple[ProductSpec, ...]:
    """The products asked for, each direction an entry of its own, in the order written."""
    if not isinstance(given, (list, tuple)):
        hint = f"; did you mean [{given}]?" if isinstance(given, str) and given in _BARE else ""
        stop([((), f"found {found(given)}, allowed: a list of {_PRODUCT}{hint}")])
    faults: list[Fault] = []
    entries: list[ProductSpec] = []
    seen: set[tuple[str, str]] = set()

    def add(entry: ProductSpec, keys: Keys) -> None:
        name = entry.name if isinstance(entry, DirectionSpec) else ""
        if (entry.kind, name) in seen:
            faults.append((keys, f"found {entry.kind}{f' {found(name)}' if name else ''} twice"))
        seen.add((entry.kind, name))
        entries.append(entry)

    for index, item in enumerate(given):
        if isinstance(item, ProductSpec):
            add(item, (index,))
        elif isinstance(item, str) and item in _BARE:
            add(JacobianSpec() if item == "jacobian" else HessianSpec(), (index,))
        elif isinstance(item, Mapping) and len(item) == 1:
            kind, table = next(iter(item.items()))
            if kind in _NAMED:
                for name, parts in _directions(table, (index, kind), faults).items():
                    add(DirectionSpec(kind, name, parts), (index, kind, name))
            else:
                faults.append(((index, kind), f"unknown key, allowed: {listing(_NAMED)}"))
        elif isinstance(item, Mapping) and item:
            faults.append(
                ((index,), f"found a mapping with {len(item)} keys, allowed: one of {_PRODUCT} in each entry of the list")
            )
        elif isinstance(item, str) and item in ("jvp", "vjp"):
            faults.append(
                ((index,), f"found '{item}', allowed: {_PRODUCT}; did you mean {{{item}: {{NAME: {{QUANTITY: VALUE}}}}}}?")
            )
        else:
            hint = nearest(item, _BARE) if isinstance(item, str) else ""
            faults.append(((index,), f"found {found(item)}, allowed: {_PRODUCT}{hint}"))
    stop(faults)
    return tuple(entries)


def thaw(frozen: Any) -> Any:
    """A frozen value as plain lists and dictionaries."""
    if isinstance(frozen, Mapping):
        return {key: thaw(inner) for key, inner in frozen.items()}
    return [thaw(inner) for inner in frozen] if isinstance(frozen, tuple) else frozen


def thaw_products(entries: tuple[ProductSpec, ...]) -> list[Any]:
    """Products as a spec writes them, one entry for each."""
    return [{entry.kind: {entry.name: thaw(entry.parts)}} if isinstance(entry, DirectionSpec) else entry.kind for entry in entries]


def product_rows(given: Any) -> tuple[int, ...]:
    """For each entry of `products(given)`, the index of the list entry that it was written in."""
    rows: list[int] = []
    for index, item in enumerate(given if isinstance(given, (list, tuple)) else ()):
        # `{jvp: {a: ..., b: ...}}` is one entry of the list and two products.
        rows += [index] * (sum(map(len, item.values())) if isinstance(item, Mapping) else 1)
    return tuple(rows)


def _directions(table: Any, keys: Keys, faults: list[Fault]) -> dict[str, Mapping[str, Any]]:
    shape = "{NAME: {QUANTITY: VALUE}}"
    if not isinstance(table, Mapping) or not table:
        faults.append((keys, f"found {found(table)}, allowed: {shape}"))
        return {}
    frozen: dict[str, Mapping[str, Any]] = {}
    for name, parts in table.items():
        if not name:
            faults.append(((*keys, name), "found an empty name, allowed: a text"))
        if not isinstance(parts, Mapping) or not parts:
            hint = f"; did you mean {{NAME: {{{shown(name)}: ...}}}}?" if isinstance(parts, (int, float, list, str)) else ""
            faults.append(((*keys, name), f"found {found(parts)}, allowed: {{QUANTITY: VALUE}}{hint}"))
            continue
        frozen[name] = MappingProxyType(
            {quantity: _value(part, (*keys, name, quantity), faults) for quantity, part in parts.items()}
        )
    return frozen


def _value(given: Any, keys: Keys, faults: list[Fault]) -> Any:
    if not isinstance(given, Mapping):
        return _array(given, keys, faults, _VALUE)
    for key in given:
        if key not in ("value", "unit"):
            faults.append(((*keys, key), f"unknown key, allowed: 'unit', 'value'{nearest(key, ['unit', 'value'])}"))
    faults += [(keys, f"'{key}' is missing, allowed: {{value: ..., unit: ...}}") for key in ("value", "unit") if key not in given]
    unit = given.get("unit", "1")
    if not isinstance(unit, str) or not unit:
        hint = "; did you mean '1', in quotes?" if unit == 1 and not isinstance(unit, bool) else ""
        faults.append(((*keys, "unit"), f"found {found(unit)}, allowed: the symbol of a unit, '1' where there is none{hint}"))
    inner = _array(given.get("value", 0.0), (*keys, "value"), faults, "a number, a list of numbers, or 'file.h5:/path'")
    return MappingProxyType({"value": inner, "unit": unit})


def _array(given: Any, keys: Keys, faults: list[Fault], allowed: str) -> Any:
    if isinstance(given, str):
        if split_reference(given) is None:
            faults.append((keys, f"found {found(given)}, allowed: {allowed}{_hint(given)}"))
        return given
    if isinstance(given, (list, tuple)) and given:
        return _numbers(given, keys, faults)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        faults.append((keys, f"found {found(given)}, allowed: {allowed}"))
    return given


def _numbers(given: Any, keys: Keys, faults: list[Fault]) -> tuple[Any, ...]:
    """Nested tuples; only the first fault is told, since one slip often repeats along a list."""
    entries: list[Any] = []
    for index, entry in enumerate(given):
        before = len(faults)
        if isinstance(entry, (list, tuple)) and entry:
            entries.append(_numbers(entry, (*keys, index), faults))
        elif isinstance(entry, bool) or not isinstance(entry, (int, float)):
            hint = _hint(entry) if isinstance(entry, str) else ""
            faults.append(((*keys, index), f"found {found(entry)}, allowed: a number or a list of numbers{hint}"))
        else:
            entries.append(entry)
        if len(faults) > before:
            break
    return tuple(entries)


def _hint(text: str) -> str:
    """What a text that is no value was probably meant to be."""
    if hint := meant_number(text):
        return hint
    file, colon, path = text.partition(":")
    if file.endswith((".h5", ".hdf5", ".nc")):
        return f"; did you mean '{shown(file)}:/{shown(path.lstrip('/')) if colon else 'PATH'}'?"
    return ""


def stop(faults: list[Fault]) -> None:
    """Raise one error with all faults, where there are any."""
    if faults:
        raise PydanticCustomError(FAULTS, "see the context", {"faults": faults})
