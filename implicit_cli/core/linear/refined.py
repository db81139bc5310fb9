"""Mixed precision: a factor in float32, and residuals in float64 that bring its solutions to the accuracy of float64.

    u <- u + A32^-1 (b - A u)        the error shrinks by about eps32 kappa(A) in each step

Source: Higham, "Accuracy and Stability of Numerical Algorithms", chapter 12.
"""

from __future__ import annotations

from functools import cached_property

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.linear.base import Matrix, Method, Operator, Solved, Spectrum, Unsuitable, at_rounding, project_out, report
from implicit_cli.core.precision import float32

STEPS = 12
"""Steps of refinement, at most; each adds the digits that float32 has beyond those that kappa takes."""
WORST = 0.1
"""Largest eps32 kappa(A): beyond it the error hardly shrinks."""


class Refined:
    """`inner`, prepared for A in float32, refined with `operator`, A in float64.

    Null vectors found in float32 are not null vectors to float64, known gauges are: raises `Unsuitable` where there are others,
    and where kappa is too large for float32.
    """

    def __init__(self, inner: Method, operator: Operator, gauges: Matrix, *, tol: float) -> None:
        self.inner, self.operator, self.tol = inner, operator, tol
        self.method = f"{inner.method} in float32, refined"
        self._Z = jnp.linalg.qr(gauges)[0] if gauges.shape[1] and operator.symmetric else jnp.zeros((operator.d, 0))
        with float32():
            found = inner.spectrum
        loss = float(np.finfo(np.float32).eps) * found.kappa
        if found.nullity != self._Z.shape[1]:
            raise Unsuitable(f"float32 finds {found.nullity} null vectors, {self._Z.shape[1]} are known")
        if not loss <= WORST:
            raise Unsuitable(f"kappa = {found.kappa:.1e} leaves float32 no digit")
        self._found, self._loss = found, loss

    @property
    def null_space(self) -> tuple[Matrix, Matrix]:
        return self._Z, self._Z

    @cached_property
    def spectrum(self) -> Spectrum:
        """As float32 sees it; sigma_min lowered by what float32 may be wrong."""
        found = self._found
        return Spectrum(
            found.sigma_min * (1.0 - self._loss), found.sigma_max, self._Z, self._Z, found.negative, computed=found.computed
        )

    def inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        return self.solve(b, transpose=transpose).value

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        b = project_out(self._Z, b)
        u, residual, size = jnp.zeros_like(b), b, jnp.linalg.norm(b, axis=0)
        steps, smallest = 0, np.inf
        while steps < STEPS:
            scale = jnp.where(size > 0, size, 1.0)
            scaled = np.asarray(residual / scale, dtype=np.float32)
            with float32():
                correction = np.asarray(self.inner.solve(jnp.asarray(scaled), transpose=transpose).value)
            moved = u + project_out(self._Z, jnp.asarray(correction, dtype=b.dtype)) * scale
            residual = b - project_out(self._Z, self.operator.times(moved, transpose=transpose))
            size = jnp.linalg.norm(residual, axis=0)
            steps += 1
            worst = float(jnp.max(size, initial=0.0))
            u = moved
            if bool(at_rounding(u, b, residual, self._found.sigma_max)) or not worst < 0.5 * smallest:
                break
            smallest = worst
        return report(u, b, residual, steps, False, tol=self.tol, method=self.method, size_of_A=self._found.sigma_max)
