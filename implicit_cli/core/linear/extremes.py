"""Extreme singular values by Lanczos: with a factor on A and its inverse (ARPACK, through SciPy), without one on A alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from implicit_cli.core.linear.base import FloatArray, rank_floor

EXACT = 512
"""Up to this d all singular values are computed: the decomposition is quick, and its answer has no tolerance."""
TOLERANCE = 1e-3
"""Relative tolerance of Lanczos. Ritz values lie inside the spectrum, so sigma_min is lowered and sigma_max raised by as much."""
FIRST_LOOK, LATER_LOOKS = 32, 1.25
"""Steps of Lanczos with products alone after which its Ritz values are looked at, and by how much more each time."""
EXHAUSTED = 1e-10
"""A step of Lanczos this short has found all that its start has a part in."""

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


def without_inverse(times: Product, deflate: Product, start: FloatArray, most: int) -> tuple[float, float]:
    """Smallest and largest eigenvalue of a symmetric operator on what `deflate` leaves, from so many products at most.

    About as many as conjugate gradients take, for it is the same iteration. What it forgets of orthogonality makes it find
    eigenvalues again, and moves neither end. Where the smallest is not above rounding, it is not run to convergence; it is 0 where
    products are not finite, or `deflate` leaves nothing.
    """
    before, v, beta = np.zeros_like(start), deflate(start), 0.0
    length, floor = np.linalg.norm(v), rank_floor(start.size, start.dtype)
    if not length > floor * np.linalg.norm(start):
        return 0.0, 0.0
    v = v / length
    diagonal, beside = list[float](), list[float]()
    low, high, look = float("inf"), 0.0, FIRST_LOOK
    for step in range(1, most + 1):
        w = times(v) - beta * before
        diagonal.append(float(v @ w))
        w = deflate(w - diagonal[-1] * v)  # in the recurrence, where the least part along a null vector would grow
        beta = float(np.linalg.norm(w))
        if not np.isfinite(beta):
            return 0.0, high
        exhausted = not beta > EXHAUSTED * max(map(abs, diagonal))
        if step in (look, most) or exhausted:
            found, high = (float(eigvalsh_tridiagonal(diagonal, beside, select="i", select_range=(i, i))[0]) for i in (0, step - 1))
            if exhausted or not found > floor * high or low - found <= TOLERANCE * found:
                return (1.0 - TOLERANCE) * found, high
            low, look = found, int(LATER_LOOKS * look)
        beside.append(beta)
        before, v = v, w / beta
    return (1.0 - TOLERANCE) * low, high
