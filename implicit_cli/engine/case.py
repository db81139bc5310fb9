"""One case: condition -> solve -> linearise -> differentiate -> certify, and a status for all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.degeneracy import Degeneracy
from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.linear.policy import KRYLOV, SPARSE
from implicit_cli.core.precision import float32
from implicit_cli.core.solvers import Observer as SolverObserver
from implicit_cli.core.solvers import Solution, compiled_residual, solve
from implicit_cli.engine import methods
from implicit_cli.engine.accuracy import GAIN, ROUNDS, Known, known, tightened
from implicit_cli.engine.chunks import Memory, Room
from implicit_cli.engine.judge import STORED, flagged, judge, verdict
from implicit_cli.engine.kinks import Kink, look, without_kinks
from implicit_cli.engine.linearise import degeneracy, in_single, linearise, margin, single_point, single_solver
from implicit_cli.engine.passes import Solves
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.products import Products, ordered
from implicit_cli.engine.sides import both_sides
from implicit_cli.engine.site import Site, no_bound
from implicit_cli.engine.vectors import Vectors
from implicit_cli.result import Array, Bound, CaseResult, Certificate, LinearReport, NullSpace, SolverReport
from implicit_cli.status import Status

FINEST = 1e-15
"""No linear solve is asked for a smaller relative residual."""


class Observer(SolverObserver, Protocol):
    """Sees a case from outside: what begins, how the solver goes, and how many chunks of right-hand sides are done."""

    def chunk(self, done: int, total: int) -> None: ...


class TimedOut(Exception):
    """A case took longer than it may."""


class Deadline:
    """An observer that ends a case when its time is over, by TimedOut; else it passes on what it hears."""

    def __init__(self, seconds: float, observer: Observer | None) -> None:
        self.seconds, self.observer = seconds, observer
        self._end = time.monotonic() + seconds

    def stage(self, text: str) -> None:
        self._look()
        if self.observer is not None:
            self.observer.stage(text)

    def progress(self, step: int, residual: float, tol: float) -> None:
        self._look()
        if self.observer is not None:
            self.observer.progress(step, residual, tol)

    def chunk(self, done: int, total: int) -> None:
        self._look()
        if self.observer is not None:
            self.observer.chunk(done, total)

    def _look(self) -> None:
        if time.monotonic() > self._end:
            raise TimedOut(f"more than {self.seconds:g} s")


class Stopwatch:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun


def run_case(
    vectors: Vectors,
    plan: Plan,
    *,
    identity: str,
    seed: int,
    observer: Observer | None = None,
    room: Room | None = None,
    at: Array | None = None,
) -> CaseResult:
    """Solve and differentiate one case. Whatever the mathematics does, the answer is a `CaseResult` whose status says it.

    The solve begins `at` x (d,), close to a solution, where that is given, else at the case's own guess. Where a bound is larger
    than the accuracy that the plan asks for, the tolerance behind it is tightened, and the case is solved on. Blocks of a Jacobian
    that the plan sends to a file go to `room`.
    """
    watch = Stopwatch()
    start = Point(vectors.initial(seed) if at is None else jnp.asarray(at), vectors.start, vectors.data)
    with watch("solve"):
        solution = _solve(vectors, plan, start, observer, close=at is not None)
    found = _found(vectors, plan, start, solution)
    if solution.status is Status.NOT_FINITE:
        return _unsolved(vectors, plan, found, watch, identity)
    done = _differentiated(vectors, plan, found, watch, observer, room, start)
    for _ in range(ROUNDS):
        tighter = _tightened(done, found, observer)
        if tighter is None:
            break
        if tighter.tol < done.plan.tol:
            with watch("solve"):
                onward = _solve(vectors, tighter, found.p, observer)
            again = _found(vectors, tighter, found.p, _joined(found.solution, onward, plan.tol))
            if not again.residual < found.residual:
                break
            found = again
        before, done = done, _differentiated(vectors, tighter, found, watch, observer, room, start)
        if not done.reached.relative < GAIN * before.reached.relative:
            break
    return _recorded(vectors, plan, found, done, watch, identity)


def differentiate_at(
    vectors: Vectors,
    plan: Plan,
    x: Mapping[str, Array],
    *,
    identity: str,
    observer: Observer | None = None,
    room: Room | None = None,
) -> CaseResult:
    """Differentiate at a solution that is known, by unknown: as `run_case` does, without a solve. F is evaluated there anew."""
    p = vectors.refreshed(Point(vectors.x.join(x), vectors.start, vectors.data))
    residual = _residual(vectors, p)
    finite = bool(jnp.all(jnp.isfinite(p.x))) and np.isfinite(residual)
    status = Status.NOT_FINITE if not finite else Status.OK if residual <= plan.tol else Status.NOT_CONVERGED
    found = Found(p, Solution(p.x, status, np.zeros(0), STORED), residual)
    watch = Stopwatch()
    if not finite:
        return _unsolved(vectors, plan, found, watch, identity)
    return _recorded(vectors, plan, found, _differentiated(vectors, plan, found, watch, observer, room), watch, identity)


def without_derivative(vectors: Vectors, plan: Plan, x: Array, status: Status, found: str, *, identity: str) -> CaseResult:
    """The record of a solution x (d,) that is known to have no derivative, a fold: outputs are computed, products are NaN.

    `status` and `found` say what it is. Whether A counts as singular need not be asked: of a single unknown, no number could tell.
    """
    p = vectors.refreshed(Point(jnp.asarray(x), vectors.start, vectors.data))
    residual = _residual(vectors, p)
    there = Found(p, Solution(p.x, Status.OK if residual <= plan.tol else Status.NOT_CONVERGED, np.zeros(0), STORED), residual)
    outputs = vectors.y.split(np.asarray(vectors.system.g(p.x, p.theta, p.data)))
    return _without_products(vectors, plan, there, Stopwatch(), identity, *verdict(status, found), outputs)


class Found(NamedTuple):
    """Where the solver ended, and the residual there, evaluated anew."""

    p: Point
    solution: Solution
    residual: float


class Done(NamedTuple):
    """All products at a point, by `plan`, with what is known of A and of their errors."""

    plan: Plan
    A: LinearSolver
    degeneracy: Degeneracy
    products: Products
    certifier: Certifier
    kink: Kink
    method: str
    reached: Known


def _found(vectors: Vectors, plan: Plan, start: Point, solution: Solution) -> Found:
    p = vectors.refreshed(start._replace(x=solution.x))
    residual = _residual(vectors, p)
    if solution.status is Status.OK:
        settled = vectors.settled(p)
        if settled is not p and (again := _residual(vectors, settled)) <= plan.tol:
            p, residual = settled, again
    return Found(p, solution, residual)


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


def _tightened(done: Done, found: Found, observer: Observer | None) -> Plan | None:
    """The plan with the tolerance that the bounds ask for; None where they are met, or no tolerance stands in their way."""
    plan, reached = done.plan, done.reached
    judged = done.certifier.available and found.solution.status is Status.OK and done.method == "implicit"
    if not judged or not reached.relative > plan.accuracy:
        return None
    if reached.part == "truncation" and found.residual > 0:
        tighter = replace(plan, tol=tightened(reached, plan.accuracy, min(plan.tol, found.residual)))
    elif reached.part == "linear" and done.A.method in KRYLOV:
        worst = max((float(np.max(solved.relative, initial=0.0)) for solved in done.products.solves.values()), default=0.0)
        tol = tightened(reached, plan.accuracy, min(plan.linear.tol, worst))
        tighter = replace(plan, linear=plan.linear._replace(tol=max(tol, FINEST)))
    else:
        return None
    if observer is not None:
        which = "solver.tol" if tighter.tol < plan.tol else "linear_solver.tol"
        tol = tighter.tol if tighter.tol < plan.tol else tighter.linear.tol
        observer.stage(f"{reached.what} is known to {reached.relative:.1e}, asked {plan.accuracy:.1e}: {which} {tol:.1e}")
    return tighter


def _differentiated(
    vectors: Vectors,
    plan: Plan,
    found: Found,
    watch: Stopwatch,
    observer: Observer | None,
    room: Room | None,
    start: Point | None = None,
) -> Done:
    """Products where the solver ended, by the plan's method; where nothing was solved there is no `start`: by the theorem."""
    say = observer.stage if observer is not None else lambda _: None
    p = found.p

    def certify() -> Certifier:
        say("certifying")
        _, theta, data = vectors.at(p)
        return Certifier(vectors.system, p, A, vectors.problem.constants(theta, data), margin(vectors, p))

    def progress(done: int, total: int) -> None:
        if observer is not None and total > 1:
            observer.chunk(done, total)

    chunks = plan.forward_chunks.count + plan.adjoint_chunks.count
    parts = f", {chunks} chunks" if chunks > (plan.forward_solves > 0) + (plan.adjoint_solves > 0) else ""
    say(f"differentiating: {plan.forward_solves} forward and {plan.adjoint_solves} adjoint solves{parts}")
    compared = plan.method != "implicit" and start is not None
    with watch("linearise" if compared else "differentiate"):
        single = in_single(vectors, plan, p)
        A = linearise(vectors, plan, p, single)
        sorted_out = degeneracy(vectors, p, A)
        where = room if room is not None and plan.in_file else Memory()
        site = Site(vectors, plan, p, A, sorted_out, where, None if plan.refine else single)
        products = Products(site)
        if compared and start is not None:
            again = partial(_solved_again, vectors, plan)
            products = methods.Compared(site, methods.make(plan.method, site, start, found.solution, again))
    certifier = products.compute(certify, watch, progress)
    with watch("certify"):
        kink = look(site, certifier.certificate, converged=found.solution.status is Status.OK)
        products.results = without_kinks(site, kink, products.results)
        if plan.one_sided:
            say("differentiating one-sidedly")
            sides = both_sides(site, kink, certifier)
            products.results = ordered((*products.results, *sides))
    return Done(plan, A, sorted_out, products, certifier, kink, plan.method if compared else "implicit", known(products))


