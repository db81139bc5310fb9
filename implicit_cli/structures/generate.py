"""Structures that need no file: crystals, and particles at random places.

A lattice is a cell with orthogonal vectors, in units of a, and the places of its particles in fractions of that cell; see any
textbook of solid-state physics, such as Ashcroft and Mermin, chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from implicit_cli.spec import RandomSpec
from implicit_cli.structures.structure import Array, Structure

_FACES = ((0, 0, 0), (0, 1 / 2, 1 / 2), (1 / 2, 0, 1 / 2), (1 / 2, 1 / 2, 0))
_QUARTER = tuple(tuple(one + 1 / 4 for one in place) for place in _FACES)
_HALF = tuple((place[0] + 1 / 2, place[1], place[2]) for place in _FACES)


class Crystal(NamedTuple):
    """Lengths of a conventional cell in units of a, and for each species the places of its particles in it.

    A length of None is the second lattice constant.
    """

    lengths: tuple[float | None, ...]
    places: tuple[Sequence[Sequence[float]], ...]


CRYSTALS = {
    "sc": Crystal((1, 1, 1), (((0, 0, 0),),)),
    "bcc": Crystal((1, 1, 1), (((0, 0, 0), (1 / 2, 1 / 2, 1 / 2)),)),
    "fcc": Crystal((1, 1, 1), (_FACES,)),
    # hexagonal layers, A at height 0 and B at c/2, in a cell of a, sqrt(3) a, c
    "hcp": Crystal((1, math.sqrt(3), None), (((0, 0, 0), (1 / 2, 1 / 2, 0), (1 / 2, 5 / 6, 1 / 2), (0, 1 / 3, 1 / 2)),)),
    "diamond": Crystal((1, 1, 1), ((*_FACES, *_QUARTER),)),
    "zincblende": Crystal((1, 1, 1), (_FACES, _QUARTER)),
    "rocksalt": Crystal((1, 1, 1), (_FACES, _HALF)),
    "square": Crystal((1, 1), (((0, 0),),)),
    "hexagonal": Crystal((1, math.sqrt(3)), (((0, 0), (1 / 2, 1 / 2)),)),
}
IDEAL = math.sqrt(8 / 3)
"""c / a of hcp where all twelve neighbours are equally far."""


def crystal(name: str, a: float, c: float | None, names: tuple[str, ...]) -> Structure:
    """One conventional cell of a lattice, periodic along all axes."""
    shape = CRYSTALS[name]
    second = IDEAL * a if c is None else c
    cell = np.diag([second if length is None else length * a for length in shape.lengths])
    fractional = np.array([place for places in shape.places for place in places], dtype=np.float64)
    species = np.repeat(np.arange(len(shape.places)), [len(places) for places in shape.places])
    return Structure(fractional @ cell, cell, np.ones(len(cell), dtype=bool), species, names)


def packing(spec: RandomSpec, names: tuple[str, ...], generator: np.random.Generator) -> Structure:
    """Particles uniformly at random in a periodic cube, or square, of side L = (sum of their volumes / phi)^(1/d).

    Species come one after the other, each with its share of the particles.
    """
    diameters = np.asarray(spec.diameters)
    counts = split(spec.particles, spec.shares or [1 / len(diameters)] * len(diameters))
    unit = math.pi / 4 if spec.dimensions == 2 else math.pi / 6
    side = float((counts @ (unit * diameters**spec.dimensions)) / spec.phi) ** (1 / spec.dimensions)
    position = generator.random((spec.particles, spec.dimensions)) * side
    species = np.repeat(np.arange(len(diameters)), counts)
    return Structure(position, np.eye(spec.dimensions) * side, np.ones(spec.dimensions, dtype=bool), species, names)


def split(count: int, shares: Sequence[float]) -> Array:
    """`count` things by `shares` of sum 1, in whole numbers: the largest remainders are rounded up."""
    exact = np.asarray(shares, dtype=np.float64) * count
    whole = np.floor(exact + 1e-9).astype(np.int64)
    # of equal remainders the first ones are rounded up
    order = np.argsort(-np.round(exact - whole, 9), kind="stable")
    whole[order[: count - int(whole.sum())]] += 1
    return whole
