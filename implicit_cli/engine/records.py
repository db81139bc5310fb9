"""What a batch hands back, as records: the case results of its regular cases, and how their right-hand sides were laid out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.linear.base import Spectrum
from implicit_cli.core.nearby import Lengths, certificate
from implicit_cli.engine.asked import Direction
from implicit_cli.engine.judge import LOST
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.site import columns
from implicit_cli.engine.solving import Found
from implicit_cli.engine.vectors import Vectors
from implicit_cli.problem import Constants
from implicit_cli.result import Bound, CaseResult, LinearReport, NullSpace, Product, SolverReport
from implicit_cli.status import Status

STARTS = ("cold", "neighbour", "tangent")
"""Where a solve may begin: at the case's own guess, at another case's solution, at what that predicts along the tangent."""


class Solve(NamedTuple):
    """How a solve inside a program went: its start (`STARTS`), Newton steps from there, the solver's own, and those that polish.

    Of each the residuals and how many there were; last the residual where it ended.
    """

    begun: Any
    near: tuple[Any, Any]
    steps: tuple[Any, Any]
    polish: tuple[Any, Any]
    residual: Any


class Ended(NamedTuple):
    """What is known of a case, as arrays: the products with the parts of their bounds, the certificate, and the solve.

    `ahead` (d,) is the solution that is predicted for the next case. There is no `solve` where the host has solved.
    Products: `U` (d, k) and `Y` (m, k) of the forward columns, `L` (n, l) of the adjoint ones. `tangents` and `rows` are parts of
    bounds by `of`, (3, k) and (3, n), `cotangents` by `wrt`, (3, l'); `values` those of unknowns and outputs (3,).
    """

    x: Any
    y: Any
    U: Any
    Y: Any
    L: Any
    tangents: Any
    rows: Any
    cotangents: Any
    values: Any
    forward: Any
    adjoint: Any
    lengths: Lengths
    spectrum: Any
    margin: Any
    proved: Any
    regular: Any
    ahead: Any
    solve: Solve | None = None


class Lane(NamedTuple):
    """A case to be computed with others: the problem at its values, its seed and its id.

    Where the solution of another case is known, `nearby` (2, d) has it, and what it predicts here; NaN for what is not known.
    `onward` (n,) is how far lambda goes to the next case, whose solution is to be predicted. Where the host has solved it, it has
    `found` a solution, having `begun` at one of the `STARTS`, or met an `error`.
    """

    vectors: Vectors
    seed: int
    id: str
    nearby: NDArray[np.float64] | None = None
    onward: NDArray[np.float64] | None = None
    found: Found | None = None
    begun: int = 0
    error: Exception | None = None


class Sides:
    """The right-hand sides of all products, in one matrix for each direction, and where each product has its columns.

    `V` (n, k) has those of the forward solves: one for each component of theta where the Jacobian is found so (`whole`), then the
    jvps. `W` (d + m, l) has those of the adjoint ones: a row of the Jacobian each, by `of` in `places`, then the vjps.
    """

    def __init__(self, vectors: Vectors, plan: Plan) -> None:
        bound, x, y, theta = vectors.bound, vectors.x, vectors.y, vectors.theta
        jvps, vjps = ([one for one in bound.directions if one.kind == kind] for kind in ("jvp", "vjp"))
        self.whole = bound.jacobian and plan.mode == "forward"
        self.places: dict[str, slice] = {}
        rows: list[int] = []
        for of in bound.of if bound.jacobian and not self.whole else ():
            where, offset = (x.slices[of], 0) if of in x.slices else (y.slices[of], x.size)
            self.places[of] = slice(len(rows), len(rows) + where.stop - where.start)
            rows += range(offset + where.start, offset + where.stop)
        self.named = len(rows)
        one, all_of_theta = np.eye(x.size + y.size), np.eye(theta.size)[:, : theta.size if self.whole else 0]
        cotangents = [np.concatenate([columns(x, direction), columns(y, direction)]) for direction in vjps]
        self.V = np.concatenate([all_of_theta, *(columns(theta, direction) for direction in jvps)], axis=1)
        self.W = np.concatenate([one[:, rows], *cotangents], axis=1)
        self.jvps, self.vjps = _laid(jvps, all_of_theta.shape[1]), _laid(vjps, self.named)


def _laid(directions: list[Direction], first: int) -> list[tuple[Direction, slice]]:
    """Each direction with its columns, of which the first is `first`."""
    found = []
    for direction in directions:
        found.append((direction, slice(first, first + (direction.count or 1))))
        first = found[-1][1].stop
    return found


def record(
    lane: Lane,
    plan: Plan,
    sides: Sides,
    ended: Ended,
    *,
    method: str,
    constants: Constants,
    gauges: tuple[str, ...],
    seconds: float,
    warm: bool,
) -> CaseResult | None:
    """The record of a case; None where it is not regular, or not as accurate as was asked.

    `method` solved the linear systems, `constants` are those that the problem proves: what counts is which are not None.
    """
    if not ended.regular:
        return None
    if ended.solve is not None:
        solver, begun, spent = _report(ended.solve, plan), int(ended.solve.begun), {"batch": seconds}
    else:
        assert lane.found is not None
        solver, begun, spent = solver_report(lane.found, plan.tol), lane.begun, {"solve": lane.found.seconds, "batch": seconds}
    products = [*_jacobians(lane.vectors, sides, ended), *_directions(lane.vectors, sides, ended)]
    known = [_relative(product) for product in products]
    accuracy = max((relative for relative, _ in known), default=0.0)
    if not accuracy <= plan.accuracy or not max((rounding for _, rounding in known), default=0.0) <= LOST:
        return None
    vectors = lane.vectors
    nothing: Any = np.zeros((vectors.x.size, 0))
    low, high = ended.spectrum
    kind = "bound" if ended.proved else "estimate"
    return CaseResult(
        id=lane.id,
        status=Status.OK,
        message="",
        theta={name: np.asarray(value) for name, value in vectors.bound.parameters.items()},
        solution=vectors.x.split(ended.x),
        outputs=vectors.y.split(ended.y),
        products=tuple(products),
        solver=solver,
        linear=tuple(
            LinearReport(direction, method, *map(np.asarray, story))
            for direction, story in (("forward", ended.forward), ("adjoint", ended.adjoint))
            if len(story[0])
        ),
        certificate=certificate(ended.lengths, Spectrum(low, high, nothing, nothing), constants, ended.margin),
        null_space=NullSpace(len(gauges), gauges),
        seconds=spent,
        bounds={name: _bound(parts, kind if name in vectors.x.slices else "estimate") for name, parts in ended.values.items()},
        accuracy=accuracy,
        start=STARTS[begun] if warm else "",
    )


def solver_report(found: Found, tol: float) -> SolverReport:
    """The story of a solve on the host."""
    solution = found.solution
    return SolverReport(
        solution.name, solution.status, solution.steps, solution.polish_steps, tol, found.residual, solution.history
    )


def _report(solve: Solve, plan: Plan) -> SolverReport:
    """The story of a solve inside a program, which came to its end."""
    near, own, polish = (history[:count] for history, count in (solve.near, solve.steps, solve.polish))
    history = np.concatenate([near, own, polish])
    return SolverReport(plan.solver, Status.OK, len(own), len(near) + len(polish), plan.tol, float(solve.residual), history)


def _jacobians(vectors: Vectors, sides: Sides, ended: Ended) -> list[Product]:
    found = []
    for of in vectors.bound.of if vectors.bound.jacobian else ():
        layout, rows = (vectors.x, ended.U) if of in vectors.x.slices else (vectors.y, ended.Y)
        for wrt, where in vectors.theta.slices.items():
            value = rows[layout.slices[of], where] if sides.whole else ended.L[where, sides.places[of]].T
            parts = (ended.tangents if sides.whole else ended.rows)[of][:, where]
            kind = "bound" if sides.whole and ended.proved and of in vectors.x.slices else "estimate"
            shape = vectors.theta.shapes[wrt]
            bound = _bound(parts.reshape(3, *shape), kind)
            found.append(Product("jacobian", "", of, wrt, value.reshape(layout.shapes[of] + shape), bound))
    return found


def _directions(vectors: Vectors, sides: Sides, ended: Ended) -> list[Product]:
    found = []
    for of in vectors.bound.of if sides.jvps else ():
        layout, rows = (vectors.x, ended.U) if of in vectors.x.slices else (vectors.y, ended.Y)
        kind = "bound" if ended.proved and of in vectors.x.slices else "estimate"
        for direction, place in sides.jvps:
            many = () if direction.count is None else (direction.count,)
            value = rows[layout.slices[of], place].T.reshape(many + layout.shapes[of])
            bound = _bound(ended.tangents[of][:, place].reshape(3, *many), kind)
            found.append(Product("jvp", direction.name, of, "", value, bound, direction=dict(direction.parts)))
    for direction, place in sides.vjps:
        many = () if direction.count is None else (direction.count,)
        within = slice(place.start - sides.named, place.stop - sides.named)
        for wrt, where in vectors.theta.slices.items():
            value = ended.L[where, place].T.reshape(many + vectors.theta.shapes[wrt])
            bound = _bound(ended.cotangents[wrt][:, within].reshape(3, *many), "estimate")
            found.append(Product("vjp", direction.name, "", wrt, value, bound, direction=dict(direction.parts)))
    return found


def _bound(parts: NDArray[np.float64], kind: str) -> Bound:
    truncation, linear, rounding = map(np.asarray, parts)
    return Bound(truncation + linear + rounding, truncation, linear, rounding, kind)


def _relative(product: Product) -> tuple[float, float]:
    """Bound of a product relative to its size, as `Products.relative`, and the rounding part alike.

    Infinite for a derivative that vanishes within its bound: what to compare it with has to be looked for.
    """
    bounds, rounding = product.bound.total.reshape(-1), product.bound.rounding.reshape(-1)
    if product.kind == "jacobian":
        sizes = np.linalg.norm(product.value.reshape(-1, max(bounds.size, 1)), axis=0).max(initial=0.0, keepdims=True)
        bounds, rounding = bounds.max(initial=0.0, keepdims=True), rounding.max(initial=0.0, keepdims=True)
    else:
        sizes = np.linalg.norm(product.value.reshape(bounds.size, -1), axis=1)
    if not (sizes > bounds).all():
        return np.inf, np.inf
    relative = bounds / sizes
    total = float(bounds.max(initial=0.0))
    worst = float(relative.max(initial=0.0))
    return worst, worst * float(rounding.max(initial=0.0)) / total if total > 0 else 0.0
