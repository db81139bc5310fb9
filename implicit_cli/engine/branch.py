"""The cases of a sweep with `continue: arc`: one each time the branch passes a level, one for each fold, one at its end.

The first passage of a level has the id that any sweep gives that question; further passages, which are other answers to it, and
points between levels have ids of their own, made of the question and their number along the branch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.linear.policy import DENSE_BYTES, DENSE_SMALL
from implicit_cli.engine.arc import Branch, Passed, State
from implicit_cli.engine.bordered import FloatArray, Line, Lost
from implicit_cli.engine.case import failed, run_case, without_derivative
from implicit_cli.engine.chunks import Room
from implicit_cli.engine.deadline import Deadline
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.sweep import Case, Cases
from implicit_cli.engine.sweeping import TO_COMPILE
from implicit_cli.errors import ImplicitError
from implicit_cli.result import CaseResult
from implicit_cli.status import Status

ENDS = "the branch ends here: "
"""Begins what the message of the last case says of the end, to its own end."""


class Followed(NamedTuple):
    """A case of the branch: its id, what kind of point it is, lambda as the spec gives it, and its result.

    There is no result where the case was known before. `state` is where the step began that led there: from there the way can be
    gone on with; None for the first case.
    """

    id: str
    point: str
    value: float
    result: CaseResult | None
    state: State | None


def check_branch(cases: Cases) -> None:
    """Raises InputError where no branch can be followed: what varies must be one number, and the solutions the roots of F."""
    target, vectors, fault = cases.targets[0], cases.vectors, cases.fault
    if target.section != "parameters":
        fault(("over", target.text), f"found a quantity of '{target.section}' with continue: arc, allowed: a parameter")
    values = _values(cases).reshape(cases.count, -1)
    if (values != values[:, :1]).any():
        what = "found levels whose entries differ with continue: arc"
        fault(("over", target.text), f"{what}, allowed: one number for all entries, or one entry, such as {target.name}[0]")
    if cases.count < 2 or np.unique(values[:, 0]).size < cases.count:
        fault(("over", target.text), "found a level twice, or one alone, with continue: arc, allowed: 2 or more, all different")
    goal, kind = vectors.goal, vectors.condition.kind
    inequalities = goal.limits is not None and goal.limits.g is not None
    if inequalities or goal.mirror is not None or goal.program is not None:
        why = "not every root of its F is a solution, so a branch of roots would leave the solutions"
        fault(("continue",), f"found 'arc' with a {kind} condition where {why}, allowed: other conditions")
    d = vectors.x.size
    if 8 * d * d > DENSE_BYTES and (vectors.condition.pattern is None or d <= DENSE_SMALL):
        what, most = f"found 'arc' with d = {d} and no sparsity pattern of dF/dx", int((DENSE_BYTES / 8) ** 0.5)
        fault(("continue",), f"{what}, allowed: d up to {most}, or a pattern: the branch needs a factorisation")


def follow(
    cases: Cases, plan: Plan, *, known: Collection[str] = (), state: State | None = None, room: Room | None = None
) -> Iterator[Followed | State]:
    """The cases along the branch, in order; those that are `known` by their id are passed without being computed again.

    Goes on from a `state`, else begins with the solution of the first level, from its own guess. A step that passes no case gives
    the state after it.
    """
    return _Following(cases, plan, known, room).through(state)


class _Following:
    """What all cases of a branch share."""

    def __init__(self, cases: Cases, plan: Plan, known: Collection[str], room: Room | None) -> None:
        self.cases, self.plan, self.known, self.room = cases, plan, known, room
        self.near = replace(plan, solver="newton", max_steps=0)  # Newton steps from the branch; no solver that would leave it
        self.first, target = cases.at(0), cases.targets[0]
        self.target, self.vectors = target, cases.vectors.moved(self.first.bound)
        self.line = Line(self.vectors, target.name, target.index)
        levels = np.asarray(self.line.transform.to_lambda(jnp.asarray(_values(cases).reshape(cases.count, -1)[:, 0])))
        self.branch = Branch(self.vectors, self.line, levels, plan.tol)

    def through(self, state: State | None) -> Iterator[Followed | State]:
        """All of them, or those from a state on."""
        if state is None:
            result = self._solved(self.first, self.plan, None)
            trouble = "" if result.solver.status is Status.OK else "there is no solution to follow"
            if not trouble:
                try:
                    state = self.branch.begin(np.asarray(self.vectors.x.join(result.solution)))
                except Lost:
                    trouble = "dF/dx is singular there, not by a symmetry, and no way leads on"
            result = self._marked(result, "end", trouble) if trouble else self._marked(result, "level", "")
            new = result.id not in self.known
            yield Followed(result.id, result.point, self._theta(self.branch.levels[0]), result if new else None, None)
        ended = state is None
        while not ended:
            assert state is not None
            passed, after = self._advanced(state)
            crossed, folds = state.crossed.copy(), len(state.folds)
            for number, one in enumerate(passed, start=int(state.cases) + 1):
                if one.kind == "fold":
                    folds += 1
                if one.level >= 0:
                    crossed[one.level] += 1
                if number == self.cases.spec.max_cases and one.kind != "end":
                    one = one._replace(kind="end" if one.kind == "level" else one.kind, reason=f"sweep.max_cases is {number}")
                yield self._followed(one, state, int(crossed[one.level]) if one.level >= 0 else folds)
                if ended := bool(one.reason):
                    break
            state = after
            if not passed:
                yield state

    def _advanced(self, state: State) -> tuple[list[Passed], State]:
        try:
            return self.branch.advance(state)
        except ImplicitError:
            raise
        except Exception as error:  # the problem's own code
            first = next(iter(str(error).strip().splitlines()), "")
            x, value = state.z[:-1] * state.scale[0], float(state.z[-1] * state.scale[1])
            return [Passed("end", x, value, reason=f"{type(error).__name__}: {first}")], state

    def _followed(self, one: Passed, state: State, number: int) -> Followed:
        case = self._case(one, number)
        theta = self._theta(one.value)
        if case.id in self.known:
            return Followed(case.id, one.kind, theta, None, state)
        if one.kind == "fold":
            vectors = self.cases.vectors.moved(case.bound)
            found = f"the branch turns back at {self.target.text} = {theta:.10g}"
            status = Status.NONDIFFERENTIABLE if one.corner else Status.SINGULAR
            result = without_derivative(vectors, self.near, one.x, status, found, identity=case.id)
        else:
            result = self._solved(case, self.near, one.x)
        return Followed(case.id, one.kind, theta, self._marked(result, one.kind, one.reason), state)

    def _case(self, one: Passed, number: int) -> Case:
        """The question at a point: a level's own at its first passage."""
        if one.level >= 0:
            case = self.cases.at(one.level)
            return case if number == 1 else replace(case, id=_named(case.id, f"passage {number}"))
        bound, name = self.first.bound, self.target.name
        whole = np.array(bound.parameters[name], dtype=float)
        whole[self.target.index] = self._theta(one.value)
        moved = replace(bound, parameters={**bound.parameters, name: whole})
        return Case(_named(self.first.id, f"fold {number}" if one.kind == "fold" else "end"), moved, self.first.seed, {})

    def _solved(self, case: Case, plan: Plan, at: FloatArray | None) -> CaseResult:
        vectors, seconds = self.cases.vectors.moved(case.bound), self.cases.spec.timeout
        clock = None if seconds is None else Deadline(seconds + (0.0 if self.cases.compiled else TO_COMPILE), None)
        try:
            result = run_case(vectors, plan, identity=case.id, seed=case.seed, observer=clock, room=self.room, at=at)
        except ImplicitError:
            raise
        except Exception as error:
            result = failed(vectors, plan, error, identity=case.id)
        self.cases.compiled = True
        return self.cases.concluded(result)

    def _marked(self, result: CaseResult, point: str, reason: str) -> CaseResult:
        message = "; ".join(filter(None, (result.message, reason and f"{ENDS}{reason}")))
        return replace(result, point=point, message=message)

    def _theta(self, value: float) -> float:
        """lambda as the spec gives it."""
        return float(self.line.transform.to_theta(jnp.asarray(value)))


def _values(cases: Cases) -> FloatArray:
    """All levels (count, *entries)."""
    return np.asarray(cases.design.rows(0, cases.count)[cases.targets[0].text], dtype=float)


def _named(question: str, which: str) -> str:
    """The id of a further answer to a question."""
    return hashlib.blake2b(f"{question} {which}".encode(), digest_size=8).hexdigest()
