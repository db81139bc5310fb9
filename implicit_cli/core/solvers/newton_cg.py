"""Newton-CG: Newton steps for a minimum by conjugate gradients on Hessian-vector products, no matrix, with a line search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal

ARMIJO = 1e-4
HALVINGS = 40
NOISE = 1e-10
LOOSEST = 0.5


@dataclass(frozen=True)
class NewtonCg:
    """Minimises f: A s = -g solved only as well as pays, cut where A bends downwards, then halved until f falls enough.

    CG stops at a residual of min(1/2, sqrt|g|) |g|, or on a direction of negative curvature; the step is then downhill in any case,
    so it goes on from where A is indefinite. Where f has no digits left, the slope at the new point decides.

    Source: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.1; approximate Wolfe condition: Hager and Zhang,
    SIAM J. Optim. 16(1), 2005.
    """

    goal: Goal
    name: str = "newton_cg"

    def init(self, p: Point) -> jax.Array:
        return jnp.asarray(True)

    def step(self, p: Point, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        f = self.goal.f
        assert f is not None

        def objective(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.value_and_grad(f)(x, p.theta, p.data)

        value, _ = objective(p.x)
        g, A_times = jax.linearize(lambda x: jax.grad(f)(x, p.theta, p.data), p.x)
        s = truncated_cg(A_times, g)
        slope = jnp.vdot(g, s)

        def missed(carry: tuple[jax.Array, ...]) -> jax.Array:
            _, _, good, tries = carry
            return ~good & (tries < HALVINGS)

        def attempt(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            _, t, _, tries = carry
            trial = p.x + t * s
            f_new, g_new = objective(trial)
            unseen = jnp.abs(f_new - value) <= NOISE * jnp.maximum(jnp.abs(value), jnp.abs(f_new))  # False for NaN
            lower = f_new <= value + ARMIJO * t * slope
            flatter = jnp.abs(jnp.vdot(g_new, s)) <= (1 - 2 * ARMIJO) * jnp.abs(slope)
            return trial, t / 2, jnp.where(unseen, flatter, lower), tries + 1

        start: tuple[Any, ...] = (p.x, jnp.ones((), p.x.dtype), jnp.asarray(False), jnp.asarray(0))
        trial, _, good, _ = jax.lax.while_loop(missed, attempt, start)
        return jnp.where(good, trial, p.x), good

    def stop(self, state: jax.Array) -> jax.Array:
        return ~state


def truncated_cg(A_times: Callable[[jax.Array], jax.Array], g: jax.Array) -> jax.Array:
    """s with A s ~ -g, downhill along g: CG from zero, ended by its residual or by a direction along which A is not positive."""
    size = jnp.linalg.norm(g)
    enough = jnp.minimum(LOOSEST, jnp.sqrt(size)) * size

    def unfinished(carry: tuple[jax.Array, ...]) -> jax.Array:
        _, r, _, _, count, bent = carry
        return ~bent & (jnp.linalg.norm(r) > enough) & (count < 2 * g.size + 10)

    def body(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        s, r, d, rr, count, _ = carry
        Ad = A_times(d)
        curvature = jnp.vdot(d, Ad)
        bent = ~(curvature > 0)
        alpha = rr / jnp.where(bent, 1.0, curvature)
        r_new = r + alpha * Ad
        rr_new = jnp.vdot(r_new, r_new)
        moved = jnp.where(bent, jnp.where(count == 0, d, s), s + alpha * d)
        return moved, r_new, -r_new + rr_new / rr * d, rr_new, count + 1, bent

    start: tuple[Any, ...] = (jnp.zeros_like(g), g, -g, jnp.vdot(g, g), jnp.asarray(0), jnp.asarray(False))
    s, *_ = jax.lax.while_loop(unfinished, body, start)
    return s
