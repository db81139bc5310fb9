"""Linear solves inside compiled, batched and differentiated functions, where no Python can look at numbers: the Python door's own.

A is given by its product `u -> A u` on vectors (d,), made once by `jax.linearize`. Up to `DENSE_LIMIT` unknowns, or where a dense
method is named, A is assembled and factorised once for all right-hand sides and for the transpose. Where the factor shows that A is
singular, the pseudo-inverse takes its place: solutions are then of minimum norm. Above the limit a Krylov method of lineax works
on products.

What fails is NaN and has a status; there is no other value to mistake for a derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lineax as lx
import numpy as np

from implicit_cli.core.degeneracy import RANGE_TOLERANCE
from implicit_cli.core.linear.base import rank_floor
from implicit_cli.status import Status

Array = jax.Array
Product = Callable[[Array], Array]
Method = Literal["auto", "lu", "cholesky", "svd", "cg", "gmres", "bicgstab"]

DENSE_LIMIT = 2048
DENSE = ("lu", "cholesky", "svd")
SKETCH = 8
"""Random combinations of rows that estimate the residuals of many columns."""


class Linear(NamedTuple):
    """How the door solves A u = b: method, tolerance on |A u - b| relative to |b| + |A| |u|, and most steps of an iteration.

    Left out, the tolerance is 1e-10, or 1000 eps of the arithmetic if that is more, and the steps are 10 d, at least 1000.
    """

    method: Method = "auto"
    tol: float | None = None
    max_steps: int | None = None

    def tolerance(self, dtype: Any) -> float:
        return self.tol if self.tol is not None else max(1e-10, 1e3 * float(jnp.finfo(dtype).eps))

    def resolve(self, d: int, *, definite: bool) -> str:
        """The method for d unknowns."""
        if self.method != "auto":
            return self.method
        if d <= DENSE_LIMIT:
            return "cholesky" if definite else "lu"
        return "cg" if definite else "gmres"


class Solved(NamedTuple):
    """Solutions (d, k) with the status and relative residual of each column (k,); for one right-hand side without the last axis."""

    value: Array
    status: Array
    residual: Array


class Factor(NamedTuple):
    """A dense A (d, d) with its LU or Cholesky factor; where that shows A to be singular, the pseudo-inverse takes its place."""

    A: Array
    factor: tuple[Array, ...]
    singular: Array


def assemble(product: Product, d: int, dtype: Any) -> Array:
    """The matrix (d, d) of a product."""
    return jax.vmap(product, out_axes=1)(jnp.eye(d, dtype=dtype))


def factorise(A: Array, method: str) -> Factor:
    """Factorise A once, O(d^3); with `svd`, nothing is factorised and A is treated as singular."""
    floor = rank_floor(A.shape[0], A.dtype)
    if method == "svd":
        return Factor(A, (), jnp.asarray(True))
    if method == "cholesky":
        lower = jnp.linalg.cholesky(A)
        factor: tuple[Array, ...] = (lower,)
        pivots = jnp.diagonal(lower) ** 2
    else:
        factor = jsl.lu_factor(A)
        pivots = jnp.abs(jnp.diagonal(factor[0]))
    # a comparison with NaN is false, so that a broken factor counts as singular
    regular = jnp.min(pivots, initial=jnp.inf) > floor * jnp.max(pivots, initial=0.0)
    return Factor(A, factor, jnp.logical_not(regular))


def substitute(f: Factor, b: Array, *, transpose: bool = False) -> Array:
    """`A^+ b` for b (d, k), or with the transpose: by the factor, or where A is singular by an SVD, made in that case only."""

    def singular(b: Array) -> Array:
        left, inverse, right = _pseudo(f.A)
        return left @ (inverse[:, None] * (right.T @ b)) if transpose else right @ (inverse[:, None] * (left.T @ b))

    def regular(b: Array) -> Array:
        if len(f.factor) == 1:
            return jsl.cho_solve((f.factor[0], True), b)
        return jsl.lu_solve((f.factor[0], f.factor[1]), b, trans=1 if transpose else 0)

    return jax.lax.cond(f.singular, singular, regular, b) if f.factor else singular(b)


def _residuals(f: Factor, b: Array, value: Array, transpose: bool) -> Array:
    """|b - A u| of each column (k,).

    For many columns that costs as much as the solve; where the factor is sound, it is then estimated from `SKETCH` random
    combinations of the rows, which is within a factor of two or three.
    """
    A = f.A.T if transpose else f.A

    def exact(_: None) -> Array:
        residual = b - A @ value
        if transpose:  # what lies outside the range of A' has been left out on purpose
            residual = jax.lax.cond(f.singular, lambda r: A @ substitute(f, r, transpose=True), lambda r: r, residual)
        return jnp.linalg.norm(residual, axis=0)

    def sketched(_: None) -> Array:
        S = probes(A.shape[0], A.dtype) / SKETCH**0.5
        return jnp.linalg.norm(S @ b - (S @ A) @ value, axis=0)

    return exact(None) if b.shape[1] <= 2 * SKETCH else jax.lax.cond(f.singular, exact, sketched, None)


def probes(d: int, dtype: Any) -> Array:
    """Random rows of a fixed seed (`SKETCH`, d): a small constant, since a generator on the device costs more than it saves."""
    return jnp.asarray(np.random.default_rng(0).standard_normal((SKETCH, d)), dtype)


def left_null(f: Factor, v: Array) -> Array:
    """The part of v (d,) in the left null space of a singular A: what its range lacks."""
    left, inverse, _ = _pseudo(f.A)
    return left @ jnp.where(inverse == 0.0, left.T @ v, 0.0)


def _pseudo(A: Array) -> tuple[Array, Array, Array]:
    """Left and right singular vectors (columns) and inverse singular values, zero in the null space."""
    left, sigma, right = jnp.linalg.svd(A)
    kept = sigma > rank_floor(A.shape[0], A.dtype) * jnp.max(sigma, initial=0.0)
    return left, jnp.where(kept, 1.0 / jnp.where(kept, sigma, 1.0), 0.0), right.T


def dense(f: Factor, b: Array, linear: Linear, *, transpose: bool = False) -> Solved:
    """Solve with a factor, judge each column.

    A right-hand side outside the range of A has no solution: its column is NaN, `singular`. That holds forward only: a cotangent's
    part outside the range of A' weighs a direction that the solution does not move in, and is left out.
    """
    value = substitute(f, b, transpose=transpose)
    tol = linear.tolerance(b.dtype)
    size_b, size_r = jnp.linalg.norm(b, axis=0), _residuals(f, b, value, transpose)
    allowed = tol * (size_b + jnp.linalg.norm(f.A) * jnp.linalg.norm(value, axis=0))
    # what is left of b on a singular A is its part outside the range, to be judged against b itself
    allowed = jnp.where(f.singular, jnp.minimum(allowed, RANGE_TOLERANCE * size_b), allowed)
    failed = jnp.logical_not(size_r <= allowed)
    status = jnp.where(failed, jnp.where(f.singular, int(Status.SINGULAR), int(Status.LINEAR_SOLVE_FAILED)), int(Status.OK))
    relative = size_r / jnp.where(size_b > 0, size_b, 1.0)
    return Solved(jnp.where(failed[None, :], jnp.nan, value), status.astype(jnp.int32), relative)


def krylov(product: Product, b: Array, linear: Linear, method: str, null: Array) -> Solved:
    """lineax's CG, GMRES or BiCGStab on one right-hand side b (d,), known null directions (d, l) projected out of every vector."""
    d = b.shape[0]
    steps = linear.max_steps or max(1000, 10 * d)
    Z = jnp.linalg.qr(null)[0] if null.shape[1] else null

    def project(v: Array) -> Array:
        return v - Z @ (Z.T @ v)

    def completed(u: Array) -> Array:
        return project(product(project(u))) + Z @ (Z.T @ u)

    b = project(b)
    size = jnp.linalg.norm(b)
    tol = linear.tolerance(b.dtype)
    rtol, atol = tol / 10, tol / 10 / d**0.5
    solver: lx.AbstractLinearSolver
    match method:
        case "cg":
            solver = lx.CG(rtol=rtol, atol=atol, max_steps=steps)
        case "gmres":
            solver = lx.GMRES(rtol=rtol, atol=atol, max_steps=steps, restart=min(d, 100), stagnation_iters=steps)
        case "bicgstab":
            solver = lx.BiCGStab(rtol=rtol, atol=atol, max_steps=steps)
        case _:
            raise ValueError(f"no linear method {method!r}, allowed: auto, lu, cholesky, svd, cg, gmres, bicgstab")
    operator = lx.FunctionLinearOperator(
        completed, jax.ShapeDtypeStruct(b.shape, b.dtype), lx.positive_semidefinite_tag if method == "cg" else ()
    )
    unit = b / jnp.where(size > 0, size, 1.0)
    value = project(lx.linear_solve(operator, unit, solver, throw=False).value)
    residual = jnp.linalg.norm(unit - project(product(value)))
    failed = jnp.logical_and(jnp.logical_not(residual <= tol), size > 0)
    status = jnp.where(failed, int(Status.LINEAR_SOLVE_FAILED), int(Status.OK))
    value = jnp.where(size > 0, value * size, 0.0)
    return Solved(jnp.where(failed, jnp.nan, value), status.astype(jnp.int32), jnp.where(size > 0, residual, 0.0))
