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

from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.implicit import Adjoint, Forward, Point, System
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.linear.base import project_out
from implicit_cli.problem import Constants
from implicit_cli.result import Certificate

Matrix = jax.Array
FloatArray = NDArray[np.float64]
Rows = slice | NDArray[Any]

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
SMOOTH = 1e-3
"""With a q below this, what the first order leaves is bounded by q itself."""
COLUMNS = 16
"""Columns on which rounding is measured, at most."""
PROBES, CRUDE = 4, 3.0
"""Random vectors that measure norms and rounding, and a factor for a norm found by them."""
SLACK = 0.01
"""Of the correction, for the errors of its own computation."""
ROUNDING = 4.0
"""Roundings of each operand, of which one is measured."""


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


class Certifier:
    """Constants of one solution, computed once, and the error parts of every product asked for."""

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
        u = self.A.solve(b, transpose=transpose).value
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
        return tuple(_rounded(self.there, jax.random.key(10 + i)) for i in range(PROBES))

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
        return tuple(_rounded(self.p, jax.random.key(i)) for i in range(PROBES))

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
        return self.constants.gamma is not None and float(self.constants.gamma) == 0.0

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
        U, V = (_probes(5, size, p.x.dtype) for size in (p.x.size, p.theta.size))
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
        u, size = _probes(6, d, dtype), 0.0
        for _ in range(POWER_STEPS):
            u = u / jnp.maximum(jnp.linalg.norm(u, axis=0, keepdims=True), jnp.finfo(dtype).tiny)
            u = self._inverse(change(u)) if direct else change(u)
            size = float(jnp.max(jnp.linalg.norm(u, axis=0)))
            u = change_t(self._inverse(u, transpose=True) if direct else u)
        return FROM_BELOW * (size if direct else size / self._alpha())

    @property
    def proved(self) -> bool:
        """True where the bound of an unknown rests on constants that are proved, or computed by a factorisation."""
        c = self.constants
        return c.gamma is not None and (c.alpha is not None or (self._affine and self.A.spectrum.computed))

    @property
    def available(self) -> bool:
        """A root exists nearby, so that there is something to be near to."""
        return bool(np.isfinite(self.certificate.radius))

    # Parts

    @property
    def inflation(self) -> float:
        """What the first order leaves, relative to it: q / (1 - q) for the change of A, and the share of x* - x_bar."""
        far = float(jnp.linalg.norm(self.error))
        share = self._rest / far if far > 0 else 0.0
        return self.q / (1.0 - self.q) + share if self.q < 1.0 else float("inf")

    def solution(self) -> tuple[Parts, Parts]:
        """Errors of x (d, 1) and of y = g(x, theta) (m, 1)."""
        system, p = self.system, self.p
        spread, nothing = np.array([self._rest]), np.zeros(1)
        e, noise_x = np.asarray(self.error)[:, None], np.abs(np.asarray(self._noise_x))[:, None]
        y = system.g(p.x, p.theta, p.data)
        moved = np.asarray(system.g(p.x + self.error, p.theta, p.data) - y)[:, None]
        noise = ROUNDING * _most([system.g(one.x, one.theta, one.data) - y for one in self._rounded])[:, None]
        return (
            Parts(e, nothing, noise_x, spread),
            Parts(moved, nothing, noise + self._through_g(np.array([self._noise])), spread, self.reach_y),
        )

    def forward(self, f: Forward) -> tuple[Parts, Parts]:
        """Errors of `f.U` (d, k) and of `f.Y` (m, k)."""
        system, there = self.system, self.there
        C = self._inverse(-system.F_tangent(there, f.U, f.V))
        left = system.F_tangent(there, f.U + C, f.V) if self._rough else None
        spread, share = self._left(C, left, f.solved.residual + self.A.ridge * f.U, transpose=False)

        def products(one: Point, U: Matrix, V: Matrix) -> tuple[Matrix, Matrix]:
            return system.F_tangent(one, U, V), system.g_tangent(one, U, V)

        size = _lengths(f.solved.rhs) + self.certificate.sigma_max * _lengths(f.U)
        noise, noise_y = self._noise_of(products, size, f.U, f.V)
        noise_x = np.outer(np.max(np.abs(np.asarray(self._unit)), axis=1), noise)
        in_x = Parts(np.asarray(C), share, noise_x + self._eps * np.abs(np.asarray(f.U)), spread)
        Y = system.g_tangent(there, f.U + C, f.V)
        noise_y = noise_y + self._eps * np.abs(np.asarray(Y)) + self._through_g(noise)
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
        size = _lengths(a.solved.rhs) + self.certificate.sigma_max * _lengths(a.U)
        noise, noise_L = self._noise_of(equation, size, a.W_y, a.U)
        noise_L = noise_L + self._eps * np.abs(np.asarray(L)) + np.outer(self._noise_theta, noise)
        return Parts(np.asarray(L - a.L), share, noise_L, spread, self.reach_theta)

    @property
    def _rough(self) -> bool:
        """What the first order leaves is worth a product of its own."""
        return not self.q < SMOOTH

    def _through_g(self, noise: FloatArray) -> FloatArray:
        """What errors of these lengths (k,) in F's equation do to y, entry by entry (m, k)."""
        moved = self.system.g_tangent(self.p, self._unit, jnp.zeros((self.p.theta.size, self._unit.shape[1]), self.p.x.dtype))
        return np.outer(np.max(np.abs(np.asarray(moved)), axis=1, initial=0.0), noise)

    @cached_property
    def _noise_theta(self) -> FloatArray:
        """What an error of length 1 in the adjoint's equation does to a cotangent's product, entry by entry (n,)."""
        if self.system.symmetric:
            unit = self._unit
        else:
            z = _probes(8, self.p.x.size, self.p.x.dtype)
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
        others += [f(one, *_rounded(few, jax.random.key(PROBES + i))) for i, one in enumerate(self._rounded_there)]
        weights = ROUNDING * np.ones(len(others))
        weights[0] = 1.0  # the point beside is that far away already
        errors = [
            np.max([w * np.abs(np.asarray(other[part] - here[part])) for w, other in zip(weights, others, strict=True)], axis=0)
            for part in (0, 1)
        ]
        if len(chosen) == k:
            return _lengths(errors[0]), errors[1]
        unit = np.where(size[chosen] > 0, size[chosen], np.inf)
        first = float(np.max(_lengths(errors[0]) / unit, initial=0.0))
        second = np.max(errors[1] / unit, axis=1, initial=0.0)
        return first * size, np.outer(second, size)

    def _left(self, C: Matrix, left: Matrix | None, residual: Matrix, *, transpose: bool) -> tuple[FloatArray, FloatArray]:
        """Length of the error after the first order (k,), and the linear solve's share in the first order.

        `left` is what the corrected value leaves of its equation at x_bar, where that was found; `residual` what the value itself
        leaves at x.
        """
        Z, Y = self.A.null_space
        size, before = map(_lengths, (C, residual))
        after = np.full_like(size, np.inf) if left is None else _lengths(project_out(Z if transpose else Y, left))
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
        found = self.system.Bt_times(self.there, _probes(7, d, dtype))
        return np.asarray(CRUDE * jnp.sqrt(jnp.mean(found**2, axis=1)))


@jax.jit
def _rounded(numbers: Any, key: jax.Array) -> Any:
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
def _probes(seed: int, size: int, dtype: Any) -> Matrix:
    """Random normal columns (size, PROBES)."""
    return jax.random.normal(jax.random.key(seed), (size, PROBES), dtype)


def _lengths(columns: Any) -> FloatArray:
    """2-norm of each column."""
    return np.asarray(np.linalg.norm(np.asarray(columns), axis=0))


def _frobenius(images: Matrix) -> float:
    """Frobenius norm of a linear map from its images of random normal vectors."""
    return float(jnp.sqrt(jnp.mean(jnp.sum(images**2, axis=0))))


def _most(errors: list[Matrix]) -> FloatArray:
    """The largest of several errors, entry by entry."""
    return np.asarray(jnp.max(jnp.abs(jnp.stack(errors)), axis=0))
