"""What `implicit verify` and `implicit problems check` find: plain records, made by the engine.

This module imports no JAX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from implicit_cli.result import Array, CaseResult, Product


class Verdict(StrEnum):
    """What became of a claim. Their order is that of the codes in a result file: a member may be added at the end."""

    HOLDS = "holds"
    VIOLATED = "violated"
    NOT_DECIDED = "not_decided"

    @property
    def code(self) -> int:
        """Number in a result file."""
        return tuple(Verdict).index(self)


@dataclass(frozen=True)
class Claim:
    """What a result says of one case: a solution known to `radius`, and products with their bounds, differentiated by `method`.

    `good` is False where the status says that numbers must not be relied on; `residual` is max |F| as it was stored.
    """

    id: str
    status: str
    good: bool
    solution: Mapping[str, Array]
    products: tuple[Product, ...]
    residual: float
    radius: float
    method: str = "implicit"


def claim_of(result: CaseResult) -> Claim:
    """What a case claims that has just been computed."""
    return Claim(
        result.id,
        result.status.label,
        result.status.good,
        result.solution,
        result.products,
        float(result.solver.residual),
        float(result.certificate.radius),
        result.method,
    )


@dataclass(frozen=True)
class Finding:
    """The check of one product. Numbers are those of the worst direction, `along`; NaN where there is none.

    observed    |stored derivative - witness|
    bound       the stored bound on it
    witness     the witness's own error
    size        |witness|
    slope       exponent with which the Taylor remainder falls: at least about `order`
    residual    |A J v + B v| / |B v| of the theorem's J, by differences of F
    dot         |w'(J v) - (J'w)'v| / (|w| |J v|), from a forward and from an adjoint solve
    trials      how many directions
    left_out    entries without a derivative
    wrt_label   `wrt` and `wrt2` as tables call them, such as log(penalty)
    """

    kind: str
    name: str
    of: str
    wrt: str
    wrt2: str
    verdict: Verdict
    note: str
    trials: int
    left_out: int
    along: str = ""
    observed: float = float("nan")
    bound: float = float("nan")
    witness: float = float("nan")
    size: float = float("nan")
    slope: float = float("nan")
    order: int = 2
    residual: float = float("nan")
    dot: float = float("nan")
    wrt_label: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the witness is within the bound and its own error, however sharp it is."""
        return self.observed <= self.bound + SAFETY * self.witness

    @property
    def effectivity(self) -> float:
        """bound / observed where the witness is sharp enough to tell, else NaN."""
        sharp = self.observed > 0 and SHARP * self.witness <= self.observed
        return self.bound / self.observed if sharp else float("nan")


SAFETY = 4.0
"""Times the witness's own error, which is an estimate, before a difference counts against a bound."""
SHARP = 4.0
"""A witness tells the effectivity where its own error is this many times below what it observes."""


@dataclass(frozen=True)
class CaseVerdict:
    """The check of one case.

    verdict     the worst of the products' and of the solution's own: violated, else not decided, else holds
    note        what is wrong with the solution, or why nothing could be judged
    residual    max |F| at the stored solution, evaluated anew; `tol` is what the spec asks
    moved       distance to the solution that is found by solving again; the stored `radius` bounds it
    """

    id: str
    status: str
    verdict: Verdict
    note: str
    residual: float
    tol: float
    moved: float
    radius: float
    seconds: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Trait:
    """One thing that the contract asks of a problem, as `implicit problems check` finds it; `note` says what was found."""

    name: str
    verdict: Verdict
    note: str


@dataclass(frozen=True)
class Verification:
    """All of a check, and how it was made: random `directions` of each parameter, or `full`, every column."""

    cases: tuple[CaseVerdict, ...]
    directions: int
    full: bool
    seed: int
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def violated(self) -> bool:
        """True where a claim is refuted."""
        return any(case.verdict is Verdict.VIOLATED for case in self.cases)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Violated, else not decided, else holds; not decided where there is none."""
    for verdict in (Verdict.VIOLATED, Verdict.NOT_DECIDED):
        if verdict in verdicts:
            return verdict
    return Verdict.HOLDS if verdicts else Verdict.NOT_DECIDED
