"""What can become of a case, of a solve and of one right-hand side. Every status says its cause and its cure.

The numbers are stored in result files: a member may be added, never renumbered.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of a case, a forward solve or one linear solve (docs/theory.md)."""

    OK = 0
    PARTIAL = 1
    NOT_CONVERGED = 2
    SINGULAR = 3
    NONDIFFERENTIABLE = 4
    LINEAR_SOLVE_FAILED = 5
    ACCURACY_NOT_MET = 6
    NO_CERTIFICATE = 7
    NOT_A_MINIMUM = 8
    NOT_FINITE = 9
    PRECISION_LOST = 10
    CRASHED = 11
    TIMED_OUT = 12

    @property
    def label(self) -> str:
        """Lower-case name, as tables and JSON print it."""
        return self.name.lower()

    @property
    def good(self) -> bool:
        """True where every number that is not NaN can be relied on; decides between exit codes 0 and 1."""
        return self in (Status.OK, Status.PARTIAL)

    @property
    def solved(self) -> bool:
        """True where the solution holds, within its bound, whatever became of its derivatives."""
        return self in (
            Status.OK,
            Status.PARTIAL,
            Status.SINGULAR,
            Status.NONDIFFERENTIABLE,
            Status.LINEAR_SOLVE_FAILED,
            Status.ACCURACY_NOT_MET,
            Status.PRECISION_LOST,
        )

    @property
    def text(self) -> str:
        """Cause and cure in one sentence."""
        return _TEXTS[self]


_TEXTS = {
    Status.OK: "solved, differentiated and certified",
    Status.PARTIAL: "some components are not determined by the problem: their derivatives are NaN, all others hold",
    Status.NOT_CONVERGED: "the solver stopped above its tolerance: raise solver.max_steps, start closer, or try another solver",
    Status.SINGULAR: "dF/dx is singular here (a fold, a bifurcation or a floppy solution): the derivative does not exist and is "
    "NaN; move the parameters away from this point",
    Status.NONDIFFERENTIABLE: "the solution sits on a kink of F, where left and right derivatives differ: move the parameters, "
    "or ask for both with sensitivity.one_sided",
    Status.LINEAR_SOLVE_FAILED: "a linear solve missed its tolerance: choose another sensitivity.linear_solver, or 'auto'",
    Status.ACCURACY_NOT_MET: "the bound is larger than sensitivity.accuracy asks, and no tighter tolerance helps: set "
    "solver.polish, raise solver.max_steps, or accept a looser accuracy",
    Status.NO_CERTIFICATE: "nothing proves that there is a solution nearby (Newton-Kantorovich h >= 1/2): tighten solver.tol; "
    "where the residual is at rounding, move the parameters away from a fold, a bifurcation or a boundary",
    Status.NOT_A_MINIMUM: "the stationary point is a saddle or a maximum: start elsewhere or minimise further",
    Status.NOT_FINITE: "NaN or infinity was met: check the data, the initial guess, and F at the edge of its domain",
    Status.PRECISION_LOST: "rounding takes nearly all digits, for dF/dx is close to singular, or nearly equal numbers are "
    "subtracted: rescale the problem, or move the parameters",
    Status.CRASHED: "the problem's own code raised an error, or its process ended: run this case alone to see where",
    Status.TIMED_OUT: "the case took longer than sweep.timeout allows: raise it, or help the solver",
}
