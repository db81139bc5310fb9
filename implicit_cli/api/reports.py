"""What the use cases return, and how they are watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from implicit_cli.status import Status

if TYPE_CHECKING:
    from implicit_cli.analysis import Comparison
    from implicit_cli.result import CaseResult
    from implicit_cli.sample import Finding
    from implicit_cli.store import Summary
    from implicit_cli.verdict import Trait, Verification


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
    `total` is None where nobody knows how many there will be; `at` says where the last one is then.
    """

    done: int
    total: int | None
    kept: int
    failed: int
    worst: float
    seconds: float
    rate: float
    at: str = ""

    @property
    def remaining(self) -> float:
        """Seconds that are left, at this rate."""
        if self.total is None:
            return float("inf")
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

    `branch` says of a branch that was followed where it turned and how it ended, `folds` how often it turned. `exit_code` is 0 when
    every case but the folds is good, else 1: a fold has no derivative, and it is what was looked for.
    """

    path: Path
    counts: Mapping[Status, int]
    cases: tuple[CaseLine, ...]
    seconds: float
    branch: str = ""
    folds: int = 0

    @property
    def exit_code(self) -> int:
        return 0 if sum(count for status, count in self.counts.items() if not status.good) <= self.folds else 1


@dataclass(frozen=True)
class PlanReport:
    """What `plan_sweep` made: the script, how many cases there are and are done, in how many shards.

    `each` is the seconds that a case takes, `seconds` what a task is expected to take in all; 0 where nothing was left to time.
    """

    script: Path
    cases: int
    done: int
    shards: int
    each: float
    seconds: float


@dataclass(frozen=True)
class ShardLine:
    """How far a shard is; of the cases that are `done` some may have `failed`."""

    shard: int
    cases: int
    done: int
    failed: int

    @property
    def missing(self) -> int:
        return self.cases - self.done


@dataclass(frozen=True)
class SweepStatus:
    """How far a planned sweep is; `command` submits the shards that have missing cases, and is empty where none has."""

    path: Path
    shards: tuple[ShardLine, ...]
    command: str

    def total(self, name: str) -> int:
        """Of all shards: cases, done, failed or missing."""
        return sum(getattr(line, name) for line in self.shards)

    @property
    def exit_code(self) -> int:
        return 1 if self.total("missing") or self.total("failed") else 0


@dataclass(frozen=True)
class MergeReport:
    """What `merge_sweep` wrote: cases, how many are missing, and how many of each status by its label."""

    path: Path
    cases: int
    missing: int
    statuses: Mapping[str, int]

    @property
    def exit_code(self) -> int:
        return 0 if not self.missing and all(Status[label.upper()].good for label in self.statuses) else 1


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
class ConformanceReport:
    """What `check_problem` found; `spec` is what the problem was tried on, empty for its own example.

    `exit_code` is 1 where a trait is violated.
    """

    problem: str
    spec: str
    traits: tuple[Trait, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 1 if any(trait.verdict == "violated" for trait in self.traits) else 0


@dataclass(frozen=True)
class AnalysisReport:
    """What `analyze` found in the result file `source`: tables, and `left_out`, the analyses that it does not allow, with reasons.

    `path` is the file that they were written to, if any.
    """

    source: str
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]
    path: Path | None
    seconds: float


@dataclass(frozen=True)
class DrawnReport:
    """What `plot` or `report` wrote: where, title and caption of the figure, how many there are, and what was left out and why."""

    path: Path
    title: str
    caption: str
    figures: int
    seconds: float
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReplayReport:
    """What `replay` found: the result beside the new one; `changed` tells of files whose data are others now than in the result.

    `path` is where the new result was kept, if it was.
    """

    comparison: Comparison
    changed: tuple[str, ...]
    path: Path | None
    seconds: float

    @property
    def exit_code(self) -> int:
        """As that of the comparison; 1 where data have changed."""
        return 1 if self.changed else self.comparison.exit_code


@dataclass(frozen=True)
class ConvertReport:
    """What `convert` wrote: where, what of the result is in it, and in `warnings` what is not."""

    path: Path
    content: str = ""
    warnings: tuple[str, ...] = ()
