"""A branch of solutions of F(x, lambda) = 0, lambda one number, followed by its arclength, so that it may turn back: at a fold.

With z = (x, lambda), A = dF/dx and b = dF/dlambda, the tangent t of the branch has A t_x + b t_lambda = 0. A step of length h goes
to z_before + h t, and from there back to the branch in the plane across t, by Newton's method for

    F(z) = 0,     t' (z - z_before) = h

(`bordered`). At a fold t_lambda = 0; it is found, as is the passage of a level, as the root of a function of h between two steps.
At a corner, where another A and b begin, as where a contact opens, the tangent jumps, perhaps by more than a right angle: which
of its two directions leads on is told by the sign of det [A b; t'], which is the same all along the branch.

Lengths are those of (x / X, lambda / L), with L the range of the levels and X how far x goes meanwhile by the first tangent, so
that neither outweighs the other.

Sources: Keller, "Numerical solution of bifurcation and nonlinear eigenvalue problems", 1977; Allgower and Georg, "Introduction to
Numerical Continuation Methods", 2003: chapters 2, 6 and 9, and 13 for corners.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from implicit_cli.engine.bordered import Curve, FloatArray, Line, Lost
from implicit_cli.engine.vectors import Vectors

FIRST, SHORTEST, LONGEST = 0.01, 1e-9, 0.05
"""Length of the first step and of the shortest, where the range of the levels is 1; and how far lambda goes in one, at most."""
ITERATIONS, EASY, SETTLED = 10, 3, 1e-3
"""Newton steps that a step may take to its tolerance; so many or fewer let the next one be longer; and how far the last one may go,
as part of the step, where it makes F no smaller: what has arrived does not move."""
TURN = 0.95
"""Cosine of the angle by which a step may turn the tangent."""
REACH = 0.25
"""How far Newton's method may lead from the prediction, as part of the step: further off is another branch, perhaps."""
CORNER, BEYOND, AFTER = 1e-6, 2.0, 10.0
"""Where steps must be shorter than this the branch may have a corner; the tangent after it is looked for so many steps further on,
and a step along it is as many times longer."""
RETRACED = 1e-3
"""Sine of the angle with the way that has been come, below which a turn at a corner leads back on it: that is no way onward."""
AGAIN = 1e-5
"""How near a fold is to one that was passed before, where it is the same: a branch passes none twice, unless it went astray."""
CLOSE = 1e-6
"""The branch is at its beginning again where it comes as near to it, in units of the range."""
AT_LEVEL, AT_FOLD = 1e-7, 1e-15
"""How exactly the length to a level is found, as part of the step, and that to a fold; at a level F is solved once more."""
STEPS = 1000
"""Steps without a case after which the branch is given up: it may go on for ever between two levels."""
LEAST = 1e-3
"""Least X, relative to x."""


class Passed(NamedTuple):
    """A point that the branch passes: a `level` by its number, a `fold`, or the `end`, then with the reason.

    A fold may be a `corner`, a kink of F, where dF/dx need not be singular.
    """

    kind: str
    x: FloatArray
    value: float
    level: int = -1
    reason: str = ""
    corner: bool = False


class State(NamedTuple):
    """All that the way onward depends on, as arrays: a point of the branch, its tangent, the length of the next step.

    z and t (d + 1,) are scaled; `first` and `outset` are those at the beginning. `scale` are X and L. `crossed` (levels,) counts
    how often each level was passed, `folds` (k, d + 1) are the folds; `idle` counts steps since the last case, `cases` them all.
    """

    z: FloatArray
    t: FloatArray
    h: Any
    first: FloatArray
    outset: FloatArray
    scale: FloatArray
    crossed: NDArray[np.int64]
    folds: FloatArray
    idle: Any
    cases: Any


class Along(NamedTuple):
    """A point of the branch z, its tangent t of length 1, and the Newton steps that led there; scaled."""

    z: FloatArray
    t: FloatArray
    steps: int = 0


