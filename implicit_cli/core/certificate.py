"""How wrong can J be? Bounds on the difference between the computed derivative and that at the exact solution (docs/theory.md).

Write M = A^-1 (A* - A) for the change of A between the computed x and the root x*, and G(z) = A(z) J + B(z) for what the computed J
leaves of its equation at z. Then, with nothing left out,

    J* - J = -(I + M)^-1 A^-1 G(x*)        so        |J* - J| <= |A^-1 G(x*)| / (1 - q),    |M| <= q < 1

A^-1 is the factor at hand, and x* is approached with it too, by Newton steps that keep A: x_bar = x + e. So one more solve,

    C = -A^-1 G(x_bar)

is the error of J to first order, that of the linear solve included, and what has to be added to J to be rid of it. Where e is
within rounding and the columns are many, it is found for some of them, in proportion to which the others are taken. The bound is

    truncation   |C|; for what it leaves, |A^-1 G'| / (1 - q) with G' = A(x_bar) (J + C) + B(x_bar); and the share of x* - x_bar
    linear       the share in |C| of the linear solve's residual R = A J + B, recomputed from F
    rounding     what one rounding in each of x, theta and data, at random, does to F and G, through A^-1

A root exists within `radius` of x where `h = |A^-1| gamma |delta| < 1/2` (Newton and Kantorovich; delta is the first Newton
step). gamma, the Lipschitz constant of A, is measured between x and x_bar unless the problem proves one. With proved gamma, and
alpha proved or A constant in x, the bound is a bound; else it is labelled an estimate. For an adjoint, A' and the cotangent's own
equation take these places.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core import measured
from implicit_cli.core.implicit import Adjoint, Forward, System
from implicit_cli.core.linear.base import project_out
from implicit_cli.core.nearby import CRUDE, EXACT, FloatArray, Matrix, Nearby, lengths, norm, probes
from implicit_cli.core.traceable import either, namespace, numbers, quotient

Rows = slice | np.ndarray

SLACK = 0.01
"""Of the correction, for the errors of its own computation."""
SMOOTH = 1e-3
"""With a q below this, what the first order leaves is bounded by q itself."""
COLUMNS = 16
"""Columns on which rounding is measured, at most."""
SAMPLED = 2.0
"""A factor for columns that are judged by others."""
CANCELLED, SMALLEST = 1e-10, 4
"""A column whose rounding is more than this part of its size is no measure for others; so many of the smallest are looked at."""


class Rounded(NamedTuple):
    """What `measured.rounding_of` finds on the columns `chosen`, of k that have the sizes `size` (k,)."""

    first: Matrix
    second: Matrix
    change: Matrix
    chosen: NDArray[np.int64]
    size: FloatArray


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
        reach = 1.0 if self.reach is None else norm(self.reach[rows])
        truncation, linear, rounding = (lengths(part[rows]) for part in self.entries)
        return truncation + reach * self.spread, linear, rounding

    @property
    def entries(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The three parts as far as they are known entry by entry (r, k)."""
        whole = (1.0 + SLACK) * self.correction
        return (1.0 - self.share) * whole, self.share * whole, self.noise

    def squares(self, columns: NDArray[np.int64]) -> FloatArray:
        """Sums of the squares of the three `entries` over some columns (3, r)."""
        xp = namespace(self.correction)
        share, correction, noise = self.share[columns], self.correction[:, columns] ** 2, self.noise[:, columns] ** 2
        weights = (1.0 + SLACK) ** 2 * xp.stack([(1.0 - share) ** 2, share**2])
        found: FloatArray = xp.concatenate([weights @ correction.T, xp.sum(noise, axis=1)[None]])
        return found

    def without_rows(self) -> Parts:
        """The same of no rows at all."""
        none = np.zeros((0, self.correction.shape[1]))
        return self._replace(correction=none, noise=none, reach=np.zeros(0))

    @property
    def corrected(self) -> Parts:
        """What is left of the error once `correction` has been added to the value."""
        return self._replace(correction=np.zeros_like(self.correction))


