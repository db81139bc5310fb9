"""Step sizes by backtracking, with no constant to be known: the curvature along a step, measured without loss of digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Objective = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
Move = Callable[[jax.Array], jax.Array]

SHRINK = 0.5
GROW = 1.25
TRIES = 60
LARGEST = 1e100
"""Bound on step sizes, which grow without end where f is linear."""
NOISE = 1e-10
"""Below this share of f, a difference of two values of f is no longer trusted: rounding weighs in."""
SLOPE_NOISE = 1e-13
"""The same of g'd, as a share of |g|'|x|: d is a difference of two points, and on a simplex what counts of g'd cancels."""


def backtrack(
    objective: Objective, move: Move, x: jax.Array, f: jax.Array, g: jax.Array, eta: jax.Array, *, armijo: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A step from x (d,), where f and its gradient g are: the point reached, its step size, and whether one was found (else x).

    `objective(x)` is f and its gradient, `move(eta)` the point that a step of size eta leads to: a gradient, proximal, projected
    or mirror step. Sizes start at `GROW * eta` and are halved until, with d the step,

        f(x + d) - f(x) - g'd <= abs(d)^2 / (2 eta)        as where 1 / eta is a Lipschitz constant of the gradient, or
        f(x + d) - f(x) - g'd <= -g'd / 2                  with `armijo`, in geometries where abs(d) is not the measure.

    Where f has no digits left for the left side, (g(x + d) - g(x))'d / 2 stands for it: the same for a quadratic f. Where g'd has
    none, the first form is taken.

    Source: Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sci. 2(1), 2009; the second
    form of the left side as in Becker, Candes and Grant, "Templates for convex cone problems", Math. Prog. Comp. 3, 2011, 5.3.
    """

    def enough(y: jax.Array, eta: jax.Array) -> jax.Array:
        d = y - x
        f_new, g_new = objective(y)
        slope = jnp.vdot(g, d)
        rise = f_new - f
        unseen = jnp.abs(rise) <= NOISE * jnp.maximum(jnp.abs(f), jnp.abs(f_new))  # False for NaN
        bend = jnp.where(unseen, jnp.vdot(g_new - g, d) / 2, rise - slope)
        allowance = jnp.vdot(d, d) / (2 * eta)
        if armijo:
            allowance = jnp.where(-slope > SLOPE_NOISE * jnp.vdot(jnp.abs(g), jnp.abs(x)), -slope / 2, allowance)
        return bend <= allowance

    def missed(carry: tuple[jax.Array, ...]) -> jax.Array:
        _, _, good, tries = carry
        return ~good & (tries < TRIES)

    def attempt(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        _, eta, _, tries = carry
        eta = jnp.where(tries > 0, SHRINK * eta, eta)
        y = move(eta)
        return y, eta, enough(y, eta), tries + 1

    start: tuple[Any, ...] = (x, jnp.minimum(GROW * eta, LARGEST), jnp.asarray(False), jnp.asarray(0))
    y, eta, good, _ = jax.lax.while_loop(missed, attempt, start)
    return jnp.where(good, y, x), eta, good
