"""The cases of a sweep, computed: many at once where that can be, else one by one; from their own guesses, or from neighbours."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from implicit_cli.core.solvers import allowed
from implicit_cli.engine.batch import WIDTH, Batch
from implicit_cli.engine.case import failed, run_case
from implicit_cli.engine.chunks import Room
from implicit_cli.engine.deadline import Deadline
from implicit_cli.engine.path import SAME, FloatArray, Link, chains, prediction, start_of, suspect
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.records import STARTS, Lane
from implicit_cli.engine.solving import Observer, solved
from implicit_cli.engine.sweep import AT_ONCE, Case, Cases
from implicit_cli.errors import ImplicitError
from implicit_cli.result import CaseResult
from implicit_cli.status import Status

UNSOLVED = (Status.NOT_CONVERGED, Status.NOT_FINITE, Status.NO_CERTIFICATE, Status.NOT_A_MINIMUM, Status.TIMED_OUT)
"""Ends of a solve that another solver may mend."""
TO_COMPILE = 120.0
"""Seconds that the first case of a process may take beyond `sweep.timeout`: it compiles what all others use."""
TROUBLES = 3
"""Calls that may fail before cases are computed one by one."""
PATIENCE = 1.0
"""Seconds of solves after which the rest of the work on their cases is done: what is finished can be saved."""


def run_cases(
    cases: Cases, plan: Plan, indices: Sequence[int], *, observer: Observer | None = None, room: Room | None = None
) -> Iterator[CaseResult]:
    """The cases at some points of the design, each once; in this order where each begins at its own guess.

    Small regular ones are computed `WIDTH` at a time, whose numbers do not depend on each other. A case whose own code raises an
    error has a status that says so.
    """
    return map(cases.concluded, _Run(cases, plan, observer, room).through(indices))


def marked(cases: Cases, plan: Plan, index: int, error: Exception) -> CaseResult:
    """A case that could not be computed, for this reason."""
    case = cases.at(index)
    result = failed(cases.vectors.moved(case.bound, single=plan.single), plan, error, identity=case.id)
    return cases.concluded(replace(result, swept=case.swept))


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
            some, self.links = indices[begin : begin + AT_ONCE], {}
            if not self.warm:
                yield from self._in_order(some)
            elif self._batch is None or self._batch.hosted:
                yield from self._along(some)
            else:
                yield from self._by_chains(some)

    def _in_order(self, indices: Sequence[int]) -> Iterator[CaseResult]:
        """Each from its own guess."""
        for some in self._rounds(map(self.cases.at, indices)):
            for (case, _), (result, _) in zip(some, self._round([lane for _, lane in some]), strict=True):
                yield replace(result, swept=case.swept)

    def _rounds(self, cases: Iterable[Case]) -> Iterator[list[tuple[Case, Lane]]]:
        """The next `WIDTH` cases, solved if the rest of the work comes in one program; fewer where that takes long."""
        some: list[tuple[Case, Lane]] = []
        begun = time.monotonic()
        for case in cases:
            lane = self._lane(case)
            some.append((case, self._tried(lane) if self._batch is not None and self._batch.hosted else lane))
            if len(some) == WIDTH or time.monotonic() - begun > PATIENCE:
                yield some
                some, begun = [], time.monotonic()
        if some:
            yield some

    def _along(self, indices: Sequence[int]) -> Iterator[CaseResult]:
        """One chain: each is solved where the one before it has been, then they are differentiated together."""
        (path,) = chains(self.cases.points(indices), 1)
        some: list[tuple[Case, Lane, str]] = []
        begun = time.monotonic()
        for step, place in enumerate(path):
            case = self.cases.at(indices[place])
            lane = self._onward(self._lane(case), 0, indices[path[step + 1]] if step + 1 < len(path) else None)
            lane, ahead = self._begun(lane)
            basin = ""
            if _is_solved(lane):
                basin = self._linked(0, lane, _solution(lane), ahead)
            else:
                self.links.pop(0, None)
            some.append((case, lane, basin))
            if len(some) == WIDTH or self._batch is None or time.monotonic() - begun > PATIENCE or step + 1 == len(path):
                rounds = self._round([lane for _, lane, _ in some])
                for (case, lane, basin), (result, _) in zip(some, rounds, strict=True):
                    again = lane.begun > 0 and result.start == STARTS[0]  # it has been solved anew, from its own guess
                    basin = result.id if again else basin
                    yield replace(result, swept=case.swept, basin=basin if result.status.good else "")
                some, begun = [], time.monotonic()

    def _by_chains(self, indices: Sequence[int]) -> Iterator[CaseResult]:
        """In rounds of the next case of each chain."""
        paths = chains(self.cases.points(indices), WIDTH)
        for step in range(max(map(len, paths))):
            here = [number for number, path in enumerate(paths) if step < len(path)]
            some = [self.cases.at(indices[paths[number][step]]) for number in here]
            lanes = []
            for number, case in zip(here, some, strict=True):
                following = paths[number][step + 1 : step + 2]
                lanes.append(self._onward(self._lane(case), number, indices[following[0]] if following else None))
            for number, case, lane, (result, ahead) in zip(here, some, lanes, self._round(lanes), strict=True):
                basin = ""
                if result.status.good:
                    x = np.asarray(lane.vectors.x.join(result.solution))
                    basin = self._linked(number, lane, x, self._predicted(lane, x) if ahead is None else ahead)
                else:
                    self.links.pop(number, None)
                yield replace(result, swept=case.swept, basin=basin)

    def _lane(self, case: Case) -> Lane:
        return Lane(self.cases.vectors.moved(case.bound, single=self.plan.single), case.seed, case.id)

    def _onward(self, lane: Lane, number: int, following: int | None) -> Lane:
        """A lane of a chain: with what the last one knows of its solution, and the way to the one that follows."""
        if number in self.links:
            lane = lane._replace(nearby=self.links[number].nearby)
        if following is None:
            return lane
        there = self.cases.vectors.lambda_of(self.cases.at(following).bound)
        return lane._replace(onward=there - np.asarray(lane.vectors.start))

    @property
    def _batch(self) -> Batch | None:
        """The program for many, as long as it does not fail."""
        batch = self.cases.batch(self.plan)
        return None if batch is None or batch.unsuited or self.troubles >= TROUBLES else batch

    def _round(self, lanes: list[Lane]) -> Iterator[tuple[CaseResult, FloatArray | None]]:
        """The cases, each with what it predicts for the next one, where that is known already."""
        batch = self._batch
        found: dict[str, tuple[CaseResult, FloatArray] | None] = {}
        if batch is not None:
            able = [lane for lane in lanes if not batch.hosted or _is_solved(lane)]
            try:
                found = dict(zip((lane.id for lane in able), batch(able) if able else (), strict=True))
            except Exception:  # one of them fails, or all are too large together: which, is seen one by one
                self.troubles += 1
        for lane in lanes:
            result, ahead = found.get(lane.id) or (self._alone(lane), None)
            if self.cases.spec.on_failure == "retry":
                result = self._retried(result, lane)
            yield result, ahead
        self.cases.compiled = True

    # Chains

    def _linked(self, number: int, lane: Lane, x: FloatArray, ahead: FloatArray) -> str:
        """The basin that a solution is in; what it predicts is kept for the next one of its chain."""
        before = self.links.pop(number, None)
        basin = lane.id if before is None or self._jumped(before, lane, x) else before.basin
        if lane.onward is not None:
            self.links[number] = Link(lane.vectors, x, ahead, basin)
        return basin

    def _jumped(self, before: Link, lane: Lane, x: FloatArray) -> bool:
        """Whether the way back from x does not lead to the solution before: then it is in another basin."""
        if not suspect(before, x):
            return False
        back = self._predicted(lane._replace(onward=np.asarray(before.vectors.start - lane.vectors.start)), x)
        try:
            found = solved(before.vectors, self.plan, seed=lane.seed, at=back if np.isfinite(back).all() else x)
        except ImplicitError:
            raise
        except Exception:  # the problem's own code: there is no way back
            return True
        missed = np.linalg.norm(np.asarray(found.p.x) - before.x)
        return found.solution.status is not Status.OK or bool(missed > SAME * np.linalg.norm(before.x))

    def _begun(self, lane: Lane) -> tuple[Lane, FloatArray]:
        """A case solved, and what it predicts for the next one; from its own guess where what is nearby leads to no minimum."""
        lane = self._tried(lane)
        ahead = self._predicted(lane, _solution(lane))
        if lane.begun and not np.isfinite(ahead).all():
            lane = self._tried(lane._replace(nearby=None))
            ahead = self._predicted(lane, _solution(lane))
        return lane, ahead

    def _predicted(self, lane: Lane, x: FloatArray) -> FloatArray:
        """x + J dlambda; NaN where there is none, and where x is no minimum."""
        if not np.isfinite(x).all():
            return x
        try:
            return prediction(lane.vectors, self.plan, x, lane.onward)
        except ImplicitError:
            raise
        except Exception:  # the problem's own code, which has its say when the case itself is computed
            return np.full(x.shape, np.nan)

    # One case

    def _retried(self, result: CaseResult, lane: Lane) -> CaseResult:
        """The case by another solver, where that succeeds; what failed otherwise stays as it is."""
        if result.status not in UNSOLVED:
            return result
        vectors = lane.vectors
        for solver in allowed(vectors.condition.kind, vectors.goal):
            if solver != self.plan.solver:
                again = self._alone(lane._replace(found=None, error=None), replace(self.plan, solver=solver))
                if again.status.good:
                    return replace(again, message=f"by {solver}, for {self.plan.solver} ended as {result.status.label}")
        return result

    def _alone(self, lane: Lane, plan: Plan | None = None) -> CaseResult:
        """One case by itself; from its own guess where a start nearby leads nowhere."""
        plan = plan or self.plan
        if lane.error is not None:
            return failed(lane.vectors, plan, lane.error, identity=lane.id)
        try:
            lane = lane if lane.found is not None else self._solved(lane, plan)
            result = self._differentiated(lane, plan)
            if lane.begun and not result.status.good:
                lane = self._solved(lane._replace(nearby=None), plan)
                result = self._differentiated(lane, plan)
            return replace(result, start=STARTS[lane.begun]) if self.warm else result
        except ImplicitError:
            raise
        except Exception as error:
            return failed(lane.vectors, plan, error, identity=lane.id)

    def _tried(self, lane: Lane) -> Lane:
        """The case solved, or with the error that ended it."""
        try:
            return self._solved(lane, self.plan)
        except ImplicitError:
            raise
        except Exception as error:
            return lane._replace(found=None, error=error)

    def _solved(self, lane: Lane, plan: Plan) -> Lane:
        """The case solved; from its own guess where what is nearby does not lead to a solution."""
        vectors, observer = lane.vectors, self._watched(0.0)
        if lane.nearby is not None:
            at, begun = start_of(vectors, lane.seed, lane.nearby)
            if begun:
                found = solved(vectors, plan, seed=lane.seed, observer=observer, at=at)
                if found.solution.status is Status.OK:
                    return lane._replace(found=found, begun=begun)
        return lane._replace(found=solved(vectors, plan, seed=lane.seed, observer=observer), begun=0)

    def _differentiated(self, lane: Lane, plan: Plan) -> CaseResult:
        assert lane.found is not None
        observer = self._watched(lane.found.seconds)
        result = run_case(lane.vectors, plan, identity=lane.id, seed=lane.seed, observer=observer, room=self.room, found=lane.found)
        self.cases.compiled = True
        return result

    def _watched(self, spent: float) -> Observer | None:
        """The observer, with an eye on the time of a case that has `spent` some of it."""
        seconds = self.cases.spec.timeout
        if seconds is None:
            return self.observer
        return Deadline(seconds + (0.0 if self.cases.compiled else TO_COMPILE), self.observer, spent=spent)


def _is_solved(lane: Lane) -> bool:
    return lane.found is not None and lane.found.solution.status is Status.OK


def _solution(lane: Lane) -> FloatArray:
    """x of a case that is solved, else NaN."""
    return np.asarray(lane.found.p.x) if lane.found is not None else np.full(lane.vectors.x.size, np.nan)
