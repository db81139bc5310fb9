"""The section `outer`: what `implicit optimize` minimises or maximises, over what, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from implicit_cli.errors import listing, nearest
from implicit_cli.spec.fields import Checked, Names, Strict, Table, Value, nothing
from implicit_cli.spec.grammar import Fault, _value, stop
from implicit_cli.spec.words import found, shown

ALLOWED_WITH = {
    "step": ("adam", "gradient_descent"),
    "decay": ("adam", "gradient_descent"),
    "momentum": ("adam", "gradient_descent"),
}
"""Settings that only some methods have."""


def objective(given: Any) -> Any:
    """The name of an output, or a frozen mapping of quantities to targets."""
    if isinstance(given, str) and given:
        return given
    if not isinstance(given, Mapping) or not given:
        stop([((), f"found {found(given)}, allowed: the name of an output, or {{QUANTITY: TARGET}}")])
    faults: list[Fault] = []
    frozen = MappingProxyType({name: _value(target, (name,), faults) for name, target in given.items()})
    stop(faults)
    return frozen


def limits(given: Any) -> tuple[float | None, float | None]:
    """A lower and an upper bound; None where there is none."""
    allowed = "[LOW, HIGH], two numbers, or null where there is no bound"
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        stop([((), f"found {found(given)}, allowed: {allowed}")])
    for index, side in enumerate(given):
        if side is not None and (isinstance(side, bool) or not isinstance(side, (int, float)) or not math.isfinite(side)):
            stop([((index,), f"found {found(side)}, allowed: a number, or null where there is no bound")])
    low, high = (None if side is None else float(side) for side in given)
    if low is not None and high is not None and not low < high:
        stop([((), f"found [{shown(str(given[0]))}, {shown(str(given[1]))}], allowed: LOW below HIGH")])
    return low, high


def together(spec: Any) -> list[Fault]:
    """Faults of an `OuterSpec` whose keys are good one by one."""
    faults: list[Fault] = []
    targets = spec.objective if isinstance(spec.objective, Mapping) else None
    for name in spec.weights:
        if targets is None:
            faults.append((("weights", name), "found with an output as the objective, allowed: with targets, {QUANTITY: TARGET}"))
        elif name not in targets:
            faults.append((("weights", name), f"'{name}' has no target, allowed: {listing(targets)}{nearest(name, targets)}"))
    if targets is not None and spec.sense == "maximise":
        faults.append((("sense",), "found 'maximise' with targets, allowed: 'minimise'"))
    for name in spec.bounds:
        if spec.parameters is not None and name not in spec.parameters:
            hint = nearest(name, spec.parameters)
            faults.append((("bounds", name), f"'{name}' is not in outer.parameters, allowed: {listing(spec.parameters)}{hint}"))
    for name, methods in ALLOWED_WITH.items():
        if getattr(spec, name) is not None and spec.method not in methods:
            faults.append(((name,), f"found with method '{spec.method}', allowed with: {listing(methods)}"))
    if spec.patience is not None and spec.validation is None:
        faults.append((("patience",), "found without outer.validation, allowed: with the output that must keep getting better"))
    return faults


Objective = Annotated[
    Any,
    Checked(objective, Annotated[str, Field(min_length=1)] | Annotated[dict[str, Value], Field(min_length=1)]),
]
Limits = Annotated[
    tuple[float | None, float | None],
    Checked(limits, Annotated[list[float | None], Field(min_length=2, max_length=2)]),
]


class OuterSpec(Strict):
    """What `implicit optimize` minimises or maximises over parameters; `run` and the other commands only check it."""

    objective: Objective = Field(
        description="the scalar output to minimise or maximise; or {UNKNOWN or OUTPUT: TARGET}: the sum of weighted squared "
        "differences to the targets is minimised"
    )
    weights: Table[Value] = Field(
        default_factory=nothing, description="weights of the squared differences, by quantity with a target; left out: 1"
    )
    sense: Literal["minimise", "maximise"] = Field(
        default="minimise", description="whether the objective ought to be small or large"
    )
    parameters: Names = Field(default=None, description="parameters that are varied; left out: sensitivity.wrt, else all")
    bounds: Table[Limits] = Field(
        default_factory=nothing,
        description="[LOW, HIGH] for all entries of a parameter, null for none; left out: what the problem declares",
    )
    method: Literal["lbfgs", "adam", "gradient_descent"] = Field(
        default="lbfgs", description="lbfgs: L-BFGS-B with a line search; adam and gradient_descent: steps of a given length"
    )
    max_steps: int = Field(default=100, ge=1, description="outer steps after which to stop")
    tol: float = Field(default=1e-6, gt=0, description="largest 2-norm of the projected gradient that counts as an optimum")
    step: float | None = Field(
        default=None, gt=0, description="length factor of the steps of adam and gradient_descent; left out: 0.1"
    )
    decay: float | None = Field(
        default=None, ge=0, description="step k of adam and gradient_descent has the factor step / (1 + decay k); left out: 0"
    )
    momentum: float | None = Field(
        default=None, ge=0, lt=1, description="share of earlier gradients in a step; left out: 0 for gradient_descent, 0.9 for adam"
    )
    validation: str | None = Field(
        default=None, min_length=1, description="scalar output that is recorded at each step, better where the objective would be"
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after so many steps without a better validation, and take the step where it was best"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> OuterSpec:
        stop(together(self))
        return self
