"""Requested derivatives as `implicit show` prints them: norms, bounds, and the largest entries under their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import h5py
import numpy as np

from implicit_cli.result import Array, Variable
from implicit_cli.store import layout
from implicit_cli.store.nodes import labels, longest, members, norm, outcome, texts
from implicit_cli.store.summary import EntrySummary, ProductSummary

Key = tuple[str, str, str, str]


def read_products(file: h5py.File, entries: int) -> list[list[ProductSummary]]:
    """Every product in the file, each as one summary per case with its `entries` largest numbers."""
    return [_summaries(file, key, entries) for key in _keys(file)]


def _keys(file: h5py.File) -> Iterator[Key]:
    """Kind, name, of and wrt of every product in the file."""
    for kind, group in layout.VALUES.items():
        for outer, inner in members(file, group):
            for name, node in members(inner):
                if isinstance(node, h5py.Dataset):
                    places = {"jacobian": ("", outer, name), "jvp": (outer, name, ""), "vjp": (outer, "", name)}
                    yield kind, *places[kind]


@dataclass(frozen=True)
class _Frame:
    """How the entries of a product are called: labels per axis, of which those from `split` on belong to the parameter."""

    of: str
    parameter: Variable | None
    labels: list[list[str]]
    split: int

    @property
    def wrt(self) -> str:
        return layout.wrt_label(self.parameter) if self.parameter else ""

    def entry(self, place: tuple[int, ...], value: float, bound: float) -> EntrySummary:
        names = [names[index] for names, index in zip(self.labels, place, strict=True)]
        of = f"{self.of}{_bracketed(names[: self.split])}"
        wrt = layout.wrt_label(self.parameter, _bracketed(names[self.split :])) if self.parameter else ""
        return EntrySummary(of, wrt, value, bound)


def _bracketed(names: list[str]) -> str:
    return f"[{', '.join(names)}]" if names else ""


def _frame(file: h5py.File, key: Key) -> _Frame:
    _, name, of, wrt = key
    node = file[layout.value_path(*key)]
    axes = [labels(node, axis) for axis in range(1, node.ndim)]
    if not wrt:
        return _Frame(of, None, axes, len(axes))
    source = file[f"{layout.PARAMETERS}/{layout.component(wrt)}"]
    parameter = Variable(wrt, (), transform=source.attrs["transform"])
    return _Frame(of or name, parameter, axes, len(axes) - (source.ndim - 1))


def _summaries(file: h5py.File, key: Key, entries: int) -> list[ProductSummary]:
    kind, name, of, _ = key
    frame = _frame(file, key)
    node, bounds, codes = file[layout.value_path(*key)], file[layout.bound_path(*key)], file[layout.status_path(*key)]
    rows = []
    for value, bound, bound_kind, code in zip(node[()], bounds["bound"][()], texts(bounds["kind"]), codes[()], strict=True):
        # One row per component of y, one column per bound: a jvp or a vjp is a single column.
        matrix = np.asarray(value, float).reshape(np.size(value) // max(np.size(bound), 1), np.size(bound))
        finite = np.isfinite(matrix)
        shown = finite.any(axis=0)
        columns = np.ravel(bound)
        worst = float(columns[shown].max()) if shown.any() else np.nan
        length = longest(np.where(finite, matrix, 0.0))
        chosen = largest(matrix.ravel(), entries)
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
                    frame.entry(place, float(matrix.flat[position]), float(columns[position % columns.size]))
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
