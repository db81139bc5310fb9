"""Gauss-Newton, Levenberg-Marquardt and dogleg steps for abs(r)^2 / 2, by optimistix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal


@dataclass(frozen=True)
class LeastSquares:
    """Minimises abs(r)^2 / 2 for the residuals r of the goal, or for r = F where it has none: then a root of F.

    Gauss-Newton takes full steps and needs a start near the solution; Levenberg-Marquardt and dogleg damp theirs. All of them
    build dr/dx and solve with it by QR. A minimum of abs(F) that is no root ends as not converged.
    """

    goal: Goal
    name: str = "levenberg_marquardt"

    @property
    def _solver(self) -> Any:
        # its own test, on changes of x and r, is set to rounding: what ends the loop is the residual
        tests = {"rtol": 0.0, "atol": 1e-300}
        if self.name == "gauss_newton":
            return optx.GaussNewton(**tests)
        return optx.Dogleg(**tests) if self.name == "dogleg" else optx.LevenbergMarquardt(**tests)

    def _residuals(self, x: jax.Array, p: Point) -> tuple[jax.Array, None]:
        r = self.goal.r if self.goal.r is not None else self.goal.F
        return r(x, p.theta, p.data), None

    def init(self, p: Point) -> Any:
        struct = jax.eval_shape(lambda x: self._residuals(x, p)[0], p.x)
        return self._solver.init(self._residuals, p.x, p, {}, struct, None, frozenset())

    def step(self, p: Point, state: Any) -> tuple[jax.Array, Any]:
        x, state, _ = self._solver.step(self._residuals, p.x, p, {}, state, frozenset())
        return x, state

    def stop(self, state: Any) -> jax.Array:
        return state.terminate | (state.result != optx.RESULTS.successful) | ~jnp.all(jnp.isfinite(state.y_eval))
