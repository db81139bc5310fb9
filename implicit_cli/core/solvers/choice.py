"""Which forward solvers a condition allows, which one "auto" takes and why, and the Newton polish that follows it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.solvers.anderson import Anderson
from implicit_cli.core.solvers.base import Goal, Method, Observer, Solution, compiled_residual, iterate
from implicit_cli.core.solvers.bisection import Bisection
from implicit_cli.core.solvers.block_coordinate_descent import BlockCoordinateDescent
from implicit_cli.core.solvers.broyden import Broyden
from implicit_cli.core.solvers.clarabel import Clarabel
from implicit_cli.core.solvers.fire import Fire
from implicit_cli.core.solvers.fixed_point import FixedPoint
from implicit_cli.core.solvers.host import HostMethod, drive
from implicit_cli.core.solvers.lbfgsb import Lbfgsb
from implicit_cli.core.solvers.least_squares import LeastSquares
from implicit_cli.core.solvers.mirror_descent import MirrorDescent
from implicit_cli.core.solvers.newton import Newton
from implicit_cli.core.solvers.newton_cg import NewtonCg
from implicit_cli.core.solvers.nlp import Slsqp, TrustConstr
from implicit_cli.core.solvers.proximal_gradient import ProximalGradient
from implicit_cli.core.solvers.qp import Qp, is_qp
from implicit_cli.core.solvers.quasi_newton import QuasiNewton
from implicit_cli.core.traceable import either, namespace, numbers, repeated
from implicit_cli.status import Status

METHODS: dict[str, Callable[[Goal], Method | HostMethod]] = {
    "accelerated_proximal_gradient": partial(ProximalGradient, accelerated=True, name="accelerated_proximal_gradient"),
    "anderson": Anderson,
    "bfgs": partial(QuasiNewton, name="bfgs"),
    "bisection": Bisection,
    "block_coordinate_descent": BlockCoordinateDescent,
    "broyden": Broyden,
    "clarabel": Clarabel,
    "dogleg": partial(LeastSquares, name="dogleg"),
    "fire": Fire,
    "fixed_point": FixedPoint,
    "gauss_newton": partial(LeastSquares, name="gauss_newton"),
    "gradient_descent": partial(ProximalGradient, name="gradient_descent"),
    "lbfgs": QuasiNewton,
    "lbfgsb": Lbfgsb,
    "levenberg_marquardt": LeastSquares,
    "mirror_descent": MirrorDescent,
    "newton": Newton,
    "newton_cg": NewtonCg,
    "nonlinear_cg": partial(QuasiNewton, name="nonlinear_cg"),
    "projected_gradient": partial(ProximalGradient, name="projected_gradient"),
    "proximal_gradient": ProximalGradient,
    "qp": Qp,
    "slsqp": Slsqp,
    "trust_constr": TrustConstr,
}

_FIXED_POINT = ("anderson", "fixed_point", "newton")
_ALLOWED = {
    "stationary": (
        *("lbfgs", "bfgs", "nonlinear_cg", "newton_cg", "newton", "gradient_descent", "fire"),
        *("levenberg_marquardt", "gauss_newton", "dogleg"),
    ),
    "root": ("newton", "broyden", "levenberg_marquardt", "dogleg", "bisection"),
    "fixed_point": (*_FIXED_POINT, "broyden"),
    "newton": (*_FIXED_POINT, "broyden"),
    "proximal_gradient": ("accelerated_proximal_gradient", "proximal_gradient", *_FIXED_POINT),
    "projected_gradient": ("accelerated_proximal_gradient", "projected_gradient", "lbfgsb", *_FIXED_POINT),
    "frank_wolfe": ("accelerated_proximal_gradient", "projected_gradient", *_FIXED_POINT),
    "mirror_descent": ("mirror_descent", "fixed_point"),
    "block_proximal_gradient": ("block_coordinate_descent", "accelerated_proximal_gradient", "proximal_gradient", *_FIXED_POINT),
    "kkt": ("qp", "clarabel", "slsqp", "trust_constr", "newton"),
    "conic": ("clarabel",),
}
_NEEDS = {
    ("stationary", "levenberg_marquardt"): "r",
    ("stationary", "gauss_newton"): "r",
    ("stationary", "dogleg"): "r",
    ("root", "bisection"): "bounds",
    ("projected_gradient", "lbfgsb"): "bounds",
}
_WORDS = {"r": "residuals (least_squares)", "bounds": "bounds"}
SMALL = 1000
"""Unknowns up to which methods that build a dense derivative are preferred."""
POLISH_STEPS, QUICK, CHORDS, ARRIVED = 12, 1e-2, 2, 1e-13
"""Newton steps, at most; one that leaves no more than this part of a residual was quick, and so many chords may follow it; one that
is no longer than this part of x is the last."""
EARLY, FALLEN = (1e6, 1e4, 1e2, 1e1, 1.0), 1e-3
"""Multiples of the tolerance at which an early approach by Newton steps is tried, if that is this part of the first residual."""
FLAT, HALVINGS = 0.2, 12
"""A step goes to where the slope along it is this part of what it was; so many points are looked at, at most."""


def allowed(kind: str, goal: Goal) -> tuple[str, ...]:
    """Solvers for a condition of this kind with what this goal offers."""
    return tuple(name for name in _ALLOWED[kind] if getattr(goal, _NEEDS.get((kind, name), "F")) is not None)


def pick(name: str, kind: str, goal: Goal, p: Point, *, device: str = "cpu") -> tuple[str, str]:
    """The solver's name, with "auto" resolved, and the reason; ValueError where the condition does not allow it.

    `p` is a point of the right shapes; `device` a platform of JAX.
    """
    options = allowed(kind, goal)
    if name == "auto":
        chosen, reason = _auto(kind, goal, p, device)
        return chosen, f"auto: {reason}, d = {p.x.size}"
    if name not in options:
        lacks = _NEEDS.get((kind, name)) if name in _ALLOWED[kind] else None
        why = f", which needs {_WORDS[lacks]}" if lacks else ""
        raise ValueError(f"found '{name}'{why}, allowed for a {kind} condition: " + ", ".join(f"'{o}'" for o in ("auto", *options)))
    return name, "asked for"


def _auto(kind: str, goal: Goal, p: Point, device: str) -> tuple[str, str]:
    match kind:
        case "stationary" if goal.r is not None and p.x.size <= SMALL:
            return "levenberg_marquardt", "least squares, dense"
        case "stationary":
            return "lbfgs", "smooth objective"
        case "root":
            return "newton", "dense Jacobian, damped"
        case "newton":
            return "fixed_point", "T is a Newton step"
        case "fixed_point":
            return "anderson", "fixed point, safeguarded by plain steps"
        case "mirror_descent":
            return "mirror_descent", "objective with a mirror map"
        case "block_proximal_gradient":
            return "block_coordinate_descent", f"{len(goal.blocks)} blocks with operators of their own"
        case "projected_gradient" if goal.bounds is not None and device == "cpu":
            return "lbfgsb", "smooth objective in a box, on the host"
        case "kkt":
            return ("qp", "convex quadratic program") if is_qp(goal, p) else ("slsqp", "nonlinear program, on the host")
        case "conic":
            return "clarabel", "conic program, on the host"
        case _:
            return "accelerated_proximal_gradient", "smooth objective with a projection or prox"


def solve(
    name: str,
    goal: Goal,
    p: Point,
    *,
    tol: float,
    max_steps: int,
    linearise: Callable[[Point], LinearSolver] | None,
    early: Callable[[Point], LinearSolver] | None = None,
    close: bool = False,
    observer: Observer | None = None,
) -> Solution:
    """Run the named solver from p.x; then, where `linearise` is given, polish with Newton steps down to rounding.

    A solver that ran out of steps is not polished: it is far from a root, and a Newton step may lead to another one. With `early`,
    which linearises too, and is to fail where A is not positive definite, Newton steps are tried on the way, and count if they end
    at a minimum; it takes `linearise` as well, for the polish. Where p.x is `close` to a solution, Newton steps come first,
    and count if they get to tol.
    """
    if close and linearise is not None:
        there = polish(Solution(p.x, Status.NOT_CONVERGED, np.zeros(0), name), goal, p, tol, linearise)
        if there.status is Status.OK:
            return there
    method = METHODS[name](goal)
    if isinstance(method, HostMethod):
        solution = drive(method, goal, p, tol=tol, max_steps=max_steps, observer=observer)
        return _finished(solution, goal, p, tol, max_steps, linearise)
    before: list[np.ndarray] = []
    first = float(compiled_residual(goal)(goal.fresh(p))) if early is not None else 0.0
    for loose in (loose for loose in EARLY if loose * tol <= FALLEN * first):
        left = max_steps - sum(map(len, before))
        solution = iterate(method, goal, p, tol=loose * tol, max_steps=left, observer=observer)
        if solution.status is not Status.OK:
            break
        assert early is not None
        assert linearise is not None
        near = approach(solution, goal, p, tol, early)
        if near is not None:
            polished = polish(near, goal, p, tol, linearise)
            steps = near.polish_steps + polished.polish_steps
            return polished._replace(history=np.concatenate([*before, polished.history]), polish_steps=steps)
        before.append(solution.history)
        p = p._replace(x=solution.x)
    solution = iterate(method, goal, p, tol=tol, max_steps=max_steps - sum(map(len, before)), observer=observer)
    solution = solution._replace(history=np.concatenate([*before, solution.history]))
    return _finished(solution, goal, p, tol, max_steps, linearise)


def _finished(
    solution: Solution,
    goal: Goal,
    p: Point,
    tol: float,
    max_steps: int,
    linearise: Callable[[Point], LinearSolver] | None,
) -> Solution:
    """The solution, polished where that is wanted and sensible."""
    exhausted = solution.status is Status.NOT_CONVERGED and solution.steps >= max_steps
    if linearise is None or exhausted or solution.status is Status.NOT_FINITE:
        return solution
    return polish(solution, goal, p, tol, linearise)


class Polished(NamedTuple):
    """Newton steps on their way: the point, its residual, the residuals after each step (`POLISH_STEPS`,), how many were taken.

    So many `chords`, steps with the same A, may follow the last one.
    """

    p: Point
    size: Any
    history: Any
    count: Any
    goes_on: Any
    chords: Any


def polish(solution: Solution, goal: Goal, p: Point, tol: float, linearise: Callable[[Point], LinearSolver]) -> Solution:
    """The solution after Newton steps, where they reduce its residual."""
    at = goal.moved(p, solution.x)
    if at is None:
        return solution
    found = newton_steps(goal, at, float(compiled_residual(goal)(at)), linearise)
    status = Status.OK if found.size <= tol else solution.status
    history = np.concatenate([solution.history, found.history[: found.count]])
    return Solution(found.p.x, status, history, solution.name, int(found.count))


def newton_steps(goal: Goal, p: Point, size: Any, linearise: Callable[[Point], LinearSolver]) -> Polished:
    """Steps `x - A^+ F` from p, where the residual is `size`, while they reduce it: the null space is left alone.

    A step with the A of an earlier one is a chord's; it converges at the rate at which that one did, and A is what takes time. So a
    few of them follow a step that was `QUICK`; a new A is found after them, and where one was not quick and not rounding.
    At the end of a projection or prox these are steps of the semismooth Newton method. A step that leaves the feasible set is
    brought back, and then judged; negative multipliers and violated constraints count in the residual. What the data hold of x is
    found anew where it no longer serves, which cannot be inside of a compiled program.
    """
    xp, size_of = namespace(p.x), compiled_residual(goal)

    def taken(now: Polished, A: LinearSolver, *, fresh: bool) -> Polished:
        p = now.p
        step = A.solve(-goal.F(p.x, p.theta, p.data)[:, None]).value[:, 0]
        trial = p._replace(x=_feasible(goal, p, p.x, p.x + step))
        found = size_of(trial)
        better = found < now.size
        count = xp.where(better, now.count + 1, now.count)
        here = xp.where(xp.arange(POLISH_STEPS) == now.count, xp.where(better, found, xp.nan), now.history)
        size, quick = xp.where(better, found, now.size), better & (found <= QUICK * now.size)
        settled = now.size < 2.0 * xp.maximum(found, np.finfo(float).tiny)
        more = better & ~settled & (found > 0.0) & (count < POLISH_STEPS)
        # a chord that is slow needs another A, unless it has come to rounding
        arrived = xp.linalg.norm(numbers(step)) <= ARRIVED * xp.linalg.norm(numbers(p.x))
        goes_on = more if fresh else (more & quick) | (~arrived & (count < POLISH_STEPS))
        x = either(better, lambda: trial.x, lambda: p.x)
        chords = xp.where(quick, CHORDS if fresh else now.chords - 1, 0)
        return Polished(p._replace(x=x), size, here, count, goes_on, chords)

    def further(now: Polished) -> Polished:
        A = linearise(now.p)
        now = repeated(
            lambda now: now.goes_on & (now.chords > 0), lambda now: taken(now, A, fresh=False), taken(now, A, fresh=True)
        )
        if goal.stale is not None and now.goes_on and bool(goal.stale(now.p.x, now.p.theta, now.p.data)):
            moved = goal.moved(now.p, now.p.x)
            now = now._replace(p=now.p if moved is None else moved, goes_on=moved is not None)
        return now

    start = Polished(p, size, xp.full(POLISH_STEPS, xp.nan), 0, xp.asarray(size) > 0.0, 0)
    return repeated(lambda now: now.goes_on, further, start)


def approach(solution: Solution, goal: Goal, p: Point, tol: float, linearise: Callable[[Point], LinearSolver]) -> Solution | None:
    """Newton steps from where they are not yet sure to converge; None where they do not get to tol, or not to a minimum.

    Each goes along its direction s to where the slope F's is a fraction of what it was. That lowers the objective also where the
    objective itself has no digits left to tell, and where contacts open and close on the way.
    """
    x, at = solution.x, goal.moved(p, solution.x)
    if at is None:
        return None
    p = at
    F, taken = goal.F(x, p.theta, p.data), list[float]()
    while len(taken) < POLISH_STEPS:
        A = linearise(p._replace(x=x))
        step = A.solve(-F[:, None]).value[:, 0]
        first = float(jnp.vdot(F, step))
        if not first < 0:  # or NaN, where the method of a definite A did not do
            return None
        low, high, part = 0.0, 1.0, 1.0
        for _ in range(HALVINGS):
            F = goal.F(x + part * step, p.theta, p.data)
            slope = float(jnp.vdot(F, step))
            if abs(slope) <= FLAT * abs(first) or (slope < 0 and part == 1.0):
                break
            low, high = (part, high) if slope < 0 else (low, part)
            part = (low + high) / 2
        x = x + part * step
        taken.append(float(jnp.max(jnp.abs(F))))
        if taken[-1] <= tol:
            minimum = A.method.endswith("cholesky") or A.spectrum.negative == 0
            history = np.concatenate([solution.history, taken])
            return Solution(x, Status.OK, history, solution.name, len(taken)) if minimum else None
        if goal.stale is not None and bool(goal.stale(x, p.theta, p.data)):
            if (moved := goal.moved(p, x)) is None:
                return None
            p = moved
    return None


def _feasible(goal: Goal, p: Point, x: jax.Array, trial: jax.Array) -> jax.Array:
    """The point of the feasible set that belongs to a trial step from x."""
    if goal.prox is not None:  # prox of 0 r is the projection on the domain of r
        return goal.prox(trial, jnp.zeros((), x.dtype), p.theta, p.data)
    if goal.mirror is not None:  # x comes from a mirror step: a sign that no entry has is not allowed
        return jnp.where((x >= 0) & jnp.all(x >= 0), jnp.maximum(trial, 0.0), trial)
    return trial
