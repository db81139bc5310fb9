"""One case: condition -> solve -> linearise -> differentiate -> certify, and a status for all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.degeneracy import Degeneracy
from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.linear.policy import KRYLOV
from implicit_cli.core.solvers import Solution
from implicit_cli.engine import methods
from implicit_cli.engine.accuracy import GAIN, ROUNDS, Known, known, tightened
from implicit_cli.engine.chunks import Memory, Room
from implicit_cli.engine.deadline import TimedOut
from implicit_cli.engine.judge import STORED, flagged, judge, verdict
from implicit_cli.engine.kinks import Kink, look, without_kinks
from implicit_cli.engine.linearise import degeneracy, in_single, linearise, margin
from implicit_cli.engine.passes import Solves
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.products import Products, ordered
from implicit_cli.engine.records import solver_report
from implicit_cli.engine.sides import both_sides
from implicit_cli.engine.site import Site, no_bound
from implicit_cli.engine.solving import Found, Observer, residual_at, solved, solved_again, solved_on
from implicit_cli.engine.threads import one_thread
from implicit_cli.engine.vectors import Vectors
from implicit_cli.result import Array, Bound, CaseResult, Certificate, LinearReport, NullSpace
from implicit_cli.status import Status

FINEST = 1e-15
"""No linear solve is asked for a smaller relative residual."""


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
    found: Found | None = None,
) -> CaseResult:
    """Solve and differentiate one case. Whatever the mathematics does, the answer is a `CaseResult` whose status says it.

    The solve begins `at` x (d,), close to a solution, where that is given, else at the case's own guess; there is none where it has
    been `found` already. Where a bound is larger than the accuracy that the plan asks for, the tolerance behind it is tightened,
    and the case is solved on. Blocks of a Jacobian that the plan sends to a file go to `room`.
    """
    # what overflows is infinite, and the status of the case says what that means
    with one_thread(vectors.x.size), np.errstate(over="ignore"):
        watch = Stopwatch()
        found = found or solved(vectors, plan, seed=seed, observer=observer, at=at)
        if found.solution.status is Status.NOT_FINITE:
            return _unsolved(vectors, plan, found, watch, identity)
        return _settled(vectors, plan, found, watch, observer, room, identity)


def _settled(
    vectors: Vectors, plan: Plan, found: Found, watch: Stopwatch, observer: Observer | None, room: Room | None, identity: str
) -> CaseResult:
    """The record of a case that is solved, as accurate as it can be made."""
    done = _differentiated(vectors, plan, found, watch, observer, room)
    for _ in range(ROUNDS):
        tighter = _tightened(done, found, observer)
        if tighter is None:
            break
        if tighter.tol < done.plan.tol:
            again = solved_on(vectors, tighter, found, observer, plan.tol)
            if not again.residual < found.residual:
                break
            found = again
        before, done = done, _differentiated(vectors, tighter, found, watch, observer, room)
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
    found, watch = _there(vectors, plan, vectors.x.join(x)), Stopwatch()
    if found.solution.status is Status.NOT_FINITE:
        return _unsolved(vectors, plan, found, watch, identity)
    # what overflows is infinite, and the status of the case says what that means
    with one_thread(vectors.x.size), np.errstate(over="ignore"):
        return _recorded(vectors, plan, found, _differentiated(vectors, plan, found, watch, observer, room), watch, identity)


def without_derivative(vectors: Vectors, plan: Plan, x: Array, status: Status, found: str, *, identity: str) -> CaseResult:
    """The record of a solution x (d,) that is known to have no derivative, a fold: outputs are computed, products are NaN.

    `status` and `found` say what it is. Whether A counts as singular need not be asked: of a single unknown, no number could tell.
    """
    there = _there(vectors, plan, jnp.asarray(x))
    p = there.p
    outputs = vectors.y.split(np.asarray(vectors.system.g(p.x, p.theta, p.data)))
    return _without_products(vectors, plan, there, Stopwatch(), identity, *verdict(status, found), outputs)


def _there(vectors: Vectors, plan: Plan, x: jax.Array) -> Found:
    """A solution x (d,) that nobody has to solve for, with F evaluated there anew."""
    p = vectors.refreshed(Point(x, vectors.start, vectors.data))
    residual = residual_at(vectors, p)
    finite = bool(jnp.all(jnp.isfinite(p.x))) and np.isfinite(residual)
    status = Status.NOT_FINITE if not finite else Status.OK if residual <= plan.tol else Status.NOT_CONVERGED
    return Found(p, Solution(p.x, status, np.zeros(0), STORED), residual)


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
) -> Done:
    """Products where the solver ended, by the plan's method; where nothing was solved there is no start: by the theorem."""
    say = observer.stage if observer is not None else lambda _: None
    p, start = found.p, found.start

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
    linearising = "linearise" if compared else "differentiate"
    with watch(linearising):
        single = in_single(vectors, plan, p)
        A = linearise(vectors, plan, p, single)
    where = room if room is not None and (plan.in_file or room.keeps) else Memory()
    while True:
        with watch(linearising):
            sorted_out = degeneracy(vectors, p, A)
            site = Site(vectors, plan, p, A, sorted_out, where, None if plan.refine else single)
            products = Products(site)
            if compared and start is not None:
                again = partial(solved_again, vectors, plan)
                products = methods.Compared(site, methods.make(plan.method, site, start, found.solution, again))
        certifier = products.compute(certify, watch, progress)
        if A.null_space[0].shape[1] == sorted_out.nullity:
            break
        # a factorisation that an iteration gave way to has found null vectors: what was not known then is not to be relied on
        say("differentiating anew: dF/dx is singular")
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
        bounds=_bounds(vectors, done) if plan.bounds else {},
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
    return CaseResult(
        theta={name: np.asarray(value) for name, value in vectors.bound.parameters.items()},
        solution=vectors.x.split(np.asarray(found.p.x)),
        solver=solver_report(found, plan.tol),
        seconds={**({"solve": found.seconds} if found.start is not None else {}), **watch.seconds},
        **rest,
    )


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
