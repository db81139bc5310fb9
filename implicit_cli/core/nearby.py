"""How near is the root? Newton steps with the factor at hand, what rounding leaves unknown, and the constants of Kantorovich.

The first part of the certificate (`implicit_cli.core.certificate`): x_bar = x + e is where Newton steps that keep A lead to, q
bounds |A^-1 (A* - A)|, and `radius` is the distance to the root x*, where one is shown to exist.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.implicit import Point, System
from implicit_cli.core.linear import LinearSolver
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
PROBES, CRUDE = 4, 3.0
"""Random vectors that measure norms and rounding, and a factor for a norm found by them."""
ROUNDING = 4.0
"""Roundings of each operand, of which one is measured."""


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
        self.delta = self._inverse(-system.F(p.x, p.theta, p.data)[:, None])[:, 0]
        self._measure_rounding()
        self.error, self._rest, self._converges = self._approach()
        self.there = p._replace(x=p.x + self.error)
        self.q, self.certificate = self._constants()

    def _inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        """`A^-1 b`, also where the solver works with A + ridge I."""
        u = self.A.inverse(b, transpose=transpose)
        return u + self.A.bias(u, transpose=transpose) if self.A.ridge else u

    # Where the root is

    def _measure_rounding(self) -> None:
        """How far x moves when everything that enters F is rounded once, and what A^-1 makes of such errors of length 1."""
        system, p = self.system, self.p
        still = system.F(p.x, p.theta, p.data)
        moved = [system.F(one.x, one.theta, one.data) - still for one in self._rounded]
        z = jax.random.normal(jax.random.key(4), p.x.shape, p.x.dtype)
        errors = jnp.stack([*moved, z], axis=1)
        images = self._inverse(errors)
        sizes, lengths = (np.asarray(jnp.linalg.norm(part, axis=0)) for part in (errors, images))
        self.magnification = float(np.max(np.divide(lengths, sizes, out=np.zeros_like(lengths), where=sizes > 0)))
        self._unit = images / np.where(sizes > 0, sizes, 1.0)[None]
        worst = int(np.argmax(lengths[:-1]))
        self._noise_F = ROUNDING * float(np.max(sizes[:-1]))
        self._noise_x = ROUNDING * images[:, worst]
        self._noise = ROUNDING * float(lengths[worst])

    @cached_property
    def _rounded_there(self) -> tuple[Point, ...]:
        """x_bar and all numbers rounded at random, a few times."""
        return tuple(rounded(self.there, jax.random.key(10 + i)) for i in range(PROBES))

    @property
    def _beside(self) -> Point:
        """x_bar moved by as much as rounding leaves it unknown."""
        return self.there._replace(x=self.there.x + self._noise_x)

    @property
    def _eps(self) -> float:
        return ROUNDING * float(jnp.finfo(self.p.x.dtype).eps)

    @cached_property
    def _rounded(self) -> tuple[Point, ...]:
        """The point with all its numbers rounded at random, a few times."""
        return tuple(rounded(self.p, jax.random.key(i)) for i in range(PROBES))

    def _approach(self) -> tuple[Matrix, float, bool]:
        """e = x_bar - x by Newton steps with A kept, a bound on what is missing to the root, and whether the steps shrink."""
        system, p = self.system, self.p
        e, last = self.delta, float(jnp.linalg.norm(self.delta))
        rest = 0.0
        outside = float(jnp.linalg.norm(self.A.null_space[1].T @ system.F(p.x, p.theta, p.data)))
        if outside > self._noise_F:  # no step can take this part of F away: there may be no root at all
            return e, float("nan"), False
        for _ in range(APPROACH):
            if not np.isfinite(last) or last <= self._noise:
                break
            step = self._inverse(-system.F(p.x + e, p.theta, p.data)[:, None])[:, 0]
            size = float(jnp.linalg.norm(step))
            if size <= self._noise:
                rest = 0.0
                e = e + step
                break
            if not size < last:
                return e, float("nan"), False
            e, rest = e + step, LATER * size * size / (last - size)
            last = size
            if size <= SETTLED * float(jnp.linalg.norm(e)):
                break
        return e, rest, bool(np.isfinite(last))

    # Constants

    def _constants(self) -> tuple[float, Certificate]:
        spectrum, proved = self.A.spectrum, self.constants
        length, far = float(jnp.linalg.norm(self.delta)), float(jnp.linalg.norm(self.error))
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
    def _displaced(self) -> Matrix:
        """e, or where that is next to nothing something longer along it, over which a change of A can be seen."""
        x, far = self.p.x, float(jnp.linalg.norm(self.error))
        least = min(SEEN * (float(jnp.linalg.norm(x)) or 1.0), max(self._margin / 2, far))
        if far > 0:
            return self.error * (max(least / far, 1.0) if np.isfinite(far) else 1.0)
        z = jax.random.normal(jax.random.key(9), x.shape, x.dtype)
        return z * (least / jnp.linalg.norm(z))

    def _change_of_A(self, t: float) -> Any:
        """U to `(A(x + t e) - A(x)) U`, and the same for A', with e as `_displaced`."""
        system, p = self.system, self.p
        there = p._replace(x=p.x + t * self._displaced)
        return (
            lambda U: system.A_times(there, U) - system.A_times(p, U),
            lambda U: system.At_times(there, U) - system.At_times(p, U),
        )

    def _lipschitz(self) -> tuple[float, float, float]:
        """gamma, beta and |B|: Frobenius norms from random directions, the changes of A and B between x and x_bar over |e|."""
        system, p = self.system, self.p
        U, V = (probes(5, size, p.x.dtype) for size in (p.x.size, p.theta.size))
        self._sizes_of_change = [CRUDE * _frobenius(self._change_of_A(t)[0](U)) for t in (1.0, 0.5)]
        B, there = system.B_times(p, V), p._replace(x=p.x + self._displaced)
        norm_B, change_B = CRUDE * _frobenius(B), CRUDE * _frobenius(system.B_times(there, V) - B)
        far = float(jnp.linalg.norm(self._displaced))
        if not far > 0:
            return 0.0, 0.0, norm_B
        return max(self._sizes_of_change[0], 2 * self._sizes_of_change[1]) / far, change_B / far, norm_B

    def _omega(self) -> float:
        """|A^-1 (A(z) - A(x))| / |z - x|, the larger of its values at x_bar and half-way, for one may vanish by symmetry."""
        alpha, far = self._alpha(), float(jnp.linalg.norm(self._displaced))
        if not far > 0 or not np.isfinite(far):
            return 0.0 if far == 0 else float("inf")
        if not alpha > 0:
            return float("inf")
        crude = max(self._sizes_of_change[0], 2 * self._sizes_of_change[1]) / alpha
        if crude <= NEGLIGIBLE and self.p.x.size > EXACT:
            return crude / far
        return max(self._size_of_M(1.0), 2 * self._size_of_M(0.5)) / far

    def _size_of_M(self, t: float) -> float:
        """|A^-1 (A(x + t e) - A(x))|; with an iterative solver |A(x + t e) - A(x)| / alpha."""
        d, dtype = self.p.x.size, self.p.x.dtype
        change, change_t = self._change_of_A(t)
        direct = self.A.spectrum.computed
        if d <= EXACT:
            M = change(jnp.eye(d, dtype=dtype))
            return float(jnp.linalg.norm(self._inverse(M), 2)) if direct else float(jnp.linalg.norm(M, 2)) / self._alpha()
        u, size = probes(6, d, dtype), 0.0
        for _ in range(POWER_STEPS):
            u = u / jnp.maximum(jnp.linalg.norm(u, axis=0, keepdims=True), jnp.finfo(dtype).tiny)
            u = self._inverse(change(u)) if direct else change(u)
            size = float(jnp.max(jnp.linalg.norm(u, axis=0)))
            u = change_t(self._inverse(u, transpose=True) if direct else u)
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
        far = float(jnp.linalg.norm(self.error))
        share = self._rest / far if far > 0 else 0.0
        return self.q / (1.0 - self.q) + share if self.q < 1.0 else float("nan")


