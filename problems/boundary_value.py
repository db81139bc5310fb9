"""Nonlinear boundary-value problems of second order on [0, 1], by Chebyshev collocation."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core import Condition, root
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown

Array = jax.Array


class BoundaryValue(Problem):
    """u'' = f(u) on [0, 1], u(0) = `left`, u(1) = `right`: at Chebyshev points u'' is that of the polynomial through all values.

    equation: bratu      f = -lam exp(u), a reaction that heats itself; with u = 0 at both ends u(1/2) = 2 log cosh(t / 4) where
                         t = sqrt(2 lam) cosh(t / 4), of which there are two for lam < 3.513830719, one there, none above
    equation: troesch    f = lam sinh(lam u), a plasma column; with u from 0 to 1 a layer of width 1 / lam at the right end

    Derivatives obey the linear problem u_lam'' = f'(u) u_lam + df/dlam with zero ends.
    """

    equation = Option("bratu", choices=("bratu", "troesch"), doc="which f")
    point = Option(33, minimum=3, doc="number of collocation points, both ends included")

    lam = Parameter(bounds=(0.0, None), doc="strength of the nonlinear term")
    left = Parameter(default=0.0, doc="u(0)")
    right = Parameter(default=0.0, doc="u(1)")
    u = Unknown(shape=("point",), doc="solution at the points x_j = (1 - cos(pi j / (n - 1))) / 2")
    middle = Output(doc="u(1/2)")
    slope = Output(doc="u'(0)")

    example = """\
problem: boundary_value
options: {equation: troesch, point: 33}
parameters: {lam: 2.0, right: 1.0}
"""

    @cached_property
    def nodes(self) -> np.ndarray:
        return (1 - np.cos(np.pi * np.arange(self.point) / (self.point - 1))) / 2

    @cached_property
    def barycentric(self) -> np.ndarray:
        """Weights of barycentric interpolation at the nodes: Berrut and Trefethen, SIAM Review 46, 501 (2004)."""
        weights = (-1.0) ** np.arange(self.point)
        weights[[0, -1]] /= 2
        return weights

    @cached_property
    def D(self) -> np.ndarray:
        """Matrix (point, point) from values to first derivatives; rows sum to zero, as the derivative of a constant does."""
        gaps = self.nodes[:, None] - self.nodes[None, :] + np.eye(self.point)
        D = self.barycentric[None, :] / self.barycentric[:, None] / gaps
        np.fill_diagonal(D, 0.0)
        return D - np.diag(D.sum(axis=1))

    @cached_property
    def to_middle(self) -> np.ndarray:
        """Weights (point,) from values to the polynomial at 1/2."""
        gaps = self.nodes - 0.5
        if self.point % 2:  # 1/2 is a point
            return (np.arange(self.point) == self.point // 2).astype(float)
        weights = self.barycentric / gaps
        return weights / weights.sum()

    def equations(self, x: Any, theta: Any, data: Any) -> Any:
        u = x.u
        f = -theta.lam * jnp.exp(u) if self.equation == "bratu" else theta.lam * jnp.sinh(theta.lam * u)
        inner = (self.D @ self.D)[1:-1] @ u - f[1:-1]
        return x._replace(u=jnp.concatenate([(u[0] - theta.left)[None], inner, (u[-1] - theta.right)[None]]))

    def condition(self) -> Condition:
        return root(self.equations)

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        return {"u": theta.left + (theta.right - theta.left) * self.nodes}

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"middle": self.to_middle @ x.u, "slope": self.D[0] @ x.u}
