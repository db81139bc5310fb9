"""Global sensitivity from exact derivatives: DGSM with its bound on total Sobol indices, and active subspaces.

    nu_i = E[(dy/dtheta_i)^2],        S_i^tot <= C_i nu_i / Var(y)

with C_i the Poincare constant of the input's law: (b - a)^2 / pi^2 for a uniform one on [a, b], sigma^2 for a normal one. The
active subspace is spanned by the first eigenvectors of C = E[grad y grad y'], gradients by standard variables.

A derivative is known to its bound b, so that (dy/dtheta)^2 is within (|J| -+ b)^2; intervals are those of the bootstrap, widened
by that. Sources: I. M. Sobol and S. Kucherenko, Math. Comput. Simul. 79, 3009 (2009); M. Lamboni et al., Math. Comput. Simul. 87,
45 (2013); P. G. Constantine, Active Subspaces, SIAM 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from implicit_cli.analysis.resampled import interval, widened
from implicit_cli.analysis.standard import POINCARE, independent, standard
from implicit_cli.errors import InputError
from implicit_cli.sample import Array, Column, Finding, Sample

FEWEST = 10
"""Cases below which there is no interval worth its name."""
NEARLY_ALL = 0.99
SHOWN = 3
"""Directions of an active subspace that are told."""


@dataclass(frozen=True)
class _Gradients:
    """|dy/dtheta| and its bounds (cases, n), |dtheta/dxi| of each, y (cases,) and the root mean square of its bounds."""

    J: Array
    bound: Array
    slope: Array
    y: Array
    spread: float

    def squares(self, chosen: np.ndarray, sign: float, *, standard: bool = False) -> Array:
        """E[(dy/dtheta)^2], or by xi, with every derivative moved by its bound where `sign` is not 0."""
        g = np.maximum(self.J[chosen] + sign * self.bound[chosen], 0.0)
        return np.asarray(np.mean((g * self.slope[chosen] if standard else g) ** 2, axis=0))

    def shares(self, chosen: np.ndarray, sign: float) -> Array:
        """E[(dy/dxi)^2] / Var(y); bounds move a standard deviation by their root mean square at most."""
        deviation = max(float(np.std(self.y[chosen], ddof=1)) - sign * self.spread, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.squares(chosen, sign, standard=True) / deviation**2


def dgsm(sample: Sample) -> list[Finding]:
    """Bounds on total Sobol indices, one table for each output."""
    inputs = independent(sample, "total Sobol indices")
    constants = np.array([POINCARE[family] for family in inputs.families])
    findings = []
    for k, name in enumerate(sample.outputs):
        rows, notes = usable(sample, k)
        found = _Gradients(
            J=np.abs(sample.J[rows, k]),
            bound=sample.J_bound[rows, k],
            slope=np.abs(np.diagonal(inputs.slope[rows], axis1=1, axis2=2)),
            y=sample.y[rows, k],
            spread=float(np.sqrt(np.mean(sample.y_bound[rows, k] ** 2))),
        )
        every = np.arange(rows.size)
        low, high = widened(found.shares, rows.size)
        ends, unit = widened(found.squares, rows.size), f"({sample.units[k]}/theta)^2"
        columns = {
            "bound": Column(
                constants * found.shares(every, 0.0), "upper bound of the total index", constants * low, constants * high
            ),
            "nu": Column(found.squares(every, 0.0), "E[(dy/dtheta)^2]", *ends, unit=unit),
        }
        facts = {"cases": float(rows.size), "variance": float(np.var(found.y, ddof=1))}
        findings.append(Finding("dgsm", name, "input", sample.names, columns, facts, notes))
    return findings


def active(sample: Sample) -> list[Finding]:
    """Eigenvalues of E[grad y grad y'], its first directions, and the activity score of each input; two tables for each output."""
    inputs = standard(sample)
    findings = []
    for k, name in enumerate(sample.outputs):
        rows, notes = usable(sample, k)
        g = inputs.gradients(sample.J[:, k], rows)
        bound = np.abs(inputs.slope[rows]).transpose(0, 2, 1) @ sample.J_bound[rows, k][:, :, None]
        error = np.linalg.norm(bound[..., 0], axis=1)
        # |C' - C| where every gradient moves by its bound: no eigenvalue moves by more (Weyl)
        shift = float(np.mean(2 * np.linalg.norm(g, axis=1) * error + error**2))
        values, vectors = _eigen(g)
        size = _dimension(values)
        low, high = interval(partial(_resampled, g, vectors, size), rows.size)
        gap = float(values[size - 1] - values[size]) if size < len(values) else np.inf
        numbers = tuple(str(i + 1) for i in range(len(values)))
        facts = {
            "cases": float(rows.size),
            "dimension": float(size),
            "gap": gap,
            "distance": min(float(high[-1]) + (shift / gap if gap > 0 else np.inf), 1.0),
        }
        eigenvalue = Column(values, "of E[grad y grad y']", np.maximum(low[:-1] - shift, 0.0), high[:-1] + shift)
        findings.append(Finding("active", name, "direction", numbers, {"eigenvalue": eigenvalue}, facts, notes))
        columns = {"activity": Column(_activity(values, vectors, size), "share of E[|grad y|^2] in the active subspace")}
        for i in range(min(size, SHOWN)):
            columns[f"direction {i + 1}"] = Column(vectors[:, i], "component, by the standard variable of the input")
        findings.append(Finding("active", name, "input", sample.names, columns))
    return findings


def usable(sample: Sample, k: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cases with an output and its derivatives, and a note on those without; raises InputError where there are too few."""
    finite = np.isfinite(sample.y[:, k]) & np.isfinite(sample.J[:, k]).all(axis=1)
    if not np.isfinite(sample.J[:, k]).any():
        what = f"{sample.outputs[k]} by {', '.join(sample.names)}"
        raise InputError(f"{sample.path}: no derivatives of {what}; allowed: what sensitivity.of and wrt name")
    rows = np.flatnonzero(sample.good & finite)
    if rows.size < FEWEST:
        raise InputError(
            f"{sample.path}: found {rows.size} cases with derivatives of {sample.outputs[k]}, allowed: at least {FEWEST}"
        )
    lost = len(sample.ids) - rows.size
    return rows, (f"{lost} of {len(sample.ids)} cases without a derivative are left out",) if lost else ()


def _eigen(g: Array) -> tuple[Array, Array]:
    """Eigenvalues of g'g / cases, largest first, and eigenvectors in columns, each with its largest component above zero."""
    # all of V, and no more of U than that takes
    _, sigma, V = np.linalg.svd(g / len(g) ** 0.5, full_matrices=len(g) < g.shape[1])
    values = np.zeros(g.shape[1])
    values[: sigma.size] = sigma**2
    largest = np.argmax(np.abs(V), axis=1)
    return values, (V * np.sign(V[np.arange(len(V)), largest])[:, None]).T


def _dimension(values: Array) -> int:
    """Directions before the largest gap, by ratio, of those that are needed for `NEARLY_ALL` of the trace."""
    if len(values) == 1 or values[0] == 0.0:
        return 1
    most = int(np.searchsorted(np.cumsum(values), NEARLY_ALL * values.sum())) + 1
    floor = values[0] * np.finfo(float).eps
    ratios = np.maximum(values[:-1], floor) / np.maximum(values[1:], floor)
    return int(np.argmax(ratios[:most])) + 1


def _resampled(g: Array, V: Array, size: int, chosen: np.ndarray) -> Array:
    """Eigenvalues for the chosen cases, and the sine of the largest angle between their first `size` directions and those of V."""
    values, W = _eigen(g[chosen])
    apart = np.linalg.norm(V[:, size:].T @ W[:, :size], 2) if size < V.shape[1] else 0.0
    return np.append(values, apart)


def _activity(values: Array, vectors: Array, size: int) -> Array:
    whole = float(values.sum())
    return np.asarray(vectors[:, :size] ** 2 @ values[:size] / (whole if whole else 1.0))
