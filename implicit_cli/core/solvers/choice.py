"""Which forward solver a condition allows, which one "auto" takes, and the Newton polish that follows it."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.solvers.base import Goal, Method, Observer, Solution, iterate
from implicit_cli.core.solvers.fire import Fire
from implicit_cli.core.solvers.fixed_point import FixedPoint
from implicit_cli.core.solvers.lbfgs import Lbfgs
from implicit_cli.core.solvers.newton import Newton
from implicit_cli.status import Status

METHODS: dict[str, Callable[[Goal], Method]] = {"fire": Fire, "fixed_point": FixedPoint, "lbfgs": Lbfgs, "newton": Newton}
_ALLOWED = {"stationary": ("lbfgs", "fire", "newton"), "root": ("newton",), "fixed_point": ("fixed_point", "newton")}
POLISH_STEPS = 12


def allowed(kind: str) -> tuple[str, ...]:
    """Solvers for a condition of this kind; the first is what "auto" takes."""
    return _ALLOWED[kind]


def pick(name: str, kind: str) -> str:
    """The solver's name, with "auto" resolved; ValueError where the condition does not allow it."""
    options = allowed(kind)
    if name == "auto":
        return options[0]
    if name not in options:
        raise ValueError(f"found '{name}', allowed for a {kind} condition: " + ", ".join(f"'{o}'" for o in ("auto", *options)))
    return name


def solve(
    name: str,
    goal: Goal,
    p: Point,
    *,
    tol: float,
    max_steps: int,
    linearise: Callable[[Point], LinearSolver] | None,
    observer: Observer | None = None,
) -> Solution:
    """Run the named solver from p.x; then, where `linearise` is given, polish with Newton steps down to rounding.

    A solver that ran out of steps is not polished: it is far from a root, and a Newton step may lead to another one.
    """
    solution = iterate(METHODS[name](goal), goal, p, tol=tol, max_steps=max_steps, observer=observer)
    exhausted = solution.status is Status.NOT_CONVERGED and solution.steps >= max_steps
    if linearise is None or exhausted or solution.status is Status.NOT_FINITE:
        return solution
    return _polish(solution, goal, p, tol, linearise)


def _polish(solution: Solution, goal: Goal, p: Point, tol: float, linearise: Callable[[Point], LinearSolver]) -> Solution:
    """Newton steps `x - A^+ F` while they reduce max |F|: quadratic convergence, null space left alone."""
    x = solution.x
    F = goal.F(x, p.theta, p.data)
    residual = float(jnp.max(jnp.abs(F), initial=0.0))
    taken: list[float] = []
    while len(taken) < POLISH_STEPS and residual > 0.0:
        step = linearise(p._replace(x=x)).solve(-F[:, None])
        trial = x + step.value[:, 0]
        F_trial = goal.F(trial, p.theta, p.data)
        size = float(jnp.max(jnp.abs(F_trial), initial=0.0))
        if not size < residual:
            break
        gained = residual / max(size, np.finfo(float).tiny)
        x, F, residual = trial, F_trial, size
        taken.append(size)
        if gained < 2.0:
            break
    status = Status.OK if residual <= tol else solution.status
    return Solution(x, status, np.concatenate([solution.history, taken]), solution.name, len(taken))
