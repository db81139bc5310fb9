"""A deep-equilibrium layer: the features that a recurrent layer would have after infinitely many steps, and the loss on them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, fixed_point
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

Array = jax.Array

CURVATURE = 4 / 27**0.5
"""Largest second derivative of tanh."""


class EquilibriumLayer(Problem):
    """Deep-equilibrium layer: z_i = tanh(W z_i + U X_i + b) for each sample i; it predicts z_i'readout + offset.

    With |W|_2 < 1 the map is a contraction and z is its only fixed point. With D_i = diag(1 - z_i^2) and g_i the slope of the loss
    by z_i, dloss/db = sum_i u_i, where (I - D_i W)'s_i = g_i, u_i = D_i s_i; dloss/dW = sum_i u_i z_i', dloss/dU likewise with X_i.
    """

    X = Data(shape=("sample", "feature"), doc="inputs, one row for each sample")
    y = Data(shape=("sample",), doc="targets")
    W = Parameter(shape=("hidden", "hidden"), doc="weights from hidden to hidden units")
    U = Parameter(shape=("hidden", "feature"), doc="weights from inputs to hidden units")
    b = Parameter(shape=("hidden",), default=0.0, doc="biases of the hidden units")
    readout = Parameter(shape=("hidden",), doc="weights from hidden units to the prediction")
    offset = Parameter(default=0.0, doc="constant of the prediction")
    z = Unknown(shape=("sample", "hidden"), doc="hidden units at equilibrium")
    prediction = Output(shape=("sample",), doc="prediction for each sample")
    loss = Output(doc="mean squared error / 2")

    example = """\
problem: equilibrium_layer
data: {X: [[1.0, 2.0, 0.5], [0.5, -1.0, 1.0]], y: [1.0, -1.0]}
parameters:
  W: [[0.3, -0.4], [0.2, 0.5]]          # 2-norm below 1: a contraction
  U: [[1.0, 0.0, 0.5], [0.5, 1.0, 0.0]]
  readout: [1.0, 2.0]
sensitivity: {of: [loss], mode: adjoint}
"""

    def step(self, x: Any, theta: Any, data: Any) -> Any:
        return x._replace(z=jnp.tanh(x.z @ theta.W.T + data.X @ theta.U.T + theta.b[None, :]))

    def pattern(self, x: Any, theta: Any, data: Any) -> tuple[Array, Array]:
        """A has a block for each sample, and nothing beside them."""
        samples, hidden = x.z.shape
        first = hidden * jnp.arange(samples)[:, None, None]
        unit = jnp.arange(hidden)
        block = (samples, hidden, hidden)
        rows, cols = (jnp.broadcast_to(first + inner, block) for inner in (unit[None, :, None], unit[None, None, :]))
        return rows.ravel(), cols.ravel()

    def condition(self) -> Condition:
        return fixed_point(self.step).tagged(pattern=self.pattern)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        prediction = x.z @ theta.readout + theta.offset
        return {"prediction": prediction, "loss": jnp.mean((prediction - data.y) ** 2) / 2}

    def constants(self, theta: Any, data: Any) -> Constants:
        # A = diag(tanh') W - I, and tanh' moves by CURVATURE |W dz| at most;
        # B (dW, dU, db) = tanh' (dW z + dU X + db), where z has entries within -1 and 1.
        # Singular values of A are at least 1 - |W|, but that says nothing where |W| is above 1: they are computed
        W = jnp.linalg.norm(theta.W, 2)
        inputs = jnp.sqrt(jnp.max(jnp.sum(data.X**2, axis=1)) + theta.b.size + 1)
        return Constants(gamma=CURVATURE * W**2, beta=1 + CURVATURE * W * inputs)
