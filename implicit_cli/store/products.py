"""Requested derivatives as `implicit show` prints them: norms, bounds, and the largest entries under their labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import h5py
import numpy as np

from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.result import Array, Variable
from implicit_cli.store import layout
from implicit_cli.store.nodes import labels, longest, members, norm, outcome, texts
from implicit_cli.store.summary import EntrySummary, ProductSummary

Key = tuple[str, str, str, str, str]


SIZE, BOUND, NAME = "size", "bound", "name"
SORTS = (SIZE, BOUND, NAME)
"""Orders of a product's numbers: the largest first, the least sure first, or as they are stored."""
_LAMBDA = re.compile(r"\w+\((?P<name>.*)\)")


@dataclass(frozen=True)
class Wanted:
    """Which numbers of products are told: `entries` of each, all where it is None, those first that `sort` says; `of` and `wrt` are
    quantities and parameters, whole or one entry, as tables call them.
    """

    entries: int | None = 10
    of: tuple[str, ...] = ()
    wrt: tuple[str, ...] = ()
    sort: str = SIZE

    def has(self, entry: EntrySummary, product: str) -> bool:
        """Whether this entry of the product, called so where it is a direction, is among them."""
        of = not self.of or bool({entry.of, entry.of.partition("[")[0]} & set(self.of))
        parts = [_LAMBDA.sub(r"\g<name>", part) for part in entry.wrt.split(layout.BOTH)] if entry.wrt else [product]
        names = {name for part in parts for name in (part, part.partition("[")[0])}
        return of and (not self.wrt or bool((names | {entry.wrt}) & set(self.wrt)))


WANTED = Wanted()


def read_products(file: h5py.File, wanted: Wanted) -> list[list[ProductSummary]]:
    """Every product in the file that has a wanted number, each as one summary per case.

    Raises InputError for a name that no product has, and for an order that is none.
    """
    if wanted.sort not in SORTS:
        raise InputError(f"--sort: found '{wanted.sort}', allowed: {listing(SORTS)}{nearest(wanted.sort, SORTS)}")
    found = [_summaries(file, key, wanted) for key in _keys(file)]
    if not (wanted.of or wanted.wrt):
        return found
    kept = [rows for rows in found if any(row.entries for row in rows)]
    if not kept:
        products = [row for rows in found for row in rows[:1]]
        asked, known = ("--of", [row.of or row.name for row in products]) if wanted.of else ("--wrt", [row.wrt for row in products])
        raise InputError(
            f"{asked}: found nothing of {listing(wanted.of or wanted.wrt)}, allowed: {listing(dict.fromkeys(filter(None, known)))}"
        )
    return kept


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


def _summaries(file: h5py.File, key: Key, wanted: Wanted) -> list[ProductSummary]:
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
        each = np.repeat(columns, flat.size // columns.size) if many else np.resize(columns, flat.size)
        told, more = _told(frame, name, flat, each, np.shape(value), wanted)
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
                entries=told,
                more=more,
            )
        )
    return rows


def _told(
    frame: _Frame, name: str, values: Array, bounds: Array, shape: tuple[int, ...], wanted: Wanted
) -> tuple[tuple[EntrySummary, ...], int]:
    """The finite entries that are wanted, in their order, as many as are, and how many more there are."""
    chosen = bool(wanted.of or wanted.wrt)
    most = values.size if wanted.entries is None or chosen else wanted.entries
    if wanted.sort == SIZE:
        positions = largest(values, most)
    else:
        there = np.flatnonzero(np.isfinite(values))
        size = np.where(np.isfinite(bounds), bounds, np.inf)[there]  # no bound at all is the least sure
        positions = (there[np.argsort(-size, kind="stable")] if wanted.sort == BOUND else there)[:most].tolist()
    made = (frame.entry(_place(position, shape), float(values[position]), float(bounds[position])) for position in positions)
    if not chosen:
        return tuple(made), int(np.isfinite(values).sum()) - len(positions)
    fitting = [entry for entry in made if wanted.has(entry, name)]
    told = fitting[: wanted.entries]
    return tuple(told), len(fitting) - len(told)


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
