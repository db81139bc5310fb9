"""One-sided derivatives: at a kink of F the solution moves differently along v and along -v.

F is piecewise smooth. The directional derivative u = x'(theta; v) solves F'(x, theta; u, v) = 0, where F' is linear on each piece
and not as a whole. Which piece is met depends on u itself, so that u is found by iteration: linearise F where it is next,

    A_t u = -B_t v        A_t, B_t at (x + t u, theta + t v), t > 0 small

until u repeats. That is the semismooth Newton method on u -> F(x + t u, theta + t v) / t. The answer is checked, not believed:

    F(x + t u, theta + t v) = o(t)      the residual at the displaced point, over t, is small against A_t u
    agreement                           three steps t, 4 t, 16 t, extrapolated to t = 0, give the same u
    uniqueness                          from several guesses, no second u that passes the first check is found
    regularity                          A_t does not become singular as t goes to 0

t is above the radius within which x is known, or the piece would be a matter of rounding, and as small as that allows, or another
kink might lie between. What fails a check has no derivative: NaN, with a status.

Source: Pang, "Newton's method for B-differentiable equations", Math. Oper. Res. 15, 1990; Qi and Sun, "A nonsmooth version of
Newton's method", Math. Program. 58, 1993.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.implicit import Matrix, Point, System, Vector
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.traceable import namespace, numbers
from implicit_cli.status import Status

Linearise = Callable[[Point], LinearSolver]
"""A at a point, prepared for solves."""

FIRST, RATIO, LAST = 1e-8, 4.0, 1e-2
"""Relative length of the first displacement, ratio of each to the one before, and the longest one tried."""
CLEAR = 1e3
"""A displacement in x is at least this many times as long as the error of x."""
ITERATIONS = 20
REPEATS = 1e-6
"""u repeats where it changes by less than this fraction: another piece changes it by much more."""
VANISHES = 1e-3
"""The residual over t vanishes where it is below this fraction of A_t u: t times the curvature, or some fraction of a wrong u."""
ROUNDING = 64.0 * float(np.finfo(float).eps)
"""Of F, in units of its terms."""
NOTHING = 1e-12
"""A derivative this small is zero: relative to what A at x gives, or to x over theta."""
AGREE = 1e-7
"""Largest relative difference between extrapolations from different t."""
GROWS = 4.0
"""A_t^-1 that grows by more than this as t shrinks to 1/16 belongs to an A that is singular at x itself: a fold, a bifurcation."""
NEARBY, JUMP = 16.0, 1e-5
"""Kinks are looked for within so many errors of x, and twice that; a derivative jumps if it changes by this fraction."""


class Side(NamedTuple):
    """Derivatives of one side: U (d, k) of x, Y (m, k) of the outputs, with what their extrapolations differ by, and statuses (k,).

    Where a status is not OK, the column is NaN.
    """

    U: Matrix
    Y: Matrix
    U_error: Matrix
    Y_error: Matrix
    status: NDArray[np.int8]


class OneSided(NamedTuple):
    """`right` is x'(theta; v), `left` is -x'(theta; -v): equal where x is differentiable along v."""

    left: Side
    right: Side


class _Found(NamedTuple):
    """A directional derivative u (d,), y (m,) found with one t, and how long A_t makes a random vector."""

    u: Vector
    y: Vector
    response: float = 0.0


class _None(Exception):
    """No derivative; the status says why. Never leaves this module."""

    def __init__(self, status: Status) -> None:
        self.status = status


def one_sided(
    system: System, p: Point, linearise: Linearise, V: Matrix, *, radius: float, margin: float = float("inf"), gauges: int = 0
) -> OneSided:
    """Left and right derivatives of the solution at p along each column of V (n, k), and of the outputs.

    `linearise(p)` prepares A at a point. The solution is within `radius` of p.x, the nearest kink known is `margin` away (infinite
    where none is known), and A has `gauges` null vectors that are symmetries. `system.F` must have a first-order model on each
    piece. A product lam g of complementarity has none where both vanish: take the condition's natural map (`Condition.natural`).

    Statuses: OK; NONDIFFERENTIABLE where no piece is consistent with its own u, or several are; SINGULAR where A_t is,
    or becomes so as t goes to 0;
    LINEAR_SOLVE_FAILED; NO_CERTIFICATE where x is not known well enough to tell on which side of a kink it moves.
    """
    search = _Search(system, p, linearise, radius, margin, gauges)
    columns = [V[:, j] for j in range(V.shape[1])]
    right = _gathered([search.along(v) for v in columns], system, p, 1.0)
    left = _gathered([search.along(-v) for v in columns], system, p, -1.0)
    return OneSided(left, right)


def _gathered(found: list[tuple[_Found, _Found] | Status], system: System, p: Point, sign: float) -> Side:
    """Columns of values and errors; NaN for those without."""
    m = system.g(p.x, p.theta, p.data).size
    nothing = _Found(jnp.full(p.x.size, jnp.nan), jnp.full(m, jnp.nan))
    pairs = [(nothing, nothing) if isinstance(one, Status) else one for one in found]

    def stack(parts: list[Vector], size: int) -> Matrix:
        return jnp.stack(parts, axis=1) if parts else jnp.zeros((size, 0))

    return Side(
        sign * stack([value.u for value, _ in pairs], p.x.size),
        sign * stack([value.y for value, _ in pairs], m),
        stack([error.u for _, error in pairs], p.x.size),
        stack([error.y for _, error in pairs], m),
        np.array([int(one if isinstance(one, Status) else Status.OK) for one in found], dtype=np.int8),
    )


class _Search:
    """Directional derivatives at one point."""

    def __init__(self, system: System, p: Point, linearise: Linearise, radius: float, margin: float, gauges: int) -> None:
        self.system, self.p, self.linearise, self.gauges = system, p, linearise, gauges
        self.F = system.F(p.x, p.theta, p.data)
        on_kink = not radius < margin < float("inf")
        # x + t u must be clear of the kink that x may be on, and stay within the distance to one that it is not on
        self.shortest = CLEAR * radius if on_kink else 0.0
        self.longest = float("inf") if on_kink else margin / (2.0 * RATIO**2)
        self.probe = jax.random.normal(jax.random.key(5), (p.x.size, 1), p.x.dtype)
        self.size_of_x, self.size_of_theta = _norm(p.x), _norm(p.theta) or 1.0
        self.noise = ROUNDING * _norm(system.F_tangent(p, p.x[:, None], p.theta[:, None]))

    def along(self, v: Vector) -> tuple[_Found, _Found] | Status:
        """Value and error of x'(theta; v), or why there is none."""
        if not np.isfinite(self.shortest):
            return Status.NO_CERTIFICATE
        try:
            return self._ladder(v, self._guesses(v))
        except _None as none:
            return none.status

    def _ladder(self, v: Vector, guesses: list[Vector]) -> tuple[_Found, _Found]:
        """Longer and longer steps, until three of them agree."""
        rungs: list[_Found] = []
        length, why = FIRST, Status.NONDIFFERENTIABLE
        while length <= LAST:
            try:
                rungs.append(self._settled(rungs[-1].u, v, length) if rungs else self._only(guesses, v, length))
            except _None as none:
                if none.status is Status.NO_CERTIFICATE:  # too short a step: a longer one is clear of the kink
                    why = none.status
                else:
                    why, rungs = none.status, []
            if len(rungs) >= 3:
                near, middle, far = rungs[-3:]
                value, other = _extrapolated(near, middle), _extrapolated(middle, far)
                error = _Found(jnp.abs(value.u - other.u), jnp.abs(value.y - other.y))
                if near.response > GROWS * far.response:
                    raise _None(Status.SINGULAR)
                if self._close(value.u, other.u, AGREE):
                    return value, error
            length *= RATIO if rungs or why is Status.NO_CERTIFICATE else RATIO**3
        raise _None(why)

    def _only(self, guesses: list[Vector], v: Vector, length: float) -> _Found:
        """The one u that all guesses lead to which lead anywhere."""
        found: list[_Found] = []
        why = Status.NONDIFFERENTIABLE
        for guess in guesses:
            try:
                found.append(self._settled(guess, v, length))
            except _None as none:
                why = none.status
                if why in (Status.NO_CERTIFICATE, Status.SINGULAR):  # a piece with many u: none is the derivative
                    raise
            if found and not self._close(found[0].u, found[-1].u, 10 * REPEATS):
                raise _None(Status.NONDIFFERENTIABLE)
        if not found:
            raise _None(why)
        return found[0]

    def _guesses(self, v: Vector) -> list[Vector]:
        """What A at x itself gives, a random direction, and their opposites, which are on the other side of a kink."""
        solved = self.linearise(self.p).solve(-self.system.B_times(self.p, v[:, None])).value[:, 0]
        u = jnp.where(jnp.isfinite(solved), solved, 0.0)
        self.nothing = NOTHING * max(_norm(u), self.size_of_x * _norm(v) / self.size_of_theta)
        size = _norm(u) or self.size_of_x * _norm(v) / self.size_of_theta or 1.0
        w = jax.random.normal(jax.random.key(3), u.shape, u.dtype)
        w = w * (size / _norm(w))
        return [u, -u, w, -w]

    def _settled(self, u: Vector, v: Vector, length: float) -> _Found:
        """Linearise, solve, move on, until u repeats; then check it."""
        before: list[Vector] = []
        for _ in range(ITERATIONS):
            before.append(u)
            q, _ = self._displaced(u, v, length)
            A = self.linearise(q)
            free = A.null_space[0].shape[1] > self.gauges
            old = u[:, None] if free else jnp.zeros_like(u)[:, None]  # on a singular piece u may keep what A_t does not see
            solved = A.solve(jnp.concatenate([-self.system.F_tangent(q, old, v[:, None]), self.probe], axis=1))
            new = old[:, 0] + solved.value[:, 0]
            if solved.status.any() or not bool(jnp.all(jnp.isfinite(new))):
                raise _None(Status.LINEAR_SOLVE_FAILED)
            if self._close(u, new, REPEATS):
                found = self._checked(new, v, length)
                if free:
                    raise _None(Status.SINGULAR)
                return found._replace(response=_norm(solved.value[:, 1]))
            if any(self._close(old, new, REPEATS) for old in before):
                break  # a cycle
            u = new
        raise _None(Status.NONDIFFERENTIABLE)

    def _checked(self, u: Vector, v: Vector, length: float) -> _Found:
        """u with its outputs, if F(x + t u, theta + t v) vanishes faster than t."""
        q, t = self._displaced(u, v, length)
        if t * (_norm(u) + _norm(v) * (self.size_of_x or 1.0) / self.size_of_theta) < self.shortest:
            raise _None(Status.NO_CERTIFICATE)
        U, V = u[:, None], v[:, None]
        still = jnp.zeros_like(U)
        terms = _norm(self.system.F_tangent(q, U, jnp.zeros_like(V))) + _norm(self.system.F_tangent(q, still, V))
        left = _norm(self.system.F(q.x, q.theta, q.data) - self.F)
        if not left <= VANISHES * terms * t + self.noise:
            raise _None(Status.NONDIFFERENTIABLE)
        return _Found(u, self.system.g_tangent(q, U, V)[:, 0])

    def _close(self, a: Vector, b: Vector, tolerance: float) -> bool:
        return _norm(a - b) <= tolerance * max(_norm(a), _norm(b)) + self.nothing

    def _displaced(self, u: Vector, v: Vector, length: float) -> tuple[Point, float]:
        """`(x + t u, theta + t v)` and t: `length` is relative to theta, and to x where x is not next to nothing."""
        p, moved = self.p, _norm(u)
        t = self.size_of_theta / (_norm(v) or 1.0)
        if self.size_of_x > 1e-6 * moved * t:
            t = min(t, self.size_of_x / (moved or self.size_of_x / t))
        t *= length
        if np.isfinite(self.longest) and moved > 0:
            t = min(t, self.longest / moved * length / FIRST)
        return p._replace(x=p.x + t * u, theta=p.theta + t * v), t


