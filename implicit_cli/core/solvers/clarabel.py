"""Clarabel, an interior point of the host for quadratic programs (`kkt` goals) and conic programs, at tightened tolerances.

Its own word on success is not used: the residual decides. Where it proves that a program is infeasible or unbounded, the start is
handed back, since its last iterate is then a certificate and no solution.

Source: Goulart and Chen, "Clarabel: an interior-point solver for conic programs with quadratic objectives", arXiv 2405.12762.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal, compiled_residual
from implicit_cli.core.solvers.host import Watch
from implicit_cli.core.solvers.qp import assemble, extractor
from implicit_cli.errors import EnvironmentProblem

ATTEMPTS: tuple[dict[str, float], ...] = (
    {"tolerance": 1e-13, "linesearch_backtrack_step": 0.5},
    {
        "tolerance": 1e-12,
        "iterative_refinement_reltol": 1e-15,
        "iterative_refinement_abstol": 1e-15,
        "iterative_refinement_max_iter": 30,
    },
    {"tolerance": 1e-9},
)
"""Settings that are tried until the residual is met: exponential cones want the first, redundant constraints the second."""
SOLVED = ("Solved", "AlmostSolved", "MaxIterations", "InsufficientProgress", "NumericalError")
"""Outcomes whose iterate may be a solution, or close to one."""

Array = np.ndarray


class Standard(NamedTuple):
    """min x'P x / 2 + c'x, A x + s = b, s in the cones."""

    P: Array
    c: Array
    A: Array
    b: Array
    cones: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Clarabel:
    """Interior point on sparse factors, for convex quadratic programs and conic programs; does not use p.x but for its shape.

    The history has one residual per attempt.
    """

    goal: Goal
    name: str = "clarabel"

    def host_solve(self, p: Point, *, tol: float, max_steps: int, watch: Watch) -> Array:
        program = self._program(p)
        best, smallest = np.asarray(p.x, dtype=float), np.inf
        for settings in ATTEMPTS:
            found = _attempt(program, settings, max_steps)
            if found is None:
                break
            x = self._point(p, program, *found)
            watch(x)
            size = float(compiled_residual(self.goal)(p._replace(x=jnp.asarray(x))))
            if size < smallest:
                best, smallest = x, size
        return best

    def _program(self, p: Point) -> Standard:
        if self.goal.program is not None:
            c, A, b = (np.asarray(part, dtype=float) for part in self.goal.program(p.theta, p.data))
            return Standard(np.zeros((c.size, c.size)), c, A, b, self.goal.cones)
        Q, c, A, b, G, h = (np.asarray(part, dtype=float) for part in extractor(self.goal)(p))
        cones = ("zero", b.size), ("nonnegative", h.size)
        return Standard((Q + Q.T) / 2, c, np.concatenate([A, G]), np.concatenate([b, h]), cones)

    def _point(self, p: Point, program: Standard, x: Array, y: Array, s: Array) -> Array:
        if self.goal.limits is None:
            return np.concatenate([x, y - s, [1.0]])
        p_rows = program.cones[0][1]
        return np.asarray(assemble(self.goal.limits, p.x, x, y[:p_rows], y[p_rows:]))


def _attempt(program: Standard, wanted: dict[str, float], max_steps: int) -> tuple[Array, Array, Array] | None:
    """x, y, s as Clarabel leaves them; None where it has proved that there is no solution."""
    from scipy import sparse

    clarabel = _module()
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = min(max_steps, 200)
    settings.max_threads = 1
    settings.presolve_enable = False
    for name, value in wanted.items():
        for each in ("tol_gap_abs", "tol_gap_rel", "tol_feas") if name == "tolerance" else (name,):
            setattr(settings, each, value)
    P, c, A, b, cones = program
    shapes = [shape for name, size in cones for shape in _cone(clarabel, name, size)]
    found = clarabel.DefaultSolver(sparse.csc_matrix(np.triu(P)), c, sparse.csc_matrix(A), b, shapes, settings).solve()
    if str(found.status) not in SOLVED:
        return None
    return np.array(found.x), np.array(found.z), np.array(found.s)


def _cone(clarabel: Any, name: str, size: int) -> list[Any]:
    if name == "exponential":
        return [clarabel.ExponentialConeT()] * (size // 3)
    kinds = {
        "zero": clarabel.ZeroConeT,
        "nonnegative": clarabel.NonnegativeConeT,
        "second_order": clarabel.SecondOrderConeT,
        "psd": clarabel.PSDTriangleConeT,
    }
    return [kinds[name](size)] if size else []


def _module() -> ModuleType:
    """Clarabel, imported when it is first used."""
    try:
        import clarabel
    except ImportError:
        raise EnvironmentProblem("solver 'clarabel' needs the package clarabel: pip install clarabel, or choose 'qp'") from None
    return clarabel
