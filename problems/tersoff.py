"""Particles with the bond-order potential of Tersoff.

The formula is written out, not taken from jax_md.energy: there an angle's cosine is clipped and 1e-7 added to each distance in it,
and a bond that no third particle sees has a derivative that is not a number.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.particles.clusters import ClusterPotential
from implicit_cli.particles.material import Material
from implicit_cli.problem import Option, Parameter

Array = jax.Array


class Tersoff(Material, ClusterPotential):
    """Tersoff particles at an energy minimum; one species, silicon unless parameters say otherwise.

        E = sum over i and j of f(r_ij) (A exp(-lambda1 r_ij) - b_ij B exp(-lambda2 r_ij)) / 2
        b_ij = (1 + (beta zeta_ij)^n)^(-1 / 2n)
        zeta_ij = sum over k of f(r_ik) g(theta_ijk) exp(lambda3^m (r_ij - r_ik)^m)
        g = 1 + c^2 / d^2 - c^2 / (d^2 + (h - cos theta)^2)

    f falls from 1 at R - D to 0 at R + D as (1 - sin(pi (r - R) / 2 D)) / 2: the force has a kink at both.

    Source: J. Tersoff, Physical Review B 38, 9902 (1988), whose third set for silicon gives the defaults; letters as in LAMMPS.
    Units: eV and Angstrom with the default parameters.
    """

    kinds = Option(1, choices=(1,), doc="number of species")
    m = Option(3, choices=(1, 3), doc="exponent of how a longer bond gives way to a shorter one")

    A = Parameter(default=1830.8, unit="energy", doc="strength of the repulsion")
    B = Parameter(default=471.18, unit="energy", doc="strength of the attraction")
    lambda1 = Parameter(default=2.4799, unit="1/length", doc="decay of the repulsion")
    lambda2 = Parameter(default=1.7322, unit="1/length", doc="decay of the attraction")
    lambda3 = Parameter(default=1.7322, unit="1/length", doc="how much a longer bond gives way to a shorter one")
    beta = Parameter(default=1.1e-6, bounds=(0.0, None), doc="how strongly other bonds weaken a bond")
    n = Parameter(default=0.78734, bounds=(0.0, None), doc="exponent of the bond order")
    c = Parameter(default=1.0039e5, doc="strength of the angle's influence")
    d = Parameter(default=16.217, doc="sharpness of the angle's influence")
    h = Parameter(default=-0.59825, doc="cosine of the best angle")
    R = Parameter(default=2.85, unit="length", bounds=(0.0, None), doc="middle of the cutoff")
    D = Parameter(default=0.15, unit="length", bounds=(0.0, None), doc="half the width of the cutoff")

    example = """\
problem: tersoff
structure: {lattice: diamond, a: 5.432, repeat: [2, 2, 2], vacancies: [0]}
sensitivity: {of: [position, energy], wrt: [A, B, lambda1, lambda2]}
"""

    def reach(self, theta: Any, data: Any) -> Any:
        return theta.R + theta.D

    def kinks(self, theta: Any) -> tuple[Any, ...]:
        return (theta.R - theta.D, theta.R + theta.D)

    def cluster_energy(self, D: Array, present: Array, kind: Array, kinds: Array, theta: Any) -> Array:
        r = jnp.sqrt(jnp.sum(D**2, axis=1))
        u = D / r[:, None]
        f = jnp.where(present, self._cutoff(r, theta), 0.0)
        both = present[:, None] & present[None, :] & ~jnp.eye(r.shape[0], dtype=bool)
        angle = theta.h - u @ u.T
        g = 1 + theta.c**2 * (1 / theta.d**2 - 1 / (theta.d**2 + angle**2))
        longer = jnp.where(both, r[:, None] - r[None, :], 0.0)
        zeta = jnp.sum(jnp.where(both, f[None, :] * g * jnp.exp((theta.lambda3 * longer) ** self.m), 0.0), axis=1)
        # a power of zero has no derivative: where nobody else is near, b is 1 and stays so
        shared = zeta > 0
        b = jnp.where(shared, (1 + (theta.beta * jnp.where(shared, zeta, 1.0)) ** theta.n) ** (-1 / (2 * theta.n)), 1.0)
        repulsion, attraction = theta.A * jnp.exp(-theta.lambda1 * r), theta.B * jnp.exp(-theta.lambda2 * r)
        return jnp.sum(f * (repulsion - b * attraction)) / 2

    @staticmethod
    def _cutoff(r: Array, theta: Any) -> Array:
        t = jnp.clip((r - theta.R) / theta.D, -1.0, 1.0)
        return (1 - jnp.sin(jnp.pi / 2 * t)) / 2
