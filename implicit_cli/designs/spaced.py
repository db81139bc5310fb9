"""Levels by a rule: evenly spaced, by a common factor, integers, around a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from implicit_cli.designs.base import MAX_BYTES, Array, filled
from implicit_cli.errors import InputError, listing, nearest

RULES = ("linspace", "geomspace", "logspace", "integers", "centred")


def length_of(rule: str, arguments: Sequence[Any]) -> int:
    """Number of levels L of a rule; raises InputError for another rule. `spaced` says what the arguments are."""
    match rule:
        case "linspace" | "geomspace" | "logspace":
            return int(arguments[2])
        case "integers":
            return int(arguments[1]) - int(arguments[0]) + 1
        case "centred":
            return 2 * int(arguments[1]) + 1
        case _:
            raise InputError(f"found the rule '{rule}', allowed: {listing(RULES)}{nearest(rule, RULES)}")


def spaced(rule: str, arguments: Sequence[Any], *, shape: tuple[int, ...] = (), base: Any = None) -> Array:
    """Levels (L, *shape) of a target. Each argument that is no count is a number for all its entries, or has its shape.

    `linspace`, `geomspace`: [first, last, L]; `logspace`: the same, of the exponents of 10; `integers`: [first, last]; `centred`:
    [step, K], L = 2 K + 1 levels base + k step, k = -K ... K, of which the middle one is `base` itself. Raises InputError for
    levels that are not finite or that take more than 4 GiB.
    """
    count = length_of(rule, arguments)
    if count < 1:
        raise InputError(f"found {count:,} levels, allowed: at least 1")
    if (size := count * math.prod(shape) * 8) > MAX_BYTES:
        what = f"{count:,} levels of shape {shape}, {size / 2**30:,.3g} GiB"
        raise InputError(f"found {what}, allowed: {MAX_BYTES / 2**30:g} GiB")
    # Rules that leave the numbers of 64 bits are found by what they leave.
    with np.errstate(all="ignore"):
        levels = _levels(rule, arguments, count, shape, base)
    if not np.isfinite(levels).all():
        raise InputError("found levels that are not finite, allowed: levels within what a 64-bit number can hold")
    return levels


def _levels(rule: str, arguments: Sequence[Any], count: int, shape: tuple[int, ...], base: Any) -> Array:
    match rule:
        case "integers":
            return _in_every_entry(int(arguments[0]) + np.arange(count, dtype=np.int64), shape)
        case "centred":
            steps = np.arange(-int(arguments[1]), int(arguments[1]) + 1).reshape(-1, *(1,) * len(shape))
            return np.asarray(filled(base, shape) + steps * filled(arguments[0], shape))
        case _:
            make: Any = {"linspace": np.linspace, "geomspace": np.geomspace, "logspace": np.logspace}[rule]
            return np.asarray(make(filled(arguments[0], shape), filled(arguments[1], shape), count))


def _in_every_entry(levels: Array, shape: tuple[int, ...]) -> Array:
    """Levels (L,) as (L, *shape)."""
    return np.broadcast_to(levels.reshape(-1, *(1,) * len(shape)), (len(levels), *shape))
