"""Particles that attract and repel each other by the Morse potential."""

from __future__ import annotations

from typing import Any

import jax
from jax_md import energy

from implicit_cli.particles.material import Material
from implicit_cli.particles.pairs import Bond, PairPotential
from implicit_cli.particles.truncation import switch
from implicit_cli.problem import Option, Parameter

Array = jax.Array


class Morse(Material, PairPotential):
    """Morse particles at an energy minimum: u(r) = epsilon ((1 - exp(-alpha (r - sigma)))^2 - 1), of depth epsilon at r = sigma.

    u is multiplied by a switch from 1 at `onset` to 0 at `cutoff`, with two continuous derivatives. Parameters are per pair of
    species. Source: P. M. Morse, Physical Review 34, 57 (1929); the function is jax_md's. Units: as you like.
    """

    cutoff = Option(2.5, minimum=0.0, doc="distance at which the interaction ends, in units of length")
    onset = Option(2.0, minimum=0.0, doc="distance at which its truncation begins")

    sigma = Parameter(shape=("pair",), default=1.0, unit="length", bounds=(0.0, None), doc="distance of the minimum")
    epsilon = Parameter(shape=("pair",), default=1.0, unit="energy", doc="depth of the minimum")
    alpha = Parameter(shape=("pair",), default=5.0, unit="1/length", bounds=(0.0, None), doc="steepness of the well")

    example = """\
problem: morse
structure: {lattice: fcc, a: 1.4, repeat: [3, 3, 3], vacancies: [0]}
sensitivity: {of: [position, energy], wrt: [sigma, epsilon, alpha]}
"""

    def reach(self, theta: Any, data: Any) -> Any:
        return self.cutoff

    def pair_energy(self, r: Array, bond: Bond, theta: Any) -> Array:
        sigma, epsilon, alpha = (self.per_pair(part, bond.a, bond.b) for part in (theta.sigma, theta.epsilon, theta.alpha))
        return energy.morse(r, sigma, epsilon, alpha) * switch(r, self.onset, self.cutoff)
