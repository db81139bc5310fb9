"""One case: condition -> solve -> linearise -> differentiate -> certify, and a status for all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.degeneracy import Degeneracy, analyse
from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver, Solved, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.solvers import Observer, Solution, solve
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.products import Products
from implicit_cli.engine.vectors import Vectors
from implicit_cli.result import CaseResult, Certificate, LinearReport, NullSpace, SolverReport
from implicit_cli.status import Status

RUNAWAY = 1e3
"""A residual that has grown by this factor is said to have run away."""


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


def run_case(vectors: Vectors, plan: Plan, *, identity: str, seed: int, observer: Observer | None = None) -> CaseResult:
    """Solve and differentiate one case. Whatever the mathematics does, the answer is a `CaseResult` whose status says it."""
    watch = Stopwatch()
    say = observer.stage if observer is not None else lambda _: None

    def linearise(p: Point) -> LinearSolver:
        operator = Operator(vectors.system.A_times, vectors.system.At_times, p, vectors.x.size, vectors.condition.symmetric)
        A = vectors.system.A_matrix(p) if plan.linear.dense else None
        known = list(_gauges(vectors, p).values())
        G = jnp.stack(known, axis=1) if known else jnp.zeros((vectors.x.size, 0))
        return prepare(plan.linear, operator, A, G)

    say(f"solving with {plan.solver}: {vectors.x.size} unknowns")
    start = Point(vectors.initial(seed), vectors.start, vectors.data)
    with watch("solve"):
        solution = solve(
            plan.solver,
            vectors.goal,
            start,
            tol=plan.tol,
            max_steps=plan.max_steps,
            linearise=linearise if plan.polish else None,
            observer=observer,
        )
    p = start._replace(x=solution.x)
    residual = float(jnp.max(jnp.abs(vectors.system.F(p.x, p.theta, p.data)), initial=0.0))
    if solution.status is Status.NOT_FINITE:
        return _unsolved(vectors, plan, p, solution, residual, watch, identity)

    say(f"differentiating: {plan.forward_solves} forward and {plan.adjoint_solves} adjoint solves")
    with watch("differentiate"):
        A = linearise(p)
        degeneracy = _degeneracy(vectors, p, A, _gauges(vectors, p))
        products = Products(vectors, plan, p, A, degeneracy)
        products.differentiate()
    say("certifying")
    with watch("certify"):
        x, theta, data = vectors.arguments(p)
        certifier = Certifier(
            vectors.system, p, A, vectors.problem.constants(theta, data), float(vectors.problem.margin(x, theta, data))
        )
        products.certify(certifier)
    status, message = _judge(vectors, plan, solution, residual, A, degeneracy, certifier.certificate, products)
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


def _gauges(vectors: Vectors, p: Point) -> dict[str, jax.Array]:
    """Known symmetries at a point, by name, as directions (d,)."""
    return {name: vectors.x.join(direction) for name, direction in vectors.problem.null_space(*vectors.arguments(p)).items()}


def _degeneracy(vectors: Vectors, p: Point, A: LinearSolver, gauges: dict[str, jax.Array]) -> Degeneracy:
    system, d = vectors.system, vectors.x.size
    declared = {reason: vectors.x.mask(masks) for reason, masks in vectors.problem.undetermined(*vectors.arguments(p)).items()}
    leak, gauge_leak, size_of_B = 0.0, 0.0, 1.0
    if A.spectrum.nullity:
        leak = float(jnp.linalg.norm(system.Bt_times(p, A.spectrum.Y)))
        probes = jnp.linalg.qr(jax.random.normal(jax.random.key(2), (d, min(d, 4))))[0]
        size_of_B = float(jnp.linalg.norm(system.Bt_times(p, probes))) * (d / probes.shape[1]) ** 0.5
    if gauges:
        G = jnp.linalg.qr(jnp.stack(list(gauges.values()), axis=1))[0]
        gauge_leak = float(jnp.linalg.norm(system.Bt_times(p, G)))
    named = {name: np.asarray(direction) for name, direction in gauges.items()}
    return analyse(np.asarray(A.spectrum.Z), named, declared, leak=leak, gauge_leak=gauge_leak, size_of_B=size_of_B)


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
        found = f"max |F| is {residual:.2e} after {solution.steps} steps of {solution.name}, asked: {plan.tol:.2e}"
        if solution.history[-1] > RUNAWAY * solution.history[0]:
            found += f" (it was {solution.history[0]:.2e} at first: the problem may have no solution)"
        return _verdict(Status.NOT_CONVERGED, found)
    undetermined = _describe_undetermined(vectors, degeneracy)
    if degeneracy.fatal and degeneracy.undetermined:
        return _verdict(Status.SINGULAR, f"no component has a derivative ({undetermined})")
    if degeneracy.fatal or not degeneracy.solvable:
        return _verdict(Status.SINGULAR, f"dF/dtheta leaves the range of dF/dx ({undetermined or 'along a gauge'})")
    failed = [direction for direction, solved in products.solves.items() if (solved.status != Status.OK).any()]
    if failed:
        worst = max(float(products.solves[direction].relative.max()) for direction in failed)
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
        finite = np.nan_to_num(product.value)
        columns = finite.reshape(-1, product.bound.total.size) if product.kind == "jacobian" else finite.reshape(-1, 1)
        size, bound = float(np.linalg.norm(columns, axis=0).max(initial=0.0)), float(np.max(product.bound.total, initial=0.0))
        if np.isnan(product.value).all():
            continue
        relative = bound / size if size > 0 else bound
        if relative > worst:
            part = max(("truncation", "linear", "rounding"), key=lambda name: float(np.max(getattr(product.bound, name))))
            what = f"d {product.of} / d {product.wrt}" if product.kind == "jacobian" else f"{product.kind} '{product.name}'"
            worst, text = (
                relative,
                f"{what} is known to {relative:.1e} relative, asked {accuracy:.1e}; the {part} part stands in the way",
            )
    return text


def _linear_report(direction: str, solved: Solved) -> LinearReport:
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
