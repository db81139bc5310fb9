"""Broyden's method for F(x, theta) = 0: A is computed once and then corrected by what each step shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal
from implicit_cli.core.solvers.newton import shorten


class BroydenState(NamedTuple):
    """H is close to A^-1 (d, d), F the residual (d,); `fresh` where H was just computed, `found` is False when no step helped."""

    H: jax.Array
    F: jax.Array
    fresh: jax.Array
    found: jax.Array


@dataclass(frozen=True)
class Broyden:
    """x - t H F with H updated from s = x_new - x and y = F_new - F:  H + (s - H y) s'H / s'H y.

    Steps are halved until |F| shrinks; where that fails, H is computed anew from A. Cheaper than Newton where A is costly.

    Source: Broyden, "A class of methods for solving nonlinear simultaneous equations", Math. Comp. 19, 1965 (the first method).
    """

    goal: Goal
    name: str = "broyden"

    def init(self, p: Point) -> BroydenState:
        return BroydenState(self._inverse(p), self.goal.F(p.x, p.theta, p.data), jnp.asarray(True), jnp.asarray(True))

    def _inverse(self, p: Point) -> jax.Array:
        A = jax.jacfwd(lambda x: self.goal.F(x, p.theta, p.data))(p.x)
        return jnp.linalg.pinv(jnp.nan_to_num(A))

    def step(self, p: Point, state: BroydenState) -> tuple[jax.Array, BroydenState]:
        def F(x: jax.Array) -> jax.Array:
            return self.goal.F(x, p.theta, p.data)

        x, found = shorten(F, p.x, state.F, -state.H @ state.F)
        F_new = F(x)
        s, y = x - p.x, F_new - state.F
        Hy = state.H @ y
        scale = jnp.vdot(s, Hy)
        regular = jnp.abs(scale) > 1e-10 * jnp.vdot(s, s)
        updated = state.H + jnp.outer(s - Hy, s @ state.H) / jnp.where(regular, scale, 1.0)
        H = jax.lax.cond(found & regular, lambda: updated, lambda: self._inverse(p._replace(x=x)))
        return x, BroydenState(H, F_new, ~(found & regular), found | ~state.fresh)

    def stop(self, state: BroydenState) -> jax.Array:
        return ~state.found
