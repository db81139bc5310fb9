"""The theorem: if F(x*(theta), theta) = 0 and A is invertible, then A J = -B, with A = dF/dx, B = dF/dtheta, J = dx*/dtheta.

    JVP   J v        A u = -B v            forward, one right-hand side
    VJP   w' J       A' u = w, -B' u       adjoint, one right-hand side
    full J           n of the first or m of the second
    outputs          y = g(x*, theta):     dy/dtheta = g_x J + g_theta

Everything here is on vectors: x in R^d, theta in R^n, y in R^m; `data` is a pytree that is passed as an argument, never captured,
so that nothing large becomes a constant of a compiled program. Matrices of directions have one column per right-hand side.

Source: Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022, arXiv 2105.15183.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.linear import LinearSolver, Solved

Vector = jax.Array
Matrix = jax.Array
Map = Callable[[Vector, Vector, Any], Vector]


class Point(NamedTuple):
    """Where everything is evaluated: unknowns x (d,), parameters theta (n,), and the problem's data."""

    x: Vector
    theta: Vector
    data: Any


class System:
    """F and g with their derivatives as compiled products; one instance serves every case of equal shapes.

    `F(x, theta, data)` in R^d is the optimality mapping, `g(x, theta, data)` in R^m the outputs (m may be 0). All products take a
    `Point` and matrices with one column per right-hand side:

        A_matrix(p) = A                 A_times(p, U) = A U            At_times(p, U) = A' U
        B_times(p, V) = B V             Bt_times(p, U) = B' U
        F_tangent(p, U, V) = A U + B V                  F_cotangent(p, U) = (A' U, B' U)
        g_tangent(p, U, V) = g_x U + g_theta V          g_cotangent(p, W) = (g_x' W, g_theta' W)

    Second order, with z = (u, v) a column of (U, V) and the Lagrangian L = w'g + u'F (`implicit_cli.core.second_order`):

        F_second(p, U, V) = d2F[z, z]                   g_second(p, U, V) = d2g[z, z]
        L_second(p, w, u, U, V) = [U' V'] d2L [U; V], for one w (m,) and one u (d,)

    Each call of a compiled program costs some 0.1 ms, which is what small problems pay: what is made of several products is
    `compiled` as one.
    """

    def __init__(self, F: Map, g: Map, *, symmetric: bool = False) -> None:
        F = jax.jit(F)  # traced once, however many products are made of it

        def A_column(p: Point, u: Vector) -> Vector:
            return jax.jvp(lambda x: F(x, p.theta, p.data), (p.x,), (u,))[1]

        def B_column(p: Point, v: Vector) -> Vector:
            return jax.jvp(lambda t: F(p.x, t, p.data), (p.theta,), (v,))[1]

        def A_matrix(p: Point) -> Matrix:
            return A_times(p, jnp.eye(p.x.size, dtype=p.x.dtype))

        A_times = _columns(A_column, 1)
        F_cotangent = _columns(_cotangent(F), 1)
        self.symmetric = symmetric
        self.F = F
        self.A_matrix = jax.jit(A_matrix)
        self.A_times = jax.jit(A_times)
        self.At_times = self.A_times if symmetric else jax.jit(lambda p, U: F_cotangent(p, U)[0])
        self.B_times = jax.jit(_columns(B_column, 1))
        self.Bt_times = jax.jit(lambda p, U: F_cotangent(p, U)[1])
        self.F_tangent, self.F_cotangent = jax.jit(_columns(_tangent(F), 2)), jax.jit(F_cotangent)
        self.F_second = jax.jit(_columns(_second(F), 2))
        self._take(g)

    def _take(self, g: Map) -> None:
        """Everything that depends on the outputs."""
        F, g = self.F, jax.jit(g)

        def L_second(p: Point, w: Vector, u: Vector, U: Matrix, V: Matrix) -> Matrix:
            def slope(x: Vector, t: Vector) -> tuple[Vector, Vector]:
                return jax.grad(lambda x, t: w @ g(x, t, p.data) + u @ F(x, t, p.data), argnums=(0, 1))(x, t)

            C, C_theta = jax.vmap(lambda a, b: jax.jvp(slope, (p.x, p.theta), (a, b))[1], 1, 1)(U, V)
            return U.T @ C + V.T @ C_theta

        self.g = g
        self.g_tangent, self.g_cotangent = jax.jit(_columns(_tangent(g), 2)), jax.jit(_columns(_cotangent(g), 1))
        self.g_second, self.L_second = jax.jit(_columns(_second(g), 2)), jax.jit(L_second)
        self._programs: dict[Any, Any] = {}

    @cached_property
    def bare(self) -> System:
        """The same without outputs, m = 0: where none is asked for, they need not be differentiated."""
        other = copy(self)
        other._take(lambda x, theta, data: jnp.zeros(0, x.dtype))
        return other

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(system, ...)` as one compiled program, kept with the system."""
        if function not in self._programs:
            self._programs[function] = jax.jit(partial(function, self))
        return self._programs[function]


def _tangent(f: Map) -> Callable[[Point, Vector, Vector], Vector]:
    return lambda p, u, v: jax.jvp(lambda x, t: f(x, t, p.data), (p.x, p.theta), (u, v))[1]


def _cotangent(f: Map) -> Callable[[Point, Vector], tuple[Vector, Vector]]:
    return lambda p, w: jax.vjp(lambda x, t: f(x, t, p.data), p.x, p.theta)[1](w)


def _second(f: Map) -> Callable[[Point, Vector, Vector], Vector]:
    def twice(p: Point, u: Vector, v: Vector) -> Vector:
        def once(x: Vector, t: Vector) -> Vector:
            return jax.jvp(lambda x, t: f(x, t, p.data), (x, t), (u, v))[1]

        return jax.jvp(once, (p.x, p.theta), (u, v))[1]

    return twice


def _columns(f: Callable[..., Any], matrices: int) -> Callable[..., Any]:
    """f on each column of its matrices."""
    return jax.vmap(f, in_axes=(None, *(1,) * matrices), out_axes=1)


class Forward(NamedTuple):
    """Directions pushed through the solution: `U = J V` (d, k) and `Y = dg/dtheta V` (m, k), with the solve behind them.

    m is 0 where the outputs were left out.
    """

    V: Matrix
    U: Matrix
    Y: Matrix
    solved: Solved


class Adjoint(NamedTuple):
    """Cotangents pulled back: `L = (W_x' J + W_y' dg/dtheta)'` (n, k), `U = A'^-1 (W_x + g_x' W_y)`, and the solve behind it."""

    W_x: Matrix
    W_y: Matrix
    U: Matrix
    L: Matrix
    solved: Solved


def forward(system: System, p: Point, A: LinearSolver, V: Matrix) -> Forward:
    """`A U = -B V` and `Y = g_x U + g_theta V`: one linear solve per column of V (n, k)."""
    solved = A.solve(-system.B_times(p, V))
    return Forward(V, solved.value, system.g_tangent(p, solved.value, V), solved)


def adjoint(system: System, p: Point, A: LinearSolver, W_x: Matrix, W_y: Matrix) -> Adjoint:
    """`A' U = W_x + g_x' W_y` and `L = -B' U + g_theta' W_y`: one transposed solve per column of W_x (d, k) and W_y (m, k)."""
    c, c_theta = system.g_cotangent(p, W_y)
    solved = A.solve(W_x + c, transpose=True)
    return Adjoint(W_x, W_y, solved.value, c_theta - system.Bt_times(p, solved.value), solved)
