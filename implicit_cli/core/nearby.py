"""How near is the root? Newton steps with the factor at hand, what rounding leaves unknown, and the constants of Kantorovich.

The first part of the certificate (`implicit_cli.core.certificate`): x_bar = x + e is where Newton steps that keep A lead to, q
bounds |A^-1 (A* - A)|, and `radius` is the distance to the root x*, where one is shown to exist.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core import measured
from implicit_cli.core.implicit import Point, System
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.linear.base import Spectrum
from implicit_cli.core.measured import PROBES, ROUNDING
from implicit_cli.core.traceable import either, namespace, numbers, quotient, repeated, seldom
from implicit_cli.problem import Constants
from implicit_cli.result import Certificate

Matrix = Any
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


def affine(constants: Constants) -> Any:
    """A is proved to be the same everywhere."""
    return constants.gamma is not None and constants.gamma == 0.0


def proves(constants: Constants, *, direct: bool) -> Any:
    """The constants make a bound of an unknown a proof; `direct`: sigma_min at x is known from a factorisation."""
    return constants.gamma is not None and (constants.alpha is not None or (affine(constants) & direct))


class Approach(NamedTuple):
    """Newton steps on their way: e = x_bar - x (d,), a bound on what is `missing` to the root, the last step's length, how many.

    `goes_on` until the steps are within rounding; `fails` where they do not shrink.
    """

    e: Any
    missing: Any
    last: Any
    count: Any
    goes_on: Any
    fails: Any


class Lengths(NamedTuple):
    """The numbers of a `result.Certificate` that are found here; q bounds |A^-1 (A* - A)|; `by_alpha` says that alpha is proved."""

    alpha: Any
    beta: Any
    gamma: Any
    norm_B: Any
    lipschitz: Any
    step: Any
    h: Any
    radius: Any
    q: Any
    by_alpha: Any


class Nearby:
    """A point near a root, with the root's neighbourhood: what the error parts of every product are made of."""

    def __init__(self, system: System, p: Point, A: LinearSolver, constants: Constants, margin: Any) -> None:
        self.system, self.p, self.A = system, p, A
        self.constants, self.margin = Constants(*(c if c is None else numbers(c) for c in constants)), margin
        self._F, self.delta = self._measure_rounding()
        self.error, self._rest, self._converges = self._approach()
        self.there = p._replace(x=p.x + self.error)
        with np.errstate(invalid="ignore", over="ignore"):  # infinity and NaN have their meaning here
            self.lengths = self._lengths()
        self.q = self.lengths.q

    def _newton(self, F: Any) -> FloatArray:
        """The step that A makes of a value of F (d,)."""
        return self._inverse(-numbers(F)[:, None])[:, 0]

    def _inverse(self, b: Any, *, transpose: bool = False) -> Any:
        """`A^-1 b`, also where the solver works with A + ridge I."""
        u = self.A.inverse(b, transpose=transpose)
        return numbers(u + self.A.bias(u, transpose=transpose) if self.A.ridge else u)

    # Where the root is

    def _measure_rounding(self) -> tuple[FloatArray, FloatArray]:
        """F and the Newton step; how x moves where all is rounded once (d, PROBES), and what A^-1 makes of errors of length 1."""
        vectors = numbers(self.system.compiled(measured.rounding_of_F)(self.p))
        images = self._inverse(vectors)
        (F, errors), (step, images) = ((part[:, 0], part[:, 1:]) for part in (vectors, images))
        xp, sizes, moves = namespace(vectors), lengths(errors), lengths(images)
        self.magnification = xp.max(quotient(moves, sizes))
        self._unit = images / xp.where(sizes > 0, sizes, 1.0)[None]
        worst = xp.argmax(moves[:-1])
        self._moves = images[:, :-1]
        self._noise_F = ROUNDING * xp.max(sizes[:-1])
        self._noise_x = ROUNDING * images[:, worst]
        self._noise = ROUNDING * moves[worst]
        return F, -step

    @property
    def settled(self) -> Any:
        """x_bar is as near to x as rounding leaves x unknown."""
        return norm(self.error) <= self._noise

    @property
    def _eps(self) -> float:
        return ROUNDING * float(jnp.finfo(self.p.x.dtype).eps)

    def _approach(self) -> tuple[FloatArray, Any, Any]:
        """e = x_bar - x by Newton steps with A kept, a bound on what is missing to the root, and whether the steps shrink."""
        system, p, first = self.system, self.p, norm(self.delta)
        xp = namespace(self.delta)
        # no step can take the part of F away that is outside of A's range: there may be no root at all
        outside = norm(numbers(self.A.null_space[1]).T @ self._F) > self._noise_F

        def further(now: Approach) -> Approach:
            step = self._newton(system.F(p.x + now.e, p.theta, p.data))
            size = norm(step)
            arrived = size <= self._noise
            fails = ~arrived & ~(size < now.last)
            e = xp.where(fails, now.e, now.e + step)
            missing = LATER * size * quotient(size, now.last - size)
            missing = xp.where(arrived, 0.0, xp.where(fails, xp.nan, missing))
            last = xp.where(arrived | fails, now.last, size)
            done = arrived | fails | ~xp.isfinite(last) | (last <= self._noise) | (size <= SETTLED * norm(e))
            return Approach(e, missing, last, now.count + 1, ~done, fails)

        goes_on = ~outside & xp.isfinite(first) & (first > self._noise)
        missing = xp.where(outside, xp.nan, 0.0)
        start = Approach(self.delta, missing, first, 0, goes_on, outside)
        found = repeated(lambda now: now.goes_on & (now.count < APPROACH), further, start)
        return found.e, found.missing, ~found.fails & xp.isfinite(found.last)

    # Constants

    def _lengths(self) -> Lengths:
        proved, length, far = self.constants, norm(self.delta), norm(self.error)
        alpha, by_alpha = self._alpha()
        gamma, beta, norm_B = self._lipschitz()
        beta = beta if proved.beta is None else proved.beta
        xp = namespace(length)
        away = far + self._rest + self._noise
        if proved.gamma is not None:
            gamma = proved.gamma
            h, q = (xp.where(alpha > 0, quotient(gamma * way, alpha), xp.inf) for way in (length, away))
        else:
            omega = self._omega(alpha)
            h, q = omega * length, omega * away
        known = (h < 0.5) & (q < 1.0) & self._converges
        if proved.gamma is not None:  # (1 - sqrt(1 - 2h)) / h |delta|, without its cancellation at small h
            sharp = length * 2.0 / (1.0 + xp.sqrt(xp.maximum(1.0 - 2.0 * h, 0.0))) + self._noise
            away = xp.where(known, sharp, away)
            q = xp.where(known, quotient(gamma * away, alpha), q)
        theorem = xp.where(alpha > 0, quotient(beta, alpha) + quotient(gamma * norm_B, alpha**2), xp.inf)
        return Lengths(alpha, beta, gamma, norm_B, theorem, length, h, xp.where(known, away, xp.nan), q, by_alpha)

    @cached_property
    def certificate(self) -> Certificate:
        """The constants as a record."""
        return certificate(self.lengths, self.A.spectrum, self.constants, self.margin)

    def _alpha(self) -> tuple[Any, Any]:
        """Lower bound of the singular values of A near x, and whether it is what the problem proves, not what was found at x."""
        found, proved = self.A.spectrum.sigma_min, self.constants.alpha
        if proved is None:
            return found, False
        xp = namespace(found, proved)
        better = affine(self.constants) & (found > proved) & self.A.spectrum.computed
        return xp.where(better, found, proved), ~xp.asarray(better)

    @cached_property
    def _displaced(self) -> FloatArray:
        """e, or where that is next to nothing something longer along it, over which a change of A can be seen."""
        far, size = norm(self.error), norm(numbers(self.p.x))
        xp = namespace(far)
        least = xp.minimum(SEEN * xp.where(size > 0, size, 1.0), xp.maximum(self.margin / 2, far))
        z = probes(9, self.error.shape[0])[:, 0]
        longer = xp.where(xp.isfinite(far), xp.maximum(quotient(least, far), 1.0), 1.0)
        return xp.where(far > 0, self.error * longer, z * (least / norm(z)))

    def _lipschitz(self) -> tuple[Any, Any, Any]:
        """gamma, beta and |B|: Frobenius norms from random directions, the changes of A and B between x and x_bar over |e|."""
        whole, half, norm_B, change_B = CRUDE * numbers(self.system.compiled(measured.changes)(self.p, self._displaced))
        self._change_of_A, self._grows_evenly = namespace(whole).maximum(whole, 2 * half), whole >= EVENLY * 2 * half
        far = norm(self._displaced)
        return quotient(self._change_of_A, far), quotient(change_B, far), norm_B

    def _omega(self, alpha: Any) -> Any:
        """|A^-1 (A(z) - A(x))| / |z - x|, the larger of its values at x_bar and half-way, for one may vanish by symmetry.

        Above d = EXACT it is measured where A has changed more for its way, by the measure of `_lipschitz`.
        """
        far = norm(self._displaced)
        xp = namespace(far, alpha)
        sane = (far > 0) & xp.isfinite(far) & (alpha > 0)

        def measure() -> Any:
            if self.p.x.size <= EXACT:
                return quotient(self._exact_size_of_M(alpha), far)
            crude, t = quotient(self._change_of_A, alpha), xp.where(self._grows_evenly, 1.0, 0.5)
            return quotient(seldom(crude > NEGLIGIBLE, lambda: self._size_of_M(t, alpha) / t, lambda: crude), far)

        return either(sane, measure, lambda: xp.where((far == 0) & (alpha > 0), 0.0, xp.inf))

    def _exact_size_of_M(self, alpha: Any) -> Any:
        """The larger of |M| at x_bar and twice that half-way, as 2-norms; with an iterative solver |A* - A| / alpha."""
        direct, d = self.A.spectrum.computed, self.p.x.size
        both = numbers(self.system.compiled(measured.whole_changes)(self.p, self._displaced))
        both = self._inverse(both) if direct else both
        xp = namespace(both)
        finite = xp.isfinite(both).all()
        both = xp.where(finite, both, 0.0)
        size = xp.maximum(xp.linalg.norm(both[:, :d], 2), 2 * xp.linalg.norm(both[:, d:], 2))
        return xp.where(finite, size if direct else quotient(size, alpha), xp.nan)

    def _size_of_M(self, t: Any, alpha: Any) -> Any:
        """|A^-1 (A(x + t e) - A(x))|; with an iterative solver |A(x + t e) - A(x)| / alpha."""
        change, change_t = map(self.system.compiled, (measured.change_of_A, measured.change_of_At))
        direct, e = self.A.spectrum.computed, t * self._displaced
        xp = namespace(e)
        u, size = probes(6, self.p.x.size), xp.zeros(())
        for _ in range(POWER_STEPS):
            u = u / xp.maximum(xp.linalg.norm(u, axis=0, keepdims=True), np.finfo(float).tiny)
            image = numbers(change(self.p, e, u))
            u = self._inverse(image) if direct else image
            size = xp.max(xp.linalg.norm(u, axis=0))
            u = numbers(change_t(self.p, e, self._inverse(u, transpose=True) if direct else u))
        return FROM_BELOW * (size if direct else quotient(size, alpha))

    @property
    def proved(self) -> Any:
        """True where the bound of an unknown rests on constants that are proved, or computed by a factorisation."""
        return proves(self.constants, direct=self.A.spectrum.computed)

    @property
    def available(self) -> Any:
        """A root exists nearby, so that there is something to be near to."""
        return namespace(self.lengths.radius).isfinite(self.lengths.radius)

    @property
    def inflation(self) -> Any:
        """What the first order leaves, relative to it: q / (1 - q) for the change of A, and the share of x* - x_bar."""
        xp = namespace(self.q)
        share = quotient(self._rest, norm(self.error))
        return xp.where(self.q < 1.0, quotient(self.q, 1.0 - self.q) + share, xp.nan)


