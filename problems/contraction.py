"""A linear contraction: the smallest fixed point with a closed form, and with an A that is not symmetric."""

from __future__ import annotations

from typing import Any

import jax

from implicit_cli.core import Condition, fixed_point
from implicit_cli.problem import Constants, Data, Parameter, Problem, Unknown

Array = jax.Array


class Contraction(Problem):
    """Fixed point of an affine map: x* = rho M x* + b, where the spectral radius of rho M is below 1.

    Closed form: x* = (I - rho M)^-1 b, dx*/db = (I - rho M)^-1, dx*/drho = (I - rho M)^-1 M x*.
    """

    M = Data(shape=("row", "column"), doc="matrix of the map")
    rho = Parameter(bounds=(0.0, None), doc="strength of the feedback")
    b = Parameter(shape=("row",), doc="inflow")
    x = Unknown(shape=("row",), doc="fixed point")

    example = """\
problem: contraction
data: {M: [[0.0, 1.0], [-1.0, 0.5]]}
parameters: {rho: 0.4, b: [1.0, 2.0]}
"""

    def step(self, x: Any, theta: Any, data: Any) -> Any:
        return x._replace(x=theta.rho * (data.M @ x.x) + theta.b)

    def condition(self) -> Condition:
        return fixed_point(self.step)

    def constants(self, theta: Any, data: Any) -> Constants:
        return Constants(gamma=0.0)  # A = rho M - I does not depend on x
