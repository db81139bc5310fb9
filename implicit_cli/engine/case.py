"""One case: condition -> solve -> linearise -> differentiate -> certify, and a status for all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.degeneracy import Degeneracy, analyse
from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.solvers import Observer as SolverObserver
from implicit_cli.core.solvers import Solution, compiled_residual, solve
from implicit_cli.engine import methods
from implicit_cli.engine.chunks import Memory, Room
from implicit_cli.engine.passes import Solves
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.products import Products
from implicit_cli.engine.site import Site
from implicit_cli.engine.vectors import Vectors
from implicit_cli.result import Array, CaseResult, Certificate, LinearReport, NullSpace, SolverReport
from implicit_cli.status import Status

RUNAWAY = 1e3
"""A residual that has grown by this factor is said to have run away."""
STORED = "stored"
"""Name of the solver where the solution was there before."""


class Observer(SolverObserver, Protocol):
    """Sees a case from outside: what begins, how the solver goes, and how many chunks of right-hand sides are done."""

    def chunk(self, done: int, total: int) -> None: ...


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
    vectors: Vectors, plan: Plan, *, identity: str, seed: int, observer: Observer | None = None, room: Room | None = None
) -> CaseResult:
    """Solve and differentiate one case. Whatever the mathematics does, the answer is a `CaseResult` whose status says it.

    Blocks of a Jacobian that the plan sends to a file go to `room`.
    """
    watch = Stopwatch()
    if observer is not None:
        observer.stage(f"solving with {plan.solver}: {vectors.x.size} unknowns")
    start = Point(vectors.initial(seed), vectors.start, vectors.data)
    with watch("solve"):
        solution = solve(
            plan.solver,
            vectors.goal,
            start,
            tol=plan.tol,
            max_steps=plan.max_steps,
            linearise=(lambda p: _linearise(vectors, plan, p)) if plan.polish else None,
            observer=observer,
        )
    p = start._replace(x=solution.x)
    residual = _residual(vectors, p)
    if solution.status is Status.NOT_FINITE:
        return _unsolved(vectors, plan, p, solution, residual, watch, identity)
    return _differentiated(vectors, plan, p, solution, residual, watch, identity, observer, room, start)


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
    p = Point(vectors.x.join(x), vectors.start, vectors.data)
    residual = _residual(vectors, p)
    finite = bool(jnp.all(jnp.isfinite(p.x))) and np.isfinite(residual)
    status = Status.NOT_FINITE if not finite else Status.OK if residual <= plan.tol else Status.NOT_CONVERGED
    solution = Solution(p.x, status, np.zeros(0), STORED)
    watch = Stopwatch()
    if not finite:
        return _unsolved(vectors, plan, p, solution, residual, watch, identity)
    return _differentiated(vectors, plan, p, solution, residual, watch, identity, observer, room)


def _differentiated(
    vectors: Vectors,
    plan: Plan,
    p: Point,
    solution: Solution,
    residual: float,
    watch: Stopwatch,
    identity: str,
    observer: Observer | None,
    room: Room | None,
    start: Point | None = None,
) -> CaseResult:
    """Products at p, by the plan's method; where nothing was solved there is no `start`, and the method is the theorem."""
    say = observer.stage if observer is not None else lambda _: None

    def certify() -> Certifier:
        say("certifying")
        _, theta, data = vectors.arguments(p)
        return Certifier(vectors.system, p, A, vectors.problem.constants(theta, data), _margin(vectors, p))

    def progress(done: int, total: int) -> None:
        if observer is not None and total > 1:
            observer.chunk(done, total)

    chunks = plan.forward_chunks.count + plan.adjoint_chunks.count
    parts = f", {chunks} chunks" if chunks > (plan.forward_solves > 0) + (plan.adjoint_solves > 0) else ""
    say(f"differentiating: {plan.forward_solves} forward and {plan.adjoint_solves} adjoint solves{parts}")
    compared = plan.method != "implicit" and start is not None
    with watch("linearise" if compared else "differentiate"):
        A = _linearise(vectors, plan, p)
        degeneracy = _degeneracy(vectors, p, A, _gauges(vectors, p))
        site = Site(vectors, plan, p, A, degeneracy, room if room is not None and plan.in_file else Memory())
        products = Products(site)
        if compared and start is not None:
            again = partial(_solved_again, vectors, plan)
            products = methods.Compared(site, methods.make(plan.method, site, start, solution, again))
    certifier = products.compute(certify, watch, progress)
    status, message = _judge(vectors, plan, solution, residual, A, degeneracy, certifier.certificate, products)
    if isinstance(products, methods.Compared) and status.good:
        if products.trouble is not None:
            status, message = _verdict(*products.trouble)
        else:
            message = "; ".join(filter(None, (message, products.note)))
    return _record(
        vectors,
        plan,
        p,
        solution,
        residual,
        watch,
        id=identity,
        status=status,
        message=message,
        outputs={name: np.asarray(value) for name, value in vectors.y.split(vectors.system.g(p.x, p.theta, p.data)).items()},
        products=products.results,
        linear=tuple(_linear_report(direction, solved) for direction, solved in products.solves.items()),
        certificate=certifier.certificate,
        method=plan.method if compared else "implicit",
        null_space=NullSpace(
            degeneracy.nullity,
            degeneracy.gauges,
            {reason: vectors.x.split(mask) for reason, mask in degeneracy.undetermined.items()},
        ),
    )


