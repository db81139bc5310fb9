"""A branch of solutions of F(x, lambda) = 0, lambda one number, followed by its arclength, so that it may turn back: at a fold.

With z = (x, lambda), A = dF/dx and b = dF/dlambda, the tangent t of the branch has A t_x + b t_lambda = 0. A step of length h goes
to z + h t and from there back to the branch in the plane across it, by Newton's method with the *bordered* matrix

    [ A    b         N ]        F(x, lambda) = 0,     t' (z - z_before) = h,
    [ t_x' t_lambda  0 ]
    [ N'   0         0 ]

which is regular on the whole branch, at a fold too, where A is singular and b outside of its range. N (d, g) are gauges, symmetries
along which F does not change: no step goes along them. At a fold t_lambda = 0; it is found, as is the passage of a level, as the
root of a function of h between two steps.

Lengths are those of (x / X, lambda / L) with L the range of the levels and X how far x goes meanwhile, by the first tangent, so that
neither outweighs the other.

Sources: Keller, "Numerical solution of bifurcation and nonlinear eigenvalue problems", 1977; Allgower and Georg, "Introduction to
Numerical Continuation Methods", 2003, chapters 2, 6 and 9.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lu_factor, lu_solve
from scipy.optimize import brentq
from scipy.sparse import block_array, csc_array, diags_array
from scipy.sparse.linalg import splu

from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import assembly
from implicit_cli.core.linear.policy import DENSE_SMALL
from implicit_cli.core.solvers import compiled_residual
from implicit_cli.core.transforms import TRANSFORMS
from implicit_cli.engine.linearise import gauges, operator_at
from implicit_cli.engine.vectors import Vectors

FloatArray = NDArray[np.float64]
FIRST, LONGEST, SHORTEST = 0.01, 0.05, 1e-9
"""Lengths of steps, where the range of the levels is 1."""
ITERATIONS, EASY = 10, 3
"""Newton steps that a step may take to its tolerance; and so many or fewer let the next one be longer."""
TURN = 0.95
"""Cosine of the angle by which a step may turn the tangent."""
REACH = 0.5
"""How far Newton's method may lead from the prediction, as part of the step: further off is another branch, perhaps."""
CLOSE = 1e-6
"""The branch is at its beginning again where it comes as near to it, in units of the range."""
AT_LEVEL, AT_FOLD = 1e-7, 1e-15
"""How exactly the length to a level is found, as part of the step, and that to a fold: at the level itself F is solved once more."""
STEPS = 1000
"""Steps without a case after which the branch is given up: it may go on for ever between two levels."""
LEAST = 1e-3
"""Least X, relative to x."""
STIFFNESS = 1e-8
"""Stiffness, relative to A, that keeps what the problem calls loose from going astray."""
ANNULLED = 1e-6
"""A gauge counts where A makes no more of it than this, relative to A."""
MISSED = 1e-6
"""Relative residual beyond which a bordered system counts as singular."""


class Lost(ArithmeticError):
    """A step did not lead back to the branch: a shorter one may."""


class Passed(NamedTuple):
    """A point that the branch passes: a `level` by its number, a `fold`, or the `end`, then with the reason."""

    kind: str
    x: FloatArray
    value: float
    level: int = -1
    reason: str = ""


class State(NamedTuple):
    """All that the way onward depends on, as arrays: a point of the branch, its tangent, the length of the next step.

    z and t (d + 1,) are scaled; `first` and `outset` are those at the beginning. `scale` are X and L. `crossed` (levels,) counts how
    often each level was passed, `folds` the folds, `idle` the steps since the last case, `cases` the cases.
    """

    z: FloatArray
    t: FloatArray
    h: Any
    first: FloatArray
    outset: FloatArray
    scale: FloatArray
    crossed: NDArray[np.int64]
    folds: Any
    idle: Any
    cases: Any


class Along(NamedTuple):
    """A point of the branch z, its tangent t of length 1, and the Newton steps that led there; scaled."""

    z: FloatArray
    t: FloatArray
    steps: int = 0


