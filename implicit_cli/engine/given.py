"""What a spec gives to a problem: values, structure and labels, read as arrays and checked against the declarations.

The sizes of named axes are learnt on the way: from options, from the structure, from every array that is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_cli.engine.faults import Faults, Keys
from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.problem import Data, Option, Parameter, Problem, Quantity
from implicit_cli.spec import LoadedSpec, LoadedValue, read_value
from implicit_cli.structures import Structure, build

Array = NDArray[Any]

KIND = "kind"
"""The axis whose labels are the names of a structure's species."""
STRUCTURE = {"start": ("particle", "axis"), "cell": ("axis", "axis"), "periodic": ("axis",), "species": ("particle",)}
"""Data that a structure fills."""
PERFECT = ("perfect", "perfect_species")
"""Data that a structure with a defect fills, where a problem has them: the structure before the defect was made."""


def structure_of(loaded: LoadedSpec, cls: type[Problem], arrays: Mapping[Keys, Array], faults: Faults) -> Structure | None:
    """What the section `structure` describes; None where there is none, or where its arrays are at hand."""
    spec = loaded.model
    if spec.structure is None or ("data", "start") in arrays:
        return None
    declared = cls.declared(Data)
    lacking = [name for name, shape in STRUCTURE.items() if name not in declared or declared[name].shape != shape]
    if lacking:
        faults.add(("structure",), f"{spec.problem} takes no structure: it declares no data {listing(lacking)}")
    for name in [name for name in STRUCTURE if name in spec.data]:
        faults.add(("data", name), "found beside 'structure', which fills it, allowed: one of the two")
    faults.stop()
    return loaded.take(("structure",)) or build(loaded)


def structure_sizes(loaded: LoadedSpec, structure: Structure | None, arrays: Mapping[Keys, Array]) -> dict[str, int]:
    """Options that a structure can tell: numbers of particles, axes and species."""
    if structure is not None:
        return {"particle": len(structure.position), "axis": structure.dimensions, "kinds": len(structure.names)}
    if loaded.model.structure is None:
        return {}
    start, species = arrays["data", "start"], arrays["data", "species"]
    names = arrays.get(("labels", KIND))
    return {
        "particle": len(start),
        "axis": start.shape[1],
        "kinds": len(names) if names is not None else int(species.max()) + 1,
    }


