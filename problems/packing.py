"""The molecular experiment of Blondel et al.: how a jammed packing of soft discs answers to the size of its smaller discs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax_md import energy, space

from implicit_cli.core import Condition, stationary
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown

Array = jax.Array

GRAZING = 1e-7
"""Overlaps (relative to the contact distance) below this carry no force worth the name: such a contact holds nothing."""


class Packing(Problem):
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
    box = Option("fixed", choices=("fixed", "follows"), doc="whether the box follows `diameter`")
    box_diameter = Option(0.6, minimum=0.0, doc="diameter that sets the side of a fixed box")

    diameter = Parameter(bounds=(1e-3, 10.0), default=0.6, unit="D", doc="diameter of the smaller discs (theta)")
    phi = Parameter(bounds=(1e-3, 2.0), default=0.98, doc="packing fraction")
    position = Unknown(shape=("particle", "axis"), unit="D", doc="centres of the discs")
    energy = Output(unit="eps", doc="total energy of the packing")
    pressure = Output(unit="eps/D^2", doc="virial pressure, (sum of r f) / (2 L^2)")

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

    def _sigma(self, theta: Any) -> Array:
        """Contact distance of every pair (n, n): the mean of the two diameters."""
        diameters = jnp.where(np.arange(self.particle) < self.particle // 2, 1.0, theta.diameter)
        return (diameters[:, None] + diameters[None, :]) / 2

    def potential(self, x: Any, theta: Any, data: Any) -> Array:
        displacement, _ = space.periodic(self.side(theta))
        return energy.soft_sphere_pair(displacement, sigma=self._sigma(theta))(x.position)

    def condition(self) -> Condition:
        return stationary(self.potential)

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        return {"position": jax.random.uniform(key, (self.particle, self.axis)) * self.side(theta)}

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        r, sigma = self._pairs(x, theta)
        overlap = jnp.maximum(1 - r / sigma, 0.0)
        virial = jnp.sum(overlap * r / sigma)  # r.f of each contact, f = (1 - r / sigma) / sigma
        return {
            "energy": jnp.sum(overlap**2) / 2,
            "pressure": virial / (2 * self.side(theta) ** 2),
        }

    def _pairs(self, x: Any, theta: Any) -> tuple[Array, Array]:
        """Distances r and contact distances sigma of the pairs i < j."""
        i, j = np.triu_indices(self.particle, k=1)
        displacement, _ = space.periodic(self.side(theta))
        r = space.distance(jax.vmap(displacement)(x.position[i], x.position[j]))
        return r, self._sigma(theta)[i, j]

    def null_space(self, x: Any, theta: Any, data: Any) -> Mapping[str, Mapping[str, Any]]:
        still = jnp.zeros_like(x.position)
        return {f"translation along axis {a}": {"position": still.at[:, a].set(1.0)} for a in range(self.axis)}

    def undetermined(self, x: Any, theta: Any, data: Any) -> Mapping[str, Mapping[str, Any]]:
        free = ~self._backbone(x, theta)
        reason = "unjammed disc" if free.all() else "rattler"
        return {reason: {"position": np.repeat(free[:, None], self.axis, axis=1)}}

    def _backbone(self, x: Any, theta: Any) -> np.ndarray:
        """Discs that are held: each has at least axis + 1 contacts with other held discs (pruned until nothing changes)."""
        r, sigma = (np.asarray(a) for a in self._pairs(x, theta))
        i, j = np.triu_indices(self.particle, k=1)
        touching = 1 - r / sigma > GRAZING
        held = np.ones(self.particle, dtype=bool)
        while True:
            live = touching & held[i] & held[j]
            count = np.bincount(i[live], minlength=self.particle) + np.bincount(j[live], minlength=self.particle)
            still_held = held & (count > self.axis)
            if (still_held == held).all():
                return held
            held = still_held

    def margin(self, x: Any, theta: Any, data: Any) -> float:
        """Forces have kinks where a contact opens or closes; moving x by a moves a distance by at most sqrt(2) a."""
        r, sigma = (np.asarray(a) for a in self._pairs(x, theta))
        i, j = np.triu_indices(self.particle, k=1)
        held = self._backbone(x, theta)
        live = held[i] & held[j]
        return float(np.min(np.abs(r - sigma)[live], initial=np.inf) / np.sqrt(2))