def _recorded(vectors: Vectors, plan: Plan, found: Found, done: Done, watch: Stopwatch, identity: str) -> CaseResult:
    """The record of a case that was differentiated, with its verdict; `plan` is the one before anything was tightened."""
    p, products, degeneracy = found.p, done.products, done.degeneracy
    status, message = judge(vectors, plan, found.solution, found.residual, done)
    if isinstance(products, methods.Compared) and status.good:
        if products.trouble is not None:
            status, message = verdict(*products.trouble)
        else:
            message = "; ".join(filter(None, (message, products.note)))
    return _record(
        vectors,
        done.plan,
        found,
        watch,
        id=identity,
        status=status,
        message=message,
        outputs=vectors.y.split(np.asarray(vectors.system.g(p.x, p.theta, p.data))),
        products=flagged(products.results, status),
        linear=tuple(_linear_report(direction, solved) for direction, solved in products.solves.items()),
        certificate=done.certifier.certificate,
        method=done.method,
        bounds=_bounds(vectors, done),
        accuracy=done.reached.relative,
        null_space=NullSpace(
            degeneracy.nullity,
            degeneracy.gauges,
            {reason: vectors.x.split(mask) for reason, mask in degeneracy.undetermined.items()},
        ),
    )


def _bounds(vectors: Vectors, done: Done) -> dict[str, Bound]:
    """Bounds on each unknown and output; NaN for an output that has components without a derivative."""
    site = done.products.site
    in_x, in_y = done.certifier.solution()
    kind = "bound" if done.certifier.proved else "estimate"
    found = {}
    for name in (*vectors.x.names, *vectors.y.names):
        _, rows, free = site.parts_of(name)
        unknown = name in vectors.x.slices
        parts = (in_x if unknown else in_y).norms(np.arange(rows.start, rows.stop)[~free])
        bound = site.bound((part[0] for part in parts), kind if unknown else "estimate", done.certifier)
        found[name] = bound if unknown or not free.any() else no_bound(bound)
    return found