class Kinks(NamedTuple):
    """Whether F has a kink at a point, which outputs (m,) have one, and whether the point is on the edge of where F is defined."""

    in_F: Any
    in_g: NDArray[np.bool_]
    edge: Any


def kinks(system: System, p: Point, *, radius: Any, loose: NDArray[np.bool_] | None = None) -> Kinks:
    """Look for kinks that nobody declared: derivatives of F and g that jump where x and theta move by next to nothing.

    A kink through p has another piece on one of two opposite sides, so a random displacement and its opposite find it with
    probability one. `radius` is the error of x, and a kink within twice that counts. Curvature changes a derivative in proportion
    to the displacement, a kink does not: two lengths tell them apart. On the edge of its domain F is finite on one side only.

    Unknowns that are `loose` (d,), which nothing holds, may touch others without a force: such a contact holds nothing, and rows of
    F that it reaches are left out.
    """
    eps, xp = float(jnp.finfo(p.x.dtype).eps), namespace(p.x)
    size = xp.maximum(xp.maximum(radius, 4.0 * eps * xp.linalg.norm(numbers(p.x))), eps)
    # at x, then a longer displacement and its opposite, then a shorter one and its opposite
    loose = loose if loose is not None and loose.any() else None
    on_F, on_g, by_loose = map(numbers, system.compiled(_displaced_derivatives)(p, size, loose))

    def jumps(found: Any) -> tuple[Any, Any]:
        base = found[0]
        far, near = (xp.max(xp.abs(both - base), axis=0, initial=0.0) for both in (found[1:3], found[3:5]))
        scale = xp.max(xp.abs(base), initial=0.0) + xp.max(xp.where(xp.isfinite(far), far, 0.0), initial=0.0)
        return (near > JUMP * scale) & (near > 0.5 * far), xp.isfinite(base) & ~xp.isfinite(near)

    (in_F, edge), (in_g, edge_of_g) = jumps(on_F), jumps(on_g)
    if loose is not None:
        in_F = in_F & ~(by_loose != 0).any(axis=0)
    return Kinks(in_F.any(), in_g | edge_of_g, edge.any())


