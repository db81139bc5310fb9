"""A where most unknowns are held: on a face of a set or at the corner of an operator, they answer to nothing but themselves.

For a fixed point of a projection or proximal operator, F = P(x - eta grad f) - x, the row of A = dF/dx of a held unknown is that of
a diagonal matrix: P does not let it move. With n the held unknowns and f the free ones,

    A = | A_ff  A_fn |        u_n = b_n / A_nn,      u_f = A_ff^-1 (b_f - A_fn u_n)
        |  0    A_nn |

so a factor of A_ff, as small as the solution is sparse, serves all of A and its transpose.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.linalg import LinAlgWarning, lu_factor, lu_solve

from implicit_cli.core.linear.base import (
    SUSPECT,
    FloatArray,
    Matrix,
    Operator,
    Solved,
    Spectrum,
    Unsuitable,
    rank_floor,
    solve_directly,
)
from implicit_cli.core.linear.extremes import extremes

FREE = 4096
"""Free unknowns up to which their part of A is assembled and factorised."""
PROBES, ROUNDING, WIDTH = 4, 64.0, 64
"""Random directions by which held unknowns are told; roundings that may be between two ratios; columns of A found at once."""


class Factor(NamedTuple):
    """LU of A_ff, and the image A P of the random directions P (d, PROBES) by which A is known again."""

    image: FloatArray
    lu: Any


class HeldSolver:
    """A factor of A_ff, with A_nn beside it. Raises Unsuitable where few unknowns are held, or A_ff is close to singular.

    Between kinks A is often constant: the factor in `last` serves again where A is the same, and is replaced where it is not.
    A wrong guess, of that or of what is held, cannot pass: residuals are those of A itself.
    """

    def __init__(self, operator: Operator, *, tol: float, last: list[Factor] | None = None) -> None:
        self.operator, self.tol, d = operator, tol, operator.d
        probes = np.random.default_rng(0).normal(size=(d, PROBES))
        image = np.asarray(operator.times(jnp.asarray(probes)))
        rounding = ROUNDING * np.finfo(float).eps * np.abs(image).max(axis=1)
        self._size = float(np.linalg.norm(image) / np.linalg.norm(probes) * d**0.5)
        self._diagonal = np.median(image / probes, axis=1)
        held = np.abs(image - self._diagonal[:, None] * probes).max(axis=1) <= rounding
        held &= np.abs(self._diagonal) > SUSPECT * rank_floor(d) * self._size
        self._held, self.free = np.flatnonzero(held), np.flatnonzero(~held)
        count = self.free.size
        if count > FREE:
            raise Unsuitable(f"{count} of {d} unknowns are free, at most {FREE} are factorised")
        self.method = f"lu of {count} free unknowns"
        last = [] if last is None else last
        if last and last[0].image.shape == image.shape and (np.abs(image - last[0].image).max(axis=1) <= rounding).all():
            self._lu = last[0].lu
            return
        last.clear()  # before there are two
        self._lu = self._factorised() if count else None
        if count and not self._smallest() > SUSPECT * rank_floor(d) * self._size:
            raise Unsuitable(f"A is close to singular along the {count} free unknowns")
        last.append(Factor(image, self._lu))

    @property
    def null_space(self) -> tuple[Matrix, Matrix]:
        nothing = jnp.zeros((self.operator.d, 0))
        return nothing, nothing

    @cached_property
    def spectrum(self) -> Spectrum:
        """By Lanczos with products and the factor, to a relative 1e-3."""

        def product(of: Callable[..., Matrix], transpose: bool) -> Callable[[FloatArray], FloatArray]:
            return lambda u: np.asarray(of(jnp.asarray(u.reshape(-1, 1)), transpose=transpose))[:, 0]

        times, back = (product(self.operator.times, transpose) for transpose in (False, True))
        inverse, inverse_t = (product(self.inverse, transpose) for transpose in (False, True))
        low, high, sure = extremes(times, back, inverse, inverse_t, self.operator.d, symmetric=False)
        return Spectrum(low, high, *self.null_space, computed=sure)

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        return solve_directly(
            self.operator,
            lambda b: self.inverse(b, transpose=transpose),
            b,
            self.null_space[0],
            transpose=transpose,
            tol=self.tol,
            method=self.method,
            size=self._size,
        )

    def inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        given, free, held = np.array(b), self.free, self._held
        diagonal, u = self._diagonal[held, None], np.zeros(b.shape)
        if transpose:
            u[free] = self._substituted(given[free], transpose)
            u[held] = (given[held] - self._image(u, transpose)[held]) / diagonal
        else:
            u[held] = given[held] / diagonal
            u[free] = self._substituted(given[free] - self._image(u, transpose)[free], transpose)
        return jnp.asarray(u)

    def _image(self, u: FloatArray, transpose: bool) -> FloatArray:
        return np.asarray(self.operator.times(jnp.asarray(u), transpose=transpose))

    def _substituted(self, b: FloatArray, transpose: bool) -> FloatArray:
        return np.asarray(lu_solve(self._lu, b, trans=int(transpose), check_finite=False)) if self._lu is not None else b

    def _factorised(self) -> Any:
        """LU of A_ff (f, f), from products with columns of I, as many at a time whatever f is, so that one program does."""
        free, A = self.free, np.empty((self.free.size, self.free.size), order="F")
        for begin in range(0, free.size, WIDTH):
            chosen = free[begin : begin + WIDTH]
            E = np.zeros((self.operator.d, WIDTH))
            E[chosen, np.arange(chosen.size)] = 1.0
            A[:, begin : begin + chosen.size] = self._image(E, False)[free, : chosen.size]
        if not np.isfinite(A).all():
            raise Unsuitable("A is not finite")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LinAlgWarning)  # singular: its smallest singular value says so
            return lu_factor(A, overwrite_a=True, check_finite=False)

    def _smallest(self) -> float:
        """The smallest singular value of A_ff, roughly, by inverse iteration with its factor; never much below it."""
        v: Any = np.random.default_rng(1).normal(size=(self.free.size, PROBES))
        for _ in range(3):
            v = self._substituted(self._substituted(v / np.linalg.norm(v, axis=0), False), True)
            if not np.isfinite(v).all():
                return 0.0
        return float(np.linalg.norm(v, axis=0).max() ** -0.5)
