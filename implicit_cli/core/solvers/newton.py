"""Newton's method for F(x, theta) = 0, by optimistix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal


@dataclass(frozen=True)
class Newton:
    """x - A^-1 F with a dense LU; quadratic near a root with regular A, and not damped, so start near."""

    goal: Goal
    name: str = "newton"

    @property
    def _solver(self) -> Any:
        return optx.Newton(rtol=0.0, atol=1e-300, linear_solver=lx.LU())

    def _residual(self, x: jax.Array, p: Point) -> tuple[jax.Array, None]:
        return self.goal.F(x, p.theta, p.data), None

    def init(self, p: Point) -> Any:
        struct = jax.ShapeDtypeStruct(p.x.shape, p.x.dtype)
        return self._solver.init(self._residual, p.x, p, {}, struct, None, frozenset())

    def step(self, p: Point, state: Any) -> tuple[jax.Array, Any]:
        x, state, _ = self._solver.step(self._residual, p.x, p, {}, state, frozenset())
        return x, state

    def stop(self, state: Any) -> jax.Array:
        return (state.result != optx.RESULTS.successful) | jnp.asarray(False)
