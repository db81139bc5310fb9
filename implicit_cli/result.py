"""What a run hands over: plain records of NumPy arrays. The engine makes them, the store writes them, neither knows the other.

This module imports no JAX. Shapes are those of the declared quantities; `columns` means one entry per component of theta
(`*theta`), per direction (a scalar) or per cotangent (a scalar), as each field says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from implicit_cli.status import Status

Array = NDArray[Any]


@dataclass(frozen=True)
class Axis:
    """A dimension of the result file: its name, its length, and labels for its entries where there are any."""

    name: str
    size: int
    labels: Array | None = None


@dataclass(frozen=True)
class Variable:
    """What a reader must know about a quantity: axes, unit, meaning; `transform` names the map behind a pre-processed parameter."""

    name: str
    axes: tuple[str, ...]
    unit: str = "1"
    doc: str = ""
    transform: str = "identity"


@dataclass(frozen=True)
class Bound:
    """Error bound of a product, column by column, and the parts that it is the sum of (docs/theory.md).

    `truncation` comes from x being known to `delta` only, `linear` from the linear solve's residual, `rounding` from the
    arithmetic. NaN where there is no certificate. `kind` is "bound" when every constant is proved or computed, else "estimate".
    """

    total: Array
    truncation: Array
    linear: Array
    rounding: Array
    kind: str = "bound"


@dataclass(frozen=True)
class Product:
    """One requested derivative.

    kind      value's shape              bound's columns
    jacobian  (*of, *wrt)                *wrt
    jvp       (*of)                      scalar; `name` is the direction's, `direction` its parts by parameter
    jvp_left, jvp_right                  one-sided derivatives along `direction`, otherwise as a jvp
    vjp       (*wrt)                     scalar; `name` is the cotangent's, `direction` its parts by unknown or output
    hessian   (*wrt, *wrt2)              *wrt2; `of` is a scalar
    hessian_along  (*of)                 scalar; second derivative along `direction`, otherwise as a jvp
    `of` is empty for a vjp and `wrt` for a jvp: they run over all that the direction names. `wrt2` belongs to a hessian alone.
    """

    kind: str
    name: str
    of: str
    wrt: str
    value: Array
    bound: Bound
    status: Status = Status.OK
    direction: Mapping[str, Array] = field(default_factory=dict)
    wrt2: str = ""


@dataclass(frozen=True)
class SolverReport:
    """How the forward solve went: `history` is max |F| per iteration, polish steps included; `residual` is the last, recomputed."""

    name: str
    status: Status
    steps: int
    polish_steps: int
    tol: float
    residual: float
    history: Array


@dataclass(frozen=True)
class LinearReport:
    """How the linear solves of one direction ("forward": A u = b, "adjoint": A' u = w) went, one entry per right-hand side.

    `residual` is |A u - b| / |b|, recomputed from F in float64 and not taken from the solver's word.
    """

    direction: str
    method: str
    status: Array
    residual: Array
    steps: Array


@dataclass(frozen=True)
class Certificate:
    """Constants behind the bounds (docs/theory.md) and where each comes from: `proved`, `computed` or `estimated`.

    sigma_min, sigma_max, kappa   extreme singular values of A outside its null space and their ratio
    alpha                         lower bound of the singular values of A near the solution
    beta, gamma                   Lipschitz constants of B and A in x
    norm_B                        |B|
    lipschitz                     beta / alpha + gamma |B| / alpha^2: how fast J changes with x at most (Theorem 1 of the paper)
    step                          |delta|, length of the Newton step at the computed solution
    h                             Newton-Kantorovich number |A^-1| gamma |delta|; below 1/2 a root exists within `radius`
    radius                        proven (or estimated) distance to that root: the bound on the solution itself
    margin                        distance to the nearest kink of F
    """

    sigma_min: float
    sigma_max: float
    kappa: float
    alpha: float
    beta: float
    gamma: float
    norm_B: float
    lipschitz: float
    step: float
    h: float
    radius: float
    margin: float
    provenance: Mapping[str, str]

    @staticmethod
    def unknown() -> Certificate:
        """Nothing is known: NaN throughout."""
        return Certificate(**{name: float("nan") for name in Certificate.__annotations__ if name != "provenance"}, provenance={})


@dataclass(frozen=True)
class NullSpace:
    """What A does not see: dimension, gauges by name, and components without a derivative, as masks by reason, then unknown."""

    dimension: int = 0
    gauges: tuple[str, ...] = ()
    undetermined: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseResult:
    """All of one case. `message` says cause and cure where the status is not OK; `seconds` is wall time by stage.

    `method` is how the products were differentiated: implicit, unrolled, finite_difference or complex_step. `bounds` are those of
    solution and outputs, by name: how far each is from that at the exact solution, in the 2-norm over its components. `accuracy` is
    the largest bound of a product relative to it, as `sensitivity.accuracy` judges. `swept` are the values that the case has of
    what a sweep varies besides parameters: data, initial guesses, the seed. `start` says where its solve began and `basin` names
    the case from which its solution goes on without a jump; both are empty where each case begins at its own guess. `point` says
    what the case is of a branch that is followed: `level`, `fold` or `end`; else it is empty.
    """

    id: str
    status: Status
    message: str
    theta: Mapping[str, Array]
    solution: Mapping[str, Array]
    outputs: Mapping[str, Array]
    products: tuple[Product, ...]
    solver: SolverReport
    linear: tuple[LinearReport, ...]
    certificate: Certificate
    null_space: NullSpace
    seconds: Mapping[str, float]
    method: str = "implicit"
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    accuracy: float = float("nan")
    swept: Mapping[str, Array] = field(default_factory=dict)
    start: str = ""
    basin: str = ""
    point: str = ""


@dataclass(frozen=True)
class Header:
    """What is common to all cases of a run: names, axes and units, the spec as given and as resolved, inputs, provenance."""

    problem: str
    summary: str
    axes: tuple[Axis, ...]
    unknowns: tuple[Variable, ...]
    parameters: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    data: tuple[Variable, ...]
    inputs: Mapping[str, Array]
    spec_text: str
    spec_resolved: str
    provenance: Mapping[str, str]
