"""The group lasso: linear regression in which groups of features are in or out together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, prox, proximal_gradient
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown

Array = jax.Array


class GroupLasso(Problem):
    """Group lasso: w*(penalty) = argmin_w |X w - y|^2 / (2 m) + penalty sum_g weight_g |w_g|_2, for m samples and groups g.

    Closed form on the features S of groups that are not zero: with H = X_S'X_S / m, n_g = w_g / |w_g|_2 and
    P = diag of (I - n_g n_g') weight_g / |w_g|_2, it is dw_S/dpenalty = -(H + penalty P)^-1 (weight_g n_g); other groups stay zero.

    There is no derivative where a group enters or leaves: where w_g = 0 and |X_g'(y - X w)|_2 / m = penalty weight_g.
    """

    X = Data(shape=("sample", "feature"), doc="features of the training samples")
    y = Data(shape=("sample",), doc="targets of the training samples")
    X_validation = Data(shape=("validation_sample", "feature"), doc="features of the held-out samples")
    y_validation = Data(shape=("validation_sample",), doc="targets of the held-out samples")
    group_of = Data(shape=("feature",), dtype="int", doc="the group of each feature, counted from 0")
    penalty = Parameter(bounds=(0.0, None), doc="weight of the sum over groups")
    weight = Parameter(
        shape=("group",),
        bounds=(0.0, None),
        doc="share of the penalty that each group pays; the square root of its size is usual",
        source="Yuan and Lin, J. R. Stat. Soc. B 68, 49 (2006)",
    )
    w = Unknown(shape=("feature",), doc="weights")
    training_loss = Output(doc="mean squared error / 2 on the training samples")
    validation_loss = Output(doc="mean squared error / 2 on the held-out samples")

    example = """\
problem: group_lasso
data:
  X: [[1.0, 2.0, 0.5], [3.0, -1.0, 0.0], [0.5, 1.5, -2.0], [-1.0, 0.3, 1.0]]
  y: [1.0, 2.0, 0.5, -0.7]
  X_validation: [[2.0, 1.0, 0.2], [1.0, 1.0, -1.0]]
  y_validation: [1.5, 1.0]
  group_of: [0, 0, 1]
parameters: {penalty: 0.2, weight: [1.4142, 1.0]}       # a weight for each group
"""

    def loss(self, x: Any, theta: Any, data: Any) -> Array:
        return jnp.mean((data.X @ x.w - data.y) ** 2) / 2

    def members(self, theta: Any, data: Any) -> Array:
        """Which features are in which group (group, feature)."""
        return jnp.arange(theta.weight.size)[:, None] == data.group_of[None, :]

    def shrink(self, v: Any, eta: Any, theta: Any, data: Any) -> Any:
        inside = self.members(theta, data)
        parts = jax.vmap(prox.group_lasso)(jnp.where(inside, v.w[None, :], 0.0), eta * theta.penalty * theta.weight)
        # a group that does not exist must not pass for one that is zero
        return v._replace(w=jnp.where(jnp.any(inside, axis=0), jnp.sum(parts, axis=0), jnp.nan))

    def margin_of(self, v: Any, eta: Any, theta: Any, data: Any) -> Array:
        parts = jnp.where(self.members(theta, data), v.w[None, :], 0.0)
        return jnp.min(jax.vmap(prox.group_lasso.margin)(parts, eta * theta.penalty * theta.weight))

    def step(self, theta: Any, data: Any) -> Array:
        # the trace of X'X / m bounds its largest eigenvalue, the Lipschitz constant of the slope
        return data.y.size / jnp.sum(data.X**2)

    def condition(self) -> Condition:
        return proximal_gradient(self.loss, self.shrink, eta=self.step, margin=self.margin_of)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        # not the objective: |w_g| has a kink at every group that is zero
        return {
            "training_loss": self.loss(x, theta, data),
            "validation_loss": jnp.mean((data.X_validation @ x.w - data.y_validation) ** 2) / 2,
        }
