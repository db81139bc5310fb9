"""Soft spheres, or discs, that repel each other where they overlap."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax_md import energy

from implicit_cli.particles.material import Material
from implicit_cli.particles.pairs import Bond, PairPotential
from implicit_cli.problem import Option, Parameter

Array = jax.Array


class SoftSphere(Material, PairPotential):
    """Soft spheres at an energy minimum: u(r) = epsilon / alpha (1 - r / sigma)^alpha where r < sigma, the mean of two diameters.

    The force has a kink where a contact opens or closes, with the harmonic alpha = 2. Rattlers, particles that no cage of contacts
    holds, have no derivative; an unjammed system has none at all.
    """

    skin = Option(0.5, minimum=0.0, doc="by how much lists of neighbours reach beyond the interaction, relative to it")
    alpha = Option(2.0, minimum=2.0, doc="exponent of the overlap: 2 is harmonic, 2.5 that of Hertz")

    diameter = Parameter(shape=("kind",), default=1.0, unit="length", bounds=(0.0, None), doc="diameter of each species")
    epsilon = Parameter(default=1.0, unit="energy", doc="energy scale of a contact")

    contacts = True

    example = """\
problem: soft_sphere
seed: 0                                        # random start
structure: {random: {particles: 24, dimensions: 2, phi: 1.0, diameters: [1.0, 1.4]}}
parameters: {diameter: [1.0, 1.4]}
sensitivity: {of: [position, energy], wrt: [diameter, epsilon]}
"""

    def sigma(self, bond: Bond, theta: Any) -> Array:
        """Contact distance of each pair (E,)."""
        return (theta.diameter[bond.a] + theta.diameter[bond.b]) / 2

    def reach(self, theta: Any, data: Any) -> Any:
        return jnp.max(theta.diameter)

    def pair_energy(self, r: Array, bond: Bond, theta: Any) -> Array:
        return energy.soft_sphere(r, sigma=self.sigma(bond, theta), epsilon=theta.epsilon, alpha=jnp.asarray(self.alpha, r.dtype))

    def kinks(self, bond: Bond, theta: Any) -> tuple[Any, ...]:
        return (self.sigma(bond, theta),)
