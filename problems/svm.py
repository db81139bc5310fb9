"""The dual of a multiclass support vector machine, by three fixed points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core import Condition, mirror_descent, projected_gradient, projections
from implicit_cli.problem import Constants, Data, Option, Output, Parameter, Prepared, Problem, Unknown

Array = jax.Array


class Svm(Problem):
    """Multiclass linear SVM, dual: x*(penalty) = argmin_x penalty |W(x)|_F^2 / 2 + <x, Y>, every row of x on the simplex.

    W(x) = X'(Y - x) / penalty are the weights of the classes, Y (sample, classes) the labels as rows of zeros and a one. At x* they
    minimise sum_i max_j (x_i'W_j + 1 - Y_ij) - x_i'W_{y_i} + penalty |W|_F^2 / 2 (Crammer and Singer), whose minimum is m minus
    that of the dual, for m samples.

    `mapping` is the fixed point that is differentiated: all have the same solutions and derivatives.

        projected_gradient      x = proj(x - eta g), one eta for all: penalty / |X|_2^2
        mirror_descent          x = x exp(-eta g), normalised: the projection by relative entropy
        block                   x_i = proj(x_i - eta_i g_i), with a step of its own for each sample: block coordinate descent

    There is no derivative where an entry of x enters or leaves: where it is zero, and so is its multiplier.
    """

    classes = Option(3, minimum=2, doc="number of classes")
    mapping = Option(
        "projected_gradient", choices=("projected_gradient", "mirror_descent", "block"), doc="fixed point that is differentiated"
    )

    X = Data(shape=("sample", "feature"), doc="features of the training samples")
    y = Data(shape=("sample",), dtype="int", doc="class of each training sample, counted from 0")
    X_validation = Data(shape=("validation_sample", "feature"), doc="features of the held-out samples")
    y_validation = Data(shape=("validation_sample",), dtype="int", doc="class of each held-out sample")
    rotated = Prepared(doc="where features outnumber samples, X and X_validation in a basis of what X spans; else empty")
    norm = Prepared(doc="largest singular value of X")
    penalty = Parameter(
        bounds=(0.0, None),
        doc="weight of |W|_F^2 / 2 (theta)",
        source="Blondel et al., Efficient and Modular Implicit Differentiation, NeurIPS 2022, section 4.1",
    )
    x = Unknown(shape=("sample", "classes"), doc="dual variables", source="Crammer and Singer, J. Mach. Learn. Res. 2, 265 (2001)")
    W = Output(shape=("feature", "classes"), doc="weights of each class")
    objective = Output(doc="value of the dual at its minimum")
    validation_loss = Output(doc="|X_validation W - Y_validation|_F^2 / 2")

    example = """\
problem: svm
options: {classes: 3, mapping: projected_gradient}
data:
  X: [[0.5, 1.0], [-1.0, 0.3], [2.0, -0.2], [0.1, -1.5], [1.2, 0.4]]
  y: [0, 2, 1, 0, 1]
  X_validation: [[1.0, 1.0], [-0.5, 0.0]]
  y_validation: [1, 2]
parameters: {penalty: 1.0}
transforms: {penalty: log}          # the paper's theta = exp(lambda)
"""

    def one_hot(self, y: Array, like: Array) -> Array:
        """Rows of zeros and a one, in the numbers of `like`; NaN for a label that is none of the classes."""
        found = y[:, None] == jnp.arange(self.classes)[None, :]
        return jnp.where(jnp.any(found, axis=1, keepdims=True), found.astype(like.dtype), jnp.nan)

    def prepare(self, data: Any) -> Mapping[str, Any]:
        X, rotated = data.X, (np.zeros((0, 0)), np.zeros((0, 0)))
        if X.shape[0] < X.shape[1]:
            Q, R = np.linalg.qr(X.T)  # X = R' Q': a step then costs samples^2, however many the features are
            X, rotated = R.T, (R.T, data.X_validation @ Q)
        return {"rotated": rotated, "norm": np.linalg.eigvalsh(X.T @ X)[-1] ** 0.5 * (1 + 1e-9)}

    def samples(self, data: Any) -> tuple[Array, Array]:
        """X and X_validation, rotated where that is shorter: inner products are those of the features that were given."""
        return data.rotated if data.rotated[0].size else (data.X, data.X_validation)

    def weights(self, X: Array, x: Any, theta: Any, data: Any) -> Array:
        return X.T @ (self.one_hot(data.y, x.x) - x.x) / theta.penalty

    def dual(self, x: Any, theta: Any, data: Any) -> Array:
        W = self.weights(self.samples(data)[0], x, theta, data)
        return theta.penalty * jnp.sum(W**2) / 2 + jnp.vdot(x.x, self.one_hot(data.y, x.x))

    def project(self, v: Any, theta: Any, data: Any) -> Any:
        return v._replace(x=jax.vmap(projections.simplex)(v.x))

    def to_kink(self, v: Any, theta: Any, data: Any) -> Array:
        return jnp.min(jax.vmap(projections.simplex.margin)(v.x))

    def step(self, theta: Any, data: Any) -> Array:
        # |X|_2^2 / penalty is the largest eigenvalue of the Hessian, X X' / penalty for each class
        return theta.penalty / data.norm**2

    def steps(self, theta: Any, data: Any) -> Array:
        """The same for the block of each sample, whose part of the Hessian is |x_i|^2 / penalty (sample, 1)."""
        squares = jnp.sum(self.samples(data)[0] ** 2, axis=1, keepdims=True)
        return theta.penalty / jnp.where(squares > 0, squares, 1.0)

    def to_kink_by_blocks(self, v: Any, theta: Any, data: Any) -> Array:
        # these steps are too long to take together: v may move by so much more than x
        return self.to_kink(v, theta, data) / (1 + jnp.max(self.steps(theta, data)) / self.step(theta, data))

    def condition(self) -> Condition:
        if self.mapping == "mirror_descent":
            return mirror_descent(self.dual, eta=self.step)
        if self.mapping == "block":
            return projected_gradient(self.dual, self.project, eta=self.steps, margin=self.to_kink_by_blocks)
        return projected_gradient(self.dual, self.project, eta=self.step, margin=self.to_kink)

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        # inside of the simplex: a mirror step leaves zeros where they are
        return {"x": jnp.full((data.y.size, self.classes), 1.0 / self.classes)}

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        X, X_validation = self.samples(data)
        error = X_validation @ self.weights(X, x, theta, data) - self.one_hot(data.y_validation, x.x)
        return {
            "W": self.weights(data.X, x, theta, data),
            "objective": self.dual(x, theta, data),
            "validation_loss": jnp.sum(error**2) / 2,
        }

    def constants(self, theta: Any, data: Any) -> Constants:
        if self.mapping == "mirror_descent":
            return Constants()
        # between kinks F is affine in x, and eta g = (X X'(x - Y) + penalty Y) / |X|_2^2 in x and penalty, too
        return Constants(gamma=0.0, beta=0.0)
