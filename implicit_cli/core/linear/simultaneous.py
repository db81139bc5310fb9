"""CG and MINRES on many right-hand sides at once: one product with a matrix per step, a recurrence for each column of its own.

    cg      A symmetric, positive definite on the space that is left      M-weighted residual falls to the attainable minimum
    minres  A symmetric, any signature                                    |r| is minimal over the Krylov space

Columns that have converged are frozen, and left out of the products once three quarters of a block are done. Null directions Z are
projected out of the right-hand side and of every residual and preconditioned vector (deflation), so that rounding cannot feed them.
A step is written once, and runs compiled on JAX arrays or as it is on NumPy arrays, where an assembled sparse A is at hand.

Sources: Hestenes and Stiefel 1952; Paige and Saunders, "Solution of sparse indefinite systems of linear equations", 1975.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.linear.base import Matrix

Map = Callable[[Any], Any]
SHRINK = 4
"""A block of columns is compacted when at most one in so many is still active."""


class Cg(NamedTuple):
    """x, residual r, direction p (d, k); r' z, steps and whether the column is active or broken, per column (k,)."""

    x: Any
    r: Any
    p: Any
    rz: Any
    steps: Any
    active: Any
    broken: Any


class Minres(NamedTuple):
    """x; the last two Lanczos vectors r1, r2 (unscaled), y = M^-1 r2; the last two directions; the scalars of the QR recurrence."""

    x: Any
    r1: Any
    r2: Any
    y: Any
    w1: Any
    w2: Any
    oldb: Any
    beta: Any
    dbar: Any
    epsln: Any
    phibar: Any
    cs: Any
    sn: Any
    target: Any
    steps: Any
    active: Any
    broken: Any


def _dot(xp: Any, a: Any, b: Any) -> Any:
    return xp.einsum("ik,ik->k", a, b)


def start(xp: Any, method: str, solve_M: Map, b: Any, tol: float) -> Any:
    """State before the first step, from x = 0, for columns b of length 1 or 0."""
    y = solve_M(b)
    size = _dot(xp, b, y)
    there = size > 0
    k = b.shape[1]
    zero = xp.zeros_like(b)
    count = xp.zeros(k, dtype=int)
    broken = (size < 0) | ((size == 0) & (_dot(xp, b, b) > 0))
    if method == "cg":
        return Cg(zero, b, y, size, count, there, broken)
    beta = xp.sqrt(xp.where(there, size, 0.0))
    flat = xp.zeros_like(beta)
    return Minres(
        zero, b, b, y, zero, zero, flat + 1.0, beta, flat, flat, beta, flat - 1.0, flat, tol * beta, count, there, broken
    )  # fmt: skip


def step_cg(xp: Any, times: Map, solve_M: Map, tol: float, s: Cg) -> Cg:
    """One step of conjugate gradients; a column stops at |r| <= tol, or broken where the curvature p' A p is not positive."""
    q = times(s.p)
    curvature = _dot(xp, s.p, q)
    good = s.active & (curvature > 0)
    alpha = xp.where(good, s.rz / xp.where(good, curvature, 1.0), 0.0)
    x = s.x + alpha[None] * s.p
    r = s.r - alpha[None] * q
    z = solve_M(r)
    rz = _dot(xp, r, z)
    beta = xp.where(good, rz / xp.where(good, s.rz, 1.0), 0.0)
    on = good & (_dot(xp, r, r) > tol**2) & (rz > 0)
    return Cg(
        x, r, z + beta[None] * s.p, xp.where(good, rz, s.rz), s.steps + s.active.astype(int), on, s.broken | (s.active & ~good)
    )  # fmt: skip


def step_minres(xp: Any, times: Map, solve_M: Map, tol: float, s: Minres) -> Minres:
    """One Lanczos step and one Givens rotation; a column stops where the recurrence's residual has fallen by tol."""
    act = s.active
    beta = xp.where(act, s.beta, 1.0)
    v = xp.where(act[None], s.y / beta[None], 0.0)
    first = s.steps == 0
    y = times(v) - xp.where(first, 0.0, beta / s.oldb)[None] * s.r1
    alpha = _dot(xp, v, y)
    y = y - (alpha / beta)[None] * s.r2
    y_next = solve_M(y)
    squared = _dot(xp, y, y_next)
    following = xp.sqrt(xp.where(squared > 0, squared, 0.0))
    delta = s.cs * s.dbar + s.sn * alpha
    gbar = s.sn * s.dbar - s.cs * alpha
    gamma = xp.sqrt(gbar**2 + following**2)
    good = act & (gamma > 0) & (squared >= 0)
    safe = xp.where(gamma > 0, gamma, 1.0)
    cs, sn = gbar / safe, following / safe
    phi, phibar = cs * s.phibar, sn * s.phibar
    w = (v - s.epsln[None] * s.w1 - delta[None] * s.w2) / safe[None]
    x = xp.where(good[None], s.x + phi[None] * w, s.x)

    def keep(new: Any, old: Any) -> Any:
        return xp.where(good, new, old)

    return Minres(
        x,
        s.r2,
        y,
        y_next,
        s.w2,
        w,
        beta,
        following,
        keep(-s.cs * following, s.dbar),
        keep(s.sn * following, s.epsln),
        keep(phibar, s.phibar),
        keep(cs, s.cs),
        keep(sn, s.sn),
        s.target,
        s.steps + act.astype(int),
        good & (phibar > s.target) & (following > 0),
        s.broken | (act & ~good),
    )


