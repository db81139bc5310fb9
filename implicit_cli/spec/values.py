"""From a value of the spec to a checked NumPy array: numbers and nested lists as they stand, references from their files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_cli.errors import InputError
from implicit_cli.spec import reference, table
from implicit_cli.spec.axes import AxisSpec
from implicit_cli.spec.grammar import split_reference
from implicit_cli.spec.load import LoadedSpec
from implicit_cli.spec.words import Keys, found

_LONGEST_LABEL = 1024


@dataclass(frozen=True)
class LoadedValue:
    """An array in native byte order: float64 or int64, or text for labels; read-only, finite, and no axis of it is empty.

    `unit` is the one that the spec or the HDF5 file gives, `origin` the reference (`diabetes.h5:/X`); None where there is none.
    """

    array: NDArray[Any]
    unit: str | None = None
    origin: str | None = None


def read_value(loaded: LoadedSpec, keys: Keys, value: Any) -> LoadedValue:
    """The array behind `value`, which stands at `keys` of the spec. Under `labels` texts are read, elsewhere numbers;
    under `sweep` a text may also name a column of a CSV file.

    Raises InputError, with the place in the spec and in the HDF5 file, for what is missing, ragged, empty, not finite, too large
    or of another kind; EnvironmentProblem where the system does not let us read.
    """
    early: LoadedValue | None = loaded.take(keys)
    if early is not None:
        return early
    unit: str | None = None
    if isinstance(value, Mapping):
        unit, value, keys = value["unit"], value["value"], (*keys, "value")
    text = keys[0] == "labels"
    if not isinstance(value, str):
        array = np.array(value, dtype=np.str_) if text else _numbers(loaded, keys, value)
        _check(array, lambda index: loaded.at(*keys, *index), text=text)
        return LoadedValue(array, unit)
    place = loaded.at(*keys)
    if keys[0] == "sweep" and (column := table.split_column(value)) is not None:
        array = table.read(loaded.file(keys, column[0]), column[0], column[1], place=place)
        array.flags.writeable = False
        return LoadedValue(array, unit, os.fspath(value))
    parts = split_reference(value)
    if parts is None:
        raise InputError(f"{place}: found {found(value)}, allowed: 'file.h5:/path'")
    array, units = reference.read(loaded.file(keys, parts[0]), parts[0], parts[1], place=place, text=text)
    if unit is not None and units is not None and unit != units:
        raise InputError(f"{place}: {value}: found units '{units}' in the file, allowed: '{unit}', as the spec says")
    _check(array, lambda _: f"{place}: {value}", text=text)
    return LoadedValue(array, unit if unit is not None else units, os.fspath(value))


def read_early(loaded: LoadedSpec) -> None:
    """Read and keep all values of the spec, before its problem, and JAX with it, is imported.

    Raises InputError with what is wrong with any of them, as `read_value` does.
    """
    model, faults = loaded.model, list[str]()
    found: dict[Keys, LoadedValue] = {}
    for section in ("data", "parameters", "initial", "labels"):
        for name, value in getattr(model, section).items():
            try:
                found[section, name] = read_value(loaded, (section, name), value)
            except InputError as error:
                faults += error.messages
    for target in model.sweep.over if model.sweep is not None else ():
        try:
            read_axis(loaded, target)
        except InputError as error:
            faults += error.messages
    if faults:
        raise InputError(faults)
    for keys, value in found.items():
        loaded.keep(keys, value)


def read_array(text: str, place: str) -> NDArray[Any]:
    """The array behind a reference `file.h5:/path`, relative to the working folder; `place` says where the reference stands.

    Raises as `read_value` does.
    """
    parts = split_reference(text)
    if parts is None:
        raise InputError(f"{place}: found {found(text)}, allowed: 'file.h5:/path'")
    array, _ = reference.read(Path(parts[0]), parts[0], parts[1], place=place, text=False)
    _check(array, lambda _: f"{place}: {text}", text=False)
    return array


def named_file(text: str) -> str | None:
    """The file of a reference or of a CSV column; None for a text that is neither."""
    parts = split_reference(text) or table.split_column(text)
    return parts[0] if parts is not None else None


def read_axis(loaded: LoadedSpec, target: str) -> tuple[LoadedValue, ...]:
    """The arrays that the axis of `target` under `sweep.over` is given.

    The levels (L, *shape) of a list or a reference are one array, as many values as its first axis is long; of any other axis each
    argument is one, in the order of its rule. Raises as `read_value` does.
    """
    assert loaded.model.sweep is not None
    axis: AxisSpec = loaded.model.sweep.over[target]
    keys: Keys = ("sweep", "over", target)
    match axis.kind:
        case "list":
            return (read_value(loaded, keys, axis.arguments),)
        case "reference":
            value = read_value(loaded, keys, axis.arguments[0])
            if not value.array.ndim:
                raise InputError(
                    f"{loaded.at(*keys)}: {value.origin}: found a single number, allowed: a value for each entry of the first axis"
                )
            return (value,)
        case kind:
            return tuple(read_value(loaded, (*keys, kind, index), part) for index, part in enumerate(axis.arguments))


def _numbers(loaded: LoadedSpec, keys: Keys, value: Any) -> NDArray[Any]:
    shape: tuple[int, ...] = ()
    inner = value
    while isinstance(inner, (list, tuple)):
        shape = (*shape, len(inner))
        inner = inner[0] if inner else None
    _check_shape(loaded, keys, value, shape)
    array: NDArray[Any] = np.array(value)
    return array.astype(np.int64 if array.dtype.kind == "i" else np.float64)


def _check_shape(loaded: LoadedSpec, keys: Keys, value: Any, shape: tuple[int, ...]) -> None:
    """Every list must be as long as the first one of its depth."""
    is_list = isinstance(value, (list, tuple))
    if is_list != bool(shape) or (is_list and len(value) != shape[0]) or shape == (0,):
        allowed = f"a list of {shape[0]}, as the first one is" if shape else "a number, as the first one is"
        raise InputError(
            f"{loaded.at(*keys)}: found {found(value)}, allowed: {'a list with entries' if shape == (0,) else allowed}"
        )
    for index, inner in enumerate(value if is_list else ()):
        _check_shape(loaded, (*keys, index), inner, shape[1:])


def _check(array: NDArray[Any], place: Callable[[tuple[int, ...]], str], *, text: bool) -> None:
    """Refuse what is not finite, and labels that no table can show."""
    array.flags.writeable = False
    if text:
        _check_labels(array.tolist(), place)
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    first: tuple[int, ...] = tuple(int(i) for i in np.argwhere(~finite)[0])
    wrong = finite.size - int(np.count_nonzero(finite))
    count = f"{wrong} of {finite.size} entries {'is' if wrong == 1 else 'are'} not finite"
    where = f" at {list(first)}, {count}" if array.ndim else ""
    raise InputError(f"{place(first)}: found {found(float(array[first]))}{where}, allowed: finite numbers")


def _check_labels(labels: list[str], place: Callable[[tuple[int, ...]], str]) -> None:
    for index, label in enumerate(labels):
        if len(label) > _LONGEST_LABEL or not label.isprintable():
            kind = (
                f"{found(label)} at [{index}]"
                if len(label) <= _LONGEST_LABEL
                else f"a text of {len(label)} characters at [{index}]"
            )
            raise InputError(f"{place((index,))}: found {kind}, allowed: one printable line of at most {_LONGEST_LABEL} characters")