def certificate(found: Lengths, spectrum: Spectrum, constants: Constants, margin: Any) -> Certificate:
    """The record of what was found, with where each number comes from."""
    source = "computed" if spectrum.computed else "estimated"
    provenance = dict.fromkeys(("sigma_min", "sigma_max", "kappa"), source)
    provenance |= {"step": "computed", "margin": "computed", "h": "estimated", "gamma": "estimated", "beta": "estimated"}
    provenance["alpha"] = "proved" if found.by_alpha else source
    provenance["norm_B"] = "estimated"
    if constants.beta is not None:
        provenance["beta"] = "proved"
    if constants.gamma is not None:
        provenance["gamma"] = provenance["h"] = "proved"
    provenance["radius"] = provenance["h"]
    provenance["lipschitz"] = "proved" if {provenance[name] for name in ("alpha", "beta", "gamma")} == {"proved"} else "estimated"
    return Certificate(
        sigma_min=float(spectrum.sigma_min),
        sigma_max=float(spectrum.sigma_max),
        kappa=float(spectrum.kappa),
        alpha=float(found.alpha),
        beta=float(found.beta),
        gamma=float(found.gamma),
        norm_B=float(found.norm_B),
        lipschitz=float(found.lipschitz),
        step=float(found.step),
        h=float(found.h),
        radius=float(found.radius),
        margin=float(margin),
        provenance=provenance,
    )


def probes(seed: int, size: int) -> FloatArray:
    """Random normal columns (size, PROBES)."""
    return np.random.default_rng(seed).normal(size=(size, PROBES))


def norm(vector: Any) -> Any:
    """2-norm of a vector."""
    return namespace(vector).linalg.norm(numbers(vector))


def lengths(columns: Any) -> Any:
    """2-norm of each column; infinite where a square overflows, as may be far from a solution."""
    with np.errstate(over="ignore"):
        return namespace(columns).linalg.norm(numbers(columns), axis=0)
