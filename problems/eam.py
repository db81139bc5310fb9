"""Metals with the embedded-atom potential of Gupta's form.

The formula is written out, not taken from jax_md.energy: gupta_potential there sees all pairs at once, and ends with a jump.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.particles.clusters import ClusterPotential
from implicit_cli.particles.material import Material
from implicit_cli.particles.truncation import switch
from implicit_cli.problem import Option, Parameter

Array = jax.Array


class EmbeddedAtom(Material, ClusterPotential):
    """Atoms of metals at an energy minimum, in the second-moment approximation of tight binding: Gupta's potential.

        E = sum over i of  (sum over j of A exp(-p (r / r0 - 1)))  -  sqrt(sum over j of xi^2 exp(-2 q (r / r0 - 1)))

    Both sums over j are multiplied by a switch from 1 at `onset` to 0 at `cutoff`, with two continuous derivatives.

    Source: F. Cleri and V. Rosato, Physical Review B 48, 22 (1993), whose parameters of copper are the defaults, with neighbours up
    to the fifth shell. Units: eV and Angstrom with the default parameters.
    """

    cutoff = Option(6.2, minimum=0.0, doc="distance at which the interaction ends, in units of length")
    onset = Option(5.75, minimum=0.0, doc="distance at which its truncation begins")

    A = Parameter(shape=("pair",), default=0.0855, unit="energy", doc="strength of the repulsion")
    xi = Parameter(shape=("pair",), default=1.224, unit="energy", doc="hopping integral, the strength of the attraction")
    p = Parameter(shape=("pair",), default=10.96, doc="decay of the repulsion")
    q = Parameter(shape=("pair",), default=2.278, doc="decay of the attraction")
    r0 = Parameter(shape=("pair",), default=2.556, unit="length", bounds=(0.0, None), doc="distance of nearest neighbours")

    example = """\
problem: eam
structure: {lattice: fcc, a: 3.615, repeat: [2, 2, 2], vacancies: [0]}
sensitivity: {of: [position, energy], wrt: [A, xi, p, q]}
"""

    def reach(self, theta: Any, data: Any) -> Any:
        return self.cutoff

    def cluster_energy(self, D: Array, present: Array, kind: Array, kinds: Array, theta: Any) -> Array:
        r = jnp.sqrt(jnp.sum(D**2, axis=1))
        low, high = jnp.minimum(kind, kinds), jnp.maximum(kind, kinds)
        A, xi, p, q, r0 = (self.per_pair(part, low, high) for part in (theta.A, theta.xi, theta.p, theta.q, theta.r0))
        on = jnp.where(present, switch(r, self.onset, self.cutoff), 0.0)
        repulsion = jnp.sum(on * A * jnp.exp(-p * (r / r0 - 1)))
        density = jnp.sum(on * xi**2 * jnp.exp(-2 * q * (r / r0 - 1)))
        # a root has no derivative at zero: an atom that nobody is near has no energy
        embedded = density > 0
        return repulsion - jnp.where(embedded, jnp.sqrt(jnp.where(embedded, density, 1.0)), 0.0)
