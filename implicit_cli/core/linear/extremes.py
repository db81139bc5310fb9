"""Extreme singular values with a factor at hand: Lanczos on A and on its inverse, run to convergence (ARPACK, through SciPy)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from implicit_cli.core.linear.base import FloatArray

EXACT = 512
"""Up to this d all singular values are computed: the decomposition is quick, and its answer has no tolerance."""
TOLERANCE = 1e-3
"""Relative tolerance of Lanczos. Ritz values lie inside the spectrum, so sigma_min is lowered and sigma_max raised by as much."""

Product = Callable[[FloatArray], FloatArray]


def largest(times: Product, d: int) -> tuple[float, bool]:
    """Largest eigenvalue in magnitude of a symmetric operator on vectors (d,), and whether the iteration converged to it."""
    start = np.random.default_rng(0).normal(size=d)
    try:
        found = eigsh(
            LinearOperator((d, d), matvec=times, dtype=float), k=1, v0=start, tol=TOLERANCE / 4, return_eigenvectors=False
        )
    except ArpackNoConvergence:
        return 0.0, False
    return float(np.abs(found[0])), bool(np.isfinite(found[0]))


def extremes(
    times: Product, times_t: Product, inverse: Product, inverse_t: Product, d: int, *, symmetric: bool
) -> tuple[float, float, bool]:
    """sigma_min, sigma_max and whether both are converged, from products with A and A^+ on vectors (d,), and their transposes."""
    if symmetric:
        top, sure = largest(times, d)
        bottom, sure_too = largest(inverse, d)
    else:
        top, sure = largest(lambda u: times_t(times(u)), d)
        bottom, sure_too = largest(lambda u: inverse(inverse_t(u)), d)
        top, bottom = np.sqrt(top), np.sqrt(bottom)
    smallest = (1.0 - TOLERANCE) / bottom if bottom > 0 else 0.0
    return float(smallest), float(top * (1.0 + TOLERANCE)), sure and sure_too
