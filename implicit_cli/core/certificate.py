"""How wrong can J be? Bounds on the difference between the computed derivative and that at the exact solution (docs/theory.md).

Write M = A^-1 (A* - A) for the change of A between the computed x and the root x*, and G(z) = A(z) J + B(z) for what the computed J
leaves of its equation at z. Then, with nothing left out,

    J* - J = -(I + M)^-1 A^-1 G(x*)        so        |J* - J| <= |A^-1 G(x*)| / (1 - q),    |M| <= q < 1

A^-1 is the factor at hand, and x* is approached with it too, by Newton steps that keep A: x_bar = x + e. So one more solve,

    C = -A^-1 G(x_bar)

is the error of J to first order, that of the linear solve included, and what has to be added to J to be rid of it. The bound is

    truncation   |C|; for what it leaves, |A^-1 G'| / (1 - q) with G' = A(x_bar) (J + C) + B(x_bar); and the share of x* - x_bar
    linear       the share in |C| of the linear solve's residual R = A J + B, recomputed from F
    rounding     what one rounding in each of x, theta and data, at random, does to F and G, through A^-1

A root exists within `radius` of x where `h = |A^-1| gamma |delta| < 1/2` (Newton and Kantorovich; delta is the first Newton
step). gamma, the Lipschitz constant of A, is measured between x and x_bar unless the problem proves one. With proved gamma, and
alpha proved or A constant in x, the bound is a bound; else it is labelled an estimate. For an adjoint, A' and the cotangent's own
equation take these places.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Adjoint, Forward, Point
from implicit_cli.core.linear.base import project_out
from implicit_cli.core.nearby import CRUDE, EXACT, PROBES, ROUNDING, FloatArray, Matrix, Nearby, lengths, most, probes, rounded

Rows = slice | np.ndarray

SLACK = 0.01
"""Of the correction, for the errors of its own computation."""
SMOOTH = 1e-3
"""With a q below this, what the first order leaves is bounded by q itself."""
COLUMNS = 16
"""Columns on which rounding is measured, at most."""


class Parts(NamedTuple):
    """Error of a matrix of derivatives (r, k), one column for each right-hand side.

    correction  (r, k) what the value lacks to first order; `share` (k,) is the linear solve's part of it, within 0 and 1
    noise       (r, k) rounding
    spread      (k,) length of what is left to first order: a vector in x (or in the adjoint) of unknown direction
    reach       (r,) how much of that length each row sees at most; None where the rows are the vector's own entries
    """

    correction: FloatArray
    share: FloatArray
    noise: FloatArray
    spread: FloatArray
    reach: FloatArray | None = None

    def norms(self, rows: Rows = slice(None)) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Truncation, linear and rounding part of the bound, in the 2-norm over some rows: a number for each column (k,)."""
        reach = 1.0 if self.reach is None else float(np.linalg.norm(self.reach[rows]))
        truncation, linear, rounding = (np.linalg.norm(part[rows], axis=0) for part in self.entries)
        return truncation + reach * self.spread, linear, rounding

    @property
    def entries(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The three parts as far as they are known entry by entry (r, k)."""
        whole = (1.0 + SLACK) * self.correction
        return (1.0 - self.share) * whole, self.share * whole, self.noise

    @property
    def corrected(self) -> Parts:
        """What is left of the error once `correction` has been added to the value."""
        return self._replace(correction=np.zeros_like(self.correction))


class Certifier(Nearby):
    """The error parts of every product asked for at a point."""

    def solution(self) -> tuple[Parts, Parts]:
        """Errors of x (d, 1) and of y = g(x, theta) (m, 1)."""
        system, p = self.system, self.p
        spread, nothing = np.array([self._rest]), np.zeros(1)
        e, noise_x = np.asarray(self.error)[:, None], np.abs(np.asarray(self._noise_x))[:, None]
        y = system.g(p.x, p.theta, p.data)
        moved = np.asarray(system.g(p.x + self.error, p.theta, p.data) - y)[:, None]
        noise = ROUNDING * most([system.g(one.x, one.theta, one.data) - y for one in self._rounded])[:, None]
        return (
            Parts(e, nothing, noise_x, spread),
            Parts(moved, nothing, noise + np.outer(self._noise_y, [self._noise]), spread, self.reach_y),
        )

    def forward(self, f: Forward) -> tuple[Parts, Parts]:
        """Errors of `f.U` (d, k) and of `f.Y` (m, k)."""
        system, there = self.system, self.there
        C = self._inverse(-system.F_tangent(there, f.U, f.V))
        left = system.F_tangent(there, f.U + C, f.V) if self._rough else None
        spread, share = self._left(C, left, f.solved.residual + self.A.ridge * f.U, transpose=False)

        def products(one: Point, U: Matrix, V: Matrix) -> tuple[Matrix, Matrix]:
            return system.F_tangent(one, U, V), system.g_tangent(one, U, V)

        size = lengths(f.solved.rhs) + self.certificate.sigma_max * lengths(f.U)
        noise, noise_y = self._noise_of(products, size, f.U, f.V)
        noise_x = np.outer(np.max(np.abs(np.asarray(self._unit)), axis=1), noise)
        in_x = Parts(np.asarray(C), share, noise_x + self._eps * np.abs(np.asarray(f.U)), spread)
        Y = system.g_tangent(there, f.U + C, f.V)
        noise_y = noise_y + self._eps * np.abs(np.asarray(Y)) + np.outer(self._noise_y, noise)
        return in_x, Parts(np.asarray(Y - f.Y), share, noise_y, spread, self.reach_y)

    def adjoint(self, a: Adjoint) -> Parts:
        """Errors of `a.L` (n, k)."""
        system, p, there = self.system, self.p, self.there

        def equation(one: Point, W_y: Matrix, U: Matrix) -> tuple[Matrix, Matrix]:
            """g_x' w - A' u, which with w's own weight on x vanishes, and the product g_theta' w - B' u."""
            return tuple(map(jnp.subtract, system.g_cotangent(one, W_y), system.F_cotangent(one, U)))  # type: ignore[return-value]

        residual = a.solved.residual + self.A.ridge * a.U
        here, at_there = equation(p, a.W_y, a.U)[0], equation(there, a.W_y, a.U)[0]
        C = self._inverse(residual + at_there - here, transpose=True)
        later, L = equation(there, a.W_y, a.U + C)
        spread, share = self._left(C, residual + later - here, residual, transpose=True)
        size = lengths(a.solved.rhs) + self.certificate.sigma_max * lengths(a.U)
        noise, noise_L = self._noise_of(equation, size, a.W_y, a.U)
        noise_L = noise_L + self._eps * np.abs(np.asarray(L)) + np.outer(self._noise_theta, noise)
        return Parts(np.asarray(L - a.L), share, noise_L, spread, self.reach_theta)

    @property
    def _rough(self) -> bool:
        """What the first order leaves is worth a product of its own."""
        return not self.q < SMOOTH

    @cached_property
    def _noise_y(self) -> FloatArray:
        """What an error of length 1 in F's equation does to y, entry by entry (m,)."""
        moved = self.system.g_tangent(self.p, self._unit, jnp.zeros((self.p.theta.size, self._unit.shape[1]), self.p.x.dtype))
        return np.asarray(np.max(np.abs(np.asarray(moved)), axis=1, initial=0.0))

    @cached_property
    def _noise_theta(self) -> FloatArray:
        """What an error of length 1 in the adjoint's equation does to a cotangent's product, entry by entry (n,)."""
        if self.system.symmetric:
            unit = self._unit
        else:
            z = probes(8, self.p.x.size, self.p.x.dtype)
            unit = self._inverse(z / jnp.linalg.norm(z, axis=0, keepdims=True), transpose=True)
        return np.asarray(jnp.max(jnp.abs(self.system.Bt_times(self.p, unit)), axis=1))

    def _noise_of(self, f: Any, size: FloatArray, *operands: Matrix) -> tuple[FloatArray, FloatArray]:
        """What rounding of all numbers, x_bar included, does to the two matrices that `f(point, *operands)` returns.

        Of the first the norm of each column (k,), of the second every entry. Where there are many columns, a few are measured, in
        proportion to their `size` (k,), and the others are taken in the same proportion.
        """
        k = operands[0].shape[1]
        chosen = np.unique(np.linspace(0, k - 1, min(k, COLUMNS)).astype(int)) if k else np.zeros(0, int)
        few = tuple(operand[:, chosen] for operand in operands)
        here, others = f(self.there, *few), [f(self._beside, *few)]
        others += [f(one, *rounded(few, jax.random.key(PROBES + i))) for i, one in enumerate(self._rounded_there)]
        weights = ROUNDING * np.ones(len(others))
        weights[0] = 1.0  # the point beside is that far away already
        errors = [
            np.max([w * np.abs(np.asarray(other[part] - here[part])) for w, other in zip(weights, others, strict=True)], axis=0)
            for part in (0, 1)
        ]
        if len(chosen) == k:
            return lengths(errors[0]), errors[1]
        unit = np.where(size[chosen] > 0, size[chosen], np.inf)
        first = float(np.max(lengths(errors[0]) / unit, initial=0.0))
        second = np.max(errors[1] / unit, axis=1, initial=0.0)
        return first * size, np.outer(second, size)

    def _left(self, C: Matrix, left: Matrix | None, residual: Matrix, *, transpose: bool) -> tuple[FloatArray, FloatArray]:
        """Length of the error after the first order (k,), and the linear solve's share in the first order.

        `left` is what the corrected value leaves of its equation at x_bar, where that was found; `residual` what the value itself
        leaves at x.
        """
        Z, Y = self.A.null_space
        size, before = map(lengths, (C, residual))
        after = np.full_like(size, np.inf) if left is None else lengths(project_out(Z if transpose else Y, left))
        alpha, far = self.certificate.alpha, float(jnp.linalg.norm(self.error))
        later = np.full_like(size, np.nan)
        if self.q < 1.0 and alpha > 0:
            later = np.minimum(after / alpha, self.q * size) / (1.0 - self.q)
        missing = self._rest / far if far > 0 else 0.0
        if not np.isfinite(missing):
            return np.full_like(size, np.nan), np.zeros_like(size)
        linear = np.divide(self.magnification * before, size, out=np.zeros_like(size), where=size > 0)
        return later + missing * size, np.minimum(linear, 1.0)

    @cached_property
    def reach_y(self) -> FloatArray:
        """|g_x| row by row (m,)."""
        m = self.system.g(self.p.x, self.p.theta, self.p.data).size
        g_x, _ = self.system.g_cotangent(self.there, jnp.eye(m, dtype=self.p.x.dtype))
        return np.asarray(jnp.linalg.norm(g_x, axis=0))

    @cached_property
    def reach_theta(self) -> FloatArray:
        """|B| column by column (n,), from random combinations of the rows where there are many."""
        d, dtype = self.p.x.size, self.p.x.dtype
        if d <= EXACT:
            return np.asarray(jnp.linalg.norm(self.system.Bt_times(self.there, jnp.eye(d, dtype=dtype)), axis=1))
        found = self.system.Bt_times(self.there, probes(7, d, dtype))
        return np.asarray(CRUDE * jnp.sqrt(jnp.mean(found**2, axis=1)))
