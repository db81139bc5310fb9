"""What a spec asks for: of which unknowns and outputs, with respect to which parameters, along which directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_cli.engine.faults import Faults
from implicit_cli.engine.given import Given, shape_text
from implicit_cli.errors import listing
from implicit_cli.problem import Output, Parameter, Problem, Unknown
from implicit_cli.spec import DirectionSpec, HessianSpec, JacobianSpec

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Direction:
    """A direction of a jvp or of a second derivative, or a vjp's cotangent: full arrays by quantity name.

    With `count` there are so many of them, along a first axis.
    """

    kind: str
    name: str
    parts: Mapping[str, Array]
    count: int | None = None


@dataclass(frozen=True)
class Asked:
    """Products that are wanted, checked: names of quantities in `of` and `wrt`, whole matrices, and directions."""

    of: tuple[str, ...]
    wrt: tuple[str, ...]
    jacobian: bool
    hessian: bool
    directions: tuple[Direction, ...]


def asked_for(given: Given, shapes: Shapes) -> Asked:
    """What the section `sensitivity` asks of this problem; faults are collected."""
    sensitivity, cls, faults = given.spec.sensitivity, given.cls, given.faults
    values = [name for kind in (Unknown, Output) for name in cls.declared(kind) if 0 not in shapes[name]]
    of = _choice("of", sensitivity.of, values, faults)
    wrt = _choice("wrt", sensitivity.wrt, list(cls.declared(Parameter)), faults)
    directions = tuple(
        _direction(given, index, product, wrt, shapes)
        for index, product in enumerate(sensitivity.products)
        if isinstance(product, DirectionSpec)
    )
    hessian = HessianSpec() in sensitivity.products
    if hessian:
        _check_hessian(of, sensitivity.products.index(HessianSpec()), cls, shapes, faults)
    return Asked(of, wrt, JacobianSpec() in sensitivity.products, hessian, directions)


def _choice(key: str, chosen: Sequence[str] | None, allowed: Sequence[str], faults: Faults) -> tuple[str, ...]:
    if chosen is None:
        return tuple(allowed)
    for index, name in enumerate(chosen):
        if name not in allowed:
            faults.unknown(("sensitivity", key, index), name, allowed)
    return tuple(chosen)


def _direction(given: Given, index: int, product: DirectionSpec, wrt: tuple[str, ...], shapes: Shapes) -> Direction:
    faults, cls = given.faults, given.cls
    allowed: Iterable[str] = (*cls.declared(Unknown), *cls.declared(Output)) if product.kind == "vjp" else wrt
    parts: dict[str, Array] = {}
    count: int | None = None
    for name, value in product.parts.items():
        keys = ("sensitivity", "products", index, product.kind, product.name, name)
        if name not in allowed:
            faults.unknown(keys, name, allowed)
            continue
        found = given.read(keys, value)
        if found is None:
            continue
        shape, array = shapes[name], np.asarray(found.array, dtype=np.float64)
        at_once = product.kind in ("jvp", "vjp")
        if at_once and array.ndim == len(shape) + 1 and array.shape[1:] == shape:
            if count is not None and count != len(array):
                faults.add(keys, f"found {len(array)} directions, allowed: {count}, as the parts before it have")
                continue
            count = len(array)
        elif array.ndim and array.shape != shape:
            many = f", or {shape_text(('k', *shape))} for k directions at once" if at_once else ""
            faults.add(keys, f"found shape {shape_text(array.shape)}, allowed: {shape_text(shape)} or a single number{many}")
            continue
        parts[name] = array
    first = () if count is None else (count,)
    full = {name: np.broadcast_to(part, first + shapes[name]).copy() for name, part in parts.items()}
    return Direction(product.kind, product.name, full, count)


def _check_hessian(of: Sequence[str], index: int, cls: type[Problem], shapes: Shapes, faults: Faults) -> None:
    """A whole Hessian is one of scalars: somewhere in `of` there must be one."""
    if any(shapes.get(name) == () for name in of):
        return
    scalars = [name for kind in (Unknown, Output) for name in cls.declared(kind) if shapes[name] == ()]

    cure = f"name one of {listing(scalars)} in sensitivity.of, or ask" if scalars else "ask"
    faults.add(
        ("sensitivity", "products", index),
        f"found 'hessian', and nothing in sensitivity.of is a scalar: {cure} for second derivatives along directions, "
        "{hessian: {NAME: {PARAMETER: VALUE}}}",
    )
