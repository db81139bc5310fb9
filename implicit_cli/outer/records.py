"""What the outer loop is given and what it leaves behind: plain records of NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from implicit_cli.status import Status

FloatArray = NDArray[np.float64]

USABLE = (Status.OK, Status.PARTIAL, Status.ACCURACY_NOT_MET, Status.PRECISION_LOST)
"""Statuses of a case whose objective and gradient can be used: what is wrong with them is within the bound.

Near an optimum the last two are the rule: a gradient close to zero has few digits left.
"""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The objective at one lambda (n,), by one inner solve.

    `gradient` (n,) is that with respect to lambda, `bound` bounds its error in the 2-norm; all are NaN where the solve failed.
    `status` and `message` are those of the case, `residual` its max |F|, and `accuracy` is what was asked of its gradient: the next
    evaluation starts there. `validation` is NaN where there is none.
    """

    point: FloatArray
    objective: float
    gradient: FloatArray
    bound: float
    status: Status
    message: str
    residual: float
    accuracy: float
    validation: float
    seconds: float

    @property
    def good(self) -> bool:
        """Whether objective and gradient can be used."""
        finite = np.isfinite(self.objective) and np.isfinite(self.gradient).all() and np.isfinite(self.bound)
        return self.status in USABLE and bool(finite)


class Trial(NamedTuple):
    """An evaluation and the solution (d,) behind it."""

    evaluation: Evaluation
    x: FloatArray


@dataclass(frozen=True)
class Settings:
    """How to optimise: `sign` is -1 to maximise; `low` and `high` (n,) are inclusive bounds on lambda, infinite for none.

    step, decay, momentum   of adam and gradient_descent, see `methods`
    patience                steps without a better validation after which to stop; None: never
    """

    method: str
    start: FloatArray
    low: FloatArray
    high: FloatArray
    max_steps: int
    tol: float
    sign: float = 1.0
    step: float = 0.1
    decay: float = 0.0
    momentum: float = 0.0
    patience: int | None = None


class Progress(NamedTuple):
    """A step that was taken: its number (0 is the start), its evaluation, the projected gradient, and evaluations so far."""

    step: int
    evaluation: Evaluation
    gradient_norm: float
    evaluations: int


@dataclass(frozen=True)
class Stored:
    """All that is needed to go on: evaluations in order, and the solutions that may serve again, by the evaluation's index."""

    evaluations: tuple[Evaluation, ...] = ()
    solutions: Mapping[int, FloatArray] | None = None


@dataclass(frozen=True)
class Outcome:
    """How it ended: `reason` in words, the evaluations, which of them are steps, and which of these is the result.

    `solution` (d,) is that of the result; None where nothing was solved.
    """

    reason: str
    converged: bool
    evaluations: tuple[Evaluation, ...]
    steps: tuple[int, ...]
    result: int
    solution: FloatArray | None
    settings: Settings

    @property
    def best(self) -> Evaluation:
        """The evaluation that is the result."""
        return self.evaluations[self.result]

    def gradient_norms(self) -> FloatArray:
        """2-norm of the projected gradient of each evaluation; NaN where it failed."""
        return np.array([projected(one, self.settings) for one in self.evaluations])


def projected(evaluation: Evaluation, settings: Settings) -> float:
    """2-norm of P(lambda - g) - lambda, with P the projection on the bounds and g the gradient of what is minimised.

    It is zero where no feasible direction goes down, and moves no more than g does: a bound on the error of g is one on its own.
    """
    moved = np.clip(evaluation.point - settings.sign * evaluation.gradient, settings.low, settings.high)
    return float(np.linalg.norm(moved - evaluation.point))