def _displaced_derivatives(system: System, p: Point, size: float, loose: Vector | None) -> tuple[Matrix, Matrix, Matrix]:
    """Derivatives along a random direction, at x and where x and theta are displaced four times.

    Those of F (5, d), of g (5, m), and those of F where only what is `loose` (d,) moves (5, d), or nothing (5, 0).
    """
    eps = jnp.finfo(p.x.dtype).eps
    (w, u), (z, v) = jnp.split(jax.random.normal(jax.random.key(4), (2, p.x.size + p.theta.size), p.x.dtype), [p.x.size], axis=1)
    sizes, length = jnp.abs(p.theta), jnp.linalg.norm(w)
    largest = jnp.max(sizes, initial=0.0)
    sizes = jnp.where(sizes > 0, sizes, jnp.where(largest > 0, largest, 1.0))
    far_x = NEARBY * w * (size / jnp.where(length > 0, length, 1.0) + 4.0 * eps * jnp.abs(p.x))
    far_theta = NEARBY * z * (4.0 * eps * sizes)

    def derivatives(part: jax.Array) -> tuple[Vector, Vector, Vector]:
        q = p._replace(x=p.x + part * far_x, theta=p.theta + part * far_theta)
        U, V = u[:, None], v[:, None]
        if loose is not None:
            U, V = jnp.stack([u, jnp.where(loose, u, 0.0)], axis=1), jnp.stack([v, jnp.zeros_like(v)], axis=1)
        on_F = system.F_tangent(q, U, V)
        return on_F[:, 0], system.g_tangent(q, U[:, :1], V[:, :1])[:, 0], jnp.ravel(on_F[:, 1:])

    return jax.lax.map(derivatives, jnp.array([0.0, 1.0, -1.0, 2.0 / NEARBY, -2.0 / NEARBY], dtype=p.x.dtype))


def _extrapolated(near: _Found, far: _Found) -> _Found:
    """The value at t = 0 of what is linear in t, from those at t and RATIO t."""
    u, y = (a + (a - b) / (RATIO - 1.0) for a, b in ((near.u, far.u), (near.y, far.y)))
    return _Found(u, y)


def _norm(a: Matrix) -> float:
    return float(jnp.linalg.norm(a))
