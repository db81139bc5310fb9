"""Particles that are joined by springs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import jax
import numpy as np

from implicit_cli.errors import InputError
from implicit_cli.particles.material import Material
from implicit_cli.particles.neighbours import Pairs
from implicit_cli.particles.pairs import Bond, PairPotential
from implicit_cli.problem import Data, Parameter

Array = jax.Array


class HarmonicBonds(Material, PairPotential):
    """A network of springs at an energy minimum: E = sum over bonds of stiffness (r - length)^2 / 2.

    In a periodic cell a bond joins its two particles the shortest way, as they are at the start, and stays so. Parts of a network
    that nothing holds are found as null vectors of the Hessian. A perfect network is at rest: `formation_energy` is the energy.

    The formula is written out: jax_md.energy.simple_spring has a second derivative of zero at the rest length. Units: as you like.
    """

    bonds = Data(shape=("bond", 2), dtype="int", doc="the two particles of each bond, counted from 0")
    length = Parameter(shape=("bond",), default=1.0, unit="length", bounds=(0.0, None), doc="rest length of each bond")
    stiffness = Parameter(shape=("bond",), default=1.0, unit="energy/length^2", doc="stiffness of each bond")

    example = """\
problem: harmonic_bonds
options: {axis: 2}
data:
  start: [[0, 0], [1, 0], [0.5, 0.9]]
  cell: [[1, 0], [0, 1]]
  periodic: [0, 0]
  species: [0, 0, 0]
  bonds: [[0, 1], [1, 2], [2, 0]]
sensitivity: {of: [position], wrt: [length, stiffness]}
"""

    def reach(self, theta: Any, data: Any) -> Any:
        return np.inf

    def pair_energy(self, r: Array, bond: Bond, theta: Any) -> Array:
        return theta.stiffness * (r - theta.length) ** 2 / 2

    def derive(self, x: Any, theta: Any, data: Any) -> Mapping[str, Any]:
        bonds, start, cell = (np.asarray(part) for part in (data.bonds, data.start, data.cell))
        if bonds.size and (bonds.min() < 0 or bonds.max() >= len(start)):
            raise InputError(f"bonds: found particles {bonds.min()} to {bonds.max()}, allowed: 0 to {len(start) - 1}")
        i, j = bonds[:, 0], bonds[:, 1]
        if (itself := np.flatnonzero(i == j)).size:
            raise InputError(f"bonds: found particle {i[itself[0]]} joined with itself, allowed: two particles")
        shift = _shortest(start[j] - start[i], cell, np.asarray(data.periodic).astype(bool))
        one = np.float64(1.0)
        found = Pairs(i, j, shift, np.ones(len(bonds), bool), np.asarray(x.position), cell, one)
        none = Pairs(0 * i, 0 * j, 0 * shift, np.zeros(len(bonds), bool), np.asarray(x.position), cell, one)
        return {"neighbours": found, "perfect_neighbours": (none,) * data.perfect.shape[0]}

    def stale(self, x: Any, theta: Any, data: Any) -> Any:
        return False


def _shortest(D: Any, cell: Any, periodic: Any) -> Any:
    """Cell vectors (E, axis) to add to D (E, axis) for the shortest image of each."""
    inverse = np.linalg.inv(cell)
    nearest = np.where(periodic, -np.round(D @ inverse), 0.0)
    steps = np.array(list(product(*((-1, 0, 1) if along else (0,) for along in periodic))))
    tried = nearest[:, None, :] + steps[None, :, :]
    best = np.argmin(np.linalg.norm(D[:, None, :] + tried @ cell, axis=2), axis=1)
    return tried[np.arange(len(D)), best].astype(np.int32)
