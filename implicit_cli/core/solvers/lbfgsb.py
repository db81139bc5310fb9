"""L-BFGS-B: a minimum inside a box, by SciPy on the host."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal
from implicit_cli.core.solvers.host import Watch, compiled_slope


@dataclass(frozen=True)
class Lbfgsb:
    """Minimises f within `Goal.bounds`. SciPy's own tests are set to rounding: what ends the solve is the residual.

    An empty box, lower above upper, has no solution: the start is returned.

    Source: Zhu, Byrd, Lu and Nocedal, "L-BFGS-B", ACM Trans. Math. Softw. 23(4), 1997.
    """

    goal: Goal
    history_length: int = 10
    name: str = "lbfgsb"

    def host_solve(self, p: Point, *, tol: float, max_steps: int, watch: Watch) -> np.ndarray:
        from scipy.optimize import minimize

        assert self.goal.bounds is not None
        lower, upper = (np.asarray(side) for side in self.goal.bounds(p.theta, p.data))
        start = np.asarray(p.x)
        if not (lower <= upper).all():
            return start
        slope = compiled_slope(self.goal)

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            f, g = slope(p._replace(x=jnp.asarray(x)))
            return float(f), np.asarray(g)

        options = {"maxiter": max_steps, "maxfun": 20 * max_steps + 100, "ftol": 0.0, "gtol": 0.0, "maxcor": self.history_length}
        found = minimize(
            objective,
            np.clip(start, lower, upper),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([lower, upper], axis=1),
            callback=watch,
            options=options,
        )
        return np.asarray(found.x)
