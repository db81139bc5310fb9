"""Mirror descent: gradient steps in the geometry of a mirror map, such as x exp(-eta g) / sum on the simplex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.backtracking import backtrack
from implicit_cli.core.solvers.base import Goal


class MirrorState(NamedTuple):
    """The last step size; `found` is False when no step size did."""

    eta: jax.Array
    found: jax.Array


@dataclass(frozen=True)
class MirrorDescent:
    """Minimises f by steps of `Goal.mirror` along its gradient, the step size found by Armijo's rule along the mirror's arc.

    On the simplex an entry that has become zero stays zero: start inside.

    Source: Li and Cevher, "Convergence of the exponentiated gradient method with Armijo line search", J. Optim. Theory Appl. 181,
    2019.
    """

    goal: Goal
    name: str = "mirror_descent"

    def init(self, p: Point) -> MirrorState:
        return MirrorState(jnp.ones((), p.x.dtype), jnp.asarray(True))

    def step(self, p: Point, state: MirrorState) -> tuple[jax.Array, MirrorState]:
        f, mirror = self.goal.f, self.goal.mirror
        assert f is not None
        assert mirror is not None

        def objective(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.value_and_grad(f)(x, p.theta, p.data)

        value, slope = objective(p.x)
        x, eta, found = backtrack(
            objective, lambda eta: mirror(p.x, eta * slope, p.theta, p.data), p.x, value, slope, state.eta, armijo=True
        )
        return x, MirrorState(eta, found)

    def stop(self, state: MirrorState) -> jax.Array:
        return ~state.found
