"""What the section `outer` may say where it is more than a name or a number: the objective, bounds, and what fits together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from implicit_cli.errors import listing, nearest
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
