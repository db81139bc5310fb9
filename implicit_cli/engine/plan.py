"""What a run will do, decided before any work: solver, direction, linear method, solves, memory. `implicit check` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearPlan, choose
from implicit_cli.core.nearby import proves
from implicit_cli.core.solvers import pick
from implicit_cli.engine.chunks import Chunks, divide
from implicit_cli.engine.vectors import Vectors
from implicit_cli.errors import InputError
from implicit_cli.problem import Problem
from implicit_cli.spec import LoadedSpec

BYTES = 8
COPIES_X, COPIES_THETA, COPIES_Y = 14, 6, 8
"""Arrays of the length of x, theta and y that one right-hand side needs at once: solution, residual, and those of its bound."""
CONSTANTS = 10
"""Right-hand sides that the certificate's constants take, apart from power iterations where x is rough."""
SHARE_OF_SOLVES, SHARE_OF_VALUES = 1 / 2, 1 / 4
"""Of `sensitivity.memory`: for right-hand sides, and for a Jacobian, twice over, since the file is put together in memory."""


@dataclass(frozen=True)
class Plan:
    """The decisions, with `rows` to print and `warnings` to heed.

    `zero` is the size up to which the derivatives of a quantity count as zero, by its name: those of an objective at its optimum.
    `bounds` are those on the solution and the outputs, which take as many products as there are outputs.
    """

    solver: str
    tol: float
    max_steps: int
    polish: bool
    linear: LinearPlan
    mode: str
    forward_solves: int
    adjoint_solves: int
    forward_chunks: Chunks
    adjoint_chunks: Chunks
    in_file: bool
    accuracy: float
    rows: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()
    method: str = "implicit"
    corrected: bool = False
    single: bool = False
    refine: bool = False
    one_sided: bool = False
    bounds: bool = True
    zero: Mapping[str, float] = field(default_factory=dict)

    @property
    def rough(self) -> bool:
        """Numbers come out with the digits of float32."""
        return self.single and not self.refine

    def asdict(self) -> dict[str, Any]:
        """For `implicit check --json`."""
        return {"plan": dict(self.rows), "warnings": list(self.warnings)}


def make_plan(loaded: LoadedSpec, vectors: Vectors) -> Plan:
    """Decide; raises InputError where the spec asks for a method that this condition does not allow."""
    spec, bound, kind = loaded.model, vectors.bound, vectors.condition.kind
    asked = spec.solver.name if spec.solver.name != "auto" else bound.problem.solver
    here = Point(jnp.zeros(vectors.x.size), vectors.start, vectors.data)
    try:
        solver, why = pick(asked, kind, vectors.goal, here, device=next(iter(vectors.start.devices())).platform)
    except ValueError as error:
        raise InputError(f"{loaded.at('solver', 'name')}: {error}") from None
    if asked == bound.problem.solver != spec.solver.name and asked != "auto":
        why = "the problem's choice"
    d, n = vectors.x.size, vectors.theta.size

    from implicit_cli.engine import methods  # they are made of what is planned here

    method = spec.sensitivity.method
    methods.check(loaded, vectors, solver)
    polish = spec.solver.polish and method != "unrolled"
    m = _rows_wanted(vectors)
    mode = spec.sensitivity.mode
    reason = "asked for"
    if mode == "auto":
        mode = "forward" if n <= m else "adjoint"
        reason = f"{n} parameter components, {m} output components"
    jvps = sum(direction.count or 1 for direction in bound.directions if direction.kind == "jvp")
    vjps = sum(direction.count or 1 for direction in bound.directions if direction.kind == "vjp")
    forward = jvps + (n if bound.jacobian and mode == "forward" else 0)
    adjoint = vjps + (m if bound.jacobian and mode == "adjoint" else 0)
    has_gauges = type(bound.problem).null_space is not Problem.null_space or vectors.condition.null_space is not None
    linear_spec, find = spec.sensitivity.linear_solver, vectors.condition.pattern
    guess = vectors.refreshed(here._replace(x=vectors.initial(spec.seed))) if find is not None else here
    try:
        linear = choose(
            d,
            symmetric=vectors.condition.symmetric,
            definite=vectors.condition.definite,
            pattern=find(*vectors.arguments(guess)) if find is not None else None,
            gauges=has_gauges,
            holds=vectors.condition.prox is not None or vectors.condition.mirror is not None,
            right_hand_sides=max(1, 2 * (forward + adjoint)),  # as many again for the certificate
            device=next(iter(vectors.start.devices())).platform,
            **linear_spec.model_dump(),
        )
    except ValueError as error:
        raise InputError(f"{loaded.at('sensitivity', 'linear_solver')}: {error}") from None
    each = BYTES * (COPIES_X * d + COPIES_THETA * n + COPIES_Y * vectors.y.size)
    share = spec.sensitivity.memory * SHARE_OF_SOLVES
    forward_chunks, adjoint_chunks = divide(forward, each, share), divide(adjoint, each, share)
    values = BYTES * m * n if bound.jacobian else 0
    in_file = values > spec.sensitivity.memory * SHARE_OF_VALUES
    seconds = _second_order(vectors)
    nothing = not (forward + adjoint or seconds)
    warnings = ["sensitivity.products is empty: the problem is solved and not differentiated"] if nothing else []
    if each > share and forward + adjoint:
        warnings.append(
            f"one right-hand side alone takes {_bytes_text(each)}, more than half of sensitivity.memory, "
            f"{_bytes_text(spec.sensitivity.memory)}"
        )
    rows = (
        ("problem", f"{spec.problem} ({type(bound.problem).__name__})"),
        ("condition", f"{kind}: {_CONDITIONS[kind]}"),
        ("unknowns", f"d = {d}: {_sizes(bound.shapes, vectors.x.names)}"),
        ("parameters", f"n = {n}: {_sizes(bound.shapes, vectors.theta.names)}"),
        ("outputs", f"m = {vectors.y.size}: {_sizes(bound.shapes, vectors.y.names)}"),
        (
            "solver",
            f"{solver}, max |F| <= {spec.tol:g}, at most {spec.solver.max_steps} steps, "
            f"Newton polish {'on' if polish else 'off'}{'' if why == 'asked for' else f'; {why}'}",
        ),
        ("linear solver", linear.reason),
        ("jacobian", f"{mode}: {reason}" if bound.jacobian else "not asked for"),
        ("method", methods.cost(method, vectors, mode, jvps)),
        *(
            ()
            if method != "implicit"
            else (("linear solves", f"{forward} forward, {adjoint} adjoint, as many again for the certificate"),)
        ),
        *((("second order", seconds),) if seconds and method == "implicit" else ()),
        ("certificate", _certificate(vectors, here, linear, forward + adjoint, corrected=spec.sensitivity.corrected)),
        ("accuracy", f"{spec.accuracy:g} relative; tolerances are tightened until the bounds meet it"),
        *((("precision", _SINGLE[spec.refine]),) if spec.precision == "float32" else ()),
        ("memory", _memory(linear.bytes(d), each, values, (forward_chunks, adjoint_chunks), in_file)),
    )
    return Plan(
        solver,
        spec.tol,
        spec.solver.max_steps,
        polish,
        linear,
        mode,
        forward,
        adjoint,
        forward_chunks,
        adjoint_chunks,
        in_file,
        spec.accuracy,
        rows,
        tuple(warnings),
        method,
        spec.sensitivity.corrected,
        spec.precision == "float32",
        spec.refine,
        spec.sensitivity.one_sided,
    )


