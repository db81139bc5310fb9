"""Requested derivatives as `implicit show` prints them: norms, bounds, and the largest entries under their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import h5py
import numpy as np

from implicit_cli.result import Array, Variable
from implicit_cli.store import layout
from implicit_cli.store.nodes import labels, longest, members, norm, outcome, texts
from implicit_cli.store.summary import EntrySummary, ProductSummary

Key = tuple[str, str, str, str, str]


def read_products(file: h5py.File, entries: int) -> list[list[ProductSummary]]:
    """Every product in the file, each as one summary per case with its `entries` largest numbers."""
    return [_summaries(file, key, entries) for key in _keys(file)]


def _keys(file: h5py.File) -> Iterator[Key]:
    """Kind, name, of, wrt and wrt2 of every product in the file."""
    for kind, group in layout.VALUES.items():
        for outer, inner in members(file, group):
            for name, node in members(inner):
                if kind == "hessian":
                    yield from ((kind, "", outer, name, last) for last, _ in members(node))
                elif isinstance(node, h5py.Dataset):
                    along = (outer, name, "", "")
                    places = {"jacobian": ("", outer, name, ""), **dict.fromkeys(layout.ALONG, along), "vjp": (outer, "", name, "")}
                    yield kind, *places[kind]


@dataclass(frozen=True)
class _Frame:
    """How the entries of a product are called: labels per axis, those of the quantity first, then those of each parameter."""

    of: str
    parameters: list[tuple[Variable, int]]
    """Each with how many axes it has."""
    labels: list[list[str]]
    along: str = ""
    """Name of the direction where there are many under it: their axis is the first."""

    @property
    def many(self) -> bool:
        return bool(self.along)

    @property
    def wrt(self) -> str:
        return layout.BOTH.join(layout.wrt_label(parameter) for parameter, _ in self.parameters)

    def entry(self, place: tuple[int, ...], value: float, bound: float) -> EntrySummary:
        names = iter([names[index] for names, index in zip(self.labels, place, strict=True)])
        own = len(self.labels) - sum(axes for _, axes in self.parameters)
        if self.many and not self.parameters:
            along = f"{self.along}{_bracketed([next(names)])}"
            return EntrySummary(f"{self.of}{_bracketed(list(names))}", along, value, bound)
        of = f"{self.of}{_bracketed(list(islice(names, own)))}"
        wrt = [layout.wrt_label(parameter, _bracketed(list(islice(names, axes)))) for parameter, axes in self.parameters]
        return EntrySummary(of, layout.BOTH.join(wrt), value, bound)


def _bracketed(names: list[str]) -> str:
    return f"[{', '.join(names)}]" if names else ""


def _frame(file: h5py.File, key: Key) -> _Frame:
    _, name, of, *wrt = key
    node = file[layout.value_path(*key)]
    axes = [labels(node, axis) for axis in range(1, node.ndim)]
    parameters = []
    for parameter in filter(None, wrt):
        source = file[f"{layout.PARAMETERS}/{layout.component(parameter)}"]
        parameters.append((Variable(parameter, (), transform=source.attrs["transform"]), source.ndim - 1))
    many = name and file[layout.bound_path(*key)]["bound"].ndim > 1
    return _Frame(of or name, parameters, axes, name if many else "")


def _summaries(file: h5py.File, key: Key, entries: int) -> list[ProductSummary]:
    kind, name, of, *_ = key
    frame = _frame(file, key)
    node, bounds, codes = file[layout.value_path(*key)], file[layout.bound_path(*key)], file[layout.status_path(*key)]
    many = frame.many
    rows = []
    for value, bound, bound_kind, code in zip(node[()], bounds["bound"][()], texts(bounds["kind"]), codes[()], strict=True):
        # One row per component of y, one column per bound: a jvp or a vjp is a single column.
        matrix = np.asarray(value, float).reshape(np.size(value) // max(np.size(bound), 1), np.size(bound))
        if many:
            # ... or a column for each of many directions, whose axis comes first
            matrix = np.asarray(value, float).reshape(np.size(bound), -1).T
        finite = np.isfinite(matrix)
        shown = finite.any(axis=0)
        columns = np.ravel(bound)
        worst = float(columns[shown].max()) if shown.any() else np.nan
        length = longest(np.where(finite, matrix, 0.0))
        flat = np.ravel(value)
        chosen = largest(flat, entries)
        each = np.repeat(columns, flat.size // columns.size) if many else np.resize(columns, flat.size)
        status = outcome(codes, code)
        rows.append(
            ProductSummary(
                kind=kind,
                name=name,
                of=of,
                wrt=frame.wrt,
                unit=node.attrs["units"],
                shape=node.shape[1:],
                value=float(matrix[0, 0]) if matrix.size == 1 else None,
                norm=norm(matrix[finite]) if finite.any() or not matrix.size else np.nan,
                count=matrix.size,
                undetermined=int(matrix.size - finite.sum()),
                bound=worst,
                relative=worst / length if length else (0.0 if worst == 0 else np.nan),
                bound_kind=bound_kind,
                status=status.label,
                good=status.good,
                entries=tuple(
                    frame.entry(place, float(flat[position]), float(each[position]))
                    for position, place in ((position, _place(position, np.shape(value))) for position in chosen)
                ),
                more=int(finite.sum()) - len(chosen),
            )
        )
    return rows


def _place(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(position, shape)) if shape else ()


def largest(values: Array, count: int) -> list[int]:
    """Positions of the finite values that are largest in absolute value, largest first; the first of equals comes first."""
    size = np.where(np.isfinite(values), np.abs(values), -1.0)
    count = min(count, int((size >= 0).sum()))
    if not count:
        return []
    least = np.partition(size, -count)[-count]
    places = np.flatnonzero(size >= least)
    return [int(place) for place in places[np.argsort(-size[places], kind="stable")][:count]]
