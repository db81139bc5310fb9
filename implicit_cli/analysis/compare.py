"""Two result files against each other: the same question? the same answer, within what both files say of their errors?

Inputs are compared first, for bounds speak of the distance to the exact solution of one problem: with other data or parameters
there is another one. Versions, devices and settings may differ; that is told and not judged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from implicit_cli.analysis.judge import EXACT, Key, Quantity, QuantityComparison, Verdict, judge
from implicit_cli.errors import InputError, listing, nearest


class Result(Protocol):
    """A result file, read as it is asked for: nothing large is held.

    `about` and `settings` are texts by name, `single` is True where it was computed in float32. `facts` are texts about one case,
    its status among them; `read` gives one quantity, for data of any case; `wrt` says what it is with respect to, without reading.
    """

    @property
    def path(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def about(self) -> Mapping[str, str]: ...
    @property
    def settings(self) -> Mapping[str, str]: ...
    @property
    def single(self) -> bool: ...
    @property
    def cases(self) -> Sequence[str]: ...
    @property
    def keys(self) -> Sequence[Key]: ...
    def facts(self, case: str) -> Mapping[str, str]: ...
    def wrt(self, key: Key) -> str: ...
    def read(self, key: Key, case: str) -> Quantity: ...


@dataclass(frozen=True)
class Told:
    """Something that differs and is told, not judged."""

    what: str
    a: str
    b: str


@dataclass(frozen=True)
class CaseComparison:
    """A case of A against one of B: what differs about it, and its parameters, solution, outputs and products."""

    a: str
    b: str
    status_a: str
    status_b: str
    told: tuple[Told, ...]
    quantities: tuple[QuantityComparison, ...]

    @property
    def verdict(self) -> str:
        """As `Comparison.verdict`, of this case alone."""
        return _verdict(self.quantities)


@dataclass(frozen=True)
class Comparison:
    """Two result files. `only_a` and `only_b` are the cases that the other has not; `data` and the cases' quantities are judged."""

    a: str
    b: str
    problem_a: str
    problem_b: str
    told: tuple[Told, ...]
    data: tuple[QuantityComparison, ...]
    cases: tuple[CaseComparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def disagreeing(self) -> tuple[QuantityComparison, ...]:
        """What the files say different things of."""
        return _disagreeing(self._all)

    @property
    def undecided(self) -> tuple[QuantityComparison, ...]:
        """Solutions and products that differ and have no bound to judge them by. Outputs have none of their own and may stay so."""
        return _undecided(self._all)

    @property
    def verdict(self) -> str:
        """`differ` where something disagrees, `undecided` where something cannot be judged or nothing was, else `agree`."""
        return _verdict(self._all)

    @property
    def exit_code(self) -> int:
        """0: they agree; 1: they do not; 2: nobody can tell."""
        return {"agree": 0, "differ": 1, "undecided": 2}[self.verdict]

    @property
    def _all(self) -> tuple[QuantityComparison, ...]:
        return (*self.data, *(quantity for case in self.cases for quantity in case.quantities))

    def asdict(self) -> dict[str, Any]:
        """The same as JSON values, the verdict first: NaN becomes null, infinities the strings "inf" and "-inf"."""
        return {"verdict": self.verdict, **_plain(self)}


def _disagreeing(quantities: Sequence[QuantityComparison]) -> tuple[QuantityComparison, ...]:
    return tuple(quantity for quantity in quantities if quantity.verdict.disagrees)


def _undecided(quantities: Sequence[QuantityComparison]) -> tuple[QuantityComparison, ...]:
    return tuple(quantity for quantity in quantities if quantity.verdict is Verdict.NO_BOUND and quantity.kind != "output")


def _verdict(quantities: Sequence[QuantityComparison]) -> str:
    if _disagreeing(quantities):
        return "differ"
    judged = any(quantity.verdict is Verdict.AGREE and quantity.kind not in EXACT for quantity in quantities)
    return "agree" if judged and not _undecided(quantities) else "undecided"


def compare(a: Result, b: Result, *, case: str | None = None, rtol: float | None = None, top: int = 5) -> Comparison:
    """Compare the cases that both files have, by id; where each has exactly one, they are a pair whatever their ids.

    `case` picks one; a file with a single case may call it otherwise. `rtol` and `top` are those of `judge`. Raises InputError
    where there is no case or no quantity in common, and for an `rtol` that is none.
    """
    if rtol is not None and not rtol >= 0:
        raise InputError(f"--rtol: found {rtol:g}, allowed: a number from 0")
    pairs = _pairs(a, b, case)
    single = a.single or b.single
    keys = [*a.keys, *(key for key in b.keys if key not in a.keys)]
    if not any(key[0] not in EXACT and key in a.keys and key in b.keys for key in keys):
        raise InputError(f"{a.path} ({a.problem}) and {b.path} ({b.problem}): no solution, output or product in common")

    def judged(key: Key, first: str, second: str) -> QuantityComparison:
        if key in a.keys and key in b.keys:
            return judge(key, a.read(key, first), b.read(key, second), rtol=rtol, top=top, single=single)
        there, verdict = (a, Verdict.ONLY_A) if key in a.keys else (b, Verdict.ONLY_B)
        kind, name, of, *_ = key
        return QuantityComparison(kind, name, of, there.wrt(key), verdict)

    return Comparison(
        a=a.path,
        b=b.path,
        problem_a=a.problem,
        problem_b=b.problem,
        told=(*_told(a.about, b.about), *_told(a.settings, b.settings)),
        data=tuple(judged(key, *pairs[0]) for key in keys if key[0] == "data"),
        cases=tuple(
            CaseComparison(
                first,
                second,
                a.facts(first)["status"],
                b.facts(second)["status"],
                _told(a.facts(first), b.facts(second)),
                tuple(judged(key, first, second) for key in keys if key[0] != "data"),
            )
            for first, second in pairs
        ),
        only_a=tuple(name for name in a.cases if name not in {first for first, _ in pairs}) if case is None else (),
        only_b=tuple(name for name in b.cases if name not in {second for _, second in pairs}) if case is None else (),
    )


def _pairs(a: Result, b: Result, case: str | None) -> list[tuple[str, str]]:
    if case is None and len(a.cases) == len(b.cases) == 1:
        return [(a.cases[0], b.cases[0])]
    if case is not None:
        return [(_picked(a, b, case), _picked(b, a, case))]
    there = set(b.cases)
    pairs = [(name, name) for name in a.cases if name in there]
    if not pairs:
        raise InputError(f"{a.path} and {b.path}: no case in common: {listing(a.cases[:12])} | {listing(b.cases[:12])}")
    return pairs


def _picked(result: Result, other: Result, case: str) -> str:
    """The case of that id, or the only one where the other file has that id."""
    if case not in result.cases and not (len(result.cases) == 1 and case in other.cases):
        raise InputError(f"{result.path}: no case '{case}', allowed: {listing(result.cases[:12])}{nearest(case, result.cases)}")
    return case if case in result.cases else result.cases[0]


def _told(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[Told, ...]:
    """What is not the same in both, in the order of A, then of B."""
    names = dict.fromkeys((*a, *b))
    return tuple(Told(name, a.get(name, ""), b.get(name, "")) for name in names if a.get(name) != b.get(name))


def _plain(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None if math.isnan(value) else "inf" if value > 0 else "-inf"
        case tuple():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value
