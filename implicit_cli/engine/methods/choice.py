"""Which method can do what, said before any work, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers import METHODS, Solution
from implicit_cli.engine.methods.base import Method
from implicit_cli.engine.methods.complex_step import KINDS, LARGEST, ComplexMaps, ComplexStep
from implicit_cli.engine.methods.finite_difference import LEVELS, FiniteDifference, Solve
from implicit_cli.engine.methods.unrolled import Unrolled
from implicit_cli.engine.site import Site
from implicit_cli.engine.vectors import Vectors
from implicit_cli.errors import InputError
from implicit_cli.spec import LoadedSpec


def check(loaded: LoadedSpec, vectors: Vectors, solver: str) -> None:
    """Refuse what the method cannot do with this problem; raises InputError with the place of `sensitivity.method`."""
    method, kind = loaded.model.sensitivity.method, vectors.condition.kind
    place = f"{loaded.at('sensitivity', 'method')}: found '{method}'"
    second = vectors.bound.hessian or any(direction.kind == "hessian" for direction in vectors.bound.directions)
    if second and method in ("unrolled", "complex_step"):
        raise InputError(f"{place}, allowed with hessian products: 'implicit', 'finite_difference'")
    if method == "unrolled" and not hasattr(METHODS[solver](vectors.goal), "step"):
        raise InputError(
            f"{place}: solver '{solver}' runs on the host and has no steps to differentiate through; choose another solver, "
            "or 'implicit' or 'finite_difference'"
        )
    if method == "unrolled" and vectors.goal.refresh is not None:
        what = " and ".join(vectors.derived)
        raise InputError(f"{place}: the problem's {what} change during the steps; allowed: 'implicit', 'finite_difference'")
    if method != "complex_step":
        return
    if kind not in KINDS:
        allowed = ", ".join(f"'{name}'" for name in KINDS)
        raise InputError(f"{place}: it needs F at complex numbers, which a {kind} condition does not allow; allowed for: {allowed}")
    if vectors.x.size > LARGEST:
        raise InputError(f"{place}: it assembles and factorises A; allowed up to {LARGEST} unknowns, here d = {vectors.x.size}")
    p = vectors.refreshed(Point(vectors.initial(loaded.model.seed), vectors.start, vectors.data))
    if fault := ComplexMaps(vectors).fault(p):
        raise InputError(f"{place}: {fault}; allowed: 'implicit', 'unrolled' or 'finite_difference'")


def cost(method: str, vectors: Vectors, mode: str, forward: int) -> str:
    """What `implicit check` says of a method other than the theorem; `forward` counts the jvps."""
    bound, n = vectors.bound, vectors.theta.size
    vjps = any(direction.kind == "vjp" for direction in bound.directions)
    columns = forward + (n if bound.jacobian or vjps else 0)
    match method:
        case "unrolled":
            way = "backward" if mode == "adjoint" and bound.jacobian else "forward"
            return f"unrolled: the solver's steps once more, {way} (forward: {columns} tangents); no error estimate, no polish"
        case "finite_difference":
            named = sum(direction.count or 1 for direction in bound.directions if direction.kind == "hessian")
            second = (n * (n + 1) // 2 if bound.hessian else 0) + named
            # a Hessian's directions e_i are those of the Jacobian
            shared = n if bound.hessian and (bound.jacobian or vjps) else 0
            directions = columns + second - shared
            solves = 2 * LEVELS * directions + 1
            return f"finite_difference: at most {solves} solves, {LEVELS} steps both ways along {directions} directions"
        case "complex_step":
            return f"complex_step: {vectors.x.size} + {columns} evaluations of F at complex numbers, twice, and one LU each time"
        case _:
            return "implicit: the theorem, with bounds"


def make(name: str, site: Site, start: Point, solution: Solution, solve: Solve) -> Callable[[], Method]:
    """The method of that name, made when it is called: that is where its work begins."""
    match name:
        case "unrolled":
            return lambda: Unrolled(site, start, solution.steps)
        case "finite_difference":
            return lambda: FiniteDifference(site, solve)
        case "complex_step":
            return lambda: ComplexStep(site)
        case _:
            raise ValueError(f"no method {name!r}")
