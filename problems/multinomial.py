"""Multinomial logistic regression: probabilities of several classes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, stationary
from implicit_cli.problem import Constants, Data, Option, Output, Parameter, Problem, Unknown

Array = jax.Array


class Multinomial(Problem):
    """Multinomial logistic regression: W*(penalty) = argmin_W -(1 / m) sum_i log P_i[y_i] + penalty |W|_F^2 / 2, for m samples.

    P_i = softmax(x_i'W) are the probabilities of the classes. Without the penalty a vector could be added to every column of W;
    with it, the columns sum to zero.

    Closed form: dW*/dpenalty = -H^-1 W, with the Hessian H = (1 / m) sum_i (x_i x_i') (x) (diag(P_i) - P_i P_i') + penalty I.

    There is no intercept: a column of ones in X is one, and pays the penalty as all others do.
    """

    classes = Option(3, minimum=2, doc="number of classes")

    X = Data(shape=("sample", "feature"), doc="features of the training samples")
    y = Data(shape=("sample",), dtype="int", doc="class of each training sample, counted from 0")
    X_validation = Data(shape=("validation_sample", "feature"), doc="features of the held-out samples")
    y_validation = Data(shape=("validation_sample",), dtype="int", doc="class of each held-out sample")
    penalty = Parameter(bounds=(0.0, None), doc="weight of |W|_F^2 / 2")
    W = Unknown(shape=("feature", "classes"), doc="weights of each class")
    training_loss = Output(doc="mean log loss on the training samples")
    validation_loss = Output(doc="mean log loss on the held-out samples")

    example = """\
problem: multinomial
options: {classes: 3}
data:
  X: [[0.5, 1.0, 1.0], [-1.0, 0.3, 1.0], [2.0, -0.2, 1.0], [0.1, -1.5, 1.0]]     # the last feature is an intercept
  y: [0, 2, 1, 0]
  X_validation: [[1.0, 1.0, 1.0], [-0.5, 0.0, 1.0]]
  y_validation: [1, 2]
parameters: {penalty: 0.1}
"""

    def log_loss(self, X: Array, y: Array, W: Array) -> Array:
        """Mean of -log of the probability that the model gives to each label; NaN where a label is none of the classes."""
        found = y[:, None] == jnp.arange(self.classes)[None, :]
        one_hot = jnp.where(jnp.any(found, axis=1, keepdims=True), found.astype(W.dtype), jnp.nan)
        return -jnp.mean(jnp.sum(one_hot * jax.nn.log_softmax(X @ W), axis=1))

    def objective(self, x: Any, theta: Any, data: Any) -> Array:
        return self.log_loss(data.X, data.y, x.W) + theta.penalty * jnp.sum(x.W**2) / 2

    def condition(self) -> Condition:
        return stationary(self.objective)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {
            "training_loss": self.log_loss(data.X, data.y, x.W),
            "validation_loss": self.log_loss(data.X_validation, data.y_validation, x.W),
        }

    def constants(self, theta: Any, data: Any) -> Constants:
        # Third derivatives of log sum exp z are third central moments of a number that takes the values u_j, |u|_2 = 1: their range
        # is at most sqrt 2, and such a moment at most range^3 / (6 sqrt 3). Along W, z_i moves by at most |x_i| |W|_F.
        gamma = jnp.sqrt(2.0 / 27.0) * jnp.mean(jnp.sum(data.X**2, axis=1) ** 1.5)
        return Constants(alpha=theta.penalty, gamma=gamma, beta=1.0)  # dF/dpenalty = W
