"""How wrong can J be? Bounds on the difference between the computed derivative and that at the exact solution (docs/theory.md).

The computed x misses the root x* by about the Newton step `delta = -A^-1 F(x)`. Three parts add up to the bound of each column:

    truncation   J(x) - J(x*): to first order J'[delta] = -A^-1 (A'[delta] J + B'[delta]), one more solve with the factor at hand;
                 a remainder of second order in the Newton-Kantorovich number h is added
    linear       A^-1 R with R = A J + B, the residual of the linear solve, recomputed from F in float64
    rounding     eps kappa(A) |J|

`h = |A^-1| gamma |delta| < 1/2` shows that a root exists within `radius = (1 - sqrt(1 - 2 h)) / h |delta|` (Newton-Kantorovich);
without it there is no certificate and the bounds are NaN. gamma, the Lipschitz constant of A, is estimated as |A'[delta]| / |delta|
unless the problem proves one. With proved gamma and beta and A constant in x or alpha proved, truncation is Theorem 1's own

    (beta / alpha + gamma R_B / alpha^2) |x - x*|

and the bound is a bound; else it is labelled an estimate.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.implicit import Adjoint, Forward, Point, System
from implicit_cli.core.linear import LinearSolver
from implicit_cli.problem import Constants
from implicit_cli.result import Certificate

Matrix = jax.Array
FloatArray = NDArray[np.float64]

# truncation = (1.2 + 8 h) |J'[delta]| + 4 h^2 |J|, and twice the second-order cross term of an output. Calibrated on solves stopped
# early, where the first-order term alone is 0.4 to 2 times the true error at h = 0.1, and exact as h goes to 0.
FIRST_ORDER, FIRST_ORDER_H, SECOND_ORDER, CROSS = 1.2, 8.0, 4.0, 2.0
# Multiples of eps kappa |J|, for a few roundings each in A, B, the factorisation and the substitution; and of eps kappa |x|, for F.
ROUNDING, X_ROUNDING = 8.0, 2.0
# Up to this d, |A'[delta]| is a dense 2-norm; above it, so many power iterations, and a factor for what they have not found.
DENSE_NORM, POWER_STEPS, FROM_BELOW = 512, 12, 1.2


class Parts(NamedTuple):
    """Error of a matrix of derivatives, column by right-hand side: entrywise (r, k), and for rounding a norm per column (k,)."""

    truncation: FloatArray
    linear: FloatArray
    rounding: FloatArray


class Certifier:
    """Constants of one solution, computed once, and the error parts of every product asked for."""

    def __init__(self, system: System, p: Point, A: LinearSolver, constants: Constants, margin: float) -> None:
        self.system, self.p, self.A = system, p, A
        self.constants = constants
        self._step = A.solve(-system.F(p.x, p.theta, p.data)[:, None])
        self.delta = self._step.value[:, 0]
        self.certificate = self._constants(margin)

    def _constants(self, margin: float) -> Certificate:
        spectrum, proved = self.A.spectrum, self.constants
        length = float(jnp.linalg.norm(self.delta))
        source = "computed" if spectrum.computed else "estimated"
        provenance = dict.fromkeys(("sigma_min", "sigma_max", "kappa"), source)
        provenance |= {"step": "computed", "margin": "computed"}
        if proved.gamma is not None:
            curvature, provenance["h"] = float(proved.gamma) * length, "proved"
        else:
            curvature, provenance["h"] = self._curvature(length), "estimated"
        provenance["radius"] = provenance["h"]
        alpha = self._alpha()
        h = curvature / alpha if alpha > 0 else float("inf")
        # (1 - sqrt(1 - 2h)) / h |delta|, without its cancellation at small h; NaN where nothing proves that a root exists
        known = h < 0.5 and not self._step.status.any()
        radius = length * 2.0 / (1.0 + np.sqrt(1.0 - 2.0 * h)) if known else float("nan")
        radius += X_ROUNDING * float(jnp.finfo(self.p.x.dtype).eps) * spectrum.kappa * float(jnp.linalg.norm(self.p.x))
        return Certificate(spectrum.sigma_min, spectrum.sigma_max, spectrum.kappa, length, h, radius, margin, provenance)

    def _alpha(self) -> float:
        """Lower bound of the singular values of A near x: what the problem proves, or what was found at x."""
        found = self.A.spectrum.sigma_min
        if self.constants.alpha is None:
            return found
        proved = float(self.constants.alpha)
        return max(proved, found) if self._affine and self.A.spectrum.computed else proved

    @property
    def _affine(self) -> bool:
        """F is affine in x: A is the same everywhere."""
        return self.constants.gamma is not None and float(self.constants.gamma) == 0.0

    def _curvature(self, length: float) -> float:
        """gamma |delta|, the change of A over the Newton step: |A'[delta]| at its two ends, for one may vanish by symmetry."""
        if length == 0.0 or not np.isfinite(length):
            return 0.0 if length == 0.0 else float("inf")
        ends = (self.p, self.p._replace(x=self.p.x + self.delta))
        return max(self._change_of_A(p) for p in ends)

    def _change_of_A(self, p: Point) -> float:
        """|A'[delta]| at p: the matrix's own norm where it is small, else power iteration, which approaches it from below."""
        if p.x.size <= DENSE_NORM:
            return float(jnp.linalg.norm(self.system.A_matrix_along(p, self.delta), 2))
        u = jax.random.normal(jax.random.key(1), (p.x.size, 4))
        for _ in range(POWER_STEPS):
            u = u / jnp.linalg.norm(u, axis=0, keepdims=True)
            u = self.system.A_times_along(p, self.delta, u)
            if not self.system.symmetric:
                u = self.system.F_cotangent_along(p, self.delta, u)[0]
        size = jnp.max(jnp.linalg.norm(u, axis=0))
        return FROM_BELOW * float(size if self.system.symmetric else jnp.sqrt(size))

    @property
    def proved(self) -> bool:
        """True where truncation is Theorem 1's with constants that are proved, or computed by a factorisation."""
        c = self.constants
        return self.A.spectrum.computed and c.beta is not None and c.gamma is not None and (c.alpha is not None or self._affine)

    @property
    def available(self) -> bool:
        """A root exists nearby, so that there is something to be near to."""
        return bool(np.isfinite(self.certificate.radius))

    def forward(self, f: Forward) -> tuple[Parts, Parts]:
        """Errors of `f.U` (d, k) and of `f.Y` (m, k)."""
        system, p, A = self.system, self.p, self.A
        still_u, still_v = jnp.zeros_like(f.U), jnp.zeros_like(f.V)
        U_along = A.solve(-system.F_tangent_along(p, self.delta, f.U, f.V)).value
        Y_along = system.g_tangent_along(p, self.delta, f.U, f.V) + system.g_tangent(p, U_along, still_v)
        E = A.solve(f.solved.residual).value + A.bias(f.U)
        E_y = system.g_tangent(p, E, still_v)
        noise_u = self.noise * self.certificate.kappa * jnp.linalg.norm(f.U, axis=0)
        direct = jnp.linalg.norm(system.g_tangent(p, still_u, f.V), axis=0)
        noise_y = noise_u * self.size_of_g + self.noise * direct
        # where the first-order term of an output cancels (its gradient vanishes at the solution), this is what is left
        cross = system.g_tangent_along(p, self.delta, U_along, still_v)
        return (
            Parts(self.truncation(U_along, f.U), np.abs(E), np.asarray(noise_u)),
            Parts(self.truncation(Y_along, f.Y, cross), np.abs(E_y), np.asarray(noise_y)),
        )

    def adjoint(self, a: Adjoint) -> Parts:
        """Errors of `a.L` (n, k)."""
        system, p, A = self.system, self.p, self.A
        c_along, c_theta_along = system.g_cotangent_along(p, self.delta, a.W_y)
        At_along, Bt_along = system.F_cotangent_along(p, self.delta, a.U)
        U_along = A.solve(c_along - At_along, transpose=True).value
        L_along = c_theta_along - Bt_along - system.Bt_times(p, U_along)
        cross = system.F_cotangent_along(p, self.delta, U_along)[1]
        E = A.solve(a.solved.residual, transpose=True).value + A.bias(a.U, transpose=True)
        through = system.Bt_times(p, a.U)
        direct = jnp.linalg.norm(a.L + through, axis=0)
        noise = self.noise * (self.certificate.kappa * jnp.linalg.norm(through, axis=0) + direct)
        return Parts(self.truncation(L_along, a.L, cross), np.abs(system.Bt_times(p, E)), np.asarray(noise))

    @cached_property
    def size_of_g(self) -> float:
        """|g_x| in the Frobenius norm: once for all chunks of right-hand sides, since it takes a product for each output."""
        m = self.system.g(self.p.x, self.p.theta, self.p.data).size
        g_x, _ = self.system.g_cotangent(self.p, jnp.eye(m, dtype=self.p.x.dtype))
        return float(jnp.linalg.norm(g_x))

    @property
    def noise(self) -> float:
        """Relative rounding of a product of A or B."""
        return ROUNDING * float(jnp.finfo(self.p.x.dtype).eps)

    def truncation(self, first_order: Matrix, value: Matrix, cross: Matrix | float = 0.0) -> FloatArray:
        """First order with its factor, for a step of length `radius` rather than |delta|, plus the remainder."""
        c = self.certificate
        stretch = max(c.radius / c.step, 1.0) if c.step > 0 else 1.0
        first = (FIRST_ORDER + FIRST_ORDER_H * c.h) * stretch * jnp.abs(first_order)
        return np.asarray(first + SECOND_ORDER * c.h**2 * jnp.abs(value) + CROSS * jnp.abs(cross))

    def theorem(self, R_B: FloatArray, size_of_v: FloatArray) -> FloatArray | None:
        """Theorem 1 for J v, column by column: `(beta |v| / alpha + gamma R_B / alpha^2) |x - x*|`; None where it is not proved.

        R_B (k,) is |B v| and size_of_v (k,) is |v|, v a direction of theta itself, as beta is declared for, not of lambda.
        """
        if not self.proved:
            return None
        alpha, beta, gamma = self._alpha(), float(self.constants.beta or 0.0), float(self.constants.gamma or 0.0)
        return np.asarray((beta * size_of_v / alpha + gamma * R_B / alpha**2) * self.certificate.radius)
