"""What `implicit show` prints: a reading of a result file, as plain frozen records and, for `--json`, as plain JSON values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class QuantitySummary:
    """A parameter, unknown or output. `value` is a number or nested lists for a small array, None for a large one.

    `norm` is the 2-norm; it, `minimum` and `maximum` run over the finite entries and are NaN where there is none. `bound` is how
    far an unknown or output is from that at the exact solution, in the 2-norm; NaN where there is none.
    """

    name: str
    unit: str
    doc: str
    shape: tuple[int, ...]
    value: Any
    norm: float
    minimum: float
    maximum: float
    bound: float = math.nan


@dataclasses.dataclass(frozen=True)
class EntrySummary:
    """One number of a product, labelled by the axis labels: `of` is "w[bmi]", `wrt` "log(penalty[s5])".

    `wrt` is empty for a derivative along one direction and "NAME[3]" for one of many under a name; for a hessian it names both,
    "a[0] and b[1]".
    """

    of: str
    wrt: str
    value: float
    bound: float


@dataclasses.dataclass(frozen=True)
class ProductSummary:
    """One requested derivative.

    `value` is the number where there is only one. `norm` is the 2-norm over the finite entries (NaN where there is none), `count`
    the number of all entries and `undetermined` of those that are NaN. `bound` is the largest bound of a column that has a finite
    entry, `relative` the same over the largest 2-norm of a column; NaN means that there is no bound. `bound_kind` is "bound" or
    "estimate". `entries` are the largest in absolute value, `more` says how many finite ones are not among them.
    """

    kind: str
    name: str
    of: str
    wrt: str
    unit: str
    shape: tuple[int, ...]
    value: float | None
    norm: float
    count: int
    undetermined: int
    bound: float
    relative: float
    bound_kind: str
    status: str
    good: bool
    entries: tuple[EntrySummary, ...]
    more: int


@dataclasses.dataclass(frozen=True)
class ConstantSummary:
    """A constant of the certificate, its meaning and where it comes from: proved, computed or estimated."""

    name: str
    value: float
    unit: str
    provenance: str
    meaning: str


@dataclasses.dataclass(frozen=True)
class SolverSummary:
    """The forward solve; `residual` is max |F|, recomputed."""

    name: str
    status: str
    good: bool
    steps: int
    polish_steps: int
    tol: float
    residual: float


@dataclasses.dataclass(frozen=True)
class LinearSummary:
    """The linear solves of one direction: right-hand sides, all and by status, the worst relative residual, the most iterations."""

    direction: str
    method: str
    right_hand_sides: int
    statuses: Mapping[str, int]
    residual: float
    steps: int


@dataclasses.dataclass(frozen=True)
class UndeterminedSummary:
    """Components of one unknown without a derivative, for one reason.

    `indices` are those along the first axis, named `axis`, that have such a component; `whole` is True when every component at
    these indices is one. A scalar has no axis and no indices.
    """

    reason: str
    unknown: str
    count: int
    size: int
    axis: str
    indices: tuple[int, ...]
    whole: bool


@dataclasses.dataclass(frozen=True)
class NullSpaceSummary:
    """The null space of A: its dimension, the symmetries in it, and the components that it leaves open."""

    dimension: int
    gauges: tuple[str, ...]
    undetermined: tuple[UndeterminedSummary, ...]


@dataclasses.dataclass(frozen=True)
class CaseSummary:
    """All of one case. `good` is False where some number must not be relied on; `message` says cause and cure.

    `method` is how the products were differentiated.
    """

    id: str
    status: str
    good: bool
    message: str
    seconds: Mapping[str, float]
    parameters: tuple[QuantitySummary, ...]
    solution: tuple[QuantitySummary, ...]
    outputs: tuple[QuantitySummary, ...]
    products: tuple[ProductSummary, ...]
    certificate: tuple[ConstantSummary, ...]
    solver: SolverSummary
    linear: tuple[LinearSummary, ...]
    null_space: NullSpaceSummary
    method: str = "implicit"


@dataclasses.dataclass(frozen=True)
class Summary:
    """A result file: what it is about, who wrote it and when, and its cases."""

    path: str
    format_version: int
    problem: str
    summary: str
    creator: str
    created: str
    provenance: Mapping[str, str]
    cases: tuple[CaseSummary, ...]

    def asdict(self) -> dict[str, Any]:
        """The same as JSON values, as `plain` makes them."""
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def plain(value: Any) -> Any:
    """JSON values of records: NaN becomes null, infinities the strings "inf" and "-inf", for JSON has neither."""
    match value:
        case float() if math.isnan(value):
            return None
        case float() if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value
