"""What one target of a sweep runs through: levels or a distribution, frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from implicit_cli.errors import listing, nearest
from implicit_cli.spec.grammar import Fault, _numbers, split_reference, thaw
from implicit_cli.spec.table import split_column
from implicit_cli.spec.words import Keys, found, meant_number

LARGEST_EXPONENT = 300


@dataclass(frozen=True)
class LevelsSpec:
    """Values one after the other. `kind` is `list` (the values), `reference` (one text) or the name of a rule in `LEVELS`."""

    kind: str
    arguments: tuple[Any, ...]

    @property
    def count(self) -> int | None:
        """How many levels there are; None for a reference, of which only the file knows."""
        match self.kind:
            case "reference":
                return None
            case "list":
                return len(self.arguments)
            case "integers":
                return int(self.arguments[1] - self.arguments[0] + 1)
            case "centred":
                return int(2 * self.arguments[1] + 1)
            case _:
                return int(self.arguments[2])


@dataclass(frozen=True)
class DistributionSpec:
    """A distribution of `DISTRIBUTIONS`; each argument is a number or nested tuples, entry by entry of the target."""

    kind: str
    arguments: tuple[Any, ...]


AxisSpec = LevelsSpec | DistributionSpec


@dataclass(frozen=True)
class Rule:
    """What a kind of axis is given, what it means, and what must hold: `check` takes numbers and says what is wrong with them.

    `whole` are the arguments that are integers; of the others, each may be a nested list. `least` arguments are needed.
    """

    arguments: tuple[str, ...]
    meaning: str
    check: Callable[..., str] = lambda *_: ""
    whole: tuple[str, ...] = ()
    least: int = 0

    @property
    def needed(self) -> int:
        """Fewest arguments."""
        return self.least or len(self.arguments)


def _ordered(low: float, high: float) -> str:
    return "" if low < high else f"found LOW {found(low)} and HIGH {found(high)}, allowed: LOW below HIGH"


def _ordered_positive(low: float, high: float) -> str:
    return _ordered(low, high) if low > 0 else f"found LOW {found(low)}, allowed: above 0"


def _deviation(mean: float, deviation: float = 1.0) -> str:
    return "" if deviation > 0 else f"found DEVIATION {found(deviation)}, allowed: above 0"


def _truncated(mean: float, deviation: float, low: float, high: float) -> str:
    return _deviation(mean, deviation) or _ordered(low, high)


def _one_sign(first: float, last: float) -> str:
    same = (first > 0 and last > 0) or (first < 0 and last < 0)
    return "" if same else f"found FIRST {found(first)} and LAST {found(last)}, allowed: both above 0, or both below"


def _exponents(*exponents: float) -> str:
    wrong = next((exponent for exponent in exponents if abs(exponent) > LARGEST_EXPONENT), None)
    hint = "; did you mean 'geomspace', which takes the first and the last level themselves?"
    return "" if wrong is None else f"found the exponent {found(wrong)}, allowed: -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}{hint}"


def _ascending(first: int, last: int) -> str:
    return "" if first <= last else f"found FIRST {first} and LAST {last}, allowed: FIRST at most LAST"


def _moving(step: float) -> str:
    return "" if step != 0 else "found STEP 0, allowed: another number"


LEVELS: Mapping[str, Rule] = MappingProxyType(
    {
        "linspace": Rule(("FIRST", "LAST", "COUNT"), "COUNT levels from FIRST to LAST, evenly spaced", whole=("COUNT",)),
        "geomspace": Rule(
            ("FIRST", "LAST", "COUNT"),
            "COUNT levels from FIRST to LAST, each the same multiple of the one before",
            _one_sign,
            ("COUNT",),
        ),
        "logspace": Rule(
            ("FIRST_EXPONENT", "LAST_EXPONENT", "COUNT"),
            "COUNT powers of 10, their exponents evenly spaced",
            _exponents,
            ("COUNT",),
        ),
        "integers": Rule(("FIRST", "LAST"), "the integers from FIRST to LAST, both of them too", _ascending, ("FIRST", "LAST")),
        "centred": Rule(
            ("STEP", "COUNT"), "the spec's own value, and COUNT steps of STEP to either side of it", _moving, ("COUNT",)
        ),
    }
)
"""Rules that make levels, by name."""

DISTRIBUTIONS: Mapping[str, Rule] = MappingProxyType(
    {
        "uniform": Rule(("LOW", "HIGH"), "uniform between LOW and HIGH", _ordered),
        "loguniform": Rule(("LOW", "HIGH"), "the logarithm is uniform between those of LOW and HIGH", _ordered_positive),
        "normal": Rule(
            ("MEAN", "DEVIATION"),
            "normal, with its mean and standard deviation; with `sweep.covariance` MEAN alone",
            _deviation,
            least=1,
        ),
        "truncated_normal": Rule(
            ("MEAN", "DEVIATION", "LOW", "HIGH"), "a normal distribution, given that it lies between LOW and HIGH", _truncated
        ),
    }
)
"""Distributions, by name."""

KINDS: Mapping[str, Rule] = MappingProxyType({**LEVELS, **DISTRIBUTIONS})
_ALLOWED = f"a list of values, 'file.h5:/path', 'file.csv:column', or {{KIND: [...]}} with one of {listing(KINDS)}"


def thaw_axis(axis: AxisSpec) -> Any:
    """An axis as a spec writes it."""
    match axis.kind:
        case "list":
            return thaw(axis.arguments)
        case "reference":
            return axis.arguments[0]
        case kind:
            return {kind: thaw(axis.arguments)}


def axis(given: Any, keys: Keys, faults: list[Fault]) -> AxisSpec | None:
    """One axis, frozen, or None where it has a fault; faults are added to `faults`, with `keys` in front."""
    if isinstance(given, LevelsSpec | DistributionSpec):
        given = thaw_axis(given)
    if isinstance(given, str):
        if split_column(given) is None and split_reference(given) is None:
            number = meant_number(given)
            faults.append((keys, f"found {found(given)}, allowed: {_ALLOWED}{number and f'{number[:-1]}, in a list?'}"))
            return None
        return LevelsSpec("reference", (given,))
    if isinstance(given, (list, tuple)) and given:
        return LevelsSpec("list", _numbers(given, keys, faults))
    if isinstance(given, Mapping) and len(given) == 1:
        kind, arguments = next(iter(given.items()))
        if kind not in KINDS:
            faults.append(((*keys, kind), f"unknown key, allowed: {listing(KINDS)}{nearest(str(kind), KINDS)}"))
            return None
        frozen = _arguments(KINDS[kind], arguments, (*keys, kind), faults)
        if frozen is None:
            return None
        return LevelsSpec(kind, frozen) if kind in LEVELS else DistributionSpec(kind, frozen)
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    what = f"a mapping with {len(given)} keys" if isinstance(given, Mapping) and given else found(given)
    faults.append((keys, f"found {what}, allowed: {_ALLOWED}" + (f"; did you mean [{given}]?" if is_number else "")))
    return None


def _arguments(rule: Rule, given: Any, keys: Keys, faults: list[Fault]) -> tuple[Any, ...] | None:
    """The arguments of a rule, frozen; None where there is a fault, of which the first one is told."""
    allowed = f"[{', '.join(rule.arguments)}]"
    if not isinstance(given, (list, tuple)) or not rule.needed <= len(given) <= len(rule.arguments):
        faults.append((keys, f"found {found(given)}, allowed: {allowed}"))
        return None
    before = len(faults)
    frozen = tuple(
        _argument(rule, name, part, (*keys, position), faults)
        for position, (name, part) in enumerate(zip(rule.arguments, given, strict=False))
    )
    # COUNT has been looked at, and has nothing to do with the others.
    parts = [part for name, part in zip(rule.arguments, frozen, strict=False) if name != "COUNT"]
    if len(faults) == before:
        for index, numbers in _entries(parts, keys, faults):
            if text := rule.check(*numbers):
                where = f" at [{', '.join(map(str, index))}]" if index else ""
                faults.append((keys, text.replace(", allowed:", f"{where}, allowed:", 1)))
                break
    return frozen if len(faults) == before else None


def _argument(rule: Rule, name: str, given: Any, keys: Keys, faults: list[Fault]) -> Any:
    if name in rule.whole:
        least = 1 if name == "COUNT" else None
        if isinstance(given, bool) or not isinstance(given, int) or (least is not None and given < least):
            faults.append((keys, f"found {found(given)}, allowed: {name}, an integer" + (", at least 1" if least else "")))
        return given
    if isinstance(given, (list, tuple)) and given:
        return _numbers(given, keys, faults)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        faults.append((keys, f"found {found(given)}, allowed: {name}, a number or a list of numbers{meant_number(given)}"))
    return given


def _entries(
    parts: list[Any], keys: Keys, faults: list[Fault], index: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Index and numbers of each entry; a number stands for all entries of a list beside it. Stops at the first fault."""
    lengths = [len(part) for part in parts if isinstance(part, tuple)]
    if not lengths:
        wrong = next((number for number in parts if not math.isfinite(number)), None)
        if wrong is None:
            yield index, tuple(parts)
        else:
            faults.append((keys, f"found {found(wrong)}, allowed: finite numbers"))
        return
    if len(set(lengths)) > 1:
        faults.append(
            (keys, f"found lists of {lengths[0]} and {next(n for n in lengths if n != lengths[0])}, allowed: equally long ones")
        )
        return
    for position in range(lengths[0]):
        inner = [part[position] if isinstance(part, tuple) else part for part in parts]
        before = len(faults)
        yield from _entries(inner, keys, faults, (*index, position))
        if len(faults) > before:
            return
