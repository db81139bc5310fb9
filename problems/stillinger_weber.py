"""Particles with the three-body potential of Stillinger and Weber.

The formula is written out, not taken from jax_md.energy: there an angle's cosine is clipped to -1 .. 1, which loses its second
derivative where three particles are in line, and 1e-7 is added to each distance in it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.particles.clusters import ClusterPotential
from implicit_cli.particles.material import Material
from implicit_cli.problem import Option, Parameter

Array = jax.Array


class StillingerWeber(Material, ClusterPotential):
    """Stillinger-Weber particles at an energy minimum; one species, silicon unless parameters say otherwise.

        E = sum over pairs    epsilon A (B (sigma / r)^p - (sigma / r)^q) exp(sigma / (r - a sigma))
          + sum over triples  epsilon lambda w(r_ij) w(r_ik) (cos theta + 1/3)^2,    w(r) = exp(gamma sigma / (r - a sigma))

    with i in the middle of a triple and theta the angle there. All ends smoothly, with all derivatives, at r = a sigma.

    Source: F. H. Stillinger and T. A. Weber, Physical Review B 31, 5262 (1985), with epsilon = 50 kcal/mol; H. Balamane,
    T. Halicioglu and W. A. Tiller, Physical Review B 46, 2250 (1992), take 2.315 eV, for the cohesive energy. Units: eV and
    Angstrom with the defaults.
    """

    kinds = Option(1, choices=(1,), doc="number of species")

    epsilon = Parameter(default=2.1683, unit="energy", doc="energy scale")
    sigma = Parameter(default=2.0951, unit="length", bounds=(0.0, None), doc="length scale")
    A = Parameter(default=7.049556277, doc="strength of pairs")
    B = Parameter(default=0.6022245584, doc="strength of their repulsion")
    p = Parameter(default=4.0, doc="exponent of the repulsion")
    q = Parameter(default=0.0, doc="exponent of the attraction")
    a = Parameter(default=1.8, bounds=(0.0, None), doc="cutoff, in units of sigma")
    lam = Parameter(default=21.0, doc="lambda, the strength of triples")
    gamma = Parameter(default=1.2, doc="how quickly triples fade with distance")

    example = """\
problem: stillinger_weber
structure: {lattice: diamond, a: 5.431, repeat: [2, 2, 2], vacancies: [0]}
sensitivity: {of: [position, energy], wrt: [epsilon, sigma, lam]}
"""

    def reach(self, theta: Any, data: Any) -> Any:
        return theta.a * theta.sigma

    def cluster_energy(self, D: Array, present: Array, kind: Array, kinds: Array, theta: Any) -> Array:
        r = jnp.sqrt(jnp.sum(D**2, axis=1))
        left = r - theta.a * theta.sigma
        near = present & (left < 0)
        left = jnp.where(near, left, -theta.sigma)
        ratio = theta.sigma / r
        fade = theta.sigma / left
        pairs = jnp.sum(jnp.where(near, theta.A * (theta.B * ratio**theta.p - ratio**theta.q) * jnp.exp(fade), 0.0)) / 2
        weight = jnp.where(near, jnp.exp(theta.gamma * fade), 0.0)
        n = D / r[:, None]
        others = 1 - jnp.eye(r.shape[0], dtype=r.dtype)
        triples = jnp.sum(others * weight[:, None] * weight[None, :] * (n @ n.T + 1 / 3) ** 2) / 2
        return theta.epsilon * (pairs + theta.lam * triples)
