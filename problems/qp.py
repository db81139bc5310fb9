"""A convex quadratic program, with equalities, inequalities and limits on single variables, each of which may be left out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, kkt
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class QuadraticProgram(Problem):
    """Quadratic program: x* = argmin_x x'Q x / 2 + c'x  subject to  E x = e,  G x <= h,  low <= x[lower],  x[upper] <= high.

    Lagrange's conditions: Q x + c + E'nu + G'lam - lam_low + lam_high = 0 (the last two where x has a limit), the multipliers of
    inequalities are at least 0, and 0 where there is slack.

    Closed form: with C the rows of the constraints that hold with equality and d their right-hand sides,

        [[Q, C'], [C, 0]]  (dx, dmultipliers) = (-dc, dd)

    and the minimum's own gradient is x by c, -nu by e, -lam by h, lam_low by low and -lam_high by high. There is a kink where a
    constraint holds with equality and its multiplier is 0.

    Source: S. Boyd and L. Vandenberghe, "Convex Optimization", 2004, sections 4.4 and 5.6; A. V. Fiacco, "Sensitivity analysis for
    nonlinear programming using penalty methods", Mathematical Programming 10, 287 (1976).
    """

    Q = Data(shape=("variable", "column"), doc="positive semi-definite matrix; its symmetric part counts")
    E = Data(shape=("equality", "variable"), optional=True, doc="rows of the equalities")
    G = Data(shape=("inequality", "variable"), optional=True, doc="rows of the inequalities")
    lower = Data(shape=("lower_bound",), dtype="int", optional=True, doc="variables that have a lower limit, counted from 0")
    upper = Data(shape=("upper_bound",), dtype="int", optional=True, doc="variables that have an upper limit, counted from 0")

    c = Parameter(shape=("variable",), doc="linear cost of each variable")
    e = Parameter(shape=("equality",), default=0.0, doc="right-hand sides of the equalities")
    h = Parameter(shape=("inequality",), default=0.0, doc="right-hand sides of the inequalities")
    low = Parameter(shape=("lower_bound",), default=0.0, doc="lower limits, in the order of `lower`")
    high = Parameter(shape=("upper_bound",), default=1.0, doc="upper limits, in the order of `upper`")

    x = Unknown(shape=("variable",), doc="minimiser")
    nu = Unknown(shape=("equality",), doc="multipliers of the equalities")
    lam = Unknown(shape=("inequality",), bounds=(0.0, None), doc="multipliers of the inequalities")
    lam_low = Unknown(shape=("lower_bound",), bounds=(0.0, None), doc="multipliers of the lower limits")
    lam_high = Unknown(shape=("upper_bound",), bounds=(0.0, None), doc="multipliers of the upper limits")
    objective = Output(doc="value of the objective at the minimum")

    example = """\
problem: qp
data:
  Q: [[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
  E: [[1.0, 1.0, 1.0]]                # E and e, G and h, lower and low, upper and high: leave out what there is not
  G: [[1.0, 0.0, -1.0]]
  lower: [0, 1, 2]                    # these variables are at least `low`
parameters: {c: [-1.0, 0.0, 0.5], e: [1.0], h: [0.2], low: 0.0}
"""

    def value(self, x: Any, theta: Any, data: Any) -> Array:
        return x.x @ data.Q @ x.x / 2 + theta.c @ x.x

    def equalities(self, x: Any, theta: Any, data: Any) -> Array:
        return data.E @ x.x - theta.e

    def inequalities(self, x: Any, theta: Any, data: Any) -> tuple[Array, Array, Array]:
        # a variable that does not exist is NaN, and the case says so
        low, high = (x.x.at[which].get(mode="fill", fill_value=jnp.nan) for which in (data.lower, data.upper))
        return data.G @ x.x - theta.h, theta.low - low, high - theta.high

    def condition(self) -> Condition:
        return kkt(self.value, self.equalities, self.inequalities, lam=("lam", "lam_low", "lam_high"))

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"objective": self.value(x, theta, data)}

    def constants(self, theta: Any, data: Any) -> Constants:
        # A holds diag(lam) G and diag(G x - h): with all rows of inequalities below each other, it changes by |G| at most
        rows = jnp.sum(data.G**2) + data.lower.size + data.upper.size
        return Constants(gamma=jnp.sqrt(rows), beta=1.0)
