"""What several result files of one sweep hold together: every dataset and dimension of the merged file, and what must agree.

Nothing of the cases' own numbers is read here, except their ids and statuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from implicit_cli.errors import InputError
from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.dimensions import CASES, Key, Use, of_products, wanted, woven
from implicit_cli.store.identity import NAMED, differences
from implicit_cli.store.nodes import scale, text, texts
from implicit_cli.store.texts import CHARSET

GAUGES = f"{layout.NULL_SPACE}/gauges"
_SWEEP = "sweep"
_SPECS = (f"{layout.SPEC}/text", f"{layout.SPEC}/resolved")
_CODE = f"{layout.PROVENANCE}/problem_sha256"
_TOLD = (f"{layout.PROVENANCE}/", f"{layout.VERIFY_PROVENANCE}/")
"""Texts that may differ between processes and machines."""
_AGREEING = ("units", "transform", "of", "wrt")
"""Attributes without which the numbers of two files would not mean the same."""
_OF_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", CHARSET)


@dataclass(frozen=True)
class Source:
    """A file: its checksum, the ids of its cases and their status codes."""

    path: Path
    digest: str
    ids: list[str]
    codes: Array


@dataclass
class Scale:
    """A dimension of the merged file; `by_label` where files may have different entries, `grows` where they may have fewer."""

    source: Path
    wanted: str
    long_name: str
    labels: Array
    grows: bool = False
    by_label: bool = False

    @property
    def size(self) -> int:
        return len(self.labels)


@dataclass
class Column:
    """An array with a row for each case: its type, its dimensions after that of the cases, its attributes."""

    source: Path
    dtype: np.dtype[Any]
    axes: tuple[Key, ...]
    attributes: dict[str, Any]
    files: int = 0

    @property
    def text(self) -> bool:
        return self.dtype.kind in "OS"


@dataclass
class Constant:
    """What is the same for all cases."""

    source: Path
    value: Any
    axes: tuple[Key, ...]
    attributes: dict[str, Any]
    told: list[str] = field(default_factory=list)


T = TypeVar("T", Column, Constant)


class Union:
    """What the files that it was given have, in the order in which a writer of all their cases would write it."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.used = 0
        """Files of which more was taken than the ids."""
        self.first = Path()
        self.problem = self.summary = self.created = ""
        self.scales: dict[Key, Scale] = {}
        self.arrays: dict[str, Column | Constant] = {}

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays with a row for each case."""
        return {name: one for name, one in self.arrays.items() if isinstance(one, Column)}

    def add(self, path: Path, file: h5py.File, asked: Callable[[str], bool]) -> None:
        """Take an open file in; of one without a case that is `asked` for nothing but its ids is.

        Raises InputError (a line for each difference) where it is not of the same sweep as those before it.
        """
        source = Source(path, checksum(file), texts(file[layout.CASES]["id"]), file[layout.CASES]["status"][()])
        self.sources.append(source)
        if not any(map(asked, source.ids)):
            return
        # an open object is slow to tell its name
        names = {_address(node): name for name, node in file.items() if isinstance(node, h5py.Dataset) and node.is_scale}
        found = [
            (name, node, tuple(names[_address(scale(node, axis))] for axis in range(node.ndim))) for name, node in arrays(file)
        ]
        keys = self._take_scales(path, {name: file[name] for name in names.values()}, {name: axes for name, _, axes in found})
        self._take_problem(path, file)
        newer = str(file.attrs["created"]) >= self.created
        before = list(self.arrays)
        for name, node, scales in found:
            axes = tuple(keys[one] for one in scales)
            if axes[:1] == (CASES,):
                self._take_column(path, name, node, axes[1:])
            else:
                self._take_constant(path, name, node, axes, newer=newer)
        self.arrays = {name: self.arrays[name] for name in woven(before, [name for name, _, _ in found])}
        self.created = max(self.created, str(file.attrs["created"]))
        self.used += 1

    def _take_problem(self, path: Path, file: h5py.File) -> None:
        problem = str(file.attrs["problem"])
        if not self.used:
            self.first, self.problem, self.summary = path, problem, str(file.attrs["summary"])
        elif problem != self.problem:
            raise InputError(f"{path}: found a result of problem '{problem}', allowed: '{self.problem}', as {self.first}")

    # Dimensions

    def _take_scales(self, path: Path, nodes: Mapping[str, h5py.Dataset], used: Mapping[str, tuple[str, ...]]) -> dict[str, Key]:
        """The dimensions of a file by their names in it: a name may be another one in a file that has other arrays."""
        meant = {name: str(node.attrs["long_name"]) for name, node in nodes.items()}
        what = {name: (wanted(name, meaning), meaning) for name, meaning in meant.items()}
        uses: dict[str, list[Use]] = {name: [] for name in nodes}
        for array, axes in used.items():
            for axis, name in enumerate(axes):
                uses[name].append((array, axis))
        keys: dict[str, Key] = {}
        old = list(self.scales)
        for name, node in nodes.items():
            for again in range(len(nodes)):
                key = (*what[name], of_products(*what[name], uses[name]), again)
                if key not in keys.values():
                    break
            keys[name] = key
            self._take_scale(path, key, node, uses[name])
        self.scales = {key: self.scales[key] for key in woven(old, list(keys.values()))}
        return keys

    def _take_scale(self, path: Path, key: Key, node: h5py.Dataset, uses: list[Use]) -> None:
        if key == CASES:  # the merged file has its own
            labels = np.empty(0, object)
        else:
            words = h5py.check_string_dtype(node.dtype) is not None
            labels = np.array(texts(node), object) if words else node[()]
        known = self.scales.get(key)
        if known is None:
            grows = any(array.startswith((f"{layout.LINEAR}/", f"{layout.CONVERGENCE}/")) and axis for array, axis in uses)
            by_label = (GAUGES, 1) in uses
            self.scales[key] = Scale(path, key[0], key[1], labels, grows, by_label)
        elif known.by_label:
            known.labels = np.array(woven(known.labels.tolist(), labels.tolist()), object)
        elif known.grows:
            known.labels = max(known.labels, labels, key=len)
        elif not np.array_equal(known.labels, labels):
            raise InputError(f"{path}: the entries along '{key[0]}' are not those in {known.source}: {_ALLOWED}")

    # Arrays

    def _take_column(self, path: Path, name: str, node: h5py.Dataset, axes: tuple[Key, ...]) -> None:
        if name not in self.arrays:
            self.arrays[name] = Column(path, node.dtype, axes, attributes_of(node))
        known = self._check(path, name, axes, node, Column)
        if "flag_values" in known.attributes and node.attrs["flag_values"].size > known.attributes["flag_values"].size:
            known.attributes = attributes_of(node)  # a newer program knows more codes
        if not known.text:
            known.dtype = np.result_type(known.dtype, node.dtype)
        known.files += 1

    def _take_constant(self, path: Path, name: str, node: h5py.Dataset, axes: tuple[Key, ...], *, newer: bool) -> None:
        words = h5py.check_string_dtype(node.dtype) is not None
        value: Any = (np.array(texts(node), object) if node.ndim else text(node)) if words else node[()]
        if name not in self.arrays:
            self.arrays[name] = Constant(path, value, axes, attributes_of(node))
        known = self._check(path, name, axes, node, Constant)
        if name in _SPECS:
            if name == _SPECS[1]:
                _check_specs(path, value, known)
            if newer:
                known.value = value
        elif name.startswith(_TOLD) and name != _CODE:
            known.told = list(dict.fromkeys([*known.told, value]))
        elif not _same(known.value, value):
            seen = f"found '{value}', it is '{known.value}' in" if words and not node.ndim else "it is another in"
            raise InputError(f"{path}: /{name}: {seen} {known.source}: {_ALLOWED}")

    def _check(self, path: Path, name: str, axes: tuple[Key, ...], node: h5py.Dataset, kind: type[T]) -> T:
        """What is known of an array, where that is what this file says of it."""
        known = self.arrays[name]
        if not isinstance(known, kind) or axes != known.axes:
            raise InputError(f"{path}: /{name} has other axes than in {known.source}: {_ALLOWED}")
        for key in _AGREEING if known.source != path else ():
            was = known.attributes.get(key)
            found = node.attrs.get(key) if was is not None else None
            if found != was:
                raise InputError(f"{path}: /{name}: found {key} '{found}', it is '{was}' in {known.source}: {_ALLOWED}")
        return known


_ALLOWED = "only results of one sweep can be merged"


def arrays(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Paths and nodes of all that is neither a scale nor the checksum, group by group in the order written."""

    def walk(group: h5py.Group, above: str) -> Iterator[tuple[str, h5py.Dataset]]:
        for name, node in group.items():
            if isinstance(node, h5py.Group):
                yield from walk(node, f"{above}{name}/")
            elif above:
                yield f"{above}{name}", node

    return walk(file, "")


def _address(node: h5py.Dataset) -> int:
    return int(h5py.h5o.get_info(node.id).addr)


def checksum(file: h5py.File) -> str:
    """The SHA-256 that a file bears."""
    return bytes(file[layout.CHECKSUM][()])[-layout.CHECKSUM_LENGTH :].decode()


def attributes_of(node: h5py.Dataset) -> dict[str, Any]:
    """Attributes of an array, without those that belong to its storage and to its scales."""
    return {name: node.attrs[name] for name in node.attrs if name not in _OF_SCALES}


def _check_specs(path: Path, value: str, known: Constant) -> None:
    """Specs may differ in what the sweep runs over."""
    new, old = ({key: entry for key, entry in json.loads(one).items() if key != _SWEEP} for one in (value, known.value))
    if found := list(differences(old, new)):
        raise InputError([f"{path}: not of the sweep of {known.source}: {line}" for line in found[:NAMED]])


def _same(first: Any, second: Any) -> bool:
    a, b = np.asarray(first), np.asarray(second)
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))
