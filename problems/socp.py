"""A second-order cone program."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition
from implicit_cli.core.conic import conic, primal
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown

Array = jax.Array


class SecondOrderConeProgram(Problem):
    """Second-order cone program: x* = argmin_x c'x  subject to  |A_k x + b_k| <= p_k'x + q_k for each cone k,  E x = e.

    It is solved and differentiated as the root of the homogeneous self-dual residual in (u, v, w), whose scale is free: x* = u / w.

    Closed form of the minimum's gradient: x by c, and with the multipliers (t_k, r_k) of the cones, |r_k| <= t_k, and nu of the
    equalities, -r_k by b_k, -t_k by q_k, -r_k x' by A_k, -t_k x by p_k, -nu by e and nu x' by E. There is a kink where a cone holds
    with equality and its multiplier vanishes, or where both sides of it are 0.

    Source: M. S. Lobo, L. Vandenberghe, S. Boyd and H. Lebret, "Applications of second-order cone programming", Linear Algebra and
    its Applications 284, 193 (1998); A. Agrawal, S. Barratt, S. Boyd, E. Busseti and W. M. Moursi, "Differentiating through a cone
    program", J. Appl. Numer. Optim. 1, 107 (2019).
    """

    cone = Option(1, minimum=1, doc="number of cones")
    row = Option(1, minimum=1, doc="rows of each A_k; a cone with fewer has rows of zeros")
    equality = Option(0, minimum=0, doc="number of equalities")

    c = Parameter(shape=("variable",), doc="cost of each variable")
    A = Parameter(shape=("cone", "row", "variable"), doc="matrices in the norms")
    b = Parameter(shape=("cone", "row"), default=0.0, doc="vectors in the norms")
    p = Parameter(shape=("cone", "variable"), default=0.0, doc="slopes of the right-hand sides")
    q = Parameter(shape=("cone",), default=0.0, doc="constants of the right-hand sides")
    E = Parameter(shape=("equality", "variable"), default=0.0, doc="rows of the equalities")
    e = Parameter(shape=("equality",), default=0.0, doc="right-hand sides of the equalities")

    u = Unknown(shape=("variable",), doc="w times the minimiser")
    v = Unknown(
        shape=("entry",), doc="w times multipliers less slacks: equalities first, then each cone, its right-hand side first"
    )
    w = Unknown(initial=1.0, doc="scale, which is free")
    x = Output(shape=("variable",), doc="minimiser")
    objective = Output(doc="value of the objective at the minimum")

    example = """\
problem: socp
options: {cone: 1, row: 2}              # equality: 1 adds an E x = e
parameters:                             # the lowest point of a disc of radius 2 around (1, 0), along c
  c: [0.6, 0.8]
  A: [[[1.0, 0.0], [0.0, 1.0]]]
  b: [[-1.0, 0.0]]
  q: [2.0]
sensitivity: {of: [x, objective], wrt: [c, b, q]}
"""

    @cached_property
    def sizes(self) -> dict[str, int]:
        return super().sizes | {"entry": self.equality + self.cone * (1 + self.row)}

    def program(self, theta: Any, data: Any) -> tuple[Array, Array, Array]:
        """Each cone's rows of s = b - A x are (p'x + q, A_k x + b_k)."""
        slopes = jnp.concatenate([theta.p[:, None, :], theta.A], axis=1)
        constants = jnp.concatenate([theta.q[:, None], theta.b], axis=1)
        A = jnp.concatenate([theta.E, -slopes.reshape(-1, theta.c.size)])
        return theta.c, A, jnp.concatenate([theta.e, constants.ravel()])

    def condition(self) -> Condition:
        zero = (("zero", self.equality),) if self.equality else ()
        return conic(self.program, (*zero, *(("second_order", 1 + self.row),) * self.cone))

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"x": primal(x), "objective": theta.c @ primal(x)}
