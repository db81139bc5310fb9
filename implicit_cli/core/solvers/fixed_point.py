"""Fixed-point iteration x <- T(x, theta), by optimistix; converges where T is a contraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal


@dataclass(frozen=True)
class FixedPoint:
    """Plain (Picard) iteration; the error shrinks by the Lipschitz constant of T per step."""

    goal: Goal
    name: str = "fixed_point"

    @property
    def _solver(self) -> Any:
        return optx.FixedPointIteration(rtol=0.0, atol=1e-300)

    def _map(self, x: jax.Array, p: Point) -> tuple[jax.Array, None]:
        assert self.goal.T is not None
        return self.goal.T(x, p.theta, p.data), None

    def init(self, p: Point) -> Any:
        struct = jax.ShapeDtypeStruct(p.x.shape, p.x.dtype)
        return self._solver.init(self._map, p.x, p, {}, struct, None, frozenset())

    def step(self, p: Point, state: Any) -> tuple[jax.Array, Any]:
        x, state, _ = self._solver.step(self._map, p.x, p, {}, state, frozenset())
        return x, state

    def stop(self, state: Any) -> jax.Array:
        return jnp.asarray(False)
