"""Differences of solutions, and what else a ladder of them shows: Taylor remainders, kinks, another branch.

    remainder, first order     |y(theta + h v) - y(theta) - h J v|                       falls like h^2 where J is right
    remainder, second order    |y(theta + h v) - y(theta) - h D v - h^2/2 D2[v, v]|      falls like h^3
    kink                       |y(theta + h v) - 2 y(theta) + y(theta - h v)|            falls like h, not like h^2

D is the witness's own first derivative. A rung of the ladder counts where what is looked at stands clear of the solutions' noise
and of what the bound on J allows for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from implicit_cli.engine.methods.base import Columns
from implicit_cli.engine.methods.finite_difference import FiniteDifference, Ladder, Solve
from implicit_cli.engine.site import FloatArray, Site
from implicit_cli.engine.verification.trials import Trial
from implicit_cli.status import Status

CLEAR = 10.0
"""A rung counts where what is looked at is this many times what noise and the bound explain."""
RUNGS = 3
"""So many rungs, the smallest that count, make a slope."""
JUMP = 100.0
"""Changes of this many times the noise that do not fall with h are those of another branch."""


SLIP = 1e-6
"""A move along the null space that is a larger part than this of the whole matters to second derivatives."""


class Sight(NamedTuple):
    """What the witness found along one direction, for what a trial looks at: its value (r,), its error, and whether it is one.

    `kink` is by how much one-sided derivatives differ (0 without a kink), `branch` is True where solutions nearby do not approach
    the one at hand, `slips` where they have moved along the null space, `reach` the shortest distance in x over which it looked.
    """

    value: FloatArray
    error: float
    solved: bool
    slope: float
    kink: float
    branch: bool
    slips: bool
    reach: float


class Witness:
    """Solves again along directions, each ladder once."""

    def __init__(self, site: Site, solve: Solve) -> None:
        self.site = site
        self.differences = FiniteDifference(site, solve)
        self._found: dict[tuple[int, bytes], Columns] = {}

    def prepare(self, v: FloatArray) -> None:
        """Solve along v."""
        self.differences.ladder(v)

    def look(self, trial: Trial) -> Sight:
        """What solving again says of a trial."""
        found = [(weight, self._derivative(trial.order, v)) for weight, v in trial.terms]
        value = sum((weight * trial.seen.of(one.value[:, 0]) for weight, one in found), np.zeros(trial.value.shape))
        error = sum(abs(weight) * trial.seen.error(one.truncation[:, 0], one.rounding[:, 0]) for weight, one in found)
        solved = all(one.worst == Status.OK for _, one in found)
        ladders = [self.differences.ladder(v) for _, v in trial.terms]
        if not solved:
            return Sight(value, float("nan"), False, float("nan"), 0.0, False, False, float("nan"))
        single = len(ladders) == 1
        return Sight(
            value,
            error + trial.rounding,
            solved,
            self._slope(trial, ladders[0]) if single else float("nan"),
            max(self._kink(trial, ladder) for ladder in ladders),
            any(self._branch(trial, ladder) for ladder in ladders),
            any(self._slips(ladder) for ladder in ladders),
            min(self._reach(ladder) for ladder in ladders),
        )

    def moved(self) -> tuple[FloatArray, float] | None:
        """By how much x (d,) moves when it is solved for again at its own parameters, and the error of that; None if that fails."""
        base, status = self.differences.base
        if status is not Status.OK:
            return None
        left = np.asarray(self.site.A.solve(self.site.vectors.system.F(base.x, base.theta, base.data)[:, None]).value)
        noise = float(np.linalg.norm(left)) + 2 * float(np.finfo(float).eps) * float(np.linalg.norm(np.asarray(base.x)))
        return np.asarray(base.x - self.site.p.x), noise

    def _derivative(self, order: int, v: FloatArray) -> Columns:
        key = (order, v.tobytes())
        if key not in self._found:
            make = self.differences.columns if order == 1 else self.differences.seconds
            self._found[key] = make(v[:, None])
        return self._found[key]

    # What a ladder shows

    def _slope(self, trial: Trial, ladder: Ladder) -> float:
        """Exponent with which the Taylor remainder falls; NaN where too few rungs count."""
        h, noise = ladder.h, self._noise(trial, ladder)
        plus, minus = trial.seen.of(ladder.plus), trial.seen.of(ladder.minus)
        allowed = np.nan_to_num(trial.bound) * h
        if trial.order == 1:
            first = h[:, None] * trial.value
            ends = plus - first, minus + first
        else:
            D = self._derivative(1, trial.terms[0][1])
            first, second = h[:, None] * trial.seen.of(D.value[:, 0]), h[:, None] ** 2 / 2 * trial.value
            allowed = trial.seen.error(D.truncation[:, 0], D.rounding[:, 0]) * h + allowed * h / 2
            ends = plus - first - second, minus + first - second
        remainder = np.hypot(*(np.linalg.norm(end, axis=1) for end in ends))
        clear = remainder > CLEAR * (noise + allowed)
        return _exponent(h[clear][-RUNGS:], remainder[clear][-RUNGS:])

    def _kink(self, trial: Trial, ladder: Ladder) -> float:
        """By how much one-sided derivatives differ where the smallest rungs show a kink, else 0."""
        bend = np.linalg.norm(trial.seen.of(ladder.plus + ladder.minus), axis=1)
        last = slice(-RUNGS, None)
        if len(bend) < RUNGS or not (bend[last] > CLEAR * 2 * self._noise(trial, ladder)).all():
            return 0.0
        slope = _exponent(ladder.h[last], bend[last])
        return float(bend[-1] / ladder.h[-1]) if 0.5 < slope < 1.5 else 0.0

    def _branch(self, trial: Trial, ladder: Ladder) -> bool:
        """Whether the smallest changes hardly fall with h."""
        change = np.maximum(*(np.linalg.norm(trial.seen.of(end), axis=1) for end in (ladder.plus, ladder.minus)))[-RUNGS:]
        if len(change) < RUNGS or not (change > JUMP * self._noise(trial, ladder)).all():
            return False
        return _exponent(ladder.h[-RUNGS:], change) < 0.5

    def _slips(self, ladder: Ladder) -> bool:
        """Whether x moved along the null space too: its first derivative has no such part, its second depends on it."""
        changes = np.linalg.norm(ladder.plus[:, : self.site.vectors.x.size], axis=1)
        return bool((ladder.slip > SLIP * changes).any())

    def _reach(self, ladder: Ladder) -> float:
        """The shortest distance in x over which the ladder looks."""
        d = self.site.vectors.x.size
        plus, minus = (np.linalg.norm(ends[:, :d], axis=1) for ends in (ladder.plus, ladder.minus))
        return float(np.maximum(plus, minus).min(initial=np.inf))

    def _noise(self, trial: Trial, ladder: Ladder) -> float:
        return trial.seen.error(ladder.noise)


def _exponent(h: FloatArray, size: FloatArray) -> float:
    """Slope of log size over log h by least squares; NaN for too few rungs."""
    if len(h) < RUNGS:
        return float("nan")
    return float(np.polyfit(np.log(h), np.log(size), 1)[0])
