"""The elastic net: linear regression with an l1 and an l2 penalty."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, prox, proximal_gradient
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class ElasticNet(Problem):
    """Elastic net: w*(l1, l2) = argmin_w |X w - y|^2 / (2 m) + l1 |w|_1 + l2 |w|^2 / 2, for m samples.

    Closed form on the support S, the weights that are not zero: with H = X_S'X_S / m + l2 I and s = sign(w_S),
    dw_S/dl1 = -H^-1 s and dw_S/dl2 = -H^-1 w_S; all other weights stay zero.

    There is no derivative where a weight enters or leaves S: where w_j = 0 and |X_j'(y - X w)| / m = l1.
    """

    X = Data(shape=("sample", "feature"), doc="features of the training samples")
    y = Data(shape=("sample",), doc="targets of the training samples")
    X_validation = Data(shape=("validation_sample", "feature"), doc="features of the held-out samples")
    y_validation = Data(shape=("validation_sample",), doc="targets of the held-out samples")
    l1 = Parameter(bounds=(0.0, None), doc="weight of |w|_1", source="Zou and Hastie, J. R. Stat. Soc. B 67, 301 (2005)")
    l2 = Parameter(bounds=(0.0, None), doc="weight of |w|^2 / 2", source="Zou and Hastie, J. R. Stat. Soc. B 67, 301 (2005)")
    w = Unknown(shape=("feature",), doc="weights")
    training_loss = Output(doc="mean squared error / 2 on the training samples")
    validation_loss = Output(doc="mean squared error / 2 on the held-out samples")

    example = """\
problem: elastic_net
data:
  X: [[1.0, 2.0, 0.5], [3.0, -1.0, 0.0], [0.5, 1.5, -2.0]]
  y: [1.0, 2.0, 0.5]
  X_validation: [[2.0, 1.0, 0.2], [1.0, 1.0, -1.0]]
  y_validation: [1.5, 1.0]
parameters: {l1: 0.2, l2: 0.1}      # with l2 > 0 there is one solution, however many features there are
"""

    def loss(self, x: Any, theta: Any, data: Any) -> Array:
        return jnp.mean((data.X @ x.w - data.y) ** 2) / 2

    def shrink(self, v: Any, eta: Any, theta: Any, data: Any) -> Any:
        return v._replace(w=prox.elastic_net(v.w, eta * theta.l1, eta * theta.l2))

    def margin_of(self, v: Any, eta: Any, theta: Any, data: Any) -> Array:
        return prox.elastic_net.margin(v.w, eta * theta.l1, eta * theta.l2)

    def step(self, theta: Any, data: Any) -> Array:
        # the trace of X'X / m bounds its largest eigenvalue, the Lipschitz constant of the slope
        return data.y.size / jnp.sum(data.X**2)

    def condition(self) -> Condition:
        return proximal_gradient(self.loss, self.shrink, eta=self.step, margin=self.margin_of)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        # not the objective: |w|_1 has a kink at every weight that is zero
        return {
            "training_loss": self.loss(x, theta, data),
            "validation_loss": jnp.mean((data.X_validation @ x.w - data.y_validation) ** 2) / 2,
        }

    def constants(self, theta: Any, data: Any) -> Constants:
        # between kinks F is affine in w; dF/dl2 = -eta v / (1 + eta l2)^2 on the support, where v changes no faster than w
        return Constants(gamma=0.0, beta=self.step(theta, data))