class Line:
    """lambda: the number that some entries of a parameter are, as it is differentiated."""

    def __init__(self, vectors: Vectors, name: str, index: tuple[int, ...]) -> None:
        self.name, self.transform = name, TRANSFORMS[vectors.bound.variables[name].transform]
        self._chosen = np.zeros(vectors.bound.shapes[name], dtype=bool)
        self._chosen[index] = True
        where = vectors.theta.slices.get(name)
        self._entries = None if where is None else where.start + np.flatnonzero(self._chosen)

    def at(self, p: Point, value: Any) -> Point:
        """p at another lambda."""
        if self._entries is not None:
            return p._replace(theta=p.theta.at[self._entries].set(value))
        data, still = p.data  # nobody asks for derivatives with respect to it
        moved = jnp.where(self._chosen, self.transform.to_theta(jnp.asarray(value)), still[self.name])
        return p._replace(data=(data, {**still, self.name: moved}))


class Branch:
    """The branch through the problem's solutions; `levels` are values of lambda, of which the first is where it begins."""

    def __init__(self, vectors: Vectors, line: Line, levels: FloatArray, tol: float) -> None:
        self.vectors, self.line, self.levels, self.tol = vectors, line, levels, tol
        self._low, self._high = float(levels.min()), float(levels.max())
        self._p = Point(jnp.zeros(vectors.x.size), vectors.start, vectors.data)
        self._gauges: tuple[str, ...] | None = None
        stale = vectors.goal.stale
        self._stale = None if stale is None else jax.jit(stale)

        def slope(p: Point, value: jax.Array) -> jax.Array:
            def F(value: jax.Array) -> jax.Array:
                q = line.at(p, value)
                return vectors.system.F(q.x, q.theta, q.data)

            return jax.jvp(F, (value,), (jnp.ones_like(value),))[1]

        self._slope = jax.jit(slope)

    def begin(self, x: FloatArray) -> State:
        """The beginning, at a solution x of the first level, towards the second. Raises Lost where dF/dx is singular there."""
        first = float(self.levels[0])
        L = 2.0 ** np.ceil(np.log2(self._high - self._low))  # a power of two, by which levels are scaled exactly
        # with lambda itself as the length: t_lambda = 1
        here = self._bordered(np.append(x, first), np.append(np.zeros(x.size), 1.0), np.ones(2))
        J = here.solution()[:-1]
        X = max(float(np.linalg.norm(J)) * L, LEAST * float(np.linalg.norm(x))) or 1.0
        t = np.append(J * L / X, 1.0) * np.sign(self.levels[1] - first)
        t /= np.linalg.norm(t)
        z = np.append(x / X, first / L)
        crossed = np.zeros(self.levels.size, dtype=np.int64)
        crossed[0] = 1
        return State(z, t, FIRST, z, t, np.array([X, L]), crossed, 0, 0, 1)

    def advance(self, state: State) -> tuple[list[Passed], State]:
        """One step, as long as it may be: the points that it passes, in order, and the state after it.

        The last of the points is the end, where the branch ends on this step.
        """
        h = float(state.h)
        while True:
            if h < SHORTEST:
                return [self._end(state.z, state, f"steps became shorter than {SHORTEST:g} of the range")], state
            try:
                step = _Step(self, state, h)
                passed, crossed = self._passed(step)
                break
            except Lost:
                h /= 2
        there, folds = step.there, state.folds + sum(one.kind == "fold" for one in passed)
        idle = 0 if passed else state.idle + 1
        if idle > STEPS:
            passed = [self._end(there.z, state, f"{STEPS} steps led to no level and no fold")]
        easy = there.steps <= EASY and state.t @ there.t > (1 + TURN) / 2
        onward = min(2 * h if easy else h, LONGEST)
        return passed, state._replace(
            z=there.z, t=there.t, h=onward, crossed=crossed, folds=folds, idle=idle, cases=state.cases + len(passed)
        )

    def _passed(self, step: _Step) -> tuple[list[Passed], NDArray[np.int64]]:
        """What a step passes, in order, and how often each level has been passed then."""
        state, crossed = step.state, step.state.crossed.copy()
        found: list[tuple[float, Passed]] = []
        cuts = [0.0, step.h]
        if state.t[-1] * step.there.t[-1] < 0:
            fold = step.root(lambda at: at.t[-1], 0.0, step.h, AT_FOLD)
            cuts.insert(1, fold)
            found.append((fold, Passed("fold", *self._split(step.at(fold).z, state))))
        for begin, end in pairwise(cuts):
            a, b = (self._value(step.at(h).z, state) for h in (begin, end))
            inside = np.flatnonzero((self.levels > a) & (self.levels <= b) if a < b else (self.levels < a) & (self.levels >= b))
            for level in inside[np.argsort(np.abs(self.levels[inside] - a))]:
                value = float(self.levels[level])
                where = step.root(lambda at, value=value: self._value(at.z, state) - value, begin, end, AT_LEVEL)
                x, _ = self._split(step.at(where).z, state)
                found.append((where, Passed("level", x, value, int(level))))
        closed = self._closed(step)
        passed: list[Passed] = []
        for where, one in sorted(found, key=lambda each: each[0]):
            if closed is not None and where > closed - CLOSE:
                break
            if one.kind == "level":
                crossed[one.level] += 1
                if one.value in (self._low, self._high):
                    return [*passed, one._replace(kind="end", reason="it leaves the range of the levels")], crossed
            passed.append(one)
        if closed is not None:
            passed.append(self._end(state.first, state, "it is at its beginning again"))
        return passed, crossed

    def _closed(self, step: _Step) -> float | None:
        """How far along the step the branch is where it began; None where it does not come there."""
        first, outset = step.state.first, step.state.outset
        before, after = ((z - first) @ outset for z in (step.state.z, step.there.z))
        if not before < 0 <= after or np.linalg.norm(step.there.z - first) > 2 * step.h:
            return None
        where = step.root(lambda at: (at.z - first) @ outset, 0.0, step.h, AT_LEVEL)
        return where if np.linalg.norm(step.at(where).z - first) <= CLOSE else None

    def corrected(self, guess: FloatArray, across: FloatArray, reach: float, state: State) -> Along:
        """The point of the branch in the plane through the guess across a direction, to rounding, and its tangent.

        Raises Lost where Newton's method does not lead there, or leads further than `reach`.
        """
        z, steps = guess, 0
        here = self._bordered(z, across, state.scale)
        for _ in range(ITERATIONS):
            onward = z + here.newton(across @ (guess - z))
            if not np.linalg.norm(onward - guess) <= reach:
                break
            after = self._bordered(onward, across, state.scale)
            if here.size <= self.tol and not after.size < here.size / 2:
                return Along(z, here.tangent(), steps)
            steps += here.size > self.tol
            z, here = onward, after
        raise Lost

    def _bordered(self, z: FloatArray, across: FloatArray, scale: FloatArray) -> _Bordered:
        """The bordered matrix at z. Raises Lost where F, or a derivative of it, is not finite there."""
        if not np.isfinite(z).all():
            raise Lost
        q = self._at(z, scale)
        operator = operator_at(self.vectors, q)
        is_sparse = operator.pattern is not None and operator.d > DENSE_SMALL
        A = assembly.sparse(operator) if is_sparse else np.asarray(assembly.dense(operator))
        b = np.asarray(self._slope(q, jnp.asarray(z[-1] * scale[1])))
        F, size = self.vectors.system.F(q.x, q.theta, q.data), float(compiled_residual(self.vectors.goal)(q))
        if not (np.isfinite(size) and np.isfinite(abs(A).max()) and np.isfinite(b).all()):
            raise Lost
        N = self._null(q, A)
        if operator.loose is not None and operator.loose.any():
            held = STIFFNESS * abs(A).max() * operator.loose
            A = A + (diags_array(held) if is_sparse else np.diag(held))
        return _Bordered(A, b, N, np.asarray(F), size, across, scale)

    def _at(self, z: FloatArray, scale: FloatArray) -> Point:
        """The point of a scaled z, with what the problem derives from x."""
        q = self.line.at(self._p._replace(x=jnp.asarray(z[:-1] * scale[0])), jnp.asarray(z[-1] * scale[1]))
        if self._gauges is None or (self._stale is not None and bool(self._stale(q.x, q.theta, q.data))):
            q = self.vectors.refreshed(q)
            self._p = self._p._replace(data=q.data)
        return q

    def _null(self, q: Point, A: Any) -> FloatArray:
        """Orthonormal gauges (d, g), of those that A annuls where the branch begins or goes on."""
        found = {name: np.asarray(g) for name, g in gauges(self.vectors, q).items()}
        if self._gauges is None:
            least = ANNULLED * abs(A).max()
            self._gauges = tuple(name for name, g in found.items() if np.linalg.norm(A @ g) <= least * np.linalg.norm(g))
        if not self._gauges:
            return np.zeros((q.x.size, 0))
        return np.linalg.qr(np.stack([found[name] for name in self._gauges], axis=1))[0]

    def _split(self, z: FloatArray, state: State) -> tuple[FloatArray, float]:
        return z[:-1] * state.scale[0], self._value(z, state)

    def _value(self, z: FloatArray, state: State) -> float:
        return float(z[-1] * state.scale[1])

    def _end(self, z: FloatArray, state: State, reason: str) -> Passed:
        return Passed("end", *self._split(z, state), reason=reason)


