"""The arrays of a result file, whole and one at a time, with their bounds and what their entries are called: to compute with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import labels, members, outcome, text, texts
from implicit_cli.store.products import Key, _bracketed, _frame, _keys

GROUPS = {"data": layout.INPUTS, "parameter": layout.PARAMETERS, "output": layout.OUTPUTS}
"""Group of what is no product, by kind; the solution is one quantity, for its bound is one."""

_ELSEWHERE = ("problem", "data", "parameters", "initial", "labels")
"""Keys of the spec that are no settings: the file has them as arrays, or as an attribute."""


@dataclass(frozen=True)
class StoredArray:
    """A quantity of one case as a matrix with one column for each bound.

    `value` is (rows, columns), `bound` (columns,) in the 2-norm and NaN where there is none, `estimate` says of what kind. `shape`
    is that in the file, without the axis of the cases; for the solution the sizes of all unknowns. `left_out` (rows,) is True for
    components without a derivative, which the solution's bound says nothing about; `gauges` are the symmetries along which it is
    open. `direction` are the parts of a direction.
    """

    value: Array
    bound: Array
    shape: tuple[int, ...]
    unit: str
    places: Callable[[int, int], tuple[str, str]]
    estimate: bool = False
    status: str = ""
    wrt: str = ""
    left_out: Array = field(default_factory=lambda: np.zeros(1, bool))
    gauges: tuple[str, ...] = ()
    direction: Mapping[str, Array] = field(default_factory=dict)

    def label(self, row: int, column: int) -> tuple[str, str]:
        """What an entry is called: "w[bmi]" and "log(penalty[s5])"."""
        return self.places(row, column)


class ResultArrays:
    """An open result file; each call reads what it is asked for, and holds nothing."""

    def __init__(self, file: h5py.File, path: str) -> None:
        self._file = file
        attributes = file.attrs
        self.path = path
        self.problem = str(attributes["problem"])
        self.cases: Sequence[str] = texts(file[layout.CASES]["id"])
        provenance = {name: text(node) for name, node in members(file, layout.PROVENANCE) if name != "started"}
        self.about = {"creator": f"{attributes['creator']} {attributes['creator_version']}", **provenance}
        resolved = json.loads(text(file[f"{layout.SPEC}/resolved"]))
        self.settings = _flat({key: value for key, value in resolved.items() if key not in _ELSEWHERE})
        kept = {node.dtype for _, node in members(file, layout.SOLUTION) if node.dtype.kind == "f"}
        self.single = "float32" in (resolved.get("precision"), provenance.get("precision")) or any(dt.itemsize < 8 for dt in kept)
        given = [(kind, name, "", "", "") for kind in ("data", "parameter") for name, _ in members(file, GROUPS[kind])]
        outputs = [("output", name, "", "", "") for name, _ in members(file, layout.OUTPUTS)]
        unknowns = ", ".join(name for name, _ in members(file, layout.SOLUTION))
        self.keys: Sequence[Key] = [*given, ("solution", unknowns, "", "", ""), *outputs, *_keys(file)]

    def facts(self, case: str) -> dict[str, str]:
        """About a case: its status, its message, its method, solver and null space."""
        row, file = self._row(case), self._file
        group, space = file[layout.CASES], file[layout.NULL_SPACE]
        status = outcome(group["status"], group["status"][row])
        solver = file[layout.SOLVER]
        free = [f"{name} ({reason}): {int(mask.sum())}" for reason, name, mask in self._masks(row) if mask.any()]
        return {
            "status": status.label,
            "method": texts(file[layout.METHOD])[row] if layout.METHOD in file else "implicit",
            "solver": texts(solver["name"])[row],
            "null space": f"dimension {int(space['dimension'][row])}",
            "gauges": ", ".join(self._gauges(row)) or "none",
            "undetermined": ", ".join(free) or "none",
        }

    def wrt(self, key: Key) -> str:
        """What a product is with respect to, as tables say it."""
        return _frame(self._file, key).wrt if key[0] in layout.VALUES else ""

    def read(self, key: Key, case: str) -> StoredArray:
        """One quantity of a case; data are the same for all cases."""
        kind, row = key[0], self._row(case)
        if kind == "solution":
            return self._solution(row)
        if kind in layout.VALUES:
            return self._product(key, row)
        node = self._file[f"{GROUPS[kind]}/{layout.component(key[1])}"]
        axes = [labels(node, axis) for axis in range(0 if kind == "data" else 1, node.ndim)]
        value = np.asarray(node[()] if kind == "data" else node[row])
        bound, estimate = self._output_bound(key[1], row) if kind == "output" else (np.full(1, np.nan), False)
        matrix = value.reshape(-1, 1)

        def places(first: int, _: int) -> tuple[str, str]:
            return f"{key[1]}{_named(axes, first, value.shape)}", ""

        wrt = str(node.attrs.get("wrt", key[1])) if kind == "parameter" else ""
        unit = str(node.attrs["units"])
        return StoredArray(matrix, bound, value.shape, unit, places, estimate, wrt=wrt, left_out=np.zeros(len(matrix), bool))

    def _row(self, case: str) -> int:
        return self.cases.index(case)

    def _solution(self, row: int) -> StoredArray:
        """All unknowns in one column, since `radius` is in the 2-norm over all of them."""
        file, nodes = self._file, members(self._file, layout.SOLUTION)
        values = [np.asarray(node[row]) for _, node in nodes]
        starts = [0, *accumulate(value.size for value in values)]
        free = {name: np.zeros(value.shape, bool) for (name, _), value in zip(nodes, values, strict=True)}
        for _, name, mask in self._masks(row):
            if name in free:
                free[name] = free[name] | mask

        def places(first: int, _: int) -> tuple[str, str]:
            which = next(which for which in range(len(nodes)) if first < starts[which + 1])
            (name, node), shape = nodes[which], values[which].shape
            return f"{name}{_named([labels(node, axis) for axis in range(1, node.ndim)], first - starts[which], shape)}", ""

        units = {str(node.attrs["units"]) for _, node in nodes}
        return StoredArray(
            value=_joined(values)[:, np.newaxis],
            bound=np.array([float(file[f"{layout.CERTIFICATE}/radius"][row])]),
            shape=tuple(value.size for value in values),
            unit=units.pop() if len(units) == 1 else "1",
            places=places,
            estimate=texts(file[f"{layout.CERTIFICATE_PROVENANCE}/radius"])[row] not in ("proved", "computed"),
            wrt="",
            left_out=_joined([free[name] for name, _ in nodes]).astype(bool),
            gauges=self._gauges(row),
        )

    def _product(self, key: Key, row: int) -> StoredArray:
        kind, name, *_ = key
        file, frame = self._file, _frame(self._file, key)
        node, bounds, codes = file[layout.value_path(*key)], file[layout.bound_path(*key)], file[layout.status_path(*key)]
        value, bound = np.asarray(node[row], float), np.ravel(bounds["bound"][row]).astype(float)
        # The columns of a jacobian are its last axes, many directions are the first: either way, one bound for each.
        matrix = value.reshape(bound.size, -1).T if frame.many else value.reshape(value.size // max(bound.size, 1), bound.size)

        def places(first: int, second: int) -> tuple[str, str]:
            position = second * len(matrix) + first if frame.many else first * bound.size + second
            entry = frame.entry(_place(position, value.shape), np.nan, np.nan)
            return entry.of, entry.wrt

        return StoredArray(
            value=matrix,
            bound=bound,
            shape=value.shape,
            unit=str(node.attrs["units"]),
            places=places,
            estimate=texts(bounds["kind"])[row] != "bound",
            status=outcome(codes, codes[row]).label,
            wrt=frame.wrt,
            left_out=np.zeros(len(matrix), bool),
            direction={part: np.asarray(found[()]) for part, found in self._direction(kind, name)},
        )

    def _direction(self, kind: str, name: str) -> list[tuple[str, Any]]:
        if kind not in (*layout.ALONG, "vjp"):
            return []
        return members(self._file, f"{layout.VALUES[kind]}/{layout.component(name)}/{layout.DIRECTION}")

    def _output_bound(self, name: str, row: int) -> tuple[Array, bool]:
        """Bound of an output in the 2-norm, NaN where there is none, and whether it is an estimate."""
        found = self._file.get(layout.quantity_bound_path(layout.OUTPUTS, name))
        if found is None:
            return np.full(1, np.nan), False
        return np.array([float(found["bound"][row])]), str(texts(found["kind"])[row]) != "bound"

    def _masks(self, row: int) -> Iterator[tuple[str, str, Array]]:
        """Reason, unknown and mask of the components without a derivative."""
        for reason, unknowns in members(self._file, layout.UNDETERMINED):
            for name, node in members(unknowns):
                yield reason, name, np.asarray(node[row], bool)

    def _gauges(self, row: int) -> tuple[str, ...]:
        node = self._file.get(f"{layout.NULL_SPACE}/gauges")
        return () if node is None else tuple(name for name, flag in zip(labels(node, 1), node[row], strict=True) if flag)


@contextmanager
def opened_arrays(path: Path) -> Iterator[ResultArrays]:
    """A result file, open for reading arrays one by one. Raises InputError and EnvironmentProblem as `read_summary` does."""
    with opened(path) as file:
        yield ResultArrays(file, str(path))


def _flat(value: Any, above: str = "") -> dict[str, str]:
    """Leaves of nested mappings by dotted names, as text."""
    if isinstance(value, dict) and (value or not above):
        return {key: leaf for name, inner in value.items() for key, leaf in _flat(inner, f"{above}{name}.").items()}
    return {above.rstrip("."): value if isinstance(value, str) else json.dumps(value)}


def _joined(values: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(value) for value in values]) if values else np.zeros(0)


def _place(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(position, shape)) if shape else ()


def _named(axes: Sequence[Sequence[str]], position: int, shape: tuple[int, ...]) -> str:
    return _bracketed([names[index] for names, index in zip(axes, _place(position, shape), strict=True)])
