"""The cases of a sweep, computed: many at once where that can be, else one by one; from their own guesses, or from neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from implicit_cli.core.solvers import allowed
from implicit_cli.engine.case import Deadline, Observer, failed, run_case
from implicit_cli.engine.chunks import Room
from implicit_cli.engine.path import SAME, FloatArray, Link, chains, prediction, start_of, suspect
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.records import STARTS, Lane
from implicit_cli.engine.sweep import AT_ONCE, WIDTH, Case, Cases
from implicit_cli.errors import ImplicitError
from implicit_cli.result import CaseResult
from implicit_cli.status import Status

UNSOLVED = (Status.NOT_CONVERGED, Status.NOT_FINITE, Status.NO_CERTIFICATE, Status.NOT_A_MINIMUM, Status.TIMED_OUT)
"""Ends of a solve that another solver may mend."""
TO_COMPILE = 120.0
"""Seconds that the first case of a process may take beyond `sweep.timeout`: it compiles what all others use."""
TROUBLES = 3
"""Calls that may fail before cases are computed one by one."""


def run_cases(
    cases: Cases, plan: Plan, indices: Sequence[int], *, observer: Observer | None = None, room: Room | None = None
) -> Iterator[CaseResult]:
    """The cases at some points of the design, each once; in this order where each begins at its own guess.

    Small regular ones are computed `WIDTH` at a time, whose numbers do not depend on each other. A case whose own code raises an
    error has a status that says so.
    """
    return _Run(cases, plan, observer, room).through(indices)


def marked(cases: Cases, plan: Plan, index: int, error: Exception) -> CaseResult:
    """A case that could not be computed, for this reason."""
    case = cases.at(index)
    result = failed(cases.vectors.moved(case.bound, single=plan.single), plan, error, identity=case.id)
    return replace(result, swept=case.swept)


class _Run:
    """What goes on from one case to the next: the program for many, its troubles, and the chains of warm starts."""

    def __init__(self, cases: Cases, plan: Plan, observer: Observer | None, room: Room | None) -> None:
        self.cases, self.plan, self.observer, self.room = cases, plan, observer, room
        self.warm = cases.spec.start == "neighbour"
        self.troubles = 0
        self.links: dict[int, Link] = {}

    def through(self, indices: Sequence[int]) -> Iterator[CaseResult]:
        """All of them."""
        for begin in range(0, len(indices), AT_ONCE):
            self.links = {}
            yield from self._rounds(indices[begin : begin + AT_ONCE])

    def _rounds(self, indices: Sequence[int]) -> Iterator[CaseResult]:
        """In rounds: the next `WIDTH` cases, or the next one of each chain."""
        if not self.warm:
            for begin in range(0, len(indices), WIDTH):
                some = [self.cases.at(index) for index in indices[begin : begin + WIDTH]]
                for case, (result, _) in zip(some, self._round(list(map(self._lane, some))), strict=True):
                    yield replace(result, swept=case.swept)
            return
        paths = chains(self.cases.points(indices), self.cases.at_once(self.plan))
        for step in range(max(map(len, paths))):
            here = [number for number, path in enumerate(paths) if step < len(path)]
            some = [self.cases.at(indices[paths[number][step]]) for number in here]
            lanes = [self._lane(case) for case in some]
            for place, number in enumerate(here):
                nearby = self.links[number].nearby if number in self.links else None
                onward = None
                if step + 1 < len(paths[number]):
                    following = self._lane(self.cases.at(indices[paths[number][step + 1]]))
                    onward = np.asarray(following.vectors.start - lanes[place].vectors.start)
                lanes[place] = lanes[place]._replace(nearby=nearby, onward=onward)
            for number, case, lane, (result, ahead) in zip(here, some, lanes, self._round(lanes), strict=True):
                yield replace(self._linked(number, lane, result, ahead), swept=case.swept)

    def _lane(self, case: Case) -> Lane:
        return Lane(self.cases.vectors.moved(case.bound, single=self.plan.single), case.seed, case.id)

    def _round(self, lanes: list[Lane]) -> Iterator[tuple[CaseResult, FloatArray | None]]:
        """The cases, each with what it predicts for the next one, where that is known already."""
        batch = self.cases.batch(self.plan)
        found: Sequence[tuple[CaseResult, FloatArray] | None] = [None] * len(lanes)
        if batch is not None and not batch.unsuited and self.troubles < TROUBLES:
            try:
                found = batch([*lanes, *lanes[:1] * (WIDTH - len(lanes))])[: len(lanes)]
            except Exception:  # one of them fails, or all are too large together: which, is seen one by one
                self.troubles += 1
        for lane, one in zip(lanes, found, strict=True):
            result, ahead = one or (self._alone(lane), None)
            if self.cases.spec.on_failure == "retry":
                result = self._retried(result, lane)
            yield result, ahead

    def _linked(self, number: int, lane: Lane, result: CaseResult, ahead: FloatArray | None) -> CaseResult:
        """The case with the basin that it is in; what it predicts is kept for the next one of its chain."""
        before, vectors = self.links.pop(number, None), lane.vectors
        if not result.status.good:
            return result
        x = np.asarray(vectors.x.join(result.solution))
        basin = result.id if before is None or self._jumped(before, lane, x) else before.basin
        if lane.onward is not None:
            ahead = self._predicted(lane, x, lane.onward) if ahead is None else ahead
            self.links[number] = Link(vectors, x, ahead, basin)
        return replace(result, basin=basin)

    def _jumped(self, before: Link, lane: Lane, x: FloatArray) -> bool:
        """Whether the way back from x does not lead to the solution before: then it is in another basin."""
        if not suspect(before, x):
            return False
        back = self._predicted(lane, x, np.asarray(before.vectors.start - lane.vectors.start))
        begin = back if np.isfinite(back).all() else x
        found = run_case(before.vectors, self.plan, identity=lane.id, seed=lane.seed, at=begin)
        other = np.asarray(before.vectors.x.join(found.solution))
        reach = max(found.certificate.radius, 0.0) if np.isfinite(found.certificate.radius) else 0.0
        size = np.linalg.norm(before.x)
        return not found.status.good or bool(np.linalg.norm(other - before.x) > 2 * reach + SAME * size)

    def _predicted(self, lane: Lane, x: FloatArray, onward: FloatArray) -> FloatArray:
        try:
            return prediction(lane.vectors, self.plan, x, onward)
        except ImplicitError:
            raise
        except Exception:  # the problem's own code, which has its say when the case itself is computed
            return np.full(x.shape, np.nan)

    def _retried(self, result: CaseResult, lane: Lane) -> CaseResult:
        """The case by another solver, where that succeeds; what failed otherwise stays as it is."""
        if result.status not in UNSOLVED:
            return result
        vectors = lane.vectors
        for solver in allowed(vectors.condition.kind, vectors.goal):
            if solver != self.plan.solver:
                again = self._alone(lane, replace(self.plan, solver=solver))
                if again.status.good:
                    return replace(again, message=f"by {solver}, for {self.plan.solver} ended as {result.status.label}")
        return result

    def _alone(self, lane: Lane, plan: Plan | None = None) -> CaseResult:
        """One case by itself; from its own guess where a start nearby leads nowhere."""
        plan = plan or self.plan
        try:
            at, begun = None, 0
            if lane.nearby is not None:
                at, begun = start_of(lane.vectors, lane.seed, lane.nearby)
            result = self._solved(lane, plan, at)
            if begun and not result.status.good:
                result, begun = self._solved(lane, plan, None), 0
            return replace(result, start=STARTS[begun]) if self.warm else result
        except ImplicitError:
            raise
        except Exception as error:
            return failed(lane.vectors, plan, error, identity=lane.id)

    def _solved(self, lane: Lane, plan: Plan, at: FloatArray | None) -> CaseResult:
        seconds, observer = self.cases.spec.timeout, self.observer
        if seconds is not None:
            observer = Deadline(seconds + (0.0 if self.cases.compiled else TO_COMPILE), self.observer)
        result = run_case(lane.vectors, plan, identity=lane.id, seed=lane.seed, observer=observer, room=self.room, at=at)
        self.cases.compiled = True
        return result