class _Step:
    """The branch between two of its points: `at(h)` is the one as far along the tangent of the first, found when it is asked for."""

    def __init__(self, branch: Branch, state: State, h: float) -> None:
        self.branch, self.state, self.h = branch, state, h
        self._known = {0.0: Along(state.z, state.t)}
        self.there = self._known[h] = branch.corrected(state.z + h * state.t, state.t, REACH * h, state)
        if state.t @ self.there.t < TURN:
            raise Lost

    def at(self, h: float) -> Along:
        """Where t' (z - z_before) = h."""
        if h not in self._known:
            z, t, end = self.state.z, self.state.t, self.there
            u = h / self.h
            # the cubic with the tangents of both ends
            guess = z + h * t + u * u * (3 - 2 * u) * (end.z - z - self.h * t)
            guess = guess + h * u * (u - 1) * (end.t / (end.t @ t) - t)
            self._known[h] = self.branch.corrected(guess, t, REACH * self.h, self.state)
        return self._known[h]

    def root(self, f: Callable[[Along], float], begin: float, end: float, precision: float) -> float:
        """h between two lengths at which f has different signs, where it is zero; the point there is then known."""
        if f(self.at(end)) == 0.0:
            return end
        where = float(brentq(lambda h: f(self.at(float(h))), begin, end, xtol=precision * self.h, rtol=4 * np.finfo(float).eps))
        self.at(where)
        return where


