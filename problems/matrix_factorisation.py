"""Regularised matrix factorisation: two factors that may be rotated, and a product that may not."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, stationary
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown

Array = jax.Array

SOURCE = "R. Mazumder, T. Hastie, R. Tibshirani, Spectral Regularization Algorithms, J. Mach. Learn. Res. 11, 2287 (2010)"


class MatrixFactorisation(Problem):
    """Matrix factorisation: U, V = argmin |M - U V'|^2 / 2 + penalty/2 (|U|^2 + |V|^2), with `rank` columns each.

    Closed form: with M = sum_i s_i u_i v_i', s_1 >= s_2 .., the product U V' is sum_i max(s_i - penalty, 0) u_i v_i' over its first
    `rank` terms, and d(U V')/dpenalty = -sum_i u_i v_i' over those of them with s_i > penalty. Kinks: where s_rank = s_rank+1, and
    where one of the first s_i is the penalty.

    U Q and V Q are as good for every rotation Q: rank (rank - 1) / 2 gauges. Outputs do not change along them, and U and V have
    derivatives without a part along them. `rank` may exceed the number of s_i above the penalty by one; more leaves U and V floppy.
    """

    rank = Option(2, minimum=1, doc="number of columns of U and V")

    M = Parameter(shape=("row", "column"), doc="matrix")
    penalty = Parameter(bounds=(0.0, None), doc="regularisation", source=SOURCE)
    U = Unknown(shape=("row", "rank"), doc="left factor")
    V = Unknown(shape=("column", "rank"), doc="right factor")
    product = Output(shape=("row", "column"), doc="U V', the matrix of low rank")
    minimum = Output(doc="value of the objective")

    example = """\
problem: matrix_factorisation
options: {rank: 2}
parameters:
  M: [[3.0, 1.0], [1.0, 2.0], [0.5, -1.0]]
  penalty: 0.3
sensitivity: {of: [product, minimum]}
"""

    def objective(self, x: Any, theta: Any, data: Any) -> Array:
        misfit = jnp.sum((theta.M - x.U @ x.V.T) ** 2) / 2
        return misfit + theta.penalty / 2 * (jnp.sum(x.U**2) + jnp.sum(x.V**2))

    def condition(self) -> Condition:
        return stationary(self.objective)

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        # at zero the slope vanishes, and it is no minimum; every minimum is a global one (Srebro and Jaakkola, ICML 2003)
        rows, columns = theta.M.shape
        both = jax.random.normal(key, (rows + columns, self.rank)) / (rows + columns) ** 0.5
        return {"U": both[:rows], "V": both[rows:]}

    def null_space(self, x: Any, theta: Any, data: Any) -> dict[str, dict[str, Array]]:
        gauges = {}
        for i, j in combinations(range(self.rank), 2):
            turn = jnp.zeros((self.rank, self.rank)).at[i, j].set(1.0).at[j, i].set(-1.0)
            gauges[f"rotation {i} {j}"] = {"U": x.U @ turn, "V": x.V @ turn}
        return gauges

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"product": x.U @ x.V.T, "minimum": self.objective(x, theta, data)}
