"""Dense factorisation: A is assembled once, its spectrum and null space are found, and one factor serves every right-hand side."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from implicit_cli.core.linear.base import Matrix, Operator, Solved, Spectrum, project_out, report

RANK_TOLERANCE = 1e-12
"""Singular values below this fraction of the largest (or d eps, if more) count as zero: they are rounding, not information."""


def spectrum_of(A: Matrix, *, symmetric: bool) -> Spectrum:
    """Singular values and null spaces of A (d, d) by a symmetric eigendecomposition or an SVD; O(d^3)."""
    sigma, right, left, signs = _decompose(A, symmetric)
    largest = float(jnp.max(sigma, initial=0.0))
    floor = largest * max(RANK_TOLERANCE, A.shape[0] * float(jnp.finfo(A.dtype).eps))
    null = sigma <= floor
    kept = sigma[~null]
    return Spectrum(
        sigma_min=float(jnp.min(kept)) if kept.size else 0.0,
        sigma_max=largest,
        Z=right[:, null],
        Y=left[:, null],
        negative=int(jnp.sum((signs < 0) & ~null)),
    )


@partial(jax.jit, static_argnums=1)
def _decompose(A: Matrix, symmetric: bool) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    if symmetric:
        values, vectors = jnp.linalg.eigh((A + A.T) / 2)
        return jnp.abs(values), vectors, vectors, jnp.sign(values)
    left, sigma, right_t = jnp.linalg.svd(A)
    return sigma, right_t.T, left, jnp.ones_like(sigma)


class DenseSolver:
    """LU or Cholesky (lineax) of the completed A, factorised once, with one step of iterative refinement.

    The residual is recomputed with `operator`, that is, from F and not from the assembled matrix.
    """

    def __init__(self, A: Matrix, operator: Operator, *, method: str, tol: float) -> None:
        self.operator, self.tol = operator, tol
        self.spectrum = spectrum_of(A, symmetric=operator.symmetric)
        definite = operator.symmetric and self.spectrum.negative == 0
        self.method = method if method != "auto" else ("cholesky" if definite else "lu")
        scale = self.spectrum.sigma_max or 1.0
        completed = A + scale * (self.spectrum.Y @ self.spectrum.Z.T)
        self._solver: lx.AbstractLinearSolver = lx.Cholesky() if self.method == "cholesky" else lx.LU()
        self._state = _factorise(completed, self._solver)

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        domain, codomain = (self.spectrum.Y, self.spectrum.Z) if transpose else (self.spectrum.Z, self.spectrum.Y)
        b = project_out(codomain, b)

        def remainder(u: Matrix) -> Matrix:
            return b - project_out(codomain, self.operator.times(u, transpose=transpose))

        u, failed = _substitute(self._solver, self._state, b, transpose)
        correction, _ = _substitute(self._solver, self._state, remainder(u), transpose)
        u = project_out(domain, u + correction)
        return report(u, b, remainder(u), 1, failed, tol=self.tol, method=self.method, size_of_A=self.spectrum.sigma_max)


@eqx.filter_jit
def _factorise(A: Matrix, solver: lx.AbstractLinearSolver) -> Any:
    if isinstance(solver, lx.Cholesky):
        return solver.init(lx.MatrixLinearOperator((A + A.T) / 2, lx.positive_semidefinite_tag), options={})
    return solver.init(lx.MatrixLinearOperator(A), options={})


@eqx.filter_jit
def _substitute(solver: lx.AbstractLinearSolver, state: Any, b: Matrix, transpose: bool) -> tuple[Matrix, Matrix]:
    if transpose:
        state, _ = solver.transpose(state, {})

    def column(c: Matrix) -> tuple[Matrix, Matrix]:
        value, result, _ = solver.compute(state, c, {})
        return value, result != lx.RESULTS.successful

    return jax.vmap(column, in_axes=1, out_axes=(1, 0))(b)
