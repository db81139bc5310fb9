"""Designs of distributions: points of the unit cube by a method, mapped to values.

The cube has D dimensions: all entries of all targets, laid end to end in the order written.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from implicit_cli.designs.base import MAX_BYTES, Array, Distribution, check_names, check_range
from implicit_cli.designs.counts import SAMPLED, count_of
from implicit_cli.designs.quantiles import mapped
from implicit_cli.errors import EnvironmentProblem, InputError, listing, nearest

INDEPENDENT = ("saltelli", "morris", "fast")
"""Designs whose points differ in chosen entries, which correlations would mix."""
HARMONICS = 4
"""Harmonics of each frequency that FAST resolves; it needs more than 4 HARMONICS^2 samples."""
INSTALL = "pip install 'implicit-cli[analysis]'"

_SOBOL_DIMENSIONS = 21_201
_SOBOL_BITS = 53
_SALTELLI_BITS = 30
"""SciPy's default, and SALib does not ask for another one."""


@dataclass(frozen=True)
class Plan:
    """What a method is asked for: `entries` is D; the last three are those of single methods."""

    samples: int
    entries: int
    seed: int
    second_order: bool
    levels: int
    centred: bool
    """With morris: levels in the middle of equal shares of probability, not from 0 to 1."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A sampled design. `values` (count, D) has the entries of all targets in its columns, laid end to end in the order written."""

    axes: tuple[Distribution, ...]
    values: Array

    @property
    def names(self) -> tuple[str, ...]:
        """The targets, in the order written."""
        return tuple(axis.name for axis in self.axes)

    @property
    def count(self) -> int:
        """How many cases there are."""
        return len(self.values)

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Values (stop - start, *shape) of each target; raises ValueError where there are no such cases."""
        check_range(start, stop, self.count)
        found, column = {}, 0
        for axis in self.axes:
            part = self.values[start:stop, column : column + axis.entries]
            found[axis.name], column = part.reshape(stop - start, *axis.shape), column + axis.entries
        return found


def sampled(
    method: str,
    axes: Sequence[Distribution],
    samples: int,
    seed: int,
    *,
    covariance: Array | None = None,
    second_order: bool = False,
    levels: int = 4,
) -> Sample:
    """Points by one of the methods `SAMPLED`; the same seed gives the same points, to the last bit.

    `random`, `sobol` and `halton` keep their points when there are more of them. `covariance` (D, D) is that of all entries, each
    distribution being `normal` with its mean alone. `saltelli`, `morris` and `fast` are those of SALib, rows in its order.
    `morris` takes its `levels` at shares from 0 to 1, but where a distribution is `normal`, and has no value there, in the
    middle of as many equal shares, for all entries.

    Raises InputError for settings that do not fit and for more than 4 GiB; EnvironmentProblem where SALib is missing.
    """
    check_names(axes)
    entries = sum(axis.entries for axis in axes)
    if method not in SAMPLED:
        raise InputError(f"found the design '{method}', allowed: {listing(SAMPLED)}{nearest(method, SAMPLED)}")
    _check(method, axes, samples, entries, levels, covariance)
    count = count_of(method, samples=samples, entries=entries, second_order=second_order)
    if (size := count * entries * 8) > MAX_BYTES:
        what = f"{count:,} cases of {entries:,} entries, {size / 2**30:,.3g} GiB"
        raise InputError(f"found {what}, allowed: {MAX_BYTES / 2**30:g} GiB")
    centred = any(axis.kind == "normal" for axis in axes)
    points = _METHODS[method](Plan(samples, entries, seed, second_order, levels, centred))
    values = mapped(points, axes, covariance)
    values.flags.writeable = False
    return Sample(tuple(axes), values)


def _check(method: str, axes: Sequence[Distribution], samples: int, entries: int, levels: int, covariance: Array | None) -> None:
    least = 4 * HARMONICS**2 + 1 if method == "fast" else 1
    if samples < least:
        raise InputError(f"found {samples} samples, allowed with design '{method}': at least {least}")
    if method in ("sobol", "saltelli"):
        if samples & (samples - 1):
            raise InputError(f"found {samples} samples, allowed with design '{method}': a power of two")
        most = _SOBOL_DIMENSIONS // (2 if method == "saltelli" else 1)
        if entries > most:
            raise InputError(f"found {entries:,} entries that vary, allowed with design '{method}': at most {most:,}")
    if levels < 2 or levels % 2:
        raise InputError(f"found {levels} levels, allowed: an even number")
    short = [axis.name for axis in axes if axis.kind == "normal" and len(axis.arguments) == 1]
    if covariance is None:
        if short:
            raise InputError(f"{short[0]}: found a normal distribution without DEVIATION, allowed: with a covariance")
    elif method in INDEPENDENT:
        allowed = listing(name for name in SAMPLED if name not in INDEPENDENT)
        raise InputError(f"found a covariance with design '{method}', allowed with: {allowed}")
    elif len(short) < len(axes):
        name = next(axis.name for axis in axes if axis.name not in short)
        raise InputError(f"{name}: found another distribution beside a covariance, allowed: normal, with MEAN alone")


def _random(plan: Plan) -> Array:
    return np.random.default_rng(plan.seed).random((plan.samples, plan.entries))


def _latin_hypercube(plan: Plan) -> Array:
    from scipy.stats import qmc

    return np.asarray(qmc.LatinHypercube(plan.entries, seed=plan.seed).random(plan.samples))


def _sobol(plan: Plan) -> Array:
    """Scrambled, with as many bits as numbers below 1 have, so that tails are as fine as those of random numbers."""
    from scipy.stats import qmc

    return np.asarray(qmc.Sobol(plan.entries, scramble=True, bits=_SOBOL_BITS, seed=plan.seed).random(plan.samples))


def _halton(plan: Plan) -> Array:
    from scipy.stats import qmc

    return np.asarray(qmc.Halton(plan.entries, scramble=True, seed=plan.seed).random(plan.samples))


def _saltelli(plan: Plan) -> Array:
    sample = _salib("saltelli")
    points = sample(_cube(plan), plan.samples, calc_second_order=plan.second_order, scramble=True, seed=plan.seed)
    # Multiples of 2^-30 stand for cells above them: in the middle of its cell no point is 0.
    return np.asarray(points + 0.5 * 2.0**-_SALTELLI_BITS)


def _morris(plan: Plan) -> Array:
    points = _salib("morris")(_cube(plan), plan.samples, num_levels=plan.levels, seed=plan.seed)
    numbers = np.rint(points * (plan.levels - 1))
    return (numbers + 0.5) / plan.levels if plan.centred else numbers / (plan.levels - 1)


def _fast(plan: Plan) -> Array:
    points = _salib("fast")(_cube(plan), plan.samples, M=HARMONICS, seed=plan.seed)
    return np.clip(points, 0.0, 1.0)


_METHODS: Mapping[str, Callable[[Plan], Array]] = MappingProxyType(
    {
        "random": _random,
        "latin_hypercube": _latin_hypercube,
        "sobol": _sobol,
        "halton": _halton,
        "saltelli": _saltelli,
        "morris": _morris,
        "fast": _fast,
    }
)


def _cube(plan: Plan) -> dict[str, Any]:
    """The unit cube, as SALib describes it."""
    return {"num_vars": plan.entries, "names": [str(i) for i in range(plan.entries)], "bounds": [[0.0, 1.0]] * plan.entries}


def _salib(method: str) -> Any:
    """SALib's function that samples; imported when it is called, since SALib brings pandas along."""
    module = {"saltelli": "sobol", "morris": "morris", "fast": "fast_sampler"}[method]
    try:
        return importlib.import_module(f"SALib.sample.{module}").sample
    except ImportError as error:
        raise EnvironmentProblem(f"design '{method}' needs SALib: {INSTALL}") from error
