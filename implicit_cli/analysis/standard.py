"""Inputs as standard variables: xi uniform on [-1, 1], or standard normal, and how fast theta moves with it.

A total Sobol index does not change when an input is stretched, monotone and by itself. So a law of any kind is taken through its
own distribution function, and derivatives go along: dy/dxi = (dy/dtheta) (dtheta/dxi).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from implicit_cli.designs import SAMPLED
from implicit_cli.errors import InputError, listing
from implicit_cli.sample import Array, Sample

UNIFORM, NORMAL = "uniform", "normal"
POINCARE = {UNIFORM: 4 / np.pi**2, NORMAL: 1.0}
"""C with Var(f) <= C E[f'^2] for every smooth f of the standard variable (THEORY: (b - a)^2 / pi^2, and sigma^2)."""
SMALLEST = 1e-300


@dataclass(frozen=True)
class Standard:
    """xi (cases, n), dtheta/dxi (cases, n, n), which is diagonal unless inputs are correlated, and the family of each xi."""

    xi: Array
    slope: Array
    families: tuple[str, ...]
    correlated: bool

    def gradients(self, J: Array, rows: NDArray[np.int64]) -> Array:
        """dy/dxi of dy/dtheta (cases, n), in the cases `rows`."""
        return np.asarray(np.einsum("ci,cij->cj", J[rows], self.slope[rows]))


def standard(sample: Sample) -> Standard:
    """The sample's inputs as standard variables; raises InputError for one that was not drawn from a distribution."""
    for one in sample.inputs:
        if one.law is None:
            designs = listing(SAMPLED)
            raise InputError(f"{sample.path}: {one.name} has levels, and no distribution; allowed: a sweep with design {designs}")
    if sample.covariance is not None:
        factor = np.linalg.cholesky(sample.covariance)
        means = np.array([one.law[1][0] for one in sample.inputs if one.law is not None])
        xi = np.linalg.solve(factor, (sample.theta - means).T).T
        slope = np.broadcast_to(factor, (len(xi), *factor.shape))
        return Standard(xi, slope, (NORMAL,) * len(means), correlated=True)
    columns = [_column(*one.law, sample.theta[:, i]) for i, one in enumerate(sample.inputs) if one.law is not None]
    xi = np.stack([xi for xi, _, _ in columns], axis=1)
    slope = np.stack([slope for _, slope, _ in columns], axis=1)
    return Standard(xi, slope[:, :, None] * np.eye(len(columns)), tuple(family for _, _, family in columns), correlated=False)


def _column(kind: str, arguments: tuple[float, ...], theta: Array) -> tuple[Array, Array, str]:
    """xi and dtheta/dxi of one input, and the family of xi."""
    match kind:
        case "uniform":
            low, high = arguments
            return (2 * theta - low - high) / (high - low), np.full_like(theta, (high - low) / 2), UNIFORM
        case "loguniform":
            low, high = np.log(arguments)
            return (2 * np.log(theta) - low - high) / (high - low), theta * (high - low) / 2, UNIFORM
        case "normal":
            mean, deviation = arguments
            return (theta - mean) / deviation, np.full_like(theta, deviation), NORMAL
        case "truncated_normal":
            from scipy.stats import truncnorm

            mean, deviation, low, high = arguments
            law = truncnorm((low - mean) / deviation, (high - mean) / deviation, mean, deviation)
            return 2 * law.cdf(theta) - 1, 0.5 / np.maximum(law.pdf(theta), SMALLEST), UNIFORM
        case _:
            raise AssertionError(kind)


def independent(sample: Sample, what: str) -> Standard:
    """`standard`, for an analysis that splits a variance among inputs; raises InputError where they are correlated."""
    found = standard(sample)
    if found.correlated:
        raise InputError(f"{sample.path}: {what} need independent inputs, found sweep.covariance; allowed: active, delta")
    return found
