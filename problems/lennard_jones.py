"""Particles that attract and repel each other by the Lennard-Jones potential."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax_md import energy

from implicit_cli.particles.material import Material
from implicit_cli.particles.pairs import Bond, PairPotential
from implicit_cli.particles.truncation import switch
from implicit_cli.problem import Option, Parameter

Array = jax.Array


class LennardJones(Material, PairPotential):
    """Lennard-Jones particles at an energy minimum: u(r) = 4 epsilon ((sigma / r)^12 - (sigma / r)^6), cut off at `cutoff`.

    `truncation` says how it ends: `smooth` multiplies it by a switch from 1 at `onset` to 0 at the cutoff, with two continuous
    derivatives; `shift` subtracts its value at the cutoff (the force jumps there), `none` leaves it (the energy jumps there).
    """

    cutoff = Option(2.5, minimum=0.0, doc="distance at which the interaction ends, in units of length")
    onset = Option(2.0, minimum=0.0, doc="distance at which a smooth truncation begins")
    truncation = Option("smooth", choices=("smooth", "shift", "none"), doc="how the interaction ends")

    sigma = Parameter(shape=("pair",), default=1.0, unit="length", bounds=(0.0, None), doc="distance at which u vanishes")
    epsilon = Parameter(shape=("pair",), default=1.0, unit="energy", doc="depth of the minimum")

    example = """\
problem: lennard_jones
structure: {lattice: fcc, a: 1.55, repeat: [2, 2, 2], vacancies: [0]}
sensitivity: {of: [position, energy], wrt: [sigma, epsilon]}
"""

    def reach(self, theta: Any, data: Any) -> Any:
        return self.cutoff

    def pair_energy(self, r: Array, bond: Bond, theta: Any) -> Array:
        sigma, epsilon = (self.per_pair(part, bond.a, bond.b) for part in (theta.sigma, theta.epsilon))

        def bare(r: Array) -> Array:
            return energy.lennard_jones(r, sigma, epsilon)

        match self.truncation:
            case "smooth":
                return bare(r) * switch(r, self.onset, self.cutoff)
            case "shift":
                return jnp.where(r < self.cutoff, bare(r) - bare(jnp.full_like(r, self.cutoff)), 0.0)
            case _:
                return jnp.where(r < self.cutoff, bare(r), 0.0)

    def kinks(self, bond: Bond, theta: Any) -> tuple[Any, ...]:
        return () if self.truncation == "smooth" else (self.cutoff,)
