"""Changes to a structure, in the order in which a spec's are made: repeat, add, substitute, take out, rattle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from implicit_cli.structures.structure import Structure


def repeated(structure: Structure, counts: Sequence[int]) -> Structure:
    """Copies of the cell along each of its vectors; the copies of one cell stay together, the last vector's come first."""
    shifts = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, len(counts)) @ structure.cell
    position = (shifts[:, None, :] + structure.position[None, :, :]).reshape(-1, structure.dimensions)
    cell = structure.cell * np.asarray(counts)[:, None]
    return replace(structure, position=position, cell=cell, species=np.tile(structure.species, len(shifts)))


def with_interstitials(structure: Structure, points: Sequence[Sequence[float]], a: float) -> Structure:
    """Particles of the first species behind the others, at `points` in units of a."""
    position = np.concatenate([structure.position, np.asarray(points, dtype=np.float64) * a])
    return replace(structure, position=position, species=np.append(structure.species, np.zeros(len(points), dtype=np.int64)))


def substituted(structure: Structure, indices: Sequence[int], kind: int) -> Structure:
    """The particles at `indices` become of species number `kind`."""
    species = structure.species.copy()
    species[list(indices)] = kind
    return replace(structure, species=species)


def without(structure: Structure, indices: Sequence[int]) -> Structure:
    """The structure without the particles at `indices`."""
    kept = np.ones(len(structure.position), dtype=bool)
    kept[list(indices)] = False
    return replace(structure, position=structure.position[kept], species=structure.species[kept])


def rattled(structure: Structure, amplitude: float, generator: np.random.Generator) -> Structure:
    """Every coordinate moved by a normal number of standard deviation `amplitude`."""
    step = generator.normal(scale=amplitude, size=structure.position.shape)
    return replace(structure, position=structure.position + step)
