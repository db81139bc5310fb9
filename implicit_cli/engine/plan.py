"""What a run will do, decided before any work: solver, direction, linear method, solves, memory. `implicit check` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from implicit_cli.core.linear import LinearPlan, choose
from implicit_cli.core.solvers import pick
from implicit_cli.engine.vectors import Vectors
from implicit_cli.errors import InputError
from implicit_cli.problem import Problem
from implicit_cli.spec import LoadedSpec

BYTES = 8
BACKWARD_STABLE = 1e-10


@dataclass(frozen=True)
class Plan:
    """The decisions, with `rows` to print and `warnings` to heed."""

    solver: str
    tol: float
    max_steps: int
    polish: bool
    linear: LinearPlan
    mode: str
    forward_solves: int
    adjoint_solves: int
    accuracy: float
    rows: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()

    def asdict(self) -> dict[str, Any]:
        """For `implicit check --json`."""
        return {"plan": dict(self.rows), "warnings": list(self.warnings)}


def make_plan(loaded: LoadedSpec, vectors: Vectors) -> Plan:
    """Decide; raises InputError where the spec asks for a method that this condition does not allow."""
    spec, bound, kind = loaded.model, vectors.bound, vectors.condition.kind
    asked = spec.solver.name if spec.solver.name != "auto" else bound.problem.solver
    try:
        solver = pick(asked, kind)
    except ValueError as error:
        raise InputError(f"{loaded.at('solver', 'name')}: {error}") from None
    d, n = vectors.x.size, vectors.theta.size
    linear_spec = spec.sensitivity.linear_solver
    try:
        linear = choose(
            d,
            symmetric=vectors.condition.symmetric,
            name=linear_spec.name,
            tol=linear_spec.tol,
            max_steps=linear_spec.max_steps,
        )
    except ValueError as error:
        raise InputError(f"{loaded.at('sensitivity', 'linear_solver')}: {error}") from None
    has_gauges = type(bound.problem).null_space is not Problem.null_space
    if has_gauges and not linear.dense and not vectors.condition.symmetric:
        raise InputError(
            f"{loaded.at('sensitivity', 'linear_solver')}: found '{linear.method}', "
            "allowed for a non-symmetric condition with gauges: 'lu'"
        )
    m = _rows_wanted(vectors)
    mode = spec.sensitivity.mode
    reason = "asked for"
    if mode == "auto":
        mode = "forward" if n <= m else "adjoint"
        reason = f"{n} parameter components, {m} output components"
    jvps = sum(direction.kind == "jvp" for direction in bound.directions)
    vjps = sum(direction.kind == "vjp" for direction in bound.directions)
    forward = jvps + (n if bound.jacobian and mode == "forward" else 0)
    adjoint = vjps + (m if bound.jacobian and mode == "adjoint" else 0)
    memory = BYTES * ((4 * d * d if linear.dense else 0) + 6 * (d + n) * (forward + adjoint) + (m * n if bound.jacobian else 0))
    warnings = [] if forward + adjoint else ["sensitivity.products is empty: the problem is solved and not differentiated"]
    rows = (
        ("problem", f"{spec.problem} ({type(bound.problem).__name__})"),
        ("condition", f"{kind}: {_CONDITIONS[kind]}"),
        ("unknowns", f"d = {d}: {_sizes(bound.shapes, vectors.x.names)}"),
        ("parameters", f"n = {n}: {_sizes(bound.shapes, vectors.theta.names)}"),
        ("outputs", f"m = {vectors.y.size}: {_sizes(bound.shapes, vectors.y.names)}"),
        (
            "solver",
            f"{solver}, max |F| <= {spec.solver.tol:g}, at most {spec.solver.max_steps} steps, "
            f"Newton polish {'on' if spec.solver.polish else 'off'}",
        ),
        ("linear solver", linear.reason),
        ("jacobian", f"{mode}: {reason}" if bound.jacobian else "not asked for"),
        ("linear solves", f"{forward} forward, {adjoint} adjoint, as many again for the certificate"),
        (
            "certificate",
            f"sigma_min and kappa {'computed' if linear.dense else 'estimated'}; accuracy {spec.sensitivity.accuracy:g} asked",
        ),
        ("memory", f"about {_bytes_text(memory)} for A and the right-hand sides, the problem's own work apart"),
    )
    return Plan(
        solver,
        spec.solver.tol,
        spec.solver.max_steps,
        spec.solver.polish,
        linear,
        mode,
        forward,
        adjoint,
        spec.sensitivity.accuracy,
        rows,
        tuple(warnings),
    )


_CONDITIONS = {"stationary": "F = grad_x f", "root": "F itself", "fixed_point": "F = T - x"}


def _rows_wanted(vectors: Vectors) -> int:
    shapes = {**vectors.x.slices, **vectors.y.slices}
    return sum(shapes[name].stop - shapes[name].start for name in vectors.bound.of)


def _sizes(shapes: Mapping[str, tuple[int, ...]], names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}{list(shapes[name])}" if shapes[name] else name for name in names) or "none"


def _bytes_text(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
