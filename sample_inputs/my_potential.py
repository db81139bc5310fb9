"""What a potential of your own looks like: screened charges, each of which sees the others through a cloud."""

import jax.numpy as jnp

from implicit_cli.particles.material import Material
from implicit_cli.particles.pairs import PairPotential
from implicit_cli.particles.truncation import switch
from implicit_cli.problem import Option, Parameter


class Yukawa(Material, PairPotential):
    """Particles that repel each other by u(r) = strength exp(-r / screening) / r, smoothly cut off."""

    cutoff = Option(3.5, doc="distance at which the interaction ends")
    strength = Parameter(shape=("pair",), default=1.0, unit="energy length", doc="product of two charges")
    screening = Parameter(default=0.5, unit="length", bounds=(1e-3, None), doc="Debye's length")

    def reach(self, theta, data):
        return self.cutoff

    def pair_energy(self, r, bond, theta):
        strength = self.per_pair(theta.strength, bond.a, bond.b)
        return strength * jnp.exp(-r / theta.screening) / r * switch(r, self.cutoff - 1.0, self.cutoff)
