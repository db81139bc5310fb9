"""Matrix-free solves: products with A only, A linearised once per solve, null space projected out of every vector.

    cg, minres             symmetric A, many right-hand sides at once (`simultaneous`)
    gmres, bicgstab, lsmr  any A, column by column (lineax)

Known null directions (the problem's gauges) are removed, by deflation or by completion as for dense matrices; unknown ones show
as a residual that does not fall, and are then reported as a failed solve, never hidden by a shift.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from scipy.sparse import csr_array

from implicit_cli.core.linear.base import Matrix, Operator, Solved, Spectrum, Unsuitable, project_out, rank_floor, report
from implicit_cli.core.linear.condensed import Condensed
from implicit_cli.core.linear.extremes import without_inverse
from implicit_cli.core.linear.simultaneous import linearised, solve_host, solve_traced

POWER_STEPS = 30
INVERSE_STEPS = 6
RESTARTS = 3
"""Runs of an iteration on what its recurrence has lost: each starts from the recomputed residual."""
BLOCK = 2**17
"""Numbers in a block of right-hand sides on the host: 1 MiB, so that the vectors of a step stay in the cache."""


class KrylovSolver:
    """One of `cg`, `minres`, `gmres`, `bicgstab`, `lsmr`, to relative tolerance `tol`, in at most `max_steps` steps.

    `host` is an assembled sparse A (SciPy), for `cg` and `minres` on the CPU; `precondition(p, U)` is M^-1 U. With `condensed`, in
    place of `host`, they iterate on what is left without the loose unknowns. Raises `Unsuitable` for `cg` and `minres` of a
    non-symmetric A, and for gauges of one, whose left null vectors products do not show.
    """

    def __init__(
        self,
        operator: Operator,
        gauges: Matrix,
        *,
        method: str,
        tol: float,
        max_steps: int,
        host: Any = None,
        precondition: Any = None,
        condensed: Condensed | None = None,
    ) -> None:
        if not operator.symmetric and method in ("cg", "minres"):
            raise Unsuitable(f"{method} needs a symmetric dF/dx")
        if not operator.symmetric and gauges.shape[1]:
            raise Unsuitable("a gauge of a non-symmetric condition needs a factorisation")
        self.operator, self.method, self.tol, self.max_steps = operator, method, tol, max_steps
        self._host, self._precondition, self._condensed = host, precondition, condensed
        self._Z = jnp.linalg.qr(gauges)[0] if gauges.shape[1] else gauges
        self._deflated = np.asarray(self._Z)
        if condensed is not None:
            self._host = csr_array(condensed.A)
            self._deflated = np.linalg.qr(condensed.without(self._deflated))[0]
            self._Z = jnp.asarray(condensed.completed(self._deflated))

    @property
    def null_space(self) -> tuple[Matrix, Matrix]:
        return self._Z, self._Z

    @cached_property
    def spectrum(self) -> Spectrum:
        """Extreme singular values: of a positive definite A at the cost of one more solve, else of a dozen, so only if asked for.

        A negative end of the spectrum is seen, how many more eigenvalues are negative is not.
        """
        if not self.operator.symmetric:
            return Spectrum(self._sigma_min(), self._sigma_max, self._Z, self._Z, computed=False)
        low, high = self._ends()
        floor = rank_floor(self.operator.d, self._deflated.dtype) * abs(high)
        negative = int(low < -floor)
        size = max(high, -low) if negative else high
        return Spectrum(low if low > floor else self._sigma_min(), size, self._Z, self._Z, negative, computed=False)

    def inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        return self.solve(b, transpose=transpose).value

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        b = project_out(self._Z, b)
        u, steps = jnp.zeros_like(b), np.zeros(b.shape[1], dtype=int)
        residual, failed, open_ = b, np.zeros(b.shape[1], dtype=bool), np.ones(b.shape[1], dtype=bool)
        for _ in range(RESTARTS if b.shape[1] else 0):
            size = jnp.where(jnp.asarray(open_), jnp.linalg.norm(residual, axis=0), 0.0)[None]
            scaled = jnp.where(size > 0, residual / jnp.where(size > 0, size, 1.0), 0.0)
            correction, failed, taken = self._run(scaled, int(self.max_steps - steps.max()), transpose)
            there = np.asarray(size[0] > 0)
            failed = np.asarray(failed) & there
            u = project_out(self._Z, u + jnp.where(size > 0, correction * size, 0.0))  # BiCGStab breaks down on b = 0
            steps = steps + np.where(there, np.asarray(taken), 0)
            residual = self._without(b - project_out(self._Z, self.operator.times(u, transpose=transpose)))
            solved = report(u, b, residual, steps, False, tol=self.tol, method=self.method)
            open_ = (solved.status != 0) & ~failed
            if not open_.any() or steps.max() >= self.max_steps:
                break
        return report(u, b, residual, steps, False, tol=self.tol, method=self.method)

    def _run(self, b: Matrix, max_steps: int, transpose: bool) -> tuple[Matrix, Any, Any]:
        """Corrections, failures and steps for residuals b of length 1 (or 0)."""
        # tighter than `tol`, which the recomputed residual must meet
        tol = self.tol / 10
        operator = self.operator
        if self._condensed is not None:
            return self._run_condensed(self._condensed, np.asarray(b), tol, max_steps)
        if self.method in ("cg", "minres") and self._host is not None:
            return self._run_host(np.asarray(b), tol, max_steps)
        if self.method in ("cg", "minres"):
            return solve_traced(
                self.method, operator.A_times, self._precondition, operator.p, self._Z, b, tol=tol, max_steps=max_steps
            )
        # lineax stops entry by entry, relative to entries of b that may be zero: so an absolute tolerance too
        rtol, atol = tol, tol / operator.d**0.5
        most = self.max_steps  # and not what is left of them: a static number, for which lineax compiles
        solver: lx.AbstractLinearSolver
        match self.method:
            case "gmres":
                solver = lx.GMRES(rtol=rtol, atol=atol, max_steps=most, restart=min(operator.d, 100), stagnation_iters=most)
            case "bicgstab":
                solver = lx.BiCGStab(rtol=rtol, atol=atol, max_steps=most)
            case "lsmr":
                solver = lx.LSMR(rtol=rtol, atol=rtol, conlim=1e16, max_steps=most)
            case _:
                raise ValueError(f"no Krylov method {self.method!r}")
        products = operator.At_times if transpose else operator.A_times
        precondition = None if self.method == "lsmr" else self._precondition
        scale = self._sigma_max if self._Z.shape[1] else 1.0
        # one by one: a batch would run as long as its slowest column
        found = [_solve_column(products, precondition, solver, operator.p, self._Z, scale, b[:, i]) for i in range(b.shape[1])]
        value, failed, taken = zip(*found, strict=True)
        return jnp.stack(value, axis=1), np.array([bool(f) for f in failed]), np.array([int(t) for t in taken])

    def _run_condensed(self, condensed: Condensed, b: np.ndarray, tol: float, max_steps: int) -> tuple[Matrix, Any, Any]:
        rest = project_out(self._deflated, condensed.rest(b))
        length = np.linalg.norm(rest, axis=0)
        value, failed, steps = self._run_host(rest / np.where(length > 0, length, 1.0), tol, max_steps)
        return jnp.asarray(condensed.whole(np.asarray(value) * length, b)), failed, steps

    def _run_host(self, b: np.ndarray, tol: float, max_steps: int) -> tuple[Matrix, Any, Any]:
        Z, A = self._deflated, self._host

        def deflate(u: np.ndarray) -> np.ndarray:
            return u - Z @ (Z.T @ u) if Z.shape[1] else u

        def solve_M(r: np.ndarray) -> np.ndarray:
            if self._precondition is not None:
                r = np.asarray(self._without(self._precondition(self.operator.p, r)))
            return deflate(r)

        width = max(1, BLOCK // max(b.shape[0], 1))
        parts = [
            solve_host(self.method, lambda u: deflate(A @ u), solve_M, b[:, i : i + width], tol=tol, max_steps=max_steps)
            for i in range(0, b.shape[1], width)
        ]
        value, failed, steps = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return jnp.asarray(value), failed, steps

    def _without(self, u: Matrix) -> Matrix:
        """u with zeros for what is loose, and is not judged."""
        return u if self._condensed is None else jnp.asarray(self._condensed.without(np.asarray(u)))

    def _ends(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue of a symmetric A, of what is left of it without the loose unknowns."""

        def times(u: np.ndarray) -> np.ndarray:
            if self._host is not None:
                return np.asarray(self._host @ u)
            return np.asarray(self.operator.times(jnp.asarray(u)[:, None]))[:, 0]

        def deflate(u: np.ndarray) -> np.ndarray:
            return project_out(self._deflated, u[:, None])[:, 0]

        return without_inverse(times, deflate, np.asarray(self._without(_start(self.operator.d)))[:, 0], self.max_steps)

    @cached_property
    def _sigma_max(self) -> float:
        """Power iteration on A' A."""
        u = _start(self.operator.d)
        for _ in range(POWER_STEPS):
            u = self.operator.times(self.operator.times(u), transpose=True)
            size = jnp.linalg.norm(u)
            u = u / jnp.where(size > 0, size, 1.0)
        return float(jnp.linalg.norm(self.operator.times(u)))

    def _sigma_min(self) -> float:
        """Largest Ritz value of `A^-1 A'^-1` after a few solves with the solver itself; 0 when they fail."""
        Q = np.zeros((self.operator.d, 0))
        images = Q
        u = project_out(self._deflated, np.asarray(self._without(_start(self.operator.d))))
        for _ in range(min(INVERSE_STEPS, self.operator.d - self._Z.shape[1])):
            u = u - Q @ (Q.T @ u)
            u = u - Q @ (Q.T @ u)
            size = np.linalg.norm(u)
            if not size > 0:
                break
            Q = np.concatenate([Q, u / size], axis=1)
            first = self.solve(jnp.asarray(Q[:, -1:]), transpose=True)
            if first.status.any():
                return 0.0
            second = self.solve(self._without(first.value))
            if second.status.any():
                return 0.0
            u = np.asarray(self._without(second.value))
            images = np.concatenate([images, u], axis=1)
        growth = float(np.max(np.linalg.eigvalsh((Q.T @ images + images.T @ Q) / 2), initial=0.0))
        return float(1.0 / np.sqrt(growth)) if growth > 0 else 0.0


@eqx.filter_jit
def _solve_column(
    products: Any, precondition: Any, solver: lx.AbstractLinearSolver, p: Any, Z: Matrix, scale: float, b: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One column (d,): solution, whether it failed, steps."""
    times = linearised(products, p, b[:, None])
    struct = jax.ShapeDtypeStruct(b.shape, b.dtype)

    def completed(u: jax.Array) -> jax.Array:
        image = times(u[:, None])[:, 0]
        return image + scale * (Z @ (Z.T @ u)) if Z.shape[1] else image

    def approximate(r: jax.Array) -> jax.Array:
        return precondition(p, r[:, None])[:, 0]

    operator = lx.FunctionLinearOperator(completed, struct)
    options = {}
    if precondition is not None:
        options["preconditioner"] = lx.FunctionLinearOperator(approximate, struct, lx.positive_semidefinite_tag)
    solution = lx.linear_solve(operator, b, solver, options=options, throw=False)
    return solution.value, solution.result != lx.RESULTS.successful, jnp.asarray(solution.stats["num_steps"])


def _start(d: int) -> Matrix:
    return jax.random.normal(jax.random.key(0), (d, 1))
