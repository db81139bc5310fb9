"""Ions with the potential of Buckingham and damped, shifted Coulomb forces."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax_md import energy

from implicit_cli.particles.material import Material
from implicit_cli.particles.pairs import Bond, PairPotential
from implicit_cli.particles.truncation import switch
from implicit_cli.problem import Option, Parameter

Array = jax.Array

JAX_MD = 332.06371
"""e^2 / (4 pi epsilon_0) in kcal/mol Angstrom, as it stands in jax_md.energy.dsf_coulomb."""


class Buckingham(Material, PairPotential):
    """Ions at an energy minimum: Buckingham's potential, a steep repulsion against its collapse, and Coulomb's force without Ewald.

        u(r) = A exp(-r / rho) - C / r^6 + S / r^24 + k q_i q_j (erfc(damping r) / r - e - f (r - cutoff))

    e and f make the Coulomb part and its force vanish at the cutoff; an ion's energy has its share of them, -k q^2 (e / 2 +
    damping / sqrt(pi)). All pairs are multiplied by a switch from 1 at `onset` to 0 at `cutoff`, with two continuous derivatives.
    In the defaults, S = 0.

    Source: the function is jax_md.energy.bks, after B. W. H. van Beest, G. J. Kramer and R. A. van Santen, Physical Review Letters
    64, 1955 (1990); damped shifted forces: C. J. Fennell and J. D. Gezelter, Journal of Chemical Physics 124, 234104 (2006).
    Units: eV, Angstrom and elementary charges with the default k.
    """

    cutoff = Option(8.0, minimum=0.0, doc="distance at which the interaction ends, in units of length")
    onset = Option(7.0, minimum=0.0, doc="distance at which its truncation begins")
    damping = Option(0.25, minimum=0.0, doc="damping of Coulomb's force, in inverse units of length")
    k = Option(14.3996454784, minimum=0.0, doc="Coulomb's constant e^2 / (4 pi epsilon_0), in energy times length")

    charge = Parameter(shape=("kind",), default=0.0, unit="charge", doc="charge of each species")
    A = Parameter(shape=("pair",), default=1000.0, unit="energy", doc="strength of the repulsion")
    rho = Parameter(shape=("pair",), default=0.3, unit="length", bounds=(1e-6, None), doc="decay of the repulsion")
    C = Parameter(shape=("pair",), default=0.0, unit="energy length^6", doc="strength of dispersion")
    S = Parameter(shape=("pair",), default=0.0, unit="energy length^24", doc="strength of a repulsion that prevents collapse")

    example = """\
problem: buckingham
structure: {lattice: rocksalt, a: 4.2, species: [Mg, O]}
options: {kinds: 2, box: relaxed}
parameters:                                    # magnesium oxide: pairs Mg-Mg, Mg-O, O-O
  charge: [2.0, -2.0]
  A: [0.0, 1428.5, 22764.0]
  rho: [0.3, 0.2945, 0.149]
  C: [0.0, 0.0, 27.88]
  S: [0.0, 0.0, 10.0]
sensitivity: {of: [deformation, energy], wrt: [A, rho, charge]}
"""

    def reach(self, theta: Any, data: Any) -> Any:
        return self.cutoff

    def pair_energy(self, r: Array, bond: Bond, theta: Any) -> Array:
        A, rho, C, S = (self.per_pair(part, bond.a, bond.b) for part in (theta.A, theta.rho, theta.C, theta.S))
        charges = self.k / JAX_MD * theta.charge[bond.a] * theta.charge[bond.b]
        return energy.bks(r, charges, A, rho, -C, S, self.damping, self.cutoff) * switch(r, self.onset, self.cutoff)

    def total_energy(self, R: Array, strain: Array | None, theta: Any, data: Any) -> Array:
        return super().total_energy(R, strain, theta, data) + self._own(R.shape[0], theta, data)

    def _own(self, n: int, theta: Any, data: Any) -> Array:
        """What ions have without a neighbour: it does not depend on where they are, but on their charges."""
        a, edge = self.damping, self.cutoff
        tail, slope = math.erfc(a * edge), 2 / math.sqrt(math.pi) * a * math.exp(-((a * edge) ** 2))
        e = 2 * tail / edge + slope
        kind = self.kind_of(data)
        squares = n * theta.charge[0] ** 2 if kind is None else jnp.sum(theta.charge[kind] ** 2)
        return -self.k * squares * (e / 2 + a / math.sqrt(math.pi))
