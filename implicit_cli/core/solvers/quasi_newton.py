"""L-BFGS, BFGS and nonlinear conjugate gradients with a backtracking line search, by optimistix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal


@dataclass(frozen=True)
class QuasiNewton:
    """Minimises f. Near the minimum the line search runs out of digits of f; it then gives up and leaves the rest to the polish.

    L-BFGS keeps `history_length` pairs of differences, BFGS a matrix (d, d), nonlinear CG (Polak-Ribiere) one direction.
    """

    goal: Goal
    name: str = "lbfgs"
    history_length: int = 10

    @property
    def _solver(self) -> Any:
        # its own test, on changes of x and f, is set to rounding: what ends the loop is the residual
        tests = {"rtol": 0.0, "atol": 1e-300}
        if self.name == "bfgs":
            return optx.BFGS(**tests)
        if self.name == "nonlinear_cg":
            return optx.NonlinearCG(**tests)
        return optx.LBFGS(**tests, history_length=self.history_length)

    def _objective(self, x: jax.Array, p: Point) -> tuple[jax.Array, None]:
        assert self.goal.f is not None
        return self.goal.f(x, p.theta, p.data), None

    def init(self, p: Point) -> Any:
        struct = jax.ShapeDtypeStruct((), p.x.dtype)
        return self._solver.init(self._objective, p.x, p, {}, struct, None, frozenset())

    def step(self, p: Point, state: Any) -> tuple[jax.Array, Any]:
        x, state, _ = self._solver.step(self._objective, p.x, p, {}, state, frozenset())
        return x, state

    def F(self, state: Any) -> jax.Array:
        return jnp.asarray(state.f_info.grad)

    def stop(self, state: Any) -> jax.Array:
        return state.terminate | (state.result != optx.RESULTS.successful) | ~jnp.all(jnp.isfinite(state.y_eval))
