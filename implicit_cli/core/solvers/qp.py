"""A primal-dual interior point method for convex quadratic programs, on the device: compiled, and `vmap`-able.

    minimise  x'Q x / 2 + c'x    subject to    A x = b,    G x <= h

Mehrotra's predictor-corrector steps on dense factors of the reduced KKT matrix. When the complementarity is small, the active
set is read off and a proximal method of multipliers goes down to rounding, in x and in the multipliers; redundant constraints
are allowed. Rows, columns and objective are balanced first. An infeasible or unbounded program ends above the tolerance.

Source: Nocedal and Wright, "Numerical Optimization", 2nd edition, algorithm 16.4; the starting point is that of Vandenberghe, "The
CVXOPT linear and quadratic cone program solvers", 2010; balancing after Ruiz, RAL-TR-2001-034.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal, Limits, residual

MOST_STEPS = 100
"""Interior points converge in 10 to 30 steps; a program that needs more has no solution."""
REGULAR = 1e-9
"""Added to the diagonal of the balanced KKT matrix, and taken out again by refinement."""
PROXIMAL = 1e-6
"""The same of the active-set polish, each of whose rounds takes it out again."""
ROUNDS = 6
NEAR = 1e-4
"""Complementarity, of the balanced program, below which the active set is tried."""


class Quadratic(NamedTuple):
    """min x'Q x / 2 + c'x subject to A x = b and G x <= h: Q (n, n), A (p, n), G (m, n)."""

    Q: jax.Array
    c: jax.Array
    A: jax.Array
    b: jax.Array
    G: jax.Array
    h: jax.Array


class Iterate(NamedTuple):
    """Primal x (n,), multipliers nu (p,) and lam (m,) > 0, slacks s (m,) > 0."""

    x: jax.Array
    nu: jax.Array
    lam: jax.Array
    s: jax.Array


class Scales(NamedTuple):
    """Factors, powers of two, from the balanced x (n,), nu (p,) and lam (m,) to those of the program."""

    x: jax.Array
    nu: jax.Array
    lam: jax.Array


class State(NamedTuple):
    """What stays between steps: the balanced program, the way back from it, and the iterate."""

    program: Quadratic
    scales: Scales
    at: Iterate
    steps: jax.Array
    stuck: jax.Array


def primal_index(limits: Limits) -> np.ndarray:
    """Where x (d,) holds the primal unknowns: their indices (n,)."""
    return np.concatenate([np.arange(first, last) for first, last in limits.primal])


def assemble(limits: Limits, like: jax.Array, x: Any, nu: Any, lam: Any) -> jax.Array:
    """The vector (d,) of a KKT point: primal unknowns and multipliers in their slots."""
    full = jnp.zeros_like(like).at[primal_index(limits)].set(jnp.asarray(x))
    return full.at[slice(*limits.nu)].set(jnp.asarray(nu)).at[slice(*limits.lam)].set(jnp.asarray(lam))


def extract(goal: Goal, p: Point) -> Quadratic:
    """The quadratic program that a `kkt` goal looks like at p.x: exact where f is quadratic and h, g are affine."""
    assert goal.limits is not None
    assert goal.f is not None
    where = primal_index(goal.limits)
    v = p.x[where]

    def on_primal(function: Any) -> Any:
        return lambda v: function(p.x.at[where].set(v), p.theta, p.data)

    def affine(function: Any) -> tuple[jax.Array, jax.Array]:
        if function is None:
            return jnp.zeros((0, v.size), v.dtype), jnp.zeros(0, v.dtype)
        slope = jax.jacrev(on_primal(function))(v)
        return slope, slope @ v - on_primal(function)(v)

    slope = jax.grad(on_primal(goal.f))
    Q = jax.jacfwd(slope)(v)
    return Quadratic(Q, slope(v) - Q @ v, *affine(goal.limits.h), *affine(goal.limits.g))


@functools.lru_cache(maxsize=16)
def extractor(goal: Goal) -> Any:
    """`extract` of this goal, compiled."""
    return jax.jit(functools.partial(extract, goal))


def is_qp(goal: Goal, p: Point) -> bool:
    """True where f looks quadratic and convex on the null space of h, and h and g look affine: a numeric test at three points."""
    if goal.limits is None or goal.f is None:
        return False
    noise = np.random.default_rng(0).standard_normal((2, p.x.size))
    at = [p.x, *(p.x + jnp.asarray(size * row, p.x.dtype) for size, row in zip((1.0, 100.0), noise, strict=True))]
    one, *others = ([np.asarray(part) for part in extractor(goal)(p._replace(x=x))] for x in at)
    for other in others:
        for a, b in zip(one, other, strict=True):
            size = np.max(np.abs(a), initial=0.0)
            if not np.isfinite(size) or not np.allclose(a, b, rtol=1e-9, atol=1e-9 * (1.0 + size)):
                return False
    Q, free = one[0], _null_space(one[2])
    curvature = np.linalg.eigvalsh(free.T @ Q @ free)
    return bool(np.min(curvature, initial=0.0) >= -1e-9 * np.max(np.abs(Q), initial=0.0))


def _null_space(A: Any) -> Any:
    _, sigma, Vt = np.linalg.svd(A) if A.size else (None, np.zeros(0), np.eye(A.shape[1]))
    return Vt[int(np.sum(sigma > 1e-12 * np.max(sigma, initial=0.0))) :].T


@dataclass(frozen=True)
class Qp:
    """Interior point for a `kkt` goal that is a convex quadratic program; does not use p.x but for its shape."""

    goal: Goal
    name: str = "qp"

    def init(self, p: Point) -> State:
        program, scales = _balance(extract(self.goal, p))
        return State(program, scales, _start(program), jnp.asarray(0), jnp.asarray(False))

    def step(self, p: Point, state: State) -> tuple[jax.Array, State]:
        limits, program, before = self.goal.limits, state.program, state.at
        assert limits is not None
        at, alpha = _predict_and_correct(program, before)
        sound = jnp.all(jnp.stack([jnp.all(jnp.isfinite(part)) for part in at]))
        at = jax.tree.map(lambda new, old: jnp.where(sound, new, old), at, before)
        mu = _mu(at)
        polished = jax.lax.cond(mu <= NEAR, functools.partial(_polish, program), lambda at: at, at)

        def whole(point: Iterate) -> Point:
            return p._replace(x=assemble(limits, p.x, *(a * b for a, b in zip(point[:3], state.scales, strict=True))))

        one, other = whole(polished), whole(at)
        x = jnp.where(residual(self.goal, one) <= residual(self.goal, other), one.x, other.x)
        stuck = ~sound | (alpha < 1e-7) | ((mu < 1e-24) & (program.h.size > 0)) | (state.steps + 1 >= MOST_STEPS)
        return x, State(program, state.scales, at, state.steps + 1, stuck)

    def stop(self, state: State) -> jax.Array:
        return state.stuck


def _mu(at: Iterate) -> jax.Array:
    return jnp.vdot(at.s, at.lam) / max(at.s.size, 1)


def _kkt_solver(program: Quadratic, W: jax.Array, regular: float, refinements: int) -> Any:
    """Solver of [[Q + G'diag(W)G, A'], [A, 0]] from one LU of it with +- regular on its diagonal."""
    Q, _, A, _, G, _ = program
    p, n = A.shape
    K = jnp.block([[Q + G.T @ (W[:, None] * G), A.T], [A, jnp.zeros((p, p), A.dtype)]])
    diagonal = regular * jnp.concatenate([jnp.ones(n, K.dtype), -jnp.ones(p, K.dtype)])
    factor = jax.scipy.linalg.lu_factor(K + jnp.diag(diagonal))

    def solve(top: jax.Array, bottom: jax.Array) -> tuple[jax.Array, jax.Array]:
        right = jnp.concatenate([top, bottom])
        u = jax.lax.fori_loop(
            0, 1 + refinements, lambda _, u: u + jax.scipy.linalg.lu_solve(factor, right - K @ u), jnp.zeros_like(right)
        )
        return u[:n], u[n:]

    return solve


def _balance(program: Quadratic) -> tuple[Quadratic, Scales]:
    """The program with rows and columns of its KKT matrix near 1 (Ruiz), and its objective too; powers of two lose no digit."""
    Q, c, A, b, G, h = program

    def largest(*matrices: jax.Array) -> jax.Array:
        """Of each column."""
        return jnp.max(jnp.stack([jnp.max(jnp.abs(matrix), axis=0, initial=0.0) for matrix in matrices]), axis=0)

    def power(size: jax.Array) -> jax.Array:
        return jnp.exp2(jnp.clip(jnp.round(jnp.log2(jnp.where(size > 0.0, size, 1.0))), -100.0, 100.0))

    def even(_: Any, scales: Scales) -> Scales:
        x, nu, lam = scales
        A_now, G_now = nu[:, None] * A * x[None, :], lam[:, None] * G * x[None, :]
        sizes = largest(x[:, None] * Q * x[None, :], A_now, G_now), largest(A_now.T), largest(G_now.T)
        return Scales(*(scale / power(jnp.sqrt(size)) for scale, size in zip(scales, sizes, strict=True)))

    x, nu, lam = jax.lax.fori_loop(0, 8, even, Scales(jnp.ones_like(c), jnp.ones_like(b), jnp.ones_like(h)))
    Q, c = x[:, None] * Q * x[None, :], x * c
    cost = power(jnp.maximum(jnp.max(jnp.abs(Q), initial=0.0), jnp.max(jnp.abs(c), initial=0.0)))
    balanced = Quadratic(Q / cost, c / cost, nu[:, None] * A * x[None, :], nu * b, lam[:, None] * G * x[None, :], lam * h)
    return balanced, Scales(x, cost * nu, cost * lam)


def _start(program: Quadratic) -> Iterate:
    """The point that minimises the objective and the violation together, with s and lam moved inside."""
    G, h = program.G, program.h
    x, nu = _kkt_solver(program, jnp.ones_like(h), REGULAR, 1)(G.T @ h - program.c, program.b)
    s = h - G @ x

    def inside(v: jax.Array) -> jax.Array:
        lowest = jnp.min(v, initial=jnp.inf)
        return jnp.where(lowest > 1e-8, v, v + 1.0 - lowest)

    return Iterate(x, nu, inside(-s), inside(s))


def _predict_and_correct(program: Quadratic, at: Iterate) -> tuple[Iterate, jax.Array]:
    """One step of Mehrotra's method, and its length."""
    Q, c, A, b, G, h = program
    x, nu, lam, s = at
    solve = _kkt_solver(program, lam / s, REGULAR, 2)
    r_x = Q @ x + c + A.T @ nu + G.T @ lam
    r_g = G @ x + s - h

    def direction(complementarity: jax.Array) -> Iterate:
        dx, dnu = solve(-r_x - G.T @ ((lam * r_g - complementarity) / s), b - A @ x)
        ds = -r_g - G @ dx
        return Iterate(dx, dnu, -(complementarity + lam * ds) / s, ds)

    def longest(step: Iterate) -> jax.Array:
        return jnp.minimum(_to_zero(s, step.s), _to_zero(lam, step.lam))

    mu = _mu(at)
    affine = direction(s * lam)
    alpha = jnp.minimum(longest(affine), 1.0)
    reached = _mu(Iterate(x, nu, lam + alpha * affine.lam, s + alpha * affine.s))
    sigma = (reached / jnp.where(mu > 0.0, mu, 1.0)) ** 3
    step = direction(s * lam + affine.s * affine.lam - sigma * mu)
    alpha = jnp.minimum(0.995 * longest(step), 1.0)
    return Iterate(*(a + alpha * d for a, d in zip(at, step, strict=True))), alpha


def _to_zero(v: jax.Array, dv: jax.Array) -> jax.Array:
    """The largest alpha with v + alpha dv >= 0."""
    falling = dv < 0.0
    return jnp.min(jnp.where(falling, -v / jnp.where(falling, dv, -1.0), jnp.inf), initial=jnp.inf)


def _polish(program: Quadratic, at: Iterate) -> Iterate:
    """The equality program of the active set (lam > s), by a proximal method of multipliers: contracts by PROXIMAL per round."""
    Q, c, A, b, G, h = program
    active = (at.lam > at.s).astype(at.s.dtype)
    W = active / PROXIMAL
    solve = _kkt_solver(program, W, PROXIMAL, 0)

    def contract(_: Any, point: Iterate) -> Iterate:
        x, nu, lam, s = point
        violation = G @ x - h
        dx, dnu = solve(-(Q @ x + c + A.T @ nu + G.T @ lam) - G.T @ (W * violation), b - A @ x)
        return Iterate(x + dx, nu + dnu, lam + W * (violation + G @ dx), s)

    return jax.lax.fori_loop(0, ROUNDS, contract, at._replace(lam=active * at.lam))