def _record(
    vectors: Vectors, plan: Plan, p: Point, solution: Solution, residual: float, watch: Stopwatch, **rest: Any
) -> CaseResult:
    """A case with what every case has: parameters, solution, the solver's story, times."""
    return CaseResult(
        theta={name: np.asarray(value) for name, value in vectors.bound.parameters.items()},
        solution={name: np.asarray(value) for name, value in vectors.x.split(p.x).items()},
        solver=SolverReport(
            solution.name, solution.status, solution.steps, solution.polish_steps, plan.tol, residual, solution.history
        ),
        seconds=watch.seconds,
        **rest,
    )


def _linearise(vectors: Vectors, plan: Plan, p: Point) -> LinearSolver:
    """A at p, prepared by the plan's method."""
    system, condition = vectors.system, vectors.condition
    find = condition.pattern
    operator = Operator(
        system.A_times,
        system.At_times,
        p,
        vectors.x.size,
        condition.symmetric,
        definite=condition.definite,
        matrix=system.A_matrix,
        pattern=find(*vectors.arguments(p)) if find is not None else None,
        entries=vectors.entries,
        precondition=vectors.precondition,
    )
    known = list(_gauges(vectors, p).values())
    G = jnp.stack(known, axis=1) if known else jnp.zeros((vectors.x.size, 0))
    return prepare(plan.linear, operator, None, G)


def _solved_again(vectors: Vectors, plan: Plan, p: Point) -> Solution:
    """The same solve from p.x at p.theta, always polished: a difference of solutions needs all of their digits."""
    return solve(
        plan.solver,
        vectors.goal,
        p,
        tol=plan.tol,
        max_steps=plan.max_steps,
        linearise=lambda p: _linearise(vectors, plan, p),
    )


def _residual(vectors: Vectors, p: Point) -> float:
    """max |F|, and what else counts as the solver's residual, evaluated anew."""
    return float(compiled_residual(vectors.goal)(p))


def _gauges(vectors: Vectors, p: Point) -> dict[str, jax.Array]:
    """Known symmetries at a point, by name, as directions (d,)."""
    arguments = vectors.arguments(p)
    found = dict(vectors.problem.null_space(*arguments))
    if vectors.condition.null_space is not None:
        found |= {name: z._asdict() for name, z in vectors.condition.null_space(*arguments).items()}
    return {name: vectors.x.join(direction) for name, direction in found.items()}


def _margin(vectors: Vectors, p: Point) -> float:
    """Distance to the nearest kink of F, of those that the problem and its condition know of."""
    arguments = vectors.arguments(p)
    margins = [vectors.problem.margin(*arguments)]
    if vectors.condition.margin is not None:
        margins.append(vectors.condition.margin(*arguments))
    return min(map(float, margins))


def _degeneracy(vectors: Vectors, p: Point, A: LinearSolver, gauges: dict[str, jax.Array]) -> Degeneracy:
    system, d = vectors.system, vectors.x.size
    declared = {reason: vectors.x.mask(masks) for reason, masks in vectors.problem.undetermined(*vectors.arguments(p)).items()}
    leak, gauge_leak, size_of_B = 0.0, 0.0, 1.0
    Z, Y = A.null_space
    if Y.shape[1]:
        leak = float(jnp.linalg.norm(system.Bt_times(p, Y)))
        probes = jnp.linalg.qr(jax.random.normal(jax.random.key(2), (d, min(d, 4))))[0]
        size_of_B = float(jnp.linalg.norm(system.Bt_times(p, probes))) * (d / probes.shape[1]) ** 0.5
    if gauges and system.symmetric:  # else what B must not have is in Y, and its leak is found above
        G = jnp.linalg.qr(jnp.stack(list(gauges.values()), axis=1))[0]
        gauge_leak = float(jnp.linalg.norm(system.Bt_times(p, G)))
    named = {name: np.asarray(direction) for name, direction in gauges.items()}
    return analyse(np.asarray(Z), named, declared, leak=leak, gauge_leak=gauge_leak, size_of_B=size_of_B)


