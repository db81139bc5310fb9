"""Gradient steps followed by an operator, x <- prox_{eta r}(x - eta grad f): proximal, projected and plain gradient descent.

Accelerated, it is FISTA with adaptive restart; eta is found by backtracking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.backtracking import backtrack
from implicit_cli.core.solvers.base import Goal


class ProximalState(NamedTuple):
    """y is where the gradient is taken, t the momentum's clock, eta the last step size; `found` is False when no step size did."""

    y: jax.Array
    t: jax.Array
    eta: jax.Array
    found: jax.Array


@dataclass(frozen=True)
class ProximalGradient:
    """Minimises f + r, r known by its prox (a projection: f on a set; none: f alone). Every iterate is an output of the prox.

    Accelerated: y = x + (t_old - 1) / t (x - x_old), with t restarted at 1 whenever the momentum points uphill. The rate is
    1 / k^2 for a convex f, and linear, without a constant to be known, for a strongly convex one.

    Source: Beck and Teboulle, SIAM J. Imaging Sci. 2(1), 2009; restart: O'Donoghue and Candes, "Adaptive restart for accelerated
    gradient schemes", Found. Comput. Math. 15, 2015; a step size that may grow: Scheinberg, Goldfarb and Bai, "Fast first-order
    methods for composite convex optimization with backtracking", Found. Comput. Math. 14, 2014.
    """

    goal: Goal
    accelerated: bool = False
    name: str = "proximal_gradient"

    def init(self, p: Point) -> ProximalState:
        one = jnp.ones((), p.x.dtype)
        return ProximalState(p.x, one, one, jnp.asarray(True))

    def step(self, p: Point, state: ProximalState) -> tuple[jax.Array, ProximalState]:
        f, prox = self.goal.f, self.goal.prox
        assert f is not None

        def objective(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.value_and_grad(f)(x, p.theta, p.data)

        y = state.y if self.accelerated else p.x
        value, slope = objective(y)

        def move(eta: jax.Array) -> jax.Array:
            v = y - eta * slope
            return v if prox is None else prox(v, eta, p.theta, p.data)

        x, eta, found = backtrack(objective, move, y, value, slope, state.eta)
        if not self.accelerated:
            return x, ProximalState(x, state.t, eta, found)
        x = jnp.where(found, x, p.x)
        uphill = jnp.vdot(y - x, x - p.x) > 0
        before = jnp.where(uphill, 1.0, state.t)
        t = (1 + jnp.sqrt(1 + 4 * before**2 * state.eta / eta)) / 2
        onward = jnp.where(uphill, x, x + (before - 1) / t * (x - p.x))
        return x, ProximalState(onward, t, eta, found)

    def stop(self, state: ProximalState) -> jax.Array:
        return ~state.found
