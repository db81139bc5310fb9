"""Forward solvers, one file each: all start from x, report their residuals and a status, and none raises for a failed solve.

`METHODS` maps names to their classes; `pick` resolves "auto" and says why; `solve` runs one and polishes with Newton steps where
that pays; `run` is the same loop as one traced program, for `jit` and `vmap`.
"""

from implicit_cli.core.solvers.base import Goal, Limits, Observer, Run, Solution, compiled_residual, residual, run
from implicit_cli.core.solvers.choice import METHODS, allowed, pick, polish, solve

__all__ = [
    "METHODS",
    "Goal",
    "Limits",
    "Observer",
    "Run",
    "Solution",
    "allowed",
    "compiled_residual",
    "pick",
    "polish",
    "residual",
    "run",
    "solve",
]
