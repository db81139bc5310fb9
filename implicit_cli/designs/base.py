"""What a design is made of, and what it is: a count, and the values of any run of its cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from implicit_cli.errors import InputError, listing, nearest

Array = NDArray[Any]

MAX_BYTES = 4 * 1024**3
"""Largest array that a design keeps, counted as it lies in memory."""


class Design(Protocol):
    """`count` cases, numbered from 0, each with a value for every target in `names`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The targets, in the order written."""

    @property
    def count(self) -> int:
        """How many cases there are; exact, however many."""

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Values (stop - start, *shape) of each target in the cases from `start` to before `stop`.

        Raises ValueError where the design has no such cases.
        """


@dataclass(frozen=True, eq=False)
class Levels:
    """The values (L, *shape), L >= 1, that the target `name` takes one after the other."""

    name: str
    values: Array

    def __post_init__(self) -> None:
        values = np.asarray(self.values).view()
        if not values.ndim or not len(values):
            raise ValueError(f"{self.name}: levels of shape {values.shape}, allowed: (L, *shape) with L >= 1")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class _Law:
    """Names of a distribution's arguments, and what must hold of them, in words and in each entry."""

    arguments: tuple[str, ...]
    allowed: str
    holds: Callable[..., Any]


LAWS: Mapping[str, _Law] = MappingProxyType(
    {
        "uniform": _Law(("LOW", "HIGH"), "LOW below HIGH", lambda low, high: low < high),
        "loguniform": _Law(("LOW", "HIGH"), "LOW above 0 and below HIGH", lambda low, high: (low > 0) & (low < high)),
        "normal": _Law(("MEAN", "DEVIATION"), "DEVIATION above 0", lambda _, deviation=1.0: deviation > 0),
        "truncated_normal": _Law(
            ("MEAN", "DEVIATION", "LOW", "HIGH"),
            "DEVIATION above 0 and LOW below HIGH",
            lambda _, deviation, low, high: (deviation > 0) & (low < high),
        ),
    }
)
"""Distributions, by name; a `normal` has its mean alone where a covariance gives the rest."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """A distribution of each entry of the target `name`, the entries independent of each other.

    `arguments` are those of the `kind` in `LAWS`, arrays of the target's shape. Raises InputError for arguments that fit no such
    distribution.
    """

    name: str
    kind: str
    arguments: tuple[Array, ...]

    def __post_init__(self) -> None:
        if self.kind not in LAWS:
            raise InputError(f"{self.name}: found '{self.kind}', allowed: {listing(LAWS)}{nearest(self.kind, LAWS)}")
        law = LAWS[self.kind]
        counts = (1, 2) if self.kind == "normal" else (len(law.arguments),)
        if len(self.arguments) not in counts:
            raise InputError(f"{self.name}: found {len(self.arguments)} arguments, allowed: [{', '.join(law.arguments)}]")
        arguments = tuple(np.array(argument, dtype=np.float64) for argument in self.arguments)
        if len({argument.shape for argument in arguments}) > 1:
            shapes = ", ".join(str(argument.shape) for argument in arguments)
            raise ValueError(f"{self.name}: arguments of shapes {shapes}, allowed: the target's shape")
        good = np.broadcast_to(law.holds(*arguments), self.shape) & np.all([np.isfinite(part) for part in arguments], axis=0)
        if not good.all():
            first = tuple(int(i) for i in np.argwhere(~good)[0])
            given = ", ".join(f"{word} {part[first]}" for word, part in zip(law.arguments, arguments, strict=False))
            raise InputError(
                f"{self.name}: found {given}{f' at {list(first)}' if first else ''}, allowed: {law.allowed}, all finite"
            )
        object.__setattr__(self, "arguments", arguments)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the target."""
        return np.shape(self.arguments[0])

    @property
    def entries(self) -> int:
        """Number of entries of the target."""
        return math.prod(self.shape)


def filled(argument: Any, shape: tuple[int, ...]) -> Array:
    """A number in every entry of `shape`, or an array that has it. Raises InputError for an array of another shape."""
    array = np.asarray(argument)
    if array.shape not in ((), shape):
        raise InputError(f"found the shape {array.shape}, allowed: one number{f', or the shape {shape}' if shape else ''}")
    return np.broadcast_to(array, shape)


def check_names(axes: Sequence[Levels] | Sequence[Distribution]) -> tuple[str, ...]:
    """Names of the axes; raises ValueError where there is none or one comes twice."""
    names = tuple(axis.name for axis in axes)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"axes {names}, allowed: at least one, each with a name of its own")
    return names


def check_range(start: int, stop: int, count: int) -> None:
    """Raise ValueError unless 0 <= start <= stop <= count."""
    if not 0 <= start <= stop <= count:
        raise ValueError(f"cases {start} to {stop}, allowed: within 0 to {count}")
