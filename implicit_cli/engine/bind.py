"""A spec meets the problem it names: every name, shape, unit and bound is checked against the declarations, before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_cli.errors import InputError, PluginError, listing, nearest
from implicit_cli.problem import TRANSFORMS, Data, Option, Output, Parameter, Problem, Quantity, Unknown
from implicit_cli.result import Axis, Variable
from implicit_cli.spec import DirectionSpec, HessianSpec, JacobianSpec, LoadedSpec, LoadedValue, read_value
from implicit_cli.structures import Structure, build

Array = NDArray[Any]
Keys = tuple[str | int, ...]
KIND = "kind"
"""The axis whose labels are the names of a structure's species."""
STRUCTURE = {"start": ("particle", "axis"), "cell": ("axis", "axis"), "periodic": ("axis",), "species": ("particle",)}
PERFECT = ("perfect", "perfect_species")
"""Data that a structure with a defect fills, where a problem has them: the structure before the defect was made."""
"""Data that a structure fills."""


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
    return _Binder(loaded, cls, arrays).bind()


class _Binder:
    def __init__(self, loaded: LoadedSpec, cls: type[Problem], arrays: Mapping[Keys, Array]) -> None:
        self.arrays = arrays
        self.loaded, self.spec, self.cls = loaded, loaded.model, cls
        self.faults: list[str] = []
        self.origins: list[str] = []

    def bind(self) -> BoundProblem:
        structure = self._structure()
        self.problem = self._make_problem(self._structure_sizes(structure))
        check_declarations(self.problem)
        self.quantities: dict[str, Quantity] = self.cls.declared(Quantity)
        self.sizes = dict(self.problem.sizes)
        self.sized_by = {name: f"options.{name}" for name in self.sizes}
        self._fill_from(structure)
        data = {**self._section("data", Data), **self.filled}
        parameters = self._section("parameters", Parameter)
        initial = self._section("initial", Unknown)
        self._stop_on_faults()
        labels = self._labels(structure)
        data |= self._left_out(data)
        self._complete_sizes()
        shapes = {name: self._shape(quantity) for name, quantity in self.quantities.items()}
        theta = {name: self._parameter(name, parameters, shapes[name]) for name in self.cls.declared(Parameter)}
        guess = {name: self._fill("initial", name, value, shapes[name]) for name, value in initial.items()}
        transforms = self._transforms(theta)
        of, wrt = self._of(shapes), self._wrt()
        directions = self._directions(shapes)
        self._check_hessian(of, shapes)
        self._stop_on_faults()
        return BoundProblem(
            problem=self.problem,
            shapes=shapes,
            axes=self._axes(labels),
            variables={
                name: Variable(name, self._axis_names(q), q.unit, q.doc, transforms.get(name, "identity"))
                for name, q in self.quantities.items()
            },
            parameters=theta,
            data={name: value.array for name, value in data.items()},
            initial=guess,
            of=of,
            wrt=wrt,
            jacobian=JacobianSpec() in self.spec.sensitivity.products,
            hessian=HessianSpec() in self.spec.sensitivity.products,
            directions=directions,
            inputs=tuple(self.origins),
        )

    # Sections

    def _make_problem(self, sizes: Mapping[str, int]) -> Problem:
        """The problem with the spec's options; `sizes` are those that a structure knows, by option, where the spec says none."""
        declared, options = self.cls.declared(Option), {}
        for name, value in self.spec.options.items():
            if name not in declared:
                self._fault(
                    ("options", name),
                    f"{self.spec.problem} has no such option, allowed: {listing(declared)}{nearest(name, declared)}",
                )
                continue
            try:
                options[name] = declared[name].accept(value)
            except ValueError as error:
                self._fault(("options", name), str(error))
        for name, size in sizes.items():
            if name in declared and name not in self.spec.options:
                try:
                    options[name] = declared[name].accept(size)
                except ValueError as error:
                    self._fault(("structure",), f"{error} for option '{name}' of {self.spec.problem}")
        self._stop_on_faults()
        return self.cls(**options)

    # The structure

    def _structure(self) -> Structure | None:
        """What the section `structure` describes; None where there is none, or where its arrays are at hand."""
        if self.spec.structure is None or ("data", "start") in self.arrays:
            return None
        declared = self.cls.declared(Data)
        lacking = [name for name, shape in STRUCTURE.items() if name not in declared or declared[name].shape != shape]
        if lacking:
            self._fault(("structure",), f"{self.spec.problem} takes no structure: it declares no data {listing(lacking)}")
        for name in [name for name in STRUCTURE if name in self.spec.data]:
            self._fault(("data", name), "found beside 'structure', which fills it, allowed: one of the two")
        self._stop_on_faults()
        return build(self.loaded)

    def _structure_sizes(self, structure: Structure | None) -> dict[str, int]:
        """Options that a structure can tell: numbers of particles, axes and species."""
        if structure is not None:
            return {"particle": len(structure.position), "axis": structure.dimensions, "kinds": len(structure.names)}
        if self.spec.structure is None:
            return {}
        start, species = self.arrays["data", "start"], self.arrays["data", "species"]
        names = self.arrays.get(("labels", KIND))
        return {
            "particle": len(start),
            "axis": start.shape[1],
            "kinds": len(names) if names is not None else int(species.max()) + 1,
        }

    def _fill_from(self, structure: Structure | None) -> None:
        """Its arrays as data."""
        self.filled: dict[str, LoadedValue] = {}
        if structure is None:
            return
        kinds = self.problem._options.get("kinds")
        if kinds is not None and len(structure.names) > kinds:
            many = f"{len(structure.names)} species, {listing(structure.names)}"
            self._fault(("structure",), f"found {many}, allowed: {kinds}, as options.kinds says")
        arrays = (structure.position, structure.cell, structure.periodic.astype(np.int64), structure.species)
        for name, array in zip(STRUCTURE, arrays, strict=True):
            self.filled[name] = LoadedValue(array)
            self._check("structure", self.cls.declared(Data)[name], self.filled[name], ("structure",))
        if structure.perfect is not None:
            before = (structure.perfect.position[None], structure.perfect.species[None])
            for name, array in zip(PERFECT, before, strict=True):
                if name in self.cls.declared(Data) and name not in self.spec.data:
                    self.filled[name] = LoadedValue(array)
                    self._check("structure", self.cls.declared(Data)[name], self.filled[name], ("structure",))
        if structure.source is not None:
            self.origins.append(f"{structure.source}:/")

    def _section(self, section: str, kind: type[Quantity]) -> dict[str, LoadedValue]:
        """Read what the spec gives for one kind of quantity; sizes of axes are learnt from what is not a scalar."""
        declared, given = self.cls.declared(kind), getattr(self.spec, section)
        loaded: dict[str, LoadedValue] = {}
        for name, value in given.items():
            if name not in declared:
                others = [
                    s for s, k in (("data", Data), ("parameters", Parameter), ("options", Option)) if name in self.cls.declared(k)
                ]
                hint = f"; it belongs under '{others[0]}'" if others else nearest(name, declared)
                self._fault((section, name), f"{self.spec.problem} declares no such name here, allowed: {listing(declared)}{hint}")
                continue
            value = self._read((section, name), value)
            if value is not None:
                loaded[name] = value
                self._check(section, declared[name], value)
        if section == "data":
            for name, quantity in self.cls.declared(Data).items():
                if name not in given and name not in self.filled and not quantity.optional:
                    self._fault(("data",), f"'{name}' is missing: {_describe(quantity)}")
        return loaded

    def _read(self, keys: Keys, value: Any) -> LoadedValue | None:
        if keys in self.arrays:
            return LoadedValue(self.arrays[keys])
        try:
            found = read_value(self.loaded, keys, value)
        except InputError as error:
            self.faults.extend(error.messages)
            return None
        if found.origin:
            self.origins.append(found.origin)
        return found

    def _check(self, section: str, quantity: Quantity, value: LoadedValue, keys: Keys = ()) -> None:
        keys, where = keys or (section, quantity.name), f" ({value.origin})" if value.origin else ""
        array = value.array
        if value.unit is not None and value.unit != quantity.unit:
            self._fault(keys, f"found unit '{value.unit}'{where}, allowed: '{quantity.unit}'")
        if isinstance(quantity, Data) and quantity.dtype == "int" and array.dtype.kind != "i":
            self._fault(keys, f"found numbers with a fraction{where}, allowed: integers")
        if array.ndim == 0 and quantity.shape and not isinstance(quantity, Data):
            return  # broadcast later, when all sizes are known
        if array.ndim != len(quantity.shape):
            self._fault(keys, f"found shape {_shape_text(array.shape)}{where}, allowed: {_shape_text(quantity.shape)}")
            return
        for axis, size in zip(quantity.shape, array.shape, strict=True):
            if isinstance(axis, int) and axis != size:
                self._fault(keys, f"found shape {_shape_text(array.shape)}{where}, allowed: {_shape_text(quantity.shape)}")
            elif isinstance(axis, str) and self.sizes.setdefault(axis, size) != size:
                self._fault(
                    keys, f"found {size} entries along '{axis}'{where}, allowed: {self.sizes[axis]}, as {self.sized_by[axis]} has"
                )
            if isinstance(axis, str):
                self.sized_by.setdefault(axis, "the structure" if section == "structure" else f"{section}.{quantity.name}")

    def _labels(self, structure: Structure | None) -> dict[str, Array]:
        known = {axis for quantity in self.quantities.values() for axis in quantity.shape if isinstance(axis, str)}
        labels = {}
        if self.spec.structure is not None:
            known.add(KIND)
        if structure is not None and KIND not in self.spec.labels:
            # a problem can have more kinds than the structure has names
            size = self.sizes.setdefault(KIND, len(structure.names))
            more = [f"{KIND} {number}" for number in range(len(structure.names), size)]
            labels[KIND] = np.array([*structure.names, *more][:size])
        for axis, value in self.spec.labels.items():
            if axis not in known:
                self._fault(
                    ("labels", axis), f"{self.spec.problem} has no such axis, allowed: {listing(known)}{nearest(axis, known)}"
                )
                continue
            found = self._read(("labels", axis), value)
            if found is None:
                continue
            size = self.sizes.setdefault(axis, found.array.size)
            if found.array.ndim != 1 or found.array.size != size:
                self._fault(
                    ("labels", axis),
                    f"found {found.array.size} labels, allowed: {size}, as {self.sized_by.get(axis, 'the axis')} has",
                )
                continue
            labels[axis] = found.array
        return labels

    def _left_out(self, given: Mapping[str, LoadedValue]) -> dict[str, LoadedValue]:
        """Optional data that nobody gave: no entries along the axes that only they have."""
        empty = {}
        for name, quantity in self.cls.declared(Data).items():
            if quantity.optional and name not in given:
                shape = [axis if isinstance(axis, int) else self.sizes.setdefault(axis, 0) for axis in quantity.shape]
                empty[name] = LoadedValue(np.zeros(shape, np.int64 if quantity.dtype == "int" else np.float64))
        return empty

    def _complete_sizes(self) -> None:
        for quantity in self.quantities.values():
            for axis in quantity.shape:
                if isinstance(axis, str) and axis not in self.sizes:
                    section = "parameters" if isinstance(quantity, Parameter) else "initial"
                    self._fault(
                        (section,),
                        f"the length of axis '{axis}' of '{quantity.name}' is not known: give '{quantity.name}' as a list or array",
                    )
                    self.sizes[axis] = 1
        self._stop_on_faults()

    def _parameter(self, name: str, given: Mapping[str, LoadedValue], shape: tuple[int, ...]) -> Array:
        quantity = self.cls.declared(Parameter)[name]
        if name in given:
            array = self._fill("parameters", name, given[name], shape)
        elif quantity.default is not None:
            array = np.full(shape, quantity.default)
        else:
            self._fault(("parameters",), f"'{name}' is missing: {_describe(quantity)}")
            return np.zeros(shape)
        low, high = quantity.bounds
        outside = np.zeros(shape, dtype=bool)
        if low is not None:
            outside |= array < low
        if high is not None:
            outside |= array > high
        if outside.any():
            at = "" if not shape else f" at {[int(i) for i in np.argwhere(outside)[0]]}"
            self._fault(("parameters", name), f"found {array[outside].flat[0]:g}{at}, allowed: {_bounds_text(quantity)}")
        return array

    def _fill(self, section: str, name: str, value: LoadedValue, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(np.asarray(value.array, dtype=np.float64), shape).copy()

    def _transforms(self, theta: Mapping[str, Array]) -> dict[str, str]:
        declared = self.cls.declared(Parameter)
        chosen: dict[str, str] = {name: quantity.transform for name, quantity in declared.items()}
        for name, asked in self.spec.transforms.items():
            if name not in declared:
                self._fault(
                    ("transforms", name),
                    f"{self.spec.problem} has no such parameter, allowed: {listing(declared)}{nearest(name, declared)}",
                )
                continue
            chosen[name] = asked
        for name, transform in chosen.items():
            low = {"log": 0.0, "log10": 0.0, "softplus": 0.0, "logit": 0.0}.get(transform)
            if low is not None and (theta[name] <= low).any():
                self._fault(
                    ("parameters", name), f"found {float(theta[name].min()):g}, allowed with transform '{transform}': above 0"
                )
            if transform == "logit" and (theta[name] >= 1.0).any():
                self._fault(("parameters", name), f"found {float(theta[name].max()):g}, allowed with transform 'logit': below 1")
        return chosen

    # What is asked for

    def _of(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
        allowed = [name for kind in (Unknown, Output) for name in self.cls.declared(kind) if 0 not in shapes[name]]
        return self._choice("of", self.spec.sensitivity.of, allowed)

    def _wrt(self) -> tuple[str, ...]:
        return self._choice("wrt", self.spec.sensitivity.wrt, list(self.cls.declared(Parameter)))

    def _choice(self, key: str, chosen: Sequence[str] | None, allowed: Sequence[str]) -> tuple[str, ...]:
        if chosen is None:
            return tuple(allowed)
        for index, name in enumerate(chosen):
            if name not in allowed:
                self._fault(("sensitivity", key, index), f"found '{name}', allowed: {listing(allowed)}{nearest(name, allowed)}")
        return tuple(chosen)

    def _directions(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Direction, ...]:
        directions: list[Direction] = []
        for index, product in enumerate(self.spec.sensitivity.products):
            if not isinstance(product, DirectionSpec):
                continue
            allowed: Iterable[str] = (
                (*self.cls.declared(Unknown), *self.cls.declared(Output)) if product.kind == "vjp" else self._wrt()
            )
            parts: dict[str, Array] = {}
            count: int | None = None
            for name, value in product.parts.items():
                keys = ("sensitivity", "products", index, product.kind, product.name, name)
                if name not in allowed:
                    self._fault(keys, f"found '{name}', allowed: {listing(allowed)}{nearest(name, allowed)}")
                    continue
                found = self._read(keys, value)
                if found is None:
                    continue
                shape, array = shapes[name], np.asarray(found.array, dtype=np.float64)
                at_once = product.kind in ("jvp", "vjp")
                if at_once and array.ndim == len(shape) + 1 and array.shape[1:] == shape:
                    if count is not None and count != len(array):
                        self._fault(keys, f"found {len(array)} directions, allowed: {count}, as the parts before it have")
                        continue
                    count = len(array)
                elif array.ndim and array.shape != shape:
                    self._fault(
                        keys,
                        f"found shape {_shape_text(array.shape)}, allowed: {_shape_text(shape)} or a single number"
                        + (f", or {_shape_text(('k', *shape))} for k directions at once" if at_once else ""),
                    )
                    continue
                parts[name] = array
            many = () if count is None else (count,)
            full = {name: np.broadcast_to(part, many + shapes[name]).copy() for name, part in parts.items()}
            directions.append(Direction(product.kind, product.name, full, count))
        return tuple(directions)

    def _check_hessian(self, of: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """A whole Hessian is one of scalars: somewhere in `of` there must be one."""
        products = self.spec.sensitivity.products
        if HessianSpec() in products and all(shapes.get(name) != () for name in of):
            scalars = [name for kind in (Unknown, Output) for name in self.cls.declared(kind) if shapes[name] == ()]
            cure = f"name one of {listing(scalars)} in sensitivity.of, or ask" if scalars else "ask"
            self._fault(
                ("sensitivity", "products", products.index(HessianSpec())),
                f"found 'hessian', and nothing in sensitivity.of is a scalar: {cure} for second derivatives along directions, "
                "{hessian: {NAME: {PARAMETER: VALUE}}}",
            )

    # Axes

    def _shape(self, quantity: Quantity) -> tuple[int, ...]:
        return tuple(axis if isinstance(axis, int) else self.sizes[axis] for axis in quantity.shape)

    def _axis_names(self, quantity: Quantity) -> tuple[str, ...]:
        return tuple(axis if isinstance(axis, str) else f"{quantity.name}_axis{i}" for i, axis in enumerate(quantity.shape))

    def _axes(self, labels: Mapping[str, Array]) -> tuple[Axis, ...]:
        sizes: dict[str, int] = {}
        for quantity in self.quantities.values():
            sizes.update(zip(self._axis_names(quantity), self._shape(quantity), strict=True))
        # names of species are kept also where no quantity has an axis of them
        sizes.update({name: len(found) for name, found in labels.items() if name not in sizes})
        return tuple(Axis(name, size, labels.get(name)) for name, size in sizes.items())

    # Faults

    def _fault(self, keys: tuple[str | int, ...], text: str) -> None:
        self.faults.append(f"{self.loaded.at(*keys)}: {text}")

    def _stop_on_faults(self) -> None:
        if self.faults:
            raise InputError(self.faults)


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


def _describe(quantity: Quantity) -> str:
    unit = "" if quantity.unit == "1" else f", unit {quantity.unit}"
    return f"{quantity.doc or 'no description'} (shape {_shape_text(quantity.shape)}{unit})"


def _shape_text(shape: Sequence[Any]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")" if shape else "a single number"


def _bounds_text(quantity: Quantity) -> str:
    low, high = quantity.bounds
    return f"at least {low:g}" if high is None else f"at most {high:g}" if low is None else f"{low:g} to {high:g}"
