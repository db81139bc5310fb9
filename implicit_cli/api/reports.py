"""What the use cases return, and how they are watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from implicit_cli.status import Status

if TYPE_CHECKING:
    from implicit_cli.result import CaseResult
    from implicit_cli.store import Summary
    from implicit_cli.verdict import Verification


class Observer(Protocol):
    """Sees a run from outside: `stage` names what begins, `progress` reports max |F| against the tolerance.

    `chunk` reports how many chunks of right-hand sides are done, of how many; `sweep` how many cases.
    """

    def stage(self, text: str) -> None: ...
    def progress(self, step: int, residual: float, tol: float) -> None: ...
    def chunk(self, done: int, total: int) -> None: ...
    def sweep(self, progress: SweepProgress) -> None: ...


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep is: cases that are done, of all, those `kept` from before among them, and those that `failed`.

    `worst` is the largest relative bound of those computed in `seconds`, `rate` how many come in a second now; 0: not known yet.
    """

    done: int
    total: int
    kept: int
    failed: int
    worst: float
    seconds: float
    rate: float

    @property
    def remaining(self) -> float:
        """Seconds that are left, at this rate."""
        left = self.total - self.done
        return left / self.rate if self.rate > 0 else float("inf") if left else 0.0


@dataclass(frozen=True)
class CaseLine:
    """A case in one line."""

    id: str
    status: Status
    message: str


def line_of(result: CaseResult) -> CaseLine:
    """How a case ended."""
    return CaseLine(result.id, result.status, result.message)


@dataclass(frozen=True)
class RunReport:
    """What `run` did: where the result is, how many cases ended how, and those of them that there is more to say of.

    `exit_code` is 0 when every case is good, else 1.
    """

    path: Path
    counts: Mapping[Status, int]
    cases: tuple[CaseLine, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 0 if all(status.good for status in self.counts) else 1


@dataclass(frozen=True)
class OptimizeReport:
    """What `optimize` did: where the result is, how its case and the outer loop ended, the objective before and after.

    `exit_code` is 0 where the loop ended at an optimum, or by its validation, and the case there is good, else 1.
    """

    path: Path
    case: CaseLine
    name: str
    reason: str
    converged: bool
    steps: int
    evaluations: int
    first: float
    last: float
    checkpoint: Path | None
    seconds: float

    @property
    def exit_code(self) -> int:
        return 0 if self.converged and self.case.status.good else 1


@dataclass(frozen=True)
class ProductsReport:
    """What `products` found, as `show` reads it; `path` is the file where one was written, `warnings` what may be wrong with it."""

    summary: Summary
    path: Path | None
    warnings: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 0 if all(case.good for case in self.summary.cases) else 1


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found; `path` is the file that holds it, where one was written, `warnings` what may be wrong with the check."""

    problem: str
    verification: Verification
    path: Path | None
    warnings: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 1 if self.verification.violated else 0

    def asdict(self) -> dict[str, Any]:
        """For `implicit verify --json`: NaN is null."""
        from implicit_cli.store.summary import plain

        found: dict[str, Any] = plain(self.verification)
        return {"problem": self.problem, "violated": self.verification.violated, **found}


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote: where, how many particles with how many vectors each; `warnings` tells what is not in the file."""

    path: Path
    particles: int
    vectors: int
    warnings: tuple[str, ...]