_CONDITIONS = {
    "stationary": "F = grad_x f",
    "root": "F itself",
    "fixed_point": "F = T - x",
    "kkt": "grad_x f + dh' nu + dg' lam; h; lam * g",
    "proximal_gradient": "F = prox(x - eta grad f) - x",
    "projected_gradient": "F = proj(x - eta grad f) - x",
    "mirror_descent": "F = projKL(grad phi(x) - eta grad f) - x",
    "newton": "F = -(dG/dx)^-1 G",
    "block_proximal_gradient": "F_j = prox_j(x_j - eta_j grad_j f) - x_j",
    "frank_wolfe": "F = proj(w - eta grad_w f) - w, on the weights of vertices",
    "conic": "F = ((Theta - I) Pi + I) z",
}


_SINGLE = {
    False: "float32 for the solve and the first derivatives; residuals and bounds in float64",
    True: "float32 for a first solve and the factor; refined, and certified, in float64",
}


def _certificate(vectors: Vectors, p: Point, linear: LinearPlan, solves: int, *, corrected: bool) -> str:
    """What certificate there will be, and its cost in linear solves."""
    _, theta, data = vectors.arguments(p)
    constants, direct = vectors.problem.constants(theta, data), linear.computes_spectrum
    proved = proves(constants, direct=direct)
    kind = "a bound for unknowns in forward mode, for all else an estimate" if proved else "an estimate: gamma is measured"
    source = "computed from the factor" if direct else "estimated by iteration"
    extra = "; derivatives are corrected to second order" if corrected else ""
    return f"{kind}; sigma_min and kappa {source}; {solves} more solves, and about {CONSTANTS} for its constants{extra}"


def _memory(A: float, each: float, values: float, chunks: tuple[Chunks, Chunks], in_file: bool) -> str:
    """`about 3 KiB for A and the right-hand sides, the problem's own work apart`, with chunks and file where there are any."""
    peak = A + each * max(c.width for c in chunks) + (0 if in_file else 2 * values)
    parts = [f"{c.count} {name} chunks of {c.width}" for name, c in zip(("forward", "adjoint"), chunks, strict=True) if c.count > 1]
    text = f"about {_bytes_text(peak)} for A and the right-hand sides{', in ' if parts else ''}{' and '.join(parts)}"
    if in_file:
        text += f"; the Jacobian, {_bytes_text(values)}, goes to the file as it comes"
    return f"{text}, the problem's own work apart" if not in_file else f"{text}; the problem's own work apart"


def _second_order(vectors: Vectors) -> str:
    """Linear solves of the second derivatives; empty where none are asked for."""
    bound, n = vectors.bound, vectors.theta.size
    scalars = sum(bound.shapes[of] == () for of in bound.of) if bound.hessian else 0
    along = sum(direction.count or 1 for direction in bound.directions if direction.kind == "hessian")
    parts = [f"{scalars} hessians of {n} x {n}: {n} forward and {scalars} adjoint solves"] if scalars else []
    parts += [f"{along} directions: {2 * along} forward solves"] if along else []
    return "; ".join(parts)


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
