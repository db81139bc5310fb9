"""Ridge regression with a penalty of its own for every feature."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, stationary
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class Ridge(Problem):
    """Ridge regression: w*(penalty) = argmin_w |X w - y|^2 / (2 m) + sum_i penalty_i w_i^2 / 2, for m samples.

    Closed form: w* = H^-1 X'y / m with H = X'X / m + diag(penalty), and dw*/dpenalty = -H^-1 diag(w*).
    """

    X = Data(shape=("sample", "feature"), doc="features of the training samples")
    y = Data(shape=("sample",), doc="targets of the training samples")
    X_validation = Data(shape=("validation_sample", "feature"), doc="features of the held-out samples")
    y_validation = Data(shape=("validation_sample",), doc="targets of the held-out samples")
    penalty = Parameter(shape=("feature",), bounds=(0.0, None), doc="regularisation of each weight")
    w = Unknown(shape=("feature",), doc="weights")
    validation_loss = Output(doc="mean squared error / 2 on the held-out samples")

    example = """\
problem: ridge
data:
  X: [[1.0, 2.0], [3.0, -1.0], [0.5, 1.5]]
  y: [1.0, 2.0, 0.5]
  X_validation: [[2.0, 1.0], [1.0, 1.0]]
  y_validation: [1.5, 1.0]
parameters: {penalty: 0.1}          # one number for all features, or a list
"""

    def loss(self, x: Any, theta: Any, data: Any) -> Array:
        return jnp.mean((data.X @ x.w - data.y) ** 2) / 2 + jnp.sum(theta.penalty * x.w**2) / 2

    def condition(self) -> Condition:
        return stationary(self.loss)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"validation_loss": jnp.mean((data.X_validation @ x.w - data.y_validation) ** 2) / 2}

    def constants(self, theta: Any, data: Any) -> Constants:
        # A = X'X/m + diag(penalty) does not depend on w, and B = diag(w) changes as fast as w does
        return Constants(alpha=jnp.min(theta.penalty), gamma=0.0, beta=1.0)
