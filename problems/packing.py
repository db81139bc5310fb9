"""The molecular experiment of Blondel et al.: how a jammed packing of soft discs answers to the size of its smaller discs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax_md import energy

from implicit_cli.particles.pairs import Bond, PairPotential
from implicit_cli.problem import Option, Output, Parameter, Unknown

Array = jax.Array


class Packing(PairPotential):
    """Packing of soft discs at an energy minimum: x* = argmin_R sum over pairs of (1 - r / sigma)^2 / 2 where r < sigma.

    Half of the `particle`s have diameter 1, half have `diameter` (theta of the paper); a contact's sigma is the mean of its two.
    The box is periodic and square, of side L = sqrt(pi n (1 + diameter^2) / (8 phi)), so that the discs fill the fraction phi.
    With `box: follows` that diameter is the parameter itself, so the box breathes with it; with `box: fixed` it is `box_diameter`.

    Units: D is the diameter of a large disc, eps the energy scale of a contact.

    Moving all discs together costs nothing: positions and their derivatives are those of zero mean displacement. Rattlers, discs
    that no cage of contacts holds, have no derivative: they are listed and their entries are NaN. An unjammed packing has no
    derivative at all.
    """

    particle = Option(128, minimum=4, doc="number of discs n; the first half have diameter 1")
    axis = Option(2, choices=(2,), doc="dimensions of space")
    skin = Option(0.5, minimum=0.0, doc="by how much lists of neighbours reach beyond the interaction, relative to it")
    box = Option("fixed", choices=("fixed", "follows"), doc="whether the box follows `diameter`")
    box_diameter = Option(0.6, minimum=0.0, doc="diameter that sets the side of a fixed box")

    diameter = Parameter(bounds=(1e-3, 10.0), default=0.6, unit="D", doc="diameter of the smaller discs (theta)")
    phi = Parameter(bounds=(1e-3, 2.0), default=0.98, doc="packing fraction")
    position = Unknown(shape=("particle", "axis"), unit="D", doc="centres of the discs")
    energy = Output(unit="eps", doc="total energy of the packing")
    pressure = Output(unit="eps/D^2", doc="virial pressure, (sum of r f) / (2 L^2)")

    contacts = True

    solver = "fire"
    example = """\
problem: packing
options: {particle: 128, box: fixed}
seed: 0                                        # random start, uniform in the box
parameters: {diameter: 0.6, phi: 0.98}
solver: {name: fire, tol: 1e-8, max_steps: 20000}
sensitivity: {of: [position, energy, pressure], wrt: [diameter]}
"""

    def side(self, theta: Any) -> Array:
        """Side L of the box."""
        small = theta.diameter if self.box == "follows" else self.box_diameter
        return jnp.sqrt(jnp.pi * self.particle * (1 + small**2) / (8 * theta.phi))

    def frame(self, theta: Any, data: Any) -> tuple[Array, Array]:
        return self.side(theta) * jnp.eye(self.axis), jnp.ones(self.axis, bool)

    def sigma(self, bond: Bond, theta: Any) -> Array:
        """Contact distance of each pair (E,): the mean of the two diameters."""
        i, j = (jnp.where(part < self.particle // 2, 1.0, theta.diameter) for part in (bond.i, bond.j))
        return (i + j) / 2

    def reach(self, theta: Any, data: Any) -> Any:
        return jnp.maximum(1.0, theta.diameter)

    def pair_energy(self, r: Array, bond: Bond, theta: Any) -> Array:
        return energy.soft_sphere(r, sigma=self.sigma(bond, theta))

    def kinks(self, bond: Bond, theta: Any) -> tuple[Any, ...]:
        return (self.sigma(bond, theta),)

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        return {"position": jax.random.uniform(key, (self.particle, self.axis)) * self.side(theta)}

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        def at(stretch: Array) -> Array:
            return self.total_energy(x.position, stretch * jnp.eye(self.axis), theta, data)

        value, slope = jax.value_and_grad(at)(jnp.zeros(()))  # the virial: minus the sum of r f
        return {"energy": value, "pressure": -slope / (2 * self.side(theta) ** 2)}
