"""Anderson acceleration of x <- T(x, theta), safeguarded by plain steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal

RIDGE = 1e-10
PROGRESS = 0.999


class AndersonState(NamedTuple):
    """F = T - x (d,), T (d,), their last differences (depth, d), and how many there have been."""

    F: jax.Array
    T: jax.Array
    dF: jax.Array
    dT: jax.Array
    seen: jax.Array


@dataclass(frozen=True)
class Anderson:
    """x_new = T(x) - dT' gamma, with gamma the least-squares solution of F ~ dF' gamma over the last `depth` differences.

    Differences are scaled to unit length and the least squares ridged, so that nearly parallel ones do not blow gamma up. A step
    that does not make |F| smaller is replaced by the plain step T(x): where plain iteration converges, so does this.

    Source: Walker and Ni, "Anderson acceleration for fixed-point iterations", SIAM J. Numer. Anal. 49(4), 2011; safeguard as in
    Zhang, O'Donoghue and Boyd, "Globally convergent type-I Anderson acceleration", SIAM J. Optim. 30(4), 2020.
    """

    goal: Goal
    depth: int = 5
    name: str = "anderson"

    def _map(self, x: jax.Array, p: Point) -> jax.Array:
        assert self.goal.T is not None
        return self.goal.T(x, p.theta, p.data)

    def init(self, p: Point) -> AndersonState:
        T = self._map(p.x, p)
        none = jnp.zeros((self.depth, p.x.size), p.x.dtype)
        return AndersonState(T - p.x, T, none, none, jnp.asarray(0))

    def step(self, p: Point, state: AndersonState) -> tuple[jax.Array, AndersonState]:
        # rows of unit length, since the differences shrink as the iteration converges; empty rows stay zero
        size = jnp.linalg.norm(state.dF, axis=1, keepdims=True)
        scale = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1.0), 0.0)
        dF, dT = scale * state.dF, scale * state.dT
        gamma = jnp.linalg.solve(dF @ dF.T + RIDGE * jnp.eye(self.depth, dtype=dF.dtype), dF @ state.F)
        x = state.T - gamma @ dT
        T = self._map(x, p)
        helps = jnp.linalg.norm(T - x) <= PROGRESS * jnp.linalg.norm(state.F)
        x, T = jax.lax.cond(helps, lambda: (x, T), lambda: (state.T, self._map(state.T, p)))
        F = T - x
        row = state.seen % self.depth
        dF, dT = state.dF.at[row].set(F - state.F), state.dT.at[row].set(T - state.T)
        return x, AndersonState(F, T, dF, dT, state.seen + 1)

    def stop(self, state: AndersonState) -> jax.Array:
        return jnp.asarray(False)
