"""A linear program, with a quadratic term that makes its solution unique."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, kkt
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class LinearProgram(Problem):
    """Linear program: x* = argmin_x c'x + regularisation |x|^2 / 2  subject to  A x = b,  G x <= h,  x >= 0.

    Lagrange's conditions: c + regularisation x + A'nu + G'lam - reduced_cost = 0, with lam and reduced_cost at least 0, and 0 where
    there is slack.

    Closed form: as long as the same constraints hold with equality, with rows C and right-hand sides d, and as many of them as
    variables, x* = C^-1 d is a vertex: dx*/dd = C^-1, and dx*/dc = 0. With fewer of them x* also answers to c, by
    -(I - C^+ C) / regularisation. The minimum's own gradient is x by c, -nu by b and -lam by h.

    A linear program whose solution is unique is solved with regularisation 0 as well. Where it is not, there is a largest
    regularisation up to which x* is that solution of the linear program that has the smallest norm.

    Source: O. L. Mangasarian and R. R. Meyer, "Nonlinear perturbation of linear programs", SIAM J. Control Optim. 17, 745 (1979).
    """

    A = Data(shape=("equality", "variable"), optional=True, doc="rows of the equalities")
    G = Data(shape=("inequality", "variable"), optional=True, doc="rows of the inequalities")

    c = Parameter(shape=("variable",), doc="cost of each variable")
    b = Parameter(shape=("equality",), default=0.0, doc="right-hand sides of the equalities")
    h = Parameter(shape=("inequality",), default=0.0, doc="right-hand sides of the inequalities")
    regularisation = Parameter(default=0.0, bounds=(0.0, None), doc="weight of the quadratic term")

    x = Unknown(shape=("variable",), bounds=(0.0, None), doc="minimiser")
    nu = Unknown(shape=("equality",), doc="multipliers of the equalities")
    lam = Unknown(shape=("inequality",), bounds=(0.0, None), doc="multipliers of the inequalities")
    reduced_cost = Unknown(shape=("variable",), bounds=(0.0, None), doc="multipliers of x >= 0")
    cost = Output(doc="c'x, without the quadratic term")

    example = """\
problem: linear_program
data:
  A: [[1.0, 1.0, 1.0]]
  G: [[1.0, 0.0, 0.0]]                # A and b, G and h: leave out what there is not
parameters: {c: [1.0, 2.0, 4.0], b: [1.0], h: [0.6], regularisation: 0.01}
"""

    def value(self, x: Any, theta: Any, data: Any) -> Array:
        return theta.c @ x.x + theta.regularisation * (x.x @ x.x) / 2

    def equalities(self, x: Any, theta: Any, data: Any) -> Array:
        return data.A @ x.x - theta.b

    def inequalities(self, x: Any, theta: Any, data: Any) -> tuple[Array, Array]:
        return data.G @ x.x - theta.h, -x.x

    def condition(self) -> Condition:
        return kkt(self.value, self.equalities, self.inequalities, lam=("lam", "reduced_cost"))

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"cost": theta.c @ x.x}

    def constants(self, theta: Any, data: Any) -> Constants:
        # A holds diag(lam) G and diag(G x - h), where G has the rows of x >= 0 too: it changes by |G| at most
        return Constants(gamma=jnp.sqrt(jnp.sum(data.G**2) + theta.c.size), beta=1.0)