STEPS: dict[str, Callable[..., Any]] = {"cg": step_cg, "minres": step_minres}


@partial(jax.jit, static_argnums=(0, 1))
def _advance(
    method: str, products: Callable[..., Matrix], precondition: Any, p: Any, Z: Matrix, s: Any, tol: Any, limit: Any
) -> Any:
    times, solve_M = _traced_maps(products, precondition, p, Z, s.x)

    def unfinished(carry: tuple[Any, Any]) -> Any:
        state, count = carry
        return (count < limit) & (jnp.sum(state.active) > state.active.size // SHRINK)

    def body(carry: tuple[Any, Any]) -> tuple[Any, Any]:
        state, count = carry
        return STEPS[method](jnp, times, solve_M, tol, state), count + 1

    return jax.lax.while_loop(unfinished, body, (s, jnp.zeros((), int)))


@partial(jax.jit, static_argnums=(0, 1))
def _begin(method: str, products: Any, precondition: Any, p: Any, Z: Matrix, b: Matrix, tol: Any) -> Any:
    _, solve_M = _traced_maps(products, precondition, p, Z, b)
    return start(jnp, method, solve_M, b, tol)


def linearised(products: Callable[..., Matrix], p: Any, like: Matrix) -> Map:
    """U -> A U at p with all that depends on p alone computed once, and not at each product."""
    return jax.linearize(lambda U: products(p, U), jnp.zeros_like(like))[1]


def _traced_maps(products: Any, precondition: Any, p: Any, Z: Matrix, like: Matrix) -> tuple[Map, Map]:
    def deflate(u: Matrix) -> Matrix:
        return u - Z @ (Z.T @ u) if Z.shape[1] else u

    times = linearised(products, p, like)

    def solve_M(r: Matrix) -> Matrix:
        return deflate(r if precondition is None else precondition(p, r))

    return lambda u: deflate(times(u)), solve_M


def solve_traced(
    method: str, products: Any, precondition: Any, p: Any, Z: Matrix, b: Matrix, *, tol: float, max_steps: int
) -> tuple[Matrix, np.ndarray, np.ndarray]:
    """Solve for the columns of b (d, k), of length 1 or 0 and free of Z, on the device: x, failed (k,), steps (k,)."""
    threshold = jnp.asarray(tol)
    state = _begin(method, products, precondition, p, Z, b, threshold)

    def advance(state: Any, limit: int) -> tuple[Any, int]:
        state, taken = _advance(method, products, precondition, p, Z, state, threshold, jnp.asarray(limit))
        return state, int(taken)

    return _compacting(jnp, state, advance, max_steps)


def solve_host(
    method: str, times: Map, solve_M: Map, b: Any, *, tol: float, max_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same on NumPy arrays, with products of the caller's that already project null directions out."""
    step = STEPS[method]

    def advance(state: Any, limit: int) -> tuple[Any, int]:
        count = 0
        while count < limit and state.active.sum() > state.active.size // SHRINK:
            state, count = step(np, times, solve_M, tol, state), count + 1
        return state, count

    return _compacting(np, start(np, method, solve_M, b, tol), advance, max_steps)


def _compacting(xp: Any, state: Any, advance: Callable[[Any, int], tuple[Any, int]], max_steps: int) -> Any:
    """Advance; when few columns are left, go on with those alone, in a block padded to a quarter of the one before."""
    d, k = state.x.shape
    whole = np.zeros((d, k))
    failed, steps = np.ones(k, dtype=bool), np.zeros(k, dtype=int)
    where = np.arange(k)  # the column of b behind each column of the block; k for padding
    left = max_steps
    while True:
        state, taken = advance(state, left)
        left -= taken
        active = np.asarray(state.active)
        over = left <= 0 or not active.any()
        leaving = (where < k) & (~active | over)
        if leaving.any():
            columns = np.flatnonzero(leaving)
            whole[:, where[columns]] = np.asarray(state.x)[:, columns]
            steps[where[columns]] = np.asarray(state.steps)[columns]
            failed[where[columns]] = (active | np.asarray(state.broken))[columns]
        if over:
            return xp.asarray(whole), failed, steps
        stay = np.flatnonzero(active)
        width = active.size
        while width // SHRINK >= stay.size:
            width //= SHRINK
        if xp is np:
            width = stay.size
        padding = np.full(width - stay.size, stay[0])
        chosen = np.concatenate([stay, padding]).astype(int)
        where = np.concatenate([where[stay], np.full(padding.size, k)]).astype(int)
        state = type(state)(*(part[..., chosen] for part in state))
        live = np.arange(width) < stay.size
        state = state._replace(active=state.active & live if xp is np else state.active & jnp.asarray(live))
