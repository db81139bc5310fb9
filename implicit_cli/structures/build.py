"""From the section `structure` of a spec to a structure: one source, then the changes to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from implicit_cli.errors import InputError, listing
from implicit_cli.spec import LoadedSpec, StructureSpec
from implicit_cli.spec.words import Keys, found
from implicit_cli.structures.files import read_text
from implicit_cli.structures.generate import CRYSTALS, crystal, packing
from implicit_cli.structures.h5md import read_h5md
from implicit_cli.structures.modify import rattled, repeated, substituted, with_interstitials, without
from implicit_cli.structures.structure import MAX_PARTICLES, Structure, checked, flattened

_HDF5 = b"\x89HDF\r\n\x1a\n"
_PLACES, _STEPS = 0, 1
"""Streams of random numbers: of random places, and of rattling."""


def build(loaded: LoadedSpec) -> Structure:
    """The structure that a spec with a section `structure` describes; random numbers come from the spec's `seed`.

    Raises InputError, with its place in the spec, for what is missing, wrong or does not fit; EnvironmentProblem where a file may
    not be read or ASE is missing.
    """
    assert loaded.model.structure is not None
    return _Builder(loaded, loaded.model.structure).build()


class _Builder:
    def __init__(self, loaded: LoadedSpec, spec: StructureSpec) -> None:
        self.loaded, self.spec = loaded, spec

    def build(self) -> Structure:
        spec = self.spec
        structure = self.source()
        if spec.repeat is not None:
            structure = self.repeated(structure, spec.repeat)
        perfect = structure if (spec.interstitials or spec.vacancies) and not spec.substitute else None
        if spec.interstitials:
            for index, point in enumerate(spec.interstitials):
                if len(point) != structure.dimensions:
                    self.refuse(("interstitials", index), f"found {len(point)} coordinates, allowed: {structure.dimensions}")
            structure = with_interstitials(structure, spec.interstitials, spec.a or 1.0)
        for name, indices in spec.substitute.items():
            self.check_indices(("substitute", name), indices, len(structure.position))
            if name not in structure.names:
                structure = replace(structure, names=(*structure.names, name))
            structure = substituted(structure, indices, structure.names.index(name))
        if spec.vacancies:
            self.check_indices(("vacancies",), spec.vacancies, len(structure.position))
            if len(spec.vacancies) == len(structure.position):
                self.refuse(("vacancies",), "found all particles, allowed: fewer")
            structure = without(structure, spec.vacancies)
        if spec.rattle:
            structure = rattled(structure, spec.rattle, self.generator(_STEPS))
        return checked(replace(structure, perfect=perfect), lambda what: self.refuse((), self.about(what)))

    def about(self, what: str) -> str:
        return what if self.spec.file is None else f"{self.spec.file}: {what}"

    # Sources

    def source(self) -> Structure:
        spec = self.spec
        if spec.lattice is not None:
            assert spec.a is not None
            return crystal(spec.lattice, spec.a, spec.c, self.names(len(CRYSTALS[spec.lattice].places), spec.lattice))
        if spec.random is not None:
            kinds = len(spec.random.diameters or ())
            return packing(spec.random, self.names(kinds, f"{kinds} diameter{'s' * (kinds > 1)}"), self.generator(_PLACES))
        assert spec.file is not None
        return replace(self.renamed(self.read(spec.file)), source=spec.file)

    def read(self, name: str) -> Structure:
        spec, path = self.spec, self.loaded.file(("structure", "file"), name)
        place = self.loaded.at("structure", "file")
        if spec.format == "h5md" or (spec.format is None and _is_hdf5(path)):
            return self.flat(read_h5md(path, name, spec.group, spec.frame, place))
        if spec.group is not None:
            self.refuse(("group",), "found with a text file, allowed: with an H5MD file")
        return self.flat(read_text(path, name, spec.format, spec.frame, place))

    def flat(self, structure: Structure) -> Structure:
        """The structure in the dimensions that the spec says."""
        if self.spec.dimensions in (None, structure.dimensions):
            return structure
        if self.spec.dimensions == 3:
            self.refuse(("dimensions",), "found 3, allowed: 2, as the file has")
        return flattened(structure, lambda what: self.refuse(("dimensions",), self.about(what)))

    def names(self, kinds: int, source: str) -> tuple[str, ...]:
        """Names of at least `kinds` species: those of the spec, or A, B, ..."""
        given = self.spec.species
        if given is None:
            return tuple(chr(ord("A") + kind) if kinds <= 26 else f"A{kind}" for kind in range(kinds))
        if len(given) < kinds:
            many = f"{len(given)} name{'s' * (len(given) > 1)}"
            self.refuse(("species",), f"found {many}, allowed: at least {kinds}, as {source} has species")
        return given

    def renamed(self, structure: Structure) -> Structure:
        """The names in the order of the spec; species that the file only numbers get the spec's names."""
        given = self.spec.species
        if given is None:
            return structure
        if all(name.isdigit() for name in structure.names) and not set(structure.names) & set(given):
            order = sorted(structure.names, key=int)
            if len(given) < len(order):
                self.refuse(("species",), f"found {len(given)} names, allowed: at least {len(order)}, as the file numbers species")
            places = np.array([order.index(name) for name in structure.names])
            return replace(structure, species=places[structure.species], names=given)
        for name in structure.names:
            if name not in given:
                all_of = listing(structure.names)
                self.refuse(("species",), f"found no '{name}', which is in {self.spec.file}, allowed: all of {all_of}")
        places = np.array([given.index(name) for name in structure.names])
        return replace(structure, species=places[structure.species], names=given)

    # Changes

    def repeated(self, structure: Structure, counts: Sequence[int]) -> Structure:
        if len(counts) != structure.dimensions:
            self.refuse(("repeat",), f"found {found(counts)}, allowed: {structure.dimensions} integers, one for each dimension")
        for axis, count in enumerate(counts):
            if count > 1 and not structure.periodic[axis]:
                self.refuse(("repeat", axis), f"found {count}, allowed: 1, as the structure is not periodic along vector {axis}")
        total = len(structure.position) * int(np.prod(np.asarray(counts, dtype=object)))
        if total > MAX_PARTICLES:
            self.refuse(("repeat",), f"found {total} particles, allowed: {MAX_PARTICLES}")
        return repeated(structure, counts)

    def check_indices(self, keys: Keys, indices: Sequence[int], count: int) -> None:
        for row, index in enumerate(indices):
            if index >= count:
                self.refuse((*keys, row), f"found {index}, allowed: 0 to {count - 1}")

    def generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.loaded.model.seed, stream])

    def refuse(self, keys: Keys, what: str) -> NoReturn:
        raise InputError(f"{self.loaded.at('structure', *keys)}: {what}")


def _is_hdf5(path: Path) -> bool:
    try:
        if not path.is_file():  # to open a pipe is to wait for who writes to it
            return False
        with path.open("rb") as stream:
            return stream.read(len(_HDF5)) == _HDF5
    except (OSError, ValueError):
        return path.suffix in (".h5", ".hdf5", ".h5md")
