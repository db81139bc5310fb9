"""From a result of a problem of particles to files that viewers open: H5MD 1.1 and extxyz.

The relaxed positions, the cell and the species go out, and each derivative of the positions as one vector for each particle.
Where the problem has a strain, positions and cell are the deformed ones; vectors are derivatives of the positions in the undeformed
cell, which is to say without the part that moves all particles together with the cell.
Viewers know three dimensions: a structure in the plane gets a third coordinate 0 and a third vector of the cell, not periodic.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from implicit_cli import __version__
from implicit_cli.errors import InputError, listing
from implicit_cli.structures.structure import Array, Structure, boxed

if TYPE_CHECKING:
    from implicit_cli.store import ResultArrays, StoredCase

SUFFIXES = {".h5": "H5MD", ".h5md": "H5MD", ".hdf5": "H5MD", ".xyz": "extxyz", ".extxyz": "extxyz"}
MAX_COLUMNS = 64
"""Derivatives by parameters with more components than this are left out: no viewer shows so many vectors."""
GROUP = "trajectory"
"""Name of the group in /particles: MDAnalysis reads it without a topology file."""
_UNITS = {"A": "Angstrom", "Å": "Angstrom", "angstrom": "Angstrom", "Angstrom": "Angstrom", "nm": "nm"}
"""Units of length as H5MD writes them; another one is told in /parameters only, for readers refuse what they do not know."""
_VOIGT = {2: ((0, 0), (1, 1), (0, 1)), 3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))}


@dataclass(frozen=True)
class Snapshot:
    """Particles at the solution, with `vectors` (n, d) by name and the `bounds` of these in the 2-norm.

    `undetermined` (n,) is True for particles whose place or derivative is open: their vectors are NaN. `about` are texts on where
    it comes from, `unit` is that of the positions, `warnings` tells what is not in here.
    """

    structure: Structure
    vectors: Mapping[str, Array]
    bounds: Mapping[str, float]
    undetermined: Array
    about: Mapping[str, str]
    unit: str
    warnings: tuple[str, ...] = ()


def snapshot(stored: StoredCase, arrays: ResultArrays, *, wrap: bool) -> Snapshot:
    """One case of a result. With `wrap` positions are moved into the cell along its periodic vectors.

    Raises InputError for a result without an unknown `position` (particle, axis) of finite numbers.
    """
    position = stored.solution.get("position")
    if position is None:
        held = listing(stored.solution)
        raise InputError(f"{arrays.path}: found no 'position' in /solution, which holds {held}; allowed: a problem of particles")
    if position.ndim != 2 or position.shape[1] not in (2, 3):
        raise InputError(f"{arrays.path}: found 'position' of shape {position.shape}, allowed: (particle, axis) with 2 or 3 axes")
    if not np.isfinite(position).all():
        raise InputError(f"{arrays.path}: found positions that are not finite, case {stored.id} is {stored.status}; run again")
    structure, warnings = _structure(stored, np.asarray(position, dtype=np.float64))
    structure = _strained(structure, stored)
    if not stored.good:
        warnings.append(f"{arrays.path}: case {stored.id} is {stored.status} there")
    vectors, bounds = {}, {}
    undetermined: Array = _left_out(arrays, stored.id, position.shape)
    for name, vector, bound in _vectors(arrays, stored.id, position.shape, warnings):
        vectors[name], bounds[name] = vector, bound
        undetermined |= ~np.isfinite(vector).all(axis=1)
    if wrap:
        structure = replace(structure, position=wrapped(structure))
    about = {"problem": arrays.problem, "case": stored.id, "status": stored.status, "result": stored.sha256}
    return Snapshot(structure, vectors, bounds, undetermined, about, _unit(arrays, stored.id), tuple(warnings))


def wrapped(structure: Structure) -> Array:
    """Positions in the cell, along its periodic vectors."""
    fractional = structure.position @ np.linalg.inv(structure.cell)
    return structure.position - np.where(structure.periodic, np.floor(fractional), 0.0) @ structure.cell


def extxyz(seen: Snapshot) -> bytes:
    """The text of an extxyz file of one frame (libAtoms' extended XYZ)."""
    whole = _spatial(seen)
    structure = whole.structure
    head = []
    if structure.periodic.any():
        head.append('Lattice="' + " ".join(f"{length:.17g}" for length in structure.cell.ravel()) + '"')
    properties = ["species:S:1", "pos:R:3", *(f"{name}:R:3" for name in whole.vectors), "undetermined:I:1"]
    head += [f"Properties={':'.join(properties)}", f'pbc="{" ".join("FT"[int(flag)] for flag in structure.periodic)}"']
    head += [f"bound_{name}={bound:.6g}" for name, bound in whole.bounds.items()]
    head += [f'{key}="{_quoted(text)}"' for key, text in {**whole.about, "length_unit": whole.unit}.items()]
    names = np.array([re.sub(r"\s", "_", name) for name in structure.names])[structure.species]
    numbers = np.concatenate([structure.position, *whole.vectors.values()], axis=1)
    lines = [f"{len(names)}", " ".join(head)]
    form = " ".join(["%.17g"] * numbers.shape[1])
    for name, row, flag in zip(names.tolist(), numbers.tolist(), whole.undetermined.tolist(), strict=True):
        lines.append(f"{name} {form % tuple(row)} {int(flag)}")
    return ("\n".join(lines) + "\n").encode()


def h5md(seen: Snapshot) -> bytes:
    """The bytes of an H5MD file (version 1.1) of one frame."""
    # Imported here: an extxyz file needs no HDF5.
    import h5py

    whole = _spatial(seen)
    structure = whole.structure
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        root = file.create_group("h5md")
        root.attrs["version"] = np.array([1, 1], dtype=np.int64)
        root.create_group("author").attrs["name"] = "unknown"
        creator = root.create_group("creator")
        creator.attrs["name"], creator.attrs["version"] = "implicit-cli", __version__
        group = file.create_group(f"particles/{GROUP}")
        box = group.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs["boundary"] = ["periodic" if flag else "none" for flag in structure.periodic]
        unit = _UNITS.get(whole.unit, "")

        def element(name: str, values: Array, where: h5py.Group, unit: str) -> h5py.Group:
            made = where.create_group(name)
            made["value"] = values[np.newaxis]
            made["step"], made["time"] = np.zeros(1, dtype=np.int64), np.zeros(1)
            if unit:
                made["value"].attrs["unit"] = unit
            if unit:  # a reader that wants units wants one of the time too; it is zero in all of them
                made["time"].attrs["unit"] = "ps"
            return made

        element("position", structure.position, group, unit)
        if structure.periodic.any():
            element("edges", structure.cell, box, unit)
        names = {name: number for number, name in enumerate(structure.names)}
        kinds = h5py.enum_dtype(names, basetype="i4")
        group.create_dataset("species", data=structure.species.astype(np.int32), dtype=kinds)
        for name, vector in whole.vectors.items():
            element(name, vector, group, "").attrs["bound"] = whole.bounds[name]
        element("undetermined", whole.undetermined.astype(np.int32), group, "")
        about = file.create_group("parameters/implicit")
        for key, text in {**whole.about, "length_unit": whole.unit}.items():
            about.attrs[key] = text
    return content.getvalue()


def _structure(stored: StoredCase, position: Array) -> tuple[Structure, list[str]]:
    """Cell and species of the case; what the result lacks is told."""
    n, d = position.shape
    inputs, warnings = stored.inputs, []
    cell, periodic = inputs.get("cell"), inputs.get("periodic")
    if cell is None or cell.shape != (d, d):
        warnings.append("the result holds no 'cell': the particles are written without one")
        cell, periodic = np.zeros((d, d)), np.zeros(d)
    flags = np.ones(d, dtype=bool) if periodic is None else np.asarray(periodic).astype(bool)
    species = inputs.get("species")
    if species is None or species.shape != (n,):
        warnings.append("the result holds no 'species': all particles are written as 'A'")
        species = np.zeros(n)
    numbers = np.asarray(species).astype(np.int64)
    count = int(numbers.max(initial=0)) + 1
    labels = [str(label) for label in stored.labels.get("kind", ())]
    names = labels if len(labels) >= count else [f"A{kind}" if count > 26 else chr(ord("A") + kind) for kind in range(count)]
    cell = np.asarray(cell, dtype=np.float64)
    return Structure(position, boxed(position, cell, flags), flags, numbers, tuple(names)), warnings


def _strained(structure: Structure, stored: StoredCase) -> Structure:
    """Particles and cell as they are seen, (I + eps) R, where the positions are those of an undeformed cell.

    eps is the imposed `strain` with, in a cell that relaxes, the unknown `deformation`; both have Voigt's components.
    """
    d = structure.dimensions
    strain = stored.parameters.get("strain")
    if strain is None or strain.shape != (len(_VOIGT[d]),):
        return structure
    more = stored.solution.get("deformation")
    components = strain + more if more is not None and more.shape == strain.shape else strain
    deformed = np.eye(d)
    for (a, b), value in zip(_VOIGT[d], components.tolist(), strict=True):
        for row, column in {(a, b), (b, a)}:
            deformed[row, column] += value if a == b else value / 2
    return replace(structure, position=structure.position @ deformed.T, cell=structure.cell @ deformed.T)


def _vectors(arrays: ResultArrays, case: str, shape: tuple[int, ...], warnings: list[str]) -> Iterator[tuple[str, Array, float]]:
    """Each derivative of the positions by one scalar: its name, its vectors and its bound."""
    taken: set[str] = set()
    for key in arrays.keys:
        kind, name, of, wrt, _ = key
        if of != "position" or kind not in ("jacobian", "jvp", "jvp_left", "jvp_right"):
            continue
        array = arrays.read(key, case)
        called = f"d position / d {wrt}" if kind == "jacobian" else f"the {kind} of position along {name}"
        columns = array.value.shape[1]
        if columns > MAX_COLUMNS:
            warnings.append(f"{called} has {columns} columns, more than {MAX_COLUMNS}: it is left out")
            continue
        for column in range(columns):
            vector = array.value[:, column].reshape(shape)
            if not np.isfinite(vector).any():
                warnings.append(f"{called} has no numbers in column {column}, its status is {array.status}: it is left out")
                continue
            label = array.label(0, column)[1]
            side = kind.removeprefix("jvp").removeprefix("_")
            told = f"d_position_d_{label}" if kind == "jacobian" else f"d_position_along_{label or name} {side}"
            yield _unique(told, taken), vector, float(array.bound[column])


def _unique(label: str, taken: set[str]) -> str:
    """A label as the name of a column: letters, digits and underscores, each name once."""
    name = word = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")
    number = 2
    while name in taken:
        name, number = f"{word}_{number}", number + 1
    taken.add(name)
    return name


def _left_out(arrays: ResultArrays, case: str, shape: tuple[int, ...]) -> Array:
    """Particles of which a coordinate has no derivative."""
    key = next(key for key in arrays.keys if key[0] == "solution")
    found = arrays.read(key, case)
    names: Sequence[str] = key[1].split(", ")
    begin = sum(found.shape[: names.index("position")])
    mask = found.left_out[begin : begin + int(np.prod(shape))].reshape(shape)
    return np.asarray(mask.any(axis=1))


def _unit(arrays: ResultArrays, case: str) -> str:
    """Unit of the positions: that of where they start, else that of all unknowns."""
    known = [key for key in arrays.keys if key[0] == "solution" or key[:2] == ("data", "start")]
    return arrays.read(known[0], case).unit


def _spatial(seen: Snapshot) -> Snapshot:
    """The same in three dimensions."""
    flat = seen.structure
    if flat.dimensions == 3:
        return seen

    def lifted(array: Array) -> Array:
        return np.pad(array, ((0, 0), (0, 1)))

    cell = np.pad(flat.cell, ((0, 1), (0, 1)))
    cell[2, 2] = 1.0
    structure = replace(flat, position=lifted(flat.position), cell=cell, periodic=np.append(flat.periodic, False))
    vectors = {}
    for name, vector in seen.vectors.items():
        vectors[name] = lifted(vector)
        vectors[name][~np.isfinite(vector).all(axis=1)] = np.nan
    return replace(seen, structure=structure, vectors=vectors)


def _quoted(text: str) -> str:
    return "".join(letter if letter.isprintable() and letter not in '"\\' else "_" for letter in text)
