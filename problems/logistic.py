"""Binary logistic regression with a weight for each sample."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, stationary
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class Logistic(Problem):
    """Logistic regression: argmin over (w, b) of (1 / m) sum_i weight_i log(1 + exp(-s_i z_i)) + penalty |w|^2 / 2, m samples.

    z_i = x_i'w + b is the score of sample i and s_i = 1 where its label is 1, -1 where it is 0. The intercept b pays no penalty.

    Closed form: with p_i = 1 / (1 + exp(-z_i)), x~_i = (x_i, 1) and the Hessian H = (1 / m) sum_i weight_i p_i (1 - p_i) x~_i x~_i'
    + penalty diag(1, .., 1, 0), it is d(w, b)/dpenalty = -H^-1 (w, 0) and d(w, b)/dweight_i = -H^-1 x~_i (p_i - y_i) / m, which is
    m^-1 times the influence function of sample i.
    """

    X = Data(shape=("sample", "feature"), doc="features of the training samples")
    y = Data(shape=("sample",), dtype="int", doc="labels of the training samples, 0 or 1")
    X_validation = Data(shape=("validation_sample", "feature"), doc="features of the held-out samples")
    y_validation = Data(shape=("validation_sample",), dtype="int", doc="labels of the held-out samples, 0 or 1")
    penalty = Parameter(bounds=(0.0, None), doc="weight of |w|^2 / 2")
    weight = Parameter(
        shape=("sample",),
        default=1.0,
        bounds=(0.0, None),
        doc="weight of each training sample",
        source="Cook and Weisberg, Residuals and Influence in Regression, 1982; Koh and Liang, ICML 2017, arXiv 1703.04730",
    )
    w = Unknown(shape=("feature",), doc="weights")
    intercept = Unknown(doc="intercept b")
    training_loss = Output(doc="mean log loss on the training samples, each with its weight")
    validation_loss = Output(doc="mean log loss on the held-out samples")

    example = """\
problem: logistic
data:
  X: [[0.5, 1.0], [-1.0, 0.3], [2.0, -0.2], [0.1, -1.5], [1.2, 0.4]]
  y: [1, 0, 1, 0, 0]
  X_validation: [[1.0, 1.0], [-0.5, 0.0]]
  y_validation: [1, 0]
parameters: {penalty: 0.1}          # weight: 1 for all samples
"""

    def log_loss(self, X: Array, y: Array, x: Any) -> Array:
        """-log of the probability that the model gives to each label; NaN for a label that is neither 0 nor 1."""
        z = X @ x.w + x.intercept
        return jnp.where((y == 0) | (y == 1), 1.0, jnp.nan) * jax.nn.softplus(jnp.where(y == 1, -z, z))

    def loss(self, x: Any, theta: Any, data: Any) -> Array:
        return jnp.mean(theta.weight * self.log_loss(data.X, data.y, x))

    def objective(self, x: Any, theta: Any, data: Any) -> Array:
        return self.loss(x, theta, data) + theta.penalty * (x.w @ x.w) / 2

    def condition(self) -> Condition:
        return stationary(self.objective)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {
            "training_loss": self.loss(x, theta, data),
            "validation_loss": jnp.mean(self.log_loss(data.X_validation, data.y_validation, x)),
        }