class Branch:
    """The branch through the problem's solutions; `levels` are values of lambda, of which the first is where it begins."""

    def __init__(self, vectors: Vectors, line: Line, levels: FloatArray, tol: float) -> None:
        self.curve, self.levels, self.tol = Curve(vectors, line), levels, tol
        self._low, self._high = float(levels.min()), float(levels.max())

    def begin(self, x: FloatArray) -> State:
        """The beginning, at a solution x of the first level, towards the second. Raises Lost where dF/dx is singular there."""
        first = float(self.levels[0])
        L = 2.0 ** np.ceil(np.log2(self._high - self._low))  # a power of two, by which levels are scaled exactly
        # with lambda itself as the length: t_lambda = 1
        J = self.curve.bordered(np.append(x, first), np.append(np.zeros(x.size), 1.0), np.ones(2)).kernel()[:-1]
        X = max(float(np.linalg.norm(J)) * L, LEAST * float(np.linalg.norm(x))) or 1.0
        t = np.append(J * L / X, 1.0) * np.sign(self.levels[1] - first)
        t /= np.linalg.norm(t)
        z = np.append(x / X, first / L)
        crossed = np.zeros(self.levels.size, dtype=np.int64)
        crossed[0] = 1
        return State(z, t, FIRST, z, t, np.array([X, L]), crossed, np.zeros((0, z.size)), 0, 1)

    def advance(self, state: State) -> tuple[list[Passed], State]:
        """One step, as long as it may be: the points that it passes, in order, and the state after it.

        The last of the points is the end, where the branch ends on this step.
        """
        h = float(state.h)
        while True:
            if h < SHORTEST:
                return [self._end(state.z, state, f"steps became shorter than {SHORTEST:g} of the range")], state
            try:
                step, corner = self._around(state, h) if h < CORNER else self._straight(state, h)
                passed, crossed = self._passed(step)
                break
            except Lost:
                h /= 2
        there, h, passed = step.there, step.h, [*corner, *passed]
        passed, folds = self._turned(state, passed)
        idle = 0 if passed else state.idle + 1
        if idle > STEPS:
            passed = [self._end(there.z, state, f"{STEPS} steps led to no level and no fold")]
        easy = there.steps <= EASY and step.state.t @ there.t > (1 + TURN) / 2
        onward = min(2 * h if easy else h, LONGEST / max(abs(there.t[-1]), SHORTEST))
        return passed, state._replace(
            z=there.z, t=there.t, h=onward, crossed=crossed, folds=folds, idle=idle, cases=state.cases + len(passed)
        )

    def _turned(self, state: State, passed: list[Passed]) -> tuple[list[Passed], FloatArray]:
        """What is passed, up to a fold that was passed before, and all folds so far, scaled."""
        folds = state.folds
        for number, one in enumerate(passed):
            if one.kind == "fold":
                fold = np.append(one.x / state.scale[0], one.value / state.scale[1])
                if (np.linalg.norm(folds - fold, axis=1) <= AGAIN).any():
                    reason = "it leads back on its own way, to a fold that it has passed"
                    return [*passed[:number], self._end(state.z, state, reason)], folds
                folds = np.concatenate([folds, fold[None]])
        return passed, folds

    def _straight(self, state: State, h: float) -> tuple[_Step, list[Passed]]:
        return _Step(self, state, h), []

    def _around(self, state: State, h: float) -> tuple[_Step, list[Passed]]:
        """A step from just before a corner to beyond it, and the fold, where the branch turns back there.

        Where more than one contact opens or closes at once, the sign may tell nothing: then it leads back, and counts as no step.
        """
        places = (state.z + far * h * state.t for far in (0.0, BEYOND))
        before, beyond = (self.curve.bordered(z, state.t, state.scale) for z in places)
        onward = before.sign * beyond.sign * beyond.tangent()
        step = _Step(self, state._replace(t=onward), AFTER * h)
        way = step.there.z - state.z
        if way @ state.t < 0 and np.linalg.norm(way - (way @ state.t) * state.t) <= RETRACED * np.linalg.norm(way):
            raise Lost
        if state.t[-1] * onward[-1] >= 0:
            return step, []
        # where the two tangents meet
        lengths, *_ = np.linalg.lstsq(np.stack([state.t, step.there.t], axis=1), step.there.z - state.z)
        return step, [Passed("fold", *self._split(state.z + lengths[0] * state.t, state), corner=True)]

    def _passed(self, step: _Step) -> tuple[list[Passed], NDArray[np.int64]]:
        """What a step passes, in order, and how often each level has been passed then."""
        state, crossed = step.state, step.state.crossed.copy()
        found: list[tuple[float, Passed]] = []
        cuts = [0.0, step.h]
        if state.t[-1] * step.there.t[-1] < 0:
            fold = step.root(lambda at: float(at.t[-1]), 0.0, step.h, AT_FOLD)
            cuts.insert(1, fold)
            found.append((fold, Passed("fold", *self._split(step.at(fold).z, state))))
        for begin, end in pairwise(cuts):
            a, b = (self._value(step.at(h).z, state) for h in (begin, end))
            inside = np.flatnonzero((self.levels > a) & (self.levels <= b) if a < b else (self.levels < a) & (self.levels >= b))
            for level in inside[np.argsort(np.abs(self.levels[inside] - a))]:
                value = float(self.levels[level])
                where = step.root(partial(self._beyond, value, state), begin, end, AT_LEVEL)
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

        def far(at: Along) -> float:
            return float((at.z - first) @ outset)

        before, after = far(step.at(0.0)), far(step.there)
        if not before < 0 <= after or np.linalg.norm(step.there.z - first) > 2 * step.h:
            return None
        where = step.root(far, 0.0, step.h, AT_LEVEL)
        return where if np.linalg.norm(step.at(where).z - first) <= CLOSE else None

    def corrected(self, guess: FloatArray, across: FloatArray, reach: float, state: State) -> Along:
        """The point of the branch in the plane through the guess across a direction, to rounding, and its tangent.

        Raises Lost where Newton's method does not lead there, or leads further than `reach`.
        """
        z, steps = guess, 0
        here = self.curve.bordered(z, across, state.scale)
        for _ in range(ITERATIONS):
            onward = z + here.newton(float(across @ (guess - z)))
            if not np.linalg.norm(onward - guess) <= reach:
                break
            after = self.curve.bordered(onward, across, state.scale)
            if here.size <= self.tol and not after.size < here.size / 2:
                if np.linalg.norm(onward - z) > SETTLED * reach:
                    break
                return Along(z, here.tangent(), steps)
            steps += here.size > self.tol
            z, here = onward, after
        raise Lost

    def _split(self, z: FloatArray, state: State) -> tuple[FloatArray, float]:
        return z[:-1] * state.scale[0], self._value(z, state)

    def _beyond(self, level: float, state: State, at: Along) -> float:
        return self._value(at.z, state) - level

    def _value(self, z: FloatArray, state: State) -> float:
        return float(z[-1] * state.scale[1])

    def _end(self, z: FloatArray, state: State, reason: str) -> Passed:
        return Passed("end", *self._split(z, state), reason=reason)


class _Step:
    """The branch between two of its points: `at(h)` is the one as far along the tangent of the first, found when asked for."""

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
