"""The parametric nonlinear program of Ganesh and Biegler, with which sIPOPT and its successors show what they do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, kkt
from implicit_cli.problem import Constants, Output, Parameter, Problem, Unknown

Array = jax.Array

SOURCE = "H. Pirnay, R. Lopez-Negrete and L. T. Biegler, Mathematical Programming Computation 4, 307 (2012), section 4"


class ParametricProgram(Problem):
    """Parametric program: x* = argmin |x|^2  subject to  6 x1 + 3 x2 + 2 x3 = p1,  p2 x1 + x2 - x3 = 1,  x >= 0.

    Closed form: while x3 > 0, x* = A'(A A')^-1 b with the rows (6, 3, 2) and (p2, 1, -1) of A and b = (p1, 1). At p2 = 1,

        x* = (11 p1 + 7, 2 p1 + 28, 13 p1 - 63) / 98

    so that x3 arrives at 0 at p1 = 63 / 13; below, two equations leave x* = (p1 / 3 - 1, 2 - p1 / 3, 0).

    Source: N. Ganesh and L. T. Biegler, "A reduced Hessian strategy for sensitivity analysis of optimal flowsheets", AIChE Journal
    33, 282 (1987); the numbers are those of sIPOPT: H. Pirnay, R. Lopez-Negrete and L. T. Biegler, "Optimal sensitivity based on
    IPOPT", Mathematical Programming Computation 4, 307 (2012).
    """

    p1 = Parameter(default=5.0, doc="right-hand side of the first equation", source=SOURCE)
    p2 = Parameter(default=1.0, doc="coefficient of x1 in the second equation", source=SOURCE)
    x = Unknown(shape=(3,), initial=0.15, bounds=(0.0, None), doc="minimiser")
    nu = Unknown(shape=(2,), doc="multipliers of the equations")
    lam = Unknown(shape=(3,), bounds=(0.0, None), doc="multipliers of x >= 0")
    objective = Output(doc="|x|^2 at the minimum")

    example = """\
problem: nlp
parameters: {p1: 5.0, p2: 1.0}
"""

    def value(self, x: Any, theta: Any, data: Any) -> Array:
        return x.x @ x.x

    def equations(self, x: Any, theta: Any, data: Any) -> Array:
        x1, x2, x3 = x.x
        return jnp.stack([6 * x1 + 3 * x2 + 2 * x3 - theta.p1, theta.p2 * x1 + x2 - x3 - 1])

    def condition(self) -> Condition:
        return kkt(self.value, self.equations, lambda x, theta, data: -x.x)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"objective": self.value(x, theta, data)}

    def constants(self, theta: Any, data: Any) -> Constants:
        # A changes by diag(lam) and diag(x), which stand in the same rows; B by nu_2 and x_1, in rows of their own
        return Constants(gamma=1.0, beta=1.0)
