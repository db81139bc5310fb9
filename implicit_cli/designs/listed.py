"""Designs of levels: every combination, side by side, or one target at a time. None of them keeps a list of its cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from implicit_cli.designs.base import Array, Design, Levels, check_names, check_range
from implicit_cli.designs.counts import count_of
from implicit_cli.errors import InputError


def grid(axes: Sequence[Levels]) -> Design:
    """Every combination of levels; the target written last varies fastest."""
    check_names(axes)
    return _Grid(tuple(axes))


def zipped(axes: Sequence[Levels]) -> Design:
    """Level i of every target in case i. Raises InputError where one has more levels than another."""
    check_names(axes)
    if len({len(axis.values) for axis in axes}) > 1:
        counts = ", ".join(f"{len(axis.values):,} of '{axis.name}'" for axis in axes)
        raise InputError(f"found {counts}, allowed with design 'zip': as many values of each target")
    return _Zip(tuple(axes))


def one_at_a_time(axes: Sequence[Levels], base: Mapping[str, Array]) -> Design:
    """The case with every target at its value in `base`, then for each target its levels, with the others at their base values.

    A level that equals the base value in every entry would be the first case again and is left out.
    """
    kept: list[tuple[str, Array, Array]] = []
    for axis in axes:
        value = np.asarray(base[axis.name])
        if value.shape != axis.values.shape[1:]:
            raise ValueError(f"{axis.name}: base of shape {value.shape}, levels of shape {axis.values.shape[1:]}")
        equal = (axis.values == value).reshape(len(axis.values), -1).all(axis=1)
        common = np.result_type(axis.values, value)
        kept.append((axis.name, value.astype(common), axis.values[~equal].astype(common)))
    check_names(axes)
    return _OneAtATime(tuple(kept))


@dataclass(frozen=True, eq=False)
class _Grid:
    axes: tuple[Levels, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def count(self) -> int:
        return count_of("grid", lengths=[len(axis.values) for axis in self.axes])

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        check_range(start, stop, self.count)
        # The case's number in mixed radix, from the last digit on. `start` stays an integer of Python, since counts may be beyond
        # 64 bits; what is added to its digits is small.
        carry: Array = np.arange(stop - start, dtype=np.int64)
        rest, found = start, {}
        for axis in reversed(self.axes):
            rest, digit = divmod(rest, len(axis.values))
            carry, index = np.divmod(carry + digit, len(axis.values))
            found[axis.name] = axis.values[index]
        return {name: found[name] for name in self.names}


@dataclass(frozen=True, eq=False)
class _Zip:
    axes: tuple[Levels, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def count(self) -> int:
        return count_of("zip", lengths=[len(axis.values) for axis in self.axes])

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        check_range(start, stop, self.count)
        return {axis.name: axis.values[start:stop] for axis in self.axes}


@dataclass(frozen=True, eq=False)
class _OneAtATime:
    axes: tuple[tuple[str, Array, Array], ...]
    """Name, base value and the levels that are not the base value."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in self.axes)

    @property
    def count(self) -> int:
        return count_of("one_at_a_time", lengths=[len(levels) for _, _, levels in self.axes])

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        check_range(start, stop, self.count)
        found, first = {}, 1
        for name, base, levels in self.axes:
            values = np.repeat(base[np.newaxis], stop - start, axis=0)
            # The target's own cases are first ... last - 1; of these, low ... high - 1 are asked for.
            last = first + len(levels)
            low, high = max(start, first), min(stop, last)
            if low < high:
                values[low - start : high - start] = levels[low - first : high - first]
            found[name], first = values, last
        return found
