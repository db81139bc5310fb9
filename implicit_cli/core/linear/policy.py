"""The one place that picks a linear solver: by size, symmetry and what was asked for. A method that was named is never changed."""

from __future__ import annotations

from typing import NamedTuple

from implicit_cli.core.linear.base import LinearSolver, Matrix, Operator
from implicit_cli.core.linear.dense import DenseSolver
from implicit_cli.core.linear.krylov import KrylovSolver

METHODS = ("auto", "lu", "cholesky", "cg", "gmres", "bicgstab")
DENSE_LIMIT = 2048
"""Largest d that `auto` assembles: 32 MiB for A, and a decomposition in seconds."""


class LinearPlan(NamedTuple):
    """The method picked and why, for `implicit check` and the result file."""

    method: str
    dense: bool
    reason: str
    tol: float
    max_steps: int


def choose(d: int, *, symmetric: bool, name: str = "auto", tol: float = 1e-10, max_steps: int | None = None) -> LinearPlan:
    """Pick for a d x d system."""
    steps = max_steps or max(1000, 10 * d)
    if name == "auto" and d <= DENSE_LIMIT:
        kind = "Cholesky if definite, else LU" if symmetric else "LU"
        return LinearPlan("auto", True, f"dense {kind}: d = {d} is at most {DENSE_LIMIT}", tol, steps)
    if name == "auto":
        method = "cg" if symmetric else "gmres"
        return LinearPlan(method, False, f"matrix-free {method}: d = {d} is above {DENSE_LIMIT}", tol, steps)
    if name == "cholesky" and not symmetric:
        raise ValueError("found 'cholesky', allowed for this condition: 'lu', 'gmres', 'bicgstab' (dF/dx is not symmetric)")
    if name == "cg" and not symmetric:
        raise ValueError("found 'cg', allowed for this condition: 'lu', 'gmres', 'bicgstab' (dF/dx is not symmetric)")
    return LinearPlan(name, name in ("lu", "cholesky"), "asked for", tol, steps)


def prepare(plan: LinearPlan, operator: Operator, assemble: Matrix | None, gauges: Matrix) -> LinearSolver:
    """The solver of a plan; `assemble` is the matrix A where the plan is dense."""
    if plan.dense:
        assert assemble is not None
        return DenseSolver(assemble, operator, method=plan.method, tol=plan.tol)
    return KrylovSolver(operator, gauges, method=plan.method, tol=plan.tol, max_steps=plan.max_steps)