class Given:
    """The values of a spec as arrays, with the sizes of axes and the files that they came from (`origins`).

    `arrays` are values that are at hand, by their keys in the spec: they take the place of what the spec says there.
    """

    def __init__(
        self, loaded: LoadedSpec, problem: Problem, structure: Structure | None, arrays: Mapping[Keys, Array], faults: Faults
    ) -> None:
        self.loaded, self.spec, self.cls = loaded, loaded.model, type(problem)
        self.arrays, self.faults = arrays, faults
        self.origins: list[str] = []
        self.sizes = dict(problem.sizes)
        self._sized_by = {name: f"options.{name}" for name in self.sizes}
        self._structure = structure
        self._filled = self._from_structure(problem._options.get("kinds"))

    def data(self) -> dict[str, LoadedValue]:
        """Data as the spec gives them, and what the structure fills."""
        return {**self.section("data", Data), **self._filled}

    def section(self, section: str, kind: type[Quantity]) -> dict[str, LoadedValue]:
        """Read what the spec gives for one kind of quantity."""
        declared, given = self.cls.declared(kind), getattr(self.spec, section)
        loaded: dict[str, LoadedValue] = {}
        for name, value in given.items():
            if name not in declared:
                others = [
                    s for s, k in (("data", Data), ("parameters", Parameter), ("options", Option)) if name in self.cls.declared(k)
                ]
                hint = f"; it belongs under '{others[0]}'" if others else nearest(name, declared)
                text = f"{self.spec.problem} declares no such name here, allowed: {listing(declared)}{hint}"
                self.faults.add((section, name), text)
                continue
            value = self.read((section, name), value)
            if value is not None:
                loaded[name] = value
                self._check(section, declared[name], value)
        if section == "data":
            for name, quantity in self.cls.declared(Data).items():
                if name not in given and name not in self._filled and not quantity.optional:
                    self.faults.add(("data",), f"'{name}' is missing: {describe(quantity)}")
        return loaded

    def read(self, keys: Keys, value: Any) -> LoadedValue | None:
        """One value; None, and a fault, where it cannot be read."""
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

    def labels(self) -> dict[str, Array]:
        """Names of entries by axis; those of species come from the structure where the spec gives none."""
        known = {axis for quantity in self.cls.declared(Quantity).values() for axis in quantity.shape if isinstance(axis, str)}
        labels = {}
        if self.spec.structure is not None:
            known.add(KIND)
        if self._structure is not None and KIND not in self.spec.labels:
            names = self._structure.names
            # a problem can have more kinds than the structure has names
            size = self.sizes.setdefault(KIND, len(names))
            more = [f"{KIND} {number}" for number in range(len(names), size)]
            labels[KIND] = np.array([*names, *more][:size])
        for axis, value in self.spec.labels.items():
            if axis not in known:
                text = f"{self.spec.problem} has no such axis, allowed: {listing(known)}{nearest(axis, known)}"
                self.faults.add(("labels", axis), text)
                continue
            found = self.read(("labels", axis), value)
            if found is None:
                continue
            size = self.sizes.setdefault(axis, found.array.size)
            if found.array.ndim != 1 or found.array.size != size:
                text = f"found {found.array.size} labels, allowed: {size}, as {self._sized_by.get(axis, 'the axis')} has"
                self.faults.add(("labels", axis), text)
                continue
            labels[axis] = found.array
        return labels

    def left_out(self, given: Mapping[str, LoadedValue]) -> dict[str, LoadedValue]:
        """Optional data that nobody gave: no entries along the axes that only they have."""
        empty = {}
        for name, quantity in self.cls.declared(Data).items():
            if quantity.optional and name not in given:
                shape = [axis if isinstance(axis, int) else self.sizes.setdefault(axis, 0) for axis in quantity.shape]
                empty[name] = LoadedValue(np.zeros(shape, np.int64 if quantity.dtype == "int" else np.float64))
        return empty

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every quantity; raises InputError where the length of an axis is not known."""
        declared = self.cls.declared(Quantity)
        for quantity in declared.values():
            for axis in quantity.shape:
                if isinstance(axis, str) and axis not in self.sizes:
                    text = (
                        f"the length of axis '{axis}' of '{quantity.name}' is not known: give '{quantity.name}' as a list or array"
                    )
                    self.faults.add(("parameters" if isinstance(quantity, Parameter) else "initial",), text)
                    self.sizes[axis] = 1
        self.faults.stop()
        return {
            name: tuple(axis if isinstance(axis, int) else self.sizes[axis] for axis in quantity.shape)
            for name, quantity in declared.items()
        }

    def _from_structure(self, kinds: Any) -> dict[str, LoadedValue]:
        """The structure's arrays as data; `kinds` is how many species the problem takes, None where it does not say."""
        structure, filled = self._structure, dict[str, LoadedValue]()
        if structure is None:
            return filled
        if kinds is not None and len(structure.names) > kinds:
            many = f"{len(structure.names)} species, {listing(structure.names)}"
            self.faults.add(("structure",), f"found {many}, allowed: {kinds}, as options.kinds says")
        arrays = (structure.position, structure.cell, structure.periodic.astype(np.int64), structure.species)
        found: dict[str, Array] = dict(zip(STRUCTURE, arrays, strict=True))
        if structure.perfect is not None:
            before = (structure.perfect.position[None], structure.perfect.species[None])
            free = self.cls.declared(Data).keys() - self.spec.data.keys()
            found |= {name: array for name, array in zip(PERFECT, before, strict=True) if name in free}
        for name, array in found.items():
            filled[name] = LoadedValue(array)
            self._check("structure", self.cls.declared(Data)[name], filled[name], ("structure",))
        if structure.source is not None:
            self.origins.append(f"{structure.source}:/")
        return filled

    def _check(self, section: str, quantity: Quantity, value: LoadedValue, keys: Keys = ()) -> None:
        """A value against its declaration; what is not a scalar tells the sizes of its axes."""
        keys, where = keys or (section, quantity.name), f" ({value.origin})" if value.origin else ""
        array, fault = value.array, self.faults.add
        if value.unit is not None and value.unit != quantity.unit:
            fault(keys, f"found unit '{value.unit}'{where}, allowed: '{quantity.unit}'")
        if isinstance(quantity, Data) and quantity.dtype == "int" and array.dtype.kind != "i":
            fault(keys, f"found numbers with a fraction{where}, allowed: integers")
        if array.ndim == 0 and quantity.shape and not isinstance(quantity, Data):
            return  # broadcast later, when all sizes are known
        wrong = f"found shape {shape_text(array.shape)}{where}, allowed: {shape_text(quantity.shape)}"
        if array.ndim != len(quantity.shape):
            fault(keys, wrong)
            return
        for axis, size in zip(quantity.shape, array.shape, strict=True):
            if isinstance(axis, int) and axis != size:
                fault(keys, wrong)
            elif isinstance(axis, str) and self.sizes.setdefault(axis, size) != size:
                fault(
                    keys, f"found {size} entries along '{axis}'{where}, allowed: {self.sizes[axis]}, as {self._sized_by[axis]} has"
                )
            if isinstance(axis, str):
                self._sized_by.setdefault(axis, "the structure" if section == "structure" else f"{section}.{quantity.name}")


def describe(quantity: Quantity) -> str:
    """What a quantity is, for one who has to give it."""
    unit = "" if quantity.unit == "1" else f", unit {quantity.unit}"
    return f"{quantity.doc or 'no description'} (shape {shape_text(quantity.shape)}{unit})"


def shape_text(shape: Sequence[Any]) -> str:
    """A shape in words."""
    return "(" + ", ".join(map(str, shape)) + ")" if shape else "a single number"
