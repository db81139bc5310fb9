"""How near is the root? Newton steps with the factor at hand, what rounding leaves unknown, and the constants of Kantorovich.

The first part of the certificate (`implicit_cli.core.certificate`): x_bar = x + e is where Newton steps that keep A lead to, q
bounds |A^-1 (A* - A)|, and `radius` is the distance to the root x*, where one is shown to exist.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core import measured
from implicit_cli.core.implicit import Point, System
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.measured import PROBES, ROUNDING
from implicit_cli.problem import Constants
from implicit_cli.result import Certificate

Matrix = jax.Array
FloatArray = NDArray[np.float64]

APPROACH, SETTLED = 8, 1e-2
"""Newton steps from x to x_bar, at most; they end where one is this small beside all of them, or is rounding."""
LATER = 4.0
"""Later Newton steps may shrink more slowly than the last two did."""
SEEN = 1e-6
"""Part of x over which a change of A is measured at least."""
NEGLIGIBLE = 0.05
"""A q below this, by a crude estimate from above, is not worth a sharper one."""
EXACT, POWER_STEPS, FROM_BELOW = 64, 6, 1.25
"""Up to this d, |M| is a 2-norm; above it, so many power iterations, and a factor for what they have not found."""
CRUDE, EVENLY = 3.0, 0.9
"""A factor for a norm found by random vectors; and the ratio of two such norms above which they count as the same."""


def affine(constants: Constants) -> bool:
    """A is proved to be the same everywhere."""
    return constants.gamma is not None and float(constants.gamma) == 0.0


def proves(constants: Constants, *, direct: bool) -> bool:
    """The constants make a bound of an unknown a proof; `direct`: sigma_min at x is known from a factorisation."""
    return constants.gamma is not None and (constants.alpha is not None or (affine(constants) and direct))


class Nearby:
    """A point near a root, with the root's neighbourhood: what the error parts of every product are made of."""

    def __init__(self, system: System, p: Point, A: LinearSolver, constants: Constants, margin: float) -> None:
        self.system, self.p, self.A = system, p, A
        self.constants, self._margin = constants, margin
        self._F, self.delta = self._measure_rounding()
        self.error, self._rest, self._converges = self._approach()
        self.there = p._replace(x=p.x + self.error)
        self.q, self.certificate = self._constants()

    def _newton(self, F: Any) -> FloatArray:
        """The step that A makes of a value of F (d,)."""
        return np.asarray(self._inverse(-np.asarray(F)[:, None]))[:, 0]

    def _inverse(self, b: Any, *, transpose: bool = False) -> Matrix:
        """`A^-1 b`, also where the solver works with A + ridge I."""
        u = self.A.inverse(b, transpose=transpose)
        return u + self.A.bias(u, transpose=transpose) if self.A.ridge else u

    # Where the root is

    def _measure_rounding(self) -> tuple[FloatArray, FloatArray]:
        """F and the Newton step; how far x moves where all numbers are rounded once, and what A^-1 makes of errors of length 1."""
        vectors = self.system.compiled(measured.rounding_of_F)(self.p)
        (F, errors), (step, images) = (np.split(np.asarray(part), [1], axis=1) for part in (vectors, self._inverse(vectors)))
        sizes, moves = lengths(errors), lengths(images)
        self.magnification = float(np.max(np.divide(moves, sizes, out=np.zeros_like(moves), where=sizes > 0)))
        self._unit = images / np.where(sizes > 0, sizes, 1.0)[None]
        worst = int(np.argmax(moves[:-1]))
        self._noise_F = ROUNDING * float(np.max(sizes[:-1]))
        self._noise_x = ROUNDING * images[:, worst]
        self._noise = ROUNDING * float(moves[worst])
        return F[:, 0], -step[:, 0]

    @property
    def _beside(self) -> FloatArray:
        """x_bar moved by as much as rounding leaves it unknown."""
        return np.asarray(self.there.x) + self._noise_x

    @property
    def settled(self) -> bool:
        """x_bar is as near to x as rounding leaves x unknown."""
        return norm(self.error) <= self._noise

    @property
    def _eps(self) -> float:
        return ROUNDING * float(jnp.finfo(self.p.x.dtype).eps)

    def _approach(self) -> tuple[FloatArray, float, bool]:
        """e = x_bar - x by Newton steps with A kept, a bound on what is missing to the root, and whether the steps shrink."""
        system, p = self.system, self.p
        e, last = self.delta, norm(self.delta)
        rest = 0.0
        outside = norm(np.asarray(self.A.null_space[1]).T @ self._F)
        if outside > self._noise_F:  # no step can take this part of F away: there may be no root at all
            return e, float("nan"), False
        for _ in range(APPROACH):
            if not np.isfinite(last) or last <= self._noise:
                break
            step = self._newton(system.F(p.x + e, p.theta, p.data))
            size = norm(step)
            if size <= self._noise:
                rest = 0.0
                e = e + step
                break
            if not size < last:
                return e, float("nan"), False
            e, rest = e + step, LATER * size * size / (last - size)
            last = size
            if size <= SETTLED * norm(e):
                break
        return e, rest, bool(np.isfinite(last))

    # Constants

    def _constants(self) -> tuple[float, Certificate]:
        spectrum, proved = self.A.spectrum, self.constants
        length, far = norm(self.delta), norm(self.error)
        source = "computed" if spectrum.computed else "estimated"
        provenance = dict.fromkeys(("sigma_min", "sigma_max", "kappa"), source)
        provenance |= {"step": "computed", "margin": "computed", "h": "estimated", "gamma": "estimated", "beta": "estimated"}
        alpha = self._alpha()
        provenance["alpha"] = source if proved.alpha is None or alpha != float(proved.alpha) else "proved"
        gamma, beta, norm_B = self._lipschitz()
        provenance["norm_B"] = "estimated"
        if proved.beta is not None:
            beta, provenance["beta"] = float(proved.beta), "proved"
        away = far + self._rest + self._noise
        if proved.gamma is not None:
            gamma, provenance["gamma"], provenance["h"] = float(proved.gamma), "proved", "proved"
            h = gamma * length / alpha if alpha > 0 else float("inf")
            q = gamma * away / alpha if alpha > 0 else float("inf")
        else:
            omega = self._omega()
            h, q = omega * length, omega * away
        provenance["radius"] = provenance["h"]
        known = h < 0.5 and q < 1.0 and self._converges
        if proved.gamma is not None and known:  # (1 - sqrt(1 - 2h)) / h |delta|, without its cancellation at small h
            away = length * 2.0 / (1.0 + np.sqrt(1.0 - 2.0 * h)) + self._noise
            q = gamma * away / alpha
        radius = away if known else float("nan")
        theorem = beta / alpha + gamma * norm_B / alpha**2 if alpha > 0 else float("inf")
        provenance["lipschitz"] = (
            "proved" if {provenance[name] for name in ("alpha", "beta", "gamma")} == {"proved"} else "estimated"
        )
        return q, Certificate(
            spectrum.sigma_min,
            spectrum.sigma_max,
            spectrum.kappa,
            alpha,
            beta,
            gamma,
            norm_B,
            theorem,
            length,
            h,
            radius,
            self._margin,
            provenance,
        )

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
        return affine(self.constants)

    @cached_property
    def _displaced(self) -> FloatArray:
        """e, or where that is next to nothing something longer along it, over which a change of A can be seen."""
        far = norm(self.error)
        least = min(SEEN * (norm(self.p.x) or 1.0), max(self._margin / 2, far))
        if far > 0:
            return self.error * (max(least / far, 1.0) if np.isfinite(far) else 1.0)
        z = probes(9, self.error.size)[:, 0]
        return z * (least / norm(z))

    def _lipschitz(self) -> tuple[float, float, float]:
        """gamma, beta and |B|: Frobenius norms from random directions, the changes of A and B between x and x_bar over |e|."""
        whole, half, norm_B, change_B = CRUDE * np.asarray(self.system.compiled(measured.changes)(self.p, self._displaced))
        self._change_of_A, self._grows_evenly = max(whole, 2 * half), bool(whole >= EVENLY * 2 * half)
        far = norm(self._displaced)
        return (self._change_of_A / far, change_B / far, norm_B) if far > 0 else (0.0, 0.0, norm_B)

    def _omega(self) -> float:
        """|A^-1 (A(z) - A(x))| / |z - x|, the larger of its values at x_bar and half-way, for one may vanish by symmetry.

        Above d = EXACT it is measured where A has changed more for its way, by the measure of `_lipschitz`.
        """
        alpha, far = self._alpha(), norm(self._displaced)
        if not far > 0 or not np.isfinite(far):
            return 0.0 if far == 0 else float("inf")
        if not alpha > 0:
            return float("inf")
        if self.p.x.size <= EXACT:
            return self._exact_size_of_M() / far
        crude = self._change_of_A / alpha
        t = 1.0 if self._grows_evenly else 0.5
        return (crude if crude <= NEGLIGIBLE else self._size_of_M(t) / t) / far

    def _exact_size_of_M(self) -> float:
        """The larger of |M| at x_bar and twice that half-way, as 2-norms; with an iterative solver |A* - A| / alpha."""
        direct, both = self.A.spectrum.computed, self.system.compiled(measured.whole_changes)(self.p, self._displaced)
        M, half = np.split(np.asarray(self._inverse(both) if direct else both), 2, axis=1)
        if not (np.isfinite(M).all() and np.isfinite(half).all()):
            return float("nan")
        size = max(float(np.linalg.norm(M, 2)), 2 * float(np.linalg.norm(half, 2)))
        return size if direct else size / self._alpha()

    def _size_of_M(self, t: float) -> float:
        """|A^-1 (A(x + t e) - A(x))|; with an iterative solver |A(x + t e) - A(x)| / alpha."""
        change, change_t = map(self.system.compiled, (measured.change_of_A, measured.change_of_At))
        direct, e = self.A.spectrum.computed, t * self._displaced
        u, size = probes(6, self.p.x.size), 0.0
        for _ in range(POWER_STEPS):
            u = u / np.maximum(np.linalg.norm(u, axis=0, keepdims=True), np.finfo(u.dtype).tiny)
            image = change(self.p, e, u)
            u = np.asarray(self._inverse(image) if direct else image)
            size = float(np.max(np.linalg.norm(u, axis=0)))
            u = np.asarray(change_t(self.p, e, self._inverse(u, transpose=True) if direct else u))
        return FROM_BELOW * (size if direct else size / self._alpha())

    @property
    def proved(self) -> bool:
        """True where the bound of an unknown rests on constants that are proved, or computed by a factorisation."""
        return proves(self.constants, direct=self.A.spectrum.computed)

    @property
    def available(self) -> bool:
        """A root exists nearby, so that there is something to be near to."""
        return bool(np.isfinite(self.certificate.radius))

    @property
    def inflation(self) -> float:
        """What the first order leaves, relative to it: q / (1 - q) for the change of A, and the share of x* - x_bar."""
        far = norm(self.error)
        share = self._rest / far if far > 0 else 0.0
        return self.q / (1.0 - self.q) + share if self.q < 1.0 else float("nan")


def probes(seed: int, size: int) -> FloatArray:
    """Random normal columns (size, PROBES)."""
    return np.random.default_rng(seed).normal(size=(size, PROBES))


def norm(vector: Any) -> float:
    """2-norm of a vector."""
    return float(np.linalg.norm(np.asarray(vector)))


def lengths(columns: Any) -> FloatArray:
    """2-norm of each column."""
    return np.asarray(np.linalg.norm(np.asarray(columns), axis=0))
