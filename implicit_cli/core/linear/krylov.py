"""Matrix-free solves: CG, GMRES and BiCGStab of lineax on products with A, null space projected out of every vector.

Known null directions (the problem's gauges) are removed by completion, as for dense matrices; unknown ones show as a residual
that does not fall, and are then reported as a failed solve, never hidden by a shift.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from implicit_cli.core.linear.base import Matrix, Operator, Solved, Spectrum, project_out, report

POWER_STEPS = 30
INVERSE_STEPS = 6


class KrylovSolver:
    """One of `cg` (symmetric, definite), `gmres` or `bicgstab`, to relative tolerance `tol`, in at most `max_steps` steps."""

    def __init__(self, operator: Operator, gauges: Matrix, *, method: str, tol: float, max_steps: int) -> None:
        self.operator, self.method, self.tol = operator, method, tol
        self._Z = jnp.linalg.qr(gauges)[0] if gauges.shape[1] else gauges
        self._Y = self._Z if operator.symmetric else _left_null(self._Z)
        self._scale = self._sigma_max() if gauges.shape[1] else 1.0
        # lineax stops on its own recurrence, entry by entry and relative to entries of b that may be zero: so an absolute tolerance
        # too (right-hand sides have length 1), and tighter ones than `tol`, which the recomputed residual must meet
        rtol, atol = tol / 10, tol / 10 / operator.d**0.5
        self._solver: lx.AbstractLinearSolver
        match method:
            case "cg":
                self._solver = lx.CG(rtol=rtol, atol=atol, max_steps=max_steps)
            case "gmres":
                self._solver = lx.GMRES(
                    rtol=rtol, atol=atol, max_steps=max_steps, restart=min(operator.d, 100), stagnation_iters=max_steps
                )
            case "bicgstab":
                self._solver = lx.BiCGStab(rtol=rtol, atol=atol, max_steps=max_steps)
            case _:
                raise ValueError(f"no Krylov method {method!r}")

    @cached_property
    def spectrum(self) -> Spectrum:
        """Extreme singular values by power iterations; costs a dozen solves, so only where it is asked for."""
        return Spectrum(self._sigma_min(), self._sigma_max(), self._Z, self._Y, computed=False)

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        domain, codomain = (self._Y, self._Z) if transpose else (self._Z, self._Y)
        b = project_out(codomain, b)
        size = jnp.linalg.norm(b, axis=0, keepdims=True)
        products = self.operator.At_times if transpose else self.operator.A_times
        u, failed, steps = _solve_columns(
            products, self._solver, self.operator.p, domain, codomain, self._scale, b / jnp.where(size > 0, size, 1.0)
        )
        u = project_out(domain, jnp.where(size > 0, u * size, 0.0))  # BiCGStab breaks down on b = 0
        residual = b - project_out(codomain, self.operator.times(u, transpose=transpose))
        return report(u, b, residual, steps, failed & (size[0] > 0), tol=self.tol, method=self.method)

    def _sigma_max(self) -> float:
        """Power iteration on A' A."""
        u = _start(self.operator.d)
        for _ in range(POWER_STEPS):
            u = self.operator.times(self.operator.times(u), transpose=True)
            u = u / jnp.linalg.norm(u)
        return float(jnp.linalg.norm(self.operator.times(u)))

    def _sigma_min(self) -> float:
        """Inverse power iteration, `A^-1 A'^-1`, with the solver itself; 0 when its solves fail."""
        u = project_out(self._Y, _start(self.operator.d))
        growth = jnp.asarray(jnp.inf)
        for _ in range(INVERSE_STEPS):
            u = u / jnp.linalg.norm(u)
            first = self.solve(u, transpose=True)
            second = self.solve(first.value)
            if first.status.any() or second.status.any():
                return 0.0
            u, growth = second.value, jnp.linalg.norm(second.value)
        return float(1.0 / jnp.sqrt(growth))


@eqx.filter_jit
def _solve_columns(
    products: Any, solver: lx.AbstractLinearSolver, p: Any, domain: Matrix, codomain: Matrix, scale: float, b: Matrix
) -> tuple[Matrix, Matrix, Matrix]:
    """Columns one by one: a batch of Krylov solves would run as long as its slowest column."""

    def completed(u: jax.Array) -> jax.Array:
        return products(p, u[:, None])[:, 0] + scale * (codomain @ (domain.T @ u))

    # lineax's CG asks for the tag; where it is wrong, the recomputed residual says so
    tags = lx.positive_semidefinite_tag if isinstance(solver, lx.CG) else ()
    operator = lx.FunctionLinearOperator(completed, jax.ShapeDtypeStruct(b.shape[:1], b.dtype), tags)

    def column(c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        solution = lx.linear_solve(operator, c, solver, throw=False)
        return solution.value, solution.result != lx.RESULTS.successful, jnp.asarray(solution.stats["num_steps"])

    value, failed, steps = jax.lax.map(column, b.T)
    return value.T, failed, steps


def _start(d: int) -> Matrix:
    return jax.random.normal(jax.random.key(0), (d, 1))


def _left_null(Z: Matrix) -> Matrix:
    """Left null vectors are not known without a factorisation; a gauge of a non-symmetric F needs a dense method."""
    if Z.shape[1]:
        raise ValueError("a gauge of a non-symmetric condition needs a dense linear solver")
    return Z