def _judge(
    vectors: Vectors,
    plan: Plan,
    solution: Solution,
    residual: float,
    A: LinearSolver,
    degeneracy: Degeneracy,
    certificate: Certificate,
    products: Products,
) -> tuple[Status, str]:
    """The worst that is true of the case, with the figures behind it."""
    if solution.status is Status.NOT_CONVERGED:
        how = "at the stored solution" if solution.name == STORED else f"after {solution.steps} steps of {solution.name}"
        found = f"max |F| is {residual:.2e} {how}, asked: {plan.tol:.2e}"
        if solution.history.size and solution.history[-1] > RUNAWAY * solution.history[0]:
            found += f" (it was {solution.history[0]:.2e} at first: the problem may have no solution)"
        return _verdict(Status.NOT_CONVERGED, found)
    undetermined = _describe_undetermined(vectors, degeneracy)
    if degeneracy.fatal and degeneracy.undetermined:
        return _verdict(Status.SINGULAR, f"no component has a derivative ({undetermined})")
    if degeneracy.fatal or not degeneracy.solvable:
        return _verdict(Status.SINGULAR, f"dF/dtheta leaves the range of dF/dx ({undetermined or 'along a gauge'})")
    failed = [direction for direction, solved in products.solves.items() if (solved.status != Status.OK).any()]
    if failed:
        worst = max(float(np.max(products.solves[direction].relative)) for direction in failed)
        return _verdict(
            Status.LINEAR_SOLVE_FAILED,
            f"{A.method}, {' and '.join(failed)}: relative residual {worst:.1e}, asked {plan.linear.tol:.1e}",
        )
    if certificate.margin <= certificate.radius:
        return _verdict(
            Status.NONDIFFERENTIABLE, f"a kink is {certificate.margin:.1e} away, x is known to {certificate.radius:.1e}"
        )
    if vectors.condition.kind == "stationary" and A.spectrum.negative:
        return _verdict(Status.NOT_A_MINIMUM, f"dF/dx has {A.spectrum.negative} negative eigenvalues")
    if not np.isfinite(certificate.radius):
        return _verdict(Status.NO_CERTIFICATE, f"h = {certificate.h:.2g}")
    missed = _accuracy_missed(products, plan.accuracy)
    if missed:
        return _verdict(Status.ACCURACY_NOT_MET, missed)
    if undetermined:
        return _verdict(Status.PARTIAL, undetermined)
    return Status.OK, ""


def _verdict(status: Status, found: str) -> tuple[Status, str]:
    return status, f"{found}: {status.text}"


def _describe_undetermined(vectors: Vectors, degeneracy: Degeneracy) -> str:
    """`3 rattlers: position[17], position[42], position[81]`: entries along the first axis, a few of them."""
    texts = []
    for reason, mask in degeneracy.undetermined.items():
        names: list[str] = []
        for unknown, part in vectors.x.split(mask).items():
            rows = np.atleast_1d(part).reshape(len(np.atleast_1d(part)), -1).any(axis=1)
            names += [f"{unknown}[{row}]" if part.ndim else unknown for row in np.flatnonzero(rows)]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        shown = f"all of {', '.join(vectors.x.names)}" if mask.all() else shown
        texts.append(f"{len(names)} {reason}{'s' if len(names) > 1 else ''}: {shown}")
    return "; ".join(texts)


def _accuracy_missed(products: Products, accuracy: float) -> str:
    """The worst product whose bound exceeds `accuracy` times its size, with the part that stands in the way."""
    worst, text = accuracy, ""
    for product in products.results:
        relative = products.relative(product)
        if relative > worst:
            part = max(("truncation", "linear", "rounding"), key=lambda name: float(np.max(getattr(product.bound, name))))
            what = f"{product.kind} '{product.name}'"
            if product.kind in ("jacobian", "hessian"):
                d = "d2" if product.wrt2 else "d"
                what = f"{d} {product.of} / d {product.wrt}{f' d {product.wrt2}' if product.wrt2 else ''}"
            worst, text = (
                relative,
                f"{what} is known to {relative:.1e} relative, asked {accuracy:.1e}; the {part} part stands in the way",
            )
    return text


def _linear_report(direction: str, solved: Solves) -> LinearReport:
    return LinearReport(direction, solved.method, solved.status, solved.relative, solved.steps)


def _unsolved(
    vectors: Vectors, plan: Plan, p: Point, solution: Solution, residual: float, watch: Stopwatch, identity: str
) -> CaseResult:
    """A case whose solver met NaN or infinity: its story is kept, there is nothing to differentiate."""
    nan = float("nan")
    status, message = _verdict(Status.NOT_FINITE, f"{solution.name} after {solution.steps} steps")
    return _record(
        vectors,
        plan,
        p,
        solution,
        residual,
        watch,
        id=identity,
        status=status,
        message=message,
        outputs={name: np.full(shape, nan) for name, shape in vectors.y.shapes.items()},
        products=(),
        linear=(),
        certificate=Certificate(nan, nan, nan, nan, nan, nan, nan, {}),
        null_space=NullSpace(),
    )