@jax.jit
def rounded(numbers: Any, key: jax.Array) -> Any:
    """Every floating-point number of a pytree moved up or down by one rounding."""
    leaves, tree = jax.tree.flatten(numbers)
    keys = jax.random.split(key, len(leaves))

    def moved(leaf: Any, key: jax.Array) -> Any:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        leaf = jnp.asarray(leaf)
        return leaf * (1 + jnp.finfo(leaf.dtype).eps * jax.random.rademacher(key, leaf.shape, leaf.dtype))

    return jax.tree.unflatten(tree, [moved(*pair) for pair in zip(leaves, keys, strict=True)])


@partial(jax.jit, static_argnums=(0, 1, 2))
def probes(seed: int, size: int, dtype: Any) -> Matrix:
    """Random normal columns (size, PROBES)."""
    return jax.random.normal(jax.random.key(seed), (size, PROBES), dtype)


def lengths(columns: Any) -> FloatArray:
    """2-norm of each column."""
    return np.asarray(np.linalg.norm(np.asarray(columns), axis=0))


def _frobenius(images: Matrix) -> float:
    """Frobenius norm of a linear map from its images of random normal vectors."""
    return float(jnp.sqrt(jnp.mean(jnp.sum(images**2, axis=0))))


def most(errors: list[Matrix]) -> FloatArray:
    """The largest of several errors, entry by entry."""
    return np.asarray(jnp.max(jnp.abs(jnp.stack(errors)), axis=0))
