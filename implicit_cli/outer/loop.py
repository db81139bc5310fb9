"""The loop around every method: evaluations in order, steps, and when to stop.

A method is a deterministic function of the evaluations that it asks for. So the evaluations are all of its state: a run goes on by
answering the method from the record until that is used up, which brings it to where it was, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from implicit_cli.outer.records import Evaluation, FloatArray, Outcome, Progress, Settings, Stored, Trial, projected

SAME = 1e-14
"""Points that differ by less, relative to their size, are one."""


def same(a: FloatArray, b: FloatArray) -> bool:
    """Whether two points are one, up to rounding: another machine may round otherwise where a run goes on."""
    return bool(np.linalg.norm(a - b) <= SAME * (1.0 + np.linalg.norm(b)))


class Evaluate(Protocol):
    """One evaluation at a point (n,), from the solution (d,) and the evaluation of the last step where there are such."""

    def __call__(self, point: FloatArray, x: FloatArray | None, before: Evaluation | None) -> Trial: ...


class Diverged(Exception):
    """A record of evaluations is not that of this run: the method asks for another point."""


class Stop(Exception):
    """A method or a test ends the run."""

    def __init__(self, reason: str, *, converged: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.converged = reason, converged


class Run:
    """One run in progress: what a method calls."""

    def __init__(
        self,
        compute: Evaluate,
        settings: Settings,
        stored: Stored,
        save: Callable[[Stored], None],
        told: Callable[[Progress], None],
    ) -> None:
        self.settings = settings
        self.evaluations: list[Evaluation] = []
        self.steps: list[int] = []
        self.best: int | None = None
        self._compute, self._save, self._told = compute, save, told
        self._record = list(stored.evaluations)
        self._solutions = dict(stored.solutions or {})

    # What a method calls

    @property
    def here(self) -> Evaluation:
        """The evaluation of the last step."""
        return self.evaluations[self.steps[-1]]

    def begin(self) -> None:
        """Evaluate the start, which is step 0."""
        if not self.evaluate(self.settings.start).good:
            raise Stop("the inner solve failed at the start")
        self.take(self.settings.start)

    def evaluate(self, point: FloatArray) -> Evaluation:
        """The evaluation at a point: the last step's own, the next of the record, or a new one."""
        if self.steps and same(self.here.point, point):
            return self.here
        index = len(self.evaluations)
        if index < len(self._record):
            found = self._record[index]
            if not same(found.point, point):
                raise Diverged(f"evaluation {index + 1} was at another point")
            self.evaluations.append(found)
            return found
        before = self.here if self.steps else None
        trial = self._compute(np.array(point), self._solutions.get(self.steps[-1]) if self.steps else None, before)
        self.evaluations.append(trial.evaluation)
        if trial.evaluation.good:
            self._solutions[index] = trial.x
        self._save(Stored(tuple(self.evaluations), dict(self._solutions)))
        return trial.evaluation

    def take(self, point: FloatArray) -> None:
        """Take the step to a point that was evaluated; ends the run where a test is met."""
        (*_, index) = (i for i, one in enumerate(self.evaluations) if same(one.point, point))
        self.steps.append(index)
        self._told(Progress(len(self.steps) - 1, self.here, projected(self.here, self.settings), len(self.evaluations)))
        if self.best is None or self._improves():
            self.best = index
        if len(self.evaluations) >= len(self._record):  # while a record is read, its solutions may still be asked for
            self._solutions = {i: x for i, x in self._solutions.items() if i in (index, self.best)}
        self._test()

    def value(self, evaluation: Evaluation) -> float:
        """What is minimised."""
        return self.settings.sign * evaluation.objective

    # The tests

    def _improves(self) -> bool:
        assert self.best is not None
        before = self.evaluations[self.best].validation
        return bool(self.settings.sign * (before - self.here.validation) > 0)

    def _test(self) -> None:
        here, settings = self.here, self.settings
        norm = projected(here, settings)
        if norm <= max(settings.tol, here.bound):
            if here.bound <= settings.tol:
                raise Stop(f"the projected gradient, {norm:.1e}, is within outer.tol, {settings.tol:g}", converged=True)
            raise Stop(f"the projected gradient, {norm:.1e}, is zero within its bound, {here.bound:.1e}", converged=True)
        if settings.patience is not None and self.best is not None:
            waited = len(self.steps) - 1 - self.steps.index(self.best)
            if waited >= settings.patience:
                raise Stop(f"the validation has not become better for {waited} steps", converged=True)
        if len(self.steps) > settings.max_steps:
            raise Stop(f"outer.max_steps, {settings.max_steps}, are done; the projected gradient is {norm:.1e}")

    def outcome(self, stop: Stop) -> Outcome:
        """The record of the run as it ended: its result is the last step, or the best one where `patience` is set."""
        last = self.steps[-1] if self.steps else len(self.evaluations) - 1
        result = self.best if self.settings.patience is not None and self.best is not None else last
        solution = self._solutions.get(result)
        return Outcome(stop.reason, stop.converged, tuple(self.evaluations), tuple(self.steps), result, solution, self.settings)


def minimise(
    evaluate: Evaluate,
    settings: Settings,
    *,
    stored: Stored | None = None,
    save: Callable[[Stored], None] = lambda _: None,
    told: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Minimise sign * objective within the bounds, from `settings.start`.

    `stored` goes on from an earlier run with the same settings; `save` is given all that is needed for that after each new
    evaluation, and may raise to interrupt; `told` hears of each step. Raises `Diverged` where `stored` is not of these settings.
    """
    from implicit_cli.outer.methods import METHODS

    run = Run(evaluate, settings, stored or Stored(), save, told)
    try:
        run.begin()
        METHODS[settings.method](run)
    except Stop as stop:
        return run.outcome(stop)
    raise AssertionError(f"{settings.method} ended without a reason")