class _Bordered:
    """The bordered matrix at a point, factorised, in scaled unknowns; `size` is the residual there."""

    def __init__(self, A: Any, b: FloatArray, N: FloatArray, F: FloatArray, size: float, across: FloatArray, scale: FloatArray):
        self.size, self._d, self._g = size, b.size, N.shape[1]
        X, L = scale
        unit = max(float(abs(A).max()) * X, float(np.abs(b).max(initial=0.0)) * L) or 1.0
        self._F = F / unit
        row, column, none = across[None, :-1], (b * L / unit)[:, None], None
        if isinstance(A, csc_array):
            corner = np.array([[across[-1]]])
            parts = [[A * (X / unit), csc_array(column), csc_array(N)], [csc_array(row), csc_array(corner), none]]
            self._M: Any = csc_array(block_array([*parts, [csc_array(N.T), none, none]] if self._g else [p[:2] for p in parts]))
            try:
                factor = splu(self._M)
            except RuntimeError:  # exactly singular
                raise Lost from None
            self._solve: Callable[[FloatArray], FloatArray] = factor.solve
        else:
            M = np.zeros((b.size + 1 + self._g,) * 2)
            M[: b.size, : b.size], M[: b.size, b.size : b.size + 1], M[: b.size, b.size + 1 :] = A * (X / unit), column, N
            M[b.size, : b.size + 1], M[b.size + 1 :, : b.size] = across, N.T
            with np.errstate(all="ignore"):
                factors = lu_factor(M, check_finite=False)
            self._M, self._solve = M, lambda r: lu_solve(factors, r, check_finite=False)

    def newton(self, forward: float) -> FloatArray:
        """The step to F = 0, so far along the direction across which it goes."""
        return self._solved(np.concatenate([-self._F, [forward], np.zeros(self._g)]))

    def tangent(self) -> FloatArray:
        """The tangent, of length 1, along the direction that the matrix is bordered with."""
        t = self.solution()
        return t / np.linalg.norm(t)

    def solution(self) -> FloatArray:
        """The tangent whose product with that direction is 1."""
        return self._solved(np.append(np.zeros(self._d), [1.0, *np.zeros(self._g)]))

    def _solved(self, r: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            u = self._solve(r)
            u = u + self._solve(r - self._M @ u)
            missed = np.linalg.norm(r - self._M @ u)
        if not missed <= MISSED * np.linalg.norm(r):  # NaN too
            raise Lost
        return np.asarray(u[: self._d + 1])
