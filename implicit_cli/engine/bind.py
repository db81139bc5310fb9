"""A spec meets the problem it names: every name, shape, unit and bound is checked against the declarations, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from implicit_cli.engine.asked import Direction, asked_for
from implicit_cli.engine.faults import Faults, Keys
from implicit_cli.engine.given import Array, Given, describe, structure_of, structure_sizes
from implicit_cli.errors import PluginError, listing, nearest
from implicit_cli.problem import TRANSFORMS, Data, Option, Output, Parameter, Problem, Quantity, Unknown
from implicit_cli.result import Axis, Variable
from implicit_cli.spec import LoadedSpec, LoadedValue


@dataclass(frozen=True)
class BoundProblem:
    """A problem with everything it needs, as checked NumPy arrays."""

    problem: Problem
    shapes: Mapping[str, tuple[int, ...]]
    axes: tuple[Axis, ...]
    variables: Mapping[str, Variable]
    parameters: Mapping[str, Array]
    data: Mapping[str, Array]
    initial: Mapping[str, Array]
    of: tuple[str, ...]
    wrt: tuple[str, ...]
    jacobian: bool
    hessian: bool
    directions: tuple[Direction, ...]
    inputs: tuple[str, ...]

    def names(self, kind: type[Quantity]) -> tuple[str, ...]:
        """Declared names of one kind, in the order written."""
        return tuple(self.problem.declared(kind))


def bind(loaded: LoadedSpec, cls: type[Problem], arrays: Mapping[Keys, Array] = MappingProxyType({})) -> BoundProblem:
    """Check a loaded spec against a problem class; all faults that can be seen together are reported together.

    `arrays` are values that are at hand, by their keys in the spec: they take the place of what the spec says there.

    Raises InputError for the spec's faults, PluginError for the class's own.
    """
    faults = Faults(loaded)
    structure = structure_of(loaded, cls, arrays, faults)
    problem = _made(loaded, cls, structure_sizes(loaded, structure, arrays), faults)
    check_declarations(problem)
    given = Given(loaded, problem, structure, arrays, faults)
    data = given.data()
    parameters = given.section("parameters", Parameter)
    initial = given.section("initial", Unknown)
    faults.stop()
    labels = given.labels()
    data |= given.left_out(data)
    shapes = given.shapes()
    theta = {name: _parameter(q, parameters.get(name), shapes[name], faults) for name, q in cls.declared(Parameter).items()}
    transforms = _transforms(loaded, cls, theta, faults)
    asked = asked_for(given, shapes)
    faults.stop()
    quantities = cls.declared(Quantity)
    return BoundProblem(
        problem=problem,
        shapes=shapes,
        axes=_axes(quantities, shapes, labels),
        variables={
            name: Variable(name, _axis_names(q), q.unit, q.doc, transforms.get(name, "identity")) for name, q in quantities.items()
        },
        parameters=theta,
        data={name: _as_declared(cls.declared(Data)[name], value.array) for name, value in data.items()},
        initial={name: _filled(value, shapes[name]) for name, value in initial.items()},
        of=asked.of,
        wrt=asked.wrt,
        jacobian=asked.jacobian,
        hessian=asked.hessian,
        directions=asked.directions,
        inputs=tuple(given.origins),
    )


def _made(loaded: LoadedSpec, cls: type[Problem], sizes: Mapping[str, int], faults: Faults) -> Problem:
    """The problem with the spec's options; `sizes` are those that a structure knows, by option, where the spec says none."""
    spec, declared, options = loaded.model, cls.declared(Option), {}
    for name, value in spec.options.items():
        if name not in declared:
            text = f"{spec.problem} has no such option, allowed: {listing(declared)}{nearest(name, declared)}"
            faults.add(("options", name), text)
            continue
        try:
            options[name] = declared[name].accept(value)
        except ValueError as error:
            faults.add(("options", name), str(error))
    for name, size in sizes.items():
        if name in declared and name not in spec.options:
            try:
                options[name] = declared[name].accept(size)
            except ValueError as error:
                faults.add(("structure",), f"{error} for option '{name}' of {spec.problem}")
    faults.stop()
    return cls(**options)


def _as_declared(quantity: Data, array: Array) -> Array:
    """Numbers of the kind that is declared: `1` is 1.0 where a sweep, or a product, goes on to 1.5."""
    return array if quantity.dtype == "int" else np.asarray(array, dtype=np.float64)


