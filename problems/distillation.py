"""Dataset distillation: a few images such that a classifier trained on them alone does well on the real ones."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, stationary
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array

PAPER = "M. Blondel et al., Efficient and Modular Implicit Differentiation, NeurIPS 2022, arXiv 2105.15183, section 4.2"


class Distillation(Problem):
    """Dataset distillation: the classifier W*(image) that is trained on one image for each class, and its loss on real samples.

    W* = argmin_W of the mean over the classes c of -log softmax(W image_c)_c, + penalty/2 |W|^2. `implicit optimize` looks for the
    images with the smallest `loss`. With p_c = softmax(W image_c) and S_c = diag(p_c) - p_c p_c', W laid row by row,
    A = sum_c S_c (x) image_c image_c' / classes + penalty I.
    """

    X = Data(shape=("sample", "pixel"), doc="real images")
    y = Data(shape=("sample",), dtype="int", doc="their classes, counted from 0")
    X_validation = Data(shape=("validation_sample", "pixel"), doc="held-out images")
    y_validation = Data(shape=("validation_sample",), dtype="int", doc="their classes")
    image = Parameter(shape=("class", "pixel"), doc="distilled image of each class", source=PAPER)
    penalty = Parameter(bounds=(0.0, None), default=1e-3, doc="regularisation of the weights", source=PAPER)
    W = Unknown(shape=("class", "pixel"), doc="weights of the classifier trained on the distilled images")
    loss = Output(doc="its mean cross entropy on the real images")
    validation_loss = Output(doc="its mean cross entropy on the held-out images")

    example = """\
problem: distillation
data:
  X: [[1.0, 0.2, 0.0], [0.9, 0.0, 0.1], [0.1, 1.0, 0.3], [0.0, 0.8, 0.9]]
  y: [0, 0, 1, 1]
  X_validation: [[0.8, 0.1, 0.2], [0.2, 0.9, 0.4]]
  y_validation: [0, 1]
parameters: {image: [[0.5, 0.0, 0.0], [0.0, 0.5, 0.1]]}
sensitivity: {of: [loss], wrt: [image]}
outer: {objective: loss}
"""

    def objective(self, x: Any, theta: Any, data: Any) -> Array:
        own = jnp.arange(theta.image.shape[0])
        return cross_entropy(x.W, theta.image, own) + theta.penalty / 2 * jnp.sum(x.W**2)

    def condition(self) -> Condition:
        return stationary(self.objective)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {
            "loss": cross_entropy(x.W, data.X, data.y),
            "validation_loss": cross_entropy(x.W, data.X_validation, data.y_validation),
        }

    def constants(self, theta: Any, data: Any) -> Constants:
        # the third derivative of log-sum-exp is a third central moment: at most a variance, 1/2, times a distance, sqrt(2)
        size = jnp.sqrt(jnp.sum(theta.image**2, axis=1))
        return Constants(alpha=theta.penalty, gamma=jnp.mean(size**3) / 2**0.5)


def cross_entropy(W: Array, X: Array, y: Array) -> Array:
    """Mean over the samples of -log softmax(W X_i) at the class y_i."""
    score, own = X @ W.T, y[:, None] == jnp.arange(W.shape[0])[None, :]
    gap = score - jnp.sum(jnp.where(own, score, 0.0), axis=1, keepdims=True)
    # log(1 + sum over the other classes): the slope by the own score is then a sum, not a difference from 1 that cancels
    return jnp.mean(jax.nn.softplus(jax.nn.logsumexp(jnp.where(own, -jnp.inf, gap), axis=1)))
