"""One quantity in two files: is the difference within what both files say that they can be wrong by?

Each file bounds the error of a column c of its values in the 2-norm: |a_c - t_c| <= alpha_c and |b_c - t_c| <= beta_c for the same
exact t. Then

    |a_c - b_c| <= alpha_c + beta_c

(triangle inequality), so that a larger difference proves that one of the bounds does not hold, or that t is not the same. The norm
runs over the entries that are finite in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from implicit_cli.result import Array

Key = tuple[str, str, str, str, str]
"""Kind, name, of, wrt and wrt2 (`result.Product`); also kinds that are no derivative: data, parameter, solution, output."""

EXACT = ("data", "parameter")
"""Kinds that are given and not computed: they have no error."""

FloatArray = NDArray[np.float64]


class Quantity(Protocol):
    """A quantity of one case in one file, as a matrix with one column for each bound.

    value      (rows, columns)
    bound      (columns,), in the 2-norm; NaN where there is none
    estimate   True where a bound is an estimate
    left_out   (rows,) True for what is not determined, and so not compared
    gauges     symmetries along which the value is open
    direction  parts of a direction or cotangent; `wrt` and `unit` say what else the numbers mean
    label      what an entry is called: the components of the quantity and of the parameter
    """

    @property
    def value(self) -> Array: ...
    @property
    def bound(self) -> Array: ...
    @property
    def estimate(self) -> bool: ...
    @property
    def status(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def unit(self) -> str: ...
    @property
    def wrt(self) -> str: ...
    @property
    def left_out(self) -> Array: ...
    @property
    def gauges(self) -> tuple[str, ...]: ...
    @property
    def direction(self) -> Mapping[str, Array]: ...
    def label(self, row: int, column: int) -> tuple[str, str]: ...


class Verdict(StrEnum):
    """What can be said of one quantity."""

    AGREE = "agree"
    DIFFER = "differ"
    NO_BOUND = "no bound"
    GAUGE = "gauge"
    ONLY_A = "only in A"
    ONLY_B = "only in B"
    SHAPE = "shape differs"
    NAN = "NaN pattern differs"
    MEANING = "meaning differs"

    @property
    def disagrees(self) -> bool:
        """True where the files say different things."""
        return self in (Verdict.DIFFER, Verdict.SHAPE, Verdict.NAN, Verdict.MEANING)


@dataclass(frozen=True)
class Entry:
    """One entry that disagrees; `allowed` bounds the difference of its whole column."""

    of: str
    wrt: str
    a: float
    b: float
    difference: float
    allowed: float


@dataclass(frozen=True)
class QuantityComparison:
    """A quantity of A against that of B.

    `difference` and `allowed` are |a - b| and the sum of both bounds in the column that is worst against its bounds, `relative` is
    |a - b| over the larger of |a| and |b|, all columns together. `bound_kind` is "bound", "estimate" (one of the two at least),
    "exact" for what has no error, or "none". `entries` are those that disagree, largest difference first.
    """

    kind: str
    name: str
    of: str
    wrt: str
    verdict: Verdict
    unit: str = "1"
    shape: tuple[int, ...] = ()
    difference: float = np.nan
    allowed: float = np.nan
    relative: float = np.nan
    bound_kind: str = "none"
    status_a: str = ""
    status_b: str = ""
    note: str = ""
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class _Columns:
    """What the columns of a quantity look like against each other.

    `both` and `pattern` (rows, columns) are the entries that are compared, and those that are a number in one file only or
    infinities of another sign; `open` are the columns that differ and have no bound, `by_rtol` those that `rtol` has judged.
    """

    left: FloatArray
    right: FloatArray
    both: NDArray[np.bool_]
    pattern: NDArray[np.bool_]
    difference: FloatArray
    length: FloatArray
    allowed: FloatArray
    differ: NDArray[np.bool_]
    open: NDArray[np.bool_]
    by_rtol: NDArray[np.bool_]


def judge(
    key: Key, a: Quantity, b: Quantity, *, rtol: float | None = None, top: int = 5, single: bool = False
) -> QuantityComparison:
    """The verdict on one quantity.

    Without a bound it is `no bound`, unless both are the same or `rtol` is given: then they agree if |a - b| <= rtol max(|a|, |b|).
    What is given exactly (`EXACT`) must be the same, up to `rtol` where there is one; `single` compares it as rounded to float32.
    """
    kind, name, of, *_ = key
    found: dict[str, Any] = {"kind": kind, "name": name, "of": of, "wrt": a.wrt, "unit": a.unit, "shape": a.shape}
    found |= {"status_a": a.status, "status_b": b.status}
    if other := _other_meaning(a, b):
        return QuantityComparison(**found, verdict=Verdict.MEANING, note=other)
    if a.shape != b.shape or a.value.shape != b.value.shape:
        return QuantityComparison(**found, verdict=Verdict.SHAPE, note=f"shape {_shape(a.shape)} | {_shape(b.shape)}")
    exact = kind in EXACT
    columns = _columns(a, b, exact=exact, rtol=rtol, single=exact and single)
    found |= _numbers(columns)
    bounded = bool(np.isfinite(columns.allowed).any())
    found["bound_kind"] = "exact" if exact else "none" if not bounded else "estimate" if a.estimate or b.estimate else "bound"
    gauges = tuple(dict.fromkeys((*a.gauges, *b.gauges)))
    notes, verdict = [], Verdict.AGREE
    if columns.open.any():
        verdict = Verdict.NO_BOUND
        notes += [f"{columns.open.sum()} of {columns.open.size} columns without a bound"] * bool(columns.open.size > 1 and bounded)
    if columns.differ.any():
        verdict = Verdict.GAUGE if gauges else Verdict.DIFFER
        notes += [f"{columns.differ.sum()} of {columns.differ.size} columns differ"] * bool(columns.differ.size > 1)
        notes += [f"{', '.join(gauges)}: solutions may differ along it, not judged"] * bool(gauges)
    if columns.by_rtol.any():
        notes.append(f"judged by rtol {rtol:g}")
    if columns.pattern.any():
        verdict = Verdict.NAN
        notes.insert(0, f"{columns.pattern.sum()} of {columns.pattern.size} entries are a number in one file only")
    if exact and single and verdict is Verdict.AGREE and not np.array_equal(a.value, b.value, equal_nan=True):
        notes.append("the same in float32")
    entries = _entries(a, columns, top) if verdict.disagrees else ()
    return QuantityComparison(**found, verdict=verdict, note="; ".join(notes), entries=entries)


def _other_meaning(a: Quantity, b: Quantity) -> str:
    """Why the numbers are not those of the same quantity; empty where they are."""
    for word, first, second in (("unit", a.unit, b.unit), ("with respect to", a.wrt, b.wrt)):
        if first != second:
            return f"{word} {first} | {second}"
    names = [*a.direction, *(name for name in b.direction if name not in a.direction)]
    for name in names:
        if name not in a.direction or name not in b.direction or not np.array_equal(a.direction[name], b.direction[name]):
            return f"its direction in {name} differs"
    return ""


def _columns(a: Quantity, b: Quantity, *, exact: bool, rtol: float | None, single: bool) -> _Columns:
    left, right = (np.asarray(quantity.value, float) for quantity in (a, b))
    if single:
        left, right = (value.astype(np.float32).astype(float) for value in (left, right))
    kept = ~(np.asarray(a.left_out, bool) | np.asarray(b.left_out, bool))[:, np.newaxis]
    both = np.isfinite(left) & np.isfinite(right)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    pattern = kept & ~both & ~same
    both &= kept
    with np.errstate(over="ignore"):
        difference = np.subtract(left, right, out=np.zeros(left.shape), where=both)
    length = norms(difference)
    allowed = np.asarray(a.bound, float) + np.asarray(b.bound, float)
    if exact:
        allowed = np.full_like(length, np.nan if rtol is not None else 0.0)
    bounded = np.isfinite(allowed)
    differ = bounded & (length > allowed)
    still = ~bounded & (length > 0)
    by_rtol = still & (rtol is not None)
    if rtol is not None and still.any():
        size = max(norm(np.where(both, value, 0.0)[:, still]) for value in (left, right))
        if norm(difference[:, still]) > rtol * size:
            differ |= still
    return _Columns(left, right, both, pattern, difference, length, allowed, differ, still & ~by_rtol, by_rtol)


def _numbers(columns: _Columns) -> dict[str, float]:
    """`difference` and `allowed` of the worst column, and `relative` of all."""
    size = max(norm(np.where(columns.both, value, 0.0)) for value in (columns.left, columns.right))
    total = norm(columns.difference)
    relative = total / size if size else 0.0
    if not columns.length.size:
        return {"difference": 0.0, "allowed": 0.0, "relative": 0.0}
    # a column without a bound is worse than any other as soon as it differs
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(columns.length > 0, columns.length / columns.allowed, 0.0)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    worst = int(np.lexsort((columns.length, ratio))[-1])
    return {"difference": float(columns.length[worst]), "allowed": float(columns.allowed[worst]), "relative": relative}


def _entries(a: Quantity, columns: _Columns, top: int) -> tuple[Entry, ...]:
    """The entries that disagree: those that are a number in one file only, then the largest differences in columns that differ."""
    size = np.where(columns.differ, np.abs(columns.difference), 0.0)
    places = [*np.flatnonzero(columns.pattern)[:top].tolist(), *_largest(size.ravel(), top)]
    found = []
    for place in places[:top]:
        row, column = divmod(place, size.shape[1])
        left, right = float(columns.left[row, column]), float(columns.right[row, column])
        difference = abs(float(columns.difference[row, column])) if columns.both[row, column] else np.nan
        found.append(Entry(*a.label(row, column), left, right, difference, float(columns.allowed[column])))
    return tuple(found)


def _largest(size: FloatArray, count: int) -> list[int]:
    """Positions of the largest positive sizes, largest first; the first of equals comes first."""
    count = min(count, int((size > 0).sum()))
    if not count:
        return []
    places = np.flatnonzero(size >= np.partition(size, -count)[-count])
    return [int(place) for place in places[np.argsort(-size[places], kind="stable")][:count]]


def norm(values: Array) -> float:
    """2-norm of all entries without overflow; 0 for nothing."""
    return float(norms(np.reshape(values, (-1, 1)))[0])


def norms(matrix: Array) -> FloatArray:
    """2-norms of the columns without overflow."""
    largest = np.abs(matrix).max(axis=0, initial=0.0)
    # an infinite difference (an overflow) stays infinite, and zero stays zero
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    with np.errstate(over="ignore"):
        return np.asarray(scale * np.sqrt(np.square(matrix / scale).sum(axis=0)))


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "scalar"
