"""A quadratic minimum: the smallest problem with a closed form."""

from __future__ import annotations

from typing import Any

import jax

from implicit_cli.core import Condition, stationary
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class Quadratic(Problem):
    """Quadratic minimum: x*(b) = argmin_x x'Q x / 2 - b'x, with Q symmetric positive definite.

    Closed form: x* = Q^-1 b, so dx*/db = Q^-1, and the minimum -b'Q^-1 b / 2 has the gradient -x*.
    """

    Q = Data(shape=("row", "column"), doc="symmetric positive definite matrix")
    b = Parameter(shape=("row",), doc="linear term")
    x = Unknown(shape=("row",), doc="minimiser")
    minimum = Output(doc="value of the objective at the minimum")

    example = """\
problem: quadratic
data: {Q: [[2.0, 0.5], [0.5, 1.0]]}
parameters: {b: [1.0, -1.0]}
"""

    def objective(self, x: Any, theta: Any, data: Any) -> Array:
        return x.x @ data.Q @ x.x / 2 - theta.b @ x.x

    def condition(self) -> Condition:
        return stationary(self.objective)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"minimum": self.objective(x, theta, data)}

    def constants(self, theta: Any, data: Any) -> Constants:
        return Constants(gamma=0.0, beta=0.0)  # A = Q and B = -I do not depend on x
