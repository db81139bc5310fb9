"""Non-negative least squares: how much there is of each component of a mixture."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, projected_gradient
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class Nnls(Problem):
    """Non-negative least squares: x*(b, ridge) = argmin_{x >= 0} |A x - b|^2 / 2 + ridge |x|^2 / 2.

    Closed form on the support S, the components that are above zero: with H = A_S'A_S + ridge I, x_S = H^-1 A_S'b,
    dx_S/db = H^-1 A_S' and dx_S/dridge = -H^-1 x_S; all other components stay zero.

    There is no derivative where a component enters or leaves S: where x_j = 0 and A_j'(A x - b) = 0.
    """

    A = Data(shape=("row", "column"), doc="what one unit of each component (column) adds to each measurement (row)")
    b = Parameter(shape=("row",), doc="measurements", source="Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23")
    ridge = Parameter(default=0.0, bounds=(0.0, None), doc="weight of |x|^2 / 2")
    x = Unknown(shape=("column",), doc="amount of each component", bounds=(0.0, None))
    fit = Output(shape=("row",), doc="A x")
    loss = Output(doc="|A x - b|^2 / 2")

    example = """\
problem: nnls
data: {A: [[1.0, 0.2, 0.5], [0.3, 1.0, 0.5], [0.1, 0.4, 0.5], [0.0, 0.1, 0.5]]}
parameters: {b: [1.1, 0.6, 0.1, -0.2]}          # the third component would be negative
"""

    def objective(self, x: Any, theta: Any, data: Any) -> Array:
        return jnp.sum((data.A @ x.x - theta.b) ** 2) / 2 + theta.ridge * (x.x @ x.x) / 2

    def limits(self, x: Any, theta: Any, data: Any) -> tuple[Any, Any]:
        return x._replace(x=jnp.zeros_like(x.x)), x._replace(x=jnp.full_like(x.x, jnp.inf))

    def step(self, theta: Any, data: Any) -> Array:
        # the trace of A'A + ridge I bounds its largest eigenvalue, the Lipschitz constant of the slope
        return 1.0 / (jnp.sum(data.A**2) + theta.ridge)

    def condition(self) -> Condition:
        return projected_gradient(self.objective, bounds=self.limits, eta=self.step)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        fit = data.A @ x.x
        return {"fit": fit, "loss": jnp.sum((fit - theta.b) ** 2) / 2}

    def constants(self, theta: Any, data: Any) -> Constants:
        # between kinks F is affine in x, and of dF/d(b, ridge) only -eta x changes
        return Constants(gamma=0.0, beta=self.step(theta, data))
