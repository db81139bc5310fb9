"""Sobol indices from few cases: polynomial chaos fitted to values and derivatives together.

y(xi) = sum_a c_a psi_a(xi) with orthonormal polynomials, Legendre's for uniform and Hermite's for normal inputs. A case with its
derivatives by n inputs gives n + 1 equations. With rows of derivatives weighed by (1 - xi_i^2)^(1/2) for uniform inputs, and 1 for
normal ones, the columns are orthogonal in the mean for values and derivatives alike, so that both ask for the same c. The basis, a
total degree and a hyperbolic cut, is that with the least error on cases left out (ten parts), or the first with next to none. With
D_u the sum of c_a^2 over those a that have just the inputs u,

    S_i = D_i / D,        S_i^tot = sum of D_u with i in u / D

Intervals are those of the jackknife over ten parts of the cases, widened by the part e of the variance that the fit does not
explain on cases left out: it may belong to any input, or to none. Sources: B. Sudret, Reliab. Eng. Syst. Safe. 93, 964 (2008);
J. Peng, J. Hampton and A. Doostan, J. Comput. Phys. 310, 440 (2016); L. Guo, A. Narayan and T. Zhou, J. Comput. Phys. 367, 49
(2018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from implicit_cli.analysis.derivative_based import usable
from implicit_cli.analysis.polynomials import Fit, Index, Points, bases
from implicit_cli.analysis.resampled import LEVEL
from implicit_cli.analysis.standard import Standard, independent
from implicit_cli.errors import InputError
from implicit_cli.sample import Array, Column, Finding, Sample

MOST_TERMS, WORK = 800, 1.5e9
"""Of a basis, and equations times the square of its terms, which is what a fit takes."""
FEW_TERMS = 100
"""That a basis may have in any case."""
ROWS_PER_TERM = 1.3
"""Equations there must be for each coefficient."""
PATIENCE = 3
"""Larger bases in a row that may be worse: an even function gains nothing by odd degrees."""
ENOUGH = 1e-9
"""Part of the variance that may be left unexplained: a basis that leaves less is taken, and no better one looked for."""
SIGNS, SEED = 4, 0


def chaos(sample: Sample) -> list[Finding]:
    """First-order and total Sobol indices of each output, from a sample of any design of distributions."""
    from scipy.special import stdtrit

    inputs = independent(sample, "indices of polynomial chaos")
    findings = []
    for k, name in enumerate(sample.outputs):
        rows, notes = usable(sample, k)
        xi, y = inputs.xi[rows], sample.y[rows, k]
        g = inputs.gradients(sample.J[:, k], rows)
        centre, scale = float(y.mean()), float(y.std()) or 1.0
        basis, fit = _best(xi, inputs.families, (y - centre) / scale, g / scale, sample)
        c, error = fit.coefficients, min(fit.left_out, 1.0)
        indices = _indices(c, basis)
        without = np.stack([_indices(fit.without(part), basis) for part in range(len(fit.parts))])
        spread = np.sqrt((len(without) - 1) * np.mean((without - without.mean(axis=0)) ** 2, axis=0))
        half = stdtrit(len(without) - 1, (1 + LEVEL) / 2) * spread
        half = half + _numerical(sample, k, rows, inputs, fit, basis, centre, scale)
        low = np.clip((1 - error) * (indices - half), 0.0, 1.0)
        high = np.clip((1 - error) * (indices + half) + error, 0.0, 1.0)
        columns = {
            "S1": Column(indices[0], "first-order index", low[0], high[0]),
            "ST": Column(indices[1], "total index", low[1], high[1]),
        }
        facts = {
            "cases": float(rows.size),
            "terms": float(len(basis)),
            "degree": float(basis.sum(axis=1).max(initial=0)),
            "unexplained": error,
            "mean": centre + scale * float(c[0]),
            "variance": scale**2 * float(np.sum(c[1:] ** 2)),
        }
        findings.append(Finding("chaos", name, "input", sample.names, columns, facts, notes))
    return findings


def _best(xi: Array, families: tuple[str, ...], y: Array, g: Array, sample: Sample) -> tuple[Index, Fit]:
    """The basis with the least error on cases left out, the constant first, and its fit."""
    order = np.argsort(-np.mean(g**2, axis=0), kind="stable")
    rows, points = y.size * (1 + xi.shape[1]), Points(xi, families)
    most = int(min(MOST_TERMS, rows / ROWS_PER_TERM, max((WORK / rows) ** 0.5, FEW_TERMS)))
    best: tuple[Index, Fit] | None = None
    for growing in bases(order, most):
        least, worse = np.inf, 0
        for basis in growing:
            fit = Fit(points, basis, y, g)
            if best is None or fit.left_out < best[1].left_out:
                best = basis, fit
            if fit.left_out < ENOUGH:
                return best
            least, worse = (fit.left_out, 0) if fit.left_out < least else (least, worse + 1)
            if worse == PATIENCE:
                break
    if best is None:
        raise InputError(f"{sample.path}: found {y.size} cases, too few for a polynomial in {xi.shape[1]} inputs")
    return best


def _indices(c: Array, basis: Index) -> Array:
    """First-order and total indices (2, n)."""
    squares = np.where(basis.any(axis=1), c**2, 0.0)
    whole = float(squares.sum()) or 1.0
    alone = (basis > 0) & ((basis > 0).sum(axis=1) == 1)[:, None]
    return np.stack([squares @ alone, squares @ (basis > 0)]) / whole


def _numerical(
    sample: Sample, k: int, rows: NDArray[np.int64], inputs: Standard, fit: Fit, basis: Index, centre: float, scale: float
) -> Array:
    """How far the bounds of y and of its derivatives move the indices, as signs drawn at random show."""
    rng = np.random.default_rng(SEED)
    y, y_bound = (sample.y[rows, k] - centre) / scale, np.nan_to_num(sample.y_bound[rows, k]) / scale
    slope = np.diagonal(inputs.slope[rows], axis1=1, axis2=2)
    g, g_bound = sample.J[rows, k] * slope / scale, np.nan_to_num(sample.J_bound[rows, k]) * np.abs(slope) / scale
    found = _indices(fit.coefficients, basis)
    moved = np.zeros_like(found)
    for _ in range(SIGNS):
        signs = rng.choice([-1.0, 1.0], (y.size, 1 + g.shape[1]))
        c = fit.of(y + signs[:, 0] * y_bound, g + signs[:, 1:] * g_bound)
        moved = np.maximum(moved, np.abs(_indices(c, basis) - found))
    return moved
