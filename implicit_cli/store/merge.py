"""Several result files become one, column by column: what `write_result` would have written of all their cases.

Each file is opened twice, one at a time: to see what there is, then to copy its rows. Arrays above `_SMALL` bytes are mapped from a
file (`store.scratch`), so the memory that a merge takes does not grow with their size.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from implicit_cli.errors import InputError
from implicit_cli.result import Array
from implicit_cli.status import Status
from implicit_cli.store import layout
from implicit_cli.store.atomic import replace_file
from implicit_cli.store.dimensions import CASES, Key
from implicit_cli.store.guard import opened
from implicit_cli.store.image import Image, _chunks
from implicit_cli.store.nodes import labels, texts
from implicit_cli.store.scratch import Scratch
from implicit_cli.store.union import GAUGES, Column, Constant, Scale, Source, Union, arrays, checksum
from implicit_cli.store.words import joined, root_attributes, told, weakest, weakest_kind

_SMALL = 4 << 20
_BLOCK = 16 << 20
_IDS = f"{layout.CASES}/id"
_GOOD = [status for status in Status if status.good]


@dataclass(frozen=True)
class MergeReport:
    """What a merge wrote: cases, and how many of each status by its label; what it left out.

    `duplicates` were in several files and are there once, `dropped` were in a file and not asked for.
    """

    cases: int
    statuses: Mapping[str, int]
    duplicates: int
    dropped: int


@dataclass(frozen=True)
class _Rows:
    """Which rows of a file go where."""

    source: Source
    take: Array
    put: Array


def merge(files: Sequence[Path], path: Path, *, order: Sequence[str] | None = None) -> MergeReport:
    """Write the cases of `files` to a result file at `path`, which may be one of them; in the `order` of these ids.

    Ids that no file has are left out, and so are cases that `order` lacks; without `order` the cases come as they are found. Of a
    case that is there several times, the first with a good status counts, else the first. The spec's section `sweep` may differ:
    the newest file's is kept. Provenance that differs is joined; all else that is not the cases' own must agree.

    Raises InputError where a file is refused, as `read_summary` does, or is not of the same sweep, with both files and what
    differs; EnvironmentProblem as `write_result`; ValueError where no case is left.
    """
    asked = None if order is None else set(order)
    union = Union()
    for name in map(Path, files):
        with opened(name) as file:
            union.add(name, file, (lambda _: True) if asked is None else asked.__contains__)
    ids, found, duplicates, dropped = _chosen(union.sources, order)
    if not ids:
        raise ValueError(f"{path}: none of {len(files)} files has a case to merge")
    table = _Table(union, ids, Scratch(path))
    for rows in found:
        name = rows.source.path
        with opened(name) as file:
            if checksum(file) != rows.source.digest:
                raise InputError(f"{name}: the file has changed since it was first read; merge again")
            table.fill(file, rows)
    table.write(path)
    return MergeReport(len(ids), table.statuses(), duplicates, dropped)


def _chosen(sources: Sequence[Source], order: Sequence[str] | None) -> tuple[list[str], list[_Rows], int, int]:
    """The ids in order, the rows of each file, how many were there again, and how many nobody asked for."""
    starts = [0, *itertools.accumulate(len(source.ids) for source in sources)]
    good = np.isin(np.concatenate([source.codes for source in sources]), _GOOD) if sources else np.empty(0, bool)
    # where a case is, counted over all files
    chosen: dict[str, int] = {}
    for place, name in enumerate(itertools.chain.from_iterable(source.ids for source in sources)):
        known = chosen.setdefault(name, place)
        if known != place and good[place] and not good[known]:
            chosen[name] = place
    ids = list(chosen) if order is None else [name for name in dict.fromkeys(order) if name in chosen]
    places = np.fromiter((chosen[name] for name in ids), np.int64, len(ids))
    by_file = np.argsort(places, kind="stable")
    ends = np.searchsorted(places[by_file], starts)
    rows = []
    for source, start, (begin, end) in zip(sources, starts, itertools.pairwise(ends), strict=False):
        if begin < end:
            put = by_file[begin:end]
            rows.append(_Rows(source, places[put] - start, put))
    return ids, rows, starts[-1] - len(chosen), len(chosen) - len(ids)


class _Table:
    """The columns of the merged file."""

    def __init__(self, union: Union, ids: Sequence[str], room: Scratch) -> None:
        self.union, self.count, self.room = union, len(ids), room
        self.ids = np.array(ids, object)
        self.columns = union.columns
        self.values = {name: self._allocated(name, column) for name, column in self.columns.items()}

    def _allocated(self, name: str, column: Column) -> Array:
        if name == _IDS:
            return self.ids
        if column.text:
            return np.empty(self.count, object)
        dtype = column.dtype
        if column.files < self.union.used:  # NaN makes an array of integers one of floats
            dtype = np.result_type(dtype, np.asarray(_nothing(name, column)).dtype)
        shape = (self.count, *(self.union.scales[key].size for key in column.axes))
        small = np.prod(shape, dtype=float) * dtype.itemsize <= _SMALL
        return np.empty(shape, dtype) if small else self.room.allocate(shape, dtype)

    def fill(self, file: h5py.File, rows: _Rows) -> None:
        """Take over the rows of an open file."""
        nodes = dict(arrays(file))
        for name, column in self.columns.items():
            target, node = self.values[name], nodes.get(name)
            if name == _IDS:
                continue
            if node is None:
                of_products = name.startswith(f"{layout.PRODUCTS}/")
                target[rows.put] = rows.source.codes[rows.take] if of_products else _nothing(name, column)
            elif column.text:
                target[rows.put] = np.array([sys.intern(text) for text in texts(node)], object)[rows.take]
            elif name == GAUGES:
                target[rows.put] = _by_label(node, self.union.scales[column.axes[0]])[rows.take]
            else:
                _copy(node, target, rows, _nothing(name, column))
        self.room.release()

    def write(self, path: Path) -> None:
        """Write the file."""
        file, scales = Image(), self.union.scales
        scales[CASES].labels = self.ids
        if GAUGES in self.values:
            self._sort_gauges(scales)
        dims = {key: file.dimension(one.wanted, one.size, one.labels, one.long_name) for key, one in scales.items()}
        for name, one in self.union.arrays.items():
            axes, attributes = [dims[key] for key in one.axes], {**one.attributes}
            long_name = attributes.pop("long_name")
            if isinstance(one, Constant):
                value = told(one.told) if one.told else one.value
            else:
                axes, value = [dims[CASES], *axes], self.values[name]
                attributes |= self._of_all(name, attributes)
            if "units" in attributes:
                file.put(name, value, axes, long_name, **attributes)
            else:
                file.text(name, value, long_name)
        replace_file(path, file.finish(root_attributes(self.union.problem, self.union.summary)))

    def _of_all(self, name: str, attributes: Mapping[str, Any]) -> dict[str, str]:
        """The attributes that speak of all cases."""
        found = {}
        if "method" in attributes:
            found["method"] = joined(self.values[layout.METHOD].tolist())
        if "kind" in attributes:
            found["kind"] = weakest_kind(self.values[f"{name.rpartition('/')[0]}/kind"].tolist())
        if "provenance" in attributes:
            source = f"{layout.CERTIFICATE_PROVENANCE}/{name.rpartition('/')[2]}"
            found["provenance"] = weakest(self.values[source].tolist())
        return found

    def _sort_gauges(self, scales: dict[Key, Scale]) -> None:
        """In the order in which the cases have them, whatever file they came from; without those that no case has."""
        flags, (key,) = self.values[GAUGES], self.columns[GAUGES].axes
        order = np.argsort(flags.argmax(axis=0), kind="stable")
        there = np.flatnonzero(flags.any(axis=0))
        order = order[np.isin(order, there)]
        if not len(order):
            del self.values[GAUGES], self.union.arrays[GAUGES], scales[key]
            return
        self.values[GAUGES] = flags[:, order]
        scales[key].labels = scales[key].labels[order]

    def statuses(self) -> dict[str, int]:
        """How many cases have each status, by its label, in the order of the codes."""
        name = f"{layout.CASES}/status"
        flags = self.columns[name].attributes
        names = dict(zip(flags["flag_values"].tolist(), flags["flag_meanings"].split(), strict=True))
        codes, counts = np.unique(self.values[name], return_counts=True)
        return {names.get(code, f"status_{code}"): count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}


def _nothing(name: str, column: Column) -> Any:
    """What a writer puts where a case has no such entry."""
    if column.text:
        return "bound" if name.startswith(f"{layout.CERTIFICATE}/") and name.endswith("/kind") else ""
    if name.startswith(f"{layout.NULL_SPACE}/"):
        return np.uint8(0)
    counted = name.startswith((f"{layout.LINEAR}/", f"{layout.PRODUCTS}/", f"{layout.VERIFY}/"))
    return np.int8(layout.ABSENT) if counted and column.dtype.kind in "iu" else np.nan


def _copy(node: h5py.Dataset, target: Array, rows: _Rows, nothing: Any) -> None:
    """Take rows over, a block at a time; what is longer in the target ends with `nothing`."""
    if node.shape[1:] != target.shape[1:]:
        target[rows.put] = nothing
    for block in _blocks(node.shape, node.dtype.itemsize):
        first, *rest = block
        inside = (rows.take >= first.start) & (rows.take < first.stop)
        if inside.any():
            target[(rows.put[inside], *rest)] = node[block][rows.take[inside] - first.start]


def _blocks(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Cuts of an array into pieces of at most `_BLOCK` bytes."""
    steps = _chunks(shape, itemsize, _BLOCK)
    cuts = [
        [slice(begin, min(begin + step, size)) for begin in range(0, size, max(step, 1))]
        for size, step in zip(shape, steps, strict=True)
    ]
    return itertools.product(*cuts)


def _by_label(node: h5py.Dataset, scale: Scale) -> Array:
    """All rows of the gauges' flags, with a column for each gauge of the merged file."""
    place = {label: position for position, label in enumerate(scale.labels)}
    flags = np.zeros((node.shape[0], scale.size), node.dtype)
    flags[:, [place[label] for label in labels(node, 1)]] = node[()]
    return flags