def _filled(value: LoadedValue, shape: tuple[int, ...]) -> Array:
    """The value in the shape of its quantity, which a single number fills."""
    return np.broadcast_to(np.asarray(value.array, dtype=np.float64), shape).copy()


def _parameter(quantity: Parameter, value: LoadedValue | None, shape: tuple[int, ...], faults: Faults) -> Array:
    """A parameter as given, or its default, within its declared bounds."""
    if value is not None:
        array = _filled(value, shape)
    elif quantity.default is not None:
        array = np.full(shape, quantity.default)
    else:
        faults.add(("parameters",), f"'{quantity.name}' is missing: {describe(quantity)}")
        return np.zeros(shape)
    beyond = outside(quantity, array)
    if beyond.any():
        at = "" if not shape else f" at {[int(i) for i in np.argwhere(beyond)[0]]}"
        faults.add(("parameters", quantity.name), f"found {array[beyond].flat[0]:g}{at}, allowed: {bounds_text(quantity)}")
    return array


def outside(quantity: Quantity, array: Array) -> NDArray[np.bool_]:
    """Which entries of a value are beyond the declared bounds of its quantity."""
    low, high = quantity.bounds
    beyond = np.zeros(array.shape, dtype=bool)
    if low is not None:
        beyond |= array < low
    if high is not None:
        beyond |= array > high
    return beyond


def _transforms(loaded: LoadedSpec, cls: type[Problem], theta: Mapping[str, Array], faults: Faults) -> dict[str, str]:
    """The transform of each parameter, which its value must allow."""
    declared = cls.declared(Parameter)
    chosen: dict[str, str] = {name: quantity.transform for name, quantity in declared.items()}
    for name, asked in loaded.model.transforms.items():
        if name not in declared:
            text = f"{loaded.model.problem} has no such parameter, allowed: {listing(declared)}{nearest(name, declared)}"
            faults.add(("transforms", name), text)
            continue
        chosen[name] = asked
    for name, transform in chosen.items():
        low = {"log": 0.0, "log10": 0.0, "softplus": 0.0, "logit": 0.0}.get(transform)
        keys, of = ("parameters", name), f"allowed with transform '{transform}'"
        if low is not None and (theta[name] <= low).any():
            faults.add(keys, f"found {float(theta[name].min()):g}, {of}: above 0")
        if transform == "logit" and (theta[name] >= 1.0).any():
            faults.add(keys, f"found {float(theta[name].max()):g}, {of}: below 1")
    return chosen


def _axis_names(quantity: Quantity) -> tuple[str, ...]:
    return tuple(axis if isinstance(axis, str) else f"{quantity.name}_axis{i}" for i, axis in enumerate(quantity.shape))


def _axes(
    quantities: Mapping[str, Quantity], shapes: Mapping[str, tuple[int, ...]], labels: Mapping[str, Array]
) -> tuple[Axis, ...]:
    sizes: dict[str, int] = {}
    for name, quantity in quantities.items():
        sizes.update(zip(_axis_names(quantity), shapes[name], strict=True))
    # names of species are kept also where no quantity has an axis of them
    sizes.update({name: len(found) for name, found in labels.items() if name not in sizes})
    return tuple(Axis(name, size, labels.get(name)) for name, size in sizes.items())


def check_declarations(problem: Problem) -> None:
    """A problem's own mistakes, named as such: axes of outputs that nothing sizes, transforms that do not exist."""
    cls = type(problem)
    sized = {axis for kind in (Data, Parameter, Unknown) for q in cls.declared(kind).values() for axis in q.shape} | set(
        problem.sizes
    )
    for output in cls.declared(Output).values():
        for axis in output.shape:
            if isinstance(axis, str) and axis not in sized:
                raise PluginError(f"{cls.__name__}.{output.name}: axis '{axis}' has no length, allowed: {listing(map(str, sized))}")
    for parameter in cls.declared(Parameter).values():
        if parameter.transform not in TRANSFORMS:
            raise PluginError(
                f"{cls.__name__}.{parameter.name}: no transform '{parameter.transform}', allowed: {listing(TRANSFORMS)}"
            )
    if not cls.declared(Unknown):
        raise PluginError(f"{cls.__name__} declares no Unknown: there is nothing to solve for")


def bounds_text(quantity: Quantity) -> str:
    """Its declared bounds in words."""
    low, high = quantity.bounds
    return f"at least {low:g}" if high is None else f"at most {high:g}" if low is None else f"{low:g} to {high:g}"
