"""Linear solves with A and its transpose: several right-hand sides, a status for each, and residuals that were recomputed.

`dense` factorises an assembled A, `sparse` one with a known pattern, `krylov` needs products only. `policy` picks between them, and
`escalation` goes on to the next where one fails.
"""

from implicit_cli.core.linear.base import LinearSolver, Solved, Spectrum
from implicit_cli.core.linear.policy import METHODS, LinearPlan, choose, prepare

__all__ = ["METHODS", "LinearPlan", "LinearSolver", "Solved", "Spectrum", "choose", "prepare"]
