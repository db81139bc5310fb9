"""From points of the unit cube to values: inverse cumulative distribution functions, entry by entry or correlated.

A normal distribution has no value at 0 and 1: points are kept 2^-53 away from both, which is 8.2 deviations from the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from implicit_cli.designs.base import Array, Distribution
from implicit_cli.errors import InputError

NEAREST = 2.0**-53
"""Smallest distance of a normal distribution's point from 0 and 1; the spacing of 64-bit numbers below 1."""
BLOCK = 4096
"""Points that are mapped at once."""
_NARROW = 1e-8
"""A truncated normal distribution whose density's exponent changes by less is uniform, to this share of its width."""
_FAR = 5.0
"""Deviations from the mean from which on a tail has its own equation."""
_STEPS = 6
"""Newton's steps to its root; from 5 deviations on, the fifth one moves it by rounding only."""


def mapped(points: Array, axes: Sequence[Distribution], covariance: Array | None) -> Array:
    """Values (n, D) at points (n, D) of the unit cube; the columns are the entries of the axes, laid end to end.

    Row i depends on point i alone, to the last bit: blocks are of one size, since libraries may round otherwise in another one.
    Raises InputError for values that are not finite, and for what is no covariance.
    """
    factor = None if covariance is None else cholesky(covariance, points.shape[1])
    values = np.empty_like(points)
    for start in range(0, len(points), BLOCK):
        part = points[start : start + BLOCK]
        block = np.full((BLOCK, points.shape[1]), 0.5)
        block[: len(part)] = part
        values[start : start + BLOCK] = _of_block(block, axes, factor)[: len(part)]
    if not np.isfinite(values).all():
        raise InputError("found values that are not finite, allowed: distributions within what a 64-bit number can hold")
    return values


def _of_block(block: Array, axes: Sequence[Distribution], factor: Array | None) -> Array:
    if factor is not None:
        means = np.concatenate([axis.arguments[0].ravel() for axis in axes])
        return np.asarray(means + _standard(block) @ factor.T)
    found, column = np.empty_like(block), 0
    for axis in axes:
        columns = slice(column, column + axis.entries)
        found[:, columns] = quantile(axis.kind, [part.ravel() for part in axis.arguments], block[:, columns])
        column += axis.entries
    return found


def quantile(kind: str, arguments: Sequence[Array], points: Array) -> Array:
    """The values below which a distribution has the shares `points`, in 0 to 1; `arguments` are broadcast to them.

    What is beyond the numbers of 64 bits is not finite.
    """
    with np.errstate(all="ignore"):
        return _quantile(kind, arguments, points)


def _quantile(kind: str, arguments: Sequence[Array], points: Array) -> Array:
    match kind:
        case "uniform":
            low, high = arguments
            return _between(low, high, points)
        case "loguniform":
            low, high = arguments
            return np.clip(np.exp(_between(np.log(low), np.log(high), points)), low, high)
        case "normal":
            mean, deviation = arguments
            return np.asarray(mean + deviation * _standard(points))
        case "truncated_normal":
            mean, deviation, low, high = arguments
            return _truncated(mean, deviation, low, high, points)
        case _:
            raise AssertionError(kind)


def _between(low: Array, high: Array, points: Array) -> Array:
    # Not low + points (high - low), which overflows between large numbers of opposite signs.
    return np.clip((1 - points) * low + points * high, low, high)


def _standard(points: Array) -> Array:
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(points, NEAREST, 1 - NEAREST)))


def _truncated(mean: Array, deviation: Array, low: Array, high: Array, points: Array) -> Array:
    """SciPy's quantiles, but where these lose digits by cancellation.

    A narrow window is as good as uniform, and from `_FAR` deviations on a tail has an equation of its own.
    """
    from scipy.stats import truncnorm

    a, b, width = (low - mean) / deviation, (high - mean) / deviation, (high - low) / deviation
    narrow = width * np.maximum(1, np.maximum(abs(a), abs(b))) < _NARROW
    above, below = a > _FAR, b < -_FAR
    easy = ~(narrow | above | below)
    # What is not easy is not given to SciPy, but something that it can do is.
    found = mean + deviation * truncnorm.ppf(points, np.where(easy, a, -1.0), np.where(easy, b, 1.0))
    if above.any():
        found = np.where(above, low + deviation * _tail(np.where(above, a, _FAR), width, points, 1 - points), found)
    if below.any():
        found = np.where(below, high - deviation * _tail(np.where(below, -b, _FAR), width, 1 - points, points), found)
    found = np.where(narrow, _between(low, high, points), found)
    return np.select([points <= 0, points >= 1], [low + 0 * points, high + 0 * points], np.clip(found, low, high))


def _tail(a: Array, width: Array, share: Array, rest: Array) -> Array:
    """d with Q(a + d) = Q(a) - share (Q(a) - Q(a + width)), where Q is the upper tail of the standard normal and rest = 1 - share.

    Newton's method on log Q(a + d) / Q(a). It is concave and falls, and the first d is beyond the root, so that the steps descend
    to it. With erfcx(x) = exp(x^2) erfc(x) nothing underflows.
    """
    from scipy.special import erfcx

    def log_ratio(d: Array) -> Array:
        return np.asarray(np.log(erfcx((a + d) / np.sqrt(2)) / erfcx(a / np.sqrt(2))) - d * (a + d / 2))

    whole = log_ratio(width)
    goal = np.where(share < 0.5, np.log1p(share * np.expm1(whole)), np.log(rest + share * np.exp(whole)))
    d = -2 * goal / (a + np.sqrt(a**2 - 2 * goal))
    for _ in range(_STEPS):
        d = d + (log_ratio(d) - goal) * erfcx((a + d) / np.sqrt(2)) * np.sqrt(np.pi / 2)
    # Deviations that are too many for 64 bits: the distribution is a point.
    return np.nan_to_num(d, nan=0.0)


def cholesky(covariance: Any, entries: int) -> Array:
    """Lower factor L (D, D) of a covariance L L'; raises InputError unless that is (D, D), symmetric and positive definite."""
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.shape != (entries, entries):
        raise InputError(f"found a covariance of shape {matrix.shape}, allowed: {(entries, entries)}, for all entries that vary")
    if not np.isfinite(matrix).all():
        raise InputError("found a covariance that is not finite, allowed: finite numbers")
    variances = matrix.diagonal()
    if not (variances > 0).all():
        first = int(np.argmin(variances > 0))
        raise InputError(f"found the variance {variances[first]:g} at [{first}, {first}] of the covariance, allowed: above 0")
    # Of the correlations, so that units do not matter.
    deviations = np.sqrt(variances)
    correlations = matrix / deviations / deviations[:, np.newaxis]
    apart = abs(correlations - correlations.T)
    if apart.max() > 1e-12:
        i, j = (int(index) for index in np.unravel_index(np.argmax(apart), apart.shape))
        what = f"{matrix[i, j]:g} at [{i}, {j}] of the covariance and {matrix[j, i]:g} at [{j}, {i}]"
        raise InputError(f"found {what}, allowed: a symmetric matrix")
    correlations = (correlations + correlations.T) / 2
    smallest = float(np.linalg.eigvalsh(correlations)[0])
    if smallest <= entries * np.finfo(np.float64).eps:
        raise InputError(
            f"found a covariance whose correlations have the eigenvalue {smallest:.3g}, allowed: a positive definite matrix"
        )
    return np.asarray(deviations[:, np.newaxis] * np.linalg.cholesky(correlations))
