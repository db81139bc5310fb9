"""L-BFGS with a backtracking line search, by optimistix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal


@dataclass(frozen=True)
class Lbfgs:
    """Minimises f. Near the minimum the line search runs out of digits of f; it then gives up and leaves the rest to the polish."""

    goal: Goal
    history_length: int = 10
    name: str = "lbfgs"

    @property
    def _solver(self) -> Any:
        # its own test, on changes of x and f, is set to rounding: what ends the loop is max |F|
        return optx.LBFGS(rtol=0.0, atol=1e-300, history_length=self.history_length)

    def _objective(self, x: jax.Array, p: Point) -> tuple[jax.Array, None]:
        assert self.goal.f is not None
        return self.goal.f(x, p.theta, p.data), None

    def init(self, p: Point) -> Any:
        struct = jax.ShapeDtypeStruct((), p.x.dtype)
        return self._solver.init(self._objective, p.x, p, {}, struct, None, frozenset())

    def step(self, p: Point, state: Any) -> tuple[jax.Array, Any]:
        x, state, _ = self._solver.step(self._objective, p.x, p, {}, state, frozenset())
        return x, state

    def stop(self, state: Any) -> jax.Array:
        return state.terminate | (state.result != optx.RESULTS.successful) | ~jnp.all(jnp.isfinite(state.y_eval))
