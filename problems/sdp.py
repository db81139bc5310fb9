"""A semidefinite program: a linear function under a linear matrix inequality."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax

from implicit_cli.core import Condition
from implicit_cli.core.conic import conic, dual, primal
from implicit_cli.core.projections import smat, svec
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown

Array = jax.Array


class SemidefiniteProgram(Problem):
    """Semidefinite program: x* = argmin_x c'x  subject to  S = F0 + x_1 F_1 + .. + x_n F_n positive semi-definite.

    X is the multiplier: positive semi-definite, S X = 0 and <F_i, X> = c_i. It is solved and differentiated as the root of the
    homogeneous self-dual residual in (u, v, w), whose scale is free: x* = u / w.

    Closed form of the minimum's gradient: x by c, -X by F0, -x_i X by F_i. There is a kink where the ranks of S and X do not add up
    to the order of the matrices, and no derivative where x or X is not unique.

    Source: L. Vandenberghe and S. Boyd, "Semidefinite programming", SIAM Review 38, 49 (1996); F. Alizadeh, J.-P. A. Haeberly and
    M. L. Overton, "Complementarity and nondegeneracy in semidefinite programming", Mathematical Programming 77, 111 (1997).
    """

    row = Option(2, minimum=1, doc="order of the matrices")

    c = Parameter(shape=("variable",), doc="cost of each variable")
    F0 = Parameter(shape=("row", "column"), doc="constant matrix; its symmetric part counts")
    F = Parameter(shape=("variable", "row", "column"), doc="matrix of each variable; its symmetric part counts")

    u = Unknown(shape=("variable",), doc="w times the minimiser")
    v = Unknown(shape=("entry",), doc="w times the upper triangle of X - S, off the diagonal times sqrt 2")
    w = Unknown(initial=1.0, doc="scale, which is free")
    x = Output(shape=("variable",), doc="minimiser")
    X = Output(shape=("row", "column"), doc="multiplier of the matrix inequality")
    objective = Output(doc="value of the objective at the minimum")

    example = """\
problem: sdp
options: {row: 2}
parameters:                             # the largest eigenvalue of [[2, 1], [1, 0]]: min t, t I - [[2, 1], [1, 0]] >= 0
  c: [1.0]
  F0: [[-2.0, -1.0], [-1.0, 0.0]]
  F: [[[1.0, 0.0], [0.0, 1.0]]]
sensitivity: {of: [x, X], wrt: [F0]}
"""

    @cached_property
    def sizes(self) -> dict[str, int]:
        return super().sizes | {"entry": self.row * (self.row + 1) // 2}

    @property
    def cones(self) -> tuple[tuple[str, int], ...]:
        return (("psd", self.row),)

    def program(self, theta: Any, data: Any) -> tuple[Array, Array, Array]:
        def symmetric(F: Array) -> Array:
            return svec((F + F.T) / 2)

        return theta.c, -jax.vmap(symmetric, out_axes=1)(theta.F), symmetric(theta.F0)

    def condition(self) -> Condition:
        return conic(self.program, self.cones)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"x": primal(x), "X": smat(dual(x, self.cones)), "objective": theta.c @ primal(x)}