class Certifier(Nearby):
    """The error parts of every product asked for at a point."""

    def solution(self) -> tuple[Parts, Parts]:
        """Errors of x (d, 1) and of y = g(x, theta) (m, 1)."""
        xp = namespace(self.error)
        spread, nothing = xp.asarray(self._rest)[None], np.zeros(1)
        moved, noise = (part[:, None] for part in self._of_g[:2])
        noise_y = noise + (self._noise_y * self._noise_F)[:, None]
        return (
            Parts(self.error[:, None], nothing, xp.abs(self._noise_x)[:, None], spread),
            Parts(moved, nothing, noise_y, spread, self.reach_y),
        )

    def forward(self, f: Forward) -> tuple[Parts, Parts]:
        """Errors of `f.U` (d, k) and of `f.Y` (m, k); m is 0 where the outputs were left out."""
        system, there = self.system if f.Y.shape[0] else self.system.bare, self.there
        rounded = self._started(system, measured.rounding_of_products, f.solved.rhs, f.U, f.V)
        residual, sampled = self._residual(f.solved.residual, f.U), self._sampled(f.U)
        C = self._inverse(either(sampled, lambda: residual, lambda: -system.F_tangent(there, f.U, f.V)))
        xp = namespace(C)
        left = self._unless_smooth(C, lambda: system.F_tangent(there, f.U + C, f.V), transpose=False)
        spread, share = self._left(C, left, residual)
        spread = spread + either(sampled, lambda: self._moved(rounded, transpose=False), lambda: xp.zeros_like(spread))
        noise, noise_y = self._noise_of(rounded)
        noise_x = xp.outer(xp.max(xp.abs(self._unit), axis=1), noise)
        in_x = Parts(C, share, noise_x + self._eps * xp.abs(numbers(f.U)), spread)
        if not f.Y.shape[0]:
            return in_x, in_x.without_rows()
        Y = numbers(system.g_tangent(there, f.U + C, f.V))
        noise_y = noise_y + self._eps * xp.abs(Y) + xp.outer(self._noise_y, noise)
        return in_x, Parts(Y - numbers(f.Y), share, noise_y, spread, self.reach_y)

    def adjoint(self, a: Adjoint) -> Parts:
        """Errors of `a.L` (n, k)."""
        rounded = self._started(self.system, measured.rounding_of_adjoint_products, a.solved.rhs, a.U, a.W_y)
        residual, sampled = self._residual(a.solved.residual, a.U), self._sampled(a.U)

        def equation(C: Any) -> Any:
            return self.system.compiled(measured.adjoint_left)(self.there, a.U, C, a.W_x, a.W_y)

        C = self._inverse(either(sampled, lambda: residual, lambda: equation(jnp.zeros_like(a.U))[0]), transpose=True)
        left, L = map(numbers, equation(C))
        xp = namespace(C)
        spread, share = self._left(C, self._unless_smooth(C, lambda: left, transpose=True), residual)
        spread = spread + either(sampled, lambda: self._moved(rounded, transpose=True), lambda: xp.zeros_like(spread))
        noise, noise_L = self._noise_of(rounded)
        noise_L = noise_L + self._eps * xp.abs(L) + xp.outer(self._noise_theta, noise)
        return Parts(L - numbers(a.L), share, noise_L, spread, self.reach_theta)

    def _residual(self, residual: Matrix, U: Matrix) -> Matrix:
        """What U leaves of A's own equation, where the solver works with A + ridge I."""
        return residual + self.A.ridge * U if self.A.ridge else residual

    def _unless_smooth(self, C: Matrix, left: Callable[[], Matrix], *, transpose: bool) -> FloatArray:
        """Lengths (k,) of what the corrected value leaves of its equation at x_bar; infinite where q itself says enough of it."""

        def found() -> Any:
            Z, Y = self.A.null_space
            return lengths(project_out(Z if transpose else Y, left()))

        xp = namespace(C)
        return either(~(self.q < SMOOTH), found, lambda: xp.full(C.shape[1], xp.inf))

    def _sampled(self, U: Matrix) -> Any:
        """The effect of e on each column is not worth a product and a solve of its own."""
        return self.settled if U.shape[1] > COLUMNS else False

    def _moved(self, found: Rounded, *, transpose: bool) -> FloatArray:
        """Length (k,) of what e does to each column, from the change of some columns' equation."""
        return SAMPLED * self._of_all(lengths(self._inverse(found.change, transpose=transpose)), found)

    def _started(self, system: System, rounding: Any, rhs: Matrix, U: Matrix, V: Matrix) -> Rounded:
        """What `_noise_of` looks at, computed beside what comes next.

        Where there are many columns some are chosen, evenly among all and the smallest, whose terms may cancel.
        """
        k, size = U.shape[1], np.zeros(0)
        chosen: Any = np.arange(k)
        if k > COLUMNS:
            size = lengths(rhs) + self.A.spectrum.sigma_max * lengths(U)
            xp, evenly = namespace(size), np.linspace(0, k - 1, COLUMNS - SMALLEST).astype(np.int64)
            others = xp.asarray(np.setdiff1d(np.arange(k), evenly))
            chosen = xp.concatenate([evenly, others[xp.argsort(size[others])[:SMALLEST]]])
        first, second, change = system.compiled(rounding)(self.there, self._moves, self.p.x, U, V, chosen)
        return Rounded(first, second, change, chosen, size)

    def _noise_of(self, found: Rounded) -> tuple[FloatArray, FloatArray]:
        """What rounding of all numbers, x_bar included, does to the two matrices that `rounding` measures.

        Of the first the norm of each column (k,), of the second every entry.
        """
        return self._of_all(lengths(found.first), found), self._of_all(numbers(found.second), found)

    @staticmethod
    def _of_all(part: FloatArray, found: Rounded) -> FloatArray:
        """What was measured on some columns (.., s), for all of them (.., k): the largest of it in proportion to a column's size.

        A column whose terms cancel, to zero perhaps, has rounding out of all proportion: what it has counts as it is, for each.
        """
        if not found.size.size:
            return part
        xp, unit = namespace(part), found.size[found.chosen]
        cancelled = lengths(found.first) > CANCELLED * unit
        cancelled = xp.where(cancelled.all(), ~(unit > 0), cancelled)
        ratio = xp.max(xp.where(cancelled, 0.0, quotient(part, unit)), axis=-1)
        rest = xp.max(xp.where(cancelled, part, 0.0), axis=-1)
        every: FloatArray = ratio[..., None] * found.size + rest[..., None]
        return every

    def _left(self, C: FloatArray, after: FloatArray, residual: Matrix) -> tuple[FloatArray, FloatArray]:
        """Length of the error after the first order (k,), and the linear solve's share in the first order.

        `after` is what the corrected value leaves of its equation at x_bar, where that was found; `residual` what the value itself
        leaves at x.
        """
        size, before, alpha = lengths(C), lengths(residual), self.lengths.alpha
        xp = namespace(size)
        contracts = xp.asarray(self.q < 1.0) & (alpha > 0)
        q = xp.where(contracts, self.q, 0.0)
        later = xp.where(contracts, xp.minimum(quotient(after, alpha), q * size) / (1.0 - q), xp.nan)
        missing = quotient(self._rest, norm(self.error))
        linear = xp.minimum(quotient(self.magnification * before, size), 1.0)
        known = xp.isfinite(missing)
        return xp.where(known, later + missing * size, xp.nan), xp.where(known, linear, 0.0)

    @cached_property
    def _of_g(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """As `measured.of_g`."""
        moved, noise, reach, along = map(numbers, self.system.compiled(measured.of_g)(self.p, self.error, self._unit))
        return moved, noise, reach, along

    @property
    def reach_y(self) -> FloatArray:
        """|g_x| row by row (m,)."""
        return self._of_g[2]

    @property
    def _noise_y(self) -> FloatArray:
        """What an error of length 1 in F's equation does to y, entry by entry (m,)."""
        return self._of_g[3]

    @cached_property
    def _of_Bt(self) -> tuple[FloatArray, FloatArray]:
        """|B| column by column (n,), from random combinations of the rows where there are many.

        Then what an error of length 1 in the adjoint's equation does to a cotangent's product, entry by entry (n,).
        """
        d = self.p.x.size
        if self.system.symmetric:
            unit: Any = self._unit
        else:
            z = probes(8, d)
            unit = self._inverse(z / np.linalg.norm(z, axis=0), transpose=True)
        xp, rows = namespace(unit), np.eye(d) if d <= EXACT else probes(7, d)
        found = numbers(self.system.Bt_times(self.there, xp.concatenate([rows, unit], axis=1)))
        whole, moved = found[:, : rows.shape[1]], found[:, rows.shape[1] :]
        reach = lengths(whole.T) if d <= EXACT else CRUDE * xp.sqrt(xp.mean(whole**2, axis=1))
        return reach, xp.max(xp.abs(moved), axis=1)

    @property
    def reach_theta(self) -> FloatArray:
        return self._of_Bt[0]

    @property
    def _noise_theta(self) -> FloatArray:
        return self._of_Bt[1]
