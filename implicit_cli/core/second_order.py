"""Second derivatives of the solution and of outputs, from the factorisation that the first ones used.

Differentiate `A J = -B` once more along v, x moving along u = J v. With z = (u, v):

    along v         A u2 = -d2F[z, z]        y2 = d2g[z, z] + g_x u2       one more solve per direction, for everything at once
    full Hessian    H = P' d2L P             P = [J; I], L = w'g + u'F     n forward solves, one adjoint solve per output component
                    A' u = -(g_x' w)         so that dL/dx = 0, and x's own second derivative drops out

u2 = d2x*[v, v] is free of a part along null directions of A, as J is. H is symmetric by construction. Where the unknowns are
functions of lambda through theta = p(lambda), the terms with p'' are in d2F, which is taken with respect to lambda.

Errors come in the three parts of `implicit_cli.core.certificate`. What enters H (x, J and u) is moved to x_bar and by its own
first-order errors C, and the change of H is the truncation, with a factor for what the first order leaves. Linear solve: the same
with A^-1 R for J's change. Rounding: the same with random changes of J and u, 8 eps kappa their size, and of x.

Source: Blondel et al., "Efficient and Modular Implicit Differentiation", arXiv 2105.15183, for the first order.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier, Parts
from implicit_cli.core.implicit import Forward, Matrix, Point, System
from implicit_cli.core.linear import LinearSolver, Solved
from implicit_cli.core.nearby import FloatArray

PROBES, PROBE = 4, 1e-6
"""Random changes, of this relative size, that measure how rounding errors of J and u reach the second derivatives."""
ROUNDING, X_ROUNDING = 8.0, 2.0
"""Multiples of eps kappa that J, u and a solve of the second order are off, and x."""
FIRST, LEFT = 1.1, 4.0
"""Truncation is this many times the change to x_bar, and this many times the part that the first order leaves of its terms."""


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
        self.e = certifier.there.x - self.p.x
        self.E = self.A.solve(f.solved.residual).value
        self.C = self.A.solve(-self.system.F_tangent(certifier.there, f.U, f.V)).value

    def second(self, s: Second) -> tuple[Parts, Parts]:
        """Errors of `s.U` (d, k) and of `s.Y` (m, k)."""
        system, p = self.system, self.p
        still = jnp.zeros_like(self.C)
        truncation = self._change(s, self.e, self.C)
        terms = zip(self._change(s, self.e, still), self._change(s, self.still, self.C), strict=True)
        sizes = [_sizes(*pair) for pair in terms]
        linear = self._change(s, self.still, self.E)
        E = self.A.solve(s.solved.residual).value
        linear = linear[0] + E, linear[1] + system.g_tangent(p, E, self.still_V)
        noise_u, noise_y = self._rounding(s)
        return tuple(map(self._parts, truncation, linear, sizes, (noise_u, noise_y)))  # type: ignore[return-value]

    def _parts(self, truncation: Matrix, linear: Matrix, size: FloatArray, noise: FloatArray) -> Parts:
        """Parts from changes (r, k), whose sum is what the value lacks, and from the sizes (k,) of its terms and of rounding."""
        left = (FIRST - 1.0) * np.linalg.norm(np.asarray(truncation), axis=0) + LEFT * self.certifier.inflation * size
        rounding = np.broadcast_to(noise / max(truncation.shape[0], 1) ** 0.5, truncation.shape)
        moved, solved = (np.linalg.norm(np.asarray(part), axis=0) for part in (truncation, linear))
        share = np.divide(solved, moved + solved, out=np.zeros_like(solved), where=moved + solved > 0)
        return Parts(np.asarray(truncation + linear), share, rounding, left)

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
        size = self.noise * c.certificate.kappa
        changes = [self._change(s, self._probe_x(i), self._probe(i, self.f.U)) for i in range(PROBES)]
        u, y = (
            _root_mean_square([jnp.linalg.norm(one, axis=0) for one in all_of_it], p.x.size)
            for all_of_it in zip(*changes, strict=True)
        )
        length = size * jnp.linalg.norm(s.U, axis=0)
        noise_y = size / PROBE * y + length * jnp.linalg.norm(c.reach_y) + self.noise * jnp.linalg.norm(s.Y, axis=0)
        return np.asarray(size / PROBE * u + length), np.asarray(noise_y)

    def _hessian(self, h: Hessians, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        c, system, p, f = self.certifier, self.system, self.p, self.f
        w, u, H = h.W_y[:, i], h.U[:, i], h.H[i]
        there = c.there
        slope, slope_there = (system.g_cotangent(one, w[:, None])[0] for one in (p, there))
        At, At_there = (system.F_cotangent(one, u[:, None])[0] for one in (p, there))
        du = self.A.solve(h.solved.residual[:, i : i + 1] - (slope_there - slope) - (At_there - At), transpose=True).value[:, 0]
        e = self.A.solve(h.solved.residual[:, i : i + 1], transpose=True).value[:, 0]

        def change(delta: Matrix, du: Matrix, dU: Matrix) -> Matrix:
            return system.L_second(p._replace(x=p.x + delta), w, u + du, f.U + dU, f.V) - H

        still_u, still_U = jnp.zeros_like(u), jnp.zeros_like(f.U)
        truncation, linear = np.asarray(change(self.e, du, self.C)), np.abs(change(self.still, e, self.E))
        terms = (self.e, still_u, still_U), (self.still, du, still_U), (self.still, still_u, self.C)
        left = LEFT * c.inflation * _sizes(*(change(*term) for term in terms)) / max(H.shape[0], 1) ** 0.5
        probes = [change(self._probe_x(j), self._probe(j, u), self._probe(PROBES + j, f.U)) for j in range(PROBES)]
        noise = _root_mean_square([jnp.linalg.norm(one, axis=0) for one in probes], p.x.size)
        noise = self.noise * (c.certificate.kappa / PROBE * noise + jnp.linalg.norm(H, axis=0))
        return FIRST * np.abs(truncation) + left, linear, np.asarray(noise)

    @property
    def noise(self) -> float:
        """Relative rounding of a solve with A, for a condition number of 1."""
        return ROUNDING * float(jnp.finfo(self.p.x.dtype).eps)

    def _probe_x(self, seed: int) -> Matrix:
        """A random change of x, in proportion to the rounding that the radius allows for."""
        return X_ROUNDING / ROUNDING * self._probe(2 * PROBES + seed, self.p.x)

    def _probe(self, seed: int, like: Matrix) -> Matrix:
        """A random change of every column, in proportion to its length."""
        e = jax.random.normal(jax.random.key(seed), like.shape, like.dtype)
        length = jnp.linalg.norm(like, axis=0, keepdims=True) / jnp.linalg.norm(e, axis=0, keepdims=True)
        return PROBE * length * e


def _sizes(*changes: Matrix) -> FloatArray:
    """Sum of the changes' norms per column: they may cancel, their errors do not."""
    return np.asarray(sum(jnp.linalg.norm(one, axis=0) for one in changes))


def _root_mean_square(norms: list[Matrix], d: int) -> Matrix:
    """Frobenius norm of a linear map from its effect on random unit vectors of R^d."""
    return jnp.sqrt(d * jnp.mean(jnp.stack(norms) ** 2, axis=0))
