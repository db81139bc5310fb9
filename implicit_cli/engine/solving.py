"""The solve of a case: from its own guess, or from close by, to where F vanishes, in the precision of the plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.linear.policy import SPARSE
from implicit_cli.core.precision import float32
from implicit_cli.core.solvers import Observer as SolverObserver
from implicit_cli.core.solvers import Solution, compiled_residual, solve
from implicit_cli.engine.linearise import in_single, linearise, single_point, single_solver
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.threads import one_thread
from implicit_cli.engine.vectors import Vectors
from implicit_cli.result import Array
from implicit_cli.status import Status


class Observer(SolverObserver, Protocol):
    """Sees a case from outside: what begins, how the solver goes, and how many chunks of right-hand sides are done."""

    def chunk(self, done: int, total: int) -> None: ...


class Found(NamedTuple):
    """Where the solver ended, the residual there, evaluated anew, where it began, and how long it took.

    There is no `start` where the solution was there before.
    """

    p: Point
    solution: Solution
    residual: float
    start: Point | None = None
    seconds: float = 0.0


def solved(vectors: Vectors, plan: Plan, *, seed: int, observer: Observer | None = None, at: Array | None = None) -> Found:
    """The solve of a case: from `at` x (d,), close to a solution, where that is given, else from the case's own guess."""
    begun = time.perf_counter()
    with one_thread(vectors.x.size):
        start = Point(vectors.initial(seed) if at is None else jnp.asarray(at), vectors.start, vectors.data)
        found = _found(vectors, plan, start, _solve(vectors, plan, start, observer, close=at is not None))
    return found._replace(seconds=time.perf_counter() - begun)


def solved_before(vectors: Vectors, x: Array, story: Mapping[str, Any]) -> Found:
    """What `solved` found in an earlier run: x (d,) and the fields of its `story`."""
    p = vectors.refreshed(Point(jnp.asarray(x), vectors.start, vectors.data))
    history = np.asarray(story["history"], float)
    solution = Solution(p.x, Status(story["status"]), history, story["name"], story["polish_steps"])
    return Found(p, solution, story["residual"], p, story["seconds"])


def story_of(found: Found) -> dict[str, Any]:
    """All of a `Found` beside its x, as numbers and texts."""
    solution = found.solution
    return {
        "status": int(solution.status),
        "history": np.asarray(solution.history).tolist(),
        "name": solution.name,
        "polish_steps": int(solution.polish_steps),
        "residual": found.residual,
        "seconds": found.seconds,
    }


def solved_on(vectors: Vectors, plan: Plan, found: Found, observer: Observer | None, tol: float) -> Found:
    """The solve continued by a tighter plan; what counts is still `tol`."""
    begun = time.perf_counter()
    onward = _solve(vectors, plan, found.p, observer)
    again = _found(vectors, plan, found.p, _joined(found.solution, onward, tol))
    return again._replace(start=found.start, seconds=found.seconds + time.perf_counter() - begun)


def solved_again(vectors: Vectors, plan: Plan, p: Point) -> Solution:
    """A solve from p.x at p.theta, always polished: a difference of solutions needs all of their digits."""
    return solve(
        plan.solver,
        vectors.goal,
        p,
        tol=plan.tol,
        max_steps=plan.max_steps,
        linearise=lambda p: linearise(vectors, plan, p),
    )


def residual_at(vectors: Vectors, p: Point) -> float:
    """max |F|, and what else counts as the solver's residual, evaluated anew."""
    return float(compiled_residual(vectors.goal)(p))


def _found(vectors: Vectors, plan: Plan, start: Point, solution: Solution) -> Found:
    p = vectors.goal.moved(start, solution.x)
    if p is None:  # nothing can be computed there
        p, solution = vectors.refreshed(start), solution._replace(x=start.x, status=Status.NOT_CONVERGED)
    residual = residual_at(vectors, p)
    if solution.status is Status.OK:
        settled = vectors.settled(p)
        if settled is not p and (again := residual_at(vectors, settled)) <= plan.tol:
            p, residual = settled, again
    return Found(p, solution, residual, start)


def _solve(vectors: Vectors, plan: Plan, start: Point, observer: Observer | None, *, close: bool = False) -> Solution:
    """From start.x, which may be `close`, in the plan's precision; where it is to be refined, on in float64 from float32's end."""
    if observer is not None:
        observer.stage(f"solving with {plan.solver}: {vectors.x.size} unknowns{', in float32' if plan.single else ''}")
    run = partial(solve, plan.solver, tol=plan.tol, max_steps=plan.max_steps, observer=observer)
    if not plan.single:
        if not plan.polish:
            return run(vectors.goal, start, linearise=None)
        alone = replace(plan, linear=plan.linear._replace(then=()))
        early = vectors.condition.kind == "stationary" and plan.linear.method in SPARSE
        return run(
            vectors.goal,
            start,
            linearise=partial(linearise, vectors, plan),
            early=partial(linearise, vectors, alone) if early else None,
            close=close,
        )
    q = single_point(vectors, start)
    with float32():
        polished = plan.polish and not plan.refine
        found = run(vectors.single.goal, q, linearise=(lambda p: single_solver(vectors, plan, p)) if polished else None)
    rough = found._replace(x=jnp.asarray(np.asarray(found.x), dtype=np.float64))
    if not plan.refine or rough.status is Status.NOT_FINITE:
        return rough

    def refined(p: Point) -> LinearSolver:
        return linearise(vectors, plan, p, in_single(vectors, plan, p))

    return _joined(rough, run(vectors.goal, start._replace(x=rough.x), linearise=refined), plan.tol)


def _joined(first: Solution, onward: Solution, tol: float) -> Solution:
    """Two solves, the second from where the first ended, as one; what counts is the tolerance that was asked for."""
    history = np.concatenate([first.history, onward.history])
    solved = onward.status is Status.OK or bool(onward.history.size and onward.history[-1] <= tol)
    return onward._replace(
        status=Status.OK if solved else onward.status,
        history=history,
        polish_steps=first.polish_steps + onward.polish_steps,
    )
