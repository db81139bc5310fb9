"""Sensitivities at single cases: elasticities, and what uncertain inputs make of the outputs (delta method).

    elasticity   (theta_i / y) dy/dtheta_i
    first order  E[y] = y,                    Cov(y) = J Sigma J'
    second       E[y] = y + tr(H Sigma) / 2,  Var(y) = J Sigma J' + tr((H Sigma)^2) / 2, for normal inputs

A derivative is known to its bound b: |J v| is within |J v| -+ b'|v|, which widens every number here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from implicit_cli.errors import InputError
from implicit_cli.sample import Array, Column, Finding, Sample


def elasticities(sample: Sample, case: int | None = None) -> list[Finding]:
    """Derivatives and elasticities by every input: of one case, or median and extremes of the elasticities over all."""
    findings = []
    for k, name in enumerate(sample.outputs):
        J, b = sample.J[:, k], sample.J_bound[:, k]
        y, bound = sample.y[:, k, None], sample.y_bound[:, k, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.abs(sample.theta / y)
            elasticity = sample.theta / y * J
            # |theta J / y| moves by |theta/y| b, and by the relative error of y
            error = share * b + np.abs(elasticity) * bound / np.maximum(np.abs(y) - bound, 0.0)
        if case is not None:
            value, half, slope = elasticity[case], error[case], J[case]
            columns = {
                "theta": Column(sample.theta[case], "value of the input"),
                "derivative": Column(slope, "dy/dtheta", slope - b[case], slope + b[case], unit=f"{sample.units[k]}/theta"),
                "elasticity": Column(value, "(theta / y) dy/dtheta", value - half, value + half),
            }
            facts: dict[str, float | str] = {"case": sample.ids[case], "y": float(sample.y[case, k])}
            findings.append(Finding("elasticity", name, "input", sample.names, columns, facts))
            continue
        rows = np.flatnonzero(sample.good & np.isfinite(elasticity).any(axis=1))
        if not rows.size:
            continue
        e = elasticity[rows]
        columns = {
            "median": Column(np.nanmedian(e, axis=0), "median of (theta / y) dy/dtheta"),
            "least": Column(np.nanmin(e, axis=0), "its least value over the cases"),
            "most": Column(np.nanmax(e, axis=0), "its largest value"),
            "error": Column(np.nanmax(np.where(np.isfinite(error[rows]), error[rows], np.nan), axis=0), "its error, at most"),
        }
        findings.append(Finding("elasticity", name, "input", sample.names, columns, {"cases": float(rows.size)}))
    return findings


def delta_method(sample: Sample, case: int, covariance: Array) -> list[Finding]:
    """Standard deviation of every output at a case, with shares of inputs that are independent, and their covariance."""
    S, deviations = covariance, np.sqrt(np.diagonal(covariance))
    y, J, b = sample.y[case], sample.J[case], sample.J_bound[case]
    if not np.isfinite(J).any():
        raise InputError(f"{sample.path}: case {sample.ids[case]} has no derivatives")
    C = J @ S @ J.T
    sd, half = np.sqrt(np.diagonal(C)), b @ deviations  # |L'J'| moves by at most |L'b'| <= sum of b_i sigma_i
    shift, more = np.full(len(sd), np.nan), np.full(len(sd), np.nan)
    if sample.curvature is not None:
        HS = sample.curvature[case] @ S
        shift = np.trace(HS, axis1=1, axis2=2) / 2
        more = np.sqrt(sd**2 + np.trace(HS @ HS, axis1=1, axis2=2) / 2)
    columns = {
        "y": Column(y, "output at the case", y - sample.y_bound[case], y + sample.y_bound[case]),
        "deviation": Column(sd, "standard deviation, to first order", np.maximum(sd - half, 0.0), sd + half),
    }
    if np.isfinite(more).any():
        columns["shift"] = Column(shift, "E[y] - y, to second order")
        columns["second"] = Column(more, "standard deviation, to second order")
    findings = [Finding("delta", "", "output", sample.outputs, columns, {"case": sample.ids[case]})]
    if np.array_equal(S, np.diag(np.diagonal(S))):
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = J**2 * np.diagonal(S) / (sd**2)[:, None]
            widened = 2 * half / np.where(sd > 0, sd, np.nan)
        for k, name in enumerate(sample.outputs):
            column = Column(
                shares[k],
                "share of the variance, to first order",
                np.maximum(shares[k] - widened[k], 0.0),
                np.minimum(shares[k] + widened[k], 1.0),
            )
            own = {"sigma": Column(deviations, "standard deviation of the input"), "share": column}
            findings.append(Finding("delta", name, "input", sample.names, own))
    if len(sd) > 1:
        columns = {name: Column(C[:, k], f"covariance with {name}") for k, name in enumerate(sample.outputs)}
        findings.append(Finding("delta", "", "covariance", sample.outputs, columns))
    return findings


def covariance_of(sample: Sample, deviations: Mapping[str, float], given: Array | None) -> Array:
    """Sigma (n, n): what is given, or independent inputs with these standard deviations, else those of the sweep's distributions.

    Raises InputError for an input that is none, and for a matrix that is no covariance of all of them.
    """
    n = len(sample.inputs)
    if given is not None:
        if given.shape != (n, n):
            names = ", ".join(sample.names)
            raise InputError(f"--covariance: found the shape {given.shape}, allowed: {(n, n)}, for {names}")
        if not np.allclose(given, given.T, rtol=1e-12, atol=0) or np.linalg.eigvalsh(given)[0] < -1e-12 * np.abs(given).max():
            raise InputError("--covariance: found no covariance, allowed: a symmetric matrix without negative eigenvalues")
        return given
    if deviations:
        sigma = np.zeros(n)
        for name, value in deviations.items():
            sigma[sample.called(name, "--deviation")] = value
        return np.diag(sigma**2)
    if sample.covariance is not None:
        return sample.covariance
    return np.diag([_variance(one.law, one.name, sample.path) for one in sample.inputs])


def _variance(law: tuple[str, tuple[float, ...]] | None, name: str, path: str) -> float:
    if law is None:
        allowed = f"--deviation {name}=SIGMA, or --covariance FILE:/PATH"
        raise InputError(f"{path}: nothing says how uncertain {name} is; allowed: {allowed}")
    kind, arguments = law
    match kind:
        case "uniform":
            return (arguments[1] - arguments[0]) ** 2 / 12
        case "loguniform":
            low, high = arguments
            width = np.log(high / low)
            return float((high**2 - low**2) / (2 * width) - ((high - low) / width) ** 2)
        case "normal":
            return arguments[1] ** 2
        case "truncated_normal":
            from scipy.stats import truncnorm

            mean, deviation, low, high = arguments
            return float(truncnorm((low - mean) / deviation, (high - mean) / deviation, mean, deviation).var())
        case _:
            raise AssertionError(kind)
