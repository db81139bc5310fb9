"""Particles with their cell: the record that every source of a structure gives, and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from implicit_cli.spec.words import found

Array = NDArray[Any]
Refuse = Callable[[str], NoReturn]
"""Raises InputError about the source of a structure, with a text in the form `found ..., allowed: ...`."""

MAX_PARTICLES = 100_000_000
LARGEST = 1e100
"""Lengths beyond this, or below its inverse, are no lengths: their squares and volumes are no numbers."""
LONGEST = 32
"""Characters of the name of a species."""
FLAT = 1e-12
"""A cell whose volume is below this, by the product of the lengths of its vectors, has none."""
COINCIDENT = 1e-9
"""Particles nearer to each other than this, by the typical spacing, are at one place."""


@dataclass(frozen=True)
class Structure:
    """n particles in d = 2 or 3 dimensions.

    `position` (n, d) is in the unit of its source, `cell` (d, d) has the cell's vectors as its rows, `periodic` (d,) says along
    which of them it repeats, and `species` (n,) counts in `names`. A cell that is not
    periodic is a box of the particles' size.
    """

    position: Array
    cell: Array
    periodic: Array
    species: Array
    names: tuple[str, ...]
    source: str | None = None
    """Name of the file that it is from, as the spec says it."""
    perfect: Structure | None = None
    """What it was before particles were added or taken out."""

    @property
    def dimensions(self) -> int:
        """Dimensions of space, d."""
        return int(self.position.shape[1])

    @property
    def volume(self) -> float:
        """Volume of the cell, or its area in two dimensions."""
        return float(abs(np.linalg.det(self.cell)))


def boxed(position: Array, cell: Array, periodic: Array) -> Array:
    """`cell` with vectors for the axes that are not periodic and have none: as long as the particles reach, plus a spacing."""
    cell = np.array(cell, dtype=np.float64)
    missing = [axis for axis in range(len(cell)) if not periodic[axis] and not np.linalg.norm(cell[axis])]
    if not missing or not np.isfinite(position).all():
        return cell
    given = [axis for axis in range(len(cell)) if axis not in missing]
    # an orthonormal basis of what the given vectors leave; the axes of space where they leave all
    rest = np.eye(len(cell)) if not given else np.linalg.svd(cell[given])[2][len(given) :]
    reach = position @ rest.T
    extent = reach.max(axis=0) - reach.min(axis=0)
    spacing = float(extent.max()) / max(len(position) ** (1 / len(cell)) - 1, 1.0)
    for axis, direction, length in zip(missing, rest, extent, strict=True):
        cell[axis] = direction * (length + (spacing or 1.0))
    return cell


def flattened(structure: Structure, refuse: Refuse) -> Structure:
    """Two dimensions of three: the particles lie in a plane z, and so do the first two vectors of the cell."""
    position, cell = structure.position, structure.cell
    reach = float(np.ptp(position[:, 2]))
    if reach > FLAT * float(np.ptp(position[:, :2])):
        refuse(f"found third coordinates that differ by {reach:g}, allowed with dimensions: 2: all the same")
    if np.any(cell[:2, 2]):
        refuse("found a cell that leaves the plane of x and y, allowed with dimensions: 2: two vectors in it")
    flat = position[:, :2].copy(), cell[:2, :2].copy(), structure.periodic[:2].copy()
    return replace(structure, position=flat[0], cell=flat[1], periodic=flat[2])


def checked(structure: Structure, refuse: Refuse) -> Structure:
    """The structure, read-only, if its numbers are finite, its cell has a volume and no two particles are at one place."""
    for what, array in (("position", structure.position), ("cell", structure.cell)):
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            owner = f"the position of particle {row}" if what == "position" else f"vector {row} of the cell"
            refuse(f"found {owner} as {_vector(array[row])}, allowed: finite numbers")
        if (np.abs(array) > LARGEST).any():
            refuse(f"found {float(np.abs(array).max()):g} in {what}, allowed: at most {LARGEST:g}")
    lengths = np.linalg.norm(structure.cell, axis=1)
    if lengths.min() < 1 / LARGEST or structure.volume <= FLAT * float(np.prod(lengths)):
        refuse(f"found a cell without a volume, {_vector(structure.cell)}, allowed: vectors that span the space")
    if len(structure.position) > MAX_PARTICLES:
        refuse(f"found {len(structure.position)} particles, allowed: {MAX_PARTICLES}")
    for name in structure.names:
        if not name or not name.isprintable() or len(name) > LONGEST:
            refuse(f"found the species {found(name)}, allowed: a printable name of at most {LONGEST} characters")
    pair = coincident(structure)
    if pair is not None:
        place = _vector(structure.position[pair[0]])
        refuse(f"found the particles {pair[0]} and {pair[1]} at one place, {place}, allowed: particles apart")
    for array in (structure.position, structure.cell, structure.periodic, structure.species):
        array.flags.writeable = False
    return structure


def coincident(structure: Structure) -> tuple[int, int] | None:
    """The first pair of particles at one place, also across the periodic boundary; None where there is none."""
    n, d = structure.position.shape
    if n < 2:
        return None
    # Imported here: whoever generates or reads nothing needs no SciPy.
    from scipy.spatial import cKDTree

    spacing = _spacing(structure)
    inverse = np.linalg.inv(structure.cell)
    fractional = structure.position @ inverse
    fractional = np.where(structure.periodic, fractional - np.floor(fractional), fractional)
    fractional[fractional >= 1.0] -= np.where(np.broadcast_to(structure.periodic, (n, d))[fractional >= 1.0], 1.0, 0.0)
    # Many particles at exactly one place would make the tree slow: they are found by sorting.
    order = np.lexsort(fractional.T)
    same = np.flatnonzero((np.diff(fractional[order], axis=0) == 0).all(axis=1))
    if same.size:
        first, second = sorted(int(order[same[0] + step]) for step in (0, 1))
        return first, second
    tree = cKDTree(fractional, boxsize=np.where(structure.periodic, 1.0, 0.0), balanced_tree=False, compact_nodes=False)
    # a vector D of the space is D H^-1 in fractions of the cell
    reach = COINCIDENT * spacing * float(np.linalg.norm(inverse, 2))
    distance, nearest = tree.query(fractional, k=2, distance_upper_bound=reach)
    for one in np.flatnonzero(np.isfinite(distance[:, 1])).tolist():
        # one of the two that are found is the particle itself, the first or the second
        other = int(nearest[one][nearest[one] != one][0])
        step = fractional[other] - fractional[one]
        step -= np.where(structure.periodic, np.round(step), 0.0)
        if np.linalg.norm(step @ structure.cell) < COINCIDENT * spacing:
            first, second = sorted((one, other))
            return first, second
    return None


def _spacing(structure: Structure) -> float:
    """Side of the cube, or square, that each particle has to itself."""
    n, d = structure.position.shape
    return float((structure.volume / n) ** (1 / d))


def _vector(array: Array) -> str:
    return "[" + ", ".join(_vector(one) if np.ndim(one) else f"{one:g}" for one in array) + "]"
