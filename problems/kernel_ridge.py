"""Kernel ridge regression with a Gaussian kernel: a smooth curve through noisy points."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, root
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class KernelRidge(Problem):
    """Kernel ridge regression: (K + m penalty I) a = y, K_ij = exp(-|x_i - x_j|^2 / (2 length^2)), for m samples.

    The prediction at z is sum_i a_i exp(-|z - x_i|^2 / (2 length^2)), the function that minimises the mean squared error
    plus penalty times its squared norm in the space of the kernel: the mean of a Gaussian process with noise of variance m penalty.

    Closed form: da/dpenalty = -m M^-1 a and da/dlength = -M^-1 (dK/dlength) a, with M = K + m penalty I.
    """

    X = Data(shape=("sample", "feature"), doc="features of the training samples")
    y = Data(shape=("sample",), doc="targets of the training samples, without their mean")
    X_validation = Data(shape=("validation_sample", "feature"), doc="features of the held-out samples")
    y_validation = Data(shape=("validation_sample",), doc="targets of the held-out samples")
    length = Parameter(bounds=(0.0, None), doc="length scale of the kernel, in units of the features")
    penalty = Parameter(
        bounds=(0.0, None),
        doc="weight of the squared norm of the function",
        source="Saunders, Gammerman and Vovk, Ridge Regression Learning Algorithm in Dual Variables, ICML 1998",
    )
    a = Unknown(shape=("sample",), doc="dual coefficients")
    fitted = Output(shape=("sample",), doc="prediction at the training samples")
    prediction = Output(shape=("validation_sample",), doc="prediction at the held-out samples")
    training_loss = Output(doc="mean squared error / 2 on the training samples")
    validation_loss = Output(doc="mean squared error / 2 on the held-out samples")

    example = """\
problem: kernel_ridge
data:
  X: [[0.0], [1.0], [2.0], [3.5]]
  y: [0.1, 0.8, 0.9, -0.4]
  X_validation: [[0.5], [3.0]]
  y_validation: [0.5, 0.1]
parameters: {length: 1.0, penalty: 0.01}
transforms: {length: log, penalty: log}
"""

    def kernel(self, X: Array, Z: Array, length: Array) -> Array:
        squares = jnp.sum((X[:, None, :] - Z[None, :, :]) ** 2, axis=2)
        return jnp.exp(-squares / (2 * length**2))

    def equations(self, x: Any, theta: Any, data: Any) -> Any:
        K = self.kernel(data.X, data.X, theta.length)
        return x._replace(a=K @ x.a + data.y.size * theta.penalty * x.a - data.y)

    def condition(self) -> Condition:
        return root(self.equations, definite=True)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        fitted = self.kernel(data.X, data.X, theta.length) @ x.a
        prediction = self.kernel(data.X_validation, data.X, theta.length) @ x.a
        return {
            "fitted": fitted,
            "prediction": prediction,
            "training_loss": jnp.mean((fitted - data.y) ** 2) / 2,
            "validation_loss": jnp.mean((prediction - data.y_validation) ** 2) / 2,
        }

    def constants(self, theta: Any, data: Any) -> Constants:
        # A = K + m penalty I does not depend on a, and K has no negative eigenvalue; B = ((dK/dlength) a, m a)
        m = data.y.size
        slope = jax.jacfwd(lambda length: self.kernel(data.X, data.X, length))(theta.length)
        return Constants(alpha=m * theta.penalty, gamma=0.0, beta=jnp.sqrt(jnp.sum(slope**2) + m**2))
