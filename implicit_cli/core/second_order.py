"""Second derivatives of the solution and of outputs, from the factorisation that the first ones used.

Differentiate `A J = -B` once more along v, x moving along u = J v. With z = (u, v):

    along v         A u2 = -d2F[z, z]        y2 = d2g[z, z] + g_x u2       one more solve per direction, for everything at once
    full Hessian    H = P' d2L P             P = [J; I], L = w'g + u'F     n forward solves, one adjoint solve per output component
                    A' u = -(g_x' w)         so that dL/dx = 0, and x's own second derivative drops out

u2 = d2x*[v, v] is free of a part along null directions of A, as J is. H is symmetric by construction. Where the unknowns are
functions of lambda through theta = p(lambda), the terms with p'' are in d2F, which is taken with respect to lambda.

Errors come in the three parts of `implicit_cli.core.certificate`. What enters H (x, J and u) moves along the Newton step delta, by

    J'[delta] = -A^-1 (A'[delta] J + B'[delta])        u'[delta] = -A'^-1 (A'[delta]' u + g_x'[delta]' w)

and the change of H is the truncation: H is evaluated there once more, and half-way, which tells its first order from the rest.
Linear solve: the same with A^-1 R for J's change. Rounding: the same with random changes of J and u, 8 eps kappa their size, and
of x.

Source: Blondel et al., "Efficient and Modular Implicit Differentiation", arXiv 2105.15183, for the first order.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import ROUNDING, X_ROUNDING, Certifier, FloatArray, Parts
from implicit_cli.core.implicit import Forward, Matrix, Point, System
from implicit_cli.core.linear import LinearSolver, Solved

PROBES, PROBE = 4, 1e-6
"""Random changes, of this relative size, that measure how rounding errors of J and u reach the second derivatives."""


class Second(NamedTuple):
    """Second derivatives along each direction: `U = d2x*[v, v]` (d, k) and `Y = d2y[v, v]` (m, k), with the solve behind them."""

    U: Matrix
    Y: Matrix
    solved: Solved


class Hessians(NamedTuple):
    """Hessians `H` (s, k, k) of s scalars along the columns of V; their weights `W_y` (m, s) and adjoints `U` (d, s), the solve."""

    W_y: Matrix
    U: Matrix
    H: Matrix
    solved: Solved


class HessianParts(NamedTuple):
    """Error of Hessians: entrywise (s, k, k), and for rounding a norm per column (s, k)."""

    truncation: FloatArray
    linear: FloatArray
    rounding: FloatArray


def second(system: System, p: Point, A: LinearSolver, f: Forward) -> Second:
    """Second derivatives of all unknowns and outputs along each column of `f.V`: one solve for each."""
    solved = A.solve(-system.F_second(p, f.U, f.V))
    y = system.g_second(p, f.U, f.V) + system.g_tangent(p, solved.value, jnp.zeros_like(f.V))
    return Second(solved.value, y, solved)


def hessians(system: System, p: Point, A: LinearSolver, f: Forward, W_x: Matrix, W_y: Matrix) -> Hessians:
    """Hessian along the columns of `f.V` of each scalar `W_x' x + W_y' y`, columns of W_x (d, s), W_y (m, s): one adjoint each."""
    solved = A.solve(-(W_x + system.g_cotangent(p, W_y)[0]), transpose=True)
    H = [system.L_second(p, W_y[:, i], solved.value[:, i], f.U, f.V) for i in range(W_y.shape[1])]
    k = f.V.shape[1]
    return Hessians(W_y, solved.value, jnp.stack(H) if H else jnp.zeros((0, k, k)), solved)


class SecondCertifier:
    """Error parts of second derivatives that were computed from the first ones `f`."""

    def __init__(self, certifier: Certifier, f: Forward) -> None:
        self.certifier, self.f = certifier, f
        self.system, self.p, self.A = certifier.system, certifier.p, certifier.A
        self.still, self.still_V = jnp.zeros_like(self.p.x), jnp.zeros_like(f.V)
        self.U_along = self.A.solve(-self.system.F_tangent_along(self.p, certifier.delta, f.U, f.V)).value
        self.E = self.A.solve(f.solved.residual).value

    def second(self, s: Second) -> tuple[Parts, Parts]:
        """Errors of `s.U` (d, k) and of `s.Y` (m, k)."""
        c, system, p = self.certifier, self.system, self.p
        first, cross = _orders(*(self._change(s, t * c.delta, t * self.U_along) for t in (0.5, 1.0)))
        linear = self._change(s, self.still, self.E)
        E = self.A.solve(s.solved.residual).value
        linear = linear[0] + E, linear[1] + system.g_tangent(p, E, self.still_V)
        noise_u, noise_y = self._rounding(s)
        through = system.g_tangent(p, s.U, self.still_V)
        terms = jnp.abs(s.Y - through) + jnp.abs(through)  # they may cancel, their errors do not
        return (
            Parts(c.truncation(first[0], s.U, cross[0]), np.abs(linear[0]), noise_u),
            Parts(c.truncation(first[1], terms, cross[1]), np.abs(linear[1]), noise_y),
        )

    def hessians(self, h: Hessians) -> HessianParts:
        """Errors of `h.H`."""
        found = [self._hessian(h, i) for i in range(h.H.shape[0])]
        k = h.H.shape[1]
        shapes = ((0, k, k), (0, k, k), (0, k))
        columns = zip(*found, strict=True) if found else [()] * 3
        return HessianParts(
            *(np.stack(part) if part else np.zeros(shape) for part, shape in zip(map(list, columns), shapes, strict=True))
        )

    def _change(self, s: Second, delta: Matrix, dU: Matrix) -> tuple[Matrix, Matrix]:
        """Change of (U, Y) of `s` when x moves by delta and J V changes by dU."""
        system, p, f = self.system, self.p, self.f
        moved, U = p._replace(x=p.x + delta), f.U + dU
        there = system.F_second(moved, U, f.V) + system.A_times(moved, s.U)
        u = self.A.solve(system.F_second(p, f.U, f.V) + system.A_times(p, s.U) - there).value
        y = system.g_second(moved, U, f.V) - system.g_second(p, f.U, f.V)
        return u, y + system.g_tangent(moved, s.U + u, self.still_V) - system.g_tangent(p, s.U, self.still_V)

    def _rounding(self, s: Second) -> tuple[FloatArray, FloatArray]:
        """Norms per column of what rounding errors in J, and then in the second solve, do to (U, Y)."""
        c, p = self.certifier, self.p
        size = c.noise * c.certificate.kappa
        changes = [self._change(s, self._probe_x(i), self._probe(i, self.f.U)) for i in range(PROBES)]
        u, y = (
            _root_mean_square([jnp.linalg.norm(one, axis=0) for one in all_of_it], p.x.size)
            for all_of_it in zip(*changes, strict=True)
        )
        length = size * jnp.linalg.norm(s.U, axis=0)
        noise_y = size / PROBE * y + length * c.size_of_g + c.noise * jnp.linalg.norm(s.Y, axis=0)
        return np.asarray(size / PROBE * u + length), np.asarray(noise_y)

    def _hessian(self, h: Hessians, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        c, system, p, f = self.certifier, self.system, self.p, self.f
        w, u, H = h.W_y[:, i], h.U[:, i], h.H[i]
        c_along, _ = system.g_cotangent_along(p, c.delta, w[:, None])
        At_along, _ = system.F_cotangent_along(p, c.delta, u[:, None])
        u_along = self.A.solve(-(At_along + c_along), transpose=True).value[:, 0]
        e = self.A.solve(h.solved.residual[:, i : i + 1], transpose=True).value[:, 0]

        def change(delta: Matrix, du: Matrix, dU: Matrix) -> Matrix:
            return system.L_second(p._replace(x=p.x + delta), w, u + du, f.U + dU, f.V) - H

        (first,), (cross,) = _orders(*((change(t * c.delta, t * u_along, t * self.U_along),) for t in (0.5, 1.0)))
        linear = change(self.still, e, self.E)
        probes = [change(self._probe_x(j), self._probe(j, u), self._probe(PROBES + j, f.U)) for j in range(PROBES)]
        noise = _root_mean_square([jnp.linalg.norm(one, axis=0) for one in probes], p.x.size)
        noise = c.noise * (c.certificate.kappa / PROBE * noise + jnp.linalg.norm(H, axis=0))
        return c.truncation(first, H, cross), np.abs(linear), np.asarray(noise)

    def _probe_x(self, seed: int) -> Matrix:
        """A random change of x, in proportion to the rounding that the radius allows for."""
        return X_ROUNDING / ROUNDING * self._probe(2 * PROBES + seed, self.p.x)

    def _probe(self, seed: int, like: Matrix) -> Matrix:
        """A random change of every column, in proportion to its length."""
        e = jax.random.normal(jax.random.key(seed), like.shape, like.dtype)
        length = jnp.linalg.norm(like, axis=0, keepdims=True) / jnp.linalg.norm(e, axis=0, keepdims=True)
        return PROBE * length * e


def _orders(half: tuple[Matrix, ...], whole: tuple[Matrix, ...]) -> tuple[tuple[Matrix, ...], tuple[Matrix, ...]]:
    """First order of changes, and what is beyond it, from the changes half-way and all the way."""
    first = tuple(4 * a - b for a, b in zip(half, whole, strict=True))
    return first, tuple(b - a for a, b in zip(first, whole, strict=True))


def _root_mean_square(norms: list[Matrix], d: int) -> Matrix:
    """Frobenius norm of a linear map from its effect on random unit vectors of R^d."""
    return jnp.sqrt(d * jnp.mean(jnp.stack(norms) ** 2, axis=0))