def _record(vectors: Vectors, plan: Plan, found: Found, watch: Stopwatch, **rest: Any) -> CaseResult:
    """A case with what every case has: parameters, solution, the solver's story, times."""
    solution = found.solution
    return CaseResult(
        theta={name: np.asarray(value) for name, value in vectors.bound.parameters.items()},
        solution=vectors.x.split(np.asarray(found.p.x)),
        solver=SolverReport(
            solution.name, solution.status, solution.steps, solution.polish_steps, plan.tol, found.residual, solution.history
        ),
        seconds=watch.seconds,
        **rest,
    )


def _solved_again(vectors: Vectors, plan: Plan, p: Point) -> Solution:
    """The same solve from p.x at p.theta, always polished: a difference of solutions needs all of their digits."""
    return solve(
        plan.solver,
        vectors.goal,
        p,
        tol=plan.tol,
        max_steps=plan.max_steps,
        linearise=lambda p: linearise(vectors, plan, p),
    )


def _residual(vectors: Vectors, p: Point) -> float:
    """max |F|, and what else counts as the solver's residual, evaluated anew."""
    return float(compiled_residual(vectors.goal)(p))


def _linear_report(direction: str, solved: Solves) -> LinearReport:
    return LinearReport(direction, solved.method, solved.status, solved.relative, solved.steps)


def _unsolved(vectors: Vectors, plan: Plan, found: Found, watch: Stopwatch, identity: str) -> CaseResult:
    """A case whose solver met NaN or infinity: its story is kept, there is nothing to differentiate."""
    solution = found.solution
    status, message = verdict(Status.NOT_FINITE, f"{solution.name} after {solution.steps} steps")
    return _without_products(vectors, plan, found, watch, identity, status, message)


def failed(vectors: Vectors, plan: Plan, error: Exception, *, identity: str) -> CaseResult:
    """A case in which the problem's own code, or the device, raised an error, or whose time was over: nothing is known of it."""
    first = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, TimedOut):
        status, message = verdict(Status.TIMED_OUT, first)
    else:
        status, message = verdict(Status.CRASHED, f"{type(error).__name__}{': ' if first else ''}{first}")
    nothing = Solution(jnp.full(vectors.x.size, jnp.nan), status, np.zeros(0), plan.solver)
    found = Found(Point(nothing.x, vectors.start, vectors.data), nothing, np.nan)
    return _without_products(vectors, plan, found, Stopwatch(), identity, status, message)


def _without_products(
    vectors: Vectors,
    plan: Plan,
    found: Found,
    watch: Stopwatch,
    identity: str,
    status: Status,
    message: str,
    outputs: Mapping[str, Array] | None = None,
) -> CaseResult:
    return _record(
        vectors,
        plan,
        found,
        watch,
        id=identity,
        status=status,
        message=message,
        outputs=outputs or {name: np.full(shape, np.nan) for name, shape in vectors.y.shapes.items()},
        products=(),
        linear=(),
        certificate=Certificate.unknown(),
        null_space=NullSpace(),
    )
